"""Signals: the first one asks to flatten and leave, the second one leaves at once.

No signal handler does work: it notes what was asked and wakes whoever waits. The trading loop turns the
first into an unwind with a deadline, the second into an end that names the exposure.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class StopRequest:
    """What a person asked for. `level`: 0 nothing, 1 flatten and leave, 2 leave now."""

    def __init__(
        self, *, clock_ns: Callable[[], int] = time.monotonic_ns, is_last_word: bool = False
    ) -> None:
        """is_last_word: the process ends after this block, so signals are ignored from its end on."""
        self._is_last_word = is_last_word
        self._clock_ns = clock_ns
        self._listeners: list[Callable[[], None]] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self.level = 0
        self.asked_ns: int | None = None
        self.by = ""
        self.asked = asyncio.Event()
        self.leave = asyncio.Event()

    def age_ns(self, now_ns: int) -> int | None:
        """How long ago the first request came; None if there was none."""
        return None if self.asked_ns is None else max(0, now_ns - self.asked_ns)

    def on_request(self, listener: Callable[[], None]) -> None:
        self._listeners.append(listener)

    def request(self, by: str) -> None:
        """One more request to stop. The first wins the name, the second means now."""
        self.level = min(2, self.level + 1)
        if self.level == 1:
            self.asked_ns, self.by = self._clock_ns(), by
            self.asked.set()
        else:
            self.leave.set()
        for listener in self._listeners:
            listener()

    def __enter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        for number in SIGNALS:
            # Whoever started us with hang-ups ignored wants the run to survive the terminal.
            if number is not signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
                self._loop.add_signal_handler(number, self.request, number.name)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._loop is not None
        for number in SIGNALS:
            # What is left then is to say how the run ended. That is bounded, and no signal may cut it off.
            if self._loop.remove_signal_handler(number) and self._is_last_word:
                signal.signal(number, signal.SIG_IGN)
