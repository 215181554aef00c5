"""The command `whatif`: variants of a recorded run side by side."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

from . import farm
from .config import SettingsError
from .extras import not_installed
from .model import ExitCode
from .replay import ReplayError
from .tapes import open_recording
from .variants import Outcome, Variant, VariantError, figures, recorded, variants

NEEDS: Final = "distributed>=2025.1,<2027"
MATCHING: Final = (
    "fills are simulated on the recorded market, conservatively: a taker gets what the book showed inside its"
    " cap, after 30 ms; a maker fills only when the market trades through its price; nobody reacts to us; the"
    " order budget and the limits are not modelled"
)


def whatif_command(
    file: Annotated[Path, typer.Argument(help="First file of a recorded run (.tape).")],
    vary: Annotated[
        list[str] | None,
        typer.Option(
            help="NAME=V1,V2,… and again: every combination. size_usd, entry_cap_bps, exit_cap_bps,"
            " leg_deadline_s, maker_timeout_s, hold_s, reprice_ms, move_in_one_step, entry_mode,"
            " latency_ms, plan.NAME."
        ),
    ] = None,
    jobs: Annotated[int | None, typer.Option(min=1, help="Processes; empty: one a core.")] = None,
    scheduler: Annotated[
        str | None, typer.Option(help="Address of a Dask scheduler, tcp://host:port, instead of processes.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For scripts; money as x18 integers.")] = False,
) -> int:
    """Run the strategy on a recorded market with other settings, and put the results side by side."""
    reader = open_recording(file)
    began = time.monotonic()
    try:
        wanted = [Variant(), *variants(vary)] if vary else [Variant()]
        itself = recorded(reader)
        done = list(_with_bar(_run(file, wanted, jobs, scheduler), len(wanted)))
    except ModuleNotFoundError as error:
        raise not_installed(error, NEEDS) from None
    except (VariantError, ReplayError) as error:
        raise SettingsError(str(error)) from None
    except OSError as error:
        raise SettingsError(f"{scheduler or file}: {error}") from None
    took_s, outcomes = time.monotonic() - began, [outcome for outcome, _ in done]
    computed_s = sum(seconds for _, seconds in done)
    if as_json:
        rows = [asdict(one) for one in outcomes]
        said = {"recorded": asdict(itself), "variants": rows, "damage": reader.damage}
        print(json.dumps(said, indent=2))
        return int(ExitCode.DONE)
    Console(width=None if os.isatty(1) else 180).print(_table([itself, *outcomes]))
    print(
        f"{MATCHING}\n{len(outcomes)} variants in {took_s:.1f} s, with {computed_s:.1f} s of computing:"
        f" {computed_s / took_s:.2f} × as fast as one core"
    )
    if reader.damage:
        print(f"ends early {reader.damage}; every row is of what lies before")
    return int(ExitCode.DONE)


def _run(
    file: Path, wanted: Sequence[Variant], jobs: int | None, scheduler: str | None
) -> Iterator[farm.Done]:
    if scheduler is not None:
        return farm.on_cluster(file, wanted, scheduler)
    return farm.on_this_machine(file, wanted, jobs or os.cpu_count() or 1)


def _with_bar(outcomes: Iterator[farm.Done], total: int) -> Iterator[farm.Done]:
    console = Console(stderr=True)
    yield from track(
        outcomes, "whatif", total=total, console=console, transient=True, disable=not console.is_terminal
    )  # fmt: skip


def _table(outcomes: Sequence[Outcome]) -> Table:
    rows = [figures(outcome) for outcome in outcomes]
    table = Table(box=None, pad_edge=False)
    for name in rows[0]:
        table.add_column(name, justify="left" if name in ("variant", "end") else "right")
    for row in rows:
        table.add_row(*row.values())
    return table
