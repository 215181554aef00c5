"""What is known about every own order, by digest. Sans-I/O: facts in, state out.

Facts arrive from three sources that are not ordered against each other (replies, streams, queries) and may
be repeated. Each is only ever added, and the state is computed from the set, so every order of arrival
gives the same result.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from itertools import islice
from typing import Final

from . import wire
from .appendix import OrderType, unpack_appendix
from .callbacks import enlist
from .events import FillEvent, OrderUpdateEvent
from .products import div_x18, mul_x18
from .signing import SignedOrder

# A link that breaks is noticed within this time.
RECENT_NS: Final = 10_000_000_000
_log = logging.getLogger(__name__)

__all__ = ["OrderState", "OrderTracker", "OutcomeFacts", "TrackedOrder"]


class OrderState(Enum):
    """SIGNED → SENT → OPEN → PARTIAL → FILLED | CANCELLED | EXPIRED, or REJECTED, DENIED; UNKNOWN when no
    answer came. EXPIRED: it rested and the exchange took it off at its expiration, not a cancel of ours."""

    SIGNED = "signed"
    SENT = "sent"
    UNKNOWN = "unknown"
    OPEN = "open"
    PARTIAL = "partial"
    FILLED = "filled"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    REJECTED = "rejected"
    DENIED = "denied"


TERMINAL: Final = frozenset(
    {OrderState.FILLED, OrderState.CANCELLED, OrderState.EXPIRED, OrderState.REJECTED, OrderState.DENIED}
)
_MAX_RECENT_FILLS: Final = 1_000
_NS_PER_S: Final = 1_000_000_000


@dataclass(frozen=True, slots=True)
class OutcomeFacts:
    """What an answer (or its absence) says about an order. hint_code: what a refusal said that settles
    nothing by itself, because another copy may have been taken."""

    accepted: bool = False
    rejected_code: int | None = None
    hint_code: int | None = None
    is_rejected: bool = False
    is_denied: bool = False
    is_unknown: bool = False


@dataclass(slots=True, eq=False)
class TrackedOrder:
    """One own order. It never holds the signature: records may be stored, signatures must not.

    amount_x18 is signed, filled amounts are absolute. `filled_x18`, `quote_x18` and `fee_x18` are exact sums
    of the fill events seen; `known_filled_x18` may be ahead of them (a cancel reply or an order update says
    how much is left before the fills arrive). `is_settled`: terminal, and every fill it implies was seen.
    After a break of the stream a `cancelled` alone implies nothing: a source must say what was left.
    `replaces`: digest of the order it takes the place of in one step of the engine, "" if of none.
    """

    digest: str
    product_id: int
    sender: str
    price_x18: int
    amount_x18: int
    expiration_s: int
    nonce: int
    appendix: int
    client_id: int | None = None
    replaces: str = ""
    created_ns: int = 0
    sent_ns: int | None = None
    first_fill_ns: int | None = None
    last_fill_ns: int | None = None
    fills: list[FillEvent] = field(default_factory=list)
    filled_x18: int = 0
    quote_x18: int = 0
    fee_x18: int = 0
    _code: int | None = None
    _hint_code: int | None = None
    _accepted: bool = False
    _rejected: bool = False
    _denied: bool = False
    _unknown: bool = False
    _cancelled: bool = False
    _by_cancel: bool = False
    _ended_ns: int | None = None
    _absences: int = 0
    _left_x18: int | None = None
    _changed_ns: int = 0
    _had_gap: bool = False
    _is_left_final: bool = False
    _was_resent: bool = False
    _is_last_word: bool = False
    _fill_keys: set[int] = field(default_factory=set)

    @property
    def is_buy(self) -> bool:
        return self.amount_x18 > 0

    @property
    def error_code(self) -> int | None:
        """Why it was refused, if it was and anybody said."""
        return self._hint_code if self._code is None and self._rejected else self._code

    @property
    def known_filled_x18(self) -> int:
        """The most that any source says was filled, absolute."""
        size = abs(self.amount_x18)
        by_rest = 0 if self._left_x18 is None else size - self._left_x18
        return min(size, max(self.filled_x18, by_rest))

    @property
    def remaining_x18(self) -> int:
        """What may still fill while the order lives: |amount| less what is known to be filled."""
        return abs(self.amount_x18) - self.known_filled_x18

    @property
    def state(self) -> OrderState:
        if self.known_filled_x18 >= abs(self.amount_x18):
            return OrderState.FILLED
        if self._has_expired:
            return OrderState.EXPIRED
        if self._cancelled or (self._rejected and self._was_seen):
            return OrderState.CANCELLED
        if self._rejected:
            return OrderState.REJECTED
        if self._was_seen:
            return OrderState.PARTIAL if self.known_filled_x18 else OrderState.OPEN
        if self._denied:
            return OrderState.DENIED
        if self._unknown:
            return OrderState.UNKNOWN
        return OrderState.SIGNED if self.sent_ns is None else OrderState.SENT

    @property
    def may_rest(self) -> bool:
        """Of a type that waits on the book."""
        return unpack_appendix(self.appendix).order_type in (OrderType.DEFAULT, OrderType.POST_ONLY)

    @property
    def _has_expired(self) -> bool:
        if self._ended_ns is None or self._by_cancel or not self.may_rest:
            return False
        return self._ended_ns >= self.expiration_s * _NS_PER_S

    @property
    def _was_seen(self) -> bool:
        return self._accepted or self.known_filled_x18 > 0

    @property
    def is_terminal(self) -> bool:
        return self.state in TERMINAL

    @property
    def is_settled(self) -> bool:
        """Terminal, and no fill that is known to exist, or may hide in a gap, is missing from `fills`."""
        if not self.is_terminal or self.filled_x18 < self.known_filled_x18:
            return False
        if self._is_last_word or not self.was_accepted or self.remaining_x18 == 0:
            return True
        # A second copy can revive what the first one left unfilled: no single end is the last word then.
        return not self._was_resent and (self._is_left_final or not self._had_gap)

    @property
    def is_gone(self) -> bool:
        """Two sources say that it is over, or one question asked twice; or there is nothing left of it to be
        over. Only such an order may be forgotten."""
        if self.filled_x18 >= abs(self.amount_x18) or self._is_left_final or self._is_last_word:
            return True
        if not self.was_accepted:
            return self._rejected or self._denied
        # What cannot rest is over by its nature; the stream, or a query, only has to have seen it.
        return (self._ended_ns is not None) + (not self.may_rest) + min(self._absences, 2) >= 2

    @property
    def may_revive(self) -> bool:
        """More than one copy of its bytes left, and something is unfilled: the engine may take another copy
        after the order has ended, until its discard time."""
        return self._was_resent and not self._is_last_word and self.remaining_x18 > 0

    @property
    def was_accepted(self) -> bool:
        """Some source has seen it at the engine."""
        return self._was_seen or self._cancelled

    @property
    def avg_price_x18(self) -> int | None:
        """Volume-weighted price of the fills without fees, truncated; None before the first fill."""
        return None if self.filled_x18 == 0 else div_x18(abs(self.quote_x18), self.filled_x18)


class OrderTracker:
    """Own orders by digest. Feed it with every outcome, fill and order update; ask it for the truth so far.

    Finished records are kept up to `max_finished`, oldest forgotten first. An order is not forgotten before
    it is settled and two sources agree that it is gone (`TrackedOrder.is_gone`); a live one never.
    """

    def __init__(
        self, *, max_finished: int = 10_000, clock_ns: Callable[[], int] = time.monotonic_ns
    ) -> None:
        self._orders: dict[str, TrackedOrder] = {}
        self._finished: dict[str, None] = {}
        # Thousands of finished records are kept: whoever asks for the few others must not go through them.
        self._live: dict[str, TrackedOrder] = {}
        self._unsettled: dict[str, TrackedOrder] = {}
        self._in_doubt: dict[str, TrackedOrder] = {}
        self._recent: dict[str, TrackedOrder] = {}
        self._max_finished = max_finished
        self._clock_ns = clock_ns
        self._listeners: list[Callable[[TrackedOrder], None]] = []
        self._recent_fills: deque[FillEvent] = deque(maxlen=_MAX_RECENT_FILLS)
        self.foreign_events = 0
        """Events of digests that were never registered here."""
        self.listener_errors = 0

    def get(self, digest: str) -> TrackedOrder | None:
        """The record of a digest, None if there is none (any more)."""
        return self._orders.get(digest.lower())

    def __len__(self) -> int:
        return len(self._orders)

    def live(self) -> list[TrackedOrder]:
        """Orders that are not terminal, oldest first."""
        return list(self._live.values())

    def ends_in_doubt(self) -> list[TrackedOrder]:
        """Orders that one source alone says are over."""
        return list(self._in_doubt.values())

    def ends_not_settled(self) -> list[TrackedOrder]:
        """Orders that have ended, of which no fill is known to be missing, but one may be, or a copy may have
        come after all."""
        ended = (order for order in self._unsettled.values() if order.is_terminal)
        return [order for order in ended if order.filled_x18 >= order.known_filled_x18]

    def untold(self, product_id: int) -> list[TrackedOrder]:
        """Orders of which more is known to be filled than fills were told."""
        of_product = (order for order in self._unsettled.values() if order.product_id == product_id)
        return [order for order in of_product if order.known_filled_x18 > order.filled_x18]

    def fills_after(self, product_id: int, submission_idx: int) -> list[FillEvent] | None:
        """Fills told of a product beyond this index; None if they are not all remembered any more."""
        recent = self._recent_fills
        if len(recent) == _MAX_RECENT_FILLS and min(f.submission_idx for f in recent) > submission_idx:
            return None
        return [f for f in recent if f.product_id == product_id and f.submission_idx > submission_idx]

    def on_change(self, listener: Callable[[TrackedOrder], None]) -> Callable[[], None]:
        """Call `listener` after every new fact of any order. Returns a function that stops it.

        An exception of a listener is logged and counted; it reaches nobody else.
        """
        return enlist(self._listeners, listener)

    def register(self, signed: SignedOrder) -> TrackedOrder:
        """Must precede the bytes: the first event of an order can overtake its reply. Idempotent."""
        return self.adopt(self.record_of(signed))

    def record_of(self, signed: SignedOrder) -> TrackedOrder:
        """A record that is not kept yet: `adopt` keeps it, before the bytes leave."""
        return TrackedOrder(
            digest=signed.digest,
            product_id=signed.product_id,
            sender=signed.sender,
            price_x18=signed.price_x18,
            amount_x18=signed.amount_x18,
            expiration_s=signed.expiration_s,
            nonce=signed.nonce,
            appendix=signed.appendix,
            client_id=signed.client_id,
            created_ns=self._clock_ns(),
        )

    def adopt(self, order: TrackedOrder) -> TrackedOrder:
        """Keep a record from now on, of whose order nobody has said anything yet. Idempotent: returns the one
        that is kept."""
        digest = order.digest
        kept = self._orders.get(digest)
        if kept is None:
            kept = self._orders[digest] = self._live[digest] = self._unsettled[digest] = order
        return kept

    def restore(
        self,
        *,
        digest: str,
        product_id: int,
        sender: str,
        price_x18: int,
        amount_x18: int,
        expiration_s: int,
        nonce: int,
        appendix: int,
        client_id: int | None = None,
    ) -> TrackedOrder:
        """An order of a former process, which may or may not have left it: UNKNOWN until somebody has seen
        it. Events from before this one are missing, so no end settles it that does not say what was left."""
        known = self._orders.get(digest)
        if known is not None:
            return known
        order = TrackedOrder(
            digest, product_id, sender, price_x18, amount_x18, expiration_s, nonce, appendix, client_id,
            created_ns=self._clock_ns(),
        )  # fmt: skip
        order._unknown = order._had_gap = order._was_resent = True
        return self.adopt(order)

    def on_gap(self) -> None:
        """Events may have been lost: the ends of the orders alive now, or a moment ago, do not say what was
        left."""
        self._forget_recent(self._clock_ns())
        for order in (self._unsettled | self._recent).values():
            order._had_gap = True
            self._file(order)

    def on_sent(self, digest: str, sent_ns: int) -> None:
        """The bytes were handed to a transport. The first time counts."""
        order = self._orders.get(digest)
        if order is not None and (order.sent_ns is None or sent_ns < order.sent_ns):
            order.sent_ns = sent_ns
            self._changed(order)

    def on_outcome(self, digest: str, facts: OutcomeFacts) -> None:
        """An answer came, or none did."""
        order = self._orders.get(digest)
        if order is None:
            return
        order._accepted |= facts.accepted
        order._rejected |= facts.is_rejected
        order._denied |= facts.is_denied
        order._unknown |= facts.is_unknown
        order._code = _lower(order._code, facts.rejected_code)
        order._hint_code = _lower(order._hint_code, facts.hint_code)
        self._changed(order)

    def on_fill(self, fill: FillEvent) -> TrackedOrder | None:
        """A fill of the stream, or one read from the archive. Returns the order if it is new, else None."""
        order = self._known(fill.order_digest)
        if order is None or fill.submission_idx in order._fill_keys:
            return None
        now = self._clock_ns()
        order._fill_keys.add(fill.submission_idx)
        order.fills.append(fill)
        self._recent_fills.append(fill)
        order.filled_x18 += fill.filled_qty_x18
        quote = mul_x18(fill.filled_qty_x18, fill.price_x18)
        order.quote_x18 += -quote if fill.is_bid else quote
        order.fee_x18 += fill.fee_x18
        order.first_fill_ns = now if order.first_fill_ns is None else min(order.first_fill_ns, now)
        order.last_fill_ns = now
        self._changed(order)
        return order

    def on_order_update(self, update: OrderUpdateEvent) -> TrackedOrder | None:
        """An order_update of the stream. `cancelled` does not say what was left; the cancel's reply does."""
        order = self._known(update.digest)
        if order is None:
            return None
        if update.reason == wire.REASON_CANCELLED:
            order._cancelled = True
            at_ns = update.timestamp_ns
            order._ended_ns = at_ns if order._ended_ns is None else min(order._ended_ns, at_ns)
        elif update.reason in (wire.REASON_PLACED, wire.REASON_FILLED):
            order._accepted = True
            _at_most_left(order, update.amount_x18)
        self._changed(order)
        return order

    def on_cancelled(self, digest: str, unfilled_x18: int | None) -> TrackedOrder | None:
        """A cancel's reply (final for the order), or None where a source only says that it is gone."""
        order = self._known(digest)
        if order is None:
            return None
        order._cancelled = order._by_cancel = True
        if unfilled_x18 is not None:
            order._is_left_final = True
            _at_most_left(order, unfilled_x18)
        self._changed(order)
        return order

    def on_resent(self, digest: str) -> None:
        """A second copy of the bytes leaves."""
        order = self._orders.get(digest)
        if order is not None:
            order._was_resent = True
            self._file(order)

    def on_last_word(self, digest: str, unfilled_x18: int) -> TrackedOrder | None:
        """Book and archive have both passed the order's discard time: this is what is unfilled for good."""
        order = self._known(digest)
        if order is None:
            return None
        order._cancelled = order._is_last_word = True
        _at_most_left(order, unfilled_x18)
        self._changed(order)
        return order

    def on_resting(self, digest: str, unfilled_x18: int) -> TrackedOrder | None:
        """A query shows the order on the book with this much unfilled."""
        order = self._known(digest)
        if order is None:
            return None
        order._accepted = True
        _at_most_left(order, unfilled_x18)
        self._changed(order)
        return order

    def on_absent(self, digest: str) -> None:
        """A query shows that an order which was accepted does not rest."""
        order = self._orders.get(digest)
        if order is not None:
            order._absences += 1
            self._changed(order)

    def on_archived(self, digest: str, base_filled_x18: int) -> TrackedOrder | None:
        """The archive knows the order with this much filled so far."""
        order = self._known(digest)
        if order is None:
            return None
        order._accepted = True
        _at_most_left(order, abs(order.amount_x18) - abs(base_filled_x18))
        self._changed(order)
        return order

    def _known(self, digest: str) -> TrackedOrder | None:
        order = self._orders.get(digest.lower())
        if order is None:
            self.foreign_events += 1
        return order

    def _changed(self, order: TrackedOrder) -> None:
        now_ns = order._changed_ns = self._clock_ns()
        self._recent.pop(order.digest, None)
        self._recent[order.digest] = order  # the newest last
        self._forget_recent(now_ns)
        self._file(order)
        if order.is_terminal:
            self._finished.setdefault(order.digest)
            self._forget()
        for listener in tuple(self._listeners):
            try:
                listener(order)
            except Exception:
                # Facts come from the receive path and from between two sends: neither may be torn apart.
                self.listener_errors += 1
                _log.exception("a listener failed on order %s", order.digest)

    def _file(self, order: TrackedOrder) -> None:
        """Where an order is to be found, by what is known of it now."""
        is_live = not order.is_terminal
        _keep(self._live, order, is_live)
        _keep(self._unsettled, order, is_live or not order.is_settled)
        _keep(self._in_doubt, order, not is_live and not order.is_gone)

    def _forget_recent(self, now_ns: int) -> None:
        """Changes are in the order of their times, so the old ones are in front."""
        recent_ns = now_ns - RECENT_NS
        while self._recent:
            digest, order = next(iter(self._recent.items()))
            if order._changed_ns >= recent_ns:
                return
            del self._recent[digest]

    def _forget(self) -> None:
        """Drop the oldest finished orders beyond the bound, but none that is not certain to be over."""
        excess = len(self._finished) - self._max_finished
        for digest in list(islice(self._finished, max(0, excess))):
            order = self._orders[digest]
            del self._finished[digest]
            if order.is_settled and order.is_gone:
                del self._orders[digest]
                self._recent.pop(digest, None)
            else:
                self._finished[digest] = None  # its turn comes again


def _keep(orders: dict[str, TrackedOrder], order: TrackedOrder, belongs: bool) -> None:
    if belongs:
        orders.setdefault(order.digest, order)
    else:
        orders.pop(order.digest, None)


def _lower(known: int | None, told: int | None) -> int | None:
    return told if known is None else known if told is None else min(known, told)


def _at_most_left(order: TrackedOrder, left_x18: int) -> None:
    left = abs(left_x18)
    order._left_x18 = left if order._left_x18 is None else min(order._left_x18, left)
