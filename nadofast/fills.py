"""Fills by order: what each has got so far, and which of those that were expected has not come."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from . import wire
from .callbacks import Callbacks
from .events import OrderFillEvent, OrderUpdateEvent
from .products import from_x18, to_x18

TIMEOUT_S: Final = 30.0
MAX_ORDERS: Final = 10_000
MAX_KEYS: Final = 50_000
_NS: Final = 1_000_000_000


@dataclass(frozen=True, slots=True)
class OrderFillDetails:
    """One fill, and its order after it. Sizes and prices are exact, sizes positive; fee < 0 is a rebate.

    side: "buy" or "sell". filled_size, average_price, fees: of the order so far, by the fills that were seen.
    remaining_size: what the exchange says is left.
    """

    order_id: str
    product_id: int
    side: str
    size: Decimal
    price: Decimal
    fee: Decimal
    is_taker: bool
    timestamp_ns: int
    filled_size: Decimal
    average_price: Decimal
    fees: Decimal
    remaining_size: Decimal

    @property
    def is_complete(self) -> bool:
        return self.remaining_size == 0


@dataclass(frozen=True, slots=True)
class FillInfo:
    """What is known of one order. average_price: None before the first fill. remaining_size: None if neither
    an order size nor a fill has been told."""

    order_id: str
    filled_size: Decimal
    average_price: Decimal | None
    fees: Decimal
    remaining_size: Decimal | None
    is_complete: bool
    """Nothing more will come: filled, or gone from the book."""


@dataclass(slots=True)
class _Order:
    tracked_ns: int
    size_x18: int | None = None
    filled_x18: int = 0
    value_x36: int = 0
    fees_x18: int = 0
    left_x18: int | None = None
    is_cancelled: bool = False

    def average_x18(self) -> int:
        return self.value_x36 // self.filled_x18

    def remaining_x18(self) -> int | None:
        if self.left_x18 is None:
            return self.size_x18
        return self.left_x18

    def is_complete(self) -> bool:
        return self.is_cancelled or self.left_x18 == 0


Callback = Callable[[OrderFillDetails], object]


class NadoOrderFillHandler:
    """`feed.on("fill", handler.on_order_fill)`; with `feed.on("order_update", handler.on_order_update)` it
    knows of cancelled orders too. A fill that is told twice counts once.

    timeout_s: after that an order that is tracked and not complete is timed out: look for it. Methods that
    take an order id raise KeyError on one nobody has told of.
    """

    def __init__(
        self,
        callback: Callback | None = None,
        *,
        timeout_s: float = TIMEOUT_S,
        max_orders: int = MAX_ORDERS,
        clock_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self.callbacks = Callbacks(callback)
        self._timeout_ns = int(timeout_s * _NS)
        self._max_orders = max_orders
        self._clock_ns = clock_ns
        self._orders: dict[str, _Order] = {}
        self._keys: dict[tuple[str, int], None] = {}
        self.fills = 0
        self.duplicates = 0

    # ------------------------------------------------------------------ events

    def on_order_fill(self, event: OrderFillEvent) -> None:
        """Take one fill and tell the callbacks."""
        if event.key in self._keys:
            self.duplicates += 1
            return
        self._keys[event.key] = None
        if len(self._keys) > MAX_KEYS:
            del self._keys[next(iter(self._keys))]
        self.fills += 1
        order = self._order(event.order_digest)
        order.filled_x18 += event.filled_qty_x18
        order.value_x36 += event.filled_qty_x18 * event.price_x18
        order.fees_x18 += event.fee_x18
        _at_most(order, event.remaining_qty_x18)
        self.trigger_callback(self.extract_fill_details(event))

    def on_order_update(self, event: OrderUpdateEvent) -> None:
        """Take note of the end of an order that is known here."""
        order = self._orders.get(event.digest)
        if order is not None and event.reason == wire.REASON_CANCELLED:
            order.is_cancelled = True

    def extract_fill_details(self, event: OrderFillEvent) -> OrderFillDetails:
        """The fill in plain terms, with the sums of its order; KeyError if the order is not known here."""
        order = self._orders[event.order_digest]
        return OrderFillDetails(
            order_id=event.order_digest,
            product_id=event.product_id,
            side="buy" if event.is_bid else "sell",
            size=from_x18(event.filled_qty_x18),
            price=from_x18(event.price_x18),
            fee=from_x18(event.fee_x18),
            is_taker=event.is_taker,
            timestamp_ns=event.timestamp_ns,
            filled_size=from_x18(order.filled_x18),
            average_price=from_x18(order.average_x18()),
            fees=from_x18(order.fees_x18),
            remaining_size=from_x18(event.remaining_qty_x18),
        )

    def register_callback(self, callback: Callback) -> Callable[[], None]:
        """Call it with every fill. Returns a function that ends it."""
        return self.callbacks.add(callback)

    def trigger_callback(self, details: OrderFillDetails) -> None:
        """Tell all callbacks; an exception of one is logged and counted, and stops no other."""
        self.callbacks.tell(details)

    # ------------------------------------------------------------------ orders

    def track_order(self, order_id: str, size: Decimal | None = None) -> None:
        """Expect fills of an order from now on. size: what was ordered, positive."""
        order = self._order(order_id.lower())
        order.tracked_ns = self._clock_ns()
        if size is not None:
            order.size_x18 = to_x18(size)

    def is_pending(self, order_id: str) -> bool:
        """Fills may still come."""
        return not self._orders[order_id.lower()].is_complete()

    def is_timed_out(self, order_id: str) -> bool:
        """Not complete, and tracked for longer than the time-out."""
        order = self._orders[order_id.lower()]
        return not order.is_complete() and self._clock_ns() - order.tracked_ns > self._timeout_ns

    def get_fill_info(self, order_id: str) -> FillInfo:
        """Sums of an order so far. KeyError if nobody told of it."""
        order = self._orders[order_id.lower()]
        remaining = order.remaining_x18()
        return FillInfo(
            order_id=order_id.lower(),
            filled_size=from_x18(order.filled_x18),
            average_price=from_x18(order.average_x18()) if order.filled_x18 else None,
            fees=from_x18(order.fees_x18),
            remaining_size=None if remaining is None else from_x18(remaining),
            is_complete=order.is_complete(),
        )

    def cleanup_timeouts(self) -> list[str]:
        """Forget the orders that are timed out; which they were."""
        late = [order_id for order_id in self._orders if self.is_timed_out(order_id)]
        for order_id in late:
            del self._orders[order_id]
        return late

    def clear_completed(self) -> list[str]:
        """Forget the orders that are complete; which they were."""
        done = [order_id for order_id, order in self._orders.items() if order.is_complete()]
        for order_id in done:
            del self._orders[order_id]
        return done

    def _order(self, order_id: str) -> _Order:
        order = self._orders.get(order_id)
        if order is None:
            if len(self._orders) >= self._max_orders:
                done = (known for known, order in self._orders.items() if order.is_complete())
                del self._orders[next(done, next(iter(self._orders)))]
            order = self._orders[order_id] = _Order(self._clock_ns())
        return order


def _at_most(order: _Order, left_x18: int) -> None:
    """Fills may be told out of order: the least that was left is what is left."""
    order.left_x18 = left_x18 if order.left_x18 is None else min(order.left_x18, left_x18)
