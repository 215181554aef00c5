"""An event loop whose time passes only when everybody waits: hours of time-outs in milliseconds."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any


class _Skipping(selectors.SelectSelector):
    """Instead of waiting, it moves the clock. Nothing here has a socket but the loop's own waker."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 1_000.0

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout is None:
            raise RuntimeError("everybody waits for nothing: a dead-lock")
        self.now_s += max(0.0, timeout)
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self.clock = _Skipping()
        super().__init__(self.clock)

    def time(self) -> float:
        return self.clock.now_s

    def now_ns(self) -> int:
        return int(self.clock.now_s * 1e9)

    def skip(self, seconds: float) -> None:
        """Time nobody in this loop has seen pass."""
        self.clock.now_s += seconds


def run(loop: VirtualLoop, work: Coroutine[Any, Any, Any]) -> Any:
    """Run to the end and close. Whatever the loop had to complain about is raised."""
    complaints: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: complaints.append(context))
    try:
        asyncio.set_event_loop(loop)
        result = loop.run_until_complete(work)
        assert not complaints, complaints
        return result
    finally:
        asyncio.set_event_loop(None)
        loop.close()
