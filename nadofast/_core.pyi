from collections.abc import Callable, Iterable
from typing import Any, Final

from ._bbo import Bbo
from ._book import Number, OrderBook
from ._parse import Readable
from .errors import ParseError
from .events import ControlReply, Event

# What became of a message: result of FeedCore.receive().
APPLIED: Final[int]  # market data, taken
DELIVERED: Final[int]  # an event or a reply, handed over
DUPLICATE: Final[int]  # seen before, or older than what is known
BUFFERED: Final[int]  # depth, waiting for a snapshot
GAP: Final[int]  # depth that broke the book (gap, crossed, engine start)
FOREIGN: Final[int]  # a product nobody asked for
UNKNOWN: Final[int]  # a kind this version does not know
PARSE_ERROR: Final[int]

def monotonic_ns() -> int:
    """CLOCK_MONOTONIC, the clock of every `*_ns` that is not an exchange time."""

class FeedCore:
    """Bytes of subscription messages in; books, BBOs, typed events out. Shared by all links of a feed.

    on_event(event): trades, account events (each once), candles, funding, liquidations, the first of
    every unknown kind. on_reply(ControlReply). on_gap(product_id, reason): once, when a valid book was
    broken by the stream. on_horizon(product_id): once per snapshot, when the touch comes near the end of
    the known range. on_callback_error(exc), on_parse_error(exc), on_slow_callback(callback, took_ns): for
    reporting.
    """

    def __init__(
        self,
        product_ids: Iterable[int],
        *,
        on_event: Callable[[Event], object] | None = None,
        on_reply: Callable[[ControlReply], object] | None = None,
        on_gap: Callable[[int, str], object] | None = None,
        on_horizon: Callable[[int], object] | None = None,
        on_callback_error: Callable[[Exception], object] | None = None,
        on_parse_error: Callable[[ParseError], object] | None = None,
        on_slow_callback: Callable[[Callable[[Any], object], int], object] | None = None,
    ) -> None: ...
    public_links: int
    """Bit set of the links whose public events without a key or an order (candles, funding, liquidations,
    all_bbo) are taken; a copy of one cannot be told."""
    @property
    def product_ids(self) -> tuple[int, ...]: ...
    def receive(self, data: Readable, now_ns: int, link: int = 0) -> int:
        """One whole uncompressed message; now_ns: its arrival (monotonic). Bad data is counted."""
    def book(self, product_id: int) -> OrderBook:
        """The live book. KeyError if the product is not one of this feed's."""
    def bbo(self, product_id: int) -> Bbo: ...
    def set_callback(
        self, kind: str, product_id: int | None, callback: Callable[[Any], object] | None
    ) -> None:
        """kind "best_bid_offer": callback(Bbo); "book_depth": callback(OrderBook). Both objects are live.

        None as product_id: the callback for all products, called after a product's own.
        """
    def leave(self, link: int) -> None:
        """A link is gone: the next one of that number has to join the books anew."""
    def begin(self, product_id: int, keep: bool = False) -> None:
        """Start synchronising: clear, invalid, buffer deltas. keep=True refreshes a valid book in place."""
    def load_snapshot(
        self,
        product_id: int,
        bids: Iterable[tuple[Number, Number]],
        asks: Iterable[tuple[Number, Number]],
        timestamp_ns: int,
        depth: int = 100,
    ) -> bool:
        """Join a snapshot with the buffered deltas. False: too old (or crossed), take a newer one."""
    def seed_bbo(
        self,
        product_id: int,
        bid_price_x18: int,
        ask_price_x18: int,
        *,
        bid_qty_x18: int = 0,
        ask_qty_x18: int = 0,
        timestamp_ns: int = 0,
        now_ns: int | None = None,
        source: str = "rest",
    ) -> bool:
        """Set a BBO from a query; a stream value of a later engine time replaces it.

        now_ns: when the query was sent. False: the stream has told something newer since.
        """
    def needs_snapshot(self, product_id: int) -> bool:
        """True while the product waits for a snapshot (first one, after a break, or for a refresh)."""
    def stats(self) -> dict[str, Any]: ...
