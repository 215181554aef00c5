"""The commands that work on recordings. None of them needs a key or speaks to an exchange."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from nadofast.tape import Record

from .config import SettingsError
from .model import ExitCode
from .recordfile import RecordingReader
from .replay import Replay, Replayed, ReplayError

TOLD_EVERY: Final = 500
NS_PER_S: Final = 1e9


def open_recording(path: Path) -> RecordingReader:
    """Raises SettingsError."""
    try:
        return RecordingReader(path)
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror}") from None


def replay_command(
    file: Annotated[Path, typer.Argument(help="First file of a recording (.tape).")],
    speed: Annotated[
        float, typer.Option(min=0, help="Times as fast as it happened; 0 = as fast as possible.")
    ] = 0.0,
    journal: Annotated[
        Path | None, typer.Option(help="The run's own journal: compared with the one made here.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Keep the journal made here in this file.")] = None,
    decisions: Annotated[bool, typer.Option(help="Print every decision that did something.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="For scripts.")] = False,
) -> int:
    """Run a recorded run again, through the same code, and hold it against the record. 0: it is the same."""
    reader, began = open_recording(file), time.monotonic()
    if out is not None and out.exists():  # it may be the journal of a live bot
        raise SettingsError(f"{out}: exists already; it is not overwritten")
    with TemporaryDirectory(prefix="nadofast-replay-") as directory:
        made = out or Path(directory) / "orders.log"
        try:
            result = _run(reader, made, speed)
            is_same_file = journal is None or _agrees(made, journal, is_cut=bool(reader.damage))
        except (ReplayError, OSError) as error:
            raise SettingsError(f"{file}: {error}") from None
    took_s = time.monotonic() - began
    if as_json:
        print(json.dumps(_as_record(result, reader.damage, took_s, is_same_file), indent=2))
    else:
        for line in [*_decisions(result, decisions), *_words(result, reader.damage, took_s)]:
            print(line)
        if journal is not None:
            print(
                f"{'journal':<11}{'the same' if is_same_file else 'NOT the same'} as {journal}, byte for byte"
            )
    return int(ExitCode.DONE if result.is_identical and is_same_file else ExitCode.ERROR)


def _run(reader: RecordingReader, journal: Path, speed: float) -> Replayed:
    replay = Replay(journal)
    try:
        for record in _at_speed(_with_bar(reader), speed):
            replay.take(record)
    finally:
        replay.close()
    return replay.result


def _with_bar(reader: RecordingReader) -> Iterator[Record]:
    """A bar on stderr, if that is a terminal."""
    columns = (
        TextColumn("replay"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("replay", total=reader.size)
        for number, record in enumerate(reader):
            if number % TOLD_EVERY == 0:
                bar.update(task, completed=reader.read_bytes)
            yield record


def _at_speed(records: Iterator[Record], speed: float) -> Iterator[Record]:
    first_ns, began = None, time.monotonic()
    for record in records:
        if speed:
            first_ns = record.at_ns if first_ns is None else first_ns
            ahead_s = (record.at_ns - first_ns) / NS_PER_S / speed - (time.monotonic() - began)
            if ahead_s > 0:
                time.sleep(ahead_s)
        yield record


def _agrees(made: Path, live: Path, *, is_cut: bool) -> bool:
    """Of a recording that was cut, the journal is the beginning of the live one."""
    here, there = made.read_bytes() if made.exists() else b"", live.read_bytes()
    return there.startswith(here) if is_cut else here == there


def _decisions(result: Replayed, is_wanted: bool) -> list[str]:
    return [said.decode() for said in result.decisions] if is_wanted else []


def _words(result: Replayed, damage: str, took_s: float) -> list[str]:
    run_s = result.recorded_ns / NS_PER_S
    lines = [
        f"{'replayed':<11}{run_s:.1f} s in {took_s:.1f} s ({run_s / max(took_s, 1e-9):.0f} × real time),"
        f" {result.messages} market messages"
    ]
    for kind in sorted(result.same.keys() | result.different.keys()):
        differ = f", {result.different[kind]} DIFFERENT" if result.different[kind] else ""
        lines.append(f"  {kind:<34}{result.same[kind]:>8} as recorded{differ}")
    if damage:
        lines.append(f"{'ends early':<11}{damage}; up to there it was replayed")
    if result.first_difference:
        lines.append(f"{'DIFFERENT':<11}{result.first_difference}")
    verdict = "as recorded" if result.is_identical else "NOT as recorded"
    if not result.same["decisions"] and not result.different:
        verdict = "no decision is in it: nothing to compare"
    lines.append(f"{'verdict':<11}{verdict}")
    return lines


def _as_record(result: Replayed, damage: str, took_s: float, is_same_file: bool) -> dict[str, object]:
    said = {name: value for name, value in asdict(result).items() if name != "decisions"}
    return said | {
        "identical": result.is_identical, "journal_is_same": is_same_file, "damage": damage, "took_s": took_s
    }  # fmt: skip
