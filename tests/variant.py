"""A copy of the sources in build/KIND-tree, compiled as another kind of build, so that kinds never mix.

    python tests/variant.py coverage|debug|sanitize|guided      make or renew the copy, print its path
    python tests/variant.py --environment KIND           KEY=VALUE lines that Python needs to run in it

Only what changed is copied, so that only what changed is compiled again.
"""

from __future__ import annotations

import argparse
import filecmp
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
KINDS = ("coverage", "debug", "sanitize", "guided")
FOLDERS = ("nadofast", "bot", "nadosim", "bench", "docs", "examples", "tests")
FILES = (
    "setup.py",
    "pyproject.toml",
    "constraints.txt",
    "Makefile",
    "MANIFEST.in",
    "README.md",
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "LICENSE",
)
BUILT = (".so", ".c", ".pyc", ".html")


def sources() -> set[Path]:
    found = {Path(name) for name in FILES}
    for folder in FOLDERS:
        for path in (ROOT / folder).rglob("*"):
            relative = path.relative_to(ROOT)
            generated = path.suffix in BUILT and relative.parts[0] not in ("bench", "tests")
            if path.is_file() and not generated and "__pycache__" not in relative.parts:
                found.add(relative)
    return found


def copy(tree: Path) -> None:
    wanted = sources()
    for relative in wanted:
        target = tree / relative
        if not target.exists() or not filecmp.cmp(ROOT / relative, target, shallow=False):
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / relative, target)
    for folder in FOLDERS:
        for path in (tree / folder).rglob("*"):
            if path.is_file() and path.suffix not in BUILT and path.relative_to(tree) not in wanted:
                path.unlink()


def make(kind: str) -> Path:
    """Copy, compile; the tree's root."""
    tree = ROOT / "build" / f"{kind}-tree"
    copy(tree)
    subprocess.run(
        [sys.executable, "setup.py", "-q", "build_ext", "--inplace"],
        cwd=tree,
        env=os.environ | {"NADOFAST_BUILD": kind},
        stdout=sys.stderr,
        timeout=1800,
        check=True,
    )
    if kind == "guided":
        subprocess.run(
            ["gcc", "-O2", "-shared", "-fPIC", "-Wall", "-o", edges(tree), tree / "tests/fuzz/edges.c"],
            timeout=120,
            check=True,
        )
    return tree


def edges(tree: Path) -> Path:
    """The library that counts for the guided fuzzer."""
    return tree / "build" / "libedges.so"


def runtime(name: str) -> str:
    done = subprocess.run(
        ["gcc", f"-print-file-name={name}"], capture_output=True, text=True, timeout=30, check=True
    )
    return done.stdout.strip()


def environment(kind: str) -> dict[str, str]:
    """What the interpreter needs to run in that tree: its own modules first, and the sanitizers' runtime."""
    found = {"PYTHONPATH": str(ROOT / "build" / f"{kind}-tree")}
    if kind in ("sanitize", "guided"):
        preloaded = [runtime("libasan.so"), runtime("libubsan.so")]
        if kind == "guided":
            preloaded.append(str(edges(ROOT / "build" / "guided-tree")))
        found |= {
            "LD_PRELOAD": " ".join(preloaded),
            # Python itself never frees everything; what nadofast leaves behind is counted by test_leaks.
            # Freed memory that is held back (256 MB by default) would look like growth to test_memory.
            "ASAN_OPTIONS": "detect_leaks=0:allocator_may_return_null=1:quarantine_size_mb=16",
            "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1",
            "PYTHONMALLOC": "malloc",
        }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("--environment", action="store_true")
    options = parser.parse_args()
    if options.environment:
        for key, value in environment(options.kind).items():
            print(f"{key}={value}")
    else:
        print(make(options.kind))


if __name__ == "__main__":
    main()
