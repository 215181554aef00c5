"""Signals against plain arithmetic; what cannot be told raises."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from statistics import median

import pytest
from clientkit import DEADLINE_S, Venue, until
from hypothesis import given
from hypothesis import strategies as st

from nadofast import Momentum, NadoBBOHandler, NadoBookDepthHandler, OrderBook, errors
from nadofast.events import NO_ASK_X18, BBOEvent

X18 = 10**18
quotes = st.tuples(
    st.integers(1, 10**6), st.integers(0, 10**6), st.integers(1, 10**4), st.integers(0, 10**6)
).map(lambda q: (q[0] * X18, q[1] * X18, (q[0] + q[2]) * X18, q[3] * X18))


def bbo(bid: int, bid_qty: int, ask: int, ask_qty: int, product_id: int = 4) -> BBOEvent:
    return BBOEvent(product_id, 1, bid, bid_qty, ask, ask_qty)


@given(st.lists(quotes, min_size=9, max_size=100))
def test_bbo_signals_are_what_they_say(seen: list[tuple[int, int, int, int]]) -> None:
    handler = NadoBBOHandler(4)
    for quote in seen:
        handler.on_bbo(bbo(*quote))
    bid, bid_qty, ask, ask_qty = seen[-1]
    assert handler.get_current_spread() == Decimal(ask - bid) / X18
    weight = bid_qty + ask_qty
    fair = Fraction(bid * ask_qty + ask * bid_qty, weight) if weight else Fraction(bid + ask, 2)
    assert abs(Fraction(handler.get_fair_value()) * X18 - fair) < 1
    spreads = [quote[2] - quote[0] for quote in seen[-64:]]
    assert handler.is_spread_widening() == (spreads[-1] > 1.5 * median(spreads[:-1]))


@pytest.mark.parametrize(
    ("last", "expected"), [(2001, Momentum.BULLISH), (1999, Momentum.BEARISH), (2000, Momentum.NEUTRAL)]
)
def test_momentum(last: int, expected: Momentum) -> None:
    handler = NadoBBOHandler(4)
    for price in [2000] * 10 + [last]:
        handler.on_bbo(bbo(price * X18, X18, (price + 2) * X18, X18))
    assert handler.detect_momentum() is expected
    assert expected == expected.value, "the plain word, for whoever compares strings"


def test_what_cannot_be_told_raises() -> None:
    handler = NadoBBOHandler(4)
    with pytest.raises(errors.NoSignal, match="no BBO"):
        handler.get_current_spread()
    handler.on_bbo(bbo(X18, X18, 2 * X18, X18, product_id=8))
    with pytest.raises(errors.NoSignal):
        handler.get_fair_value()
    handler.on_bbo(bbo(X18, X18, 2 * X18, X18))
    assert handler.get_fair_value() == Decimal("1.5")
    for tell in (handler.is_spread_widening, handler.detect_momentum):
        with pytest.raises(errors.NoSignal, match="1 of 8"):
            tell()
    handler.on_bbo(bbo(X18, X18, NO_ASK_X18, 0))
    with pytest.raises(errors.NoSignal):
        handler.get_current_spread()


def book() -> OrderBook:
    made = OrderBook(4)
    bids = [((100 - n) * X18, (n + 1) * X18) for n in range(3)]
    asks = [((101 + n) * X18, (n + 1) * X18) for n in range(2)]
    made.load_snapshot(bids, asks, 1)
    return made


def test_depth_signals() -> None:
    handler = NadoBookDepthHandler(book())
    assert handler.get_best_bid() == (100, 1)
    assert handler.get_best_ask() == (101, 1)
    assert handler.get_depth_at_level(1) == ((99, 2), (102, 2))
    with pytest.raises(errors.NoSignal, match="ask at level 2"):
        handler.get_depth_at_level(2)
    with pytest.raises(ValueError, match="negative"):
        handler.get_depth_at_level(-1)
    assert handler.get_available_liquidity("buy", 10) == 3
    assert handler.get_available_liquidity("sell", 2) == 3
    assert handler.estimate_slippage("buy", Decimal(1)) == 0
    expected = (Fraction(101 + 102, 2) - 101) / 101 * 10_000
    assert abs(float(handler.estimate_slippage("buy", Decimal(2))) - float(expected)) < 1e-6
    with pytest.raises(errors.InsufficientDepth):
        handler.estimate_slippage("buy", Decimal("3.1"))
    with pytest.raises(ValueError, match="buy or sell"):
        handler.estimate_slippage("long", Decimal(1))
    handler.book.clear()
    for read in (
        handler.get_best_bid,
        lambda: handler.get_available_liquidity("buy", 1),
        lambda: handler.level_changes(5),
    ):
        with pytest.raises(errors.BookInvalid):
            read()


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


async def test_signals_of_a_live_feed(venue: Venue) -> None:
    async with venue.feed() as feed:
        prices = NadoBBOHandler(4)
        depth = NadoBookDepthHandler(feed.book(4))
        feed.on("best_bid_offer", prices.on_bbo)
        feed.on("book_depth", depth.on_book_depth)
        await feed.wait_synced(DEADLINE_S)

        def enough() -> bool:
            try:
                prices.detect_momentum()
            except errors.NoSignal:
                return False
            return depth.updates > 3

        await until(enough, "enough BBOs")
        assert prices.get_current_spread() > 0
        assert depth.get_best_bid()[0] < depth.get_best_ask()[0]
        assert depth.get_best_bid()[0] <= prices.get_fair_value() * 2
