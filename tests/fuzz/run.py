"""Seeded, structure-aware fuzzing of the compiled code: hours on a sanitizer build, seconds on any.

python tests/fuzz/run.py --target inflate|parse|book|frames --seconds N --seed S
Seconds are of processor time.
A finding is an exception that names its case: the same seed and count reach it again.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "core"), str(ROOT / "tests" / "fuzz")]

from frames import fuzz_frames  # noqa: E402
from samples import compact, replies, stream_events  # noqa: E402

from nadofast._book import OrderBook  # noqa: E402
from nadofast._inflate import Inflater  # noqa: E402
from nadofast._parse import parse  # noqa: E402
from nadofast.errors import NadoError, ParseError  # noqa: E402

TAIL = b"\x00\x00\xff\xff"
CAP = 60_000


def mutate(rng: random.Random, data: bytes) -> bytes:
    """A few bits, bytes, cuts, doublings; often none."""
    found = bytearray(data)
    for _ in range(rng.choice((0, 1, 1, 2, 5))):
        at = rng.randrange(len(found) + 1)
        to = min(len(found), at + rng.randrange(12))
        kind = rng.randrange(6)
        if kind == 0 and at < len(found):
            found[at] ^= 1 << rng.randrange(8)
        elif kind == 1 and at < len(found):
            found[at] = (
                rng.choice(b'\x00\xff\x01"{}[],:-09eE\\ tfn') if rng.random() < 0.7 else rng.randrange(256)
            )
        elif kind == 2:
            del found[at:to]
        elif kind == 3:
            found[at:at] = found[at:to] * rng.randrange(1, 4)
        elif kind == 4:
            found[at:at] = rng.randbytes(rng.randrange(6))
        else:
            del found[at:]
    return bytes(found)


def cut(rng: random.Random, data: bytes) -> list[bytes]:
    points = sorted(rng.randrange(len(data) + 1) for _ in range(rng.choice((0, 0, 1, 3))))
    return [data[start:end] for start, end in pairwise([0, *points, len(data)])]


def result(inflater: Inflater, pieces: list[bytes]) -> bytes | None:
    try:
        return inflater.inflate(*pieces)
    except ValueError:
        return None


def text(rng: random.Random, events: list[bytes]) -> bytes:
    kind = rng.randrange(10)
    if kind < 6:
        return mutate(rng, rng.choice(events))
    if kind == 6:
        return rng.randbytes(rng.randrange(3000))
    if kind == 7:
        return bytes(rng.choices(b"abcdefgh", k=rng.randrange(9000)))
    return rng.randbytes(rng.randrange(1, 20)) * rng.randrange(CAP // 10 if kind == 8 else 40)


def fuzz_inflate(rng: random.Random) -> Iterator[None]:
    """Both decoders give the same text or both refuse; a distance beyond a small window is ours alone."""
    events = [compact(event) for _, event in stream_events()]
    while True:
        bits, takeover = rng.choice((9, 12, 15, 15, 15)), rng.random() < 0.8
        options = (rng.choice((1, 4, 6, 9)), zlib.DEFLATED, -bits, rng.choice((1, 8, 9)), rng.randrange(5))
        deflate = zlib.compressobj(*options)
        ours = Inflater(bits, not takeover, CAP, own=True)
        theirs = Inflater(bits, not takeover, CAP, own=False)
        for _ in range(rng.randrange(1, 60)):
            if not takeover:
                deflate = zlib.compressobj(*options)
            whole = text(rng, events)
            data = (deflate.compress(whole) + deflate.flush(zlib.Z_SYNC_FLUSH))[:-4]
            sent = mutate(rng, data) if rng.random() < 0.1 else data
            pieces = cut(rng, sent)
            found, expected = result(ours, pieces), result(theirs, pieces)
            if found != expected and not (found is None and bits < 15 and sent is not data):
                raise AssertionError(f"bits={bits} takeover={takeover} options={options} sent={sent.hex()}")
            if sent is data and found != (whole if len(whole) <= CAP else None):
                raise AssertionError(f"a good message: {sent.hex()}")
            yield
            if found is None or expected is None or sent is not data:
                break


def fuzz_parse(rng: random.Random) -> Iterator[None]:
    """An event or ParseError, whatever comes, and the same again the second time."""
    messages = [compact(message) for _, message in [*stream_events(), *replies()]]
    while True:
        data = mutate(rng, rng.choice(messages))
        found = []
        for _ in range(2):
            try:
                found.append(repr(parse(data)))
            except ParseError as error:
                found.append(str(error))
        if found[0] != found[1]:
            raise AssertionError(f"two results for {data!r}")
        yield


def fuzz_book(rng: random.Random) -> Iterator[None]:
    """A refused message changes nothing; a valid book is never crossed."""
    events = [compact(event) for _, event in stream_events() if event["type"] == "book_depth"]
    while True:
        book = OrderBook(rng.choice((2, 4)))
        middle = rng.randrange(10**19, 10**23)  # all prices are above zero
        step = rng.choice((1, 10**15, 10**17))
        bids = [(middle - i * step, 10**18) for i in range(1, 30)]
        asks = [(middle + i * step, 10**18) for i in range(1, 30)]
        book.load_snapshot(bids, asks, 1)
        for _ in range(30):
            before = (book.bids(1000), book.asks(1000), book.timestamp_ns)
            data = mutate(rng, rng.choice(events))
            try:
                book.apply(data)
            except (ParseError, ValueError):
                if (book.bids(1000), book.asks(1000), book.timestamp_ns) != before:
                    raise AssertionError(f"a refused message changed the book: {data!r}") from None
            except NadoError:
                break
            if book.is_valid and book.best_bid and book.best_ask and book.best_bid[0] >= book.best_ask[0]:
                raise AssertionError(f"crossed: {data!r}")
            yield


TARGETS: dict[str, Callable[[random.Random], Iterator[None]]] = {
    "inflate": fuzz_inflate,
    "parse": fuzz_parse,
    "book": fuzz_book,
    "frames": lambda rng: fuzz_frames(rng, mutate),
}


def run(target: str, seed: int, seconds: float) -> int:
    """Cases tried in so many seconds of processor time, and at most ten times as many by the clock."""
    end, late = time.process_time() + seconds, time.monotonic() + 10 * seconds
    count = 0
    for _ in TARGETS[target](random.Random(seed)):
        count += 1
        if time.process_time() > end or time.monotonic() > late:
            break
    return count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--target", choices=TARGETS, required=True)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    count = run(options.target, options.seed, options.seconds)
    took = time.process_time()
    print(f"{options.target}: seed {options.seed}, {count} cases in {took:.0f} CPU s, no finding")


if __name__ == "__main__":
    main()
