"""Three stages of stopping: drain, flatten, leave. A signal asks for the next one; each has a deadline.

No signal handler does work: it notes what was asked and wakes whoever waits. The trading loop turns

    drain    into no new cycle: the open one ends as planned, holding time and resting exits included
    flatten  into an exit that crosses at once, proved flat over REST
    leave    into an end that names the exposure

A drain that takes longer than its deadline becomes a flatten by itself; how long that may take is the pair's
own deadline, after which it leaves and names what is open.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable
from enum import IntEnum
from types import TracebackType
from typing import Final, Self

from .units import NS_PER_S

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
DRAIN_DEADLINE_S: Final = 60.0


class Stage(IntEnum):
    NONE = 0
    DRAIN = 1
    FLATTEN = 2
    LEAVE = 3


WHAT_NOW: Final = {
    Stage.NONE: "",
    Stage.DRAIN: "the open cycle ends as planned; once more, and what is open crosses at once",
    Stage.FLATTEN: "what is open crosses at once; once more, and it stays open",
    Stage.LEAVE: "left at once, whatever is open",
}


class StopRequest:
    """What a person asked for, and since when. Stages only go up.

    drain_deadline_s: how long the open cycle may take until it is flattened.
    is_last_word: the process ends after this block, so signals are ignored from its end on.
    """

    def __init__(
        self,
        *,
        clock_ns: Callable[[], int] = time.monotonic_ns,
        drain_deadline_s: float = DRAIN_DEADLINE_S,
        is_last_word: bool = False,
    ) -> None:
        self._is_last_word = is_last_word
        self._drain_deadline_ns = int(drain_deadline_s * NS_PER_S)
        self._clock_ns = clock_ns
        self._listeners: list[Callable[[], None]] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._flatten_ns: int | None = None
        self.stage = Stage.NONE
        self.asked_ns: int | None = None
        self.by = ""
        self.asked = asyncio.Event()
        self.leave = asyncio.Event()

    @property
    def words(self) -> str:
        """Who asked, what comes of it, and what another request would do; "" while nobody has."""
        return f"{self.by}: {WHAT_NOW[self.stage]}" if self.by else ""

    @property
    def flatten_ns(self) -> int | None:
        """When the exit had to cross: asked for, or the end of the drain's time; None while it need not."""
        if self._flatten_ns is None and self.asked_ns is not None:
            overdue_ns = self.asked_ns + self._drain_deadline_ns
            if self._clock_ns() >= overdue_ns:
                self.stage = max(self.stage, Stage.FLATTEN)
                self._flatten_ns = overdue_ns
        return self._flatten_ns

    def on_request(self, listener: Callable[[], None]) -> None:
        self._listeners.append(listener)

    def stop(self, by: str) -> None:
        """The next stage: what a signal asks for."""
        self._reach(Stage(min(self.stage + 1, Stage.LEAVE)), by)

    def drain(self, by: str) -> None:
        """No new cycle; the open one ends as planned."""
        self._reach(Stage.DRAIN, by)

    def flatten(self, by: str) -> None:
        """No new cycle; what is open crosses at once."""
        self._reach(Stage.FLATTEN, by)

    def _reach(self, stage: Stage, by: str) -> None:
        """The first request wins the name; a stage that was reached stays."""
        if self.stage is Stage.NONE:
            self.asked_ns, self.by = self._clock_ns(), by
            self.asked.set()
        self.stage = max(self.stage, stage)
        if self.stage >= Stage.FLATTEN and self._flatten_ns is None:
            self._flatten_ns = self._clock_ns()
        if self.stage is Stage.LEAVE:
            self.leave.set()
        for listener in self._listeners:
            listener()

    def __enter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        for number in SIGNALS:
            # Whoever started us with hang-ups ignored wants the run to survive the terminal.
            if number is not signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
                self._loop.add_signal_handler(number, self.stop, number.name)
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
