"""A promise of the order code that a mutant takes away is missed by a test (`make long SUITE=hand_made`)."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from handmade import MUTANTS, ROOT, VARIABLE

TESTS_FAILED = 1


@pytest.mark.parametrize("name", MUTANTS)
def test_a_mutant_is_another_program_and_its_tests_are_there(name: str) -> None:
    mutant = MUTANTS[name]
    compile(mutant.source(), mutant.file, "exec")
    assert mutant.old != mutant.new
    assert all((ROOT / test).is_file() for test in mutant.tests)


@pytest.mark.long
@pytest.mark.parametrize("name", MUTANTS)
def test_a_hand_made_mutant_is_noticed(name: str) -> None:
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    tests = [str(ROOT / test) for test in MUTANTS[name].tests]
    command = [sys.executable, "-m", "pytest", "-p", "handmade", "-x", "-q", "-n", "0", *tests]
    command += ["-p", "no:cacheprovider"]
    environment = {**os.environ, VARIABLE: name, "PYTHONPATH": path}
    run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == TESTS_FAILED, run.stdout[-2_000:] + run.stderr[-2_000:]
