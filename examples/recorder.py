"""Records market data: every message of some products, compressed, whole up to wherever the file is cut.

python examples/recorder.py testnet eth.tape 60 4        # network, file, seconds, products
python -m nadosim --seed 1 | python examples/recorder.py - both.tape 10 4 8
python examples/recorder.py read eth.tape                # what it holds, and the books it ends with

What is recorded is what the feed's core was given, so reading it gives the same books. `python -m bot export`
turns such a file into Parquet.
"""

import asyncio
import io
import json
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import uvloop

import nadofast
from nadofast import FeedConfig
from nadofast._core import FeedCore
from nadofast.connection import LinkConfig
from nadofast.tape import MAGIC, Kind, Reader, block, encode
from nadofast.tappedcore import replay_call

STREAMS = ["best_bid_offer", "book_depth", "trade"]
WRITE_EVERY_S = 0.1


class Recorder:
    """A tap: keeps what it is given until it is written, up to `end`. Market data has no secrets in it."""

    def __init__(self, file: io.RawIOBase) -> None:
        self._file = io.BufferedWriter(file)  # a raw file may take a part of what it is given
        self._waiting: list[bytes] = []
        self._channels: dict[str, bytes] = {}
        self.count = 0
        self._file.write(MAGIC)
        self._put(Kind.SESSION, json.dumps({"part": 1, "wall_ns": time.time_ns()}).encode())

    def received(self, link: str, at_ns: int, message: bytes) -> None:
        if link not in self._channels:
            number = len(self._channels)
            self._channels[link] = bytes([number])
            self._put(Kind.CHANNEL, json.dumps({"number": number, "name": link}).encode())
        self._put(Kind.RECEIVED, self._channels[link] + message, at_ns)
        self.count += 1

    def sent(self, link: str, message: bytes) -> None:
        """Subscriptions: of no interest here."""

    def core_call(self, name: str, arguments: Sequence[Any]) -> None:
        self._put(Kind.CORE, json.dumps([name, arguments]).encode())

    def write(self) -> None:
        """A file on this machine takes a block in tens of microseconds; `bot` has a thread for slow disks."""
        waiting, self._waiting = self._waiting, []
        if waiting and not self._file.closed:
            self._file.write(block(waiting))
            self._file.flush()

    def end(self) -> None:
        self._put(Kind.END, b"{}")
        self.write()

    def _put(self, kind: Kind, payload: bytes, at_ns: int | None = None) -> None:
        self._waiting.append(encode(kind, time.monotonic_ns() if at_ns is None else at_ns, payload))


async def record(name: str, path: Path, seconds: float, products: list[int]) -> None:
    network = nadofast.custom("embedded", json.loads(sys.stdin.readline())) if name == "-" else name
    with path.open("xb", buffering=0) as file:
        recorder = Recorder(file)
        config = FeedConfig(link=LinkConfig(data_timeout_s=3.0, tap=recorder))
        async with nadofast.Feed(network, products=products, streams=STREAMS, config=config) as feed:
            await feed.wait_synced(30)
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                await asyncio.sleep(WRITE_EVERY_S)
                recorder.write()
            recorder.end()
            count, size = recorder.count, file.tell()
            file.close()
            show([feed.book(product) for product in products])
    print(f"{count} messages, {size} bytes")


def read(path: Path) -> None:
    kinds: Counter[str] = Counter()
    core, products = FeedCore([]), []
    with path.open("rb") as file:
        reader = Reader(file)
        for one in reader:
            if one.kind is Kind.RECEIVED:
                kinds[type(nadofast.parse(one.message)).__name__] += 1
                core.receive(one.message, one.at_ns)
            elif one.kind is Kind.CORE:
                call, arguments = json.loads(one.payload)
                if call == "new":
                    core, products = FeedCore(arguments), arguments
                elif call != "leave":  # the end of the recording is none of the books
                    replay_call(core, call, arguments)
    print(f"{sum(kinds.values())} messages{'; ' if reader.damage else ''}{reader.damage}")
    for kind, count in kinds.most_common():
        print(f"{kind:20}{count:>8}")
    show([core.book(product) for product in products])


def show(books: Sequence[nadofast.OrderBook]) -> None:
    for book in books:
        prices = [nadofast.from_x18(side[0]) if side else "none" for side in (book.best_bid, book.best_ask)]
        print(f"book {book.product_id:>4}  {prices[0]} | {prices[1]}")


if __name__ == "__main__":
    if sys.argv[1] == "read":
        read(Path(sys.argv[2]))
    else:
        uvloop.run(
            record(sys.argv[1], Path(sys.argv[2]), float(sys.argv[3]), [int(one) for one in sys.argv[4:]])
        )
