"""Gate: parse + apply + read the top against orjson + sorted lists, interleaved in one run."""

from __future__ import annotations

import gc
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest
from reference import ReferenceBbo, ReferenceBook
from streams import PRODUCT, bbo_messages, depth_messages

from nadofast import OrderBook
from nadofast._feed import FeedCore

ROUNDS = 7


def ns_per_message(call: Callable[[bytes], object], messages: list[bytes]) -> float:
    gc.collect()
    gc.disable()
    try:
        start = time.perf_counter_ns()
        for message in messages:
            call(message)
        return (time.perf_counter_ns() - start) / len(messages)
    finally:
        gc.enable()


def interleaved(
    ours: Callable[[], Callable[[bytes], object]],
    reference: Callable[[], Callable[[bytes], object]],
    messages: list[bytes],
) -> tuple[float, float, float]:
    """Medians of both in ns, and the median of the ratios of neighbouring runs: noise hits both alike."""
    pairs = [(ns_per_message(ours(), messages), ns_per_message(reference(), messages)) for _ in range(ROUNDS)]
    ratios = [slow / fast for fast, slow in pairs]
    fast, slow = (statistics.median(values) for values in zip(*pairs, strict=True))
    return fast, slow, statistics.median(ratios)


@pytest.mark.parametrize("changes", [1, 10, 40])
@pytest.mark.parametrize(("levels", "anywhere"), [(200, False), (50, True), (1000, True)])
def test_depth(benchmark: Any, say: Callable[[str], None], changes: int, levels: int, anywhere: bool) -> None:
    count = 3_000 if changes < 40 else 1_000
    stream, messages, snapshot = depth_messages(count, changes=changes, levels=levels, anywhere=anywhere)
    expected = sorted(stream.bids.items(), reverse=True), sorted(stream.asks.items())

    def ours() -> Callable[[bytes], object]:
        book = OrderBook(PRODUCT)
        book.load_snapshot(*snapshot, depth=10_000)
        return book.apply

    book, reference = OrderBook(PRODUCT), ReferenceBook(snapshot)
    book.load_snapshot(*snapshot, depth=10_000)
    for message in messages:
        book.apply(message)
        reference.apply(message)
    assert (book.bids(10_000), book.asks(10_000)) == reference.levels() == expected

    fast, slow, ratio = benchmark.pedantic(
        lambda: interleaved(ours, lambda: ReferenceBook(snapshot).apply, messages), rounds=1, iterations=1
    )
    where = "anywhere" if anywhere else "near the top"
    benchmark.extra_info.update(ns=fast, reference_ns=slow, ratio=ratio)
    say(
        f"depth {changes:>2} {where:12} {levels:>5} levels  {fast:>8,.0f} ns  reference {slow:>8,.0f} ns  {ratio:.1f}x"
    )
    assert ratio > 3


def test_bbo(benchmark: Any, say: Callable[[str], None]) -> None:
    messages = bbo_messages(5_000)
    core, reference = FeedCore((PRODUCT,)), ReferenceBbo()
    for message in messages:
        core.receive(message, 1)
        reference.apply(message)
        live = core.bbo(PRODUCT)
        ours = (live.bid_price_x18, live.bid_qty_x18, live.ask_price_x18, live.ask_qty_x18)
        assert (ours, live.timestamp_ns) == (reference.values, reference.timestamp_ns)

    def fresh() -> Callable[[bytes], object]:
        receive = FeedCore((PRODUCT,)).receive
        return lambda message: receive(message, 1)

    fast, slow, ratio = benchmark.pedantic(
        lambda: interleaved(fresh, lambda: ReferenceBbo().apply, messages), rounds=1, iterations=1
    )
    benchmark.extra_info.update(ns=fast, reference_ns=slow, ratio=ratio)
    say(f"best_bid_offer                     {fast:>8,.0f} ns  reference {slow:>8,.0f} ns  {ratio:.1f}x")
    assert ratio > 3


def test_market_data_leaves_no_memory_and_runs_no_python(benchmark: Any, say: Callable[[str], None]) -> None:
    """Exact counters, which no noise moves: blocks kept and Python calls made per 10,000 messages."""
    _, depths, snapshot = depth_messages(5_000)
    bbos = bbo_messages(5_000)
    core = FeedCore((PRODUCT,))
    assert core.load_snapshot(PRODUCT, *snapshot, depth=10_000)
    receive = core.receive
    for message in depths[:1_000] + bbos[:1_000]:
        receive(message, 1)
    calls: list[str] = []

    def run() -> int:
        before = sys.getallocatedblocks()
        for message in depths[1_000:]:
            receive(message, 1)
        for message in bbos[1_000:]:
            receive(message, 1)
        return sys.getallocatedblocks() - before

    kept = benchmark.pedantic(run, rounds=1, iterations=1)
    sys.setprofile(lambda frame, event, arg: calls.append(event) if event == "call" else None)
    try:
        for message in bbos:
            receive(message, 1)
    finally:
        sys.setprofile(None)
    say(f"memory blocks kept per 8,000 market messages: {kept}; Python calls: {len(calls)}")
    assert core.stats()["products"][PRODUCT]["book_depth"] == 5_000
    assert kept < 100
    assert calls == []
