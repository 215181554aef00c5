"""Orders of a `NadoClient` that take several requests: a limit that grows impatient, a size that is sliced.

Both stop where an order's end is not known: what it may still fill is never ordered again.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final

from nadofast.errors import BookInvalid, NoSignal
from nadofast.orders import TrackedOrder
from nadofast.products import div_x18, from_x18, to_x18
from nadofast.signing import OrderType

from .client_orders import OrderNames
from .client_parts import sign_of
from .order_results import OrderResult, calculate_timeout
from .risk import Purpose
from .units import BPS, scale_bps

AGGRESSION_BPS: Final = 2
"""By so much more than the last time does each retry of a limit give in."""
LIMIT_TIMES: Final = 3
LONGEST_LIMIT_S: Final = 30
REST_GRACE_S: Final = 5
BOOK_CHANGE_S: Final = 0.25
SETTLE_S: Final = 0.5


@dataclass(slots=True)
class _Tally:
    """What the orders of one call did together, from their fills."""

    side: int
    target_x18: int
    orders: list[TrackedOrder] = field(default_factory=list)

    @property
    def filled_x18(self) -> int:
        return sum(order.known_filled_x18 for order in self.orders)

    @property
    def left_x18(self) -> int:
        """Signed."""
        return self.side * (self.target_x18 - self.filled_x18)

    @property
    def fees_x18(self) -> int:
        return sum(order.fee_x18 for order in self.orders)

    @property
    def average_price(self) -> Decimal | None:
        """Of the fills seen; None before the first."""
        base_x18 = sum(order.filled_x18 for order in self.orders)
        quote_x18 = sum(abs(order.quote_x18) for order in self.orders)
        return from_x18(div_x18(quote_x18, base_x18)) if base_x18 else None

    def result(self, status: str, error: str | None = None) -> OrderResult:
        """filled_size and price are of all orders, order_id is the last one's."""
        last = self.orders[-1].digest if self.orders else None
        return OrderResult(
            self.left_x18 == 0, last, "buy" if self.side > 0 else "sell", from_x18(self.target_x18),
            self.average_price, "FILLED" if self.left_x18 == 0 else status, error, from_x18(self.filled_x18),
        )  # fmt: skip


class RoutingNames(OrderNames):
    """Limits with a time, and market orders in slices."""

    async def place_limit_order_with_timeout(
        self,
        contract_id: int | str,
        quantity: Decimal,
        direction: str,
        price: Decimal | None = None,
        timeout_seconds: float | None = None,
        max_retries: int = 3,
    ) -> OrderResult:
        """A limit at `price` (default: where it would rest now); what is unfilled after the time is cancelled
        and tried again 2, 4, 6 bps closer to the other side. By default three times `calculate_timeout`, at
        most 30 s. status UNKNOWN: the end of the last order is not known, so nothing more was sent."""
        self._is_own(contract_id)
        side = sign_of(direction)
        base_x18 = self._resting_price_x18(side) if price is None else to_x18(self.round_to_tick(price))
        if timeout_seconds is None:
            timeout_seconds = min(
                LONGEST_LIMIT_S, LIMIT_TIMES * calculate_timeout(quantity, self._spread_state())
            )
        tally = _Tally(side, abs(to_x18(quantity)))
        for attempt in range(max_retries + 1):
            moved_x18 = scale_bps(base_x18, BPS + side * AGGRESSION_BPS * attempt)
            limit_x18 = self.product.round_price(moved_x18, "down" if side > 0 else "up")
            rests = self.product.meets_min_size(tally.left_x18, limit_x18)
            placed = await self._place(
                tally.left_x18,
                limit_x18,
                # A remainder below the minimum may not rest: it takes what is there.
                OrderType.DEFAULT if rests else OrderType.IOC,
                self._purpose_of_next(tally, rests=rests),
                ttl_ms=int((timeout_seconds + REST_GRACE_S) * 1000),
            )
            if (stop := await self._count(tally, placed, timeout_seconds)) is not None:
                return tally.result(stop, placed.error_message)
        return tally.result("EXPIRED", f"{max_retries} retries left {from_x18(abs(tally.left_x18))} unfilled")

    def _spread_state(self) -> str | None:
        """None while there are too few prices, or no `connect`."""
        try:
            return None if self._bbo_handler is None else self._bbo_handler.get_spread_state()
        except NoSignal:
            return None

    async def place_iterative_market_order(
        self,
        contract_id: int | str,
        target_quantity: Decimal,
        side: str,
        max_iterations: int = 20,
        max_slippage_bps: int = 5,
        tick_size: Decimal | int | None = None,
    ) -> dict[str, Any]:
        """Take a size in slices of what the book shows, each an IOC inside one cap measured from the mid on
        arrival: the price never walks away with the market.

        Returns total_filled, total_fees, average_price (None without a fill), iterations, success (the whole
        target) and reason. tick_size is the old caller's; the exchange's own counts.
        """
        self._is_own(contract_id)
        way = sign_of(side)
        cap_x18 = self._cap_x18(way, max_slippage_bps)
        tally = _Tally(way, abs(to_x18(target_quantity)))
        reason, iteration = "", 0
        while tally.left_x18 and not reason and iteration < max_iterations:
            iteration += 1
            reason = await self._slice(tally, cap_x18)
        if not reason and tally.left_x18:
            reason = f"{max_iterations} iterations"
        return {
            "total_filled": from_x18(tally.filled_x18),
            "total_fees": from_x18(tally.fees_x18),
            "average_price": tally.average_price,
            "iterations": iteration,
            "success": tally.left_x18 == 0,
            "reason": reason or "filled",
        }

    async def _slice(self, tally: _Tally, cap_x18: int) -> str:
        """Take what is visible inside the cap, then wait for a book that knows of it. Why to stop, if so."""
        book = self._streams().book(self.product.product_id)
        try:
            visible_x18 = self._inside_cap_x18(tally.side, cap_x18)
        except BookInvalid:
            visible_x18 = 0
        amount_x18 = self.product.round_size(tally.side * min(abs(tally.left_x18), visible_x18))
        seen_ns = book.timestamp_ns + 1
        if amount_x18:
            purpose = self._purpose_of_next(tally, rests=False)
            placed = await self._place(amount_x18, cap_x18, OrderType.IOC, purpose)
            stop = await self._count(tally, placed, SETTLE_S)
            if stop == "FILLED":
                return ""
            if stop not in (None, "REJECTED"):
                return placed.error_message or stop or ""
            seen_ns = max((fill.timestamp_ns for fill in tally.orders[-1].fills), default=seen_ns)
        await self._book_after(seen_ns)
        return ""

    def _purpose_of_next(self, tally: _Tally, *, rests: bool) -> Purpose:
        """The first order that adds exposure is judged as an entry; what completes it belongs to the same
        decision, and the lopsided position it finds is its own beginning."""
        purpose = self._purpose_of(tally.left_x18, rests=rests)
        return Purpose.HEDGE if purpose is Purpose.ENTRY and tally.filled_x18 else purpose

    async def _count(self, tally: _Tally, placed: OrderResult, timeout_s: float) -> str | None:
        """Wait for the end of an order and add what it filled. None: go on; else the status to stop with."""
        order = self._gateway.tracker.get(placed.order_id) if placed.order_id else None
        if order is None or placed.status == "DENIED":
            return "DENIED"
        tally.orders.append(order)
        is_over = await self._wait_or_cancel(order, timeout_s)
        if is_over and order.known_filled_x18 > order.filled_x18:
            await self._waiter().wait_settled(order, SETTLE_S)  # for price and fee
        if tally.left_x18 == 0:
            return "FILLED"
        if not is_over:
            return "UNKNOWN"
        return "REJECTED" if order.error_code is not None and order.known_filled_x18 == 0 else None

    async def _book_after(self, engine_ns: int) -> None:
        """Until this product's book is of this engine time or later, at most a quarter of a second."""
        book, changed = self._streams().book(self.product.product_id), asyncio.Event()
        off = self._streams().on("book_depth", lambda _: changed.set())
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(BOOK_CHANGE_S):
                    while book.timestamp_ns < engine_ns:
                        changed.clear()
                        await changed.wait()
        finally:
            off()
