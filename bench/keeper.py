"""One way to keep a book, timed (CPU) in a process of its own: parse, apply, read the top.

    keeper.py NAME FILE...      FILE: a stream as of bench/floor

Prints a JSON line per file: ns a message, and a digest of the book and BBO it ended with.
"""

from __future__ import annotations

import gc
import hashlib
import json
import sys
import time
from bisect import bisect_left, insort
from collections.abc import Callable
from pathlib import Path

from streams import PRODUCT

Snapshot = tuple[list[tuple[int, int]], list[tuple[int, int]], int]
State = tuple[dict[int, int], dict[int, int], tuple[int, ...]]
Way = tuple[Callable[[bytes], object], Callable[[], State]]


def digest(state: State) -> str:
    bids, asks, quote = state
    return hashlib.sha256(repr((sorted(bids.items()), sorted(asks.items()), quote)).encode()).hexdigest()


def nadofast(snapshot: Snapshot) -> Way:
    from nadofast._feed import FeedCore

    core = FeedCore((PRODUCT,))
    assert core.load_snapshot(PRODUCT, *snapshot, depth=10_000)
    book, bbo, receive = core.book(PRODUCT), core.bbo(PRODUCT), core.receive

    def state() -> State:
        assert book.is_valid
        quote = bbo.bid_price_x18, bbo.bid_qty_x18, bbo.ask_price_x18, bbo.ask_qty_x18
        return dict(book.bids(10_000)), dict(book.asks(10_000)), quote if bbo.is_set else (0, 0, 0, 0)

    return (lambda data: receive(data, 1)), state


def orjson(snapshot: Snapshot) -> Way:
    from reference import ReferenceFeed

    feed = ReferenceFeed(snapshot)
    return feed.receive, lambda: (feed.book.bids.qty, feed.book.asks.qty, feed.bbo.values)


def sdk(snapshot: Snapshot) -> Way:
    """What the official SDK's socket gives, a dict of the standard library's json, into the same book."""
    from reference import ReferenceFeed

    feed = ReferenceFeed(snapshot, json.loads)
    return feed.receive, lambda: (feed.book.bids.qty, feed.book.asks.qty, feed.bbo.values)


def sortedcontainers(snapshot: Snapshot) -> Way:
    import orjson
    from sortedcontainers import SortedDict

    bids, asks, _ = snapshot
    sides = {"bids": SortedDict(bids), "asks": SortedDict(asks)}
    quote = (0, 0, 0, 0)
    loads = orjson.loads

    def receive(data: bytes) -> object:
        nonlocal quote
        message = loads(data)
        kind = message["type"]
        if kind == "best_bid_offer":
            quote = tuple(int(message[key]) for key in ("bid_price", "bid_qty", "ask_price", "ask_qty"))
        elif kind == "book_depth":
            for name, levels in sides.items():
                for text, total in message[name]:
                    price, qty = int(text), int(total)
                    if qty:
                        levels[price] = qty
                    else:
                        levels.pop(price, None)
            return sides["bids"].peekitem(-1), sides["asks"].peekitem(0)
        return quote

    return receive, lambda: (dict(sides["bids"]), dict(sides["asks"]), quote)


def msgspec(snapshot: Snapshot) -> Way:
    """Typed structs, one decoder for the kinds of the stream, sorted price lists."""
    import msgspec

    class Bbo(msgspec.Struct, tag_field="type", tag="best_bid_offer", gc=False):
        timestamp: str
        bid_price: str
        bid_qty: str
        ask_price: str
        ask_qty: str

    class Depth(msgspec.Struct, tag_field="type", tag="book_depth"):
        last_max_timestamp: str
        max_timestamp: str
        bids: list[tuple[str, str]]
        asks: list[tuple[str, str]]

    class Fill(msgspec.Struct, tag_field="type", tag="fill", gc=False):
        price: str
        filled_qty: str

    decode = msgspec.json.Decoder(Bbo | Depth | Fill).decode
    bids, asks = dict(snapshot[0]), dict(snapshot[1])
    bid_prices, ask_prices = sorted(bids), sorted(asks)
    quote = (0, 0, 0, 0)
    last = snapshot[2]

    def put(qtys: dict[int, int], prices: list[int], levels: list[tuple[str, str]]) -> None:
        for text, total in levels:
            price, qty = int(text), int(total)
            if qty:
                if price not in qtys:
                    insort(prices, price)
                qtys[price] = qty
            elif qtys.pop(price, None) is not None:
                del prices[bisect_left(prices, price)]

    def receive(data: bytes) -> object:
        nonlocal quote, last
        message = decode(data)
        kind = type(message)
        if kind is Bbo:
            quote = (
                int(message.bid_price),
                int(message.bid_qty),
                int(message.ask_price),
                int(message.ask_qty),
            )
        elif kind is Depth:
            if int(message.last_max_timestamp) != last:
                raise ValueError("gap")
            put(bids, bid_prices, message.bids)
            put(asks, ask_prices, message.asks)
            last = int(message.max_timestamp)
            return bid_prices[-1], ask_prices[0]
        return quote

    return receive, lambda: (bids, asks, quote)


WAYS: dict[str, Callable[[Snapshot], Way]] = {
    "nadofast": nadofast,
    "orjson": orjson,
    "msgspec": msgspec,
    "sortedcontainers": sortedcontainers,
    "sdk": sdk,
}


def read(path: Path) -> tuple[Snapshot, list[bytes]]:
    """A stream file of bench/floor: counts, levels, a message a line. The time is in the first batch."""
    head, *lines = path.read_bytes().splitlines()
    counts = [int(number) for number in head.split()]
    levels = [(int(price), int(qty)) for price, qty in (line.split() for line in lines[: sum(counts)])]
    messages = lines[sum(counts) :]
    depth = next((data for data in messages if b"last_max_timestamp" in data), b'{"last_max_timestamp":"1"}')
    time_ns = int(json.loads(depth)["last_max_timestamp"])
    return (levels[: counts[0]], levels[counts[0] :], time_ns), messages


def main() -> None:
    name, *files = sys.argv[1:]
    for path in files:
        snapshot, messages = read(Path(path))
        receive, state = WAYS[name](snapshot)
        gc.collect()
        gc.disable()
        start = time.thread_time_ns()  # CPU time: other processes do not count
        for message in messages:
            receive(message)
        took = time.thread_time_ns() - start
        gc.enable()
        print(json.dumps({"ns": took / len(messages), "digest": digest(state())}))


if __name__ == "__main__":
    main()
