"""The order desk: carries out what the machine decided, and tells it what became of each order.

An order is approved by the gate, sent, watched until the exchange has ended it, and kept as a record. A
silence or a lost connection never ends an order: the exchange is asked until it has an answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from nadofast.errors import NadoError, OrderDenied
from nadofast.gateway import OrderGateway, Outcome, OutcomeKind
from nadofast.orders import OrderState, OrderTracker, OutcomeFacts, TrackedOrder
from nadofast.signing import nonce_recv_time_ms
from nadofast.timesync import TimeSync
from nadofast.wire import Code

from .client import NadoClient
from .execution import OrderView
from .metrics import OrderRecord
from .risk import CLIENT_ID_BASE, ApprovedOrder, OrderIntent, Purpose, RiskGate
from .units import sign

TAKER_SILENCE_S: Final = 0.4
DOWN_SILENCE_S: Final = 0.1
CANCEL_SILENCE_S: Final = 0.3
RESOLVE_PAUSE_S: Final = 0.15
RESOLVE_PAUSE_MAX_S: Final = 1.0
LEAVE_TIMEOUT_S: Final = 2.0
# From the door of the exchange to the engine: its hold of taker orders, and as much again.
HELD_MS: Final = 100
MAX_LEFT_MS: Final = 1_500
ASK_TIMEOUT_S: Final = 1.0


class Asking(Protocol):
    """Puts a question about one order to the exchange; the tracker takes the answer. beside: the one it was
    to replace, or the one that was to replace it: of the two at most one lives."""

    def __call__(
        self, order: TrackedOrder, *, is_decided: bool = False, beside: TrackedOrder | None = None
    ) -> Awaitable[None]: ...


@dataclass(slots=True, eq=False)
class DeskOrder:
    """One order at work or ended. `digest` is known once it was signed.

    is_covered: ended, and the booked position was taken from the exchange after that. replaces, successor:
    the order in whose place this one was sent, and the one that was sent in its place. is_leaving: a cancel
    of it is seen to.
    """

    intent: OrderIntent
    arrival_mid_x18: int
    at_ns: int
    digest: str = ""
    tracked: TrackedOrder | None = None
    denied: str | None = None
    cancel_why: str = ""
    is_announced: bool = False
    is_covered: bool = False
    replaces: DeskOrder | None = field(default=None, repr=False)
    successor: DeskOrder | None = field(default=None, repr=False)
    is_leaving: bool = False
    is_signed: asyncio.Event = field(default_factory=asyncio.Event)

    def is_record(self, tracked: TrackedOrder) -> bool:
        """Tags begin anew with every process, so an order of a former one may have the same client id."""
        if self.tracked is not None:
            return tracked.digest == self.tracked.digest
        intent = self.intent
        ours = (CLIENT_ID_BASE + intent.tag, intent.product_id, intent.amount_x18, intent.price_x18)
        return ours == (tracked.client_id, tracked.product_id, tracked.amount_x18, tracked.price_x18)

    @property
    def rests(self) -> bool:
        return self.tracked is not None and self.tracked.state in (OrderState.OPEN, OrderState.PARTIAL)

    @property
    def is_final(self) -> bool:
        return self.denied is not None or (self.tracked is not None and self.tracked.is_terminal)

    @property
    def was_accepted(self) -> bool:
        return self.tracked is not None and self.tracked.was_accepted

    @property
    def has_stood(self) -> bool:
        """Some source has seen it in the engine: with an order that replaces another, the proof that the
        other one is over. An end alone is none, because that may be the end of what was never there."""
        tracked = self.tracked
        return tracked is not None and (self.rests or tracked.known_filled_x18 > 0)

    @property
    def may_revive(self) -> bool:
        """Ended, but a late copy of its bytes may bring back what it left unfilled. Not so a crossing exit:
        it is reduce-only, and nothing comes of it where nothing is held."""
        tracked, is_exit = self.tracked, self.intent.purpose is Purpose.TAKE
        return tracked is not None and tracked.is_terminal and tracked.may_revive and not is_exit

    @property
    def to_come_x18(self) -> int:
        """What may still be added to the booked position by this order, absolute: what is unfilled while it
        lives, and what is known to be filled but not booked yet."""
        if self.denied is not None or self.is_covered:
            return 0
        size_x18 = abs(self.intent.amount_x18)
        if self.tracked is None:
            return size_x18
        most_x18 = self.tracked.known_filled_x18 if self.tracked.is_terminal else size_x18
        return max(0, most_x18 - self.tracked.filled_x18)

    def view(self) -> OrderView:
        tracked = self.tracked
        if self.denied is not None:
            return OrderView(self.intent.tag, 0, True, denied=self.denied)
        if tracked is None:
            return OrderView(self.intent.tag, 0, False)
        code = tracked.error_code if tracked.state is OrderState.REJECTED else None
        rests = tracked.state is OrderState.OPEN
        return OrderView(self.intent.tag, tracked.known_filled_x18, tracked.is_terminal, code, rests=rests)


class OrderDesk:
    """Orders by tag. `on_change(order)` runs after everything new about one; it must not block.

    ask(order, is_decided=…): put the question to the exchange and let the tracker take the answer. timesync:
    without the exchange's clock no order is ever too late to arrive.
    """

    def __init__(
        self,
        clients: tuple[NadoClient, NadoClient],
        gateway: OrderGateway,
        gate: RiskGate,
        tracker: OrderTracker,
        *,
        ask: Asking,
        is_stream_live: Callable[[], bool],
        on_change: Callable[[DeskOrder], None],
        timesync: TimeSync | None = None,
    ) -> None:
        self._clients = clients
        self._gateway = gateway
        self._gate = gate
        self._tracker = tracker
        self._ask = ask
        self._is_stream_live = is_stream_live
        self._on_change = on_change
        self._timesync = timesync
        self._orders: dict[int, DeskOrder] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._stop_listening = tracker.on_change(self._tracked_changed)
        self.failure: BaseException | None = None

    def view(self, tag: int) -> OrderView | None:
        order = self._orders.get(tag)
        return None if order is None else order.view()

    def order(self, tag: int) -> DeskOrder | None:
        return self._orders.get(tag)

    def open_orders(self) -> list[DeskOrder]:
        return [order for order in self._orders.values() if not order.is_final]

    def send(self, intents: Sequence[OrderIntent], mids_x18: Sequence[int]) -> None:
        """All or none: one order the gate refuses stops its companions before anything is sent."""
        orders = [DeskOrder(i, mids_x18[i.leg], time.time_ns()) for i in intents]
        self._orders.update({order.intent.tag: order for order in orders})
        decisions = [self._clients[o.intent.leg].approve(o.intent) for o in orders]
        reasons = [reason for decision in decisions for reason in decision.reasons]
        if reasons:
            for order, decision in zip(orders, decisions, strict=True):
                self._deny(order, "; ".join(decision.reasons) or f"other leg: {reasons[0]}")
            return
        approved = [decision.order for decision in decisions if decision.order is not None]
        self._spawn(self._place(orders, approved))

    def foresee(self, intents: Sequence[OrderIntent]) -> None:
        """These may be decided next: they are signed in idle time. Nothing is approved, nothing leaves."""
        with contextlib.suppress(OrderDenied):  # without a clock there is nothing to sign
            self._gateway.expect([self._clients[intent.leg].foresee(intent) for intent in intents])

    def unfinished_x18(self) -> dict[int, int]:
        """By product: signed amount that ended or living orders may still add to the booked position."""
        found: dict[int, int] = {}
        for order in self._orders.values():
            left_x18 = order.to_come_x18
            if order.replaces is not None:  # one of the two at most: the larger is counted
                left_x18 = max(0, left_x18 - order.replaces.to_come_x18)
            if left_x18:
                product_id = order.intent.product_id
                found[product_id] = found.get(product_id, 0) + sign(order.intent.amount_x18) * left_x18
        return found

    def ended_tags(self) -> frozenset[int]:
        """Orders that have ended by now."""
        return frozenset(tag for tag, order in self._orders.items() if order.is_final)

    def all_tags(self) -> frozenset[int]:
        return frozenset(self._orders)

    def decided_tags(self) -> frozenset[int]:
        """Orders the engine has decided on by now: ended, or refused if they came only now. What of these
        neither rests nor shows in the positions has never been."""
        return frozenset(
            tag for tag, order in self._orders.items() if order.is_final or self._left_ms(order) <= 0
        )

    def _left_ms(self, order: DeskOrder) -> float:
        """How long the order may still get to the engine and be taken; infinite while nobody can say."""
        if order.tracked is None or self._timesync is None or not self._timesync.is_known:
            return float("inf")
        latest_ms = nonce_recv_time_ms(order.tracked.nonce) + HELD_MS + self._timesync.uncertainty_ms
        return latest_ms - self._timesync.exchange_now_ms()

    def pending(self) -> int:
        """Orders without an end that no position read from the exchange covers, and ended ones of which a
        copy may still come."""
        unheard = sum(not order.is_final and not order.is_covered for order in self._orders.values())
        return unheard + sum(self._left_ms(order) > 0 for order in self._orders.values() if order.may_revive)

    def revival_left_s(self) -> float | None:
        """How long an order that has ended may still be revived by another copy of its bytes; 0.0: the engine
        would refuse them all by now. None: no order could be, so none is looked for on the books."""
        left_ms = [self._left_ms(order) for order in self._orders.values() if order.may_revive]
        return min(max(0.0, *left_ms), MAX_LEFT_MS) / 1e3 if left_ms else None

    def may_arrive(self) -> bool:
        """Whether an order that could make a position may still get to the engine and be taken. Crossing
        exits do not count: they are reduce-only, and nothing comes of them where nothing is held."""
        return any(
            order.intent.purpose is not Purpose.TAKE
            and (not order.is_final or order.may_revive)
            and self._is_on_its_way(order)
            for order in self._orders.values()
        )

    def _is_on_its_way(self, order: DeskOrder) -> bool:
        if order.tracked is None:
            order.tracked = next((t for t in self._tracker.live() if order.is_record(t)), None)
        return order.tracked is not None and self._left_ms(order) > 0

    def cover(self, tags: frozenset[int]) -> None:
        """The booked positions are the exchange's own, read after these orders ended: nothing is to come."""
        for tag in tags & self._orders.keys():
            self._orders[tag].is_covered = True
            self._gate.release(tag)

    def expect(self, intent: OrderIntent, mid_x18: int) -> None:
        """Keep the record of an order that somebody else approves and sends."""
        self._orders[intent.tag] = DeskOrder(intent, mid_x18, time.time_ns())

    def cancel(self, tag: int, why: str) -> None:
        order = self._orders[tag]
        order.cancel_why = why
        self._see_off(order)

    def replace(self, tag: int, intent: OrderIntent, mid_x18: int, why: str) -> None:
        """Put a new order in the place of a resting one, in one step of the exchange. Where that does not go,
        the old one is cancelled and no other is sent: its end comes in any case."""
        old, order = self._orders[tag], DeskOrder(intent, mid_x18, time.time_ns())
        old.cancel_why, old.successor, order.replaces = why, order, old
        self._orders[intent.tag] = order
        decision = self._clients[intent.leg].approve(intent, replaces=tag)
        if decision.order is None:
            self._deny(order, "; ".join(decision.reasons))
        else:
            self._spawn(self._replace(old, order, decision.order))

    def cancel_all(self) -> None:
        """Cancel whatever rests on the products of the pair, known or not."""
        self._spawn(self._cancel_all())

    def take_all(self) -> list[DeskOrder]:
        """Take out all orders, oldest first: a cycle's records.

        The pair is proved flat with nothing resting when this is called, or the run is over: an order
        whose end was never heard of counts no longer.
        """
        orders, self._orders = list(self._orders.values()), {}
        for order in orders:
            self._gate.release(order.intent.tag)
        return orders

    async def leave(self, *, cancel: bool) -> None:
        """Stop watching. cancel: take down what still rests, if the exchange answers within two seconds."""
        if cancel and self.open_orders():
            with contextlib.suppress(TimeoutError):  # what still rests dies by its own expiration
                async with asyncio.timeout(LEAVE_TIMEOUT_S):
                    await self._cancel_all()
        self._stop_listening()
        while self._tasks:  # one that is cancelled while it sends has its orders watched
            for task in tuple(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    # ------------------------------------------------------------------ tasks

    async def _place(self, orders: list[DeskOrder], approved: list[ApprovedOrder]) -> None:
        """Sign all, then write all in one loop turn: the legs of a pair leave back to back."""
        try:
            requests = [self._clients[order.intent.leg].request(order) for order in approved]
        except NadoError as error:  # the clock is not known: nothing was signed
            for order in orders:
                self._deny(order, str(error))
            return
        try:
            outcomes = await self._gateway.place_many(requests)
        except BaseException:
            # Something may have left. Whoever was signed is watched, never taken for unsent.
            for order in orders:
                if not order.is_final:
                    self._spawn(self._watch(order))
            raise
        for order, outcome in zip(orders, outcomes, strict=True):
            self._take_outcome(order, outcome)
            if not order.is_final:
                self._spawn(self._watch(order))

    async def _replace(self, old: DeskOrder, order: DeskOrder, approved: ApprovedOrder) -> None:
        """Once, whatever comes of it: in doubt both are asked about, and the old one is cancelled."""
        if old.is_final:
            self._deny(order, "what it was to replace has ended")
            return
        try:
            outcome = await self._clients[order.intent.leg].replace(old.digest, approved)
        except NadoError as error:  # the clock is not known: nothing was signed
            self._deny(order, str(error))
            return
        except Exception:  # something may have left: both are watched, neither is taken for unsent
            self._spawn(self._watch(order))
            self._see_off(old)
            raise
        self._take_outcome(order, outcome)
        if not order.is_final:
            self._spawn(self._watch(order))
        self._see_off(old)  # unless the answer has ended it

    def _see_off(self, order: DeskOrder) -> None:
        """Have it cancelled, once, if it has not ended."""
        if not order.is_final and not order.is_leaving:
            order.is_leaving = True
            self._spawn(self._cancel(order))

    def _take_outcome(self, order: DeskOrder, outcome: Outcome) -> None:
        if outcome.digest:
            self._bind(order, outcome.digest)
        if outcome.kind is OutcomeKind.DENIED:
            self._deny(order, outcome.reason or "denied by the gateway")
        else:
            self._changed(order)

    async def _watch(self, order: DeskOrder) -> None:
        """Until the order has ended. The stream normally says so; queries do when it is silent."""
        pause_s = TAKER_SILENCE_S if self._is_stream_live() else DOWN_SILENCE_S
        while not order.is_final and order.intent.tag in self._orders:
            await asyncio.sleep(pause_s)
            # An exit may rest unseen; a first leg that fills unseen stands alone, so it is asked about.
            rests = order.intent.purpose is Purpose.REST and not order.cancel_why
            if order.is_final or (rests and order.was_accepted and self._is_stream_live()):
                continue
            if not order.was_accepted and 0 < (left_ms := self._left_ms(order)) < MAX_LEFT_MS:
                await asyncio.sleep(left_ms / 1e3)  # then the answer is certain, and near
            if not order.is_final:
                pause_s = await self._resolve(order, pause_s)

    async def _resolve(self, order: DeskOrder, pause_s: float) -> float:
        """Ask the exchange about one order; the tracker takes what it says. Returns the next pause."""
        if order.tracked is not None:
            with contextlib.suppress(NadoError, TimeoutError):  # no answer is no fact; asked again soon
                async with asyncio.timeout(ASK_TIMEOUT_S):
                    await self._ask_about(order, order.tracked)
        jitter = random.uniform(0.8, 1.2)
        return min(max(pause_s, RESOLVE_PAUSE_S) * 1.5, RESOLVE_PAUSE_MAX_S) * jitter

    async def _ask_about(self, order: DeskOrder, tracked: TrackedOrder) -> None:
        """With an order that was to be replaced, what counts is whether the other may still get in."""
        beside, last = order.successor or order.replaces, order.successor or order
        other = None if beside is None else beside.tracked
        await self._ask(tracked, is_decided=self._left_ms(last) <= 0, beside=other)

    async def _cancel(self, order: DeskOrder) -> None:
        """A cancel that was lost or refused is sent again, with growing pauses: meanwhile the order rests,
        and a pair may stand on one leg. The machine's own deadline ends the waiting."""
        await order.is_signed.wait()  # signing and sending are bounded by the gateway's deadlines
        pause_s = RESOLVE_PAUSE_S
        while not order.is_final and order.intent.tag in self._orders:
            outcome = await self._clients[order.intent.leg].cancel(order.digest)
            self._taken_off(order, outcome)
            if order.is_final or outcome.kind is OutcomeKind.CONFIRMED:
                return
            # 2020: not resting now, so a fill is probably on its way. Anything else: in doubt. Ask.
            is_gone = outcome.error_code == Code.ORDER_NOT_FOUND
            await asyncio.sleep(CANCEL_SILENCE_S if is_gone else 0)
            if not order.is_final:
                pause_s = await self._resolve(order, pause_s)
            if is_gone and not order.rests:  # a slow copy may have come to rest behind its cancel
                return
            await asyncio.sleep(pause_s)

    def _taken_off(self, order: DeskOrder, outcome: Outcome) -> None:
        """What a cancel took off the book was not replaced before and cannot be any more."""
        new = order.successor
        if new is None or new.tracked is None or new.is_final or new.has_stood:
            return
        if order.tracked is not None and order.tracked.may_revive:
            return  # what was taken off may be a late copy of it
        if any(one.digest.lower() == order.digest for one in outcome.cancelled):
            self._tracker.on_outcome(new.digest, OutcomeFacts(is_rejected=True))

    async def _cancel_all(self) -> None:
        await self._gateway.cancel_product([client.product.product_id for client in self._clients])

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None and self.failure is None:
            self.failure = error

    # ------------------------------------------------------------------ facts

    def _tracked_changed(self, tracked: TrackedOrder) -> None:
        order = self._orders.get((tracked.client_id or 0) - CLIENT_ID_BASE)
        if order is None or not order.is_record(tracked):
            return
        self._bind(order, tracked.digest)
        self._changed(order)

    def _bind(self, order: DeskOrder, digest: str) -> None:
        if order.tracked is None:
            order.digest = digest
            order.tracked = self._tracker.get(digest)
            order.is_signed.set()

    def _deny(self, order: DeskOrder, reason: str) -> None:
        order.denied = reason
        order.is_signed.set()
        self._changed(order)

    def _changed(self, order: DeskOrder) -> None:
        if order.to_come_x18 == 0:
            self._gate.release(order.intent.tag)
        else:
            self._gate.expect(order.intent.tag, order.to_come_x18)
        if (old := order.replaces) is not None and not old.is_final:
            if order.has_stood:  # it got in because all of the old one was unfilled, and that one is gone
                self._tracker.on_cancelled(old.digest, order.intent.amount_x18)
            elif order.is_final:
                self._see_off(old)
        self._on_change(order)


def record(order: DeskOrder, symbol: str) -> OrderRecord | None:
    """What the order did, from its fills; None if it never reached the exchange."""
    tracked = order.tracked
    if tracked is None:
        return None
    side = 1 if order.intent.amount_x18 > 0 else -1
    return OrderRecord(
        leg=order.intent.leg,
        symbol=symbol,
        purpose=order.intent.purpose,
        digest=tracked.digest,
        filled_x18=side * tracked.filled_x18,
        quote_x18=tracked.quote_x18,
        fee_x18=tracked.fee_x18,
        maker_x18=sum(fill.filled_qty_x18 for fill in tracked.fills if not fill.is_taker),
        arrival_mid_x18=order.arrival_mid_x18,
        at_ns=order.at_ns,
        sent_ns=tracked.sent_ns,
        first_fill_ns=tracked.first_fill_ns,
    )
