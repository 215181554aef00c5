"""Garbage on every surface: a refusal for whoever sent it, never a 500, and nobody else notices."""

from __future__ import annotations

import json
import logging
from random import Random
from typing import Any

import pytest
from errorenv import Env
from simcore import ETH
from wireclient import Client

from nadosim.app import SimServer

SEED = 20
DEEP: Any = json.loads("[" * 300 + "]" * 300)
VALUES: list[Any] = [
    None,
    True,
    -1,
    10**30,
    1e308,
    1.5,
    "",
    "0x",
    "0x" + "zz" * 32,
    "\ud7ff\u0000é",
    "1e5",
    "-0",
    "9" * 5000,
    [],
    {},
    [[]],
    {"": {}},
    [None] * 50,
    "true",
    DEEP,
]
QUERIES = (
    *(
        [
            "status",
            "contracts",
            "nonces",
            "symbols",
            "all_products",
            "market_price",
            "market_prices",
            "market_liquidity",
            "order",
        ]
    ),
    *(
        [
            "subaccount_info",
            "isolated_positions",
            "subaccount_orders",
            "orders",
            "max_order_size",
            "max_withdrawable",
        ]
    ),
    *(
        [
            "fee_rates",
            "health_groups",
            "linked_signer",
            "insurance",
            "edge_all_products",
            "nlp_pool_info",
            "nothing",
        ]
    ),
)
FIELDS = (
    *(
        [
            "product_id",
            "product_ids",
            "sender",
            "subaccount",
            "address",
            "digest",
            "depth",
            "price_x18",
            "direction",
            "txns",
            "id",
        ]
    ),
    *(["pre_state", "spot_leverage", "reduce_only", "isolated", "borrow_margin", "product_type"]),
)
ARCHIVE = (
    *(
        [
            "orders",
            "matches",
            "candlesticks",
            "funding_rate",
            "funding_rates",
            "price",
            "perp_prices",
            "oracle_price",
            "products",
        ]
    ),
    *(["market_snapshots", "interest_and_funding", "events", "subaccounts", "account_snapshots", "backlog"]),
    *(["linked_signer_rate_limit", "liquidation_feed", "quote_price"]),
)
PARAMS = (
    *(
        [
            "digests",
            "subaccounts",
            "subaccount",
            "product_ids",
            "product_id",
            "max_time",
            "limit",
            "idx",
            "isolated",
            "interval",
        ]
    ),
    *(["granularity", "timestamps", "address", "start", "event_types", "trigger_types", "max_idx"]),
)
EDGE = [
    "cached_prices",
    "cached_symbols",
    "cached_status",
    "cached_all_products",
    "cached_bbo_history",
    "ping",
    "time",
]
EDGE_FIELDS = ["id", "client_time", "product_ids", "interval_ms", "limit", "max_time_ms"]
EXECUTES = (
    *(
        [
            "place_order",
            "place_orders",
            "cancel_orders",
            "cancel_product_orders",
            "cancel_and_place",
            "link_signer",
        ]
    ),
    *(
        [
            "withdraw_collateral",
            "withdraw_collateral_v2",
            "transfer_quote",
            "liquidate_subaccount",
            "mint_nlp",
        ]
    ),
)
TX = [
    "sender",
    "productIds",
    "digests",
    "nonce",
    "signer",
    "productId",
    "amount",
    "recipient",
    "liquidatee",
    "order",
    "tx",
    "signature",
    "id",
]
CONTROL = [
    "subscribe",
    "unsubscribe",
    "subscribe_multi",
    "unsubscribe_multi",
    "list",
    "authenticate",
    "ping",
    "time",
]
CONTROL_FIELDS = ["stream", "streams", "tx", "signature", "client_time", "id"]


@pytest.fixture
def rng() -> Random:
    print(f"seed {SEED}")
    return Random(SEED)


@pytest.fixture
async def unharmed(server: SimServer, client: Client, caplog: pytest.LogCaptureFixture) -> Any:
    """Afterwards: not one line in the log, the money where it was, and another client is served."""
    caplog.set_level(logging.WARNING)
    yield
    assert caplog.records == []
    assert server.exchange.accounts.totals().quote_x18 == 0
    assert (await client.get("/query", type="status"))[1]["data"] == "active"
    assert await Env(server, client).place("buy", "2900", "0.1") == 0


def _some(rng: Random, names: Any) -> dict[str, Any]:
    return {name: rng.choice(VALUES) for name in rng.sample(list(names), rng.randint(0, 5))}


@pytest.mark.usefixtures("unharmed")
@pytest.mark.parametrize(
    ("path", "base", "kinds", "fields"),
    [
        ("/query", "gateway", QUERIES, FIELDS),
        ("/edge/query", "gateway", EDGE, EDGE_FIELDS),
        ("", "archive", ARCHIVE, PARAMS),
        ("/execute", "gateway", EXECUTES, TX),
    ],
    ids=["query", "edge", "archive", "execute"],
)
async def test_over_http(client: Client, rng: Random, path: str, base: str, kinds: Any, fields: Any) -> None:
    for _ in range(20):
        for kind in kinds:
            body = _some(rng, fields)
            if path in ("/execute", ""):
                body = {kind: body if rng.random() < 0.9 else rng.choice(VALUES)}
            else:
                body = {"type": kind, **body}
            status, reply = await client.post(path, body, base=base)
            assert status in (200, 422), (body, reply)
            assert not isinstance(reply, dict) or reply.get("error_code") != 5000, body


@pytest.mark.usefixtures("unharmed")
async def test_over_urls(client: Client, rng: Random) -> None:
    texts = [value for value in VALUES if isinstance(value, str) and len(value) < 100]
    pages = [("gateway_v2", page) for page in ("orderbook", "pairs", "assets", "apr", "nothing")]
    pages += [("archive_v2", page) for page in ("tickers", "contracts", "trades", "symbols", "nothing")]
    urls = {**client.ready, "archive_v2": client.ready["archive"].replace("/v1", "/v2")}
    for base, page in pages:
        for _ in range(8):
            names = ("ticker_id", "depth", "limit", "max_trade_id", "market", "edge")
            params = {name: rng.choice(texts) for name in rng.sample(names, 3)}
            async with client.session.get(f"{urls[base]}/{page}", params=params) as response:
                assert response.status in (200, 404, 422), params
    for method in ("put", "delete", "patch", "options"):
        async with client.session.request(method, client.ready["gateway"] + "/query") as response:
            assert response.status == 405


@pytest.mark.usefixtures("unharmed")
@pytest.mark.parametrize("name", ["gateway_ws", "gateway_ws_v2"])
async def test_over_request_sockets(client: Client, rng: Random, name: str) -> None:
    async with client.socket(name) as socket:
        for _ in range(10):
            for kind in (*QUERIES, *EXECUTES):
                message = {"type": kind, **_some(rng, FIELDS)} if kind in QUERIES else {kind: _some(rng, TX)}
                await socket.send(message if rng.random() < 0.9 else rng.choice(VALUES) or "{")
                reply = await socket.receive()
                assert reply["status"] in ("success", "failure"), message
                assert reply.get("error_code") != 5000, message


@pytest.mark.usefixtures("unharmed")
async def test_over_subscriptions(client: Client, rng: Random) -> None:
    streams = [{"type": "trade", "product_id": value} for value in VALUES] + [
        {"type": "fill", "subaccount": value, "product_id": ETH} for value in VALUES
    ]
    async with client.socket("subscribe") as socket:
        for _ in range(20):
            for method in CONTROL:
                fields = _some(rng, CONTROL_FIELDS)
                if "stream" in fields:
                    fields["stream"] = rng.choice(streams)
                await socket.send({"method": method, **fields})
                reply = await socket.receive()
                assert "result" in reply or "error" in reply, (method, fields)


@pytest.mark.usefixtures("unharmed")
async def test_over_the_control_door(client: Client, rng: Random) -> None:
    for name in (
        "drop",
        "cut",
        "switch",
        "status",
        "delay",
        "clear",
        "swapped_types",
        "liquidate",
        "dead_digest",
    ):
        for value in VALUES[1:]:
            status, _ = await client.post("/faults", {name: value}, base="control")
            assert status in (200, 400), (name, value)
    await client.fault(clear="all")


TOO_DEEP = "[" * 1000 + "]" * 1000  # JSON can be read deeper than it can be repeated


@pytest.mark.usefixtures("unharmed")
@pytest.mark.parametrize(
    ("base", "path", "body", "status"),
    [
        ("gateway", "/query", '{"type":"subaccount_info","pre_state":%s}', 422),
        ("gateway", "/edge/query", '{"type":"ping","client_time":%s}', 422),
        ("gateway", "/execute", '{"place_order":%s}', 422),
        ("archive", "", '{"matches":{"subaccounts":[%s]}}', 422),
        ("archive", "", '{"orders":{"digests":[%s]}}', 422),
        ("control", "/faults", '{"drop":%s}', 400),
    ],
)
async def test_what_nests_too_deeply(client: Client, base: str, path: str, body: str, status: int) -> None:
    assert (await client.post(path, (body % TOO_DEEP).encode(), base=base))[0] == status


@pytest.mark.usefixtures("unharmed")
@pytest.mark.parametrize("name", ["gateway_ws", "gateway_ws_v2", "subscribe"])
async def test_what_nests_too_deeply_on_a_socket(client: Client, name: str) -> None:
    async with client.socket(name) as socket:
        for text in (
            '{"method":%s,"type":%s}',
            '{"method":"subscribe","stream":{"type":"trade","product_id":%s}}',
        ):
            await socket.send(text.replace("%s", TOO_DEEP))
            assert (await socket.receive())["error_code"] == 2038


@pytest.mark.usefixtures("unharmed")
@pytest.mark.parametrize("coding", ["gzip", "deflate", "br"])
async def test_a_body_said_to_be_compressed(client: Client, coding: str) -> None:
    headers = {"Content-Encoding": coding}
    for path in ("/query", "/execute"):
        url = client.ready["gateway"] + path
        async with client.session.post(url, data=b"neither", headers=headers) as response:
            assert (response.status, (await response.json())["error_code"]) == (422, 2038)


@pytest.mark.usefixtures("unharmed")
async def test_a_number_too_wide_to_be_repeated(client: Client) -> None:
    asked = {"type": "cached_bbo_history", "interval_ms": "9" * 20}
    assert (await client.get("/edge/query", **asked))[1]["error_code"] == 2038
