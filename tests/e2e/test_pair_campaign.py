"""The pair over real sockets, in fair weather and in a storm.

`make long SUITE=campaign_of_twenty SEEDS=0:5`: twenty cycles a seed without faults, about 70 s each.
`make long SUITE=storm_over_sockets SEEDS=0:10`: two hundred cycles with time-outs divided by ten, a fault
every few tenths of a second and bots that are killed; one table at the end. Six of them run always.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import pairstorm
import pytest
from botproc import BotProcess, end_exchange, positions, resting, state
from pairstorm import Storm

CYCLES = 20
MAX_MEAN_CYCLE_S = 10.0
STORMS: list[Storm] = []


def seeds() -> list[int]:
    """`NADOFAST_SEEDS`, as `first:end`."""
    first, _, end = os.environ.get("NADOFAST_SEEDS", "0:2").partition(":")
    return list(range(int(first), int(end)))


@pytest.mark.long
@pytest.mark.parametrize("seed", seeds())
def test_campaign_of_twenty_cycles(tmp_path: Path, seed: int) -> None:
    with BotProcess(tmp_path, "--cycles", str(CYCLES), "--seed", str(seed), exchange__linger_s=30) as bot:
        assert bot.finish(timeout_s=CYCLES * MAX_MEAN_CYCLE_S) == 0, bot.output + bot.stderr
        truth, pid, text = state(bot.control), bot.exchange_pid, bot.output
    end_exchange(pid)
    print(text[text.index("summary") :])
    assert positions(truth) == {}
    assert resting(truth) == []
    assert f"build filled 100 % ({CYCLES}/{CYCLES}) · close complete 100 % ({CYCLES}/{CYCLES})" in text
    assert text.count("equal to the last unit") == CYCLES
    mean = re.search(r"cycle time ([0-9.]+) s mean", text)
    assert mean is not None
    assert float(mean[1]) < MAX_MEAN_CYCLE_S


def play(seed: int, directory: Path, cycles: int) -> Storm:
    storm = Storm(seed, directory, cycles)
    storm.run()
    assert storm.beyond == []
    assert storm.cycles.total() >= cycles
    return storm


def test_twelve_cycles_in_a_storm_end_flat_and_exact(tmp_path: Path) -> None:
    storm = play(1, tmp_path, 12)
    print("\n".join(pairstorm.lines([storm])))
    assert storm.struck.total() >= 6


@pytest.mark.long
@pytest.mark.parametrize("seed", seeds())
def test_storm_over_sockets(tmp_path: Path, seed: int) -> None:
    STORMS.append(play(seed, tmp_path, CYCLES))
    print("\n" + "\n".join(pairstorm.lines(STORMS)), flush=True)
