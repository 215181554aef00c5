"""Momentum and spread state of both legs, as the stream's best bid and offer tell them. For the records."""

from __future__ import annotations

from collections.abc import Callable

from nadofast.errors import NoSignal
from nadofast.feed import Feed
from nadofast.products import Product
from nadofast.signals import NadoBBOHandler, SpreadState


class PairSignals:
    """Follows both products from now on; `stop` ends it. "" stands for a signal that cannot be told.

    `look` takes what the touches are now, if they have changed: the records are worth no work per message.
    """

    def __init__(self, feed: Feed, products: tuple[Product, Product]) -> None:
        self._feed = feed
        self._handlers = [NadoBBOHandler(product.product_id) for product in products]
        self._seen = {product.product_id: (0, 0) for product in products}
        self._leave = [feed.on("boundary", handler.on_boundary) for handler in self._handlers]

    def look(self) -> None:
        """Called at every decision."""
        for handler in self._handlers:
            bbo = self._feed.bbo(handler.product_id)
            touch = (bbo.bid_price_x18, bbo.ask_price_x18)
            if bbo.is_set and touch != self._seen[handler.product_id]:
                self._seen[handler.product_id] = touch
                handler.on_bbo(bbo)

    def stop(self) -> None:
        while self._leave:
            self._leave.pop()()

    def momentum(self) -> tuple[str, str]:
        """bullish, bearish or neutral, by leg."""
        first, second = (_told(handler.get_momentum) for handler in self._handlers)
        return first, second

    def spread_state(self) -> str:
        """Of the pair: widening if either leg's spread is, narrowing if either is and none widens, else
        stable; "" while one of them is not known."""
        states = [_told(handler.get_spread_state) for handler in self._handlers]
        if "" in states:
            return ""
        for state in (SpreadState.WIDENING, SpreadState.NARROWING):
            if state.value in states:
                return state.value
        return SpreadState.STABLE.value


def _told(signal: Callable[[], str]) -> str:
    try:
        return str(signal())
    except NoSignal:
        return ""
