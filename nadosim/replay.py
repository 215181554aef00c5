"""Books driven by a recording, with room for orders of our own.

Every recorded level is one order of a house account, kept at the recorded total: a snapshot
(`market_liquidity`) sets a book, each later `book_depth` changes it. Recorded trades are published as they
were, but take nothing from the book: the recorded depth already shows what they left.

Our orders match conservatively. A resting order is last in the queue of its price, so it
fills only when the market goes through it: a recorded trade at a price worse for the taker than ours, for no
more than that trade's size, or a recorded level that would cross ours. A trade at our very price never fills
us. An order that takes meets the recorded quantities at their prices, and what it took is gone until the
recording next mentions that level. Nobody in the recording reacts to us.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson

from .engine import SideName
from .errors import ExchangeError
from .exchange import Exchange
from .recording import BadRecording, Frame
from .requests import OrderType
from .seeded_keys import default_subaccount
from .steps import Step
from .x18 import NS_PER_S

LEVELS: Final = default_subaccount(f"0x{9_001:040x}")
STRIKER: Final = default_subaccount(f"0x{9_002:040x}")


@dataclass(frozen=True, slots=True)
class _Levels:
    """A snapshot, or what changed. totals: (side, price, quantity), 0 for a level that is gone."""

    product_id: int
    stamp_ns: int
    totals: list[tuple[SideName, int, int]]
    is_snapshot: bool

    @classmethod
    def of(cls, message: Mapping[str, Any], stamp: str, *, is_snapshot: bool) -> _Levels:
        """Raises KeyError, TypeError, ValueError for what is neither."""
        sides: tuple[SideName, SideName] = ("bids", "asks")
        totals = [(side, int(price), int(total)) for side in sides for price, total in message[side]]
        if any(price <= 0 or total < 0 for _, price, total in totals):
            raise ValueError("a level of less than nothing")
        return cls(message["product_id"], int(message[stamp]), totals, is_snapshot)


@dataclass(frozen=True, slots=True)
class _Trade:
    """A trade as everybody saw it. quantity_x18: unsigned."""

    product_id: int
    price_x18: int
    quantity_x18: int
    is_buy: bool
    event: Mapping[str, Any]


class Replay:
    """Plays a recording in its own time; the same interface as the market: advance() and next_event_s()."""

    def __init__(self, exchange: Exchange, frames: Iterable[Frame]) -> None:
        self._exchange = exchange
        self._events = self._relevant(iter(frames))
        self._levels: dict[tuple[int, SideName, int], str] = {}
        self._snapshots: dict[int, int] = {}  # product → stamp; no book before its first one
        self._next: tuple[float, _Levels | _Trade] | None = None
        self._start_ns = 0
        self.now_s = 0.0
        self.played = 0
        self.refused = 0

    def open(self) -> None:
        """Find the first message; books are set when time begins. Raises BadRecording."""
        self._next = self._pull()

    @property
    def is_over(self) -> bool:
        return self._next is None

    def advance(self, until_s: float, max_events: int | None = None) -> bool:
        """Play what is due until `until_s` of recorded time. False: stopped early at `max_events`."""
        played = 0
        while self._next is not None and self._next[0] <= until_s:
            if played == max_events:
                return False
            self.now_s, message = self._next
            self._play(message)
            self._next = self._pull()
            played += 1
            self.played += 1
        self.now_s = until_s
        return True

    def next_event_s(self) -> float:
        return self._next[0] if self._next is not None else self.now_s + 1.0

    # Reading ----------------------------------------------------------------------------------

    def _pull(self) -> tuple[float, _Levels | _Trade] | None:
        return next(self._events, None)

    def _relevant(self, frames: Iterator[Frame]) -> Iterator[tuple[float, _Levels | _Trade]]:
        """(seconds since the first one, message) of what moves our books."""
        for frame in frames:
            if frame.direction != "in":
                continue
            try:
                message = orjson.loads(frame.text)
            except orjson.JSONDecodeError:
                continue
            try:
                found = _parse(message) if isinstance(message, dict) else None
                is_ours = found is not None and found.product_id in self._exchange.books
            except (KeyError, TypeError, ValueError) as error:
                text = f"the frame of {frame.received_ns} is none of this protocol: {error!r}"
                raise BadRecording(text) from None
            if found is not None and is_ours:
                self._start_ns = self._start_ns or frame.received_ns
                yield (frame.received_ns - self._start_ns) / NS_PER_S, found

    # Playing ----------------------------------------------------------------------------------

    def _play(self, message: _Levels | _Trade) -> None:
        if isinstance(message, _Trade):
            self._trade(message)
        elif message.is_snapshot:
            self._load(message)
        else:
            taken_ns = self._snapshots.get(message.product_id)
            if taken_ns is not None and message.stamp_ns > taken_ns:
                self._change(message.product_id, message.totals)

    def _load(self, snapshot: _Levels) -> None:
        """Levels the snapshot does not have are gone; the others stay, changed or not."""
        product_id = snapshot.product_id
        shown = {(side, price) for side, price, _ in snapshot.totals}
        gone = [key[1:] for key in self._levels if key[0] == product_id and key[1:] not in shown]
        self._snapshots[product_id] = snapshot.stamp_ns
        self._change(product_id, [*((side, price, 0) for side, price in gone), *snapshot.totals])

    def _change(self, product_id: int, totals: list[tuple[SideName, int, int]]) -> None:
        """Removals first, so that a book that moved does not cross itself on the way."""
        for side, price, total in sorted(totals, key=lambda change: change[2] != 0):
            self._set(product_id, side, price, total)
        bid, _, ask, _ = self._exchange.bbo(product_id)
        self._exchange.set_oracle(product_id, self._index(product_id, bid, ask))

    def _index(self, product_id: int, bid: int, ask: int) -> int:
        """The recording has no oracle: the middle of the book stands in for it."""
        if bid and ask < 1 << 126:
            return (bid + ask) // 2
        return self._exchange.accounts.states[product_id].oracle_price_x18

    def _set(self, product_id: int, side: SideName, price: int, total: int) -> None:
        digest = self._levels.pop((product_id, side, price), None)
        resting = None if digest is None else self._exchange.books[product_id].orders.get(digest)
        if resting is not None and resting.remaining_x18 == total:
            self._levels[product_id, side, price] = resting.digest
            return
        if digest is not None:
            self._exchange.house_cancel(LEVELS, product_id, digest)
        if not total:
            return
        amount = total if side == "bids" else -total
        try:
            digest = self._exchange.house_place(LEVELS, product_id, price, amount, OrderType.DEFAULT)
        except ExchangeError:
            self.refused += 1
            return
        self._levels[product_id, side, price] = digest

    def _trade(self, trade: _Trade) -> None:
        self._strike(trade.product_id, trade.price_x18, trade.quantity_x18, is_buy=trade.is_buy)
        now_ns = self._exchange.clock.step_ns()
        self._exchange.publish(Step(now_ns, trades=[{**trade.event, "timestamp": str(now_ns)}]))

    def _strike(self, product_id: int, price: int, quantity: int, *, is_buy: bool) -> None:
        """Fill our orders that the trade went through: recorded levels before it are gone by then."""
        side: SideName = "asks" if is_buy else "bids"
        tick = self._exchange.products[product_id].price_increment_x18
        limit = price - tick if is_buy else price + tick
        if not any(
            not order.account.is_house and order.side == side and _beats(order.price_x18, price, is_buy)
            for order in self._exchange.books[product_id].orders.values()
        ):
            return
        for key in [k for k in self._levels if k[:2] == (product_id, side) and _beats(k[2], price, is_buy)]:
            self._set(*key, 0)
        try:
            amount = quantity if is_buy else -quantity
            self._exchange.house_place(STRIKER, product_id, limit, amount, OrderType.IOC)
        except ExchangeError:
            self.refused += 1


def _parse(message: Mapping[str, Any]) -> _Levels | _Trade | None:
    """What moves a book, checked; None for anything else. Raises KeyError, TypeError, ValueError."""
    if message.get("request_type") == "query_market_liquidity":
        data = message.get("data")
        return None if data is None else _Levels.of(data, "timestamp", is_snapshot=True)
    if message.get("type") == "book_depth":
        return _Levels.of(message, "max_timestamp", is_snapshot=False)
    if message.get("type") != "trade":
        return None
    price, quantity = int(message["price"]), int(message["taker_qty"])
    if price <= 0 or quantity <= 0:
        raise ValueError("a trade of nothing")
    return _Trade(message["product_id"], price, quantity, bool(message["is_taker_buyer"]), message)


def _beats(resting: int, traded: int, is_buy: bool) -> bool:
    """Whether the taker would have met `resting` before it traded at `traded`."""
    return resting < traded if is_buy else resting > traded
