"""Where a recording goes: a bounded buffer and one thread that compresses, writes and rotates.

The loop appends to a queue and goes on. A disk that is full, slow or gone fills the buffer, and then `put`
raises OSError: what was recorded up to there is whole, nothing is recorded any more.
"""

from __future__ import annotations

import errno
import os
import secrets
import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, Final

import orjson

from nadofast._version import __version__
from nadofast.tape import MAGIC, SUFFIX, Kind, Reader, Record, block, encode

WRITE_EVERY_S: Final = 0.1
BLOCK_BYTES: Final = 128 << 10
CLOSE_TIMEOUT_S: Final = 5.0
_MODE: Final = 0o600


@dataclass(frozen=True, slots=True)
class RecordConfig:
    """max_file: bytes of a file, compressed; then the next one begins. max_waiting: bytes that may wait for
    the disk."""

    max_file: int = 64 << 20
    max_waiting: int = 16 << 20


class RecordFile:
    """One session's files: `<UTC time>-<session>.0001.tape` and on. Raises OSError if it cannot be begun."""

    def __init__(self, directory: Path, config: RecordConfig | None = None) -> None:
        self._config = config or RecordConfig()
        self._session = secrets.token_hex(4)
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._stem = directory / f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{self._session}"
        self._part = 0
        self._size = 0
        self._waiting: deque[bytes] = deque()
        self._given = self._taken = 0
        self._more = threading.Event()
        self._is_closing = False
        self._channels: list[bytes] = []
        self.failure: str | None = None
        self.records = 0
        self._file = self._begin_file()
        self._thread = threading.Thread(target=self._run, name="record", daemon=True)
        self._thread.start()

    @property
    def path(self) -> Path:
        """The first file."""
        return self._numbered(1)

    def put(self, kind: Kind, at_ns: int, payload: bytes) -> None:
        """Keep one record. Raises OSError once the recording has failed, or when the buffer is full."""
        record = encode(kind, at_ns, payload)
        if self.failure is None and self._given - self._taken + len(record) > self._config.max_waiting:
            self.failure = "the disk does not keep up"
        if self.failure is not None:
            raise OSError(errno.ENOSPC, self.failure)
        self._given += len(record)
        self.records += 1
        self._waiting.append(record)
        if kind is Kind.CHANNEL:
            self._channels.append(record)
        if self._given - self._taken > BLOCK_BYTES:
            self._more.set()

    def close(self) -> None:
        """Write what waits, at most for five seconds."""
        self._is_closing = True
        self._more.set()
        self._thread.join(CLOSE_TIMEOUT_S)

    # ------------------------------------------------------------------ the thread

    def _run(self) -> None:
        try:
            while not self._is_closing:
                self._more.wait(WRITE_EVERY_S)
                self._more.clear()
                self._write()
            self._write()
        except OSError as error:
            self.failure = error.strerror or type(error).__name__
        except Exception as error:
            self.failure = f"{type(error).__name__}: {error}"
        finally:
            self._file.close()

    def _write(self) -> None:
        while self._waiting:
            records, size = [], 0
            while self._waiting and size < BLOCK_BYTES:
                records.append(self._waiting.popleft())
                size += len(records[-1])
            if self._size > self._config.max_file:
                self._file.close()
                self._file = self._begin_file()
            self._append(block(records))
            self._taken += size

    def _append(self, data: bytes) -> None:
        _write_whole(self._file, data)
        self._size += len(data)

    def _begin_file(self) -> BinaryIO:
        self._part += 1
        fd = os.open(self._numbered(self._part), os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _MODE)
        file = os.fdopen(fd, "wb", buffering=0)
        now_ns = time.monotonic_ns()
        head = {
            "session": self._session, "part": self._part, "wall_ns": time.time_ns(), "version": __version__
        }  # fmt: skip
        data = MAGIC + block([encode(Kind.SESSION, now_ns, orjson.dumps(head)), *self._channels])
        _write_whole(file, data)
        self._size = len(data)
        return file

    def _numbered(self, part: int) -> Path:
        return self._stem.with_name(f"{self._stem.name}.{part:04d}{SUFFIX}")


def _write_whole(file: BinaryIO, data: bytes) -> None:
    """A write without a buffer may take a part: what follows would stand behind half a block."""
    left = memoryview(data)
    while left:
        left = left[file.write(left) :]


class RecordingReader:
    """The records of a recording from one of its files on, over all that follow it. Raises OSError.

    damage: why it ends early, "" if it does not. size, read_bytes: for those who show progress.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.paths = _parts(path)
        self.size = sum(one.stat().st_size for one in self.paths)
        self.read_bytes = 0
        self.damage = ""
        self.has_end = False

    def __iter__(self) -> Iterator[Record]:
        done = 0
        for path in self.paths:
            with path.open("rb") as file:
                reader = Reader(file)
                for record in reader:
                    self.read_bytes = done + reader.read_bytes
                    self.has_end |= record.kind is Kind.END
                    yield record
                done += reader.read_bytes
                self.read_bytes = done
            if reader.damage:
                self.damage = f"{path.name}: {reader.damage}"
                return
        if not self.has_end:
            self.damage = f"{self.paths[-1].name}: no end: the process that recorded was stopped"


def _parts(path: Path) -> list[Path]:
    """This file and those of its session that follow it without a gap."""
    stem, _, number = path.name.removesuffix(SUFFIX).rpartition(".")
    found = [path]
    if not path.name.endswith(SUFFIX) or not number.isdigit():
        return found
    part = int(number) + 1
    while (following := path.with_name(f"{stem}.{part:04d}{SUFFIX}")).exists():
        found.append(following)
        part += 1
    return found
