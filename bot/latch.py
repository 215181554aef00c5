"""The kill switch and the day's result, kept on disk so that a restart does not forget them.

A halt is taken back by hand only (`python -m bot resume`): neither midnight nor a restart does it. A file
that cannot be read counts as a halt, because nobody can say that it was none.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Protocol

from . import statedir


@dataclass(frozen=True, slots=True)
class Halt:
    """at_s: UTC seconds. failure: why it could not be written down; then it lasts as long as the process."""

    reason: str
    at_s: float
    failure: str = ""

    def __str__(self) -> str:
        return f"{self.reason} (since {datetime.fromtimestamp(self.at_s, UTC):%Y-%m-%d %H:%M:%S} UTC)"


class KillSwitch:
    """On from the first `engage` until somebody resumes. path None: it lasts as long as the process.

    The write is one small replacement of a file, without waiting for the disk: a kill keeps it.
    """

    def __init__(self, path: Path | None = None, *, wall_s: Callable[[], float] = time.time) -> None:
        self._path = path
        self._wall_s = wall_s
        self.halt: Halt | None = None if path is None else read_halt(path)

    def engage(self, reason: str) -> None:
        """Turn it on. The first reason stays."""
        if self.halt is not None:
            return
        at_s, failure = self._wall_s(), ""
        if self._path is not None:
            try:
                statedir.write_json(self._path, {"reason": reason, "at_s": at_s})
            except OSError as error:
                failure = error.strerror or str(error)
        self.halt = Halt(reason, at_s, failure)


def read_halt(path: Path) -> Halt | None:
    """The halt on disk, None if there is none."""
    try:
        document = statedir.read_json(path)
        if document is None:
            return None
        return Halt(str(document["reason"]), float(document["at_s"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        return Halt(f"{path} cannot be read ({type(error).__name__}): resume by hand once you know why", 0.0)


def resume(path: Path) -> Halt | None:
    """Take back the halt on disk; what it was, None if there was none. Raises OSError."""
    halt = read_halt(path)
    statedir.remove(path)
    return halt


class DayStore(Protocol):
    """Where the result of the UTC day is kept between runs. Amounts are x18 quote."""

    def load(self, day: date) -> int: ...

    def save(self, day: date, net_x18: int) -> None: ...


class DayFile:
    """The day's net result as one small file. failure: why the last one could not be written."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._saved: tuple[date, int] | None = None
        self.failure = ""

    def load(self, day: date) -> int:
        """What former runs of this day made. Raises ValueError when the file is not one of ours."""
        document = statedir.read_json(self._path)
        if document is None or document["day"] != day.isoformat():
            return 0
        return int(document["net_x18"])

    def save(self, day: date, net_x18: int) -> None:
        if self._saved == (day, net_x18):
            return
        try:
            statedir.write_json(self._path, {"day": day.isoformat(), "net_x18": str(net_x18)})
        except OSError as error:
            self.failure = error.strerror or str(error)
            return
        self._saved, self.failure = (day, net_x18), ""
