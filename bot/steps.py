"""Moves every phase of the pair makes: ask and settle, start to leave, start to recover.

A phase's handler gets (state, inputs, plan, now) and returns the next state with what to do. These are the
moves more than one of them makes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from nadofast.products import mul_x18

from .execution import LegInputs, LegState
from .model import Action, CancelAll, End, Note, PairInputs, PairState, Phase, Plan, Verify
from .units import BPS, NS_PER_MS, show

STOP_REQUESTED = "stop requested"
SKIP_PAUSE_NS = 500 * NS_PER_MS  # before the next cycle, after one that did not go as planned
Step = tuple[PairState, list[Action]]
Then = Callable[[PairState, int], Step]


def settle(state: PairState, inputs: PairInputs, now_ns: int, then: Then) -> Step:
    """Ask the exchange for both positions; go on with `then` if they are ours and nothing rests, else take
    theirs over."""
    if not state.is_verifying:
        return ask(state, now_ns)
    if inputs.verified is None or inputs.verified.seq != state.verify_seq:
        return state, []
    state = replace(state, is_verifying=False)
    positions = inputs.verified.positions_x18
    if inputs.verified.resting:
        return recover(adopt(state, positions), "an order that had ended rests", now_ns)
    if positions == (state.legs[0].held_x18, state.legs[1].held_x18):
        return then(state, now_ns)
    text = ", ".join(
        f"{show(leg.held_x18)} → {show(p)}" for leg, p in zip(state.legs, positions, strict=True)
    )
    state, actions = recover(adopt(state, positions), f"positions differ from ours: {text}", now_ns)
    return state, actions


def needs_depth(state: PairState, index: int, seen: LegInputs, plan: Plan) -> bool:
    """Whether the next decision may look at this leg's levels: that of an entry, of one tried again, and
    of an exit that may have to go in slices. They are dear to read, so nobody else gets them."""
    if state.phase is Phase.FLAT:
        return True
    if state.phase is Phase.BUILDING:
        return state.is_verifying and all(leg.is_idle and leg.is_untouched for leg in state.legs)
    is_leaving = state.phase in (Phase.UNWINDING, Phase.RECOVERING)
    held_x18 = mul_x18(abs(state.legs[index].held_x18), seen.mid_x18)
    return is_leaving and held_x18 >= 2 * plan.products[index].min_size_x18


def is_unanswered(state: PairState, plan: Plan, now_ns: int) -> bool:
    """Asked for the positions, and no answer in time."""
    return state.is_verifying and now_ns - state.asked_ns > plan.verify_deadline_ns


def must_leave(inputs: PairInputs, plan: Plan) -> str:
    """Why a position has to be closed now, whatever the plan; "" if it may stay."""
    if inputs.halt:
        return inputs.halt
    if inputs.stop_age_ns is not None:
        return STOP_REQUESTED
    if inputs.stale_ns > plan.max_stale_ns:
        return f"no price for {inputs.stale_ns / 1e9:.1f} s"
    return ""


def ask(state: PairState, now_ns: int) -> Step:
    """Ask the exchange for both positions; `verified` of a later input is the answer."""
    state = replace(state, verify_seq=state.verify_seq + 1, is_verifying=True, asked_ns=now_ns)
    return state, [Verify(state.verify_seq, with_orders=state.phase is Phase.RECOVERING)]


def adopt(state: PairState, positions_x18: tuple[int, int]) -> PairState:
    """The exchange's positions are the truth."""
    legs = tuple(replace(leg, held_x18=p) for leg, p in zip(state.legs, positions_x18, strict=True))
    return replace(state, legs=(legs[0], legs[1]))


def unwind(state: PairState, urgent: str, now_ns: int) -> Step:
    """Start the exit. urgent: why it must cross at once, "" when it may rest."""
    legs = tuple(
        LegState(target_x18=leg.target_x18, held_x18=leg.held_x18, working=leg.working) for leg in state.legs
    )
    state = replace(
        move_to(state, Phase.UNWINDING, now_ns), legs=(legs[0], legs[1]), urgent=urgent, first_fill_ns=None
    )
    return state, [Note(f"unwinding: {urgent}")] if urgent else []


def recover(state: PairState, reason: str, now_ns: int) -> Step:
    """Drop what is believed about orders, cancel everything, and start from the exchange's positions."""
    legs = tuple(LegState(held_x18=leg.held_x18) for leg in state.legs)
    state = replace(
        move_to(state, Phase.RECOVERING, now_ns), legs=(legs[0], legs[1]), urgent=reason, flat_answers=0,
        cancelled_ns=now_ns, not_before_ns=0,
    )  # fmt: skip
    state, verify = ask(state, now_ns)
    return state, [Note(f"recovering: {reason}"), CancelAll(), *verify]


def move_to(state: PairState, phase: Phase, now_ns: int) -> PairState:
    return replace(state, phase=phase, since_ns=now_ns, is_verifying=False)


def ended(state: PairState, how: End) -> PairState:
    return replace(state, phase=Phase.HALTED, end=how)


def with_leg(state: PairState, index: int, leg: LegState) -> PairState:
    return replace(state, legs=(leg, state.legs[1]) if index == 0 else (state.legs[0], leg))


def is_overdue(leg: LegState, plan: Plan, now_ns: int) -> bool:
    """An order that should have ended by itself or by its cancel has not."""
    working = leg.working
    if working is None:
        return False
    if working.intent.purpose.rests:
        return working.cancel_ns is not None and now_ns - working.cancel_ns > plan.order_deadline_ns
    return now_ns - working.sent_ns > plan.take_deadline_ns


def net_delta_bps(state: PairState, inputs: PairInputs) -> int:
    """|signed notional| over gross notional of what is held, in basis points, rounded up; 0 without gross."""
    notionals = [
        mul_x18(leg.held_x18, quote.mid_x18) for leg, quote in zip(state.legs, inputs.legs, strict=True)
    ]
    gross = sum(abs(n) for n in notionals)
    return -(-abs(sum(notionals)) * BPS // gross) if gross else 0
