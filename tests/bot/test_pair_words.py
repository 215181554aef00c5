"""What is read and kept of a cycle: the operator's lines, the ids on them, and the records."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from machinekit import plan
from pairworld import PairWorld

from bot.model import ExitCode, Phase, Plan
from bot.pair import DNPairBot
from nadofast.products import Product, to_x18


@pytest.fixture
def world(tmp_path: Path) -> PairWorld:
    return PairWorld(7, tmp_path)


def trade(products: tuple[Product, Product]) -> Plan:
    return plan(products=products, hold_ns=200_000_000)


def said(world: PairWorld) -> str:
    return "\n".join(world.said.lines)


def test_what_the_operator_reads_of_a_cycle(world: PairWorld) -> None:
    """Each order once when it is sent and once when it has ended, with signs, prices and how it filled."""
    end = world.run(lambda products: plan(products=products, cycles=1, hold_ns=200_000_000))
    assert (end.code, end.reason) == (ExitCode.DONE, "all cycles complete")
    lines = [line.partition("BUY_FIRST  ")[2].strip() for line in world.said.lines if "BUY_FIRST  " in line]
    eth, sol = r"\d\.\d+", r"\d(\.\d)?"
    wanted = [
        rf"BUILD  ETH-PERP \+{eth}, SOL-PERP -{sol}",
        rf"send   ETH-PERP \+{eth} cross to \d+(\.\d)?",
        rf"send   SOL-PERP -{sol} cross to \d+(\.\d+)?",
        rf"entry  ETH-PERP \+{eth} filled whole at \d+\.\d{{4}}",
        rf"entry  SOL-PERP -{sol} filled whole at \d+\.\d{{4}}",
        rf"exit-rest  ETH-PERP -{eth} rest at \d+(\.\d)?",
        rf"exit-rest  SOL-PERP \+{sol} rest at \d+(\.\d+)?",
    ]
    for pattern in wanted:
        assert sum(re.fullmatch(pattern, line) is not None for line in lines) == 1, (pattern, lines)
    assert "emergency" not in said(world)
    assert sum(line.endswith("END  all cycles complete; flat") for line in world.said.lines) == 1
    table = next(
        line for line in world.said.lines if "ETH-PERP" in line and "SOL-PERP" in line and "\n" in line
    )
    assert table.index("ETH-PERP") < table.index("SOL-PERP")
    (cycle,) = world.recorder.finished
    sent = [line for line in lines if " cross to " in line or " rest at " in line]
    ended = [line for line in lines if " filled " in line or "without a fill" in line]
    assert len(sent) == len(ended) == len(cycle.orders)
    assert cycle.repricing_count == sum("market moved" in line for line in lines)
    assert cycle.hedged_at is not None
    assert cycle.first_fill_mids_x18 is not None
    assert cycle.reconciliation_ms
    trades = next(path for path in world.directory.glob("trades-7.csv"))
    assert len(trades.read_text().splitlines()) == 1 + len(cycle.orders)


def test_what_a_program_follows_an_order_by(world: PairWorld) -> None:
    """One signal a decision, on the lines of both legs, from being sent to having ended; none is kept."""
    told: list[tuple[str, dict[str, Any]]] = []

    async def script(bot: DNPairBot) -> dict[int, str]:
        event = bot._p.log.event
        vars(bot._p.log)["event"] = lambda text, **ids: (told.append((text, ids)), event(text, **ids))
        assert await bot.execute_build_cycle()
        during = dict(bot._signals)
        await bot.execute_unwind_cycle()
        assert bot._signals == {}
        return during

    signals = world.play(trade, script)
    assert sorted(signals) == [1, 2]
    entries = [ids for text, ids in told if text.startswith(("send ", "entry "))]
    assert [ids["tag"] for ids in entries].count(1) == [ids["tag"] for ids in entries].count(2) == 2
    assert {ids["signal"] for ids in entries} == set(signals.values())
    assert len(set(signals.values())) == 1
    exits = {ids["signal"] for text, ids in told if text.startswith("exit-")}
    assert exits
    assert not exits & set(signals.values())


def test_an_exit_that_follows_the_market_is_read_and_counted_each_time(world: PairWorld) -> None:
    """Each new order stands beside the one whose place it takes, with an id of its own."""
    told: list[tuple[str, dict[str, Any]]] = []

    async def script(bot: DNPairBot) -> None:
        event = bot._p.log.event
        vars(bot._p.log)["event"] = lambda text, **ids: (told.append((text, ids)), event(text, **ids))
        for _ in range(4):
            await bot.execute_buy_first_cycle()

    world.play(trade, script)
    moves = [(text, ids) for text, ids in told if "market moved" in text]
    assert len(moves) == sum(cycle.repricing_count for cycle in world.recorder.finished) > 0
    for text, ids in moves:
        pattern = (
            r"replace order (\d+): market moved; exit-rest  (ETH|SOL)-PERP [+-]\d(\.\d+)? rest at \d+(\.\d+)?"
        )
        found = re.fullmatch(pattern, text)
        assert found is not None, text
        assert ids["tag"] != int(found[1])
        assert str(ids["signal"]).endswith(f"-{ids['tag']}")


def test_the_phases_are_told_to_the_records_when_they_begin(world: PairWorld) -> None:
    told: list[Phase] = []

    async def script(bot: DNPairBot) -> None:
        changed = bot._p.recorder.phase_changed
        vars(bot._p.recorder)["phase_changed"] = lambda phase: (told.append(phase), changed(phase))
        await bot.execute_buy_first_cycle()

    world.play(trade, script)
    # by hand, the way out begins between two decisions
    assert told == [Phase.BUILDING, Phase.HEDGED, Phase.FLAT]


def test_a_cycle_that_cannot_begin_is_said_to_be_skipped(world: PairWorld) -> None:
    def small(products: tuple[Product, Product]) -> Plan:
        made = plan(products=products, cycles=1, max_skips=1)
        return replace(made, sizing=replace(made.sizing, budget_x18=to_x18(50)))

    end = world.run(small)
    assert (end.code, end.reason) == (ExitCode.ERROR, "1 cycles skipped in a row")
    assert "skipped: ETH-PERP: the smallest legal leg needs" in said(world)
    assert not world.recorder.finished


def test_a_leg_that_is_refused_is_told_without_a_fill_and_a_part_as_what_it_is(world: PairWorld) -> None:
    async def script(bot: DNPairBot) -> None:
        world.dead_leg = 8
        await bot.execute_buy_first_cycle()

    world.play(trade, script)
    assert re.search(r"entry  SOL-PERP -\d(\.\d)? rejected without a fill", said(world))
    assert re.search(r"entry  ETH-PERP \+\d\.\d+ filled whole at", said(world))
