"""Recordings of the wire: every frame of every socket, both ways, with the time it was seen.

A file is gzip. Its first line is the header, `{"format":"nado-recording","version":1,"started_ns":…,
"note":…}`; every other line is one frame, a JSON array:

    [received_ns, direction, link, text]

received_ns: wall clock, ns since the epoch, when the frame was read or written. direction: `in` (from the
exchange) or `out`. link: name of the socket, such as `subscribe` or `gateway`. text: the frame's payload,
after inflating, as a JSON string. Lines are in the order things happened.

Nothing secret is kept: values of `signature` and of anything named like a key are replaced by `"redacted"` on
the way in, so that a recorded order can never be sent again. A file whose writer died is readable up to its
last complete line.
"""

from __future__ import annotations

import gzip
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal

import orjson

FORMAT: Final = "nado-recording"
VERSION: Final = 1
SECRET_NAMES: Final = frozenset(
    {"signature", "cancel_signature", "signatures", "private_key", "privatekey", "secret", "mnemonic"}
)
REDACTED: Final = "redacted"
FLUSH_EVERY: Final = 256  # frames; what a crash may cost

Direction = Literal["in", "out"]


class BadRecording(Exception):
    """Not a recording, or one of a version this code does not know. The text is one line."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One message as it was seen."""

    received_ns: int
    direction: Direction
    link: str
    text: str


class RecordingWriter:
    """Writes a new file; an existing one is an error. Use as a context manager.

    Raises OSError.
    """

    def __init__(self, path: str | Path, note: str = "") -> None:
        self._file: gzip.GzipFile = gzip.open(path, "xb", compresslevel=6)  # noqa: SIM115 - closed by close()
        self._unflushed = 0
        self.frames = 0
        header = {"format": FORMAT, "version": VERSION, "started_ns": time.time_ns(), "note": note}
        self._file.write(orjson.dumps(header) + b"\n")

    def write(
        self, direction: Direction, link: str, text: str | bytes, received_ns: int | None = None
    ) -> None:
        """Append one frame, redacted; received_ns: now unless given."""
        at_ns = time.time_ns() if received_ns is None else received_ns
        self._file.write(orjson.dumps([at_ns, direction, link, redact(text)]) + b"\n")
        self.frames += 1
        self._unflushed += 1
        if self._unflushed >= FLUSH_EVERY:
            self._file.flush()
            self._unflushed = 0

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> RecordingWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def redact(text: str | bytes) -> str:
    """The message without secrets. What is not JSON is kept only as its length: it might hold anything."""
    raw = text.encode() if isinstance(text, str) else text
    # A name may be written with escapes: only what has none can be searched as it is.
    if b"\\u" not in raw and not any(name.encode() in raw.lower() for name in SECRET_NAMES):
        return raw.decode(errors="replace")
    try:
        return orjson.dumps(_without_secrets(orjson.loads(raw))).decode()
    except (orjson.JSONDecodeError, orjson.JSONEncodeError, RecursionError):
        return f"<{len(raw)} bytes that are not JSON>"


def _without_secrets(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            name: REDACTED if name.lower() in SECRET_NAMES else _without_secrets(item)
            for name, item in value.items()
        }
    return [_without_secrets(item) for item in value] if isinstance(value, list) else value


def read(path: str | Path) -> Iterator[Frame]:
    """Frames in file order; ends silently where a writer was interrupted.

    Raises OSError, and BadRecording for what is no recording or has a line that is none of ours.
    """
    with gzip.open(path, "rb") as file:
        lines = _complete_lines(file, path)
        header = _json(next(lines, b""), path)
        if not isinstance(header, dict) or header.get("format") != FORMAT:
            raise BadRecording(f"{path}: not a {FORMAT}")
        if header.get("version") != VERSION:
            raise BadRecording(f"{path}: version {header.get('version')!r}, this code reads {VERSION}")
        for line in lines:
            yield _frame(_json(line, path), path)


def _complete_lines(file: gzip.GzipFile, path: str | Path) -> Iterator[bytes]:
    try:
        for line in file:
            if line.endswith(b"\n"):
                yield line
    except EOFError:
        return  # no gzip trailer: the writer never closed the file
    except (gzip.BadGzipFile, zlib.error) as error:
        raise BadRecording(f"{path}: {error}") from None


def _json(line: bytes, path: str | Path) -> Any:
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError:
        raise BadRecording(f"{path}: not a {FORMAT}") from None


def _frame(value: Any, path: str | Path) -> Frame:
    match value:
        case [int(received_ns), ("in" | "out") as direction, str(link), str(text)]:
            return Frame(received_ns, direction, link, text)
    raise BadRecording(f"{path}: a line that is not [received_ns, direction, link, text]")
