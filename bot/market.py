"""The market as the strategy sees it: touch, age, last mark and visible liquidity, by product id."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from nadofast.fallback import ConnectionMode
from nadofast.feed import Feed
from nadofast.products import Product, mul_x18

from .execution import Depth
from .units import bps_of

LIQUIDITY_LEVELS: Final = 20
DEPTH_LEVELS: Final = 20
FOREVER_MS: Final = 10**9


@dataclass(frozen=True, slots=True)
class Quote:
    """Touch prices now; 0 where a side is empty or nothing came yet. age_ms: since the link last spoke, or on
    REST since the product was asked for."""

    bid_x18: int
    ask_x18: int
    age_ms: int

    @property
    def is_two_sided(self) -> bool:
        return 0 < self.bid_x18 < self.ask_x18

    @property
    def mid_x18(self) -> int:
        return (self.bid_x18 + self.ask_x18) // 2 if self.is_two_sided else 0

    @property
    def spread_bps(self) -> Decimal:
        return bps_of(self.ask_x18 - self.bid_x18, self.mid_x18) if self.is_two_sided else Decimal(0)


class Market:
    """Views on one feed. A mark is the last two-sided mid: it outlives an empty book side."""

    def __init__(self, feed: Feed, products: tuple[Product, Product]) -> None:
        self._feed = feed
        self.products = products
        self._marks_x18: dict[int, int] = {}

    def quote(self, product_id: int) -> Quote:
        """Touch now, from the stream, or from REST while the stream is down.

        Age: a best price is sent when it changes, so that of a quiet product is old and right, and its age on
        the stream is that of the link. Whether the product is quiet or its stream dead is the feed's to find
        out: after five seconds without a word it compares with a snapshot, and cuts the link if the market
        has moved. What is polled is as old as its own last answer.
        """
        bbo = self._feed.bbo(product_id)
        whose = product_id if self._feed.mode is ConnectionMode.REST else None
        age_ms = int(min(self._feed.last_data_age_ms(whose), FOREVER_MS))
        if not bbo.is_set:
            return Quote(0, 0, age_ms)
        quote = Quote(
            bbo.bid_price_x18 if bbo.has_bid else 0, bbo.ask_price_x18 if bbo.has_ask else 0, age_ms
        )
        if quote.is_two_sided:
            self._marks_x18[product_id] = quote.mid_x18
        return quote

    @property
    def marks_x18(self) -> dict[int, int]:
        """Last mids by product id, brought up to date; a product without any price yet is missing."""
        for product in self.products:
            self.quote(product.product_id)
        return dict(self._marks_x18)

    def is_book_valid(self, product_id: int) -> bool:
        return self._feed.book(product_id).is_valid

    def depth(self, product_id: int) -> Depth:
        """The best levels of both sides; none while the book is not valid."""
        book = self._feed.book(product_id)
        return Depth(tuple(book.bids(DEPTH_LEVELS)), tuple(book.asks(DEPTH_LEVELS)))

    def liquidity_x18(self, product_id: int, amount_x18: int) -> int:
        """Quote visible against an order of this sign on the best levels; 0 while the book is invalid."""
        book = self._feed.book(product_id)
        levels = book.asks(LIQUIDITY_LEVELS) if amount_x18 > 0 else book.bids(LIQUIDITY_LEVELS)
        return sum(mul_x18(price_x18, qty_x18) for price_x18, qty_x18 in levels)
