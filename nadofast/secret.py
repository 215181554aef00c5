"""A value that cannot print itself, the one place where a private key is read, and safe excerpts."""

from __future__ import annotations

import hmac
import re
from typing import Final, NoReturn

from .errors import InvalidKey

MASK: Final = "Secret(***)"
KEY_HEX_DIGITS: Final = 64
ADDRESS_HEX_DIGITS: Final = 40
# Order of the secp256k1 group: a private key is a number in [1, n).
SECP256K1_ORDER: Final = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141


EXCERPT_CHARACTERS: Final = 120
# Longer than any address, digest or subaccount: a signature, whole or cut off.
_SIGNATURE_DIGITS: Final = re.compile(r"(?:0x)?[0-9a-fA-F]{80,}")
# Read at most this much of a foreign text; what is shown of it is far shorter.
_EXCERPT_SOURCE: Final = 4096


class Secret:
    """Holds a string that no repr, log line, traceback, pickle or JSON encoder can show.

    `reveal()` is the only way out; grep for it to see every use.
    """

    __slots__ = ("_value",)
    _value: str

    def __init__(self, value: str) -> None:
        object.__setattr__(self, "_value", value)

    def reveal(self) -> str:
        """The value itself. Never pass the result to anything that formats or stores it."""
        return self._value

    def __repr__(self) -> str:
        return MASK

    def __str__(self) -> str:
        return MASK

    def __format__(self, spec: str) -> str:
        return MASK

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError("a Secret cannot be changed")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError("a Secret cannot be changed")

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Secret cannot be pickled")

    def __copy__(self) -> Secret:
        return self

    def __deepcopy__(self, memo: object) -> Secret:
        return self

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self._value.encode(), other._value.encode())

    __hash__ = None  # type: ignore[assignment]  # a hash of a key has no use here


def parse_private_key(text: str | Secret) -> Secret:
    """The private key in `text` as `Secret("0x" + 64 lower-case hex digits)`.

    Accepts 64 hex digits with or without 0x, surrounding white space ignored. Raises InvalidKey with
    the reason, never with any part of the input.
    """
    value = text.reveal() if isinstance(text, Secret) else text
    problem, digits = _examine(value)
    # The frame of this call may end in a traceback that shows locals.
    del text, value
    if problem:
        del digits
        raise InvalidKey(problem)
    return Secret("0x" + digits)


def excerpt(foreign: bytes | str) -> str:
    """The beginning of a text somebody else wrote, fit for a log or an error: one line, no signatures.

    An answer may repeat the request, and a signed request is worth as much as the order in it.
    """
    text = foreign[:_EXCERPT_SOURCE]
    if isinstance(text, bytes):
        text = text.decode("utf-8", "replace")
    return " ".join(_SIGNATURE_DIGITS.sub("(signature)", text).split())[:EXCERPT_CHARACTERS]


def _examine(value: str) -> tuple[str, str]:
    """(what is wrong or "", lower-case digits)."""
    digits = value.strip().lower().removeprefix("0x")
    if not digits:
        return "private key is empty", ""
    if any(character not in "0123456789abcdef" for character in digits):
        return "private key has characters that are not hex digits", ""
    if len(digits) == ADDRESS_HEX_DIGITS:
        return "this looks like an address (40 hex digits); a private key has 64", ""
    if len(digits) != KEY_HEX_DIGITS:
        return f"private key has {len(digits)} hex digits; it must have {KEY_HEX_DIGITS}", ""
    number = int(digits, 16)
    if number == 0:
        return "private key is zero", ""
    if number >= SECP256K1_ORDER:
        return "private key is not below the order of the curve", ""
    return "", digits
