"""Only a process that is proved to be the bot of a state directory is ever ended."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bot import force, statedir, takeover
from bot.cli import main
from bot.config import load
from bot.preflight import StartError
from bot.statedir import StateDir
from bot.takeover import TakeoverError

PROOF_CALL = 3
"""In use, who, then the proof: each looks for the lock."""

HOLD = """
import fcntl, os, sys
lock = os.open(sys.argv[1], os.O_RDWR)
fcntl.flock(lock, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


@contextmanager
def somebody(directory: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lock."""
    arguments = [sys.executable, "-c", HOLD, str(statedir.lock_path(directory))]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        if process.poll() is None:
            process.kill()


def write(directory: Path, text: str) -> None:
    statedir.lock_path(directory).write_text(text)


def test_a_bot_says_who_it_is(tmp_path: Path) -> None:
    with StateDir(tmp_path, network="sim", chain_id=1, subaccount="0x12", instance="x") as state:
        found = takeover.holder(state.path)
        assert found is not None
        assert found.start_ticks == statedir.start_ticks(found.pid)
        assert found.age_s is not None
        assert str(found).startswith(f"pid {found.pid}, running for ")
    assert takeover.holder(state.path) is None
    assert takeover.end(state.path) is None


def test_the_proved_one_is_ended_and_the_lock_is_free(tmp_path: Path) -> None:
    write(tmp_path, "")
    with somebody(tmp_path) as process:
        write(tmp_path, f"{process.pid} {statedir.start_ticks(process.pid)}\n")
        ended = takeover.end(tmp_path)
        assert ended is not None
        assert ended.pid == process.pid
        assert process.wait(5) == -9
    assert not statedir.is_in_use(tmp_path)


@pytest.mark.parametrize(
    ("names", "says"),
    [
        ("{pid} {other_ticks}", "began at another time"),
        ("{bystander} {bystander_ticks}", "does not have the lock open"),
        ("{pid}", "does not say who holds it"),
        ("who knows", "does not say who holds it"),
        ("4194305 77", "which is gone"),
    ],
)
def test_whoever_is_not_proved_goes_on(tmp_path: Path, names: str, says: str) -> None:
    write(tmp_path, "")
    (tmp_path / "other").mkdir()
    write(tmp_path / "other", "")
    with somebody(tmp_path) as process, somebody(tmp_path / "other") as bystander:
        ticks = statedir.start_ticks(process.pid) or 0
        write(
            tmp_path,
            names.format(
                pid=process.pid, other_ticks=ticks + 1, bystander=bystander.pid,
                bystander_ticks=statedir.start_ticks(bystander.pid),
            ),
        )  # fmt: skip
        with pytest.raises(TakeoverError, match=says):
            takeover.end(tmp_path)
        assert process.poll() is None
        assert bystander.poll() is None


def test_the_kill_comes_after_what_has_to_be_done_before(tmp_path: Path) -> None:
    write(tmp_path, "")
    with somebody(tmp_path) as process:
        write(tmp_path, f"{process.pid} {statedir.start_ticks(process.pid)}\n")
        seen: list[int | None] = []
        takeover.end(tmp_path, lambda: seen.append(process.poll()))
        assert seen == [None]


@pytest.mark.parametrize("place", ["open", "proof", "kill"])
def test_one_that_ends_in_the_middle_has_ended(
    tmp_path: Path, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, "")
    with somebody(tmp_path) as process:
        write(tmp_path, f"{process.pid} {statedir.start_ticks(process.pid)}\n")
        module, name = {
            "open": (takeover.os, "pidfd_open"),
            "proof": (takeover.statedir, "lock_path"),
            "kill": (signal, "pidfd_send_signal"),
        }[place]
        real = getattr(module, name)
        calls = 0

        def dies_first(*arguments: object) -> object:
            nonlocal calls
            calls += 1
            if place != "proof" or calls == PROOF_CALL:
                process.kill()
                process.wait(5)
            return real(*arguments)

        monkeypatch.setattr(module, name, dies_first)
        found = takeover.end(tmp_path)
        assert found is not None
        assert found.pid == process.pid
        assert process.poll() == -9


def test_one_that_came_back_is_not_ended_before_the_way_out_is_proved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody ran when it was looked for; a service manager has started it since."""
    held = tmp_path / "ours"
    held.mkdir()
    write(held, "")

    async def place(settings: Any, venue: Any, *, is_proved: bool) -> str:
        if is_proved:
            assert (held / "halt.json").exists()
            raise StartError("the exchange does not answer")
        return held.name

    monkeypatch.setattr(force, "_place", place)
    monkeypatch.setattr(force, "choose", lambda *_, **__: SimpleNamespace(is_embedded=False))
    monkeypatch.setattr(force, "_close", lambda *_: 0)
    with somebody(held) as process:
        write(held, f"{process.pid} {statedir.start_ticks(process.pid)}\n")
        effective = load(None, {"output.state_dir": str(tmp_path)}, {})
        code = force.flatten_by_force(effective, None, "control.sock")
        assert process.poll() is None
    assert code == force.ExitCode.EXPOSED


@pytest.mark.parametrize("content", [None, b"", b"{", b"[]", b"\xff\xfe"])
def test_who_does_not_say_where_it_trades_is_not_ended(
    tmp_path: Path, content: bytes | None, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its exchange may be one that goes on without it: then its pair would be left open."""
    held = tmp_path / "sim-ours"
    held.mkdir()
    write(held, "")
    if content is not None:
        (held / "about.json").write_bytes(content)
    with somebody(held) as process:
        write(held, f"{process.pid} {statedir.start_ticks(process.pid)}\n")
        code = main(["flatten", "--force", "--config", str(settings_for(tmp_path))])
        assert process.poll() is None
    assert code == force.ExitCode.EXPOSED
    assert "about.json" in (said := capsys.readouterr().err.splitlines()[-1])
    assert "--config" in said


def settings_for(root: Path) -> Path:
    file = root / "bot.toml"
    file.write_text(f'[output]\nstate_dir = "{root}"\n')
    return file


def test_a_defect_on_the_way_out_leaves_it_exposed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def place(*_: object, **__: object) -> str:
        raise RuntimeError("out of order")

    monkeypatch.setattr(force, "_place", place)
    monkeypatch.setattr(force, "choose", lambda *_, **__: SimpleNamespace(is_embedded=False))
    assert main(["flatten", "--force", "--config", str(settings_for(tmp_path))]) == force.ExitCode.EXPOSED
