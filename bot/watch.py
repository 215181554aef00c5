"""The last twenty-four hours in figures: share of time with fresh data, fills, halts, worst ages.

Kept in buckets of five minutes that fall out one by one, filled by whoever looks now and then. What was not
looked at is not in the share: a bot that has run for an hour says so.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from .conditions import Code
from .status import Status, WatchView

BUCKET_S: Final = 300.0
BUCKETS: Final = 288


@dataclass(slots=True)
class Bucket:
    """number: which five minutes; seconds: how much of them was watched. Ages in ms, the worst seen, by
    product."""

    number: int
    began_s: float
    seconds: float = 0.0
    looks: int = 0
    fresh: int = 0
    fills: float = 0.0
    cycles: float = 0.0
    halts: int = 0
    losses: float = 0.0
    ages_ms: dict[str, float] = field(default_factory=dict)


class Watch:
    """`look` is called at every look of the sentinel; `view` may be asked for at any time.

    on_complete: takes each bucket when the next one begins, and the last one at `close`.
    """

    def __init__(
        self,
        clock_s: Callable[[], float] = time.monotonic,
        *,
        on_complete: Callable[[Bucket], None] = lambda _: None,
    ) -> None:
        self._clock_s = clock_s
        self._on_complete = on_complete
        self._buckets: deque[Bucket] = deque(maxlen=BUCKETS)
        self._before: Status | None = None

    def look(self, now: Status) -> None:
        """Count one look."""
        bucket, before = self._bucket(), self._before
        bucket.looks += 1
        is_silent = any(trouble.code in (Code.NO_DATA, Code.BLIND) for trouble in now.trouble)
        bucket.fresh += not is_silent and all(leg.book == "valid" for leg in now.legs)
        bucket.halts += bool(now.halt) and (before is None or not before.halt)
        for leg in now.legs:
            if leg.age_ms is not None:
                bucket.ages_ms[leg.symbol] = max(bucket.ages_ms.get(leg.symbol, 0.0), leg.age_ms)
        bucket.fills += _risen(before, now, "fills")
        bucket.losses += _risen(before, now, "link_losses")
        bucket.cycles += now.cycles_done - (0 if before is None else before.cycles_done)
        self._before = now

    def close(self) -> None:
        """No look comes any more."""
        if self._buckets:
            self._on_complete(self._buckets[-1])

    def view(self) -> WatchView:
        """All buckets that are not older than a day."""
        oldest = int(self._clock_s() / BUCKET_S) - BUCKETS + 1
        kept = [bucket for bucket in self._buckets if bucket.number >= oldest]
        looks = sum(bucket.looks for bucket in kept)
        worst_ms: dict[str, float] = {}
        for bucket in kept:
            for symbol, age_ms in bucket.ages_ms.items():
                worst_ms[symbol] = max(worst_ms.get(symbol, 0.0), age_ms)
        first = min((bucket.number for bucket in kept), default=oldest)
        return WatchView(
            hours=len(range(first, oldest + BUCKETS)) * BUCKET_S / 3600 if kept else 0.0,
            uptime=sum(bucket.fresh for bucket in kept) / looks if looks else 0.0,
            fills=int(sum(bucket.fills for bucket in kept)),
            cycles=int(sum(bucket.cycles for bucket in kept)),
            halts=sum(bucket.halts for bucket in kept),
            link_losses=int(sum(bucket.losses for bucket in kept)),
            worst_age_ms=worst_ms,
        )

    def _bucket(self) -> Bucket:
        now_s = self._clock_s()
        number = int(now_s / BUCKET_S)
        if not self._buckets or self._buckets[-1].number != number:
            self.close()
            self._buckets.append(Bucket(number, now_s))
        self._buckets[-1].seconds = now_s - self._buckets[-1].began_s
        return self._buckets[-1]


def line(view: WatchView) -> str:
    """For people."""
    ages = ", ".join(f"{symbol} {age_ms:.0f} ms" for symbol, age_ms in view.worst_age_ms.items())
    return (
        f"last {view.hours:.1f} h: fresh data {100 * view.uptime:.2f} %, {view.cycles} cycles,"
        f" {view.fills} fills, {view.halts} halts, {view.link_losses} links lost,"
        f" oldest price {ages or 'none'}"
    )


def _risen(before: Status | None, now: Status, name: str) -> float:
    was = 0.0 if before is None else before.counters.get(name, 0.0)
    return max(0.0, now.counters.get(name, 0.0) - was)
