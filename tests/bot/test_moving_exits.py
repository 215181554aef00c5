"""A resting exit that moves in one step of the exchange: single decisions, and runs of a toy exchange."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from machinekit import MS, Dice, ToyExchange, inputs, leg, plan

from bot.execution import LegState, OrderView, Working
from bot.machine import decide
from bot.model import Action, Cancel, ExitCode, PairInputs, PairState, Phase, Replace, Send, Verify
from bot.recording import decision
from bot.risk import OrderIntent, Purpose
from nadofast.products import to_x18

NOW = 1_000_000 * MS
SIZE = to_x18("0.042")
OLD = OrderIntent(9, 0, 4, Purpose.REST, -SIZE, to_x18("3000.1"), 8_000, True)
RESTS = OrderView(9, 0, False, rests=True)


def resting() -> PairState:
    legs = (LegState(SIZE, SIZE, Working(OLD, NOW)), LegState())
    return PairState(phase=Phase.UNWINDING, since_ns=NOW, legs=legs, cycle=1, tag=9)


def seen(view: OrderView, price: str = "2999.0") -> PairInputs:
    """The market of the leg with our order, at or below its price."""
    ask = str(float(price) + 0.1)
    return inputs(legs=(leg(price, ask, view), inputs().legs[1]))


def moved() -> tuple[PairState, OrderIntent]:
    state, actions = decide(resting(), seen(RESTS), plan(), NOW + 400 * MS)
    (action,) = actions
    assert isinstance(action, Replace)
    return state, action.intent


def sent(actions: list[Action]) -> list[OrderIntent]:
    return [intent for a in actions if isinstance(a, Send) for intent in a.intents]


def test_all_of_it_moves_to_the_touch_in_one_step_and_dies_no_later() -> None:
    state, actions = decide(resting(), seen(RESTS), plan(), NOW + 400 * MS)
    wanted = replace(OLD, tag=10, price_x18=to_x18("2999.1"), ttl_ms=2_600 + 5_000)
    assert actions == [Replace(9, wanted, "market moved")]
    assert (state.tag, state.legs[0].reprices) == (10, 1)
    # asked once, whatever the market does; with no word of it by the time-out, the old one is cancelled, once
    for after_ms, wanted_then in ((800, []), (2_999, []), (3_100, [Cancel(9, "maker timeout")]), (3_200, [])):
        state, actions = decide(state, seen(RESTS, "2990.0"), plan(), NOW + after_ms * MS)
        assert actions == wanted_then


@pytest.mark.parametrize(
    "view",
    [
        OrderView(
            9, to_x18("0.001"), False
        ),  # a part has filled: how much is left is for the exchange to say
        OrderView(9, to_x18("0.001"), False, rests=True),
        OrderView(9, 0, False),  # nobody has said that it rests
    ],
)
def test_what_is_not_known_to_rest_whole_is_cancelled(view: OrderView) -> None:
    assert decide(resting(), seen(view), plan(), NOW + 400 * MS)[1] == [Cancel(9, "market moved")]


def test_it_may_be_switched_off() -> None:
    how = plan(moves_in_one_step=False)
    assert decide(resting(), seen(RESTS), how, NOW + 400 * MS)[1] == [Cancel(9, "market moved")]


def test_the_new_one_is_at_work_as_soon_as_the_old_one_has_ended() -> None:
    state, new = moved()
    state, actions = decide(state, seen(OrderView(9, 0, True)), plan(), NOW + 420 * MS)
    leg_ = state.legs[0]
    assert actions == []
    assert leg_.working is not None
    assert (leg_.working.intent, leg_.working.cancel_ns, leg_.held_x18) == (new, None, SIZE)
    state, actions = decide(state, seen(OrderView(10, SIZE, True)), plan(), NOW + 440 * MS)
    assert [type(one) for one in actions] == [Verify]
    assert (state.legs[0].held_x18, state.legs[0].working) == (0, None)


def test_it_moves_again_no_sooner_than_any_other() -> None:
    state, _ = moved()
    state, _ = decide(state, seen(OrderView(9, 0, True)), plan(), NOW + 420 * MS)
    rests = OrderView(10, 0, False, rests=True)
    assert decide(state, seen(rests, "2998.0"), plan(), NOW + 799 * MS)[1] == []
    _, actions = decide(state, seen(rests, "2998.0"), plan(), NOW + 800 * MS)
    assert [(a.tag, a.intent.tag) for a in actions if isinstance(a, Replace)] == [(10, 11)]


def test_an_old_one_that_fills_first_closes_the_leg_once() -> None:
    """The new one is waited for all the same: only its end says that it fills nothing on top."""
    state, _ = moved()
    state, actions = decide(state, seen(OrderView(9, SIZE, True)), plan(), NOW + 420 * MS)
    assert (state.legs[0].held_x18, actions) == (0, [])
    assert not state.legs[0].is_idle
    state, actions = decide(state, seen(OrderView(10, 0, True, code=2121)), plan(), NOW + 440 * MS)
    assert [type(one) for one in actions] == [Verify]
    assert state.legs[0].failures == 0


@pytest.mark.parametrize("code", [2120, 2121, 2124, None])
def test_what_the_old_one_left_rests_anew_at_once(code: int | None) -> None:
    state, _ = moved()
    part = to_x18("0.010")
    state, actions = decide(state, seen(OrderView(9, part, True)), plan(), NOW + 420 * MS)
    assert sent(actions) == []
    denied = None if code else "reprice_throttled: weight 2 is not free"
    refused = OrderView(10, 0, True, code, denied)
    state, actions = decide(state, seen(refused), plan(), NOW + 440 * MS)
    (intent,) = sent(actions)
    assert (intent.purpose, intent.tag, intent.amount_x18) == (Purpose.REST, 11, part - SIZE)
    assert state.legs[0].failures == 0


def test_a_new_one_that_would_cross_counts_as_any_that_does() -> None:
    state, _ = moved()
    state, _ = decide(state, seen(OrderView(9, 0, True)), plan(), NOW + 420 * MS)
    state, actions = decide(state, seen(OrderView(10, 0, True, code=2008)), plan(), NOW + 440 * MS)
    assert [intent.purpose for intent in sent(actions)] == [Purpose.REST]
    assert state.legs[0].failures == 1


def test_when_time_is_up_the_new_one_is_cancelled_and_what_it_left_is_crossed() -> None:
    state, _ = moved()
    state, actions = decide(state, seen(OrderView(9, 0, True)), plan(), NOW + 3_001 * MS)
    assert actions == [Cancel(10, "maker timeout")]
    _, actions = decide(state, seen(OrderView(10, to_x18("0.002"), True)), plan(), NOW + 3_020 * MS)
    assert [(i.purpose, i.amount_x18) for i in sent(actions)] == [(Purpose.TAKE, to_x18("0.002") - SIZE)]


def test_an_old_one_without_an_end_is_found_out_about() -> None:
    state, _ = moved()
    state, _ = decide(state, seen(RESTS), plan(), NOW + 5_401 * MS)
    assert (state.phase, state.is_verifying) == (Phase.RECOVERING, True)


def test_a_recording_made_before_there_was_this_hashes_the_same() -> None:
    """Its decisions hold no word of it: what is at work is said as it was then. Whoever adds to a state keeps
    it out of the repr, or no recorded run replays as recorded any more."""
    working = Working(OLD, NOW)
    assert repr(working) == f"Working(intent={OLD!r}, sent_ns={NOW}, cancel_ns=None)"
    assert [f.name for f in fields(LegState) if f.repr] == [
        "target_x18", "held_x18", "working", "attempts", "failures", "not_before_ns", "rest_refused",
        "reprices", "was_filled", "last_refusal", "anchor_mid_x18", "carried_x18", "too_small",
    ]  # fmt: skip
    assert [f.name for f in fields(PairState) if f.repr] == [
        "phase", "since_ns", "legs", "direction", "wanted", "cycle", "done", "skips", "failures", "attempts",
        "not_before_ns", "tag", "verify_seq", "is_verifying", "asked_ns", "flat_answers", "is_pacing",
        "first_fill_ns", "foreign", "cancelled_ns", "mids_x18", "maker", "maker_until_ns", "urgent", "end",
    ]  # fmt: skip
    state, new = moved()
    assert decision(state, [Replace(9, new, "market moved")]) != decision(state, [Cancel(9, "market moved")])


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32), fails=st.sampled_from((0.0, 0.3, 1.0)), part=st.sampled_from((0.0, 0.5)))
def test_runs_whose_exits_move_end_flat(seed: int, fails: float, part: float) -> None:
    """`ToyExchange` asserts that no leg ever has two orders, and no exit more than the position."""
    dice = Dice(rest_fills=0.01, rest_partial=part, replace_fails=fails)
    toy = ToyExchange(plan(cycles=3), seed, dice)
    state = toy.run()
    assert state.end is not None
    assert state.end.code is ExitCode.DONE
    assert toy.positions_x18 == [0, 0]
    assert [c.failure for c in toy.cycles] == [""] * 3


def test_they_do_move() -> None:
    toy = ToyExchange(plan(cycles=5), 11, Dice(rest_fills=0.01))
    toy.run()
    assert toy.replaced >= 3
