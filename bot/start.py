"""One start of the bot, whatever its task: the files it writes, its loop, and its exit code."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import uvloop

from . import app
from .config import Effective, Settings, SettingsError
from .job import Job
from .logs import EventLog, LogBridge, Output
from .model import ExitCode
from .rollout import Task
from .tradecsv import TradesCsv

PROGRAM: Final = "bot"


def trade(effective: Effective, job: Job) -> int:
    """One start, whatever its task, from the files it writes to its exit code."""
    settings, must_write = effective.settings, job.task is not Task.FLATTEN
    with contextlib.ExitStack() as stack:
        output = _open_output(settings.output.log_file, must_write=must_write)
        stack.callback(output.close)
        log = EventLog(output, as_json=settings.output.log_format == "json")
        path = _csv_path(settings, job.task, stack)
        csv = _open_csv(path, output, settings.venue, must_write=must_write)
        bridge = LogBridge(log)
        stack.callback(bridge.close)
        logging.getLogger().addHandler(bridge)
        stack.callback(logging.getLogger().removeHandler, bridge)
        for line in effective.lines():
            log.event(f"setting   {line}")
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            code, reason = runner.run(app.run(job, output, csv, log))
    texts = [reason] if reason else []
    lost = csv.failure or output.failure or (f"{output.dropped} lines dropped" if output.dropped else "")
    if lost:
        texts.append(f"the record of this run is not complete: {lost}")
    if texts:
        complain("; ".join(texts))
    return int(code or (ExitCode.ERROR if csv.failure and must_write else ExitCode.DONE))


def _csv_path(settings: Settings, task: Task, stack: contextlib.ExitStack) -> Path:
    """A dry run trades nothing and leaves no file behind."""
    if task is Task.DRY_RUN:
        return Path(stack.enter_context(TemporaryDirectory(prefix="nadofast-dry-run-"))) / "trades.csv"
    return settings.output.csv_path or Path("runs") / f"trades-{datetime.now(UTC):%Y%m%d-%H%M%S-%f}.csv"


def _open_output(log_file: Path | None, *, must_write: bool) -> Output:
    """must_write: False where a file that cannot be written is no reason not to start."""
    try:
        return Output(log_file=log_file)
    except (OSError, ValueError) as error:
        text = f"output.log_file: {log_file}: {_reason(error)}"
        if must_write:
            raise SettingsError(text) from None
        complain(text)
        return Output()


def _open_csv(path: Path, output: Output, mode: str, *, must_write: bool) -> TradesCsv:
    try:
        return TradesCsv(path, output.submit, mode=mode, must_write=must_write)
    except (OSError, ValueError) as error:
        raise SettingsError(f"output.csv_path: {path}: {_reason(error)}") from None


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def complain(text: str) -> None:
    """One line on stderr, whatever the text holds."""
    with contextlib.suppress(OSError, ValueError):  # nobody reads it any more: the exit code still speaks
        print(f"{PROGRAM}: {' '.join(text.split())}", file=sys.stderr)
