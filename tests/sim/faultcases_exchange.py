"""Faults of requests and of the exchange itself, and what they do to a client that did not expect them."""

from __future__ import annotations

import json
import time
from typing import Any

import aiohttp
import pytest
from faultenv import ioc, resting, way
from simcore import ETH, HOUSE, IOC, POST_ONLY, SOL, Trader, x18
from wireclient import Client, eventually

from nadosim.app import SimServer
from nadosim.requests import OrderType
from nadosim.x18 import ONE

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
    await client.post("/execute", resting(trader))
    await client.get("/query", type="status")
    async with client.socket("gateway_ws") as socket:
        for message in (resting(trader), {"type": "status"}):
            await socket.send(message)
            assert (await socket.receive())["status"] == "success"
    assert time.monotonic() - started >= 0.24
    assert server.faults.counts["delay_request"] == 2


@way("lose_reply")
async def _lose_reply(client: Client, server: SimServer, trader: Trader) -> None:
    await client.fault(lose_reply=2)
    with pytest.raises(aiohttp.ClientError):
        await client.post("/execute", resting(trader))
    async with client.socket("gateway_ws_v2") as socket:
        await socket.send(resting(trader, "2899"))
        await socket.send({"type": "status"})
        assert (await socket.receive())["request_type"] == "query_status"
    assert len(server.exchange.books[ETH].of_account(trader.sender)) == 2
    assert server.gateway.replies_lost == 2


@way("refuse")
async def _refuse(client: Client, server: SimServer, trader: Trader) -> None:
    await client.fault(refuse={"code": 2070, "kind": "place_order"})
    _, reply = await client.post("/execute", resting(trader))
    assert (reply["status"], reply["error_code"]) == ("failure", 2070)
    assert (await client.post("/execute", resting(trader)))[1]["status"] == "success"


@way("rate_error")
async def _rate_error(client: Client, server: SimServer, trader: Trader) -> None:
    await client.fault(rate_error=[{"form": "code", "code": 1015}, {"form": "http"}])
    assert (await client.get("/query", type="status"))[1]["error_code"] == 1015
    status, _ = await client.post("/execute", resting(trader))
    assert status == 429
    assert (await client.get("/query", type="status"))[0] == 200


@way("out_of_order")
async def _out_of_order(client: Client, server: SimServer, trader: Trader) -> None:
    await client.fault(out_of_order=True)
    async with client.socket("gateway_ws_v2") as socket:
        await socket.send(resting(trader, "2899", client_id=1))
        await socket.send(resting(trader, "2898", client_id=2))
        assert [(await socket.receive())["id"] for _ in range(2)] == [2, 1]


@way("out_of_order")
async def _out_of_order_of_one_kind(client: Client, server: SimServer, trader: Trader) -> None:
    await client.fault(out_of_order={"kind": "place_order", "ms": 2_000})
    async with client.socket("gateway_ws_v2") as socket:
        await socket.send(resting(trader, "2899", client_id=1))
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
    status, body = await client.post("/execute", resting(trader))
    assert (status, body) == (403, {"reason": "ip_query_only", "blocked": True})
    assert (await client.get("/ip"))[1] == body
    assert (await client.get("/query", type="status"))[1]["data"] == "active"
    async with client.socket("gateway_ws") as socket:
        await socket.send(resting(trader, client_id=6))
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
    await client.post("/execute", resting(trader, "2999.4"))
    stale = (await client.post("/query", asked))[1]["data"]
    fresh = (await client.post("/query", asked))[1]["data"]
    assert int(stale["timestamp"]) < int(fresh["timestamp"])
    assert stale["bids"] != fresh["bids"]


@way("archive_lag")
async def _archive_lag(client: Client, server: SimServer, trader: Trader) -> None:
    digest = (await client.post("/execute", ioc(trader)))[1]["data"]["digest"]
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
    known = (await client.post("/execute", ioc(trader)))[1]["data"]["digest"]
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
    assert (await ask("events", limit={"raw": 1}))["events"][0]["submission_idx"] == "4"
    payments = {"interest_and_funding": {"subaccount": trader.sender}}
    assert (await client.post("", payments, base="archive"))[1]["funding_payments"] == []
    backlog = (await client.post("", {"backlog": {}}, base="archive"))[1]
    assert (backlog["backlog_size"], backlog["total_txs"]) == ("2", "4")


# The exchange ---------------------------------------------------------------------------------------


@way("status")
async def _status(client: Client, server: SimServer, trader: Trader) -> None:
    await client.fault(status="syncing")
    assert (await client.get("/query", type="status"))[1]["data"] == "syncing"
    assert (await client.post("/execute", resting(trader)))[1]["error_code"] == 1004
    await client.fault(status="active")
    assert (await client.post("/execute", resting(trader)))[1]["status"] == "success"


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


@way("liquidate")
async def _liquidate_nobody(client: Client, server: SimServer, trader: Trader) -> None:
    """An account that is not there is said, and nothing else of the request happens."""
    await client.fault(liquidate=trader.sender)
    for whom in ("0x" + "11" * 32, "nobody", HOUSE):
        request = {"drop": 1, "liquidate": whom}
        status, reply = await client.post("/faults", request, base="control")
        assert (status, whom in reply.get("error", "")) == (400, True)
    assert server.faults.counts["liquidate"] == 1
    assert server.faults.standing("drop") is None


@way("funding")
async def _funding(client: Client, server: SimServer, trader: Trader) -> None:
    assert (await client.post("/execute", ioc(trader)))[1]["status"] == "success"
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
    assert (await client.post("/execute", resting(trader)))[1]["error_code"] == 2068
    assert (await client.get("/query", type="status"))[1]["data"] == "stopping"
    await eventually(lambda: server.faults.status == "active")
    assert (await client.post("/execute", resting(trader)))[1]["status"] == "success"


@way("restart")
async def _restart(client: Client, server: SimServer, trader: Trader) -> None:
    for orders, left in (("kept", 1), ("wiped", 0)):
        await client.post("/execute", resting(trader))
        async with client.socket("subscribe") as socket:
            await client.fault(restart={"for_s": 0.3, "orders": orders})
            await socket.ended()
        assert (await client.get("/query", type="status"))[1]["data"] == "syncing"
        await eventually(lambda: server.faults.status == "active")
        assert len(server.exchange.books[ETH].of_account(trader.sender)) == left
        assert server.exchange.accounts.find(trader.sender).quote_x18 > 0  # type: ignore[union-attr]
        async with client.socket("subscribe") as socket:
            await socket.ask("subscribe", stream={"type": "book_depth", "product_id": ETH})
            await client.post("/execute", resting(trader, "2901"))
            assert (await socket.until("book_depth"))[0]["last_max_timestamp"] == "0"
