"""A plan, quotes and a toy exchange in virtual time, to drive the pair's state machine without sockets.

The toy exchange knows nothing of prices: it fills, refuses, forgets and cancels orders as its seeded dice
say, keeps the positions that follow, and answers `Verify` from them. What it has done is the truth the
machine's decisions are judged by.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace
from typing import Any

from bot.execution import LegInputs, OrderView
from bot.machine import decide
from bot.model import (
    Action,
    Cancel,
    CancelAll,
    CycleEnd,
    PairInputs,
    PairState,
    Plan,
    Replace,
    Send,
    Verified,
    Verify,
)  # fmt: skip
from bot.risk import OrderIntent, Purpose
from bot.sizing import SizingRules
from bot.units import NS_PER_MS, sign
from nadofast.products import Product, to_x18

MS = NS_PER_MS
STEP_NS = 20 * MS


def product(product_id: int = 4, symbol: str = "ETH-PERP", tick: str = "0.1", step: str = "0.001") -> Product:
    return Product(
        product_id=product_id,
        symbol=symbol,
        price_increment_x18=to_x18(tick),
        size_increment_x18=to_x18(step),
        min_size_x18=to_x18(100),
        maker_fee_rate_x18=to_x18("0.0001"),
        taker_fee_rate_x18=to_x18("0.00035"),
        long_weight_initial_x18=to_x18("0.975"),
        long_weight_maintenance_x18=to_x18("0.9875"),
    )


ETH = product()
SOL = product(8, "SOL-PERP", "0.01", "0.1")


def plan(**changes: Any) -> Plan:
    base = Plan(
        products=(ETH, SOL),
        sizing=SizingRules(to_x18(150), cap_bps=20, headroom_bps=300),
        cycles=2,
        hold_ns=500 * MS,
        max_skips=3,
        ready_timeout_ns=2_000 * MS,
        entry_cap_bps=20,
        entry_attempts=3,
        hedge_attempts=3,
        leg_deadline_ns=3_000 * MS,
        maker_timeout_ms=3_000,
        reprice_ns=400 * MS,
        exit_cap_bps=30,
        exit_deadline_ns=10_000 * MS,
        max_net_delta_bps=200,
        max_blind_ns=5_000 * MS,
        moves_in_one_step=True,
    )
    return replace(base, **changes)


def leg(bid: str, ask: str, order: OrderView | None = None) -> LegInputs:
    return LegInputs(to_x18(bid), to_x18(ask), order)


def inputs(**changes: Any) -> PairInputs:
    base = PairInputs(legs=(leg("3000.0", "3000.1"), leg("140.00", "140.01")))
    return replace(base, **changes)


@dataclass
class ToyOrder:
    intent: OrderIntent
    sent_ns: int
    filled_x18: int = 0
    is_final: bool = False
    code: int | None = None
    denied: str | None = None

    @property
    def left_x18(self) -> int:
        return abs(self.intent.amount_x18) - self.filled_x18

    def view(self) -> OrderView:
        rests = self.intent.purpose.rests and not self.is_final
        return OrderView(
            self.intent.tag, self.filled_x18, self.is_final, self.code, self.denied, rests=rests
        )  # fmt: skip


@dataclass
class Dice:
    """Chances of one step, 0..1. A taker order that is neither refused nor silent fills wholly or in part.
    replace_fails: the step of a replacement does nothing; the old order is cancelled some time after."""

    taker_fills: float = 1.0
    taker_partial: float = 0.0
    taker_silent: float = 0.0
    rest_fills: float = 0.2
    rest_partial: float = 0.0
    rest_refused: float = 0.0
    cancel_lost: float = 0.0
    replace_fails: float = 0.0
    foreign_trade: float = 0.0
    spread_ticks: int = 1


@dataclass
class ToyExchange:
    """Drives one run of the machine. `run()` returns the last state; the lists hold what happened."""

    plan: Plan
    seed: int
    dice: Dice = field(default_factory=Dice)
    now_ns: int = 1_000 * MS
    state: PairState = field(default_factory=lambda: PairState(since_ns=1_000 * MS))
    positions_x18: list[int] = field(default_factory=lambda: [0, 0])
    orders: dict[int, ToyOrder] = field(default_factory=dict)
    verified: Verified | None = None
    due: list[tuple[int, int]] = field(default_factory=list)
    cycles: list[CycleEnd] = field(default_factory=list)
    actions: list[tuple[int, Action]] = field(default_factory=list)
    leaving: list[tuple[int, ToyOrder]] = field(default_factory=list)
    replaced: int = 0
    inputs: PairInputs = field(default_factory=inputs)
    was_foreign: bool = False

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)
        self.mids = [to_x18(3000), to_x18(140)]

    def run(self, max_steps: int = 20_000) -> PairState:
        for _ in range(max_steps):
            if self.state.end is not None:
                return self.state
            self.step()
        raise AssertionError(f"seed {self.seed}: no end after {max_steps} steps, {self.state}")

    def step(self) -> None:
        self.now_ns += STEP_NS
        self._move_market()
        self._answer()
        self._match()
        for at_ns, order in self.leaving:
            order.is_final |= at_ns <= self.now_ns
        legs = tuple(self._leg(index) for index in (0, 1))
        self.inputs = replace(self.inputs, legs=legs, verified=self.verified)
        self.state, actions = decide(self.state, self.inputs, self.plan, self.now_ns)
        for action in actions:
            self.actions.append((self.now_ns, action))
            self._carry_out(action)

    # ------------------------------------------------------------------ the exchange's side

    def _move_market(self) -> None:
        for index, product_ in enumerate(self.plan.products):
            self.mids[index] += self.rng.choice((-1, 0, 0, 0, 1)) * product_.price_increment_x18

    def _leg(self, index: int) -> LegInputs:
        tick = self.plan.products[index].price_increment_x18
        bid = self.mids[index] // tick * tick
        working = self.state.legs[index].working
        view = None if working is None else self.orders[working.intent.tag].view()
        return LegInputs(bid, bid + self.dice.spread_ticks * tick, view)

    def _carry_out(self, action: Action) -> None:
        if isinstance(action, Send):
            for intent in action.intents:
                self._accept(intent)
        elif isinstance(action, Cancel):
            if self.rng.random() >= self.dice.cancel_lost:
                self.orders[action.tag].is_final = True
        elif isinstance(action, Replace):
            self._replace(self.orders[action.tag], action.intent)
        elif isinstance(action, CancelAll):
            self.was_foreign = False
            for order in self.orders.values():
                if self.rng.random() >= self.dice.cancel_lost:
                    order.is_final = True
        elif isinstance(action, Verify):
            self.due.append((self.now_ns + self.rng.randint(1, 60) * MS, action.seq))
        elif isinstance(action, CycleEnd):
            self.cycles.append(action)

    def _replace(self, old: ToyOrder, intent: OrderIntent) -> None:
        """In one step, or the new one never is and the old one ends by its cancel, sooner or later."""
        assert abs(intent.amount_x18) == abs(old.intent.amount_x18)
        if old.is_final or old.filled_x18 or self.rng.random() < self.dice.replace_fails:
            order = self.orders[intent.tag] = ToyOrder(intent, self.now_ns, is_final=True)
            order.code = self.rng.choice((2120, 2121, 2124, 2008, None))
            if self.rng.random() >= self.dice.cancel_lost:
                self.leaving.append((self.now_ns + self.rng.randint(0, 300) * MS, old))
            return
        old.is_final, self.replaced = True, self.replaced + 1
        self._accept(intent)

    def _accept(self, intent: OrderIntent) -> None:
        assert intent.tag not in self.orders, "a tag is used once"
        alive = [o for o in self.orders.values() if not o.is_final and o.intent.leg == intent.leg]
        assert not alive, f"two orders on leg {intent.leg}"
        order = ToyOrder(intent, self.now_ns)
        self.orders[intent.tag] = order
        if intent.purpose.is_exit:
            self._judge_exit(order)
        if intent.purpose.rests and self.rng.random() < self.dice.rest_refused:
            order.is_final, order.code = True, self.rng.choice((2008, 2006))

    def _judge_exit(self, order: ToyOrder) -> None:
        if self.was_foreign:
            return  # somebody closed a position behind our back: nobody could have known yet
        position_x18 = self.positions_x18[order.intent.leg]
        assert sign(order.intent.amount_x18) != sign(position_x18) or position_x18 == 0
        if order.intent.purpose is Purpose.REST:
            assert abs(order.intent.amount_x18) <= abs(position_x18), "a resting exit exceeds the position"

    def _match(self) -> None:
        dice, rng = self.dice, self.rng
        for order in self.orders.values():
            if order.is_final:
                continue
            if order.intent.purpose.rests:
                if rng.random() < dice.rest_fills:
                    self._fill(order, rng.random() < dice.rest_partial)
            elif self.now_ns - order.sent_ns >= 30 * MS:
                if rng.random() < dice.taker_silent:
                    continue
                if rng.random() < dice.taker_fills:
                    self._fill(order, rng.random() < dice.taker_partial)
                order.is_final = True
        if rng.random() < dice.foreign_trade and self.state.phase.name in ("HEDGED", "UNWINDING"):
            self.positions_x18[rng.randrange(2)] = 0
            self.was_foreign = True

    def _fill(self, order: ToyOrder, partly: bool) -> None:
        step = self.plan.products[order.intent.leg].size_increment_x18
        amount = order.left_x18
        if partly:
            amount = self.rng.randint(0, amount // step) * step
        if order.intent.purpose is Purpose.TAKE:  # reduce-only: the exchange cuts it to the position
            amount = min(amount, abs(self.positions_x18[order.intent.leg]))
        order.filled_x18 += amount
        self.positions_x18[order.intent.leg] += sign(order.intent.amount_x18) * amount
        if order.left_x18 == 0:
            order.is_final = True

    def _answer(self) -> None:
        for at_ns, seq in list(self.due):
            if at_ns <= self.now_ns:
                resting = sum(not order.is_final for order in self.orders.values())
                self.verified = Verified(seq, (self.positions_x18[0], self.positions_x18[1]), resting)
                self.due.remove((at_ns, seq))
