"""`flatten --force`: close what is open when the bot is gone, or hangs and has to be ended for it.

A bot that answers is told to flatten, as without force. One that does not is ended after proof
(`takeover.py`); then a start of its own, over its own sockets, takes every order off the books and crosses
what the exchange says is held, until the exchange has said twice that nothing is.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Final

from . import control, credentials, preflight, start, statedir, takeover
from .app import Job
from .config import Effective, Settings, SettingsError
from .control import ControlError
from .model import ExitCode
from .preflight import StartError
from .rollout import Task
from .takeover import TakeoverError
from .venue import Venue, choose

SEED: Final = 1
"""Of an embedded exchange that is never started here."""


def flatten_by_force(effective: Effective, directory: Path | None, socket_name: str) -> int:
    """Returns the exit code. directory: the state directory of the bot that is meant; None: none is running.

    Raises SettingsError if the settings are not those of that bot's account, StartError or ControlError.
    """
    if directory is not None:
        try:
            print(control.ask(directory / socket_name, {"do": "flatten"})["said"])
            return int(ExitCode.DONE)
        except ControlError as error:
            start.complain(str(error))
    settings, key = effective.settings, credentials.find(effective.settings.account).key
    venue = choose(settings, seed=SEED, key=key, only_looks=True)
    if venue.is_embedded:
        return _end_with_its_exchange(directory)
    if directory is not None:
        ours = asyncio.run(_directory_name(settings, venue))
        if ours != directory.name:
            raise SettingsError(
                f"these settings are for {ours}, not for the bot in {directory.name}:"
                " give the ones it runs with (--config, --exchange)"
            )
        _end(directory)
    return start.trade(effective, Job(settings, SEED, key, True, venue, Task.FLATTEN))


def _end_with_its_exchange(directory: Path | None) -> int:
    """An embedded exchange lives as long as its bot; what was traded there is gone with it."""
    if directory is None:
        raise SettingsError(
            "no bot is running, and an embedded exchange ends with its bot: nothing is open"
            "; name one that runs with --exchange"
        )
    about = statedir.read_json(directory / "about.json") or {}
    if not str(about.get("instance", "")).startswith(f"{statedir.CHILD} "):
        raise SettingsError(
            f"the bot in {directory.name} trades at {about.get('instance', 'another exchange')}:"
            " give the settings it runs with (--config, --exchange)"
        )
    _end(directory)
    print("its embedded exchange ends with it: nothing is left open")
    return int(ExitCode.DONE)


def _end(directory: Path) -> None:
    try:
        ended = takeover.end(directory)
    except TakeoverError as error:
        raise StartError(str(error)) from None
    if ended is not None:
        print(f"ended     {ended}")


async def _directory_name(settings: Settings, venue: Venue) -> str:
    """Where a bot with these settings keeps its state."""
    ready = await venue.exchange.start()
    signer = preflight.choose_signer(ready, venue.key, credentials.find(settings.account).owner_address)
    return statedir.directory_name(
        network=ready.network.name, chain_id=ready.network.chain_id,
        subaccount=signer.subaccount(settings.account.subaccount), instance=venue.exchange.instance,
    )  # fmt: skip
