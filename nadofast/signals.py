"""What a BBO and a book say beyond their numbers: spread, fair value, momentum, liquidity, slippage.

Signals are for deciding and showing, not for accounts: prices are Decimal, ratios float. A signal that cannot
be told raises; there is no value that means "no data" and reads as "fine".
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from decimal import Decimal
from enum import StrEnum
from statistics import median
from typing import Final, Literal, Protocol

from ._book import OrderBook
from .errors import NoSignal
from .events import NO_ASK_X18, NO_BID_X18
from .products import from_x18

SPREADS_KEPT: Final = 64
FAIR_VALUES_KEPT: Final = 32
LEAST_VALUES: Final = 8
"""Values before a change of them means anything."""


class Quote(Protocol):
    """A live Bbo or a BBOEvent."""

    @property
    def product_id(self) -> int: ...
    @property
    def bid_price_x18(self) -> int: ...
    @property
    def bid_qty_x18(self) -> int: ...
    @property
    def ask_price_x18(self) -> int: ...
    @property
    def ask_qty_x18(self) -> int: ...


class Momentum(StrEnum):
    BULLISH = "bullish"
    BEARISH = "bearish"
    NEUTRAL = "neutral"


class NadoBBOHandler:
    """Signals of one product's best bid and offer: `feed.on("best_bid_offer", handler.on_bbo)`.

    widening_ratio: a spread above this multiple of the recent median is widening. momentum_bps: a fair value
    that far from the recent average has a direction.
    """

    def __init__(self, product_id: int, *, widening_ratio: float = 1.5, momentum_bps: float = 1.0) -> None:
        self.product_id = product_id
        self._widening_ratio = widening_ratio
        self._momentum_bps = momentum_bps
        self._quote: tuple[int, int, int, int] | None = None
        self._spreads: deque[int] = deque(maxlen=SPREADS_KEPT)
        self._fair_values: deque[int] = deque(maxlen=FAIR_VALUES_KEPT)

    def on_bbo(self, event: Quote) -> None:
        """Take a BBO of this product; others are left alone. One with an empty side ends every signal."""
        if event.product_id != self.product_id:
            return
        if event.bid_price_x18 == NO_BID_X18 or event.ask_price_x18 == NO_ASK_X18:
            self._quote = None
            return
        self._quote = (event.bid_price_x18, event.bid_qty_x18, event.ask_price_x18, event.ask_qty_x18)
        self._spreads.append(event.ask_price_x18 - event.bid_price_x18)
        self._fair_values.append(self._fair_x18())

    def get_current_spread(self) -> Decimal:
        """Ask − bid. Raises NoSignal."""
        bid, _, ask, _ = self._known()
        return from_x18(ask - bid)

    def get_fair_value(self) -> Decimal:
        """Micro price: each side's price weighted by the other side's quantity, so that it leans away from
        the heavier side. The middle if both quantities are zero. Raises NoSignal."""
        self._known()
        return from_x18(self._fair_x18())

    def is_spread_widening(self) -> bool:
        """The spread is above `widening_ratio` times the median of those before it. Raises NoSignal."""
        self._known()
        *before, last = self._enough(self._spreads)
        return last > self._widening_ratio * median(before)

    def detect_momentum(self) -> Momentum:
        """Where the fair value stands against the average of those before it, in steps of `momentum_bps`.

        Raises NoSignal.
        """
        self._known()
        *before, last = self._enough(self._fair_values)
        average = sum(before) / len(before)
        moved_bps = (last - average) / average * 10_000
        if abs(moved_bps) < self._momentum_bps:
            return Momentum.NEUTRAL
        return Momentum.BULLISH if moved_bps > 0 else Momentum.BEARISH

    def _fair_x18(self) -> int:
        bid, bid_qty, ask, ask_qty = self._known()
        weight = bid_qty + ask_qty
        return (bid * ask_qty + ask * bid_qty) // weight if weight else (bid + ask) // 2

    def _known(self) -> tuple[int, int, int, int]:
        if self._quote is None:
            raise NoSignal(f"product {self.product_id}: no BBO with both sides")
        return self._quote

    def _enough(self, values: deque[int]) -> list[int]:
        if len(values) < LEAST_VALUES:
            raise NoSignal(f"product {self.product_id}: {len(values)} of {LEAST_VALUES} values so far")
        return list(values)


class NadoBookDepthHandler:
    """Signals of one product's book: `feed.on("book_depth", handler.on_book_depth)`.

    Reads the live book: every method raises BookInvalid while it may not be read.
    """

    def __init__(self, book: OrderBook) -> None:
        self.book = book
        self.updates = 0
        self._last: tuple[dict[int, int], dict[int, int]] = ({}, {})

    def on_book_depth(self, event: OrderBook) -> None:
        """Count a change of this handler's book."""
        self.updates += event is self.book

    def get_best_bid(self) -> tuple[Decimal, Decimal]:
        """(price, quantity). Raises NoSignal if there is no bid."""
        return self._level("bid", 0)

    def get_best_ask(self) -> tuple[Decimal, Decimal]:
        return self._level("ask", 0)

    def get_depth_at_level(self, level: int) -> tuple[tuple[Decimal, Decimal], tuple[Decimal, Decimal]]:
        """(bid, ask) of one level, 0 the best, each (price, quantity). Raises NoSignal
        where the known book ends."""
        if level < 0:
            raise ValueError("level is not negative")
        return self._level("bid", level), self._level("ask", level)

    def get_available_liquidity(self, side: str, max_depth: int) -> Decimal:
        """Quantity on the best `max_depth` levels that an order of `side` ("buy", "sell") would take; less
        than asked for where the book ends, never more than is known."""
        return from_x18(self.book.liquidity_x18(_side(side), max_depth))

    def estimate_slippage(self, side: str, quantity: Decimal) -> Decimal:
        """What taking `quantity` now costs against the best price, in basis points.

        Raises InsufficientDepth if the known book does not hold that much.
        """
        return Decimal(repr(self.book.slippage_bps(_side(side), int(quantity * 10**18))))

    def level_changes(
        self, levels: int, own_x18: Mapping[tuple[str, int], int] | None = None
    ) -> dict[tuple[str, int], int]:
        """Changes of quantity, in x18, on the best `levels` levels since the last call, by (side, price_x18),
        side "bid" or "ask". own_x18: our own resting quantities now, which are taken off first: what is left
        is what others did. Raises BookInvalid."""
        own = own_x18 or {}
        self.book.liquidity_x18("buy", 1)  # raises while the book may not be read
        now = tuple(
            {price: qty - own.get((side, price), 0) for price, qty in read(levels)}
            for side, read in (("bid", self.book.bids), ("ask", self.book.asks))
        )
        changes = {}
        for side, before, after in zip(("bid", "ask"), self._last, now, strict=True):
            for price in before.keys() | after.keys():
                if changed := after.get(price, 0) - before.get(price, 0):
                    changes[side, price] = changed
        self._last = (now[0], now[1])
        return changes

    def _level(self, side: str, level: int) -> tuple[Decimal, Decimal]:
        bids, asks = self.book.known_levels
        self.book.liquidity_x18("buy", 1)  # raises while the book may not be read
        if level >= (bids if side == "bid" else asks):
            raise NoSignal(f"product {self.book.product_id}: no known {side} at level {level}")
        found = (self.book.bids if side == "bid" else self.book.asks)(level + 1)
        price, qty = found[level]
        return from_x18(price), from_x18(qty)


def _side(side: str) -> Literal["buy", "sell"]:
    if side == "buy":
        return "buy"
    if side == "sell":
        return "sell"
    raise ValueError(f"side is buy or sell, not {side!r}")
