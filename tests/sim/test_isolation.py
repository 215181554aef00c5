"""What one client does wrong hurts that client: the others keep their events and their latency."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import resource
import time
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from urllib.parse import urlsplit

import aiohttp
import pytest
from simcore import ETH, IOC, Trader
from simproc import start_sim
from wireclient import Client, Socket, eventually

from nadosim.app import SimServer
from nadosim.sockets import MAX_SOCKETS_PER_ADDRESS
from nadosim.steps import Step
from nadosim.streams import MAX_STREAMS

STALL_S = 0.5  # a healthy client never waits longer for an event, on a busy machine
Misbehave = Callable[[Client, SimServer], Awaitable[None]]


def _publish(server: SimServer, number: int) -> None:
    event = {"type": "trade", "timestamp": str(number), "product_id": ETH, "price": "1", "taker_qty": "1"}
    server.hub.on_step(Step(number, trades=[{**event, "maker_qty": "1", "is_taker_buyer": True}]))


@asynccontextmanager
async def healthy(client: Client, server: SimServer) -> AsyncIterator[list[float]]:
    """A client that follows trades while the block runs; the waits of its events are noted."""
    waits: list[float] = []
    is_over = asyncio.Event()

    async def follow(socket: Socket) -> None:
        number = 0
        while not is_over.is_set():
            number += 1
            started = time.monotonic()
            _publish(server, number)
            assert (await socket.until("trade"))[0]["timestamp"] == str(number)
            waits.append(time.monotonic() - started)
            await asyncio.sleep(0.002)

    async with client.socket("subscribe") as socket:
        await socket.ask("subscribe", stream={"type": "trade", "product_id": ETH})
        task = asyncio.create_task(follow(socket))
        try:
            yield waits
        finally:
            is_over.set()
            await task


async def _many_subscriptions(client: Client, server: SimServer) -> None:
    """A hundred thousand of them, one message each: over the limit the connection goes."""
    async with client.socket("subscribe") as socket:
        for number in range(100_000):
            stream = {"type": "fill", "subaccount": f"0x{number:064x}"}
            try:
                await socket.send({"method": "subscribe", "id": number, "stream": stream})
            except (ConnectionError, aiohttp.ClientConnectionError):
                break
        assert await socket.ended() == 1008
    assert len(server.hub._topics) <= MAX_STREAMS + 1


async def _many_in_one_message(client: Client, server: SimServer) -> None:
    async with client.socket("subscribe") as socket:
        streams = [{"type": "trade", "product_id": ETH}] * 100_000
        await socket.send({"method": "subscribe_multi", "id": 1, "streams": streams})
        assert await socket.ended() == 1009


async def _the_same_again_and_again(client: Client, server: SimServer) -> None:
    async with client.socket("subscribe") as socket:
        for number in range(5_000):
            await socket.send(
                {"method": "subscribe", "id": number, "stream": {"type": "trade", "product_id": ETH}}
            )
        while (await socket.receive()).get("id") != 4_999:
            pass


async def _garbage(client: Client, server: SimServer) -> None:
    for name in ("subscribe", "gateway_ws", "gateway_ws_v2"):
        async with client.socket(name) as socket:
            for size in (1, 10, 1_000, 100_000):
                await socket.ws.send_bytes(os.urandom(size))
                await socket.send(os.urandom(size).hex())
                await socket.send("[" * size)
            for _ in range(12):
                assert "error" in await socket.receive()


async def _raw(client: Client, payload: bytes, deadline_s: float = 5.0) -> None:
    """Bytes after a proper handshake, then the end."""
    url = urlsplit(client.ready["subscribe"])
    reader, writer = await asyncio.open_connection(url.hostname, url.port)
    key = base64.b64encode(os.urandom(16)).decode()
    writer.write(
        f"GET {url.path} HTTP/1.1\r\nHost: {url.netloc}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n".encode()
    )
    try:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(payload)
        writer.write_eof()
        async with asyncio.timeout(deadline_s):
            await reader.read(-1)
    except (ConnectionError, asyncio.IncompleteReadError):
        pass
    finally:
        writer.close()


async def _broken_frames(client: Client, server: SimServer) -> None:
    mask = b"\0\0\0\0"
    for payload in (
        b"\xff\xff" + os.urandom(64),  # every reserved bit
        b"\x81\xff" + (1 << 62).to_bytes(8, "big") + mask,  # four exabytes to come
        b"\xc1\x90" + mask + b"\xff" * 16,  # does not inflate
        b"\x81\x05hello",  # not masked
        b"\x03\x80" + mask,  # unknown opcode
    ):
        await _raw(client, payload)


async def _pings_and_frames_that_are_not_carried(client: Client, server: SimServer) -> None:
    for frame in (b"\x89\x80\0\0\0\0", b"\x8a\x80\0\0\0\0", b"\x82\x81\0\0\0\0x"):
        await _raw(client, frame * 100_000, deadline_s=30.0)


async def _deflate_bomb(client: Client, server: SimServer) -> None:
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    bomb = deflate.compress(b" " * (64 << 20)) + deflate.flush(zlib.Z_SYNC_FLUSH)
    before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    frame = b"\xc1\xff" + len(bomb).to_bytes(8, "big") + b"\0\0\0\0" + bomb
    await _raw(client, frame)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib < 32 << 10


async def _slow_reader(client: Client, server: SimServer) -> None:
    async with client.socket("subscribe") as slow:
        await slow.ask("subscribe", stream={"type": "trade", "product_id": ETH})
        transport = slow.ws._response.connection.transport  # type: ignore[union-attr]
        transport.pause_reading()
        seen = server.hub.sent
        await eventually(lambda: server.hub.sent > seen + 50)
        transport.abort()


async def _connects_and_leaves(client: Client, server: SimServer) -> None:
    for _ in range(50):
        async with client.socket("subscribe") as socket:
            socket.ws._response.connection.transport.abort()  # type: ignore[union-attr]


async def _forged_signatures(client: Client, server: SimServer) -> None:
    trader = Trader(server, 7)  # type: ignore[arg-type]
    order = trader.order("buy", "3010", "0.1", IOC)
    order["signature"] = "0x" + "22" * 64 + "1b"
    async with client.socket("gateway_ws_v2") as socket:
        for _ in range(300):
            await socket.send({"place_order": order})
        for _ in range(300):
            assert (await socket.receive())["error_code"] in (2028, 2035)


@pytest.mark.parametrize(
    "misbehave",
    [
        _many_subscriptions,
        _many_in_one_message,
        _the_same_again_and_again,
        _garbage,
        _broken_frames,
        _pings_and_frames_that_are_not_carried,
        _deflate_bomb,
        _slow_reader,
        _connects_and_leaves,
        _forged_signatures,
    ],
    ids=lambda function: function.__name__[1:],
)
async def test_a_client_hurts_itself_alone(
    client: Client, server: SimServer, caplog: pytest.LogCaptureFixture, misbehave: Misbehave
) -> None:
    async with healthy(client, server) as waits:
        await misbehave(client, server)
        seen = len(waits)
        await eventually(lambda: len(waits) > seen + 3)
    assert max(waits) < STALL_S
    await eventually(lambda: not server.surface.sockets.by_scope)
    assert not caplog.records, "what a client does is no error of the exchange"


async def test_hundreds_of_connections_from_several_addresses(server: SimServer) -> None:
    async with AsyncExitStack() as stack:
        sockets: list[Socket] = []
        for host in range(2, 6):
            connector = aiohttp.TCPConnector(limit=0, local_addr=(f"127.0.0.{host}", 0))
            session = await stack.enter_async_context(aiohttp.ClientSession(connector=connector))
            client = Client(session, server.ready)
            for _ in range(MAX_SOCKETS_PER_ADDRESS):
                sockets.append(await stack.enter_async_context(client.socket("subscribe")))
        for socket in sockets:
            await socket.send(
                {"method": "subscribe", "id": 1, "stream": {"type": "trade", "product_id": ETH}}
            )
        for socket in sockets:
            assert (await socket.receive())["result"] is None
        started = time.monotonic()
        _publish(server, 1)
        for socket in sockets:
            assert (await socket.receive())["timestamp"] == "1"
        assert time.monotonic() - started < 2.0
        assert len(server.hub.subscribers) == 4 * MAX_SOCKETS_PER_ADDRESS


async def test_many_accounts_see_their_own_events_only() -> None:
    async with start_sim(seed=5, rate=0, accounts=0) as server, aiohttp.ClientSession() as session:
        client = Client(session, server.ready)
        traders = [Trader(server, number) for number in range(1, 41)]  # type: ignore[arg-type]
        async with AsyncExitStack() as stack:
            sockets = []
            for trader in traders:
                socket = await stack.enter_async_context(client.socket("subscribe"))
                stream = {"type": "fill", "subaccount": trader.sender, "product_id": None}
                await socket.ask("subscribe", stream=stream)
                sockets.append(socket)
            orders = [{"place_order": trader.order("buy", "3010", "0.1", IOC)} for trader in traders]
            replies = await asyncio.gather(*(client.post("/execute", order) for order in orders))
            digests = [reply["data"]["digest"] for _, reply in replies]
            for trader, socket, digest in zip(traders, sockets, digests, strict=True):
                fill = (await socket.until("fill"))[0]
                assert (fill["subaccount"], fill["order_digest"]) == (trader.sender, digest)
                assert (await socket.ask("list"))["result"]
                assert all(event["subaccount"] == trader.sender for event in socket.events)


def test_the_bomb_is_one() -> None:
    """What the test above sends really inflates to far more than a message may have."""
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    bomb = deflate.compress(b" " * (64 << 20)) + deflate.flush(zlib.Z_SYNC_FLUSH)
    assert len(bomb) < 100_000
    assert json.loads(b"1" + zlib.decompressobj(-15).decompress(bomb)) == 1
