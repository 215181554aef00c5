"""What `NadoClient` answers with, and the small sums around it. Decimals, as everywhere at the bot's edge."""

from __future__ import annotations

import asyncio
import functools
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final, ParamSpec, TypeVar

from nadofast.events import FillEvent, OrderUpdateEvent
from nadofast.orders import OrderState, TrackedOrder
from nadofast.products import from_x18
from nadofast.wire import REASON_FILLED

P = ParamSpec("P")
T = TypeVar("T")
_TIMEOUTS: Final = ((Decimal("0.1"), 5), (Decimal("0.5"), 10))
_LONGEST_S: Final = 20
_STATUS: Final = {
    OrderState.SIGNED: "SIGNED",
    OrderState.SENT: "SENT",
    OrderState.UNKNOWN: "UNKNOWN",
    OrderState.OPEN: "OPEN",
    OrderState.PARTIAL: "PARTIALLY_FILLED",
    OrderState.FILLED: "FILLED",
    OrderState.CANCELLED: "CANCELLED",
    OrderState.EXPIRED: "EXPIRED",
    OrderState.REJECTED: "REJECTED",
    OrderState.DENIED: "DENIED",
}


@dataclass(frozen=True, slots=True)
class OrderResult:
    """How a request ended. filled_size is cumulative and positive whatever the side, on every path."""

    success: bool
    order_id: str | None = None
    side: str | None = None
    size: Decimal | None = None
    price: Decimal | None = None
    status: str | None = None
    error_message: str | None = None
    filled_size: Decimal = Decimal(0)
    from_post_only: bool = False


@dataclass(frozen=True, slots=True)
class OrderInfo:
    """An order as far as it is known. status UNKNOWN says so: silence cancels nothing."""

    order_id: str
    side: str
    size: Decimal
    price: Decimal
    status: str
    filled_size: Decimal
    remaining_size: Decimal
    cancel_reason: str = ""
    avg_fill_price: Decimal | None = None


def status_of(order: TrackedOrder) -> str:
    """SIGNED, SENT, OPEN, PARTIALLY_FILLED, FILLED, CANCELLED, EXPIRED, REJECTED, DENIED or UNKNOWN."""
    return _STATUS[order.state]


def info_of(order: TrackedOrder) -> OrderInfo:
    size_x18, price_x18 = abs(order.amount_x18), order.avg_price_x18
    return OrderInfo(
        order_id=order.digest,
        side="buy" if order.is_buy else "sell",
        size=from_x18(size_x18),
        price=from_x18(order.price_x18),
        status=status_of(order),
        filled_size=from_x18(order.known_filled_x18),
        remaining_size=from_x18(order.remaining_x18),
        cancel_reason="" if order.error_code is None else f"error {order.error_code}",
        avg_fill_price=None if price_x18 is None else from_x18(price_x18),
    )


def result_of(order: TrackedOrder, *, is_success: bool, error: str = "") -> OrderResult:
    """How the request about this order ended. price: average of its fills, else its limit."""
    info = info_of(order)
    price = info.price if info.avg_fill_price is None else info.avg_fill_price
    return OrderResult(
        is_success, info.order_id, info.side, info.size, price, status_of(order),
        None if is_success else (error or info.cancel_reason or None), info.filled_size,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class OrderUpdate:
    """What happened to an order. reason: "placed", "filled" or "cancelled".

    filled_size: by this fill, 0 for the other two; price: of this fill. remaining_size: unfilled after it.
    side and price are None where the exchange does not say them.
    """

    order_id: str
    reason: str
    filled_size: Decimal
    remaining_size: Decimal
    price: Decimal | None
    timestamp_ns: int
    side: str | None = None


def update_of(event: FillEvent | OrderUpdateEvent) -> OrderUpdate | None:
    """The event as an update. None for an order update that says "filled": its fill tells price and size."""
    if isinstance(event, FillEvent):
        return OrderUpdate(
            event.order_digest, REASON_FILLED, from_x18(event.filled_qty_x18),
            from_x18(event.remaining_qty_x18), from_x18(event.price_x18), event.timestamp_ns,
            "buy" if event.is_bid else "sell",
        )  # fmt: skip
    if event.reason == REASON_FILLED:
        return None
    left = from_x18(event.amount_x18)
    return OrderUpdate(event.digest, event.reason, Decimal(0), left, None, event.timestamp_ns)


def extract_filled_quantity(result: Any) -> Decimal:
    """What a result says was filled. Anything that does not say so is 0: the size of an order is no fill, and
    no number is taken for x18 because it is large."""
    value = getattr(result, "filled_size", None)
    if isinstance(result, dict):
        value = result.get("filled_size")
    return abs(value) if isinstance(value, Decimal) and value.is_finite() else Decimal(0)


def calculate_timeout(quantity: Decimal, spread_state: str | None = None) -> int:
    """Seconds an order may rest: by size, halved (at least 3) while the spread widens, doubled (at most 30)
    while it narrows, as `NadoBBOHandler.get_spread_state` says."""
    spread_state = (spread_state or "").upper()
    base_s = next((seconds for limit, seconds in _TIMEOUTS if abs(quantity) <= limit), _LONGEST_S)
    if spread_state == "WIDENING":
        return max(3, base_s // 2)
    return min(30, base_s * 2) if spread_state == "NARROWING" else base_s


def calculate_slippage_bps(execution_price: Decimal, reference_price: Decimal) -> Decimal:
    """Distance between two prices in bps of the second, never negative; 0 without a reference."""
    if reference_price <= 0:
        return Decimal(0)
    return abs(execution_price - reference_price) / reference_price * 10_000


def query_retry(
    default_return: T,
    exception_type: type[Exception] | tuple[type[Exception], ...],
    max_attempts: int = 5,
    min_wait: float = 1,
    max_wait: float = 10,
    *,
    reraise: bool = False,
) -> Callable[[Callable[P, Awaitable[T]]], Callable[P, Awaitable[T]]]:
    """Try a query again with exponential, jittered pauses in seconds; after the last failure its default."""

    def decorate(query: Callable[P, Awaitable[T]]) -> Callable[P, Awaitable[T]]:
        @functools.wraps(query)
        async def attempt(*args: P.args, **kwargs: P.kwargs) -> T:
            for number in range(1, max_attempts + 1):
                try:
                    return await query(*args, **kwargs)
                except exception_type:
                    if number == max_attempts and reraise:
                        raise
                    if number < max_attempts:
                        ceiling_s = min(max_wait, min_wait * 2.0 ** (number - 1))
                        await asyncio.sleep(random.uniform(0.5, 1.0) * ceiling_s)
            return default_return

        return attempt

    return decorate
