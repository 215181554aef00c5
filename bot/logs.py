"""What people read: one plain line per event, and tables. A thread writes, so no reader can stall trading.

Lines go to stdout and, if asked for, to a file. A full pipe, a closed pipe or a full disk never reaches the
loop: lines are dropped and counted.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import queue
import sys
import threading
from collections import deque
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, TextIO

QUEUE_LINES: Final = 10_000
RECENT_LINES: Final = 12
CLOSE_TIMEOUT_S: Final = 2.0


class Output:
    """A bounded queue and the one thread that writes. All that the bot prints or appends goes through it."""

    def __init__(self, stream: TextIO | None = None, log_file: Path | None = None) -> None:
        """Raises OSError if the log file cannot be opened."""
        self._stream: TextIO | None = sys.stdout if stream is None else stream
        if isinstance(self._stream, io.TextIOWrapper):
            self._stream.reconfigure(errors="replace")  # a terminal without these letters shows others
        self._file = log_file.open("a", encoding="utf-8") if log_file is not None else None
        self._jobs: queue.Queue[Callable[[], None] | None] = queue.Queue(QUEUE_LINES)
        self._thread = threading.Thread(target=self._run, name="output", daemon=True)
        self._thread.start()
        self.dropped = 0
        self.failure: str | None = None

    def line(self, text: str) -> None:
        """Print one line (or several, already joined)."""
        self.submit(lambda: self._write(text + "\n"))

    def submit(self, job: Callable[[], None]) -> None:
        """Run a small write (an appended CSV row) in the writing thread, in order with the lines."""
        try:
            self._jobs.put_nowait(job)
        except queue.Full:
            self.dropped += 1

    def close(self) -> None:
        """Write what is queued, at most for two seconds, and close the log file."""
        with contextlib.suppress(queue.Full):
            self._jobs.put(None, timeout=CLOSE_TIMEOUT_S)
        self._thread.join(CLOSE_TIMEOUT_S)
        if self._file is not None and not self._thread.is_alive():
            self._file.close()

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                job()
            except OSError as error:
                self.failure = error.strerror or type(error).__name__
            except Exception as error:  # one bad line must not end the thread that writes all others
                self.failure = f"{type(error).__name__}: {error}"

    def _write(self, text: str) -> None:
        if self._stream is not None:
            try:
                self._stream.write(text)
                self._stream.flush()
            except (BrokenPipeError, ValueError):
                self._stream = None
                silence_stdout()
            except OSError as error:  # a full disk behind a redirection: the log file may be elsewhere
                self.failure = f"stdout: {error.strerror}"
        if self._file is not None:
            self._file.write(text)
            self._file.flush()


def silence_stdout() -> None:
    """The reader of our stdout is gone: let the interpreter's last flush go nowhere instead of failing."""
    with contextlib.suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)


class EventLog:
    """Event lines: `HH:MM:SS.mmm  c03 BUY_FIRST  text`; with as_json one object a line instead.

    recent: the last lines, for whoever looks at the bot. dropped: lines that nobody could be made to read.
    """

    def __init__(self, output: Output, *, as_json: bool = False) -> None:
        self._output = output
        self._as_json = as_json
        self.context = ""
        self.recent: deque[str] = deque(maxlen=RECENT_LINES)

    @property
    def dropped(self) -> int:
        return self._output.dropped

    def event(self, text: str, **fields: object) -> None:
        """fields: ids and figures a program wants: `tag` and `digest` of an order, from signal to fill."""
        now = datetime.now(UTC)
        stamp = f"{now:%H:%M:%S}.{now.microsecond // 1000:03d}"
        self.recent.append(f"{stamp}  {self.context:<15}  {text}")
        if self._as_json:
            record = {"at": now.isoformat(timespec="microseconds"), "context": self.context, "text": text}
            self._output.line(json.dumps(record | fields, default=str))
        else:
            self._output.line(self.recent[-1])

    def block(self, lines: Sequence[str]) -> None:
        """Lines that belong together: a table, a summary."""
        if self._as_json:
            record = {"at": datetime.now(UTC).isoformat(timespec="microseconds"), "context": self.context}
            self._output.line(json.dumps(record | {"block": list(lines)}))
        else:
            self._output.line("\n".join(lines))


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
    """Warnings of the libraries as event lines: message only, never a traceback, at most ten a second."""

    PER_SECOND: Final = 10

    def __init__(self, log: EventLog) -> None:
        super().__init__(logging.WARNING)
        self._log = log
        self._second = 0
        self._count = 0

    def emit(self, record: logging.LogRecord) -> None:
        second = int(record.created)
        self._count = self._count + 1 if second == self._second else 1
        self._second = second
        if self._count <= self.PER_SECOND:
            try:
                text = record.getMessage()
            except (TypeError, ValueError):  # arguments that do not fit their format
                text = str(record.msg)
            first = next(iter(text.splitlines()), "")
            self._log.event(f"{record.levelname.lower()}: {first}")
