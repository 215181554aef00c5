"""Signals at any point of a cycle: the first one drains, the second one flattens, the third one leaves."""

from __future__ import annotations

import os
import re
import signal
import time
from pathlib import Path

import pytest
from botproc import BotProcess, end_exchange, fault, positions, resting, state, wait_until_gone

# A spread of moments: connecting, before the fills, while holding, while resting, after one leg is out.
MOMENTS = [
    (signal.SIGINT, "exchange  pid"),
    (signal.SIGINT, "BUILD"),
    (signal.SIGTERM, "entry  SOL-PERP"),
    (signal.SIGINT, "exit-rest  SOL-PERP"),
    (signal.SIGTERM, re.compile(r"exit-rest  ETH-PERP \S+ filled")),
]


@pytest.mark.parametrize(("number", "moment"), MOMENTS)
def test_a_signal_ends_flat(tmp_path: Path, number: signal.Signals, moment: str | re.Pattern[str]) -> None:
    with BotProcess(tmp_path, "--cycles", "50", "--seed", "4", exchange__linger_s=30) as bot:
        bot.wait_for(moment)
        asked = time.monotonic()
        bot.signal(number)
        code = bot.finish()
        took_s = time.monotonic() - asked
        truth, pid = state(bot.control), bot.exchange_pid
    assert code == 0, bot.output + bot.stderr
    assert took_s < 30
    assert positions(truth) == {}
    assert resting(truth) == []
    assert "Traceback" not in bot.output + bot.stderr
    end_exchange(pid)


def test_a_first_signal_lets_the_open_cycle_end_as_planned(tmp_path: Path) -> None:
    with BotProcess(tmp_path, "--cycles", "50", "--seed", "4", run__hold_s=1.0) as bot:
        bot.wait_for("entry  SOL-PERP")
        bot.signal(signal.SIGTERM)
        assert bot.finish() == 0, bot.output + bot.stderr
    assert "1 cycles complete" in bot.output
    assert "unwinding: " not in bot.output
    assert "END  drained on request; flat" in bot.output
    assert (
        "SIGTERM: the open cycle ends as planned; once more, and what is open crosses at once" in bot.output
    )


def test_a_second_signal_flattens_in_the_middle_of_the_hold(tmp_path: Path) -> None:
    with BotProcess(tmp_path, "--seed", "4", run__hold_s=30, exchange__linger_s=30) as bot:
        bot.wait_for("entry  SOL-PERP")
        bot.wait_for("entry  ETH-PERP")
        bot.signal(signal.SIGINT)
        bot.signal(signal.SIGTERM)
        asked = time.monotonic()
        assert bot.finish() == 0, bot.output + bot.stderr
        truth, pid = state(bot.control), bot.exchange_pid
    assert time.monotonic() - asked < 13
    assert "unwinding: stop requested" in bot.output
    assert positions(truth) == {}
    assert resting(truth) == []
    end_exchange(pid)


def test_a_drain_that_takes_too_long_flattens_by_itself(tmp_path: Path) -> None:
    with BotProcess(tmp_path, "--seed", "4", run__hold_s=30, run__drain_deadline_s=1) as bot:
        bot.wait_for("entry  SOL-PERP")
        bot.wait_for("entry  ETH-PERP")
        asked = time.monotonic()
        bot.signal(signal.SIGINT)
        assert bot.finish() == 0, bot.output + bot.stderr
    assert 1 < time.monotonic() - asked < 14
    assert "positions now: none" in bot.output


def test_a_third_signal_leaves_at_once_and_names_what_is_open(tmp_path: Path) -> None:
    with BotProcess(tmp_path, "--seed", "4", run__hold_s=30) as bot:
        bot.wait_for("entry  SOL-PERP")
        bot.wait_for("entry  ETH-PERP")
        pid = bot.exchange_pid
        fault(bot.control, pause_market=True)
        bot.signal(signal.SIGINT)
        bot.signal(signal.SIGTERM)
        bot.signal(signal.SIGINT)
        asked = time.monotonic()
        code = bot.finish()
    assert time.monotonic() - asked < 5
    assert code in (0, 4)  # 0 only if the exits filled before the third signal was seen
    if code == 4:
        # Signals that wait together are taken in the kernel's order, so either may be the third.
        assert re.match(
            "bot: third request to stop after SIG(INT|TERM): left at once; exposure: ", bot.stderr
        )
        assert bot.stderr.count("\n") == 1
    wait_until_gone(pid, 5)


def test_a_stop_that_cannot_be_obeyed_says_why(tmp_path: Path) -> None:
    """The exchange is halted by the operating system, so nothing can be flattened: named, not waited out."""
    with BotProcess(tmp_path, "--seed", "4", run__hold_s=30, risk__max_blind_s=1) as bot:
        bot.wait_for("entry  SOL-PERP")
        bot.wait_for("entry  ETH-PERP")
        pid = bot.exchange_pid
        os.kill(pid, signal.SIGSTOP)
        asked = time.monotonic()
        bot.signal(signal.SIGINT)
        bot.wait_for("END  nothing heard from the exchange")
        said_s = time.monotonic() - asked
        assert bot.finish() == 4
    assert said_s < 5
    assert "exposure: ETH-PERP +" in bot.stderr
    assert bot.stderr.count("\n") == 1
    wait_until_gone(pid, 5)
