"""Every open WebSocket: how many an address may have, whom faults and deadlines cut."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from itertools import count
from typing import Any, Final

import orjson
from aiohttp import WSMsgType, web

from .connections import PING_DEADLINE_S, Connection
from .faults import Faults, Rule
from .lag import LagHistogram

MAX_SOCKETS_PER_ADDRESS: Final = 100
MAX_MESSAGE_BYTES: Final = 256 * 1024
TURN_MESSAGES: Final = 16  # handled for one client before the others get a turn
HEARD: Final = (WSMsgType.TEXT, WSMsgType.BINARY, WSMsgType.PING, WSMsgType.PONG)
NOT_CARRIED: Final = orjson.dumps({"error": "Text frames only.", "error_code": 2038})

OnText = Callable[[str], Awaitable[None]]


class TooManySockets(Exception):
    """The address has as many sockets as it may have."""


class Sockets:
    """The sockets of all clients."""

    def __init__(self, faults: Faults) -> None:
        self._faults = faults
        self._open: dict[Connection, None] = {}
        self._per_address: Counter[str] = Counter()
        self._numbers = count(1)
        self.lag = LagHistogram()  # event to the last byte handed to the transport
        self.accepted: Counter[str] = Counter()  # since the start, by scope
        self.ends: Counter[str] = Counter()  # why sockets were cut

    @property
    def by_scope(self) -> Counter[str]:
        return Counter(connection.scope for connection in self._open)

    def listed(self) -> list[dict[str, Any]]:
        """For /sim/health: the numbers that faults can name."""
        return [
            {"connection": c.number, "scope": c.scope, "address": c.address, "queued": c.queued}
            for c in self._open
        ]

    @asynccontextmanager
    async def accept(self, request: web.Request, scope: str) -> AsyncIterator[Connection]:
        """An open WebSocket with its writer running, until the block ends. Raises TooManySockets."""
        address = request.remote or ""
        if self._per_address[address] >= MAX_SOCKETS_PER_ADDRESS:
            raise TooManySockets
        self._per_address[address] += 1
        try:
            # Pings are answered by hand: they are the keep-alive the exchange insists on.
            ws = web.WebSocketResponse(autoping=False, timeout=1.0, max_msg_size=MAX_MESSAGE_BYTES)
            await ws.prepare(request)
            self.accepted[scope] += 1
            connection = Connection(ws, request, self._faults, scope, next(self._numbers), self.lag)
            async with self._writing(connection):
                yield connection
        finally:
            self._per_address[address] -= 1
            if not self._per_address[address]:
                del self._per_address[address]

    @asynccontextmanager
    async def _writing(self, connection: Connection) -> AsyncIterator[None]:
        self._open[connection] = None
        writer = asyncio.create_task(connection.write())
        try:
            yield
        finally:
            del self._open[connection]
            if connection.cut_reason is not None:
                self.ends[connection.cut_reason] += 1
            writer.cancel()
            await asyncio.wait([writer])

    async def receive(self, connection: Connection, on_text: OnText) -> None:
        """Feed text messages to on_text until the socket ends; others get their turn between any messages."""
        ws, handled = connection.ws, 0
        while True:
            message = await ws.receive()
            handled += 1
            if handled % TURN_MESSAGES == 0:
                await asyncio.sleep(0)
            if connection.is_half_open and message.type in HEARD:
                continue  # it was on its way in already
            if message.type is WSMsgType.TEXT:
                await self._maybe_stall(connection)
                await on_text(message.data)
            elif message.type is WSMsgType.PING:
                connection.pinged()
                with suppress(ConnectionError):  # it left; what it said before that still counts
                    await ws.pong(message.data)
            elif message.type is WSMsgType.BINARY:
                connection.send(NOT_CARRIED)
            elif message.type is not WSMsgType.PONG:
                return

    async def _maybe_stall(self, connection: Connection) -> None:
        rule = self._faults.take("stall_read", scope=connection.scope, connection=connection.number)
        if rule is not None:
            connection.pause_reading()
            await asyncio.sleep(rule.value["seconds"])
            connection.resume_reading()

    def cut(self, rule: Rule) -> None:
        """Drop the sockets a rule concerns, the way it says."""
        how = rule.value["how"]
        for connection in self._concerned(rule):
            if how == "close":
                connection.close(1001, "going away")
            else:
                connection.cut("cut by a fault", how)

    def half_open(self, rule: Rule) -> None:
        for connection in self._concerned(rule):
            connection.half_open()

    def _concerned(self, rule: Rule) -> list[Connection]:
        return [c for c in self._open if rule.concerns(c.scope, None, None, c.number)]

    def cut_overdue(self, deadline_s: float = PING_DEADLINE_S) -> None:
        """Drop sockets whose client sent no ping frame for too long."""
        for connection in list(self._open):
            if connection.since_ping_s > deadline_s:
                connection.cut("no ping")

    def cut_all(self, reason: str) -> None:
        for connection in list(self._open):
            connection.cut(reason)
