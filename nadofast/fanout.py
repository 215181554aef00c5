"""Market data to its consumers: nothing in Python runs per message unless somebody asked for it."""

from __future__ import annotations

from . import wire
from ._bbo import Bbo
from ._book import OrderBook
from ._core import FeedCore
from .dispatch import NadoEventRouter
from .events import BBOEvent


class MarketFanOut:
    """Keeps the core's market callbacks in step with the callbacks and queues of a router."""

    def __init__(self, core: FeedCore, router: NadoEventRouter) -> None:
        self._core = core
        self._router = router

    def rewire(self) -> None:
        """After every change of consumers: a lone callback is called by the core itself."""
        for kind, fan_out in ((wire.BEST_BID_OFFER, self._bbo), (wire.BOOK_DEPTH, self._book)):
            callbacks = self._router.callbacks(kind)
            if self._router.has_readers(kind) or len(callbacks) > 1:
                self._core.set_callback(kind, None, fan_out)
            else:
                self._core.set_callback(kind, None, callbacks[0] if callbacks else None)

    def _bbo(self, bbo: Bbo) -> None:
        self._router.run_callbacks(wire.BEST_BID_OFFER, bbo)
        if self._router.has_readers(wire.BEST_BID_OFFER):
            event = BBOEvent(
                bbo.product_id,
                bbo.timestamp_ns,
                bbo.bid_price_x18,
                bbo.bid_qty_x18,
                bbo.ask_price_x18,
                bbo.ask_qty_x18,
            )
            self._router.queue(wire.BEST_BID_OFFER, event)

    def _book(self, book: OrderBook) -> None:
        self._router.publish_as(wire.BOOK_DEPTH, book)
