"""What the parts of the exchange share: its state, an engine step, and the way of an order into the book."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from .accounts import Accounts
from .clock import Clock
from .config import ExchangeConfig
from .engine import Book, Order
from .entry import EntryChecks
from .errors import ExchangeError
from .expiry import Expiries
from .health import Change, HealthRules
from .isolated import IsolatedMargin
from .products import QUOTE_PRODUCT_ID, Product
from .records import ExecuteRecord, History
from .requests import OrderType
from .steps import Step, StepWriter
from .x18 import NS_PER_S, mul_x18

ACTIVE: Final = "active"
NEVER_S: Final = (1 << 32) - 1


class Core:
    """Single-threaded; nothing here waits.

    on_step is called once per engine step that changed anything, before the request that caused it returns.
    status: what the `status` query claims; executes are refused unless it is `active`.
    """

    def __init__(self, config: ExchangeConfig, clock: Clock, on_step: Callable[[Step], None]) -> None:
        self.config = config
        self.clock = clock
        self.status = ACTIVE
        self.products: dict[int, Product] = {p.product_id: p for p in config.products}
        self.books: dict[int, Book] = {
            product_id: Book(product_id) for product_id in self.products if product_id != QUOTE_PRODUCT_ID
        }
        self.accounts = Accounts(config.products)
        self.health = HealthRules(self.products, self.accounts)
        self.isolated = IsolatedMargin(self.accounts, self.health)
        self.history = History(config.history_limit)
        self.checks = EntryChecks(config, clock, self.products, self.books, self.accounts, self.isolated)
        self.writer = StepWriter(
            config, self.products, self.books, self.accounts, self.isolated, self.history
        )
        self.link_changes: dict[str, deque[int]] = {}  # ns of each, newest last, by subaccount
        self.last_step_ns = clock.step_ns()
        self._expiries = Expiries()
        self._on_step = on_step

    # ---- steps

    @contextmanager
    def step(self) -> Iterator[None]:
        """One engine step: expiries first, then the body; published even if the body ends in a refusal."""
        self.expire()
        self.writer.begin(self.clock.step_ns())
        try:
            yield
        finally:
            self._publish()

    def expire(self) -> None:
        """Take resting orders whose expiration has passed off the books, in a step of their own."""
        now_s = self.clock.now_ns() // NS_PER_S
        if not self._expiries.is_due(now_s):
            return
        self.writer.begin(self.clock.step_ns())
        for order in self._expiries.pop_due(now_s):
            self.books[order.product_id].remove(order)
            self.writer.ended(order, "expired")
        self._publish()

    def _publish(self) -> None:
        step = self.writer.finish()
        if not step.is_empty:
            self.last_step_ns = step.timestamp_ns
            self._on_step(step)

    # ---- executes

    def require_active(self) -> None:
        if self.status != ACTIVE:
            raise ExchangeError(self.config.maintenance_code)

    @contextmanager
    def outcome(self, record: ExecuteRecord, *, is_last: bool) -> Iterator[None]:
        """Note how an execute ended."""
        try:
            yield
        except ExchangeError as error:
            record.error_code = error.code
            record.is_done = True
            raise
        if is_last:
            record.is_done = True

    # ---- orders; inside a step

    def cancel(self, orders: list[Order], why: str = "cancelled") -> None:
        for order in orders:
            self.books[order.product_id].remove(order)
            self.writer.ended(order, why)

    def quantity_x18(self, order: Order) -> int:
        """What the order may trade now: all of it, or for reduce-only no more than the opposite position."""
        if not order.reduce_only:
            return order.remaining_x18
        position = self.isolated.position_x18(order)
        if position == 0 or (position > 0) == order.is_buy:
            raise ExchangeError(2064)
        step = self.products[order.product_id].size_increment_x18
        return min(order.remaining_x18, abs(position) // step * step)

    def require_means(self, order: Order, quantity_x18: int) -> None:
        """Open interest, and health as if the order filled at its own price, the worst it can get."""
        base = quantity_x18 if order.is_buy else -quantity_x18
        self._require_open_interest(order, base)
        refusal = self.isolated.refusal(order, Change(base, -mul_x18(base, order.price_x18)))
        if refusal:
            raise ExchangeError(refusal)

    def match(self, order: Order, quantity_x18: int) -> None:
        """Order type rules: trade, rest, or die. Raises ExchangeError when nothing of it came to be."""
        book = self.books[order.product_id]
        start_x18 = order.remaining_x18
        failure: int | None = None
        if order.order_type is OrderType.POST_ONLY:
            if book.crosses(order):
                raise ExchangeError(2008)
        elif order.order_type is OrderType.FOK and not book.can_fill(order, quantity_x18, self.writer):
            failure = 2031
        else:
            book.take(order, quantity_x18, self.writer)
        if order.remaining_x18 == 0:
            return
        if not order.order_type.is_taker:
            book.rest(order)
            self.writer.placed(order)
            if not order.account.is_house or order.expiration_s < NEVER_S:
                self._expiries.add(order)
            return
        if order.remaining_x18 == start_x18:
            failure = failure or 2056
        self._kill(order, failure)

    def _kill(self, order: Order, failure: int | None) -> None:
        """End a taker order with something left. failure: code if none of it traded."""
        why = {None: "remainder", 2031: "not_fillable", 2056: "no_cross"}[failure]
        answer = self.config.kill_answer if failure is not None else "event"
        self.writer.ended(order, why, is_told=answer != "failure")
        if failure is not None and answer != "event":
            raise ExchangeError(failure)

    def _require_open_interest(self, order: Order, base_x18: int) -> None:
        """2070: the product's open interest, both sides valued at the oracle price, is at its cap."""
        cap = self.products[order.product_id].max_open_interest_x18
        if cap is None or order.reduce_only:
            return
        state = self.accounts.states[order.product_id]
        held = self.isolated.position_x18(order)
        added = abs(held + base_x18) - abs(held)
        if added > 0 and mul_x18(state.open_interest_x18 + added, state.oracle_price_x18) > cap:
            raise ExchangeError(2070)
