"""Keeping an event loop awake: it asks the sockets again at once instead of sleeping until one has data.

Waking a sleeping thread costs tens of microseconds, more than everything that follows. A loop that is kept
awake uses one core whole.
"""

from __future__ import annotations

import asyncio

__all__ = ["BusyPoll"]


class BusyPoll:
    """One callback that is always ready, so that the loop never waits.

    The loop runs it once a turn, in line with everything else: sockets, timers and tasks lose no turn.
    """

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._handle: asyncio.Handle | None = None

    @property
    def is_running(self) -> bool:
        return self._handle is not None

    def start(self) -> None:
        """Keep the running loop awake from now on. Raises RuntimeError if none is running."""
        if self._handle is None:
            self._loop = asyncio.get_running_loop()
            self._turn()

    def stop(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _turn(self) -> None:
        assert self._loop is not None
        self._handle = self._loop.call_soon(self._turn)
