"""The door into the strategy: numbered without gaps, recorded, and enough to decide again."""

from __future__ import annotations

import json

from hypothesis import given, settings
from hypothesis import strategies as st
from machinekit import Dice, ToyExchange, plan

from bot.execution import Depth, OrderView
from bot.inputs import BLIND_STEP_NS, Entry, InputLog, World
from bot.machine import decide
from bot.model import Foreign, PairInputs, Verified
from nadofast.products import to_x18


def enter(log: InputLog, seen: PairInputs) -> None:
    """What a driver does with what it sees."""
    for leg, part in enumerate(seen.legs):
        log.quote(leg, part.bid_x18, part.ask_x18)
        if part.order is not None:
            log.order(leg, part.order)
        if part.depth is not None:
            log.depth(leg, part.depth)
    log.status(not_ready=seen.not_ready, pacing=seen.pacing, halt=seen.halt)
    if seen.verified is not None:
        log.verified(seen.verified)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32), silent=st.sampled_from((0.0, 0.1)), fills=st.sampled_from((0.5, 1.0)))
def test_a_record_read_again_decides_the_same(seed: int, silent: float, fills: float) -> None:
    """A run against the toy exchange; its record, through JSON, folded by somebody else."""
    toy = ToyExchange(plan(cycles=2), seed, Dice(taker_fills=fills, taker_silent=silent, taker_partial=0.3))
    lines: list[str] = []
    log = InputLog(lambda entry: lines.append(json.dumps(entry.fields())), clock_ns=lambda: toy.now_ns)
    first = state = toy.state
    live = []
    while toy.state.end is None:
        toy.step()
        enter(log, toy.inputs)
        state, actions = decide(state, log.turn(), toy.plan, log.now_ns)
        assert state == toy.state  # the fold loses nothing the strategy looks at
        live.append((log.now_ns, actions))
    world, again, told = World(), [], first
    for number, line in enumerate(lines, 1):
        entry = Entry.of(json.loads(line))
        assert entry.seq == number
        world.apply(entry)
        if entry.kind == "turn":
            told, actions = decide(told, world.inputs(entry.at_ns), toy.plan, entry.at_ns)
            again.append((entry.at_ns, actions))
    assert again == live
    assert told == state


def test_only_what_changed_enters_and_every_turn_does() -> None:
    entries: list[Entry] = []
    log = InputLog(entries.append, clock_ns=lambda: 5)
    for _ in range(3):
        log.quote(0, 1, 2)
        log.quote(1, 3, 4)
        log.turn()
    assert [entry.kind for entry in entries] == ["quote", "quote", "turn", "turn", "turn"]


def test_every_input_comes_out_as_it_went_in() -> None:
    log = InputLog(clock_ns=lambda: 7_000)
    depth = Depth(((to_x18(9), 1),), ((to_x18(10), 2), (to_x18(11), 3)))
    order = OrderView(4, 2**80, False, 2008, None, rests=True)
    log.quote(1, 2**90, 2**90 + 1)
    log.depth(1, depth)
    log.order(1, order)
    log.status(not_ready="why", pacing=True, halt="loss")
    log.gone("killed")
    log.stop(6_000)
    log.drain(is_on=True)
    log.stale(777_000_000)
    log.verified(Verified(3, (-1, 2**70), 5, 6))
    log.account(2**75)
    log.foreign(Foreign(2, "liquidation"))
    seen = log.turn()
    assert (seen.legs[1].bid_x18, seen.legs[1].ask_x18) == (2**90, 2**90 + 1)
    assert (seen.legs[1].depth, seen.legs[1].order) == (depth, order)
    assert seen == PairInputs(
        legs=seen.legs, not_ready="why", pacing=True, halt="loss", stop_age_ns=1_000, drain=True, blind_ns=0,
        stale_ns=700_000_000, gone="killed", verified=Verified(3, (-1, 2**70), 5, 6), equity_x18=2**75,
        foreign=Foreign(2, "liquidation"),
    )  # fmt: skip


def test_time_never_runs_back_and_silence_is_told_in_steps() -> None:
    clock = iter((50, 60, 40, 70, 80, 90, 95, 99))
    log = InputLog(clock_ns=lambda: next(clock))
    entries: list[Entry] = []
    log._record = entries.append
    log.turn()
    log.turn()
    assert [entry.at_ns for entry in entries] == [60, 60]
    log.blind(4 * BLIND_STEP_NS)
    log.blind(7 * BLIND_STEP_NS + 1)
    log.blind(7 * BLIND_STEP_NS + 99)
    assert [entry.value["ns"] for entry in entries[2:]] == [0, 7 * BLIND_STEP_NS]


def test_a_record_that_fails_is_told_once_and_the_strategy_goes_on() -> None:
    """Whoever is in a position has to get out of it, disk or not."""
    tries: list[Entry] = []

    def refuse(entry: Entry) -> None:
        tries.append(entry)
        raise OSError(28, "No space left on device")

    log = InputLog(refuse, clock_ns=lambda: 1)
    log.stop(1)
    assert log.turn().stop_age_ns == 0
    assert (log.failure, len(tries), log.seq) == ("No space left on device", 1, 2)


def test_depth_counts_what_is_inside_the_price_and_prices_what_is_taken() -> None:
    depth = Depth(((to_x18(99), to_x18(1)), (to_x18(98), to_x18(2))), ((to_x18(100), to_x18(1)),))
    assert depth.visible_x18(-1, to_x18(98)) == to_x18(3)
    assert depth.visible_x18(-1, to_x18(99)) == to_x18(1)
    assert depth.visible_x18(1, to_x18(99)) == 0
    assert depth.quote_x18(-to_x18(2)) == to_x18(197)
    assert depth.quote_x18(to_x18(2)) is None
