"""kill -9 on either side: exposure is named, the exchange goes with its bot, no order stays behind."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest
from botproc import BotProcess, end_exchange, fault, is_alive, positions, resting, state, wait_until_gone


@pytest.mark.parametrize(
    ("moment", "expected"),
    [
        ("entry  SOL-PERP", "exposure: ETH-PERP "),
        ("exit-rest  SOL-PERP", "unfinished order"),
        ("BUILD", "exposure: "),
    ],
)
def test_kill_of_the_exchange_in_mid_cycle(tmp_path: Path, moment: str, expected: str) -> None:
    with BotProcess(tmp_path, "--seed", "4", "--cycles", "50") as bot:
        pid = bot.exchange_pid
        bot.wait_for(moment)
        killed = time.monotonic()
        os.kill(pid, signal.SIGKILL)
        code = bot.finish(timeout_s=15)
        took_s = time.monotonic() - killed
    assert code == 4, bot.output + bot.stderr
    assert took_s < 10
    assert bot.stderr.startswith("bot: the embedded exchange was killed by SIGKILL")
    assert expected in bot.stderr
    assert bot.stderr.count("\n") == 1
    assert "Traceback" not in bot.output + bot.stderr
    assert "close complete 0 % (0/1)" in bot.output
    assert "not closed by the exchange's word" in bot.output
    assert "exchange balance not read" in bot.output


def test_kill_of_the_bot_ends_its_exchange(tmp_path: Path) -> None:
    with BotProcess(tmp_path, "--seed", "4", run__hold_s=30) as bot:
        bot.wait_for("entry  SOL-PERP")
        pid = bot.exchange_pid
        bot.process.kill()
        wait_until_gone(pid, 5)


def test_a_resting_exit_of_a_dead_bot_dies_by_its_own_expiration(tmp_path: Path) -> None:
    """The market stands still, so nothing fills; the exchange lingers, so that its book can be looked at."""
    with BotProcess(
        tmp_path, "--seed", "4", exchange__linger_s=30, exit__maker_timeout_s=2, run__hold_s=2
    ) as bot:
        bot.wait_for("entry  SOL-PERP")
        bot.wait_for("entry  ETH-PERP")
        pid, control = bot.exchange_pid, bot.control
        fault(control, pause_market=True)
        bot.wait_for("exit-rest  SOL-PERP")
        deadline = time.monotonic() + 1.8
        while not resting(state(control)) and time.monotonic() < deadline:
            time.sleep(0.02)
        bot.process.kill()
        assert resting(state(control)), "the orders rest when the bot dies"
        died = time.monotonic()
        while resting(state(control)):
            assert time.monotonic() - died < 2 + 5 + 3, "an order outlived its time"
            time.sleep(0.1)
        assert is_alive(pid)
        truth = state(control)
        ends = {order["end"] for order in truth["orders"] if order["order_type"] == "post_only"}
        assert ends == {"expired"}
        assert len(positions(truth)) == 2
        end_exchange(pid)
