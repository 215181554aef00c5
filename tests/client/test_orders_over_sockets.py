"""Exactly once over real sockets: no order lost, none doubled, none signed twice for one intent.

Sixty scenarios here in six storms (about 25 s), five hundred by
`make long SUITE=orders_over_sockets_campaign SEEDS=0:50` (a seed is a storm of ten).
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from stormkit import Result, storm

TRADERS = 10


def show(result: Result, scenarios: int, took_s: float) -> None:
    known = sorted(result.known_ms)
    shares = (0.5, 0.9, 0.99, 0.999)
    spread = ", ".join(f"p{share * 100:g} {known[int(len(known) * share)]:.0f} ms" for share in shares)
    spread += f", max {known[-1]:.0f} ms"
    print(
        f"\n{scenarios} scenarios over sockets in {took_s:.0f} s: {len(known)} requests, {result.cuts} cuts,"
        f" {result.kinds}; outcome known: {spread}"
    )


async def campaign(storms: range, directory: Path) -> Result:
    total, began_s = Result(), time.monotonic()
    for number in storms:
        seeds = range(number * TRADERS, (number + 1) * TRADERS)
        (place := directory / str(number)).mkdir()
        result = await storm(seeds, place)
        assert not result.problems, "\n".join(result.problems)
        total.add(result)
    show(total, len(storms) * TRADERS, time.monotonic() - began_s)
    assert {"confirmed", "rejected"} <= total.kinds.keys()
    assert total.cuts
    return total


@pytest.mark.parametrize("first", [0, 3])
async def test_thirty_scenarios(tmp_path: Path, first: int) -> None:
    await campaign(range(first, first + 3), tmp_path)


@pytest.mark.long
async def test_orders_over_sockets_campaign(tmp_path: Path) -> None:
    first, _, end = os.environ.get("NADOFAST_SEEDS", "0:2").partition(":")
    await campaign(range(int(first), int(end)), tmp_path)
