from collections.abc import Iterable
from typing import Literal

from ._parse import Readable

Number = int | str
Side = Literal["buy", "sell", "ask", "bid", "asks", "bids"]

class OrderBook:
    """Level-2 book of one product: exact x18 integers, any price and size, on or off the tick grid.

    A book is valid or it is not. An invalid book holds no levels, so nothing can be read from it: best
    prices are None, lists are empty, amounts raise BookInvalid.
    """

    def __init__(self, product_id: int) -> None: ...
    @property
    def product_id(self) -> int: ...
    @property
    def timestamp_ns(self) -> int:
        """Engine time the book stands at; 0 before the first snapshot."""
    @property
    def is_valid(self) -> bool: ...
    @property
    def invalid_reason(self) -> str | None: ...
    @property
    def best_bid(self) -> tuple[int, int] | None:
        """(price_x18, qty_x18), None if there is no bid or the book is invalid."""
    @property
    def best_ask(self) -> tuple[int, int] | None: ...
    @property
    def mid_x18(self) -> int | None:
        """Half of bid + ask, truncated; None unless both sides have a level."""
    @property
    def spread_x18(self) -> int | None: ...
    @property
    def horizon(self) -> tuple[int, int]:
        """(lowest known bid, highest known ask): beyond, only levels that changed since are known.

        A side the snapshot showed completely has no hidden part: its horizon is its last level. An empty
        side gives the wire value of an empty side (0, 2**127 - 1).
        """
    @property
    def known_levels(self) -> tuple[int, int]:
        """Levels of bids and asks inside the horizon."""
    def load_snapshot(
        self,
        bids: Iterable[tuple[Number, Number]],
        asks: Iterable[tuple[Number, Number]],
        timestamp_ns: int,
        depth: int = 100,
    ) -> None:
        """Replace the book by a snapshot: (price_x18, qty_x18) in any order, int or decimal str.

        depth: levels a side that were asked for. A side that shows fewer is known completely. A crossed
        snapshot leaves the book invalid. ValueError on a negative number or a price given twice, and the
        book stays as it was.
        """
    def apply(self, data: Readable) -> bool:
        """Apply one raw book_depth message; True if the best bid or offer changed.

        Strict: a message at or before the snapshot is ignored (False), the first one after it must follow
        the snapshot or something older, each later one must follow its predecessor exactly. Otherwise
        SequenceGap, and the book is invalid. BookInvalid if it already was. ParseError, and ValueError for
        another product or kind: nothing changed. A message that crosses the book makes it invalid.
        """
    def bids(self, n: int) -> list[tuple[int, int]]:
        """At most n (price_x18, qty_x18), best first."""
    def asks(self, n: int) -> list[tuple[int, int]]: ...
    def qty_x18(self, side: Side, price_x18: int) -> int:
        """Total at one price, 0 if there is none."""
    def vwap_x18(self, side: Side, qty_x18: int) -> int:
        """Average price of taking qty_x18 now, truncated. "buy" walks the asks, "sell" the bids.

        InsufficientDepth if the side ends, or leaves its horizon, before; BookInvalid; ValueError if
        qty_x18 is not positive.
        """
    def slippage_bps(self, side: Side, qty_x18: int) -> float:
        """What vwap_x18 loses against the best price of that side, in basis points; 0.0 at the touch."""
    def liquidity_x18(self, side: Side, levels: int) -> int:
        """Quantity on the best `levels` levels, never counting beyond the horizon. BookInvalid."""
    def clear(self) -> None:
        """Empty and invalid, as a new connection starts."""
    def __len__(self) -> int:
        """Levels of both sides."""
