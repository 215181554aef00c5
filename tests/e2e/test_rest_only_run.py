"""The REST-only roll-back: `websocket.enabled = false` trades whole cycles without one WebSocket."""

from __future__ import annotations

from pathlib import Path

from botproc import BotProcess, end_exchange, health, positions, resting, state


def test_two_cycles_without_a_websocket_end_flat_and_exact(tmp_path: Path) -> None:
    with BotProcess(
        tmp_path, "--cycles", "2", "--seed", "3",
        websocket__enabled="false", exchange__linger_s=30, exit__maker_timeout_s=1,
    ) as bot:  # fmt: skip
        assert bot.finish() == 0, bot.output + bot.stderr
        truth, counters, pid = state(bot.control), health(bot.control), bot.exchange_pid
        text = bot.output
    end_exchange(pid)
    assert bot.stderr == ""
    assert counters["sockets_accepted"] == {}
    assert positions(truth) == {}
    assert resting(truth) == []
    assert "REST ONLY  websocket.enabled = false" in text
    assert "account read over REST" in text
    assert "2 cycles complete (BUY_FIRST 1, SELL_FIRST 1), 0 failed" in text
    assert "equal to the ledger to the last unit" in text
    assert text.count("equal to the last unit") == 2
