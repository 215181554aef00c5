"""How a run ends, and what is done about what is open by then."""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from machinekit import plan
from pairkit import Days, rest_both_exits
from pairworld import ETH, PairWorld

from bot.latch import KillSwitch
from bot.model import CycleEnd, End, ExitCode, Plan, Verify
from bot.pair import DNPairBot
from bot.risk import OrderIntent, Purpose
from nadofast.products import Product


@pytest.fixture
def world(tmp_path: Path) -> PairWorld:
    return PairWorld(7, tmp_path)


def trade(products: tuple[Product, Product]) -> Plan:
    return plan(products=products, hold_ns=200_000_000)


def holds(products: tuple[Product, Product]) -> Plan:
    return plan(products=products, hold_ns=10**12)


def said(world: PairWorld) -> str:
    return "\n".join(world.said.lines)


# ---------------------------------------------------------------------- ends with something open


def ends(world: PairWorld, act: Any, made: Any = holds) -> tuple[End, float]:
    """A run in which `act` happens while a pair is held: how it ended, and how long that took."""

    async def script(bot: DNPairBot) -> tuple[End, float]:
        is_held, hedged = asyncio.Event(), bot._p.recorder.hedged
        vars(bot._p.recorder)["hedged"] = lambda: (hedged(), is_held.set())
        running = asyncio.ensure_future(bot.run_alternating_strategy(world.cash_x18))
        await is_held.wait()
        since_s = world.loop.time()
        act(bot)
        return await running, world.loop.time() - since_s

    end, took_s = world.play(made, script)
    return end, took_s


def test_a_drain_ends_the_open_cycle_as_planned_and_begins_no_other(world: PairWorld) -> None:
    def five(products: tuple[Product, Product]) -> Plan:
        return plan(products=products, cycles=5, hold_ns=500_000_000)

    end, took_s = ends(world, lambda bot: world.stop.drain("SIGINT"), five)
    assert (end.code, end.reason) == (ExitCode.DONE, "drained on request")
    assert took_s > 0.5  # it was held as long as it should be
    (cycle,) = world.recorder.finished
    assert (cycle.failure, cycle.is_closed) == ("", True)
    assert world.positions_x18() == (0, 0)


@pytest.mark.parametrize("how", ["exchange", "third request"])
def test_who_has_to_leave_does_nothing_more_and_names_what_is_open(world: PairWorld, how: str) -> None:
    def act(bot: DNPairBot) -> None:
        if how == "exchange":
            vars(bot._p.exchange)["gone_reason"] = "the exchange ended"
            bot._p.exchange.gone.set()
        else:
            for _ in range(3):
                world.stop.stop("SIGINT")

    end, took_s = ends(world, act)
    assert end.code is ExitCode.EXPOSED
    assert end.reason == (
        "the exchange ended" if how == "exchange" else "third request to stop after SIGINT: left at once"
    )
    assert took_s < 0.1
    assert all(world.positions_x18())
    assert "emergency" not in said(world)
    assert re.search(r"END  .*; exposure: ETH-PERP \+\d\.\d+ \(.*\), SOL-PERP -\d", said(world))
    (cycle,) = world.recorder.finished
    assert (cycle.is_closed, cycle.failure) == (False, end.reason)


def test_who_hears_nothing_from_the_exchange_names_what_is_open(world: PairWorld) -> None:
    def act(bot: DNPairBot) -> None:
        assert world.feed is not None
        world.feed._mute_until_s = world.loop.time() + 600
        world.weather.rest_fails = 1.0
        world.link.is_dead = True
        bot._plan = replace(bot._plan, max_stale_ns=10**12)

    end, took_s = ends(world, act)
    assert end.code is ExitCode.EXPOSED
    assert "nothing heard from the exchange for" in end.reason
    assert took_s < 7
    assert "emergency" not in said(world)
    assert all(world.positions_x18())


def test_a_stop_whose_time_is_up_still_ends_flat(world: PairWorld) -> None:
    """The machine gives up; the exchange is there, so the way out that needs no machine is taken."""

    def hurried(products: tuple[Product, Product]) -> Plan:
        return plan(products=products, hold_ns=10**12, stop_deadline_ns=1)

    end, _ = ends(world, lambda bot: world.stop.flatten("SIGINT"), hurried)
    assert end.code is ExitCode.ERROR
    assert "not proved flat" in end.reason
    assert "emergency unwind" in said(world)
    assert said(world).count("; flat") == 1
    assert world.positions_x18() == (0, 0)
    (cycle,) = world.recorder.finished
    assert (cycle.is_closed, cycle.balance_change_x18 is not None) == (True, True)


def test_no_end_is_clean_while_anything_is_open(world: PairWorld) -> None:
    async def script(bot: DNPairBot) -> End:
        await bot.execute_build_cycle()
        return bot._say_end(End(ExitCode.DONE, "all cycles complete"))

    assert world.play(trade, script) == End(ExitCode.EXPOSED, "all cycles complete")
    assert re.search(r"END  all cycles complete; exposure: ETH-PERP \+\d\.\d+ ", said(world))


def test_a_defect_of_the_emergency_itself_is_said_and_ends_exposed(world: PairWorld) -> None:
    async def script(bot: DNPairBot) -> End:
        async def broken(*how: Any) -> Any:
            raise KeyError(4)

        vars(bot._emergency)["unwind"] = broken
        return await bot.flatten_now("test")

    assert world.play(trade, script).code is ExitCode.EXPOSED
    assert "emergency unwind failed: KeyError: 4" in said(world)


def test_flat_by_the_books_alone_is_no_clean_end(world: PairWorld) -> None:
    async def script(bot: DNPairBot) -> End:
        world.weather.rest_fails = 1.0
        end = await bot.flatten_now("asked for")
        world.weather.rest_fails = 0.0
        return end

    end = world.play(trade, script)
    assert (end.code, end.reason) == (ExitCode.EXPOSED, "asked for")
    assert "END  asked for; flat by our books, not confirmed by the exchange" in said(world)


def test_only_a_flat_pair_has_a_balance(world: PairWorld) -> None:
    async def script(bot: DNPairBot) -> list[int | None]:
        await bot.execute_build_cycle()
        entries = [bot._desk.order(tag) for tag in bot._desk.all_tags()]
        assert all(order is not None and order.is_covered for order in entries)  # by the reading that said so
        await bot.emergency_unwind_eth()
        found = [bot.cash_x18]
        assert not all(order.is_covered for tag in bot._desk.all_tags() if (order := bot._desk.order(tag)))
        await bot.emergency_unwind_sol()
        assert all(order.is_covered for tag in bot._desk.all_tags() if (order := bot._desk.order(tag)))
        return [*found, bot.cash_x18]

    first, second = world.play(trade, script)
    account = world.exchange.accounts.open(world.subaccount)
    assert first is None
    assert second == account.spot_x18(0) + sum(perp.v_quote_x18 for perp in account.perps.values())


def test_a_pair_that_was_taken_up_is_said_and_closed_as_planned(world: PairWorld) -> None:
    async def script(bot: DNPairBot) -> End:
        assert await bot.execute_build_cycle()
        start = replace(bot.state, cycle=3)
        return await bot.run_alternating_strategy(world.cash_x18, start)

    end = world.play(lambda products: plan(products=products, cycles=1, hold_ns=200_000_000), script)
    assert end.code is ExitCode.DONE
    assert re.search(r"c03 BUY_FIRST +taken up in phase HEDGED: ETH-PERP \+\d\.\d+ ", said(world))
    cycle = world.recorder.finished[-1]
    assert (cycle.iteration, cycle.failure) == (3, "")
    assert cycle.balance_change_x18 is None  # its entries were paid before


# ---------------------------------------------------------------------- leaving


def test_who_leaves_takes_a_question_back_and_his_handlers_with_him(world: PairWorld) -> None:
    async def script(bot: DNPairBot) -> Any:
        world.weather.rest_fails = 1.0
        bot._verify(Verify(1))
        question = bot._verifying
        await asyncio.sleep(0.01)
        assert world.feed is not None
        listening = [len(world.feed._handlers[kind]) for kind in ("fill", "position_change")]
        await bot._leave(End(ExitCode.DONE, "test"))
        world.weather.rest_fails = 0.0
        assert [len(world.feed._handlers[kind]) + 1 for kind in ("fill", "position_change")] == listening
        return question is not None and question.cancelled()

    assert world.play(trade, script) is True


@pytest.mark.parametrize("how", ["", "exchange", "left", "blind"])
def test_what_rests_is_taken_down_by_who_leaves_if_anybody_hears_him(world: PairWorld, how: str) -> None:
    async def script(bot: DNPairBot) -> tuple[float, int]:
        await rest_both_exits(world, bot)
        if how == "exchange":
            bot._p.exchange.gone.set()
        elif how == "left":
            world.stop.leave.set()
        elif how == "blind":
            vars(bot._p.guard)["blind_ns"] = lambda now_ns: 1_500_000_000
        since_s = world.loop.time()
        await bot._leave(End(ExitCode.EXPOSED, "test"))
        return world.loop.time() - since_s, len(world.resting())

    took_s, resting = world.play(trade, script)
    assert took_s < 2.1
    assert (resting == 0) is (how == "")


def test_a_halt_that_could_not_be_written_is_tried_once_more_by_who_leaves(
    world: PairWorld, tmp_path: Path
) -> None:
    path = tmp_path / "missing" / "halt.json"

    async def script(bot: DNPairBot) -> None:
        world.gate._switch = KillSwitch(path, clock_ns=lambda: 0)
        world.gate.halt("enough")
        path.parent.mkdir()
        await bot._leave(End(ExitCode.HALTED_FLAT, "enough"))

    world.play(trade, script)
    assert path.exists()


def test_the_day_is_written_at_the_end_however_shortly_before_it_was(world: PairWorld) -> None:
    async def script(bot: DNPairBot) -> tuple[list[int], int]:
        days, standing = Days(), bot._p.standing
        standing._day_store = days
        await bot.execute_buy_first_cycle()
        assert days.kept_x18  # now and then, while it goes on
        await bot.execute_build_cycle()
        standing.remember(at_once=True)
        await bot.flatten_now("test")
        return days.kept_x18, standing.day_pnl_x18()

    kept_x18, last_x18 = world.play(trade, script)
    assert kept_x18[-1] == last_x18 != kept_x18[-2]


def test_the_cycle_a_run_ends_in_is_on_record_as_flat_only_if_the_exchange_said_so(world: PairWorld) -> None:
    async def script(bot: DNPairBot) -> None:
        await bot.execute_build_cycle()
        await bot.flatten_now("test")

    world.play(trade, script)
    (cycle,) = world.recorder.finished
    assert (cycle.is_closed, cycle.failure) == (True, "test")
    assert [order.leg for order in cycle.orders] == [0, 1, 0, 1]


def test_between_two_cycles_flat_again_is_said_and_is_no_cycle(world: PairWorld) -> None:
    async def script(bot: DNPairBot) -> None:
        bot._desk.expect(OrderIntent(9, 0, ETH, Purpose.TAKE, 1, 1), 1)
        bot._cycle_end(CycleEnd(0, "a position of another"))
        assert bot._desk.all_tags() == frozenset()

    world.play(trade, script)
    assert "flat again: a position of another" in said(world)
    assert not world.recorder.finished
    assert world.exchange.books[ETH].of_account(world.subaccount) == []
