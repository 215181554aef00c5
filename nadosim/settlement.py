"""Settlement of profit and loss: quote of a position becomes USDT0, or a loss is taken from it.

Equity stays what it is. Winners are paid out of what losers have settled (`available_settle`).
"""

from __future__ import annotations

from collections.abc import Iterable

from .accounts import Subaccount
from .core import Core
from .products import QUOTE_PRODUCT_ID
from .x18 import mul_x18


class Settlement:
    """Moves unsettled quote between a position and the USDT0 balance; inside a step."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def unsettled_x18(self, account: Subaccount, product_id: int) -> int:
        """Value of the position at the oracle price, its quote included."""
        balance = self._core.accounts.effective(account, product_id)
        oracle = self._core.accounts.states[product_id].oracle_price_x18
        return mul_x18(balance.amount_x18, oracle) + balance.v_quote_x18

    def settle(self, account: Subaccount, product_ids: Iterable[int] | None = None) -> int:
        """Settle these products of the account, by default all; the sum that reached the USDT0 balance."""
        core, total = self._core, 0
        for product_id in list(account.perps) if product_ids is None else product_ids:
            if product_id not in account.perps:
                continue
            amount = self.unsettled_x18(account, product_id)
            state = core.accounts.states[product_id]
            if amount > 0:
                amount = min(amount, max(0, state.available_settle_x18))
            if amount == 0:
                continue
            core.writer.next_idx()
            before = core.writer.balance(account, product_id)
            quote_before = core.writer.balance(account, QUOTE_PRODUCT_ID)
            core.accounts.apply(account, product_id, 0, -amount)
            account.quote_x18 += amount
            state.available_settle_x18 -= amount
            core.writer.changed(account, product_id, before, "settle_pnl")
            core.writer.changed(account, QUOTE_PRODUCT_ID, quote_before, "settle_pnl")
            total += amount
        return total
