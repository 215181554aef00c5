"""The record of the chaos campaigns as one matrix a subject: fault × phase.

A cell is the number of runs in which that fault struck in that phase, and the worst recovery among them. A
run with several faults counts once for each of them; facts are counted once.

    python tests/chaos/matrix.py runs/chaos.jsonl
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

RECOVERY = {
    "streams": "from the end of the fault until every book, BBO and the account are live",
    "orders": "from sent until the outcome is known, the worst order of a run with HTTP up",
    "orders over sockets": "from sent until the outcome is known, the worst order of a trader",
    "pair": "the longest stretch on one leg in the run",
    "kills": "not timed: every order's end is found by the next process",
}
# Phases in the order of a life; those not named here come after, by name.
PHASES = (
    "connecting", "authenticating", "subscribing", "live", "stale", "resyncing", "backoff", "rest",
    "left alone", "no cut", "cut before a request", "cut under a request", "cut after a request",
    "FLAT", "BUILDING", "HEDGED", "UNWINDING", "RECOVERING", "HALTED", "whole run",
)  # fmt: skip
WORDS_OF_LOSS = ("lost", "nobody wrote down", "without an end", "not told")
WORDS_OF_DOUBLING = ("told twice", "signed twice", "filled more", "doubled")


@dataclass
class Cell:
    runs: int = 0
    failed: int = 0
    worst_ms: float | None = None

    def add(self, recovery_ms: float | None, failure: str) -> None:
        self.runs += 1
        self.failed += bool(failure)
        if recovery_ms is not None:
            self.worst_ms = max(self.worst_ms or 0.0, recovery_ms)

    def __str__(self) -> str:
        text = str(self.runs) if not self.failed else f"{self.runs}, {self.failed} FAILED"
        return text if self.worst_ms is None else f"{text} · {self.worst_ms / 1e3:.2f} s"


@dataclass
class Matrix:
    """One subject."""

    subject: str
    cells: dict[tuple[str, str], Cell] = field(default_factory=lambda: defaultdict(Cell))
    facts: int = 0
    lost: int = 0
    doubled: int = 0
    failures: list[str] = field(default_factory=list)

    def add(self, line: dict[str, object]) -> None:
        failure, recovery = str(line["failure"]), line["recovery_ms"]
        recovery_ms = float(recovery) if isinstance(recovery, int | float) else None
        self.cells[str(line["fault"]), str(line["phase"])].add(recovery_ms, failure)
        self.facts += int(str(line["facts"]))
        if failure and failure not in self.failures:
            self.failures.append(failure)
            self.lost += any(word in failure for word in WORDS_OF_LOSS)
            self.doubled += any(word in failure for word in WORDS_OF_DOUBLING)

    def text(self) -> str:
        faults = sorted({fault for fault, _ in self.cells})
        phases = sorted({phase for _, phase in self.cells}, key=_turn)
        rows = [["fault", *phases]]
        for fault in faults:
            cells = (self.cells.get((fault, phase)) for phase in phases)
            rows.append([fault, *("·" if cell is None else str(cell) for cell in cells)])
        worst = max((c.worst_ms for c in self.cells.values() if c.worst_ms is not None), default=None)
        return "\n".join(
            (
                f"\n{self.subject}: runs · worst recovery ({RECOVERY.get(self.subject, 'as recorded')})\n",
                *_table(rows),
                f"\n{self.facts:,} facts held against the exchange's record: lost {self.lost},"
                f" doubled {self.doubled}; {len(self.failures)} failures"
                + ("" if worst is None else f"; worst recovery {worst / 1e3:.2f} s"),
                *(f"  FAILED {failure}" for failure in self.failures[:10]),
            )
        )


def read(lines: Iterable[str]) -> dict[str, Matrix]:
    """Subject → matrix, in the order of the record."""
    found: dict[str, Matrix] = {}
    for text in lines:
        line = json.loads(text)
        found.setdefault(line["subject"], Matrix(line["subject"])).add(line)
    return found


def _turn(phase: str) -> tuple[int, str]:
    return PHASES.index(phase) if phase in PHASES else len(PHASES), phase


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows of a Markdown table, columns aligned."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        for row in rows
    ]
    return [lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]]


def main(path: Path, wanted: Sequence[str] = ()) -> int:
    """Print the matrices; 1 if a run failed, or if a wanted subject has no run."""
    found = read(path.read_text().splitlines()) if path.exists() else {}
    for matrix in found.values():
        print(matrix.text())
    missing = [subject for subject in wanted if subject not in found]
    for subject in missing:
        print(f"\n{subject}: no run is on record")
    failures = sum(len(matrix.failures) for matrix in found.values())
    print(
        f"\nin all: {sum(m.facts for m in found.values()):,} facts,"
        f" lost {sum(m.lost for m in found.values())}, doubled {sum(m.doubled for m in found.values())},"
        f" {failures} failures"
    )
    return int(bool(failures or missing or not found))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
