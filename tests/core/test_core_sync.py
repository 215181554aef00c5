"""The core keeps a book in step with the exchange: the promise, and the rules one by one."""

from __future__ import annotations

import random

import pytest
from corekit import PRODUCT, Recorder, bbo, depth
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles.book import Depth, Level
from oracles.exchange import ToyExchange
from samples import compact

from nadofast import _feed
from nadofast._feed import FeedCore

MS = 1_000_000


# --- the promise ------------------------------------------------------------------------------------------


def assert_truth(core: FeedCore, exchange: ToyExchange) -> None:
    """I1: a valid book is what the exchange had at the book's own time, inside its horizon."""
    book = core.book(exchange.product_id)
    if not book.is_valid:
        assert len(book) == 0
        return
    bids, asks = exchange.truth[book.timestamp_ns]
    low, high = book.horizon
    known_bids, known_asks = book.known_levels
    assert book.bids(known_bids) == sorted(((p, q) for p, q in bids.items() if p >= low), reverse=True)
    assert book.asks(known_asks) == sorted((p, q) for p, q in asks.items() if p <= high)


@settings(max_examples=120)
@given(st.integers(0, 2**32), st.sampled_from([1, 2]), st.sampled_from([5, 100]))
def test_a_valid_book_is_the_exchange_s_book_whatever_the_network_does(
    seed: int, links: int, snapshot_depth: int
) -> None:
    rng = random.Random(seed)
    exchange = ToyExchange(rng, links=links)
    feed = Recorder()
    delayed: list[tuple[Depth, int]] = []
    late_snapshot: tuple[list[Level], list[Level], int] | None = None
    was_valid = False
    for _ in range(120):
        exchange.step()
        for link in range(links):
            message = exchange.batch(link) if rng.random() < 0.6 else None
            if message is None or rng.random() < 0.04:
                continue  # nothing, or lost
            if rng.random() < 0.05:
                delayed.append((message, link))
                continue
            for _ in range(2 if rng.random() < 0.05 else 1):
                status = feed.receive(message, link)
                assert (status == _feed.GAP) == (was_valid and not feed.core.book(PRODUCT).is_valid)
                was_valid = feed.core.book(PRODUCT).is_valid
        if delayed and rng.random() < 0.3:
            feed.receive(*delayed.pop(rng.randrange(len(delayed))))
            was_valid = feed.core.book(PRODUCT).is_valid
        if late_snapshot is None and feed.core.needs_snapshot(PRODUCT) and rng.random() < 0.5:
            late_snapshot = exchange.snapshot(snapshot_depth)
        elif late_snapshot is not None and rng.random() < 0.5:
            done = feed.core.load_snapshot(PRODUCT, *late_snapshot, snapshot_depth)
            was_valid = feed.core.book(PRODUCT).is_valid
            assert done == was_valid
            late_snapshot = None
        if was_valid and not feed.core.needs_snapshot(PRODUCT) and rng.random() < 0.05:
            feed.core.begin(PRODUCT, keep=True)
        assert_truth(feed.core, exchange)
    assert not feed.errors
    assert {reason for _, reason in feed.gaps} <= {"gap"}


@given(st.integers(0, 2**32))
@settings(max_examples=30)
def test_without_faults_the_book_never_breaks(seed: int) -> None:
    rng = random.Random(seed)
    exchange = ToyExchange(rng)
    feed = Recorder()
    for step in range(60):
        exchange.step()
        if (message := exchange.batch()) and rng.random() < 0.9:
            feed.receive(message)
        elif message:
            exchange.step()
            feed.receive(message)
        feed.receive(exchange.bbo())
        if step == 10:
            assert feed.core.load_snapshot(PRODUCT, *exchange.snapshot())
        assert_truth(feed.core, exchange)
        assert feed.core.book(PRODUCT).is_valid == (step >= 10)
    assert feed.gaps == []
    assert feed.core.stats()["gaps"] == 0


# --- the rules --------------------------------------------------------------------------------------------


def test_deltas_wait_for_the_snapshot_and_join_it() -> None:
    feed = Recorder()
    assert feed.core.needs_snapshot(PRODUCT)
    assert feed.receive(depth(100, 140, [(30, 3)])) == _feed.BUFFERED
    assert feed.receive(depth(140, 190, [(30, 2)], [(31, 0)])) == _feed.BUFFERED
    assert feed.receive(depth(190, 240, [], [(32, 5)])) == _feed.BUFFERED
    assert feed.core.load_snapshot(PRODUCT, [(30, 2)], [(32, 9)], 175)
    book = feed.core.book(PRODUCT)
    assert (book.bids(9), book.asks(9), book.timestamp_ns) == ([(30, 2)], [(32, 5)], 240)
    assert not feed.core.needs_snapshot(PRODUCT)
    assert feed.receive(depth(240, 250, [(29, 1)])) == _feed.APPLIED


def test_snapshot_alone_is_a_valid_book(feed: Recorder) -> None:
    assert feed.core.book(PRODUCT).is_valid
    assert feed.receive(depth(990, 1005, [(99, 1)])) == _feed.APPLIED


def test_snapshot_older_than_the_first_kept_delta_is_refused() -> None:
    feed = Recorder()
    feed.receive(depth(200, 240))
    assert not feed.core.load_snapshot(PRODUCT, [(1, 1)], [(2, 1)], 175)
    assert not feed.core.book(PRODUCT).is_valid
    assert feed.core.load_snapshot(PRODUCT, [(1, 1)], [(2, 1)], 200)
    assert feed.core.book(PRODUCT).timestamp_ns == 240


def test_hole_between_kept_deltas_needs_a_snapshot_after_it() -> None:
    feed = Recorder()
    feed.receive(depth(100, 140))
    feed.receive(depth(150, 190))
    assert not feed.core.load_snapshot(PRODUCT, [(1, 1)], [(2, 1)], 140)
    assert feed.core.load_snapshot(PRODUCT, [(1, 1)], [(2, 1)], 160)
    assert feed.core.stats()["products"][PRODUCT]["buffer_breaks"] == 1


def test_engine_start_is_a_resync(feed: Recorder) -> None:
    assert feed.receive(depth(0, 1100)) == _feed.GAP
    assert feed.gaps == [(PRODUCT, "engine start")]
    assert not feed.core.load_snapshot(PRODUCT, [(1, 1)], [(2, 1)], 1050), "may be from before the start"
    assert feed.core.load_snapshot(PRODUCT, [(1, 1)], [(2, 1)], 1100)


def test_gap_is_told_once_and_a_burst_is_one_recovery(feed: Recorder) -> None:
    assert feed.receive(depth(1001, 1010)) == _feed.GAP
    book = feed.core.book(PRODUCT)
    assert (book.is_valid, book.invalid_reason, book.best_bid) == (False, "gap", None)
    for start in range(1010, 1100, 10):
        assert feed.receive(depth(start, start + 10, [(50, start)])) == _feed.BUFFERED
    assert feed.gaps == [(PRODUCT, "gap")]
    assert feed.core.load_snapshot(PRODUCT, [(40, 1)], [(60, 1)], 1005)
    assert (book.best_bid, book.timestamp_ns) == ((50, 1090), 1100)


def test_crossed_is_a_break(feed: Recorder) -> None:
    assert feed.receive(depth(1000, 1010, [(102, 1)])) == _feed.GAP
    assert feed.gaps == [(PRODUCT, "crossed")]
    assert not feed.core.load_snapshot(PRODUCT, [(9, 1)], [(9, 1)], 1020)
    assert feed.core.needs_snapshot(PRODUCT)
    assert feed.core.load_snapshot(PRODUCT, [(9, 1)], [(10, 1)], 1030)


def test_new_generation_forgets_everything(feed: Recorder) -> None:
    feed.core.begin(PRODUCT)
    assert (len(feed.core.book(PRODUCT)), feed.core.book(PRODUCT).invalid_reason) == (0, "no snapshot")
    assert feed.receive(depth(1000, 1010)) == _feed.BUFFERED
    assert feed.gaps == [], "beginning anew is no gap"


def test_refresh_keeps_the_book_valid(feed: Recorder) -> None:
    feed.core.begin(PRODUCT, keep=True)
    assert feed.core.needs_snapshot(PRODUCT)
    assert feed.receive(depth(1000, 1010, [(101, 1)])) == _feed.APPLIED
    assert feed.receive(depth(1010, 1020, [(101, 0)])) == _feed.APPLIED
    assert not feed.core.load_snapshot(PRODUCT, [(90, 1)], [(110, 1)], 995), "older than what is kept"
    assert feed.core.book(PRODUCT).is_valid
    assert feed.core.load_snapshot(PRODUCT, [(101, 1), (90, 1)], [(110, 1)], 1012)
    assert feed.core.book(PRODUCT).bids(9) == [(90, 1)]
    assert not feed.core.needs_snapshot(PRODUCT)
    feed.core.begin(PRODUCT, keep=True)
    assert not feed.core.load_snapshot(PRODUCT, [(1, 1)], [(2, 1)], 1015), "back in time"
    assert feed.core.book(PRODUCT).bids(9) == [(90, 1)]


def test_unwanted_snapshot_of_a_live_book(feed: Recorder) -> None:
    assert feed.core.load_snapshot(PRODUCT, [(1, 1)], [(2, 1)], 900)
    assert feed.core.book(PRODUCT).best_bid == (100, 5)


def test_redundant_links_overlap(feed: Recorder) -> None:
    assert feed.receive(depth(1000, 1020, [(99, 2)]), 0) == _feed.APPLIED
    assert feed.receive(depth(1000, 1010, [(99, 1)]), 1) == _feed.DUPLICATE
    assert feed.receive(depth(1010, 1030, [(99, 3)]), 1) == _feed.APPLIED
    assert feed.receive(depth(1020, 1040, [(99, 4)]), 0) == _feed.APPLIED
    assert feed.core.book(PRODUCT).bids(2) == [(100, 5), (99, 4)]
    assert feed.core.stats()["duplicates"] == 1


def test_touch_near_the_horizon_is_told_once() -> None:
    feed = Recorder()
    feed.core.load_snapshot(PRODUCT, [(1000 - i, 1) for i in range(100)], [(2000, 1)], 1000)
    for i in range(95):
        feed.receive(depth(1000 + i, 1001 + i, [(1000 - i, 0)]))
    assert feed.horizons == [PRODUCT]
    assert feed.core.book(PRODUCT).is_valid


@pytest.mark.parametrize("seed", range(30))
def test_the_horizon_is_told_with_the_very_message_that_comes_near_it(seed: int) -> None:
    """Levels are not counted with every message; no order of changes makes that visible."""
    rng = random.Random(seed)
    feed = Recorder()
    known = rng.choice((12, 40, 300))
    bids, asks = ([(1_000 + sign * i, 5) for i in range(1, known + 1)] for sign in (-1, 1))
    assert feed.core.load_snapshot(PRODUCT, bids, asks, 1, depth=known)
    book, time, slowness = feed.core.book(PRODUCT), 1, rng.choice((1, 50, 500))
    while min(book.known_levels) >= 10:
        assert feed.horizons == []
        changes = [
            [
                (1_000 + sign * rng.randrange(1, known + 20), 0 if rng.random() < time / slowness else 5)
                for _ in range(3)
            ]
            for sign in (-1, 1)
        ]
        feed.receive(depth(time, time + 1, *changes))
        time += 1
    assert feed.horizons == [PRODUCT]


def test_pending_memory_is_bounded() -> None:
    feed = Recorder()
    level = [[str(10**30 + i), "1"] for i in range(100)]
    for i in range(1, 6000):
        message = depth(i, i + 1).as_json() | ({"bids": level} if i % 2 else {})
        feed.core.receive(compact(message), 1)
    stats = feed.core.stats()["products"][PRODUCT]
    assert stats["buffer_overflows"] > 0
    assert not feed.core.load_snapshot(PRODUCT, [(1, 1)], [(2, 1)], 3)
    assert feed.core.load_snapshot(PRODUCT, [(1, 1)], [(10**37, 1)], 5990)
    assert feed.core.book(PRODUCT).timestamp_ns == 6000


# --- a book and a best bid and offer that disagree ----------------------------------------------------------


def test_bbo_that_disagrees_for_long_breaks_the_book(feed: Recorder) -> None:
    assert feed.receive(bbo(900, bid=99)) == _feed.APPLIED
    assert feed.core.book(PRODUCT).is_valid, "at once it may just be ahead or behind"
    feed.now += 400 * MS
    feed.receive(depth(1000, 400 * MS))
    assert feed.core.book(PRODUCT).is_valid
    feed.now += 200 * MS
    assert feed.receive(depth(400 * MS, 600 * MS)) == _feed.GAP
    assert feed.gaps == [(PRODUCT, "differs from the best bid and offer")]
    feed.core.load_snapshot(PRODUCT, [(100, 5)], [(102, 5)], 600 * MS)
    for step in range(3):
        feed.now += 600 * MS
        message = depth((1 + step) * 600 * MS, (2 + step) * 600 * MS)
        assert feed.receive(message) == _feed.APPLIED, "the same BBO counts once"


def test_a_pause_of_ours_is_no_long_disagreement(feed: Recorder) -> None:
    """What would end it was sent at once and still waits in the socket: the exchange's clock says so."""
    feed.receive(bbo(900))
    feed.receive(depth(1000, 5 * MS, [(101, 1)]))
    feed.now += 900 * MS
    assert feed.receive(depth(5 * MS, 6 * MS, [(101, 2)])) == _feed.APPLIED
    assert feed.receive(bbo(6 * MS, bid=101, bid_qty=2)) == _feed.APPLIED
    assert feed.gaps == []


def test_bbo_ahead_of_the_book_proves_nothing(feed: Recorder) -> None:
    for step in range(5):
        feed.now += 600_000_000
        feed.receive(bbo(5000 + step, bid=99))
        feed.receive(depth(1000 + step, 1001 + step))
    assert feed.gaps == []
