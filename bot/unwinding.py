"""Getting out: UNWINDING each leg on its own, and RECOVERING when something does not add up.

Flat is what the exchange says, never what we believe: once after a planned exit, twice after a recovery.
"""

from __future__ import annotations

from dataclasses import replace

from . import execution, residual
from .execution import NOT_HELD, LegState
from .model import (
    Action,
    Cancel,
    CancelAll,
    CycleEnd,
    End,
    ExitCode,
    Note,
    PairInputs,
    PairState,
    Phase,
    Plan,
    Replace,
    Send,
    Verified,
)  # fmt: skip
from .risk import OrderIntent, Purpose
from .steps import (
    SKIP_PAUSE_NS,
    Step,
    adopt,
    ask,
    ended,
    is_overdue,
    is_unanswered,
    move_to,
    must_leave,
    recover,
    settle,
    with_leg,
)
from .units import NS_PER_MS

MAX_REST_FAILURES = 4
TOO_SMALL = "the rest of an exit is too small for an order"
MAX_EXIT_FAILURES = 16
MAX_NOT_HELD = 2  # a fill that is told after its order's end comes within milliseconds
MOST_EXIT_CAPS = 3  # each try that does not fill may pay one cap more, up to this many
FLAT_ANSWERS_NEEDED = 2
FLAT_ANSWER_PAUSE_NS = 150 * NS_PER_MS
CANCEL_PAUSE_NS = 1_000 * NS_PER_MS  # cancelling everything is dear: no oftener than this


def unwinding(state: PairState, inputs: PairInputs, plan: Plan, now_ns: int) -> Step:
    """Each leg on its own: rest, move, cancel, cross; flat only when the exchange says so."""
    urgent = state.urgent or must_leave(inputs, plan)
    state = replace(state, urgent=urgent)
    if now_ns - state.since_ns > plan.maker_timeout_ms * NS_PER_MS + plan.exit_deadline_ns:
        return recover(state, "exit took too long", now_ns)
    if any(is_overdue(leg, plan, now_ns) for leg in state.legs):
        return recover(state, "an exit order has no end", now_ns)
    if any(leg.too_small for leg in state.legs) or _is_all_dust(state, plan):
        return recover(state, f"{urgent}; {TOO_SMALL}" if urgent else TOO_SMALL, now_ns)
    if any(leg.failures >= MAX_EXIT_FAILURES for leg in state.legs):
        return recover(state, "an exit does not fill", now_ns)
    if any(leg.failures >= MAX_NOT_HELD and leg.last_refusal.startswith(NOT_HELD) for leg in state.legs):
        return recover(state, "a fill that is known is not told", now_ns)
    if all(leg.is_idle and leg.held_x18 == 0 for leg in state.legs):
        if is_unanswered(state, plan, now_ns):
            return recover(state, "the exchange does not confirm that we are flat", now_ns)
        return settle(state, inputs, now_ns, cycle_complete)
    maker_until_ns = _maker_until_ns(state, plan)
    actions: list[Action] = []
    intents: list[OrderIntent] = []
    for index in (0, 1):
        leg = state.legs[index]
        if leg.working is not None:
            state, cancels = _tend(state, index, inputs, plan, now_ns, maker_until_ns)
            actions += cancels
        elif _may_exit(leg, index, inputs, plan, now_ns):
            state, intent = _exit_order(state, index, inputs, plan, now_ns, maker_until_ns)
            intents.append(intent)
    if intents:
        actions.append(Send(tuple(intents)))
    return state, actions


def _is_all_dust(state: PairState, plan: Plan) -> bool:
    """What is left of both legs is less than a step, and not nothing."""
    held = [(leg, p) for leg, p in zip(state.legs, plan.products, strict=True) if leg.held_x18]
    is_idle = all(leg.is_idle for leg in state.legs)
    return is_idle and bool(held) and all(residual.is_dust(leg, product) for leg, product in held)


def _may_exit(leg: LegState, index: int, inputs: PairInputs, plan: Plan, now_ns: int) -> bool:
    """There is something an order can close, a price for it, and no pause."""
    is_open = leg.held_x18 != 0 and not residual.is_dust(leg, plan.products[index])
    return is_open and inputs.legs[index].has_quote and now_ns >= leg.not_before_ns


def _maker_until_ns(state: PairState, plan: Plan) -> int:
    """How long exits may rest: the time-out, less once one leg is on its way out and the other is not."""
    if state.urgent:
        return state.since_ns
    until_ns = state.since_ns + plan.maker_timeout_ms * NS_PER_MS
    if state.first_fill_ns is None:
        return until_ns
    return min(until_ns, state.first_fill_ns + plan.exit_leg_ns)


def _exit_order(
    state: PairState, index: int, inputs: PairInputs, plan: Plan, now_ns: int, maker_until_ns: int
) -> tuple[PairState, OrderIntent]:
    leg, seen, product, tag = state.legs[index], inputs.legs[index], plan.products[index], state.tag + 1
    if now_ns < maker_until_ns and not leg.rest_refused and leg.failures < MAX_REST_FAILURES:
        left_ms = max(1, (maker_until_ns - now_ns) // NS_PER_MS)
        leg, intent = execution.rest(
            leg, index, product, seen, tag=tag, purpose=Purpose.REST, amount_x18=-leg.held_x18,
            timeout_ms=left_ms, now_ns=now_ns,
        )  # fmt: skip
    else:
        cap_bps = plan.exit_cap_bps * min(1 + leg.attempts, MOST_EXIT_CAPS)
        leg, intent = execution.cross(
            leg, index, product, seen, tag=tag, purpose=Purpose.TAKE,
            amount_x18=-leg.held_x18, cap_bps=cap_bps, now_ns=now_ns,
        )  # fmt: skip
    return with_leg(replace(state, tag=tag), index, leg), intent


def _tend(
    state: PairState, index: int, inputs: PairInputs, plan: Plan, now_ns: int, maker_until_ns: int
) -> Step:
    """A resting exit is cancelled when its time is up, and moved when the market has left its price."""
    leg = state.legs[index]
    working = leg.working
    if working is None or working.intent.purpose is not Purpose.REST:
        return state, []
    if working.cancel_ns is not None:  # a move under way does not hold up an exit that has to cross
        if working.successor is None or working.is_hurried or now_ns < maker_until_ns:
            return state, []
        leg = replace(leg, working=replace(working, is_hurried=True))
        return with_leg(state, index, leg), [Cancel(working.intent.tag, state.urgent or "maker timeout")]
    if now_ns >= maker_until_ns:
        why = state.urgent or "maker timeout"
    elif (
        plan.reprice_ns
        and now_ns - working.sent_ns >= plan.reprice_ns
        and execution.has_moved_away(working, inputs.legs[index])
    ):
        why = "market moved"
        leg = replace(leg, reprices=leg.reprices + 1)
        left_ms = max(1, (maker_until_ns - now_ns) // NS_PER_MS)
        moved = plan.moves_in_one_step and execution.move(
            leg, plan.products[index], inputs.legs[index], tag=state.tag + 1, timeout_ms=left_ms,
            now_ns=now_ns,
        )  # fmt: skip
        if moved:
            leg, intent = moved
            state = with_leg(replace(state, tag=intent.tag), index, leg)
            return state, [Replace(working.intent.tag, intent, why)]
    else:
        return state, []
    leg = replace(leg, working=replace(working, cancel_ns=now_ns))
    return with_leg(state, index, leg), [Cancel(working.intent.tag, why)]


def cycle_complete(state: PairState, now_ns: int) -> Step:
    failure = state.urgent
    failures = state.failures + 1 if failure else 0
    state = replace(state, done=state.done + (not failure), skips=0, failures=failures, urgent="")
    return move_to(state, Phase.FLAT, now_ns), [CycleEnd(state.cycle, failure)]


def recovering(state: PairState, inputs: PairInputs, plan: Plan, now_ns: int) -> Step:
    """By the exchange's word only: cross what is there, cancel what rests, believe flat when told twice."""
    if now_ns - state.since_ns > plan.recover_deadline_ns:
        return ended(state, End(ExitCode.EXPOSED, f"recovery took too long ({state.urgent})")), []
    if any(is_overdue(leg, plan, now_ns) for leg in state.legs):
        return _ask_anew(state, now_ns)
    if not all(leg.is_idle for leg in state.legs) or now_ns < state.not_before_ns:
        return state, []
    if state.is_verifying:
        if inputs.verified is None or inputs.verified.seq != state.verify_seq:
            return state, []
        return _recover_from(inputs.verified, replace(state, is_verifying=False), inputs, plan, now_ns)
    return ask(state, now_ns)


def _ask_anew(state: PairState, now_ns: int) -> Step:
    """Nothing is heard of an exit: it counts no longer, and the exchange says what is left to do."""
    legs = tuple(replace(leg, working=None) for leg in state.legs)
    state, verify = ask(replace(state, legs=(legs[0], legs[1]), flat_answers=0), now_ns)
    return state, [Note("recovering: an exit order has no end"), *verify]


def _recover_from(truth: Verified, state: PairState, inputs: PairInputs, plan: Plan, now_ns: int) -> Step:
    """One answer of the exchange: first nothing of ours rests, then nothing is held, then twice the same."""
    state = adopt(state, truth.positions_x18)
    later = replace(state, not_before_ns=now_ns + FLAT_ANSWER_PAUSE_NS)
    if truth.resting:  # a cancel did not reach them all, or was on its way while they were counted
        if now_ns - state.cancelled_ns < CANCEL_PAUSE_NS:
            return replace(later, flat_answers=0), []
        return replace(later, flat_answers=0, cancelled_ns=now_ns), [CancelAll()]
    # What is held is crossed at once, even if more may arrive: that is reduce-only and turns nothing round.
    is_stuck = residual.is_stuck(state, inputs, plan)
    if any(leg.held_x18 for leg in state.legs) and not is_stuck:
        return _cross_all(replace(state, flat_answers=0), inputs, plan, now_ns)
    if truth.pending:  # asked again until the engine would refuse them
        return replace(later, flat_answers=0), []
    if state.flat_answers + 1 < FLAT_ANSWERS_NEEDED:
        return replace(later, flat_answers=state.flat_answers + 1), []
    if is_stuck:
        return _carried(state, inputs, plan, now_ns)
    flat = replace(move_to(state, Phase.FLAT, now_ns), failures=state.failures + 1, urgent="")
    return flat, [CycleEnd(state.cycle, state.urgent)]


def _carried(state: PairState, inputs: PairInputs, plan: Plan, now_ns: int) -> Step:
    """The cycle ends with what is stuck: complete if nothing else went wrong. The next one is not at once."""
    carried = f"{residual.words(state, inputs, plan)} is carried"
    is_complete = state.urgent == TOO_SMALL
    failure = "" if is_complete else f"{state.urgent}; {carried}"
    left = replace(
        residual.carry(move_to(state, Phase.FLAT, now_ns)), urgent="", skips=0, done=state.done + is_complete,
        failures=0 if is_complete else state.failures + 1, not_before_ns=now_ns + SKIP_PAUSE_NS,
    )  # fmt: skip
    return left, [Note(carried), CycleEnd(state.cycle, failure, is_flat=False)]


def _cross_all(state: PairState, inputs: PairInputs, plan: Plan, now_ns: int) -> Step:
    intents = []
    for index, leg in enumerate(state.legs):
        if _may_exit(leg, index, inputs, plan, now_ns):
            state, intent = _exit_order(state, index, inputs, plan, now_ns, maker_until_ns=0)
            intents.append(intent)
    if not intents:  # nothing can be priced now: look again a little later
        return replace(state, not_before_ns=now_ns + FLAT_ANSWER_PAUSE_NS), []
    return state, [Send(tuple(intents))]
