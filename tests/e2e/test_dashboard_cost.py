"""What a dashboard costs the trading process, in one run at 2,000 messages a second.

`make long SUITE=dashboard_cost`: windows with and without a dashboard take turns, each of them first in
every other pair; CPU time of the process is the kernel's, lag of its loop the bot's own.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import orjson
import pytest
from botproc import ROOT, BotProcess
from simproc import SimProcess

from bot import control
from bot.looplag import WINDOW_S
from bot.status import Status, from_json

RATE = 2_000
OFFERED = 3_000  # of all products; the bot follows two of them
ROUNDS = 9
MOST_MORE = 1.02


@dataclass(frozen=True)
class Window:
    cpu: float
    lag_p50_ms: float
    lag_p99_ms: float
    rate: float


def status(socket: Path) -> Status:
    return from_json(orjson.dumps(control.ask(socket, {"do": "status"}, 10.0)["status"]))


def cpu_ns(pid: int) -> int:
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0])


def window(bot: BotProcess, socket: Path) -> Window:
    """Long enough for the loop's last whole window to lie inside."""
    before, cpu, began = status(socket), cpu_ns(bot.process.pid), time.monotonic()
    time.sleep(2 * WINDOW_S + 1)
    took, used, after = time.monotonic() - began, cpu_ns(bot.process.pid) - cpu, status(socket)
    lag = after.latencies["loop lag"]
    rate = (after.counters["messages"] - before.counters["messages"]) / took
    return Window(used / took / 1e9, lag["p50"], lag["p99"], rate)


@contextmanager
def dashboard(tmp_path: Path) -> Iterator[None]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("NADO_")}
    arguments = [sys.executable, "-m", "bot", "dashboard"]
    environ = clean | {"NADO_BOT_OUTPUT__STATE_DIR": str(tmp_path / "state")}
    with subprocess.Popen(arguments, cwd=ROOT, env=environ, stdout=subprocess.PIPE, text=True) as watching:
        assert watching.stdout is not None
        assert watching.stdout.readline()
        yield
        assert watching.poll() is None
        watching.terminate()
        watching.stdout.read()


@pytest.mark.long
def test_dashboard_cost(tmp_path: Path) -> None:
    exchange = tmp_path / "exchange.json"
    with SimProcess(seed=5, rate=OFFERED) as sim:
        exchange.write_text(json.dumps(sim.ready))
        with BotProcess(
            tmp_path, "--exchange", str(exchange), run__hold_s=3_600, output__state_dir=tmp_path / "state"
        ) as bot:
            bot.wait_for("entry  SOL-PERP")
            (socket,) = (tmp_path / "state").glob("*/control.sock")
            alone, watched = [], []
            for turn in range(ROUNDS):
                if turn % 2 == 0:
                    alone.append(window(bot, socket))
                with dashboard(tmp_path):
                    watched.append(window(bot, socket))
                if turn % 2:
                    alone.append(window(bot, socket))
            control.ask(socket, {"do": "flatten"})
            assert bot.finish() == 0
    for name, found in (("alone", alone), ("watched", watched)):
        print(
            f"{name:<8} {statistics.median(w.rate for w in found):.0f} messages/s,"
            f" CPU {100 * statistics.median(w.cpu for w in found):.2f} % of a core,"
            f" loop lag p50 {statistics.median(w.lag_p50_ms for w in found):.3f} ms,"
            f" p99 {statistics.median(w.lag_p99_ms for w in found):.3f} ms"
            f" ({min(w.lag_p99_ms for w in found):.3f} to {max(w.lag_p99_ms for w in found):.3f})"
        )
    more = statistics.median(w.cpu / a.cpu for a, w in zip(alone, watched, strict=True))
    lag = statistics.median(w.lag_p99_ms / a.lag_p99_ms for a, w in zip(alone, watched, strict=True))
    print(f"with a dashboard: CPU x {more:.4f}, loop lag p99 x {lag:.3f} (medians of {ROUNDS} pairs)")
    assert min(w.rate for w in alone + watched) > RATE
    assert more < MOST_MORE
    assert lag < 1.25
