"""How late the loop is: by how much later than asked a timer fires. Everything else waits as long."""

from __future__ import annotations

import asyncio
import time
from typing import Final

from nadofast._latency import Histogram

PERIOD_S: Final = 0.02
WINDOW_S: Final = 10.0


class LoopLag:
    """`run` is a task for the whole session; `summary_ms` covers the last ten to twenty seconds."""

    def __init__(self) -> None:
        self._now = Histogram()
        self._last = Histogram()
        self._since_s = time.monotonic()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            due_ns = time.monotonic_ns() + int(PERIOD_S * 1e9)
            await asyncio.sleep(PERIOD_S)
            self._now.record_ns(max(0, time.monotonic_ns() - due_ns))
            if time.monotonic() - self._since_s >= WINDOW_S:
                self._now, self._last = Histogram(), self._now
                self._since_s = time.monotonic()

    def summary(self) -> dict[str, int]:
        """Of the last whole window, of the current one before there is any."""
        return (self._last if self._last.count else self._now).summary()
