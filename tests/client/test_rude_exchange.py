"""Clients against an exchange that answers late, wrongly, twice, or not at all."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import web
from clientkit import FAST_LINK, FAST_LINK_WITH_DATA, sample, until

from nadofast import (
    Feed,
    FeedConfig,
    GatewayConfig,
    LimitConfig,
    NadoRateLimiter,
    Network,
    OrderGateway,
    OrderRequest,
    OrderState,
    OrderType,
    OutcomeKind,
    Signer,
    TimeSample,
    TimeSync,
    errors,
    parse_symbols,
    to_x18,
)
from nadofast.connection import LinkState, NadoConnectionManager
from nadofast.queries import GatewayQueries
from nadofast.ratelimit import Window

Answer = Callable[[web.WebSocketResponse, Any], Awaitable[None]]
PRODUCTS = parse_symbols(sample("query_symbols")["response"]["data"])
SIGNER = Signer("0x" + "01" * 32, chain_id=1, endpoint_address="0x" + "00" * 20)
SNAPSHOT = sample("query_market_liquidity")["response"]
ORDER = OrderRequest(4, to_x18(3000), to_x18("0.1"), OrderType.POST_ONLY)


@asynccontextmanager
async def exchange(answer: Answer) -> AsyncIterator[Network]:
    """Every socket path leads to `answer(socket, decoded message)`."""

    async def serve(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            assert message.type is web.WSMsgType.TEXT, message
            await answer(socket, json.loads(message.data))
        return socket

    app = web.Application()
    app.router.add_get("/{path:.*}", serve)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    base = f"ws://127.0.0.1:{runner.addresses[0][1]}"
    try:
        address = "0x" + "00" * 20
        yield Network("rude", base, f"{base}/v1/ws", f"{base}/ws/v2", f"{base}/sub", base, 1, address)
    finally:
        await runner.cleanup()


def known_clock() -> TimeSync:
    timesync = TimeSync()
    clock = timesync._clock_ns()
    timesync.update(TimeSample(clock, clock, 1_790_000_000_000))
    return timesync


# ---------------------------------------------------------------------------- query socket


@asynccontextmanager
async def queries(network: Network, **options: Any) -> AsyncIterator[GatewayQueries]:
    client = GatewayQueries(network, config=FAST_LINK, timeout_s=0.3, **options)
    client.start()
    try:
        await client.link.wait_live(5)
        yield client
    finally:
        await client.stop()


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        ("not json", errors.BadResponse),
        ("[]", errors.BadResponse),
        ('{"status":"odd"}', errors.BadResponse),
        ('{"status":"success","request_type":"query_status","data":"active"}', errors.BadResponse),
        ('{"status":"success","data":{"bids":[]}}', errors.BadResponse),
        ('{"status":"failure","error":"no market","error_code":2015}', errors.ExchangeError),
        ('{"status":"failure","error":"?"}', errors.ExchangeError),
    ],
)
async def test_wrong_answers_to_a_query(reply: str, error: type[Exception]) -> None:
    async def answer(socket: web.WebSocketResponse, _: Any) -> None:
        await socket.send_str(reply)

    async with exchange(answer) as network, queries(network) as client:
        with pytest.raises(error):
            await client.market_liquidity(4)


async def test_a_query_without_answer_costs_the_socket() -> None:
    asked = []

    async def answer(socket: web.WebSocketResponse, message: Any) -> None:
        asked.append(message)
        if len(asked) > 1:
            await socket.send_str(json.dumps(SNAPSHOT))

    async with exchange(answer) as network, queries(network) as client:
        with pytest.raises(errors.RequestTimeout, match="market_liquidity"):
            await client.market_liquidity(4)
        await until(lambda: client.link.connects == 2, "a fresh socket")
        await client.link.wait_live(5)
        assert (await client.market_liquidity(4)).timestamp_ns == 1790000000123456789


async def test_a_socket_that_goes_fails_the_query_at_once() -> None:
    async def answer(socket: web.WebSocketResponse, _: Any) -> None:
        await socket.close()

    async with exchange(answer) as network, queries(network) as client:
        with pytest.raises(errors.ConnectionLost):
            await client.market_liquidity(4)


async def test_queries_take_turns_and_keep_the_budget() -> None:
    open_at_once = [0, 0]

    async def answer(socket: web.WebSocketResponse, _: Any) -> None:
        open_at_once[0] += 1
        open_at_once[1] = max(open_at_once)
        await asyncio.sleep(0.01)
        open_at_once[0] -= 1
        await socket.send_str(json.dumps(SNAPSHOT))

    limits = LimitConfig(limits={"execute": (), "query": (Window(5, 60.0),), "archive": ()})
    async with exchange(answer) as network, queries(network, limiter=NadoRateLimiter(limits)) as client:
        await asyncio.gather(*(client.market_liquidity(4) for _ in range(5)))
        with pytest.raises(errors.OrderDenied, match="rate_limit"):
            await client.market_liquidity(4)
    assert open_at_once[1] == 1


# ---------------------------------------------------------------------------- orders


@asynccontextmanager
async def gateway(network: Network, **options: Any) -> AsyncIterator[OrderGateway]:
    config = replace(GatewayConfig(link=FAST_LINK, reply_timeout_s=0.2), **options)
    client = OrderGateway(network, SIGNER, products=PRODUCTS, timesync=known_clock(), config=config)
    async with client:
        yield client


def success(message: Any) -> dict[str, Any]:
    placed = message["place_order"]
    return {"status": "success", "signature": placed["signature"], "id": placed["id"]}


async def test_answers_out_of_order_reach_their_orders() -> None:
    held: list[dict[str, Any]] = []

    async def answer(socket: web.WebSocketResponse, message: Any) -> None:
        held.append(message)
        if len(held) == 3:
            codes = [None, 2008, None]
            for sent, code in reversed(list(zip(held, codes, strict=True))):
                reply = success(sent)
                if code is not None:
                    reply |= {"status": "failure", "error": "crosses", "error_code": code}
                    del reply["id"]  # failures may come without one
                await socket.send_str(json.dumps(reply))

    async with exchange(answer) as network, gateway(network) as client:
        outcomes = await client.place_many([ORDER, replace(ORDER, client_id=5), replace(ORDER, client_id=5)])
    kinds = [outcome.kind for outcome in outcomes]
    assert kinds == [OutcomeKind.CONFIRMED, OutcomeKind.REJECTED, OutcomeKind.CONFIRMED]
    assert outcomes[1].error_code == 2008
    assert [message["place_order"]["id"] for message in held][1:] == [5, 5]


async def test_a_late_answer_still_reaches_the_record() -> None:
    async def answer(socket: web.WebSocketResponse, message: Any) -> None:
        await asyncio.sleep(0.4)
        await socket.send_str(json.dumps(success(message)))

    async with exchange(answer) as network, gateway(network) as client:
        outcome = await client.place(ORDER)
        assert outcome.kind is OutcomeKind.UNKNOWN
        record = client.tracker.get(outcome.digest)
        assert record is not None
        assert record.state is OrderState.UNKNOWN
        await until(lambda: client.stats()["late_replies"] == 1, "the late answer")
        assert record.state is OrderState.OPEN
        resolved = await client.resolve(outcome.digest, 4, 1)
        assert (resolved.kind, resolved.path) == (OutcomeKind.CONFIRMED, "stream")


@pytest.mark.parametrize("noise", ["not json", "[1]", '{"status":"success","signature":"0xother"}'])
async def test_noise_is_counted_and_harms_nothing(noise: str) -> None:
    async def answer(socket: web.WebSocketResponse, message: Any) -> None:
        await socket.send_str(noise)
        await socket.send_str(json.dumps(success(message)))
        await socket.send_str(json.dumps(success(message)))

    async with exchange(answer) as network, gateway(network) as client:
        assert (await client.place(ORDER)).is_confirmed
        counted = ("orphan_replies", "late_replies")
        await until(
            lambda: sum(client.stats()[name] for name in counted) == 2, "noise and repetition counted"
        )


async def test_internal_errors_and_codeless_failures_are_unknown() -> None:
    replies = [{"error_code": 5000}, {}, {"error_code": "odd"}]

    async def answer(socket: web.WebSocketResponse, message: Any) -> None:
        failure = {"status": "failure", "error": "?"} | replies.pop()
        await socket.send_str(json.dumps(success(message) | failure))

    async with exchange(answer) as network, gateway(network) as client:
        for _ in range(3):
            assert (await client.place(ORDER)).kind is OutcomeKind.UNKNOWN


async def test_a_cancel_reply_that_cannot_be_read_is_unknown() -> None:
    async def answer(socket: web.WebSocketResponse, message: Any) -> None:
        reply = {
            "status": "success",
            "signature": message["cancel_orders"]["signature"],
            "data": {"cancelled_orders": [{"digest": "0x"}]},
        }
        await socket.send_str(json.dumps(reply))

    async with exchange(answer) as network, gateway(network) as client:
        assert (await client.cancel(4, "0x" + "11" * 32)).kind is OutcomeKind.UNKNOWN


async def test_too_many_requests_under_way_are_denied() -> None:
    async def answer(socket: web.WebSocketResponse, message: Any) -> None:
        await asyncio.sleep(0.1)

    async with exchange(answer) as network, gateway(network, max_in_flight=2) as client:
        first = asyncio.gather(*(client.place(ORDER) for _ in range(2)))
        await until(lambda: client.stats()["in_flight"] == 2, "two under way")
        assert (await client.place(ORDER)).reason.startswith("in_flight")
        await first


async def test_an_abandoned_wait_leaves_the_order_unknown() -> None:
    async def answer(socket: web.WebSocketResponse, message: Any) -> None:
        await asyncio.sleep(0)

    async with exchange(answer) as network, gateway(network, reply_timeout_s=5.0) as client:
        placing = asyncio.ensure_future(client.place(ORDER))
        await until(lambda: client.stats()["in_flight"] == 1, "sent")
        placing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await placing
        assert client.stats()["in_flight"] == 0
        (record,) = client.tracker.live()
        assert record.state is OrderState.UNKNOWN


async def test_rate_errors_slow_new_orders_down() -> None:
    async def answer(socket: web.WebSocketResponse, message: Any) -> None:
        (body,) = message.values()  # an order or a cancel
        named = {"signature": body["signature"], "id": body["id"]}
        await socket.send_str(json.dumps(named | {"status": "failure", "error": "slow", "error_code": 1000}))

    limiter = NadoRateLimiter()
    async with exchange(answer) as network:
        config = GatewayConfig(link=FAST_LINK)
        async with OrderGateway(
            network, SIGNER, products=PRODUCTS, timesync=known_clock(), limiter=limiter, config=config
        ) as client:
            assert (await client.place(ORDER)).error_code == 1000
            assert (await client.place(ORDER)).reason.startswith("rate_limit")
            assert limiter.rate_errors == 1
            # Getting out is tried regardless, and its refusal is heard, too.
            assert (await client.cancel(4, "0x" + "11" * 32)).error_code == 1000
    assert limiter.rate_errors == 2


# ---------------------------------------------------------------------------- streams


def feed(network: Network, **config: Any) -> Feed:
    base = FeedConfig(link=FAST_LINK_WITH_DATA, query_link=FAST_LINK, ack_timeout_s=0.2, query_timeout_s=0.3)
    streams = ["best_bid_offer", "book_depth"]
    return Feed(network, products=[4], streams=streams, config=replace(base, **config))


async def polite(socket: web.WebSocketResponse, message: Any) -> None:
    """Acknowledges everything and has one book that never moves."""
    if "method" not in message:
        await socket.send_str(json.dumps(SNAPSHOT | {"data": SNAPSHOT["data"] | {"product_id": 4}}))
        return
    result = {"method": "time", "server_time": "1790000000123"} if message["method"] == "time" else None
    await socket.send_str(json.dumps({"result": result, "id": message["id"]}))


async def test_a_subscription_without_ack_is_an_error() -> None:
    async def answer(socket: web.WebSocketResponse, message: Any) -> None:
        if message.get("stream", {}).get("type") != "book_depth":
            await polite(socket, message)

    async with exchange(answer) as network, feed(network) as client:
        with pytest.raises(errors.RequestTimeout, match="subscribe book_depth 4: not acknowledged"):
            await client.wait_synced(1)
        assert client.stats()["connects"] >= 2


async def test_a_refused_subscription_names_the_reason() -> None:
    async def answer(socket: web.WebSocketResponse, message: Any) -> None:
        if message.get("method") == "subscribe":
            refusal = {"error": "no such market", "error_code": 2015, "id": message["id"]}
            await socket.send_str(json.dumps(refusal))
        else:
            await polite(socket, message)

    async with exchange(answer) as network, feed(network, ack_timeout_s=5.0) as client:
        reasons: list[str] = []

        def look() -> bool:
            reasons.append(client._upstream.missing() or "")
            return client.stats()["losses"] >= 3

        await until(look, "refused again and again")
        with pytest.raises(errors.RequestTimeout, match="no such market"):
            await client.wait_synced(0.05)
        # While the socket is being closed, too: it was not the peer who closed it.
        closed = [step.reason for step in client.link.history if step.state is LinkState.CLOSED]
        assert len(closed) >= 3
        assert all("no such market" in reason for reason in closed)
        assert not [reason for reason in reasons if "the peer" in reason]


async def test_a_stream_that_cannot_tell_the_time_needs_rest() -> None:
    async def answer(socket: web.WebSocketResponse, message: Any) -> None:
        if message.get("method") == "time":
            await socket.send_str(json.dumps({"result": {"method": "time"}, "id": message["id"]}))
        else:
            await polite(socket, message)

    async with exchange(answer) as network, feed(network) as client:
        with pytest.raises(errors.RequestTimeout, match="time"):
            await client.wait_synced(0.5)


async def test_a_socket_that_goes_during_set_up_is_retried() -> None:
    seen = []

    async def answer(socket: web.WebSocketResponse, message: Any) -> None:
        seen.append(message)
        if len(seen) == 1:
            await socket.close(code=1012, message=b"restart")
        else:
            await polite(socket, message)

    async with exchange(answer) as network, feed(network) as client:
        boundaries: list[str] = []
        client.on("boundary", lambda event: boundaries.append(event.what))
        await client.wait_synced(5)
        # What was never up was never lost.
        assert boundaries[0] == "link_up"
        assert client.stats()["losses"] >= 1


async def test_a_snapshot_that_never_comes_replaces_the_link() -> None:
    async def answer(socket: web.WebSocketResponse, message: Any) -> None:
        if "method" in message:
            await polite(socket, message)

    base = FeedConfig()
    planner = replace(base.checks.planner, give_up_s=0.3)
    checks = replace(base.checks, planner=planner)
    async with exchange(answer) as network, feed(network, checks=checks) as client:
        await until(lambda: client.stats()["losses"] >= 1, "given up")
        assert not client.is_synced
        assert client.stats()["snapshot_failures"] >= 1


async def test_a_stream_that_is_silent_while_the_market_moves_is_replaced() -> None:
    moves = [0]

    async def answer(socket: web.WebSocketResponse, message: Any) -> None:
        if "method" in message:
            await polite(socket, message)
            return
        moves[0] += 1
        data = dict(SNAPSHOT["data"])
        if moves[0] > 1:
            data |= {"bids": data["bids"][1:], "timestamp": str(int(data["timestamp"]) + moves[0])}
        await socket.send_str(json.dumps(SNAPSHOT | {"data": data}))

    base = FeedConfig()
    checks = replace(base.checks, product_quiet_s=0.2, settle_s=0.05)
    async with exchange(answer) as network:
        async with feed(network, checks=checks, link=FAST_LINK, monitor_s=0.02) as client:
            await client.wait_synced(5)
            await until(lambda: client.stats()["losses"] >= 1, "replaced")
            assert "silent while its market moves" in client.stats()["last_error"]


async def test_a_defect_of_the_feed_itself_is_never_live_again() -> None:
    async with exchange(polite) as network:
        async with feed(network, monitor_s=0.02) as client:
            await client.wait_synced(5)

            def broken(now_ns: int) -> list[int]:
                raise ZeroDivisionError("a defect")

            client._upstream.sync.check = broken  # type: ignore[method-assign]
            await until(lambda: client.failure is not None, "the failure surfaces")
            assert not client.is_live
            with pytest.raises(errors.RequestTimeout, match="ZeroDivisionError"):
                await client.wait_synced(0.05)


async def test_the_horizon_refreshes_a_valid_book_in_place() -> None:
    async with exchange(polite) as network, feed(network) as client:
        await client.wait_synced(5)
        asked = client.stats()["snapshots"]
        boundaries: list[str] = []
        client.on("boundary", lambda event: boundaries.append(event.what))
        client._on_horizon(4)
        assert client.book(4).is_valid
        await until(lambda: client.stats()["snapshots"] > asked, "asked")
        await until(lambda: not client._upstream.sync.planner.needs(4), "joined")
        assert client.book(4).is_valid
        assert boundaries == []


async def test_a_jammed_peer_blocks_orders_before_they_are_sent() -> None:
    """A peer that does not read: what is written would queue, so nothing more is handed over."""
    stop = asyncio.Event()

    async def answer(socket: web.WebSocketResponse, message: Any) -> None:
        await stop.wait()

    async with exchange(answer) as network:
        async with gateway(network) as client:
            link: NadoConnectionManager = client.link
            await until(lambda: link.is_live, "up")
            for _ in range(400):
                if link.blocked() is not None:
                    break
                link.send(b'{"x":"' + b"y" * 200_000 + b'"}')
                await asyncio.sleep(0)
            assert link.blocked() == "write buffer is not empty"
            outcome = await client.place(ORDER)
            assert outcome.kind is OutcomeKind.DENIED
            assert "write buffer" in outcome.reason
            stop.set()
