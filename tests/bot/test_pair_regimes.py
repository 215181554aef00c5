"""Fifty cycles in each frozen regime without faults: `make long SUITE=pair_regimes` prints one table."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import regimetable
from machinekit import plan
from pairworld import PairWorld
from regimetable import Figures, of_cycle

from bot.model import Plan
from nadofast.products import Product
from nadosim.regimes import REGIMES

CYCLES = 50
SEED = 3


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    logging.disable(logging.ERROR)
    yield
    logging.disable(logging.NOTSET)


def fifty(products: tuple[Product, Product]) -> Plan:
    return plan(products=products, cycles=CYCLES)


def play(regime: str, directory: Path) -> tuple[PairWorld, list[Figures]]:
    world = PairWorld(SEED, directory, regime=regime, has_limits=False)
    end = world.run(fifty)
    assert (end.code.name, world.positions_x18()) == ("DONE", (0, 0))
    assert world.ledger_verdict() == "equal"
    return world, [of_cycle(cycle) for cycle in world.cycles]


@pytest.mark.long
def test_pair_in_every_regime(tmp_path: Path) -> None:
    found = {}
    for regime in ("calm", "lively", "thin", "jumpy"):
        _, found[regime] = play(regime, tmp_path)
        regimetable.say([regimetable.row(name, cycles) for name, cycles in found.items()])
    assert set(found) == set(REGIMES)
    for regime in ("calm", "lively"):
        regimetable.check_goals(found[regime], CYCLES)


def test_a_row_is_made_of_what_the_exchange_has_seen(tmp_path: Path) -> None:
    """Two cycles: the figures are those of the exchange's own record."""
    world = PairWorld(SEED, tmp_path, has_limits=False)
    world.run(lambda products: plan(products=products, cycles=2))
    figures = [of_cycle(cycle) for cycle in world.cycles]
    fills = [fill for fill in world.exchange.fills_state() if fill["subaccount"] == world.subaccount]
    entries = [order for order in world.exchange.orders_state() if order["order_type"] == "ioc"]
    assert sum(c.net_usd for c in figures) * 10**18 == sum(int(fill["quote_net"]) for fill in fills)
    assert [c.at_once for c in figures] == [True, True]
    assert len([order for order in entries if not order["reduce_only"]]) == 4
    files = regimetable.of_files(tmp_path / f"trades-{SEED}.csv", "\n".join(world.said.lines).splitlines())
    assert regimetable.row("", files) == regimetable.row("", figures)
