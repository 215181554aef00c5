"""Gate: parse, apply and read the top, against orjson with sorted lists and against a floor in C.

All contenders take the same messages in turn, and every one builds the right book before a clock runs.
"""

from __future__ import annotations

import random
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import floor
import inside
import pytest
from figures import interleaved, ns_per_message, ratio
from reference import ReferenceBbo, ReferenceBook
from streams import PRODUCT, Stream, bbo_messages, depth_messages

from nadofast import OrderBook
from nadofast._bbo import Bbo
from nadofast._feed import FeedCore
from nadofast._latency import Histogram

ROUNDS = 7


@pytest.fixture(scope="module")
def loops() -> ModuleType:
    return inside.load()


@pytest.fixture(scope="module")
def program() -> Path:
    return floor.build()


def fresh_book(snapshot: Any) -> OrderBook:
    book = OrderBook(PRODUCT)
    book.load_snapshot(*snapshot, depth=10_000)
    return book


def fresh_core(snapshot: Any) -> FeedCore:
    """As in use: the snapshot showed as many levels as were asked for, so there may be more."""
    core = FeedCore((PRODUCT,))
    assert core.load_snapshot(PRODUCT, *snapshot, depth=min(len(side) for side in snapshot[:2]))
    return core


def check_depth(stream: Stream, messages: list[bytes], snapshot: Any, loops: ModuleType) -> None:
    expected = sorted(stream.bids.items(), reverse=True), sorted(stream.asks.items())
    books = [fresh_book(snapshot) for _ in range(2)]
    core, reference = fresh_core(snapshot), ReferenceBook(snapshot)
    for message in messages:
        books[0].apply(message)
        reference.apply(message)
    loops.parse_and_apply(messages, books[1], Bbo(PRODUCT))
    loops.listen(messages, core)
    for book in (*books, core.book(PRODUCT)):
        assert (book.bids(10_000), book.asks(10_000)) == reference.levels() == expected


@pytest.mark.parametrize(
    ("changes", "levels", "anywhere", "least", "most"),
    [
        (1, 200, False, 15, None),
        (10, 200, False, 15, 1.6),
        (40, 200, False, 15, 1.6),
        (10, 50, True, 15, None),
        (10, 1000, True, 15, None),
        (40, 1000, True, 15, None),
    ],
)
def test_depth(
    benchmark: Any,
    say: Callable[[str], None],
    loops: ModuleType,
    program: Path,
    changes: int,
    levels: int,
    anywhere: bool,
    least: float,
    most: float | None,
) -> None:
    """least: times orjson + sorted lists, with a Python call per message. most: times the floor, without."""
    stream, messages, snapshot = depth_messages(2_048, changes=changes, levels=levels, anywhere=anywhere)
    check_depth(stream, messages, snapshot, loops)
    path = floor.write(floor.BUILD / "depth.txt", snapshot, messages)

    def compiled() -> float:
        return statistics.median(loops.parse_and_apply(messages, fresh_book(snapshot), Bbo(PRODUCT)))

    contenders: list[Callable[[], float]] = [
        lambda: ns_per_message(fresh_book(snapshot).apply, messages),
        lambda: ns_per_message(ReferenceBook(snapshot).apply, messages),
        compiled,
        lambda: statistics.median(loops.listen(messages, fresh_core(snapshot))),
        lambda: floor.fastest(program, path),
    ]
    runs = benchmark.pedantic(lambda: interleaved(ROUNDS, *contenders), rounds=1, iterations=1)
    called, reference, inner, listener, lowest = runs
    figures = {
        "ns": statistics.median(called),
        "reference_ns": statistics.median(reference),
        "ratio": ratio(reference, called),
        "compiled_to_floor": ratio(inner, lowest),
        "listener_to_floor": ratio(listener, lowest),
        "floor_ns": statistics.median(lowest),
    }
    benchmark.extra_info.update(figures)
    say(
        f"depth {changes:>2} {'anywhere' if anywhere else 'near the top':12} {levels:>5} levels"
        f"  {figures['ns']:>6,.0f} ns  orjson {figures['reference_ns']:>7,.0f} ns  {figures['ratio']:>5.1f}x"
        f"  C {figures['floor_ns']:>5,.0f} ns: compiled {figures['compiled_to_floor']:.2f}x,"
        f" in the listener {figures['listener_to_floor']:.2f}x"
    )
    assert figures["ratio"] >= least
    assert most is None or figures["listener_to_floor"] <= most


def test_a_book_of_many_levels_costs_no_more(
    benchmark: Any, say: Callable[[str], None], loops: ModuleType
) -> None:
    streams = [depth_messages(4_096, levels=levels, anywhere=True)[1:] for levels in (50, 1000)]

    def run(messages: list[bytes], snapshot: Any) -> float:
        return statistics.median(loops.parse_and_apply(messages, fresh_book(snapshot), Bbo(PRODUCT)))

    few, many = benchmark.pedantic(
        lambda: interleaved(ROUNDS, lambda: run(*streams[0]), lambda: run(*streams[1])),
        rounds=1,
        iterations=1,
    )
    growth = ratio(many, few)
    benchmark.extra_info.update(growth=growth)
    say(f"depth 10 anywhere, 1,000 against 50 levels: {growth:.2f}x")
    assert growth <= 1.2


def test_bbo(benchmark: Any, say: Callable[[str], None], loops: ModuleType, program: Path) -> None:
    messages, snapshot = bbo_messages(4_096), Stream().snapshot()
    core, reference, bbo = FeedCore((PRODUCT,)), ReferenceBbo(), Bbo(PRODUCT)
    for message in messages:
        core.receive(message, 1)
        reference.apply(message)
        live = core.bbo(PRODUCT)
        ours = (live.bid_price_x18, live.bid_qty_x18, live.ask_price_x18, live.ask_qty_x18)
        assert (ours, live.timestamp_ns) == (reference.values, reference.timestamp_ns)
    loops.parse_and_apply(messages, fresh_book(snapshot), bbo)
    assert (bbo.bid_price_x18, bbo.ask_qty_x18) == (reference.values[0], reference.values[3])
    path = floor.write(floor.BUILD / "bbo.txt", snapshot, messages)

    def called() -> float:
        receive = FeedCore((PRODUCT,)).receive
        return ns_per_message(lambda message: receive(message, 1), messages)

    contenders: list[Callable[[], float]] = [
        called,
        lambda: ns_per_message(ReferenceBbo().apply, messages),
        lambda: statistics.median(loops.parse_and_apply(messages, fresh_book(snapshot), Bbo(PRODUCT))),
        lambda: floor.fastest(program, path),
    ]
    runs = benchmark.pedantic(lambda: interleaved(ROUNDS, *contenders), rounds=1, iterations=1)
    python, slow, inner, lowest = runs
    to_floor, to_reference = ratio(inner, lowest), ratio(slow, inner)
    benchmark.extra_info.update(compiled_to_floor=to_floor, ratio=to_reference)
    say(
        f"best_bid_offer, compiled {statistics.median(inner):>4,.0f} ns"
        f"  C {statistics.median(lowest):>4,.0f} ns: {to_floor:.2f}x"
        f"  orjson {statistics.median(slow):>6,.0f} ns: {to_reference:.1f}x"
        f"  by a Python call {statistics.median(python):>4,.0f} ns"
    )
    assert to_floor <= 2
    assert to_reference >= 15


def test_a_duration_is_recorded_at_once(
    benchmark: Any, say: Callable[[str], None], loops: ModuleType
) -> None:
    rng = random.Random(1)
    values = [int(rng.lognormvariate(10, 2)) for _ in range(4_096)]
    histogram = Histogram()
    runs = benchmark.pedantic(
        lambda: [loops.record(histogram, values) for _ in range(101)], rounds=1, iterations=1
    )
    ns = statistics.median(runs)
    benchmark.extra_info.update(ns=ns)
    say(f"latency histogram: {ns:.1f} ns a record")
    assert histogram.count == 101 * 4_096
    assert histogram.max == max(values)
    assert ns <= 20


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
