"""`NadoClient`: its connection, and what it is told of its orders, over the real wire."""

from __future__ import annotations

import asyncio
import time
from decimal import Decimal
from typing import Any

import pytest
from deskkit import ETH, SIZE, SOL, Desk, until
from quickest import quickest

from bot.client import NadoClient
from bot.order_results import OrderUpdate
from nadofast import OrderType
from nadofast.errors import RequestTimeout


async def collect(client: NadoClient) -> list[OrderUpdate]:
    heard: list[OrderUpdate] = []
    await client.subscribe_to_orders(heard.append)
    return heard


async def test_the_socket_opens_is_signed_in_and_has_market_data(desk: Desk) -> None:
    fresh = NadoClient(
        desk.eth.product, market=desk.eth._market, gateway=desk.gateway, gate=desk.gate,
        timesync=desk.eth._timesync, feed=desk.feed, reconciler=desk.eth._reconciler,
    )  # fmt: skip
    assert fresh.get_bbo_handler() is None  # nobody has connected this one yet
    await fresh.connect_websocket()
    assert fresh._ws_connected
    await fresh._authenticate_websocket()
    assert fresh.get_connection_status()["account"] == "live"
    await fresh.connect()
    await until(fresh.has_ws_market_data, "best bid and offer over the stream")
    bbo, depth = fresh.get_bbo_handler(), fresh.get_bookdepth_handler()
    assert bbo is not None
    assert depth is not None
    await until(lambda: depth.updates > 0, "the book handler runs")
    assert depth.get_best_bid()[0] <= depth.get_best_ask()[0]
    await fresh.disconnect()
    assert fresh.get_bbo_handler() is None
    assert desk.eth.has_ws_market_data()  # the other client keeps its sockets


async def test_a_fill_is_extracted_as_the_handler_of_old_expects_it(desk: Desk) -> None:
    heard: list[tuple[str, Decimal, Decimal, int]] = []
    desk.eth.setup_order_update_handler(lambda *facts: heard.append(facts))
    price = await desk.inside(desk.eth, "sell")
    await desk.stranger.offer(ETH, price, -SIZE)
    before_ns = time.time_ns()
    result = await desk.eth.place_ioc_order(ETH, SIZE, "buy", price)
    await until(lambda: heard, "the handler hears of the fill")
    (order_id, size, at, stamp_ns), *more = heard
    assert (order_id, size, at) == (result.order_id, SIZE, price)
    assert abs(stamp_ns - before_ns) < 5 * 10**9
    assert more == []


async def test_an_ioc_fill_is_known_over_the_stream_within_100_ms(desk: Desk) -> None:
    heard = await collect(desk.eth)

    async def fill() -> float:
        price = await desk.inside(desk.eth, "sell")
        await desk.stranger.offer(ETH, price, -SIZE)
        result = await desk.eth.place_ioc_order(ETH, SIZE, "buy", price)
        order = desk.order(result.order_id)
        assert order.sent_ns is not None
        assert order.first_fill_ns is not None
        assert result.price == price
        took_s = (order.first_fill_ns - order.sent_ns) / 1e9
        print(f"order sent → fill seen {took_s * 1e3:.1f} ms, 30 ms the exchange's")
        return took_s

    await quickest(fill, 0.1)
    await until(lambda: any(update.reason == "filled" for update in heard), "the update")


async def test_a_partial_fill_tells_what_is_filled_and_what_remains(desk: Desk) -> None:
    heard = await collect(desk.eth)
    price = await desk.inside(desk.eth, "buy")
    placed = await desk.eth.place_open_order(ETH, SIZE, "buy", price)
    assert placed.order_id is not None
    await desk.stranger.take(ETH, price, Decimal("-0.04"))
    await until(lambda: [u for u in heard if u.reason == "filled"], "the fill")
    update = next(u for u in heard if u.reason == "filled")
    assert (update.order_id, update.side) == (placed.order_id, "buy")
    assert (update.filled_size, update.remaining_size) == (Decimal("0.04"), Decimal("0.06"))
    info = await desk.eth.get_order_info(placed.order_id)
    assert info is not None
    assert (info.status, info.filled_size, info.remaining_size) == (
        "PARTIALLY_FILLED", Decimal("0.04"), Decimal("0.06"),
    )  # fmt: skip
    cancelled = await desk.eth.cancel_order(placed.order_id)
    assert (cancelled.success, cancelled.filled_size) == (True, Decimal("0.04"))


async def test_a_cancel_is_told(desk: Desk) -> None:
    heard = await collect(desk.eth)
    price = await desk.inside(desk.eth, "buy")
    placed = await desk.eth.place_open_order(ETH, SIZE, "buy", price)
    assert (placed.success, placed.status) == (True, "OPEN")
    assert (await desk.eth.cancel_order(placed.order_id or "")).success
    await until(lambda: len(heard) == 2, "placed and cancelled")
    assert [(u.order_id, u.reason, u.filled_size) for u in heard] == [
        (placed.order_id, "placed", 0), (placed.order_id, "cancelled", 0),
    ]  # fmt: skip
    assert heard[0].remaining_size == SIZE
    assert heard[0].timestamp_ns < heard[1].timestamp_ns
    assert await desk.eth.get_active_orders(ETH) == []  # and it is so


async def test_both_products_are_told_each_its_own(desk: Desk) -> None:
    eth, sol = await collect(desk.eth), await collect(desk.sol)
    first, second = await asyncio.gather(
        desk.eth.place_ioc_order(ETH, SIZE, "buy"), desk.sol.place_ioc_order(SOL, Decimal(2), "sell")
    )
    assert first.success
    assert second.success

    def filled(heard: list[OrderUpdate]) -> Decimal:
        return sum((u.filled_size for u in heard), Decimal(0))

    await until(lambda: filled(eth) == SIZE and filled(sol) == 2, "every fill is told")
    assert {u.order_id for u in eth} == {first.order_id}
    assert {u.order_id for u in sol} == {second.order_id}


async def test_many_updates_come_in_the_exchanges_order_each_once(desk: Desk) -> None:
    """Also to a slow handler, and with every message of the stream sent twice."""
    heard: list[OrderUpdate] = []

    async def slow(update: OrderUpdate) -> None:
        await asyncio.sleep(0.003)
        heard.append(update)

    await desk.eth.subscribe_to_orders(slow)
    price = await desk.inside(desk.eth, "buy")
    await desk.faults(duplicate={"probability": 1.0, "kind": "fill"})
    placed = await desk.eth.place_open_order(ETH, SIZE, "buy", price)
    for _ in range(5):
        await desk.stranger.take(ETH, price, Decimal("-0.02"))
    await until(lambda: sum(u.filled_size for u in heard) >= SIZE, "all fills")
    fills = [u for u in heard if u.reason == "filled"]
    assert [u.remaining_size for u in fills] == [Decimal(n) / 50 for n in (4, 3, 2, 1, 0)]
    assert {u.order_id for u in fills} == {placed.order_id}
    assert [u.timestamp_ns for u in fills] == sorted(u.timestamp_ns for u in fills)
    assert heard[0].reason == "placed"


async def test_a_handler_that_fails_stops_nobody(desk: Desk) -> None:
    def broken(update: OrderUpdate) -> None:
        raise RuntimeError("a strategy's defect")

    await desk.eth.subscribe_to_orders(broken)
    heard = await collect(desk.eth)
    result = await desk.eth.place_ioc_order(ETH, SIZE, "buy")
    await until(lambda: sum(u.filled_size for u in heard) == SIZE, "the good handler hears")
    assert result.filled_size == SIZE
    assert desk.eth.handler_errors > 0


async def test_a_closed_connection_is_seen_and_comes_back(desk: Desk) -> None:
    heard = await collect(desk.eth)
    await desk.faults(socket_refused=True, cut="subscribe")
    await until(lambda: not desk.eth._ws_connected, "the loss is seen")
    assert desk.eth.get_connection_status()["websocket"] == "disconnected"
    assert not desk.eth.has_ws_market_data()
    assert desk.eth.get_bbo_handler() is None
    with pytest.raises(RequestTimeout, match="market stream"):
        await desk.eth._ws_reconnect(0.1)
    tries = desk.feed.link._backoff.attempts
    await until(lambda: desk.feed.link._backoff.attempts >= tries + 5, "more than five attempts")
    await desk.faults(clear="socket_refused")
    await desk.eth.connect(10)
    assert desk.eth._ws_connected
    result = await desk.eth.place_ioc_order(ETH, SIZE, "buy")
    assert result.success
    await until(lambda: sum(u.filled_size for u in heard) == SIZE, "updates go on after the reconnect")


async def test_a_silent_socket_is_pinged_and_its_pongs_are_timed(desk: Desk) -> None:
    """The exchange cuts what is silent for 30 s; ours pings by itself, and a missing pong cuts the link."""
    link = desk.feed.link
    assert link.config.ping_interval_s + link.config.pong_timeout_s < 30
    await until(lambda: link.ping_round_trip.count > 0, "the first ping is answered without being asked for")
    before = link.ping_round_trip.count
    await link.send_ping()
    await until(lambda: link.ping_round_trip.count > before, "the pong of a ping of our own")
    await desk.faults(half_open="subscribe")
    await link.send_ping()
    assert link.ping_round_trip.count == before + 1


async def test_fills_come_over_rest_while_the_socket_is_down(desk: Desk) -> None:
    await desk.faults(socket_refused=True, cut="subscribe")
    await until(lambda: not desk.eth._ws_connected, "the loss is seen")

    async def fill() -> float:
        started_s = time.monotonic()
        result = await desk.eth.place_ioc_order(ETH, SIZE, "buy")
        assert (result.success, result.filled_size) == (True, SIZE)
        return time.monotonic() - started_s

    await quickest(fill, 0.5)


async def test_with_both_channels_up_the_stream_is_first_and_nothing_is_asked(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    price = await desk.inside(desk.eth, "sell")
    await desk.stranger.offer(ETH, price, -SIZE)
    before = (await desk.state())["executes"]
    rest, me = desk.eth._books().rest, asyncio.current_task()
    asked: list[str] = []
    for name in ("query", "archive_matches", "archive_orders"):
        ask = getattr(rest, name)

        async def noted(*words: Any, ask: Any = ask, name: str = name, **named: Any) -> Any:
            if asyncio.current_task() is me:
                asked.append(name)
            return await ask(*words, **named)

        monkeypatch.setattr(rest, name, noted)
    result = await desk.eth.place_ioc_order(ETH, SIZE, "buy", price)
    assert (result.success, result.filled_size, asked) == (True, SIZE, [])
    assert desk.order(result.order_id).first_fill_ns is not None
    assert await desk.eth.get_account_positions() == SIZE  # the second witness, over REST
    assert asked
    assert len((await desk.state())["executes"]) == len(before) + 1


async def test_status_metrics_and_health(desk: Desk) -> None:
    assert desk.eth.get_connection_status() == {
        "websocket": "connected", "rest": "available", "mode": "websocket", "account": "live", "orders": "ws",
    }  # fmt: skip
    await desk.eth.place_open_order(ETH, SIZE, "buy", order_type=OrderType.POST_ONLY)
    metrics = desk.eth.get_connection_metrics()
    assert metrics["orders"]["ws_requests"] == 1
    assert {"websocket_latency", "rest_latency", "failure_count", "failover_count"} <= metrics.keys()
    health = desk.eth.get_connection_health()
    assert (health["status"], health["failover_count"]) == ("healthy", 0)
