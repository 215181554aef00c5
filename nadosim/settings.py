"""What the exchange process can be told: one dataclass, filled from a TOML file and the command line."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Final, Literal, get_args, get_origin, get_type_hints

from . import fault_script
from .config import CHAIN_ID, ExchangeConfig
from .params import BadFault
from .regimes import DEFAULT_REGIME, REGIMES

DEFAULT_RATE: Final = 200.0  # market messages per second, all products and public streams together
MAX_RATE: Final = 20_000
Reader = Callable[[str, Any], Any]
_NOT_SWITCHES: Final = ("chain_id", "endpoint_address", "products", "speed")


class SettingsError(Exception):
    """A setting that cannot be used. The text is one line and names it."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Keys of the configuration file have the same names.

    port: 0 picks a free one. tls: https and wss, with a certificate made at start unless tls_cert and
    tls_key name files. seed: of the market, of faults left to chance, and of the funded accounts' keys.
    rate: market messages per second, all products together. speed: market seconds per real second.
    regime: one of the named markets; replay: a recording to play instead of one.
    accounts: how many funded accounts are made. fund: further addresses whose `default` subaccount is funded.
    rate_limits: whether weights are counted. rate_limit_reply: `code` (HTTP 200 and 1000) or `http` (429).
    linger_s: how long to live on after stdin closes. switches: fields of ExchangeConfig that differ.
    faults: schedule of misbehaviour.
    """

    host: str = "127.0.0.1"
    port: int = 0
    tls: bool = False
    tls_cert: str | None = None
    tls_key: str | None = None
    seed: int = 1
    rate: float = DEFAULT_RATE
    speed: float = 1.0
    regime: str = DEFAULT_REGIME
    replay: str | None = None
    accounts: int = 1
    fund: tuple[str, ...] = ()
    chain_id: int = CHAIN_ID
    rate_limits: bool = True
    rate_limit_reply: str = "code"
    linger_s: float = 0.0
    switches: Mapping[str, Any] = field(default_factory=dict)
    faults: tuple[fault_script.Entry, ...] = ()

    def __post_init__(self) -> None:
        _in_range("port", self.port, 0, 65_535)
        _in_range("seed", self.seed, 0, (1 << 63) - 1)
        _in_range("rate", self.rate, 0, MAX_RATE)
        _in_range("speed", self.speed, 0.01, 1_000)
        _in_range("accounts", self.accounts, 0, 1_000)
        _in_range("chain_id", self.chain_id, 1, (1 << 63) - 1)
        _in_range("linger_s", self.linger_s, 0, 3_600)
        _one_of("regime", self.regime, tuple(REGIMES))
        _one_of("rate_limit_reply", self.rate_limit_reply, ("code", "http"))
        if (self.tls_cert is None) != (self.tls_key is None):
            raise SettingsError("tls_cert and tls_key: both or neither")
        for address in self.fund:
            if not _is_address(address):
                raise SettingsError(
                    f"fund: expected an address (0x and 40 hex digits), got {len(address)} characters"
                )


def load(path: str | None, overrides: Mapping[str, Any]) -> Settings:
    """Defaults, then the file, then `overrides` that are not None. Raises SettingsError."""
    values = _read(path) if path is not None else {}
    values.update({key: value for key, value in overrides.items() if value is not None})
    return replace(Settings(), **{key: _typed(key, value) for key, value in values.items()})


def _read(path: str) -> dict[str, Any]:
    try:
        values = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror or error}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: {error}") from None
    known = [field.name for field in fields(Settings)]
    for key in values:
        if key not in known:
            raise SettingsError(f"{path}: unknown key {key!r}; known: {', '.join(known)}")
    return values


def _typed(key: str, value: Any) -> Any:
    """The value in its field's type; numbers of the wrong kind, booleans and the rest are refused."""
    reader: Reader = _READERS.get(key, _integer)
    return reader(key, value)


def _addresses(key: str, value: Any) -> tuple[str, ...]:
    if not isinstance(value, list | tuple) or not all(isinstance(item, str) for item in value):
        raise SettingsError(f"{key}: expected a list of addresses")
    return tuple(item.lower() for item in value)


def _text(key: str, value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise SettingsError(f"{key}: expected a text, got {value!r}")
    return value


def _flag(key: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise SettingsError(f"{key}: expected true or false, got {value!r}")
    return value


def _number(key: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise SettingsError(f"{key}: expected a number, got {value!r}")
    return value


def _integer(key: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise SettingsError(f"{key}: expected a number, got {value!r}")
    return value


def _script(key: str, value: Any) -> tuple[fault_script.Entry, ...]:
    try:
        return fault_script.parse(value)
    except BadFault as error:
        raise SettingsError(f"{key}: {error}") from None


def _switches(key: str, value: Any) -> Mapping[str, Any]:
    """Values for fields of ExchangeConfig, checked against their types."""
    if not isinstance(value, Mapping):
        raise SettingsError(f"{key}: expected a table")
    hints = {name: hint for name, hint in get_type_hints(ExchangeConfig).items() if name not in _NOT_SWITCHES}
    checked = {}
    for name, given in value.items():
        if name not in hints:
            raise SettingsError(f"{key}: unknown switch {name!r}; known: {', '.join(hints)}")
        checked[name] = _switched(f"{key}.{name}", hints[name], given)
    return checked


def _switched(name: str, hint: Any, given: Any) -> Any:
    if get_origin(hint) is Literal:
        if given not in get_args(hint):
            raise SettingsError(
                f"{name}: expected one of {', '.join(map(str, get_args(hint)))}, got {given!r}"
            )
        return given
    if get_origin(hint) is frozenset:
        items = given if isinstance(given, list | tuple) else [given]
        return frozenset(_switched(name, get_args(hint)[0], item) for item in items)
    reader: Reader = _flag if hint is bool else _number if hint is float else _integer
    return reader(name, given)


_READERS: Final[Mapping[str, Reader]] = {
    "host": _text,
    "tls": _flag,
    "tls_cert": _text,
    "tls_key": _text,
    "rate": _number,
    "speed": _number,
    "regime": _text,
    "replay": _text,
    "fund": _addresses,
    "rate_limits": _flag,
    "rate_limit_reply": _text,
    "linger_s": _number,
    "switches": _switches,
    "faults": _script,
}


def _in_range(key: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise SettingsError(f"{key}: expected {low} to {high}, got {value}")


def _one_of(key: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise SettingsError(f"{key}: expected one of {', '.join(choices)}, got {value!r}")


def _is_address(text: str) -> bool:
    digits = text[2:]
    return (
        text[:2].lower() == "0x" and len(digits) == 40 and all(c in "0123456789abcdefABCDEF" for c in digits)
    )
