"""The pair's loop: what it looks at before it decides, when it waits, and what it asks the exchange."""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from machinekit import plan
from pairkit import kinds, trade
from pairworld import ETH, PairWorld

import bot.pair
from bot.execution import LegInputs
from bot.model import Action, Direction, EntryMode, ExitCode, Phase, Send, Verify
from bot.pair import DNPairBot
from bot.risk import Purpose
from nadofast.products import to_x18


@pytest.fixture
def world(tmp_path: Path) -> PairWorld:
    return PairWorld(7, tmp_path)


def purposes(actions: list[Action]) -> list[Purpose]:
    return [intent.purpose for action in actions if isinstance(action, Send) for intent in action.intents]


# ---------------------------------------------------------------------- what is looked at


def test_levels_are_read_for_an_entry_and_not_while_a_pair_is_held(world: PairWorld) -> None:
    async def script(bot: DNPairBot) -> list[int]:
        assert await bot.execute_build_cycle()
        counts = [len(kinds(world, "depth"))]
        for _ in range(20):
            bot._step()
            await bot._wait()
        return [*counts, len(kinds(world, "depth"))]

    before, after = world.play(trade, script)
    assert {value["leg"] for value in kinds(world, "depth")} == {0, 1}
    assert all(value["bids"] and value["asks"] for value in kinds(world, "depth"))
    assert before == after


def test_without_a_valid_book_nothing_is_entered_and_no_level_is_told(world: PairWorld) -> None:
    async def script(bot: DNPairBot) -> None:
        assert world.feed is not None
        world.feed.break_books(1.0)
        bot._state = replace(bot._state, wanted=Direction.BUY_FIRST)
        until_s = world.loop.time() + 0.9
        while world.loop.time() < until_s:
            bot._step()
            await bot._wait()
        assert bot.state.phase is Phase.FLAT

    world.play(trade, script)
    assert kinds(world, "depth") == []
    assert kinds(world, "order") == []
    assert "book of ETH-PERP, SOL-PERP is not valid" in kinds(world, "status")[-1]["not_ready"]


def test_an_exit_is_told_that_there_is_no_book_and_does_not_wait_for_one(world: PairWorld) -> None:
    async def script(bot: DNPairBot) -> list[Any]:
        assert await bot.execute_build_cycle()
        assert world.feed is not None
        found = []
        held = [replace(leg, held_x18=leg.held_x18 * 10) for leg in bot.state.legs]  # worth slices
        bot._state = replace(bot.state, phase=Phase.UNWINDING, legs=(held[0], held[1]))
        quote = bot._p.clients[0].quote()
        seen = LegInputs(quote.bid_x18, quote.ask_x18, None)
        found.append(bot._needs_depth(0, seen))
        world.feed.break_books(1.0)
        found += [bot._needs_depth(0, seen), bot._depth(ETH).bids]
        bot._state = replace(bot.state, phase=Phase.FLAT)
        return [*found, bot._needs_depth(0, seen)]

    assert world.play(trade, script) == [True, True, (), False]


def test_prices_that_stand_for_too_long_end_a_held_pair(world: PairWorld) -> None:
    """The stream is open and says nothing: after three seconds the pair is closed at market."""

    async def script(bot: DNPairBot) -> float:
        assert await bot.execute_build_cycle()
        assert world.feed is not None
        world.feed._mute_until_s, since_s = world.loop.time() + 60, world.loop.time()
        await bot._drive(lambda state: state.phase is Phase.UNWINDING)
        took_s = world.loop.time() - since_s
        assert "no price for" in bot.state.urgent
        world.feed._mute_until_s = 0.0
        await bot._drive(lambda state: state.phase is Phase.FLAT)
        return took_s

    assert 3.0 <= world.play(trade, script) < 3.5
    assert world.positions_x18() == (0, 0)


@pytest.mark.parametrize("what", ["rate of builds", "budget of orders", "too fast for the exchange"])
def test_an_entry_waits_for_every_budget_and_is_not_skipped(world: PairWorld, what: str) -> None:
    async def script(bot: DNPairBot) -> bool:
        guard = bot._p.guard
        if what == "rate of builds":
            assert await bot.execute_buy_first_cycle()
            world.gate.limits = replace(world.gate.limits, max_builds_per_min=1)
        elif what == "budget of orders":
            guard._cycle_weight = 10**9
        else:
            for _ in range(3):
                guard.limiter.on_rate_error("execute")  # the third pause is of four seconds at least
        waiting = asyncio.ensure_future(bot.execute_build_cycle())
        await asyncio.sleep(3.0)
        assert world.positions_x18() == (0, 0)
        assert bot.state.is_pacing
        assert bot.state.skips == 0
        world.gate.limits = replace(world.gate.limits, max_builds_per_min=0)
        guard._cycle_weight = 1
        return await waiting

    assert world.play(trade, script) is True
    assert [line.count("waiting for the order budget") for line in world.said.lines].count(1) == 1


def test_whatever_happens_wakes_the_loop_at_once(world: PairWorld) -> None:
    """An answer, the end of an order, a request to stop: none of them waits for the next turn."""

    async def script(bot: DNPairBot) -> list[bool]:
        assert await bot.execute_build_cycle()
        found = []
        order = bot._desk.order(1)
        assert order is not None
        bot._wake.clear()
        bot._order_changed(order)
        found.append(bot._wake.is_set())
        bot._wake.clear()
        await bot._read_positions(Verify(99))
        found.append(bot._wake.is_set())
        bot._wake.clear()
        world.stop.drain("SIGINT")
        return [*found, bot._wake.is_set()]

    assert world.play(trade, script) == [True, True, True]


def test_the_money_is_known_before_the_first_entry_and_anew_with_every_answer(world: PairWorld) -> None:
    end = world.run(lambda products: plan(products=products, cycles=1))
    assert end.code is ExitCode.DONE
    equity = [int(value["equity"]) for value in kinds(world, "account")]
    assert equity[0] == to_x18(100_000)
    assert len(set(equity)) > 1  # fees and prices have moved it
    first = next(i for i, entry in enumerate(world.entries) if entry.kind == "order")
    assert any(entry.kind == "account" for entry in world.entries[:first])


def test_every_decision_is_told_with_what_it_was_made_from(world: PairWorld) -> None:
    told: list[tuple[Any, Any, Any]] = []

    async def script(bot: DNPairBot) -> None:
        bot._p.inputs._on_decision = lambda *decision: told.append(decision)
        await bot.execute_build_cycle()

    world.play(trade, script)
    (built,) = [(before, after) for before, after, actions in told if purposes(actions)]
    assert [state.phase for state in built] == [Phase.FLAT, Phase.BUILDING]
    assert all(before == earlier for (_, earlier, _), (before, _, _) in itertools.pairwise(told))


# ---------------------------------------------------------------------- what would be done


def test_what_is_foreseen_enters_as_planned_or_as_it_is_asked(world: PairWorld) -> None:
    async def script(bot: DNPairBot) -> list[list[Purpose]]:
        await bot.initialize_clients()
        found = []
        for planned in (EntryMode.IOC, EntryMode.MAKER_THEN_IOC):
            bot._plan = replace(bot._plan, entry_mode=planned)
            for mode in (None, EntryMode.IOC, EntryMode.MAKER_THEN_IOC):
                state, actions = bot.foresee(Direction.SELL_FIRST, mode)
                assert state.direction is Direction.SELL_FIRST
                found.append(purposes(actions))
        return found

    both, first = [Purpose.ENTRY, Purpose.ENTRY], [Purpose.MAKE]
    assert world.play(trade, script) == [both, both, first, first, both, first]
    assert world.kinds == []  # nothing of it was carried out


@pytest.mark.parametrize("sign_ahead_ms", [0, 400])
def test_the_next_entry_is_foreseen_only_to_be_signed_and_never_while_one_is_under_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sign_ahead_ms: int
) -> None:
    """Signed ahead while BUILDING, it would push out what is still on its way to the gateway."""
    world = PairWorld(5, tmp_path, sign_ahead_ms=sign_ahead_ms)
    foreseen: list[Phase] = []
    next_entry = bot.pair.next_entry

    def watched(state: Any, *rest: Any) -> Any:
        foreseen.append(state.phase)
        return next_entry(state, *rest)

    monkeypatch.setattr(bot.pair, "next_entry", watched)
    end = world.run(lambda products: plan(products=products, cycles=2))
    assert end.code is ExitCode.DONE
    presigner = world.gateway.presigner
    if not sign_ahead_ms:
        assert foreseen == []
    else:
        assert presigner is not None
        assert presigner.used >= 1
        assert Phase.UNWINDING in foreseen
        assert Phase.BUILDING not in foreseen
