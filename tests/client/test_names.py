"""Every historical name of docs/names.md is where the page says, and everything by such a name is on it."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any

import pytest

import nadofast
from bot.byname import PairByName
from bot.named import NamedRecords

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "names.md").read_text()
ROW = re.compile(r"^\| (`.+?) \| (`.+?) \| (.*?) ?\|$", re.MULTILINE)
CODE = re.compile(r"`([^`]+)`")
ROWS = [(CODE.findall(names), CODE.findall(paths)) for names, paths, _ in ROW.findall(PAGE)]
PATHS = sorted({path for _, paths in ROWS for path in paths})


def find(path: str) -> Any:
    """The object of a dotted path: a module, then attributes."""
    parts = path.split(".")
    found: Any = importlib.import_module(".".join(parts[:2]))
    for part in parts[2:]:
        found = getattr(found, part)
    return found


@pytest.mark.parametrize("path", PATHS)
def test_it_is_where_the_page_says(path: str) -> None:
    found = find(path)
    assert found is not None
    assert callable(found) or isinstance(found, property) or path.endswith("ParsedMessage")


def test_no_row_of_the_page_is_overlooked() -> None:
    rows = [line for line in PAGE.splitlines() if line.startswith("| `")]
    assert len(rows) == len(ROWS) > 80
    assert all(names and paths for names, paths in ROWS)


def test_every_class_by_a_historical_name_is_on_the_page() -> None:
    classes = {name for name in nadofast.__all__ if re.match(r"Nado[A-Z]", name)} - {"NadoError"}
    assert len(classes) > 12
    assert classes <= {name for names, _ in ROWS for name in names}


@pytest.mark.parametrize("part", [PairByName, NamedRecords])
def test_every_step_of_the_pair_by_name_is_on_the_page(part: type) -> None:
    members = {f"bot.pair.DNPairBot.{name}" for name in vars(part) if not name.startswith("_")}
    assert len(members) > 3
    assert members <= set(PATHS)


@pytest.mark.parametrize(
    "path",
    sorted(path for path in PATHS if path.startswith("nadofast.") and path.split(".")[-1].startswith("Nado")),
)
def test_classes_are_exported_and_explained(path: str) -> None:
    found = find(path)
    assert getattr(nadofast, found.__name__) is found
    assert found.__doc__
