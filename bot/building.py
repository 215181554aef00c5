"""Getting in: FLAT → BUILDING → HEDGED. Both legs are sized together and leave together.

A leg that stays behind is completed inside its cap or the other one is unwound; nobody waits for it longer
than the leg deadline, and the pair counts as hedged only when the exchange confirms both positions.
"""

from __future__ import annotations

from dataclasses import replace

from nadofast.products import Product, mul_x18

from . import execution, makerentry, residual
from .entry import cannot_enter, shown_budget_x18
from .execution import LegState
from .model import (
    Action,
    Begin,
    CycleEnd,
    Direction,
    End,
    ExitCode,
    Hedged,
    Note,
    PairInputs,
    PairState,
    Phase,
    Plan,
    Send,
)  # fmt: skip
from .risk import Purpose
from .sizing import LegQuote, NoSize, size_pair
from .steps import (
    SKIP_PAUSE_NS,
    Step,
    ended,
    is_overdue,
    is_unanswered,
    move_to,
    must_leave,
    net_delta_bps,
    recover,
    settle,
    unwind,
    with_leg,
)
from .units import BPS

MOST_DOUBLINGS = 4
"""Of the pause after a skipped cycle: eight seconds at most."""


def flat(state: PairState, inputs: PairInputs, plan: Plan, now_ns: int) -> Step:
    """Nothing is held by our books. A change of others is asked about before anything else."""
    if state.is_verifying:
        if is_unanswered(state, plan, now_ns):
            return recover(state, "the exchange does not confirm that we are flat", now_ns)
        return settle(state, inputs, now_ns, lambda s, _: (s, []))
    if inputs.halt is not None:
        return ended(state, End(ExitCode.HALTED_FLAT, inputs.halt)), []
    if inputs.stop_age_ns is not None:
        return ended(state, End(ExitCode.DONE, "stopped on request")), []
    if inputs.drain:
        return ended(state, End(ExitCode.DONE, "drained on request")), []
    if state.done >= plan.cycles:
        return ended(state, End(ExitCode.DONE, "all cycles complete")), []
    if state.skips >= plan.max_skips or state.failures >= plan.max_failures:
        count = (
            f"{state.skips} cycles skipped" if state.skips >= plan.max_skips else f"{state.failures} failed"
        )
        return ended(state, End(ExitCode.ERROR, f"{count} in a row")), []
    if why := residual.too_much(state, inputs, plan):
        return ended(state, End(ExitCode.EXPOSED, why)), []
    if now_ns < state.not_before_ns or (plan.is_by_hand and state.wanted is None):
        return state, []
    if inputs.pacing:
        notes: list[Action] = [] if state.is_pacing else [Note("waiting for the order budget to recover")]
        return replace(state, since_ns=now_ns, is_pacing=True), notes
    state = replace(state, is_pacing=False)
    if missing := _not_ready(inputs, plan):
        if now_ns - max(state.since_ns, state.not_before_ns) > plan.ready_timeout_ns:
            waited_s = plan.ready_timeout_ns / 1e9
            return ended(state, End(ExitCode.ERROR, f"not ready for {waited_s:.0f} s: {missing}")), []
        return state, []
    turn = Direction.BUY_FIRST if state.done % 2 == 0 else Direction.SELL_FIRST
    direction = state.wanted or residual.wanted(state) or turn
    state = replace(state, cycle=state.cycle + 1, direction=direction, wanted=None, attempts=0)
    return _enter(state, inputs, plan, now_ns)


def _not_ready(inputs: PairInputs, plan: Plan) -> str:
    if inputs.not_ready:
        return inputs.not_ready
    if inputs.stale_ns > plan.max_stale_ns:
        return f"no price for {inputs.stale_ns / 1e9:.1f} s"
    return "" if all(leg.has_quote for leg in inputs.legs) else "a book side is empty"


def _enter(state: PairState, inputs: PairInputs, plan: Plan, now_ns: int) -> Step:
    """Size both legs together and send both."""
    quotes = tuple(LegQuote(p, leg.mid_x18) for p, leg in zip(plan.products, inputs.legs, strict=True))
    rules = plan.sizing_at(state.done)
    shown_x18 = shown_budget_x18(inputs, plan, state.direction.signs)
    is_limited = shown_x18 is not None and shown_x18 < rules.budget_x18
    if is_limited and shown_x18 is not None:
        rules = replace(rules, budget_x18=shown_x18)
    size = size_pair((quotes[0], quotes[1]), rules)
    if isinstance(size, NoSize):
        thin = "the books do not show enough: " if is_limited else ""
        return _skip(state, thin + size.reason, now_ns)
    targets = tuple(s * d for s, d in zip(size.sizes_x18, state.direction.signs, strict=True))
    if why := cannot_enter(inputs, plan, size, (targets[0], targets[1])):
        return _skip(state, why, now_ns)
    first, second = residual.clean_legs(state)
    legs = (
        _aimed(first, targets[0], plan.products[0]), _aimed(second, targets[1], plan.products[1]),
    )  # fmt: skip
    actions: list[Action] = [Begin(state.cycle, state.direction, size)] if state.attempts == 0 else []
    state = replace(
        move_to(state, Phase.BUILDING, now_ns), legs=legs, attempts=state.attempts + 1, first_fill_ns=None,
        mids_x18=(inputs.legs[0].mid_x18, inputs.legs[1].mid_x18), maker=None,
    )  # fmt: skip
    if makerentry.wants_to_rest(state, plan):
        state, send = makerentry.begin(state, inputs, plan, now_ns)
        return state, [*actions, *send]
    state, send = _cross(state, inputs, plan, now_ns, Purpose.ENTRY, (0, 1), plan.entry_cap_bps)
    return state, [*actions, *send]


def _aimed(leg: LegState, target_x18: int, product: Product) -> LegState:
    """The leg with its target, short of it by what a residual off the step grid would put into the order."""
    return replace(leg, target_x18=leg.held_x18 + product.round_size(target_x18 - leg.held_x18))


def building(state: PairState, inputs: PairInputs, plan: Plan, now_ns: int) -> Step:
    """Both legs full → HEDGED; nothing → again or skip; one side short → complete it, or unwind the other."""
    if not all(leg.is_idle for leg in state.legs):
        state, cancels = makerentry.tend(state, inputs, plan, now_ns)
        state, actions = _overdue(state, plan, now_ns)
        return state, [*cancels, *actions]
    if not state.is_verifying and makerentry.may_rest_again(state, inputs, plan, now_ns):
        return makerentry.rest_again(state, inputs, plan, now_ns)
    if state.is_verifying and not all(leg.is_untouched for leg in state.legs):
        if why := must_leave(inputs, plan):
            return unwind(state, why, now_ns)
        if is_unanswered(state, plan, now_ns):
            return unwind(state, "the exchange does not confirm the positions", now_ns)
    elif is_unanswered(state, plan, now_ns):
        return recover(state, "the exchange does not confirm that nothing filled", now_ns)
    if all(leg.missing_x18 == 0 for leg in state.legs):
        return settle(state, inputs, now_ns, _hedge_complete)
    if all(leg.is_untouched for leg in state.legs):
        return settle(state, inputs, now_ns, lambda s, t: _empty_build(s, inputs, plan, t))
    if any(leg.missing_x18 * leg.target_x18 < 0 for leg in state.legs):
        return recover(state, "more filled than was asked for", now_ns)
    why = _cannot_hedge(state, inputs, plan, now_ns)
    if why:
        return unwind(state, f"leg missing: {why}", now_ns)
    short = tuple(i for i, leg in enumerate(state.legs) if leg.missing_x18 and now_ns >= leg.not_before_ns)
    tries = max(1, *(leg.attempts for leg in state.legs))
    return _cross(state, inputs, plan, now_ns, Purpose.HEDGE, short, plan.entry_cap_bps * tries)


def _is_leg_late(state: PairState, plan: Plan, now_ns: int) -> bool:
    return state.first_fill_ns is not None and now_ns - state.first_fill_ns > plan.leg_deadline_ns


def _cannot_hedge(state: PairState, inputs: PairInputs, plan: Plan, now_ns: int) -> str:
    if why := must_leave(inputs, plan):
        return why
    if _is_leg_late(state, plan, now_ns):
        return "deadline of the second leg"
    if any(leg.missing_x18 and leg.attempts > plan.hedge_attempts for leg in state.legs):
        return "no fill inside the cap"
    if (more_bps := _completing_costs_bps(state, inputs)) > plan.leg_risk_bps:
        return f"completing it costs {more_bps} bps more than leaving the other"
    return ""


def _completing_costs_bps(state: PairState, inputs: PairInputs) -> int:
    """What the market's move since the decision makes completing dearer than leaving, of what is missing."""
    dearer_x18 = missing_x18 = 0
    for leg, seen, then_x18 in zip(state.legs, inputs.legs, state.mids_x18, strict=True):
        if not seen.has_quote or not then_x18:
            return 0
        moved_x18 = seen.mid_x18 - then_x18
        dearer_x18 += mul_x18(leg.missing_x18, moved_x18) + mul_x18(leg.held_x18, moved_x18)
        missing_x18 += mul_x18(abs(leg.missing_x18), seen.mid_x18)
    return dearer_x18 * BPS // missing_x18 if missing_x18 else 0


def _hedge_complete(state: PairState, now_ns: int) -> Step:
    return move_to(state, Phase.HEDGED, now_ns), [Hedged()]


def _empty_build(state: PairState, inputs: PairInputs, plan: Plan, now_ns: int) -> Step:
    """Nothing filled, and the exchange says so: try again with fresh prices, or skip the cycle. A door that
    turned it away a moment ago (maintenance, too many requests) is no matter of prices."""
    may_try = state.attempts < plan.entry_attempts and not any(leg.turned_away for leg in state.legs)
    if may_try and not must_leave(inputs, plan) and not _not_ready(inputs, plan):
        return _enter(state, inputs, plan, now_ns)
    refusals = {leg.last_refusal for leg in state.legs if leg.last_refusal}
    return _skip(state, ", ".join(sorted(refusals)) or "no fill", now_ns)


def hedged(state: PairState, inputs: PairInputs, plan: Plan, now_ns: int) -> Step:
    if why := must_leave(inputs, plan):
        return unwind(state, why, now_ns)
    if all(leg.has_quote for leg in inputs.legs) and net_delta_bps(state, inputs) > plan.max_net_delta_bps:
        return unwind(state, f"net delta above {plan.max_net_delta_bps} bps", now_ns)
    if is_unanswered(state, plan, now_ns):
        return unwind(state, "the exchange does not confirm the positions", now_ns)
    if state.is_verifying:
        return settle(state, inputs, now_ns, lambda s, _: (s, []))
    if now_ns - state.since_ns >= plan.hold_ns:
        return unwind(state, "", now_ns)
    return state, []


def _cross(
    state: PairState, inputs: PairInputs, plan: Plan, now_ns: int, purpose: Purpose, which: tuple[int, ...],
    cap_bps: int,
) -> Step:  # fmt: skip
    intents = []
    for index in which:
        if not inputs.legs[index].has_quote:
            continue
        leg, intent = execution.cross(
            state.legs[index], index, plan.products[index], inputs.legs[index], tag=state.tag + 1,
            purpose=purpose, amount_x18=state.legs[index].missing_x18, cap_bps=cap_bps, now_ns=now_ns,
        )  # fmt: skip
        state = with_leg(replace(state, tag=state.tag + 1), index, leg)
        intents.append(intent)
    return state, [Send(tuple(intents))] if intents else []


def _overdue(state: PairState, plan: Plan, now_ns: int) -> Step:
    if any(is_overdue(leg, plan, now_ns) for leg in state.legs):
        return recover(state, "an entry order has no end", now_ns)
    if _is_leg_late(state, plan, now_ns):
        return recover(state, "one leg filled, nothing known of the other", now_ns)
    return state, []


def _skip(state: PairState, reason: str, now_ns: int) -> Step:
    """The next cycle comes after a pause, which doubles while the exchange lets nothing in: all skips would
    be used up within seconds."""
    is_shut = any(leg.turned_away for leg in state.legs)
    pause_ns = SKIP_PAUSE_NS << min(state.skips, MOST_DOUBLINGS) if is_shut else SKIP_PAUSE_NS
    state = replace(
        move_to(state, Phase.FLAT, now_ns), skips=state.skips + 1, not_before_ns=now_ns + pause_ns,
        legs=residual.clean_legs(state),
    )  # fmt: skip
    return state, [CycleEnd(state.cycle, reason, skipped=True)]
