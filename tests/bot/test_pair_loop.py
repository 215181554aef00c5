"""The pair's loop: what it looks at before it decides, when it waits, and what it asks the exchange."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from machinekit import plan
from pairworld import ETH, SOL, PairWorld

import bot.pair
from bot.execution import LegInputs
from bot.model import Action, Cancel, Direction, EntryMode, ExitCode, Phase, Plan, Send, Verify
from bot.pair import DNPairBot
from bot.reconcile import Reconciled
from bot.risk import Purpose
from nadofast.products import Product, to_x18


@pytest.fixture
def world(tmp_path: Path) -> PairWorld:
    return PairWorld(7, tmp_path)


def trade(products: tuple[Product, Product]) -> Plan:
    return plan(products=products, hold_ns=200_000_000)


def kinds(world: PairWorld, kind: str) -> list[Any]:
    return [entry.value for entry in world.entries if entry.kind == kind]


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


# ---------------------------------------------------------------------- asking the exchange


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
