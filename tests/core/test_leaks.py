"""Compiled entry points called often, with good and bad input: the number of allocated blocks stays flat."""

from __future__ import annotations

import contextlib
import gc
import os
import re
import subprocess
import sys
import tracemalloc
import zlib
from collections.abc import Callable, Iterator

import pytest
from samples import compact, replies, stream_events

from nadofast._book import OrderBook
from nadofast._feed import FeedCore, parse_deflate_answer
from nadofast._frame import text_frames
from nadofast._hash import keccak256, order_digest
from nadofast._inflate import Inflater
from nadofast._parse import parse, parse_x18, scanner
from nadofast.errors import BookError

MESSAGES = [compact(message) for _, message in [*stream_events(), *replies()]]
BAD = [message[: len(message) // 2] for message in MESSAGES] + [b"", b"\xff", b'{"type":"x' + b"y" * 300]
DEPTHS = [compact(event) for _, event in stream_events() if event["type"] == "book_depth"]
BOOK = OrderBook(4)
CORE = FeedCore((4,), on_event=lambda event: None, on_reply=lambda reply: None)
ANSWERS = (
    None,
    "permessage-deflate",
    "permessage-deflate; server_max_window_bits=9",
    "permessage-bzip2",
    "a,b",
)


def _inflate(own: bool) -> None:
    deflate = zlib.compressobj(wbits=-15)
    data = (deflate.compress(MESSAGES[0]) + deflate.flush(zlib.Z_SYNC_FLUSH))[:-4]
    for bad in (b"", data[:9], b"\xff" * 4):
        inflater = Inflater(own=own)
        assert inflater.inflate(data[:5], data[5:]) == MESSAGES[0]
        with contextlib.suppress(ValueError):
            inflater.inflate(bad)


def _book() -> None:
    BOOK.load_snapshot([(10**20, 10**18)], [(10**22, 10**18)], 1)
    for data in (*DEPTHS, *BAD[:5]):
        with contextlib.suppress(ValueError, BookError):
            BOOK.apply(data)
    BOOK.bids(5)
    with contextlib.suppress(ValueError, BookError):
        BOOK.vwap_x18("buy", 10**17)
    with contextlib.suppress(ValueError):
        BOOK.load_snapshot([(1, -1)], [], 1)


def _each(function: Callable[[bytes], object], inputs: list[bytes]) -> None:
    for data in inputs:
        with contextlib.suppress(ValueError):
            function(data)


def _answers() -> None:
    for answer in ANSWERS:
        with contextlib.suppress(ValueError):
            parse_deflate_answer(answer)


def _hash() -> None:
    keccak256(b"abc")
    order_digest(bytes(32), bytes(32), 10**20, -(10**18), 1, 2, 3)
    with contextlib.suppress(OverflowError):
        order_digest(bytes(32), bytes(32), 1 << 127, 1, 1, 2, 3)
    with contextlib.suppress(ValueError):
        order_digest(b"", bytes(32), 1, 1, 1, 2, 3)


def _frames() -> None:
    text_frames([b"one", b"y" * 200], bytes(8))
    with contextlib.suppress(TypeError):
        text_frames([b"one", None], bytes(8))  # type: ignore[list-item]


def _receive() -> None:
    for data in (*MESSAGES, *BAD):
        CORE.receive(data, 1)


# Calls of each: at least 10,000 of the entry point in all.
ENTRIES: dict[str, tuple[Callable[[], None], int]] = {
    "inflate by zlib": (lambda: _inflate(False), 3_000),
    "inflate by ours": (lambda: _inflate(True), 3_000),
    "parse": (lambda: _each(parse, MESSAGES + BAD), 200),
    "scanner": (lambda: _each(scanner, MESSAGES + BAD), 200),
    "parse_x18": (lambda: _each(parse_x18, [b"1", b"-" + b"9" * 38, b"9" * 39, b"x", b""]), 5_000),
    "book": (_book, 2_000),
    "feed": (_receive, 200),
    "deflate answer": (_answers, 4_000),
    "hash": (_hash, 5_000),
    "frames": (_frames, 5_000),
}


OBJECT = 32  # bytes of a small one


@pytest.fixture
def held() -> Iterator[Callable[[], int]]:
    """How many blocks Python holds; where its allocator does not count them, by the bytes it asked for."""
    if sys.getallocatedblocks():
        yield sys.getallocatedblocks
        return
    tracemalloc.start(1)
    try:
        yield lambda: tracemalloc.get_traced_memory()[0] // OBJECT
    finally:
        tracemalloc.stop()


def growth(call: Callable[[], object], times: int, held: Callable[[], int]) -> int:
    def after(count: int) -> int:
        for _ in range(count):
            call()
        gc.collect()
        return held()

    before = after(20)
    return after(times) - before


@pytest.mark.parametrize("name", ENTRIES)
def test_no_blocks_are_left_behind(name: str, held: Callable[[], int]) -> None:
    call, times = ENTRIES[name]
    # One object left behind per call would be `times` blocks.
    assert growth(call, times, held) < max(times // 10, 100)


GENERATION = 16_384
"""Fills whose keys the core keeps until they make room for the next ones; it keeps one to two generations."""


def growth_over_fills(take: Callable[[object], object], held: Callable[[], int]) -> int:
    """Blocks that a generation of new fills adds, from one phase of the keys kept to the same one."""
    fill = next(compact(event) for _, event in stream_events() if event["type"] == "fill")
    head, tail = re.split(rb"(?<=\"submission_idx\":\")\d+", fill)
    core = FeedCore((4,), on_event=take)
    counts = []
    for number in range(4 * GENERATION):
        core.receive(b"%s%d%s" % (head, 10**9 + number, tail), number)
        if number % GENERATION == GENERATION - 1:
            gc.collect()
            counts.append(held())
    stats = core.stats()
    assert (stats["by_kind"]["fill"], stats["duplicates"], stats["parse_errors"]) == (4 * GENERATION, 0, 0)
    return counts[-1] - counts[-2]


def test_a_new_fill_leaves_nothing_behind(held: Callable[[], int]) -> None:
    """A short run over a socket takes too few fills for resident memory to tell."""
    assert growth_over_fills(lambda event: None, held) < GENERATION // 10


def test_a_fill_kept_would_be_seen(held: Callable[[], int]) -> None:
    kept: list[object] = []
    assert growth_over_fills(kept.append, held) > GENERATION


def test_one_object_a_call_would_be_seen(held: Callable[[], int]) -> None:
    """Whatever allocator this interpreter runs with."""
    kept: list[object] = []
    assert growth(lambda: kept.append(object()), 200, held) >= 100


def test_the_counting_of_bytes_sees_it_too() -> None:
    """The same under the allocator that counts nothing, in an interpreter of its own."""
    command = [sys.executable, "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider"]
    selected = [__file__, "-k", "call_would_be_seen or x18"]
    done = subprocess.run(
        [*command, *selected],
        env=os.environ | {"PYTHONMALLOC": "malloc"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert "2 passed" in done.stdout
