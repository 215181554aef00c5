"""One WebSocket of one client: a bounded queue of outgoing messages and the age of its last ping.

Producers call `send()`, which never waits: what one client does not read must not hold up another.
A client that lets the queue fill is cut, as the exchange would.
"""

from __future__ import annotations

import asyncio
from collections import deque
from time import monotonic
from typing import Final

from aiohttp import ClientConnectionResetError, WSMsgType, web

MAX_QUEUED: Final = 4096  # messages; some seconds of a fast market
MAX_QUEUED_BYTES: Final = 4 * 1024 * 1024
PING_DEADLINE_S: Final = 60.0  # the API asks for a ping frame every 30 s


class Connection:
    """The sending half of a socket and its book-keeping. Receiving is left to the handler."""

    def __init__(self, ws: web.WebSocketResponse, request: web.Request) -> None:
        self.ws = ws
        self.cut_reason: str | None = None
        self._transport = request.transport
        self._queue: deque[bytes] = deque()
        self._queued_bytes = 0
        self._wake = asyncio.Event()
        self._goodbye: tuple[int, bytes] | None = None
        self._pinged_at_s = monotonic()

    @property
    def is_open(self) -> bool:
        return self.cut_reason is None and not self.ws.closed

    def send(self, payload: bytes) -> None:
        """Queue one text message; cut the client if its queue is full."""
        if self.cut_reason is not None:
            return
        if len(self._queue) >= MAX_QUEUED or self._queued_bytes >= MAX_QUEUED_BYTES:
            self.cut("slow reader")
            return
        self._queue.append(payload)
        self._queued_bytes += len(payload)
        self._wake.set()

    def cut(self, reason: str) -> None:
        """Drop the socket at once, without a close frame."""
        if self.cut_reason is not None:
            return
        self.cut_reason = reason
        self._queue.clear()
        self._wake.set()
        if self._transport is not None:
            self._transport.abort()

    def pinged(self) -> None:
        """The client sent a ping frame: the only thing that counts as keep-alive."""
        self._pinged_at_s = monotonic()

    @property
    def since_ping_s(self) -> float:
        return monotonic() - self._pinged_at_s

    async def write(self) -> None:
        """Send what is queued until the socket ends. Run as a task beside the receiving handler."""
        try:
            while self.is_open:
                await self._wake.wait()
                self._wake.clear()
                while self._queue and self.is_open:
                    payload = self._queue.popleft()
                    self._queued_bytes -= len(payload)
                    await self.ws.send_frame(payload, WSMsgType.TEXT)
                if self._goodbye is not None:
                    code, text = self._goodbye
                    await self.ws.close(code=code, message=text)
        except (ClientConnectionResetError, ConnectionError):
            self.cut("connection lost")

    def close(self, code: int, text: str) -> None:
        """Say goodbye with a close frame once everything queued has been sent."""
        self._goodbye = (code, text.encode())
        self._wake.set()
