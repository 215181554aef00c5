"""What a feed promises at its edges: boundaries, nonsense, polls that overlap the stream."""

from __future__ import annotations

import asyncio
import gc
import itertools
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import web
from clientkit import FAST_LINK, FAST_LINK_WITH_DATA, sample, until
from rudekit import NOW_MS, SIGNER, Script, scripted

from nadofast import Feed, FeedConfig, LinkState, NadoConnectionManager, Rest
from nadofast._core import FeedCore
from nadofast._feed import TextListener
from nadofast.booksync import CheckConfig
from nadofast.events import PositionChangeEvent
from nadofast.fallback import FallbackConfig, RestPoller
from nadofast.sequence import SyncConfig

SNAPSHOT = sample("query_market_liquidity")["response"]
INFO = sample("query_subaccount_info")["response"]


def book(**changes: Any) -> dict[str, Any]:
    data: dict[str, Any] = SNAPSHOT["data"] | {"product_id": 4} | changes
    return SNAPSHOT | {"data": data}


def acknowledge(message: Any) -> dict[str, Any]:
    if "method" not in message:
        return book()
    result = {"method": "time", "server_time": str(NOW_MS)} if message["method"] == "time" else None
    return {"result": result, "id": message["id"]}


@asynccontextmanager
async def running(script: Script, with_rest: bool = False, **changes: Any) -> AsyncIterator[Feed]:
    base = FeedConfig(link=FAST_LINK_WITH_DATA, query_link=FAST_LINK, ack_timeout_s=0.3, query_timeout_s=0.3)
    async with scripted(script) as network, Rest(network, timeout_s=1) as rest:
        feed = Feed(
            network,
            products=[4],
            streams=["best_bid_offer", "book_depth"],
            rest=rest if with_rest else None,
            config=replace(base, **changes),
        )
        async with feed:
            yield feed


# ---------------------------------------------------------------------------- boundaries


async def test_no_book_is_valid_when_the_loss_of_the_link_is_told() -> None:
    """Whoever acts on the boundary must not find a book that still looks alive."""
    script = Script(socket=acknowledge)
    seen: list[tuple[str, bool, bool]] = []
    async with running(script) as feed:
        await feed.wait_synced(5)
        feed.on("boundary", lambda event: seen.append((event.what, feed.book(4).is_valid, feed.is_live)))
        feed.link.cut("test")
        await until(lambda: len(seen) >= 2, "link and book")
    assert seen[:2] == [("link_lost", False, False), ("book_invalid", False, False)]


async def test_a_set_up_that_ends_with_its_socket_is_no_live_link() -> None:
    lives: list[int] = []

    async def set_up(link: NadoConnectionManager) -> None:
        link.cut("gone in the same turn")
        for _ in range(1_000):
            if link._gone.is_set():
                return
            await asyncio.sleep(0)

    async with scripted(Script()) as network:
        link = NadoConnectionManager(
            network.subscribe,
            lambda on_disconnected: TextListener(lambda _: None, on_disconnected=on_disconnected),
            name="test",
            config=FAST_LINK,
            setup=set_up,
            on_live=lambda: lives.append(1),
        )
        link.start()
        await until(lambda: link.connects >= 3, "it tries again")
        await link.stop()
        assert lives == []
        assert link.losses == link.connects
        assert link.state is LinkState.DISCONNECTED


# ---------------------------------------------------------------------------- nonsense

PRICE, HUGE = str(3000 * 10**18), str(1 << 127)
NONSENSE = [
    {"bids": [[PRICE, "1"], [PRICE, "2"]]},
    {"bids": [[PRICE, "-1"]]},
    {"asks": [[HUGE, "1"]]},
    {"asks": [["0", "1"]]},
    {"timestamp": str(1 << 64)},
    {"timestamp": "-1"},
]


@pytest.mark.parametrize("changes", NONSENSE)
async def test_a_snapshot_of_nonsense_is_asked_again(changes: dict[str, Any]) -> None:
    asked: list[int] = []

    def answer(message: Any) -> Any:
        if "method" in message:
            return acknowledge(message)
        asked.append(1)
        return book(**changes) if len(asked) == 1 else book()

    planner = SyncConfig(error_base_s=0.02, error_cap_s=0.05)
    async with running(Script(socket=answer), checks=CheckConfig(planner=planner)) as feed:
        await feed.wait_synced(3)
        assert feed.stats()["snapshot_failures"] == 1
        assert feed.link.connects == 1


@pytest.mark.parametrize("changes", NONSENSE)
async def test_nonsense_over_http_does_not_end_the_feed(changes: dict[str, Any]) -> None:
    queried: list[int] = []

    def query(message: Any) -> Any:
        queried.append(1)
        return book(**changes)

    script = Script(socket=lambda _: None, query=query)
    fallback = FallbackConfig(down_s=0.02, up_s=0.1, poll_s=0.02)
    async with running(script, with_rest=True, fallback=fallback) as feed:
        await until(lambda: len(queried) >= 3, "polls go on")
        assert feed.failure is None
        assert not feed.bbo(4).is_set


async def test_a_silent_product_that_cannot_be_verified_is_not_asked_for_all_the_time() -> None:
    asked: list[int] = []

    def answer(message: Any) -> Any:
        if "method" in message:
            return acknowledge(message)
        asked.append(1)
        return book() if len(asked) == 1 else {"status": "failure", "error": "no", "error_code": 5000}

    link = replace(FAST_LINK_WITH_DATA, data_timeout_s=None)
    checks = CheckConfig(product_quiet_s=0.3)
    async with running(Script(socket=answer), link=link, checks=checks, monitor_s=0.01) as feed:
        await feed.wait_synced(5)
        await until(lambda: len(asked) >= 3, "asked twice about the silence")
        began = asyncio.get_running_loop().time()
        before = len(asked)
        await until(lambda: len(asked) >= before + 3, "and again")
        assert asyncio.get_running_loop().time() - began > 0.5


# ---------------------------------------------------------------------------- positions over HTTP


def info(amount_x18: int) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(json.dumps(INFO))
    for row in answer["data"]["perp_balances"]:
        row["balance"]["amount"] = str(amount_x18 if row["product_id"] == 4 else 0)
    return answer


def stream_position(amount_x18: int) -> PositionChangeEvent:
    return PositionChangeEvent(4, 1, SIGNER.subaccount(), False, amount_x18, 0, "match_orders")


@asynccontextmanager
async def poller(script: Script) -> AsyncIterator[tuple[RestPoller, list[PositionChangeEvent]]]:
    told: list[PositionChangeEvent] = []
    async with scripted(script) as network, Rest(network, timeout_s=1) as rest:
        yield (
            RestPoller(
                FeedCore([4]),
                rest,
                [4],
                SIGNER.subaccount(),
                on_position=told.append,
                exchange_now_ns=lambda: NOW_MS * 1_000_000,
                config=FallbackConfig(positions_every=1),
            ),
            told,
        )


async def test_a_queue_that_was_forgotten_costs_no_message_anything() -> None:
    feed = Feed("testnet", products=[4], streams=["best_bid_offer", "book_depth"])
    core = feed._core
    event = sample("stream_best_bid_offer")["events"][0] | {"product_id": 4}

    def calls() -> int:
        core.receive(json.dumps(event | {"timestamp": str(next(times))}).encode(), 1)
        count: int = core.stats()["latency"]["callback"]["count"]
        return count

    times = itertools.count(1)
    assert calls() == 0
    queue = feed.events(["best_bid_offer"])
    assert calls() == 1
    assert len(queue) == 1
    del queue
    gc.collect()
    assert calls() == 1


async def test_a_position_nobody_had_told_is_news() -> None:
    """A first fill during an outage: there is nothing to compare it with, and it must not be swallowed."""

    def query(message: Any) -> Any:
        return book() if message["type"] == "market_liquidity" else info(5)

    async with poller(Script(query=query)) as (polls, told):
        await polls.poll_account()
        await polls.poll_account()
    assert [(event.amount_x18, event.reason) for event in told] == [(5, "rest")]


async def test_a_poll_overtaken_by_the_stream_tells_nothing() -> None:
    asked, answer = asyncio.Event(), asyncio.Event()

    async def slow(request: web.Request) -> web.Response:
        message = json.loads(await request.text())
        if message["type"] == "market_liquidity":
            return web.json_response(book())
        asked.set()
        await answer.wait()
        return web.json_response(info(5))

    script = Script()
    script.serve_http = slow  # type: ignore[method-assign,assignment]
    async with poller(script) as (polls, told):
        polls.on_stream_position(stream_position(5))
        polling = asyncio.ensure_future(polls.poll_account())
        await asked.wait()
        polls.on_stream_position(stream_position(7))
        answer.set()
        await polling
        assert told == []
        await polls.poll_account()
    # Asked after the stream spoke, the same answer is news.
    assert [event.amount_x18 for event in told] == [5]


async def test_what_hangs_of_the_account_holds_up_no_price() -> None:
    asked: list[float] = []

    def query(message: Any) -> Any:
        if message["type"] != "market_liquidity":
            return None  # never an answer
        asked.append(asyncio.get_running_loop().time())
        return book()

    config = FeedConfig(
        link=FAST_LINK,
        query_link=FAST_LINK,
        fallback=FallbackConfig(down_s=0.02, poll_s=0.02, orders_every=2, query_share=10.0),
        monitor_s=0.01,
    )
    async with scripted(Script(query=query)) as network, Rest(network, timeout_s=1.5) as rest:
        async with Feed(network, products=[4], signer=SIGNER, rest=rest, config=config) as feed:
            await until(
                lambda: feed.stats()["fallback_failures"] >= 2, "no answer about orders and positions"
            )
            assert feed.account_mode.value == "rest"
    pauses = [later - earlier for earlier, later in itertools.pairwise(asked)]
    assert max(pauses[1:]) < 1.4  # less than what the account has to be silent for


async def test_isolated_positions_are_polled_once_there_was_one() -> None:
    isolated: dict[str, Any] = json.loads(json.dumps(sample("query_isolated_positions")["response"]))
    (row, *_) = isolated["data"]["isolated_positions"]
    row["base_balance"]["product_id"] = 4
    row["base_balance"]["balance"]["amount"] = "3"
    isolated["data"]["isolated_positions"] = [row]
    asked: list[str] = []

    def query(message: Any) -> Any:
        asked.append(message["type"])
        return isolated if message["type"] == "isolated_positions" else info(0)

    async with poller(Script(query=query)) as (polls, told):
        await polls.poll_account()
        assert asked == ["subaccount_info"]
        cheap_s = polls.pause_s(market=False, account=True)
        polls.on_stream_position(replace(stream_position(2), isolated=True))
        await polls.poll_account()
        assert [(event.isolated, event.amount_x18, event.reason) for event in told] == [(True, 3, "rest")]
        assert polls.pause_s(market=False, account=True) > cheap_s, "they are dear"
        isolated["data"]["isolated_positions"] = []
        await polls.poll_account()
        assert [(event.isolated, event.amount_x18) for event in told[1:]] == [(True, 0)], "gone is closed"
        await polls.poll_account()
        assert len(told) == 2


async def test_the_clock_is_kept_over_the_stream_and_over_http_while_that_is_down() -> None:
    asked: list[str] = []

    def answer(message: Any) -> Any:
        if message.get("method") == "time":
            asked.append("stream")
        return acknowledge(message)

    script = Script(socket=answer, query=lambda _: book())
    async with running(script, with_rest=True, time_refresh_s=0.03) as feed:
        await feed.wait_synced(5)
        before = len(asked)
        await until(lambda: len(asked) > before + 2, "over the stream")
        feed.link.url = "ws://127.0.0.1:9/"
        feed.link.cut("test")
        await until(lambda: not feed.link.is_live, "down")
        age_s = feed.timesync.sample_age_s
        await until(lambda: feed.timesync.sample_age_s < age_s, "over HTTP")
