"""The compiled book against plain dictionaries, through its public face."""

from __future__ import annotations

import os
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles.book import Depth, Level, OracleBook
from samples import DATA, compact, load

from nadofast._book import OrderBook
from nadofast.errors import BookInvalid, InsufficientDepth, ParseError, SequenceGap

X18 = 10**18
PRODUCT = 4

# Few prices, so that levels are hit, deleted and crossed often; some far outside any tick grid.
prices = st.one_of(st.integers(90, 110), st.sampled_from([1, 10**6, 3021400000000000000001, (1 << 127) - 1]))
quantities = st.sampled_from([0, 0, 1, 5, 17 * X18, (1 << 127) - 1])
sides = st.lists(st.tuples(prices, quantities), max_size=5)


def apply(book: OrderBook, depth: Depth) -> str:
    """`apply` in the words of the oracle."""
    try:
        changed = book.apply(compact(depth.as_json()))
    except SequenceGap as gap:
        return "gap" if gap.got_ns == depth.last_max else "a gap of other times"
    except BookInvalid:
        return "invalid"
    return "changed" if changed else "same or ignored"


def assert_equal(book: OrderBook, oracle: OracleBook) -> None:
    assert book.is_valid == oracle.is_valid
    assert (book.invalid_reason is None) == oracle.is_valid
    assert book.bids(10**6) == oracle.bids()
    assert book.asks(10**6) == oracle.asks()
    assert len(book) == len(oracle.bid_levels) + len(oracle.ask_levels)
    assert (book.best_bid, book.best_ask) == (oracle.best_bid, oracle.best_ask)
    assert book.horizon == oracle.horizon
    assert book.known_levels == (len(oracle.known("bid")), len(oracle.known("ask")))
    if oracle.is_valid:
        assert book.timestamp_ns == oracle.timestamp


def unique(levels: list[Level]) -> list[Level]:
    return list(dict(levels).items())


@settings(max_examples=150)
@given(
    sides,
    sides,
    st.sampled_from([3, 100]),
    st.lists(
        st.tuples(
            st.sampled_from(["next", "next", "next", "next", "old", "early", "gap", "zero"]), sides, sides
        ),
        max_size=25,
    ),
)
def test_strict_stream_equals_the_oracle(
    bids: list[Level], asks: list[Level], depth: int, steps: list[tuple[str, list[Level], list[Level]]]
) -> None:
    book, oracle = OrderBook(PRODUCT), OracleBook(PRODUCT)
    bids, asks = unique(bids), unique(asks)
    book.load_snapshot(bids, [(str(price), str(qty)) for price, qty in asks], 1000, depth)
    oracle.load(bids, asks, 1000, depth)
    assert_equal(book, oracle)
    for kind, new_bids, new_asks in steps:
        now = oracle.timestamp
        last, newest = {
            "next": (now, now + 10),
            "old": (now - 20, now - 5),
            "early": (now - 5, now + 5),
            "gap": (now + 1, now + 20),
            "zero": (0, now + 10),
        }[kind]
        message = Depth(PRODUCT, last, newest, tuple(new_bids), tuple(new_asks))
        told, expected = apply(book, message), oracle.apply(message)
        assert told == expected or (told == "same or ignored" and expected in ("same", "ignored"))
        assert_equal(book, oracle)


# Distances from the touch in ticks: next to it, at both edges of the window of a side, and beyond.
ticks_away = st.sampled_from([0, 1, 2, 3, 63, 64, 65, 1023, 1024, 1025, 3070, 3071, 3072, 4095, 4096, 10**6])
changes = st.lists(
    st.tuples(ticks_away, st.booleans(), st.sampled_from([0, 0, 0, 1]), st.sampled_from([0, 0, 1, 9 * X18])),
    max_size=8,
)


@settings(max_examples=200)
@given(st.sampled_from([1, 3, 10**15, 10**17, 7 << 50]), st.lists(changes, min_size=1, max_size=30))
def test_window_edges_and_prices_off_the_grid_equal_the_oracle(tick: int, steps: list[Any]) -> None:
    book, oracle = OrderBook(PRODUCT), OracleBook(PRODUCT)
    touch = 30_000 * 10**17
    bids = [(touch - i * tick, X18) for i in range(1, 5)]
    asks = [(touch + i * tick, X18) for i in range(5)]
    book.load_snapshot(bids, asks, 1)
    oracle.load(bids, asks, 1)
    for number, step in enumerate(steps, 1):
        sides: dict[bool, dict[int, int]] = {False: {}, True: {}}
        for away, is_bid, off_grid, qty in step:
            sign = -1 if is_bid else 1
            sides[is_bid][max(touch + sign * (away * tick + off_grid), 0)] = qty
        message = Depth(PRODUCT, number, number + 1, tuple(sides[True].items()), tuple(sides[False].items()))
        assert apply(book, message) == oracle.apply(message).replace("same", "same or ignored")
        assert_equal(book, oracle)
        for away, is_bid, off_grid, _ in step:
            side, levels = ("bid", oracle.bid_levels) if is_bid else ("ask", oracle.ask_levels)
            price = max(touch + (-1 if is_bid else 1) * (away * tick + off_grid), 0)
            assert book.qty_x18(side, price) == levels.get(price, 0)  # type: ignore[arg-type]


class HostileMarket:
    """A touch that drifts and jumps, levels that are swept, thousands of them, prices nothing fits."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.tick = self.rng.choice([1, 5, 10**15, 10**17, 3 * 10**17, (1 << 61) - 1, 10**30])
        self.middle = self.rng.randrange(10**6, 10**7)
        self.time = 1

    def price(self, ticks: int) -> int:
        off_grid = self.rng.random() < 0.02
        return min(
            max(ticks, 1) * self.tick + (self.rng.randrange(self.tick) if off_grid else 0), (1 << 127) - 1
        )

    def snapshot(self, levels: int) -> tuple[list[Level], list[Level]]:
        step = self.rng.choice([1, 1, 2, 7])
        bids = {self.price(self.middle - 1 - i * step): self.rng.randrange(1, X18) for i in range(levels)}
        asks = {self.price(self.middle + 1 + i * step): self.rng.randrange(1, X18) for i in range(levels)}
        return list(bids.items()), list(asks.items())

    def message(self, book: OracleBook) -> Depth:
        rng = self.rng
        kind = rng.random()
        if kind < 0.5:
            self.middle += rng.randrange(-3, 4)
        elif kind < 0.58:
            self.middle = max(self.middle + rng.randrange(-6000, 6001), 20_000)
        elif kind < 0.6:
            self.middle = rng.randrange(20_000, 10**7)
        spread = rng.choice([3, 30, 3000, 20_000])
        count = 300 if rng.random() < 0.05 else rng.randrange(12)
        bids = {
            self.price(self.middle - 1 - rng.randrange(spread)): rng.choice([0, 1, X18]) for _ in range(count)
        }
        asks = {
            self.price(self.middle + 2 + rng.randrange(spread)): rng.choice([0, 1, X18]) for _ in range(count)
        }
        if rng.random() < 0.02:  # one side empties
            (bids if rng.random() < 0.5 else asks).update(
                dict.fromkeys([*book.bid_levels, *book.ask_levels], 0)
            )
        middle = self.middle * self.tick
        for levels, own, is_wrong in (
            (book.bid_levels, bids, lambda price: price > middle),
            (book.ask_levels, asks, lambda price: price <= middle),
        ):
            own.update({price: 0 for price in [*levels, *own] if is_wrong(price)})  # what the move swept away
        self.time += 1
        return Depth(PRODUCT, self.time - 1, self.time, tuple(bids.items()), tuple(asks.items()))


@pytest.mark.parametrize("seed", range(12))
def test_hostile_markets_equal_the_oracle(seed: int) -> None:
    market, oracle, book = HostileMarket(seed), OracleBook(PRODUCT), OrderBook(PRODUCT)
    levels = (0, 1, 2, 50, 100, 3000)[seed % 6]
    bids, asks = market.snapshot(levels)
    book.load_snapshot(bids, asks, 1)
    oracle.load(bids, asks, 1)
    assert_equal(book, oracle)
    for step in range(250):
        message = market.message(oracle)
        assert apply(book, message) == oracle.apply(message).replace("same", "same or ignored"), step
        assert (book.best_bid, book.best_ask) == (oracle.best_bid, oracle.best_ask), step
        if step % 10 == 0:
            assert_equal(book, oracle)
    assert oracle.is_valid
    assert_equal(book, oracle)


@pytest.mark.long
def test_long_hostile_markets_equal_the_oracle() -> None:
    """Seeds from NADOFAST_SEEDS (first:end)."""
    first, last = map(int, os.environ.get("NADOFAST_SEEDS", "0:2").split(":"))
    for seed in range(first, last):
        print(f"seed {seed}")
        test_hostile_markets_equal_the_oracle(seed)


def test_the_worst_of_too_many_levels_go_wherever_they_lie() -> None:
    """Most outside the window, some in it; the horizon ends up inside the window, too."""
    rng = random.Random(5)
    for shown in (100, 2):
        book, oracle = OrderBook(PRODUCT), OracleBook(PRODUCT)
        bids = [(10**9 - i * 10, 5) for i in range(100)]
        book.load_snapshot(bids, [(2 * 10**9, 1)], 1, shown)
        oracle.load(bids, [(2 * 10**9, 1)], 1, shown)
        for step in range(1, 10):
            near = [(10**9 - rng.randrange(2000) * 10, rng.randrange(3)) for _ in range(500)]
            far = [(10**9 - 10**6 * step - i, 1) for i in range(2500)]
            message = Depth(PRODUCT, step, step + 1, tuple(dict(near + far).items()), ())
            assert apply(book, message) == oracle.apply(message).replace("same", "same or ignored")
            assert_equal(book, oracle)
        assert len(oracle.bid_levels) == 16384


@given(sides, sides, st.integers(1, 40 * X18), st.sampled_from([2, 100]))
def test_amounts_equal_the_oracle(bids: list[Level], asks: list[Level], qty: int, depth: int) -> None:
    book, oracle = OrderBook(PRODUCT), OracleBook(PRODUCT)
    asks = [(price + 200, size) for price, size in asks if price < 1000]
    bids = [(price, size) for price, size in bids if price < 200]
    book.load_snapshot(unique(bids), unique(asks), 5, depth)
    oracle.load(unique(bids), unique(asks), 5, depth)
    for side, name in (("bid", "sell"), ("ask", "buy")):
        known = oracle.known(side)
        for levels in (0, 1, 3, 1000):
            total = sum(size for _, size in known[:levels])
            if total < 1 << 127:
                assert book.liquidity_x18(side, levels) == book.liquidity_x18(name, levels) == total
        vwap = oracle.vwap(side, qty)
        if vwap is None:
            with pytest.raises(InsufficientDepth) as caught:
                book.vwap_x18(name, qty)
            assert caught.value.visible_x18 == sum(size for _, size in known)
            assert caught.value.wanted_x18 == qty
            continue
        assert book.vwap_x18(name, qty) == vwap
        best = known[0][0]
        assert book.slippage_bps(name, qty) == pytest.approx(abs(vwap - best) / best * 10_000)


def test_average_needs_more_than_128_bits() -> None:
    rng = random.Random(7)
    for _ in range(200):
        asks = [(rng.randrange(1, 1 << 127), rng.randrange(1, 1 << 120)) for _ in range(20)]
        book, oracle = OrderBook(PRODUCT), OracleBook(PRODUCT)
        book.load_snapshot([], asks, 1)
        oracle.load([], asks, 1)
        qty = rng.randrange(1, sum(size for _, size in asks) + 1)
        if qty < 1 << 127:
            assert book.vwap_x18("buy", qty) == oracle.vwap("ask", qty)


def test_many_levels_anywhere() -> None:
    rng = random.Random(1)
    book, oracle = OrderBook(PRODUCT), OracleBook(PRODUCT)
    bids = [(3_000 * X18 - i * X18 // 10, X18) for i in range(1000)]
    asks = [(3_001 * X18 + i * X18 // 10, X18) for i in range(1000)]
    rng.shuffle(bids)
    book.load_snapshot(bids, asks, 1, 2000)
    oracle.load(bids, asks, 1, 2000)
    for step in range(1, 400):
        changes = [
            (3_000 * X18 - rng.randrange(1200) * X18 // 10, rng.choice([0, X18, 2 * X18])) for _ in range(10)
        ]
        mirrored = [(6_001 * X18 - price, qty) for price, qty in changes]
        message = Depth(PRODUCT, step, step + 1, tuple(changes), tuple(mirrored))
        assert apply(book, message) == oracle.apply(message).replace("same", "same or ignored")
    assert_equal(book, oracle)


def test_seeding_example_of_the_samples() -> None:
    sample = load(DATA / "samples" / "stream_book_depth.json")
    example = sample["seeding_example"]
    book = OrderBook(PRODUCT)
    book.load_snapshot(
        example["snapshot"]["bids"], example["snapshot"]["asks"], int(example["snapshot"]["timestamp"])
    )
    first, second, third = (compact(event) for event in example["queued_events"])
    assert book.apply(first) is False
    assert book.apply(second) is False
    assert book.apply(third) is True
    after = example["book_after"]
    assert book.bids(5) == [(int(price), int(qty)) for price, qty in after["bids"]]
    assert book.asks(5) == [(int(price), int(qty)) for price, qty in after["asks"]]
    with pytest.raises(SequenceGap) as caught:
        book.apply(
            compact(dict(sample["gap_example"]["event"], last_max_timestamp="245", max_timestamp="260"))
        )
    assert (caught.value.expected_ns, caught.value.got_ns) == (240, 245)
    assert caught.value.product_id == PRODUCT
    assert not book.is_valid
    assert book.invalid_reason == "gap"


@pytest.fixture
def book() -> OrderBook:
    book = OrderBook(PRODUCT)
    book.load_snapshot([(100, 5), (99, 7)], [(101, 3), (103, 4)], 1000)
    return book


def message(**change: Any) -> bytes:
    depth = Depth(PRODUCT, 1000, 1010, ((100, 6),), ((101, 0),)).as_json()
    return compact(depth | change)


def test_new_book_is_empty_and_invalid() -> None:
    book = OrderBook(PRODUCT)
    assert (book.is_valid, book.invalid_reason, len(book), book.timestamp_ns) == (False, "no snapshot", 0, 0)
    assert book.best_bid is book.best_ask is book.mid_x18 is book.spread_x18 is None
    assert book.bids(5) == book.asks(5) == []
    for read in (lambda: book.vwap_x18("buy", 1), lambda: book.liquidity_x18("sell", 1)):
        with pytest.raises(BookInvalid, match="no snapshot"):
            read()
    with pytest.raises(BookInvalid):
        book.apply(message())


def test_reading(book: OrderBook) -> None:
    assert (book.product_id, book.timestamp_ns, len(book)) == (PRODUCT, 1000, 4)
    assert (book.best_bid, book.best_ask) == ((100, 5), (101, 3))
    assert (book.mid_x18, book.spread_x18, book.horizon) == (100, 1, (99, 103))
    assert (book.bids(1), book.asks(0)) == ([(100, 5)], [])
    assert (book.qty_x18("bid", 99), book.qty_x18("ask", 102)) == (7, 0)
    assert "valid" in repr(book)
    assert book.apply(message()) is True
    assert (book.best_bid, book.best_ask) == ((100, 6), (103, 4))


def test_change_below_the_top_is_not_a_change_of_the_best(book: OrderBook) -> None:
    assert book.apply(message(bids=[["98", "1"], ["50", "0"]], asks=[])) is False
    assert book.bids(3) == [(100, 5), (99, 7), (98, 1)]
    assert book.timestamp_ns == 1010


def test_same_total_again_is_no_change_and_an_empty_message_moves_time(book: OrderBook) -> None:
    assert book.apply(message(bids=[["100", "5"]], asks=[])) is False
    assert book.apply(message(last_max_timestamp="1010", max_timestamp="1020", bids=[], asks=[])) is False
    assert book.timestamp_ns == 1020


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (message(product_id=8), ValueError),
        (b'{"type":"best_bid_offer"}', ParseError),
        (b'{"type":"trade"}', ValueError),
        (b'{"type":"auction"}', ValueError),
        (b'{"result":null,"id":1}', ValueError),
        (message()[:-1], ParseError),
        (message(asks=[["104", "1"], ["105", "x"]]), ParseError),
        (message(asks=[["104", "1"], ["105", "-1"]]), ParseError),
        (message(asks=[["104", "1"], ["1" * 40, "1"]]), ParseError),
        (message(max_timestamp=None), ParseError),
    ],
)
def test_what_is_not_a_message_of_this_book_changes_nothing(
    book: OrderBook, data: bytes, error: type[Exception]
) -> None:
    before = (book.bids(9), book.asks(9), book.timestamp_ns)
    with pytest.raises(error):
        book.apply(data)
    assert (book.bids(9), book.asks(9), book.timestamp_ns) == before
    assert book.is_valid


def test_truncated_message_changes_nothing(book: OrderBook) -> None:
    before = (book.bids(9), book.asks(9), book.timestamp_ns)
    for size in range(len(message())):
        with pytest.raises(ParseError):
            book.apply(message()[:size])
    assert (book.bids(9), book.asks(9), book.timestamp_ns) == before


def test_gap_empties_the_book_until_a_new_snapshot(book: OrderBook) -> None:
    book.apply(message())
    with pytest.raises(SequenceGap):
        book.apply(message(last_max_timestamp="1011", max_timestamp="1030"))
    assert (book.best_bid, book.asks(3), len(book), book.invalid_reason) == (None, [], 0, "gap")
    with pytest.raises(BookInvalid, match="gap"):
        book.apply(message(last_max_timestamp="1010", max_timestamp="1030"))
    book.load_snapshot([(1, 1)], [(2, 2)], 2000)
    assert book.is_valid
    assert book.invalid_reason is None


def test_duplicate_after_joining_is_a_gap_for_the_strict_face(book: OrderBook) -> None:
    assert book.apply(message()) is True
    with pytest.raises(SequenceGap):
        book.apply(message())


def test_time_that_runs_back_is_a_gap(book: OrderBook) -> None:
    book.apply(message())
    with pytest.raises(SequenceGap):
        book.apply(message(last_max_timestamp="1010", max_timestamp="1009"))


def test_crossed_book_is_invalid(book: OrderBook) -> None:
    assert book.apply(message(bids=[["101", "1"]], asks=[["105", "1"]])) is True
    assert (book.is_valid, book.invalid_reason, book.best_bid) == (False, "crossed", None)
    book.load_snapshot([(5, 1)], [(5, 1)], 3000)
    assert (book.is_valid, book.invalid_reason) == (False, "crossed")


def test_crossing_and_healing_in_one_message_is_fine(book: OrderBook) -> None:
    assert book.apply(message(bids=[["102", "1"]], asks=[["101", "0"]])) is True
    assert (book.best_bid, book.best_ask) == ((102, 1), (103, 4))


def test_clear(book: OrderBook) -> None:
    book.clear()
    assert (book.is_valid, book.invalid_reason, len(book), book.timestamp_ns) == (False, "cleared", 0, 0)


@pytest.mark.parametrize(
    ("bids", "asks", "timestamp"),
    [
        ([(1, 1), (1, 2)], [], 5),
        ([(-1, 1)], [], 5),
        ([(1, -1)], [], 5),
        ([("1.5", "1")], [], 5),
        ([("", "1")], [], 5),
        ([("1" * 40, "1")], [], 5),
        ([], [], -1),
    ],
)
def test_bad_snapshot_leaves_the_book(
    book: OrderBook, bids: list[Any], asks: list[Any], timestamp: int
) -> None:
    with pytest.raises(ValueError):
        book.load_snapshot(bids, asks, timestamp)
    assert (book.best_bid, book.timestamp_ns, book.is_valid) == ((100, 5), 1000, True)


def test_snapshot_numbers_must_fit(book: OrderBook) -> None:
    with pytest.raises(OverflowError):
        book.load_snapshot([(1 << 127, 1)], [], 5)
    with pytest.raises(TypeError):
        book.load_snapshot([(1.5, 1)], [], 5)  # type: ignore[list-item]
    with pytest.raises(TypeError):
        book.load_snapshot([5], [], 5)  # type: ignore[list-item]
    assert book.best_bid == (100, 5)


def test_horizon_of_a_full_snapshot() -> None:
    book = OrderBook(PRODUCT)
    bids = [(1000 - i, 2) for i in range(100)]
    book.load_snapshot(bids, [(2000 + i, 2) for i in range(99)], 1000)
    assert book.horizon == (901, 2098)
    book.apply(message(bids=[["500", "9"], ["901", "0"]], asks=[["9000", "9"]]))
    assert book.horizon == (901, 9000), "a side shown completely has no hidden part"
    assert book.known_levels == (99, 100)
    assert book.bids(1000)[-1] == (500, 9)
    assert book.liquidity_x18("sell", 1000) == 99 * 2
    assert book.vwap_x18("sell", 198) > 0
    with pytest.raises(InsufficientDepth):
        book.vwap_x18("sell", 199)
    assert book.vwap_x18("buy", 99 * 2 + 9) > 0


def test_memory_is_bounded_and_the_horizon_tells() -> None:
    book = OrderBook(PRODUCT)
    book.load_snapshot([(10**9, 1)], [(10**9 + 1, 1)], 0)
    prices = list(range(1, 20_001))
    for i in range(0, len(prices), 500):
        levels = [[str(price), "1"] for price in prices[i : i + 500]]
        last, newest = str(i), str(i + 500)
        book.apply(message(bids=levels, asks=[], last_max_timestamp=last, max_timestamp=newest))
    assert len(book) == 16384 + 1
    lowest = book.bids(10**6)[-1][0]
    assert lowest == 20_000 - 16383 + 1
    assert book.horizon[0] == lowest


@pytest.mark.parametrize("side", ["b", "", None, 1, "BUY"])
def test_unknown_side(book: OrderBook, side: Any) -> None:
    with pytest.raises(ValueError, match="side"):
        book.vwap_x18(side, 1)


def test_amounts_need_a_positive_quantity(book: OrderBook) -> None:
    for qty in (0, -1):
        with pytest.raises(ValueError):
            book.vwap_x18("buy", qty)
    for call in (lambda: book.bids(-1), lambda: book.liquidity_x18("buy", -1)):
        with pytest.raises(ValueError):
            call()
    assert book.slippage_bps("buy", 3) == 0.0
    assert book.slippage_bps("buy", 7) == pytest.approx((102.0 - 101) / 101 * 1e4)
