"""The strategy on a recorded market with one thing changed: another size, cap, deadline, exit or latency.

`run_variant` is the task: a recording and a `Variant` in, an `Outcome` out. It reads no clock and draws no
number, so it gives the same wherever it runs. Prices come out of `FeedCore.receive`, decisions out of
`machine.decide` over an `InputLog`, as in a live run; fills come out of `paperfill`. Not modelled: the order
budget, the margin, limits, lost messages, and that anybody would have traded otherwise because of us.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, Final

import orjson

from nadofast._core import FeedCore
from nadofast.events import FillEvent, TradeEvent
from nadofast.products import Product, mul_x18
from nadofast.tape import Kind, Record
from nadofast.tappedcore import replay_call

from .execution import Depth, LegInputs
from .inputs import InputLog
from .ledger import Ledger
from .machine import decide
from .market import Market
from .model import (
    Action,
    Begin,
    Cancel,
    CancelAll,
    CycleEnd,
    PairState,
    Phase,
    Plan,
    Replace,
    Send,
    Verified,
    Verify,
)  # fmt: skip
from .paperfill import HOLD_NS, PaperExchange, PaperOrder
from .recorder import HEDGED_WITHIN_BPS
from .replay import STREAM, ReplayedFeed, ReplayError, setup_of
from .risk import Purpose
from .steps import needs_depth
from .units import NS_PER_MS
from .variants import Outcome, Source, Variant, changed, records

STEP_NS: Final = 20 * NS_PER_MS
"""How often the live loop looks when nothing happens."""
ENDLESS: Final = 1_000_000_000


def run_variant(source: Source, variant: Variant) -> Outcome:
    """Play the strategy on the recording. Raises ReplayError, VariantError or OSError."""
    world = PaperWorld(variant)
    for record in records(source):
        world.take(record)
        if world.is_over:
            break
    return world.outcome()


class PaperWorld:
    """One variant under way."""

    def __init__(self, variant: Variant) -> None:
        self._variant = variant
        self._now_ns = 0
        self._links: dict[int, int] = {}
        self._core: FeedCore | None = None
        self._plan: Plan | None = None
        self._state: PairState | None = None
        self._heard_ns = 0
        self._next_step_ns = 0
        self._due: list[tuple[int, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self._orders: dict[int, PaperOrder] = {}
        self._inputs = InputLog(clock_ns=lambda: self._now_ns)
        self._tally = Outcome(variant.name)
        self._began_ns: int | None = None
        self._equity_x18: int | None = None

    @property
    def is_over(self) -> bool:
        return self._state is not None and self._state.end is not None

    def take(self, record: Record) -> None:
        """The next record. What is due before it happens first."""
        if self._state is not None:
            self._advance(record.at_ns)
        self._now_ns = max(self._now_ns, record.at_ns)
        match record.kind:
            case Kind.CHANNEL:
                said = orjson.loads(record.payload)
                name, _, number = said["name"].partition(" ")
                if name == STREAM:
                    self._links[said["number"]] = int(number or 0)
            case Kind.RECEIVED if record.channel in self._links and self._core is not None:
                self._heard_ns = record.at_ns
                self._core.receive(record.message, record.at_ns, self._links[record.channel])
            case Kind.CORE:
                self._call_core(*orjson.loads(record.payload))
            case Kind.SETUP:
                self._set_up(record)
            case Kind.INPUT if self._equity_x18 is None:
                _, kind, value = orjson.loads(record.payload)
                if kind == "account":
                    self._equity_x18 = int(value["equity"])
                    self._inputs.account(self._equity_x18)

    def _call_core(self, name: str, arguments: Any) -> None:
        if name == "new":
            self._core = FeedCore(arguments, on_event=self._on_event)
            self._core.set_callback("book_depth", None, self._on_book)
        elif self._core is not None:
            replay_call(self._core, name, arguments)

    def _set_up(self, record: Record) -> None:
        if self._core is None:
            raise ReplayError("there is no market data in it")
        plan, self._latency_ns = changed(setup_of(record)[0], self._variant)
        self._plan = plan = replace(plan, cycles=ENDLESS)
        ids = tuple(product.product_id for product in plan.products)
        self._market = Market(ReplayedFeed(self._core), plan.products)  # type: ignore[arg-type]
        self._ledger = Ledger(ids)
        self._paper = PaperExchange(self._core.book, self._on_fill)
        self._state = PairState(since_ns=self._now_ns)
        self._next_step_ns, self._last_ns = self._now_ns, self._now_ns
        self._was_hedged = True

    # ------------------------------------------------------------------ time

    def _advance(self, until_ns: int) -> None:
        while self._state is not None and self._state.end is None:
            at_ns = min(self._next_step_ns, self._due[0][0] if self._due else self._next_step_ns)
            if at_ns > until_ns:
                return
            self._now_ns = max(self._now_ns, at_ns)
            while self._due and self._due[0][0] <= at_ns:
                heapq.heappop(self._due)[2]()
            self._step()

    def _at(self, at_ns: int, what: Callable[[], None]) -> None:
        heapq.heappush(self._due, (at_ns, next(self._numbers), what))

    def _step(self) -> None:
        assert self._state is not None
        assert self._plan is not None
        self._gather()
        turn, now_ns = self._inputs.turn(), self._inputs.now_ns
        self._state, actions = decide(self._state, turn, self._plan, now_ns)
        self._measure()
        for action in actions:
            self._carry_out(action)
        self._next_step_ns = self._now_ns + STEP_NS

    def _gather(self) -> None:
        assert self._state is not None
        enter, plan = self._inputs, self._plan
        assert plan is not None
        invalid = ""
        for leg, product in enumerate(plan.products):
            quote = self._market.quote(product.product_id)
            enter.quote(leg, quote.bid_x18, quote.ask_x18)
            is_valid = self._market.is_book_valid(product.product_id)
            invalid = invalid if is_valid else f"book of {product.symbol} is not valid"
            if needs_depth(self._state, leg, LegInputs(quote.bid_x18, quote.ask_x18, None), plan):
                self._enter_depth(leg, product.product_id, is_valid=is_valid)
            working = self._state.legs[leg].working
            if working is not None and (order := self._orders.get(working.intent.tag)) is not None:
                enter.order(leg, order.seen)
        enter.status(not_ready=invalid, pacing=False, halt=None)
        enter.stale(self._now_ns - self._heard_ns)

    def _enter_depth(self, leg: int, product_id: int, *, is_valid: bool) -> None:
        """As the bot does: an exit that has no valid book is told so."""
        assert self._state is not None
        if is_valid:
            self._inputs.depth(leg, self._market.depth(product_id))
        elif self._state.phase not in (Phase.FLAT, Phase.BUILDING):
            self._inputs.depth(leg, Depth())

    # ------------------------------------------------------------------ actions

    def _carry_out(self, action: Action) -> None:
        match action:
            case Send():
                for intent in action.intents:
                    self._send(PaperOrder(intent, self._product(intent.leg)))
            case Cancel():
                order = self._orders[action.tag]
                self._at(self._now_ns + self._latency_ns, lambda: self._cancelled(order))
            case Replace():
                self._replace(
                    self._orders[action.tag], PaperOrder(action.intent, self._product(action.intent.leg))
                )
            case CancelAll():
                for order in self._orders.values():
                    self._at(self._now_ns + self._latency_ns, partial(self._cancelled, order))
            case Verify():
                self._at(self._now_ns + self._latency_ns, lambda: self._verified(action))
            case Begin():
                self._began_ns = self._now_ns
                self._count(cycles=1)
            case CycleEnd():
                self._cycle_ended(action)

    def _send(self, order: PaperOrder) -> None:
        intent, arrives_ns = order.intent, self._now_ns + self._latency_ns
        self._orders[intent.tag] = order
        if intent.ttl_ms:
            self._at(arrives_ns, lambda: self._rest(order))
            self._at(self._now_ns + intent.ttl_ms * NS_PER_MS, lambda: self._cancelled(order))
        else:
            self._at(arrives_ns + HOLD_NS, lambda: self._take(order))

    def _replace(self, old: PaperOrder, order: PaperOrder) -> None:
        """In one step, or not: then the old one is cancelled as soon as that is heard of."""
        self._orders[order.intent.tag] = order

        def arrive() -> None:
            self._paper.replace(old, order, self._now_ns)
            for one in (old, order):
                self._tell(one)
            if order.is_final:
                self._at(self._now_ns + 2 * self._latency_ns, lambda: self._cancelled(old))

        self._at(self._now_ns + self._latency_ns, arrive)
        self._at(self._now_ns + order.intent.ttl_ms * NS_PER_MS, lambda: self._cancelled(order))

    def _take(self, order: PaperOrder) -> None:
        self._paper.take(order, self._now_ns)
        self._tell(order)

    def _rest(self, order: PaperOrder) -> None:
        if not order.is_final:
            self._paper.rest(order, self._now_ns)
            self._tell(order)

    def _cancelled(self, order: PaperOrder) -> None:
        if order.intent.ttl_ms and not order.is_final:
            self._paper.cancel(order)
            self._tell(order)

    def _tell(self, order: PaperOrder) -> None:
        """What is so now is heard one latency later."""
        view = order.view()

        def hear() -> None:
            order.seen = view

        self._at(self._now_ns + self._latency_ns, hear)

    def _verified(self, asked: Verify) -> None:
        assert self._plan is not None
        first, second = (self._ledger.position_x18(p.product_id) for p in self._plan.products)
        resting = len(self._paper.resting()) if asked.with_orders else 0
        pending = sum(not order.is_final for order in self._orders.values()) if asked.with_orders else 0
        answer = Verified(asked.seq, (first, second), resting, pending)
        self._at(self._now_ns + self._latency_ns, lambda: self._inputs.verified(answer))

    def _cycle_ended(self, action: CycleEnd) -> None:
        is_complete = not action.failure and not action.skipped
        took_ns = self._now_ns - self._began_ns if self._began_ns is not None else 0
        self._count(complete=is_complete, skipped=action.skipped, cycle_ns=took_ns if is_complete else 0)
        self._began_ns = None
        self._orders.clear()

    # ------------------------------------------------------------------ the market

    def _on_event(self, event: Any) -> None:
        if isinstance(event, TradeEvent) and self._state is not None:
            for order in self._paper.on_trade(event, self._now_ns):
                self._tell(order)

    def _on_book(self, book: Any) -> None:
        if self._state is not None:
            for order in self._paper.on_book(book.product_id, self._now_ns):
                self._tell(order)

    def _on_fill(self, order: PaperOrder, fill: FillEvent) -> None:
        self._ledger.apply(fill)
        if order.intent.purpose in (Purpose.REST, Purpose.TAKE):
            notional_x18 = mul_x18(fill.filled_qty_x18, fill.price_x18)
            self._count(exit_x18=notional_x18, exit_maker_x18=0 if fill.is_taker else notional_x18)

    # ------------------------------------------------------------------ figures

    def _count(self, **more: int) -> None:
        added = {name: getattr(self._tally, name) + int(value) for name, value in more.items()}
        self._tally = replace(self._tally, **added)

    def _measure(self) -> None:
        """Time on one leg, by the account itself."""
        assert self._plan is not None
        marks = self._market.marks_x18
        notionals = [
            mul_x18(self._ledger.position_x18(p.product_id), marks.get(p.product_id, 0))
            for p in self._plan.products
        ]
        gross_x18, net_x18 = sum(map(abs, notionals)), abs(sum(notionals))
        if not self._was_hedged:
            self._count(unhedged_ns=self._now_ns - self._last_ns)
        self._was_hedged = net_x18 * 10_000 <= gross_x18 * HEDGED_WITHIN_BPS
        self._last_ns = self._now_ns

    def _product(self, leg: int) -> Product:
        assert self._plan is not None
        return self._plan.products[leg]

    def outcome(self) -> Outcome:
        """So far. Raises ReplayError if the recording never got as far as trading."""
        if self._state is None or self._plan is None:
            raise ReplayError("it holds no run: nothing to try anything on")
        marks = self._market.marks_x18
        pnl = self._ledger.pnl(marks)
        held_x18 = sum(
            abs(mul_x18(self._ledger.position_x18(p.product_id), marks.get(p.product_id, 0)))
            for p in self._plan.products
        )
        return replace(
            self._tally, net_x18=pnl.net_x18, fees_x18=pnl.fees_x18, volume_x18=pnl.volume_x18,
            open_x18=held_x18, end="" if self._state.end is None else self._state.end.reason,
        )  # fmt: skip
