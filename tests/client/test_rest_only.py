"""Without any WebSocket, as a roll-back: books, account and orders over HTTP, honest about their age."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import pytest
from clientkit import DEADLINE_S, FAST_LINK, Venue, until
from rudekit import PRODUCTS, SIGNER, known_clock

from nadofast import (
    Feed,
    FeedConfig,
    GatewayConfig,
    NadoConnectionMode,
    OrderGateway,
    OrderRequest,
    OrderType,
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


def test_without_a_socket_and_without_rest_there_is_no_way() -> None:
    with pytest.raises(errors.ConfigError, match="needs a rest"):
        Feed("testnet", products=[4], config=CONFIG)
    with pytest.raises(errors.ConfigError, match="needs a rest"):
        OrderGateway("testnet", SIGNER, products=PRODUCTS, timesync=known_clock(), config=GATEWAY)
