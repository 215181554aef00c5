"""A bot that hangs with a pair open: named, ended after proof, and its pair closed from another terminal."""

from __future__ import annotations

import json
import signal
from pathlib import Path

from botproc import BotProcess, is_alive, positions, resting, state
from operatorkit import operator
from simproc import SimProcess


def test_a_hung_bot_is_ended_and_its_pair_closed(tmp_path: Path) -> None:
    exchange = tmp_path / "exchange.json"
    with SimProcess(seed=5) as sim:
        exchange.write_text(json.dumps(sim.ready))
        control = sim.ready["control"]
        with BotProcess(
            tmp_path, "--exchange", str(exchange), "--cycles", "50", run__hold_s=60,
            output__state_dir=tmp_path / "state",
        ) as bot:  # fmt: skip
            bot.wait_for("entry  SOL-PERP")
            bot.wait_for("entry  ETH-PERP")
            bot.signal(signal.SIGSTOP)
            assert len(positions(state(control))) == 2

            plain = operator(tmp_path, "flatten")
            assert (plain.returncode, plain.stdout) == (1, "")
            assert f"the process hangs (pid {bot.process.pid}, running for " in plain.stderr
            assert "flatten --force" in plain.stderr

            refused = operator(tmp_path, "flatten", "--force")
            assert refused.returncode == 2, refused
            assert "give the settings it runs with" in refused.stderr
            assert is_alive(bot.process.pid), "it is not ended for the wrong account"

            forced = operator(tmp_path, "flatten", "--force", "--exchange", str(exchange))
            assert forced.returncode == 0, forced.stdout + forced.stderr
            assert f"ended     pid {bot.process.pid}" in forced.stdout
            assert "END  flattened what was open at the start; flat" in forced.stdout
            assert bot.finish() == -signal.SIGKILL
        truth = state(control)
        assert positions(truth) == {}
        assert resting(truth) == []

        again = operator(tmp_path, "flatten", "--force", "--exchange", str(exchange))
        assert again.returncode == 0, again.stderr
        assert "nothing is open" in again.stdout
        dead = operator(tmp_path, "flatten")
        assert dead.returncode == 2
        assert "flatten --force" in dead.stderr
