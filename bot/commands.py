"""The commands that do not trade: configuration, report, doctor."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console

from . import configdoc, credentials, doctor, statedir, tradefile, watchfile
from . import venue as where
from .config import VENUES, Effective, SettingsError, load
from .extras import not_installed
from .model import ExitCode
from .tradecsv import COMPANIONS, EXPORT, companion

NEEDS: Final = "plotly>=6,<7"
CONFIG_HELP: Final = "Write, check and show settings."
config_cli = typer.Typer(no_args_is_help=True, help=CONFIG_HELP, add_completion=False)


@config_cli.command("init")
def config_init(
    venue: Annotated[str, typer.Option(help="sim, testnet or mainnet.")] = "sim",
    out: Annotated[Path | None, typer.Option(help="File to write; empty: print.")] = None,
) -> int:
    """A commented settings file to start from."""
    if venue not in configdoc.SAMPLES:
        raise SettingsError(f"unknown venue {venue!r}; known: {', '.join(VENUES)}")
    text = configdoc.sample(venue)
    if out is None:
        print(text, end="")
        return 0
    try:
        with out.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise SettingsError(f"{out}: exists already; it is not overwritten") from None
    except OSError as error:
        raise SettingsError(f"{out}: {error.strerror}") from None
    print(f"wrote {out}")
    return 0


@config_cli.command("check")
def config_check(file: Annotated[Path, typer.Argument(help="TOML file with settings.")]) -> int:
    """Whether a file can be used; what is wrong with it otherwise. Nothing is started."""
    effective = load(file)
    look_deeper(effective)
    for line in effective.lines():
        print(line)
    print(f"{file}: in order")
    return 0


def look_deeper(effective: Effective) -> None:
    """What a run would refuse before it starts anything: key, exchange, the files it writes. Raises
    SettingsError that names the layer a value came from."""
    settings = effective.settings
    try:
        key = credentials.find(settings.account).key
        if settings.venue == "sim" or key is not None:
            where.choose(settings, seed=1, key=key, only_looks=True)
        for name in ("csv_path", "journal", "log_file", "record_dir"):
            path = getattr(settings.output, name)
            if path is not None and (why := statedir.why_not_writable(path)):
                raise SettingsError(f"output.{name}: {path}: {why}; choose another path or make room there")
    except SettingsError as error:
        named = str(error).partition(":")[0].partition(" and ")[0]
        layer = effective.sources.get(named)
        raise SettingsError(f"{layer}: {error}" if layer else str(error)) from None


@config_cli.command("show")
def config_show(
    config: Annotated[Path | None, typer.Option(help="TOML file with settings.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For scripts.")] = False,
) -> int:
    """Every value in force and where it came from. Secrets are not among the settings."""
    rows = list(load(config).rows())
    if as_json:
        print(json.dumps({key: {"value": value, "source": source} for key, value, source in rows}, indent=2))
        return 0
    width = max(len(key) for key, _, _ in rows)
    for key, value, source in rows:
        print(f"{key:<{width}}  {value}  ({source})")
    return 0


@config_cli.command("reference")
def config_reference() -> int:
    """The reference of every setting, as Markdown."""
    print(configdoc.reference(), end="")
    return 0


def report_command(
    files: Annotated[list[Path], typer.Argument(help="Trades CSV files, in order.")],
    out: Annotated[Path, typer.Option(help="HTML file to write.")] = Path("report.html"),
    title: Annotated[str, typer.Option(help="Heading of the page.")] = "nadofast report",
    as_json: Annotated[bool, typer.Option("--json", help="The sums as JSON; no page.")] = False,
) -> int:
    """Sums of some runs on the terminal, and one HTML page with plots."""
    try:
        from . import htmlreport
    except ModuleNotFoundError as error:
        raise not_installed(error, NEEDS) from None
    try:
        files = trades_files(files)
        cycles = tradefile.read(files)
        days = _watched(files)
        if as_json:
            print(json.dumps(htmlreport.as_record(cycles, days), indent=2))
            return 0
        page = htmlreport.render(cycles, title, days)
        out.write_text(page, encoding="utf-8")
    except (tradefile.TradeFileError, ValueError) as error:
        raise SettingsError(str(error)) from None
    except OSError as error:
        raise SettingsError(f"{out}: {error.strerror}") from None
    print("\n".join([*htmlreport.summary_lines(cycles, days), f"page      {out}"]), file=sys.stdout)
    return 0


def _watched(files: Sequence[Path]) -> watchfile.Days:
    """How the runs were watched. Beside the trades, so a damaged file of it refuses no report."""
    try:
        return watchfile.read(companion(file, "watch") for file in files)
    except tradefile.TradeFileError as error:
        print(f"not reported how it was watched: {error}", file=sys.stderr)
        return {}


def trades_files(files: Sequence[Path]) -> list[Path]:
    """Without the files that lie beside a trades file: `runs/*.csv` names them all."""
    beside = {companion(file, what) for file in files for what in (*COMPANIONS, EXPORT)}
    return [file for file in files if file not in beside]


def doctor_command(
    config: Annotated[Path | None, typer.Option(help="TOML file with settings.")] = None,
    venue: Annotated[str | None, typer.Option(help="sim, testnet, mainnet or custom (sim).")] = None,
    size_usd: Annotated[str | None, typer.Option(help="Budget per leg in USD (150).")] = None,
    exchange: Annotated[
        Path | None, typer.Option(help="Ready line of an exchange that already runs.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For scripts.")] = False,
) -> int:
    """Check everything that must be right before money is at stake. Orders nothing. 0: nothing is red."""
    overrides = {"venue": venue, "pair.size_usd": size_usd, "exchange.file": exchange}
    settings = load(config, {key: value for key, value in overrides.items() if value is not None}).settings
    found = asyncio.run(doctor.visit(settings, credentials.find(settings.account)))
    if as_json:
        print(json.dumps([asdict(finding) for finding in found], indent=2))
    else:
        Console().print(doctor.table(found))
    return int(ExitCode.ERROR if any(finding.mark is doctor.Mark.BAD for finding in found) else ExitCode.DONE)
