"""Where a run trades: the embedded exchange as a child, one that already runs, or a real network.

Real money needs three things that agree: the network's name, the chain id the exchange itself answers, and a
confirmation that names both. Whatever is not the embedded exchange's own chain counts as real.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from nadofast import network
from nadofast.errors import ConfigError
from nadofast.network import Network
from nadofast.secret import Secret

from . import preflight
from .config import Settings, SettingsError
from .exchange_process import ExchangeProcess, ExchangeStartError, Ready, command_line, parse_ready
from .statedir import child_instance

SIM_CHAIN_ID: Final = 77001
MAX_FILE_BYTES: Final = 256 * 1024
# Accounts of the embedded exchange are made from its seed: whoever knows the seed knows the key. The seeds
# people use are small, so these are recognised; a key out of a ready line is never taken elsewhere at all.
KNOWN_SEEDS: Final = 100_000
KNOWN_ACCOUNTS: Final = 2


class Exchange(Protocol):
    """What a run needs to know of its exchange's life. gone_reason: why it ended, None while it lives."""

    gone: asyncio.Event
    gone_reason: str | None

    async def start(self) -> Ready: ...

    async def stop(self) -> None: ...

    @property
    def pid(self) -> int | None: ...

    @property
    def instance(self) -> str: ...


class RunningExchange:
    """An exchange that is not ours to start or to stop, and whose end only its silence tells."""

    pid: int | None = None

    def __init__(self, ready: Ready, instance: str) -> None:
        self._ready = ready
        self.instance = instance
        self.gone = asyncio.Event()
        self.gone_reason: str | None = None

    async def start(self) -> Ready:
        return self._ready

    async def stop(self) -> None:
        """It goes on without us."""


class ChildExchange(ExchangeProcess):
    """The embedded exchange as our child; it ends with us."""

    @property
    def instance(self) -> str:
        return child_instance(self.pid)


@dataclass(frozen=True, slots=True)
class Venue:
    """is_embedded: our child. is_real: money that is not play money. key: what signs, None = the account
    the exchange opened."""

    exchange: Exchange
    is_embedded: bool
    is_real: bool
    key: Secret | None


def choose(
    settings: Settings,
    *,
    seed: int,
    key: Secret | None,
    ask: Callable[[str], str] | None = None,
    only_looks: bool = False,
) -> Venue:
    """Decide where to trade, before anything is started. Raises SettingsError.

    ask: puts a question to a person at a terminal and returns what was typed; None = nobody is there.
    only_looks: nothing will be ordered, so real money needs no confirmation.
    """
    section = settings.exchange
    if settings.venue == "sim" and section.file is None:
        command = command_line(section, seed, None if key is None else preflight.address_of(key))
        child = ChildExchange(command, start_timeout_s=section.start_timeout_s, linger_s=section.linger_s)
        return Venue(child, is_embedded=True, is_real=False, key=key)
    ready = _where(settings)
    where = ready.network
    is_real = settings.venue != "sim"
    if not is_real and where.chain_id != SIM_CHAIN_ID:
        raise SettingsError(
            f"exchange.file: chain id {where.chain_id} is not the embedded exchange's {SIM_CHAIN_ID}: "
            "set venue = custom and confirm it"
        )
    if is_real:
        key = _own_key(key, ready)
        if not only_looks:
            require_lasting_state(settings.output.state_dir)
            require_confirmation(where, settings.live.confirm, ask)
    # Whichever address leads there: the account of a real network is one, and so is its halt.
    instance = where.endpoint_address if is_real else f"{where.gateway_rest} {where.endpoint_address}"
    exchange = RunningExchange(ready, instance)
    return Venue(exchange, is_embedded=False, is_real=is_real, key=key)


def require_lasting_state(state_dir: Path) -> None:
    """A halt and the day's loss are looked for where they were left. Raises SettingsError."""
    if not state_dir.is_absolute():
        raise SettingsError(
            f"output.state_dir: {str(state_dir)!r} depends on where the bot is started; real money needs an "
            "absolute path"
        )


def require_confirmation(where: Network, given: str | None, ask: Callable[[str], str] | None) -> None:
    """The words are `name/chain id`. Raises SettingsError when they are missing or others."""
    words = f"{where.name}/{where.chain_id}"
    if given is None and ask is not None:
        given = ask(f"This trades real money on {where.name}. Type {words} to go on: ").strip()
    if given != words:
        was = "it is not given" if not given else f"it says {given!r}"
        raise SettingsError(f"live.confirm: trading on {where.name} needs --confirm {words}; {was}")


def read_exchange_file(path: Path) -> Ready:
    """An exchange described as its ready line does it. Raises SettingsError, never with its content."""
    try:
        with path.open("rb") as opened:
            line = opened.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise SettingsError(
            f"exchange.file: {path}: {error.strerror or error}; it holds the ready line of a running exchange"
        ) from None
    if len(line) > MAX_FILE_BYTES:
        raise SettingsError(f"exchange.file: {path}: more than {MAX_FILE_BYTES} bytes")
    try:
        return parse_ready(line)
    except ExchangeStartError as error:
        raise SettingsError(
            f"exchange.file: {path}: {error}; it holds the ready line of a running exchange"
        ) from None


def is_seeded(key: Secret) -> bool:
    """Whether the key is one the embedded exchange makes from a small seed."""
    value = bytes.fromhex(key.reveal().removeprefix("0x"))
    for seed in range(KNOWN_SEEDS):
        for index in range(KNOWN_ACCOUNTS):
            if hashlib.sha256(f"nadosim account {seed} {index}".encode()).digest() == value:
                return True
    return False


def _where(settings: Settings) -> Ready:
    if settings.venue in network.NETWORKS:
        if settings.exchange.file is not None:
            raise SettingsError(f"exchange.file: {settings.venue} has its own endpoints; use venue = custom")
        return Ready(network.NETWORKS[settings.venue], "", ())
    if settings.exchange.file is None:
        raise SettingsError("exchange.file: venue = custom needs the file that describes the exchange")
    ready = read_exchange_file(settings.exchange.file)
    if settings.venue == "custom":
        document = json.loads(settings.exchange.file.read_bytes())
        return Ready(_named(document), ready.control, ready.accounts)
    return ready


def _named(document: dict[str, Any]) -> Network:
    name = document.get("name", "custom")
    if not isinstance(name, str) or not name.isidentifier() or name in (*network.NETWORKS, "sim"):
        raise SettingsError(f"exchange.file: name {name!r} cannot be used for a network of one's own")
    try:
        return network.custom(name, document)
    except ConfigError as error:
        raise SettingsError(f"exchange.file: {error}") from None


def _own_key(key: Secret | None, ready: Ready) -> Secret:
    """Real money is signed for by a key of the operator's own."""
    if key is None:
        raise SettingsError("NADO_PRIVATE_KEY: not set; only the embedded exchange brings an account along")
    known = [account.private_key.reveal() for account in ready.accounts if account.private_key is not None]
    if key.reveal() in known or is_seeded(key):
        raise SettingsError(
            "NADO_PRIVATE_KEY: this key is made from a seed of the embedded exchange: anybody has it"
        )
    return key
