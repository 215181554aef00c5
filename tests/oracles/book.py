"""The order book in plain dictionaries: slow, short, and written from the rules alone."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from nadofast.events import NO_ASK_X18, NO_BID_X18

Level = tuple[int, int]
MAX_LEVELS = 16384  # a side; the worst of more are dropped and the horizon says so


@dataclass(frozen=True)
class Depth:
    """One book_depth message."""

    product_id: int
    last_max: int
    max: int
    bids: tuple[Level, ...]
    asks: tuple[Level, ...]

    def as_json(self) -> dict[str, object]:
        """In the order of the exchange's own messages."""
        return {
            "type": "book_depth",
            "last_max_timestamp": str(self.last_max),
            "min_timestamp": str(self.max),
            "max_timestamp": str(self.max),
            "product_id": self.product_id,
            "bids": [[str(price), str(qty)] for price, qty in self.bids],
            "asks": [[str(price), str(qty)] for price, qty in self.asks],
        }


@dataclass
class OracleBook:
    """Same contract as OrderBook; `apply` returns a word instead of raising."""

    product_id: int
    bid_levels: dict[int, int] = field(default_factory=dict)
    ask_levels: dict[int, int] = field(default_factory=dict)
    timestamp: int = 0
    snapshot: int = 0
    joined: bool = False
    is_valid: bool = False
    bid_horizon: int | None = None
    ask_horizon: int | None = None

    def load(self, bids: Iterable[Level], asks: Iterable[Level], timestamp: int, depth: int = 100) -> None:
        shown_bids, shown_asks = list(bids), list(asks)
        self.bid_levels = {price: qty for price, qty in shown_bids if qty}
        self.ask_levels = {price: qty for price, qty in shown_asks if qty}
        self.timestamp = self.snapshot = timestamp
        self.joined = False
        self.is_valid = True
        self.bid_horizon = min(self.bid_levels, default=None) if len(shown_bids) >= depth else None
        self.ask_horizon = max(self.ask_levels, default=None) if len(shown_asks) >= depth else None
        self._trim()
        self._check_crossed()

    def apply(self, depth: Depth) -> str:
        """Strict: changed | same | ignored | gap | invalid. A crossed book counts as changed."""
        if not self.is_valid:
            return "invalid"
        if depth.max <= self.snapshot:
            return "ignored"
        expected = depth.last_max == self.timestamp if self.joined else depth.last_max <= self.timestamp
        return self._put(depth) if expected else self._gap()

    def apply_stream(self, depth: Depth) -> str:
        """As a receiver of overlapping links: known = ignored, overlap = applied, hole = gap."""
        if not self.is_valid:
            return "invalid"
        if depth.max <= self.timestamp:
            return "ignored"
        if depth.last_max > self.timestamp or (depth.last_max == 0 and self.timestamp > 0):
            return self._gap()
        return self._put(depth)

    def _gap(self) -> str:
        self.invalidate()
        return "gap"

    def _put(self, depth: Depth) -> str:
        before = (self.best_bid, self.best_ask)
        for levels, changes in ((self.bid_levels, depth.bids), (self.ask_levels, depth.asks)):
            for price, qty in changes:
                if qty:
                    levels[price] = qty
                else:
                    levels.pop(price, None)
        self.timestamp = depth.max
        self.joined = True
        self._check_crossed()
        self._trim()
        unchanged = self.is_valid and (self.best_bid, self.best_ask) == before
        return "same" if unchanged else "changed"

    def _check_crossed(self) -> None:
        if self.best_bid and self.best_ask and self.best_bid[0] >= self.best_ask[0]:
            self.invalidate()

    def _trim(self) -> None:
        if dropped := sorted(self.bid_levels)[: max(len(self.bid_levels) - MAX_LEVELS, 0)]:
            for price in dropped:
                del self.bid_levels[price]
            self.bid_horizon = max(min(self.bid_levels), self.bid_horizon or 0)
        if dropped := sorted(self.ask_levels)[MAX_LEVELS:]:
            for price in dropped:
                del self.ask_levels[price]
            worst = max(self.ask_levels)
            self.ask_horizon = worst if self.ask_horizon is None else min(worst, self.ask_horizon)

    def invalidate(self) -> None:
        self.bid_levels.clear()
        self.ask_levels.clear()
        self.bid_horizon = self.ask_horizon = None
        self.is_valid = False

    @property
    def best_bid(self) -> Level | None:
        return max(self.bid_levels.items(), default=None)

    @property
    def best_ask(self) -> Level | None:
        return min(self.ask_levels.items(), default=None)

    def bids(self) -> list[Level]:
        return sorted(self.bid_levels.items(), reverse=True)

    def asks(self) -> list[Level]:
        return sorted(self.ask_levels.items())

    @property
    def horizon(self) -> tuple[int, int]:
        bid = self.bid_horizon if self.bid_horizon is not None else min(self.bid_levels, default=NO_BID_X18)
        ask = self.ask_horizon if self.ask_horizon is not None else max(self.ask_levels, default=NO_ASK_X18)
        return bid, ask

    def known(self, side: str) -> list[Level]:
        """Levels inside the horizon, best first."""
        if side == "bid":
            return [
                level for level in self.bids() if self.bid_horizon is None or level[0] >= self.bid_horizon
            ]
        return [level for level in self.asks() if self.ask_horizon is None or level[0] <= self.ask_horizon]

    def vwap(self, side: str, qty: int) -> int | None:
        """Truncated average of taking qty from that side, None if the known part is too small."""
        rest, total = qty, 0
        for price, available in self.known(side):
            part = min(rest, available)
            total += price * part
            rest -= part
            if rest == 0:
                return total // qty
        return None
