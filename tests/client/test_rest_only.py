"""Without any WebSocket, as a roll-back: books, account and orders over HTTP, honest about their age."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from clientkit import DEADLINE_S, FAST_LINK, Venue, sample, until
from rudekit import PRODUCTS, SIGNER, Script, known_clock, scripted

from nadofast import (
    Feed,
    FeedConfig,
    GatewayConfig,
    NadoConnectionMode,
    OrderGateway,
    OrderRequest,
    OrderType,
    Rest,
    errors,
    to_x18,
)
from nadofast.backfill import BackfillConfig
from nadofast.fallback import FallbackConfig

CONFIG = FeedConfig(
    fallback=FallbackConfig(poll_s=0.05, query_share=5.0, market_age_s=0.6, account_age_s=1.5),
    backfill=BackfillConfig(looks_s=(0.02, 0.2, 0.5)),
    monitor_s=0.02,
    websocket=False,
)
GATEWAY = GatewayConfig(link=FAST_LINK, min_entry_discard_ms=3_000, websocket=False)
SIZE = to_x18("0.1")


async def sockets_of(venue: Venue) -> int:
    async with aiohttp.ClientSession() as session:
        async with session.get(f"{venue.ready['control']}/health") as response:
            health: dict[str, Any] = await response.json()
    return sum(health["sockets_accepted"].values())


async def test_books_account_and_orders_without_a_socket(venue: Venue) -> None:
    before = await sockets_of(venue)
    told: list[Any] = []
    async with venue.feed(rest=venue.rest, config=CONFIG) as feed, venue.gateway(config=GATEWAY) as gateway:
        for kind in ("fill", "order_update", "position_change"):
            feed.on(kind, lambda event, kind=kind: told.append((kind, event)))
        await feed.wait_synced(DEADLINE_S)
        assert (feed.mode, feed.account_mode) == (NadoConnectionMode.REST, NadoConnectionMode.REST)
        assert (feed.is_live, feed.account_live, feed.is_account_streamed) == (True, True, False)
        assert feed.get_connection_status() == {"websocket": "off", "rest": "available"}
        assert feed.get_connection_health()["status"] == "degraded"
        book = feed.book(4)
        assert book.best_bid is not None
        assert feed.bbo(4).source == "rest"
        assert len(book.bids(50)) > 10
        assert feed.last_data_age_ms(4) < 600

        ask = feed.bbo(4).ask_price_x18
        taken = await gateway.place(
            OrderRequest(4, venue.products[4].round_price(ask * 102 // 100, "up"), SIZE, OrderType.IOC)
        )
        assert taken.path == "rest"
        await until(lambda: any(kind == "fill" for kind, _ in told), "the fill, from the archive")
        price = venue.products[4].round_price(ask * 98 // 100, "down")
        resting = await gateway.place(OrderRequest(4, price, SIZE, OrderType.POST_ONLY))
        await until(
            lambda: (
                [e.reason for k, e in told if k == "order_update" and e.digest == resting.digest]
                == ["placed"]
            ),
            "the order on the book",
        )
        await gateway.cancel(4, resting.digest)
        await until(lambda: told[-1][0] == "order_update" and told[-1][1].reason == "cancelled", "its end")
        await asyncio.sleep(0.3)
    fills = [event for kind, event in told if kind == "fill"]
    assert {fill.order_digest for fill in fills} == {taken.digest}
    assert sum(fill.filled_qty_x18 for fill in fills) == SIZE
    truth = await venue.rest.subaccount_info(venue.subaccount)
    positions = [event.amount_x18 for kind, event in told if kind == "position_change"]
    assert positions[-1] == truth.perp[4].amount_x18
    assert await sockets_of(venue) == before, "not one WebSocket"


async def test_what_is_not_read_in_time_is_not_traded_on(venue: Venue) -> None:
    boundaries: list[tuple[str, int | None]] = []
    async with venue.feed(rest=venue.rest, config=CONFIG) as feed:
        feed.on("boundary", lambda event: boundaries.append((event.what, event.product_id)))
        await feed.wait_synced(DEADLINE_S)
        await venue.faults(http_error={"count": 1_000_000})
        await until(lambda: not feed.book(4).is_valid and not feed.book(8).is_valid, "too old")
        assert not feed.is_live
        with pytest.raises(errors.RequestTimeout, match="product 4 is not read"):
            await feed.wait_synced(0.05)
        await until(lambda: not feed.account_live, "the account, too")
        assert feed.get_connection_health()["status"] == "down"
        await venue.faults(clear="all")
        await feed.wait_synced(DEADLINE_S)
    for product_id in (4, 8):
        assert [what for what, product in boundaries if product == product_id] == [
            "book_valid",
            "book_invalid",
            "book_valid",
        ]


MARKET = sample("query_market_liquidity")["response"]


def market(product_id: int, timestamp_ns: int, bid: int, ask: int) -> dict[str, Any]:
    sides = {"bids": [[str(to_x18(bid)), str(SIZE)]], "asks": [[str(to_x18(ask)), str(SIZE)]]}
    data = {**MARKET["data"], "product_id": product_id, "timestamp": str(timestamp_ns), **sides}
    return {**MARKET, "data": data}


@asynccontextmanager
async def reading(
    answer: Callable[[int], dict[str, Any] | None], timeout_s: float
) -> AsyncIterator[tuple[Feed, list[tuple[str, int | None]]]]:
    """A feed without WebSocket; answer(product_id): the market now, None: no answer. And its boundaries."""
    boundaries: list[tuple[str, int | None]] = []
    script = Script(query=lambda message: answer(message["product_id"]))
    async with scripted(script) as network, Rest(network, timeout_s=timeout_s) as rest:
        async with Feed(network, products=[4, 8], rest=rest, config=CONFIG) as feed:
            feed.on("boundary", lambda event: boundaries.append((event.what, event.product_id)))
            yield feed, boundaries


async def test_a_snapshot_that_is_refused_is_not_a_market_that_was_read() -> None:
    """Older than the book: nothing of it is shown, the book grows old and expires, and only then a clock that
    was set back is followed."""
    now = market(4, 2_000, 100, 101)
    async with reading(lambda product_id: now if product_id == 4 else market(8, 1, 7, 8), 1) as (feed, told):
        await until(lambda: feed.book(4).is_valid, "read")
        now = market(4, 1_000, 90, 91)
        failures = feed.stats()["fallback_failures"]
        await until(lambda: feed.stats()["fallback_failures"] > failures, "an older one")
        assert feed.book(4).best_bid == (to_x18(100), SIZE)
        assert feed.bbo(4).bid_price_x18 == to_x18(100), "both or none"
        await until(lambda: ("book_invalid", 4) in told, "too old")
        await until(lambda: feed.book(4).is_valid, "read anew")
        assert feed.book(4).best_bid == (to_x18(90), SIZE)
        assert feed.bbo(4).bid_price_x18 == to_x18(90)
        now = market(4, 3_000, 92, 91)
        await until(lambda: not feed.book(4).is_valid, "crossed")
        assert not feed._upstream.is_fresh(4)
        assert ("book_invalid", 8) not in told


async def test_an_answer_that_hangs_holds_up_no_other_product() -> None:
    asked = {4: 0, 8: 0}

    def answer(product_id: int) -> dict[str, Any] | None:
        asked[product_id] += 1
        return None if product_id == 4 else market(8, asked[8], 100, 101)

    async with reading(answer, 30) as (feed, told):
        await until(lambda: asked[8] >= 5, "asked again and again")
        assert asked[4] == 1
        assert feed.book(8).is_valid
        assert not feed.book(4).is_valid
        assert ("book_invalid", 8) not in told


def test_without_a_socket_and_without_rest_there_is_no_way() -> None:
    with pytest.raises(errors.ConfigError, match="needs a rest"):
        Feed("testnet", products=[4], config=CONFIG)
    with pytest.raises(errors.ConfigError, match="needs a rest"):
        OrderGateway("testnet", SIGNER, products=PRODUCTS, timesync=known_clock(), config=GATEWAY)
