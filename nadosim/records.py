"""Memory of the exchange about real accounts: orders and how they ended, fills, executes. All bounded."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import dropwhile, takewhile
from typing import TypeVar

from .accounts import PerpBalance, Subaccount
from .engine import Order
from .x18 import div_trunc


@dataclass(frozen=True, slots=True)
class Closing:
    """What a fill closed of the position before it. closed_x18 is unsigned base."""

    closed_x18: int = 0
    realized_pnl_x18: int = 0
    closed_net_entry_x18: int = 0


@dataclass(slots=True)
class NetEntry:
    """Cost of the open position, fees included: the figure settlement does not disturb.

    unrealized_x18: of the open position; positive for longs. cumulative_x18: of everything ever traded.
    volume_x18: unsigned.
    """

    unrealized_x18: int = 0
    cumulative_x18: int = 0
    volume_x18: int = 0

    def book(self, position_x18: int, base_x18: int, quote_net_x18: int) -> Closing:
        """Take in a fill against the position held before it; reducing realises pro rata."""
        self.cumulative_x18 -= quote_net_x18
        self.volume_x18 += abs(quote_net_x18)
        if position_x18 * base_x18 >= 0:
            self.unrealized_x18 -= quote_net_x18
            return Closing()
        closed = min(abs(position_x18), abs(base_x18))
        quote_closing = div_trunc(quote_net_x18 * closed, abs(base_x18))
        entry_closed = div_trunc(self.unrealized_x18 * closed, abs(position_x18))
        self.unrealized_x18 -= entry_closed + (quote_net_x18 - quote_closing)
        return Closing(closed, quote_closing - entry_closed, entry_closed)


@dataclass(frozen=True, slots=True)
class Match:
    """One side of one match. Base and quote are signed; quote_net has all fees in it.

    bearer: the subaccount it was booked on. quote_before, quote_after: USDT0 of the order's account before,
    of the bearer after.
    """

    order: Order
    counterparty: Order
    bearer: Subaccount
    submission_idx: int
    timestamp_ns: int
    price_x18: int
    base_x18: int
    quote_net_x18: int
    fee_x18: int
    builder_fee_x18: int
    is_taker: bool
    before: PerpBalance
    after: PerpBalance
    quote_before_x18: int
    quote_after_x18: int


@dataclass(frozen=True, slots=True)
class FillRecord:
    """A match as the archive knows it.

    cumulative_*: of the order, this match included. net_entry_*: of the position after it.
    """

    match: Match
    cumulative_base_x18: int
    cumulative_quote_net_x18: int
    cumulative_fee_x18: int
    closing: Closing
    net_entry_unrealized_x18: int
    net_entry_cumulative_x18: int

    @property
    def timestamp_ns(self) -> int:
        return self.match.timestamp_ns


@dataclass(frozen=True, slots=True)
class BalanceRecord:
    """A change of one balance. kind: the event type of the archive.

    net_entry_*: as in FillRecord. net_funding_x18, volume_x18: of the subaccount in the product so far.
    """

    account: Subaccount
    product_id: int
    submission_idx: int
    timestamp_ns: int
    kind: str
    before: PerpBalance
    after: PerpBalance
    oracle_price_x18: int
    net_entry_unrealized_x18: int = 0
    net_entry_cumulative_x18: int = 0
    net_funding_x18: int = 0
    volume_x18: int = 0


@dataclass(frozen=True, slots=True)
class FundingRecord:
    """What one subaccount paid (negative) or got for its position. rate_x18: of the interval."""

    account: Subaccount
    product_id: int
    submission_idx: int
    timestamp_ns: int
    amount_x18: int
    position_x18: int
    rate_x18: int
    daily_rate_x18: int
    oracle_price_x18: int


@dataclass(slots=True)
class OrderRecord:
    """A real order and its fills."""

    order: Order
    fills: list[FillRecord]


@dataclass(slots=True)
class ExecuteRecord:
    """One execute as received. error_code is None when it was accepted; is_done while nobody waits for it."""

    received_ns: int
    kind: str
    sender: str
    digests: tuple[str, ...] = ()
    is_done: bool = False
    error_code: int | None = None


Told = TypeVar("Told", FillRecord, BalanceRecord, FundingRecord)


class History:
    """Newest `limit` finished orders, fills and executes; live orders are always kept."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._orders: dict[str, OrderRecord] = {}
        self._finished: deque[OrderRecord] = deque()
        self._fills: deque[FillRecord] = deque(maxlen=limit)
        self._executes: deque[ExecuteRecord] = deque(maxlen=limit)
        self._balances: deque[BalanceRecord] = deque(maxlen=limit)
        self._fundings: deque[FundingRecord] = deque(maxlen=limit)
        self._net_funding: dict[tuple[str, int], int] = {}
        self._entries: dict[tuple[str, int], NetEntry] = {}
        self._known_ns: int | None = None

    @contextmanager
    def as_of(self, known_ns: int | None) -> Iterator[None]:
        """Inside the block nothing newer is told: what an archive knows that is behind."""
        self._known_ns = known_ns
        try:
            yield
        finally:
            self._known_ns = None

    def opened(self, order: Order) -> None:
        """A real order reached the engine. A digest that comes back keeps its fills."""
        earlier = self._orders.pop(order.digest, None)
        self._orders[order.digest] = OrderRecord(order, earlier.fills if earlier is not None else [])

    def finished(self, order: Order) -> None:
        record = self._orders.get(order.digest)
        if record is None:
            return
        self._finished.append(record)
        while len(self._finished) > self._limit:
            oldest = self._finished.popleft()
            if self._orders.get(oldest.order.digest) is oldest:
                del self._orders[oldest.order.digest]

    def filled(self, match: Match) -> None:
        """Record one side of a match; its order must have been opened."""
        order = match.order
        record = self._orders[order.digest]
        last = record.fills[-1] if record.fills else None
        entry = self._entries.setdefault((match.bearer.id, order.product_id), NetEntry())
        closing = entry.book(match.before.amount_x18, match.base_x18, match.quote_net_x18)
        fill = FillRecord(
            match=match,
            cumulative_base_x18=match.base_x18 + (last.cumulative_base_x18 if last else 0),
            cumulative_quote_net_x18=match.quote_net_x18 + (last.cumulative_quote_net_x18 if last else 0),
            cumulative_fee_x18=match.fee_x18 + (last.cumulative_fee_x18 if last else 0),
            closing=closing,
            net_entry_unrealized_x18=entry.unrealized_x18,
            net_entry_cumulative_x18=entry.cumulative_x18,
        )
        record.fills.append(fill)
        self._fills.append(fill)

    def balance_changed(self, record: BalanceRecord) -> None:
        key = (record.account.id, record.product_id)
        entry = self._entries.get(key)
        if entry is not None:
            record = replace(
                record,
                net_entry_unrealized_x18=entry.unrealized_x18,
                net_entry_cumulative_x18=entry.cumulative_x18,
                net_funding_x18=self._net_funding.get(key, 0),
                volume_x18=entry.volume_x18,
            )
        self._balances.append(record)

    def liquidated(
        self, account: Subaccount, product_id: int, position_x18: int, base_x18: int, quote_x18: int
    ) -> None:
        """A position changed hands without an order: the entry figures follow."""
        entry = self._entries.setdefault((account.id, product_id), NetEntry())
        entry.book(position_x18, base_x18, quote_x18)

    def funding_paid(self, record: FundingRecord) -> None:
        key = (record.account.id, record.product_id)
        self._net_funding[key] = self._net_funding.get(key, 0) + record.amount_x18
        self._fundings.append(record)

    def balances_newest_first(self) -> Iterator[BalanceRecord]:
        return self._told(reversed(self._balances))

    def fundings_newest_first(self) -> Iterator[FundingRecord]:
        return self._told(reversed(self._fundings))

    def executed(self, received_ns: int, kind: str, sender: str = "") -> ExecuteRecord:
        record = ExecuteRecord(received_ns, kind, sender)
        self._executes.append(record)
        return record

    def order(self, digest: str) -> OrderRecord | None:
        return self._orders.get(digest)

    def orders(self) -> Iterator[OrderRecord]:
        """Oldest first."""
        return iter(self._orders.values())

    def fills(self) -> Iterator[FillRecord]:
        """Oldest first."""
        return iter(self._fills)

    def fills_newest_first(self) -> Iterator[FillRecord]:
        return self._told(reversed(self._fills))

    def fills_of(self, record: OrderRecord) -> list[FillRecord]:
        """Oldest first."""
        known_ns = self._known_ns
        if known_ns is None:
            return record.fills
        return [fill for fill in record.fills if fill.timestamp_ns <= known_ns]

    def untold(self) -> int:
        """How many transactions of real accounts are too new to be told."""
        known_ns = self._known_ns
        if known_ns is None:
            return 0
        changes = takewhile(lambda record: record.timestamp_ns > known_ns, reversed(self._balances))
        payments = takewhile(lambda record: record.timestamp_ns > known_ns, reversed(self._fundings))
        return len({r.submission_idx for r in changes} | {r.submission_idx for r in payments})

    def executes(self) -> Iterator[ExecuteRecord]:
        """Oldest first."""
        return iter(self._executes)

    def _told(self, newest_first: Iterator[Told]) -> Iterator[Told]:
        known_ns = self._known_ns
        if known_ns is None:
            return newest_first
        return dropwhile(lambda record: record.timestamp_ns > known_ns, newest_first)
