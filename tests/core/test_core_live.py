"""The live best bid and offer, and callbacks that are given the live objects."""

from __future__ import annotations

import gc
import sys
from types import FrameType
from typing import Any

import pytest
from corekit import PRODUCT, Recorder, bbo, depth, samples
from samples import compact

from nadofast import _feed
from nadofast._feed import Bbo, FeedCore

# --- best bid and offer -----------------------------------------------------------------------------------


def test_bbo_fields_and_sentinels(feed: Recorder) -> None:
    live = feed.core.bbo(PRODUCT)
    assert (live.is_set, live.source, live.has_bid, live.mid_x18) == (False, "", False, None)
    feed.receive(bbo(2000))
    assert isinstance(live, Bbo)
    assert (live.bid_price_x18, live.bid_qty_x18, live.ask_price_x18, live.ask_qty_x18) == (100, 5, 102, 5)
    assert (live.timestamp_ns, live.received_ns, live.source) == (2000, feed.now, "stream")
    assert (live.mid_x18, live.spread_x18, live.product_id) == (101, 2, PRODUCT)
    for event in samples("best_bid_offer")[1:]:
        feed.receive(event | {"product_id": PRODUCT})
    assert (live.has_bid, live.has_ask, live.mid_x18, live.spread_x18) == (False, True, None, None)
    assert "bid None" in repr(live)


def test_older_and_equal_bbos_are_dropped(feed: Recorder) -> None:
    assert feed.receive(bbo(2000), 0) == _feed.APPLIED
    assert feed.receive(bbo(2000), 1) == _feed.DUPLICATE
    assert feed.receive(bbo(1999, bid=50), 1) == _feed.DUPLICATE
    assert feed.core.bbo(PRODUCT).bid_price_x18 == 100


def test_two_values_of_one_engine_time_keep_their_order_across_links(feed: Recorder) -> None:
    assert feed.receive(bbo(2000, bid=98), 0) == _feed.APPLIED
    assert feed.receive(bbo(2000, bid=99), 0) == _feed.APPLIED
    assert feed.receive(bbo(2000, bid=98), 1) == _feed.DUPLICATE
    assert feed.receive(bbo(2000, bid=99), 1) == _feed.DUPLICATE
    assert feed.receive(bbo(2000, bid=97), 1) == _feed.APPLIED
    assert feed.receive(bbo(2000, bid=97), 0) == _feed.DUPLICATE
    assert feed.core.bbo(PRODUCT).bid_price_x18 == 97


def test_seeding_from_rest(feed: Recorder) -> None:
    seen: list[int] = []
    feed.core.set_callback("best_bid_offer", PRODUCT, lambda live: seen.append(live.bid_price_x18))
    assert feed.core.seed_bbo(PRODUCT, 90, 110, now_ns=5)
    live = feed.core.bbo(PRODUCT)
    assert (live.source, live.bid_price_x18, live.timestamp_ns, live.received_ns) == ("rest", 90, 0, 5)
    feed.receive(bbo(2000))
    assert live.source == "stream"
    assert not feed.core.seed_bbo(PRODUCT, 80, 120, now_ns=feed.now - 1), "asked before the stream value came"
    assert not feed.core.seed_bbo(PRODUCT, 80, 120, timestamp_ns=1999)
    assert feed.core.seed_bbo(PRODUCT, 80, 120, now_ns=feed.now + 1)
    assert feed.receive(bbo(1500)) == _feed.DUPLICATE
    assert feed.receive(bbo(2001)) == _feed.APPLIED
    assert seen == [90, 100, 80, 100]
    with pytest.raises(ValueError):
        feed.core.seed_bbo(PRODUCT, -1, 5)
    with pytest.raises(ValueError):
        feed.core.seed_bbo(PRODUCT, 1, 5, source="guess")


# --- callbacks --------------------------------------------------------------------------------------------


def test_callbacks_get_the_live_objects(feed: Recorder) -> None:
    got: list[Any] = []
    feed.core.set_callback("best_bid_offer", PRODUCT, got.append)
    feed.core.set_callback("best_bid_offer", None, got.append)
    feed.core.set_callback("book_depth", PRODUCT, got.append)
    feed.core.set_callback("book_depth", None, got.append)
    feed.receive(bbo(2000))
    feed.receive(depth(1000, 1010))
    bbo_object, book = feed.core.bbo(PRODUCT), feed.core.book(PRODUCT)
    assert [id(item) for item in got] == [id(bbo_object)] * 2 + [id(book)] * 2
    for kind, product_id in (("best_bid_offer", PRODUCT), ("book_depth", None)):
        feed.core.set_callback(kind, product_id, None)
    feed.receive(bbo(2001))
    assert len(got) == 5


def test_callback_errors_are_caught_one_by_one(feed: Recorder) -> None:
    called: list[str] = []

    def bad(_: Any) -> None:
        called.append("bad")
        raise KeyError("mine")

    feed.core.set_callback("best_bid_offer", PRODUCT, bad)
    feed.core.set_callback("best_bid_offer", None, lambda _: called.append("good"))
    assert feed.receive(bbo(2000)) == _feed.APPLIED
    assert called == ["bad", "good"]
    assert [type(error) for error in feed.errors] == [KeyError]
    assert feed.core.stats()["callback_errors"] == 1


def test_gap_handler_that_fails_is_reported_too() -> None:
    feed = Recorder(on_gap=lambda product_id, reason: 1 / 0)
    feed.core.load_snapshot(PRODUCT, [(1, 1)], [(2, 1)], 1000)
    assert feed.receive(depth(1001, 1002)) == _feed.GAP
    assert [type(error) for error in feed.errors] == [ZeroDivisionError]


def test_error_in_the_error_handler_surfaces() -> None:
    def handler(error: Exception) -> None:
        raise error

    feed = Recorder(on_callback_error=handler)
    feed.core.set_callback("best_bid_offer", None, lambda live: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        feed.receive(bbo(2000))


def test_callback_may_use_the_core(feed: Recorder) -> None:
    def resync(product_id: int, reason: str) -> None:
        feed.gaps.append((product_id, reason))
        feed.core.begin(product_id)
        assert feed.core.load_snapshot(product_id, [(7, 1)], [(9, 1)], 1500)
        assert feed.receive(bbo(2000, bid=7, bid_qty=1, ask=9, ask_qty=1)) == _feed.APPLIED

    feed.core = FeedCore((PRODUCT,), on_gap=resync)
    feed.core.load_snapshot(PRODUCT, [(1, 1)], [(2, 1)], 1000)
    assert feed.receive(depth(1200, 1300)) == _feed.GAP
    assert feed.core.book(PRODUCT).best_bid == (7, 1)


def test_slow_callbacks_are_counted(feed: Recorder) -> None:
    def slow(_: Any) -> None:
        end = _feed.monotonic_ns() + 400_000
        while _feed.monotonic_ns() < end:
            pass

    feed.core.set_callback("best_bid_offer", None, slow)
    feed.receive(bbo(2000))
    stats = feed.core.stats()
    assert stats["slow_callbacks"] == 1
    assert stats["latency"]["callback"]["max_ns"] >= 400_000


def test_wrong_callback_arguments(feed: Recorder) -> None:
    with pytest.raises(ValueError):
        feed.core.set_callback("trade", None, print)
    with pytest.raises(TypeError):
        feed.core.set_callback("book_depth", None, 5)  # type: ignore[arg-type]
    with pytest.raises(KeyError):
        feed.core.set_callback("book_depth", 99, print)


def test_no_python_object_is_kept_per_market_message(feed: Recorder) -> None:
    """Without a callback a market message leaves nothing behind and calls nothing."""
    messages = [compact(bbo(2000 + i)) for i in range(2000)]
    messages += [compact(depth(1000 + i, 1001 + i, [(99, 1 + i % 2)]).as_json()) for i in range(2000)]
    calls: list[str] = []
    receive = feed.core.receive
    blocks: list[int] = []

    def run() -> None:
        for message in messages:
            receive(message, 5)

    def profile(frame: FrameType, event: str, _: object) -> None:
        if event == "call" and frame.f_code.co_filename.endswith(".py"):
            calls.append(frame.f_code.co_name)

    gc.disable()  # Hypothesis listens to collections
    sys.setprofile(profile)
    try:
        before = sys.getallocatedblocks()
        run()
        blocks.append(sys.getallocatedblocks() - before)
    finally:
        sys.setprofile(None)
        gc.enable()
    assert calls == ["run"]
    assert abs(blocks[0]) < 50
    assert feed.core.book(PRODUCT).timestamp_ns == 3000
