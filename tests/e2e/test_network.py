"""Bot and exchange apart: TLS, a round trip of 1, 15 and 80 ms, jitter, stalls of lost segments, and cuts.

One cycle here, over a bad 15 ms. `make long SUITE=network` trades six cycles at each distance, calm and bad,
and prints what they took (`NADOFAST_CYCLES` for another number).
"""

from __future__ import annotations

import json
import os
import re
import ssl
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from botproc import BotProcess, positions, resting
from netpath import Conditions, NetPath
from simproc import SimProcess

CYCLES = int(os.environ.get("NADOFAST_CYCLES", "6"))
CYCLE_DEADLINE_S = 40.0
BAD = {"jitter_ms": 5.0, "loss": 0.002, "cut_every_s": 8.0}


def port_of(sim: SimProcess) -> int:
    port = urlsplit(sim.ready["control"]).port
    assert port is not None
    return port


@dataclass
class Far:
    """An exchange with TLS, and where its client finds it: a file that names the ports of the path."""

    sim: SimProcess
    path: NetPath
    directory: Path

    def bot(self, cycles: int, **settings: object) -> BotProcess:
        here, there = f":{self.path.port}", f":{port_of(self.sim)}"
        ready = {
            key: value.replace(there, here) if isinstance(value, str) else value
            for key, value in self.sim.ready.items()
        }
        (self.directory / "ready.json").write_text(json.dumps(ready))
        (self.directory / "trusted.pem").write_text(self.sim.ready["certificate"])
        return BotProcess(
            self.directory, "--cycles", str(cycles), "--exchange", str(self.directory / "ready.json"),
            secrets={"SSL_CERT_FILE": str(self.directory / "trusted.pem")},
            **{"output__state_dir": self.directory / "state", **settings},
        )  # fmt: skip

    def state(self) -> dict[str, Any]:
        """The exchange's own record, asked for without the path between."""
        trust = ssl.create_default_context(cadata=self.sim.ready["certificate"])
        with urllib.request.urlopen(f"{self.sim.ready['control']}/state", timeout=10, context=trust) as reply:
            found: dict[str, Any] = json.loads(reply.read())
            return found


@pytest.fixture
def far(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Far]:
    with SimProcess(seed=4, rate=150, tls=True, rate_limits=True) as sim:
        with NetPath(port_of(sim), request.param) as path:
            yield Far(sim, path, tmp_path)


def trade(far: Far, cycles: int) -> str:
    """Trade, and prove the end against the exchange; what the bot said."""
    with far.bot(cycles) as bot:
        code = bot.finish(timeout_s=30 + cycles * CYCLE_DEADLINE_S)
    assert code == 0, bot.output + bot.stderr
    truth = far.state()
    assert positions(truth) == {}
    assert resting(truth) == []
    assert "equal to the ledger to the last unit" in bot.output
    assert "Traceback" not in bot.output + bot.stderr
    digests = [order["digest"] for order in truth["orders"]]
    assert len(digests) == len(set(digests))
    return bot.output


def figures(output: str) -> list[str]:
    """The lines of the summary that say how long things took."""
    wanted = ("cycles complete", "build filled", "cycle time", "leg gap", "taker sent", "worst net delta")
    summary = output[output.index("summary") :]
    return [line.strip() for line in summary.splitlines() if any(word in line for word in wanted)]


@pytest.mark.parametrize("far", [Conditions(15, jitter_ms=5, loss=0.002)], indirect=True)
def test_a_cycle_over_a_network_with_loss(far: Far) -> None:
    output = trade(far, 1)
    assert "1 cycles complete" in output
    fill_ms = float(re.search(r"taker sent to fill seen ([0-9.]+) ms mean", output)[1])  # type: ignore[index]
    assert fill_ms >= 15 + 30, "the path was not in between"  # a round trip, and the exchange's own delay


@pytest.mark.parametrize("far", [Conditions(1)], indirect=True)
def test_a_cut_of_the_network_in_mid_cycle_ends_flat(far: Far) -> None:
    with far.bot(2, exit__maker_timeout_s=1) as bot:
        bot.wait_for("exit-rest  SOL-PERP")
        far.path.cut()
        assert bot.finish(timeout_s=60) == 0, bot.output + bot.stderr
    assert far.path.cuts == 1
    assert positions(far.state()) == {}
    assert "differs by" not in bot.output


@pytest.mark.long
@pytest.mark.parametrize(
    "far",
    [Conditions(rtt_ms, **more) for rtt_ms in (1, 15, 80) for more in ({}, BAD)],
    indirect=True,
    ids=lambda c: f"{c.rtt_ms}ms-{'bad' if c.loss else 'calm'}",
)
def test_network_at_a_distance(far: Far) -> None:
    began_s = time.monotonic()
    output = trade(far, CYCLES)
    path = far.path
    print(f"\n{path.conditions}: {path.connections} connections, {path.stalls} stalls, {path.cuts} cuts,"
          f" {time.monotonic() - began_s:.0f} s in all")  # fmt: skip
    print("\n".join(f"  {line}" for line in figures(output)))
