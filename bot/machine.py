"""The pair's decisions: `decide(state, inputs, plan, now) → (state, actions)`. No socket, no clock, no task.

FLAT → BUILDING → HEDGED → UNWINDING → FLAT, with RECOVERING when something does not add up and HALTED as
the end. Every phase has a deadline and a way out. The exchange's own positions are asked for before the
pair counts as hedged and before it counts as flat; where they differ from ours, theirs win.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from . import execution
from .building import building, flat, hedged
from .model import Action, End, ExitCode, Note, PairInputs, PairState, Phase, Plan
from .steps import Step, ask, ended, recover
from .unwinding import recovering, unwinding

MAX_TRANSITIONS = 6


def decide(state: PairState, inputs: PairInputs, plan: Plan, now_ns: int) -> Step:
    """The next state and what to do, from everything known now. Pure; call it as often as you like."""
    state, actions = _absorb(state, inputs, now_ns)
    for _ in range(MAX_TRANSITIONS):
        if state.end is not None:
            break
        if lost := _lost(state, inputs, plan):
            state = ended(state, lost)
            break
        if (foreign := inputs.foreign) is not None and foreign.number > state.foreign:
            state = replace(state, foreign=foreign.number)
            if foreign.is_certain:
                state, more = recover(state, foreign.why, now_ns)
                actions += more
                break
            if state.phase in (Phase.FLAT, Phase.HEDGED) and not state.is_verifying:
                state, more = ask(state, now_ns)
                actions += more
        phase = state.phase
        state, more = _HANDLERS[phase](state, inputs, plan, now_ns)
        actions += more
        if state.phase is phase:
            break
        if state.phase is Phase.UNWINDING:  # the levels are those of before the entry: no exit is cut by them
            inputs = _without_depth(inputs)
    return state, actions


def _without_depth(inputs: PairInputs) -> PairInputs:
    first, second = (replace(seen, depth=None) for seen in inputs.legs)
    return replace(inputs, legs=(first, second))


def _absorb(state: PairState, inputs: PairInputs, now_ns: int) -> Step:
    actions: list[Action] = []
    legs = []
    for leg, seen in zip(state.legs, inputs.legs, strict=True):
        after = execution.absorb(leg, seen, now_ns)
        if after.last_refusal and leg.working is not None and after.working is None:
            actions.append(
                Note(f"{leg.working.intent.purpose} order {leg.working.intent.tag}: {after.last_refusal}")
            )
        legs.append(after)
    state = replace(state, legs=(legs[0], legs[1]))
    if state.first_fill_ns is None and _has_filled(state, inputs):
        state = replace(state, first_fill_ns=now_ns)
    return state, actions


def _has_filled(state: PairState, inputs: PairInputs) -> bool:
    """Whether anything of this phase has filled: the clock of the leg that is behind starts."""
    if any(
        seen.order is not None
        and leg.working is not None
        and seen.order.tag == leg.working.intent.tag
        and seen.order.filled_x18
        for leg, seen in zip(state.legs, inputs.legs, strict=True)
    ):
        return True
    if state.phase is Phase.BUILDING:
        return not all(leg.is_untouched for leg in state.legs)
    return state.phase is Phase.UNWINDING and any(leg.was_filled for leg in state.legs)


def _lost(state: PairState, inputs: PairInputs, plan: Plan) -> End | None:
    """The reasons to leave whatever the phase: the exchange is gone, or silent, or the time to stop is up."""
    code = ExitCode.EXPOSED if state.is_exposed else ExitCode.ERROR
    if inputs.gone is not None:
        return End(code, inputs.gone)
    if inputs.blind_ns > plan.max_blind_ns:
        return End(code, f"nothing heard from the exchange for {inputs.blind_ns / 1e9:.1f} s")
    if inputs.stop_age_ns is not None and inputs.stop_age_ns > plan.stop_deadline_ns:
        return End(code, f"not proved flat {inputs.stop_age_ns / 1e9:.0f} s after the stop request")
    return None


def _halted(state: PairState, inputs: PairInputs, plan: Plan, now_ns: int) -> Step:
    return state, []


_HANDLERS: dict[Phase, Callable[[PairState, PairInputs, Plan, int], Step]] = {
    Phase.FLAT: flat,
    Phase.BUILDING: building,
    Phase.HEDGED: hedged,
    Phase.UNWINDING: unwinding,
    Phase.RECOVERING: recovering,
    Phase.HALTED: _halted,
}
