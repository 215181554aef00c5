"""The market that lives in the exchange: seeded, correlated, lively, and exact about its own time.

`Market` is a discrete-event simulation without a clock: `advance(seconds)` plays everything that is
due. The same seed and the same outside orders give the same market, however late the caller comes.
`run` is the caller: it maps real time to market time and never lets a stall be followed by a storm.
"""

from __future__ import annotations

import asyncio
import heapq
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random
from time import monotonic
from typing import Final, Protocol

from .exchange import Exchange
from .faults import Faults
from .latent import LatentPrices, Volatility
from .participants import Maker, Takers, Venue
from .products import Product
from .regimes import LIVELY, Regime
from .seeded_keys import default_subaccount
from .settings import DEFAULT_RATE
from .x18 import ONE

TICK_S: Final = 0.05  # latent prices move
ORACLE_S: Final = 0.5  # the oracle follows
MAX_LAG_S: Final = 0.25  # real time a stalled market makes up for; the rest is skipped
MAX_DEPTH_PER_S: Final = 60.0  # twenty batches of three products
SLICE_EVENTS: Final = 64  # events played before the loop gets its turn

VOLATILITY: Final[Mapping[int, Volatility]] = {2: Volatility(4.0), 4: Volatility(5.0), 8: Volatility(6.5)}
USUAL_VOLATILITY: Final = Volatility(6.0)


class Playable(Protocol):
    """A world that is told how far time has come: the simulated market, or a recording."""

    @property
    def now_s(self) -> float: ...

    def advance(self, until_s: float, max_events: int | None = None) -> bool: ...

    def next_event_s(self) -> float: ...


@dataclass(slots=True)
class _Pit:
    """One product with its people."""

    venue: Venue
    makers: list[Maker]
    takers: Takers


def activity(rate: float, regime: Regime = LIVELY) -> float:
    """How much of the regime's intensities makes `rate` messages per second.

    Depth batches are capped (20 per second and product): they saturate while the rest grows.
    """
    low, high = 0.0, 1_000.0
    for _ in range(60):
        middle = (low + high) / 2
        depth = MAX_DEPTH_PER_S * (1.0 - math.exp(-middle * regime.depth_per_s / MAX_DEPTH_PER_S))
        events = regime.events_per_s * middle**regime.events_growth
        low, high = (middle, high) if events + depth < rate else (low, middle)
    return low if rate > 0 else 0.0


class Market:
    """products: the ones to make a market in. rate: see settings; at 0 the first ladders stand still."""

    def __init__(
        self,
        exchange: Exchange,
        products: list[Product],
        *,
        seed: int,
        rate: float = DEFAULT_RATE,
        regime: Regime = LIVELY,
    ) -> None:
        self._exchange = exchange
        self._regime = regime
        self._rng = Random(seed)
        self._activity = activity(rate, regime)
        self._aside_until_s = 0.0
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._scheduled = 0
        self.now_s = 0.0
        self.played = 0
        self._pits = {product.product_id: self._open_pit(product) for product in products}
        self._latent = LatentPrices(
            self._rng,
            {product.product_id: product.start_price_x18 / ONE for product in products},
            {p.product_id: self._volatility(p.product_id) for p in products},
            regime.sway_bps,
        )

    @property
    def refused(self) -> int:
        """House orders the exchange refused: a few are a market, many are a defect."""
        return sum(pit.venue.refused for pit in self._pits.values())

    def open(self) -> None:
        """Place the first ladders and schedule the first events. Call once."""
        for product_id, pit in self._pits.items():
            self._set_oracle(product_id)
            for maker in pit.makers:
                maker.requote(self._ticks(product_id), budget=1_000)
            self._schedule_wake(product_id)
            self._schedule_cluster(product_id)
        self._after(TICK_S, self._tick)
        self._after(ORACLE_S, self._oracle)
        self._schedule_jump()

    def advance(self, until_s: float, max_events: int | None = None) -> bool:
        """Play what is due until market time `until_s`. False: stopped early at `max_events`."""
        played = 0
        while self._heap and self._heap[0][0] <= until_s:
            if played == max_events:
                return False
            self.now_s, _, event = heapq.heappop(self._heap)
            event()
            played += 1
            self.played += 1
        self.now_s = until_s
        return True

    def next_event_s(self) -> float:
        return self._heap[0][0] if self._heap else self.now_s + TICK_S

    # Events -----------------------------------------------------------------------------------

    def _after(self, delay_s: float, event: Callable[[], None]) -> None:
        self._scheduled += 1
        heapq.heappush(self._heap, (self.now_s + delay_s, self._scheduled, event))

    def _tick(self) -> None:
        self._latent.step(TICK_S)
        self._after(TICK_S, self._tick)

    def _oracle(self) -> None:
        for product_id in self._pits:
            self._set_oracle(product_id)
        self._after(ORACLE_S, self._oracle)

    def _set_oracle(self, product_id: int) -> None:
        venue = self._pits[product_id].venue
        ticks = round(venue.to_ticks(self._latent.value(product_id)))
        self._exchange.set_oracle(product_id, ticks * venue.tick_x18)

    def _schedule_wake(self, product_id: int) -> None:
        if self._activity > 0:
            delay_s = self._rng.expovariate(self._regime.wakes_per_s * self._activity)
            self._after(delay_s, lambda: self._wake(product_id))

    def _wake(self, product_id: int) -> None:
        pit = self._pits[product_id]
        maker = self._rng.choice(pit.makers)
        if self.now_s >= self._aside_until_s:
            maker.requote(self._ticks(product_id), self._regime.wake_budget)
        else:
            maker.stand_aside()
        self._schedule_wake(product_id)

    def _schedule_cluster(self, product_id: int) -> None:
        if self._activity > 0:
            delay_s = self._rng.expovariate(self._regime.clusters_per_s * self._activity)
            self._after(delay_s, lambda: self._cluster(product_id))

    def _cluster(self, product_id: int) -> None:
        takers = self._pits[product_id].takers
        side, delays = takers.cluster(self._ticks(product_id))
        for delay_s in delays:
            self._after(delay_s, lambda: takers.strike(side))
        self._schedule_cluster(product_id)

    def _schedule_jump(self) -> None:
        if self._regime.jumps_per_hour and self._activity > 0:
            self._after(self._rng.expovariate(self._regime.jumps_per_hour / 3_600.0), self._jump)

    def _jump(self) -> None:
        """News: every price moves at once, and for a moment makers take their best quotes away."""
        self._latent.jump(self._rng.gauss(0.0, self._regime.jump_bps))
        self._aside_until_s = self.now_s + self._regime.pull_per_jump_s
        self._schedule_jump()

    def _volatility(self, product_id: int) -> Volatility:
        usual = VOLATILITY.get(product_id, USUAL_VOLATILITY)
        return Volatility(usual.bps_per_minute * self._regime.volatility)

    def _ticks(self, product_id: int) -> float:
        return self._pits[product_id].venue.to_ticks(self._latent.price(product_id))

    def _open_pit(self, product: Product) -> _Pit:
        venue = Venue(self._exchange, product)
        makers = []
        for index, style in enumerate(self._regime.makers):
            makers.append(Maker(self._rng, venue, _house_subaccount(product.product_id, index), style))
        takers = tuple(_house_subaccount(product.product_id, 100 + index) for index in range(3))
        crowd = Takers(
            self._rng,
            venue,
            takers,
            median_notional=self._regime.taker_notional,
            mean_chain=self._regime.taker_chain,
        )
        return _Pit(venue, makers, crowd)


def _house_subaccount(product_id: int, index: int) -> str:
    """Of a wallet nobody has a key for: its address is too small."""
    return default_subaccount(f"0x{product_id * 1_000 + index:040x}")


async def run(market: Playable, faults: Faults, *, speed: float = 1.0) -> None:
    """Play the market in real time, `speed` times as fast, until cancelled."""
    real_s = monotonic()
    market_s = market.now_s
    while True:
        now_s = monotonic()
        elapsed_s, real_s = min(now_s - real_s, MAX_LAG_S), now_s
        if not faults.market_paused:
            market_s += elapsed_s * speed
            is_done = market.advance(market_s, SLICE_EVENTS)
            while not is_done:
                await asyncio.sleep(0)
                is_done = market.advance(market_s, SLICE_EVENTS)
        wait_s = (market.next_event_s() - market_s) / speed
        await asyncio.sleep(min(TICK_S, max(0.001, wait_s)))
