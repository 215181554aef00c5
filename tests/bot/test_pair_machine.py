"""The pair's state machine: single decisions as one-liners, whole runs against a toy exchange with dice."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from machinekit import ETH, MS, SOL, Dice, ToyExchange, inputs, leg, plan

from bot.entry import taker_fee_bps
from bot.execution import Depth, LegState, OrderView, Working
from bot.machine import decide
from bot.model import (
    Begin,
    Cancel,
    CancelAll,
    CycleEnd,
    Direction,
    ExitCode,
    Foreign,
    Hedged,
    Note,
    PairInputs,
    PairState,
    Phase,
    Send,
    Verified,
    Verify,
)
from bot.risk import OrderIntent, Purpose
from bot.steps import STOP_REQUESTED, net_delta_bps
from nadofast.products import to_x18

NOW = 1_000_000 * MS
FLAT = PairState(since_ns=NOW)
HELD = (LegState(held_x18=to_x18("0.042"), target_x18=to_x18("0.042")),
        LegState(held_x18=-to_x18("0.9"), target_x18=-to_x18("0.9")))  # fmt: skip


def hedged(**changes: object) -> PairState:
    state = PairState(phase=Phase.HEDGED, since_ns=NOW, legs=HELD, cycle=1, tag=2)
    return replace(state, **changes)  # type: ignore[arg-type]


def unwinding(now_ns: int = NOW, **changes: object) -> PairState:
    return replace(hedged(phase=Phase.UNWINDING, since_ns=now_ns), **changes)  # type: ignore[arg-type]


# ---------------------------------------------------------------------- FLAT


def test_ready_and_flat_enters_with_both_legs_in_one_action() -> None:
    state, actions = decide(FLAT, inputs(), plan(), NOW)
    begin, send = actions
    assert state.phase is Phase.BUILDING
    assert isinstance(begin, Begin)
    assert isinstance(send, Send)
    assert [i.leg for i in send.intents] == [0, 1]
    assert all(i.discard and i.purpose is Purpose.ENTRY for i in send.intents)


@pytest.mark.parametrize(("done", "direction"), [(0, Direction.BUY_FIRST), (1, Direction.SELL_FIRST)])
def test_directions_alternate(done: int, direction: Direction) -> None:
    state, actions = decide(replace(FLAT, done=done), inputs(), plan(), NOW)
    send = actions[1]
    assert isinstance(send, Send)
    assert state.direction is direction
    assert tuple(1 if i.amount_x18 > 0 else -1 for i in send.intents) == direction.signs


def test_not_ready_waits_then_gives_up() -> None:
    waiting = inputs(not_ready="account stream is not live")
    assert decide(FLAT, waiting, plan(), NOW + 1_000 * MS) == (FLAT, [])
    state, _ = decide(FLAT, waiting, plan(), NOW + 2_001 * MS)
    assert state.end is not None
    assert (state.end.code, state.phase) == (ExitCode.ERROR, Phase.HALTED)
    assert "account stream" in state.end.reason


def test_a_spent_order_budget_is_waited_for_and_said_once() -> None:
    state, actions = decide(FLAT, inputs(pacing=True), plan(), NOW + 1_000 * MS)
    assert [type(a) for a in actions] == [Note]
    state, actions = decide(state, inputs(pacing=True), plan(), NOW + 60_000 * MS)
    assert (state.phase, actions) == (Phase.FLAT, [])
    assert decide(state, inputs(), plan(), NOW + 60_020 * MS)[0].phase is Phase.BUILDING
    assert (plan().cycle_weight, plan(maker_timeout_ms=1_000).cycle_weight) == (38, 18)


@pytest.mark.parametrize(
    ("changes", "state", "code"),
    [
        ({"halt": "daily loss"}, FLAT, ExitCode.HALTED_FLAT),
        ({"stop_age_ns": 1}, FLAT, ExitCode.DONE),
        ({}, replace(FLAT, done=2), ExitCode.DONE),
        ({}, replace(FLAT, skips=3), ExitCode.ERROR),
        ({}, replace(FLAT, failures=3), ExitCode.ERROR),
        ({"gone": "exchange ended"}, FLAT, ExitCode.ERROR),
        ({"blind_ns": 5_001 * MS}, FLAT, ExitCode.ERROR),
        ({"gone": "exchange ended"}, hedged(), ExitCode.EXPOSED),
        ({"blind_ns": 5_001 * MS}, hedged(), ExitCode.EXPOSED),
        ({"stop_age_ns": 13_001 * MS}, hedged(), ExitCode.EXPOSED),
    ],
)
def test_ends(changes: dict[str, object], state: PairState, code: ExitCode) -> None:
    ended, actions = decide(state, inputs(**changes), plan(), NOW)
    assert ended.end is not None
    assert ended.end.code is code
    assert not actions


def test_an_impossible_size_is_a_skip_not_a_failure() -> None:
    rules = replace(plan().sizing, budget_x18=to_x18(50))
    state, actions = decide(FLAT, inputs(), plan(sizing=rules), NOW)
    assert (state.phase, state.skips, state.failures) == (Phase.FLAT, 1, 0)
    assert [type(a) for a in actions] == [CycleEnd]


def test_a_book_that_does_not_show_the_size_or_margin_that_is_not_there_is_a_skip() -> None:
    thin = Depth(((to_x18(2999), to_x18(1)),), ((to_x18("3000.1"), to_x18("0.041")),))
    legs = (replace(inputs().legs[0], depth=thin), inputs().legs[1])
    state, actions = decide(FLAT, inputs(legs=legs), plan(), NOW)
    assert (state.phase, state.skips, [type(a) for a in actions]) == (Phase.FLAT, 1, [CycleEnd])
    assert "does not show" in actions[0].failure  # type: ignore[union-attr]
    state, actions = decide(FLAT, inputs(equity_x18=to_x18(6)), plan(), NOW)
    assert (state.phase, state.skips) == (Phase.FLAT, 1)
    assert "margin" in actions[0].failure  # type: ignore[union-attr]
    assert decide(FLAT, inputs(equity_x18=to_x18(7)), plan(), NOW)[0].phase is Phase.BUILDING


def shown(eth_ask: str, sol_bid: str) -> PairInputs:
    """Enough of both books for a BUY_FIRST of any size, at these prices."""
    much = to_x18(10)
    depths = (
        Depth(((to_x18("3000.0"), much),), ((to_x18(eth_ask), much),)),
        Depth(((to_x18(sol_bid), much),), ((to_x18("140.01"), much),)),
    )
    return inputs(legs=tuple(replace(seen, depth=d) for seen, d in zip(inputs().legs, depths, strict=True)))


@pytest.mark.parametrize(
    ("eth_ask", "sol_bid", "limit_bps", "enters"),
    [
        ("3000.1", "140.00", 1, True),  # half a spread of each: 0.17 and 0.36 bps
        ("3003.0", "140.00", 5, False),  # 9.8 and 0.4 bps: five bps of the pair, rounded up to six
        ("3003.0", "140.00", 6, True),
        ("3000.1", "139.80", 7, False),
        ("3003.0", "139.80", 0, True),
    ],
)
def test_an_entry_that_the_books_would_take_too_much_of_is_a_skip(
    eth_ask: str, sol_bid: str, limit_bps: int, enters: bool
) -> None:
    state, actions = decide(FLAT, shown(eth_ask, sol_bid), plan(max_slippage_bps=limit_bps), NOW)
    assert (state.phase is Phase.BUILDING) is enters
    if not enters:
        assert (state.skips, state.failures) == (1, 0)
        assert "the books would take" in actions[0].failure  # type: ignore[union-attr]


@pytest.mark.parametrize(("limit_bps", "enters"), [(0, True), (3, False), (4, True)])
def test_a_fee_above_what_is_wanted_is_a_skip(limit_bps: int, enters: bool) -> None:
    state, actions = decide(FLAT, inputs(), plan(max_fee_bps=limit_bps), NOW)
    assert (state.phase is Phase.BUILDING) is enters
    if not enters:
        assert "taker fee 4 bps of the leg, limit 3" in actions[0].failure  # type: ignore[union-attr]


def test_the_fee_floor_makes_small_legs_dear() -> None:
    """A fee of 3.5 bps is taken of 100 USD at least."""
    assert [taker_fee_bps(ETH, to_x18(usd)) for usd in (200, 100, 50, 10)] == [4, 4, 7, 35]


def test_a_leg_that_has_become_dear_is_not_completed() -> None:
    """ETH is held, SOL was sold in part and has fallen since: out again, not after it."""
    state, seen = building((10**6, True), (3, True))
    legs = (seen.legs[0], replace(seen.legs[1], bid_x18=to_x18("139.50"), ask_x18=to_x18("139.51")))
    after, _ = decide(state, replace(seen, legs=legs), plan(), NOW + 40 * MS)
    assert after.phase is Phase.UNWINDING
    assert "completing it costs" in after.urgent
    legs = (seen.legs[0], replace(seen.legs[1], bid_x18=to_x18("139.90"), ask_x18=to_x18("139.91")))
    _, actions = decide(state, replace(seen, legs=legs), plan(), NOW + 40 * MS)
    assert [i.purpose for a in actions if isinstance(a, Send) for i in a.intents] == [Purpose.HEDGE]


def test_a_change_of_others_between_two_cycles_is_asked_about_before_the_next_one() -> None:
    strange = inputs(foreign=Foreign(1, "somebody", is_certain=False))
    state, actions = decide(FLAT, strange, plan(), NOW)
    assert (state.phase, state.is_exposed, [type(a) for a in actions]) == (Phase.FLAT, True, [Verify])
    assert decide(state, strange, plan(), NOW + 100 * MS) == (state, [])
    answer = replace(strange, verified=Verified(state.verify_seq, (0, 0)))
    assert decide(state, answer, plan(), NOW + 120 * MS)[0].phase is Phase.FLAT
    held = replace(strange, verified=Verified(state.verify_seq, (0, to_x18(1))))
    for seen, now_ns in ((held, NOW + 120 * MS), (strange, NOW + 3_001 * MS)):
        after, actions = decide(state, seen, plan(), now_ns)
        assert after.phase is Phase.RECOVERING
        assert any(isinstance(a, CancelAll) for a in actions)


# ---------------------------------------------------------------------- BUILDING


def building(first: tuple[int, bool], second: tuple[int, bool]) -> tuple[PairState, PairInputs]:
    """A BUILD of 0.042 / 0.9 with per leg (filled in steps, has ended)."""
    state, actions = decide(FLAT, inputs(), plan(), NOW)
    send = actions[1]
    assert isinstance(send, Send)
    views = []
    for intent, (steps, is_final), product_ in zip(send.intents, (first, second), (ETH, SOL), strict=True):
        size = min(abs(intent.amount_x18), steps * product_.size_increment_x18)
        views.append(OrderView(intent.tag, size, is_final))
    legs = (replace(inputs().legs[0], order=views[0]), replace(inputs().legs[1], order=views[1]))
    return state, inputs(legs=legs)


def test_both_legs_full_are_verified_before_they_count_as_hedged() -> None:
    state, seen = building((10**6, True), (10**6, True))
    state, actions = decide(state, seen, plan(), NOW + 40 * MS)
    assert [type(a) for a in actions] == [Verify]
    assert state.phase is Phase.BUILDING
    positions = (state.legs[0].held_x18, state.legs[1].held_x18)
    answer = inputs(verified=Verified(state.verify_seq, positions))
    state, actions = decide(state, answer, plan(), NOW + 60 * MS)
    assert (state.phase, actions) == (Phase.HEDGED, [Hedged()])


def test_an_old_answer_is_not_the_answer() -> None:
    state, seen = building((10**6, True), (10**6, True))
    state, _ = decide(state, seen, plan(), NOW + 40 * MS)
    stale = inputs(verified=Verified(state.verify_seq - 1, (0, 0)))
    assert decide(state, stale, plan(), NOW + 60 * MS)[0].phase is Phase.BUILDING


def test_a_missed_leg_is_tried_again_for_exactly_what_is_missing() -> None:
    state, seen = building((10**6, True), (3, True))
    state, actions = decide(state, seen, plan(), NOW + 40 * MS)
    (send,) = actions
    assert isinstance(send, Send)
    (intent,) = send.intents
    assert intent.purpose is Purpose.HEDGE
    assert intent.amount_x18 == state.legs[1].target_x18 - state.legs[1].held_x18


def test_a_leg_that_stays_missing_is_unwound() -> None:
    toy = ToyExchange(plan(cycles=1), 3)
    toy.step()
    first = next(o for o in toy.orders.values() if o.intent.leg == 0)
    toy._fill(first, partly=False)
    for order in toy.orders.values():
        order.is_final = True
    toy.dice = Dice(taker_fills=0.0)
    while toy.state.phase is Phase.BUILDING:
        toy.step()
    hedges = [o for o in toy.orders.values() if o.intent.purpose is Purpose.HEDGE]
    assert toy.state.phase is Phase.UNWINDING
    assert toy.state.urgent.startswith("leg missing")
    assert len(hedges) == plan().hedge_attempts
    toy.dice = Dice()
    toy.run()
    assert toy.positions_x18 == [0, 0]
    assert toy.cycles[0].failure.startswith("leg missing")


def test_no_fill_at_all_is_tried_with_fresh_prices_then_skipped() -> None:
    toy = ToyExchange(plan(cycles=1, max_skips=1), 1, Dice(taker_fills=0.0))
    end = toy.run().end
    assert end is not None
    assert end.code is ExitCode.ERROR
    assert len(toy.orders) == 2 * plan().entry_attempts
    assert toy.cycles == [CycleEnd(1, "no fill", skipped=True)]


def shut(state: PairState, now_ns: int, second: OrderView | None = None) -> PairState:
    """The next cycle, whose first leg is turned away; the second has no fill if it does not say otherwise."""
    state, actions = decide(state, inputs(), plan(max_skips=9), now_ns)
    assert sum(isinstance(action, Send) for action in actions) == 1
    tags = [leg.working.intent.tag for leg in state.legs if leg.working is not None]
    views = OrderView(tags[0], 0, True, code=1004), second or OrderView(tags[1], 0, True)
    seen = inputs(legs=(leg("3000.0", "3000.1", views[0]), leg("140.00", "140.01", views[1])))
    state, _ = decide(state, seen, plan(max_skips=9), now_ns)
    seen = replace(seen, verified=Verified(state.verify_seq, (0, 0)))
    state, actions = decide(state, seen, plan(max_skips=9), now_ns)
    assert [type(action) for action in actions] == [CycleEnd]  # not tried again at once
    return state


def test_a_door_that_is_shut_is_tried_after_pauses_that_double_and_not_at_once() -> None:
    """Ten skips last through a maintenance of three quarters of a minute, and not of five seconds."""
    state, now_ns, pauses_s = FLAT, NOW, []
    for _ in range(7):
        state = shut(state, now_ns)
        pauses_s.append((state.not_before_ns - now_ns) / 1e9)
        assert decide(state, inputs(), plan(max_skips=9), state.not_before_ns - 1) == (state, [])
        now_ns = state.not_before_ns
    assert pauses_s == [0.5, 1, 2, 4, 8, 8, 8]
    assert state.skips == 7


def test_a_market_that_gives_nothing_is_asked_again_after_the_same_pause() -> None:
    thin = plan(sizing=replace(plan().sizing, budget_x18=to_x18(50)), max_skips=9)
    state, now_ns = shut(FLAT, NOW), NOW + 10**10
    for _ in range(3):
        state, _ = decide(state, inputs(), thin, now_ns)
        assert state.not_before_ns - now_ns == 500 * MS
        now_ns = state.not_before_ns


def test_an_order_without_an_end_leads_to_recovery_and_out() -> None:
    toy = ToyExchange(plan(cycles=1), 1, Dice(taker_silent=1.0))
    while toy.state.phase is not Phase.RECOVERING:
        toy.step()
    toy.dice = Dice()
    while toy.state.phase is Phase.RECOVERING:
        toy.step()
    assert toy.positions_x18 == [0, 0]


def test_a_leg_nothing_is_known_of_does_not_keep_the_other_waiting_longer_than_the_leg_deadline() -> None:
    state, seen = building((10**6, True), (0, False))
    state, actions = decide(state, seen, plan(), NOW + 40 * MS)
    assert (state.phase, actions) == (Phase.BUILDING, [])
    state, actions = decide(state, seen, plan(), NOW + 40 * MS + plan().leg_deadline_ns + MS)
    assert state.phase is Phase.RECOVERING
    assert any(isinstance(a, CancelAll) for a in actions)


@pytest.mark.parametrize(
    ("after_ms", "changes"),
    [(3_100, {}), (100, {"stop_age_ns": 1}), (100, {"halt": "daily loss"})],
)
def test_positions_the_exchange_does_not_confirm_are_closed(
    after_ms: int, changes: dict[str, object]
) -> None:
    """The queries do not answer while the streams live: nobody holds a pair for that, nor a stop."""
    state, seen = building((10**6, True), (10**6, True))
    state, _ = decide(state, seen, plan(), NOW + 40 * MS)
    assert state.is_verifying
    state, actions = decide(state, inputs(**changes), plan(), NOW + 40 * MS + after_ms * MS)
    assert state.phase is Phase.UNWINDING
    send = actions[-1]
    assert isinstance(send, Send)
    assert {i.purpose for i in send.intents} == {Purpose.TAKE}


def test_what_adds_exposure_carries_a_discard_time() -> None:
    state, seen = building((10**6, True), (3, True))
    _, actions = decide(state, seen, plan(), NOW + 40 * MS)
    (send,) = actions
    assert isinstance(send, Send)
    assert [(i.purpose, i.discard) for i in send.intents] == [(Purpose.HEDGE, True)]


# ---------------------------------------------------------------------- HEDGED, UNWINDING


def test_hold_time_then_both_legs_rest_for_exactly_what_is_held() -> None:
    state, actions = decide(hedged(), inputs(), plan(), NOW + 499 * MS)
    assert (state.phase, actions) == (Phase.HEDGED, [])
    state, actions = decide(hedged(), inputs(), plan(), NOW + 500 * MS)
    (send,) = actions
    assert isinstance(send, Send)
    assert state.phase is Phase.UNWINDING
    assert [i.purpose for i in send.intents] == [Purpose.REST, Purpose.REST]
    assert [i.amount_x18 for i in send.intents] == [-leg_.held_x18 for leg_ in HELD]
    assert all(i.ttl_ms <= plan().maker_timeout_ms + 5_000 for i in send.intents)


@pytest.mark.parametrize("why", [{"halt": "daily loss"}, {"stop_age_ns": 1}])
def test_urgent_exits_cross_at_once(why: dict[str, object]) -> None:
    state, actions = decide(hedged(), inputs(**why), plan(), NOW + 20 * MS)
    send = actions[-1]
    assert isinstance(send, Send)
    assert state.phase is Phase.UNWINDING
    assert {i.purpose for i in send.intents} == {Purpose.TAKE}


def test_a_skewed_pair_is_unwound() -> None:
    legs = (HELD[0], replace(HELD[1], held_x18=-to_x18("0.8")))
    state = hedged(legs=legs)
    assert net_delta_bps(state, inputs()) > 200
    assert decide(state, inputs(), plan(), NOW + 20 * MS)[0].phase is Phase.UNWINDING


def resting(price: str, sent_ns: int = NOW) -> PairState:
    intent = OrderIntent(9, 0, 4, Purpose.REST, -to_x18("0.042"), to_x18(price), 8_000)
    legs = (replace(HELD[0], working=Working(intent, sent_ns)), LegState())
    return unwinding(legs=legs, tag=9)


def with_order(view: OrderView) -> PairInputs:
    return inputs(legs=(leg("3000.0", "3000.1", view), inputs().legs[1]))


def test_an_exit_of_what_is_not_booked_asks_the_exchange_after_a_moment() -> None:
    """An order is known to have filled, its fill was never told: the gate knows nothing to close."""
    state, actions = decide(unwinding(urgent="out"), inputs(), plan(), NOW)
    for tries in (1, 2):
        (intent,) = [i for a in actions if isinstance(a, Send) for i in a.intents if i.leg == 0]
        view = OrderView(intent.tag, 0, True, denied="not_an_exit: amount -1 against position 0")
        state, _ = decide(state, with_order(view), plan(), NOW + tries * 200 * MS)
        if tries == 1:
            assert state.phase is Phase.UNWINDING
            state, actions = decide(state, inputs(), plan(), NOW + 350 * MS)
    assert (state.phase, state.is_verifying) == (Phase.RECOVERING, True)


def test_maker_timeout_cancels_and_only_the_cancelled_rest_is_crossed() -> None:
    state, actions = decide(resting("3000.1"), with_order(OrderView(9, 0, False)), plan(), NOW + 3_000 * MS)
    assert actions == [Cancel(9, "maker timeout")]
    # asked once, then only the exchange ends it
    assert decide(state, with_order(OrderView(9, 0, False)), plan(), NOW + 3_100 * MS)[1] == []
    ended = with_order(OrderView(9, to_x18("0.020"), True))
    state, actions = decide(state, ended, plan(), NOW + 3_120 * MS)
    (send,) = actions
    assert isinstance(send, Send)
    assert [(i.purpose, i.amount_x18) for i in send.intents] == [(Purpose.TAKE, -to_x18("0.022"))]


def test_an_exit_the_exchange_takes_off_by_itself_is_not_put_back_without_end() -> None:
    """Cancelled, but not by us: after a few tries, each with a longer pause, the exit crosses."""
    state, now_ns, rests = resting("3000.1"), NOW, 0
    while now_ns < NOW + 2_900 * MS:
        now_ns += 5 * MS
        working = state.legs[0].working
        seen = inputs() if working is None else with_order(OrderView(working.intent.tag, 0, True))
        state, actions = decide(state, seen, plan(), now_ns)
        sent = [i for a in actions if isinstance(a, Send) for i in a.intents]
        rests += sum(i.purpose is Purpose.REST for i in sent)
        if any(i.purpose is Purpose.TAKE for i in sent):
            break
    assert rests <= 4
    assert now_ns < NOW + 2_900 * MS


def test_an_exchange_that_is_lost_while_recovering_leaves_exposure_not_an_error() -> None:
    """What was believed about orders has been dropped, so nothing proves that we are flat."""
    state, seen = building((0, False), (0, False))
    state, _ = decide(state, seen, plan(), NOW + 5_001 * MS)
    assert state.phase is Phase.RECOVERING
    state, _ = decide(state, inputs(gone="killed"), plan(), NOW + 5_020 * MS)
    assert state.end is not None
    assert state.end.code is ExitCode.EXPOSED


def test_a_price_left_behind_is_moved_but_not_too_often() -> None:
    seen = inputs(legs=(leg("2999.0", "2999.1", OrderView(9, 0, False)), inputs().legs[1]))
    assert decide(resting("3000.1"), seen, plan(), NOW + 399 * MS)[1] == []
    state, actions = decide(resting("3000.1"), seen, plan(), NOW + 400 * MS)
    assert actions == [Cancel(9, "market moved")]
    assert state.legs[0].reprices == 1


def test_a_post_only_that_would_cross_is_repriced_at_once_and_others_cross() -> None:
    refused = with_order(OrderView(9, 0, True, code=2008))
    _, actions = decide(resting("3000.0"), refused, plan(), NOW + 40 * MS)
    assert isinstance(actions[-1], Send)
    assert actions[-1].intents[0].purpose is Purpose.REST
    below_minimum = with_order(OrderView(9, 0, True, code=2094))
    state, _ = decide(resting("3000.0"), below_minimum, plan(), NOW + 40 * MS)
    assert state.legs[0].rest_refused
    _, actions = decide(state, inputs(), plan(), NOW + 500 * MS)
    assert isinstance(actions[-1], Send)
    assert actions[-1].intents[0].purpose is Purpose.TAKE


def test_flat_is_believed_only_from_the_exchange() -> None:
    state = unwinding(legs=(LegState(), LegState()))
    state, actions = decide(state, inputs(), plan(), NOW + 20 * MS)
    assert [type(a) for a in actions] == [Verify]
    answer = inputs(verified=Verified(state.verify_seq, (to_x18("0.001"), 0)))
    state, actions = decide(state, answer, plan(), NOW + 40 * MS)
    assert state.phase is Phase.RECOVERING
    assert state.legs[0].held_x18 == to_x18("0.001")


def test_flat_is_not_believed_beside_an_order_that_rests() -> None:
    state, _ = decide(unwinding(legs=(LegState(), LegState())), inputs(), plan(), NOW + 20 * MS)
    answer = inputs(verified=Verified(state.verify_seq, (0, 0), resting=1))
    state, actions = decide(state, answer, plan(), NOW + 40 * MS)
    assert state.phase is Phase.RECOVERING
    assert CancelAll() in actions


# ---------------------------------------------------------------------- whole runs

CHANCE = st.sampled_from((0.0, 0.05, 0.3, 0.7, 1.0))
DICE = st.builds(
    Dice,
    taker_fills=st.sampled_from((0.3, 0.7, 1.0)),
    taker_partial=CHANCE,
    taker_silent=st.sampled_from((0.0, 0.0, 0.2)),
    rest_fills=st.sampled_from((0.0, 0.01, 0.2)),
    rest_partial=CHANCE,
    rest_refused=st.sampled_from((0.0, 0.3, 1.0)),
    cancel_lost=st.sampled_from((0.0, 0.0, 0.3)),
    replace_fails=st.sampled_from((0.0, 0.3, 1.0)),
    foreign_trade=st.sampled_from((0.0, 0.0, 0.002)),
    spread_ticks=st.integers(1, 4),
)


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 2**32), dice=DICE)
def test_every_run_ends_flat_or_names_its_exposure(seed: int, dice: Dice) -> None:
    """Whatever the exchange does: the run ends, and every end but EXPOSED is flat by the exchange's word.

    On the way `ToyExchange` asserts that no leg has two orders and no resting exit exceeds the position.
    """
    toy = ToyExchange(plan(cycles=3), seed, dice)
    state = toy.run()
    assert state.end is not None
    if state.end.code is not ExitCode.EXPOSED:
        assert toy.positions_x18 == [0, 0]
    assert state.done == sum(1 for c in toy.cycles if not c.failure and not c.skipped)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32), dice=DICE, steps=st.integers(0, 400))
def test_a_stop_at_any_step_ends_within_its_deadline(seed: int, dice: Dice, steps: int) -> None:
    toy = ToyExchange(plan(cycles=3), seed, dice)
    for _ in range(steps):
        if toy.state.end is None:
            toy.step()
    asked_ns = toy.now_ns
    sent_before = len(toy.orders)
    while toy.state.end is None:
        toy.inputs = replace(toy.inputs, stop_age_ns=toy.now_ns - asked_ns)
        toy.step()
    assert toy.now_ns - asked_ns <= plan().stop_deadline_ns + 100 * MS
    later = list(toy.orders.values())[sent_before:]
    assert all(order.intent.purpose.is_exit for order in later if order.sent_ns > asked_ns + 20 * MS)
    if toy.state.end.code is ExitCode.DONE:
        assert toy.positions_x18 == [0, 0]


def test_a_fair_exchange_completes_every_cycle_in_both_directions() -> None:
    toy = ToyExchange(plan(cycles=20), 11, Dice(rest_fills=0.05, spread_ticks=2))
    state = toy.run()
    assert state.end is not None
    assert state.end.code is ExitCode.DONE
    assert [c.failure for c in toy.cycles] == [""] * 20
    assert STOP_REQUESTED not in {c.failure for c in toy.cycles}
