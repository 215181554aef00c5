"""Subaccounts and their balances (accounting section of the API), cross margin.

Everything sums to zero: what one side of a match gives the other gets, fees go to the exchange, and
funding passes through a pool that keeps the dust of truncation.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from .products import Product, ProductState
from .x18 import mul_x18

ZERO_ADDRESS: Final = "0x" + "0" * 40


@dataclass(slots=True)
class PerpBalance:
    """Position of one subaccount in one perpetual: signed base and the quote that belongs to it."""

    amount_x18: int = 0
    v_quote_x18: int = 0
    last_cumulative_funding_x18: int = 0


@dataclass(slots=True, eq=False)
class Subaccount:
    """One trading account. quote_x18 is its USDT0 balance, perps its positions by product id.

    is_house: a simulated participant of the embedded market: unlimited margin, no private events.
    """

    id: str
    is_house: bool = False
    quote_x18: int = 0
    perps: dict[int, PerpBalance] = field(default_factory=dict)
    exists: bool = False
    linked_signer: str = ZERO_ADDRESS

    @property
    def address(self) -> str:
        """The wallet: first 20 bytes of the id."""
        return self.id[:42]


class Accounts:
    """All balances, and the product state that belongs to them."""

    def __init__(self, products: Iterable[Product]) -> None:
        self.states: dict[int, ProductState] = {
            p.product_id: ProductState(oracle_price_x18=p.start_price_x18) for p in products
        }
        self._subaccounts: dict[str, Subaccount] = {}
        self.tx_nonces: dict[str, int] = {}  # by wallet address: strictly sequential executes
        self.deposits_x18 = 0
        self.funding_pool_x18 = 0

    def __iter__(self) -> Iterator[Subaccount]:
        return iter(self._subaccounts.values())

    def find(self, subaccount: str) -> Subaccount | None:
        return self._subaccounts.get(subaccount)

    def open(self, subaccount: str, *, is_house: bool = False) -> Subaccount:
        """The subaccount of that id, created empty if it is new. Raises ValueError if house and real mix."""
        account = self._subaccounts.get(subaccount)
        if account is None:
            account = Subaccount(subaccount, is_house=is_house)
            self._subaccounts[subaccount] = account
        if account.is_house != is_house:
            raise ValueError(f"subaccount {subaccount} is {'a house' if account.is_house else 'a real'} one")
        return account

    def deposit(self, account: Subaccount, amount_x18: int) -> None:
        account.quote_x18 += amount_x18
        account.exists = True
        self.deposits_x18 += amount_x18

    def apply(self, account: Subaccount, product_id: int, base_x18: int, quote_x18: int) -> PerpBalance:
        """Book a change of position: pending funding first, at the position held until now."""
        state = self.states[product_id]
        balance = account.perps.get(product_id)
        if balance is None:
            balance = account.perps[product_id] = PerpBalance()
        before = balance.amount_x18
        payment = _pending_funding(balance, state)
        self.funding_pool_x18 += payment
        balance.v_quote_x18 += quote_x18 - payment
        balance.amount_x18 = after = before + base_x18
        balance.last_cumulative_funding_x18 = _cumulative(after, state)
        state.open_interest_x18 += abs(after) - abs(before)
        return balance

    def collect_fee(self, product_id: int, fee_x18: int) -> None:
        """The exchange's side of a fee; a rebate is negative."""
        self.states[product_id].collected_fees_x18 += fee_x18

    def pay_funding(self, product_id: int, payment_x18: int) -> None:
        """Longs pay payment_x18 of quote per unit of base to shorts (negative: shorts pay)."""
        state = self.states[product_id]
        state.cumulative_funding_long_x18 += payment_x18
        state.cumulative_funding_short_x18 += payment_x18

    def position_x18(self, account: Subaccount, product_id: int) -> int:
        balance = account.perps.get(product_id)
        return balance.amount_x18 if balance is not None else 0

    def effective(self, account: Subaccount, product_id: int) -> PerpBalance:
        """A copy of the balance with funding up to now, as queries show it."""
        state = self.states[product_id]
        balance = account.perps.get(product_id)
        if balance is None:
            return PerpBalance(last_cumulative_funding_x18=_cumulative(0, state))
        return PerpBalance(
            amount_x18=balance.amount_x18,
            v_quote_x18=balance.v_quote_x18 - _pending_funding(balance, state),
            last_cumulative_funding_x18=_cumulative(balance.amount_x18, state),
        )

    def totals(self) -> Totals:
        """Sums over every account, for the conservation check."""
        base: dict[int, int] = {}
        quote = -self.deposits_x18
        pending = 0
        for account in self._subaccounts.values():
            quote += account.quote_x18
            for product_id, balance in account.perps.items():
                base[product_id] = base.get(product_id, 0) + balance.amount_x18
                quote += balance.v_quote_x18
                pending += _pending_funding(balance, self.states[product_id])
        fees = sum(state.collected_fees_x18 for state in self.states.values())
        return Totals(base, quote + fees + self.funding_pool_x18, self.funding_pool_x18 + pending)


@dataclass(frozen=True, slots=True)
class Totals:
    """base_x18 and quote_x18 must be zero; funding_dust_x18 is what truncation left in the pool."""

    base_x18: Mapping[int, int]
    quote_x18: int
    funding_dust_x18: int


def _cumulative(amount_x18: int, state: ProductState) -> int:
    return state.cumulative_funding_long_x18 if amount_x18 > 0 else state.cumulative_funding_short_x18


def _pending_funding(balance: PerpBalance, state: ProductState) -> int:
    """Quote this balance still owes for funding (negative: is owed)."""
    amount = balance.amount_x18
    return mul_x18(_cumulative(amount, state) - balance.last_cumulative_funding_x18, amount)
