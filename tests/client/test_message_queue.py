"""Queues: facts complete and first, the tape bounded, state conflated; nobody loses a fact unawares."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from eventkit import bbo, fill, position, trade, update
from hypothesis import given
from hypothesis import strategies as st

from nadofast import NadoMessageQueue, Priority, QueueLimits, errors
from nadofast.events import (
    AllBBOEvent,
    BoundaryEvent,
    FillEvent,
    FundingPaymentEvent,
    LiquidationEvent,
)
from nadofast.gap import Gap
from nadofast.kinds import kind_of

ACCOUNT = frozenset({"fill", "order_update", "position_change", "boundary"})


def put(queue: NadoMessageQueue, *events: Any) -> None:
    for event in events:
        queue.put(kind_of(event), event)


async def drain(queue: NadoMessageQueue) -> list[Any]:
    queue.close()
    return [event async for event in queue]


class Archive:
    """Stands where the exchange's archive does: knows fills, perhaps not all of them yet."""

    def __init__(self) -> None:
        self.fills: list[FillEvent] = []
        self.asked: list[list[int]] = []
        self.is_over = False
        self.meanwhile: Callable[[], None] = lambda: None

    async def read(self, gap: Gap) -> None:
        self.asked.append(sorted(index for _, index in gap.missing))
        await asyncio.sleep(0)
        self.meanwhile()
        for known in self.fills:
            gap.take(known)
        if gap.missing:
            raise errors.EventOverflow(
                "the archive lags", lost=gap.events, retryable=not self.is_over, missing=tuple(gap.missing)
            )


# ---------------------------------------------------------------------------- priorities


async def test_facts_come_first_and_state_is_the_newest() -> None:
    queue = NadoMessageQueue()
    for step in range(5):
        put(queue, bbo(4, step), bbo(8, step))
    lost = BoundaryEvent("link_lost", "cut")
    put(queue, trade(1), update(1), lost, update(2))
    assert queue.get_queue_size() == len(queue) == 6
    assert await drain(queue) == [update(1), lost, update(2), trade(1), bbo(4, 4), bbo(8, 4)]
    assert queue.stats().conflated == 8


async def test_a_batch_holds_what_there_is() -> None:
    queue = NadoMessageQueue()
    put(queue, trade(1), trade(2), update(1))
    assert await queue.process_batch(2) == [update(1), trade(1)]
    assert await queue.process_batch(9) == [trade(2)]
    waiting = asyncio.ensure_future(queue.process_batch(3))
    await asyncio.sleep(0)
    put(queue, update(2), update(3))
    assert await waiting == [update(2), update(3)]
    queue.close()
    assert await queue.process_batch(3) == []
    with pytest.raises(ValueError, match="at least 1"):
        await queue.process_batch(0)


async def test_a_reader_waits_and_the_end_ends_it() -> None:
    queue = NadoMessageQueue()
    reading = asyncio.ensure_future(queue.dequeue())
    await asyncio.sleep(0)
    put(queue, trade(7))
    assert await reading == trade(7)
    ending = asyncio.ensure_future(anext(queue))
    await asyncio.sleep(0)
    queue.close()
    put(queue, trade(8))
    with pytest.raises(StopAsyncIteration):
        await ending


async def test_parts_of_all_bbos_are_put_together() -> None:
    queue = NadoMessageQueue()
    put(queue, AllBBOEvent(1, {4: (1, 2), 8: (3, 4)}), AllBBOEvent(2, {8: (5, 6)}))
    assert await drain(queue) == [AllBBOEvent(2, {4: (1, 2), 8: (5, 6)})]


async def test_the_tape_keeps_the_newest_and_counts_the_rest() -> None:
    queue = NadoMessageQueue(frozenset({"trade"}), QueueLimits(max_tape=3))
    put(queue, *(trade(index) for index in range(5)))
    assert queue.stats().dropped == 2
    assert await drain(queue) == [trade(2), trade(3), trade(4)]


async def test_an_old_tape_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = stopped_clock(monkeypatch)
    queue = NadoMessageQueue(frozenset({"trade"}), QueueLimits(tape_age_s=10))
    put(queue, trade(1), trade(2))
    clock[0] += 11 * 10**9
    put(queue, trade(3))
    assert len(queue) == 1
    assert queue.stats().oldest_ms == 0
    clock[0] += 11 * 10**9
    queue.close()
    assert await queue.process_batch(5) == [], "what is old by the time it is read goes too"
    assert queue.stats().dropped == 3


def stopped_clock(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    now = [10**12]
    monkeypatch.setattr("nadofast.messagequeue.time.monotonic_ns", lambda: now[0])
    return now


# ---------------------------------------------------------------------------- sources that wait


async def test_a_source_that_can_wait_waits_for_room() -> None:
    queue = NadoMessageQueue(limits=QueueLimits(max_facts=1, max_tape=1))
    await queue.enqueue(update(1))
    await queue.enqueue(trade(1))
    for message in (update(2), trade(2)):
        with pytest.raises(errors.EventOverflow, match="no room") as caught:
            await queue.enqueue(message, timeout_s=0.01)
        assert caught.value.retryable
    for price in range(3):
        await queue.enqueue(bbo(4, price))  # state always has room
    waiting = asyncio.ensure_future(queue.enqueue(update(2)))
    await asyncio.sleep(0)
    assert await queue.dequeue() == update(1)
    await waiting
    assert await drain(queue) == [update(2), trade(1), bbo(4, 2)]


async def test_a_priority_can_be_asked_for() -> None:
    queue = NadoMessageQueue()
    await queue.enqueue(trade(1))
    await queue.enqueue(trade(2), Priority.ACCOUNT)
    await queue.enqueue(trade(3), Priority.STATE)
    assert await drain(queue) == [trade(2), trade(1), trade(3)]


async def test_what_a_queue_is_not_for_is_refused() -> None:
    queue = NadoMessageQueue(frozenset({"trade"}))
    with pytest.raises(ValueError, match="does not take"):
        await queue.enqueue(update(1))
    queue.close()
    with pytest.raises(RuntimeError, match="closed"):
        await queue.enqueue(trade(1))


# ---------------------------------------------------------------------------- readers that fall behind


async def test_without_an_archive_lost_fills_are_said_once_and_reading_goes_on() -> None:
    overflows: list[int] = []
    queue = NadoMessageQueue(ACCOUNT, QueueLimits(max_facts=3), on_overflow=lambda: overflows.append(1))
    put(queue, *(fill(index) for index in range(5)))
    assert overflows == [1], "told once, at the first that found no room"
    assert [await anext(queue) for _ in range(3)] == [fill(0), fill(1), fill(2)]
    with pytest.raises(errors.EventOverflow, match="more than 3 waited") as caught:
        await anext(queue)
    assert (caught.value.lost, caught.value.retryable) == (2, False)
    put(queue, *(fill(index) for index in range(5, 9)))
    assert [await anext(queue) for _ in range(3)] == [fill(5), fill(6), fill(7)]
    queue.close()
    with pytest.raises(errors.EventOverflow):
        await anext(queue)
    with pytest.raises(StopAsyncIteration):
        await anext(queue)


async def test_missed_fills_come_from_the_archive_in_their_place() -> None:
    archive = Archive()
    queue = NadoMessageQueue(ACCOUNT, QueueLimits(max_facts=2), recover=archive.read)
    put(queue, fill(10), update(10, "0x10"))
    put(queue, fill(11), update(11, "0x11"), update(12, "0x12"), update(13, "0x11", "cancelled", 0))
    put(queue, fill(9), position(1, 5), position(2, 7), BoundaryEvent("link_lost", "cut"))
    archive.fills = [fill(11), fill(10), fill(9)]
    assert await queue.dequeue() == fill(10)
    assert await queue.dequeue() == update(10, "0x10")
    archive.meanwhile = lambda: put(queue, fill(14))
    lost = await queue.dequeue()
    archive.meanwhile = lambda: None
    assert (lost.what, lost.product_id) == ("events_lost", None)
    queue.close()
    assert [event async for event in queue] == [
        fill(9),
        fill(11),
        update(12, "0x12"),
        update(13, "0x11", "cancelled", 0),
        position(2, 7),
        BoundaryEvent("link_lost", "cut"),
        fill(14),
    ]
    assert archive.asked == [[9, 11]], "the one the reader has had is not among those that are missed"
    stats = queue.stats()
    assert (stats.overflows, stats.lost, stats.recovered) == (1, 8, 8)


async def test_a_lagging_archive_is_asked_again_by_the_next_read() -> None:
    archive = Archive()
    queue = NadoMessageQueue(frozenset({"fill"}), QueueLimits(max_facts=1), recover=archive.read)
    put(queue, fill(1), fill(2))
    assert await queue.dequeue() == fill(1)
    with pytest.raises(errors.EventOverflow, match="lags"):
        await queue.dequeue()
    put(queue, fill(3))
    archive.fills = [fill(1), fill(2), fill(3)]
    assert [await queue.dequeue(), await queue.dequeue()] == [fill(2), fill(3)]
    assert len(archive.asked) == 2


async def test_a_reader_that_is_cancelled_while_it_catches_up_loses_nothing() -> None:
    archive = Archive()
    archive.fills = [fill(1), fill(2)]
    queue = NadoMessageQueue(frozenset({"fill"}), QueueLimits(max_facts=1), recover=archive.read)
    put(queue, fill(1), fill(2))
    assert await queue.dequeue() == fill(1)
    reading = asyncio.ensure_future(queue.dequeue())
    await asyncio.sleep(0)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert await queue.dequeue() == fill(2)


async def test_a_fact_that_waits_too_long_is_an_overflow(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = stopped_clock(monkeypatch)
    queue = NadoMessageQueue(ACCOUNT, QueueLimits(fact_age_s=10))
    put(queue, update(1, "0x1"))
    clock[0] += 11 * 10**9
    assert queue.stats().oldest_ms == 11_000
    put(queue, update(2, "0x2"), update(3, "0x2"))
    assert queue.stats().overflows == 1
    events = await drain(queue)
    assert [getattr(event, "what", event) for event in events] == [
        update(1, "0x1"),
        "events_lost",
        update(3, "0x2"),
    ]


async def test_funding_is_cumulative_so_its_newest_word_is_enough() -> None:
    queue = NadoMessageQueue(frozenset({"funding_payment"}), QueueLimits(max_facts=1))
    payments = [FundingPaymentEvent(4, index, index, 1, index, index) for index in range(3)]
    put(queue, *payments)
    assert await drain(queue) == [payments[0], payments[2]]


async def test_facts_without_a_newest_word_are_not_pretended_to_be_found() -> None:
    queue = NadoMessageQueue(limits=QueueLimits(max_facts=1))
    liquidation = LiquidationEvent((4,), 1, "0x1", "0x2", 1, 1)
    for _ in range(2):
        queue.put("liquidation", liquidation, Priority.ACCOUNT)
    assert await queue.dequeue() == liquidation
    with pytest.raises(errors.EventOverflow):
        await queue.dequeue()


async def test_a_gap_is_bounded_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nadofast.gap.MAX_SUBJECTS", 5)
    queue = NadoMessageQueue(ACCOUNT, QueueLimits(max_facts=1))
    put(queue, *(update(index, f"0x{index}") for index in range(9)))
    assert await queue.dequeue() == update(0, "0x0")
    with pytest.raises(errors.EventOverflow) as caught:
        await queue.dequeue()
    assert caught.value.lost == 8


async def test_a_gap_knows_its_fills_however_many_the_reader_had_between_them() -> None:
    """A late one and a new one find no room; the archive shows 20,000 between them that were told."""
    archive = Archive()
    queue = NadoMessageQueue(frozenset({"fill"}), QueueLimits(max_facts=20_000), recover=archive.read)
    told = [fill(index) for index in range(1, 20_001)]
    put(queue, *told, fill(0), fill(20_001))
    archive.fills = [fill(0), *told, fill(20_001)]
    assert [await queue.dequeue() for _ in told] == told
    assert [await queue.dequeue(), await queue.dequeue()] == [fill(0), fill(20_001)]
    assert len(queue) == 0


async def test_fills_that_nobody_finds_are_given_up_and_the_rest_is_told() -> None:
    archive, overflows = Archive(), []
    queue = NadoMessageQueue(
        ACCOUNT, QueueLimits(max_facts=1), recover=archive.read, on_overflow=lambda: overflows.append(1)
    )
    put(queue, fill(1), fill(2), fill(3), update(3, "0x3"), fill(4))
    archive.fills = [fill(2), fill(4)]
    assert await queue.dequeue() == fill(1)
    with pytest.raises(errors.EventOverflow) as caught:
        await queue.dequeue()
    assert (caught.value.retryable, overflows) == (True, [1])
    archive.is_over = True
    with pytest.raises(errors.EventOverflow) as caught:
        await queue.dequeue()
    assert (caught.value.retryable, caught.value.missing) == (False, (fill(3).key,))
    assert overflows == [1, 1], "the account is compared with the exchange once more"
    lost, *others = await queue.process_batch(9)
    assert (lost.what, others) == ("events_lost", [fill(2), fill(4), update(3, "0x3")])
    assert "without what cannot be found" in lost.reason
    assert (queue.stats().lost, queue.stats().recovered) == (4, 3)
    put(queue, fill(5))
    assert await drain(queue) == [fill(5)]


async def test_a_full_gap_still_takes_newer_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nadofast.gap.MAX_SUBJECTS", 1)
    queue = NadoMessageQueue(frozenset({"order_update"}), QueueLimits(max_facts=1))
    put(queue, update(1, "0x1"), update(2, "0x2"), update(3, "0x3"), update(4, "0x2"))
    assert await queue.dequeue() == update(1, "0x1")
    with pytest.raises(errors.EventOverflow):
        await queue.dequeue()
    assert await drain(queue) == [update(4, "0x2")]


async def test_a_batch_does_not_reach_over_a_gap() -> None:
    queue = NadoMessageQueue(ACCOUNT, QueueLimits(max_facts=1))
    put(queue, update(1, "0x1"), update(2, "0x2"))
    assert await queue.process_batch(9) == [update(1, "0x1")]
    lost, after = await queue.process_batch(9)
    assert (lost.what, after) == ("events_lost", update(2, "0x2"))


steps = st.lists(
    st.one_of(
        st.tuples(st.just("fill"), st.integers(0, 30)),
        st.tuples(st.just("update"), st.integers(0, 3)),
        st.tuples(st.just("position"), st.integers(0, 9)),
        st.tuples(st.just("trade"), st.integers(0, 9)),
        st.tuples(st.just("read"), st.integers(1, 4)),
    ),
    max_size=80,
)


@given(steps, st.integers(1, 4))
def test_no_reader_misses_or_doubles_a_fill_or_ends_with_an_old_word(
    steps: list[tuple[str, int]], max_facts: int
) -> None:
    """Whatever the reader's pace: every fill once, and the last word on each order and position."""
    archive = Archive()
    queue = NadoMessageQueue(ACCOUNT | {"trade"}, QueueLimits(max_facts=max_facts), recover=archive.read)
    told: list[Any] = []
    newest: dict[Any, Any] = {}

    async def play() -> None:
        known: set[int] = set()
        for time_ns, (what, number) in enumerate(steps):
            if what == "fill" and number not in known:
                known.add(number)
                archive.fills.append(fill(number))
                put(queue, fill(number))
            elif what == "update":
                newest[number] = update(time_ns, f"0x{number}")
                put(queue, newest[number])
            elif what == "position":
                newest["position"] = position(time_ns, number)
                put(queue, newest["position"])
            elif what == "trade":
                put(queue, trade(number))
            elif what == "read" and (len(queue) or queue._gap or queue._closing):
                told.extend(await queue.process_batch(number))
        told.extend(await drain(queue))

    asyncio.run(play())
    fills = [event for event in told if isinstance(event, FillEvent)]
    assert sorted(f.submission_idx for f in fills) == sorted(f.submission_idx for f in archive.fills)
    for subject, event in newest.items():
        digest = "" if subject == "position" else f"0x{subject}"
        same = [t for t in told if type(t) is type(event) and getattr(t, "digest", "") == digest]
        assert same[-1] == event
