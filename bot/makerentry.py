"""Entering as maker: one leg rests first, the other one crosses as soon as the first has filled.

The leg with less to take rests, post-only, at or inside the touch; it dies by itself if nobody is left to
cancel it. From its first fill the pair stands on one leg, so a part that filled is waited on only within the
budget of leg risk, in time and in notional; then the rest is cancelled. Whatever is missing when the resting
order has ended is crossed by the ordinary ways of BUILDING: both legs completed, or left.
"""

from __future__ import annotations

from dataclasses import replace

from nadofast.products import mul_x18

from . import execution
from .model import Action, Cancel, EntryMode, PairInputs, PairState, Plan, Send
from .risk import Purpose
from .steps import Step, must_leave, with_leg
from .units import NS_PER_MS

MAX_REFUSALS = 3


def wants_to_rest(state: PairState, plan: Plan) -> bool:
    """The first attempt of a cycle; what did not fill as maker crosses."""
    return plan.entry_mode is EntryMode.MAKER_THEN_IOC and state.attempts <= 1


def begin(state: PairState, inputs: PairInputs, plan: Plan, now_ns: int) -> Step:
    """Rest the leg that is harder to take, and say how long."""
    maker = thinner_leg(state, inputs, plan)
    until_ns = now_ns + plan.maker_entry_ms * NS_PER_MS
    return _rest(replace(state, maker=maker, maker_until_ns=until_ns), inputs, plan, now_ns)


def thinner_leg(state: PairState, inputs: PairInputs, plan: Plan) -> int:
    """Of both legs the one with less notional to take inside the cap; the second one if nobody can say."""
    shown = []
    for product, leg, seen in zip(plan.products, state.legs, inputs.legs, strict=True):
        if seen.depth is None:
            return 1
        cap_x18 = execution.entry_price_x18(product, leg.target_x18, seen.mid_x18, plan.entry_cap_bps)
        shown.append(mul_x18(seen.depth.visible_x18(leg.target_x18, cap_x18), seen.mid_x18))
    return 0 if shown[0] < shown[1] else 1


def may_rest_again(state: PairState, inputs: PairInputs, plan: Plan, now_ns: int) -> bool:
    """The resting order has ended without a fill, there is time left, and another price may do."""
    if state.maker is None or now_ns >= state.maker_until_ns or must_leave(inputs, plan) or inputs.not_ready:
        return False
    leg = state.legs[state.maker]
    is_untouched = all(other.is_idle and other.is_untouched for other in state.legs)
    return is_untouched and not leg.rest_refused and leg.failures < MAX_REFUSALS


def rest_again(state: PairState, inputs: PairInputs, plan: Plan, now_ns: int) -> Step:
    """At the touch of now, once the pause after a refusal is over."""
    assert state.maker is not None
    leg, seen = state.legs[state.maker], inputs.legs[state.maker]
    if now_ns < leg.not_before_ns or not seen.has_quote:
        return state, []
    return _rest(state, inputs, plan, now_ns)


def tend(state: PairState, inputs: PairInputs, plan: Plan, now_ns: int) -> Step:
    """Cancel the resting order when its time, its price or the budget of leg risk is gone."""
    if state.maker is None:
        return state, []
    leg = state.legs[state.maker]
    working = leg.working
    if working is None or working.intent.purpose is not Purpose.MAKE or working.cancel_ns is not None:
        return state, []
    if not (why := _why_cancel(state, inputs, plan, now_ns)):
        return state, []
    leg = replace(leg, working=replace(working, cancel_ns=now_ns))
    actions: list[Action] = [Cancel(working.intent.tag, why)]
    return with_leg(state, state.maker, leg), actions


def _why_cancel(state: PairState, inputs: PairInputs, plan: Plan, now_ns: int) -> str:
    assert state.maker is not None
    working, seen = state.legs[state.maker].working, inputs.legs[state.maker]
    assert working is not None
    if why := must_leave(inputs, plan) or inputs.not_ready:
        return why
    if now_ns >= state.maker_until_ns:
        return "maker timeout"
    view = seen.order
    filled_x18 = view.filled_x18 if view is not None and view.tag == working.intent.tag else 0
    if filled_x18:
        if state.first_fill_ns is not None and now_ns - state.first_fill_ns >= plan.maker_leg_ns:
            return "budget of leg risk: time"
        if mul_x18(filled_x18, seen.mid_x18) > plan.maker_leg_x18:
            return "budget of leg risk: notional"
        return ""
    is_due = plan.reprice_ns and now_ns - working.sent_ns >= plan.reprice_ns
    return "market moved" if is_due and execution.has_moved_away(working, seen) else ""


def _rest(state: PairState, inputs: PairInputs, plan: Plan, now_ns: int) -> Step:
    assert state.maker is not None
    index, tag = state.maker, state.tag + 1
    left_ms = max(1, (state.maker_until_ns - now_ns) // NS_PER_MS)
    leg, intent = execution.rest(
        state.legs[index], index, plan.products[index], inputs.legs[index], tag=tag,
        amount_x18=state.legs[index].missing_x18, purpose=Purpose.MAKE, timeout_ms=left_ms, now_ns=now_ns,
    )  # fmt: skip
    state = replace(state, tag=tag, mids_x18=_mids_x18(state, inputs))
    return with_leg(state, index, leg), [Send((intent,))]


def _mids_x18(state: PairState, inputs: PairInputs) -> tuple[int, int]:
    """What leg risk is measured from: the market of now; what was known before of a leg without a quote."""
    first, second = (
        seen.mid_x18 if seen.has_quote else then_x18
        for seen, then_x18 in zip(inputs.legs, state.mids_x18, strict=True)
    )
    return first, second
