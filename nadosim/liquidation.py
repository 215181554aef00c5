"""Liquidation (health section of the API): an unhealthy account's orders go, then parts of what it holds.

The exchange's own pool takes positions over as soon as maintenance health is negative, unless that is
switched off; then anybody may, by `liquidate_subaccount`. Half of the liquidator's gain goes to insurance.
"""

from __future__ import annotations

from typing import Final

from .accounts import Subaccount
from .core import Core
from .errors import ExchangeError
from .events import liquidation_event
from .health import Change, Margin
from .products import QUOTE_PRODUCT_ID, Product
from .wallet_requests import LiquidateRequest
from .x18 import ONE, mul_x18

POOL_ID: Final = "0x" + "00" * 19 + "0b" + b"nlp".ljust(12, b"\0").hex()
MIN_DISCOUNT_X18: Final = ONE * 5 // 1000
DISCOUNT_SHARE: Final = 5
LIQUIDATION_FEE_X18: Final = ONE
REASON: Final = "liquidate_subaccount"


class Liquidation:
    """All methods run inside a step."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def is_liquidatable(self, account: Subaccount) -> bool:
        return self._core.health.health_x18(account, Margin.MAINTENANCE) < 0

    def price_x18(self, product: Product, amount_x18: int) -> int:
        """What a liquidator pays: oracle price less a discount for longs, plus one for shorts."""
        discount = max((ONE - product.long_weight_maintenance_x18) // DISCOUNT_SHARE, MIN_DISCOUNT_X18)
        oracle = self._core.accounts.states[product.product_id].oracle_price_x18
        return mul_x18(oracle, ONE - discount if amount_x18 > 0 else ONE + discount)

    def run(self, account: Subaccount) -> None:
        """The pool takes over what it must for maintenance health ≥ 0; a debt that is left is covered."""
        pool = self._core.accounts.open(POOL_ID, is_house=True)
        self._cancel_orders(account)
        for product in self._holdings(account):
            if not self.is_liquidatable(account):
                break
            amount = self._needed_x18(account, product)
            if amount:
                self._transfer(account, pool, product, amount)
        self._write_off(account)

    def seize(self, account: Subaccount, product_id: int | None) -> int:
        """Take a whole position over, or every one, whatever the account's health: auto-deleveraging."""
        pool = self._core.accounts.open(POOL_ID, is_house=True)
        self._cancel_orders(account)
        taken = [p for p in self._holdings(account) if p.is_perp and product_id in (None, p.product_id)]
        for product in taken:
            held = self._core.health.holding_x18(account, product.product_id)
            self._transfer(account, pool, product, held)
        if account.is_isolated and taken:
            self._write_off(account)  # flat: what is left of its margin goes home
        return len(taken)

    def by_request(self, request: LiquidateRequest, liquidator: Subaccount) -> None:
        """Raises ExchangeError 2042 to 2048, or 2115 when the pool does it first."""
        core = self._core
        account = core.accounts.find(request.liquidatee)
        if account is None or account.is_house or account.owner is liquidator:
            raise ExchangeError(2045)
        if request.is_encoded_spread:
            raise ExchangeError(4001, "Spreads are liquidated leg by leg.")
        if request.product_id == QUOTE_PRODUCT_ID or request.product_id not in core.products:
            raise ExchangeError(2045)
        product = core.products[request.product_id]
        if request.amount_x18 % product.size_increment_x18:
            raise ExchangeError(2046)
        if not self.is_liquidatable(account):
            raise ExchangeError(2042)
        if core.config.auto_liquidation:
            self.run(account)
            raise ExchangeError(2115)
        self._require_amount(account, product, request.amount_x18)
        self._try(account, liquidator, product, request.amount_x18)
        self._cancel_orders(account)
        self._transfer(account, liquidator, product, request.amount_x18)
        self._write_off(account)

    # ---- inside

    def _require_amount(self, account: Subaccount, product: Product, amount_x18: int) -> None:
        """No more than is held, and loans only after everything else."""
        held = self._core.health.holding_x18(account, product.product_id)
        if amount_x18 == 0 or amount_x18 * held <= 0 or abs(amount_x18) > abs(held):
            raise ExchangeError(2047)
        if not product.is_perp and held < 0:
            others = self._holdings(account)
            if any(self._core.health.holding_x18(account, p.product_id) > 0 or p.is_perp for p in others):
                raise ExchangeError(2048)

    def _try(self, account: Subaccount, liquidator: Subaccount, product: Product, amount_x18: int) -> None:
        """Health of both sides afterwards: 2044, 2043."""
        rules = self._core.health
        quote = mul_x18(amount_x18, self.price_x18(product, amount_x18))
        given = {product.product_id: Change(-amount_x18, quote)}
        taken = {product.product_id: Change(amount_x18, -quote)}
        is_more_than_least = abs(amount_x18) > product.size_increment_x18
        if is_more_than_least and rules.health_x18(account, Margin.INITIAL, given) > 0:
            raise ExchangeError(2044)
        if rules.health_x18(liquidator, Margin.INITIAL, taken) < LIQUIDATION_FEE_X18:
            raise ExchangeError(2043)

    def _cancel_orders(self, account: Subaccount) -> None:
        """Everything the account has resting; for an isolated one the parent's orders that lead to it."""
        for product_id, book in self._core.books.items():
            orders = book.of_account(account.id)
            if account.is_isolated and product_id == account.product_id:
                orders += [o for o in book.of_account(account.owner.id) if o.is_isolated]
            elif not account.is_isolated:
                orders = [order for order in orders if not order.is_isolated]
            self._core.cancel(orders, "liquidation")

    def _holdings(self, account: Subaccount) -> list[Product]:
        """What can be taken over, in the order it is: positions by value, then tokens, then loans."""
        core = self._core

        def rank(product: Product) -> tuple[int, int]:
            held = core.health.holding_x18(account, product.product_id)
            value = mul_x18(held, core.accounts.states[product.product_id].oracle_price_x18)
            return (0 if product.is_perp else 1 if held > 0 else 2), -abs(value)

        held = [
            product
            for product in core.products.values()
            if product.product_id != QUOTE_PRODUCT_ID and core.health.holding_x18(account, product.product_id)
        ]
        return sorted(held, key=rank)

    def _needed_x18(self, account: Subaccount, product: Product) -> int:
        """Least amount, in whole increments, that heals the account; all of it if nothing does."""
        held = self._core.health.holding_x18(account, product.product_id)
        step, price = product.size_increment_x18, self.price_x18(product, held)
        unit = step if held > 0 else -step

        def heals(steps: int) -> bool:
            given = {product.product_id: Change(-steps * unit, mul_x18(steps * unit, price))}
            return self._core.health.health_x18(account, Margin.MAINTENANCE, given) >= 0

        low, high = 0, abs(held) // step
        if not heals(high):
            return held
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if heals(middle) else (middle, high)
        return high * unit

    def _transfer(
        self, account: Subaccount, liquidator: Subaccount, product: Product, amount_x18: int
    ) -> None:
        """Amount of the position changes hands; fee, insurance, events, records."""
        core, product_id = self._core, product.product_id
        before = core.writer.balance(account, product_id)
        quote_before = core.writer.balance(account, QUOTE_PRODUCT_ID)
        taker_before = core.writer.balance(liquidator, product_id)
        taker_quote_before = core.writer.balance(liquidator, QUOTE_PRODUCT_ID)
        core.writer.next_idx()
        price = self.price_x18(product, amount_x18)
        quote = mul_x18(amount_x18, price)
        worth = mul_x18(amount_x18, core.accounts.states[product_id].oracle_price_x18)
        insured = max(0, worth - quote) // 2
        self._move(account, product, -amount_x18, quote)
        self._move(liquidator, product, amount_x18, -quote)
        liquidator.quote_x18 -= insured + LIQUIDATION_FEE_X18
        core.accounts.own.insurance_x18 += insured
        core.accounts.own.sequencer_fees_x18 += LIQUIDATION_FEE_X18
        core.history.liquidated(account, product_id, before.amount_x18, -amount_x18, quote)
        core.history.liquidated(liquidator, product_id, taker_before.amount_x18, amount_x18, -quote)
        core.writer.statistics.liquidated(product_id, abs(worth))
        core.writer.changed(account, product_id, before, REASON)
        if not product.is_perp:
            core.writer.changed(account, QUOTE_PRODUCT_ID, quote_before, REASON)
        core.writer.changed(liquidator, product_id, taker_before, REASON)
        core.writer.changed(liquidator, QUOTE_PRODUCT_ID, taker_quote_before, REASON)
        core.writer.announce(
            liquidation_event(
                core.writer.timestamp_ns, product_id, liquidator.id, account.id, amount_x18, price
            )
        )

    def _move(self, account: Subaccount, product: Product, base_x18: int, quote_x18: int) -> None:
        accounts = self._core.accounts
        if product.is_perp:
            accounts.apply(account, product.product_id, base_x18, quote_x18)
        else:
            accounts.apply_spot(account, product.product_id, base_x18, quote_x18)

    def _write_off(self, account: Subaccount) -> None:
        """Of an account that holds nothing any more: settle what positions left, cover a debt, close it."""
        core = self._core
        if self._holdings(account):
            return
        if account.is_isolated:
            parent_before = core.writer.balance(account.owner, QUOTE_PRODUCT_ID)
            core.isolated.close_if_flat(account)
            if account.owner.quote_x18 != parent_before.amount_x18:
                core.writer.changed(account.owner, QUOTE_PRODUCT_ID, parent_before, REASON)
            return
        before = core.writer.balance(account, QUOTE_PRODUCT_ID)
        for product_id, balance in account.perps.items():
            amount = balance.v_quote_x18
            if amount:
                perp_before = core.writer.balance(account, product_id)
                core.accounts.apply(account, product_id, 0, -amount)
                account.quote_x18 += amount
                core.writer.changed(account, product_id, perp_before, "settle_pnl")
        core.accounts.cover_loss(account)
        if account.quote_x18 != before.amount_x18:
            core.writer.changed(account, QUOTE_PRODUCT_ID, before, REASON)
