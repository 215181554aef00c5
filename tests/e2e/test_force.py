"""A bot that hangs with a pair open: named, ended after proof, and its pair closed from another terminal."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from botproc import ROOT, BotProcess, fault, is_alive, positions, resting, state
from operatorkit import clean_environment, operator, terminal
from simproc import SimProcess


@pytest.fixture(scope="module")
def sim() -> Iterator[SimProcess]:
    """One for all tests: each leaves it flat."""
    with SimProcess(seed=5) as started:
        yield started


@pytest.fixture
def exchange(sim: SimProcess, tmp_path: Path) -> str:
    """The file that says where it is."""
    path = tmp_path / "exchange.json"
    path.write_text(json.dumps(sim.ready))
    return str(path)


@contextmanager
def holding(tmp_path: Path, exchange: str) -> Iterator[BotProcess]:
    """A bot that holds a pair."""
    state_dir = tmp_path / "state"
    with BotProcess(
        tmp_path, "--exchange", exchange, "--cycles", "50", run__hold_s=60, output__state_dir=state_dir
    ) as bot:
        bot.wait_for("entry  SOL-PERP")
        bot.wait_for("entry  ETH-PERP")
        yield bot


def test_a_hung_bot_is_ended_and_its_pair_closed(sim: SimProcess, exchange: str, tmp_path: Path) -> None:
    control = sim.ready["control"]
    with holding(tmp_path, exchange) as bot:
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

        fault(control, chain_id=5)
        nowhere = operator(tmp_path, "flatten", "--force", "--exchange", exchange)
        assert nowhere.returncode == 4, nowhere
        assert "chain id mismatch" in nowhere.stderr
        assert is_alive(bot.process.pid), "what only REST can tell is asked before it is ended"
        fault(control, clear="all")

        forced = terminal(tmp_path, "flatten", "--force", "--exchange", exchange)
        assert forced.returncode == 0, forced.stdout + forced.stderr
        assert f"ended     pid {bot.process.pid}" in forced.stdout
        assert "END  flattened what was open at the start; flat" in forced.stdout
        assert bot.finish() == -signal.SIGKILL
    truth = state(control)
    assert positions(truth) == {}
    assert resting(truth) == []

    again = terminal(tmp_path, "flatten", "--force", "--exchange", exchange)
    assert again.returncode == 0, again.stderr
    assert "nothing is open" in again.stdout
    (halt,) = (tmp_path / "state").glob("*/halt.json")
    assert json.loads(halt.read_text())["reason"] == "flattened by force"
    arguments = ["--exchange", exchange, "--cycles", "1"]
    with BotProcess(tmp_path, *arguments, output__state_dir=tmp_path / "state") as service:
        assert service.finish() == 3, "whoever starts it again does not let it trade"
    assert operator(tmp_path, "resume").returncode == 0

    unasked = operator(tmp_path, "flatten", "--force")
    assert unasked.returncode == 2
    assert "no exchange was asked" in unasked.stderr
    assert str(tmp_path / "state") in unasked.stderr
    assert "nothing is open" not in unasked.stderr
    dead = operator(tmp_path, "flatten")
    assert dead.returncode == 2
    assert "flatten --force" in dead.stderr


ANSWERS = """
import fcntl, os, pathlib, socket, sys
from bot import statedir
directory = pathlib.Path(sys.argv[1])
lock = os.open(directory / "lock", os.O_RDWR)
fcntl.flock(lock, fcntl.LOCK_EX)
os.truncate(lock, 0)
os.pwrite(lock, f"{os.getpid()} {statedir.start_ticks(os.getpid())}".encode(), 0)
os.chdir(directory)
pathlib.Path("control.sock").unlink(missing_ok=True)
server = socket.socket(socket.AF_UNIX)
server.bind("control.sock")
server.listen()
print("held", flush=True)
while True:
    link, _ = server.accept()
    link.recv(4096)
    link.sendall(b'{"ok": true, "said": "what is open crosses at once; stage flatten"}\\n')
    link.close()
"""
IMPATIENT = """
import sys
from bot import cli, force
force.FLATTEN_WAIT_S = 0.5
sys.exit(cli.main(sys.argv[1:]))
"""


def test_an_answer_alone_is_not_believed(sim: SimProcess, exchange: str, tmp_path: Path) -> None:
    """A loop that answers says nothing about its strategy: here is one that promises and does nothing."""
    control = sim.ready["control"]
    with holding(tmp_path, exchange) as bot:
        bot.signal(signal.SIGKILL)
        bot.finish()
    assert positions(state(control))
    (lock,) = (tmp_path / "state").glob("*/lock")
    arguments = [sys.executable, "-c", ANSWERS, str(lock.parent)]
    with subprocess.Popen(arguments, cwd=ROOT, stdout=subprocess.PIPE, text=True) as promises:
        try:
            assert promises.stdout is not None
            assert promises.stdout.readline() == "held\n"
            forced = subprocess.run(
                [sys.executable, "-c", IMPATIENT, "flatten", "--force", "--exchange", exchange],
                cwd=ROOT, env=clean_environment(tmp_path), text=True, timeout=60, capture_output=True,
                check=False,
            )  # fmt: skip
        finally:
            promises.kill()
    assert "stage flatten" in forced.stdout
    assert "has not ended in 0.5 s" in forced.stderr
    assert f"ended     pid {promises.pid}" in forced.stdout
    assert (forced.returncode, positions(state(control))) == (0, {}), forced.stdout + forced.stderr


def test_one_that_does_as_told_is_not_ended(exchange: str, tmp_path: Path) -> None:
    with holding(tmp_path, exchange) as bot:
        told = terminal(tmp_path, "flatten", "--force", "--exchange", exchange)
        assert told.returncode == 0, told
        assert "nothing is open" in told.stdout
        assert "ended     pid" not in told.stdout
        assert bot.finish() == 0
    assert not list((tmp_path / "state").glob("*/halt.json"))
