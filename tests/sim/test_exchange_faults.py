"""Every fault, and what it does to a client that did not expect it."""

from __future__ import annotations

import asyncio
import json
import time
import zlib
from collections.abc import Awaitable, Callable
from itertools import pairwise
from typing import Any

import aiohttp
import pytest
from quickest import quickest
from simcore import ETH, HOUSE, IOC, POST_ONLY, SOL, Trader, x18
from simproc import start_sim
from wireclient import Client, Socket, eventually

from nadosim.app import SimServer
from nadosim.fault_catalog import CATALOG, read
from nadosim.fault_script import parse
from nadosim.faults import Faults, Rule
from nadosim.params import BadFault
from nadosim.requests import OrderType
from nadosim.steps import Step
from nadosim.switches import PARAMS as SWITCHES
from nadosim.x18 import ONE

Way = Callable[[Client, SimServer, Trader], Awaitable[None]]
WAYS: dict[str, list[Way]] = {}


def way(name: str) -> Callable[[Way], Way]:
    """Registers a test of one fault; the table must cover the catalogue."""

    def register(function: Way) -> Way:
        WAYS.setdefault(name, []).append(function)
        return function

    return register


def _ioc(trader: Trader, **fields: Any) -> dict[str, Any]:
    return {"place_order": trader.order("buy", "3010", "0.1", IOC, **fields)}


def _resting(trader: Trader, price: str = "2900", **fields: Any) -> dict[str, Any]:
    return {"place_order": trader.order("buy", price, "0.1", POST_ONLY, **fields)}


def publish(server: SimServer, number: int, product_id: int = ETH) -> None:
    """One trade everybody sees; its timestamp is its number."""
    event = {"type": "trade", "timestamp": str(number), "product_id": product_id, "price": str(10**21)}
    event.update(taker_qty=str(10**18), maker_qty=str(10**18), is_taker_buyer=True)
    server.hub.on_step(Step(number, trades=[event]))


async def _trades(client: Client, server: SimServer, fault: dict[str, Any], sent: int) -> list[int]:
    """Numbers of the trades a subscriber sees of 1..sent while the fault is on, up to the last one."""
    async with client.socket("subscribe") as socket:
        await socket.ask("subscribe", stream={"type": "trade", "product_id": ETH})
        await client.fault(**fault)
        for number in range(1, sent + 1):
            publish(server, number)
        await client.fault(clear="all")
        publish(server, 0)
        seen = []
        while (number := int((await socket.until("trade"))[0]["timestamp"])) != 0:
            seen.append(number)
        return seen


# Sockets --------------------------------------------------------------------------------------------


@way("cut")
async def _cut(client: Client, server: SimServer, trader: Trader) -> None:
    for how in ("rst", "fin", "close"):
        async with client.socket("subscribe") as socket:
            await client.fault(cut={"scope": "subscribe", "how": how})
            code = await socket.ended()
            assert (code == 1001) is (how == "close")


@way("cut")
async def _cut_of_one(client: Client, server: SimServer, trader: Trader) -> None:
    async with client.socket("subscribe") as first, client.socket("subscribe") as second:
        _, health = await client.get("/health", base="control")
        await client.fault(cut={"connection": health["connections"][0]["connection"]})
        await first.ended()
        assert (await second.ask("list"))["result"] == []


@way("half_open")
async def _half_open(client: Client, server: SimServer, trader: Trader) -> None:
    async with client.socket("subscribe", autoping=False) as socket:
        await client.fault(half_open="subscribe")
        await socket.ws.ping()
        await socket.send({"method": "list", "id": 1})
        with pytest.raises(TimeoutError):
            await socket.receive(0.2)
        assert server.surface.sockets.by_scope["subscribe"] == 1
        server.surface.sockets.cut_all("test ends")


@way("half_open")
async def _half_open_with_a_ping_already_read(client: Client, server: SimServer, trader: Trader) -> None:
    await client.fault(delay_request=200)
    async with client.socket("gateway_ws", autoping=False) as socket:
        await socket.send({"type": "status"})
        await eventually(lambda: server.faults.counts["delay_request"] == 1)
        await socket.ws.ping()
        await socket.send(_resting(trader))
        await asyncio.sleep(0.05)  # both are read, and wait behind the first
        await client.fault(half_open="gateway")
        with pytest.raises(TimeoutError):
            await socket.receive(0.4)
        assert not server.exchange.books[ETH].of_account(trader.sender)
        server.surface.sockets.cut_all("test ends")


@way("stall_read")
async def _stall_read(client: Client, server: SimServer, trader: Trader) -> None:
    async with client.socket("gateway_ws") as socket:
        await client.fault(stall_read=0.3)
        started = time.monotonic()
        await socket.send({"type": "status"})
        await socket.receive()
        assert time.monotonic() - started >= 0.3


@way("v2_refused")
async def _v2_refused(client: Client, server: SimServer, trader: Trader) -> None:
    await client.fault(v2_refused=True)
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        async with client.socket("gateway_ws_v2"):
            pass
    assert refused.value.status == 404
    async with client.socket("gateway_ws") as socket:
        await socket.send({"type": "status"})
        assert (await socket.receive())["data"] == "active"


@way("socket_refused")
async def _socket_refused(client: Client, server: SimServer, trader: Trader) -> None:
    await client.fault(socket_refused={"scope": "subscribe", "http": 502})
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        async with client.socket("subscribe"):
            pass
    assert refused.value.status == 502


# Messages -------------------------------------------------------------------------------------------


@way("mute")
async def _mute(client: Client, server: SimServer, trader: Trader) -> None:
    async with client.socket("subscribe", autoping=False) as socket:
        await socket.ask("subscribe", stream={"type": "trade", "product_id": ETH})
        await client.fault(mute=60)
        publish(server, 1)
        await socket.ws.ping()
        assert (await socket.ws.receive(timeout=5)).type is aiohttp.WSMsgType.PONG
        await client.fault(mute=0)
        publish(server, 2)
        assert (await socket.until("trade"))[0]["timestamp"] == "2"


@way("drop")
async def _drop(client: Client, server: SimServer, trader: Trader) -> None:
    assert await _trades(client, server, {"drop": {"kind": "trade", "skip": 1, "count": 2}}, 5) == [1, 4, 5]


@way("drop_depth")
async def _drop_depth(client: Client, server: SimServer, trader: Trader) -> None:
    async with client.socket("subscribe") as socket:
        await socket.ask("subscribe", stream={"type": "book_depth", "product_id": ETH})
        seen = []
        for price, fault in (("2900", None), ("2901", {"drop_depth": ETH}), ("2902", None)):
            if fault:
                await client.fault(**fault)
            await client.post("/execute", _resting(trader, price))
            server.hub.flush_depth()
        seen = await socket.until("book_depth", 2)
        assert seen[1]["last_max_timestamp"] != seen[0]["max_timestamp"]


@way("duplicate")
async def _duplicate(client: Client, server: SimServer, trader: Trader) -> None:
    assert await _trades(client, server, {"duplicate": 2}, 3) == [1, 1, 2, 2, 3]


@way("reorder")
async def _reorder(client: Client, server: SimServer, trader: Trader) -> None:
    assert await _trades(client, server, {"reorder": {"skip": 1}}, 4) == [1, 3, 2, 4]


@way("delay")
async def _delay(client: Client, server: SimServer, trader: Trader) -> None:
    started = time.monotonic()
    assert await _trades(client, server, {"delay": {"ms": 150, "jitter_ms": 100}}, 4) == [1, 2, 3, 4]
    assert time.monotonic() - started >= 0.15


@way("batch")
async def _batch(client: Client, server: SimServer, trader: Trader) -> None:
    async with client.socket("subscribe") as socket:
        await socket.ask("subscribe", stream={"type": "trade", "product_id": ETH})
        await client.fault(batch=200)

        async def burst() -> float:
            arrivals = []
            for number in range(8):
                publish(server, number)
                await asyncio.sleep(0.01)
            for _ in range(8):
                await socket.until("trade")
                arrivals.append(time.monotonic())
            return sorted(later - earlier for earlier, later in pairwise(arrivals))[3]

        await quickest(burst, 0.005)  # sent 10 ms apart, most arrive in one burst


@way("corrupt_json")
async def _corrupt_json(client: Client, server: SimServer, trader: Trader) -> None:
    with pytest.raises(json.JSONDecodeError):
        await _trades(client, server, {"corrupt_json": 1}, 1)


@way("extra_fields")
async def _extra_fields(client: Client, server: SimServer, trader: Trader) -> None:
    async with client.socket("subscribe") as socket:
        await socket.ask("subscribe", stream={"type": "trade", "product_id": ETH})
        await client.fault(extra_fields=True)
        publish(server, 1)
        assert next(iter((await socket.until("trade"))[0])) == "zz_unknown"


@way("swap_types")
async def _swap_types(client: Client, server: SimServer, trader: Trader) -> None:
    async with client.socket("subscribe") as socket:
        await socket.ask("subscribe", stream={"type": "trade", "product_id": ETH})
        await client.fault(swap_types=True)
        publish(server, 1)
        assert (await socket.until("trade"))[0]["timestamp"] == 1


@pytest.mark.parametrize("size", [70_000, 3_000_000])
async def test_an_oversized_frame_breaks_a_reader_with_a_limit(
    client: Client, server: SimServer, trader: Trader, size: int
) -> None:
    async with client.socket("subscribe", max_msg_size=1 << 20) as socket:
        await socket.ask("subscribe", stream={"type": "trade", "product_id": ETH})
        await client.fault(oversized_frame=size)
        publish(server, 1)
        message = await socket.ws.receive(timeout=5)
        assert (message.type is aiohttp.WSMsgType.TEXT) is (size < 1 << 20)


async def _broken_by(client: Client, server: SimServer, name: str, **options: Any) -> aiohttp.WSMessage:
    async with client.socket("subscribe", **options) as socket:
        await socket.ask("subscribe", stream={"type": "trade", "product_id": ETH})
        await client.fault(**{name: True})
        publish(server, 1)
        async with asyncio.timeout(10):
            return await socket.ws.receive()


@way("truncated_frame")
async def _truncated(client: Client, server: SimServer, trader: Trader) -> None:
    message = await _broken_by(client, server, "truncated_frame")
    assert message.type in (aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.ERROR, aiohttp.WSMsgType.CLOSING)


@way("oversized_frame")
async def _oversized(client: Client, server: SimServer, trader: Trader) -> None:
    message = await _broken_by(client, server, "oversized_frame", max_msg_size=1 << 20)
    assert message.type is not aiohttp.WSMsgType.TEXT


@way("bad_deflate")
async def _bad_deflate(client: Client, server: SimServer, trader: Trader) -> None:
    try:
        message = await _broken_by(client, server, "bad_deflate")
    except zlib.error:
        return  # the reader of some versions lets it through
    assert message.type is not aiohttp.WSMsgType.TEXT


@way("deflate_bomb")
async def _bomb(client: Client, server: SimServer, trader: Trader) -> None:
    message = await _broken_by(client, server, "deflate_bomb", max_msg_size=1 << 20)
    assert message.type is not aiohttp.WSMsgType.TEXT


# Requests -------------------------------------------------------------------------------------------


@way("delay_request")
async def _delay_request(client: Client, server: SimServer, trader: Trader) -> None:
    await client.fault(delay_request={"ms": 120})
    started = time.monotonic()
    await client.get("/query", type="status")
    async with client.socket("gateway_ws") as socket:
        await socket.send({"type": "status"})
        await socket.receive()
    assert time.monotonic() - started >= 0.24


@way("delay_request")
async def _delay_of_one_kind(client: Client, server: SimServer, trader: Trader) -> None:
    await client.fault(delay_request={"ms": 120, "kind": "place_order"})
    started = time.monotonic()
    await client.post("/execute", _resting(trader))
    await client.get("/query", type="status")
    async with client.socket("gateway_ws") as socket:
        for message in (_resting(trader), {"type": "status"}):
            await socket.send(message)
            assert (await socket.receive())["status"] == "success"
    assert time.monotonic() - started >= 0.24
    assert server.faults.counts["delay_request"] == 2


@way("lose_reply")
async def _lose_reply(client: Client, server: SimServer, trader: Trader) -> None:
    await client.fault(lose_reply=2)
    with pytest.raises(aiohttp.ClientError):
        await client.post("/execute", _resting(trader))
    async with client.socket("gateway_ws_v2") as socket:
        await socket.send(_resting(trader, "2899"))
        await socket.send({"type": "status"})
        assert (await socket.receive())["request_type"] == "query_status"
    assert len(server.exchange.books[ETH].of_account(trader.sender)) == 2
    assert server.gateway.replies_lost == 2


@way("refuse")
async def _refuse(client: Client, server: SimServer, trader: Trader) -> None:
    await client.fault(refuse={"code": 2070, "kind": "place_order"})
    _, reply = await client.post("/execute", _resting(trader))
    assert (reply["status"], reply["error_code"]) == ("failure", 2070)
    assert (await client.post("/execute", _resting(trader)))[1]["status"] == "success"


@way("rate_error")
async def _rate_error(client: Client, server: SimServer, trader: Trader) -> None:
    await client.fault(rate_error=[{"form": "code", "code": 1015}, {"form": "http"}])
    assert (await client.get("/query", type="status"))[1]["error_code"] == 1015
    status, _ = await client.post("/execute", _resting(trader))
    assert status == 429
    assert (await client.get("/query", type="status"))[0] == 200


@way("out_of_order")
async def _out_of_order(client: Client, server: SimServer, trader: Trader) -> None:
    await client.fault(out_of_order=True)
    async with client.socket("gateway_ws_v2") as socket:
        await socket.send(_resting(trader, "2899", client_id=1))
        await socket.send(_resting(trader, "2898", client_id=2))
        assert [(await socket.receive())["id"] for _ in range(2)] == [2, 1]


@way("out_of_order")
async def _out_of_order_of_one_kind(client: Client, server: SimServer, trader: Trader) -> None:
    await client.fault(out_of_order={"kind": "place_order", "ms": 2_000})
    async with client.socket("gateway_ws_v2") as socket:
        await socket.send(_resting(trader, "2899", client_id=1))
        await eventually(lambda: server.faults.counts["out_of_order"] == 1)
        await socket.send({"type": "status"})
        assert [(await socket.receive())["request_type"] for _ in range(2)] == [
            "query_status",
            "execute_place_order",
        ]


@way("query_only")
async def _query_only(client: Client, server: SimServer, trader: Trader) -> None:
    assert (await client.get("/ip"))[1] == {"blocked": False}
    await client.fault(query_only=True)
    status, body = await client.post("/execute", _resting(trader))
    assert (status, body) == (403, {"reason": "ip_query_only", "blocked": True})
    assert (await client.get("/ip"))[1] == body
    assert (await client.get("/query", type="status"))[1]["data"] == "active"
    async with client.socket("gateway_ws") as socket:
        await socket.send(_resting(trader, client_id=6))
        refused = await socket.receive()
        assert (refused["error_code"], refused["id"]) == (1002, 6)


@way("http_error")
async def _http_error(client: Client, server: SimServer, trader: Trader) -> None:
    await client.fault(http_error={"status": 502, "kind": "/v1/query"})
    with pytest.raises(json.JSONDecodeError):  # an error page is no JSON
        await client.get("/query", type="status")
    assert (await client.get("/query", type="status"))[0] == 200


@way("stale_snapshot")
async def _stale_snapshot(client: Client, server: SimServer, trader: Trader) -> None:
    asked = {"type": "market_liquidity", "product_id": ETH, "depth": 100}
    await client.fault(stale_snapshot=True)
    await client.post("/execute", _resting(trader, "2999.4"))
    stale = (await client.post("/query", asked))[1]["data"]
    fresh = (await client.post("/query", asked))[1]["data"]
    assert int(stale["timestamp"]) < int(fresh["timestamp"])
    assert stale["bids"] != fresh["bids"]


@way("archive_lag")
async def _archive_lag(client: Client, server: SimServer, trader: Trader) -> None:
    digest = (await client.post("/execute", _ioc(trader)))[1]["data"]["digest"]
    asked = {"orders": {"digests": [digest]}}
    await client.fault(archive_lag=30)
    assert (await client.post("", asked, base="archive"))[1]["orders"] == []
    lagging = await client.post("", {"matches": {"subaccounts": [trader.sender]}}, base="archive")
    assert lagging[1] == {"matches": [], "txs": []}
    await client.fault(archive_lag=None)
    assert len((await client.post("", asked, base="archive"))[1]["orders"]) == 1


@way("archive_lag")
async def _archive_lag_hides_the_newest_only(client: Client, server: SimServer, trader: Trader) -> None:
    """The archive is a few seconds behind, and whole as far as it goes: a page is as long as ever."""
    known = (await client.post("/execute", _ioc(trader)))[1]["data"]["digest"]
    best = server.exchange.bbo(ETH)[0] + x18("0.1")
    resting = trader.order("buy", str(best / ONE), "0.2", POST_ONLY)
    digest = (await client.post("/execute", {"place_order": resting}))[1]["data"]["digest"]
    server.exchange.house_place(HOUSE, ETH, best, -ONE // 10, OrderType.IOC)
    await client.fault(clock_offset=3_000)
    server.exchange.house_place(HOUSE, ETH, best, -ONE // 10, OrderType.IOC)
    server.exchange.pay_funding(ETH, ONE)
    mine = {"subaccounts": [trader.sender]}

    async def ask(name: str, **fields: Any) -> Any:
        return (await client.post("", {name: {**mine, **fields}}, base="archive"))[1]

    assert [m["digest"] for m in (await ask("matches"))["matches"]] == [digest, digest, known]
    await client.fault(archive_lag=1.5)
    page = await ask("matches", limit=1)
    assert [(m["digest"], m["base_filled"]) for m in page["matches"]] == [(digest, str(ONE // 10))]
    orders = (await ask("orders"))["orders"]
    assert [(o["digest"], o["base_filled"]) for o in orders] == [
        (digest, str(ONE // 10)),
        (known, str(ONE // 10)),
    ]
    one = (await client.post("", {"orders": {"digests": [digest]}}, base="archive"))[1]["orders"]
    assert one == orders[:1]
    assert (await ask("events", limit={"raw": 1}))["events"][0]["submission_idx"] == "2"
    payments = {"interest_and_funding": {"subaccount": trader.sender}}
    assert (await client.post("", payments, base="archive"))[1]["funding_payments"] == []
    backlog = (await client.post("", {"backlog": {}}, base="archive"))[1]
    assert (backlog["backlog_size"], backlog["total_txs"]) == ("2", "2")


# Subscriptions --------------------------------------------------------------------------------------


@way("auth_refused")
async def _auth_refused(client: Client, server: SimServer, trader: Trader) -> None:
    await client.fault(auth_refused=True)
    async with client.socket("subscribe") as socket:
        expiration_ms = int(time.time() * 1000) + 60_000
        tx = {"sender": trader.sender, "expiration": str(expiration_ms)}
        signature = trader.stream_auth(expiration_ms)
        assert (await socket.ask("authenticate", tx=tx, signature=signature))["error_code"] == 2028
        assert (await socket.ask("authenticate", tx=tx, signature=signature))["result"] is None


@way("lose_ack")
async def _lose_ack(client: Client, server: SimServer, trader: Trader) -> None:
    async with client.socket("subscribe") as socket:
        await client.fault(lose_ack={"kind": "subscribe"})
        stream = {"type": "trade", "product_id": ETH}
        await socket.send({"method": "subscribe", "id": 1, "stream": stream})
        assert (await socket.ask("list"))["result"] == [stream]


# The exchange ---------------------------------------------------------------------------------------


@way("status")
async def _status(client: Client, server: SimServer, trader: Trader) -> None:
    await client.fault(status="syncing")
    assert (await client.get("/query", type="status"))[1]["data"] == "syncing"
    assert (await client.post("/execute", _resting(trader)))[1]["error_code"] == 1004
    await client.fault(status="active")
    assert (await client.post("/execute", _resting(trader)))[1]["status"] == "success"


@way("chain_id")
async def _chain_id(client: Client, server: SimServer, trader: Trader) -> None:
    await client.fault(chain_id=57073)
    assert (await client.get("/query", type="contracts"))[1]["data"]["chain_id"] == "57073"
    await client.fault(chain_id=None)
    assert (await client.get("/query", type="contracts"))[1]["data"]["chain_id"] == "77001"


@way("pause_market")
async def _pause_market(client: Client, server: SimServer, trader: Trader) -> None:
    await client.fault(pause_market=True)
    assert server.faults.market_paused
    await client.fault(pause_market=False)
    assert not server.faults.market_paused


@way("clock_offset")
async def _clock_offset(client: Client, server: SimServer, trader: Trader) -> None:
    # The client's clock is right, the exchange is ten seconds ahead: its orders arrive too late.
    await client.fault(clock_offset=10_000)
    late = trader.order("buy", "2900", "0.1", POST_ONLY, nonce=int(time.time() * 1000 + 5_000) << 20)
    assert (await client.post("/execute", {"place_order": late}))[1]["error_code"] == 2011
    _, now_ms = await client.get("/time")
    assert now_ms - time.time() * 1000 == pytest.approx(10_000, abs=1_000)


@way("liquidate")
async def _liquidate(client: Client, server: SimServer, trader: Trader) -> None:
    for product_id, price in ((ETH, "3010"), (SOL, "141")):
        order = trader.order("buy", price, "1", IOC, product_id=product_id)
        assert (await client.post("/execute", {"place_order": order}))[1]["status"] == "success"
    async with client.socket("subscribe") as socket:
        await socket.ask("subscribe", stream={"type": "liquidation", "product_id": None})
        changes = {"type": "position_change", "subaccount": trader.sender, "product_id": ETH}
        await socket.ask("subscribe", stream=changes)
        await client.fault(liquidate={"subaccount": trader.sender, "product_id": ETH})
        event = (await socket.until("liquidation"))[0]
        assert (event["product_ids"], event["liquidatee"], event["amount"]) == (
            [ETH],
            trader.sender,
            str(10**18),
        )
        change = (await socket.until("position_change"))[0]
        assert (change["amount"], change["reason"]) == ("0", "liquidate_subaccount")
    positions = server.exchange.balances_state()["subaccounts"][trader.sender]["perps"]
    assert (positions["4"]["amount"], positions["8"]["amount"]) == ("0", str(10**18))


@way("funding")
async def _funding(client: Client, server: SimServer, trader: Trader) -> None:
    assert (await client.post("/execute", _ioc(trader)))[1]["status"] == "success"
    account = server.exchange.accounts.find(trader.sender)
    assert account is not None
    server.exchange.set_oracle(ETH, 2990 * 10**18)
    before = server.exchange.accounts.effective(account, ETH).v_quote_x18
    async with client.socket("subscribe") as socket:
        await socket.ask("subscribe", stream={"type": "funding_payment", "product_id": ETH})
        await client.fault(funding=True)
        paid = int((await socket.until("funding_payment"))[0]["payment_amount"]) // 10
    assert paid > 0, "a long pays while the book is above the index"
    after = server.exchange.accounts.effective(account, ETH).v_quote_x18
    assert after - before == pytest.approx(-paid, abs=10)


@way("maintenance")
async def _maintenance(client: Client, server: SimServer, trader: Trader) -> None:
    async with client.socket("subscribe") as socket:
        await client.fault(maintenance={"for_s": 0.5, "code": 2068})
        assert await socket.ended() == 1001
    assert (await client.post("/execute", _resting(trader)))[1]["error_code"] == 2068
    assert (await client.get("/query", type="status"))[1]["data"] == "stopping"
    await eventually(lambda: server.faults.status == "active")
    assert (await client.post("/execute", _resting(trader)))[1]["status"] == "success"


@way("restart")
async def _restart(client: Client, server: SimServer, trader: Trader) -> None:
    for orders, left in (("kept", 1), ("wiped", 0)):
        await client.post("/execute", _resting(trader))
        async with client.socket("subscribe") as socket:
            await client.fault(restart={"for_s": 0.3, "orders": orders})
            await socket.ended()
        assert (await client.get("/query", type="status"))[1]["data"] == "syncing"
        await eventually(lambda: server.faults.status == "active")
        assert len(server.exchange.books[ETH].of_account(trader.sender)) == left
        assert server.exchange.accounts.find(trader.sender).quote_x18 > 0  # type: ignore[union-attr]
        async with client.socket("subscribe") as socket:
            await socket.ask("subscribe", stream={"type": "book_depth", "product_id": ETH})
            await client.post("/execute", _resting(trader, "2901"))
            assert (await socket.until("book_depth"))[0]["last_max_timestamp"] == "0"


# The table ------------------------------------------------------------------------------------------


def test_every_fault_is_tested() -> None:
    assert set(WAYS) == set(CATALOG) - set(SWITCHES)  # those are thrown in test_switches_at_run_time


@pytest.mark.parametrize(
    ("name", "suffer"), [pytest.param(name, one, id=one.__name__[1:]) for name in WAYS for one in WAYS[name]]
)
async def test_a_client_suffers(
    name: str, suffer: Way, client: Client, server: SimServer, trader: Trader
) -> None:
    await suffer(client, server, trader)
    assert server.faults.counts[name] >= 1
    assert name in CATALOG


@pytest.mark.parametrize(("answer", "code"), [("reject", 2013), ("fill_remainder", 0)])
async def test_a_dead_digest_may_come_back(answer: str, code: int) -> None:
    async with start_sim(rate=0, switches={"dead_digest": answer}) as server:
        trader = Trader(server)  # type: ignore[arg-type]
        order = trader.order("buy", "2900", "0.1", POST_ONLY)
        digest = server.exchange.commit_place(server.exchange.validate_place(order))["digest"]
        server.exchange.cancel_orders(trader.cancel(digest))
        async with aiohttp.ClientSession() as session:
            reply = (await Client(session, server.ready).post("/execute", {"place_order": order}))[1]
        assert reply.get("error_code", 0) == code


async def test_faults_can_follow_a_script() -> None:
    script = [{"at_s": 0.05, "drop": {"kind": "trade"}}, {"every_s": 0.05, "cut": "gateway"}]
    async with start_sim(rate=0, faults=script) as server:
        await eventually(lambda: server.faults.counts["cut"] >= 3)
        assert server.faults.snapshot()["rules"] == [
            {"fault": "drop", "kind": "trade", "count": 1, "hits": 0}
        ]


def test_chance_is_seeded() -> None:
    def struck(seed: int) -> list[bool]:
        faults = Faults(seed)
        faults.add(Rule("drop", probability=0.3))
        return [faults.take("drop") is not None for _ in range(200)]

    assert struck(4) == struck(4)
    assert struck(4) != struck(5)
    assert 30 < sum(struck(4)) < 90


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("drop", {"count": 0}),
        ("drop", {"probability": 2}),
        ("drop", {"scope": "moon"}),
        ("drop", {"colour": "red"}),
        ("cut", {"how": "gently"}),
        ("delay", {"ms": "5"}),
        ("chain_id", {}),
        ("refuse", "no"),
        ("pause_market", 1),
        ("mute", -1),
    ],
)
def test_a_fault_that_makes_no_sense_is_refused(name: str, value: Any) -> None:
    with pytest.raises(BadFault):
        read(name, value)
    with pytest.raises(BadFault):
        parse([{"at_s": 1, name: value}])


async def test_faults_of_one_product_leave_the_other_alone(
    client: Client, server: SimServer, trader: Trader
) -> None:
    async with client.socket("subscribe") as socket:
        for product_id in (ETH, SOL):
            await socket.ask("subscribe", stream={"type": "trade", "product_id": product_id})
        await client.fault(drop={"product_id": ETH, "count": 1})
        for product_id in (ETH, SOL):
            publish(server, product_id, product_id)
        assert (await socket.until("trade"))[0]["product_id"] == SOL
    assert server.faults.counts["drop"] == 1
    assert isinstance(socket, Socket)
