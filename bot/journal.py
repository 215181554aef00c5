"""The journal of orders: every intent is in the kernel before its bytes leave, and outlives a kill.

One line per record: CRC-32 of the rest as eight hex digits, a space, a JSON object. It holds digests and
fields and never a signature, because a signed order is a bearer instrument. A kill loses nothing; only a
machine that loses power does, as far as `Fsync` allows. A line torn by that is cut off at the next start; a
damaged line elsewhere is counted and skipped.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import orjson

from nadofast.orders import OrderState, TrackedOrder

VERSION: Final = 1
MAX_ENDS: Final = 10_000
MAX_READY: Final = 8
# A file is rotated when an order ends; this many times as large as it may be, it is whatever happens.
ROTATE_NOW: Final = 2
# An end this young may have been written before a fill that was still on its way.
RECHECK_MS: Final = 5_000
_NS_PER_MS: Final = 1_000_000
_MODE: Final = 0o600
# Fields of an intent. The wide ones are written as texts: JSON numbers end at 2^53 for some readers.
_FIELDS: Final = (
    "digest",
    "product_id",
    "sender",
    "price_x18",
    "amount_x18",
    "expiration_s",
    "nonce",
    "appendix",
    "client_id",
)
_WIDE: Final = frozenset({"price_x18", "amount_x18", "appendix"})
_INTEGER: Final = re.compile(r"-?[0-9]{1,40}")


class JournalError(Exception):
    """The file cannot be used as a journal; the text says why."""


class Fsync(StrEnum):
    """When records are forced to the disk. NONE: when the kernel likes."""

    NONE = "none"
    INTERVAL = "interval"
    EVERY = "every"


@dataclass(frozen=True, slots=True)
class JournalConfig:
    """max_bytes: then the file is rotated, what a start would ask about carried over. keep: old files kept.
    fsync_interval_s: with INTERVAL, the longest a record waits for the next one to force it out."""

    fsync: Fsync = Fsync.NONE
    fsync_interval_s: float = 1.0
    max_bytes: int = 8 << 20
    keep: int = 4


@dataclass(frozen=True, slots=True)
class Contents:
    """What a journal says. intents: by digest, oldest first; ends: digest → record of its end.

    damaged: lines in the middle that are not what was written. torn_bytes: length of an unfinished last one.
    """

    intents: Mapping[str, dict[str, Any]]
    ends: Mapping[str, dict[str, Any]]
    damaged: int
    torn_bytes: int

    @property
    def unfinished(self) -> list[dict[str, Any]]:
        """Fields of the orders without an end, or with one only just before the last record, oldest first."""
        records = (*self.intents.values(), *self.ends.values())
        since_ms = max((record["at_ms"] for record in records), default=0) - RECHECK_MS
        old = {
            digest
            for digest, end in self.ends.items()
            if end["at_ms"] < since_ms or end["state"] == OrderState.DENIED.value  # it never left
        }
        return [fields for digest, fields in self.intents.items() if digest not in old]


class Journal:
    """Append-only and exclusive. `record_all` is the gateway's `journal`: if it raises, nothing leaves.

    Raises JournalError when the file is in use, belongs to another account or is not a plain file.
    """

    def __init__(
        self,
        path: Path,
        *,
        account: str,
        config: JournalConfig | None = None,
        wall_ns: Callable[[], int] = time.time_ns,
        must_write: bool = True,
    ) -> None:
        """must_write: False where a full disk is no reason not to read what is there."""
        self._wall_ns = wall_ns
        self._must_write = must_write
        self.path = path
        self.account = account
        self._config = config or JournalConfig()
        self._fd = -1
        self._size = 0
        self._synced_ns = time.monotonic_ns()
        self._ready: dict[str, bytes] = {}
        # Intents a new file has to hold: without an end, or with one in `_young`, digest → (at_ms, line).
        self._open: dict[str, bytes] = {}
        self._young: dict[str, tuple[int, bytes]] = {}
        self._ends: dict[str, int] = {}
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            self._fd = _open_exclusive(path)
            self.found = self._take_over()
        except OSError as error:
            self.close()
            raise JournalError(f"{path}: {error.strerror or error}") from None
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Force out what is written, and let go of the file."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            with contextlib.suppress(OSError):  # a pipe or a dying disk: closing still has to happen
                os.fdatasync(fd)
            os.close(fd)

    # ------------------------------------------------------------------ writing

    def prepare(self, order: TrackedOrder) -> None:
        """For orders signed ahead: make the record now, so that it only has to be written. It then says when
        the order was signed. Only the last few are kept."""
        self._ready[order.digest] = _intent_line(order, self._now_ms())
        if len(self._ready) > MAX_READY:
            del self._ready[next(iter(self._ready))]

    def record(self, order: TrackedOrder) -> None:
        """Write one intent, as `record_all`."""
        self.record_all((order,))

    def record_all(self, orders: Sequence[TrackedOrder]) -> None:
        """Write intents in one piece, those that are not there yet. Raises OSError, leaving no trace of any,
        if the kernel does not take them whole."""
        now_ms = self._now_ms()
        lines: dict[str, bytes] = {}
        for order in orders:
            if order.digest not in self._open:
                ready = self._ready.pop(order.digest, None)
                lines[order.digest] = ready or _intent_line(order, now_ms)
        if not lines:
            return
        self._append(*lines.values())
        self._open |= lines
        if self._size > ROTATE_NOW * self._config.max_bytes:
            self._rotate()

    def note(self, order: TrackedOrder) -> None:
        """For `OrderTracker.on_change`: write the end of an order when it is certain, and again if a
        late fill corrects it. Never raises OSError: a missing end costs one question at the next start."""
        is_known = self._ends.get(order.digest) == order.filled_x18
        if (
            is_known
            or not order.is_settled
            or (order.digest not in self._open and order.digest not in self._ends)
        ):
            return
        now_ms = self._now_ms()
        end = {"kind": "end", "at_ms": now_ms, "digest": order.digest}
        line = _line(end | {"state": order.state.value, "filled_x18": str(order.filled_x18)})
        # One that is corrected late is in doubt again, and a new file no longer holds its intent.
        known = self._open.get(order.digest)
        intent = known or _intent_line(order, now_ms)
        with contextlib.suppress(OSError):
            self._append(*((line,) if known else (intent, line)))
            self._open[order.digest] = intent
            self._ends[order.digest] = order.filled_x18
            if len(self._ends) > MAX_ENDS:
                del self._ends[next(iter(self._ends))]
            self._keep_young(order.digest, now_ms, line)
            if self._size > self._config.max_bytes:  # here no order waits for the disk
                self._rotate()

    def _keep_young(self, digest: str, now_ms: int, line: bytes) -> None:
        """A new file holds nothing of an order whose end is old enough to be the last word."""
        self._young.pop(digest, None)
        self._young[digest] = now_ms, line
        while True:
            oldest = next(iter(self._young))
            if self._young[oldest][0] >= now_ms - RECHECK_MS and len(self._young) <= MAX_ENDS:
                return
            del self._young[oldest]
            self._open.pop(oldest, None)

    def _append(self, *lines: bytes) -> None:
        whole = b"".join(lines)
        written = os.write(self._fd, whole)
        if written != len(whole):
            os.ftruncate(self._fd, self._size)
            raise OSError(errno.ENOSPC, "the journal took only a part of a record")
        self._size += written
        self._sync()

    def _sync(self) -> None:
        if self._config.fsync is Fsync.NONE:
            return
        now_ns = time.monotonic_ns()
        is_due = now_ns - self._synced_ns >= self._config.fsync_interval_s * 1e9
        if self._config.fsync is Fsync.EVERY or is_due:
            os.fdatasync(self._fd)
            self._synced_ns = now_ns

    # ------------------------------------------------------------------ files

    def _take_over(self) -> Contents:
        """Read what is there, cut off a torn tail, and go on behind it."""
        raw = os.pread(self._fd, os.fstat(self._fd).st_size, 0)
        records, damaged, torn = _scan(raw)
        contents = _contents(records, damaged, torn)
        owners = {record["account"] for record in records if record["kind"] == "begin"}
        if owners - {self.account}:
            raise JournalError(f"{self.path} belongs to another account")
        self._size = len(raw) - torn
        with contextlib.suppress(*(() if self._must_write else (OSError,))):
            self._go_on(contents, torn, is_new=not owners)
        return contents

    def _go_on(self, contents: Contents, torn: int, *, is_new: bool) -> None:
        if torn:
            os.ftruncate(self._fd, self._size)
        if is_new:
            self._append(self._begin())
        for fields in contents.unfinished:
            digest = fields["digest"]
            self._open[digest] = _line(fields)
            if digest in contents.ends:  # in doubt until it is written again, however many starts that takes
                self._append(_line({"kind": "reopened", "at_ms": self._now_ms(), "digest": digest}))

    def _now_ms(self) -> int:
        return self._wall_ns() // _NS_PER_MS

    def _begin(self) -> bytes:
        return _line({"kind": "begin", "version": VERSION, "account": self.account})

    def _rotate(self) -> None:
        """A new file with every order without an end, or with a young one. Whenever this is cut, `path` is
        complete."""
        fresh = self.path.with_name(self.path.name + ".new")
        try:
            fresh.unlink(missing_ok=True)
            fd = _open_exclusive(fresh)
        except (OSError, JournalError):
            return  # as below
        try:
            ends = (line for _, line in self._young.values())
            body = b"".join((self._begin(), *self._open.values(), *ends))
            if os.write(fd, body) != len(body):
                raise OSError(errno.ENOSPC, "no room for a new journal")
            os.fdatasync(fd)
            for number in range(self._config.keep, 1, -1):
                older = self._numbered(number - 1)
                if older.exists():
                    older.replace(self._numbered(number))
            self._numbered(1).unlink(missing_ok=True)
            os.link(self.path, self._numbered(1))
            fresh.replace(self.path)
        except OSError:
            os.close(fd)  # the old file goes on growing; the next record tries again
            return
        os.close(self._fd)
        self._fd, self._size = fd, len(body)

    def _numbered(self, number: int) -> Path:
        return self.path.with_name(f"{self.path.name}.{number}")


def read(path: Path) -> Contents:
    """Read a journal without changing it, in use or not."""
    return _contents(*_scan(path.read_bytes()))


def _open_exclusive(path: Path) -> int:
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    fd = os.open(path, flags, _MODE)
    try:
        os.fchmod(fd, _MODE)
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        raise JournalError(f"{path} is in use by another process") from None
    except BaseException:
        os.close(fd)
        raise
    return fd


def _line(record: Mapping[str, Any]) -> bytes:
    return _checked(orjson.dumps(record))


def _checked(body: bytes) -> bytes:
    return b"%08x %b\n" % (zlib.crc32(body), body)


def _intent_line(order: TrackedOrder, at_ms: int) -> bytes:
    """As `_line` of all the fields, at a quarter of the cost: this stands between a decision and its bytes.
    Digest and sender are hex digits, so that no text needs escaping."""
    client_id = "null" if order.client_id is None else order.client_id
    return _checked(
        f'{{"kind":"intent","at_ms":{at_ms},"digest":"{order.digest}","product_id":{order.product_id},'
        f'"sender":"{order.sender}","price_x18":"{order.price_x18}","amount_x18":"{order.amount_x18}",'
        f'"expiration_s":{order.expiration_s},"nonce":{order.nonce},"appendix":"{order.appendix}",'
        f'"client_id":{client_id}}}'.encode()
    )


def _scan(raw: bytes) -> tuple[list[dict[str, Any]], int, int]:
    """(good records, damaged lines before the last good one, bytes behind the last whole line)."""
    records, damaged = [], 0
    whole, _, tail = raw.rpartition(b"\n")
    for line in whole.splitlines() if whole else ():
        record = _record(line)
        if record is None:
            damaged += 1
        else:
            records.append(record)
    return records, damaged, len(tail)


def _record(line: bytes) -> dict[str, Any] | None:
    try:
        if int(line[:8], 16) != zlib.crc32(line[9:]):
            return None
        record = orjson.loads(line[9:])
    except ValueError:
        return None
    return record if isinstance(record, dict) and _is_whole(record) else None


def _is_whole(record: Mapping[str, Any]) -> bool:
    """Whether it has what a record of its kind is read for; one of an unknown kind is passed over."""
    kind = record.get("kind")
    if kind == "begin":
        return isinstance(record.get("account"), str)
    if kind not in ("intent", "end", "reopened"):
        return isinstance(kind, str)
    texts = {"intent": ("digest", "sender", *_WIDE), "end": ("digest", "state")}.get(kind, ("digest",))
    numbers = ("at_ms", "product_id", "expiration_s", "nonce") if kind == "intent" else ("at_ms",)
    return (
        all(isinstance(record.get(name), str) for name in texts)
        and all(type(record.get(name)) is int for name in numbers)
        and (kind != "intent" or all(_INTEGER.fullmatch(record[name]) for name in _WIDE))
        and (kind != "intent" or isinstance(record.get("client_id", ""), int | None))
    )


def _contents(records: list[dict[str, Any]], damaged: int, torn: int) -> Contents:
    intents, ends = {}, {}
    for record in records:
        if record["kind"] == "intent":
            intents[record["digest"]] = record
        elif record["kind"] == "end":
            ends[record["digest"]] = record
        elif record["kind"] == "reopened":
            ends.pop(record["digest"], None)
    return Contents(intents, ends, damaged, torn)


def order_fields(record: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The fields of an intent as `OrderTracker.restore` takes them."""
    for name in _FIELDS:
        yield name, int(record[name]) if name in _WIDE else record[name]
