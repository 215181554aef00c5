"""The kept table of survivors: what they change, and why nobody could notice."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mutate import Mutant

TABLE: Final = Path(__file__).with_name("explained.toml")


@dataclass(frozen=True, slots=True)
class Place:
    """A mutant, named so that other lines may come and go around it."""

    module: str
    text: str
    column: int
    what: str

    def __str__(self) -> str:
        return f"{self.module}, column {self.column} of {self.text!r}: {self.what}"


def place(module: str, source: str, mutant: Mutant) -> Place:
    line = source.splitlines()[mutant.line - 1]
    indent = len(line) - len(line.lstrip())
    return Place(module, line.strip(), mutant.column - indent, mutant.what)


def explained(table: Path = TABLE) -> dict[Place, str]:
    """Reason by place. Raises ValueError for an entry without one, or one that stands twice."""
    found: dict[Place, str] = {}
    for row in tomllib.loads(table.read_text(encoding="utf-8")).get("mutant", []):
        where = Place(row["module"], row["text"], row["column"], row["what"])
        if where in found or not row["why"].strip():
            raise ValueError(f"{table}: {where}: twice, or without a reason")
        found[where] = row["why"]
    return found


def in_vain(module: str, made: Iterable[Place], known: Iterable[Place]) -> list[Place]:
    """Explanations of what is no mutant any more."""
    there = set(made)
    return [where for where in known if where.module == module and where not in there]
