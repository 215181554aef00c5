"""Subaccounts and their balances (accounting section of the API): cross, isolated, and the exchange's own.

Everything sums to zero: what one side of a match gives the other gets, fees go to the exchange, and
funding passes through a pool that keeps the dust of truncation.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from .products import QUOTE_PRODUCT_ID, Product, ProductState
from .x18 import mul_x18

ZERO_ADDRESS: Final = "0x" + "0" * 40
ISOLATED_SUFFIX: Final = b"iso".hex()


@dataclass(slots=True)
class PerpBalance:
    """Position of one subaccount in one perpetual: signed base and the quote that belongs to it."""

    amount_x18: int = 0
    v_quote_x18: int = 0
    last_cumulative_funding_x18: int = 0


@dataclass(slots=True, eq=False)
class Subaccount:
    """One trading account.

    quote_x18: its USDT0 balance. spots: its other tokens by product id, negative when borrowed.
    perps: its positions by product id.
    is_house: a simulated participant of the embedded market: unlimited margin, no private events.
    parent, product_id: set on an isolated subaccount; isolated: a parent's own, by product id.
    """

    id: str
    is_house: bool = False
    quote_x18: int = 0
    perps: dict[int, PerpBalance] = field(default_factory=dict)
    spots: dict[int, int] = field(default_factory=dict)
    exists: bool = False
    linked_signer: str = ZERO_ADDRESS
    created_ns: int = 0
    parent: Subaccount | None = None
    product_id: int | None = None
    isolated: dict[int, Subaccount] = field(default_factory=dict)

    @property
    def address(self) -> str:
        """The wallet: first 20 bytes of the id."""
        return self.id[:42]

    @property
    def owner(self) -> Subaccount:
        """Who signs for it and hears of it: the parent of an isolated subaccount, else itself."""
        return self.parent or self

    @property
    def is_isolated(self) -> bool:
        return self.parent is not None

    def spot_x18(self, product_id: int) -> int:
        return self.quote_x18 if product_id == QUOTE_PRODUCT_ID else self.spots.get(product_id, 0)

    def add_spot(self, product_id: int, amount_x18: int) -> None:
        if product_id == QUOTE_PRODUCT_ID:
            self.quote_x18 += amount_x18
        else:
            self.spots[product_id] = self.spots.get(product_id, 0) + amount_x18


@dataclass(slots=True)
class OwnAccount:
    """What the exchange itself holds, all in quote. Trading fees are kept by product, see ProductState.

    funding_pool_x18: funding taken in and not yet paid out; what truncation leaves there is dust.
    bad_debt_x18: losses beyond margin and insurance, negative.
    """

    funding_pool_x18: int = 0
    insurance_x18: int = 0
    sequencer_fees_x18: int = 0
    builder_fees_x18: dict[int, int] = field(default_factory=dict)
    bad_debt_x18: int = 0

    @property
    def total_x18(self) -> int:
        builders = sum(self.builder_fees_x18.values())
        return (
            self.funding_pool_x18
            + self.insurance_x18
            + self.sequencer_fees_x18
            + builders
            + self.bad_debt_x18
        )


class Accounts:
    """All balances, and the product state that belongs to them."""

    def __init__(self, products: Iterable[Product]) -> None:
        listed = list(products)
        self.states: dict[int, ProductState] = {
            p.product_id: ProductState(oracle_price_x18=p.start_price_x18) for p in listed
        }
        self.own = OwnAccount()
        self.tx_nonces: dict[str, int] = {}  # by wallet address: strictly sequential executes
        self.inflows_x18: dict[int, int] = {p.product_id: 0 for p in listed if not p.is_perp}
        self.outflows_x18: dict[int, int] = dict(self.inflows_x18)
        self._subaccounts: dict[str, Subaccount] = {}

    def __iter__(self) -> Iterator[Subaccount]:
        return iter(self._subaccounts.values())

    def real(self) -> list[Subaccount]:
        """Everybody but simulated participants, isolated subaccounts included."""
        return [account for account in self._subaccounts.values() if not account.is_house]

    def find(self, subaccount: str) -> Subaccount | None:
        return self._subaccounts.get(subaccount)

    def of_address(self, address: str) -> list[Subaccount]:
        return [account for account in self._subaccounts.values() if account.address == address]

    def open(self, subaccount: str, *, is_house: bool = False) -> Subaccount:
        """The subaccount of that id, created empty if it is new. Raises ValueError if house and real mix."""
        account = self._subaccounts.get(subaccount)
        if account is None:
            account = Subaccount(subaccount, is_house=is_house)
            self._subaccounts[subaccount] = account
        if account.is_house != is_house:
            raise ValueError(f"subaccount {subaccount} is {'a house' if account.is_house else 'a real'} one")
        return account

    def open_isolated(self, parent: Subaccount, product_id: int) -> Subaccount:
        """The parent's isolated subaccount in a product: address, zeros, product, free index, `iso`."""
        account = parent.isolated.get(product_id)
        if account is None:
            prefix = f"{parent.address}{'00' * 6}{product_id:04x}"
            index = 0
            while f"{prefix}{index:02x}{ISOLATED_SUFFIX}" in self._subaccounts:
                index += 1
            account = self.open(f"{prefix}{index:02x}{ISOLATED_SUFFIX}")
            account.exists, account.parent, account.product_id = True, parent, product_id
            parent.isolated[product_id] = account
        return account

    def drop_isolated(self, account: Subaccount) -> None:
        """Free the id of an isolated subaccount that holds nothing any more."""
        assert account.parent is not None
        assert account.product_id is not None
        del account.parent.isolated[account.product_id]
        del self._subaccounts[account.id]

    # ---- bookings

    def deposit(self, account: Subaccount, amount_x18: int, product_id: int = QUOTE_PRODUCT_ID) -> None:
        """Tokens from outside; a withdrawal is a negative one."""
        account.add_spot(product_id, amount_x18)
        account.exists = True
        flows = self.inflows_x18 if amount_x18 >= 0 else self.outflows_x18
        flows[product_id] += abs(amount_x18)

    def apply(self, account: Subaccount, product_id: int, base_x18: int, quote_x18: int) -> PerpBalance:
        """Book a change of position: pending funding first, at the position held until now."""
        state = self.states[product_id]
        balance = account.perps.get(product_id)
        if balance is None:
            balance = account.perps[product_id] = PerpBalance()
        before = balance.amount_x18
        payment = _pending_funding(balance, state)
        self.own.funding_pool_x18 += payment
        balance.v_quote_x18 += quote_x18 - payment
        balance.amount_x18 = after = before + base_x18
        balance.last_cumulative_funding_x18 = _cumulative(after, state)
        state.open_interest_x18 += abs(after) - abs(before)
        return balance

    def apply_spot(self, account: Subaccount, product_id: int, base_x18: int, quote_x18: int) -> None:
        """Book a spot trade: both balances move, either may turn into a loan."""
        account.add_spot(product_id, base_x18)
        account.quote_x18 += quote_x18

    def collect_fee(self, product_id: int, fee_x18: int) -> None:
        """The exchange's side of a fee; a rebate is negative."""
        self.states[product_id].collected_fees_x18 += fee_x18

    def collect_builder_fee(self, builder_id: int, fee_x18: int) -> None:
        fees = self.own.builder_fees_x18
        fees[builder_id] = fees.get(builder_id, 0) + fee_x18

    def cover_loss(self, account: Subaccount) -> None:
        """Lift a negative USDT0 balance to zero: out of insurance, then at the exchange's own expense."""
        loss = -account.quote_x18
        if loss <= 0:
            return
        insured = min(loss, max(0, self.own.insurance_x18))
        self.own.insurance_x18 -= insured
        self.own.bad_debt_x18 -= loss - insured
        account.quote_x18 = 0

    def pay_funding(self, product_id: int, payment_x18: int) -> None:
        """Longs pay payment_x18 of quote per unit of base to shorts (negative: shorts pay)."""
        state = self.states[product_id]
        state.cumulative_funding_long_x18 += payment_x18
        state.cumulative_funding_short_x18 += payment_x18

    # ---- reading

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

    @property
    def deposited_x18(self) -> dict[int, int]:
        """Tokens inside the exchange, by spot product: what came in less what went out."""
        return {
            product_id: total - self.outflows_x18[product_id]
            for product_id, total in self.inflows_x18.items()
        }

    def spot_totals_x18(self, product_id: int) -> tuple[int, int]:
        """(lent, borrowed) over all subaccounts."""
        amounts = [account.spot_x18(product_id) for account in self._subaccounts.values()]
        return sum(a for a in amounts if a > 0), -sum(a for a in amounts if a < 0)

    def totals(self) -> Totals:
        """Sums over every account and the exchange's own, for the conservation check."""
        base = {product_id: -amount for product_id, amount in self.deposited_x18.items()}
        quote = base.pop(QUOTE_PRODUCT_ID)
        pending = 0
        for account in self._subaccounts.values():
            quote += account.quote_x18
            for product_id, amount in account.spots.items():
                base[product_id] += amount
            for product_id, balance in account.perps.items():
                base[product_id] = base.get(product_id, 0) + balance.amount_x18
                quote += balance.v_quote_x18
                pending += _pending_funding(balance, self.states[product_id])
        fees = sum(state.collected_fees_x18 for state in self.states.values())
        return Totals(base, quote + fees + self.own.total_x18, self.own.funding_pool_x18 + pending)


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
