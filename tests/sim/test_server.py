"""The surface over real sockets: transport rules, envelopes, serial and concurrent requests, bad clients."""

from __future__ import annotations

import asyncio
import json
import os
import time
from contextlib import AsyncExitStack
from typing import Any

import aiohttp
import pytest
from quickest import quickest
from simcore import ETH, IOC, LIMIT, POST_ONLY, Trader
from simproc import start_sim
from wireclient import Client, Socket, eventually

from nadosim.app import SimServer
from nadosim.server import MAX_SOCKETS_PER_ADDRESS
from nadosim.steps import Step
from nadosim.streams import MAX_AUTHENTICATED

HOLD_S = 0.030


def _ioc(trader: Trader, **fields: Any) -> dict[str, Any]:
    return {"place_order": trader.order("buy", "3010", "0.1", IOC, **fields)}


def _resting(trader: Trader, price: str = "2900", **fields: Any) -> dict[str, Any]:
    return {"place_order": trader.order("buy", price, "0.1", POST_ONLY, **fields)}


# Transport ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("coding", ["", "identity", "zstd"])
async def test_a_request_that_takes_no_compression_is_refused(client: Client, coding: str) -> None:
    headers = {"Accept-Encoding": coding}
    for path in ("/query?type=status", "/time", "/symbols"):
        async with client.session.get(client.ready["gateway"] + path, headers=headers) as response:
            assert response.status == 403
            assert (await response.json())["error_code"] == 2080


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "gzip;q=0.5, deflate"])
async def test_replies_are_compressed_when_large(client: Client, coding: str) -> None:
    url = client.ready["gateway"] + "/query?type=market_liquidity&product_id=4&depth=100"
    async with client.session.get(url, headers={"Accept-Encoding": coding}) as response:
        data = (await response.json())["data"]
        assert response.headers.get("Content-Encoding") == {"br": None, "deflate": "deflate"}.get(
            coding, "gzip"
        )
    assert len(data["bids"]) >= 40
    assert len(data["asks"]) >= 40


async def test_get_and_post_queries_agree(client: Client) -> None:
    asked = {"type": "market_price", "product_id": 4}
    over_post = await client.post("/query", asked)
    assert over_post == await client.get("/query", type="market_price", product_id="4")
    assert over_post[1]["request_type"] == "query_market_price"


async def test_time_is_a_bare_number_and_symbols_a_bare_list(client: Client) -> None:
    _, now_ms = await client.get("/time")
    assert abs(now_ms - time.time() * 1000) < 2_000
    _, symbols = await client.get("/symbols")
    assert {"product_id": 4, "symbol": "ETH-PERP", "delisted": False} in symbols


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/query", b"{"),
        ("/query", b"[]"),
        ("/query", b"{}"),
        ("/query", b'{"type":4}'),
        ("/execute", b"\xff\xfe"),
        ("/execute", b'{"type":"status"}'),
        ("/execute", b'{"mint_money":{}}'),
        ("/execute", b'{"place_order":{},"cancel_orders":{}}'),
    ],
)
async def test_what_is_no_request_is_422(client: Client, path: str, body: bytes) -> None:
    status, reply = await client.post(path, body)
    assert (status, reply["status"], reply["error_code"]) == (422, "failure", 2038)


async def test_refusals_of_the_exchange_are_http_200(client: Client, trader: Trader) -> None:
    status, reply = await client.post("/query", {"type": "market_liquidity", "product_id": 999, "depth": 5})
    assert (status, reply["status"]) == (200, "failure")
    order = trader.order("buy", "2900.05", "0.1", LIMIT, client_id=9)
    status, reply = await client.post("/execute", {"place_order": order})
    assert (status, reply["status"], reply["error_code"], reply["id"]) == (200, "failure", 2000, 9)
    assert reply["signature"] == order["signature"]
    assert reply["request_type"] == "execute_place_order"
    status, reply = await client.post("/execute", {"place_order": {"product_id": 4}})
    assert (status, reply["error_code"]) == (200, 2038)


async def test_a_subscription_without_deflate_is_refused(client: Client) -> None:
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        async with client.socket("subscribe", deflate=False):
            pass
    assert refused.value.status == 403


async def test_deflate_keeps_its_context(client: Client) -> None:
    async with client.socket("subscribe") as socket:
        extension = socket.ws._response.headers["Sec-WebSocket-Extensions"]
    assert extension == "permessage-deflate"


# Executes -------------------------------------------------------------------------------------------


async def test_only_orders_that_may_take_are_held(client: Client, trader: Trader) -> None:
    async def wait_s(order: dict[str, Any]) -> float:
        started = time.monotonic()
        _, reply = await client.post("/execute", order)
        assert reply["status"] == "success"
        return time.monotonic() - started

    held, others = [], []
    for number in range(5):
        held.append(await wait_s(_ioc(trader)))
        others.append(await wait_s(_resting(trader, str(2900 - number))))
    assert min(held) >= HOLD_S
    # A slow machine takes longer for both.
    assert min(held) - min(others) > HOLD_S / 2, (held, others)


async def test_the_serial_socket_waits_out_the_hold(client: Client, trader: Trader) -> None:
    async with client.socket("gateway_ws") as socket:
        started = time.monotonic()
        await socket.send(_ioc(trader, client_id=1))
        await socket.send({"type": "status"})
        await socket.send(_resting(trader, client_id=3))
        replies = [await socket.receive() for _ in range(3)]
    assert time.monotonic() - started >= HOLD_S
    kinds = [reply["request_type"] for reply in replies]
    assert kinds == ["execute_place_order", "query_status", "execute_place_order"]
    assert [reply.get("id") for reply in replies] == [1, None, 3]


async def test_the_second_socket_runs_requests_side_by_side(client: Client, trader: Trader) -> None:
    async with client.socket("gateway_ws_v2") as socket:

        async def ask() -> float:
            started = time.monotonic()
            for number in range(12):
                await socket.send(_ioc(trader, client_id=number))
            await socket.send(_resting(trader, client_id=50))
            await socket.send({"type": "status"})
            replies = [await socket.receive() for _ in range(14)]
            took_s = time.monotonic() - started
            assert {reply.get("id") for reply in replies[:2]} == {50, None}
            assert {reply["id"] for reply in replies[2:]} == set(range(12))
            assert all(reply["status"] == "success" for reply in replies)
            return took_s

        await quickest(ask, 12 * HOLD_S)  # one after another they take at least so long


async def test_an_order_outlives_the_socket_that_sent_it(
    client: Client, server: SimServer, trader: Trader
) -> None:
    async with client.socket("gateway_ws_v2") as socket:
        await socket.send(_ioc(trader))
        await eventually(lambda: server.gateway.executes == 1)
    await eventually(lambda: bool(server.exchange.fills_state()))


async def test_garbage_on_a_gateway_socket_is_answered(client: Client) -> None:
    for name in ("gateway_ws", "gateway_ws_v2"):
        async with client.socket(name, deflate=False) as socket:
            for text in ("{", "[]", '"x"', '{"a":1,"b":2}', '{"place_order":null}'):
                await socket.send(text)
                assert (await socket.receive())["error_code"] == 2038
            await socket.send({"no_such_execute": {}, "id": 3})
            assert (await socket.receive())["id"] == 3
            await socket.ws.send_bytes(b"\x00\x01")
            assert (await socket.receive())["error_code"] == 2038


async def test_a_query_is_answered_in_its_turn_and_without_an_id(client: Client) -> None:
    """A client that told replies to queries by their id would wait for ever on the real exchange."""
    async with client.socket("gateway_ws") as socket:
        await socket.send({"type": "status", "id": 4})
        status = {"status": "success", "data": "active", "request_type": "query_status"}
        assert await socket.receive() == status
        await socket.send({"type": "order", "product_id": ETH, "digest": "0x" + "11" * 32, "id": 5})
        assert "id" not in await socket.receive()
    assert (await client.get("/query", type="status", id="4"))[1] == status


async def test_the_archive_tells_fills_and_refuses_without_status(client: Client, trader: Trader) -> None:
    _, placed = await client.post("/execute", _ioc(trader))
    digest = placed["data"]["digest"]
    _, orders = await client.post("", {"orders": {"digests": [digest]}}, base="archive")
    assert [order["digest"] for order in orders["orders"]] == [digest]
    _, refused = await client.post(
        "", {"orders": {"digests": [digest], "subaccounts": [trader.sender]}}, base="archive"
    )
    assert refused["error_code"] == 3000
    assert "status" not in refused


# Clients that misbehave -----------------------------------------------------------------------------


async def test_a_slow_reader_is_cut_and_nobody_else_notices(client: Client, server: SimServer) -> None:
    async with client.socket("subscribe") as healthy, client.socket("subscribe") as slow:
        for socket in (healthy, slow):
            await socket.ask("subscribe", stream={"type": "trade", "product_id": ETH})
        transport = slow.ws._response.connection.transport
        transport.pause_reading()
        published = 0
        async with asyncio.timeout(20):
            while not server.surface.sockets.ends:
                for _ in range(20):
                    published += 1
                    server.hub.on_step(_noisy_trade(published))
                for _ in range(20):
                    last = await healthy.receive()
                assert last["timestamp"] == str(published)
        transport.resume_reading()
    assert server.surface.sockets.ends == {"slow reader": 1}


def _noisy_trade(number: int) -> Step:
    """A trade that does not compress, so that buffers fill soon."""
    noise = os.urandom(8_000).hex()
    event = {"type": "trade", "timestamp": str(number), "product_id": ETH, "price": "1", "taker_qty": "1"}
    return Step(number, trades=[{**event, "is_taker_buyer": True, "x": noise}])


async def test_a_client_that_vanishes_harms_nobody(client: Client, server: SimServer, trader: Trader) -> None:
    async with client.socket("subscribe") as healthy:
        await healthy.ask("subscribe", stream={"type": "best_bid_offer", "product_id": ETH})
        for name in ("subscribe", "gateway_ws", "gateway_ws_v2"):
            async with client.socket(name) as doomed:
                doomed.ws._response.connection.transport.abort()
        await eventually(lambda: sum(server.surface.sockets.by_scope.values()) == 1)
        await client.post("/execute", _ioc(trader))
        assert (await healthy.until("best_bid_offer"))[0]["product_id"] == ETH


async def test_a_message_too_large_ends_only_its_socket(client: Client) -> None:
    async with client.socket("gateway_ws") as other, client.socket("gateway_ws") as socket:
        await socket.ws.send_str("[" + " " * 300_000 + "]")
        assert await socket.ended() == 1009
        await other.send({"type": "status"})
        assert (await other.receive())["data"] == "active"
    async with client.session.post(client.ready["gateway"] + "/query", data=b" " * 300_000) as response:
        assert response.status == 413


async def test_sockets_per_address_are_limited(client: Client, server: SimServer) -> None:
    async with AsyncExitStack() as stack:
        for _ in range(MAX_SOCKETS_PER_ADDRESS):
            await stack.enter_async_context(client.socket("gateway_ws"))
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await stack.enter_async_context(client.socket("gateway_ws"))
        assert refused.value.status == 429
    await eventually(lambda: not server.surface.sockets.by_scope)
    async with client.socket("gateway_ws"):
        pass


async def test_pings_are_answered_and_count(client: Client, server: SimServer) -> None:
    async with client.socket("subscribe", autoping=False) as socket:
        (connection,) = server.surface.sockets._open
        before = connection.since_ping_s
        await socket.ws.ping(b"x")
        pong = await socket.ws.receive(timeout=5)
        assert (pong.type, pong.data) == (aiohttp.WSMsgType.PONG, b"x")
        assert connection.since_ping_s < before + 5
        server.surface.sockets.cut_overdue(deadline_s=60)
        assert connection.is_open
        server.surface.sockets.cut_overdue(deadline_s=0)
        await socket.ended()
    assert server.surface.sockets.ends == {"no ping": 1}


async def test_authenticated_connections_of_one_wallet_are_limited(client: Client, trader: Trader) -> None:
    async with AsyncExitStack() as stack:
        for number in range(MAX_AUTHENTICATED + 1):
            socket = await stack.enter_async_context(client.socket("subscribe"))
            reply = await _authenticate(socket, trader)
            if number < MAX_AUTHENTICATED:
                assert reply["result"] is None
        assert reply["error_code"] == 1000
        assert await socket.ended() == 1008


async def _authenticate(socket: Socket, trader: Trader) -> dict[str, Any]:
    expiration_ms = int(time.time() * 1000) + 60_000
    tx = {"sender": trader.sender, "expiration": str(expiration_ms)}
    return await socket.ask("authenticate", tx=tx, signature=trader.stream_auth(expiration_ms))


# Faults ---------------------------------------------------------------------------------------------


async def test_a_lost_reply_is_an_applied_order(client: Client, server: SimServer, trader: Trader) -> None:
    await client.fault(lose_reply=2)
    with pytest.raises(aiohttp.ClientError):
        await client.post("/execute", _resting(trader))
    async with client.socket("gateway_ws_v2") as socket:
        await socket.send(_resting(trader, "2899"))
        await socket.send({"type": "status"})
        assert (await socket.receive())["request_type"] == "query_status"
    _, orders = await client.post(
        "/query", {"type": "subaccount_orders", "sender": trader.sender, "product_id": ETH}
    )
    assert len(orders["data"]["orders"]) == 2
    assert server.gateway.replies_lost == 2


@pytest.mark.parametrize(
    ("scope", "cut", "left"),
    [
        ("subscribe", ["subscribe"], ["gateway_ws", "gateway_ws_v2"]),
        ("gateway", ["gateway_ws", "gateway_ws_v2"], ["subscribe"]),
        ("all", ["subscribe", "gateway_ws", "gateway_ws_v2"], []),
    ],
)
async def test_cut_drops_sockets_of_its_scope(
    client: Client, server: SimServer, scope: str, cut: list[str], left: list[str]
) -> None:
    async with AsyncExitStack() as stack:
        names = ("subscribe", "gateway_ws", "gateway_ws_v2")
        sockets = {name: await stack.enter_async_context(client.socket(name)) for name in names}
        await client.fault(cut=scope)
        for name in cut:
            await sockets[name].ended()
        await eventually(lambda: sum(server.surface.sockets.by_scope.values()) == len(left))


async def test_mute_swallows_streams_but_not_pongs(client: Client, server: SimServer, trader: Trader) -> None:
    async with client.socket("subscribe", autoping=False) as socket:
        await socket.ask("subscribe", stream={"type": "trade", "product_id": ETH})
        await client.fault(mute=60)
        await client.post("/execute", _ioc(trader))
        await socket.ws.ping()
        assert (await socket.ws.receive(timeout=5)).type is aiohttp.WSMsgType.PONG
        await client.fault(mute=0)
        await client.post("/execute", _ioc(trader))
        first = (await socket.until("trade"))[0]
    assert int(first["timestamp"]) == int(server.exchange.fills_state()[-1]["timestamp"])


async def test_status_and_chain_id_can_lie(client: Client, trader: Trader) -> None:
    await client.fault(status="syncing", chain_id=57073)
    assert (await client.get("/query", type="status"))[1]["data"] == "syncing"
    assert (await client.get("/query", type="contracts"))[1]["data"]["chain_id"] == "57073"
    assert (await client.post("/execute", _resting(trader)))[1]["error_code"] == 1004
    await client.fault(status="active", chain_id=None)
    assert (await client.post("/execute", _resting(trader)))[1]["status"] == "success"
    assert (await client.get("/query", type="contracts"))[1]["data"]["chain_id"] == "77001"


@pytest.mark.parametrize(
    "body",
    [
        {},
        [],
        {"cut": "half"},
        {"melt": 1},
        {"mute": -1},
        {"lose_reply": "2"},
        {"status": "asleep"},
        {"pause_market": 1},
        {"chain_id": -1},
        {"drop_depth": {"count": 1}},
        {"lose_reply": 1, "melt": 1},
    ],
)
async def test_a_fault_that_is_not_understood_changes_nothing(client: Client, body: Any) -> None:
    status, reply = await client.post("/faults", body, base="control")
    assert status == 400
    assert reply["error"]
    _, now = await client.get("/faults", base="control")
    assert now["rules"] == []


async def test_faults_that_are_on_can_be_read_back(client: Client) -> None:
    shown = await client.fault(drop_depth={"product_id": ETH, "count": 2}, pause_market=True)
    assert shown["rules"] == [
        {"fault": "drop_depth", "product_id": ETH, "count": 2, "hits": 0},
        {"fault": "pause_market", "hits": 0},
    ]
    assert (await client.get("/faults", base="control"))[1] == shown


async def test_an_inner_failure_is_not_survived() -> None:
    with pytest.raises(ArithmeticError):
        await _break_down()


async def _break_down() -> None:
    def fail() -> None:
        raise ArithmeticError("the market is broken")

    async with start_sim(rate=0) as server:
        server.market._after(0.0, fail)
        await eventually(server.failed.done)


async def test_state_and_health_tell_the_truth_and_no_signature(
    client: Client, server: SimServer, trader: Trader
) -> None:
    order = _ioc(trader)
    await client.post("/execute", order)
    await client.post("/execute", {"place_order": trader.order("buy", "2900.05", "0.1", LIMIT)})
    _, state = await client.get("/state", base="control")
    assert [execute["error_code"] for execute in state["executes"]] == [None, 2000]
    assert [entry["end"] for entry in state["orders"]] == ["filled"]
    assert sum(int(fill["base"]) for fill in state["fills"]) == 10**17
    assert state["balances"]["quote_sum"] == "0"
    _, health = await client.get("/health", base="control")
    assert (health["executes"], health["failures"]) == (2, 1)
    text = json.dumps([state, health])
    assert order["place_order"]["signature"][2:] not in text
    assert all(account.private_key[2:] not in text for account in server.accounts if account.private_key)
