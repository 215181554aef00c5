"""What faults do to one connection's outgoing messages, without its socket.

`Distortion.apply` turns one message into those that really leave: none, one or several, each with the time it
may leave and the form it takes on the wire. `raw_frame` makes the bytes of forms that are no proper frame.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from enum import Enum
from typing import Final

import orjson

from .faults import Faults

RSV1_TEXT: Final = 0xC1
BLOCK_BYTES: Final = 1 << 20
PLAIN_TEXT: Final = 0x81
GARBAGE: Final = bytes.fromhex("ffffdeadbeef00ff") * 4  # block type 3 does not exist
DISPUTED: Final = frozenset({"timestamp", "submission_idx", "dt", "update_time", "time", "id", "placed_at"})


class Form(Enum):
    """How a message leaves."""

    TEXT = "text"
    TRUNCATED = "truncated_frame"
    OVERSIZED = "oversized_frame"
    BAD_DEFLATE = "bad_deflate"
    BOMB = "deflate_bomb"


@dataclass(slots=True)
class Outgoing:
    """One message in the queue.

    due_s: monotonic, 0 for at once. size: bytes of an oversized frame or a bomb.
    """

    payload: bytes
    due_s: float = 0.0
    form: Form = Form.TEXT
    size: int = 0


class Distortion:
    """State of one connection: the message held back for reordering, and when the last one leaves."""

    def __init__(self, faults: Faults, scope: str, number: int) -> None:
        self._faults = faults
        self._scope = scope
        self._number = number
        self._held: Outgoing | None = None
        self._last_due_s = 0.0

    @property
    def holds(self) -> bool:
        """Whether a message waits for the next one, whatever has become of the fault."""
        return self._held is not None

    def apply(self, payload: bytes, kind: str, product_id: int | None, now_s: float) -> list[Outgoing]:
        """What leaves in place of this message, in order."""

        def taken(name: str) -> dict[str, object] | None:
            rule = self._faults.take(
                name, scope=self._scope, kind=kind, product_id=product_id, connection=self._number
            )
            return None if rule is None else rule.value

        if taken("mute") is not None or taken("drop") is not None:
            return []
        if taken("extra_fields") is not None:
            payload = b'{"zz_unknown":{"a":[1,"2",null]},' + payload[1:]
        if taken("swap_types") is not None:
            payload = swap_types(payload)
        if taken("corrupt_json") is not None:
            payload = payload[: len(payload) // 2] + b'"#' + payload[len(payload) // 2 :]
        message = Outgoing(payload)
        for form in (Form.TRUNCATED, Form.OVERSIZED, Form.BAD_DEFLATE, Form.BOMB):
            if (value := taken(form.value)) is not None:
                message.form = form
                message.size = int(str(value.get("bytes", 0)))
        delay, batch = taken("delay"), taken("batch")
        message.due_s = self._due_s(delay, batch, now_s)
        leaving = [message]
        if taken("duplicate") is not None:
            leaving.append(Outgoing(payload, message.due_s))
        if self._held is not None:
            leaving.append(self._held)
            self._held = None
        elif taken("reorder") is not None:
            self._held = leaving.pop(0)
        return leaving

    def _due_s(self, delay: dict[str, object] | None, batch: dict[str, object] | None, now_s: float) -> float:
        """Never before the message ahead: a connection keeps its order."""
        due_s = 0.0
        if delay is not None:
            jitter_ms = float(str(delay["jitter_ms"]))
            due_s = now_s + (float(str(delay["ms"])) + self._faults.between(0.0, jitter_ms)) / 1e3
        if batch is not None:
            every_s = float(str(batch["every_ms"])) / 1e3
            due_s = (max(due_s, now_s) // every_s + 1) * every_s
        if due_s or self._last_due_s > now_s:
            due_s = self._last_due_s = max(due_s, self._last_due_s)
        return due_s


def swap_types(payload: bytes) -> bytes:
    """Fields whose type sources disagree about, the other way round: strings of digits and numbers."""
    message = orjson.loads(payload)
    if isinstance(message, dict):
        for name in DISPUTED & message.keys():
            value = message[name]
            if isinstance(value, str) and value.isdecimal() and int(value) < 1 << 63:
                message[name] = int(value)
            elif isinstance(value, int) and not isinstance(value, bool):
                message[name] = str(value)
    return orjson.dumps(message)


def raw_frame(message: Outgoing, *, deflates: bool) -> bytes:
    """Bytes of a form that is not a proper frame. deflates: the connection has negotiated compression."""
    match message.form:
        case Form.TRUNCATED:
            return _header(PLAIN_TEXT, len(message.payload)) + message.payload[: len(message.payload) // 2]
        case Form.OVERSIZED:
            filler = (
                message.payload[:1] + b'"zz_filler":"' + b"a" * message.size + b'",' + message.payload[1:]
            )
            return _header(PLAIN_TEXT, len(filler)) + filler
        case Form.BOMB:
            bomb = _bomb(message.size)
            return _header(RSV1_TEXT, len(bomb)) + bomb
        case _:
            # On a connection without compression RSV1 is a protocol error of its own.
            first = RSV1_TEXT if deflates else PLAIN_TEXT
            return _header(first, len(GARBAGE)) + GARBAGE


def _bomb(size: int) -> bytes:
    """A raw deflate message of about a thousandth of the size it inflates to: `size` blanks in braces.

    One block that refers to nothing before it is repeated: compressing all of it would hold up the loop.
    """
    deflate = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)

    def block(text: bytes) -> bytes:
        return deflate.compress(text) + deflate.flush(zlib.Z_FULL_FLUSH)

    repeats, rest = divmod(size, BLOCK_BYTES)
    blocks = block(b"{") + block(b" " * BLOCK_BYTES) * repeats + block(b" " * rest + b"}")
    return blocks.removesuffix(b"\x00\x00\xff\xff")


def _header(first: int, length: int) -> bytes:
    if length < 126:
        return bytes((first, length))
    if length < 1 << 16:
        return struct.pack("!BBH", first, 126, length)
    return struct.pack("!BBQ", first, 127, length)
