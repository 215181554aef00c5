"""`DNPairBot`: drives the pair. It gathers inputs, asks the machine, carries out what it says; nothing else.

Everything that happens wakes one loop; the loop enters what is new into the `InputLog`, ends with a turn and
lets `machine.decide` speak. So what the strategy sees has one order, and a decision is a function of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Final

from nadofast.feed import Feed
from nadofast.gateway import OrderGateway
from nadofast.orders import OrderState, TrackedOrder

from . import report
from .ahead import next_entry
from .byname import PairByName
from .client import NadoClient
from .desk import DeskOrder, OrderDesk
from .emergency import Emergency, Unwound
from .execution import Depth, LegInputs
from .guard import Guard
from .inputs import InputLog
from .ledger import Ledger
from .logs import EventLog
from .machine import decide
from .market import Market
from .model import (
    Action,
    Begin,
    Cancel,
    CancelAll,
    CycleEnd,
    Direction,
    End,
    EntryMode,
    ExitCode,
    Hedged,
    Note,
    PairState,
    Phase,
    Plan,
    Replace,
    Send,
    Verified,
    Verify,
)
from .named import NamedRecords
from .positions import PositionWatch
from .reconcile import Reconciled, Reconciler
from .recorder import CycleRecorder
from .restart import adopted_size
from .risk import OrderIntent, Purpose, RiskGate
from .shutdown import Stage, StopRequest
from .sizing import LegQuote
from .standing import Standing
from .steps import needs_depth
from .tradecsv import TradesCsv
from .units import NS_PER_MS, show, show_usd
from .venue import Exchange
from .waits import first_answer

__all__ = ["DNPairBot", "PairParts", "PairState", "decide"]

MakeDesk = Callable[[Callable[[DeskOrder], None]], OrderDesk]
STEP_S: Final = 0.02
FLATTEN_DEADLINE_S: Final = 10.0
SILENT_NS: Final = 1_000_000_000
VERIFY_PAUSE_S: Final = 0.25


@dataclass(frozen=True, slots=True)
class PairParts:
    """What the composition root hands over. spare: makes the order gateway of an emergency."""

    plan: Plan
    feed: Feed
    market: Market
    clients: tuple[NadoClient, NadoClient]
    gateway: OrderGateway
    gate: RiskGate
    ledger: Ledger
    standing: Standing
    reconciler: Reconciler
    guard: Guard
    recorder: CycleRecorder
    exchange: Exchange
    stop: StopRequest
    log: EventLog
    csv: TradesCsv
    spare: Callable[[], OrderGateway]
    inputs: InputLog = field(default_factory=InputLog)


class DNPairBot(PairByName, NamedRecords):
    """One run of the pair, from flat to flat. `run()` returns how it ended."""

    def __init__(self, parts: PairParts, make_desk: MakeDesk) -> None:
        self._p = parts
        self._plan = parts.plan
        self._wake = asyncio.Event()
        self._state = PairState(since_ns=parts.inputs.now_ns)
        self._verifying: asyncio.Task[None] | None = None
        self._cash_x18: int | None = None
        self._signals: dict[int, str] = {}
        self.last_exposure = "none"
        self._desk = make_desk(self._order_changed)
        self._emergency = Emergency(
            parts.clients, parts.spare, parts.gate, parts.reconciler, parts.market,
            cap_bps=parts.plan.exit_cap_bps, on_intent=self._desk.expect, may_arrive=self._desk.may_arrive,
            must_leave=self._must_leave,
        )  # fmt: skip
        tracker = parts.gateway.tracker
        self._positions = PositionWatch(
            parts.ledger, tuple(p.product_id for p in parts.plan.products),
            is_ours=lambda digest: tracker.get(digest) is not None,
        )  # fmt: skip
        self._leave_feed = [
            parts.feed.on("position_change", self._positions.on_change),
            parts.feed.on("fill", self._positions.on_fill),
        ]
        parts.stop.on_request(self._wake.set)
        parts.ledger.on_move = self.log_position_update

    async def run_alternating_strategy(self, cash_x18: int, start: PairState | None = None) -> End:
        """Trade until the machine ends. `cash_x18`: the exchange's balance now. start: a pair taken up."""
        self._cash_x18 = cash_x18
        self._p.inputs.account(cash_x18)
        self._state = start or PairState(since_ns=self._p.inputs.now_ns)
        if start is not None:
            self._take_up(start)
        try:
            while self._state.end is None:
                self._step()
                await self._wait()
            end = await self._last_resort(self._state.end)
        except Exception as error:
            end = await self._flatten_after(error)
        end = self._say_end(end)
        await self._leave(end)
        return end

    def _take_up(self, start: PairState) -> None:
        """The records of a cycle that a former process began: its entry fills are not in them."""
        legs = [LegQuote(client.product, client.quote().mid_x18) for client in self._p.clients]
        begin = Begin(start.cycle, start.direction, adopted_size(start, legs))
        self._p.recorder.begin(begin, self._p.inputs.now_ns, None)
        self._cash_x18 = None
        self._p.log.context = f"c{start.cycle:02d} {start.direction}"
        self._p.log.event(f"taken up in phase {start.phase}: {self.exposure}")

    async def flatten_now(self, reason: str) -> End:
        """Cross out of whatever is open, without a strategy, and say how that ended."""
        end = self._say_end(await self._flatten(End(ExitCode.DONE, reason)))
        await self._leave(end)
        return end

    def _say_end(self, end: End) -> End:
        """Said before anything is taken down: what is open, or in doubt, at this moment."""
        self.last_exposure = self.exposure
        if self.last_exposure != "none":
            end = End(ExitCode.EXPOSED, end.reason)
        self._p.log.event(f"END  {end.reason}; {self.standing_words(end)}")
        return end

    def standing_words(self, end: End) -> str:
        """How the run left the account, in words that claim no more than is known."""
        if self.last_exposure != "none":
            return f"exposure: {self.last_exposure}"
        return (
            "flat" if end.code is not ExitCode.EXPOSED else "flat by our books, not confirmed by the exchange"
        )

    async def _flatten_after(self, error: Exception) -> End:
        """A defect in the core: no new risk, and out by the way that does not need the machine."""
        parts, reason = self._p, f"internal error: {type(error).__name__}: {error}"
        parts.gate.halt(reason)
        parts.log.event(f"{reason}; flattening")
        return await self._flatten(End(ExitCode.ERROR, reason))

    async def _flatten(self, end: End) -> End:
        """`end` when the exchange says flat in time, else the same reason with the account exposed."""
        unwound = await self._unwind_by_force(end.reason)
        is_flat = unwound is not None and unwound.flat is not None
        return end if is_flat else End(ExitCode.EXPOSED, end.reason)

    async def _last_resort(self, end: End) -> End:
        """The machine gave up with something open, and the exchange is there: out without the machine."""
        if end.code is not ExitCode.EXPOSED or self._must_leave() or self._is_blind():
            return end
        return await self._flatten(End(ExitCode.ERROR, end.reason))

    async def _unwind_by_force(self, reason: str, legs: tuple[int, ...] = (0, 1)) -> Unwound | None:
        """The emergency unwind, said and accounted. None: it failed by a defect of its own."""
        self._cash_x18 = None
        try:
            unwound = await self._emergency.unwind(reason, FLATTEN_DEADLINE_S, legs)
        except Exception as error:
            self._p.log.event(f"emergency unwind failed: {type(error).__name__}: {error}")
            return None
        self._p.log.event(str(unwound))
        if unwound.flat is not None and not any(unwound.flat.positions_x18):
            self._desk.cover(self._desk.all_tags())
            self._cash_x18 = unwound.flat.cash_x18
        return unwound

    def _is_blind(self) -> bool:
        return self._p.guard.blind_ns(self._p.inputs.now_ns) > SILENT_NS

    def _must_leave(self) -> bool:
        return self._p.exchange.gone.is_set() or self._p.stop.leave.is_set()

    @property
    def state(self) -> PairState:
        """Where the machine stands. Immutable."""
        return self._state

    def foresee(
        self, direction: Direction, mode: EntryMode | None = None
    ) -> tuple[PairState, list[Action]]:  # fmt: skip
        """What the machine would do now from flat, in this direction. Nothing of it is carried out. mode: how
        it enters, None: as planned."""
        self._gather()
        start = PairState(since_ns=self._p.inputs.now_ns, wanted=direction)
        plan = replace(self._plan, entry_mode=mode or self._plan.entry_mode)
        return decide(start, self._p.inputs.turn(), plan, self._p.inputs.now_ns)

    def open_orders(self) -> list[DeskOrder]:
        """Orders that have not ended."""
        return self._desk.open_orders()

    @property
    def cash_x18(self) -> int | None:
        """Quote balance and the pair's v_quote as the exchange said when it last said flat; None since a
        cycle was begun after that."""
        return self._cash_x18

    @property
    def exposure(self) -> str:
        """Positions and unfinished orders in words; "none" when flat. `last_exposure` is that of the end."""
        return self._p.standing.exposure(self._desk.unfinished_x18())

    # ------------------------------------------------------------------ the loop

    def _step(self) -> None:
        if self._verifying is not None and self._verifying.done():
            task, self._verifying = self._verifying, None
            task.result()  # a defect in there is one of the core
        before = self._state
        self._gather()
        inputs = self._p.inputs.turn()
        now_ns = self._p.inputs.now_ns
        self._state, actions = decide(before, inputs, self._plan, now_ns)
        self._p.inputs.decided(before, self._state, actions)
        if self._state.phase is not before.phase:
            self._p.recorder.phase_changed(self._state.phase)
        # What was seen belongs to the phase it was seen in: what ends a hedge is the worst of it.
        self._p.recorder.tick(before.phase, now_ns, self._p.feed.is_account_streamed)
        for action in actions:
            _CARRY_OUT[type(action)](self, action)
        # While BUILDING, what was signed ahead may still be on its way to the gateway.
        if self._p.gateway.presigner is not None and self._state.phase is not Phase.BUILDING:
            self._desk.foresee(next_entry(self._state, inputs, self._plan, now_ns))

    async def _wait(self) -> None:
        self._wake.clear()
        try:
            async with asyncio.timeout(STEP_S):
                await self._wake.wait()
        except TimeoutError:
            pass

    def _gather(self) -> None:
        """Enter what is new since the last turn."""
        parts, enter = self._p, self._p.inputs
        if (defect := self._desk.failure) is not None:
            parts.gate.halt(f"internal error: {type(defect).__name__}: {defect}")
        if parts.feed.failure is not None:
            parts.gate.halt(f"internal error: {parts.feed.failure}")
        if parts.gateway.failure is not None:
            parts.gate.halt(f"internal error: {parts.gateway.failure}")
        if parts.csv.trades_failure is not None:
            parts.gate.halt(f"trades CSV {parts.csv.trades_failure}")
        if enter.failure is not None:
            parts.gate.halt(f"record of the inputs: {enter.failure}")
        for leg, client in enumerate(parts.clients):
            quote, working = client.quote(), self._state.legs[leg].working
            enter.quote(leg, quote.bid_x18, quote.ask_x18)
            if self._needs_depth(leg, LegInputs(quote.bid_x18, quote.ask_x18, None)):
                enter.depth(leg, self._depth(client.product.product_id))
            if working is not None and (view := self._desk.view(working.intent.tag)) is not None:
                enter.order(leg, view)
        if parts.exchange.gone_reason is not None:
            enter.gone(parts.exchange.gone_reason)
        if parts.stop.leave.is_set():
            enter.gone(f"third request to stop after {parts.stop.by}: left at once")
        if (flatten_ns := parts.stop.flatten_ns) is not None:
            enter.stop(flatten_ns)
        enter.drain(is_on=parts.stop.stage is not Stage.NONE)
        enter.blind(parts.guard.blind_ns(enter.now_ns))
        busy = {order.intent.product_id for order in self._desk.open_orders()}
        if (found := self._positions.look(busy, enter.now_ns)) is not None:
            enter.foreign(found)
        enter.stale(max(client.quote().age_ms for client in parts.clients) * NS_PER_MS)
        parts.standing.remember()
        is_paused = parts.guard.is_pacing() or bool(parts.gate.pause_reason())
        not_ready = parts.guard.not_ready() or parts.standing.failure
        enter.status(not_ready=not_ready, pacing=is_paused, halt=parts.gate.watch())

    def _needs_depth(self, leg: int, seen: LegInputs) -> bool:
        """An entry waits for valid books; an exit that has none is told so."""
        is_entering = self._state.phase in (Phase.FLAT, Phase.BUILDING)
        is_there = not is_entering or self._p.market.is_book_valid(self._plan.products[leg].product_id)
        return is_there and needs_depth(self._state, leg, seen, self._plan)

    def _depth(self, product_id: int) -> Depth:
        """Nothing while the book is not valid: an exit does not wait for it."""
        market = self._p.market
        return market.depth(product_id) if market.is_book_valid(product_id) else Depth()

    async def _leave(self, end: End) -> None:
        parts = self._p
        parts.gate.keep_halt(at_once=True)
        if self._verifying is not None:
            self._verifying.cancel()
            await asyncio.gather(self._verifying, return_exceptions=True)
        for leave in self._leave_feed:
            leave()
        is_pointless = self._is_blind() or parts.exchange.gone.is_set() or parts.stop.leave.is_set()
        await self._desk.leave(cancel=not is_pointless)
        parts.standing.remember(at_once=True)  # what the way out cost is part of the day
        if parts.recorder.cycle is not None:  # the cycle this run ended in: its fills belong on record
            orders, is_flat = self._desk.take_all(), self._cash_x18 is not None
            self._close_cycle(CycleEnd(self._state.cycle, end.reason), orders, is_closed=is_flat)

    # ------------------------------------------------------------------ actions

    def _begin(self, action: Begin) -> None:
        log = self._p.log
        log.context = f"c{action.cycle:02d} {action.direction}"
        self._p.recorder.begin(action, self._p.inputs.now_ns, self._cash_x18)
        self._cash_x18 = None
        legs = zip(self._plan.products, action.size.sizes_x18, action.direction.signs, strict=True)
        text = "BUILD  " + ", ".join(f"{p.symbol} {show(s * d, signed=True)}" for p, s, d in legs)
        log.event(text, cycle=action.cycle)

    def _send(self, action: Send) -> None:
        mids = [client.quote().mid_x18 for client in self._p.clients]
        self._desk.send(action.intents, mids)
        # One decision, one id: it stands on every line about these orders, down to their fills.
        signal = f"{self._p.log.run}-{action.intents[0].tag}"
        self._signals.update((intent.tag, signal) for intent in action.intents)
        for intent in action.intents:
            self._p.log.event(self._describe(intent), **self._ids(intent.tag))

    def _ids(self, tag: int, digest: str = "") -> dict[str, object]:
        """What a program follows an order by: its decision, its cycle, itself, and itself at the exchange."""
        ids = {"signal": self._signals.get(tag, ""), "cycle": self._state.cycle, "tag": tag}
        return ids | {"digest": digest} if digest else ids

    def _describe(self, intent: OrderIntent) -> str:
        symbol = self._plan.products[intent.leg].symbol
        how = "rest at" if intent.purpose.rests else "cross to"
        amount = show(intent.amount_x18, signed=True)
        what = "send   " if intent.purpose is Purpose.ENTRY else f"{intent.purpose}  "
        return f"{what}{symbol} {amount} {how} {show(intent.price_x18)}"

    def _cancel(self, action: Cancel) -> None:
        self._desk.cancel(action.tag, action.why)
        if action.why == "market moved":
            self._p.recorder.repriced()
        view = self._desk.view(action.tag)
        filled = f", {show(view.filled_x18)} filled so far" if view is not None and view.filled_x18 else ""
        self._p.log.event(f"cancel order {action.tag}: {action.why}{filled}", **self._ids(action.tag))

    def _replace(self, action: Replace) -> None:
        intent = action.intent
        self._signals[intent.tag] = f"{self._p.log.run}-{intent.tag}"
        mid_x18 = self._p.clients[intent.leg].quote().mid_x18
        self._desk.replace(action.tag, intent, mid_x18, action.why)
        self._p.recorder.repriced()
        text = f"replace order {action.tag}: {action.why}; {self._describe(intent)}"
        self._p.log.event(text, **self._ids(intent.tag))

    def _cancel_all(self, action: CancelAll) -> None:
        self._desk.cancel_all()

    def _verify(self, action: Verify) -> None:
        if self._verifying is not None:
            self._verifying.cancel()
        self._verifying = asyncio.get_running_loop().create_task(self._read_positions(action))

    def _hedged(self, action: Hedged) -> None:
        self._p.recorder.hedged()

    def _note(self, action: Note) -> None:
        self._p.log.event(action.text)

    def _cycle_end(self, action: CycleEnd) -> None:
        if self._p.recorder.cycle is None:  # skipped before it could begin, or between two cycles
            self._desk.take_all()
            self._p.log.event(f"{'skipped' if action.skipped else 'flat again'}: {action.failure}")
        else:
            self._close_cycle(action, self._desk.take_all(), is_closed=action.is_flat)

    def _close_cycle(self, action: CycleEnd, orders: list[DeskOrder], *, is_closed: bool) -> None:
        parts = self._p
        cycle = parts.recorder.end(action, orders, parts.inputs.now_ns, self._cash_x18, is_closed=is_closed)
        parts.csv.append(cycle)
        symbols = (self._plan.products[0].symbol, self._plan.products[1].symbol)
        parts.log.block(report.cycle_lines(cycle, symbols))
        parts.log.context = ""
        self._signals.clear()

    async def _read_positions(self, asked: Verify) -> None:
        """Answer a Verify, however often it takes; the machine decides how long it waits for that.

        An order that left twice and has ended may rest again when its other copy arrives: what is read after
        the last moment for that is certain, if the books are read, too. A recovery asks until it is.
        """
        if not asked.with_orders and (left_s := self._desk.revival_left_s()) is not None:
            await asyncio.sleep(left_s)
            asked = replace(asked, with_orders=True)
        seen, covered = await first_answer(lambda: self._ask_positions(asked), VERIFY_PAUSE_S)
        self._p.guard.answered()
        self._p.recorder.reconciled(seen.took_ms)
        self._desk.cover(covered)
        self._cash_x18 = None if any(seen.positions_x18) else seen.cash_x18
        if any(seen.drifts_x18):
            drifts = ", ".join(show(drift, signed=True) for drift in seen.drifts_x18)
            self._p.log.event(f"position taken over from the exchange, drift {drifts}: {seen.explained_by}")
        if seen.cash_gap_x18:
            self._p.log.event(f"cash of the exchange differs by {show(seen.cash_gap_x18, signed=True)} USD")
        self._p.inputs.account(seen.equity_x18)
        positions = (seen.positions_x18[0], seen.positions_x18[1])
        pending = self._desk.pending() if asked.with_orders else 0
        self._p.inputs.verified(Verified(asked.seq, positions, seen.resting, pending))
        self._wake.set()

    async def _ask_positions(self, asked: Verify) -> tuple[Reconciled, frozenset[int]]:
        """One reading, and the orders that are over if it says so. Raises what REST raises."""
        ended, decided = self._desk.ended_tags(), self._desk.decided_tags()
        seen = await self._p.reconciler.verify(self._p.market.marks_x18, with_orders=asked.with_orders)
        return seen, decided if asked.with_orders and not seen.resting else ended

    # ------------------------------------------------------------------ facts

    def _order_changed(self, order: DeskOrder) -> None:
        tracked = order.tracked
        if not order.is_announced and tracked is not None and tracked.is_settled:
            order.is_announced = True
            self._announce(order, tracked)
        self._wake.set()

    def _announce(self, order: DeskOrder, tracked: TrackedOrder) -> None:
        symbol = self._plan.products[order.intent.leg].symbol
        amount = show(order.intent.amount_x18, signed=True)
        price_x18 = tracked.avg_price_x18
        if price_x18 is None:
            result = f"{tracked.state.value} without a fill"
        else:
            part = (
                ""
                if tracked.state is OrderState.FILLED
                else f"{show(tracked.filled_x18)}, then {tracked.state.value}"
            )
            result = f"filled {part or 'whole'} at {show_usd(price_x18, 4)}"
        ids = self._ids(order.intent.tag, tracked.digest)
        fills = [fill.submission_idx for fill in tracked.fills]
        self._p.log.event(f"{order.intent.purpose}  {symbol} {amount} {result}", **ids, fills=fills)


_CARRY_OUT: Final[dict[type[Action], Callable[[DNPairBot, Any], None]]] = {
    Begin: DNPairBot._begin,
    Send: DNPairBot._send,
    Cancel: DNPairBot._cancel,
    Replace: DNPairBot._replace,
    CancelAll: DNPairBot._cancel_all,
    Verify: DNPairBot._verify,
    Hedged: DNPairBot._hedged,
    Note: DNPairBot._note,
    CycleEnd: DNPairBot._cycle_end,
}
