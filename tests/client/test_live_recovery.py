"""Account events that happen while the stream is away: positions by polling, fills from the archive."""

from __future__ import annotations

from typing import Any

from clientkit import DEADLINE_S, FAST_LINK, FAST_LINK_WITH_DATA, Venue, until

from nadofast import FeedConfig, NadoConnectionMode, OrderRequest, OrderType, to_x18
from nadofast.backfill import BackfillConfig
from nadofast.events import FillEvent
from nadofast.fallback import FallbackConfig, ModeSwitch

SIZE = to_x18("0.1")
CONFIG = FeedConfig(
    link=FAST_LINK_WITH_DATA,
    query_link=FAST_LINK,
    fallback=FallbackConfig(down_s=0.05, up_s=0.1, poll_s=0.05, positions_every=1),
    backfill=BackfillConfig(looks_s=(0.05, 0.1, 0.2, 0.3, 0.5)),
)


async def buy(venue: Venue, gateway: Any) -> str:
    ask = (await venue.rest.market_liquidity(4, 1)).asks[0][0]
    price = venue.products[4].round_price(ask * 101 // 100, "up")
    outcome = await gateway.place(OrderRequest(4, price, SIZE, OrderType.IOC))
    assert outcome.is_confirmed
    digest: str = outcome.digest
    return digest


async def test_a_fill_made_while_the_stream_was_down_arrives_once(venue: Venue) -> None:
    fills: list[FillEvent] = []
    positions: list[Any] = []
    async with venue.feed(rest=venue.rest, config=CONFIG) as feed, venue.gateway() as gateway:
        feed.on("fill", fills.append)
        feed.on("position_change", positions.append)
        await feed.wait_synced(DEADLINE_S)
        seen = await buy(venue, gateway)
        await until(lambda: any(fill.order_digest == seen for fill in fills), "the stream's own fill")
        await until(lambda: len(positions) >= 1, "the stream's own position")
        stream_url, feed.link.url = feed.link.url, "ws://127.0.0.1:9/"
        feed.link.cut("test: the way is blocked")
        await until(lambda: feed.mode is NadoConnectionMode.REST, "HTTP takes over")
        missed = await buy(venue, gateway)
        await until(lambda: any(event.reason == "rest" for event in positions), "position over HTTP")
        assert positions[-1].amount_x18 == 2 * SIZE
        await until(lambda: any(fill.order_digest == missed for fill in fills), "the archive's fill")
        feed.link.url = stream_url
        await feed.wait_synced(DEADLINE_S)
        last = await buy(venue, gateway)
        await until(lambda: any(fill.order_digest == last for fill in fills), "the stream again")
        truth = (await venue.state())["fills"]
        expected = sorted((fill["digest"], int(fill["submission_idx"])) for fill in truth)
        assert sorted(fill.key for fill in fills) == expected
        record = venue.tracker.get(missed)
        assert record is not None
        assert record.filled_x18 == SIZE
        exact = {(fill["digest"], int(fill["submission_idx"])): fill for fill in truth}
        for fill in fills:
            assert fill.price_x18 == int(exact[fill.key]["price_x18"])
            assert fill.fee_x18 == int(exact[fill.key]["fee"])
            assert fill.filled_qty_x18 == abs(int(exact[fill.key]["base"]))
        assert feed.stats()["fills_recovered"] >= 1


async def test_history_is_not_news(venue: Venue) -> None:
    async with venue.gateway() as gateway:
        old = await buy(venue, gateway)
    fills: list[FillEvent] = []
    async with venue.feed(rest=venue.rest, config=CONFIG) as feed:
        feed.on("fill", fills.append)
        await feed.wait_synced(DEADLINE_S)
        assert feed._upstream.standby is not None
        backfill = feed._upstream.standby.backfill
        assert backfill is not None
        await until(lambda: backfill.knows_history, "history read")
        await venue.faults(cut="subscribe")
        await until(lambda: feed.stats()["connects"] == 2, "back")
        await feed.wait_synced(DEADLINE_S)
        await until(lambda: not backfill.is_busy, "looked again")
    assert all(fill.order_digest != old for fill in fills)


def test_the_switch_has_hysteresis() -> None:
    s = 1_000_000_000
    switch = ModeSwitch(FallbackConfig(down_s=1.0, up_s=2.0))
    assert not switch.update(True, 0)
    assert not switch.update(False, 1 * s)
    assert not switch.update(True, int(1.5 * s))
    assert not switch.update(False, 2 * s)
    assert switch.update(False, 3 * s)
    assert switch.mode is NadoConnectionMode.REST
    assert not switch.update(True, 4 * s)
    assert not switch.update(False, 5 * s)
    assert not switch.update(True, 6 * s)
    assert switch.update(True, 8 * s)
    assert switch.switches == 2


async def test_an_order_cancelled_while_the_stream_is_down_is_told_over_http(venue: Venue) -> None:
    updates: list[Any] = []
    async with venue.feed(rest=venue.rest, config=CONFIG) as feed, venue.gateway() as gateway:
        feed.on("order_update", updates.append)
        await feed.wait_synced(DEADLINE_S)
        bid = (await venue.rest.market_liquidity(4, 1)).bids[0][0]
        price = venue.products[4].round_price(bid * 98 // 100, "down")
        outcome = await gateway.place(OrderRequest(4, price, SIZE, OrderType.POST_ONLY))
        await until(lambda: [u.digest for u in updates] == [outcome.digest], "the stream's own word")
        stream_url, feed.link.url = feed.link.url, "ws://127.0.0.1:9/"
        feed.link.cut("test: the way is blocked")
        await until(lambda: feed.account_mode is NadoConnectionMode.REST, "HTTP takes over")
        await gateway.cancel(4, outcome.digest)
        failures = feed.stats()["fallback_failures"]
        await venue.faults(http_error={"count": 30})
        await until(lambda: feed.stats()["fallback_failures"] >= failures + 10, "HTTP fails for a while")
        await until(lambda: updates[-1].reason == "cancelled", "its end, over HTTP")
        feed.link.url = stream_url
        await feed.wait_synced(DEADLINE_S)
        assert [(u.digest, u.reason) for u in updates] == [
            (outcome.digest, "placed"),
            (outcome.digest, "cancelled"),
        ]
