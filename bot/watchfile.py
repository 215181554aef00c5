"""The file of a run that says how it was watched: one row for each five minutes, `trades-watch.csv`.

`report` adds the rows up by UTC day. What was not looked at is not in a share, and an empty file is no proof
of anything: the hours are said beside the share.
"""

from __future__ import annotations

import csv
import html
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Final

from .tradefile import TradeFileError
from .watch import Bucket

COLUMNS: Final = (
    "timestamp", "seconds", "looks", "fresh_looks", "cycles", "fills", "halts", "link_losses",
    "worst_age_ms", "worst_age_symbol",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Watched:
    """Some rows added up. worst_age_ms: of the oldest price that was seen, None if there was none."""

    seconds: float
    looks: int
    fresh: int
    cycles: int
    fills: int
    halts: int
    link_losses: int
    worst_age_ms: float | None
    worst_symbol: str

    def __add__(self, other: Watched) -> Watched:
        worst = max(self, other, key=lambda one: -1.0 if one.worst_age_ms is None else one.worst_age_ms)
        return Watched(
            self.seconds + other.seconds, self.looks + other.looks, self.fresh + other.fresh,
            self.cycles + other.cycles, self.fills + other.fills, self.halts + other.halts,
            self.link_losses + other.link_losses, worst.worst_age_ms, worst.worst_symbol,
        )  # fmt: skip

    @property
    def fresh_pct(self) -> float | None:
        """Share of looks that found valid books and fresh prices."""
        return 100 * self.fresh / self.looks if self.looks else None

    def words(self) -> str:
        """For people."""
        share = "never looked at" if self.fresh_pct is None else f"fresh data {self.fresh_pct:.2f} %"
        return (
            f"{self.seconds / 3600:.2f} h: {share}, {self.halts} halts, {self.link_losses} links lost,"
            f" oldest price {self._oldest()}"
        )

    def cells(self) -> list[str]:
        share = "-" if self.fresh_pct is None else f"{self.fresh_pct:.2f}"
        counts = (self.cycles, self.fills, self.halts, self.link_losses)
        return [f"{self.seconds / 3600:.2f}", share, *map(str, counts), self._oldest()]

    def _oldest(self) -> str:
        return "none" if self.worst_age_ms is None else f"{self.worst_age_ms:.0f} ms ({self.worst_symbol})"


NOTHING: Final = Watched(0.0, 0, 0, 0, 0, 0, 0, None, "")
Days = dict[date, Watched]


def row(bucket: Bucket, now: datetime | None = None) -> dict[str, str]:
    """One row of the file; `now` is when the bucket was complete."""
    symbol = max(bucket.ages_ms, key=bucket.ages_ms.__getitem__, default="")
    return {
        "timestamp": (now or datetime.now(UTC)).isoformat(timespec="milliseconds"),
        "seconds": f"{bucket.seconds:.1f}",
        "looks": str(bucket.looks),
        "fresh_looks": str(bucket.fresh),
        "cycles": f"{bucket.cycles:.0f}",
        "fills": f"{bucket.fills:.0f}",
        "halts": str(bucket.halts),
        "link_losses": f"{bucket.losses:.0f}",
        "worst_age_ms": f"{bucket.ages_ms[symbol]:.1f}" if symbol else "",
        "worst_age_symbol": symbol,
    }


def read(paths: Iterable[Path]) -> Days:
    """What some runs have seen, by UTC day. A file that is not there says nothing. Raises TradeFileError."""
    found: Days = {}
    for path in paths:
        for day, watched in _read_one(path) if path.exists() else ():
            found[day] = found.get(day, NOTHING) + watched
    return dict(sorted(found.items()))


def _read_one(path: Path) -> list[tuple[date, Watched]]:
    found: list[tuple[date, Watched]] = []
    try:
        with path.open(newline="", encoding="utf-8") as opened:
            for cells in csv.DictReader(opened):
                found.append((datetime.fromisoformat(cells["timestamp"]).date(), _watched(cells)))
    except OSError as error:
        raise TradeFileError(f"{path}: {error.strerror}") from None
    except (ValueError, TypeError, KeyError, csv.Error) as error:
        raise TradeFileError(f"{path}: row {len(found) + 2} cannot be read: {error}") from None
    return found


def _watched(cells: dict[str, Any]) -> Watched:
    looks, fresh, cycles, fills, halts, losses = (int(cells[name]) for name in COLUMNS[2:8])
    age, symbol = cells["worst_age_ms"], cells["worst_age_symbol"]
    if symbol is None:
        raise ValueError("it is torn")
    age_ms = float(age) if age else None
    return Watched(float(cells["seconds"]), looks, fresh, cycles, fills, halts, losses, age_ms, symbol)


def whole(days: Days) -> Watched | None:
    """All days added up; None if nothing was written down."""
    return sum(days.values(), NOTHING) if days else None


def table(days: Days) -> str:
    """HTML, one row a day."""
    names = ("UTC day", "watched h", "fresh data %", "cycles", "fills", "halts", "links lost", "oldest price")
    head = "".join(f"<th>{name}</th>" for name in names)
    body = "".join(_line([str(day), *watched.cells()]) for day, watched in days.items())
    return f"<table><tr>{head}</tr>{body}</table>"


def _line(cells: Sequence[str]) -> str:
    return "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in cells) + "</tr>"
