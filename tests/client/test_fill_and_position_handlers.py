"""Fills by order and the last word on positions: exact sums, nothing twice, nothing made up."""

from __future__ import annotations

import random
from collections import defaultdict
from dataclasses import replace
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from clientkit import DEADLINE_S, Venue, until
from eventkit import X18, fill, position, update
from hypothesis import given
from hypothesis import strategies as st
from test_typed_events import take

from nadofast import NadoOrderFillHandler, NadoPositionHandler, errors, events
from nadofast.events import OrderFillEvent, PositionUpdateEvent
from nadofast.fallback import REST_REASON

S = 10**9


def test_the_events_have_their_historical_names() -> None:
    assert OrderFillEvent is events.FillEvent
    assert PositionUpdateEvent is events.PositionChangeEvent


# ---------------------------------------------------------------------------- fills


def test_a_fill_is_told_with_the_sums_of_its_order() -> None:
    seen: list[Any] = []
    handler = NadoOrderFillHandler(seen.append)
    handler.on_order_fill(fill(1, qty_x18=X18, left_x18=2 * X18, original_x18=3 * X18, fee_x18=5))
    handler.on_order_fill(
        fill(2, qty_x18=2 * X18, original_x18=3 * X18, price_x18=103 * X18, is_bid=True, fee_x18=-7)
    )
    first, last = seen
    assert (first.side, first.size, first.price, first.remaining_size) == ("buy", 1, 100, 2)
    assert not first.is_complete
    assert last.is_complete
    assert (last.size, last.filled_size, last.average_price) == (2, 3, 102)
    assert (last.fee, last.fees) == (Decimal(-7) / X18, Decimal(-2) / X18)
    assert (last.order_id, last.product_id, last.is_taker, last.timestamp_ns) == ("0xaa", 4, True, 2)
    sold = NadoOrderFillHandler()
    sold.on_order_fill(fill(1, is_bid=False))
    assert sold.extract_fill_details(fill(1, is_bid=False)).side == "sell"
    with pytest.raises(KeyError):
        sold.extract_fill_details(fill(2, "0xbb"))


fills = st.lists(
    st.tuples(st.sampled_from(["0xa", "0xb", "0xc"]), st.integers(1, 10**30), st.integers(1, 10**24)),
    max_size=30,
)


@given(fills, st.randoms(use_true_random=False))
def test_sums_are_exact_in_any_order_and_nothing_counts_twice(
    told: list[tuple[str, int, int]], rng: random.Random
) -> None:
    made = [fill(n, digest, qty_x18=qty, price_x18=price) for n, (digest, qty, price) in enumerate(told)]
    handler = NadoOrderFillHandler()
    again = made + made[::2]
    rng.shuffle(again)
    for event in again:
        handler.on_order_fill(event)
    assert (handler.fills, handler.duplicates) == (len(made), len(again) - len(made))
    by_order: dict[str, list[Any]] = defaultdict(list)
    for event in made:
        by_order[event.order_digest].append(event)
    for digest, mine in by_order.items():
        info = handler.get_fill_info(digest)
        total = sum(event.filled_qty_x18 for event in mine)
        assert Fraction(info.filled_size) * X18 == total
        exact = Fraction(sum(e.filled_qty_x18 * e.price_x18 for e in mine), total)
        assert info.average_price is not None
        assert 0 <= exact - Fraction(info.average_price) * X18 < 1


def test_orders_are_pending_complete_or_timed_out() -> None:
    now = [0]
    handler = NadoOrderFillHandler(timeout_s=30, clock_ns=lambda: now[0])
    for ask in (handler.is_pending, handler.is_timed_out, handler.get_fill_info):
        with pytest.raises(KeyError):
            ask("0x1")
    handler.track_order("0X1", Decimal(2))
    handler.track_order("0x2")
    handler.track_order("0x3")
    assert handler.is_pending("0x1")
    info = handler.get_fill_info("0x1")
    assert (info.filled_size, info.average_price, info.remaining_size) == (0, None, 2)
    assert not info.is_complete
    assert handler.get_fill_info("0x2").remaining_size is None, "nobody has said how much"
    handler.on_order_fill(fill(1, "0x1", qty_x18=X18, left_x18=X18, original_x18=2 * X18))
    handler.on_order_fill(fill(2, "0x1", qty_x18=X18, left_x18=0, original_x18=2 * X18))
    handler.on_order_update(update(1, "0x2", "filled", 5))
    handler.on_order_update(update(2, "0x2", "cancelled", 0))
    handler.on_order_update(update(3, "0x9", "cancelled", 0))
    assert [handler.is_pending(order) for order in ("0x1", "0x2", "0x3")] == [False, False, True]
    now[0] = 30 * S
    assert not handler.is_timed_out("0x3")
    now[0] += 1
    assert [handler.is_timed_out(order) for order in ("0x1", "0x2", "0x3")] == [False, False, True]
    assert handler.cleanup_timeouts() == ["0x3"]
    assert handler.clear_completed() == ["0x1", "0x2"]
    with pytest.raises(KeyError):
        handler.get_fill_info("0x1")


def test_memory_is_bounded_and_completed_orders_go_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nadofast.fills.MAX_KEYS", 4)
    handler = NadoOrderFillHandler(max_orders=2)
    handler.track_order("0x1")
    handler.on_order_fill(fill(1, "0x2"))
    handler.track_order("0x3")
    assert handler.is_pending("0x1")
    with pytest.raises(KeyError):
        handler.is_pending("0x2")
    handler.track_order("0x4")
    with pytest.raises(KeyError):
        handler.is_pending("0x1")
    for index in range(2, 20):
        handler.on_order_fill(fill(index, "0x4"))
    assert len(handler._keys) == 4


def test_fill_callbacks_fail_alone() -> None:
    seen: list[Any] = []

    def broken(_: Any) -> None:
        raise RuntimeError("a defect of the consumer")

    handler = NadoOrderFillHandler(broken)
    off = handler.register_callback(seen.append)
    handler.on_order_fill(fill(1))
    off()
    handler.on_order_fill(fill(2))
    assert len(seen) == 1
    assert handler.callbacks.errors == 2


# ---------------------------------------------------------------------------- positions


def test_a_position_has_a_side_and_a_result_at_the_mark() -> None:
    mark: list[int | None] = [101 * X18]
    handler = NadoPositionHandler(mark_x18=lambda _: mark[0])
    for amount, v_quote, side, pnl in ((2, -200, "long", 2), (-2, 203, "short", 1), (0, 5, "flat", 5)):
        details = handler.extract_position_details(position(1, amount * X18, v_quote * X18))
        assert (details.side, details.size, details.unrealized_pnl) == (side, abs(amount), pnl)
    smallest = handler.extract_position_details(position(1, 1, -102))
    assert smallest.unrealized_pnl == Decimal(-1) / X18, "never better than it is"
    mark[0] = None
    assert handler.extract_position_details(position(1)).unrealized_pnl is None
    assert NadoPositionHandler().extract_position_details(position(1)).unrealized_pnl is None


def test_positions_never_go_backwards_and_none_is_not_flat() -> None:
    seen: list[Any] = []
    handler = NadoPositionHandler(lambda before, now: seen.append((before, now)))
    with pytest.raises(errors.NoSignal):
        handler.get_current_position(4)
    handler.on_position_update(position(2, X18))
    handler.on_position_update(position(2, X18))
    handler.on_position_update(position(1, 7 * X18))
    handler.on_position_update(position(3, -X18))
    assert handler.get_current_position(4).side == "short"
    with pytest.raises(errors.NoSignal):
        handler.get_current_position(4, isolated=True)
    assert (handler.updates, handler.outdated) == (2, 2)
    assert seen[0][0] is None
    assert [(before.size, now.side) for before, now in seen[1:]] == [(1, "short")]
    assert [details.timestamp_ns for details in handler.get_position_history()] == [2, 3]
    assert handler.get_position_history(8) == []
    off = handler.register_callback(lambda *_: seen.append("other"))
    off()
    handler.on_position_update(position(4))
    assert "other" not in seen


def test_what_rest_says_of_a_position_is_not_compared_by_time() -> None:
    """Its time is an estimate, or 0 without the exchange's clock; it comes after what it corrects."""
    handler = NadoPositionHandler()
    handler.on_position_update(position(1_000, X18))
    handler.on_position_update(replace(position(0, 2 * X18), reason=REST_REASON))
    assert handler.get_current_position(4).size == 2
    ahead = replace(position(9_000, 3 * X18), reason=REST_REASON)
    handler.on_position_update(ahead)
    handler.on_position_update(ahead)
    handler.on_position_update(position(1_001, 4 * X18))
    assert handler.get_current_position(4).size == 4
    handler.on_position_update(position(1_000, 5 * X18))
    assert (handler.updates, handler.outdated) == (4, 2)


def test_what_the_stream_said_before_a_word_of_rest_does_not_come_back() -> None:
    handler = NadoPositionHandler()
    handler.on_position_update(position(1_000, X18))
    handler.on_position_update(replace(position(0, 2 * X18), reason=REST_REASON))
    for late in (position(1_000, X18), position(999, 5 * X18)):
        handler.on_position_update(late)
        assert handler.get_current_position(4).size == 2
    handler.on_position_update(position(1_001, 3 * X18))
    assert handler.get_current_position(4).size == 3
    assert (handler.updates, handler.outdated) == (3, 2)


async def test_handlers_on_a_live_feed_agree_with_the_exchange(venue: Venue) -> None:
    async with venue.feed(rest=venue.rest) as feed, venue.gateway() as gateway:
        fills = NadoOrderFillHandler()
        positions = NadoPositionHandler(mark_x18=lambda product_id: feed.bbo(product_id).mid_x18)
        feed.on("fill", fills.on_order_fill)
        feed.on("order_update", fills.on_order_update)
        feed.on("position_change", positions.on_position_update)
        await feed.wait_synced(DEADLINE_S)
        for side in (1, 1, -1):
            await take(venue, gateway, side)
        await until(lambda: positions.updates >= 3 and fills.fills >= 3, "told")
        truth = await venue.rest.subaccount_info(venue.subaccount)
        held = positions.get_current_position(4)
        assert held.size == Decimal(truth.perp[4].amount_x18) / X18
        assert held.v_quote == Decimal(truth.perp[4].v_quote_x18) / X18
        assert held.unrealized_pnl is not None
        state = await venue.state()
        digests = {row["digest"] for row in state["fills"] if row["subaccount"] == venue.subaccount}
        assert len(digests) == 3
        for digest in digests:
            assert not fills.is_pending(digest)
            assert fills.get_fill_info(digest).filled_size == Decimal("0.1")
        assert sorted(fills.clear_completed()) == sorted(digests)
