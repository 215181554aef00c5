"""Latent prices: what the simulated world believes each product is worth.

One common factor and one own factor per product, each a mean-reverting random walk in log price, so
products move together, nothing drifts away, and volatility is what it says. On top, each product's
price sways by a fraction of a spread or two within seconds, as order flow makes real ones do.
These are beliefs of simulated people, hence floats; what reaches the exchange is a whole number of ticks.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from random import Random
from typing import Final

COMMON_SHARE: Final = 0.8  # of the variance: correlation of any two products
PULL_BACK_S: Final = 600.0  # time constant of mean reversion
MAX_DEVIATION: Final = 0.05  # of the start price, in log terms
SWAY_S: Final = 1.0  # time constant
SWAY_BPS: Final = 1.2  # usual standard deviation


@dataclass(frozen=True, slots=True)
class Volatility:
    """Standard deviation of one minute's return."""

    bps_per_minute: float

    @property
    def per_sqrt_second(self) -> float:
        return self.bps_per_minute * 1e-4 / math.sqrt(60.0)


class LatentPrices:
    """start: price of each product at time zero. sway_bps: standard deviation of the sway."""

    def __init__(
        self,
        rng: Random,
        start: Mapping[int, float],
        volatility: Mapping[int, Volatility],
        sway_bps: float = SWAY_BPS,
    ) -> None:
        self._rng = rng
        self._sway = sway_bps
        self._start = dict(start)
        self._volatility = {product_id: volatility[product_id].per_sqrt_second for product_id in start}
        self._common = 0.0  # in units of one standard deviation per square root of a second
        self._own = dict.fromkeys(start, 0.0)
        self._sway_bps = dict.fromkeys(start, 0.0)
        self._values = dict(start)

    def value(self, product_id: int) -> float:
        """What the product is worth: the oracle's price."""
        return self._values[product_id]

    def price(self, product_id: int) -> float:
        """What people would trade it at this second: value and sway."""
        return self._values[product_id] * (1.0 + self._sway_bps[product_id] * 1e-4)

    def step(self, dt_s: float) -> None:
        """Move the world by dt_s seconds."""
        self._common = self._walk(self._common, dt_s)
        for product_id, start in self._start.items():
            own = self._own[product_id] = self._walk(self._own[product_id], dt_s)
            mixed = math.sqrt(COMMON_SHARE) * self._common + math.sqrt(1.0 - COMMON_SHARE) * own
            log_return = self._volatility[product_id] * mixed
            log_return = max(-MAX_DEVIATION, min(MAX_DEVIATION, log_return))
            self._values[product_id] = start * math.exp(log_return)
            keep = math.exp(-dt_s / SWAY_S)
            noise = self._rng.gauss(0.0, self._sway * math.sqrt(1.0 - keep * keep))
            self._sway_bps[product_id] = keep * self._sway_bps[product_id] + noise

    def jump(self, bps: float) -> None:
        """Move every product at once by about this much; the usual pull brings it back over minutes."""
        typical = sum(self._volatility.values()) / len(self._volatility)
        self._common += bps * 1e-4 / (typical * math.sqrt(COMMON_SHARE))

    def _walk(self, value: float, dt_s: float) -> float:
        return value - value * dt_s / PULL_BACK_S + self._rng.gauss(0.0, math.sqrt(dt_s))
