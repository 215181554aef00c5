"""The pair's decisions: `decide(state, inputs, plan, now) → (state, actions)`. No socket, no clock, no task.

FLAT → BUILDING → HEDGED → UNWINDING → FLAT, with RECOVERING when something does not add up and HALTED as
the end. Every phase has a deadline and a way out. The exchange's own positions are asked for before the
pair counts as hedged and before it counts as flat; where they differ from ours, theirs win.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from nadofast.products import mul_x18

from . import execution
from .execution import LegState
from .model import (
    Action,
    Begin,
    Cancel,
    CancelAll,
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
    Verified,
    Verify,
)
from .risk import OrderIntent, Purpose
from .sizing import LegQuote, NoSize, size_pair
from .units import BPS, NS_PER_MS, show

STOP_REQUESTED = "stop requested"
Step = tuple[PairState, list[Action]]
Then = Callable[[PairState, int], Step]
MAX_TRANSITIONS = 6
MAX_REST_FAILURES = 4
MAX_EXIT_FAILURES = 8
SKIP_PAUSE_NS = 500 * NS_PER_MS
FLAT_ANSWERS_NEEDED = 2
FLAT_ANSWER_PAUSE_NS = 150 * NS_PER_MS


def decide(state: PairState, inputs: PairInputs, plan: Plan, now_ns: int) -> Step:
    """The next state and what to do, from everything known now. Pure; call it as often as you like."""
    state, actions = _absorb(state, inputs, now_ns)
    for _ in range(MAX_TRANSITIONS):
        if state.end is not None:
            break
        if lost := _lost(state, inputs, plan):
            state = _end(state, lost)
            break
        phase = state.phase
        state, more = _HANDLERS[phase](state, inputs, plan, now_ns)
        actions += more
        if state.phase is phase:
            break
    return state, actions


def net_delta_bps(state: PairState, inputs: PairInputs) -> int:
    """|signed notional| over gross notional of what is held, in basis points, rounded up; 0 without gross."""
    notionals = [
        mul_x18(leg.held_x18, quote.mid_x18) for leg, quote in zip(state.legs, inputs.legs, strict=True)
    ]
    gross = sum(abs(n) for n in notionals)
    return -(-abs(sum(notionals)) * BPS // gross) if gross else 0


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
    if state.phase is Phase.BUILDING and state.first_fill_ns is None and any(leg.held_x18 for leg in legs):
        state = replace(state, first_fill_ns=now_ns)
    return state, actions


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


def _flat(state: PairState, inputs: PairInputs, plan: Plan, now_ns: int) -> Step:
    if inputs.halt is not None:
        return _end(state, End(ExitCode.HALTED_FLAT, inputs.halt)), []
    if inputs.stop_age_ns is not None:
        return _end(state, End(ExitCode.DONE, "stopped on request")), []
    if state.done >= plan.cycles:
        return _end(state, End(ExitCode.DONE, "all cycles complete")), []
    if state.skips >= plan.max_skips or state.failures >= plan.max_failures:
        count = (
            f"{state.skips} cycles skipped" if state.skips >= plan.max_skips else f"{state.failures} failed"
        )
        return _end(state, End(ExitCode.ERROR, f"{count} in a row")), []
    if now_ns < state.not_before_ns:
        return state, []
    if inputs.pacing:
        return replace(state, since_ns=now_ns), []
    if missing := _not_ready(inputs):
        if now_ns - state.since_ns > plan.ready_timeout_ns:
            waited_s = plan.ready_timeout_ns / 1e9
            return _end(state, End(ExitCode.ERROR, f"not ready for {waited_s:.0f} s: {missing}")), []
        return state, []
    direction = Direction.BUY_FIRST if state.done % 2 == 0 else Direction.SELL_FIRST
    state = replace(state, cycle=state.cycle + 1, direction=direction, attempts=0)
    return _enter(state, inputs, plan, now_ns)


def _not_ready(inputs: PairInputs) -> str:
    if inputs.not_ready:
        return inputs.not_ready
    return "" if all(leg.has_quote for leg in inputs.legs) else "a book side is empty"


def _enter(state: PairState, inputs: PairInputs, plan: Plan, now_ns: int) -> Step:
    """Size both legs together and send both."""
    quotes = tuple(LegQuote(p, leg.mid_x18) for p, leg in zip(plan.products, inputs.legs, strict=True))
    size = size_pair((quotes[0], quotes[1]), plan.sizing)
    if isinstance(size, NoSize):
        return _skip(state, size.reason, now_ns)
    targets = tuple(s * d for s, d in zip(size.sizes_x18, state.direction.signs, strict=True))
    legs = (LegState(target_x18=targets[0]), LegState(target_x18=targets[1]))
    actions: list[Action] = [Begin(state.cycle, state.direction, size)] if state.attempts == 0 else []
    state = replace(
        _to(state, Phase.BUILDING, now_ns), legs=legs, attempts=state.attempts + 1, first_fill_ns=None
    )
    state, send = _cross(state, inputs, plan, now_ns, Purpose.ENTRY, (0, 1), plan.entry_cap_bps)
    return state, [*actions, *send]


def _building(state: PairState, inputs: PairInputs, plan: Plan, now_ns: int) -> Step:
    """Both legs full → HEDGED; nothing → again or skip; one side short → complete it, or unwind the other."""
    if not all(leg.is_idle for leg in state.legs):
        return _overdue(state, plan, now_ns)
    if all(leg.missing_x18 == 0 for leg in state.legs):
        return _settle(state, inputs, now_ns, _hedge_complete)
    if all(leg.held_x18 == 0 for leg in state.legs):
        return _settle(state, inputs, now_ns, lambda s, t: _empty_build(s, inputs, plan, t))
    if any(leg.missing_x18 * leg.target_x18 < 0 for leg in state.legs):
        return _recover(state, "more filled than was asked for", now_ns)
    why = _cannot_hedge(state, inputs, plan, now_ns)
    if why:
        return _unwind(state, f"leg missing: {why}", now_ns)
    short = tuple(i for i, leg in enumerate(state.legs) if leg.missing_x18 and now_ns >= leg.not_before_ns)
    tries = max(leg.attempts for leg in state.legs)
    return _cross(state, inputs, plan, now_ns, Purpose.HEDGE, short, plan.entry_cap_bps * tries)


def _cannot_hedge(state: PairState, inputs: PairInputs, plan: Plan, now_ns: int) -> str:
    if inputs.halt is not None:
        return inputs.halt
    if inputs.stop_age_ns is not None:
        return STOP_REQUESTED
    if state.first_fill_ns is not None and now_ns - state.first_fill_ns > plan.leg_deadline_ns:
        return "deadline of the second leg"
    if any(leg.missing_x18 and leg.attempts > plan.hedge_attempts for leg in state.legs):
        return "no fill inside the cap"
    return ""


def _hedge_complete(state: PairState, now_ns: int) -> Step:
    return _to(state, Phase.HEDGED, now_ns), [Hedged()]


def _empty_build(state: PairState, inputs: PairInputs, plan: Plan, now_ns: int) -> Step:
    """Nothing filled, and the exchange says so: try again with fresh prices, or skip the cycle."""
    stopping = inputs.stop_age_ns is not None or inputs.halt is not None
    if state.attempts < plan.entry_attempts and not stopping and not _not_ready(inputs):
        return _enter(state, inputs, plan, now_ns)
    refusals = {leg.last_refusal for leg in state.legs if leg.last_refusal}
    return _skip(state, ", ".join(sorted(refusals)) or "no fill", now_ns)


def _hedged(state: PairState, inputs: PairInputs, plan: Plan, now_ns: int) -> Step:
    if inputs.halt is not None:
        return _unwind(state, inputs.halt, now_ns)
    if inputs.stop_age_ns is not None:
        return _unwind(state, STOP_REQUESTED, now_ns)
    if all(leg.has_quote for leg in inputs.legs) and net_delta_bps(state, inputs) > plan.max_net_delta_bps:
        return _unwind(state, f"net delta above {plan.max_net_delta_bps} bps", now_ns)
    if now_ns - state.since_ns >= plan.hold_ns:
        return _unwind(state, "", now_ns)
    return state, []


def _unwinding(state: PairState, inputs: PairInputs, plan: Plan, now_ns: int) -> Step:
    """Each leg on its own: rest, move, cancel, cross; flat only when the exchange says so."""
    urgent = state.urgent or inputs.halt or (STOP_REQUESTED if inputs.stop_age_ns is not None else "")
    state = replace(state, urgent=urgent)
    if now_ns - state.since_ns > plan.maker_timeout_ms * NS_PER_MS + plan.exit_deadline_ns:
        return _recover(state, "exit took too long", now_ns)
    if any(leg.failures >= MAX_EXIT_FAILURES for leg in state.legs):
        return _recover(state, "an exit does not fill", now_ns)
    if all(leg.is_idle and leg.held_x18 == 0 for leg in state.legs):
        return _settle(state, inputs, now_ns, _cycle_complete)
    maker_until_ns = state.since_ns + (0 if urgent else plan.maker_timeout_ms * NS_PER_MS)
    actions: list[Action] = []
    intents: list[OrderIntent] = []
    for index in (0, 1):
        leg = state.legs[index]
        if leg.working is not None:
            state, cancels = _tend(state, index, inputs, plan, now_ns, maker_until_ns)
            actions += cancels
        elif leg.held_x18 and inputs.legs[index].has_quote and now_ns >= leg.not_before_ns:
            state, intent = _exit_order(state, index, inputs, plan, now_ns, maker_until_ns)
            intents.append(intent)
    if intents:
        actions.append(Send(tuple(intents)))
    if any(_is_overdue(leg, plan, now_ns) for leg in state.legs):
        state, more = _recover(state, "an exit order has no end", now_ns)
        actions += more
    return state, actions


def _exit_order(
    state: PairState, index: int, inputs: PairInputs, plan: Plan, now_ns: int, maker_until_ns: int
) -> tuple[PairState, OrderIntent]:
    leg, seen, product, tag = state.legs[index], inputs.legs[index], plan.products[index], state.tag + 1
    if now_ns < maker_until_ns and not leg.rest_refused and leg.failures < MAX_REST_FAILURES:
        left_ms = max(1, (maker_until_ns - now_ns) // NS_PER_MS)
        leg, intent = execution.rest(leg, index, product, seen, tag=tag, timeout_ms=left_ms, now_ns=now_ns)
    else:
        cap_bps = plan.exit_cap_bps * (1 + min(leg.attempts, 2))
        leg, intent = execution.cross(
            leg, index, product, seen, tag=tag, purpose=Purpose.TAKE,
            amount_x18=-leg.held_x18, cap_bps=cap_bps, now_ns=now_ns,
        )  # fmt: skip
    return _with_leg(replace(state, tag=tag), index, leg), intent


def _tend(
    state: PairState, index: int, inputs: PairInputs, plan: Plan, now_ns: int, maker_until_ns: int
) -> Step:
    """A resting exit is cancelled when its time is up, or when the market has left its price."""
    leg = state.legs[index]
    working = leg.working
    if working is None or working.intent.purpose is not Purpose.REST or working.cancel_ns is not None:
        return state, []
    if now_ns >= maker_until_ns:
        why = state.urgent or "maker timeout"
    elif (
        plan.reprice_ns
        and now_ns - working.sent_ns >= plan.reprice_ns
        and execution.has_moved_away(working, inputs.legs[index])
    ):
        why = "market moved"
        leg = replace(leg, reprices=leg.reprices + 1)
    else:
        return state, []
    leg = replace(leg, working=replace(working, cancel_ns=now_ns))
    return _with_leg(state, index, leg), [Cancel(working.intent.tag, why)]


def _cycle_complete(state: PairState, now_ns: int) -> Step:
    failure = state.urgent
    failures = state.failures + 1 if failure else 0
    state = replace(state, done=state.done + (not failure), skips=0, failures=failures, urgent="")
    return _to(state, Phase.FLAT, now_ns), [CycleEnd(state.cycle, failure)]


def _recovering(state: PairState, inputs: PairInputs, plan: Plan, now_ns: int) -> Step:
    """By the exchange's word only: cross what is there, cancel what rests, believe flat when told twice."""
    if now_ns - state.since_ns > plan.recover_deadline_ns:
        return _end(state, End(ExitCode.EXPOSED, f"recovery took too long ({state.urgent})")), []
    if not all(leg.is_idle for leg in state.legs) or now_ns < state.not_before_ns:
        return state, []
    if state.is_verifying:
        if inputs.verified is None or inputs.verified.seq != state.verify_seq:
            return state, []
        return _recover_from(inputs.verified, replace(state, is_verifying=False), inputs, plan, now_ns)
    return _ask(state)


def _recover_from(truth: Verified, state: PairState, inputs: PairInputs, plan: Plan, now_ns: int) -> Step:
    """One answer of the exchange: first nothing of ours rests, then nothing is held, then twice the same."""
    state = _adopt(state, truth.positions_x18)
    later = replace(state, not_before_ns=now_ns + FLAT_ANSWER_PAUSE_NS)
    if truth.resting:  # a cancel did not reach them all, or was on its way while they were counted
        return replace(later, flat_answers=0), [CancelAll()]
    if any(leg.held_x18 for leg in state.legs):
        return _cross_all(replace(state, flat_answers=0), inputs, plan, now_ns)
    if state.flat_answers + 1 < FLAT_ANSWERS_NEEDED:
        return replace(later, flat_answers=state.flat_answers + 1), []
    flat = replace(_to(state, Phase.FLAT, now_ns), failures=state.failures + 1, urgent="")
    return flat, [CycleEnd(state.cycle, state.urgent)]


def _cross_all(state: PairState, inputs: PairInputs, plan: Plan, now_ns: int) -> Step:
    intents = []
    for index, leg in enumerate(state.legs):
        if leg.held_x18 and inputs.legs[index].has_quote and now_ns >= leg.not_before_ns:
            state, intent = _exit_order(state, index, inputs, plan, now_ns, maker_until_ns=0)
            intents.append(intent)
    if not intents:  # nothing can be priced now: look again a little later
        return replace(state, not_before_ns=now_ns + FLAT_ANSWER_PAUSE_NS), []
    return state, [Send(tuple(intents))]


def _halted(state: PairState, inputs: PairInputs, plan: Plan, now_ns: int) -> Step:
    return state, []


_HANDLERS: dict[Phase, Callable[[PairState, PairInputs, Plan, int], Step]] = {
    Phase.FLAT: _flat,
    Phase.BUILDING: _building,
    Phase.HEDGED: _hedged,
    Phase.UNWINDING: _unwinding,
    Phase.RECOVERING: _recovering,
    Phase.HALTED: _halted,
}


def _settle(
    state: PairState, inputs: PairInputs, now_ns: int, then: Callable[[PairState, int], Step]
) -> Step:
    """Ask the exchange for both positions; go on with `then` if they are ours, else take theirs over."""
    if not state.is_verifying:
        return _ask(state)
    if inputs.verified is None or inputs.verified.seq != state.verify_seq:
        return state, []
    state = replace(state, is_verifying=False)
    positions = inputs.verified.positions_x18
    if positions == (state.legs[0].held_x18, state.legs[1].held_x18):
        return then(state, now_ns)
    text = ", ".join(
        f"{show(leg.held_x18)} → {show(p)}" for leg, p in zip(state.legs, positions, strict=True)
    )
    state, actions = _recover(_adopt(state, positions), f"positions differ from ours: {text}", now_ns)
    return state, actions


def _ask(state: PairState) -> Step:
    state = replace(state, verify_seq=state.verify_seq + 1, is_verifying=True)
    return state, [Verify(state.verify_seq, with_orders=state.phase is Phase.RECOVERING)]


def _adopt(state: PairState, positions_x18: tuple[int, int]) -> PairState:
    legs = tuple(replace(leg, held_x18=p) for leg, p in zip(state.legs, positions_x18, strict=True))
    return replace(state, legs=(legs[0], legs[1]))


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
        state = _with_leg(replace(state, tag=state.tag + 1), index, leg)
        intents.append(intent)
    return state, [Send(tuple(intents))] if intents else []


def _unwind(state: PairState, urgent: str, now_ns: int) -> Step:
    legs = tuple(
        LegState(target_x18=leg.target_x18, held_x18=leg.held_x18, working=leg.working) for leg in state.legs
    )
    state = replace(_to(state, Phase.UNWINDING, now_ns), legs=(legs[0], legs[1]), urgent=urgent)
    return state, [Note(f"unwinding: {urgent}")] if urgent else []


def _recover(state: PairState, reason: str, now_ns: int) -> Step:
    """Drop what is believed about orders, cancel everything, and start from the exchange's positions."""
    legs = tuple(LegState(held_x18=leg.held_x18) for leg in state.legs)
    state = replace(
        _to(state, Phase.RECOVERING, now_ns), legs=(legs[0], legs[1]), urgent=reason, flat_answers=0
    )
    state, ask = _ask(state)
    return state, [Note(f"recovering: {reason}"), CancelAll(), *ask]


def _skip(state: PairState, reason: str, now_ns: int) -> Step:
    state = replace(
        _to(state, Phase.FLAT, now_ns), skips=state.skips + 1, not_before_ns=now_ns + SKIP_PAUSE_NS,
        legs=(LegState(), LegState()),
    )  # fmt: skip
    return state, [CycleEnd(state.cycle, reason, skipped=True)]


def _to(state: PairState, phase: Phase, now_ns: int) -> PairState:
    return replace(state, phase=phase, since_ns=now_ns, is_verifying=False)


def _end(state: PairState, end: End) -> PairState:
    return replace(state, phase=Phase.HALTED, end=end)


def _with_leg(state: PairState, index: int, leg: LegState) -> PairState:
    return replace(state, legs=(leg, state.legs[1]) if index == 0 else (state.legs[0], leg))


def _is_overdue(leg: LegState, plan: Plan, now_ns: int) -> bool:
    """An order that should have ended by itself or by its cancel has not."""
    working = leg.working
    if working is None:
        return False
    if working.intent.purpose is Purpose.REST:
        return working.cancel_ns is not None and now_ns - working.cancel_ns > plan.order_deadline_ns
    return now_ns - working.sent_ns > plan.order_deadline_ns


def _overdue(state: PairState, plan: Plan, now_ns: int) -> Step:
    if any(_is_overdue(leg, plan, now_ns) for leg in state.legs):
        return _recover(state, "an entry order has no end", now_ns)
    return state, []
