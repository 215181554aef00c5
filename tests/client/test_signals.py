"""Signals of BBOs against plain arithmetic; what cannot be told raises."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from statistics import mean
from typing import Any

import pytest
from clientkit import DEADLINE_S, Venue, until
from hypothesis import given
from hypothesis import strategies as st

from nadofast import Momentum, NadoBBOHandler, SpreadState, errors
from nadofast.events import NO_ASK_X18, BBOEvent, BoundaryEvent

X18 = 10**18
quotes = st.tuples(
    st.integers(1, 10**6), st.integers(0, 10**6), st.integers(1, 10**4), st.integers(0, 10**6)
).map(lambda q: (q[0] * X18, q[1] * X18, (q[0] + q[2]) * X18, q[3] * X18))


def bbo(bid: int, bid_qty: int, ask: int, ask_qty: int, product_id: int = 4) -> BBOEvent:
    return BBOEvent(product_id, 1, bid, bid_qty, ask, ask_qty)


def told(*spreads: int) -> NadoBBOHandler:
    """A handler that has seen these spreads around one price."""
    handler = NadoBBOHandler(4)
    for spread in spreads:
        handler.on_bbo(bbo(2000 * X18, X18, (2000 + spread) * X18, X18))
    return handler


@given(st.lists(quotes, min_size=10, max_size=130))
def test_bbo_signals_are_what_they_say(seen: list[tuple[int, int, int, int]]) -> None:
    handler = NadoBBOHandler(4)
    for quote in seen:
        handler.on_bbo(bbo(*quote))
    bid, bid_qty, ask, ask_qty = seen[-1]
    assert handler.get_latest_bbo() == bbo(*seen[-1])
    assert handler.get_prices() == (Decimal(bid) / X18, Decimal(ask) / X18)
    assert handler.get_current_spread() == handler.get_spread() == Decimal(ask - bid) / X18
    weight = bid_qty + ask_qty
    fair = Fraction(bid * ask_qty + ask * bid_qty, weight) if weight else Fraction(bid + ask, 2)
    assert abs(Fraction(handler.get_fair_value()) * X18 - fair) < 1
    *before, last = [Fraction(quote[2] - quote[0]) for quote in seen[-101:]]
    state = (
        SpreadState.WIDENING
        if last > Fraction(3, 2) * mean(before)
        else SpreadState.NARROWING
        if last < mean(before) / 2
        else SpreadState.STABLE
    )
    assert handler.get_spread_state() is state
    assert handler.is_spread_widening() == (state is SpreadState.WIDENING)


@pytest.mark.parametrize(
    ("last", "state"),
    [(16, "widening"), (15, "stable"), (10, "stable"), (5, "stable"), (4, "narrowing")],
)
def test_spread_thresholds(last: int, state: str) -> None:
    assert told(*[10] * 9, last).get_spread_state() == state


def test_the_mean_is_of_the_last_hundred_before() -> None:
    handler = told(*[1_000] * 50, *[10] * 100)
    for _ in range(3):
        assert handler.get_spread_state() is SpreadState.STABLE, "what is older does not weigh"
        handler.on_bbo(bbo(2000 * X18, X18, 2010 * X18, X18))
    handler.on_bbo(bbo(2000 * X18, X18, 2016 * X18, X18))
    assert handler.get_spread_state() is SpreadState.WIDENING


def test_a_spread_has_a_state_from_the_tenth_on() -> None:
    with pytest.raises(errors.NoSignal, match="9 of 10"):
        told(*[1] * 9).get_spread_state()
    assert told(*[1] * 10).get_spread_state() is SpreadState.STABLE


@pytest.mark.parametrize(
    ("bid", "ask", "expected"),
    [
        (2003, 2005, Momentum.BULLISH),
        (1997, 1999, Momentum.BEARISH),
        (2003, 2002, Momentum.NEUTRAL),  # one side alone has no direction
        (2001, 2003, Momentum.NEUTRAL),
    ],
)
def test_momentum(bid: int, ask: int, expected: Momentum) -> None:
    """More than 0.1 % of both sides within the last five."""
    handler = told(*[2] * 4)
    for momentum in (handler.detect_momentum, handler.get_momentum):
        with pytest.raises(errors.NoSignal, match="4 of 5"):
            momentum()
    handler.on_bbo(bbo(bid * X18, X18, ask * X18, X18))
    assert handler.detect_momentum() is handler.get_momentum() is expected
    assert expected == expected.value, "the plain word, for whoever compares strings"
    for _ in range(4):
        handler.on_bbo(bbo(bid * X18, X18, ask * X18, X18))
    assert handler.get_momentum() is Momentum.NEUTRAL, "what is more than five ago does not count"


def test_callbacks_get_what_can_be_told() -> None:
    handler = NadoBBOHandler(4)
    calls: list[Any] = []

    def broken(*_: Any) -> None:
        raise RuntimeError("a defect of the consumer")

    handler.register_callback(broken)
    off = handler.register_callback(lambda *args: calls.append(args))
    for _ in range(10):
        handler.on_bbo(bbo(X18, X18, 2 * X18, X18))
    off()
    off()
    handler.on_bbo(bbo(X18, X18, 2 * X18, X18))
    assert len(calls) == 10
    assert calls[0] == (bbo(X18, X18, 2 * X18, X18), None, None)
    assert calls[-1][1:] == (SpreadState.STABLE, Momentum.NEUTRAL)
    assert handler.callbacks.errors == 11


def test_what_cannot_be_told_raises() -> None:
    handler = NadoBBOHandler(4)
    with pytest.raises(errors.NoSignal, match="no BBO"):
        handler.get_current_spread()
    handler.on_bbo(bbo(X18, X18, 2 * X18, X18, product_id=8))
    with pytest.raises(errors.NoSignal):
        handler.get_fair_value()
    handler.on_bbo(bbo(X18, X18, 2 * X18, X18))
    assert handler.get_fair_value() == Decimal("1.5")
    handler.on_bbo(bbo(X18, X18, NO_ASK_X18, 0))
    for tell in (handler.get_prices, handler.get_spread_state, handler.get_momentum, handler.get_latest_bbo):
        with pytest.raises(errors.NoSignal, match="both sides"):
            tell()


def test_an_old_bbo_is_no_signal() -> None:
    now = [0]
    handler = NadoBBOHandler(4, max_age_s=5, clock_ns=lambda: now[0])
    handler.on_bbo(bbo(X18, X18, 2 * X18, X18))
    now[0] = 5 * 10**9
    handler.get_spread()
    now[0] += 10**8
    with pytest.raises(errors.NoSignal, match="s old"):
        handler.get_spread()


def test_no_signal_reaches_over_a_break() -> None:
    for what, is_break in (("link_lost", True), ("mode", True), ("spare_lost", False), ("book_valid", False)):
        handler = told(*[1] * 20)
        handler.on_boundary(BoundaryEvent(what, "test"))
        if is_break:
            with pytest.raises(errors.NoSignal):
                handler.get_latest_bbo()
            handler.on_bbo(bbo(X18, X18, 2 * X18, X18))
            assert handler.get_spread() == 1
            with pytest.raises(errors.NoSignal, match="1 of 10"):
                handler.get_spread_state()
        else:
            assert handler.get_spread_state() is SpreadState.STABLE


async def test_signals_of_a_live_feed(venue: Venue) -> None:
    async with venue.feed() as feed:
        handler = NadoBBOHandler(4)
        feed.on("best_bid_offer", handler.on_bbo)
        feed.on("boundary", handler.on_boundary)
        calls: list[Any] = []
        handler.register_callback(lambda *args: calls.append(args))
        await feed.wait_synced(DEADLINE_S)
        await until(lambda: len(calls) > 12, "enough BBOs")
        bid, ask = handler.get_prices()
        assert bid < ask
        assert bid <= handler.get_fair_value() <= ask
        assert handler.get_spread_state() in SpreadState
        assert handler.get_momentum() in Momentum
        feed.link.cut("test")
        await until(lambda: feed.stats()["losses"] == 1, "the cut is seen")
        with pytest.raises(errors.NoSignal):
            handler.get_spread()
        await until(lambda: feed.stats()["connects"] == 2 and handler._latest is not None, "told again")
        assert handler.get_spread() > 0
