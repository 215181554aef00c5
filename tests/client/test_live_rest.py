"""REST against the exchange, and against everything that is not one."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from clientkit import Venue

from nadofast import LimitConfig, NadoRateLimiter, Rest, TimeSync, custom, errors, to_x18
from nadofast.ratelimit import Window


async def test_every_query(venue: Venue) -> None:
    rest, subaccount = venue.rest, venue.subaccount
    contracts = await rest.contracts()
    assert contracts.chain_id == venue.network.chain_id
    assert contracts.endpoint_address == venue.network.endpoint_address
    assert await rest.status() == "active"
    symbols = await rest.symbols()
    assert symbols[4].symbol == "ETH-PERP"
    assert set(await rest.products([8])) == {8}
    with pytest.raises(errors.ConfigError, match="9998"):
        await rest.products([4, 9998])
    assert (await rest.all_products())[4].oracle_price_x18 > 0
    price = await rest.market_price(4)
    assert price.bid_x18 is not None
    assert price.ask_x18 is not None
    assert price.bid_x18 < price.ask_x18
    snapshot = await rest.market_liquidity(4, 5)
    assert len(snapshot.bids) == len(snapshot.asks) == 5
    assert snapshot.timestamp_ns > 10**18
    info = await rest.subaccount_info(subaccount)
    assert info.exists
    assert info.quote_x18 > to_x18(1000)
    nobody = await rest.subaccount_info("0x" + "77" * 32)
    assert not nobody.exists
    assert await rest.subaccount_orders(subaccount, 4) == []
    with pytest.raises(errors.ExchangeError) as caught:
        await rest.order(4, "0x" + "11" * 32)
    assert caught.value.error_code == 2020
    rates = await rest.fee_rates(subaccount)
    assert rates.taker_x18(4) == symbols[4].taker_fee_rate_x18
    assert (await rest.nonces(venue.signer.address)).order_nonce > 0
    assert await rest.archive_orders(["0x" + "11" * 32]) == []
    assert await rest.archive_matches(subaccount, [4, 8]) == []
    timesync = TimeSync()
    await rest.sync_time(timesync)
    assert timesync.is_known
    with pytest.raises(errors.ExchangeError) as caught:
        await rest.market_price(9998)
    assert caught.value.error_code in (2015, 2016)


Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def odd_server(handler: Handler, timeout_s: float = 5.0) -> AsyncIterator[Rest]:
    """A Rest whose exchange answers every request by `handler`."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    base = f"http://127.0.0.1:{runner.addresses[0][1]}"
    endpoints = dict.fromkeys(("gateway", "gateway_ws", "gateway_ws_v2", "subscribe", "archive"), base)
    network = custom("odd", {**endpoints, "chain_id": 1, "endpoint_addr": "0x" + "00" * 20})
    try:
        async with Rest(network, timeout_s=timeout_s) as rest:
            yield rest
    finally:
        await runner.cleanup()


def answering(status: int, body: bytes, headers: dict[str, str] | None = None) -> Handler:
    async def handler(_: web.Request) -> web.StreamResponse:
        return web.Response(status=status, body=body, headers=headers)

    return handler


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (200, b"<html>maintenance</html>"),
        (200, b""),
        (200, b'{"status":"succ'),
        (200, b"[]"),
        (200, b'{"status":"maybe"}'),
        (200, b'{"status":"success","data":3}'),
        (502, b"bad gateway"),
        (500, b'{"status":"success","data":"active"}'),
        (302, b""),
    ],
)
async def test_what_is_not_the_protocol(status: int, body: bytes) -> None:
    async with odd_server(answering(status, body)) as rest:
        with pytest.raises(errors.BadResponse):
            await rest.status()


@pytest.mark.parametrize(
    ("status", "code", "retryable"), [(429, 1015, True), (403, 1002, False), (422, 2038, False)]
)
async def test_edge_refusals_are_exchange_errors(status: int, code: int, retryable: bool) -> None:
    async with odd_server(answering(status, b'{"reason":"ip_query_only","blocked":true}')) as rest:
        with pytest.raises(errors.ExchangeError) as caught:
            await rest.status()
    assert (caught.value.error_code, caught.value.retryable) == (code, retryable)


async def test_failures_keep_their_code_or_none() -> None:
    async with odd_server(answering(200, b'{"status":"failure","error":"x","error_code":"2020"}')) as rest:
        with pytest.raises(errors.ExchangeError) as caught:
            await rest.status()
        assert caught.value.error_code == 2020
    async with odd_server(answering(200, b'{"status":"failure","error":"x"}')) as rest:
        with pytest.raises(errors.ExchangeError) as caught:
            await rest.status()
        assert caught.value.error_code is None
    async with odd_server(answering(200, b'{"error":"x","error_code":3000}')) as rest:
        with pytest.raises(errors.ExchangeError) as caught:
            await rest.archive_orders([])
        assert caught.value.error_code == 3000


async def test_slow_broken_and_absent_servers() -> None:
    import asyncio

    async def slow(_: web.Request) -> web.StreamResponse:
        await asyncio.sleep(5)
        return web.Response()

    async def broken(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "1000"})
        await response.prepare(request)
        await response.write(b'{"status"')
        assert request.transport is not None
        request.transport.close()
        return response

    async with odd_server(slow, timeout_s=0.3) as rest:
        with pytest.raises(errors.RequestTimeout):
            await rest.status()
    async with odd_server(broken) as rest:
        with pytest.raises(errors.ConnectionLost):
            await rest.status()
    with pytest.raises(errors.NotConnected):
        # The server of the block above is gone.
        async with Rest(rest.network, timeout_s=0.3) as nobody:
            await nobody.status()
    with pytest.raises(errors.ConnectionLost, match="not started"):
        await rest.status()


async def test_requests_carry_what_the_edge_asks_for() -> None:
    seen: list[web.BaseRequest] = []

    async def handler(request: web.Request) -> web.StreamResponse:
        seen.append(request)
        response = web.json_response({"status": "success", "data": "active"})
        response.enable_compression()
        return response

    async with odd_server(handler) as rest:
        assert await rest.status() == "active"
    headers = seen[0].headers
    assert headers["Accept-Encoding"] == "gzip, deflate"
    assert headers["User-Agent"].startswith("nadofast/")
    assert headers["Content-Type"] == "application/json"


async def test_an_answer_without_end_is_cut_off() -> None:
    async with odd_server(answering(200, b"[" + b"1," * 4_000_000 + b"1]")) as rest:
        rest._config = type(rest._config)(max_body=1 << 20)
        with pytest.raises(errors.BadResponse, match="larger"):
            await rest.status()


async def test_the_query_budget_is_kept(venue: Venue) -> None:
    limits = LimitConfig(limits={"execute": (), "query": (Window(3, 60.0),), "archive": ()})
    from nadofast.rest import RestConfig

    async with Rest(
        venue.network, limiter=NadoRateLimiter(limits), config=RestConfig(limiter_wait_s=0.05)
    ) as rest:
        for _ in range(3):
            await rest.status()
        with pytest.raises(errors.OrderDenied, match="rate_limit"):
            await rest.status()


async def test_without_aiohttp_the_error_says_what_to_install(
    venue: Venue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "aiohttp", None)
    with pytest.raises(errors.ConfigError, match=r"nadofast\[rest\]"):
        Rest(venue.network)
