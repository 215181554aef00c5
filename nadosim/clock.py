"""Time of the exchange: wall clock readings, and the strictly increasing stamps of engine steps."""

from __future__ import annotations

import time


class Clock:
    """Nanoseconds since the epoch. offset_ns: how wrong the clock that clients see is told to be."""

    def __init__(self) -> None:
        self.offset_ns = 0
        self._last_step_ns = 0

    def now_ns(self) -> int:
        """A reading: may repeat, and may step back with the system's clock."""
        return self.true_ns() + self.offset_ns

    def true_ns(self) -> int:
        """The time by which the exchange does what it does by itself, however wrong its clock."""
        return time.time_ns()

    def now_ms(self) -> int:
        return self.now_ns() // 1_000_000

    def step_ns(self) -> int:
        """Stamp of a new engine step: later than every stamp before, whatever the system's clock does."""
        self._last_step_ns = max(self.now_ns(), self._last_step_ns + 1)
        return self._last_step_ns


class ManualClock(Clock):
    """A clock that moves only when told to."""

    def __init__(self, start_ns: int = 1_790_000_000_000_000_000) -> None:
        super().__init__()
        self._now_ns = start_ns

    def true_ns(self) -> int:
        return self._now_ns

    def advance_ns(self, delta_ns: int) -> None:
        """Move by delta_ns; negative values imitate a clock set back."""
        self._now_ns += delta_ns

    def advance_s(self, delta_s: int) -> None:
        self.advance_ns(delta_s * 1_000_000_000)
