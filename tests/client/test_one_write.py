"""Messages that leave together: one write, whatever the socket's buffer has room for; all or none."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import web
from clientkit import until
from test_link_parts import manager

from nadofast import NadoConnectionManager, errors

BIG = 3_000_000


class Peer:
    """Keeps what it was sent, and reads only when it may."""

    def __init__(self) -> None:
        self.messages: list[str] = []
        self.may_read = asyncio.Event()
        self.may_read.set()
        self.socket: web.WebSocketResponse | None = None

    async def serve(self, request: web.Request) -> web.WebSocketResponse:
        self.socket = socket = web.WebSocketResponse(max_msg_size=2 * BIG)
        await socket.prepare(request)
        while True:
            await self.may_read.wait()
            message = await socket.receive()
            if message.type is not web.WSMsgType.TEXT:
                return socket
            self.messages.append(message.data)


@asynccontextmanager
async def linked(peer: Peer, **config: Any) -> AsyncIterator[NadoConnectionManager]:
    app = web.Application()
    app.router.add_get("/", peer.serve)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    link = manager(f"ws://127.0.0.1:{runner.addresses[0][1]}/")
    link.config = replace(link.config, **config)
    link.start()
    try:
        await link.wait_live(3)
        yield link
    finally:
        await link.stop()
        await runner.cleanup()


async def test_both_messages_are_in_the_kernel_when_the_call_returns(monkeypatch: pytest.MonkeyPatch) -> None:
    peer, writes, write = Peer(), [], os.write

    def watched(fd: int, data: bytes) -> int:
        writes.append(len(data))
        return write(fd, data)

    async with linked(peer) as link:
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", watched)
            link.send_all([b'{"a":1}', b'{"b":"' + b"y" * 600 + b'"}'])
        assert len(writes) == 1
        assert link.blocked() is None  # nothing waits in the transport
        await until(lambda: len(peer.messages) == 2, "both")
        assert [message[:5] for message in peer.messages] == ['{"a":', '{"b":']
        link.send_all([b"alone"])
        await until(lambda: peer.messages[-1] == "alone", "one message has a way, too")


async def test_a_tap_sees_each_message_that_leaves() -> None:
    """One write or several: what is recorded of a run are its messages."""

    class Ear:
        def __init__(self) -> None:
            self.heard: list[tuple[str, bytes]] = []

        def sent(self, name: str, message: bytes) -> None:
            self.heard.append((name, message))

        def received(self, link: str, at_ns: int, message: bytes) -> None: ...

    peer, ear = Peer(), Ear()
    async with linked(peer, tap=ear) as link:
        link.send_all([b"one", b"two"])
        link.send_all([b"three"])
        link.send(b"four")
        await until(lambda: len(peer.messages) == 4, "all")
    assert ear.heard == [("test", b"one"), ("test", b"two"), ("test", b"three"), ("test", b"four")]


async def test_what_the_kernel_has_no_room_for_follows_in_order() -> None:
    peer = Peer()
    async with linked(peer) as link:
        peer.may_read.clear()
        link.send_all([b"first"])
        link.send_all([b"1" * BIG, b"2" * BIG, b"3" * BIG])  # more than a loopback socket takes
        assert link.blocked() == "write buffer is not empty"
        link.send_all([b"last but one", b"last"])  # behind what waits, never before it
        peer.may_read.set()
        await until(lambda: len(peer.messages) == 6, "everything", 10)
        assert [(message[0], len(message)) for message in peer.messages[1:4]] == [
            ("1", BIG), ("2", BIG), ("3", BIG)
        ]  # fmt: skip
        assert peer.messages[4:] == ["last but one", "last"]


async def test_a_full_kernel_takes_nothing_and_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(fd: int, data: bytes) -> int:
        raise BlockingIOError

    peer = Peer()
    async with linked(peer) as link:
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", full)
            link.send_all([b"one", b"two"])
        await until(lambda: peer.messages == ["one", "two"], "both")


async def test_nothing_leaves_by_a_socket_that_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(fd: int, data: bytes) -> int:
        raise BrokenPipeError(32, "Broken pipe")

    peer = Peer()
    async with linked(peer) as link:
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", broken)
            with pytest.raises(errors.ConnectionLost, match="Broken pipe"):
                link.send_all([b"one", b"two"])
            assert link.blocked() is not None  # and no other message tries it
            with pytest.raises(errors.ConnectionLost):
                link.send_all([b"one", b"two"])
        await until(lambda: link.is_live and link.connects == 2, "another socket")
        assert peer.messages == []
