"""Health of a cross-margin subaccount (health section of the API)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum

from .accounts import Accounts, Subaccount
from .products import QUOTE_PRODUCT_ID, Product
from .x18 import ONE, mul_x18


class Margin(IntEnum):
    """Kinds of health, in the order replies list them."""

    INITIAL = 0
    MAINTENANCE = 1
    UNWEIGHTED = 2


@dataclass(frozen=True, slots=True)
class Change:
    """A hypothetical change of balance: what an order would do if it filled."""

    base_x18: int
    quote_x18: int


NO_CHANGES: Mapping[int, Change] = {}


class HealthRules:
    """Weighs balances by the products' risk weights at oracle prices."""

    def __init__(self, products: Mapping[int, Product], accounts: Accounts) -> None:
        self._perps = [p for p in products.values() if p.is_perp]
        self._accounts = accounts

    def contributions_x18(
        self, account: Subaccount, margin: Margin, changes: Mapping[int, Change] = NO_CHANGES
    ) -> dict[int, int]:
        """Contribution of each product to the account's health; `changes` are applied on top."""
        spot = changes.get(QUOTE_PRODUCT_ID)
        contributions = {QUOTE_PRODUCT_ID: account.quote_x18 + (spot.base_x18 if spot else 0)}
        for product in self._perps:
            product_id = product.product_id
            change = changes.get(product_id)
            if change is None and product_id not in account.perps:
                continue
            balance = self._accounts.effective(account, product_id)
            amount = balance.amount_x18 + (change.base_x18 if change else 0)
            quote = balance.v_quote_x18 + (change.quote_x18 if change else 0)
            value = mul_x18(amount, self._accounts.states[product_id].oracle_price_x18)
            contributions[product_id] = mul_x18(value, weight_x18(product, amount, margin)) + quote
        return contributions

    def health_x18(
        self, account: Subaccount, margin: Margin, changes: Mapping[int, Change] = NO_CHANGES
    ) -> int:
        return sum(self.contributions_x18(account, margin, changes).values())

    def allows(self, account: Subaccount, product_id: int, change: Change) -> bool:
        """Whether the account may change so: initial health stays ≥ 0, or the position only shrinks."""
        if account.is_house:
            return True
        before = self._accounts.position_x18(account, product_id)
        if abs(before + change.base_x18) < abs(before) and before * (before + change.base_x18) >= 0:
            return True
        return self.health_x18(account, Margin.INITIAL, {product_id: change}) >= 0


def weight_x18(product: Product, amount_x18: int, margin: Margin) -> int:
    """Risk weight of a long or short amount."""
    if margin is Margin.UNWEIGHTED:
        return ONE
    if margin is Margin.INITIAL:
        return product.long_weight_initial_x18 if amount_x18 >= 0 else product.short_weight_initial_x18
    return product.long_weight_maintenance_x18 if amount_x18 >= 0 else product.short_weight_maintenance_x18
