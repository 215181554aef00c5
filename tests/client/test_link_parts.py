"""Parts of a link, and a link against servers that are rude."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from aiohttp import web
from clientkit import until

from nadofast import LinkConfig, LinkState, NadoConnectionManager, errors
from nadofast._feed import TextListener
from nadofast.connection import Backoff, _Pings
from nadofast.waiting import wait_event

S = 1_000_000_000
QUICK = LinkConfig(
    handshake_timeout_s=0.3,
    setup_timeout_s=0.3,
    close_timeout_s=0.2,
    backoff_base_s=0.01,
    backoff_cap_s=0.02,
    watch_interval_s=0.02,
)


def test_backoff_is_full_jitter_capped_and_reset() -> None:
    backoff = Backoff(0.1, 1.0, random.Random(3))
    waits = [backoff.next_s() for _ in range(200)]
    assert max(waits) <= 1.0
    assert all(wait <= 0.1 * 2**index for index, wait in enumerate(waits[:4]))
    assert min(waits[10:]) < 0.1
    assert len(set(waits)) > 150
    backoff.reset()
    assert backoff.next_s() <= 0.1


def test_pings_are_due_on_time_and_missed_pongs_noticed() -> None:
    pings = _Pings(15.0, 10.0)
    assert pings.is_due(0, 0)
    pings.sent(5 * S)
    assert not pings.is_due(19 * S, 6 * S)
    assert pings.is_due(20 * S, 6 * S)
    assert not pings.is_due(20 * S, 4 * S)
    assert not pings.is_overdue(14 * S, 0)
    assert pings.is_overdue(15 * S, 0)
    assert not pings.is_overdue(15 * S, 6 * S)


async def test_a_cancelled_wait_ends_even_when_the_event_comes_in_the_same_turn() -> None:
    event = asyncio.Event()

    async def loop_forever() -> None:
        while True:
            event.clear()
            await wait_event(event, 10)

    task = asyncio.create_task(loop_forever())
    await asyncio.sleep(0.01)
    event.set()
    task.cancel()
    await asyncio.wait([task], timeout=1)
    assert task.cancelled()
    assert not await wait_event(asyncio.Event(), 0.01)


@asynccontextmanager
async def raw_server(
    handler: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> AsyncIterator[str]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await handler(reader, writer)
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    finally:
        server.close()
        await server.wait_closed()


def manager(url: str, **options: object) -> NadoConnectionManager:
    return NadoConnectionManager(
        url,
        lambda gone: TextListener(lambda _: None, on_disconnected=gone),
        name="test",
        config=QUICK,
        **options,  # type: ignore[arg-type]
    )


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 403 Forbidden\r\nContent-Length: 9\r\n\r\nno 2080 x",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 302 Found\r\nLocation: ws://127.0.0.1:9/\r\nContent-Length: 0\r\n\r\n",
        b"\x00\xff garbage\r\n\r\n",
        b"",
    ],
)
async def test_refused_handshakes_are_retried_and_named(answer: bytes) -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()

    async with raw_server(refuse) as url:
        link = manager(url)
        link.start()
        assert not await link.wait_first_try(2)
        await until(lambda: link._backoff.attempts >= 2, "another attempt")
        assert link.connects == 0
        assert link.last_error
        with pytest.raises(errors.RequestTimeout, match="not live"):
            await link.wait_live(0.01)
        with pytest.raises(errors.ConnectionLost):
            link.send(b"{}")
        assert link.blocked() is not None
        await link.stop()
        assert link.state is LinkState.DISCONNECTED


async def test_a_server_that_never_answers_does_not_hold_up_the_stop() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with raw_server(silent) as url:
        link = manager(url)
        link.start()
        assert not await link.wait_first_try(2)
        assert link.last_error
        await until(lambda: link.state is LinkState.CONNECTING, "next attempt")
        await asyncio.wait_for(link.stop(), 2)


@asynccontextmanager
async def ws_server(handler: Callable[[web.WebSocketResponse], Awaitable[None]]) -> AsyncIterator[str]:
    async def serve(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await handler(socket)
        return socket

    app = web.Application()
    app.add_routes([web.get("/", serve)])
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"ws://127.0.0.1:{runner.addresses[0][1]}/"
    finally:
        await runner.cleanup()


async def echo(socket: web.WebSocketResponse) -> None:
    async for message in socket:
        await socket.send_str(message.data)


async def test_a_close_frame_is_named() -> None:
    async def close(socket: web.WebSocketResponse) -> None:
        await socket.close(code=1013, message=b"too many sockets")

    async with ws_server(close) as url:
        link = manager(url)
        link.start()
        await until(lambda: link.connects >= 2, "connected again")
        await link.stop()
    assert "1013" in link.last_error
    assert "too many sockets" in link.last_error


async def test_a_stop_that_is_cancelled_is_finished_by_the_next_one() -> None:
    """A gateway stops while one of its sockets is being retired."""
    async with ws_server(echo) as url:
        link = manager(url)
        await link.ensure_connected(5)
        first = asyncio.create_task(link.stop())
        await asyncio.sleep(0)
        first.cancel()
        await asyncio.wait([first])
        await link.stop()
        assert link.state is LinkState.DISCONNECTED
        assert [task for task in asyncio.all_tasks() if task.get_name() == f"link {link.name}"] == []
        await link.ensure_connected(5)
        await link.stop()


async def test_a_link_starts_again_when_its_cancelled_stop_is_over() -> None:
    """Whoever stopped it had no patience; it is down all the same, and is not down for good."""
    async with ws_server(echo) as url:
        link = manager(url)
        await link.ensure_connected(5)
        (running,) = [task for task in asyncio.all_tasks() if task.get_name() == f"link {link.name}"]
        stopping = asyncio.create_task(link.stop())
        await asyncio.sleep(0)
        stopping.cancel()
        await asyncio.wait([stopping, running])
        await link.ensure_connected(5)
        await link.stop()


async def test_a_link_that_is_started_in_the_turn_its_stop_ends_is_not_called_disconnected() -> None:
    async with ws_server(echo) as url:
        link = manager(url)
        await link.ensure_connected(5)
        (running,) = [task for task in asyncio.all_tasks() if task.get_name() == f"link {link.name}"]
        running.add_done_callback(lambda _: link.start())
        before = len(link.history)
        await link.stop()
        await link.ensure_connected(5)
        assert [step.state for step in list(link.history)[before:]][:2] == [
            LinkState.CLOSED,
            LinkState.CONNECTING,
        ]
        assert link.is_live
        await link.stop()


async def test_a_link_that_is_started_again_has_a_first_try_again() -> None:
    async with ws_server(echo) as url:
        link = manager(url)
        for _ in range(2):
            link.start()
            assert await link.wait_first_try(5)
            await link.stop()


async def test_setup_that_fails_or_hangs_gives_the_socket_up() -> None:
    calls = []

    async def setup(link: NadoConnectionManager) -> None:
        calls.append(link.connects)
        if len(calls) == 1:
            raise errors.ExchangeError(2028, "signature", "authenticate")
        if len(calls) == 2:
            await asyncio.sleep(60)

    lost: list[str] = []
    async with ws_server(echo) as url:
        link = manager(url, setup=setup, on_lost=lost.append)
        link.start()
        await link.wait_live(5)
        assert len(calls) == 3
        assert link.losses == len(lost) == 2
        assert link.blocked() is None
        await link.stop()
    assert lost[-1] == "stopped"


async def test_a_defect_in_a_callback_is_logged_and_survived(caplog: pytest.LogCaptureFixture) -> None:
    calls = []

    async def setup(link: NadoConnectionManager) -> None:
        calls.append(1)
        if len(calls) == 1:
            raise ZeroDivisionError("a defect")

    async with ws_server(echo) as url:
        link = manager(url, setup=setup)
        link.start()
        await link.wait_live(5)
        await link.stop()
    assert link.defects == 1
    assert "a defect" in caplog.text


async def test_missing_pongs_cut_the_link() -> None:
    async def deaf(socket: web.WebSocketResponse) -> None:
        await asyncio.sleep(5)

    lost: list[str] = []
    async with ws_server(deaf) as url:
        link = manager(url, on_lost=lost.append)
        link.config = replace(QUICK, ping_interval_s=0.05, pong_timeout_s=0.1)
        link.start()
        # aiohttp answers pings only while the handler reads.
        await until(lambda: any("no pong" in reason for reason in lost), "cut")
        await link.stop()


@pytest.mark.parametrize("is_alive", [True, False])
async def test_a_silent_link_is_probed_before_it_is_cut(is_alive: bool) -> None:
    probes, lost = [], []

    async def probe(link: NadoConnectionManager) -> bool:
        probes.append(link.state)
        return is_alive

    async with ws_server(echo) as url:
        link = manager(url, probe=probe, on_lost=lost.append)
        link.config = replace(QUICK, data_timeout_s=0.1)
        link.start()
        await until(lambda: len(probes) >= 2, "probed")
        await link.stop()
    assert probes[0] is LinkState.STALE
    assert any("no data" in reason for reason in lost) is not is_alive


@pytest.mark.parametrize("carries_data", [True, False])
async def test_only_a_link_that_carried_data_for_a_while_resets_the_back_off(carries_data: bool) -> None:
    sockets: list[web.WebSocketResponse] = []

    async def serve(socket: web.WebSocketResponse) -> None:
        sockets.append(socket)
        if len(sockets) <= 2:
            return  # refused twice, so to speak: the back-off grows
        while carries_data:
            await socket.send_str("data")
            await asyncio.sleep(0.01)
        await echo(socket)

    async def only_quiet(_: NadoConnectionManager) -> bool:
        return True

    async with ws_server(serve) as url:
        link = manager(url, probe=only_quiet)
        link.config = replace(QUICK, data_timeout_s=0.1, stable_after_s=0.2)
        link.start()
        await until(lambda: link.connects >= 3 and link.is_live, "the third one lives")
        born = time.monotonic()
        assert link._backoff.attempts >= 2
        await until(lambda: link._backoff.attempts == 0 or time.monotonic() - born > 0.5, "long enough")
        assert (link._backoff.attempts == 0) is carries_data
        await link.stop()
