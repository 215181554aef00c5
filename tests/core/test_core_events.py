"""What the core tells as events: each once and in order, and what it does not know counted."""

from __future__ import annotations

from typing import Any

import pytest
from corekit import PRODUCT, Recorder, bbo, depth, samples
from samples import compact, stream_events

from nadofast import _feed
from nadofast.events import LiquidationEvent, TradeEvent, UnknownEvent


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
