"""What no order can close is carried, shown and limited; the next entry takes it in."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from machinekit import ETH as ETH_RULES
from machinekit import MS, inputs, plan
from pairworld import ETH, PairWorld
from test_pair_by_name import trade_beside

from bot.execution import LegState, OrderView
from bot.machine import decide
from bot.model import (
    Action,
    CycleEnd,
    Direction,
    ExitCode,
    Note,
    PairInputs,
    PairState,
    Phase,
    Plan,
    Send,
    Verified,
)
from bot.pair import DNPairBot
from bot.risk import OrderIntent
from bot.steps import SKIP_PAUSE_NS
from bot.unwinding import TOO_SMALL
from nadofast.products import Product, to_x18

NOW = 1_000_000 * MS


def sent(actions: list[Action]) -> list[OrderIntent]:
    return [intent for a in actions if isinstance(a, Send) for intent in a.intents]


def carrying(eth: str = "0", sol: str = "0") -> PairState:
    legs = tuple(LegState(held_x18=to_x18(held), carried_x18=to_x18(held)) for held in (eth, sol))
    return PairState(since_ns=NOW, legs=(legs[0], legs[1]))


@pytest.mark.parametrize(("urgent", "done", "failures"), [("", 1, 0), ("out", 0, 1)])
def test_what_is_refused_as_too_small_is_carried_after_two_equal_answers(
    urgent: str, done: int, failures: int
) -> None:
    """The cycle counts: complete if nothing else was wrong, and the next one does not begin at once."""
    legs = (LegState(held_x18=to_x18("0.02"), rest_refused=True), LegState())
    state = PairState(phase=Phase.UNWINDING, since_ns=NOW, legs=legs, cycle=1, urgent=urgent)
    now_ns, order, tried = NOW, None, 0
    actions: list[Action] = []
    while not any(isinstance(a, CycleEnd) for a in actions):
        now_ns += 20 * MS
        seen = inputs(verified=Verified(state.verify_seq, (to_x18("0.02"), 0)), not_ready="not now")
        seen = replace(seen, legs=(replace(seen.legs[0], order=order), seen.legs[1]))
        state, actions = decide(state, seen, plan(), now_ns)
        for intent in sent(actions):
            tried, order = tried + 1, OrderView(intent.tag, 0, True, code=2094)
        assert now_ns < NOW + 5_000 * MS
    (end,) = [a for a in actions if isinstance(a, CycleEnd)]
    carried = "residual ETH-PERP +0.02 (60.00 USD) is carried"
    assert Note(carried) in actions
    assert end.failure == (f"{urgent}; {TOO_SMALL}; {carried}" if urgent else "")
    assert (end.is_flat, state.phase, state.is_exposed) == (False, Phase.FLAT, True)
    assert (state.done, state.failures) == (done, failures)
    assert (state.legs[0].held_x18, state.legs[0].carried_x18) == (to_x18("0.02"), to_x18("0.02"))
    assert 1 <= tried <= 4
    assert decide(state, inputs(), plan(), now_ns + SKIP_PAUSE_NS - 1)[1] == []
    assert sent(decide(state, inputs(), plan(), now_ns + SKIP_PAUSE_NS)[1])
    over = decide(state, inputs(), plan(cycles=1, max_failures=1), now_ns + 20 * MS)[0].end
    assert over is not None
    assert over.code is (ExitCode.ERROR if failures else ExitCode.DONE)


def stuck(eth: str) -> tuple[PairState, PairInputs]:
    """One answer before the residual is carried."""
    legs = (LegState(held_x18=to_x18(eth), too_small=True), LegState())
    state = PairState(
        phase=Phase.RECOVERING, since_ns=NOW, legs=legs, verify_seq=1, is_verifying=True, flat_answers=1
    )
    return state, inputs(verified=Verified(1, (to_x18(eth), 0)))


def test_by_hand_nothing_begins_by_itself_after_it() -> None:
    state, seen = stuck("0.02")
    by_hand = plan(is_by_hand=True)
    for after_ms in (20, 1_000, 5_000):
        state, actions = decide(state, seen, by_hand, NOW + after_ms * MS)
        assert (sent(actions), state.phase, state.wanted) == ([], Phase.FLAT, None)
    state = replace(state, wanted=Direction.SELL_FIRST)
    amounts = [i.amount_x18 for i in sent(decide(state, seen, by_hand, NOW + 6_000 * MS)[1])]
    assert amounts == [-to_x18("0.062"), to_x18("0.9")]


def test_what_is_off_the_step_grid_is_closed_up_to_less_than_a_step_and_that_is_carried() -> None:
    legs = (LegState(held_x18=to_x18("0.0425")), LegState())
    state = PairState(phase=Phase.UNWINDING, since_ns=NOW, legs=legs, cycle=1, urgent="out")
    held_x18, now_ns, order = to_x18("0.0425"), NOW, None
    amounts: list[int] = []
    actions: list[Action] = []
    while not any(isinstance(a, CycleEnd) for a in actions):
        now_ns += 20 * MS
        assert now_ns < NOW + 3_000 * MS, state
        seen = inputs(verified=Verified(state.verify_seq, (held_x18, 0)))
        seen = replace(seen, legs=(replace(seen.legs[0], order=order), seen.legs[1]))
        state, actions = decide(state, seen, plan(), now_ns)
        for intent in sent(actions):
            amounts.append(intent.amount_x18)
            if ETH_RULES.is_valid_size(intent.amount_x18):
                held_x18 += intent.amount_x18
                order = OrderView(intent.tag, abs(intent.amount_x18), True)
            else:
                order = OrderView(intent.tag, 0, True, denied="amount: not a multiple of the size step")
    assert amounts == [-to_x18("0.042")]
    assert (state.phase, state.legs[0].carried_x18) == (Phase.FLAT, to_x18("0.0005"))


def test_a_resting_exit_is_on_the_step_grid() -> None:
    legs = (LegState(held_x18=to_x18("0.0425")), LegState(held_x18=-to_x18("0.95")))
    state = PairState(phase=Phase.UNWINDING, since_ns=NOW, legs=legs, cycle=1)
    amounts = [i.amount_x18 for i in sent(decide(state, inputs(), plan(), NOW + 20 * MS)[1])]
    assert amounts == [-to_x18("0.042"), to_x18("0.9")]


@pytest.mark.parametrize("eth", ["0.0205", "-0.0205", "0.0005"])
def test_an_entry_on_top_of_it_is_on_the_step_grid(eth: str) -> None:
    state, actions = decide(carrying(eth), inputs(), plan(), NOW)
    assert [ETH_RULES.is_valid_size(sent(actions)[0].amount_x18), len(sent(actions))] == [True, 2]
    assert state.legs[0].missing_x18 == sent(actions)[0].amount_x18  # and once it fills, the leg is full


def test_an_ordinary_refusal_is_no_residual() -> None:
    legs = (LegState(held_x18=to_x18("0.02"), failures=3), LegState())
    state = PairState(phase=Phase.RECOVERING, since_ns=NOW, legs=legs, verify_seq=1, is_verifying=True)
    seen = inputs(verified=Verified(1, (to_x18("0.02"), 0)))
    assert sent(decide(state, seen, plan(), NOW + 20 * MS)[1])


@pytest.mark.parametrize(("eth", "amounts"), [("0.02", ("-0.062", "0.9")), ("-0.02", ("0.062", "-0.9"))])
def test_the_next_entry_opposes_it_and_takes_it_in(eth: str, amounts: tuple[str, str]) -> None:
    state, seen = stuck(eth)
    state, actions = decide(state, seen, plan(), NOW + 20 * MS)
    assert sent(actions) == []
    state, actions = decide(state, inputs(), plan(), NOW + 20 * MS + SKIP_PAUSE_NS)
    assert [i.amount_x18 for i in sent(actions)] == [to_x18(a) for a in amounts]
    assert state.phase is Phase.BUILDING
    assert [leg.held_x18 for leg in state.legs] == [to_x18(eth), 0]


def test_nothing_filled_leaves_it_as_it_was() -> None:
    state, actions = decide(carrying("-0.02"), inputs(), plan(max_skips=9, entry_attempts=1), NOW)
    for number, intent in enumerate(sent(actions)):
        seen = inputs().legs
        legs = [
            replace(leg, order=OrderView(intent.tag, 0, True)) if i == number else leg
            for i, leg in enumerate(seen)
        ]
        state, _ = decide(state, inputs(legs=(legs[0], legs[1])), plan(entry_attempts=1), NOW + 40 * MS)
    assert state.is_verifying
    answer = inputs(verified=Verified(state.verify_seq, (-to_x18("0.02"), 0)))
    state, _ = decide(state, answer, plan(entry_attempts=1), NOW + 60 * MS)
    assert (state.phase, state.skips) == (Phase.FLAT, 1)
    assert state.legs[0].held_x18 == state.legs[0].carried_x18 == -to_x18("0.02")


def test_too_much_of_it_blocks_entries_and_asks_for_a_person() -> None:
    state, actions = decide(carrying("0.04"), inputs(), plan(), NOW)  # 120 USD
    assert state.end is not None
    assert (state.end.code, actions) == (ExitCode.EXPOSED, [])
    assert "above the limit of 100.00 USD: close it by hand" in state.end.reason
    both = decide(carrying("0.01", "0.1"), inputs(), plan(), NOW)[0]
    assert both.end is not None
    assert "same side of both legs" in both.end.reason
    assert decide(carrying("0.01", "-0.1"), inputs(), plan(), NOW)[0].end is None


def trade(products: tuple[Product, Product]) -> Plan:
    return plan(products=products, hold_ns=200_000_000)


def test_on_an_exchange_whose_minimum_holds_for_takers_too(tmp_path: Path) -> None:
    """Half of a leg is traded away by somebody: the rest is too small to be closed alone, and is not lost."""
    world = PairWorld(7, tmp_path)
    world.limits = replace(world.limits, max_residual_x18=to_x18(100))

    async def script(bot: DNPairBot) -> list[tuple[int, int]]:
        await bot.execute_build_cycle("buy", "sell")
        found = [world.positions_x18()]
        await trade_beside(world, bot, ETH, "-0.021")
        checks = world.exchange._entry._core.checks
        checks._config = replace(checks._config, takers_obey_min_size=True)
        await bot._drive(lambda state: state.phase is Phase.FLAT)
        found.append(world.positions_x18())
        assert "ETH-PERP" in bot.exposure
        assert await bot.execute_build_cycle("sell", "buy")
        found.append(world.positions_x18())
        assert await bot.execute_unwind_cycle("buy", "sell")
        await asyncio.sleep(0.1)
        return [*found, world.positions_x18()]

    built, left, again, after = world.play(trade, script)
    assert left == (built[0] - to_x18("0.021"), 0)
    assert again[0] < 0 < again[1]
    assert after == (0, 0)
    first = world.recorder.finished[0]
    assert "is carried" in first.failure
    assert not first.is_closed
    assert to_x18(55) < first.residual_x18 < to_x18(70)
