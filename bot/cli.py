"""Commands. A refusal is one line on stderr and an exit code; nothing starts before the input is sound."""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from . import commands, credentials, exporting, latch, oldflags, remote, speed, statedir, tapes, trials
from .config import SettingsError, load
from .control import ControlError
from .job import Job
from .model import ExitCode
from .preflight import StartError
from .rollout import Task
from .start import PROGRAM, complain, trade
from .venue import choose

SEED_BITS: Final = 31
# typer carries its own copy of the parser or uses an installed one: its root error is found through typer.
PARSER_ERROR: Final[type[Any]] = next(c for c in typer.BadParameter.__mro__ if c.__name__ == "ClickException")

cli = typer.Typer(
    name=PROGRAM,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    help="Delta-neutral pair trader. Runs on the embedded exchange unless told otherwise.",
)


cli.add_typer(commands.config_cli, name="config")
cli.command("report")(commands.report_command)
cli.command("replay")(tapes.replay_command)
cli.command("whatif")(trials.whatif_command)
cli.command("record")(exporting.record_command)
cli.command("export")(exporting.export_command)
cli.command("doctor")(commands.doctor_command)
cli.command("bench")(speed.bench_command)
remote.add_to(cli)


@cli.callback()
def root() -> None:
    """Delta-neutral pair trader. Runs on the embedded exchange unless told otherwise."""


@cli.command("run")
def run_command(
    cycles: Annotated[int | None, typer.Option(help="Cycles to complete (4).")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the embedded market; empty: a new one.")] = None,
    size_usd: Annotated[str | None, typer.Option(help="Budget per leg in USD (150).")] = None,
    config: Annotated[Path | None, typer.Option(help="TOML file with settings.")] = None,
    venue: Annotated[str | None, typer.Option(help="sim, testnet, mainnet or custom (sim).")] = None,
    exchange: Annotated[
        Path | None, typer.Option(help="Ready line of an exchange that already runs.")
    ] = None,
    on_open: Annotated[
        str | None, typer.Option(help="A pair found open: refuse, adopt, finish or flatten (refuse).")
    ] = None,
    confirm: Annotated[
        str | None, typer.Option(help="Real money: name/chain id of the network, as in mainnet/57073.")
    ] = None,
    csv_path: Annotated[Path | None, typer.Option(help="Trades CSV (runs/trades-<UTC time>.csv).")] = None,
    log_file: Annotated[Path | None, typer.Option(help="Copy of the event lines.")] = None,
    hold_s: Annotated[float | None, typer.Option(help="Seconds a hedged pair is held (0.5).")] = None,
    entry_mode: Annotated[
        str | None, typer.Option(help="Entries: ioc, both legs cross; maker_then_ioc, one rests first (ioc).")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Connect, size, sign and show the orders; send nothing.")
    ] = False,
    canary: Annotated[
        bool, typer.Option("--canary", help="All checks, one cycle, a verdict; the exit code says it.")
    ] = False,
    record: Annotated[Path | None, typer.Option(help="Record the run in this directory.")] = None,
) -> int:
    """Trade the pair: open both legs, hold, close, report; alternating direction."""
    task = _task(dry_run=dry_run, canary=canary, cycles=cycles)
    overrides = {
        "venue": venue,
        "exchange.file": exchange,
        "run.on_open": on_open,
        "live.confirm": confirm,
        "run.cycles": 1 if canary else cycles,
        "run.hold_s": hold_s,
        "pair.size_usd": size_usd,
        "entry.mode": entry_mode,
        "exchange.seed": seed,
        "output.csv_path": csv_path,
        "output.log_file": log_file,
        "output.record_dir": record,
    }
    effective = load(config, {key: value for key, value in overrides.items() if value is not None})
    key = credentials.find(effective.settings.account).key
    seed_used = effective.settings.exchange.seed
    if seed_used is None:
        seed_used = secrets.randbits(SEED_BITS)
    ask = input if sys.stdin is not None and sys.stdin.isatty() else None
    where = choose(effective.settings, seed=seed_used, key=key, ask=ask, only_looks=task is Task.DRY_RUN)
    return trade(effective, Job(effective.settings, seed_used, key, True, where, task))


def _task(*, dry_run: bool, canary: bool, cycles: int | None) -> Task:
    if dry_run and canary:
        raise SettingsError("--dry-run sends nothing and --canary trades a cycle: which one is meant?")
    if canary and cycles not in (None, 1):
        raise SettingsError("--canary is one cycle; leave --cycles away")
    return Task.DRY_RUN if dry_run else Task.CANARY if canary else Task.TRADE


@cli.command("resume")
def resume_command(
    account: Annotated[
        str | None, typer.Argument(help="Directory of the halted account; needed when there are several.")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="TOML file with settings.")] = None,
) -> int:
    """Take back a halt, by hand: nothing else does. The next run may trade again."""
    root = load(config).settings.output.state_dir
    halted = {path.parent.name: path for path in sorted(root.glob("*/halt.json"))}
    if account is None and len(halted) > 1:
        raise SettingsError(f"several accounts are halted, name one: {', '.join(halted)}")
    chosen = account or next(iter(halted), None)
    if chosen is None or chosen not in halted:
        raise SettingsError(f"{root}: {'nothing' if chosen is None else chosen} is halted")
    if statedir.is_in_use(halted[chosen].parent):
        raise SettingsError(f"{chosen}: a bot is running there; stop it first")
    try:
        halt = latch.resume(halted[chosen])
    except OSError as error:
        raise SettingsError(f"{halted[chosen]}: {error.strerror or error}") from None
    print(f"{chosen}: resumed; it was halted for: {halt}")
    return int(ExitCode.DONE)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line; returns the exit code. No traceback reaches the user."""
    try:
        args, notes, env_file = oldflags.translate(sys.argv[1:] if arguments is None else arguments)
        for note in notes:
            complain(note)
        if env_file is not None:
            os.environ.update(oldflags.environment(env_file, os.environ))
        return int(cli(args=args, standalone_mode=False) or 0)
    except PARSER_ERROR as error:
        if text := error.format_message():  # empty after the help it has just printed
            complain(text)
        return int(ExitCode.USAGE)
    except SettingsError as error:
        complain(str(error))
        return int(ExitCode.USAGE)
    except (StartError, ControlError) as error:
        complain(str(error))
        return int(ExitCode.ERROR)
    except (KeyboardInterrupt, typer.Abort):
        complain("interrupted")
        return int(ExitCode.ERROR)
    except Exception as error:
        complain(f"internal error: {type(error).__name__}: {error}")
        return int(ExitCode.ERROR)
