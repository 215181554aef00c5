"""How far the exchange's clock is from ours, and how sure that is.

Sans-I/O. Every answered time request bounds the offset from both sides: the server read its clock after
the request left and before the answer arrived. The bounds of several samples are intersected; an empty
intersection means that a clock was stepped, and the older samples go. Our side is the monotonic clock, so
a step of the local wall clock moves nothing; it is counted. The monotonic clock stands still while the
machine is suspended and the boot-time clock does not: when they part, every sample is worthless and goes at
once.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from .errors import OrderDenied

_MS: Final = 1_000_000
_NEVER: Final = 1 << 127
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class TimeSyncConfig:
    """max_uncertainty_ms: above it the clock counts as unknown. drift_ppm: assumed drift between the two
    clocks, widens old samples. window: samples kept. max_sample_age_s: older ones are forgotten.
    jump_ms: the local clocks may part by so much before it counts as a jump."""

    max_uncertainty_ms: float = 250.0
    drift_ppm: int = 100
    window: int = 16
    max_sample_age_s: float = 900.0
    jump_ms: float = 100.0


@dataclass(frozen=True, slots=True)
class TimeSample:
    """One answered time request: monotonic ns around it, and the exchange's answer in ms."""

    sent_ns: int
    received_ns: int
    server_ms: int


class TimeSync:
    """Exchange time from a few samples; `is_known` is False until the uncertainty is small enough."""

    def __init__(
        self,
        config: TimeSyncConfig | None = None,
        *,
        clock_ns: Callable[[], int] = time.monotonic_ns,
        wall_ns: Callable[[], int] = time.time_ns,
        boot_ns: Callable[[], int] | None = None,
    ) -> None:
        self._config = config or TimeSyncConfig()
        self._clock_ns = clock_ns
        self._wall_ns = wall_ns
        self._jump_ns = int(self._config.jump_ms * _MS)
        self._boot_ns = boot_ns or (_boot_ns if clock_ns is time.monotonic_ns else clock_ns)
        # Clocks cannot be read at once. Each lead is an upper bound here and compared with a lower one later:
        # a process that was not scheduled in between must not look like a machine that slept.
        now_ns = clock_ns()
        self._boot_lead_ns = self._boot_ns() - now_ns
        self._wall_lead_ns = wall_ns() - now_ns
        self._low_ns, self._high_ns = _NEVER, -_NEVER
        self._awake_ns = -_NEVER
        """When the last sleep was noticed."""
        self._samples: deque[TimeSample] = deque(maxlen=self._config.window)
        self.steps = 0
        """How often samples contradicted each other: one of the two clocks was stepped."""
        self.suspends = 0
        """How often the machine slept; whatever was known of the exchange's clock was dropped."""
        self.wall_jumps = 0
        """How often the local wall clock was set. Orders do not use it."""

    def update(self, sample: TimeSample) -> None:
        """Take a sample, unless the machine slept meanwhile: the exchange may have read its clock before.
        Raises ValueError if it was answered before it was sent."""
        if sample.received_ns < sample.sent_ns:
            raise ValueError("time sample received before it was sent")
        now_ns = self.notice_jumps()
        if sample.sent_ns < self._awake_ns:
            return
        self._samples.append(sample)
        self._intersect()
        low, high = self._bounds_ns(now_ns)
        if low > high:
            self.steps += 1
            _log.warning("the exchange's clock and ours have parted: older samples dropped")
            self._samples.clear()
            self._samples.append(sample)
            self._intersect()

    def notice_jumps(self) -> int:
        """Compare the local clocks with each other. Runs with every question about the time. Returns the
        monotonic time of the look."""
        before_ns = self._clock_ns()
        boot_ns, wall_ns = self._boot_ns(), self._wall_ns()
        after_ns = self._clock_ns()
        slept_ns = boot_ns - after_ns - self._boot_lead_ns
        if slept_ns > self._jump_ns:
            self.suspends += 1
            self._awake_ns = after_ns
            self._boot_lead_ns += slept_ns
            self._wall_lead_ns += slept_ns
            self._samples.clear()
            _log.warning(
                "suspended for %.1f s: the exchange's clock is unknown until it is read", slept_ns / 1e9
            )
        if wall_ns - after_ns - self._wall_lead_ns > self._jump_ns:
            self._note_wall_jump(wall_ns - after_ns)
        elif self._wall_lead_ns - (wall_ns - before_ns) > self._jump_ns:
            self._note_wall_jump(wall_ns - before_ns)
        return after_ns

    def _note_wall_jump(self, lead_ns: int) -> None:
        self.wall_jumps += 1
        _log.warning("the wall clock was set by %+.3f s", (lead_ns - self._wall_lead_ns) / 1e9)
        self._wall_lead_ns = lead_ns

    @property
    def is_known(self) -> bool:
        """Whether orders may be timed by this clock."""
        return self.uncertainty_ms <= self._config.max_uncertainty_ms

    @property
    def sample_age_s(self) -> float:
        """Age of the newest sample; infinite without one."""
        if not self._samples:
            return float("inf")
        return (self._clock_ns() - self._samples[-1].received_ns) / 1e9

    @property
    def uncertainty_ms(self) -> float:
        """Half the width of what is possible; infinite without a fresh sample."""
        now_ns = self._look()
        if not self._samples:
            return float("inf")
        low, high = self._bounds_ns(now_ns)
        return (high - low) / 2 / _MS

    @property
    def offset_ms(self) -> float:
        """Exchange clock minus the local wall clock. Raises OrderDenied while unknown."""
        return (self._exchange_now_ns() - self._wall_ns()) / _MS

    def exchange_now_ms(self) -> int:
        """The exchange's time now. Raises OrderDenied("clock_unknown") while there is no fresh sample."""
        return self._exchange_now_ns() // _MS

    def order_time(self) -> tuple[int, float]:
        """The exchange's time now and its uncertainty, both in ms, from one look at the clocks: all that the
        orders of one decision need to know. Raises OrderDenied("clock_unknown") unless `is_known`."""
        now_ns = self._look()
        if not self._samples:
            raise OrderDenied("clock_unknown", "the exchange's clock has not been read yet")
        low, high = self._bounds_ns(now_ns)
        uncertainty_ms = (high - low) / 2 / _MS
        if uncertainty_ms > self._config.max_uncertainty_ms:
            raise OrderDenied("clock_unknown", f"uncertainty {uncertainty_ms:.0f} ms")
        return (now_ns + (low + high) // 2) // _MS, uncertainty_ms

    def _exchange_now_ns(self) -> int:
        now_ns = self._look()
        if not self._samples:
            raise OrderDenied("clock_unknown", "the exchange's clock has not been read yet")
        low, high = self._bounds_ns(now_ns)
        return now_ns + (low + high) // 2

    def _intersect(self) -> None:
        """Bounds of (exchange clock - monotonic clock), as they would be at monotonic time 0: every sample
        widens at the same rate, so which one binds does not change with time."""
        ppm = self._config.drift_ppm
        self._low_ns, self._high_ns = -_NEVER, _NEVER
        for sample in self._samples:
            server_ns, drift_ns = sample.server_ms * _MS, sample.received_ns * ppm // 1_000_000
            self._low_ns = max(self._low_ns, server_ns - sample.received_ns + drift_ns)
            # The answer is cut to whole milliseconds: the true time may be up to 1 ms later.
            self._high_ns = min(self._high_ns, server_ns + _MS - sample.sent_ns - drift_ns)

    def _bounds_ns(self, now_ns: int) -> tuple[int, int]:
        """The bounds at a monotonic time, widened by drift since the samples were taken."""
        drift_ns = now_ns * self._config.drift_ppm // 1_000_000
        return self._low_ns - drift_ns, self._high_ns + drift_ns

    def _look(self) -> int:
        """Notice jumps, forget what is too old; the monotonic time of the look."""
        now_ns = self.notice_jumps()
        oldest = now_ns - int(self._config.max_sample_age_s * 1e9)
        if not self._samples or self._samples[0].received_ns >= oldest:
            return now_ns
        while self._samples and self._samples[0].received_ns < oldest:
            self._samples.popleft()
        self._intersect()
        return now_ns


def _boot_ns() -> int:
    """Goes on while the machine sleeps."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)
