"""Exits that move by `cancel_and_place`, over sockets: as it should go, refused, and without an answer."""

from __future__ import annotations

from pathlib import Path

import pytest
from botproc import BotProcess, end_exchange, fault, positions, resting, state


@pytest.mark.parametrize(
    "what",
    [
        {},
        {"refuse": {"kind": "cancel_and_place", "code": 2121, "count": 2}},
        {"lose_reply": {"kind": "cancel_and_place", "count": 2}},
    ],
    ids=["in fair weather", "refused", "unanswered"],
)
def test_exits_that_move_end_flat_and_exact(tmp_path: Path, what: dict[str, object]) -> None:
    with BotProcess(
        tmp_path, "--cycles", "3", "--seed", "9", exchange__linger_s=30,
        exit__maker_timeout_s=1.5, exit__reprice_ms=50,
    ) as bot:  # fmt: skip
        control = bot.control
        if what:
            fault(control, **what)
        bot.wait_for("replace order", timeout_s=90)
        code = bot.finish(timeout_s=90)
        truth, pid = state(control), bot.exchange_pid
        end_exchange(pid)
    assert code == 0, bot.output + bot.stderr
    assert positions(truth) == {}
    assert resting(truth) == []
    assert "3 cycles complete" in bot.output
    assert "equal to the ledger to the last unit" in bot.output
    assert "Traceback" not in bot.output + bot.stderr
    moves = [one for one in truth["executes"] if one["execute"] == "cancel_and_place"]
    assert moves
    digests = [order["digest"] for order in truth["orders"]]
    assert len(digests) == len(set(digests))
