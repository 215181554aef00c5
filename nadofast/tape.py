"""Recorded traffic as bytes: records with length and checksum, in compressed blocks. No file is opened here.

    file   = MAGIC, then blocks
    block  = "BLK" and its size as u32, then a zlib stream of records
    record = u32 size, u32 CRC-32 of the body; body = u8 kind, i64 monotonic ns, payload

Whatever is cut off or damaged, what lies before it is still read: a block is inflated as far as it goes, and
a record counts only when it is whole and its checksum is right.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import BinaryIO, Final

MAGIC: Final = b"NADOTAPE1\n"
SUFFIX: Final = ".tape"
BLOCK_MARK: Final = b"BLK"
MAX_BLOCK: Final = 64 << 20
LEVEL: Final = 1
"""Of zlib: the loop's neighbour has to keep up with the exchange."""
_BLOCK: Final = struct.Struct("<3sI")
_RECORD: Final = struct.Struct("<II")
_BODY: Final = struct.Struct("<Bq")


class Kind(IntEnum):
    """What a record holds; JSON but for frames. SESSION: who recorded, first of every file. CHANNEL: number
    and name of a connection. RECEIVED, SENT: u8 channel, then the message. CORE: a call of the feed's core.
    The others belong to the bot: see `bot.recording`."""

    SESSION = 1
    CHANNEL = 2
    RECEIVED = 3
    SENT = 4
    CORE = 5
    SETUP = 6
    INPUT = 7
    STATE = 8
    DECIDED = 9
    ORDER = 10
    JOURNAL = 11
    LINE = 12
    END = 13


_KINDS: Final = frozenset(Kind)


@dataclass(frozen=True, slots=True)
class Record:
    kind: Kind
    at_ns: int
    payload: bytes

    @property
    def channel(self) -> int:
        """Of a frame."""
        return self.payload[0]

    @property
    def message(self) -> bytes:
        """Of a frame."""
        return self.payload[1:]


def encode(kind: Kind, at_ns: int, payload: bytes) -> bytes:
    """One record."""
    body = _BODY.pack(kind, at_ns) + payload
    return _RECORD.pack(len(body), zlib.crc32(body)) + body


def block(records: Iterable[bytes]) -> bytes:
    """Some records, compressed."""
    packed = zlib.compress(b"".join(records), LEVEL)
    return _BLOCK.pack(BLOCK_MARK, len(packed)) + packed


@dataclass(slots=True)
class Reader:
    """The records of one file. After the last one `damage` says why it ends early, "" if it does not.

    read_bytes: how far the file has been read. Iterate once.
    """

    file: BinaryIO
    damage: str = ""
    read_bytes: int = 0

    def __iter__(self) -> Iterator[Record]:
        magic = self._read(len(MAGIC))
        if magic != MAGIC:
            self.damage = "not a recording" if len(magic) == len(MAGIC) else "cut in the first bytes"
            return
        while head := self._read(_BLOCK.size):
            if len(head) < _BLOCK.size:
                self.damage = f"cut at byte {self.read_bytes}"
                return
            mark, size = _BLOCK.unpack(head)
            if mark != BLOCK_MARK or size > MAX_BLOCK:
                self.damage = f"damaged before byte {self.read_bytes}"
                return
            packed = self._read(size)
            yield from self._records(packed, is_cut=len(packed) < size)
            if self.damage:
                return

    def _records(self, packed: bytes, *, is_cut: bool) -> Iterator[Record]:
        where = f"cut at byte {self.read_bytes}" if is_cut else f"damaged before byte {self.read_bytes}"
        inflater, raw, is_whole = zlib.decompressobj(), b"", True
        try:
            raw = inflater.decompress(packed, MAX_BLOCK)
            is_whole = inflater.eof and not inflater.unused_data
        except zlib.error:
            is_whole = False
            raw = _as_far_as_it_goes(packed)
        at = 0
        while at + _RECORD.size <= len(raw):
            size, crc = _RECORD.unpack_from(raw, at)
            body = raw[at + _RECORD.size : at + _RECORD.size + size]
            if len(body) < max(size, _BODY.size) or zlib.crc32(body) != crc:
                self.damage = where
                return
            kind, at_ns = _BODY.unpack_from(body)
            if kind not in _KINDS:
                self.damage = f"kind {kind} is not known to this version, before byte {self.read_bytes}"
                return
            yield Record(Kind(kind), at_ns, body[_BODY.size :])
            at += _RECORD.size + size
        if not is_whole or at != len(raw):
            self.damage = where

    def _read(self, size: int) -> bytes:
        found = self.file.read(size)
        self.read_bytes += len(found)
        return found


def _as_far_as_it_goes(packed: bytes) -> bytes:
    """What a damaged stream gives before the damage."""
    inflater, found = zlib.decompressobj(), bytearray()
    try:
        for at in range(0, len(packed), 64):
            found += inflater.decompress(packed[at : at + 64])
    except zlib.error:
        pass
    return bytes(found)
