"""Gate: from the sender's clock to the handler, over a real socket, deflate on, at 1,000+ messages/s."""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvloop
from conftest import percentile
from picows import WSMsgType, ws_connect
from streams import PRODUCT, Stream

from nadofast._feed import FeedCore, FeedListener, monotonic_ns

LIMIT_NS = 10_000_000
SEED = 3


@dataclass
class Result:
    """Send-to-handler samples by kind, in ns, and what is needed to check the run."""

    samples: dict[str, list[int]] = field(
        default_factory=lambda: {"best_bid_offer": [], "book_depth": [], "fill": []}
    )
    core: FeedCore | None = None
    first_ns: int = 0
    last_ns: int = 0
    deflated: bool = False


def expected_stream(count: int) -> tuple[Stream, dict[str, int]]:
    """The sender's stream played again without a clock: its final book, and how many of each kind."""
    stream, rng = Stream(seed=SEED, time_ns=1), random.Random(SEED)
    kinds = {"best_bid_offer": 0, "book_depth": 0, "fill": 0}
    for index in range(count):
        draw = rng.random()
        if draw < 0.60:
            kinds["best_bid_offer"] += 1
        elif draw < 0.95:
            stream.depth(index + 2)
            kinds["book_depth"] += 1
        else:
            stream.fill(0, index)
            kinds["fill"] += 1
    return stream, kinds


def connect_core(result: Result) -> FeedCore:
    """A core whose callbacks do what a handler does first: look at the clock."""
    bbos, depths, fills = (result.samples[kind] for kind in ("best_bid_offer", "book_depth", "fill"))
    core = FeedCore((PRODUCT,), on_event=lambda event: fills.append(monotonic_ns() - event.timestamp_ns))
    core.set_callback("best_bid_offer", PRODUCT, lambda bbo: bbos.append(monotonic_ns() - bbo.timestamp_ns))
    core.set_callback("book_depth", PRODUCT, lambda book: depths.append(monotonic_ns() - book.timestamp_ns))
    snapshot = Stream(seed=SEED, time_ns=1).snapshot()
    assert core.load_snapshot(PRODUCT, *snapshot, depth=1000)
    return core


async def receive(rate: int, count: int) -> Result:
    result = Result()
    result.core = connect_core(result)
    command = [sys.executable, "sender.py", "--rate", str(rate), "--count", str(count), "--seed", str(SEED)]
    sender = subprocess.Popen(command, cwd=Path(__file__).parent, stdout=subprocess.PIPE, text=True)
    try:
        assert sender.stdout is not None
        port = int(await asyncio.wait_for(asyncio.to_thread(sender.stdout.readline), 20))
        gone = asyncio.Event()
        listener = FeedListener(result.core, on_disconnected=lambda _: gone.set())
        offer = {"Sec-WebSocket-Extensions": "permessage-deflate"}
        transport, _ = await ws_connect(
            lambda: listener, f"ws://127.0.0.1:{port}/", extra_headers=offer, use_aiofastnet=False
        )
        result.deflated = listener.deflate_negotiated
        result.first_ns = monotonic_ns()
        transport.send(WSMsgType.TEXT, b"ready")
        await asyncio.wait_for(gone.wait(), 30 + count / rate)
        result.last_ns = listener.last_frame_ns
        assert listener.failure is None
        assert listener.messages == count
    finally:
        sender.kill()
        sender.wait(10)
        if sender.stdout is not None:
            sender.stdout.close()
    return result


def check(result: Result, count: int, rate: int) -> None:
    """Every message arrived, the book is the sender's book, the rate was what it claims to be."""
    stream, kinds = expected_stream(count)
    assert {kind: len(samples) for kind, samples in result.samples.items()} == kinds
    assert result.core is not None
    assert result.deflated
    book = result.core.book(PRODUCT)
    assert book.is_valid
    assert book.bids(1000) == sorted(stream.bids.items(), reverse=True)
    assert book.asks(1000) == sorted(stream.asks.items())
    assert count / ((result.last_ns - result.first_ns) / 1e9) > 0.9 * rate >= 1_000


def test_socket_to_handler_p95(benchmark: Any, say: Callable[[str], None]) -> None:
    for rate, count in ((2_000, 10_000), (5_000, 20_000)):
        run = lambda rate=rate, count=count: uvloop.run(receive(rate, count))  # noqa: E731
        result = benchmark.pedantic(run, rounds=1, iterations=1) if rate == 2_000 else run()
        check(result, count, rate)
        samples = [sample for kind in result.samples.values() for sample in kind]
        p50, p95, p99 = (percentile(samples, percent) for percent in (50, 95, 99))
        benchmark.extra_info[f"{rate}/s"] = {
            "p50_ns": p50,
            "p95_ns": p95,
            "p99_ns": p99,
            "samples": len(samples),
        }
        say(
            f"socket → handler {rate:,}/s        p50 {p50:>8,} ns  p95 {p95:>8,} ns  p99 {p99:>8,} ns"
            f"  margin {LIMIT_NS / p95:,.0f}x"
        )
        assert p95 < LIMIT_NS
