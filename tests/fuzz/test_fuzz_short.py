"""Every fuzz target for a few seconds on this build; behind `make long` for minutes on a sanitizer build."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import variant

ROOT = Path(__file__).parent.parent.parent
SCRIPT = "tests/fuzz/run.py"
TARGETS = ("inflate", "parse", "book", "frames")


def fuzz(root: Path, target: str, seconds: float, seed: int, environment: dict[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, SCRIPT, "--target", target, "--seconds", str(seconds), "--seed", str(seed)],
        cwd=root,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=seconds + 120,
        check=False,
    )
    print(done.stdout[-2000:], done.stderr[-8000:])
    assert done.returncode == 0
    assert "no finding" in done.stdout
    assert "runtime error" not in done.stderr


@pytest.mark.parametrize("target", TARGETS)
def test_short(target: str) -> None:
    fuzz(ROOT, target, 2.0, 1, {})


@pytest.fixture(scope="module")
def sanitized() -> Path:
    """A copy of the sources, compiled with the sanitizers."""
    return variant.make("sanitize")


@pytest.mark.long
@pytest.mark.parametrize("target", TARGETS)
def test_fuzz_sanitized(target: str, sanitized: Path) -> None:
    """Seeds from NADOFAST_SEEDS (first:last+1), NADOFAST_FUZZ_SECONDS each."""
    first, last = map(int, os.environ.get("NADOFAST_SEEDS", "0:2").split(":"))
    environment = variant.environment("sanitize")
    seconds = float(os.environ.get("NADOFAST_FUZZ_SECONDS", "100"))
    for seed in range(first, last):
        fuzz(sanitized, target, seconds, seed, environment)
