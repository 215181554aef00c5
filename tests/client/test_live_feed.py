"""The feed over real sockets: it joins, stays equal to the exchange, and heals."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from clientkit import DEADLINE_S, FAST_LINK, FAST_LINK_WITH_DATA, Venue, until

from nadofast import Feed, FeedConfig, LinkState, NadoConnectionMode, custom, errors, wire
from nadofast.booksync import CheckConfig
from nadofast.events import BBOEvent, BoundaryEvent, TradeEvent
from nadofast.fallback import FallbackConfig


async def assert_book_is_the_exchanges(venue: Venue, feed: Feed, product_id: int) -> None:
    """The market stands still: our book and the exchange's snapshot are the same."""
    await venue.faults(pause_market=True)
    book = feed.book(product_id)
    for _ in range(100):  # the last batch of depth may still be on its way
        snapshot = await venue.rest.market_liquidity(product_id)
        levels = (list(snapshot.bids[:20]), list(snapshot.asks[:20]))
        if (book.bids(20), book.asks(20)) == levels:
            break
        await asyncio.sleep(0.02)
    assert book.is_valid
    assert (book.bids(20), book.asks(20)) == levels
    bbo = feed.bbo(product_id)
    assert (bbo.bid_price_x18, bbo.ask_price_x18) == (snapshot.bids[0][0], snapshot.asks[0][0])
    await venue.faults(pause_market=False)


async def test_joins_follows_and_equals_the_exchange(venue: Venue) -> None:
    async with venue.feed(rest=venue.rest) as feed:
        await feed.wait_synced(DEADLINE_S)
        assert feed.is_synced
        assert feed.account_live
        assert venue.timesync.is_known
        start = feed.stats()["core"]["by_kind"]["book_depth"]
        await until(lambda: feed.stats()["core"]["by_kind"]["book_depth"] > start + 20, "depth flows")
        assert feed.stats()["resyncs"] == 0
        for product_id in (4, 8):
            await assert_book_is_the_exchanges(venue, feed, product_id)
        assert feed.last_data_age_ms() < 2_000
        assert feed.last_data_age_ms(4) < 5_000
    assert feed.link.state is LinkState.DISCONNECTED
    assert not feed.is_live


async def test_works_without_rest_and_without_a_key(venue: Venue) -> None:
    async with Feed(venue.network, products=[8], streams=["best_bid_offer", "book_depth"]) as feed:
        await feed.wait_synced(DEADLINE_S)
        assert not feed.account_live
        assert feed.is_live
        await until(lambda: feed.stats()["core"]["by_kind"]["book_depth"] > 3, "depth flows")


async def test_bbo_alone_is_seeded(venue: Venue) -> None:
    await venue.faults(pause_market=True)
    async with venue.feed(products=[4], streams=["best_bid_offer"]) as feed:
        await feed.wait_synced(DEADLINE_S)
        assert feed.bbo(4).is_set
        assert feed.bbo(4).bid_qty_x18 > 0


async def test_a_cut_is_a_boundary_and_heals(venue: Venue) -> None:
    boundaries: list[BoundaryEvent] = []
    async with venue.feed(rest=venue.rest) as feed:
        feed.on("boundary", boundaries.append)
        await feed.wait_synced(DEADLINE_S)
        boundaries.clear()
        await venue.faults(cut="subscribe")
        await until(lambda: feed.stats()["losses"] == 1, "the cut is seen")
        # In order: the link, then the books that hung on it; nothing may be traded on from here.
        seen = [(event.what, event.product_id) for event in boundaries[:3]]
        assert seen[0] == ("link_lost", None)
        assert set(seen[1:]) == {("book_invalid", 4), ("book_invalid", 8)}
        await feed.wait_synced(DEADLINE_S)
        assert feed.stats()["connects"] == 2
        whats = [event.what for event in boundaries]
        assert whats.index("link_up") < whats.index("book_valid")
        # Authenticated and subscribed as before.
        assert feed.account_live
        before = dict(feed.stats()["core"]["by_kind"])
        await until(
            lambda: all(
                feed.stats()["core"]["by_kind"][kind] > before[kind]
                for kind in ("best_bid_offer", "book_depth", "trade")
            ),
            "every public stream flows again",
        )
        await assert_book_is_the_exchanges(venue, feed, 4)


async def test_a_depth_gap_is_seen_and_repaired(venue: Venue) -> None:
    boundaries: list[BoundaryEvent] = []
    async with venue.feed(rest=venue.rest) as feed:
        await feed.wait_synced(DEADLINE_S)
        # Past the first batch: one that is lost before that is inside the snapshot and no gap at all.
        depth = feed.stats()["core"]["products"][4]["book_depth"]
        await until(lambda: feed.stats()["core"]["products"][4]["book_depth"] > depth + 1, "depth flows")
        feed.on("boundary", boundaries.append)
        await venue.faults(drop_depth={"product_id": 4, "count": 1})
        await until(lambda: len(boundaries) >= 2, "the gap is seen and repaired")
        assert [event.what for event in boundaries] == ["book_invalid", "book_valid"], boundaries
        assert [event.product_id for event in boundaries] == [4, 4]
        assert feed.stats()["losses"] == 0
        assert feed.stats()["core"]["gaps"] == 1
        await assert_book_is_the_exchanges(venue, feed, 4)


async def test_a_burst_of_gaps_is_paced(venue: Venue) -> None:
    async with venue.feed(rest=venue.rest) as feed:
        await feed.wait_synced(DEADLINE_S)
        asked = feed.stats()["snapshots"]
        for _ in range(5):
            await venue.faults(drop_depth={"product_id": 8, "count": 2})
            await asyncio.sleep(0.05)
        await until(lambda: feed.stats()["resyncs"] >= 1, "a gap")
        await until(lambda: feed.is_synced, "synchronised again")
        assert feed.stats()["snapshots"] - asked <= 20


async def test_a_muted_stream_is_cut_though_it_answers_pings(venue: Venue) -> None:
    async with venue.feed(rest=venue.rest) as feed:
        await feed.wait_synced(DEADLINE_S)
        await venue.faults(mute=30)
        await until(lambda: feed.stats()["losses"] >= 1, "the silence is noticed")
        await venue.faults(mute=0)
        await feed.wait_synced(DEADLINE_S)


async def test_a_quiet_market_is_not_cut(venue: Venue) -> None:
    await venue.faults(pause_market=True)
    async with venue.feed(rest=venue.rest, products=[4, 8]) as feed:
        await feed.wait_synced(DEADLINE_S)
        messages = feed.stats()["core"]["by_kind"]["reply"]
        # Several probes (data_timeout_s is 0.6 s), each answered, none of them a cut.
        await until(lambda: feed.stats()["core"]["by_kind"]["reply"] >= messages + 2, "two probes")
        assert feed.stats()["losses"] == 0
        await until(lambda: feed.is_synced, "not stale any more")


async def test_rest_takes_over_and_gives_back(venue: Venue) -> None:
    modes: list[str] = []
    config = FeedConfig(
        link=FAST_LINK_WITH_DATA,
        query_link=FAST_LINK,
        fallback=FallbackConfig(down_s=0.1, up_s=0.2, poll_s=0.05),
    )
    ready = dict(venue.ready)
    # A stream that cannot be reached: the exchange has nothing there.
    ready["subscribe"] = ready["subscribe"].replace("/v1/subscribe", "/v1/nothing-here")
    network = custom("sim", ready)
    async with Feed(network, products=[4, 8], rest=venue.rest, config=config) as feed:
        feed.on("boundary", lambda event: modes.append(event.reason) if event.what == "mode" else None)
        await until(lambda: feed.bbo(4).is_set and feed.bbo(8).is_set, "BBO over HTTP")
        assert feed.mode is NadoConnectionMode.REST
        assert feed.bbo(4).source == "rest"
        assert feed.bbo(4).bid_qty_x18 > 0
        assert not feed.is_live
        assert not feed.book(4).is_valid
        first = feed.bbo(4).received_ns
        await until(lambda: feed.bbo(4).received_ns > first, "polled again")
        with pytest.raises(errors.RequestTimeout, match="stream is"):
            await feed.wait_synced(0.05)
        feed.link.url = venue.network.subscribe  # the way is back
        await until(lambda: feed.mode is NadoConnectionMode.WEBSOCKET, "back to the stream")
        await feed.wait_synced(DEADLINE_S)
    assert [mode.split(":")[0] for mode in modes] == ["market rest", "market websocket"]
    assert feed.stats()["mode_switches"] == 2


async def test_events_are_queued_and_conflated(venue: Venue) -> None:
    async with venue.feed() as feed:
        newest = feed.events(["best_bid_offer"])
        tape = feed.events(["trade"])
        facts = feed.events(["boundary"])
        await feed.wait_synced(DEADLINE_S)
        await until(lambda: feed.stats()["core"]["by_kind"]["best_bid_offer"] > 30, "BBOs flow")
        await until(lambda: len(tape) > 2, "trades flow")
        assert len(newest) <= 2  # one slot per product
        event = await anext(newest)
        assert isinstance(event, BBOEvent)
        assert isinstance(await anext(tape), TradeEvent)
        assert (await anext(facts)).what == "link_up"
    rest = [event async for event in facts]
    assert rest[-1].what in ("link_lost", "book_invalid")


async def test_callbacks_fail_alone(venue: Venue) -> None:
    seen: list[Any] = []

    def broken(_: Any) -> None:
        raise RuntimeError("consumer's own defect")

    async with venue.feed() as feed:
        feed.on("best_bid_offer", broken)
        off = feed.on("best_bid_offer", lambda bbo: seen.append(bbo.product_id))
        feed.on("trade", broken)
        await feed.wait_synced(DEADLINE_S)
        await until(lambda: len(seen) > 10, "the healthy callback runs")
        assert feed.stats()["callback_errors"] > 0
        assert feed.stats()["losses"] == 0
        off()
        count = len(seen)
        messages = feed.stats()["core"]["by_kind"]["best_bid_offer"]
        await until(lambda: feed.stats()["core"]["by_kind"]["best_bid_offer"] > messages + 5, "more BBOs")
        assert len(seen) == count
        with pytest.raises(ValueError, match="unknown event kind"):
            feed.on("bbo", broken)


async def test_book_and_bbo_that_disagree_are_resynchronised(venue: Venue) -> None:
    config = FeedConfig(
        link=FAST_LINK_WITH_DATA, query_link=FAST_LINK, checks=CheckConfig(disagree_s=0.2), monitor_s=0.02
    )
    await venue.faults(pause_market=True)
    async with venue.feed(products=[4], config=config) as feed:
        await feed.wait_synced(DEADLINE_S)
        book = feed.book(4)
        # A BBO from the stream that contradicts the book it should be older than.
        bid, ask = book.best_bid, book.best_ask
        assert bid is not None
        assert ask is not None
        forged = json.dumps(
            {
                "type": "best_bid_offer",
                "timestamp": str(book.timestamp_ns),
                "product_id": 4,
                "bid_price": str(bid[0] - 10**18),
                "bid_qty": "1",
                "ask_price": str(ask[0]),
                "ask_qty": "1",
            }
        )
        feed._core.receive(forged.encode(), 1)
        await until(lambda: feed.stats()["disagreements"] >= 1, "the contradiction is noticed")
        await until(lambda: feed.is_synced, "and repaired")


async def test_a_server_that_is_not_there(venue: Venue) -> None:
    ready = dict(venue.ready)
    for key in ("subscribe", "gateway_ws"):
        ready[key] = "ws://127.0.0.1:9/v1/subscribe"
    async with Feed(custom("nowhere", ready), products=[4]) as feed:
        with pytest.raises(errors.RequestTimeout, match="no connection"):
            await feed.wait_synced(0.5)


async def test_unknown_streams_are_refused(venue: Venue) -> None:
    with pytest.raises(errors.ConfigError, match="depth_of_book"):
        Feed(venue.network, products=[4], streams=["depth_of_book"])


async def test_wrong_key_never_gets_the_account_stream(venue: Venue) -> None:
    from nadofast import Signer

    signer = Signer("0x" + "01" * 32, chain_id=1, endpoint_address=venue.network.endpoint_address)
    async with Feed(venue.network, products=[4], signer=signer) as feed:
        with pytest.raises(errors.RequestTimeout, match="authenticate"):
            await feed.wait_synced(0.7)
        assert not feed.account_live


def test_stream_objects() -> None:
    streams = wire.stream_objects(["trade", "fill", "all_bbo", "funding_rate"], [4, 8], "0xabc")
    assert streams == [
        {"type": "fill", "subaccount": "0xabc", "product_id": None},
        {"type": "trade", "product_id": 4},
        {"type": "trade", "product_id": 8},
        {"type": "all_bbo"},
        {"type": "funding_rate", "product_id": None},
    ]
    assert wire.stream_objects(["fill"], [4], None) == []
