"""Where a bot may find itself: no reader, no home, no stdin, a directory that goes away, company."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path

from botproc import ROOT, BotProcess


def test_nobody_reads_and_nothing_is_there(tmp_path: Path) -> None:
    """stdout's reader leaves after one line, stdin is closed, no HOME, a narrow terminal, an odd locale."""
    path = tmp_path / "trades.csv"
    environ = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "COLUMNS": "40", "LC_ALL": "C"}
    command = f"exec '{sys.executable}' -m bot run --cycles 1 --seed 2 --csv-path '{path}' <&-"
    process = subprocess.Popen(
        ["/bin/sh", "-c", command], cwd="/proc", env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stderr is not None
    assert b"exchange.seed" in process.stdout.readline() + process.stdout.readline()
    process.stdout.close()
    assert process.wait(40) == 0, process.stderr.read()
    assert process.stderr.read() == b""
    process.stderr.close()
    with path.open(newline="") as file:
        assert len(list(csv.DictReader(file))) >= 4


def test_two_bots_at_once_and_one_loses_the_directory_of_its_records(tmp_path: Path) -> None:
    """Each has its own exchange. A record that cannot be written blocks new entries, never the exit."""
    gone, kept = tmp_path / "gone", tmp_path / "kept"
    gone.mkdir()
    kept.mkdir()
    with (
        BotProcess(gone, "--seed", "5", "--cycles", "9") as first,
        BotProcess(kept, "--seed", "5", "--cycles", "1") as second,
    ):
        first.wait_for("BUILD")
        gone.rename(tmp_path / "elsewhere")
        assert first.finish() == 3, first.output + first.stderr
        assert second.finish() == 0, second.output + second.stderr
    assert first.stderr.count("\n") == 1
    assert "No such file or directory; flat; the record of this run is not complete" in first.stderr
    assert "positions now: none" in first.output
    assert "positions now: none" in first.output
    assert second.stderr == ""
