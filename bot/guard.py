"""What must be true before the bot may enter, and how long it has been blind.

One task keeps the clock offset fresh and proves that the exchange still answers when the streams are
silent: a quiet market is not a dead exchange.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from typing import Final

from nadofast.errors import NadoError
from nadofast.feed import Feed
from nadofast.ratelimit import NadoRateLimiter
from nadofast.rest import Rest
from nadofast.timesync import TimeSync

from .market import Market
from .units import NS_PER_MS

QUIET_MS: Final = 700
PROBE_PAUSE_S: Final = 0.4
CLOCK_PAUSE_S: Final = 15.0
START_SAMPLES: Final = 5
STABLE_LOOK_S: Final = 0.05


class Guard:
    """Readiness, blindness and the clock. `run()` is a task for the whole session."""

    def __init__(
        self,
        feed: Feed,
        market: Market,
        rest: Rest,
        timesync: TimeSync,
        limiter: NadoRateLimiter,
        *,
        cycle_weight: int,
    ) -> None:
        """cycle_weight: what one cycle may spend of the order budget."""
        self._cycle_weight = cycle_weight
        self._feed = feed
        self._market = market
        self._rest = rest
        self._timesync = timesync
        self.limiter = limiter
        self._last_answer_ns = time.monotonic_ns()
        self.round_trip_ms = 0.0

    async def measure_clock(self, samples: int = START_SAMPLES) -> None:
        """Read the exchange's clock. Raises TransportError when it does not answer."""
        started_ns = time.monotonic_ns()
        await self._rest.sync_time(self._timesync, samples)
        self._last_answer_ns = time.monotonic_ns()
        self.round_trip_ms = (self._last_answer_ns - started_ns) / samples / NS_PER_MS

    def answered(self) -> None:
        """Any request was answered just now."""
        self._last_answer_ns = time.monotonic_ns()

    def blind_ns(self, now_ns: int) -> int:
        """How long nothing was heard from the exchange, on the stream or as an answer."""
        by_stream_ns = int(min(self._feed.last_data_age_ms(), 1e9) * NS_PER_MS)
        return max(0, min(by_stream_ns, now_ns - self._last_answer_ns))

    def not_ready(self) -> str:
        """Why no entry may be made now; "" when everything is in place."""
        invalid = [p.symbol for p in self._market.products if not self._market.is_book_valid(p.product_id)]
        if invalid:
            return f"book of {', '.join(invalid)} is not valid"
        if not self._feed.account_live:
            return f"account {'stream is not live' if self._feed.has_websocket else 'is not read over REST'}"
        if not self._timesync.is_known:
            return "clock offset is not known"
        return ""

    def is_pacing(self) -> bool:
        """The wallet's budget would not carry another cycle, or the exchange has found us too fast and what
        is not urgent pauses: wait, so that no leg is refused half-way and no cycle is skipped for it."""
        return self.limiter.wait_s("execute", self._cycle_weight) > 0

    async def wait_ready(self, timeout_s: float) -> str:
        """Wait until `not_ready` is empty and both sides have a price; else the reason after `timeout_s`."""
        deadline = time.monotonic() + timeout_s
        while reason := self.not_ready() or self._no_price():
            if time.monotonic() >= deadline:
                return reason
            await asyncio.sleep(0.01)
        return ""

    async def wait_stable(self, stable_s: float, told: Callable[[str], None]) -> None:
        """Return once nothing was missing for `stable_s` on end. told: why it begins again, each time."""
        since = time.monotonic()
        was_ready = True
        while time.monotonic() - since < stable_s:
            reason = self.not_ready()
            if reason:
                since = time.monotonic()
                if was_ready:
                    told(reason)
            was_ready = not reason
            await asyncio.sleep(STABLE_LOOK_S)

    def _no_price(self) -> str:
        ids = (product.product_id for product in self._market.products)
        return "" if all(self._market.quote(p).is_two_sided for p in ids) else "no price yet"

    async def run(self) -> None:
        """Until cancelled: probe when the stream is silent, refresh the clock now and then."""
        clock_due = time.monotonic() + CLOCK_PAUSE_S
        while True:
            await asyncio.sleep(PROBE_PAUSE_S * random.uniform(0.8, 1.2))
            if self._feed.last_data_age_ms() < QUIET_MS and time.monotonic() < clock_due:
                continue
            try:
                await self.measure_clock(1)
                clock_due = time.monotonic() + CLOCK_PAUSE_S
            except NadoError:
                continue  # blind_ns grows; deciding what that means is the machine's business
