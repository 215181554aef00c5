"""Fields of execute messages: each function returns a value of its type or refuses with a code."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from .errors import ExchangeError
from .x18 import UINT64_MAX

MALFORMED: Final = 2038
UINT32_MAX: Final = (1 << 32) - 1
HEX_DIGITS: Final = frozenset("0123456789abcdef")  # `bytes.fromhex` takes spaces too


def mapping(value: object, what: str) -> Mapping[str, Any]:
    """A JSON object."""
    if not isinstance(value, dict):
        raise ExchangeError(MALFORMED, what)
    return value


def text(value: object, what: str) -> str:
    """A JSON string."""
    if not isinstance(value, str):
        raise ExchangeError(MALFORMED, what)
    return value


def hex_bytes(value: object, size: int, what: str) -> str:
    """0x-hex of exactly `size` bytes, in lower case."""
    digits = text(value, what).lower()
    if len(digits) != 2 + 2 * size or not digits.startswith("0x") or not HEX_DIGITS.issuperset(digits[2:]):
        raise ExchangeError(MALFORMED, what)
    return digits


def wire_int(fields: Mapping[str, Any], name: str, low: int, high: int) -> int:
    """Integer that must travel as a string, as the real server insists."""
    value = fields.get(name)
    if not isinstance(value, str):
        raise ExchangeError(MALFORMED, f"{name} must be a string")
    return lenient_int(value, low, high, name)


def lenient_int(value: object, low: int, high: int, what: str) -> int:
    """Integer from a decimal string or a number. Python's own `int()` takes spaces and underscores too."""
    if isinstance(value, str):
        digits = value[1:] if value.startswith("-") else value
        if len(digits) > 40 or not (digits.isascii() and digits.isdigit()):
            raise ExchangeError(MALFORMED, what)
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise ExchangeError(MALFORMED, what)
    return value


def uint32(value: object, what: str) -> int:
    """A JSON number."""
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= UINT32_MAX:
        raise ExchangeError(MALFORMED, what)
    return value


def product_ids(value: object) -> tuple[int, ...]:
    """A list of numbers."""
    if not isinstance(value, list):
        raise ExchangeError(MALFORMED, "productIds")
    return tuple(uint32(item, "productIds") for item in value)


def client_id(value: object) -> int | None:
    """The client's own number for an order, if it gave one."""
    if value is None:
        return None
    return lenient_int(value, 0, UINT64_MAX, "id")


def sender(fields: Mapping[str, Any]) -> str:
    """The subaccount a request speaks for. 2032 if it is missing."""
    if fields.get("sender") is None:
        raise ExchangeError(2032)
    return hex_bytes(fields["sender"], 32, "sender")


def nonce(fields: Mapping[str, Any], *, as_text: bool = False) -> int:
    """2033 if it is missing. as_text: numbers are refused."""
    if fields.get("nonce") is None:
        raise ExchangeError(2033)
    if as_text:
        return wire_int(fields, "nonce", 0, UINT64_MAX)
    return lenient_int(fields["nonce"], 0, UINT64_MAX, "nonce")


def flag(fields: Mapping[str, Any], name: str, default: bool) -> bool:
    """A JSON boolean, or nothing. 2040 for anything else."""
    value = fields.get(name)
    if value is None:
        return default
    if not isinstance(value, bool):
        raise ExchangeError(2040, name)
    return value
