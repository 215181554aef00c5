"""The kill switch and the day's result, kept on disk so that a restart does not forget them.

A halt is taken back by hand only (`python -m bot resume`): neither midnight nor a restart does it. A file
that cannot be read counts as a halt, because nobody can say that it was none. What cannot be written is said,
loudly, and tried again until it can.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Final, Protocol

from . import statedir
from .units import NS_PER_S

RETRY_NS: Final = NS_PER_S
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Halt:
    """at_s: UTC seconds. failure: why it is not written down yet; until then it lasts as the process does."""

    reason: str
    at_s: float
    failure: str = ""

    def __str__(self) -> str:
        return f"{self.reason} (since {datetime.fromtimestamp(self.at_s, UTC):%Y-%m-%d %H:%M:%S} UTC)"


class KillSwitch:
    """On from the first `engage` until somebody resumes. path None: it lasts as long as the process.

    The write is one small replacement of a file, without waiting for the disk: a kill keeps it. While it
    fails, `keep` tries again, at most once a second.
    """

    def __init__(
        self,
        path: Path | None = None,
        *,
        wall_s: Callable[[], float] = time.time,
        clock_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._path = path
        self._wall_s = wall_s
        self._clock_ns = clock_ns
        self._tried_ns = 0
        self.halt: Halt | None = None if path is None else read_halt(path)

    def engage(self, reason: str) -> None:
        """Turn it on. The first reason stays."""
        if self.halt is not None:
            return
        self.halt = Halt(reason, self._wall_s())
        self._write(self.halt)

    def keep(self, *, at_once: bool = False) -> None:
        """Write down what could not be written before. at_once: whenever the last try was."""
        is_due = at_once or self._clock_ns() - self._tried_ns >= RETRY_NS
        if self.halt is not None and self.halt.failure and is_due:
            self._write(self.halt)

    def _write(self, halt: Halt) -> None:
        if self._path is None:
            return
        self._tried_ns, failure = self._clock_ns(), ""
        try:
            statedir.write_json(self._path, {"reason": halt.reason, "at_s": halt.at_s})
        except OSError as error:
            failure = error.strerror or str(error)
        if failure and failure != halt.failure:
            _log.critical(
                "%s: the halt is not written down, a restart would forget it: %s", self._path, failure
            )
        if halt.failure and not failure:
            _log.warning("%s: the halt is written down now", self._path)
        self.halt = replace(halt, failure=failure)


def read_halt(path: Path) -> Halt | None:
    """The halt on disk, None if there is none."""
    try:
        document = statedir.read_json(path)
        if document is None:
            return None
        halt = Halt(str(document["reason"]), float(document["at_s"]))
        str(halt)  # raises on a time that is none
        return halt
    except (OSError, ValueError, KeyError, TypeError, OverflowError) as error:
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

    @property
    def failure(self) -> str: ...


class DayFile:
    """The day's net result as one small file. failure: why the last one could not be written."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._saved: tuple[date, int] | None = None
        self._failure = ""

    @property
    def failure(self) -> str:
        return self._failure

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
            failure = error.strerror or str(error)
            if failure != self._failure:
                _log.critical("%s: the day's result is not written down: %s", self._path, failure)
            self._failure = failure
            return
        if self._failure:
            _log.warning("%s: the day's result is written down again", self._path)
        self._saved, self._failure = (day, net_x18), ""
