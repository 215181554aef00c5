"""How far the exchange's clock is from ours, and how sure that is.

Sans-I/O. Every answered time request bounds the offset from both sides: the server read its clock after
the request left and before the answer arrived. The bounds of several samples are intersected; an empty
intersection means that a clock was stepped, and the older samples go. Our side is the monotonic clock, so
a step of the local wall clock moves nothing.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from .errors import OrderDenied

_MS: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class TimeSyncConfig:
    """max_uncertainty_ms: above it the clock counts as unknown. drift_ppm: assumed drift between the two
    clocks, widens old samples. window: samples kept. max_sample_age_s: older ones are forgotten."""

    max_uncertainty_ms: float = 250.0
    drift_ppm: int = 100
    window: int = 16
    max_sample_age_s: float = 900.0


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
    ) -> None:
        self._config = config or TimeSyncConfig()
        self._clock_ns = clock_ns
        self._wall_ns = wall_ns
        self._samples: deque[TimeSample] = deque(maxlen=self._config.window)
        self.steps = 0
        """How often samples contradicted each other: one of the two clocks was stepped."""

    def update(self, sample: TimeSample) -> None:
        """Take a sample. Raises ValueError if it was answered before it was sent."""
        if sample.received_ns < sample.sent_ns:
            raise ValueError("time sample received before it was sent")
        self._samples.append(sample)
        low, high = self._bounds_ns()
        if low > high:
            self.steps += 1
            self._samples.clear()
            self._samples.append(sample)

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
        self._forget_old()
        if not self._samples:
            return float("inf")
        low, high = self._bounds_ns()
        return (high - low) / 2 / _MS

    @property
    def offset_ms(self) -> float:
        """Exchange clock minus the local wall clock. Raises OrderDenied while unknown."""
        return (self._exchange_now_ns() - self._wall_ns()) / _MS

    def exchange_now_ms(self) -> int:
        """The exchange's time now. Raises OrderDenied("clock_unknown") while there is no fresh sample."""
        return self._exchange_now_ns() // _MS

    def _exchange_now_ns(self) -> int:
        self._forget_old()
        if not self._samples:
            raise OrderDenied("clock_unknown", "the exchange's clock has not been read yet")
        low, high = self._bounds_ns()
        return self._clock_ns() + (low + high) // 2

    def _bounds_ns(self) -> tuple[int, int]:
        """Bounds of (exchange clock - monotonic clock), each sample widened by drift since it was taken."""
        now = self._clock_ns()
        low, high = -(1 << 127), 1 << 127
        for sample in self._samples:
            drift = (now - sample.received_ns) * self._config.drift_ppm // 1_000_000
            server = sample.server_ms * _MS
            low = max(low, server - sample.received_ns - drift)
            # The answer is cut to whole milliseconds: the true time may be up to 1 ms later.
            high = min(high, server + _MS - sample.sent_ns + drift)
        return low, high

    def _forget_old(self) -> None:
        oldest = self._clock_ns() - int(self._config.max_sample_age_s * 1e9)
        while self._samples and self._samples[0].received_ns < oldest:
            self._samples.popleft()
