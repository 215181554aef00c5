"""Refusals of orders and cancels, each with a cause that brings it about over the wire."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from errorenv import UNKNOWN, Env, case, order, switches
from simcore import (
    ETH,
    FOK,
    HOUSE,
    IOC,
    ISOLATED,
    LIMIT,
    POST_ONLY,
    REDUCE_ONLY,
    WETH,
    isolated_margin,
    x18,
)

from nadosim.x18 import ONE

ISO = ISOLATED | isolated_margin(100)

order(2000, "price_between_ticks", price="2900.05")
order(2001, "amount_between_steps", price="2900", size="0.1005")
order(2002, "nothing", price="2900", size="0")
order(2004, "expired_on_arrival", price="2900", expiration_s=1)
order(2006, "beyond_its_margin", price="3000", size="900")
order(2007, "a_fifth_of_the_oracle_price", price="500", size="1")
order(2007, "five_times_the_oracle_price", "sell", "15100", "1")
order(2008, "crosses", price="3100", appendix=POST_ONLY)
order(2009, "trigger_bits", price="2900", appendix=LIMIT | 1 << 12)
order(2015, "no_such_market", product_id=999)
order(2016, "the_quote_is_no_market", product_id=0)
order(2017, "spends_more_than_there_is", "buy", "2900", "20", LIMIT, product_id=WETH, spot_leverage=False)
order(2017, "sells_what_it_has_not", "sell", "3100", "1", LIMIT, product_id=WETH, spot_leverage=False)
order(2019, "spot_leverage_of_a_perpetual", price="2900", spot_leverage=True)
order(2031, "cannot_be_filled_whole", "buy", "2900", "1", FOK)
order(2040, "leverage_of_maybe", price="2900", product_id=WETH, spot_leverage="maybe")
order(2055, "free_of_charge", price="0")
order(2056, "does_not_cross", price="2900", appendix=IOC)
order(2064, "nothing_to_reduce", "sell", "2900", "0.1", IOC | REDUCE_ONLY)
order(2065, "reserved_bits", price="2900", appendix=LIMIT | 1 << 20)
order(2067, "resting_reduce_only", price="2900", appendix=POST_ONLY | REDUCE_ONLY)
order(2083, "isolated_spot", price="2900", appendix=LIMIT | ISO, product_id=WETH)
order(
    2085,
    "isolated_reduce_only_of_old",
    "sell",
    appendix=IOC | ISO | REDUCE_ONLY,
    switches={"isolated_reduce_only": "reject"},
)
order(
    2087,
    "margin_it_has_not",
    price="2900",
    appendix=LIMIT | ISOLATED | isolated_margin(60_000),
    borrow_margin=False,
)
order(2091, "more_than_a_wire_integer", "buy", "2900", str(10**19))
order(2094, "small", price="2900", size="0.01")
order(2095, "appendix_version", price="2900", appendix=2)
order(2118, "builder_without_a_rate", price="2900", appendix=LIMIT | 1 << 48)
order(2118, "rate_without_a_builder", price="2900", appendix=LIMIT | 5 << 38)
order(2118, "builder_nobody_knows", price="2900", appendix=LIMIT | 77 << 48 | 5 << 38)


# ---- limits, status, time


@case(1000, rate_limits=True)
async def _too_much_weight(env: Env) -> int:
    codes = [await env.execute("cancel_product_orders", env.trader.cancel_products()) for _ in range(3)]
    return codes[-1]


@case(1015, rate_limits=True, **switches(rate_limit_code=1015))
async def _too_much_weight_by_its_other_code(env: Env) -> int:
    return await _too_much_weight(env)


@case(1004)
async def _maintenance(env: Env) -> int:
    await env.client.fault(status="syncing")
    return await env.place(price="2900")


@case(2068, **switches(maintenance_code=2068))
async def _maintenance_by_its_other_code(env: Env) -> int:
    await env.client.fault(status="syncing")
    return await env.place(price="2900")


@case(2005, **switches(max_open_orders=3))
async def _one_order_too_many(env: Env) -> int:
    for _ in range(3):
        await env.rest("buy", "2900", "0.1")
    return await env.place("buy", "2900", "0.1")


@case(2011)
async def _late(env: Env) -> int:
    return await env.place(price="2900", nonce=env.trader.nonce(-1000))


@case(2012)
async def _too_early(env: Env) -> int:
    return await env.place(price="2900", nonce=env.trader.nonce(101_000))


@case(2013)
async def _the_same_order_again(env: Env) -> int:
    request = env.trader.order("buy", "2900", "0.1")
    assert await env.execute("place_order", request) == 0
    return await env.execute("place_order", request)


@case(2111)
async def _a_batch_of_51(env: Env) -> int:
    one = env.trader.order("buy", "2900", "0.1")
    return await env.execute("place_orders", {"orders": [one] * 51})


@case(2114)
async def _a_batch_of_two_wallets(env: Env) -> int:
    orders = [env.trader.order("buy", "2900", "0.1"), env.wallet(2).order("buy", "2900", "0.1")]
    return await env.execute("place_orders", {"orders": orders})


# ---- who signs, and for whom


@case(2024)
async def _no_deposit(env: Env) -> int:
    return await env.execute("place_order", env.wallet(9, deposit=0).order("buy", "2900", "0.1"))


def _signed(code: int, name: str, signature: Callable[[str], str]) -> None:
    async def cause(env: Env) -> int:
        request = env.trader.order("buy", "2900", "0.1")
        return await env.execute("place_order", {**request, "signature": signature(request["signature"])})

    cause.__name__ = name
    case(code)(cause)


_signed(2027, "cut_short", lambda text: text[:-2])
_signed(2034, "recovery_value", lambda text: text[:-2] + "1d")
_signed(2035, "not_hex", lambda text: "0x" + "zz" * 65)
_signed(2035, "not_on_the_curve", lambda text: "0x" + "00" * 32 + text[66:])


@case(2028)
async def _signed_by_somebody_else(env: Env) -> int:
    return await env.execute("place_order", env.wallet(2).order("buy", "2900", sender=env.trader.sender))


def _without(code: int, name: str) -> None:
    async def cause(env: Env) -> int:
        request = env.trader.order("buy", "2900", "0.1")
        del request["order"][name]
        return await env.execute("place_order", request)

    cause.__name__ = f"no_{name}"
    case(code)(cause)


_without(2032, "sender")
_without(2033, "nonce")
_without(2038, "amount")


@case(2022)
async def _nonce_out_of_sequence(env: Env) -> int:
    return await env.execute("link_signer", env.trader.link(env.wallet(2).address, nonce=7))


@case(2025)
async def _too_poor_to_link(env: Env) -> int:
    poor = env.wallet(6, deposit=4)
    return await env.execute("link_signer", poor.link(env.trader.address))


@case(2026)
async def _linked_already(env: Env) -> int:
    other = env.wallet(2)
    assert await env.execute("link_signer", env.trader.link(other.address)) == 0
    return await env.execute("link_signer", env.trader.link(other.address))


@case(2029)
async def _revokes_nobody(env: Env) -> int:
    return await env.execute("link_signer", env.trader.link("0x" + "00" * 20))


@case(2030)
async def _the_51st_signer_of_a_week(env: Env) -> int:
    codes = [await env.execute("link_signer", env.trader.link(f"0x{n:040x}")) for n in range(1, 52)]
    assert not any(codes[:50])
    return codes[-1]


@case(2066)
async def _replaces_for_somebody_else(env: Env) -> int:
    old = await env.rest("buy", "2900", "0.1")
    return await env.execute("cancel_and_place", env.replace(old, env.wallet(2).order("buy", "2900", "0.1")))


# ---- cancels


@case(2014)
async def _cancels_a_foreign_order(env: Env) -> int:
    return await env.execute("cancel_orders", env.wallet(2).cancel(await env.rest("buy", "2900", "0.1")))


@case(2020)
async def _cancels_what_is_not_there(env: Env) -> int:
    return await env.execute("cancel_orders", env.trader.cancel(UNKNOWN))


@case(2020)
async def _asks_for_what_is_not_there(env: Env) -> int:
    return await env.query(type="order", product_id=4, digest=UNKNOWN)


@case(2039)
async def _more_products_than_digests(env: Env) -> int:
    request = env.trader.cancel(UNKNOWN)
    request["tx"]["productIds"] = [4, 4]
    return await env.execute("cancel_orders", request)


@case(2120)
async def _replaces_what_has_traded(env: Env) -> int:
    bid = env.exchange.bbo(ETH)[0]
    old = await env.rest("buy", str(bid / ONE), "0.1")
    at_bid = env.exchange.level(ETH, "bids", bid)
    env.exchange.house_place(HOUSE, ETH, bid, x18("0.05") - at_bid, 1)
    request = env.replace(old, env.trader.order("buy", "2900", "0.1"), place_requires_unfilled=True)
    return await env.execute("cancel_and_place", request)


@case(2121)
async def _replaces_what_is_not_there(env: Env) -> int:
    return await env.execute("cancel_and_place", env.replace(UNKNOWN, env.trader.order("buy", "2900", "0.1")))


@case(2123)
async def _one_amount_for_two_orders(env: Env) -> int:
    digests = [await env.rest("buy", "2900", "0.1"), await env.rest("buy", "2901", "0.1")]
    request = env.trader.cancel(*digests, required_unfilled_amount="1")
    return await env.execute("cancel_orders", request)


@case(2124)
async def _another_amount_is_left(env: Env) -> int:
    request = env.trader.cancel(await env.rest("buy", "2900", "0.1"), required_unfilled_amount="1")
    return await env.execute("cancel_orders", request)


# ---- the state of a market


def _in_a_market(code: int, status: Any) -> None:
    async def cause(env: Env) -> int:
        env.exchange.set_trading_status(ETH, status)
        return await env.place(price="2900")

    cause.__name__ = f"market_{status}"
    case(code)(cause)


_in_a_market(2069, "not_tradable")
_in_a_market(2117, "post_only")
_in_a_market(2119, "reduce_only")
_in_a_market(2119, "soft_reduce_only")


@case(2070)
async def _open_interest_is_full(env: Env) -> int:
    env.exchange.fund(env.trader.sender, 10_000_000 * ONE)
    return await env.place("buy", "2000", "50000")


@case(2073, **switches(self_trade="reject_taker"))
async def _meets_its_own_order(env: Env) -> int:
    bid, _, ask, _ = env.exchange.bbo(ETH)
    inside = str((bid + 10**17) / ONE)
    if bid + 10**17 < ask:
        await env.rest("sell", inside, "0.1")
        return await env.place("buy", inside, "0.1")
    await env.rest("sell", str(ask / ONE), "0.1")
    return await env.place("buy", str((ask + 10**18) / ONE), "30")
