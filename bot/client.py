"""`NadoClient`: one product's exchange interface. It cannot be built without a gate.

Both clients of the pair are views on one feed and one gateway: two products, one set of sockets.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable
from decimal import Decimal
from typing import Any, Final

from nadofast.errors import NadoError
from nadofast.events import FillEvent
from nadofast.feed import Feed
from nadofast.gateway import OrderGateway, OrderRequest, Outcome, OutcomeKind
from nadofast.models import OpenOrder
from nadofast.orders import TrackedOrder
from nadofast.products import Product, from_x18, to_x18
from nadofast.signing import OrderType
from nadofast.timesync import TimeSync

from .execution import entry_price_x18, rest_price_x18
from .market import Market, Quote
from .order_results import OrderInfo, OrderResult, info_of, query_retry, status_of
from .reconcile import Reconciler
from .risk import CLIENT_ID_BASE, ApprovedOrder, Decision, OrderIntent, Purpose, RiskGate
from .waits import FillWaiter

IOC_TTL_S: Final = 60
REST_TTL_MS: Final = 30_000
IOC_CAP_BPS: Final = 20
POSITION_POLL_S: Final = 0.1
BBO_ATTEMPTS: Final = 3
# Orders placed through the methods by name: far from the tags of the pair's machine.
_TAGS: Final = itertools.count(1 << 36)
FillHandler = Callable[[str, Decimal, Decimal, int], object]
"""(order_id, filled_size, price, timestamp in ns)."""


class NadoClient:
    """Quotes and orders of one product. Raises TypeError when built without a risk gate.

    discard_ms: an entry that reaches the engine later than this is dropped there; 0 = as measured.
    """

    def __init__(
        self,
        product: Product,
        *,
        market: Market,
        gateway: OrderGateway,
        gate: RiskGate,
        timesync: TimeSync,
        discard_ms: int = 0,
        feed: Feed | None = None,
        reconciler: Reconciler | None = None,
    ) -> None:
        if not isinstance(gate, RiskGate):
            raise TypeError("NadoClient needs a RiskGate: no order leaves without one")
        self.product = product
        self._discard_ms = discard_ms
        self._market = market
        self._gateway = gateway
        self._gate = gate
        self._timesync = timesync
        self._feed = feed
        self._reconciler = reconciler
        self._leave: list[Callable[[], None]] = []

    @staticmethod
    def get_exchange_name() -> str:
        return "nado"

    def round_to_tick(self, price: Decimal) -> Decimal:
        """The nearest price on the tick grid; a half goes up."""
        price_x18, tick_x18 = to_x18(price), self.product.price_increment_x18
        return from_x18((price_x18 + tick_x18 // 2) // tick_x18 * tick_x18)

    def quote(self) -> Quote:
        """Touch and age now, from the stream, or from REST while the stream is down."""
        return self._market.quote(self.product.product_id)

    def approve(self, intent: OrderIntent) -> Decision:
        """Ask the gate. The decision is falsy with reasons when the order may not leave."""
        if intent.product_id != self.product.product_id:
            return Decision(None, (f"malformed: product {intent.product_id} is not {self.product.symbol}",))
        return self._gate.check(intent)

    def request(self, order: ApprovedOrder) -> OrderRequest:
        """An approved order in the gateway's terms. Raises OrderDenied while the clock offset is unknown."""
        intent = order.intent
        now_ms = self._timesync.exchange_now_ms()
        rests = intent.purpose is Purpose.REST
        # Whole seconds, rounded down: the order never outlives its time to live.
        expiration_s = (now_ms + intent.ttl_ms) // 1000 if rests else now_ms // 1000 + IOC_TTL_S
        return OrderRequest(
            product_id=intent.product_id,
            price_x18=intent.price_x18,
            amount_x18=intent.amount_x18,
            order_type=OrderType.POST_ONLY if rests else OrderType.IOC,
            reduce_only=intent.purpose is Purpose.TAKE,
            expiration_s=expiration_s,
            discard_after_ms=self._entry_discard_ms() if intent.discard else None,
            client_id=CLIENT_ID_BASE + intent.tag,
        )

    def _entry_discard_ms(self) -> int:
        """The configured time after which the engine drops an entry, or what the gateway measured."""
        return self._discard_ms or self._gateway.entry_discard_ms

    async def send(self, order: ApprovedOrder) -> Outcome:
        """Send one approved order."""
        return await self._gateway.place(self.request(order))

    async def cancel(self, digest: str) -> Outcome:
        """Ask for the end of one order. Only the exchange ends it: read the outcome."""
        return await self._gateway.cancel(self.product.product_id, digest)

    # ------------------------------------------------------------------ by name: connection

    def _streams(self) -> Feed:
        if self._feed is None:
            raise RuntimeError("this NadoClient was built without a feed")
        return self._feed

    def _books(self) -> Reconciler:
        if self._reconciler is None:
            raise RuntimeError("this NadoClient was built without a reconciler")
        return self._reconciler

    async def connect(self, timeout_s: float = 10.0) -> None:
        """Wait until books and the account stream are live. The sockets belong to the composition root."""
        await self._streams().wait_synced(timeout_s)

    async def disconnect(self) -> None:
        """Forget the handlers of this client; the shared sockets stay up for the other one."""
        while self._leave:
            self._leave.pop()()

    def get_connection_status(self) -> dict[str, Any]:
        """Whether fills come over the stream, the mode of the market data, and the way of the next order."""
        feed = self._streams()
        return {"websocket": feed.account_live, "mode": feed.mode.value, "orders": self._gateway.path}

    def setup_order_update_handler(self, handler: FillHandler) -> None:
        """Call handler(order_id, filled_size, price, timestamp_ns) on every fill of this product."""

        def on_fill(fill: FillEvent) -> None:
            if fill.product_id == self.product.product_id:
                size, price = from_x18(fill.filled_qty_x18), from_x18(fill.price_x18)
                handler(fill.order_digest, size, price, fill.timestamp_ns)

        self._leave.append(self._streams().on("fill", on_fill))

    # ------------------------------------------------------------------ by name: market and account

    async def get_contract_attributes(self) -> tuple[int, Decimal]:
        """(product id, tick size), as the exchange states them."""
        return self.product.product_id, from_x18(self.product.price_increment_x18)

    async def fetch_bbo_prices(self) -> tuple[Decimal, Decimal]:
        """(bid, ask) from the stream, else from REST; (0, 0) after three failures: no price to size by."""
        quote = self.quote()
        if quote.is_two_sided and self._streams().account_live:
            return from_x18(quote.bid_x18), from_x18(quote.ask_x18)
        return await self._bbo_over_rest()

    @query_retry((Decimal(0), Decimal(0)), NadoError, BBO_ATTEMPTS, 0.1, 1.0)
    async def _bbo_over_rest(self) -> tuple[Decimal, Decimal]:
        price = await self._books().rest.market_price(self.product.product_id)
        return from_x18(price.bid_x18 or 0), from_x18(price.ask_x18 or 0)

    async def get_order_price(self, direction: str) -> Decimal:
        """Where an order of this direction would rest now. Raises ValueError without two sides."""
        return from_x18(self._resting_price_x18(_sign(direction)))

    async def get_account_positions(self) -> Decimal:
        """The exchange's own signed cross position. Raises what REST raises."""
        return from_x18(await self._books().position_x18(self.product.product_id))

    # ------------------------------------------------------------------ by name: orders

    async def place_open_order(
        self, quantity: Decimal, direction: str, price: Decimal | None = None
    ) -> OrderResult:
        """A limit that takes up to `price` (default: the touch plus 20 bps) and dies if it cannot fill."""
        return await self.place_ioc_order(quantity, direction, price)

    async def place_ioc_order(
        self, quantity: Decimal, direction: str, price: Decimal | None = None
    ) -> OrderResult:
        """Enter by an IOC inside the cap, and wait for its end."""
        return await self._take(Purpose.ENTRY, quantity, direction, price)

    async def place_close_order(
        self, quantity: Decimal, price: Decimal | None, side: str, *, rests: bool = True
    ) -> OrderResult:
        """Leave: resting post-only at `price` (default: the touch), or reduce-only at once. The gate refuses
        what exceeds the position."""
        if not rests:
            return await self._take(Purpose.TAKE, quantity, side, price)
        side_x18 = _sign(side)
        price_x18 = self._resting_price_x18(side_x18) if price is None else to_x18(self.round_to_tick(price))
        return await self._place(Purpose.REST, side_x18 * to_x18(quantity), price_x18)

    async def cancel_order(self, order_id: str) -> OrderResult:
        """Cancel; filled_size is what had filled. Not successful when the exchange did not take it off."""
        outcome = await self.cancel(order_id)
        order = self._gateway.tracker.get(order_id)
        if order is None:
            return OrderResult(outcome.is_confirmed, order_id, error_message=outcome.reason or None)
        return _result(order, is_success=outcome.is_confirmed, error=outcome.reason)

    async def get_order_info(self, order_id: str) -> OrderInfo | None:
        """What is known of an own order, asked over REST if its end is not; None for a digest not ours."""
        order = self._gateway.tracker.get(order_id)
        if order is None:
            return None
        if not order.is_terminal:
            await self._books().ask(order)
        return info_of(order)

    async def get_active_orders(self) -> list[OrderInfo]:
        """Everything of this account on the product's book, whoever placed it. Raises what REST raises."""
        return [_info_of_row(row) for row in await self._books().resting(self.product.product_id)]

    async def wait_for_fill_websocket(self, order_id: str, timeout: float = 5.0) -> OrderResult:
        """Until the order has ended, by events, and by REST while they do not come."""
        order = self._gateway.tracker.get(order_id)
        if order is None:
            return OrderResult(False, order_id, status="UNKNOWN", error_message="not an order of ours")
        is_over = await self._waiter().wait(order, timeout)
        return _result(order, is_success=is_over and order.known_filled_x18 > 0)

    async def wait_for_fill(self, order_id: str, timeout: float = 10.0) -> OrderInfo | None:
        """As above, and at the end of the time the order is cancelled; what it filled until then is told."""
        order = self._gateway.tracker.get(order_id)
        if order is None:
            return None
        if not await self._waiter().wait(order, timeout):
            await self.cancel(order_id)
            await self._waiter().wait(order, 1.0)
        return info_of(order)

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

    # ------------------------------------------------------------------ inside

    def _waiter(self) -> FillWaiter:
        feed = self._streams()
        return FillWaiter(self._gateway.tracker, self._books().ask, lambda: feed.account_live)

    def _resting_price_x18(self, side: int) -> int:
        quote = self.quote()
        if not quote.is_two_sided:
            raise ValueError(f"{self.product.symbol}: no price on one side")
        return rest_price_x18(self.product, side, quote.bid_x18, quote.ask_x18)

    async def _take(
        self, purpose: Purpose, quantity: Decimal, direction: str, price: Decimal | None
    ) -> OrderResult:
        quote, side = self.quote(), _sign(direction)
        if price is None and not quote.is_two_sided:
            return OrderResult(False, side=direction, size=quantity, error_message="no price on one side")
        cap_x18 = entry_price_x18(self.product, side, quote.mid_x18, IOC_CAP_BPS)
        price_x18 = cap_x18 if price is None else to_x18(self.round_to_tick(price))
        placed = await self._place(purpose, side * to_x18(quantity), price_x18)
        if not placed.order_id or placed.status == "DENIED":
            return placed
        return await self.wait_for_fill_websocket(placed.order_id)

    async def _place(self, purpose: Purpose, amount_x18: int, price_x18: int) -> OrderResult:
        ttl_ms = REST_TTL_MS if purpose is Purpose.REST else 0
        intent = OrderIntent(
            next(_TAGS), 0, self.product.product_id, purpose, amount_x18, price_x18, ttl_ms,
            discard=not purpose.is_exit,
        )  # fmt: skip
        decision = self.approve(intent)
        if decision.order is None:
            return OrderResult(False, status="DENIED", error_message="; ".join(decision.reasons))
        outcome = await self.send(decision.order)
        order = self._gateway.tracker.get(outcome.digest)
        self._release_when_over(intent.tag, order)
        if order is None:
            return OrderResult(False, status="DENIED", error_message=outcome.reason)
        return _result(order, is_success=outcome.kind is OutcomeKind.CONFIRMED, error=outcome.reason)

    def _release_when_over(self, tag: int, order: TrackedOrder | None) -> None:
        """The gate counts the order until it is settled: what it may still add is not spent twice."""
        if order is None or order.is_settled:
            self._gate.release(tag)
            return

        def on_change(one: TrackedOrder) -> None:
            if one is order and order.is_settled:
                self._gate.release(tag)
                leave()

        leave = self._gateway.tracker.on_change(on_change)


def _sign(direction: str) -> int:
    """1 for buy, -1 for sell. Raises ValueError: a side that is not understood is never guessed."""
    try:
        return {"buy": 1, "sell": -1}[direction.lower()]
    except KeyError:
        raise ValueError(f"direction {direction!r} is neither buy nor sell") from None


def _result(order: TrackedOrder, *, is_success: bool, error: str = "") -> OrderResult:
    info = info_of(order)
    price = info.price if info.avg_fill_price is None else info.avg_fill_price
    return OrderResult(
        is_success, info.order_id, info.side, info.size, price, status_of(order),
        None if is_success else (error or info.cancel_reason or None), info.filled_size,
    )  # fmt: skip


def _info_of_row(row: OpenOrder) -> OrderInfo:
    size_x18, left_x18 = abs(row.amount_x18), abs(row.unfilled_x18)
    return OrderInfo(
        row.digest, "buy" if row.amount_x18 > 0 else "sell", from_x18(size_x18), from_x18(row.price_x18),
        "OPEN" if left_x18 == size_x18 else "PARTIALLY_FILLED",
        from_x18(size_x18 - left_x18), from_x18(left_x18),
    )  # fmt: skip
