"""The orders of a `NadoClient` by their historical names: placed, cancelled, waited for.

An event of the stream is what ends a wait; REST is asked while the stream is down, or says nothing.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from decimal import Decimal
from typing import Final

from nadofast.errors import OrderDenied
from nadofast.gateway import OutcomeKind
from nadofast.models import OpenOrder
from nadofast.orders import TrackedOrder
from nadofast.products import from_x18, to_x18
from nadofast.signing import OrderType

from .client_market import MarketNames
from .client_parts import sign_of
from .order_results import (
    OrderInfo,
    OrderResult,
    calculate_slippage_bps,
    calculate_timeout,
    extract_filled_quantity,
    info_of,
    result_of,
)
from .risk import OrderIntent, Purpose
from .units import sign
from .waits import FillWaiter

REST_TTL_MS: Final = 30_000
IOC_CAP_BPS: Final = 20
POSITION_POLL_S: Final = 0.1
CANCEL_SETTLE_S: Final = 1.0
# Orders placed through the methods by name: far from the tags of the pair's machine.
_TAGS: Final = itertools.count(1 << 36)
_CROSSING: Final = frozenset({OrderType.IOC, OrderType.FOK})


class OrderNames(MarketNames):
    """Placing, cancelling, waiting. Every result carries what was filled, positive whatever the side."""

    extract_filled_quantity = staticmethod(extract_filled_quantity)
    calculate_timeout = staticmethod(calculate_timeout)
    calculate_slippage_bps = staticmethod(calculate_slippage_bps)

    # ------------------------------------------------------------------ placing

    async def place_open_order(
        self,
        contract_id: int | str,
        quantity: Decimal,
        direction: str,
        price: Decimal | None = None,
        *,
        order_type: OrderType = OrderType.POST_ONLY,
    ) -> OrderResult:
        """Place an order at `price` (default: where it would rest) and tell what the exchange said to it. One
        that rests dies by itself after 30 s; IOC and FOK are over with the answer's fills: the end is waited
        for."""
        self._is_own(contract_id)
        side = sign_of(direction)
        price_x18 = self._resting_price_x18(side) if price is None else to_x18(self.round_to_tick(price))
        placed = await self._place(side * to_x18(quantity), price_x18, order_type)
        return await self._end_of(placed) if order_type in _CROSSING else placed

    async def place_limit_order(
        self, contract_id: int | str, quantity: Decimal, direction: str, price: Decimal
    ) -> OrderResult:
        """An ordinary limit: takes what is there up to `price`, and rests with the remainder for 30 s."""
        return await self.place_open_order(
            contract_id, quantity, direction, price, order_type=OrderType.DEFAULT
        )

    async def place_ioc_order(
        self, contract_id: int | str, quantity: Decimal, direction: str, price: Decimal | None = None
    ) -> OrderResult:
        """Take at once, up to `price` (default: 20 bps from the mid), and wait for the end."""
        if price is None:
            if not self.quote().is_two_sided:
                self._is_own(contract_id)
                return OrderResult(False, side=direction, size=quantity, error_message="no price on one side")
            price = from_x18(self._cap_x18(sign_of(direction), IOC_CAP_BPS))
        return await self.place_open_order(contract_id, quantity, direction, price, order_type=OrderType.IOC)

    async def place_close_order(
        self,
        contract_id: int | str,
        quantity: Decimal,
        price: Decimal | None,
        side: str,
        *,
        rests: bool = True,
    ) -> OrderResult:
        """Leave: resting post-only at `price` (default: the touch), or reduce-only at once (default: up to 20
        bps). DENIED if it is not an exit: the gate refuses what exceeds the position."""
        self._is_own(contract_id)
        side_x18 = sign_of(side)
        if price is not None:
            price_x18 = to_x18(self.round_to_tick(price))
        elif rests:
            price_x18 = self._resting_price_x18(side_x18)
        else:
            price_x18 = self._cap_x18(side_x18, IOC_CAP_BPS)
        order_type = OrderType.POST_ONLY if rests else OrderType.IOC
        purpose = Purpose.REST if rests else Purpose.TAKE
        placed = await self._place(side_x18 * to_x18(quantity), price_x18, order_type, purpose)
        return placed if rests else await self._end_of(placed)

    async def _end_of(self, placed: OrderResult) -> OrderResult:
        """An order that crosses, once it is over; one that never left as it is."""
        if not placed.order_id or placed.status == "DENIED":
            return placed
        return await self.wait_for_fill_websocket(placed.order_id)

    def _purpose_of(self, amount_x18: int, *, rests: bool) -> Purpose:
        """What lies inside the opposite position takes exposure away; anything else adds some."""
        booked_x18 = 0 if self._reconciler is None else self._reconciler.booked_x18(self.product.product_id)
        if sign(amount_x18) != -sign(booked_x18) or abs(amount_x18) > abs(booked_x18):
            return Purpose.ENTRY
        return Purpose.REST if rests else Purpose.TAKE

    async def _place(
        self,
        amount_x18: int,
        price_x18: int,
        order_type: OrderType,
        purpose: Purpose | None = None,
        ttl_ms: int = REST_TTL_MS,
    ) -> OrderResult:
        rests = order_type not in _CROSSING
        purpose = purpose or self._purpose_of(amount_x18, rests=rests)
        intent = OrderIntent(
            next(_TAGS), 0, self.product.product_id, purpose, amount_x18, price_x18, ttl_ms if rests else 0,
            discard=not purpose.is_exit,
        )  # fmt: skip
        decision = self.approve(intent)
        if decision.order is None:
            return OrderResult(False, status="DENIED", error_message="; ".join(decision.reasons))
        tracker = self._gateway.tracker
        try:
            outcome = await self.send(decision.order, order_type)
        except OrderDenied as error:
            return OrderResult(False, status="DENIED", error_message=str(error))
        finally:  # whoever waited may have gone, and the order be on its way
            self._release_when_over(intent.tag, tracker.get(self._gate.digest_of(intent.tag)))
        order = tracker.get(outcome.digest)
        if order is None:
            return OrderResult(False, status="DENIED", error_message=outcome.reason)
        return result_of(order, is_success=outcome.kind is OutcomeKind.CONFIRMED, error=outcome.reason)

    def _release_when_over(self, tag: int, order: TrackedOrder | None) -> None:
        """The gate counts the order until it is settled: what it may still add is not spent twice. None: it
        never left."""
        if order is None or order.is_settled:
            self._gate.release(tag)
            return

        def on_change(one: TrackedOrder) -> None:
            if one is order and order.is_settled:
                self._gate.release(tag)
                leave()

        leave = self._gateway.tracker.on_change(on_change)

    # ------------------------------------------------------------------ cancelling and asking

    async def cancel_order(self, order_id: str) -> OrderResult:
        """Cancel; filled_size is what had filled. Not successful when the exchange did not take it off."""
        outcome = await self.cancel(order_id)
        order = self._gateway.tracker.get(order_id)
        if order is None:
            return OrderResult(outcome.is_confirmed, order_id, error_message=outcome.reason or None)
        return result_of(order, is_success=outcome.is_confirmed, error=outcome.reason)

    async def get_order_info(self, order_id: str) -> OrderInfo | None:
        """What is known of an own order, asked over REST if its end is not; None for a digest not ours."""
        order = self._gateway.tracker.get(order_id)
        if order is None:
            return None
        if not order.is_terminal:
            await self._books().ask(order)
        return info_of(order)

    async def get_active_orders(self, contract_id: int | str) -> list[OrderInfo]:
        """Everything of this account on the product's book, whoever placed it. Raises what REST raises."""
        self._is_own(contract_id)
        return [_info_of_row(row) for row in await self._books().resting(self.product.product_id)]

    # ------------------------------------------------------------------ waiting

    async def wait_for_fill_websocket(self, order_id: str, timeout: float = 5.0) -> OrderResult:
        """Until the order has ended, by events, and by REST while they do not come."""
        order = self._gateway.tracker.get(order_id)
        if order is None:
            return OrderResult(False, order_id, status="UNKNOWN", error_message="not an order of ours")
        is_over = await self._waiter().wait(order, timeout)
        return result_of(order, is_success=is_over and order.known_filled_x18 > 0)

    async def wait_for_fill(self, order_id: str, timeout: float = 10.0) -> OrderInfo | None:
        """As above, and at the end of the time the order is cancelled; what it filled until then is told."""
        order = self._gateway.tracker.get(order_id)
        if order is None:
            return None
        await self._wait_or_cancel(order, timeout)
        return info_of(order)

    async def _wait_or_cancel(self, order: TrackedOrder, timeout_s: float) -> bool:
        """True once the order has ended, by itself or by our cancel; False: how it stands is not known."""
        if await self._waiter().wait(order, timeout_s):
            return True
        await self.cancel(order.digest)
        return await self._waiter().wait(order, CANCEL_SETTLE_S)

    async def wait_for_fill_by_position(
        self,
        expected_quantity: Decimal,
        timeout: float = 10.0,
    ) -> tuple[bool, Decimal, Decimal]:
        """(whether the position has moved by the signed quantity since the call, by how much, mark price):
        for orders that left no trace. A sell expects a negative quantity."""
        wanted_x18 = to_x18(expected_quantity)
        if wanted_x18 == 0:
            raise ValueError("expected_quantity is zero: nothing to wait for")
        product_id, books = self.product.product_id, self._books()
        start_x18 = books.booked_x18(product_id)
        deadline_s, moved_x18 = time.monotonic() + timeout, 0
        while True:
            moved_x18 = await books.position_x18(product_id) - start_x18
            is_there = moved_x18 >= wanted_x18 if wanted_x18 > 0 else moved_x18 <= wanted_x18
            if is_there or time.monotonic() >= deadline_s:
                return is_there, from_x18(moved_x18), from_x18(self.quote().mid_x18)
            await asyncio.sleep(POSITION_POLL_S)

    def _waiter(self) -> FillWaiter:
        feed = self._streams()
        return FillWaiter(self._gateway.tracker, self._books().ask, lambda: feed.is_account_streamed)


def _info_of_row(row: OpenOrder) -> OrderInfo:
    size_x18, left_x18 = abs(row.amount_x18), abs(row.unfilled_x18)
    return OrderInfo(
        row.digest, "buy" if row.amount_x18 > 0 else "sell", from_x18(size_x18), from_x18(row.price_x18),
        "OPEN" if left_x18 == size_x18 else "PARTIALLY_FILLED",
        from_x18(size_x18 - left_x18), from_x18(left_x18),
    )  # fmt: skip
