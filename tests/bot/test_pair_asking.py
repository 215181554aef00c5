"""The pair asks the exchange where it stands: when, how often, and what it makes of the answer."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pairkit import kinds, rest_both_exits, trade
from pairworld import SOL, PairWorld

from bot.model import Cancel, CancelAll, ExitCode, Verify
from bot.pair import DNPairBot
from bot.reconcile import Reconciled
from nadofast.products import to_x18


@pytest.fixture
def world(tmp_path: Path) -> PairWorld:
    return PairWorld(7, tmp_path)


class Asked:
    """Stands before the reconciler: remembers the questions, and lets them through."""

    def __init__(self, bot: DNPairBot) -> None:
        self.with_orders: list[bool] = []
        self._verify = bot._p.reconciler.verify
        vars(bot._p.reconciler)["verify"] = self.verify

    async def verify(self, marks_x18: Any, *, with_orders: bool = False) -> Reconciled:
        self.with_orders.append(with_orders)
        return await self._verify(marks_x18, with_orders=with_orders)


@pytest.mark.parametrize(
    ("left_s", "asked", "waits", "with_orders"),
    [
        (None, False, False, False),
        (0.4, False, True, True),
        (0.0, False, False, True),
        (0.4, True, False, True),
    ],
)
def test_what_may_be_revived_is_waited_for_and_looked_for(
    world: PairWorld, left_s: float | None, asked: bool, waits: bool, with_orders: bool
) -> None:
    """An order that left twice may rest again; what is read after the last moment for that is certain. A
    recovery does not wait: it asks until it is certain."""

    async def script(bot: DNPairBot) -> tuple[float, list[bool], int]:
        vars(bot._desk).update(revival_left_s=lambda: left_s, pending=lambda: 3)
        seen, since_s = Asked(bot), world.loop.time()
        await bot._read_positions(Verify(9, with_orders=asked))
        return world.loop.time() - since_s, seen.with_orders, kinds(world, "verified")[-1]["pending"]

    took_s, questions, pending = world.play(trade, script)
    assert (took_s >= 0.4) is waits
    assert questions == [with_orders]
    assert pending == (3 if with_orders else 0)


def test_an_answer_about_the_positions_proves_that_the_exchange_is_there(world: PairWorld) -> None:
    async def script(bot: DNPairBot) -> tuple[int, int]:
        bot._p.guard._last_answer_ns = 0
        await bot._read_positions(Verify(9))
        return bot._p.guard._last_answer_ns, world.loop.now_ns()

    answered_ns, now_ns = world.play(trade, script)
    assert 0 <= now_ns - answered_ns < 10**9


@pytest.mark.parametrize("what", ["everything", "each of them"])
def test_a_cancel_takes_down_what_rests(world: PairWorld, what: str) -> None:
    async def script(bot: DNPairBot) -> int:
        await rest_both_exits(world, bot)
        if what == "everything":
            bot._cancel_all(CancelAll())
        else:
            for order in bot.open_orders():
                bot._cancel(Cancel(order.intent.tag, "maker timeout"))
        await asyncio.sleep(0.1)
        return len(world.resting())

    assert world.play(trade, script) == 0


def test_orders_are_covered_by_a_reading_that_says_so_and_no_more_of_them(world: PairWorld) -> None:
    """Without the books only what had ended; with empty books whatever the engine has decided on by then."""

    async def script(bot: DNPairBot) -> list[frozenset[int]]:
        ended, decided = frozenset({1}), frozenset({1, 2})
        vars(bot._desk).update(ended_tags=lambda: ended, decided_tags=lambda: decided)
        found = []
        for with_orders, resting in ((False, 0), (True, 0), (True, 1)):

            async def count(resting: int = resting) -> int:
                return resting

            vars(bot._p.reconciler)["count_resting"] = count
            _, covered = await bot._ask_positions(Verify(9, with_orders=with_orders))
            found.append(covered)
        return found

    assert world.play(trade, script) == [{1}, {1, 2}, {1}]


def test_a_question_that_is_asked_again_takes_the_place_of_the_first(world: PairWorld) -> None:
    async def script(bot: DNPairBot) -> list[int]:
        world.weather.rest_fails = 1.0
        bot._verify(Verify(7))
        first = bot._verifying
        await asyncio.sleep(0.01)
        bot._verify(Verify(8))
        world.weather.rest_fails = 0.0
        await asyncio.sleep(6.0)
        assert first is not None
        assert first.cancelled()
        return [value["seq"] for value in kinds(world, "verified")]

    assert world.play(trade, script) == [8]


def test_a_defect_of_the_reading_is_one_of_the_core(world: PairWorld) -> None:
    """Not a question without an answer: the pair is closed by the way that needs no machine."""

    async def script(bot: DNPairBot) -> Any:
        verify = bot._p.reconciler.verify

        async def broken(*marks: Any, **how: Any) -> Reconciled:
            vars(bot._p.reconciler)["verify"] = verify
            raise KeyError(4)

        vars(bot._p.reconciler)["verify"] = broken
        return await bot.run_alternating_strategy(world.cash_x18)

    end = world.play(trade, script)
    assert (end.code, end.reason) == (ExitCode.ERROR, "internal error: KeyError: 4")
    assert any(line.endswith("internal error: KeyError: 4; flattening") for line in world.said.lines)
    assert world.gate.halt_reason == end.reason
    assert world.positions_x18() == (0, 0)


def test_what_the_exchange_moved_is_said_in_position_and_in_cash(world: PairWorld) -> None:
    async def script(bot: DNPairBot) -> list[str]:
        await bot.execute_buy_first_cycle()
        world.exchange.fund(world.subaccount, to_x18(7))
        await bot._read_positions(Verify(1))
        account = world.exchange.accounts.open(world.subaccount)
        account.perps[SOL].amount_x18 += to_x18("0.5")
        await bot._read_positions(Verify(2))
        cash_x18 = bot.cash_x18
        account.perps[SOL].amount_x18 -= to_x18("0.5")
        assert cash_x18 is None  # something is held: it is no balance of a flat pair
        quiet = len(world.said.lines)
        await bot._read_positions(Verify(3))
        await bot._read_positions(Verify(4))
        assert bot.cash_x18 is not None
        return [*world.said.lines[:quiet], f"then {len(world.said.lines) - quiet} line"]

    said = "\n".join(world.play(trade, script))
    assert "cash of the exchange differs by +7 USD" in said
    assert "position taken over from the exchange, drift 0, +0.5: unknown" in said
    assert said.endswith("then 1 line")


def test_a_cancel_says_what_had_filled_and_only_moves_of_the_market_count_as_reprices(
    world: PairWorld,
) -> None:
    async def script(bot: DNPairBot) -> list[int]:
        assert await bot.execute_build_cycle()
        cycle = bot._p.recorder.cycle
        assert cycle is not None
        bot._state = replace(bot.state, wanted=None)
        tags = list(bot._desk.all_tags())
        counts = []
        for why in ("maker timeout", "market moved"):
            bot._cancel(Cancel(tags[0], why))
            counts.append(cycle.repricing_count)
        vars(bot._desk)["view"] = lambda tag: replace(bot._desk.order(tag).view(), filled_x18=0)  # type: ignore[union-attr]
        bot._cancel(Cancel(tags[0], "maker timeout"))
        del vars(bot._desk)["view"]
        await bot.execute_unwind_cycle()
        return counts

    assert world.play(trade, script) == [0, 1]
    told = [line.partition("cancel order ")[2] for line in world.said.lines if "cancel order" in line][:3]
    assert [line.partition(": ")[2].partition(",")[0] for line in told] == [
        "maker timeout",
        "market moved",
        "maker timeout",
    ]
    assert ["filled so far" in line for line in told] == [True, True, False]
