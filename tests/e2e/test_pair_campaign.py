"""Twenty cycles a seed over real sockets. `make long SUITE=campaign SEEDS=0:5`: about 70 s a seed."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from botproc import BotProcess, end_exchange, positions, resting, state

CYCLES = 20
MAX_MEAN_CYCLE_S = 10.0


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
