"""One product's order book and its matching: price, then time. No accounts, no clock, no wire.

What a match means is the listener's business: it is asked whether a resting order may trade, told of
each match as it happens, and of resting orders that had to go.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, Literal, Protocol

from .accounts import Subaccount
from .requests import OrderType
from .x18 import INT128_MAX, mul_x18

SideName = Literal["bids", "asks"]
NO_BID_X18: Final = 0
NO_ASK_X18: Final = INT128_MAX
NOTHING_PLANNED: Final = (0, 0)


@dataclass(slots=True, eq=False)
class Order:
    """An order in the engine. amount_x18 is signed as sent; remaining_x18 counts down to zero, unsigned.

    margin_x18: what an isolated order still has to bring from its parent; zero once it has moved.
    may_borrow: whether its trades may turn a spot balance, or its margin the parent's USDT0, into a loan.
    """

    digest: str
    product_id: int
    account: Subaccount
    price_x18: int
    amount_x18: int
    remaining_x18: int
    order_type: OrderType
    reduce_only: bool
    expiration_s: int
    nonce: int
    appendix: int
    placed_ns: int
    client_id: int | None = None
    is_isolated: bool = False
    margin_x18: int = 0
    may_borrow: bool = True
    builder_id: int = 0
    builder_rate_x18: int = 0
    end: str | None = None  # why it no longer lives; None while it does
    is_buy: bool = field(init=False)

    def __post_init__(self) -> None:
        self.is_buy = self.amount_x18 > 0

    @property
    def side(self) -> SideName:
        return "bids" if self.is_buy else "asks"

    @property
    def filled_x18(self) -> int:
        """Unsigned."""
        return abs(self.amount_x18) - self.remaining_x18

    @property
    def unfilled_x18(self) -> int:
        """What remains, signed like the amount."""
        return self.remaining_x18 if self.is_buy else -self.remaining_x18


class Listener(Protocol):
    """What the book reports while it matches."""

    def limit_x18(self, maker: Order, quantity_x18: int, planned: tuple[int, int]) -> int:
        """How much of the quantity the maker may trade, 0 if its account cannot bear it.

        planned: change of base and quote its account is to undergo before.
        """

    def matched(self, taker: Order, maker: Order, quantity_x18: int) -> None:
        """One match at the maker's price; both remainders are already reduced."""

    def removed(self, order: Order, why: str) -> None:
        """A resting order was taken off: `self_trade`, or `unfit` to trade."""


class _Level:
    """Orders of one price, oldest first, and their total."""

    __slots__ = ("orders", "total_x18")

    def __init__(self) -> None:
        # OrderedDict: first entry and removal anywhere are both constant time.
        self.orders: OrderedDict[str, Order] = OrderedDict()
        self.total_x18 = 0


class _Side:
    """Price levels of one side. Keys are sorted so that the best price is the last one."""

    __slots__ = ("_keys", "_levels", "_sign")

    def __init__(self, is_bid: bool) -> None:
        self._sign = 1 if is_bid else -1
        self._keys: list[int] = []
        self._levels: dict[int, _Level] = {}

    def __len__(self) -> int:
        return len(self._keys)

    def best(self) -> _Level | None:
        return self._levels[self._keys[-1]] if self._keys else None

    @property
    def best_price_x18(self) -> int | None:
        return self._keys[-1] * self._sign if self._keys else None

    def total_x18(self, price_x18: int) -> int:
        level = self._levels.get(price_x18 * self._sign)
        return level.total_x18 if level is not None else 0

    def levels(self) -> Iterator[tuple[int, _Level]]:
        """(price, level), best first."""
        for key in reversed(self._keys):
            yield key * self._sign, self._levels[key]

    def add(self, order: Order) -> None:
        key = order.price_x18 * self._sign
        level = self._levels.get(key)
        if level is None:
            level = self._levels[key] = _Level()
            insort(self._keys, key)
        level.orders[order.digest] = order
        level.total_x18 += order.remaining_x18

    def remove(self, order: Order) -> None:
        key = order.price_x18 * self._sign
        level = self._levels[key]
        del level.orders[order.digest]
        level.total_x18 -= order.remaining_x18
        if not level.orders:
            del self._levels[key]
            del self._keys[bisect_left(self._keys, key)]

    def reduce(self, order: Order, quantity_x18: int) -> None:
        """Take quantity off a resting order, and the order off the book when nothing is left."""
        order.remaining_x18 -= quantity_x18
        self._levels[order.price_x18 * self._sign].total_x18 -= quantity_x18
        if order.remaining_x18 == 0:
            self.remove(order)


class Book:
    """Resting orders of one product.

    touched: levels that changed since the owner last took the set away with take_touched().
    """

    def __init__(self, product_id: int) -> None:
        self.product_id = product_id
        self.orders: dict[str, Order] = {}
        self._bids = _Side(is_bid=True)
        self._asks = _Side(is_bid=False)
        self._by_account: dict[str, dict[str, Order]] = {}
        self._touched: set[tuple[SideName, int]] = set()

    # ---- reading

    def bbo(self) -> tuple[int, int, int, int]:
        """(bid price, bid qty, ask price, ask qty), with the wire's sentinels for an empty side."""
        bid, ask = self._bids.best(), self._asks.best()
        return (
            self._bids.best_price_x18 or NO_BID_X18,
            bid.total_x18 if bid is not None else 0,
            self._asks.best_price_x18 or NO_ASK_X18,
            ask.total_x18 if ask is not None else 0,
        )

    def level_x18(self, side: SideName, price_x18: int) -> int:
        """Total quantity resting at a price; 0 if the level is not there."""
        return (self._bids if side == "bids" else self._asks).total_x18(price_x18)

    def depth(self, side: SideName, levels: int) -> list[tuple[int, int]]:
        """Up to `levels` of (price, quantity), best first."""
        result: list[tuple[int, int]] = []
        for price, level in (self._bids if side == "bids" else self._asks).levels():
            if len(result) >= levels:
                break
            result.append((price, level.total_x18))
        return result

    def of_account(self, subaccount: str) -> list[Order]:
        """Resting orders of one subaccount, oldest first."""
        return list(self._by_account.get(subaccount, {}).values())

    def count_of(self, subaccount: str) -> int:
        return len(self._by_account.get(subaccount, ()))

    def crosses(self, order: Order) -> bool:
        """Whether the order would trade against the best opposite price."""
        best = self._opposite(order).best_price_x18
        return best is not None and _accepts(order, best)

    def meets_own(self, order: Order) -> bool:
        """Whether the order would come upon a resting one of its own account."""
        quantity_x18 = order.remaining_x18
        for price, level in self._opposite(order).levels():
            if quantity_x18 <= 0 or not _accepts(order, price):
                return False
            for maker in level.orders.values():
                if maker.account is order.account:
                    return True
                quantity_x18 -= maker.remaining_x18
                if quantity_x18 <= 0:
                    return False
        return False

    @property
    def has_touched(self) -> bool:
        return bool(self._touched)

    def take_touched(self) -> set[tuple[SideName, int]]:
        touched, self._touched = self._touched, set()
        return touched

    # ---- changing

    def rest(self, order: Order) -> None:
        self._own(order).add(order)
        self.orders[order.digest] = order
        self._by_account.setdefault(order.account.id, {})[order.digest] = order
        self._touched.add((order.side, order.price_x18))

    def remove(self, order: Order) -> None:
        """Take a resting order off the book."""
        self._own(order).remove(order)
        self._forget(order)

    def can_fill(self, order: Order, quantity_x18: int, listener: Listener) -> bool:
        """Whether `quantity_x18` would trade at once; own orders and unfit makers do not count."""
        planned: dict[tuple[str, bool], tuple[int, int]] = {}
        for price, level in self._opposite(order).levels():
            if quantity_x18 <= 0 or not _accepts(order, price):
                break
            for maker in level.orders.values():
                if maker.account is order.account or quantity_x18 <= 0:
                    continue
                bearer = (maker.account.id, maker.is_isolated)
                before = planned.get(bearer, NOTHING_PLANNED)
                quantity = listener.limit_x18(maker, min(quantity_x18, maker.remaining_x18), before)
                if quantity > 0:
                    base, quote = maker_change(maker, quantity)
                    planned[bearer] = (before[0] + base, before[1] + quote)
                    quantity_x18 -= quantity
        return quantity_x18 <= 0

    def take(self, order: Order, quantity_x18: int, listener: Listener) -> None:
        """Match the order against the opposite side, for at most `quantity_x18`.

        A resting order of the same account is cancelled, not traded with; so is one whose account fails.
        """
        opposite = self._opposite(order)
        while quantity_x18 > 0:
            best = opposite.best()
            if best is None:
                return
            maker = next(iter(best.orders.values()))
            if not _accepts(order, maker.price_x18):
                return
            if maker.account is order.account:
                self.remove(maker)
                listener.removed(maker, "self_trade")
                continue
            quantity = min(quantity_x18, maker.remaining_x18)
            if not maker.account.is_house:
                quantity = listener.limit_x18(maker, quantity, NOTHING_PLANNED)
            if quantity <= 0:
                self.remove(maker)
                listener.removed(maker, "unfit")
                continue
            quantity_x18 -= quantity
            order.remaining_x18 -= quantity
            opposite.reduce(maker, quantity)
            if maker.remaining_x18 == 0:
                self._forget(maker)
            else:
                self._touched.add((maker.side, maker.price_x18))
            listener.matched(order, maker, quantity)

    def _forget(self, order: Order) -> None:
        del self.orders[order.digest]
        own = self._by_account[order.account.id]
        del own[order.digest]
        if not own:
            del self._by_account[order.account.id]
        self._touched.add((order.side, order.price_x18))

    def _own(self, order: Order) -> _Side:
        return self._bids if order.is_buy else self._asks

    def _opposite(self, order: Order) -> _Side:
        return self._asks if order.is_buy else self._bids


def _accepts(order: Order, price_x18: int) -> bool:
    """Whether the order may trade at this price of the opposite side."""
    return price_x18 <= order.price_x18 if order.is_buy else price_x18 >= order.price_x18


def maker_change(maker: Order, quantity_x18: int) -> tuple[int, int]:
    """(base, quote) change of the maker's account before fees, for a match of this quantity."""
    base = quantity_x18 if maker.is_buy else -quantity_x18
    return base, mul_x18(-base, maker.price_x18)
