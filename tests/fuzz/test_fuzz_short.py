"""Every fuzz target for a few seconds on this build; behind `make long` for minutes on a sanitizer build."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import guided
import pytest
import variant

ROOT = Path(__file__).parent.parent.parent
TARGETS = ("inflate", "parse", "book", "frames")
GUIDED = (*TARGETS, "journal")


def fuzz(
    root: Path, target: str, seconds: float, seed: int, environment: dict[str, str], script: str = "run"
) -> None:
    done = subprocess.run(
        [
            sys.executable,
            f"tests/fuzz/{script}.py",
            "--target",
            target,
            "--seconds",
            str(seconds),
            "--seed",
            str(seed),
        ],
        cwd=root,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=4 * seconds + 120,  # seconds are of the processor, which others use too
        check=False,
    )
    print(done.stdout[-2000:], done.stderr[-8000:])
    assert done.returncode == 0
    assert "no finding" in done.stdout
    assert "runtime error" not in done.stderr


@pytest.mark.parametrize("target", TARGETS)
def test_short(target: str) -> None:
    fuzz(ROOT, target, 2.0, 1, {})


@pytest.mark.parametrize("target", GUIDED)
def test_every_kept_case(target: str) -> None:
    """What the guided fuzzer kept, on this build: the cases that reach most of what it ever reached."""
    kept, check = guided.corpus(target), guided.targets()[target]()
    assert len(kept) >= 10
    try:
        for data in kept:
            check(data)
    finally:
        getattr(check, "close", lambda: None)()


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


@pytest.mark.long
@pytest.mark.parametrize("target", GUIDED)
def test_fuzz_guided(target: str) -> None:
    """As the one above, led by the edges that cases reach."""
    first, last = map(int, os.environ.get("NADOFAST_SEEDS", "0:2").split(":"))
    tree, environment = variant.make("guided"), variant.environment("guided")
    seconds = float(os.environ.get("NADOFAST_FUZZ_SECONDS", "100"))
    for seed in range(first, last):
        fuzz(tree, target, seconds, seed, environment, "guided")
