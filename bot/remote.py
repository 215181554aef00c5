"""Commands to a bot that runs: status, stop, drain, flatten, dashboard, alive. None of them needs a key."""

from __future__ import annotations

import asyncio
import json
import signal
from pathlib import Path
from typing import Annotated, Final

import typer

from . import control, dashboard, statedir, takeover, watch
from .conditions import LEVELS, Code
from .config import Settings, SettingsError, load
from .control import ControlError, ControlSilent
from .force import flatten_by_force
from .model import ExitCode
from .operations import CONTROL_NAME, make_alerts
from .takeover import TakeoverError

ALERT_S: Final = 15.0
DEAD_HINT: Final = "what a dead one has left open is closed by `flatten --force`"
FORCE_HINT: Final = "`flatten --force` ends it and closes what is open"

Config = Annotated[Path | None, typer.Option(help="TOML file with settings.")]
Account = Annotated[
    str | None, typer.Argument(help="Directory of the account; needed when several bots run.")
]
AsJson = Annotated[bool, typer.Option("--json", help="For scripts.")]


class NotRunning(SettingsError):
    """No bot is there to be asked."""


def running(settings: Settings, account: str | None) -> Path:
    """The control socket of the bot that is meant. Raises SettingsError if that is not clear."""
    root = settings.output.state_dir
    found = {path.name: path for path in sorted(root.glob("*/")) if statedir.is_in_use(path)}
    if account is not None:
        if account not in found:
            raise NotRunning(f"{root / account}: no bot is running there")
        return found[account] / CONTROL_NAME
    if not found:
        raise NotRunning(f"{root}: no bot is running")
    if len(found) > 1:
        raise SettingsError(f"several bots are running, name one: {', '.join(found)}")
    return next(iter(found.values())) / CONTROL_NAME


def status_command(account: Account = None, config: Config = None, as_json: AsJson = False) -> int:
    """How a running bot stands."""
    reply = control.ask(running(load(config).settings, account), {"do": "status"})
    if as_json:
        print(json.dumps(reply["status"], indent=2))
    else:
        status = dashboard.picture(reply)
        print(dashboard.line(status))
        if status.watch is not None:
            print(watch.line(status.watch))
    return int(ExitCode.DONE)


def stop_command(account: Account = None, config: Config = None) -> int:
    """The next stage of stopping, as a signal does: drain, then flatten, then leave."""
    return _tell("stop", account, config)


def drain_command(account: Account = None, config: Config = None) -> int:
    """No new cycle; the open one ends as planned."""
    return _tell("drain", account, config)


def flatten_command(
    account: Account = None,
    config: Config = None,
    force: Annotated[
        bool, typer.Option("--force", help="If it does not answer: end it and close what is open from here.")
    ] = False,
    exchange: Annotated[
        Path | None, typer.Option(help="Ready line of the exchange it trades on, as for run.")
    ] = None,
) -> int:
    """No new cycle; what is open is crossed at once, and the bot ends flat."""
    effective = load(config, {} if exchange is None else {"exchange.file": exchange})
    if not force:
        try:
            return _tell("flatten", account, config)
        except NotRunning as error:
            raise NotRunning(f"{error}; {DEAD_HINT}") from None
    try:
        directory = running(effective.settings, account).parent
    except NotRunning:
        directory = None
    return flatten_by_force(effective, directory, CONTROL_NAME)


def _tell(verb: str, account: str | None, config: Path | None) -> int:
    socket = running(load(config).settings, account)
    try:
        print(control.ask(socket, {"do": verb})["said"])
    except ControlSilent as error:
        raise ControlError(f"{error} ({_who(socket.parent)}); {FORCE_HINT}") from None
    return int(ExitCode.DONE)


def _who(directory: Path) -> str:
    try:
        return str(takeover.holder(directory) or "nobody holds the lock any more")
    except TakeoverError as error:
        return str(error)


def dashboard_command(
    account: Account = None,
    config: Config = None,
    every_s: Annotated[float, typer.Option(help="Seconds between two pictures.")] = 0.5,
    once: Annotated[bool, typer.Option(help="One picture and out.")] = False,
) -> int:
    """Watch a running bot: state, books, PnL, links, limits. Plain lines without a terminal."""
    path = running(load(config).settings, account)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # nothing of ours is open here: it may just end
    try:
        dashboard.run(path, every_s=every_s, once=once)
    except KeyboardInterrupt:
        return int(ExitCode.DONE)
    return int(ExitCode.DONE)


def alive_command(
    account: Account = None,
    config: Config = None,
    alert: Annotated[bool, typer.Option("--alert", help="Tell the alert receivers if it is not.")] = False,
) -> int:
    """Exit code 0 if a bot answers, 1 if not: for timers and service managers."""
    settings = load(config).settings
    try:
        reply = control.ask(running(settings, account), {"do": "status"})
        words = dashboard.line(dashboard.picture(reply))
    except dashboard.OtherVersion as error:
        words = str(error)
    except (ControlError, SettingsError) as error:
        print(f"not alive: {error}")
        if alert:
            asyncio.run(_alert(settings, f"no bot answers: {error}"))
        return int(ExitCode.ERROR)
    print(words)
    return int(ExitCode.DONE)


async def _alert(settings: Settings, text: str) -> None:
    alerts = make_alerts(settings, f"nadofast {settings.venue}")
    await alerts.start()
    alerts.raise_alert(LEVELS[Code.DEAD], Code.DEAD, text)
    await alerts.stop(ALERT_S)


def add_to(cli: typer.Typer) -> None:
    """Register the commands."""
    for name, command in (
        ("status", status_command), ("stop", stop_command), ("drain", drain_command),
        ("flatten", flatten_command), ("dashboard", dashboard_command), ("alive", alive_command),
    ):  # fmt: skip
        cli.command(name)(command)
