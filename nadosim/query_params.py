"""Parameters of gateway queries: JSON values, or texts when they came in a URL."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from . import fields
from .errors import ExchangeError
from .x18 import INT128_MAX, INT128_MIN

Request = Mapping[str, Any]


def integer(request: Request, name: str) -> int:
    return fields.lenient_int(request.get(name), INT128_MIN, INT128_MAX, name)


def product_ids(request: Request) -> list[int]:
    """A list, or the text of one as a URL parameter: `[4,8]` or `4,8`.

    Raises ExchangeError: 2062 if there is none, 2061 for what is no number, 2060 for a repeated one.
    """
    value = request.get("product_ids")
    if value is None:
        raise ExchangeError(2062)
    if isinstance(value, str):
        value = [part for part in value.strip("[]").replace(" ", "").split(",") if part]
    if not isinstance(value, list):
        raise ExchangeError(2061)
    try:
        found = [integer({"product_ids": item}, "product_ids") for item in value]
    except ExchangeError:
        raise ExchangeError(2061) from None
    if len(set(found)) != len(found):
        raise ExchangeError(2060)
    return found


def hex_bytes(request: Request, name: str, size: int) -> str:
    """0x-hex of `size` bytes, in lower case."""
    return fields.hex_bytes(request.get(name), size, name)


def flag(request: Request, name: str, *, default: bool = False) -> bool:
    """Booleans of queries travel as the strings `true` and `false`; anything else is 2040."""
    value = request.get(name)
    if value is None:
        return default
    text = str(value).lower()
    if text not in ("true", "false"):
        raise ExchangeError(2040, name)
    return text == "true"
