"""What a bot keeps is bounded: once its stores are full, cycles leave nothing behind.

`make long SUITE=memory_of_cycles`: the whole bot in virtual time, its stores cut to a few cycles so that they
fill soon, the kept memory by allocation in `bot` and `nadofast`.
"""

from __future__ import annotations

import functools
import gc
import logging
import tracemalloc
from collections import deque
from pathlib import Path

import pairworld
import pytest
from machinekit import plan
from pairworld import PairWorld

import bot.journal
import bot.ledger
import bot.recorder
from nadofast import OrderTracker

SEED = 3
SHORT, LONG = 100, 400  # by the first, windows of a minute are full, too
KEPT = [
    tracemalloc.Filter(False, "*/tests/*"),
    tracemalloc.Filter(True, "*/bot/*"),
    tracemalloc.Filter(True, "*/nadofast/*"),
]
MOST_BYTES_A_CYCLE = 64


def kept_after(cycles: int, directory: Path) -> int:
    """Bytes that the bot and the library hold after so many cycles."""
    directory.mkdir()
    tracemalloc.start()
    try:
        world = PairWorld(SEED, directory, has_limits=False)
        world.entries = deque(maxlen=100)  # type: ignore[assignment]  # the world's own record of a run
        end = world.run(lambda products: plan(products=products, cycles=cycles))
        assert (end.code.name, world.positions_x18()) == ("DONE", (0, 0))
        gc.collect()
        snapshot = tracemalloc.take_snapshot().filter_traces(KEPT[:1]).filter_traces(KEPT[1:])
    finally:
        tracemalloc.stop()
    return sum(trace.size for trace in snapshot.traces)


@pytest.mark.long
def test_memory_of_cycles_is_flat_once_the_stores_are_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    logging.disable(logging.ERROR)
    monkeypatch.setattr(pairworld, "OrderTracker", functools.partial(OrderTracker, max_finished=100))
    monkeypatch.setattr(bot.recorder, "KEPT_CYCLES", 20)
    monkeypatch.setattr(bot.journal, "MAX_ENDS", 100)
    monkeypatch.setattr(bot.ledger, "REMEMBERED_FILLS", 100)
    short, longer = (kept_after(cycles, tmp_path / str(cycles)) for cycles in (SHORT, LONG))
    logging.disable(logging.NOTSET)
    print(f"\nkept after {SHORT} cycles {short / 1024:.1f} KiB, after {LONG} {longer / 1024:.1f} KiB")
    assert longer - short < MOST_BYTES_A_CYCLE * (LONG - SHORT)
