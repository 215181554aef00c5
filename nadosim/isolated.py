"""Isolated margin: one subaccount of its own per parent and product, born and buried by the engine.

It comes to life with the first match of an isolated order, which brings its margin along from the
parent's USDT0, once. When its position is closed, what is left goes back and the id is free again.
"""

from __future__ import annotations

from typing import Final

from .accounts import Accounts, Subaccount
from .engine import Order
from .errors import ExchangeError
from .health import Change, HealthRules, Margin
from .products import QUOTE_PRODUCT_ID

MAX_PER_ADDRESS: Final = 10
MARGIN_UNIT_X18: Final = 10**12  # the appendix states margin in millionths


class IsolatedMargin:
    """Which subaccount bears an order, and what moves between it and its parent."""

    def __init__(self, accounts: Accounts, rules: HealthRules) -> None:
        self._accounts = accounts
        self._rules = rules

    def position_x18(self, order: Order) -> int:
        """Signed holding the order adds to or takes from."""
        if not order.is_isolated:
            return self._rules.holding_x18(order.account, order.product_id)
        bearer = order.account.isolated.get(order.product_id)
        return self._accounts.position_x18(bearer, order.product_id) if bearer is not None else 0

    def require_room(self, parent: Subaccount, product_id: int) -> None:
        """2125: the wallet has as many isolated subaccounts as it may have."""
        if product_id not in parent.isolated:
            used = sum(account.is_isolated for account in self._accounts.of_address(parent.address))
            if used >= MAX_PER_ADDRESS:
                raise ExchangeError(2125)

    def refusal(self, order: Order, change: Change) -> int:
        """0, or the code that forbids the order to change its bearer so: 2006, 2017, 2087."""
        account = order.account
        if account.is_house:
            return 0
        if not order.is_isolated:
            if not order.may_borrow and self._borrows(account, order.product_id, change):
                return 2017
            return 0 if self._rules.allows(account, order.product_id, change) else 2006
        bearer = account.isolated.get(order.product_id)
        if not self._rules.allows(self._with_margin(bearer, order), order.product_id, change):
            return 2006
        if order.margin_x18 == 0:
            return 0
        if not order.may_borrow and account.quote_x18 < order.margin_x18:
            return 2087
        moved = {QUOTE_PRODUCT_ID: Change(-order.margin_x18, 0)}
        return 0 if self._rules.health_x18(account, Margin.INITIAL, moved) >= 0 else 2006

    def bearer(self, order: Order) -> Subaccount:
        """The subaccount a match is booked on; an isolated one is opened and gets the order's margin."""
        if not order.is_isolated:
            return order.account
        bearer = self._accounts.open_isolated(order.account, order.product_id)
        if order.margin_x18:
            order.account.quote_x18 -= order.margin_x18
            bearer.quote_x18 += order.margin_x18
            order.margin_x18 = 0
        return bearer

    def close_if_flat(self, account: Subaccount) -> bool:
        """Give back what an isolated subaccount without a position holds; whether it is gone.

        A debt beyond the margin never reaches the parent: it is covered as a liquidation's would be.
        """
        assert account.parent is not None
        assert account.product_id is not None
        balance = account.perps[account.product_id]
        if balance.amount_x18:
            return False
        account.quote_x18 += balance.v_quote_x18
        balance.v_quote_x18 = 0
        self._accounts.cover_loss(account)
        account.parent.quote_x18 += account.quote_x18
        account.quote_x18 = 0
        self._accounts.drop_isolated(account)
        return True

    def _borrows(self, account: Subaccount, product_id: int, change: Change) -> bool:
        """Whether the balance that pays would turn negative."""
        if change.base_x18 > 0:
            return account.quote_x18 + change.quote_x18 < 0
        return account.spot_x18(product_id) + change.base_x18 < 0

    def _with_margin(self, bearer: Subaccount | None, order: Order) -> Subaccount:
        """A look at the bearer as if the order's margin had arrived."""
        if bearer is None:
            return Subaccount(order.account.id, quote_x18=order.margin_x18)
        return Subaccount(bearer.id, quote_x18=bearer.quote_x18 + order.margin_x18, perps=bearer.perps)
