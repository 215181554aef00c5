"""The matrix of the chaos campaigns: it counts what is on record, and is red when anything is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from chaosrecord import VARIABLE, note

from tests.chaos import matrix


@pytest.fixture
def record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "record.jsonl"
    monkeypatch.setenv(VARIABLE, str(path))
    return path


def test_runs_are_counted_by_fault_and_phase(record: Path, capsys: pytest.CaptureFixture[str]) -> None:
    note("streams", "cut", "stale", recovery_ms=250.0, facts=3)
    note("streams", "cut", "stale", recovery_ms=750.0, facts=4)
    note("streams", ["cut", "mute"], "live", recovery_ms=100.0, facts=5)
    assert matrix.main(record, ["streams"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "| cut   | 1 · 0.10 s | 2 · 0.75 s |" in lines
    assert "| mute  | 1 · 0.10 s | ·          |" in lines
    assert "in all: 12 facts, lost 0, doubled 0, 0 failures" in lines


def test_a_failed_run_a_missing_suite_or_no_record_is_red(
    record: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert matrix.main(record) == 1
    note("orders", "cut", "kill -9", failure="")
    assert matrix.main(record, ["orders"]) == 0
    assert matrix.main(record, ["orders", "pair"]) == 1
    note("orders", ["cut", "rate"], "kill -9", failure="seed 3: an intent was signed twice")
    note("streams", "drop", "live", failure="fills: lost [('0xab', 7)], invented []")
    assert matrix.main(record, ["orders", "streams"]) == 1
    said = capsys.readouterr().out
    assert "2, 1 FAILED" in said
    assert "FAILED seed 3: an intent was signed twice" in said
    assert said.endswith("lost 1, doubled 1, 2 failures\n")


def test_without_a_file_nothing_is_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.chdir(tmp_path)
    note("streams", "cut", "live")
    assert list(tmp_path.iterdir()) == []


def test_a_line_says_everything_once(record: Path) -> None:
    note("pair", [], "FLAT", facts=2)
    (line,) = [json.loads(text) for text in record.read_text().splitlines()]
    assert (line["fault"], line["facts"], line["recovery_ms"]) == ("none", 2, None)
