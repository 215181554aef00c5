"""What outlives a run: private, one bot at a time, a directory per account and exchange; the day so far."""

from __future__ import annotations

import fcntl
import os
import resource
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from test_ledger import fill

from bot import statedir
from bot.latch import DayFile
from bot.ledger import Ledger
from bot.standing import Standing
from bot.statedir import (
    StateDir,
    StateDirError,
    child_instance,
    directory_name,
    is_in_use,
    lock_path,
    prune,
    read_json,
    write_json,
)
from nadofast.products import to_x18

SUB = "0x" + "ab" * 20 + "00" * 12
WHO = {"network": "sim", "chain_id": 31337, "subaccount": SUB, "instance": "child 1"}


def opened(root: Path, **changes: Any) -> StateDir:
    return StateDir(root, **{**WHO, **changes})


def test_it_is_private_and_says_what_it_is(tmp_path: Path) -> None:
    with opened(tmp_path / "state") as state:
        assert stat.S_IMODE(state.path.stat().st_mode) == 0o700
        assert {stat.S_IMODE(p.stat().st_mode) for p in state.path.iterdir()} == {0o600}
        assert read_json(state.path / "about.json") == WHO
        state.path.chmod(0o755)
    with opened(tmp_path / "state") as state:  # opened again, closed to others again
        assert stat.S_IMODE(state.path.stat().st_mode) == 0o700


def test_two_bots_do_not_trade_on_one_account(tmp_path: Path) -> None:
    with opened(tmp_path):
        with pytest.raises(StateDirError, match=f"another bot \\(pid {os.getpid()}\\)"):
            opened(tmp_path)
    opened(tmp_path).close()


@contextmanager
def looked_at(directory: Path) -> Iterator[int]:
    """Somebody who asks whether a bot runs there, in the middle of it."""
    descriptor = os.open(lock_path(directory), os.O_RDWR)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        yield descriptor
    finally:
        os.close(descriptor)


def test_whoever_only_looks_is_taken_for_no_bot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened(tmp_path).close()
    directory = tmp_path / directory_name(**WHO)  # type: ignore[arg-type]
    with looked_at(directory) as look:
        assert not is_in_use(directory)
        monkeypatch.setattr(statedir.time, "sleep", lambda _: fcntl.flock(look, fcntl.LOCK_UN))
        opened(tmp_path).close()
    with opened(tmp_path):
        assert is_in_use(directory)


def test_a_disk_that_takes_a_part_of_a_file_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "halt.json"
    write_json(path, {"reason": "old"})
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8, before[1]))
    try:
        with pytest.raises(OSError, match="too large"):
            write_json(path, {"reason": "a daily loss of 25 USD"})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert read_json(path) == {"reason": "old"}


@pytest.mark.parametrize("field_", list(WHO))
def test_every_part_of_the_identity_makes_another_directory(field_: str) -> None:
    other: dict[str, Any] = {
        "network": "custom",
        "chain_id": 1,
        "subaccount": SUB[:-1] + "1",
        "instance": "x",
    }
    names = {directory_name(**WHO), directory_name(**{**WHO, field_: other[field_]})}  # type: ignore[arg-type]
    assert len(names) == 2
    assert all(len(name) < 50 for name in names)


def test_a_link_in_place_of_the_lock_is_refused(tmp_path: Path) -> None:
    with opened(tmp_path) as state:
        path = state.path
    (path / "lock").unlink()
    (path / "lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StateDirError):
        opened(tmp_path)


def test_of_embedded_exchanges_only_the_last_ones_are_kept(tmp_path: Path) -> None:
    for pid in range(5):
        with opened(tmp_path, instance=child_instance(pid)) as state:
            os.utime(state.path, (pid, pid))
    with opened(tmp_path, instance="http://127.0.0.1:1") as external:
        os.utime(external.path, (0, 0))
    in_use = opened(tmp_path, instance=child_instance(0))
    os.utime(in_use.path, (0, 0))
    prune(tmp_path, keep=2)
    left = {str((read_json(path / "about.json") or {})["instance"]) for path in tmp_path.iterdir()}
    assert left == {"child 0", "child 3", "child 4", "http://127.0.0.1:1"}
    in_use.close()


# ---------------------------------------------------------------------- the day's result


@dataclass
class Market:
    marks_x18: dict[int, int] = field(default_factory=lambda: {4: to_x18(3000), 8: to_x18(140)})
    products: tuple[Any, ...] = ()


@dataclass
class Calendar:
    today: date = date(2026, 11, 24)
    now_ns: int = 0

    def standing(self, ledger: Ledger, path: Path) -> Standing:
        market: Any = Market()
        return Standing(
            ledger, market, day_store=DayFile(path), today=lambda: self.today, clock_ns=lambda: self.now_ns
        )


def loser(usd: str) -> Ledger:
    ledger = Ledger((4, 8))
    ledger.apply(fill(side=1, qty="1", price=str(3000 + int(usd)), fee_x18=0, idx=1))
    ledger.apply(fill(side=-1, qty="1", price="3000", fee_x18=0, idx=2))
    return ledger


def test_a_restart_does_not_start_the_day_at_zero_and_midnight_does(tmp_path: Path) -> None:
    calendar, path = Calendar(), tmp_path / "day.json"
    first = calendar.standing(loser("4"), path)
    assert first.day_pnl_x18() == -to_x18(4)
    first.remember(at_once=True)
    second = calendar.standing(loser("3"), path)
    assert second.day_pnl_x18() == -to_x18(7)
    calendar.today = date(2026, 11, 25)
    assert second.day_pnl_x18() == 0
    second.remember(at_once=True)
    assert calendar.standing(loser("1"), path).day_pnl_x18() == -to_x18(1)


def test_the_result_is_written_at_most_once_a_second(tmp_path: Path) -> None:
    calendar, path = Calendar(), tmp_path / "day.json"
    ledger = loser("4")
    standing = calendar.standing(ledger, path)
    standing.remember()
    assert (read_json(path) or {})["net_x18"] == str(-to_x18(4))
    ledger.apply(fill(side=1, qty="1", price="3000", fee_x18=to_x18(1), idx=3))
    ledger.apply(fill(side=-1, qty="1", price="3000", fee_x18=0, idx=4))
    calendar.now_ns = 10**9 - 1
    standing.remember()
    assert (read_json(path) or {})["net_x18"] == str(-to_x18(4))
    calendar.now_ns = 10**9
    standing.remember()
    assert (read_json(path) or {})["net_x18"] == str(-to_x18(5))


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"day": "2026-11-24"}'])
def test_a_result_that_cannot_be_read_is_said_not_forgotten(tmp_path: Path, content: str) -> None:
    path = tmp_path / "day.json"
    path.write_text(content)
    with pytest.raises((ValueError, KeyError)):
        Calendar().standing(loser("1"), path)


def test_a_disk_that_does_not_take_the_result_is_said_and_blocks_entries_until_it_does(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    calendar, path = Calendar(), tmp_path / "missing" / "day.json"
    standing = calendar.standing(loser("4"), path)
    for second in range(3):
        calendar.now_ns = second * 10**9
        standing.remember()
        assert standing.failure == "the day's result cannot be written: No such file or directory"
    assert [record.levelname for record in caplog.records] == ["CRITICAL"]  # once, not every second
    path.parent.mkdir()
    calendar.now_ns = 3 * 10**9
    standing.remember()
    assert standing.failure == ""
    assert (read_json(path) or {})["net_x18"] == str(-to_x18(4))
