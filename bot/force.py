"""`flatten --force`: close what is open when the bot is gone, or hangs and has to be ended for it.

A bot that answers is told to flatten, and has FLATTEN_WAIT_S to do it. One that does not is ended after proof
(`takeover.py`). The kill switch goes on before, and for one that is dead already, too: no service manager
lets it trade again. Only one that has ended as it was told leaves no halt. Then a start of its own, over its
own sockets, takes every order off the books and crosses what the exchange says is held, until the exchange
has said twice that nothing is. Whatever only REST can tell is asked before anything is ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Any, Final

from nadofast.errors import NadoError
from nadofast.rest import Rest, RestConfig

from . import control, credentials, preflight, start, statedir, takeover
from .config import Effective, Settings, SettingsError
from .control import ControlError
from .job import Job
from .latch import KillSwitch
from .link import REST_TIMEOUT_S
from .model import ExitCode
from .preflight import StartError
from .rollout import Task
from .takeover import TakeoverError
from .venue import Venue, choose

SEED: Final = 1
"""Of an embedded exchange that is never started here."""
FLATTEN_WAIT_S: Final = 15.0
POLL_S: Final = 0.05
REASON: Final = "flattened by force"


def flatten_by_force(effective: Effective, directory: Path | None, socket_name: str) -> int:
    """Returns the exit code: DONE when the exchange says that nothing is open, EXPOSED whenever it may be.
    directory: the state directory of the bot that is meant; None: none is running.

    Raises SettingsError, before anything is ended, if the settings are not those of that bot's account.
    """
    settings, key = effective.settings, credentials.find(effective.settings.account).key
    has_ended = directory is not None and _told(directory, socket_name)
    venue = choose(settings, seed=SEED, key=key, only_looks=True)
    try:
        if venue.is_embedded:
            return _end_with_its_exchange(effective, directory, has_ended=has_ended)
        ours = asyncio.run(_place(settings, venue, is_proved=directory is not None))
        if directory is not None and ours != directory.name:
            raise SettingsError(
                f"these settings are for {ours}, not for the bot in {directory.name}:"
                " give the ones it runs with (--config, --exchange)"
            )
        if not has_ended:
            unproved = None if directory is not None else partial(_place, settings, venue, is_proved=True)
            _end(settings.output.state_dir / ours, unproved)
        return _close(effective, Job(settings, SEED, key, True, venue, Task.FLATTEN))
    except (StartError, NadoError) as error:
        start.complain(str(error))
    except KeyboardInterrupt:
        start.complain("interrupted")
    except SettingsError:
        raise
    except Exception as error:
        start.complain(f"internal error: {type(error).__name__}: {error}")
    return int(ExitCode.EXPOSED)


def _told(directory: Path, socket_name: str) -> bool:
    """Whether it could be told and has ended. Its socket is served by its loop, which says nothing about its
    strategy, so an answer alone proves nothing."""
    try:
        print(control.ask(directory / socket_name, {"do": "flatten"})["said"])
    except ControlError as error:
        start.complain(str(error))
        return False
    deadline_s = time.monotonic() + FLATTEN_WAIT_S
    while statedir.is_in_use(directory):
        if time.monotonic() >= deadline_s:
            start.complain(f"it was told to flatten, and has not ended in {FLATTEN_WAIT_S:g} s")
            return False
        time.sleep(POLL_S)
    return True


def _close(effective: Effective, job: Job) -> int:
    """The start that only closes. Whatever ends it early leaves open what is open."""
    try:
        return start.trade(effective, job)
    except (StartError, SettingsError) as error:
        start.complain(str(error))
    except Exception as error:
        start.complain(f"internal error: {type(error).__name__}: {error}")
    return int(ExitCode.EXPOSED)


def _end_with_its_exchange(effective: Effective, directory: Path | None, *, has_ended: bool) -> int:
    """An embedded exchange lives as long as its bot; what was traded there is gone with it."""
    if directory is None:
        given = "; ".join(effective.lines()) or "defaults"
        raise SettingsError(
            "no exchange was asked, so nothing is known of any position: no bot is running in"
            f" {effective.settings.output.state_dir}, and these settings ({given}) are for the embedded"
            " exchange, which ends with its bot; name the one that is meant with --config or --exchange"
        )
    instance = _instance(directory)
    if not instance.startswith(f"{statedir.CHILD} "):
        seen = "; it has ended, and its exchange was not asked whether it is flat" if has_ended else ""
        raise SettingsError(
            f"the bot in {directory.name} trades at {instance}:"
            f" give the settings it runs with (--config, --exchange){seen}"
        )
    _end_holder(directory)
    print("its embedded exchange ends with it: nothing is left open")
    return int(ExitCode.DONE)


def _instance(directory: Path) -> str:
    """Which exchange the bot there trades at, by its own word. Raises StartError if it does not say."""
    path = directory / "about.json"
    try:
        return str((statedir.read_json(path) or {})["instance"])
    except (OSError, ValueError, KeyError) as error:
        raise StartError(
            f"{path} does not say at which exchange that bot trades ({type(error).__name__}), so what it has"
            " open is not known: give the settings it runs with (--config, --exchange)"
        ) from None


def _end(directory: Path, unproved: Callable[[], Coroutine[Any, Any, str]] | None) -> None:
    """The kill switch of this account goes on, and then the bot that holds it, if there is one, is ended.

    unproved: the proof of the way out, where nobody ran and so it was not asked for. A service manager may
    have started the bot since; whoever comes after this look is not ended, and the start that closes says so.
    """
    switch = KillSwitch(directory / "halt.json")

    def engage() -> None:
        with contextlib.suppress(OSError):  # the switch says that it could not be written
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if switch.halt is not None:
            return
        switch.engage(REASON)
        if switch.halt is not None and switch.halt.failure:
            start.complain(f"the halt is not written down ({switch.halt.failure}): keep it from a new start")

    if unproved is None:
        _end_holder(directory, engage)
    engage()
    if unproved is not None and statedir.is_in_use(directory):
        asyncio.run(unproved())
        _end_holder(directory)
    if switch.halt is not None and not switch.halt.failure:
        print(f"halted    {directory.name}: nobody opens a pair there before `resume`")


def _end_holder(directory: Path, before_kill: Callable[[], None] = lambda: None) -> None:
    try:
        ended = takeover.end(directory, before_kill)
    except TakeoverError as error:
        raise StartError(str(error)) from None
    if ended is not None:
        print(f"ended     {ended}")


async def _place(settings: Settings, venue: Venue, *, is_proved: bool) -> str:
    """The directory in which a bot with these settings keeps its state. is_proved: and that the way out is
    there: the exchange answers, is the one that is meant, lists the pair, and takes the key. Raises
    StartError, SettingsError, NadoError.
    """
    ready = await venue.exchange.start()
    signer = preflight.choose_signer(ready, venue.key, credentials.find(settings.account).owner_address)
    subaccount = signer.subaccount(settings.account.subaccount)
    if is_proved:
        async with Rest(ready.network, config=RestConfig(timeout_s=REST_TIMEOUT_S)) as rest:
            await preflight.prove_identity(rest)
            await preflight.prove_signer(rest, signer, subaccount)
            await preflight.listed_pair(rest, settings)
    return statedir.directory_name(
        network=ready.network.name, chain_id=ready.network.chain_id, subaccount=subaccount,
        instance=venue.exchange.instance,
    )  # fmt: skip
