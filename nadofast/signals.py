"""What a stream of BBOs says beyond its numbers: spread, fair value, widening, momentum.

Signals are for deciding and showing, not for accounts: prices are Decimal, ratios float. A signal that cannot
be told raises; there is no value that means "no data" and reads as "fine".
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from decimal import Decimal
from enum import StrEnum
from typing import Final, Protocol

from .callbacks import Callbacks
from .errors import NoSignal
from .events import NO_ASK_X18, NO_BID_X18, BBOEvent, BoundaryEvent
from .products import from_x18

SPREADS_KEPT: Final = 100
LEAST_SPREADS: Final = 10
"""BBOs before a spread can be called wide or narrow."""
WIDE: Final = 1.5
NARROW: Final = 0.5
"""Multiples of the mean spread."""
MOMENTUM_STEPS: Final = 5
MOMENTUM_BPS: Final = 10.0
MAX_AGE_S: Final = 30.0
# Breaks after which older BBOs say nothing about the next one.
_BREAKS: Final = frozenset({"link_lost", "mode"})
_NS: Final = 1_000_000_000


class Quote(Protocol):
    """A live Bbo or a BBOEvent."""

    @property
    def product_id(self) -> int: ...
    @property
    def timestamp_ns(self) -> int: ...
    @property
    def bid_price_x18(self) -> int: ...
    @property
    def bid_qty_x18(self) -> int: ...
    @property
    def ask_price_x18(self) -> int: ...
    @property
    def ask_qty_x18(self) -> int: ...


class SpreadState(StrEnum):
    WIDENING = "widening"
    NARROWING = "narrowing"
    STABLE = "stable"


class Momentum(StrEnum):
    BULLISH = "bullish"
    BEARISH = "bearish"
    NEUTRAL = "neutral"


Callback = Callable[[BBOEvent, SpreadState | None, Momentum | None], object]


class NadoBBOHandler:
    """Signals of one product's best bid and offer: `feed.on("best_bid_offer", handler.on_bbo)`, and
    `feed.on("boundary", handler.on_boundary)`, so that no signal reaches over a break.

    Every signal raises NoSignal when there is no BBO with both sides, when the newest one is older than
    max_age_s, and where it needs more of them than there have been. momentum_bps: how far both sides must
    have moved to have a direction.
    """

    def __init__(
        self,
        product_id: int,
        *,
        momentum_bps: float = MOMENTUM_BPS,
        max_age_s: float = MAX_AGE_S,
        clock_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self.product_id = product_id
        self.callbacks: Callbacks[[BBOEvent, SpreadState | None, Momentum | None]] = Callbacks()
        self._momentum_bps = momentum_bps
        self._max_age_ns = int(max_age_s * _NS)
        self._clock_ns = clock_ns
        self._latest: BBOEvent | None = None
        self._seen_ns = 0
        # Sums of x18 integers are exact; the mean moves with each BBO at no cost that grows.
        self._spreads: deque[int] = deque(maxlen=SPREADS_KEPT + 1)
        self._sum_x18 = 0
        self._prices: deque[tuple[int, int]] = deque(maxlen=MOMENTUM_STEPS)

    # ------------------------------------------------------------------ events

    def on_bbo(self, event: Quote) -> None:
        """Take a BBO of this product; others are left alone. One with an empty side ends every signal."""
        if event.product_id != self.product_id:
            return
        bid, ask = event.bid_price_x18, event.ask_price_x18
        if bid == NO_BID_X18 or ask == NO_ASK_X18:
            self._latest = None
            return
        self._latest = BBOEvent(
            self.product_id, event.timestamp_ns, bid, event.bid_qty_x18, ask, event.ask_qty_x18
        )
        self._seen_ns = self._clock_ns()
        if len(self._spreads) == self._spreads.maxlen:
            self._sum_x18 -= self._spreads[0]
        self._spreads.append(ask - bid)
        self._sum_x18 += ask - bid
        self._prices.append((bid, ask))
        if self.callbacks:
            self.callbacks.tell(self._latest, self._spread_state(), self._momentum())

    def on_boundary(self, event: BoundaryEvent) -> None:
        """The stream broke: what was seen before it says nothing about what comes after."""
        if event.what in _BREAKS:
            self._latest = None
            self._spreads.clear()
            self._prices.clear()
            self._sum_x18 = 0

    def register_callback(self, callback: Callback) -> Callable[[], None]:
        """Call it with every BBO, its spread state and its momentum, None where that cannot be told yet.

        Returns a function that ends it.
        """
        return self.callbacks.add(callback)

    # ------------------------------------------------------------------ prices

    def get_latest_bbo(self) -> BBOEvent:
        """Raises NoSignal."""
        if self._latest is None:
            raise NoSignal(f"product {self.product_id}: no BBO with both sides")
        age_ns = self._clock_ns() - self._seen_ns
        if age_ns > self._max_age_ns:
            raise NoSignal(f"product {self.product_id}: the last BBO is {age_ns / _NS:.1f} s old")
        return self._latest

    def get_prices(self) -> tuple[Decimal, Decimal]:
        """(bid, ask). Raises NoSignal."""
        bbo = self.get_latest_bbo()
        return from_x18(bbo.bid_price_x18), from_x18(bbo.ask_price_x18)

    def get_current_spread(self) -> Decimal:
        """Ask − bid. Raises NoSignal."""
        bbo = self.get_latest_bbo()
        return from_x18(bbo.ask_price_x18 - bbo.bid_price_x18)

    get_spread = get_current_spread

    def get_fair_value(self) -> Decimal:
        """Micro price: each side's price weighted by the other side's quantity, so that it leans away from
        the heavier side. The middle if both quantities are zero. Raises NoSignal."""
        bbo = self.get_latest_bbo()
        bid, ask = bbo.bid_price_x18, bbo.ask_price_x18
        weight = bbo.bid_qty_x18 + bbo.ask_qty_x18
        if not weight:
            return from_x18((bid + ask) // 2)
        return from_x18((bid * bbo.ask_qty_x18 + ask * bbo.bid_qty_x18) // weight)

    # ------------------------------------------------------------------ where it goes

    def get_spread_state(self) -> SpreadState:
        """WIDENING above 1.5 times the mean of the (at most 100) spreads before, NARROWING below half of it,
        else STABLE. Raises NoSignal before the tenth BBO."""
        self.get_latest_bbo()
        state = self._spread_state()
        if state is None:
            raise self._too_few(len(self._spreads), LEAST_SPREADS)
        return state

    def is_spread_widening(self) -> bool:
        """Raises NoSignal."""
        return self.get_spread_state() is SpreadState.WIDENING

    def get_momentum(self) -> Momentum:
        """BULLISH or BEARISH if over the last five BBOs both sides moved that way by more than momentum_bps,
        else NEUTRAL. Raises NoSignal before there are five."""
        self.get_latest_bbo()
        momentum = self._momentum()
        if momentum is None:
            raise self._too_few(len(self._prices), MOMENTUM_STEPS)
        return momentum

    detect_momentum = get_momentum

    # ------------------------------------------------------------------ parts

    def _spread_state(self) -> SpreadState | None:
        if len(self._spreads) < LEAST_SPREADS:
            return None
        last = self._spreads[-1]
        mean_x18 = (self._sum_x18 - last) / (len(self._spreads) - 1)
        if last > WIDE * mean_x18:
            return SpreadState.WIDENING
        return SpreadState.NARROWING if last < NARROW * mean_x18 else SpreadState.STABLE

    def _momentum(self) -> Momentum | None:
        if len(self._prices) < MOMENTUM_STEPS:
            return None
        then, now = self._prices[0], self._prices[-1]
        moves_bps = [(after - before) / before * 10_000 for before, after in zip(then, now, strict=True)]
        if min(moves_bps) > self._momentum_bps:
            return Momentum.BULLISH
        return Momentum.BEARISH if max(moves_bps) < -self._momentum_bps else Momentum.NEUTRAL

    def _too_few(self, seen: int, least: int) -> NoSignal:
        return NoSignal(f"product {self.product_id}: {seen} of {least} BBOs so far")
