"""Signals of a book against plain arithmetic, within what is known of it."""

from __future__ import annotations

import json
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from clientkit import DEADLINE_S, Venue, until
from hypothesis import given
from hypothesis import strategies as st

from nadofast import NadoBookDepthHandler, OrderBook, errors

X18 = 10**18


def book() -> OrderBook:
    made = OrderBook(4)
    bids = [((100 - n) * X18, (n + 1) * X18) for n in range(3)]
    asks = [((101 + n) * X18, (n + 1) * X18) for n in range(2)]
    made.load_snapshot(bids, asks, 1)
    return made


def test_levels_and_liquidity() -> None:
    handler = NadoBookDepthHandler(book())
    assert handler.get_best_bid() == (100, 1)
    assert handler.get_best_ask() == (101, 1)
    assert handler.get_depth_at_level(1) == ((99, 2), (102, 2))
    assert handler.get_depth_at_level(2, "bid") == (98, 3)
    with pytest.raises(errors.NoSignal, match="ask at level 2"):
        handler.get_depth_at_level(2)
    with pytest.raises(ValueError, match="negative"):
        handler.get_depth_at_level(-1)
    with pytest.raises(ValueError, match="bid or ask"):
        handler.get_depth_at_level(0, "buy")  # type: ignore[call-overload]
    assert handler.get_available_liquidity("buy") == 3
    assert handler.get_available_liquidity("sell", 2) == 3
    assert handler.estimate_slippage("buy", Decimal(1)) == 0
    expected = (Fraction(101 + 102, 2) - 101) / 101 * 10_000
    assert abs(float(handler.estimate_slippage("buy", Decimal(2))) - float(expected)) < 1e-6
    with pytest.raises(errors.InsufficientDepth):
        handler.estimate_slippage("buy", Decimal("3.1"))
    with pytest.raises(ValueError, match="buy or sell"):
        handler.estimate_slippage("long", Decimal(1))


def test_an_invalid_book_says_nothing() -> None:
    handler = NadoBookDepthHandler(book())
    handler.book.clear()
    for read in (
        handler.get_best_bid,
        handler.get_order_book_summary,
        lambda: handler.get_available_liquidity("buy", 1),
        lambda: handler.estimate_exit_capacity(Decimal(1)),
        lambda: handler.level_changes(5),
    ):
        with pytest.raises(errors.BookInvalid):
            read()


def test_a_side_without_levels_is_no_signal() -> None:
    made = OrderBook(4)
    made.load_snapshot([(X18, X18)], [], 1)
    handler = NadoBookDepthHandler(made)
    assert handler.get_best_bid() == (1, 1)
    for read in (
        handler.get_best_ask,
        handler.get_order_book_summary,
        lambda: handler.estimate_exit_capacity(Decimal(-1)),
    ):
        with pytest.raises(errors.NoSignal):
            read()


def test_the_summary() -> None:
    summary = NadoBookDepthHandler(book()).get_order_book_summary(2)
    assert summary.bids == ((100, 1), (99, 2))
    assert summary.asks == ((101, 1), (102, 2))
    assert (summary.mid, summary.spread) == (Decimal("100.5"), 1)
    assert summary.spread_bps == pytest.approx(1 / 100.5 * 10_000)
    assert (summary.bid_liquidity, summary.ask_liquidity, summary.imbalance) == (3, 3, 0)
    assert summary.known_levels == (3, 2)
    assert (summary.product_id, summary.timestamp_ns) == (4, 1)
    with pytest.raises(ValueError, match="at least 1"):
        NadoBookDepthHandler(book()).get_order_book_summary(0)


def test_exit_capacity() -> None:
    handler = NadoBookDepthHandler(book())
    assert handler.estimate_exit_capacity(Decimal(0)) == (True, 0)
    assert handler.estimate_exit_capacity(Decimal(1), 0) == (True, 1)
    can_exit, quantity = handler.estimate_exit_capacity(Decimal(3), 20)
    assert not can_exit
    assert 1 < quantity < 3
    assert handler.estimate_exit_capacity(Decimal(3), 100) == (True, 3)
    with pytest.raises(errors.InsufficientDepth) as caught:
        handler.estimate_exit_capacity(Decimal(-50), 1_000)
    assert caught.value.visible_x18 == 3 * X18
    with pytest.raises(ValueError, match="negative"):
        handler.estimate_exit_capacity(Decimal(1), -1)


levels = st.lists(st.tuples(st.integers(1, 40), st.integers(1, 50)), min_size=1, max_size=12)


@given(levels, st.integers(1, 400), st.booleans(), st.integers(0, 500))
def test_exit_capacity_is_exact(
    steps: list[tuple[int, int]], amount: int, is_long: bool, bound_bps: int
) -> None:
    """What fits costs no more than the bound on average, and one unit in 1e18 more would."""
    price, side = 5_000, []
    for step, qty in steps:
        side.append((price * X18, qty * X18))
        price += -step if is_long else step
    made = OrderBook(4)
    other = [(6_000 * X18, X18)] if is_long else [(4_000 * X18, X18)]
    made.load_snapshot(side if is_long else other, other if is_long else side, 1)
    handler = NadoBookDepthHandler(made)
    position = Decimal(amount if is_long else -amount)

    def slippage_bps(qty_x18: int) -> Fraction:
        left, value = qty_x18, 0
        for level_price, qty in side:
            taken = min(left, qty)
            value += taken * level_price
            left -= taken
        assert left == 0
        return abs(Fraction(value, qty_x18) / (5_000 * X18) - 1) * 10_000

    total = sum(qty for _, qty in side)
    try:
        can_exit, quantity = handler.estimate_exit_capacity(position, bound_bps)
    except errors.InsufficientDepth:
        assert total < amount * X18
        assert slippage_bps(total) <= bound_bps, "the known book ends before the bound"
        return
    fits = int(quantity * X18)
    assert can_exit == (fits == amount * X18)
    assert slippage_bps(fits) <= bound_bps
    if not can_exit:
        assert fits + 1 > total or slippage_bps(fits + 1) > bound_bps


def test_raw_deltas_keep_a_local_book() -> None:
    handler = NadoBookDepthHandler(book())

    def delta(last: int, now: int, **sides: Any) -> bytes:
        body = {
            "type": "book_depth", "last_max_timestamp": str(last), "min_timestamp": str(now),
            "max_timestamp": str(now), "product_id": 4, "bids": [], "asks": [],
        }  # fmt: skip
        return json.dumps(body | sides).encode()

    handler.on_book_depth(delta(1, 2, bids=[[str(100 * X18), "0"]], asks=[[str(101 * X18), str(7 * X18)]]))
    assert (handler.get_best_bid(), handler.get_best_ask()) == ((99, 2), (101, 7))
    handler.on_book_depth(delta(2, 3))
    with pytest.raises(errors.SequenceGap):
        handler.on_book_depth(delta(9, 10))
    with pytest.raises(errors.BookInvalid):
        handler.get_best_bid()
    assert handler.updates == 2


def test_level_changes_leave_our_own_size_out() -> None:
    handler = NadoBookDepthHandler(book())
    handler.level_changes(5)
    assert handler.level_changes(5) == {}
    handler.book.load_snapshot([(100 * X18, 4 * X18)], [(101 * X18, X18), (102 * X18, 2 * X18)], 2)
    own = {("bid", 100 * X18): 2 * X18}
    changed = handler.level_changes(5, own)
    assert changed == {
        ("bid", 100 * X18): X18,
        ("bid", 99 * X18): -2 * X18,
        ("bid", 98 * X18): -3 * X18,
    }


def test_a_level_that_only_comes_into_view_is_no_change() -> None:
    """The best price moves, and with it the edge of what the best levels are."""
    handler = NadoBookDepthHandler(book())
    with pytest.raises(ValueError, match="at least 1"):
        handler.level_changes(0)
    handler.level_changes(2)  # bids 100, 99; asks 101, 102
    asks = [(101 * X18, X18), (102 * X18, 2 * X18)]
    handler.book.load_snapshot([(99 * X18, 2 * X18), (98 * X18, 3 * X18)], asks, 2)
    assert handler.level_changes(2) == {("bid", 100 * X18): -X18}
    handler.book.load_snapshot([(100 * X18, X18), (99 * X18, 2 * X18), (98 * X18, X18)], asks[1:], 3)
    assert handler.level_changes(2) == {("bid", 100 * X18): X18, ("ask", 101 * X18): -X18}
    handler.book.load_snapshot([(99 * X18, 2 * X18)], [(100 * X18, X18), *asks], 4)
    assert handler.level_changes(2) == {
        ("bid", 100 * X18): -X18,
        ("ask", 100 * X18): X18,
        ("ask", 101 * X18): X18,
    }


async def test_signals_of_a_live_book(venue: Venue) -> None:
    async with venue.feed() as feed:
        handler = NadoBookDepthHandler(feed.book(4))
        feed.on("book_depth", handler.on_book_depth)
        await feed.wait_synced(DEADLINE_S)
        await until(lambda: handler.updates > 3, "depth flows")
        summary = handler.get_order_book_summary()
        assert summary.bids[0] == handler.get_best_bid()
        assert summary.asks[0] == handler.get_best_ask()
        assert summary.spread > 0
        assert handler.get_available_liquidity("buy") >= summary.ask_liquidity
        top = handler.get_best_bid()[1]
        assert handler.estimate_exit_capacity(top) == (True, top)
        with pytest.raises(errors.InsufficientDepth):
            handler.estimate_exit_capacity(Decimal(10**9), 10**4)
