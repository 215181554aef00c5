"""One WebSocket of one client: a bounded queue of outgoing messages and the age of its last ping.

Producers call `send()`, which never waits: what one client does not read must not hold up another.
A client that lets the queue fill is cut, as the exchange would. Faults that concern outgoing messages
are applied on the way into the queue, so that they hurt this connection alone.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections import deque
from time import monotonic
from typing import Final

from aiohttp import ClientConnectionResetError, WSMsgType, web

from .distortion import Distortion, Form, Outgoing, raw_frame
from .faults import Faults
from .lag import LagHistogram

MAX_QUEUED: Final = 4096  # messages; some seconds of a fast market
MAX_QUEUED_BYTES: Final = 4 * 1024 * 1024
PING_DEADLINE_S: Final = 60.0  # the API asks for a ping frame every 30 s
LINGER_ZERO: Final = struct.pack("ii", 1, 0)  # close() sends RST


class Connection:
    """The sending half of a socket and its book-keeping. Receiving is left to the handler.

    scope, number: what faults can name it by. lag: how long messages wait here is noted in it.
    """

    def __init__(
        self,
        ws: web.WebSocketResponse,
        request: web.Request,
        faults: Faults,
        scope: str,
        number: int,
        lag: LagHistogram,
    ) -> None:
        self.ws = ws
        self.scope = scope
        self.number = number
        self.address = request.remote or ""
        self.cut_reason: str | None = None
        self.is_half_open = False
        self._faults = faults
        self._transport = request.transport
        self._distortion = Distortion(faults, scope, self.number)
        self._queue: deque[Outgoing | bytes] = deque()
        self._queued_bytes = 0
        self._wake = asyncio.Event()
        self._goodbye: tuple[int, bytes] | None = None
        self._pinged_at_s = monotonic()
        self._lag = lag
        self._oldest_s = 0.0  # when the first message now in the queue came

    @property
    def is_open(self) -> bool:
        return self.cut_reason is None and not self.ws.closed

    def send(self, payload: bytes, kind: str = "reply", product_id: int | None = None) -> None:
        """Queue one text message; cut the client if its queue is full."""
        if self.cut_reason is not None or self.is_half_open:
            return
        if self._faults.on_outgoing or self._distortion.holds:
            for message in self._distortion.apply(payload, kind, product_id, monotonic()):
                self._enqueue(message, len(message.payload))
        else:
            self._enqueue(payload, len(payload))

    def _enqueue(self, message: Outgoing | bytes, size: int) -> None:
        if len(self._queue) >= MAX_QUEUED or self._queued_bytes >= MAX_QUEUED_BYTES:
            self.cut("slow reader")
            return
        if not self._queue:
            self._oldest_s = monotonic()
        self._queue.append(message)
        self._queued_bytes += size
        self._wake.set()

    def cut(self, reason: str, how: str = "fin") -> None:
        """Drop the socket at once, without a close frame: with a FIN, or an RST if how is `rst`."""
        if self.cut_reason is not None:
            return
        self.cut_reason = reason
        self._queue.clear()
        self._wake.set()
        if self._transport is None:
            return
        if how == "rst":
            _reset_on_close(self._transport)
        self._transport.abort()

    def half_open(self) -> None:
        """From now on the peer hears nothing and is not heard, and the socket stays."""
        self.is_half_open = True
        self._queue.clear()
        self.pause_reading()

    def pause_reading(self) -> None:
        if self._transport is not None:
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        if self._transport is not None and self.is_open and not self.is_half_open:
            self._transport.resume_reading()

    def pinged(self) -> None:
        """The client sent a ping frame: the only thing that counts as keep-alive."""
        self._pinged_at_s = monotonic()

    @property
    def since_ping_s(self) -> float:
        return monotonic() - self._pinged_at_s

    @property
    def queued(self) -> int:
        return len(self._queue)

    async def write(self) -> None:
        """Send what is queued until the socket ends. Run as a task beside the receiving handler."""
        try:
            while self.is_open:
                await self._wake.wait()
                self._wake.clear()
                waiting_since_s, has_sent = self._oldest_s, bool(self._queue)
                while self._queue and self.is_open:
                    await self._write_one(self._queue.popleft())
                if has_sent:
                    # From the first event of the burst to its last frame: no message waited longer.
                    self._lag.add(monotonic() - waiting_since_s)
                if self._goodbye is not None:
                    code, text = self._goodbye
                    await self.ws.close(code=code, message=text)
        except (ClientConnectionResetError, ConnectionError):
            self.cut("connection lost")

    async def _write_one(self, message: Outgoing | bytes) -> None:
        if isinstance(message, bytes):
            self._queued_bytes -= len(message)
            await self.ws.send_frame(message, WSMsgType.TEXT)
            return
        self._queued_bytes -= len(message.payload)
        if (wait_s := message.due_s - monotonic()) > 0:
            await asyncio.sleep(wait_s)
        if self.is_half_open or not self.is_open:
            return
        if message.form is Form.TEXT:
            await self.ws.send_frame(message.payload, WSMsgType.TEXT)
        elif self._transport is not None:
            self._transport.write(raw_frame(message, deflates=bool(self.ws.compress)))
            if message.form is Form.TRUNCATED:
                # What was written leaves first, then the end of the stream; no close frame.
                self.cut_reason = "truncated frame"
                self._transport.close()

    def close(self, code: int, text: str) -> None:
        """Say goodbye with a close frame once everything queued has been sent."""
        self._goodbye = (code, text.encode())
        self._wake.set()


def _reset_on_close(transport: asyncio.Transport) -> None:
    """The option belongs to the socket, so a duplicate of its descriptor can set it."""
    held = transport.get_extra_info("socket")
    if held is None or held.fileno() < 0:
        return
    with socket.socket(fileno=os.dup(held.fileno())) as raw:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_ZERO)
