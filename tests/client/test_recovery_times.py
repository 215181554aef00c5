"""From a fault to being right again: measured, and the questions asked meanwhile counted.

A few rounds of each here, against bounds that a busy machine keeps too. `make long SUITE=recovery_times` does
more of them against the goals themselves, and prints the table of the README.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import recoverykit
from faultkit import Exchange
from recoverykit import HEAD, LINK, PRODUCTS, Figure
from simproc import SimProcess

ROUNDS = int(os.environ.get("NADOFAST_ROUNDS", "100"))
"""Of each fault in the long run."""
BUSY = 5.0
"""By so much the goals are stretched where other processes may want the same cores."""


@pytest.fixture(scope="module")
def exchange() -> Iterator[Exchange]:
    with SimProcess(seed=31, rate=1000, accounts=16) as sim:
        yield Exchange(sim.ready)


def keeps(figure: Figure, stretch: float = 1.0) -> None:
    assert figure.goal_ms is None or figure.percentile(0.99) < figure.goal_ms * stretch, figure.line()


async def test_a_depth_gap_costs_one_question(exchange: Exchange) -> None:
    async with exchange.control() as control:
        figure = await recoverykit.depth_gaps(exchange, control, 5)
    keeps(figure, BUSY)
    assert max(figure.queries) <= 2, "one; a second only if the first snapshot was older than the gap"


async def test_a_cut_costs_one_question_a_book(exchange: Exchange) -> None:
    async with exchange.control() as control:
        market, _ = await recoverykit.cuts(exchange, control, 3)
    keeps(market, BUSY)
    assert max(market.queries) <= 2 * len(PRODUCTS)


async def test_a_mute_link_is_noticed_at_its_age_and_never_before(exchange: Exchange) -> None:
    async with exchange.control() as control:
        late, healed = await recoverykit.mutes(exchange, control, 2)
    assert min(late.samples) >= 0
    keeps(late, BUSY)
    assert max(healed.samples) < LINK.probe_timeout_s * 1_000, "the market moved without it: no need to wait"


async def test_two_links_lose_nothing(exchange: Exchange) -> None:
    async with exchange.control() as control:
        figure, lost, twice = await recoverykit.cuts_of_two(exchange, control, 4)
    assert (lost, twice) == (0, 0)
    assert figure.queries == [0]
    keeps(figure, BUSY)


async def test_fills_are_told_over_rest(exchange: Exchange) -> None:
    async with exchange.control() as control:
        position, _ = await recoverykit.fills_over_rest(exchange, control, 2)
    keeps(position, 2.0)


@pytest.mark.long
async def test_recovery_times_long(exchange: Exchange) -> None:
    async with exchange.control() as control:
        gap = await recoverykit.depth_gaps(exchange, control, ROUNDS)
        cut, account = await recoverykit.cuts(exchange, control, ROUNDS)
        two, lost, twice = await recoverykit.cuts_of_two(exchange, control, ROUNDS)
        late, healed = await recoverykit.mutes(exchange, control, max(ROUNDS // 4, 1))
        position, fill = await recoverykit.fills_over_rest(exchange, control, max(ROUNDS // 4, 1))
    two.note = f"{lost} messages lost, {twice} trades told twice"
    figures = (gap, cut, account, two, late, healed, position, fill)
    print("\n" + "\n".join([HEAD, *(figure.line() for figure in figures)]))
    assert (lost, twice) == (0, 0)
    assert min(late.samples) >= 0
    assert max(gap.queries) <= 2
    assert max(cut.queries) <= 2 * len(PRODUCTS)
    for figure in figures:
        keeps(figure)
