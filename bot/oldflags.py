"""Flags of older bots of this family, on `run`: translated where they still mean something, else refused with
the reason and what to set instead."""

from __future__ import annotations

import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from dotenv import dotenv_values

from .config import ENV_PREFIX, SettingsError

RENAMED: Final[Mapping[str, str]] = {
    "--size": "--size-usd", "--iter": "--cycles", "--sleep": "--hold-s",
}  # fmt: skip
# An older bot crossed with both legs when told so; the settings may say otherwise now.
SWITCHES: Final[Mapping[str, str]] = {"--use-ioc": "--entry-mode=ioc"}
_FILTERS: Final = "entries are sized and priced by what the books show: entry.cap_bps is the bound"
_PARTIAL: Final = "a leg filled in part is completed or unwound: entry.hedge_attempts, entry.leg_deadline_s"
_TARGET: Final = "a neutral pair has no target price: it is held for run.hold_s and closed by [exit]"
REFUSED: Final[Mapping[str, str]] = {
    "--min-spread-bps": f"a wide spread is what a round trip costs, not an edge; {_FILTERS}",
    "--queue-threshold-ratio": f"the queue at the touch decides nothing here; {_FILTERS}",
    "--spread-threshold-ticks": f"the spread in ticks decides nothing here; {_FILTERS}",
    "--min-partial-fill-ratio": _PARTIAL,
    "--tp-bps": _TARGET,
    "--tp-timeout": _TARGET,
    "--enable-static-tp": _TARGET,
}
OTHER_SWITCHES: Final = "--enable-"
ENV_FILE: Final = "--env-file"
# What such a file may say of ours; anything else in it is somebody else's.
MODES: Final[Mapping[str, str]] = {
    "mainnet": "mainnet",
    "testnet": "testnet",
    "devnet": "testnet",
    "sim": "sim",
}
VARIABLES: Final[Mapping[str, str]] = {
    "NADO_SUBACCOUNT_NAME": f"{ENV_PREFIX}ACCOUNT__SUBACCOUNT",
    "LOG_FILE": f"{ENV_PREFIX}OUTPUT__LOG_FILE",
}
SECRETS: Final = (
    "NADO_PRIVATE_KEY", "NADO_KEYSTORE_PASSWORD", "NADO_ALERT_WEBHOOK", "TELEGRAM_BOT_TOKEN",
    "TELEGRAM_CHAT_ID",
)  # fmt: skip


def translate(arguments: Sequence[str]) -> tuple[list[str], list[str], Path | None]:
    """The command line in today's flags, a line for each that was translated, and the file of `--env-file`.

    Only the flags of `run` are looked at; a line of old flags without a command is a `run`. Raises
    SettingsError for a flag that means nothing any more.
    """
    given = list(arguments)
    if given and _is_old(_name(given[0])):
        given.insert(0, "run")
    if not given or given[0] != "run":
        return given, [], None
    found, notes, env_file = [given[0]], [], None
    rest = iter(given[1:])
    for argument in rest:
        name, equals, value = argument.partition("=")
        if name == ENV_FILE:
            env_file = Path(value if equals else next(rest, ""))
        elif name in RENAMED:
            found.append(RENAMED[name] + equals + value)
            notes.append(f"{name} is {RENAMED[name]} now")
        elif name in SWITCHES:
            found.append(SWITCHES[name])
            notes.append(f"{name} is {SWITCHES[name]} now: both legs of an entry cross")
        elif name in REFUSED:
            raise SettingsError(f"{name}: {REFUSED[name]}")
        elif name.startswith(OTHER_SWITCHES):
            raise SettingsError(
                f"{name}: there are no optional safety or signal parts: all are on. {_FILTERS}"
            )
        else:
            found.append(argument)
    return found, notes, env_file


def environment(file: Path, environ: Mapping[str, str]) -> dict[str, str]:
    """`environ` with what the file adds; what is set already stays. Raises SettingsError.

    A file with a secret must not be readable by others, as any key file.
    """
    try:
        mode = file.stat().st_mode
        with file.open(encoding="utf-8") as opened:
            values = dotenv_values(stream=opened, interpolate=False)
    except (OSError, UnicodeDecodeError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or "not text"
        raise SettingsError(f"{ENV_FILE}: {file}: {reason}") from None
    if any(values.get(name) for name in SECRETS) and mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise SettingsError(f"{ENV_FILE}: {file} holds a secret and can be read by others; chmod 600 {file}")
    added = {}
    for name, value in values.items():
        if not value:
            continue
        if name in SECRETS or name.startswith(ENV_PREFIX):
            added[name] = value
        elif name in VARIABLES:
            added[VARIABLES[name]] = value
        elif name == "NADO_MODE":
            added[f"{ENV_PREFIX}VENUE"] = _venue(file, value)
    return {**added, **environ}


def _venue(file: Path, mode: str) -> str:
    """Never real money by a slip of the pen."""
    if (venue := MODES.get(mode.lower())) is None:
        raise SettingsError(f"{ENV_FILE}: {file}: NADO_MODE {mode!r}; known: {', '.join(MODES)}")
    return venue


def _name(argument: str) -> str:
    return argument.partition("=")[0]


def _is_old(name: str) -> bool:
    return name in (*RENAMED, *SWITCHES, *REFUSED, ENV_FILE) or name.startswith(OTHER_SWITCHES)
