"""Requests on a subscription socket: each is acknowledged in time or it is an error, never silence."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable
from typing import Any, Final

from . import wire
from .errors import BadResponse, ConnectionLost, ExchangeError, RequestTimeout
from .events import ControlReply
from .secret import excerpt
from .timesync import TimeSample, TimeSync

# Shared by all channels: links that report to one core tell their replies apart by the number alone.
_NUMBERS: Final = itertools.count(1)


class ControlChannel:
    """Sends numbered requests and hands each its reply. `send` raises ConnectionLost if it cannot."""

    def __init__(self, send: Callable[[bytes], None], timeout_s: float) -> None:
        self._send = send
        self._timeout_s = timeout_s
        self._waiting: dict[int, asyncio.Future[ControlReply]] = {}
        self.orphans = 0
        """Replies without a request that waits: too late, or refused without an id."""
        self.last_orphan = ""

    async def request(self, build: Callable[[int], bytes], what: str) -> Any:
        """The `result` of one request. Raises ExchangeError, RequestTimeout or ConnectionLost."""
        request_id = next(_NUMBERS)
        reply: asyncio.Future[ControlReply] = asyncio.get_running_loop().create_future()
        self._waiting[request_id] = reply
        try:
            self._send(build(request_id))
            await asyncio.wait([reply], timeout=self._timeout_s)
        finally:
            del self._waiting[request_id]
            if reply.done():
                reply.exception()  # seen, though whoever asked may have been cancelled
        if not reply.done():
            detail = f"; last unmatched answer: {self.last_orphan}" if self.last_orphan else ""
            raise RequestTimeout(f"{what}: not acknowledged in {self._timeout_s} s{detail}")
        answer = reply.result()
        if answer.is_error:
            raise ExchangeError(answer.error_code, excerpt(answer.error or ""), what)
        return answer.result

    async def sync_time(self, timesync: TimeSync, samples: int) -> None:
        """Read the exchange's clock `samples` times, one after another."""
        for _ in range(samples):
            timesync.notice_jumps()  # a sleep that is over says nothing against this answer
            sent_ns = time.monotonic_ns()
            result = await self.request(wire.server_time, "time")
            received_ns = time.monotonic_ns()
            try:
                server_ms = wire.clock_ms(result["server_time"])
            except (KeyError, TypeError, ValueError):
                raise BadResponse(f"time: {excerpt(str(result))}") from None
            timesync.update(TimeSample(sent_ns, received_ns, server_ms))

    def expects(self, reply: ControlReply) -> bool:
        """Whether a request of this channel waits for the reply."""
        return reply.id in self._waiting

    def on_reply(self, reply: ControlReply) -> None:
        """Called inline for every reply of the socket."""
        waiting = None if reply.id is None else self._waiting.get(reply.id)
        if waiting is None or waiting.done():
            self.orphans += 1
            self.last_orphan = (
                f"{reply.error_code} {excerpt(reply.error or '')}" if reply.is_error else "late"
            )
        else:
            waiting.set_result(reply)

    def fail_all(self, reason: str) -> None:
        """The socket is gone: nobody waits any longer."""
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(ConnectionLost(reason))
