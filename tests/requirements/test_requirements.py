"""docs/requirements.md: no requirement is missing, and every test it names exists and is run by a command."""

from __future__ import annotations

import ast
import re
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "requirements.md").read_text()
IDS = (ROOT / "tests" / "data" / "requirement_ids.txt").read_text().split()
ROW = re.compile(r"^\| ([PW]\d{3}) \| (.+) \| (`.+`) \|$", re.MULTILINE)
ROWS = ROW.findall(PAGE)
NAMED = sorted({name for _, _, tests in ROWS for name in re.findall(r"`([^`]+)`", tests)})


@cache
def names_in(path: str) -> frozenset[str]:
    """Names of the test functions of a file, as pytest would collect them."""
    tree = ast.parse((ROOT / path).read_text())
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    return frozenset(
        node.name for node in tree.body if isinstance(node, functions) and node.name.startswith("test_")
    )


def test_no_requirement_is_missing_and_none_is_there_twice() -> None:
    assert [count for count in Counter(row[0] for row in ROWS).values() if count > 1] == []
    assert sorted(row[0] for row in ROWS) == sorted(IDS)
    assert len(re.findall(r"^\| [PW]\d", PAGE, re.MULTILINE)) == len(ROWS), "a row that is not read"


def test_every_row_says_something() -> None:
    assert not [row[0] for row in ROWS if len(row[1]) < 8]
    assert len({row[1] for row in ROWS}) > 0.9 * len(ROWS)


@pytest.mark.parametrize("path", sorted({name.partition("::")[0] for name in NAMED}))
def test_every_test_named_here_exists(path: str) -> None:
    """In a file that `make test`, `make long` or `make bench` collects."""
    assert re.fullmatch(r"tests/\w+/test_\w+\.py|bench/test_\w+\.py", path)
    wanted = {name.partition("::")[2] for name in NAMED if name.startswith(f"{path}::")}
    assert wanted
    assert wanted <= names_in(path), wanted - names_in(path)
