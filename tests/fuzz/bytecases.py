"""What must hold for any bytes at all: one function a target, for the guided fuzzer and for its kept corpus.

Each takes the case as bytes, and raises AssertionError if the code breaks a promise; any other exception that
the code may not raise comes through and is a finding too.
"""

from __future__ import annotations

import asyncio
import json
import random
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path

from frames import Served, expected, frame
from samples import compact, replies, stream_events

from bot.journal import Journal, JournalError, order_fields, read
from nadofast._book import OrderBook
from nadofast._inflate import Inflater
from nadofast._parse import parse
from nadofast.errors import NadoError, ParseError

CAP = 60_000
STEPS_X18 = (1, 10**15, 10**17)
Case = Callable[[bytes], None]


def parse_case(data: bytes) -> None:
    """An event or ParseError, and the same again the second time."""
    found = []
    for _ in range(2):
        try:
            found.append(repr(parse(data)))
        except ParseError as error:
            found.append(str(error))
    assert found[0] == found[1], "two results"


def inflate_case(data: bytes) -> None:
    """Both decoders give the same texts or both refuse; a distance beyond a small window is ours alone.

    First byte: window and take-over; then messages, each after its length in two bytes.
    """
    bits, is_reset = (15, 9, 12, 15)[data[0] & 3 if data else 0], bool(data and data[0] & 4)
    ours, theirs = (Inflater(bits, is_reset, CAP, own=own) for own in (True, False))
    at = 1
    while at + 2 <= len(data):
        size = int.from_bytes(data[at : at + 2], "big")
        message, at = data[at + 2 : at + 2 + size], at + 2 + size
        half = len(message) // 2
        found = _inflated(ours, message[:half], message[half:])
        wanted = _inflated(theirs, message)
        assert found == wanted or (found is None and bits < 15), "the decoders differ"
        if found is None or wanted is None:
            break


def _inflated(inflater: Inflater, *pieces: bytes) -> bytes | None:
    try:
        return inflater.inflate(*pieces)
    except ValueError:
        return None


def book_case(data: bytes) -> None:
    """A refused message changes nothing; a valid book is never crossed. First byte: product and grid; then
    messages, one a line."""
    first = data[0] if data else 0
    book, step_x18 = OrderBook((2, 4)[first & 1]), STEPS_X18[first % 3]
    middle_x18 = 2 * 10**21
    bids = [(middle_x18 - i * step_x18, 10**18) for i in range(1, 30)]
    asks = [(middle_x18 + i * step_x18, 10**18) for i in range(1, 30)]
    book.load_snapshot(bids, asks, 1)
    for message in data[1:].split(b"\n"):
        before = (book.bids(1000), book.asks(1000), book.timestamp_ns)
        try:
            book.apply(message)
        except (ParseError, ValueError):
            assert (book.bids(1000), book.asks(1000), book.timestamp_ns) == before, "a refused one changed it"
        except NadoError:
            return
        best = book.best_bid, book.best_ask
        if book.is_valid and best[0] and best[1]:
            assert best[0][0] < best[1][0], "crossed"


class Frames:
    """The messages before the first violation and no other, over a real socket."""

    def __init__(self) -> None:
        self._runner = asyncio.Runner()
        self._served = Served(random.Random(1))
        self._runner.run(self._served.start())

    def close(self) -> None:
        self._runner.run(self._served.stop())
        self._runner.close()

    def __call__(self, data: bytes) -> None:
        found = self._runner.run(self._served.case(data))
        whole, is_refused = expected(data)
        assert found == whole or (is_refused and found == whole[:-1]), (
            f"{len(found)} of {len(whole)} messages"
        )


def journal_case(data: bytes) -> None:
    """Whatever lies in the file: reading does not fail, good records before and behind are told, and a
    journal opened for writing goes on from what was read. A line that begins with "!" is written as it is,
    any other after its checksum."""
    lines = [line[1:] if line[:1] == b"!" else checked(line) for line in data.split(b"\n")]
    good = checked(INTENT)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "journal"
        path.write_bytes(b"\n".join([good, *lines, checked(LATER), b""]))
        found = read(path)
        for line in (INTENT, LATER):
            assert json.loads(line)["digest"] in found.intents, "a good record is lost"
        for record in found.unfinished:
            dict(order_fields(record))
        try:
            with Journal(path, account="someone"):
                pass
        except JournalError:
            return
        assert set(read(path).intents) == set(found.intents)


def checked(body: bytes) -> bytes:
    return b"%08x %b" % (zlib.crc32(body), body)


def _intent(digest: str, at_ms: int) -> bytes:
    fields = {
        "kind": "intent", "at_ms": at_ms, "digest": digest, "product_id": 4, "sender": "0x" + "cd" * 32,
        "price_x18": "3000000000000000000000", "amount_x18": "-100000000000000000", "expiration_s": 10,
        "nonce": 5, "appendix": "1", "client_id": None,
    }  # fmt: skip
    return json.dumps(fields, separators=(",", ":")).encode()


INTENT, LATER = _intent("0x" + "11" * 32, 1), _intent("0x" + "99" * 32, 2)


def targets() -> dict[str, Callable[[], Case]]:
    """Name → makes the case's function; only `frames` has something to start."""
    return {
        "parse": lambda: parse_case,
        "inflate": lambda: inflate_case,
        "book": lambda: book_case,
        "frames": Frames,
        "journal": lambda: journal_case,
    }


# ---------------------------------------------------------------------- what a run begins with


def seeds(target: str) -> list[bytes]:
    """Good cases, from the samples."""
    events = [compact(event) for _, event in stream_events()]
    if target == "parse":
        return [*events, *(compact(reply) for _, reply in replies())]
    if target == "inflate":
        return [_deflated(head, events[start : start + 6]) for head in range(8) for start in (0, 6, 12)]
    if target == "book":
        depth = [compact(event) for _, event in stream_events() if event["type"] == "book_depth"]
        return [bytes((head,)) + b"\n".join(depth[i : i + 3]) for head in range(6) for i in range(len(depth))]
    if target == "frames":
        return [_framed(events[i : i + 4], cut) for i in range(0, 12, 4) for cut in (0, 40)]
    return _journals()


def _deflated(head: int, texts: list[bytes]) -> bytes:
    deflate = zlib.compressobj(6, zlib.DEFLATED, -(15, 9, 12, 15)[head & 3])
    found = bytes((head,))
    for text in texts:
        if head & 4:
            deflate = zlib.compressobj(6, zlib.DEFLATED, -(15, 9, 12, 15)[head & 3])
        data = (deflate.compress(text) + deflate.flush(zlib.Z_SYNC_FLUSH))[:-4]
        found += len(data).to_bytes(2, "big") + data
    return found


def _framed(texts: list[bytes], cut: int) -> bytes:
    deflate, found = zlib.compressobj(wbits=-15), b""
    for text in texts:
        data = (deflate.compress(text) + deflate.flush(zlib.Z_SYNC_FLUSH))[:-4]
        if cut:
            found += frame(1, data[:cut], fin=False, rsv1=True) + frame(9, b"hi") + frame(0, data[cut:])
        else:
            found += frame(1, data, rsv1=True) + frame(1, text)
    return found


def _journals() -> list[bytes]:
    """Bodies of lines: an order's life, and what a start writes."""
    digest = "0x" + "ab" * 32
    begin = {"kind": "begin", "version": 1, "account": "someone"}
    end = {"kind": "end", "at_ms": 3, "digest": digest, "state": "filled"}
    again = {"kind": "reopened", "at_ms": 9, "digest": digest}
    bodies = [
        _intent(digest, 2),
        *(json.dumps(one, separators=(",", ":")).encode() for one in (begin, end, again)),
    ]
    return [*bodies, b"\n".join(bodies), b"!" + checked(bodies[0]), b"!00000000 {}"]
