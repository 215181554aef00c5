"""Where the account's events go: our fills to the ledger, everybody's to whoever has to know.

A fill of an order that nobody here has signed is never booked. It has moved a position all the same, and
that is an alarm: see `positions.PositionWatch`.
"""

from __future__ import annotations

from nadofast.events import FillEvent
from nadofast.feed import Feed
from nadofast.orders import OrderTracker

from .ledger import Ledger
from .reconcile import Reconciler


def book_events(feed: Feed, ledger: Ledger, tracker: OrderTracker, reconciler: Reconciler) -> None:
    """Fills go to the ledger first: whoever the tracker wakes finds the position up to date."""

    def on_fill(fill: FillEvent) -> None:
        if tracker.get(fill.order_digest) is None:
            reconciler.on_foreign_fill(fill)
        else:
            ledger.apply(fill)
        tracker.on_fill(fill)

    feed.on("fill", on_fill)
    feed.on("funding_payment", ledger.on_funding)
    feed.on("position_change", reconciler.on_position_change)
    feed.on("order_update", tracker.on_order_update)
    feed.on("boundary", lambda event: tracker.on_gap() if event.what in ("link_lost", "link_up") else None)
