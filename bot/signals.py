"""Momentum and spread state of both legs, as the stream's best bid and offer tell them. For the records."""

from __future__ import annotations

from collections.abc import Callable

from nadofast.errors import NoSignal
from nadofast.feed import Feed
from nadofast.products import Product
from nadofast.signals import NadoBBOHandler, SpreadState


class PairSignals:
    """Follows both products from now on; `stop` ends it. "" stands for a signal that cannot be told."""

    def __init__(self, feed: Feed, products: tuple[Product, Product]) -> None:
        self._handlers = [NadoBBOHandler(product.product_id) for product in products]
        self._leave: list[Callable[[], None]] = []
        for handler in self._handlers:
            self._leave.append(feed.on("best_bid_offer", handler.on_bbo))
            self._leave.append(feed.on("boundary", handler.on_boundary))

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
