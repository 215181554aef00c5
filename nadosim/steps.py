"""One engine step: its stamp, what it changed, and the events it owes to accounts and to the public.

All events of a step share its timestamp. `StepWriter` books what happens into accounts and history and
writes it down; nothing else does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from .accounts import Accounts, PerpBalance, Subaccount
from .candles import GRANULARITIES_S, Candles
from .config import ExchangeConfig
from .engine import Book, Order, SideName, maker_change
from .events import (
    Event,
    candle_event,
    fill_event,
    order_update_event,
    position_change_event,
    trade_event,
)
from .fees import trade_fee_x18
from .health import Change
from .isolated import IsolatedMargin
from .products import QUOTE_PRODUCT_ID, Product
from .records import BalanceRecord, History, Match
from .statistics import Statistics
from .x18 import NS_PER_S, mul_x18


@dataclass(slots=True)
class Step:
    """Outcome of one engine step.

    private: (subaccount that hears of it, event) in order; order_update, fill and position_change.
    trades: one per match. public: latest_candlestick, liquidation, funding_payment, funding_rate.
    touched: levels that may have changed, by product; read the new totals with Exchange.level().
    """

    timestamp_ns: int
    private: list[tuple[str, Event]] = field(default_factory=list)
    trades: list[Event] = field(default_factory=list)
    public: list[Event] = field(default_factory=list)
    touched: dict[int, set[tuple[SideName, int]]] = field(default_factory=dict)

    @property
    def is_empty(self) -> bool:
        return not (self.private or self.trades or self.touched or self.public)


class StepWriter:
    """An engine Listener; also told of everything that moves balances without a match."""

    def __init__(
        self,
        config: ExchangeConfig,
        products: Mapping[int, Product],
        books: Mapping[int, Book],
        accounts: Accounts,
        isolated: IsolatedMargin,
        history: History,
    ) -> None:
        self._config = config
        self._products = products
        self._books = books
        self._accounts = accounts
        self._isolated = isolated
        self._history = history
        self._step = Step(0)
        self.submission_idx = 0
        self.candles = Candles()
        self.statistics = Statistics()

    @property
    def timestamp_ns(self) -> int:
        return self._step.timestamp_ns

    def begin(self, timestamp_ns: int) -> None:
        self._step = Step(timestamp_ns)

    def finish(self) -> Step:
        step = self._step
        for product_id, book in self._books.items():
            if book.has_touched:
                step.touched[product_id] = book.take_touched()
        if step.trades:
            for product_id in dict.fromkeys(trade["product_id"] for trade in step.trades):
                for granularity_s in GRANULARITIES_S:
                    candle = self.candles.latest(product_id, granularity_s)
                    assert candle is not None
                    step.public.append(candle_event(self._config, candle))
        return step

    def next_idx(self) -> int:
        """Index of the next transaction: a match, or anything else that moves balances."""
        self.submission_idx += 1
        return self.submission_idx

    # ---- engine.Listener

    def limit_x18(self, maker: Order, quantity_x18: int, planned: tuple[int, int]) -> int:
        if maker.account.is_house:
            return quantity_x18
        if maker.reduce_only:
            held = self._isolated.position_x18(maker) + planned[0]
            if held == 0 or (held > 0) == maker.is_buy:
                return 0
            increment = self._products[maker.product_id].size_increment_x18
            quantity_x18 = min(quantity_x18, abs(held) // increment * increment)
        base, quote = maker_change(maker, quantity_x18)
        change = Change(planned[0] + base, planned[1] + quote)
        return 0 if self._isolated.refusal(maker, change) else quantity_x18

    def matched(self, taker: Order, maker: Order, quantity_x18: int) -> None:
        idx = self.next_idx()
        step = self._step
        base, quote = maker_change(maker, quantity_x18)
        step.trades.append(trade_event(step.timestamp_ns, taker, maker, quantity_x18))
        self.candles.trade(
            taker.product_id, maker.price_x18, quantity_x18, step.timestamp_ns // NS_PER_S, idx
        )
        taker_fee = self._book_side(taker, maker, -base, -quote, maker.price_x18, is_taker=True)
        maker_fee = self._book_side(maker, taker, base, quote, maker.price_x18, is_taker=False)
        self.statistics.traded(taker.product_id, quantity_x18, abs(quote), maker_fee, taker_fee)

    def removed(self, order: Order, why: str) -> None:
        if why == "unfit":
            why = "reduce_only" if order.reduce_only else "health"
        self.ended(order, why)

    # ---- life of an order

    def placed(self, order: Order) -> None:
        """The order rests now."""
        if not order.account.is_house:
            self._order_update(order, "placed", order.remaining_x18)

    def ended(self, order: Order, why: str, *, is_told: bool = True) -> None:
        """The order is over without being filled completely; the account hears of it if is_told."""
        order.end = why
        if order.account.is_house:
            return
        self._history.finished(order)
        if is_told:
            left_x18 = order.remaining_x18 if self._config.cancelled_amount == "unfilled" else 0
            self._order_update(order, "cancelled", left_x18)

    # ---- balances

    def announce(self, event: Event) -> None:
        """An event for everybody."""
        self._step.public.append(event)

    def balance(self, account: Subaccount, product_id: int) -> PerpBalance:
        """The balance now, funding included; a spot balance has no quote of its own."""
        if self._products[product_id].is_perp:
            return self._accounts.effective(account, product_id)
        return PerpBalance(amount_x18=account.spot_x18(product_id))

    def changed(self, account: Subaccount, product_id: int, before: PerpBalance, reason: str) -> None:
        """A balance is not what it was: tell and record it. Simulated participants are not told."""
        if account.is_house:
            return
        after = self.balance(account, product_id)
        event = position_change_event(
            self._config,
            self._step.timestamp_ns,
            account,
            product_id,
            after.amount_x18,
            after.v_quote_x18,
            reason,
        )
        self._step.private.append((account.owner.id, event))
        self._history.balance_changed(
            BalanceRecord(
                account=account,
                product_id=product_id,
                submission_idx=self.submission_idx,
                timestamp_ns=self._step.timestamp_ns,
                kind=reason.removesuffix("_v2"),
                before=before,
                after=after,
                oracle_price_x18=self._accounts.states[product_id].oracle_price_x18,
            )
        )

    # ---- inside

    def _book_side(
        self, order: Order, other: Order, base_x18: int, quote_x18: int, price_x18: int, *, is_taker: bool
    ) -> int:
        """One side of a match: fee, balances, and for real accounts the events and the record."""
        product = self._products[order.product_id]
        fee = _fee_x18(product, order, base_x18, quote_x18, price_x18, is_taker=is_taker)
        if order.remaining_x18 == 0:
            order.end = "filled"
        if order.account.is_house:
            self._apply(order.account, product, base_x18, quote_x18 - fee)
            self._accounts.collect_fee(product.product_id, fee)
            return fee
        builder_fee = mul_x18(abs(quote_x18), order.builder_rate_x18) if order.builder_id else 0
        if builder_fee:
            self._accounts.collect_builder_fee(order.builder_id, builder_fee)
        self._accounts.collect_fee(product.product_id, fee)
        parent_before = self.balance(order.account, QUOTE_PRODUCT_ID)
        bearer = self._isolated.bearer(order)
        before = self.balance(bearer, product.product_id)
        quote_net = quote_x18 - fee - builder_fee
        self._apply(bearer, product, base_x18, quote_net)
        match = Match(
            order=order,
            counterparty=other,
            bearer=bearer,
            submission_idx=self.submission_idx,
            timestamp_ns=self._step.timestamp_ns,
            price_x18=price_x18,
            base_x18=base_x18,
            quote_net_x18=quote_net,
            fee_x18=fee,
            builder_fee_x18=builder_fee,
            is_taker=is_taker,
            before=before,
            after=self.balance(bearer, product.product_id),
            quote_before_x18=parent_before.amount_x18,
            quote_after_x18=bearer.quote_x18,
        )
        self._tell(match, parent_before)
        return fee

    def _apply(self, bearer: Subaccount, product: Product, base_x18: int, quote_x18: int) -> None:
        if product.is_perp:
            self._accounts.apply(bearer, product.product_id, base_x18, quote_x18)
        else:
            self._accounts.apply_spot(bearer, product.product_id, base_x18, quote_x18)

    def _tell(self, match: Match, parent_before: PerpBalance) -> None:
        """Events and records of one side; an isolated subaccount that became flat is closed."""
        order, bearer = match.order, match.bearer
        quantity = abs(match.base_x18)
        self._order_update(order, "filled", order.remaining_x18, (quantity, match.price_x18))
        fill = fill_event(
            self._config,
            match.timestamp_ns,
            order,
            bearer,
            quantity_x18=quantity,
            price_x18=match.price_x18,
            fee_x18=match.fee_x18,
            is_taker=match.is_taker,
            submission_idx=match.submission_idx,
        )
        self._step.private.append((order.account.id, fill))
        self._history.filled(match)
        self.changed(bearer, order.product_id, match.before, "match_orders")
        if bearer.is_isolated:
            self._isolated.close_if_flat(bearer)
        if order.account.quote_x18 != parent_before.amount_x18:
            self.changed(order.account, QUOTE_PRODUCT_ID, parent_before, "match_orders")
        if order.remaining_x18 == 0:
            self._history.finished(order)

    def _order_update(
        self, order: Order, reason: str, amount_x18: int, filled: tuple[int, int] | None = None
    ) -> None:
        event = order_update_event(self._config, self._step.timestamp_ns, order, reason, amount_x18, filled)
        self._step.private.append((order.account.id, event))


def _fee_x18(
    product: Product, order: Order, base_x18: int, quote_x18: int, price_x18: int, *, is_taker: bool
) -> int:
    """Fee of this side; the order's remainder is already reduced by the match."""
    if not is_taker:
        return trade_fee_x18(quote_x18, product.maker_fee_rate_x18, is_taker=False)
    filled_before = order.filled_x18 - abs(base_x18)
    signed_before = filled_before if order.is_buy else -filled_before
    return trade_fee_x18(
        quote_x18,
        product.taker_fee_rate_x18,
        is_taker=True,
        already_quote_x18=-mul_x18(signed_before, price_x18),
        is_first_match=filled_before == 0,
        min_size_x18=product.min_size_x18,
    )
