"""Feeds of several links on the embedded exchange: a cut of one costs nothing; shares of products."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from clientkit import DEADLINE_S, Venue, until

from nadofast import errors
from nadofast.authsockets import AUTH_SOCKETS, AuthSockets
from nadofast.connection import LinkState
from nadofast.pool import LinkStats


async def test_a_cut_of_either_link_costs_no_message(venue: Venue) -> None:
    boundaries: list[Any] = []
    ages_ms: list[float] = []
    async with venue.feed(links=2) as feed:
        await feed.wait_synced(DEADLINE_S)
        await until(lambda: feed.pool.get_pool_stats().live == 2, "both links")
        feed.on("boundary", boundaries.append)
        for link in feed.pool.links:
            before = link.manager.connects
            seen = feed.stats()["core"]["products"][4]["book_depth"]
            link.manager.cut("test")
            for _ in range(20):
                assert feed.is_live
                assert feed.account_live
                assert all(feed.book(product).is_valid for product in feed.products)
                ages_ms.append(feed.last_data_age_ms())
                await asyncio.sleep(0.005)
            await until(lambda link=link, n=before: link.manager.connects > n and link.is_market_live, "back")
            await until(
                lambda n=seen: feed.stats()["core"]["products"][4]["book_depth"] > n + 5, "the book follows"
            )
        assert [(event.what, event.link) for event in boundaries] == [
            ("spare_lost", 0),
            ("spare_up", 0),
            ("spare_lost", 1),
            ("spare_up", 1),
        ]
        stats = feed.stats()
        assert stats["resyncs"] == 0
        assert stats["snapshots"] == len(feed.products), "only those of the start"
        assert max(ages_ms) < 500


async def test_a_link_tells_its_life(venue: Venue) -> None:
    async with venue.feed() as feed:
        manager = feed.link
        await manager.ensure_connected(DEADLINE_S)
        assert manager.get_connection_state() is LinkState.LIVE
        await until(lambda: manager.ping_round_trip.count == 1, "the first pong")
        await manager.send_ping()
        await until(lambda: manager.ping_round_trip.count == 2, "the second")
        manager.cut("test")
        with pytest.raises(errors.ConnectionLost):
            await manager.send_ping()
        await manager.ensure_connected(DEADLINE_S)
        lived = [(step.state.value, step.reason) for step in manager.history]
        first = ["connecting", "subscribing", "authenticating", "subscribing", "live"]
        assert [state for state, _ in lived[:5]] == first
        assert ("closed", "test") in lived
        assert ("backoff", "test") in lived
        times = [step.monotonic_ns for step in manager.history]
        assert times == sorted(times)


async def test_losing_both_links_is_a_break_and_heals(venue: Venue) -> None:
    boundaries: list[Any] = []
    async with venue.feed(links=2) as feed:
        await feed.wait_synced(DEADLINE_S)
        await until(lambda: feed.pool.get_pool_stats().live == 2, "both links")
        feed.on("boundary", boundaries.append)
        feed.pool.cut("test")
        await until(lambda: any(event.what == "link_lost" for event in boundaries), "a break")
        await feed.wait_synced(DEADLINE_S)
        assert all(feed.book(product).is_valid for product in feed.products)


async def test_products_are_spread_over_shards(venue: Venue) -> None:
    async with venue.feed(links=1, shards=2) as feed:
        await feed.wait_synced(DEADLINE_S)
        first, second = feed.pool.links
        assert first.account.is_wanted
        assert not second.account.is_wanted
        boundaries: list[Any] = []
        feed.on("boundary", boundaries.append)
        second.manager.cut("test")
        await until(lambda: boundaries, "the break")
        lost = feed.products[1]
        assert [(e.what, e.product_id) for e in boundaries[:2]] == [
            ("link_lost", None),
            ("book_invalid", lost),
        ]
        assert feed.book(feed.products[0]).is_valid, "the other share does not notice"
        await feed.wait_synced(DEADLINE_S)


async def test_links_are_lent_to_the_least_busy(venue: Venue) -> None:
    async with venue.feed(links=2) as feed:
        await feed.wait_synced(DEADLINE_S)
        await until(lambda: feed.pool.get_pool_stats().live == 2, "both links")
        one = await feed.pool.acquire()
        other = await feed.pool.acquire()
        assert {one.index, other.index} == {0, 1}
        assert feed.pool.get_pool_stats().borrowed == 2
        await feed.pool.release(one)
        assert await feed.pool.get_healthy_connection() is one
        await feed.pool.release(other)
        with pytest.raises(ValueError, match="not acquired"):
            await feed.pool.release(other)
        shown = feed.pool.get_pool_stats().links[0]
        assert isinstance(shown, LinkStats)
        assert (shown.state, shown.is_authenticated) == ("live", True)
    began = time.monotonic()
    with pytest.raises(errors.NotConnected):
        await feed.pool.acquire(timeout_s=0.05)
    assert time.monotonic() - began < 2


async def test_authenticated_sockets_are_counted(venue: Venue) -> None:
    async with venue.feed(links=4) as first:
        await first.wait_synced(DEADLINE_S)
        async with venue.feed(links=3) as second:
            await second.wait_synced(DEADLINE_S)
            assert [link.account.is_wanted for link in second.pool.links] == [True, False, False]
            third = venue.feed()
            with pytest.raises(errors.ConfigError, match="authenticated sockets"):
                await third.start()
        await third.start()  # what the second one held is free again
        await third.wait_synced(DEADLINE_S)
        await third.stop()


def test_the_count_of_sockets() -> None:
    class Holder:
        pass

    sockets, one, other = AuthSockets(5), Holder(), Holder()
    assert sockets.reserve("w", one, 4) == 4
    assert sockets.reserve("w", other, 4) == 1
    assert sockets.reserve("w", one, 1) == 1, "what it held before is given back"
    assert sockets.in_use("w") == 2
    del one
    assert sockets.in_use("w") == 1, "a holder that is gone holds nothing"
    sockets.release("w", other)
    assert sockets.in_use("w") == sockets.in_use("nobody") == 0
    assert AUTH_SOCKETS.limit == 5


@pytest.mark.parametrize(("links", "shards"), [(0, 1), (1, 0), (1, 3), (9, 2)])
async def test_impossible_links_are_refused(venue: Venue, links: int, shards: int) -> None:
    with pytest.raises(errors.ConfigError, match="sockets in all"):
        venue.feed(links=links, shards=shards)
