"""A running bot in its operator's hands: asked, watched, told to stop, from another process."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import signal
import subprocess
import sys
import termios
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from botproc import ROOT, BotProcess, end_exchange, fault
from operatorkit import Alerts, metrics, operator, webhook
from simproc import SimProcess

from bot import control

QUIET = {"exit__maker_timeout_s": 1, "metrics__port": 0}


@dataclass(frozen=True)
class Exchange:
    """One for all tests that leave it flat. file: what `--exchange` takes."""

    file: Path
    control: str


@pytest.fixture(scope="module")
def exchange(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Exchange]:
    with SimProcess(seed=5) as sim:
        file = tmp_path_factory.mktemp("exchange") / "exchange.json"
        file.write_text(json.dumps(sim.ready))
        yield Exchange(file, str(sim.ready["control"]))


def start(tmp_path: Path, exchange: Exchange | None, **settings: object) -> BotProcess:
    """At that exchange, or at one of its own."""
    arguments = () if exchange is None else ("--exchange", str(exchange.file))
    return BotProcess(
        tmp_path, *arguments, "--seed", "5", "--cycles", "50",
        **{"output__state_dir": tmp_path / "state", **QUIET, **settings},
    )  # fmt: skip


def test_status_dashboard_and_metrics_tell_the_same_story_and_flatten_ends_it(
    exchange: Exchange, tmp_path: Path
) -> None:
    with start(tmp_path, exchange, run__hold_s=60) as bot:
        bot.wait_for("entry  SOL-PERP")
        bot.wait_for("entry  ETH-PERP")
        seen: dict[str, Any] = {}
        while seen.get("phase") != "HEDGED":
            seen = json.loads(operator(tmp_path, "status", "--json").stdout)
        eth, sol = seen["legs"]
        assert float(eth["position"]) > 0 > float(sol["position"])
        assert (seen["pid"], seen["halt"], seen["cycle"]) == (bot.process.pid, "", 1)
        assert all(link["state"] == "LIVE" for link in seen["links"])
        page = metrics(bot)
        assert 'nadofast_phase{phase="HEDGED"} 1.0' in page
        assert f'nadofast_position{{product="ETH-PERP"}} {float(eth["position"])}' in page
        picture = operator(tmp_path, "dashboard", "--once", COLUMNS="140").stdout
        for part in ("HEDGED", f"ETH-PERP  {eth['position']}", "book valid", "daily loss"):
            assert part in picture
        assert operator(tmp_path, "alive").returncode == 0
        told = operator(tmp_path, "flatten")
        assert (told.returncode, told.stderr) == (0, "")
        assert bot.finish() == 0
    assert "positions now: none" in bot.output
    assert "equal to the ledger to the last unit" in bot.output
    gone = operator(tmp_path, "status")
    assert (gone.returncode, gone.stdout) == (2, "")
    assert gone.stderr.endswith("no bot is running\n")


def test_drain_lets_the_cycle_end_as_planned(exchange: Exchange, tmp_path: Path) -> None:
    with start(tmp_path, exchange, run__hold_s=0.5) as bot:
        bot.wait_for("BUILD")
        assert "stage drain" in operator(tmp_path, "drain").stdout
        assert bot.finish() == 0
    summary = bot.wait_for("summary")
    assert re.search(r"[1-9]\d* cycles complete .* 0 failed, 0 cut short, 0 skipped", summary)


def leave_by_ctrl_c(command: list[str], tmp_path: Path, *, after: str) -> bool:
    """Whether the terminal is as it was: the other screen left, the cursor shown, nothing complained of."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (30, 120))
    clean = {name: value for name, value in os.environ.items() if not name.startswith("NADO_")}
    environ = clean | {"NADO_BOT_OUTPUT__STATE_DIR": str(tmp_path / "state"), "TERM": "xterm-256color"}
    program = [sys.executable, "-m", "bot", *command]
    with subprocess.Popen(
        program, cwd=ROOT, env=environ, stdin=theirs, stdout=theirs, stderr=theirs
    ) as shown:
        os.close(theirs)
        seen = b""
        while after.encode() not in seen:
            seen += os.read(ours, 65_536)
        shown.send_signal(signal.SIGINT)
        with contextlib.suppress(OSError):  # the other end is closed
            while more := os.read(ours, 65_536):
                seen += more
    os.close(ours)
    assert shown.returncode == 0, seen.decode()
    assert b"SIGINT" not in seen
    return seen.rindex(b"\x1b[?1049l") > seen.rindex(b"\x1b[?1049h") and b"\x1b[?25h" in seen


def pictures_shared(tmp_path: Path) -> int:
    """How many of six pictures, the first apart, two readers at one time were both shown."""
    (socket,) = (tmp_path / "state").glob("*/control.sock")
    watch = {"do": "watch", "every_s": 0.5}
    with contextlib.closing(control.stream(socket, watch)) as one:
        next(one)
        with contextlib.closing(control.stream(socket, watch)) as other:
            next(other)
            shown = [{next(reader)["status"]["at_s"] for _ in range(6)} for reader in (one, other)]
    return len(shown[0] & shown[1])


def test_plain_lines_where_there_is_no_terminal(exchange: Exchange, tmp_path: Path) -> None:
    with start(tmp_path, exchange, run__hold_s=60) as bot:
        bot.wait_for("BUILD")
        clean = {name: value for name, value in os.environ.items() if not name.startswith("NADO_")}
        watcher = subprocess.Popen(
            [sys.executable, "-m", "bot", "dashboard", "--every-s", "0.1"], cwd=ROOT, text=True,
            env=clean | {"NADO_BOT_OUTPUT__STATE_DIR": str(tmp_path / "state")}, stdout=subprocess.PIPE,
        )  # fmt: skip
        assert watcher.stdout is not None
        assert pictures_shared(tmp_path) >= 3
        lines = [watcher.stdout.readline() for _ in range(5)]
        watcher.terminate()
        watcher.communicate(timeout=10)
        assert leave_by_ctrl_c(["dashboard"], tmp_path, after="PnL, USD")
        operator(tmp_path, "flatten")
        bot.finish()
    assert all(re.match(r"\d\d:\d\d:\d\d [A-Z]+ cycle \d+/50 ETH-PERP", line) for line in lines), lines


def test_a_process_that_hangs_is_named_and_does_not_block_the_terminal(
    exchange: Exchange, tmp_path: Path
) -> None:
    with start(tmp_path, exchange, run__hold_s=60, risk__max_blind_s=60) as bot:
        bot.wait_for("BUILD")
        bot.signal(signal.SIGSTOP)
        asked = operator(tmp_path, "flatten")
        assert (asked.returncode, asked.stdout) == (1, "")
        assert "the process hangs" in asked.stderr
        assert operator(tmp_path, "alive").returncode == 1
        bot.signal(signal.SIGCONT)
        operator(tmp_path, "flatten")
        assert bot.finish() == 0


@pytest.fixture
def hook() -> Iterator[tuple[str, Alerts]]:
    """A webhook's address and what came to it."""
    with webhook() as found:
        yield found


def test_a_limit_that_is_reached_is_told_everywhere(
    exchange: Exchange, tmp_path: Path, hook: tuple[str, Alerts]
) -> None:
    url, got = hook
    with start(tmp_path, exchange, secrets={"NADO_ALERT_WEBHOOK": url}, risk__daily_loss_usd="0.2") as bot:
        assert bot.finish() == 3
    assert "daily loss" in bot.stderr
    assert any(alert["code"] == "daily-loss" and "daily loss" in alert["text"] for alert in got)
    assert "s3cr3t" not in bot.output + bot.stderr
    refused = operator(tmp_path, "status")
    assert "no bot is running" in refused.stderr


def test_a_cut_link_is_seen_in_metrics_and_the_bot_goes_on(exchange: Exchange, tmp_path: Path) -> None:
    with start(tmp_path, exchange, run__hold_s=2) as bot:
        bot.wait_for("BUILD")
        fault(exchange.control, cut="subscribe")
        while "nadofast_link_losses_total 0.0" in (page := metrics(bot)):
            assert bot.process.poll() is None
        assert re.search(r"nadofast_link_losses_total [1-9]", page)
        operator(tmp_path, "flatten")
        assert bot.finish() == 0


def test_when_the_exchange_dies_the_exposure_is_named_and_flatten_is_no_lie(tmp_path: Path) -> None:
    with start(tmp_path, None, run__hold_s=60) as bot:
        bot.wait_for("entry  SOL-PERP")
        end_exchange(bot.exchange_pid)
        assert bot.finish() in (1, 4)
    assert "no bot is running" in operator(tmp_path, "flatten").stderr


def test_two_bots_of_one_place_have_to_be_named(exchange: Exchange, tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    state_dir = tmp_path / "state"
    with (
        start(tmp_path, exchange) as first,
        start(tmp_path / "b", None, output__state_dir=state_dir) as second,
    ):
        first.wait_for("BUILD")
        second.wait_for("BUILD")
        unclear = operator(tmp_path, "status")
        assert unclear.returncode == 2
        names = unclear.stderr.rsplit(": ", 1)[1].strip().split(", ")
        assert len(names) == 2
        for name in names:
            assert operator(tmp_path, "flatten", name).returncode == 0
        assert (first.finish(), second.finish()) == (0, 0)


def test_the_port_of_the_metrics_is_taken(exchange: Exchange, tmp_path: Path) -> None:
    with HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        with start(tmp_path, exchange, metrics__port=server.server_port) as bot:
            assert bot.finish() == 2
    assert f"metrics.port: 127.0.0.1:{server.server_port}" in bot.stderr


def test_the_first_order_waits_until_the_streams_were_stable(exchange: Exchange, tmp_path: Path) -> None:
    with start(tmp_path, exchange, rollout__warmup_s=1.5, run__hold_s=0.1) as bot:
        bot.wait_for("warm-up   the streams shall be stable for 1.5 s")
        while "warm-up   begins again: " not in bot.output:  # one cut may be over between two looks
            fault(exchange.control, cut="subscribe")
            assert bot.process.poll() is None
        again = next(i for i, line in enumerate(bot.lines) if "begins again" in line)
        bot.wait_for("BUILD")
        build = next(i for i, line in enumerate(bot.lines) if "BUILD" in line)
        assert bot.seen_at[build] - bot.seen_at[again] >= 1.4
        operator(tmp_path, "flatten")
        assert bot.finish() == 0


def test_sizes_go_up_the_ladder(tmp_path: Path) -> None:
    settings = {"rollout__ladder_usd": "120 150", "rollout__ladder_cycles": 1, "run__hold_s": 0.05}
    with BotProcess(
        tmp_path, "--seed", "5", "--cycles", "3", "--size-usd", "300",
        **{"output__state_dir": tmp_path / "state", **QUIET, **settings},
    ) as bot:  # fmt: skip
        assert bot.finish() == 0
    sizes = [float(re.findall(r"ETH-PERP [+-]([\d.]+)", line)[0]) for line in bot.lines if " BUILD " in line]
    assert len(sizes) == 3
    assert sizes == sorted(sizes)
    assert sizes[0] < sizes[1]  # the size with the least gap may be the same on the next step
    assert [round(size * 3_000) <= usd for size, usd in zip(sizes, (120, 150, 300), strict=True)] == [
        True
    ] * 3
