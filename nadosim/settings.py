"""What the exchange process can be told: one dataclass, filled from a TOML file and the command line."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Final

from .config import CHAIN_ID

DEFAULT_RATE: Final = 200.0  # market messages per second, all products and public streams together


class SettingsError(Exception):
    """A setting that cannot be used. The text is one line and names it."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Keys of the configuration file have the same names.

    port: 0 picks a free one. seed: of the market and of the funded accounts' keys.
    rate: market messages per second, all products together. speed: market seconds per real second.
    accounts: how many funded accounts are made. fund: further addresses whose `default` subaccount is funded.
    linger_s: how long to live on after stdin closes.
    """

    host: str = "127.0.0.1"
    port: int = 0
    seed: int = 1
    rate: float = DEFAULT_RATE
    speed: float = 1.0
    accounts: int = 1
    fund: tuple[str, ...] = ()
    chain_id: int = CHAIN_ID
    linger_s: float = 0.0

    def __post_init__(self) -> None:
        _in_range("port", self.port, 0, 65_535)
        _in_range("seed", self.seed, 0, (1 << 63) - 1)
        _in_range("rate", self.rate, 0, 20_000)
        _in_range("speed", self.speed, 0.01, 1_000)
        _in_range("accounts", self.accounts, 0, 1_000)
        _in_range("chain_id", self.chain_id, 1, (1 << 63) - 1)
        _in_range("linger_s", self.linger_s, 0, 3_600)
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
    if key == "fund":
        if not isinstance(value, list | tuple) or not all(isinstance(item, str) for item in value):
            raise SettingsError("fund: expected a list of addresses")
        return tuple(item.lower() for item in value)
    if key == "host":
        if not isinstance(value, str) or not value:
            raise SettingsError(f"host: expected a name or an address, got {value!r}")
        return value
    number = int | float if key in ("rate", "speed", "linger_s") else int
    if isinstance(value, bool) or not isinstance(value, number):
        raise SettingsError(f"{key}: expected a number, got {value!r}")
    return value


def _in_range(key: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise SettingsError(f"{key}: expected {low} to {high}, got {value}")


def _is_address(text: str) -> bool:
    digits = text[2:]
    return (
        text[:2].lower() == "0x" and len(digits) == 40 and all(c in "0123456789abcdefABCDEF" for c in digits)
    )
