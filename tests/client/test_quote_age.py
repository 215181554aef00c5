"""How old a price is: a best price is sent when it changes, so that of a quiet product is still right."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace

from clientkit import DEADLINE_S, Venue, until

from bot.market import Market
from nadofast import FeedConfig, OrderRequest, OrderType
from nadofast.products import X18

QUIET_MS = 1_500


async def test_a_quiet_product_is_as_fresh_as_the_link_that_speaks(venue: Venue) -> None:
    """Only product 4 changes, by orders of ours below its touch; product 8 is compared with a snapshot
    meanwhile, and found as it was."""
    base = FeedConfig()
    config = replace(base, checks=replace(base.checks, product_quiet_s=0.3))
    async with venue.feed(rest=venue.rest, config=config) as feed, venue.gateway() as gateway:
        await feed.wait_synced(DEADLINE_S)
        await venue.faults(pause_market=True)
        market, product = Market(feed, (venue.products[4], venue.products[8])), venue.products[4]
        price_x18 = product.round_price(feed.bbo(4).bid_price_x18 * 99 // 100, "down")
        size_x18 = product.round_size(200 * X18 * X18 // price_x18)
        ages_ms = []
        deadline_s = time.monotonic() + DEADLINE_S
        while feed.last_data_age_ms(8) < QUIET_MS:
            assert time.monotonic() < deadline_s, "the market does not rest"
            placed = await gateway.place(OrderRequest(4, price_x18, size_x18, OrderType.POST_ONLY))
            await gateway.cancel(4, placed.digest)
            ages_ms.append(market.quote(8).age_ms)
            await asyncio.sleep(0.02)
        await until(lambda: feed.stats()["snapshots_to_check"] >= 2, "product 8 is compared")
        assert max(ages_ms) < QUIET_MS / 2
        assert market.quote(8).is_two_sided
        assert feed.stats()["losses"] == 0
    await venue.faults(pause_market=False)
