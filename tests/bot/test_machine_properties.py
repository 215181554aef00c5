"""Whatever state the pair is in, whatever it is told: what it sends is legal, and it comes to an end."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st
from machinekit import ETH, MS, SOL, plan

from bot.execution import LegInputs, LegState, OrderView, Working
from bot.machine import decide
from bot.model import (
    Direction,
    Foreign,
    PairInputs,
    PairState,
    Phase,
    Send,
    Verified,
)
from bot.risk import OrderIntent, Purpose, RiskGate, RiskLimits, RiskView
from bot.units import sign
from nadofast.products import to_x18

NOW = 1_000_000 * MS
PLAN = plan(cycles=3)
PRODUCTS = (ETH, SOL)
STEPS = (ETH.size_increment_x18, SOL.size_increment_x18)
MOST_STEPS = (48, 10)  # what the budget of a leg buys at the lowest prices drawn here
LIMITS = RiskLimits(PLAN.sizing.budget_x18, 2 * PLAN.sizing.budget_x18, to_x18(10**6), 10**9)
SILENT_STEP_NS = 20_000 * MS
SILENT_STEPS = 12


@st.composite
def legs(draw: st.DrawFn, index: int, side: int, phase: Phase) -> LegState:
    """A leg as some cycle may have left it. While building it is on the way to its target; else anything."""
    step, most = STEPS[index], MOST_STEPS[index]
    target = draw(st.integers(0, most))
    held = draw(st.integers(0, target)) if phase is Phase.BUILDING else draw(st.integers(-2 * most, 2 * most))
    if phase is Phase.FLAT:
        held = 0
    elif phase is not Phase.BUILDING:
        side = 1
    return LegState(
        target_x18=side * target * step if phase is Phase.BUILDING else held * step,
        held_x18=side * held * step,
        attempts=draw(st.integers(0, 4)),
        failures=draw(st.integers(0, 8)),
        not_before_ns=NOW + draw(st.integers(-1, 1)) * 50 * MS,
        rest_refused=draw(st.booleans()),
        was_filled=draw(st.booleans()),
    )


@st.composite
def states(draw: st.DrawFn) -> PairState:
    phase = draw(st.sampled_from([p for p in Phase if p is not Phase.HALTED]))
    direction = draw(st.sampled_from(Direction))
    pair = tuple(draw(legs(i, direction.signs[i], phase)) for i in (0, 1))
    state = PairState(
        phase=phase, since_ns=NOW - draw(st.integers(0, 4_000)) * MS, legs=(pair[0], pair[1]),
        direction=direction, cycle=1, tag=100, attempts=draw(st.integers(0, 3)),
        skips=draw(st.integers(0, 2)), failures=draw(st.integers(0, 2)), done=draw(st.integers(0, 2)),
        verify_seq=7, is_verifying=draw(st.booleans()), asked_ns=NOW - draw(st.integers(0, 4_000)) * MS,
        first_fill_ns=draw(st.sampled_from([None, NOW - 100 * MS])),
        flat_answers=draw(st.integers(0, 1)), cancelled_ns=NOW - draw(st.integers(0, 2_000)) * MS,
        mids_x18=(to_x18(3000), to_x18(140)), urgent=draw(st.sampled_from(["", "why"])),
    )  # fmt: skip
    for index in (0, 1):
        state = draw(at_work(state, index))
    return state


@st.composite
def at_work(draw: st.DrawFn, state: PairState, index: int) -> PairState:
    """Perhaps an order of this leg has been sent and has not ended."""
    leg = state.legs[index]
    amount = leg.missing_x18 if state.phase is Phase.BUILDING else -leg.held_x18
    if not amount or state.phase in (Phase.FLAT, Phase.HEDGED) or draw(st.booleans()):
        return state
    if state.phase is Phase.BUILDING:
        purpose = Purpose.ENTRY if not leg.held_x18 else Purpose.HEDGE
    else:
        purpose = draw(st.sampled_from([Purpose.REST, Purpose.TAKE]))
    price = to_x18(3000) if index == 0 else to_x18(140)
    intent = OrderIntent(10 + index, index, PRODUCTS[index].product_id, purpose, amount, price, 0, True)
    cancel_ns = draw(st.sampled_from([None, NOW - 50 * MS])) if purpose is Purpose.REST else None
    leg = replace(leg, working=Working(intent, NOW - draw(st.integers(0, 2_000)) * MS, cancel_ns))
    return replace(state, legs=(leg, state.legs[1]) if index == 0 else (state.legs[0], leg))


@st.composite
def worlds(draw: st.DrawFn, state: PairState) -> PairInputs:
    """What the machine may be told next, about its own orders and everything else."""
    seen = []
    for index, leg in enumerate(state.legs):
        bid = (
            to_x18(3000 + draw(st.integers(-40, 40)))
            if index == 0
            else to_x18(140 + draw(st.integers(-3, 3)))
        )
        bid = draw(st.sampled_from([bid, bid, bid, 0]))
        view = None
        if leg.working is not None and draw(st.booleans()):
            whole = abs(leg.working.intent.amount_x18) // STEPS[index]
            filled = draw(st.integers(0, whole)) * STEPS[index]
            code = draw(st.sampled_from([None, None, 2008, 2006]))
            is_final = draw(st.booleans()) or filled == whole * STEPS[index]
            view = OrderView(leg.working.intent.tag, filled, is_final, None if filled else code)
        seen.append(LegInputs(bid, bid + PRODUCTS[index].price_increment_x18 if bid else 0, view))
    verified = None
    if draw(st.booleans()):
        own = (state.legs[0].held_x18, state.legs[1].held_x18)
        other = (draw(st.integers(-48, 48)) * STEPS[0], draw(st.integers(-10, 10)) * STEPS[1])
        seq = draw(st.sampled_from([state.verify_seq, state.verify_seq, state.verify_seq - 1]))
        verified = Verified(seq, draw(st.sampled_from([own, (0, 0), other])), draw(st.integers(0, 1)))
    rarely = st.sampled_from([False] * 7 + [True])
    return PairInputs(
        legs=(seen[0], seen[1]),
        not_ready="books" if draw(rarely) else "",
        halt="daily loss" if draw(rarely) else None,
        stop_age_ns=1 if draw(rarely) else None,
        drain=draw(rarely),
        stale_ns=10**10 if draw(rarely) else 0,
        foreign=Foreign(state.foreign + 1, "taken", draw(st.booleans())) if draw(rarely) else None,
        verified=verified,
    )


def judge(before: PairState, inputs: PairInputs, after: PairState, send: Send) -> None:
    """Every order of one action, against the state that the machine has left behind."""
    marks = {p.product_id: leg.mid_x18 for p, leg in zip(PRODUCTS, inputs.legs, strict=True)}
    held = {p.product_id: leg.held_x18 for p, leg in zip(PRODUCTS, after.legs, strict=True)}
    view = RiskView(held, marks, {4: 0, 8: 0}, 0)
    gate = RiskGate(LIMITS, lambda: view)
    assert len({intent.leg for intent in send.intents}) == len(send.intents), "two orders on one leg"
    for intent in send.intents:
        leg = after.legs[intent.leg]
        assert leg.working is not None
        assert leg.working.intent is intent
        assert intent.tag > before.tag
        if intent.purpose.is_exit:
            assert gate.check(intent), "an exit that the gate would not let out"
            assert sign(intent.amount_x18) == -sign(leg.held_x18)
            assert abs(intent.amount_x18) <= abs(leg.held_x18)
        elif intent.purpose is Purpose.HEDGE:
            assert sign(intent.amount_x18) == sign(leg.target_x18)
            assert abs(leg.held_x18 + intent.amount_x18) <= abs(leg.target_x18)
        else:
            assert not any(held.values()), "an entry on top of what is open"
            assert gate.check(intent), "an entry beyond the limits"
    if any(intent.purpose is Purpose.ENTRY for intent in send.intents):
        assert sorted(sign(intent.amount_x18) for intent in send.intents) == [-1, 1]


@settings(max_examples=100, deadline=None)
@given(data=st.data(), state=states())
def test_what_the_machine_sends_is_legal_in_any_state(data: st.DataObject, state: PairState) -> None:
    now_ns = NOW
    for _ in range(data.draw(st.integers(1, 5), label="turns")):
        inputs = data.draw(worlds(state), label="inputs")
        after, actions = decide(state, inputs, PLAN, now_ns)
        for action in actions:
            if isinstance(action, Send):
                judge(state, inputs, after, action)
        if must_not_add(inputs):
            assert all(i.purpose.is_exit for a in actions if isinstance(a, Send) for i in a.intents)
        if after.end is not None:
            return
        state, now_ns = after, now_ns + data.draw(st.integers(1, 2_000), label="ms") * MS


def must_not_add(inputs: PairInputs) -> bool:
    return bool(inputs.halt or inputs.stop_age_ns is not None or inputs.stale_ns)


@settings(max_examples=40, deadline=None)
@given(state=states(), inputs=st.data())
def test_a_world_that_falls_silent_is_left_from_any_state(state: PairState, inputs: st.DataObject) -> None:
    """No order ends, nobody answers, prices stand: every state has a deadline, the last one ends the run."""
    seen = inputs.draw(worlds(state))
    seen = replace(
        seen, verified=None, legs=(replace(seen.legs[0], order=None), replace(seen.legs[1], order=None))
    )
    now_ns = NOW
    for _ in range(SILENT_STEPS):
        state, _ = decide(state, seen, PLAN, now_ns)
        if state.end is not None:
            return
        now_ns += SILENT_STEP_NS
    raise AssertionError(f"still {state.phase} after {(now_ns - NOW) / 1e9:.0f} s of silence")
