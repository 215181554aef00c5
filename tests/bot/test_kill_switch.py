"""The kill switch: it latches, stops entries and no exit, and outlives the process."""

from __future__ import annotations

from pathlib import Path

import pytest
from gatekit import LIMITS, World, intent, leaving, limited

from bot.latch import KillSwitch, read_halt, resume
from bot.risk import Purpose, RiskGate
from nadofast.products import to_x18


def test_a_halt_latches_and_exits_still_pass(world: World, gate: RiskGate) -> None:
    world.positions[4] = to_x18("0.042")
    world.pnl = -to_x18(11)
    assert "daily loss" in (gate.watch() or "")
    world.pnl = to_x18(5)
    gate.halt("something else")
    assert "daily loss" in (gate.watch() or "")
    assert not gate.check(intent("0.001", tag=1))
    world.ages = {4: 10**9, 8: 10**9}
    assert gate.check(intent("-0.042", Purpose.TAKE, tag=2, price="2900"))


def test_the_latch_stops_an_approved_entry_at_the_door_but_no_exit(world: World, gate: RiskGate) -> None:
    world.positions[8] = to_x18("-0.9")
    entry = intent("0.040", Purpose.HEDGE, tag=1)
    out = intent("0.9", Purpose.TAKE, tag=2, product_id=8, price="141")
    assert gate.check(entry)
    assert gate.check(out)
    gate.halt("enough")
    with pytest.raises(PermissionError, match="halted: enough"):
        gate.admit(leaving(entry))
    gate.admit(leaving(out))


def test_a_loss_that_reaches_the_limit_halts_and_is_told_in_money(world: World) -> None:
    gate = limited(world, daily_loss_x18=to_x18(5))
    world.pnl = -to_x18("4.999999999999999999")
    assert gate.watch() is None
    world.pnl = -to_x18(5)
    assert gate.watch() == "daily loss 5.0000 USD reached the limit"
    reasons = gate.pre_trade_check(4, to_x18("0.01"), to_x18(3000)).reasons
    assert reasons[1] == f"daily_loss: {to_x18(5)} x18 of {to_x18(5)} x18"


def test_a_halt_outlives_the_process_until_somebody_takes_it_back(tmp_path: Path, world: World) -> None:
    path = tmp_path / "halt.json"
    gate = RiskGate(LIMITS, world.view, KillSwitch(path, wall_s=lambda: 1_795_000_000.0))
    world.pnl = -to_x18(11)
    assert gate.watch() is not None
    world.pnl = 0  # the next day
    later = RiskGate(LIMITS, world.view, KillSwitch(path))
    assert "daily loss" in (later.halt_reason or "")
    assert "halted" in later.check(intent("0.001")).reasons[0]
    later.halt("something else")
    assert "daily loss" in str(read_halt(path))
    assert "2026-11-18" in str(read_halt(path))
    assert "daily loss" in str(resume(path))
    assert resume(path) is None
    assert RiskGate(LIMITS, world.view, KillSwitch(path)).check(intent("0.001"))


DEEP = "[" * 100_000
AT = '{"reason": "x", "at_s": %s}'
TIMES = ('"soon"', '"nan"', "1e999", "1e300", "9" * 400)


@pytest.mark.parametrize("content", ["", "{", "[]", DEEP, "{}", *(AT % time for time in TIMES)])
def test_a_halt_that_cannot_be_read_is_a_halt(tmp_path: Path, content: str) -> None:
    path = tmp_path / "halt.json"
    path.write_text(content)
    assert "cannot be read" in str(KillSwitch(path).halt)
    assert "cannot be read" in str(resume(path))
    assert KillSwitch(path).halt is None


def test_a_halt_that_cannot_be_written_still_halts(tmp_path: Path) -> None:
    switch = KillSwitch(tmp_path / "missing" / "halt.json")
    switch.engage("enough")
    assert switch.halt is not None
    assert switch.halt.reason == "enough"
    assert switch.halt.failure


def test_a_halt_that_could_not_be_written_is_said_and_written_once_it_can(
    tmp_path: Path, world: World, caplog: pytest.LogCaptureFixture
) -> None:
    path, now_ns = tmp_path / "missing" / "halt.json", [0]
    gate = RiskGate(LIMITS, world.view, KillSwitch(path, clock_ns=lambda: now_ns[0]))
    gate.halt("enough")
    assert [record.levelname for record in caplog.records] == ["CRITICAL"]
    assert "a restart would forget it" in caplog.text
    path.parent.mkdir()
    now_ns[0] = 999_999_999
    gate.watch()
    assert not path.exists()  # not at every turn
    now_ns[0] = 1_000_000_000
    gate.watch()
    assert KillSwitch(path).halt is not None
    assert [record.levelname for record in caplog.records] == ["CRITICAL", "WARNING"]
    path.unlink()
    now_ns[0] = 10**12
    gate.watch()
    gate.keep_halt(at_once=True)
    assert not path.exists()  # what was written once is a person's to take away


def test_a_failure_to_write_the_halt_is_said_once_and_tried_at_the_end(
    tmp_path: Path, world: World, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "missing" / "halt.json"
    gate = RiskGate(LIMITS, world.view, KillSwitch(path, clock_ns=lambda: 0))
    gate.halt("enough")
    gate.keep_halt(at_once=True)
    assert len(caplog.records) == 1
    path.parent.mkdir()
    gate.keep_halt(at_once=True)
    assert path.exists()
