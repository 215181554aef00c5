"""Every reply and every event of a running exchange against the published samples: names and JSON types.

A sample is the table: a field that is missing, one that nobody published, a number where a text belongs, all
fail, in every entry of every list.
"""

from __future__ import annotations

import time
from typing import Any

import pytest
from errorenv import Env
from simcore import DATA, ETH, IOC, ISOLATED, POST_ONLY, SOL, isolated_margin, sample, x18
from wireclient import Client, Socket

from nadosim.app import SimServer
from nadosim.x18 import ONE

OPTIONAL = {"id"}  # only where an order brought one
NULLABLE = {
    "margin",
    "max_open_interest_x18",
    "closed_margin",
    "isolated_product_id",
    "id",
    "error",
    "digest",
}
EITHER = {"expiration", "nonce"}  # the sample itself has both in one transaction
MAPS = {"symbols", "bbos"}  # keyed by symbol or product id, not by field


def differences(found: Any, published: Any, path: str = "") -> list[str]:
    """Where the two differ in names or JSON types."""
    _, dot, name = path.rpartition(".")
    if isinstance(published, dict) and isinstance(found, dict):
        if (dot and name in MAPS) or (published and all(key.isdecimal() for key in published)):
            like = next(iter(published.values()))
            return [d for key, value in found.items() for d in differences(value, like, f"{path}[{key}]")]
        missing = published.keys() - found.keys() - OPTIONAL
        unknown = found.keys() - published.keys() - OPTIONAL
        wrong = [f"{path}: missing {key}" for key in missing] + [f"{path}: unknown {key}" for key in unknown]
        for key in found.keys() & published.keys():
            wrong += differences(found[key], published[key], f"{path}.{key}")
        return wrong
    if isinstance(published, list) and isinstance(found, list):
        if not published:
            return []
        return [d for item in found for d in differences(item, published[0], path + "[]")]
    if name in NULLABLE and (found is None or published is None):
        return []
    if ".txs[]" in path and name in EITHER and isinstance(found, int | str):
        return []
    if type(found) is not type(published):
        return [f"{path}: {type(found).__name__} for {type(published).__name__}"]
    return []


@pytest.fixture
def env(server: SimServer, client: Client) -> Env:
    return Env(server, client)


@pytest.fixture
async def traded(env: Env) -> dict[str, str]:
    """Digests of an order that rests, one that was filled; an isolated position and a payment besides."""
    env.exchange.set_oracle(ETH, x18("2999"))
    filled = await env.rest("buy", "3010", "0.1", IOC, client_id=1)
    assert await env.place("buy", "3010", "0.1", IOC | ISOLATED | isolated_margin(100)) == 0
    resting = await env.rest("buy", "2900", "0.1", POST_ONLY, client_id=2)
    env.exchange.pay_funding(ETH, ONE)
    return {"resting": resting, "filled": filled}


def _queries(env: Env, traded: dict[str, str]) -> dict[str, dict[str, Any]]:
    me = env.trader.sender
    return {
        "status": {},
        "contracts": {},
        "nonces": {"address": env.trader.address},
        "symbols": {},
        "all_products": {},
        "market_price": {"product_id": ETH},
        "market_prices": {"product_ids": [ETH, SOL]},
        "market_liquidity": {"product_id": ETH, "depth": 5},
        "subaccount_info": {"subaccount": me},
        "isolated_positions": {"subaccount": me},
        "subaccount_orders": {"sender": me, "product_id": ETH},
        "orders": {"sender": me, "product_ids": [ETH]},
        "order": {"product_id": ETH, "digest": traded["resting"]},
        "max_order_size": {
            "sender": me,
            "product_id": ETH,
            "price_x18": str(3000 * ONE),
            "direction": "long",
        },
        "max_withdrawable": {"sender": me, "product_id": 0},
        "fee_rates": {"sender": me},
        "health_groups": {},
        "linked_signer": {"subaccount": me},
    }


async def test_every_query(env: Env, client: Client, traded: dict[str, str]) -> None:
    asked = _queries(env, traded)
    published = {path.stem.removeprefix("query_") for path in (DATA / "samples").glob("query_*.json")}
    assert set(asked) == published
    wrong = []
    for name, fields in asked.items():
        _, reply = await client.post("/query", {"type": name, **fields})
        wrong += differences(reply, sample(f"query_{name}")["response"], name)
    _, refused = await client.post("/query", {"type": "order", "product_id": ETH, "digest": traded["filled"]})
    wrong += differences(refused, sample("query_order")["failure"], "order")
    assert sorted(set(wrong)) == []


async def test_every_archive_reply(env: Env, client: Client, traded: dict[str, str]) -> None:
    me = env.trader.sender
    page = {"subaccounts": [me], "limit": 5}
    interval = {"count": 1, "granularity": 60}
    cases: list[tuple[str, str, dict[str, Any]]] = [
        ("archive_orders", "response", {"orders": {"digests": [traded["filled"]]}}),
        ("archive_orders", "failure", {"orders": {"digests": [traded["filled"]], "subaccounts": [me]}}),
        ("archive_matches", "response", {"matches": page}),
        ("archive_candlesticks", "response", {"candlesticks": {"product_id": ETH, "granularity": 60}}),
        ("archive_funding", "response_funding_rate", {"funding_rate": {"product_id": ETH}}),
        ("archive_funding", "response_funding_rates", {"funding_rates": {"product_ids": [ETH, SOL]}}),
        (
            "archive_funding",
            "response_payments",
            {"interest_and_funding": {"subaccount": me, "product_ids": [ETH]}},
        ),
        ("archive_prices", "response_price", {"price": {"product_id": ETH}}),
        ("archive_prices", "response_perp_prices", {"perp_prices": {"product_ids": [ETH]}}),
        ("archive_prices", "response_oracle_price", {"oracle_price": {"product_ids": [ETH]}}),
        ("archive_product_snapshots", "response", {"products": {"product_id": ETH, "limit": 1}}),
        (
            "archive_product_snapshots",
            "response_market_snapshots",
            {"market_snapshots": {"interval": interval, "product_ids": [ETH]}},
        ),
    ]
    assert {name for name, _, _ in cases} == {p.stem for p in (DATA / "samples").glob("archive_*.json")}
    wrong = []
    for name, key, request in cases:
        _, reply = await client.post("", request, base="archive")
        assert any(reply.values()), name
        wrong += differences(reply, sample(name)[key], f"{name}.{key}")
    assert sorted(set(wrong)) == []


async def test_every_event(env: Env, client: Client, server: SimServer) -> None:
    me = env.trader.sender
    streams: dict[str, dict[str, Any]] = {
        "order_update": {"subaccount": me, "product_id": None},
        "fill": {"subaccount": me, "product_id": ETH},
        "position_change": {"subaccount": me, "product_id": None},
        "best_bid_offer": {"product_id": ETH},
        "book_depth": {"product_id": ETH},
        "trade": {"product_id": ETH},
        "liquidation": {"product_id": None},
        "latest_candlestick": {"product_id": ETH, "granularity": 60},
        "funding_payment": {"product_id": ETH},
        "funding_rate": {"product_id": None},
        "all_bbo": {},
    }
    assert {f"stream_{kind}" for kind in streams} | {"stream_control"} == {
        path.stem for path in (DATA / "samples").glob("stream_*.json")
    }
    async with client.socket("subscribe") as socket:
        wrong = await _control(socket, env)
        for kind, fields in streams.items():
            assert (await socket.ask("subscribe", stream={"type": kind, **fields}))["result"] is None
        sick = await env.sicken()
        for size, appendix in (("0.1", IOC), ("0.1", IOC | ISOLATED | isolated_margin(100))):
            assert await env.place("buy", "3010", size, appendix, client_id=7) == 0
        await env.rest("buy", "2900", "0.1", POST_ONLY)
        assert await env.execute("cancel_product_orders", env.trader.cancel_products()) == 0
        env.exchange.settle_funding()
        env.exchange.set_oracle(ETH, x18("2930"))
        env.exchange.schedule._rate_due_s = 0  # the twenty seconds are over
        for kind in streams:
            for event in [*await socket.until(kind), *(e for e in socket.events if e["type"] == kind)]:
                wrong += differences(event, sample(f"stream_{kind}")["events"][0], kind)
    assert sick.sender != me
    assert sorted(set(wrong)) == []


async def _control(socket: Socket, env: Env) -> list[str]:
    """Replies of the control methods, and how they differ."""
    published = sample("stream_control")
    expiration_ms = int(time.time() * 1000) + 60_000
    stream = {"type": "trade", "product_id": ETH}
    requests: dict[str, dict[str, Any]] = {
        "authenticate": {
            "tx": {"sender": env.trader.sender, "expiration": str(expiration_ms)},
            "signature": env.trader.stream_auth(expiration_ms),
        },
        "subscribe": {"stream": stream},
        "subscribe_multi": {"streams": [stream]},
        "list": {},
        "unsubscribe": {"stream": stream},
        "unsubscribe_multi": {"streams": [stream]},
        "ping": {"client_time": "1"},
        "time": {},
    }
    wrong = []
    for method, fields in requests.items():
        reply = await socket.ask(method, **fields)
        assert reply["id"] > 0
        if method in published and "response" in published[method]:
            wrong += differences(reply, published[method]["response"], method)
    return wrong
