"""FeedCore.receive(): synchronisation, redundancy, events and callbacks, without a socket."""

from __future__ import annotations

import gc
import random
import sys
from types import FrameType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles.book import Depth, Level
from oracles.exchange import ToyExchange
from samples import compact, stream_events

from nadofast import _feed
from nadofast._feed import Bbo, FeedCore
from nadofast.errors import ParseError
from nadofast.events import ControlReply, LiquidationEvent, TradeEvent, UnknownEvent

PRODUCT = 4
T0 = 1_790_000_000_000_000_000


class Recorder:
    """A core and everything it reported."""

    def __init__(self, *products: int, **callbacks: Any) -> None:
        self.events: list[Any] = []
        self.replies: list[ControlReply] = []
        self.gaps: list[tuple[int, str]] = []
        self.horizons: list[int] = []
        self.errors: list[Exception] = []
        self.bad: list[ParseError] = []
        defaults: dict[str, Any] = {
            "on_event": self.events.append,
            "on_reply": self.replies.append,
            "on_gap": lambda product_id, reason: self.gaps.append((product_id, reason)),
            "on_horizon": self.horizons.append,
            "on_callback_error": self.errors.append,
            "on_parse_error": self.bad.append,
        }
        self.core = FeedCore(products or (PRODUCT,), **(defaults | callbacks))
        self.now = 1

    def receive(self, message: dict[str, Any] | Depth, link: int = 0) -> int:
        self.now += 1_000_000
        data = compact(message.as_json() if isinstance(message, Depth) else message)
        return self.core.receive(data, self.now, link)


def depth(last: int, newest: int, bids: list[Level] | None = None, asks: list[Level] | None = None) -> Depth:
    return Depth(PRODUCT, last, newest, tuple(bids or []), tuple(asks or []))


@pytest.fixture
def feed() -> Recorder:
    """Live at 1000 with one level a side."""
    recorder = Recorder()
    assert recorder.core.load_snapshot(PRODUCT, [(100, 5)], [(102, 5)], 1000)
    return recorder


def samples(kind: str) -> list[dict[str, Any]]:
    return [event for _, event in stream_events() if event["type"] == kind]


# --- synchronisation: the promise -------------------------------------------------------------------------


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


# --- synchronisation: the rules ---------------------------------------------------------------------------


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


def bbo(time: int, bid: int = 100, bid_qty: int = 5, ask: int = 102, ask_qty: int = 5) -> dict[str, Any]:
    numbers = {"bid_price": bid, "bid_qty": bid_qty, "ask_price": ask, "ask_qty": ask_qty}
    head = {"type": "best_bid_offer", "timestamp": str(time), "product_id": PRODUCT}
    return head | {key: str(value) for key, value in numbers.items()}


MS = 1_000_000


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


# --- events -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["fill", "order_update", "position_change"])
def test_account_events_come_once_and_in_order(feed: Recorder, kind: str) -> None:
    messages = samples(kind)
    for message in messages:
        feed.receive(message, 0)
    expected = list(feed.events)
    assert len(expected) == len({event.key for event in expected})
    for message in messages:
        assert feed.receive(message, 1) == _feed.DUPLICATE
        assert feed.receive(message, 0) == _feed.DUPLICATE
    assert feed.events == expected


def test_positions_never_go_back(feed: Recorder) -> None:
    message = samples("position_change")[0]
    older = dict(message, timestamp=str(int(message["timestamp"]) - 1), amount="1")
    newer = dict(message, timestamp=str(int(message["timestamp"]) + 1), amount="2")
    assert feed.receive(message) == _feed.DELIVERED
    assert feed.receive(older) == _feed.DUPLICATE
    assert feed.receive(dict(older, isolated=True)) == _feed.DELIVERED, "an isolated position is another one"
    assert feed.receive(newer) == _feed.DELIVERED


def test_event_whose_handler_failed_is_not_marked_as_seen() -> None:
    taken: list[Any] = []

    def handler(event: Any) -> None:
        taken.append(event)
        if len(taken) == 1:
            raise RuntimeError("first time")

    feed = Recorder(on_event=handler)
    fill = samples("fill")[0]
    for _ in range(3):
        feed.receive(fill, 0)
    assert len(taken) == 2
    assert [str(error) for error in feed.errors] == ["first time"]


def test_seen_keys_are_bounded() -> None:
    feed = Recorder(on_event=None)
    fill = samples("fill")[0]
    for index in range(40_000):
        feed.core.receive(compact(fill | {"submission_idx": index}), 1)
    assert feed.receive(fill | {"submission_idx": 39_999}) == _feed.DUPLICATE
    assert feed.receive(fill | {"submission_idx": 25_000}) == _feed.DUPLICATE
    assert feed.receive(fill | {"submission_idx": 1}) == _feed.DELIVERED, "forgotten: memory is bounded"


def test_public_events_come_from_one_link(feed: Recorder) -> None:
    liquidation = samples("liquidation")[0]
    assert feed.receive(liquidation, 0) == _feed.DELIVERED
    assert feed.receive(liquidation, 1) == _feed.DUPLICATE
    feed.core.public_links = 1 << 1
    assert feed.receive(liquidation, 1) == _feed.DELIVERED
    assert feed.receive(liquidation, 0) == _feed.DUPLICATE
    feed.core.public_links = 0xFFFFFFFF
    assert feed.receive(liquidation, 0) == _feed.DELIVERED
    assert all(isinstance(event, LiquidationEvent) for event in feed.events)


def test_equal_trades_of_one_sweep_are_legal(feed: Recorder) -> None:
    trade = samples("trade")[0] | {"product_id": PRODUCT}
    assert [feed.receive(trade, 0) for _ in range(2)] == [_feed.DELIVERED] * 2
    assert [feed.receive(trade, 1) for _ in range(3)] == [_feed.DUPLICATE, _feed.DUPLICATE, _feed.DELIVERED]
    feed.core.leave(0)
    assert feed.receive(trade, 0) == _feed.DUPLICATE
    feed.core.leave(0)
    feed.core.leave(1)
    feed.core.begin(PRODUCT)
    assert feed.receive(trade, 0) == _feed.DELIVERED, "a new generation"
    assert all(isinstance(event, TradeEvent) for event in feed.events)


def test_every_sample_kind_is_delivered(feed: Recorder) -> None:
    for _, event in stream_events():
        feed.receive(event)
    kinds = {type(event).__name__ for event in feed.events}
    assert kinds == {
        "TradeEvent",
        "FillEvent",
        "OrderUpdateEvent",
        "PositionChangeEvent",
        "CandlestickEvent",
        "FundingRateEvent",
        "FundingPaymentEvent",
        "LiquidationEvent",
        "AllBBOEvent",
    }


def test_replies_go_to_on_reply(feed: Recorder) -> None:
    assert feed.receive({"result": None, "id": 5}) == _feed.DELIVERED
    assert feed.receive({"error": "no", "id": 6}) == _feed.DELIVERED
    assert [(reply.id, reply.error) for reply in feed.replies] == [(5, None), (6, "no")]


def test_unknown_kinds_are_told_once_and_counted(feed: Recorder) -> None:
    for _ in range(3):
        assert feed.receive({"type": "auction", "x": 1}) == _feed.UNKNOWN
    for index in range(200):
        feed.receive({"type": f"new_{index}"})
    stats = feed.core.stats()
    assert feed.events[0] == UnknownEvent("auction", b'{"type":"auction","x":1}')
    assert len(feed.events) == 64
    assert stats["unknown_kinds"] == 203
    assert stats["by_kind"]["unknown"] == 203


def test_unknown_fields_are_counted_and_named(feed: Recorder) -> None:
    feed.receive(bbo(2000) | {"mood": "good"})
    stats = feed.core.stats()
    assert (stats["unknown_fields"], stats["unknown_field_names"], stats["tolerant"]) == (1, ("mood",), 1)


def test_bad_data_is_counted_never_raised(feed: Recorder) -> None:
    for data in (b"", b"{", b"\xff\xfe", compact(samples("fill")[0])[:-9], b'{"type":"fill"}', b"[" * 9999):
        assert feed.core.receive(data, 5) == _feed.PARSE_ERROR
    stats = feed.core.stats()
    assert stats["parse_errors"] == len(feed.bad) == 6
    assert "byte" in stats["last_parse_error"]
    assert feed.core.book(PRODUCT).is_valid


def test_foreign_products_are_counted(feed: Recorder) -> None:
    assert feed.receive(bbo(2000) | {"product_id": 8}) == _feed.FOREIGN
    assert feed.receive(bbo(2000) | {"product_id": 4_000_000_000}) == _feed.FOREIGN
    assert feed.receive(depth(1, 2).as_json() | {"product_id": 0}) == _feed.FOREIGN
    assert feed.core.stats()["foreign"] == 3
    with pytest.raises(KeyError):
        feed.core.book(8)


def test_large_product_ids() -> None:
    feed = Recorder(4_000_000_000, 255, 256)
    for product_id in feed.core.product_ids:
        assert feed.receive(bbo(2000) | {"product_id": product_id}) == _feed.APPLIED
        assert feed.core.bbo(product_id).is_set


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
