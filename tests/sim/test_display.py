"""Display data: the v2 pages of gateway and archive, and the edge cache, in the shapes of the samples."""

from __future__ import annotations

import ssl
import time
from typing import Any

import aiohttp
import pytest
from nado_protocol.engine_client import EngineClient
from nado_protocol.engine_client.types import EngineClientOpts
from nado_protocol.indexer_client import IndexerClient
from nado_protocol.indexer_client.types import IndexerClientOpts
from simcore import ETH, IOC, Trader, sample
from simproc import SimProcess, start_sim
from wireclient import Client, eventually

from nadosim.app import SimServer

TICKER = "ETH-PERP_USDT0"


def same_shape(found: Any, published: Any) -> None:
    """Keys and JSON types agree, all the way down; lists are compared by their first element."""
    if isinstance(published, dict):
        assert list(found) == list(published)
        for name in published:
            same_shape(found[name], published[name])
    elif isinstance(published, list):
        assert isinstance(found, list)
        if found and published:
            same_shape(found[0], published[0])
    else:
        assert type(found) is type(published)


async def _traded(client: Client, trader: Trader) -> None:
    order = trader.order("buy", "3010", "0.1", IOC)
    assert (await client.post("/execute", {"place_order": order}))[1]["status"] == "success"


@pytest.mark.parametrize("page", ["orderbook", "pairs", "assets"])
async def test_gateway_pages_have_the_published_shape(client: Client, page: str) -> None:
    published = sample("v2_market_data")[page]
    path, _, query = published["request"].partition("?")
    params = dict(part.split("=") for part in query.split("&") if part)
    status, found = await client.get(path, base="gateway_v2", **params)
    assert status == 200
    if page == "assets":
        found = [asset for asset in found if asset["product_id"] == ETH]
    same_shape(found, published["response"])


@pytest.mark.parametrize("page", ["tickers", "contracts", "trades"])
async def test_archive_pages_have_the_published_shape(client: Client, trader: Trader, page: str) -> None:
    await _traded(client, trader)
    published = sample("v2_market_data")[page]
    path, _, query = published["request"].partition("?")
    params = dict(part.split("=") for part in query.split("&") if part)
    url = client.ready["archive"].replace("/v1", "/v2") + path
    async with client.session.get(url, params=params) as response:
        found = await response.json()
    if page != "trades":
        found = {TICKER: found[TICKER]}
    same_shape(found, published["response"])


async def test_the_tape_tells_what_was_traded(client: Client, trader: Trader) -> None:
    await _traded(client, trader)
    url = client.ready["archive"].replace("/v1", "/v2")
    async with client.session.get(f"{url}/trades", params={"ticker_id": TICKER, "limit": "5"}) as response:
        (trade,) = await response.json()
    assert (trade["base_filled"], trade["trade_type"]) == (0.1, "buy")
    assert trade["quote_filled"] == pytest.approx(-0.1 * trade["price"])
    async with client.session.get(f"{url}/tickers") as response:
        ticker = (await response.json())[TICKER]
    assert (ticker["base_volume"], ticker["last_price"]) == (0.1, trade["price"])
    params = {"ticker_id": TICKER, "max_trade_id": str(trade["trade_id"] - 1)}
    async with client.session.get(f"{url}/trades", params=params) as response:
        assert await response.json() == []


@pytest.mark.parametrize(
    "page", ["orderbook?ticker_id=NO", "orderbook?ticker_id=ETH-PERP_USDT0&depth=x", "pairs?market=moon"]
)
async def test_bad_parameters_are_named(client: Client, page: str) -> None:
    async with client.session.get(f"{client.ready['gateway_v2']}/{page}") as response:
        assert (await response.json())["error_code"] in (2015, 2038)
    async with client.session.get(f"{client.ready['gateway_v2']}/weather") as response:
        assert response.status == 404


@pytest.mark.parametrize(
    "kind", ["cached_status", "cached_symbols", "cached_all_products", "cached_prices", "cached_bbo_history"]
)
async def test_the_cache_answers_in_envelopes(client: Client, kind: str) -> None:
    status, reply = await client.post("/edge/query", {"type": kind, "id": 7})
    assert (status, reply["status"], reply["id"]) == (200, "success", 7)
    assert reply["request_type"] == f"query_{kind}"
    assert reply == (await client.get("/edge/query", type=kind, id="7"))[1] | {"id": 7}


async def test_the_cache_is_behind_and_catches_up(client: Client, server: SimServer, trader: Trader) -> None:
    before = (await client.get("/query", type="market_price", product_id="4"))[1]["data"]
    for account in list(server.exchange.accounts):
        for order in server.exchange.books[ETH].of_account(account.id):
            server.exchange.house_cancel(account.id, ETH, order.digest)
    asked = {"type": "cached_prices", "product_ids": [ETH]}
    assert server.edge.answer(asked)["data"]["market_prices"] == [before]
    server.edge.refresh()
    cached = (await client.post("/edge/query", asked))[1]["data"]["market_prices"][0]
    assert cached["bid_x18"] == "0"
    history = (await client.post("/edge/query", {"type": "cached_bbo_history", "product_ids": [ETH]}))[1]
    same_shape(history["data"]["history"], sample("edge_query")["response_bbo_history"]["data"]["history"])


async def test_the_cache_tells_the_time_and_refuses_nonsense(client: Client) -> None:
    _, reply = await client.post("/edge/query", {"type": "time", "id": 2})
    same_shape(dict(sorted(reply.items())), dict(sorted(sample("edge_query")["response_time"].items())))
    _, reply = await client.post("/edge/query", {"type": "ping", "client_time": "5"})
    assert (reply["method"], reply["client_time"]) == ("pong", "5")
    for request, code in (
        ({"type": "cached_weather"}, 2038),
        ({"type": "cached_prices", "product_ids": [999]}, 2016),
        ({"type": "cached_prices", "product_ids": "x"}, 2038),
        ({"type": "cached_bbo_history", "limit": -1}, 2038),
    ):
        assert (await client.post("/edge/query", request))[1]["error_code"] == code


async def test_the_next_funding_is_when_it_will_be() -> None:
    """Hours run faster where time does."""
    async with start_sim(rate=0, speed=360.0) as server, aiohttp.ClientSession() as session:
        url = server.ready["archive"].replace("/v1", "/v2") + "/contracts"
        async with session.get(url) as response:
            contract = (await response.json())[TICKER]
        assert abs(contract["next_funding_rate_timestamp"] - time.time()) <= 3600 / 360 + 2


async def test_a_repeated_product_is_told_once(client: Client) -> None:
    """Otherwise one message of 80,000 ids would hold up everybody."""
    asked = [ETH] * 80_000
    _, reply = await client.post("/edge/query", {"type": "cached_bbo_history", "product_ids": asked})
    assert 1 <= len(reply["data"]["history"]) <= 100
    _, reply = await client.post("", {"oracle_price": {"product_ids": asked}}, base="archive")
    assert [price["product_id"] for price in reply["prices"]] == [ETH]


def test_the_official_sdk_reads_the_pages() -> None:
    with SimProcess(seed=3) as sim:
        engine = EngineClient(EngineClientOpts(url=sim.ready["gateway"]))
        assert engine.get_orderbook(TICKER, 5).ticker_id == TICKER
        assert {pair["ticker_id"] for pair in engine.get_pairs("perp")} >= {TICKER}
        assert any(asset["symbol"] == "ETH-PERP" for asset in engine.get_assets())
        assert engine.get_spots_apr()[0]["symbol"] == "USDT0"
        indexer = IndexerClient(IndexerClientOpts(url=sim.ready["archive"]))
        assert TICKER in indexer.get_tickers()
        assert TICKER in indexer.get_perp_contracts_info()
        assert "ETH-PERP" in indexer.get_v2_symbols()
        assert isinstance(indexer.get_historical_trades(TICKER, 3), list)


# Encrypted ------------------------------------------------------------------------------------------


async def test_everything_works_over_tls() -> None:
    async with start_sim(rate=0, tls=True) as server:
        ready = server.ready
        assert all(
            ready[name].startswith(("https://", "wss://")) for name in ("gateway", "subscribe", "archive")
        )
        trust = ssl.create_default_context(cadata=ready["certificate"])
        connector = aiohttp.TCPConnector(ssl=trust)
        async with aiohttp.ClientSession(connector=connector) as session:
            client = Client(session, ready)
            assert (await client.get("/query", type="status"))[1]["data"] == "active"
            async with client.socket("subscribe") as socket:
                assert (await socket.ask("list"))["result"] == []
                await client.fault(cut="all")
                await socket.ended()
        await eventually(lambda: not server.surface.sockets.by_scope)


async def test_a_stranger_does_not_trust_the_certificate() -> None:
    async with start_sim(rate=0, tls=True) as server, aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.ClientConnectorCertificateError):
            await session.get(server.ready["gateway"] + "/time")
