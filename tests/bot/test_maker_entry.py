"""Entering as maker first: single decisions, runs against a toy exchange, and runs on the real engine."""

from __future__ import annotations

import logging
import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from machinekit import MS, Dice, ToyExchange, inputs, plan
from pairworld import PairWorld, Weather

from bot.execution import Depth, OrderView
from bot.machine import decide
from bot.model import (
    Action,
    Begin,
    Cancel,
    EntryMode,
    ExitCode,
    PairInputs,
    PairState,
    Phase,
    Plan,
    Send,
    Verified,
    Verify,
)
from bot.risk import OrderIntent, Purpose
from nadofast.products import Product, to_x18

NOW = 1_000_000 * MS
FLAT = PairState(since_ns=NOW)
MAKER = {"entry_mode": EntryMode.MAKER_THEN_IOC}


def shown(eth: str = "10", sol: str = "1") -> PairInputs:
    """Books with so much on each side; 1 SOL is thinner than 10 ETH."""
    legs = []
    for seen, much in zip(inputs().legs, (eth, sol), strict=True):
        levels = ((seen.bid_x18, to_x18(much)),), ((seen.ask_x18, to_x18(much)),)
        legs.append(replace(seen, depth=Depth(*levels)))
    return inputs(legs=(legs[0], legs[1]))


def sent(actions: list[Action]) -> list[OrderIntent]:
    return [intent for a in actions if isinstance(a, Send) for intent in a.intents]


def entered(**changes: Any) -> tuple[PairState, OrderIntent]:
    state, actions = decide(FLAT, shown(), plan(**MAKER, **changes), NOW)
    (intent,) = sent(actions)
    return state, intent


def seen(state: PairState, filled: str = "0", *, is_final: bool = False, **changes: Any) -> PairInputs:
    """The SOL order with so much filled."""
    working = state.legs[1].working
    assert working is not None
    view = OrderView(working.intent.tag, to_x18(filled), is_final, rests=not is_final)
    base = shown()
    return replace(base, legs=(base.legs[0], replace(base.legs[1], order=view)), **changes)


@pytest.mark.parametrize(("eth", "sol", "leg"), [("10", "1", 1), ("0.05", "10", 0)])
def test_the_thinner_leg_rests_alone_and_dies_by_itself(eth: str, sol: str, leg: int) -> None:
    state, actions = decide(FLAT, shown(eth, sol), plan(**MAKER), NOW)
    assert isinstance(actions[0], Begin)
    (intent,) = sent(actions)
    assert (state.phase, state.maker, intent.leg, intent.purpose) == (Phase.BUILDING, leg, leg, Purpose.MAKE)
    assert 0 < intent.ttl_ms <= plan().maker_entry_ms + 5_000
    assert intent.discard
    assert intent.amount_x18 == state.legs[leg].target_x18
    seen_ = inputs().legs[leg]
    assert intent.price_x18 == (seen_.bid_x18 if leg == 0 else seen_.ask_x18)  # buys ETH, sells SOL
    assert state.legs[1 - leg].working is None


def test_its_fill_sends_the_other_leg_in_the_same_decision() -> None:
    state, _ = entered()
    state, actions = decide(state, seen(state, "0.9", is_final=True), plan(**MAKER), NOW + 700 * MS)
    (intent,) = sent(actions)
    assert (intent.leg, intent.purpose) == (0, Purpose.HEDGE)
    assert intent.amount_x18 == state.legs[0].target_x18
    assert intent.price_x18 > inputs().legs[0].ask_x18  # a cap, not a mid


def test_a_part_that_filled_is_waited_on_within_the_budget_and_no_longer() -> None:
    state, intent = entered()
    limits = plan(**MAKER)
    state, actions = decide(state, seen(state, "0.3"), limits, NOW + 100 * MS)  # 42 USD
    assert (actions, state.first_fill_ns) == ([], NOW + 100 * MS)
    assert decide(state, seen(state, "0.3"), limits, NOW + 349 * MS)[1] == []
    late, actions = decide(state, seen(state, "0.3"), limits, NOW + 350 * MS)
    assert actions == [Cancel(intent.tag, "budget of leg risk: time")]
    much, actions = decide(state, seen(state, "0.6"), limits, NOW + 120 * MS)  # 84 USD
    assert actions == [Cancel(intent.tag, "budget of leg risk: notional")]
    assert decide(late, seen(late, "0.3"), limits, NOW + 400 * MS)[1] == []  # asked once
    state, actions = decide(much, seen(much, "0.7", is_final=True), limits, NOW + 420 * MS)
    rest, other = sent(actions)[1], sent(actions)[0]
    assert (other.leg, other.amount_x18) == (0, state.legs[0].target_x18)
    assert (rest.leg, rest.amount_x18, rest.purpose) == (1, -to_x18("0.2"), Purpose.HEDGE)


def test_without_a_fill_both_legs_cross_in_the_end() -> None:
    state, intent = entered()
    limits = plan(**MAKER)
    assert decide(state, seen(state), limits, NOW + 1_999 * MS)[1] == []
    state, actions = decide(state, seen(state), limits, NOW + 2_000 * MS)
    assert actions == [Cancel(intent.tag, "maker timeout")]
    state, actions = decide(state, seen(state, is_final=True), limits, NOW + 2_020 * MS)
    assert [type(a) for a in actions] == [Verify]
    answer = replace(shown(), verified=Verified(state.verify_seq, (0, 0)))
    state, actions = decide(state, answer, limits, NOW + 2_040 * MS)
    assert (state.maker, state.attempts) == (None, 2)
    assert [(i.leg, i.purpose) for i in sent(actions)] == [(0, Purpose.ENTRY), (1, Purpose.ENTRY)]
    assert not any(isinstance(a, Begin) for a in actions)


def test_a_price_left_behind_is_moved_and_a_refusal_is_tried_again() -> None:
    state, intent = entered()
    limits = plan(**MAKER)
    moved = seen(state)
    low = replace(moved.legs[1], bid_x18=to_x18("139.90"), ask_x18=to_x18("139.91"))
    moved = replace(moved, legs=(moved.legs[0], low))
    assert decide(state, moved, limits, NOW + 399 * MS)[1] == []
    away, actions = decide(state, moved, limits, NOW + 400 * MS)
    assert actions == [Cancel(intent.tag, "market moved")]
    ended = seen(away, is_final=True)
    ended = replace(
        ended, legs=(ended.legs[0], replace(ended.legs[1], bid_x18=low.bid_x18, ask_x18=low.ask_x18))
    )
    again, actions = decide(away, ended, limits, NOW + 420 * MS)
    (second,) = sent(actions)
    assert (second.purpose, second.price_x18) == (Purpose.MAKE, to_x18("139.91"))
    assert second.ttl_ms == 2_000 - 420 + 5_000
    assert again.mids_x18 == (shown().legs[0].mid_x18, to_x18("139.905"))  # leg risk counts from this price
    working = state.legs[1].working
    assert working is not None
    view = OrderView(working.intent.tag, 0, True, code=2008)
    refused = replace(shown(), legs=(shown().legs[0], replace(shown().legs[1], order=view)))
    _, actions = decide(state, refused, limits, NOW + 10 * MS)
    assert [i.purpose for i in sent(actions)] == [Purpose.MAKE]
    assert again.attempts == 1


@pytest.mark.parametrize("why", [{"halt": "daily loss"}, {"stop_age_ns": 1}, {"not_ready": "book"}])
def test_it_does_not_rest_when_nothing_may_be_entered(why: dict[str, Any]) -> None:
    state, intent = entered()
    state, actions = decide(state, seen(state, **why), plan(**MAKER), NOW + 20 * MS)
    assert [a.tag for a in actions if isinstance(a, Cancel)] == [intent.tag]
    _, actions = decide(state, seen(state, is_final=True, **why), plan(**MAKER), NOW + 40 * MS)
    assert sent(actions) == []


CHANCE = st.sampled_from((0.0, 0.05, 0.3, 1.0))


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    dice=st.builds(
        Dice, taker_fills=st.sampled_from((0.3, 1.0)), taker_partial=CHANCE, rest_partial=CHANCE,
        taker_silent=st.sampled_from((0.0, 0.0, 0.2)), rest_fills=st.sampled_from((0.0, 0.01, 0.2)),
        rest_refused=st.sampled_from((0.0, 0.3, 1.0)), cancel_lost=st.sampled_from((0.0, 0.0, 0.3)),
        foreign_trade=st.sampled_from((0.0, 0.002)),
    ),
)  # fmt: skip
def test_every_run_ends_flat_or_names_its_exposure(seed: int, dice: Dice) -> None:
    toy = ToyExchange(plan(cycles=3, **MAKER), seed, dice)
    state = toy.run()
    assert state.end is not None
    if state.end.code is not ExitCode.EXPOSED:
        assert toy.positions_x18 == [0, 0]


# ---------------------------------------------------------------------- on the real engine


@pytest.fixture
def quiet() -> Iterator[None]:
    """The storm's warnings are no news here."""
    logging.disable(logging.ERROR)
    yield
    logging.disable(logging.NOTSET)


def trade(products: tuple[Product, Product]) -> Plan:
    return plan(products=products, cycles=3, max_blind_ns=10_000_000_000, **MAKER)


@pytest.mark.parametrize("regime", ["calm", "thin"])
def test_in_fair_weather_every_cycle_completes_and_saves_fees(tmp_path: Path, regime: str) -> None:
    world = PairWorld(11, tmp_path, regime=regime)
    world.rests_first = True
    end = world.run(trade)
    assert (end.code.name, end.reason) == ("DONE", "all cycles complete")
    made = [
        o for c in world.recorder.finished for o in c.orders if o.purpose is Purpose.MAKE and o.filled_x18
    ]
    assert made
    assert all(o.maker_x18 == abs(o.filled_x18) for o in made)
    for cycle in world.recorder.finished:
        assert cycle.failure == ""
        assert cycle.pnl is not None
        assert cycle.balance_change_x18 == cycle.pnl.net_x18


def test_in_a_storm_every_run_ends_flat_or_named(tmp_path: Path, quiet: None) -> None:
    """What entries may hold is judged at the exchange's door, the end against the exchange's record."""
    for seed in range(4):
        weather = Weather.seeded(random.Random(seed + 2_000_000))
        world = PairWorld(seed, tmp_path, has_limits=False, weather=weather)
        world.rests_first = True
        world.run(trade, chaos=True)
