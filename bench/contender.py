"""One receiver of the end-to-end tables, in its own process and under its own interpreter.

    contender.py NAME URL COUNT SNAPSHOT SEEN CORE

Connects, says that it is ready, keeps the book until COUNT messages have come, then prints messages, CPU ns
spent since then, versions, and the book. SEEN: file of COUNT int64 for the time of each callback, or "-".
What a careful user of each library would write: bytes instead of text where it is offered, uvloop, no pings.
"""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import json
import mmap
import os
import resource
import ssl
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import uvloop
from reference import ReferenceFeed
from streams import PRODUCT

Levels = list[tuple[int, int]]


def cpu_ns() -> int:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return int((usage.ru_utime + usage.ru_stime) * 1e9)


class Job:
    """What was asked, and how far it is."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.url: str = options.url
        self.count: int = options.count
        bids, asks, time_ns = json.loads(Path(options.snapshot).read_text())
        self.snapshot = [tuple(level) for level in bids], [tuple(level) for level in asks], time_ns
        self.seen: Any = None
        if options.seen != "-":
            with Path(options.seen).open("r+b") as file:
                self.seen = memoryview(mmap.mmap(file.fileno(), 8 * self.count)).cast("q")
        self.tls: ssl.SSLContext | None = None
        if self.url.startswith("wss"):
            self.tls = ssl.create_default_context()
            self.tls.check_hostname = False
            self.tls.verify_mode = ssl.CERT_NONE
        self.start_ns = 0

    def begin(self) -> None:
        self.start_ns = cpu_ns()

    def marker(self) -> Callable[[], None]:
        """Notes the time of the next message, if times are wanted."""
        seen, clock, index = self.seen, time.monotonic_ns, 0

        def mark() -> None:
            nonlocal index
            seen[index] = clock()
            index += 1

        return mark if seen is not None else lambda: None

    def callback(self) -> Callable[[object], None]:
        """The same as one callback with the subject of a message as its argument."""
        seen, clock, index = self.seen, time.monotonic_ns, 0

        def timed(subject: object) -> None:
            nonlocal index
            seen[index] = clock()
            index += 1

        def told(subject: object) -> None:
            pass

        return told if seen is None else timed

    def report(
        self, messages: int, spent_ns: int, versions: str, sides: list[Levels], quote: Any, *fills: int
    ) -> None:
        """fills: how many different ones were handed over, and the submission_idx of the last."""
        print(messages, spent_ns, versions)
        for side, levels in enumerate(sides):
            for price, qty in levels:
                print(side, price, qty)
        print(2, quote[0], quote[1])
        print(3, quote[2], quote[3])
        if fills:
            print(4, *fills)


# --- ours ---------------------------------------------------------------------------------------------------


class Counts:
    """Python calls, and what bench/wire/counter.c counts: allocations and copies of whole messages."""

    def __init__(self) -> None:
        self.calls = 0
        self.counter = ctypes.CDLL(None).bench_counts
        self.begin = self.end = (0, 0)

    def read(self) -> tuple[int, int]:
        values = (ctypes.c_long * 2)()
        self.counter(values)
        return values[0], values[1]

    def _count(self, frame: object, event: str, argument: object) -> None:
        self.calls += event == "call"

    def start(self) -> None:
        self.begin = self.read()
        sys.setprofile(self._count)

    def stop(self) -> None:
        sys.setprofile(None)
        self.end = self.read()

    def __str__(self) -> str:
        allocations, copies = (after - before for before, after in zip(self.begin, self.end, strict=True))
        return json.dumps({"python_calls": self.calls, "allocations": allocations, "copies": copies})


async def nadofast(
    job: Job, *, calls_back: bool = True, is_awake: bool = False, counts: bool = False
) -> None:
    import picows

    from nadofast import __version__
    from nadofast._feed import FeedCore, FeedListener
    from nadofast._inflate import Inflater
    from nadofast.busypoll import BusyPoll
    from nadofast.events import FillEvent

    told = job.callback()
    fills: list[FillEvent] = []

    def told_fill(fill: FillEvent) -> None:
        fills.append(fill)
        told(fill)

    core = FeedCore((PRODUCT,), on_event=told_fill if calls_back else fills.append)
    # As in use: the snapshot showed as many levels as were asked for, so there may be more.
    assert core.load_snapshot(PRODUCT, *job.snapshot, depth=min(len(side) for side in job.snapshot[:2]))
    if calls_back:
        core.set_callback("best_bid_offer", PRODUCT, told)
        core.set_callback("book_depth", PRODUCT, told)
    gone = asyncio.Event()
    spent = 0
    counted = Counts() if counts else None

    def end(listener: FeedListener) -> None:
        nonlocal spent
        if counted is not None:
            counted.stop()
        spent = cpu_ns() - job.start_ns
        gone.set()

    listener = FeedListener(core, on_disconnected=end)
    transport, _ = await picows.ws_connect(
        lambda: listener,
        job.url,
        ssl_context=job.tls,
        extra_headers={"Sec-WebSocket-Extensions": "permessage-deflate"},
        enable_auto_pong=False,
        use_aiofastnet=False,
    )
    poller = BusyPoll()
    if is_awake:
        poller.start()
    transport.send(picows.WSMsgType.TEXT, b"ready")
    job.begin()
    if counted is not None:
        counted.start()
    await gone.wait()
    poller.stop()
    assert listener.failure is None, listener.failure
    assert listener.deflate_negotiated
    book, bbo, stats = core.book(PRODUCT), core.bbo(PRODUCT), core.stats()
    assert book.is_valid
    wrong = {name: stats[name] for name in ("parse_errors", "duplicates", "callback_errors", "unknown_kinds")}
    assert not any(wrong.values()), wrong
    versions = f"nadofast {__version__}, picows {picows.__version__}, inflate by {Inflater().decoder}"
    quote = bbo.bid_price_x18, bbo.bid_qty_x18, bbo.ask_price_x18, bbo.ask_qty_x18
    if counted is not None:
        versions = str(counted)
    different, last = len({fill.key for fill in fills}), fills[-1].submission_idx if fills else 0
    sides = [book.bids(10_000), book.asks(10_000)]
    job.report(listener.messages, spent, versions, sides, quote, different, last)


# --- peers --------------------------------------------------------------------------------------------------


class Reference:
    """Counts messages into the reference book until all have come."""

    def __init__(self, job: Job, loads: Callable[[str | bytes], dict[str, Any]] = orjson.loads) -> None:
        self.job = job
        self.feed = ReferenceFeed(job.snapshot, loads)
        self.messages = 0
        self.mark = job.marker()

    def take(self, data: str | bytes) -> bool:
        """True after the last one."""
        self.feed.receive(data)
        self.mark()
        self.messages += 1
        return self.messages == self.job.count

    def report(self, versions: str) -> None:
        spent = cpu_ns() - self.job.start_ns
        bids, asks = self.feed.book.levels()
        self.job.report(self.messages, spent, versions, [bids, asks], self.feed.bbo.values)


async def _like_websockets(job: Job, connect: Any, versions: str) -> None:
    reference = Reference(job)
    options = {"ssl": job.tls} if job.tls else {}
    async with connect(job.url, proxy=None, ping_interval=None, close_timeout=0.1, **options) as socket:
        await socket.send("ready")
        job.begin()
        while not reference.take(await socket.recv(decode=False)):
            pass
        reference.report(versions)


async def websockets(job: Job) -> None:
    import websockets
    from websockets.asyncio.client import connect

    await _like_websockets(job, connect, f"websockets {websockets.__version__}, orjson {orjson.__version__}")


async def picows(job: Job) -> None:
    import picows
    import picows.websockets

    versions = f"picows {picows.__version__}, orjson {orjson.__version__}"
    await _like_websockets(job, picows.websockets.connect, versions)


async def aiohttp(job: Job) -> None:
    import aiohttp

    reference = Reference(job)
    async with aiohttp.ClientSession() as session:
        options: dict[str, Any] = {"ssl": job.tls} if job.tls else {}
        async with session.ws_connect(job.url, compress=15, decode_text=False, **options) as socket:
            await socket.send_str("ready")
            job.begin()
            async for message in socket:
                if reference.take(message.data):
                    break
            reference.report(f"aiohttp {aiohttp.__version__}, orjson {orjson.__version__}")


def sdk(job: Job) -> None:
    """The official SDK's subscription client as it is: synchronous, json, every message a dict."""
    from importlib.metadata import version

    from nado_protocol.ws.client import NadoSubscriptionClient

    reference = Reference(job, loads=lambda message: message)  # type: ignore[arg-type, return-value]
    client = NadoSubscriptionClient(job.url)
    client.connect(**({"ssl": job.tls} if job.tls else {}))
    client.send({"ready": True})
    job.begin()
    for message in client.listen():
        if reference.take(message):  # type: ignore[arg-type]
            break
    reference.report(f"nado-protocol {version('nado-protocol')}, websockets {version('websockets')}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name")
    parser.add_argument("url")
    parser.add_argument("count", type=int)
    parser.add_argument("snapshot")
    parser.add_argument("seen")
    parser.add_argument("core", type=int)
    options = parser.parse_args()
    os.sched_setaffinity(0, {options.core})
    job = Job(options)
    if options.name == "sdk":
        sdk(job)
        return
    ways: dict[str, Callable[[], Any]] = {
        "nadofast": lambda: nadofast(job),
        "nadofast-silent": lambda: nadofast(job, calls_back=False),
        "nadofast-counted": lambda: nadofast(job, calls_back=False, counts=True),
        "nadofast-awake": lambda: nadofast(job, is_awake=True),
        "websockets": lambda: websockets(job),
        "picows": lambda: picows(job),
        "aiohttp": lambda: aiohttp(job),
    }
    uvloop.run(ways[options.name]())
    sys.stdout.flush()
    os._exit(0)  # what a library does to close is not measured, and may wait for the peer


if __name__ == "__main__":
    main()
