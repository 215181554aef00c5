"""What a book says beyond its levels: liquidity, slippage, exit capacity, what others changed.

Only what is known is told: a book shows at most 100 levels a side at first, and beyond its horizon nothing is
invented. Prices and sizes are Decimal, amounts of changes x18.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, overload

from ._book import OrderBook
from .errors import InsufficientDepth, NoSignal
from .products import from_x18, to_x18

if TYPE_CHECKING:
    from ._parse import Readable

MAX_DEPTH: Final = 20
SUMMARY_LEVELS: Final = 5
EXIT_SLIPPAGE_BPS: Final = 20
_BPS: Final = 10_000
Level = tuple[Decimal, Decimal]
BookName = Literal["bid", "ask"]


class ExitCapacity(NamedTuple):
    """can_exit: the whole position fits. quantity: what fits inside the slippage, at most the position."""

    can_exit: bool
    quantity: Decimal


@dataclass(frozen=True, slots=True)
class BookSummary:
    """The top of a book. spread_bps: of the middle. liquidity: quantity on the levels shown. imbalance:
    (bid − ask liquidity) over both, from −1 to 1. known_levels: how many of each side are known at all."""

    product_id: int
    timestamp_ns: int
    bids: tuple[Level, ...]
    asks: tuple[Level, ...]
    mid: Decimal
    spread: Decimal
    spread_bps: float
    bid_liquidity: Decimal
    ask_liquidity: Decimal
    imbalance: float
    known_levels: tuple[int, int]


class _View(NamedTuple):
    """Quantities by price of the best levels of a side. edge_x18: the worst of these prices, negative for a
    bid; None if there are no others."""

    qty_x18: dict[int, int]
    edge_x18: int | None = None

    def shows(self, key_x18: int) -> bool:
        return self.edge_x18 is None or key_x18 <= self.edge_x18


class NadoBookDepthHandler:
    """Signals of one product's book: `feed.on("book_depth", handler.on_book_depth)`.

    Reads the live book: every method raises BookInvalid while it may not be read, and NoSignal where a side
    has no level to tell of. sides of orders are "buy" and "sell", sides of the book "bid" and "ask".
    """

    def __init__(self, book: OrderBook) -> None:
        self.book = book
        self.updates = 0
        self._last = {"bid": _View({}), "ask": _View({})}

    def on_book_depth(self, event: OrderBook | Readable) -> None:
        """Count a change of this handler's book. A raw book_depth message is applied to it first: for those
        who have no feed that does; raises what `OrderBook.apply` raises."""
        if not isinstance(event, OrderBook):
            self.book.apply(event)
            self.updates += 1
        else:
            self.updates += event is self.book

    # ------------------------------------------------------------------ levels

    def get_best_bid(self) -> Level:
        """(price, quantity). Raises NoSignal if there is no bid."""
        return self._level("bid", 0)

    def get_best_ask(self) -> Level:
        """(price, quantity) of the best ask; NoSignal without one."""
        return self._level("ask", 0)

    @overload
    def get_depth_at_level(self, level: int) -> tuple[Level, Level]: ...
    @overload
    def get_depth_at_level(self, level: int, side: BookName) -> Level: ...
    def get_depth_at_level(self, level: int, side: BookName | None = None) -> Level | tuple[Level, Level]:
        """One level, 0 the best: (price, quantity) of a side, or (bid, ask) without one.

        Raises NoSignal where the known book ends.
        """
        if level < 0:
            raise ValueError("level is not negative")
        if side is not None:
            return self._level(side, level)
        return self._level("bid", level), self._level("ask", level)

    def get_order_book_summary(self, max_levels: int = SUMMARY_LEVELS) -> BookSummary:
        """The best max_levels of both sides and what they say. Raises NoSignal if a side is empty."""
        if max_levels < 1:
            raise ValueError("max_levels is at least 1")
        known = self.book.known_levels
        self.get_depth_at_level(0)
        bids = self.book.bids(min(max_levels, known[0]))
        asks = self.book.asks(min(max_levels, known[1]))
        below, above = sum(qty for _, qty in bids), sum(qty for _, qty in asks)
        spread_x18, mid_x18 = asks[0][0] - bids[0][0], (asks[0][0] + bids[0][0]) // 2
        return BookSummary(
            product_id=self.book.product_id,
            timestamp_ns=self.book.timestamp_ns,
            bids=_decimals(bids),
            asks=_decimals(asks),
            mid=from_x18(mid_x18),
            spread=from_x18(spread_x18),
            spread_bps=spread_x18 / mid_x18 * _BPS,
            bid_liquidity=from_x18(below),
            ask_liquidity=from_x18(above),
            imbalance=(below - above) / (below + above),
            known_levels=known,
        )

    # ------------------------------------------------------------------ what an order would meet

    def get_available_liquidity(self, side: str, max_depth: int = MAX_DEPTH) -> Decimal:
        """Quantity on the best max_depth levels that an order of `side` would take; less than asked for where
        the book ends, never more than is known."""
        return from_x18(self.book.liquidity_x18(_order_side(side), max_depth))

    def estimate_slippage(self, side: str, quantity: Decimal) -> Decimal:
        """What taking `quantity` now costs against the best price, in basis points.

        Raises InsufficientDepth if the known book does not hold that much.
        """
        return Decimal(repr(self.book.slippage_bps(_order_side(side), to_x18(quantity))))

    def estimate_exit_capacity(
        self, position: Decimal, max_slippage_bps: Decimal | float = EXIT_SLIPPAGE_BPS
    ) -> ExitCapacity:
        """Whether a signed position could be closed now at an average price within max_slippage_bps of the
        best one, and how much of it could.

        Raises InsufficientDepth if the known book ends before either is certain: the rest may be there.
        """
        wanted_x18 = abs(to_x18(position))
        bound = Fraction(max_slippage_bps)
        if bound < 0:
            raise ValueError("max_slippage_bps is not negative")
        if wanted_x18 == 0:
            return ExitCapacity(True, Decimal(0))
        name: BookName = "bid" if position > 0 else "ask"
        self._level(name, 0)  # raises if there is nothing to trade with
        levels = self._known(name)
        fits_x18, is_bounded = _capacity(levels, bound, -1 if position > 0 else 1)
        if fits_x18 >= wanted_x18:
            return ExitCapacity(True, from_x18(wanted_x18))
        if not is_bounded:
            raise InsufficientDepth(self.book.product_id, wanted_x18, fits_x18)
        return ExitCapacity(False, from_x18(fits_x18))

    # ------------------------------------------------------------------ what others do

    def level_changes(
        self, levels: int, own_x18: Mapping[tuple[str, int], int] | None = None
    ) -> dict[tuple[str, int], int]:
        """Changes of quantity, in x18, on the best `levels` levels since the last call, by (side, price_x18),
        side "bid" or "ask". A price that was beyond them then, or is now, is left out: it may have changed in
        view or out of it. own_x18: our own resting quantities now, which are taken off first: what is left is
        what others did. Raises BookInvalid."""
        if levels < 1:
            raise ValueError("levels is at least 1")
        own = own_x18 or {}
        self._readable()
        changes = {}
        for side, read, away in (("bid", self.book.bids, -1), ("ask", self.book.asks, 1)):
            before, rows = self._last[side], read(levels)
            after = _View(
                {price: qty - own.get((side, price), 0) for price, qty in rows},
                rows[-1][0] * away if len(rows) == levels else None,
            )
            for price in before.qty_x18.keys() | after.qty_x18.keys():
                changed = after.qty_x18.get(price, 0) - before.qty_x18.get(price, 0)
                if changed and before.shows(price * away) and after.shows(price * away):
                    changes[side, price] = changed
            self._last[side] = after
        return changes

    # ------------------------------------------------------------------ parts

    def _readable(self) -> None:
        """Raises BookInvalid."""
        self.book.liquidity_x18("buy", 1)

    def _known(self, side: BookName) -> list[tuple[int, int]]:
        bids, asks = self.book.known_levels
        return self.book.bids(bids) if side == "bid" else self.book.asks(asks)

    def _level(self, side: BookName, level: int) -> Level:
        self._readable()
        bids, asks = self.book.known_levels
        if side not in ("bid", "ask"):
            raise ValueError(f"a side of the book is bid or ask, not {side!r}")
        if level >= (bids if side == "bid" else asks):
            raise NoSignal(f"product {self.book.product_id}: no known {side} at level {level}")
        found = (self.book.bids if side == "bid" else self.book.asks)(level + 1)
        price, qty = found[level]
        return from_x18(price), from_x18(qty)


def _capacity(levels: list[tuple[int, int]], bound_bps: Fraction, away: int) -> tuple[int, bool]:
    """(quantity that can be taken at an average within the bound, whether the bound is what ends it).

    away: +1 if prices rise away from the best, -1 if they fall. Exact: the average of quantity q that reaches
    into a level of price p is within a limit L as long as q · |p − L| ≤ what better levels have left over.
    """
    limit = Fraction(levels[0][0]) * (1 + away * bound_bps / _BPS)
    taken, spare = 0, Fraction(0)
    for price, qty in levels:
        beyond = away * (price - limit)
        if beyond > 0 and qty * beyond > spare:
            return taken + int(spare / beyond), True
        taken += qty
        spare -= qty * beyond
    return taken, False


def _decimals(levels: list[tuple[int, int]]) -> tuple[Level, ...]:
    return tuple((from_x18(price), from_x18(qty)) for price, qty in levels)


def _order_side(side: str) -> Literal["buy", "sell"]:
    if side == "buy":
        return "buy"
    if side == "sell":
        return "sell"
    raise ValueError(f"side is buy or sell, not {side!r}")
