"""Faults of sockets, messages and subscriptions, and what they do to a client that did not expect them."""

from __future__ import annotations

import asyncio
import json
import time
import zlib
from itertools import pairwise
from typing import Any

import aiohttp
import pytest
from faultenv import publish, resting, way
from quickest import quickest
from simcore import ETH, Trader
from wireclient import Client, eventually

from nadosim.app import SimServer


async def _trades(client: Client, server: SimServer, fault: dict[str, Any], sent: int) -> list[int]:
    """Numbers of the trades a subscriber sees of 1..sent while the fault is on, up to the last one."""
    async with client.socket("subscribe") as socket:
        await socket.ask("subscribe", stream={"type": "trade", "product_id": ETH})
        await client.fault(**fault)
        for number in range(1, sent + 1):
            publish(server, number)
        await client.fault(clear="all")
        publish(server, 0)
        seen = []
        while (number := int((await socket.until("trade"))[0]["timestamp"])) != 0:
            seen.append(number)
        return seen


# Sockets --------------------------------------------------------------------------------------------


@way("cut")
async def _cut(client: Client, server: SimServer, trader: Trader) -> None:
    for how in ("rst", "fin", "close"):
        async with client.socket("subscribe") as socket:
            await client.fault(cut={"scope": "subscribe", "how": how})
            code = await socket.ended()
            assert (code == 1001) is (how == "close")


@way("cut")
async def _cut_of_one(client: Client, server: SimServer, trader: Trader) -> None:
    async with client.socket("subscribe") as first, client.socket("subscribe") as second:
        _, health = await client.get("/health", base="control")
        await client.fault(cut={"connection": health["connections"][0]["connection"]})
        await first.ended()
        assert (await second.ask("list"))["result"] == []


@way("half_open")
async def _half_open(client: Client, server: SimServer, trader: Trader) -> None:
    async with client.socket("subscribe", autoping=False) as socket:
        await client.fault(half_open="subscribe")
        await socket.ws.ping()
        await socket.send({"method": "list", "id": 1})
        with pytest.raises(TimeoutError):
            await socket.receive(0.2)
        assert server.surface.sockets.by_scope["subscribe"] == 1
        server.surface.sockets.cut_all("test ends")


@way("half_open")
async def _half_open_with_a_ping_already_read(client: Client, server: SimServer, trader: Trader) -> None:
    await client.fault(delay_request=200)
    async with client.socket("gateway_ws", autoping=False) as socket:
        await socket.send({"type": "status"})
        await eventually(lambda: server.faults.counts["delay_request"] == 1)
        await socket.ws.ping()
        await socket.send(resting(trader))
        await asyncio.sleep(0.05)  # both are read, and wait behind the first
        await client.fault(half_open="gateway")
        with pytest.raises(TimeoutError):
            await socket.receive(0.4)
        assert not server.exchange.books[ETH].of_account(trader.sender)
        server.surface.sockets.cut_all("test ends")


@way("stall_read")
async def _stall_read(client: Client, server: SimServer, trader: Trader) -> None:
    async with client.socket("gateway_ws") as socket:
        await client.fault(stall_read=0.3)
        started = time.monotonic()
        await socket.send({"type": "status"})
        await socket.receive()
        assert time.monotonic() - started >= 0.3


@way("v2_refused")
async def _v2_refused(client: Client, server: SimServer, trader: Trader) -> None:
    await client.fault(v2_refused=True)
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        async with client.socket("gateway_ws_v2"):
            pass
    assert refused.value.status == 404
    async with client.socket("gateway_ws") as socket:
        await socket.send({"type": "status"})
        assert (await socket.receive())["data"] == "active"


@way("socket_refused")
async def _socket_refused(client: Client, server: SimServer, trader: Trader) -> None:
    await client.fault(socket_refused={"scope": "subscribe", "http": 502})
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        async with client.socket("subscribe"):
            pass
    assert refused.value.status == 502


# Messages -------------------------------------------------------------------------------------------


@way("mute")
async def _mute(client: Client, server: SimServer, trader: Trader) -> None:
    async with client.socket("subscribe", autoping=False) as socket:
        await socket.ask("subscribe", stream={"type": "trade", "product_id": ETH})
        await client.fault(mute=60)
        publish(server, 1)
        await socket.ws.ping()
        assert (await socket.ws.receive(timeout=5)).type is aiohttp.WSMsgType.PONG
        await client.fault(mute=0)
        publish(server, 2)
        assert (await socket.until("trade"))[0]["timestamp"] == "2"


@way("drop")
async def _drop(client: Client, server: SimServer, trader: Trader) -> None:
    assert await _trades(client, server, {"drop": {"kind": "trade", "skip": 1, "count": 2}}, 5) == [1, 4, 5]


@way("drop_depth")
async def _drop_depth(client: Client, server: SimServer, trader: Trader) -> None:
    async with client.socket("subscribe") as socket:
        await socket.ask("subscribe", stream={"type": "book_depth", "product_id": ETH})
        seen = []
        for price, fault in (("2900", None), ("2901", {"drop_depth": ETH}), ("2902", None)):
            if fault:
                await client.fault(**fault)
            await client.post("/execute", resting(trader, price))
            server.hub.flush_depth()
        seen = await socket.until("book_depth", 2)
        assert seen[1]["last_max_timestamp"] != seen[0]["max_timestamp"]


@way("duplicate")
async def _duplicate(client: Client, server: SimServer, trader: Trader) -> None:
    assert await _trades(client, server, {"duplicate": 2}, 3) == [1, 1, 2, 2, 3]


@way("reorder")
async def _reorder(client: Client, server: SimServer, trader: Trader) -> None:
    assert await _trades(client, server, {"reorder": {"skip": 1}}, 4) == [1, 3, 2, 4]


@way("reorder")
async def _reorder_beside_another_socket(client: Client, server: SimServer, trader: Trader) -> None:
    """Whatever the other one is sent meanwhile, the message that waits is not forgotten."""
    async with client.socket("subscribe") as first, client.socket("subscribe") as second:
        for socket in (first, second):
            await socket.ask("subscribe", stream={"type": "trade", "product_id": ETH})
        await client.fault(reorder=1)
        publish(server, 1)
        publish(server, 2)
        await client.fault(reorder={"kind": "trade"})
        publish(server, 3)
        await client.fault(clear="all")
        publish(server, 4)
        seen = []
        for socket in (first, second):
            seen.append([event["timestamp"] for event in await socket.until("trade", 4)])
        assert sorted(seen) == [["1", "2", "3", "4"], ["2", "1", "4", "3"]]


@way("delay")
async def _delay(client: Client, server: SimServer, trader: Trader) -> None:
    started = time.monotonic()
    assert await _trades(client, server, {"delay": {"ms": 150, "jitter_ms": 100}}, 4) == [1, 2, 3, 4]
    assert time.monotonic() - started >= 0.15


@way("batch")
async def _batch(client: Client, server: SimServer, trader: Trader) -> None:
    async with client.socket("subscribe") as socket:
        await socket.ask("subscribe", stream={"type": "trade", "product_id": ETH})
        await client.fault(batch=200)

        async def burst() -> float:
            arrivals = []
            for number in range(8):
                publish(server, number)
                await asyncio.sleep(0.01)
            for _ in range(8):
                await socket.until("trade")
                arrivals.append(time.monotonic())
            return sorted(later - earlier for earlier, later in pairwise(arrivals))[3]

        await quickest(burst, 0.005)  # sent 10 ms apart, most arrive in one burst


@way("corrupt_json")
async def _corrupt_json(client: Client, server: SimServer, trader: Trader) -> None:
    with pytest.raises(json.JSONDecodeError):
        await _trades(client, server, {"corrupt_json": 1}, 1)


@way("extra_fields")
async def _extra_fields(client: Client, server: SimServer, trader: Trader) -> None:
    async with client.socket("subscribe") as socket:
        await socket.ask("subscribe", stream={"type": "trade", "product_id": ETH})
        await client.fault(extra_fields=True)
        publish(server, 1)
        assert next(iter((await socket.until("trade"))[0])) == "zz_unknown"


@way("swap_types")
async def _swap_types(client: Client, server: SimServer, trader: Trader) -> None:
    async with client.socket("subscribe") as socket:
        await socket.ask("subscribe", stream={"type": "trade", "product_id": ETH})
        await client.fault(swap_types=True)
        publish(server, 1)
        assert (await socket.until("trade"))[0]["timestamp"] == 1


async def _broken_by(client: Client, server: SimServer, name: str, **options: Any) -> aiohttp.WSMessage:
    async with client.socket("subscribe", **options) as socket:
        await socket.ask("subscribe", stream={"type": "trade", "product_id": ETH})
        await client.fault(**{name: True})
        publish(server, 1)
        async with asyncio.timeout(10):
            return await socket.ws.receive()


@way("truncated_frame")
async def _truncated(client: Client, server: SimServer, trader: Trader) -> None:
    message = await _broken_by(client, server, "truncated_frame")
    assert message.type in (aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.ERROR, aiohttp.WSMsgType.CLOSING)


@way("oversized_frame")
async def _oversized(client: Client, server: SimServer, trader: Trader) -> None:
    message = await _broken_by(client, server, "oversized_frame", max_msg_size=1 << 20)
    assert message.type is not aiohttp.WSMsgType.TEXT


@way("bad_deflate")
async def _bad_deflate(client: Client, server: SimServer, trader: Trader) -> None:
    try:
        message = await _broken_by(client, server, "bad_deflate")
    except zlib.error:
        return  # the reader of some versions lets it through
    assert message.type is not aiohttp.WSMsgType.TEXT


@way("deflate_bomb")
async def _bomb(client: Client, server: SimServer, trader: Trader) -> None:
    message = await _broken_by(client, server, "deflate_bomb", max_msg_size=1 << 20)
    assert message.type is not aiohttp.WSMsgType.TEXT


# Subscriptions --------------------------------------------------------------------------------------


@way("auth_refused")
async def _auth_refused(client: Client, server: SimServer, trader: Trader) -> None:
    await client.fault(auth_refused=True)
    async with client.socket("subscribe") as socket:
        expiration_ms = int(time.time() * 1000) + 60_000
        tx = {"sender": trader.sender, "expiration": str(expiration_ms)}
        signature = trader.stream_auth(expiration_ms)
        assert (await socket.ask("authenticate", tx=tx, signature=signature))["error_code"] == 2028
        assert (await socket.ask("authenticate", tx=tx, signature=signature))["result"] is None


@way("lose_ack")
async def _lose_ack(client: Client, server: SimServer, trader: Trader) -> None:
    async with client.socket("subscribe") as socket:
        await client.fault(lose_ack={"kind": "subscribe"})
        stream = {"type": "trade", "product_id": ETH}
        await socket.send({"method": "subscribe", "id": 1, "stream": stream})
        assert (await socket.ask("list"))["result"] == [stream]
