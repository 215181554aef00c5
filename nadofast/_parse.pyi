from typing import Literal

from .events import Event

Readable = bytes | bytearray | memoryview | str

def parse(data: Readable) -> Event:
    """One message of a subscription socket, or one gateway envelope, as its typed event.

    Integers may be strings or JSON numbers, keys may come in any order, unknown fields are ignored. Hex
    identities are lower-cased. A gateway envelope (`status`) becomes a ControlReply whose result is the
    whole decoded object. Raises ParseError (offset, excerpt) on anything that cannot be read completely.
    """

def parse_x18(data: Readable) -> int:
    """`-?[0-9]{1,39}` as an integer. Raises ParseError on other text and beyond int128."""

def scanner(data: Readable) -> Literal["canonical", "tolerant"]:
    """Which scanner reads this message. Raises ParseError like `parse`."""
