"""Queues: facts complete and first, the tape bounded, state conflated, consumers isolated."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest

from nadofast import EventStream, errors
from nadofast.dispatch import EventHub
from nadofast.events import BBOEvent, BoundaryEvent, OrderUpdateEvent, TradeEvent, UnknownEvent


def bbo(product_id: int, price: int) -> BBOEvent:
    return BBOEvent(product_id, 1, price, 1, price + 1, 1)


def trade(index: int) -> TradeEvent:
    return TradeEvent(4, index, 1, 1, 1, True)


def update(index: int) -> OrderUpdateEvent:
    return OrderUpdateEvent(4, index, "0x", 1, "placed")


async def drain(stream: EventStream) -> list[Any]:
    stream.close()
    return [event async for event in stream]


async def test_facts_come_first_and_state_is_the_newest() -> None:
    hub = EventHub()
    stream = hub.events(["best_bid_offer", "trade", "order_update", "boundary"])
    for step in range(5):
        hub.publish(bbo(4, step))
        hub.publish(bbo(8, step))
    hub.publish(trade(1))
    hub.publish(update(1))
    hub.publish(BoundaryEvent("link_lost", "cut"))
    hub.publish(update(2))
    events = await drain(stream)
    assert events == [
        update(1),
        BoundaryEvent("link_lost", "cut"),
        update(2),
        trade(1),
        bbo(4, 4),
        bbo(8, 4),
    ]


async def test_account_events_overflow_loudly() -> None:
    hub = EventHub()
    stream = hub.events(["order_update"], max_facts=3)
    for index in range(5):
        hub.publish(update(index))
    assert [await anext(stream) for _ in range(3)] == [update(0), update(1), update(2)]
    with pytest.raises(errors.EventOverflow, match="3"):
        await anext(stream)
    with pytest.raises(errors.EventOverflow):
        await anext(stream)


async def test_the_tape_keeps_the_newest_and_counts_the_rest() -> None:
    stream = EventStream(frozenset({"trade"}), max_tape=3)
    for index in range(5):
        stream.put("trade", trade(index))
    assert stream.dropped == 2
    assert await drain(stream) == [trade(2), trade(3), trade(4)]


async def test_a_reader_waits_and_the_end_ends_it() -> None:
    hub = EventHub()
    stream = hub.events(["trade"])
    reading = asyncio.ensure_future(anext(stream))
    await asyncio.sleep(0)
    hub.publish(trade(7))
    assert await reading == trade(7)
    ending = asyncio.ensure_future(anext(stream))
    await asyncio.sleep(0)
    hub.close()
    with pytest.raises(StopAsyncIteration):
        await ending


async def test_a_forgotten_queue_costs_nothing() -> None:
    hub = EventHub()
    stream = hub.events(["trade"])
    assert hub.has_readers("trade")
    del stream
    gc.collect()
    assert not hub.has_readers("trade")


async def test_consumers_do_not_disturb_each_other(caplog: pytest.LogCaptureFixture) -> None:
    hub = EventHub()
    seen: list[Any] = []

    def broken(_: Any) -> None:
        raise RuntimeError("a defect of the consumer")

    hub.on("trade", broken)
    off = hub.on("trade", seen.append)
    slow, fast = hub.events(["trade"]), hub.events(["trade"])
    hub.publish(trade(1))
    assert await anext(fast) == trade(1)
    assert len(slow) == 1
    off()
    off()
    hub.publish(trade(2))
    assert seen == [trade(1)]
    assert hub.callback_errors == 2
    assert "a defect of the consumer" in caplog.text


async def test_kinds_are_checked_and_unknown_events_have_one() -> None:
    hub = EventHub()
    with pytest.raises(ValueError, match="unknown event kind"):
        hub.events(["fills"])
    seen: list[Any] = []
    hub.on("unknown", seen.append)
    hub.publish(UnknownEvent("novelty", b"{}"))
    assert len(seen) == 1
