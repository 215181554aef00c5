"""Refusals around money, of queries and of the archive, each with a cause that brings it about."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import aiohttp
from errorenv import UNKNOWN, Env, case, switches
from simcore import (
    ETH,
    IOC,
    ISOLATED,
    LIMIT,
    REDUCE_ONLY,
    SOL,
    WETH,
    isolated_margin,
)

from nadosim.x18 import ONE

ISO = ISOLATED | isolated_margin(100)


# ---- isolated


@case(2081)
async def _isolated_of_isolated(env: Env) -> int:
    return await env.place("buy", "2900", "0.1", LIMIT | ISO, sender=await _isolated(env))


@case(2082)
async def _another_product_than_its_own(env: Env) -> int:
    own = await _isolated(env)
    return await env.place("sell", "140", "1", IOC | REDUCE_ONLY, product_id=SOL, sender=own)


@case(2088)
async def _more_than_reducing(env: Env) -> int:
    return await env.place("sell", "2900", "0.1", IOC, sender=await _isolated(env))


@case(2089)
async def _links_for_an_isolated_one(env: Env) -> int:
    fields = {"signer": env.wallet(2).address + "0" * 24}
    request = env.trader.wallet_tx("link_signer", fields, sender=await _isolated(env))
    return await env.execute("link_signer", request)


@case(2122)
async def _cross_in_an_isolated_market(env: Env) -> int:
    isolate_market(env.exchange, ETH)
    return await env.place(price="2900")


@case(2125)
async def _the_eleventh(env: Env) -> int:
    for index in range(10):
        parent = env.exchange.accounts.open(env.trader.address + f"{index:024x}")
        env.exchange.accounts.open_isolated(parent, ETH)
    return await env.place("buy", "3100", "0.1", IOC | ISO)


async def _isolated(env: Env) -> str:
    """An isolated subaccount that holds ETH."""
    assert await env.place("buy", "3100", "0.1", IOC | ISO) == 0
    _, reply = await env.client.post(
        "/query", {"type": "isolated_positions", "subaccount": env.trader.sender}
    )
    subaccount: str = reply["data"]["isolated_positions"][0]["subaccount"]
    return subaccount


def isolate_market(exchange: Any, product_id: int) -> None:
    """A listing decision of the exchange; products are frozen, so the table gets another one."""
    exchange.products[product_id] = replace(exchange.products[product_id], isolated_only=True)


# ---- money


@case(2018)
async def _withdraws_a_perpetual(env: Env) -> int:
    return await env.execute("withdraw_collateral", env.trader.withdraw(ETH, 1))


@case(2036)
async def _withdraws_its_margin(env: Env) -> int:
    return await env.execute("withdraw_collateral_v2", env.trader.withdraw_v2(0, 60_000 * 10**6))


@case(2050)
async def _tops_up_a_foreign_isolated_one(env: Env) -> int:
    own = await _isolated(env)
    return await env.execute("transfer_quote", env.wallet(2).transfer(own, 50 * ONE))


@case(2077)
async def _sends_too_little(env: Env) -> int:
    return await env.execute("transfer_quote", env.trader.transfer(env.wallet(2).sender, 4 * ONE))


@case(2078)
async def _sixth_recipient_of_a_day(env: Env) -> int:
    recipients = [f"0x{n:040x}" + "00" * 12 for n in range(1, 7)]
    codes = [await env.execute("transfer_quote", env.trader.transfer(to, 5 * ONE)) for to in recipients]
    assert not any(codes[:5])
    return codes[-1]


@case(2079)
async def _sends_to_itself(env: Env) -> int:
    return await env.execute("transfer_quote", env.trader.transfer(env.trader.sender, 5 * ONE))


@case(4001)
async def _mints(env: Env) -> int:
    return await env.execute("mint_nlp", {})


@case(4001)
async def _asks_for_the_pool(env: Env) -> int:
    return await env.query(type="nlp_pool_info")


# ---- liquidation

BY_HAND = switches(auto_liquidation=False)


@case(2042, **BY_HAND)
async def _liquidates_the_healthy(env: Env) -> int:
    return await env.liquidate(env.wallet(2).sender, ETH, ONE)


@case(2043, **BY_HAND)
async def _too_poor_to_liquidate(env: Env) -> int:
    return await env.liquidate((await env.sicken()).sender, ETH, ONE, who=env.wallet(6, deposit=10))


@case(2044, **BY_HAND)
async def _takes_too_much(env: Env) -> int:
    return await env.liquidate((await env.sicken()).sender, ETH, 2 * ONE)


@case(2045, **BY_HAND)
async def _liquidates_itself(env: Env) -> int:
    sick = await env.sicken()
    return await env.liquidate(sick.sender, ETH, ONE, who=sick)


@case(2046, **BY_HAND)
async def _takes_part_of_a_step(env: Env) -> int:
    return await env.liquidate((await env.sicken()).sender, ETH, ONE // 7)


@case(2047, **BY_HAND)
async def _takes_the_wrong_side(env: Env) -> int:
    return await env.liquidate((await env.sicken()).sender, ETH, -ONE)


@case(2048, **BY_HAND)
async def _loans_before_positions(env: Env) -> int:
    sick = await env.sicken()
    env.exchange.fund(sick.sender, -ONE // 100, WETH)
    return await env.liquidate(sick.sender, WETH, -ONE // 100)


@case(2115)
async def _the_pool_is_faster(env: Env) -> int:
    return await env.liquidate((await env.sicken()).sender, ETH, ONE)


# ---- queries, archive, handshake


@case(2038)
async def _unknown_query(env: Env) -> int:
    return await env.query(type="weather")


@case(2060)
async def _the_same_product_twice(env: Env) -> int:
    return await env.query(type="market_prices", product_ids=[4, 4])


@case(2061)
async def _a_product_that_is_no_number(env: Env) -> int:
    return await env.query(type="market_prices", product_ids=["four"])


@case(2062)
async def _no_products(env: Env) -> int:
    return await env.query(type="market_prices")


@case(2040)
async def _a_flag_of_maybe(env: Env) -> int:
    return await env.query(type="subaccount_info", subaccount=env.trader.sender, pre_state="maybe")


@case(2080)
async def _a_subscription_without_compression(env: Env) -> int:
    url = env.client.ready["subscribe"].replace("ws://", "http://")
    upgrade = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
    }
    async with env.client.session.get(url, headers=upgrade) as response:
        assert response.status == 403
        return int((await response.json())["error_code"])


@case(2080)
async def _a_request_without_compression(env: Env) -> int:
    url = env.client.ready["gateway"] + "/time"
    async with aiohttp.request("GET", url, headers={"Accept-Encoding": "identity"}) as response:
        return int((await response.json())["error_code"])


@case(3000)
async def _digests_and_a_filter(env: Env) -> int:
    return await env.archive(orders={"digests": [UNKNOWN], "product_ids": [4]})


@case(3001)
async def _too_many_digests(env: Env) -> int:
    return await env.archive(orders={"digests": [UNKNOWN] * 501})


@case(3002)
async def _payments_of_nobody(env: Env) -> int:
    return await env.archive(interest_and_funding={"product_ids": [4], "limit": 5})


@case(3003)
async def _candles_of_61_seconds(env: Env) -> int:
    return await env.archive(candlesticks={"product_id": 4, "granularity": 61})
