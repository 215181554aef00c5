"""Imports run one way, addresses live in one file, and the core needs no HTTP client."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import nadofast

ROOT = Path(__file__).resolve().parents[2]
FORBIDDEN = {
    "nadofast": {"bot", "nadosim", "tests", "bench"},
    "nadosim": {"nadofast", "bot", "tests", "bench"},
}
FORBIDDEN["bot"] = {"nadosim", "tests", "bench"}


def sources(package: str) -> list[Path]:
    found = [
        path for pattern in ("*.py", "*.pyi", "*.pyx", "*.pxd") for path in (ROOT / package).glob(pattern)
    ]
    assert found
    return found


def imported(path: Path) -> set[str]:
    """Top-level names of what a file imports."""
    text = path.read_text()
    if path.suffix in (".pyx", ".pxd"):
        return set(re.findall(r"^\s*(?:from|import|cimport)\s+([A-Za-z_]\w*)", text, re.MULTILINE))
    names: set[str] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.add(node.module.split(".")[0])
    return names


@pytest.mark.parametrize("package", sorted(FORBIDDEN))
def test_imports_run_one_way(package: str) -> None:
    for path in sources(package):
        assert not imported(path) & FORBIDDEN[package], path.name


def test_addresses_live_in_one_file() -> None:
    for path in sources("nadofast"):
        if path.name == "network.py":
            continue
        assert not re.search(r"(?:https?|wss?)://", path.read_text()), path.name


def test_channel_names_live_in_one_file() -> None:
    """Wire strings that only a message may contain are written in `wire.py` and in the compiled parser."""
    words = ("best_bid_offer", "book_depth", "order_update", "position_change", "cancel_and_place")
    for path in (ROOT / "nadofast").glob("*.py"):
        if path.name in ("wire.py",):
            continue
        strings = [
            node.value
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Constant) and isinstance(node.value, str)
        ]
        assert not [word for word in words if word in strings], path.name


def test_no_wait_uses_a_number_of_its_own() -> None:
    """Times are fields of configuration objects: no sleep or timeout has a literal."""
    pattern = re.compile(r"(?:sleep|timeout|wait_for)\(\s*[0-9.]*[1-9]")
    for path in (ROOT / "nadofast").glob("*.py"):
        assert not pattern.search(path.read_text()), path.name


def test_the_core_imports_without_an_http_client() -> None:
    program = (
        "import sys; sys.modules['aiohttp'] = None; import nadofast; nadofast.Feed; nadofast.OrderGateway"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT, timeout=30)


def test_everything_public_exists() -> None:
    for name in nadofast.__all__:
        assert getattr(nadofast, name) is not None
    assert nadofast.__version__ == "0.1.0"
    needed = {
        "parse",
        "OrderBook",
        "Feed",
        "Signer",
        "OrderGateway",
        "Rest",
        "errors",
        "events",
        "OrderTracker",
    }
    assert needed <= set(nadofast.__all__)
