"""Every kind of event a feed has, over real sockets; and a reader that falls behind on its account."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from clientkit import DEADLINE_S, Venue, until
from simproc import start_sim

from nadofast import (
    Feed,
    NadoMessageQueue,
    OrderRequest,
    OrderType,
    QueueLimits,
    custom,
    errors,
    events,
    to_x18,
)

ETH = 4
ACCOUNT = ("fill", "order_update", "position_change", "boundary")


async def take(venue: Venue, gateway: Any, side: int) -> None:
    """One IOC that fills."""
    price = await venue.rest.market_price(ETH)
    touch = price.ask_x18 if side > 0 else price.bid_x18
    assert touch is not None
    limit = venue.products[ETH].round_price(touch * (100 + side) // 100, "up" if side > 0 else "down")
    outcome = await gateway.place(OrderRequest(ETH, limit, side * to_x18("0.1"), OrderType.IOC))
    assert outcome.is_confirmed


async def first_of_each(queue: NadoMessageQueue, kinds: set[type]) -> dict[type, Any]:
    """Read until every kind has come."""
    found: dict[type, Any] = {}
    async with asyncio.timeout(DEADLINE_S):
        while kinds - found.keys():
            event = await queue.dequeue()
            found.setdefault(type(event), event)
    return found


async def test_public_events_are_typed_and_told_to_all(venue: Venue) -> None:
    streams = [
        "best_bid_offer", "trade", "latest_candlestick", "funding_payment", "funding_rate", "liquidation",
        "all_bbo",
    ]  # fmt: skip
    inline: list[Any] = []
    async with venue.feed(streams=[*streams, "fill"], rest=venue.rest) as feed, venue.gateway() as gateway:
        one, other = feed.events(streams, name="one"), feed.events(streams, name="other")
        for kind in streams[1:]:
            feed.on(kind, inline.append)
        await feed.wait_synced(DEADLINE_S)
        await take(venue, gateway, 1)
        await until(lambda: any(isinstance(e, events.CandlestickEvent) for e in inline), "a trade's candle")
        await venue.faults(funding=True)
        await venue.faults(liquidate=venue.subaccount)
        wanted = {
            events.BBOEvent,
            events.TradeEvent,
            events.CandlestickEvent,
            events.FundingPaymentEvent,
            events.LiquidationEvent,
            events.AllBBOEvent,
        }
        found = await first_of_each(one, wanted)
        assert (await first_of_each(other, wanted)).keys() == found.keys()
        assert {type(event) for event in inline} >= wanted - {events.BBOEvent}
        names = [queue.name for queue in feed.stats()["queues"]]
        assert names == ["one", "other"]
    candle, trade = found[events.CandlestickEvent], found[events.TradeEvent]
    assert candle.low_x18 <= candle.close_x18 <= candle.high_x18
    assert candle.granularity_s == 60
    assert trade.price_x18 > 0
    assert found[events.LiquidationEvent].liquidatee == venue.subaccount
    assert found[events.LiquidationEvent].product_ids == (ETH,)
    assert found[events.FundingPaymentEvent].product_id in feed.products
    assert ETH in found[events.AllBBOEvent].bbos


async def test_funding_rates_come_without_asking_for_a_product() -> None:
    async with start_sim(seed=11) as server:
        async with Feed(custom("sim", server.ready), products=[ETH], streams=["funding_rate"]) as feed:
            queue = feed.events([events.FundingRateEvent])
            await feed.wait_synced(DEADLINE_S)
            server.exchange.schedule._rate_due_s = 0  # the twenty seconds are over
            found = await first_of_each(queue, {events.FundingRateEvent})
            assert found[events.FundingRateEvent].update_time_s > 0


async def test_a_slow_reader_is_caught_up_and_harms_no_other(venue: Venue) -> None:
    async with venue.feed(rest=venue.rest) as feed, venue.gateway() as gateway:
        fast, slow = feed.events(ACCOUNT, name="fast"), feed.events(ACCOUNT, max_waiting=3, name="slow")
        await feed.wait_synced(DEADLINE_S)
        told: list[Any] = []
        reading = asyncio.create_task(collect(fast, told))
        audits = feed.stats()["audits"]
        for turn in range(6):
            await take(venue, gateway, 1 if turn < 4 else -1)
        await until(lambda: len(of(told, events.PositionChangeEvent)) >= 6, "the fast reader has it all")
        behind = next(queue for queue in feed.stats()["queues"] if queue.name == "slow")
        assert (behind.overflows, behind.facts) == (1, 3)
        assert behind.lost > 0
        await until(lambda: feed.stats()["audits"] > audits, "an overflow is a reason to look")
        late: list[Any] = []
        async with asyncio.timeout(DEADLINE_S):
            while len(of(late, events.FillEvent)) < len(of(told, events.FillEvent)) or len(slow):
                late.append(await slow.dequeue())
        assert [e.what for e in of(late, events.BoundaryEvent)].count("events_lost") == 1
        keys = [fill.key for fill in of(late, events.FillEvent)]
        assert len(keys) == len(set(keys)), "nothing twice"
        truth = {
            (fill["digest"], int(fill["submission_idx"])): (int(fill["price_x18"]), int(fill["fee"]))
            for fill in (await venue.state())["fills"]
            if fill["subaccount"] == venue.subaccount
        }
        assert {fill.key: (fill.price_x18, fill.fee_x18) for fill in of(late, events.FillEvent)} == truth
        for kind, subject in (
            (events.OrderUpdateEvent, "digest"),
            (events.PositionChangeEvent, "product_id"),
        ):
            newest = [{getattr(e, subject): e for e in of(seen, kind)} for seen in (told, late)]
            assert newest[0] == newest[1], "the last word on everything is the same"
        reading.cancel()
        assert feed.stats()["fills_recovered"] == 0, "the feed itself had missed nothing"


def of(seen: list[Any], kind: type) -> list[Any]:
    return [event for event in seen if type(event) is kind]


async def collect(queue: NadoMessageQueue, into: list[Any]) -> None:
    async for event in queue:
        into.append(event)


async def test_an_archive_that_lags_is_waited_for(venue: Venue) -> None:
    async with venue.feed(rest=venue.rest) as feed, venue.gateway() as gateway:
        queue = feed.events(["fill"], limits=QueueLimits(max_facts=1))
        await feed.wait_synced(DEADLINE_S)
        await venue.faults(archive_lag={"seconds": 1, "for_s": 1.2})
        for _ in range(3):
            await take(venue, gateway, 1)
        await until(lambda: feed.stats()["queues"][0].lost >= 2, "no room")
        began = time.monotonic()
        async with asyncio.timeout(DEADLINE_S):
            fills = [await queue.dequeue() for _ in range(3)]
        assert len({fill.key for fill in fills}) == 3
        assert time.monotonic() - began > 0.1, "the archive had to be asked more than once"


async def test_without_rest_a_reader_that_fell_behind_is_told(venue: Venue) -> None:
    async with venue.feed() as feed, venue.gateway() as gateway:
        queue = feed.events(["fill"], max_waiting=1)
        await feed.wait_synced(DEADLINE_S)
        for _ in range(2):
            await take(venue, gateway, 1)
        await until(lambda: feed.stats()["queues"][0].lost, "no room")
        await queue.dequeue()
        with pytest.raises(errors.EventOverflow, match="1 account events"):
            await queue.dequeue()


async def test_an_event_of_another_subaccount_reaches_nobody(venue: Venue) -> None:
    seen: list[Any] = []
    async with venue.feed(rest=venue.rest) as feed:
        feed.on("position_change", seen.append)
        await feed.wait_synced(DEADLINE_S)
        foreign = (
            b'{"type":"position_change","timestamp":"1","product_id":4,"subaccount":"0x%s","isolated":false,'
            b'"amount":"1","v_quote_amount":"1","reason":"match_orders"}'
        )
        feed._core.receive(foreign % (b"22" * 32), 1)
        assert feed.stats()["foreign_events"] == 1
        assert seen == []


async def test_a_book_is_told_to_callbacks_and_queues_alike(venue: Venue) -> None:
    inline: list[Any] = []
    async with venue.feed() as feed:
        off = feed.on("book_depth", inline.append)
        queue = feed.events(["book_depth"])
        await feed.wait_synced(DEADLINE_S)
        await until(lambda: len(inline) > 4, "depth flows")
        assert len(queue) <= 2, "one slot a product"
        assert await queue.dequeue() in (feed.book(ETH), feed.book(8))
        off()
        told = len(inline)
        del queue
        feed.on("trade", lambda _: None)()  # whoever comes next finds the queue gone
        depth = feed.stats()["core"]["by_kind"]["book_depth"]
        await until(lambda: feed.stats()["core"]["by_kind"]["book_depth"] > depth + 3, "depth flows on")
        assert len(inline) == told


async def test_a_slow_market_callback_is_named(venue: Venue, caplog: pytest.LogCaptureFixture) -> None:
    def dawdler(_: Any) -> None:
        time.sleep(0.001)

    async with venue.feed() as feed:
        feed.on("best_bid_offer", dawdler)
        await feed.wait_synced(DEADLINE_S)
        await until(lambda: feed.stats()["slow_callbacks"] > 2, "slow ones are counted")
    named = [r.getMessage() for r in caplog.records if "dawdler" in r.getMessage()]
    assert len(named) == 1
