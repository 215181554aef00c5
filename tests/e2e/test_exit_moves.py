"""Exits that move by `cancel_and_place`, over sockets: as it should go, refused, and without an answer."""

from __future__ import annotations

import re
import signal
import sys
from pathlib import Path

import pytest
from botproc import BotProcess, assert_flat_and_exact, end_exchange, fault, state


@pytest.mark.parametrize(
    "what",
    [
        {},
        {"refuse": {"kind": "cancel_and_place", "code": 2121, "count": 1}},
        {"lose_reply": {"kind": "cancel_and_place", "count": 1}},
    ],
    ids=["in fair weather", "refused", "unanswered"],
)
def test_exits_that_move_end_flat_and_exact(tmp_path: Path, what: dict[str, object]) -> None:
    """In a market that runs away now and then; as many cycles as it takes for one to move."""
    with BotProcess(
        tmp_path, "--cycles", "100", "--seed", "9", exchange__linger_s=30, exit__reprice_ms=10,
        run__hold_s=0.05, exchange__command=f"{sys.executable} -m nadosim --regime jumpy",
    ) as bot:  # fmt: skip
        control = bot.control
        if what:
            fault(control, **what)
        bot.wait_for("replace order", timeout_s=120)
        bot.signal(signal.SIGTERM)  # the running cycle goes its way
        code = bot.finish(timeout_s=60)
        truth, pid = state(control), bot.exchange_pid
        end_exchange(pid)
    assert_flat_and_exact(bot, code, truth)
    if "refuse" in what:  # at the door: the engine has not seen it
        assert re.search(r"exit-rest .* rejected without a fill", bot.output)
    else:
        assert "cancel_and_place" in {one["execute"] for one in truth["executes"]}
    digests = [order["digest"] for order in truth["orders"]]
    assert len(digests) == len(set(digests))
