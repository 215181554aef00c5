"""Orders that were never sent, matched against a recorded market, conservatively.

- An order that takes waits for the exchange's hold, then meets the recorded levels inside its price, at their
  prices; what it took of a level is gone until that level's recorded quantity changes.
- A resting order is last in the queue of its price. It fills only when the market goes through it: a recorded
  trade at a price worse for the taker than ours, for no more than that trade's size, or recorded levels that
  would cross ours, each for what it shows, once until that changes. A trade at our very price never fills it.
- Nobody in the recording reacts to us, and what the recorded run had on the book is part of the market.

The rules are those by which the embedded exchange plays recordings. Pure: the caller keeps the time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from nadofast import OrderBook
from nadofast.events import FillEvent, TradeEvent
from nadofast.products import X18, Product, div_x18, mul_x18

from .execution import OrderView
from .risk import OrderIntent
from .units import sign

HOLD_NS: Final = 30_000_000
"""How long the exchange holds every order that is not post-only."""
WOULD_CROSS: Final = 2008
NOT_REPLACED: Final = 2121
LEVELS: Final = 100


@dataclass(slots=True)
class PaperOrder:
    """filled, is_final, code are what the exchange knows; `seen` is what its owner has heard of it."""

    intent: OrderIntent
    product: Product
    filled_x18: int = 0
    rests: bool = False
    is_final: bool = False
    code: int | None = None
    seen: OrderView = field(init=False)

    def __post_init__(self) -> None:
        self.seen = OrderView(self.intent.tag, 0, False)

    @property
    def left_x18(self) -> int:
        return abs(self.intent.amount_x18) - self.filled_x18

    def view(self) -> OrderView:
        """What an answer that leaves the exchange now says."""
        return OrderView(
            self.intent.tag, self.filled_x18, self.is_final, self.code, rests=self.rests and not self.is_final
        )


class PaperExchange:
    """on_fill(order, fill) runs at the moment of a match. One account, no margin."""

    def __init__(
        self, book: Callable[[int], OrderBook], on_fill: Callable[[PaperOrder, FillEvent], None]
    ) -> None:
        self._book = book
        self._on_fill = on_fill
        self._resting: list[PaperOrder] = []
        self._taken: dict[tuple[int, int, int], tuple[int, int]] = {}
        self._matches = 0

    def take(self, order: PaperOrder, now_ns: int) -> None:
        """An immediate-or-cancel order meets the book."""
        if self._book(order.intent.product_id).is_valid:
            self._meet(order, now_ns, is_taker=True)
        order.is_final = True

    def rest(self, order: PaperOrder, now_ns: int) -> None:
        """A post-only order comes to the book; refused where it would take."""
        touch = self._opposite(order)
        if touch is None or self._would_take(touch, order):
            order.code, order.is_final = WOULD_CROSS, True
            return
        order.rests = True
        self._resting.append(order)

    def cancel(self, order: PaperOrder) -> None:
        """Take it off, by request or because its time is over. What has ended stays as it is."""
        order.is_final = True
        if order in self._resting:
            self._resting.remove(order)

    def replace(self, old: PaperOrder, order: PaperOrder, now_ns: int) -> None:
        """Take one off and let the other come, if nothing of the first is filled; else nothing happens. One
        that would take is refused, and the first is off all the same."""
        if old not in self._resting or old.filled_x18 or order.is_final:
            order.code, order.is_final = NOT_REPLACED, True
            return
        self.cancel(old)
        self.rest(order, now_ns)

    def on_trade(self, trade: TradeEvent, now_ns: int) -> list[PaperOrder]:
        """The orders that a recorded trade has filled."""
        return [
            order
            for order in list(self._resting)
            if order.intent.product_id == trade.product_id
            and (order.intent.amount_x18 < 0) == trade.is_taker_buyer
            and (order.intent.price_x18 - trade.price_x18) * sign(order.intent.amount_x18) > 0
            and self._hit(order, trade.taker_qty_x18, now_ns)
        ]

    def on_book(self, product_id: int, now_ns: int) -> list[PaperOrder]:
        """The orders that recorded levels would have crossed."""
        found = []
        for order in [one for one in self._resting if one.intent.product_id == product_id]:
            if self._would_take(self._opposite(order), order) and self._meet(order, now_ns, is_taker=False):
                self._cancel_if_full(order)
                found.append(order)
        return found

    def resting(self, product_id: int | None = None) -> list[PaperOrder]:
        """What rests, of one product or of all."""
        return [one for one in self._resting if product_id in (None, one.intent.product_id)]

    # ------------------------------------------------------------------ parts

    @staticmethod
    def _levels(book: OrderBook, side: int) -> list[tuple[int, int]]:
        return book.asks(LEVELS) if side > 0 else book.bids(LEVELS)

    def _opposite(self, order: PaperOrder) -> tuple[int, int] | None:
        book = self._book(order.intent.product_id)
        if not book.is_valid:
            return None
        return book.best_ask if order.intent.amount_x18 > 0 else book.best_bid

    @staticmethod
    def _would_take(touch: tuple[int, int] | None, order: PaperOrder) -> bool:
        intent = order.intent
        return touch is not None and (touch[0] - intent.price_x18) * sign(intent.amount_x18) <= 0

    def _meet(self, order: PaperOrder, now_ns: int, *, is_taker: bool) -> bool:
        """The levels inside the order's price, each for what was not taken of it. Whether anything filled."""
        intent, side, before_x18 = order.intent, sign(order.intent.amount_x18), order.filled_x18
        for price_x18, qty_x18 in self._levels(self._book(intent.product_id), side):
            if not order.left_x18 or (price_x18 - intent.price_x18) * side > 0:
                break
            key = (intent.product_id, side, price_x18)
            shown_x18, taken_x18 = self._taken.get(key, (qty_x18, 0))
            if shown_x18 != qty_x18:
                taken_x18 = 0
            amount_x18 = min(order.left_x18, qty_x18 - taken_x18)
            if amount_x18 > 0:
                self._taken[key] = (qty_x18, taken_x18 + amount_x18)
                at_x18 = price_x18 if is_taker else intent.price_x18
                self._match(order, amount_x18, at_x18, now_ns, is_taker=is_taker)
        return order.filled_x18 > before_x18

    def _hit(self, order: PaperOrder, qty_x18: int, now_ns: int) -> bool:
        self._match(order, min(order.left_x18, qty_x18), order.intent.price_x18, now_ns, is_taker=False)
        self._cancel_if_full(order)
        return True

    def _cancel_if_full(self, order: PaperOrder) -> None:
        if not order.left_x18:
            self.cancel(order)

    def _match(
        self, order: PaperOrder, amount_x18: int, price_x18: int, now_ns: int, *, is_taker: bool
    ) -> None:
        fee_x18 = self._fee_x18(order, amount_x18, price_x18, is_taker=is_taker)
        order.filled_x18 += amount_x18
        self._matches += 1
        fill = FillEvent(
            product_id=order.intent.product_id, timestamp_ns=now_ns, subaccount="", appendix=0,
            order_digest=str(order.intent.tag), filled_qty_x18=amount_x18, remaining_qty_x18=order.left_x18,
            original_qty_x18=abs(order.intent.amount_x18), price_x18=price_x18, is_taker=is_taker,
            is_bid=order.intent.amount_x18 > 0, fee_x18=fee_x18, submission_idx=self._matches,
        )  # fmt: skip
        self._on_fill(order, fill)

    @staticmethod
    def _fee_x18(order: PaperOrder, amount_x18: int, price_x18: int, *, is_taker: bool) -> int:
        """As the exchange takes it out of the quote: a buy pays a share of all that it spends. A taker order
        pays on the product's least notional at least, with its first match."""
        product, metered_x18 = order.product, mul_x18(amount_x18, price_x18)
        if is_taker:
            beyond_x18 = mul_x18(order.filled_x18, price_x18) + metered_x18 - product.min_size_x18
            floor_x18 = product.min_size_x18 if not order.filled_x18 else 0
            metered_x18 = floor_x18 + max(0, min(beyond_x18, metered_x18))
        kept_x18 = X18 - (product.taker_fee_rate_x18 if is_taker else product.maker_fee_rate_x18)
        if order.intent.amount_x18 > 0:
            return div_x18(metered_x18, kept_x18) - metered_x18
        return metered_x18 - mul_x18(metered_x18, kept_x18)
