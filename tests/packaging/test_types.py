"""What a type checker sees: a program against the public interface, and stubs that say what was compiled."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).parent


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *map(str, command)], cwd=ROOT, capture_output=True, text=True, timeout=200,
        check=False,
    )  # fmt: skip


def strict(*programs: Path, cache: Path) -> subprocess.CompletedProcess[str]:
    return run("mypy", "--strict", "--cache-dir", cache, *programs)


def test_a_typed_program_checks_as_it_says(tmp_path: Path) -> None:
    """Every `assert_type` holds, and every line marked as wrong is an error of the kind it names."""
    wrong = tmp_path / "wrong.py"
    wrong.write_text(
        "from typing import assert_type\nimport nadofast\n"
        "def f(book: nadofast.OrderBook) -> None:\n    assert_type(book.best_bid, tuple[int, int])\n"
    )
    # The cache of `make types`, with the same options: what one has read the other need not.
    done = strict(HERE / "typed_consumer.py", wrong, cache=ROOT / ".mypy_cache")
    found = [line for line in done.stdout.splitlines() if ": error:" in line]
    assert len(found) == 1, done.stdout + done.stderr
    assert f"{wrong.name}:4: error:" in found[0]  # it can fail; a cached answer names the last run's place
    assert found[0].endswith("[assert-type]")


def test_the_stubs_are_those_of_the_compiled_modules(tmp_path: Path) -> None:
    """What stubs import is not followed: `make types` checks that, and it would take most of the time."""
    config = tmp_path / "stubtest.ini"
    config.write_text("[mypy]\nstrict = True\nfollow_imports = skip\n")
    modules = sorted(f"nadofast.{stub.stem}" for stub in (ROOT / "nadofast").glob("*.pyi"))
    assert len(modules) >= 10
    done = run(
        "mypy.stubtest", *modules, "--concise", "--ignore-disjoint-bases",
        "--mypy-config-file", config, "--allowlist", HERE / "stubs.allow",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_compiled_module_has_a_stub() -> None:
    compiled = {source.stem for source in (ROOT / "nadofast").glob("*.pyx")}
    assert compiled == {stub.stem for stub in (ROOT / "nadofast").glob("*.pyi")}
