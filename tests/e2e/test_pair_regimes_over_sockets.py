"""Fifty cycles of the bot as a user starts it, over real sockets, without faults: one row of the table of
regimes, `make long SUITE=pair_regimes`. About three minutes, most of them waits for the order budget."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from botproc import ROOT, BotProcess, end_exchange, positions, resting, state

sys.path.append(str(ROOT / "tests" / "bot"))
import regimetable

CYCLES = 50
DEADLINE_S = 900


@pytest.mark.long
@pytest.mark.parametrize("regime", ["lively"])
def test_pair_over_sockets(tmp_path: Path, regime: str) -> None:
    with BotProcess(
        tmp_path,
        "--cycles",
        str(CYCLES),
        "--seed",
        "3",
        run__hold_s=0.5,
        exchange__linger_s=60,
        exchange__command=f"{sys.executable} -m nadosim --regime {regime}",
    ) as bot:
        assert bot.finish(timeout_s=DEADLINE_S) == 0, bot.output + bot.stderr
        truth, pid = state(bot.control), bot.exchange_pid
    end_exchange(pid)
    assert positions(truth) == {}
    assert resting(truth) == []
    figures = regimetable.of_files(bot.csv_path, bot.lines)
    regimetable.say([regimetable.row(f"{regime}, sockets", figures)])
    print(bot.output[bot.output.index("summary") :])
    regimetable.check_goals(figures, CYCLES)
    assert "equal to the ledger to the last unit" in bot.output
