"""Replies and public events over the wire, held against the documented samples: keys, types, echoes."""

from __future__ import annotations

from typing import Any

import aiohttp
import pytest
from errorenv import Env
from simcore import ETH, HOUSE, IOC, OTHER_HOUSE, POST_ONLY, Trader, sample, shape, x18
from simproc import start_sim
from wireclient import Client

from nadosim.app import SimServer
from nadosim.x18 import ONE


@pytest.fixture
def env(server: SimServer, client: Client) -> Env:
    return Env(server, client)


async def _reply(client: Client, name: str, body: Any) -> dict[str, Any]:
    _, reply = await client.post("/execute", {name: body})
    found: dict[str, Any] = reply
    return found


async def test_envelopes_of_executes(env: Env, client: Client) -> None:
    trader = env.trader
    placed = await _reply(client, "place_order", trader.order("buy", "2900", "0.1", POST_ONLY, client_id=1))
    assert shape(placed) == shape(sample("execute_place_order")["response"])
    digest = placed["data"]["digest"]
    replacing = env.replace(digest, trader.order("buy", "2901", "0.1", POST_ONLY, client_id=2))
    replaced = await _reply(client, "cancel_and_place", replacing)
    assert shape(replaced) == shape(sample("execute_cancel_and_place")["response"])
    assert replaced["signature"] == replacing["place_order"]["signature"]
    cancel = trader.cancel(replaced["data"]["digest"])
    cancelled = await _reply(client, "cancel_orders", cancel)
    assert shape(cancelled) == shape(sample("execute_cancel_orders")["response"])
    everything = await _reply(client, "cancel_product_orders", trader.cancel_products(ETH))
    documented = sample("execute_cancel_product_orders")["response"]
    assert shape(everything) == shape({**documented, "data": {"cancelled_orders": []}})
    linked = await _reply(client, "link_signer", trader.link(env.wallet(2).address))
    assert shape(linked) == shape(sample("execute_link_signer")["response"])
    batch = {"orders": [trader.order("buy", "2900", "0.1", POST_ONLY)]}
    both = await _reply(client, "place_orders", batch)
    assert shape(both) == shape(sample("execute_place_orders")["response_variant_object"])


async def test_envelopes_of_refusals(env: Env, client: Client) -> None:
    refused = await _reply(client, "place_order", env.trader.order("buy", "2900.05", "0.1", client_id=3))
    assert shape(refused) == shape(sample("execute_place_order")["failures"][0])
    crowd = {"orders": [env.trader.order("buy", "2900", "0.1")] * 51}
    assert shape(await _reply(client, "place_orders", crowd)) == shape(
        sample("execute_place_orders")["failure"]
    )


async def test_failures_may_keep_the_id_to_themselves() -> None:
    async with start_sim(seed=5, rate=0, switches={"echo_id_on_failure": False}) as server:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as session:
            env = Env(server, Client(session, server.ready))
            good, bad = (env.trader.order("buy", price, "0.1", client_id=3) for price in ("2900", "2900.05"))
            assert (await _reply(env.client, "place_order", good))["id"] == 3
            refused = await _reply(env.client, "place_order", bad)
            assert "id" not in refused
            assert refused["signature"] == bad["signature"]


async def test_public_events_of_money(env: Env, server: SimServer, client: Client) -> None:
    """Candles, rates, payments and liquidations reach those who follow them, in the documented shape."""
    exchange = server.exchange
    streams: dict[str, dict[str, Any]] = {
        "latest_candlestick": {"product_id": ETH, "granularity": 60},
        "funding_payment": {"product_id": ETH},
        "funding_rate": {"product_id": None},
        "liquidation": {"product_id": None},
    }
    async with client.socket("subscribe") as socket:
        for kind, fields in streams.items():
            assert (await socket.ask("subscribe", stream={"type": kind, **fields}))["result"] is None
        sick = await env.sicken()
        exchange.settle_funding()
        exchange.set_oracle(ETH, x18("2930"))
        exchange.schedule._rate_due_s = 0  # the twenty seconds are over
        for kind in streams:
            (event,) = await socket.until(kind)
            assert shape(event) == shape(sample(f"stream_{kind}")["events"][0]), kind
            if kind == "liquidation":
                assert event["liquidatee"] == sick.sender


async def test_a_trade_between_houses_makes_a_candle_too(server: SimServer, client: Client) -> None:
    async with client.socket("subscribe") as socket:
        stream = {"type": "latest_candlestick", "product_id": 3, "granularity": 3600}
        await socket.ask("subscribe", stream=stream)
        server.exchange.house_place(HOUSE, 3, x18("3000"), -ONE, 0)
        server.exchange.house_place(OTHER_HOUSE, 3, x18("3000"), ONE, int(IOC >> 9))
        (event,) = await socket.until("latest_candlestick")
    assert (event["volume"], event["granularity"]) == (str(ONE), 3600)


async def test_isolated_events_reach_the_parents_followers(server: SimServer, client: Client) -> None:
    trader = Trader(server, 1, 50_000)  # type: ignore[arg-type]
    async with client.socket("subscribe") as socket:
        for kind in ("fill", "position_change"):
            stream = {"type": kind, "subaccount": trader.sender, "product_id": ETH}
            await socket.ask("subscribe", stream=stream)
        order = trader.order("buy", "3100", "0.1", IOC | 256 | 100 * 10**6 << 64)
        await client.post("/execute", {"place_order": order})
        (fill,) = await socket.until("fill")
        (change,) = await socket.until("position_change")
    assert shape(change) == shape(sample("stream_position_change")["events"][2])
    assert change["isolated"] is True
    assert fill["subaccount"] == change["subaccount"] == trader.sender
