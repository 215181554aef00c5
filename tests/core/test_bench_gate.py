"""The benchmark gate cannot be passed by not running it."""

from __future__ import annotations

import importlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

CONFTEST = Path(__file__).parent.parent.parent / "bench" / "conftest.py"
GOOD = "def test_good(benchmark):\n    benchmark.pedantic(lambda: None)\n"


def run_gate(directory: Path, text: str, *options: str) -> subprocess.CompletedProcess[str]:
    shutil.copy(CONFTEST, directory)
    (directory / "test_it.py").write_text("import pytest\n" + text)
    (directory / "none.ini").write_text("[pytest]\n")
    command = [sys.executable, "-m", "pytest", str(directory), "-c", str(directory / "none.ini"), *options]
    command += ["-p", "pytest_benchmark.plugin"]
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    environment = inherited | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    return subprocess.run(
        command, capture_output=True, text=True, timeout=60, check=False, cwd=directory, env=environment
    )


def test_a_gate_that_ran_passes(tmp_path: Path) -> None:
    assert run_gate(tmp_path, GOOD, "--benchmark-only").returncode == 0


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (GOOD + "\ndef test_silent():\n    pass\n", "does not use the benchmark fixture"),
        (GOOD + "\ndef test_skipped(benchmark):\n    pytest.skip('later')\n", "was skipped"),
        (GOOD + "\n@pytest.mark.skip\ndef test_marked(benchmark):\n    pass\n", "was skipped"),
        ("", "no benchmark ran"),
    ],
)
def test_what_did_not_run_fails(tmp_path: Path, text: str, why: str) -> None:
    done = run_gate(tmp_path, text, "--benchmark-only")
    assert done.returncode != 0
    assert why in done.stdout + done.stderr


def test_switched_off_benchmarks_fail(tmp_path: Path) -> None:
    done = run_gate(tmp_path, GOOD, "--benchmark-skip")
    assert done.returncode != 0


@pytest.fixture
def wire(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    monkeypatch.syspath_prepend(str(CONFTEST.parent))
    module = importlib.import_module("wire")
    monkeypatch.setattr(module, "BUILD", tmp_path)
    return module


@pytest.mark.parametrize("name", ["FLOOR", "SILENT", "CALLBACK"])
def test_a_fill_that_was_not_handed_over_is_noticed(wire: Any, name: str) -> None:
    prepared, contender = wire.prepare(200), getattr(wire, name)
    *sides, quote, (fills, last) = prepared.state
    told = [f"{side} {price} {qty}" for side, book in enumerate(sides) for price, qty in book.items()]
    told = [f"{prepared.count} 1 x", *told, f"2 {quote[0]} {quote[1]}", f"3 {quote[2]} {quote[3]}"]
    wire.check("\n".join([*told, f"4 {fills} {last}"]), prepared, contender)
    for wrong in ([], [f"4 {fills - 1} {last}"], [f"4 {fills} {last - 1}"]):
        with pytest.raises(AssertionError):
            wire.check("\n".join([*told, *wrong]), prepared, contender)


def test_a_contender_that_dies_fails_at_once(wire: Any) -> None:
    """Not after the deadline of a connection, which is minutes."""
    dead = wire.Contender("dead", "dead on arrival", Path(shutil.which("false") or "false"))
    began = time.monotonic()
    with pytest.raises(RuntimeError, match="dead on arrival: ended with 1 before it connected"):
        wire.run(dead, wire.prepare(10))
    assert time.monotonic() - began < wire.DEADLINE_S / 4
