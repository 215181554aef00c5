"""The benchmark gate cannot be passed by not running it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

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
