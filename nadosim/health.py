"""Health of a subaccount, cross or isolated (health section of the API)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from .accounts import Accounts, Subaccount
from .products import HEALTH_GROUPS, QUOTE_PRODUCT_ID, Product
from .x18 import ONE, mul_x18

SPREAD_PENALTY_SHARE: Final = 5  # a hedged pair bears a fifth of the usual haircut


class Margin(IntEnum):
    """Kinds of health, in the order replies list them."""

    INITIAL = 0
    MAINTENANCE = 1
    UNWEIGHTED = 2


SPREAD_WEIGHT_CAP_X18: Final[Mapping[Margin, int]] = {
    Margin.INITIAL: ONE * 990 // 1000,
    Margin.MAINTENANCE: ONE * 994 // 1000,
}


@dataclass(frozen=True, slots=True)
class Change:
    """A hypothetical change of balance: what an order would do if it filled.

    quote_x18 goes to the position's own quote, or to the USDT0 balance if the product is spot.
    """

    base_x18: int
    quote_x18: int


NO_CHANGES: Mapping[int, Change] = {}


class HealthRules:
    """Weighs balances by the products' risk weights at oracle prices."""

    def __init__(self, products: Mapping[int, Product], accounts: Accounts) -> None:
        self._products = products
        self._accounts = accounts
        self.groups = [(s, p) for s, p in HEALTH_GROUPS if s in products and p in products]

    def contributions_x18(
        self, account: Subaccount, margin: Margin, changes: Mapping[int, Change] = NO_CHANGES
    ) -> dict[int, int]:
        """Contribution of each product to the account's health; `changes` are applied on top.

        The bonus of a hedged pair is listed with its spot product.
        """
        contributions = {QUOTE_PRODUCT_ID: account.quote_x18}
        amounts: dict[int, int] = {}
        for product_id in dict.fromkeys((*account.spots, *account.perps, *changes)):
            change = changes.get(product_id)
            base, quote = (change.base_x18, change.quote_x18) if change is not None else (0, 0)
            product = self._products[product_id]
            if not product.is_perp:
                contributions[QUOTE_PRODUCT_ID] += quote
                if product_id == QUOTE_PRODUCT_ID:
                    contributions[QUOTE_PRODUCT_ID] += base
                    continue
                amounts[product_id] = amount = account.spots.get(product_id, 0) + base
                contributions[product_id] = self._weighted_x18(product, amount, margin)
                continue
            balance = self._accounts.effective(account, product_id)
            amounts[product_id] = amount = balance.amount_x18 + base
            weighted = self._weighted_x18(product, amount, margin)
            contributions[product_id] = weighted + balance.v_quote_x18 + quote
        for spot_id, perp_id in self.groups:
            if amounts.get(spot_id, 0) * amounts.get(perp_id, 0) < 0 and margin is not Margin.UNWEIGHTED:
                basis = min(abs(amounts[spot_id]), abs(amounts[perp_id]))
                contributions[spot_id] += self._spread_bonus_x18(spot_id, perp_id, basis, margin)
        return contributions

    def health_x18(
        self, account: Subaccount, margin: Margin, changes: Mapping[int, Change] = NO_CHANGES
    ) -> int:
        return sum(self.contributions_x18(account, margin, changes).values())

    def holding_x18(self, account: Subaccount, product_id: int) -> int:
        """Signed base held: position of a perpetual, balance of a spot product."""
        if self._products[product_id].is_perp:
            return self._accounts.position_x18(account, product_id)
        return account.spot_x18(product_id)

    def allows(self, account: Subaccount, product_id: int, change: Change) -> bool:
        """Whether the account may change so: initial health stays ≥ 0, or the position only shrinks."""
        if account.is_house:
            return True
        before = self.holding_x18(account, product_id)
        after = before + change.base_x18
        if abs(after) < abs(before) and before * after >= 0:
            return True
        return self.health_x18(account, Margin.INITIAL, {product_id: change}) >= 0

    def _weighted_x18(self, product: Product, amount_x18: int, margin: Margin) -> int:
        if amount_x18 == 0:
            return 0
        value = mul_x18(amount_x18, self._accounts.states[product.product_id].oracle_price_x18)
        return mul_x18(value, weight_x18(product, amount_x18, margin))

    def _spread_bonus_x18(self, spot_id: int, perp_id: int, basis_x18: int, margin: Margin) -> int:
        states = self._accounts.states
        prices = states[spot_id].oracle_price_x18 + states[perp_id].oracle_price_x18
        weights = [weight_x18(self._products[product_id], 1, margin) for product_id in (spot_id, perp_id)]
        usual = sum(weights) // 2
        hedged = min(ONE - (ONE - usual) // SPREAD_PENALTY_SHARE, SPREAD_WEIGHT_CAP_X18[margin])
        return mul_x18(mul_x18(basis_x18, prices), hedged - usual)


def weight_x18(product: Product, amount_x18: int, margin: Margin) -> int:
    """Risk weight of a long or short amount."""
    if margin is Margin.UNWEIGHTED:
        return ONE
    if margin is Margin.INITIAL:
        return product.long_weight_initial_x18 if amount_x18 >= 0 else product.short_weight_initial_x18
    return product.long_weight_maintenance_x18 if amount_x18 >= 0 else product.short_weight_maintenance_x18
