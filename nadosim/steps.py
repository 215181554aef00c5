"""One engine step: its stamp, what it changed, and the events it owes to accounts and to the public.

All events of a step share its timestamp (ns, decimal string). Quantities on the wire are x18 strings.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .accounts import Accounts, PerpBalance, Subaccount
from .engine import Book, Order, SideName, maker_change
from .fees import trade_fee_x18
from .health import Change, HealthRules
from .products import QUOTE_PRODUCT_ID, Product
from .records import History, Match
from .x18 import mul_x18

Event = dict[str, Any]


@dataclass(slots=True)
class Step:
    """Outcome of one engine step.

    private: (subaccount, event) in order; order_update, fill and position_change of real accounts.
    touched: levels that may have changed, by product; read the new totals with Exchange.level().
    """

    timestamp_ns: int
    private: list[tuple[str, Event]] = field(default_factory=list)
    trades: list[Event] = field(default_factory=list)
    public: list[Event] = field(default_factory=list)
    touched: dict[int, set[tuple[SideName, int]]] = field(default_factory=dict)

    @property
    def is_empty(self) -> bool:
        return not (self.private or self.trades or self.touched)


class StepWriter:
    """Books what the engine reports into accounts and history, and writes the step. An engine Listener."""

    def __init__(
        self,
        products: Mapping[int, Product],
        books: Mapping[int, Book],
        accounts: Accounts,
        rules: HealthRules,
        history: History,
    ) -> None:
        self._products = products
        self._books = books
        self._accounts = accounts
        self._rules = rules
        self._history = history
        self._submission_idx = 0
        self._step = Step(0)

    def begin(self, timestamp_ns: int) -> None:
        self._step = Step(timestamp_ns)

    def finish(self) -> Step:
        for product_id, book in self._books.items():
            touched = book.take_touched()
            if touched:
                self._step.touched[product_id] = touched
        return self._step

    # ---- engine.Listener

    def admits(self, maker: Order, base_x18: int, quote_x18: int) -> bool:
        if maker.account.is_house:
            return True
        return self._rules.allows(maker.account, maker.product_id, Change(base_x18, quote_x18))

    def matched(self, taker: Order, maker: Order, quantity_x18: int) -> None:
        self._submission_idx += 1
        base, quote = maker_change(maker, quantity_x18)
        self._trade(taker, maker, quantity_x18)
        self._book_side(taker, maker, -base, -quote, maker.price_x18, is_taker=True)
        self._book_side(maker, taker, base, quote, maker.price_x18, is_taker=False)

    def removed(self, order: Order, why: str) -> None:
        self.ended(order, why)

    # ---- life of an order

    def placed(self, order: Order) -> None:
        """The order rests now."""
        self._order_update(order, "placed", order.remaining_x18)

    def ended(self, order: Order, why: str, *, is_told: bool = True) -> None:
        """The order is over without being filled completely; the account hears of it if is_told."""
        order.end = why
        if order.account.is_house:
            return
        self._history.finished(order)
        if is_told:
            self._order_update(order, "cancelled", 0)

    def deposited(self, account: Subaccount) -> None:
        self._position_change(
            account, QUOTE_PRODUCT_ID, PerpBalance(amount_x18=account.quote_x18), "deposit_collateral"
        )

    # ---- inside

    def _book_side(
        self, order: Order, other: Order, base_x18: int, quote_x18: int, price_x18: int, *, is_taker: bool
    ) -> None:
        """One side of a match: fee, balances, and for real accounts the events and the record."""
        product = self._products[order.product_id]
        filled_before = order.filled_x18 - abs(base_x18)
        signed_before = filled_before if order.is_buy else -filled_before
        fee = trade_fee_x18(
            quote_x18,
            product.taker_fee_rate_x18 if is_taker else product.maker_fee_rate_x18,
            is_taker=is_taker,
            already_quote_x18=-mul_x18(signed_before, price_x18),
            is_first_match=filled_before == 0,
            min_size_x18=product.min_size_x18,
        )
        account = order.account
        before = None if account.is_house else self._accounts.effective(account, order.product_id)
        balance = self._accounts.apply(account, order.product_id, base_x18, quote_x18 - fee)
        self._accounts.collect_fee(order.product_id, fee)
        if order.remaining_x18 == 0:
            order.end = "filled"
        if before is None:
            return
        self._order_update(order, "filled", order.remaining_x18)
        self._fill(order, abs(base_x18), price_x18, fee, is_taker=is_taker)
        self._position_change(account, order.product_id, balance, "match_orders")
        self._history.filled(
            Match(
                order=order,
                counterparty=other,
                submission_idx=self._submission_idx,
                timestamp_ns=self._step.timestamp_ns,
                price_x18=price_x18,
                base_x18=base_x18,
                quote_net_x18=quote_x18 - fee,
                fee_x18=fee,
                is_taker=is_taker,
                before=before,
                after=self._accounts.effective(account, order.product_id),
            )
        )
        if order.remaining_x18 == 0:
            self._history.finished(order)

    def _trade(self, taker: Order, maker: Order, quantity_x18: int) -> None:
        self._step.trades.append(
            {
                "type": "trade",
                "timestamp": str(self._step.timestamp_ns),
                "product_id": taker.product_id,
                "price": str(maker.price_x18),
                "taker_qty": str(quantity_x18),
                "maker_qty": str(quantity_x18),
                "is_taker_buyer": taker.is_buy,
            }
        )

    def _order_update(self, order: Order, reason: str, amount_x18: int) -> None:
        if order.account.is_house:
            return
        event: Event = {
            "type": "order_update",
            "timestamp": str(self._step.timestamp_ns),
            "product_id": order.product_id,
            "digest": order.digest,
            "amount": str(amount_x18),
            "reason": reason,
        }
        self._private(order, event)

    def _fill(self, order: Order, quantity_x18: int, price_x18: int, fee_x18: int, *, is_taker: bool) -> None:
        event: Event = {
            "type": "fill",
            "timestamp": str(self._step.timestamp_ns),
            "product_id": order.product_id,
            "subaccount": order.account.id,
            "order_digest": order.digest,
            "appendix": str(order.appendix),
            "filled_qty": str(quantity_x18),
            "remaining_qty": str(order.remaining_x18),
            "original_qty": str(abs(order.amount_x18)),
            "price": str(price_x18),
            "is_taker": is_taker,
            "is_bid": order.is_buy,
            "fee": str(fee_x18),
            "submission_idx": str(self._submission_idx),
        }
        self._private(order, event)

    def _private(self, order: Order, event: Event) -> None:
        if order.client_id is not None:
            event["id"] = order.client_id
        self._step.private.append((order.account.id, event))

    def _position_change(
        self, account: Subaccount, product_id: int, balance: PerpBalance, reason: str
    ) -> None:
        event: Event = {
            "type": "position_change",
            "timestamp": str(self._step.timestamp_ns),
            "product_id": product_id,
            "subaccount": account.id,
            "isolated": False,
            "amount": str(balance.amount_x18),
            "v_quote_amount": str(balance.v_quote_x18),
            "reason": reason,
        }
        self._step.private.append((account.id, event))
