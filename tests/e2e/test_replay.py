"""A run with faults, recorded: run again it decides the same and writes the same journal, without the key."""

from __future__ import annotations

import os
import random
import re
import subprocess
import sys
from pathlib import Path

import pytest
from botproc import ROOT, BotProcess, fault

from bot.recordfile import RecordingReader
from bot.replay import Replay, Replayed
from nadofast.tape import Kind

OWN_KEY = "0x" + "5e9f" * 16


def replayed(path: Path, journal: Path) -> tuple[Replayed, str]:
    replay, reader = Replay(journal), RecordingReader(path)
    for record in reader:
        replay.take(record)
    replay.close()
    return replay.result, reader.damage


def remote(*arguments: object) -> subprocess.CompletedProcess[str]:
    """A command of the bot, without any key in its environment."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("NADO_")}
    return subprocess.run(
        [sys.executable, "-m", "bot", *map(str, arguments)],
        cwd=ROOT, env=environ, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes]:
    """A recording of four cycles in bad weather, and the journal of the run."""
    tmp_path = tmp_path_factory.mktemp("recorded")
    journal, directory = tmp_path / "orders.log", tmp_path / "rec"
    with BotProcess(
        tmp_path, "--cycles", "4", "--seed", "9", "--record", str(directory), key=OWN_KEY,
        output__journal=journal, exit__maker_timeout_s=1,
    ) as bot:  # fmt: skip
        control = bot.control
        bot.wait_for("entry  SOL-PERP")
        fault(control, drop_depth={"product_id": 4, "count": 1})
        bot.wait_for("exit-rest  SOL-PERP")
        fault(control, cut="all")
        bot.wait_for("cycle 1 ")
        fault(control, lose_reply=1)
        bot.wait_for("cycle 2 ")
        bot.wait_for("exit-rest  ETH-PERP", after=len(bot.lines))
        fault(control, mute=1.5)
        assert bot.finish(timeout_s=90) == 0, bot.output + bot.stderr
    (path,) = directory.glob("*.0001.tape")
    return path, journal.read_bytes()


def test_twice_the_same_to_the_last_byte(recorded: tuple[Path, bytes], tmp_path: Path) -> None:
    path, journal = recorded
    first, damage = replayed(path, tmp_path / "first.log")
    second, _ = replayed(path, tmp_path / "second.log")
    assert damage == ""
    assert first.first_difference == ""
    assert first.is_identical
    assert first.same["journal lines"] == len(journal.splitlines()) > 8
    assert min(first.same[kind] for kind in ("quotes", "orders", "digests", "events of the stream")) > 5
    assert (tmp_path / "first.log").read_bytes() == (tmp_path / "second.log").read_bytes() == journal
    assert first == second
    assert first.messages > 100


def test_it_holds_neither_key_nor_signature(recorded: tuple[Path, bytes]) -> None:
    path, _ = recorded
    records = list(RecordingReader(path))
    everything = b"\n".join(record.payload for record in records).lower()
    assert OWN_KEY[2:].encode() not in everything + path.read_bytes()
    assert re.search(rb"[0-9a-f]{128}", everything) is None
    sent = [record.message for record in records if record.kind is Kind.SENT]
    assert sum(b"place_order" in message for message in sent) >= 8  # they are there, signed with nothing
    assert all(b'"signature":"0x-"' in message for message in sent if b"place_order" in message)


def test_cut_anywhere_it_replays_up_to_there(recorded: tuple[Path, bytes], tmp_path: Path) -> None:
    path, _ = recorded
    whole = path.read_bytes()
    rng = random.Random(4)
    cuts = sorted(rng.randrange(len(whole)) for _ in range(8))
    decisions = []
    for cut in cuts:
        part = tmp_path / "cut.tape"
        part.write_bytes(whole[:cut])
        found, damage = replayed(part, tmp_path / "cut.log")
        assert damage
        assert found.first_difference == "", cut
        decisions.append(found.same["decisions"])
    assert decisions == sorted(decisions)
    assert decisions[-1] > 0


def test_other_code_is_told_from_the_same(recorded: tuple[Path, bytes], tmp_path: Path) -> None:
    """A strategy that decides otherwise is found out at its first decision, by journal and digest, too."""
    path, _ = recorded
    import bot.replay as module
    from bot.machine import decide

    def dearer(state: object, inputs: object, plan: object, now_ns: int) -> object:
        import dataclasses

        return decide(state, inputs, dataclasses.replace(plan, entry_cap_bps=19), now_ns)  # type: ignore

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "decide", dearer)
        replay = Replay(tmp_path / "other.log")
        for record in RecordingReader(path):
            replay.take(record)
            if replay.result.different["digests"]:
                break
        replay.close()
    assert replay.result.first_difference.startswith("decisions at ")
    assert not replay.result.is_identical


def test_the_command_says_it(recorded: tuple[Path, bytes], tmp_path: Path) -> None:
    path, journal = recorded
    (tmp_path / "live.log").write_bytes(journal)
    done = remote("replay", path, "--journal", tmp_path / "live.log", "--speed", "1000")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "as recorded" in done.stdout
    assert "journal" in done.stdout
    (tmp_path / "live.log").write_bytes(journal[:-2] + b"!\n")
    assert remote("replay", path, "--journal", tmp_path / "live.log").returncode == 1
