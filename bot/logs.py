"""What people read: one plain line per event, and tables. Written by the loop itself, between its callbacks.

Lines go to stdout and, if asked for, to a file. Nobody waits for a reader: what a pipe or a terminal does not
take at once stays in a bounded queue, and lines beyond it are dropped and counted. A closed pipe or a full
disk is remembered, never raised.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import secrets
import sys
from collections import deque
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, TextIO

from .screen import Screen

QUEUE_LINES: Final = 10_000
JOBS_A_TURN: Final = 64
RECENT_LINES: Final = 12
CLOSE_TIMEOUT_S: Final = 2.0


class Output:
    """All that the bot prints or appends goes through it, in order, right after the callback that said it.

    Files are written as they are (a page of the system's memory takes it); a stream that may be full is asked
    first. Outside of a loop everything is written at once.
    """

    def __init__(self, stream: TextIO | None = None, log_file: Path | None = None) -> None:
        """Raises OSError if the log file cannot be opened."""
        shown = sys.stdout if stream is None else stream
        self._screen = None if shown is None else Screen(shown)
        self._file = log_file.open("a", encoding="utf-8") if log_file is not None else None
        self._jobs: deque[Callable[[], None]] = deque()
        self._is_due = False
        self._dropped = 0
        self._failure: str | None = None

    @property
    def dropped(self) -> int:
        """Lines that went nowhere."""
        return self._dropped + (0 if self._screen is None else self._screen.dropped)

    @property
    def failure(self) -> str | None:
        """Why something was not written, None if all was."""
        return self._failure or (None if self._screen is None else self._screen.failure)

    def line(self, text: str) -> None:
        """Print one line (or several, already joined)."""
        self.submit(lambda: self._write(text + "\n"))

    def submit(self, job: Callable[[], None]) -> None:
        """Run a small write (an appended CSV row) in its turn with the lines."""
        if len(self._jobs) >= QUEUE_LINES:
            self._dropped += 1
            return
        self._jobs.append(job)
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self._work(len(self._jobs))
            return
        if not self._is_due:
            self._is_due = True
            loop.call_soon(self._turn, loop)

    def close(self) -> None:
        """Write what is queued, wait for a slow reader at most two seconds, and close the log file."""
        self._work(len(self._jobs))
        if self._screen is not None:
            self._screen.close(CLOSE_TIMEOUT_S)
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.close()
            self._file = None

    def _turn(self, loop: asyncio.AbstractEventLoop) -> None:
        self._work(JOBS_A_TURN)
        self._is_due = bool(self._jobs)
        if self._is_due:
            loop.call_soon(self._turn, loop)

    def _work(self, most: int) -> None:
        for _ in range(min(most, len(self._jobs))):
            try:
                self._jobs.popleft()()
            except OSError as error:
                self._failure = error.strerror or type(error).__name__
            except Exception as error:  # one bad line must not keep the others
                self._failure = f"{type(error).__name__}: {error}"

    def _write(self, text: str) -> None:
        if self._screen is not None:
            self._screen.write(text)
        if self._file is not None:
            self._file.write(text)
            self._file.flush()


class EventLog:
    """Event lines: `HH:MM:SS.mmm  c03 BUY_FIRST  text`; with as_json one object a line instead.

    recent: the last lines, for whoever looks at the bot. dropped: lines that nobody could be made to read.
    run: tells this run's records from those of others in one place.
    """

    def __init__(self, output: Output, *, as_json: bool = False) -> None:
        self._output = output
        self._as_json = as_json
        self.context = ""
        self.run = secrets.token_hex(4)
        self.recent: deque[str] = deque(maxlen=RECENT_LINES)

    @property
    def dropped(self) -> int:
        return self._output.dropped

    @property
    def failure(self) -> str:
        """Why something was not written; "" if all was."""
        return self._output.failure or ""

    def event(self, text: str, **fields: object) -> None:
        """fields: ids and figures a program wants: `signal`, `tag` and `digest` of an order, for example."""
        now = datetime.now(UTC)
        stamp = f"{now:%H:%M:%S}.{now.microsecond // 1000:03d}"
        self.recent.append(f"{stamp}  {self.context:<15}  {text}")
        if self._as_json:
            self._output.line(json.dumps(self._record(now) | {"text": text} | fields, default=str))
        else:
            self._output.line(self.recent[-1])

    def block(self, lines: Sequence[str]) -> None:
        """Lines that belong together: a table, a summary."""
        if self._as_json:
            self._output.line(json.dumps(self._record(datetime.now(UTC)) | {"block": list(lines)}))
        else:
            self._output.line("\n".join(lines))

    def _record(self, now: datetime) -> dict[str, object]:
        at = now.isoformat(timespec="microseconds")
        return {"at": at, "run": self.run, "context": self.context}


def table(header: Sequence[str], rows: Sequence[Sequence[str]], *, indent: str = "  ") -> list[str]:
    """Aligned columns: the first to the left, the others to the right."""
    cells = [list(header), *[list(row) for row in rows]]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    lines = []
    for row in cells:
        parts = [row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))]
        lines.append((indent + "  ".join(parts)).rstrip())
    rule = indent + "─" * (sum(widths) + 2 * (len(widths) - 1))
    return [lines[0], rule, *lines[1:]]


class LogBridge(logging.Handler):
    """Warnings of the libraries as event lines: message only, never a traceback, at most ten a second. Those
    beyond are counted; the next one of another second, or `close`, says how many."""

    PER_SECOND: Final = 10

    def __init__(self, log: EventLog) -> None:
        super().__init__(logging.WARNING)
        self._log = log
        self._second = 0
        self._count = 0

    def emit(self, record: logging.LogRecord) -> None:
        second = int(record.created)
        if second != self._second:
            self._say_left_out()
            self._second = second
        self._count += 1
        if self._count <= self.PER_SECOND:
            try:
                text = record.getMessage()
            except (TypeError, ValueError):  # arguments that do not fit their format
                text = str(record.msg)
            first = next(iter(text.splitlines()), "")
            self._log.event(f"{record.levelname.lower()}: {first}")

    def close(self) -> None:
        """Say what was left out at last."""
        self._say_left_out()
        super().close()

    def _say_left_out(self) -> None:
        left_out, self._count = self._count - self.PER_SECOND, 0
        if left_out > 0:
            self._log.event(f"warning: {left_out} more in the same second are not shown")
