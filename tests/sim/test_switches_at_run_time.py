"""Every open question answered both ways over the wire: by default, at run time, and from the start."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest
from errorenv import UNKNOWN, Env
from simcore import ETH, HOUSE, IOC, ISOLATED, POST_ONLY, REDUCE_ONLY, isolated_margin, x18
from simproc import start_sim
from wireclient import Client, Socket

from nadosim.config import OPEN_QUESTIONS, ExchangeConfig
from nadosim.switches import PARAMS
from nadosim.x18 import ONE

Look = Callable[[Env], Awaitable[Any]]
TENTH = ONE // 10


@dataclass(frozen=True)
class Question:
    """usual, other: what is seen by default, and with `value`. options: of the exchange."""

    value: Any
    usual: Any
    other: Any
    look: Look
    options: dict[str, Any] = field(default_factory=dict)


QUESTIONS: dict[str, Question] = {}


def question(name: str, value: Any, usual: Any, other: Any, **options: Any) -> Callable[[Look], Look]:
    def note(look: Look) -> Look:
        QUESTIONS[name] = Question(value, usual, other, look, options)
        return look

    return note


def an_order(name: str, value: Any, usual: int, other: int, *args: Any, **fields: Any) -> None:
    """A question that one order answers by its code."""

    async def look(env: Env) -> int:
        return await env.place(*args, **fields)

    question(name, value, usual, other)(look)


an_order("band_low_bps", 8_000, 0, 2007, "buy", "2000", "0.1")
an_order("band_high_bps", 12_000, 0, 2007, "sell", "4000", "0.1")
an_order("takers_obey_min_size", True, 0, 2094, "buy", "3010", "0.01", IOC)
an_order("kill_answer", "event", 2056, 0, "buy", "2900", "0.1", IOC)
an_order("isolated_reduce_only", "reject", 2064, 2085, "sell", "2990", "0.1", IOC | ISOLATED | REDUCE_ONLY)


@question("dead_digest", "fill_remainder", 2013, 0)
async def _a_cancelled_order_again(env: Env) -> int:
    order = env.trader.order("buy", "2900", "0.1", POST_ONLY)
    assert await env.execute("place_order", order) == 0
    assert await env.execute("cancel_product_orders", env.trader.cancel_products()) == 0
    return await env.execute("place_order", order)


@question("self_trade", "reject_taker", 2056, 2073)
async def _meets_its_own(env: Env) -> int:
    price = str((env.exchange.bbo(ETH)[0] + TENTH) / ONE)
    await env.rest("sell", price, "0.1", POST_ONLY)
    return await env.place("buy", price, "0.1", IOC)


@question("resting_reduce_only", "accept", 2067, 0)
async def _a_resting_close(env: Env) -> int:
    assert await env.place("buy", "3010", "0.1", IOC) == 0
    return await env.place("sell", "3100", "0.1", POST_ONLY | REDUCE_ONLY)


@question("recheck_recv_time", True, 0, 2011, switches={"taker_delay_ns": 500_000_000})
async def _late_after_the_hold(env: Env) -> int:
    return await env.place("buy", "3010", "0.1", IOC, nonce=env.trader.nonce(400))


@question("mixed_cancel", "cancel_good", (2020, 1), (0, 0))
async def _a_list_with_a_bad_one(env: Env) -> tuple[int, int]:
    digest = await env.rest("buy", "2900", "0.1", POST_ONLY)
    code = await env.execute("cancel_orders", env.trader.cancel(digest, UNKNOWN))
    return code, len(env.exchange.books[ETH].of_account(env.trader.sender))


@question("empty_cancel", "reject", 0, 2020)
async def _no_cancels(env: Env) -> int:
    return await env.execute("cancel_orders", env.trader.cancel())


@question("place_orders_shape", "array", dict, list)
async def _shape_of_a_batch(env: Env) -> type:
    return type((await _reply(env, "place_orders", {"orders": [env.trader.order("buy", "2900")]}))["data"])


@question("update_amount", "signed", TENTH, -TENTH)
async def _sign_of_a_seller(env: Env) -> int:
    return int((await _updates(env, "sell", "3100", POST_ONLY))[0]["amount"])


@question("update_extras", True, False, True)
async def _fill_in_an_update(env: Env) -> bool:
    return "filled_qty" in (await _updates(env, "buy", "3010", IOC))[0]


@question("cancelled_amount", "unfilled", 0, TENTH)
async def _what_a_cancel_leaves(env: Env) -> int:
    return int((await _updates(env, "buy", "2900", POST_ONLY, 2))[1]["amount"])


@question("isolated_reporting", "isolated", True, False)
async def _whose_fill_it_is(env: Env) -> bool:
    async with env.client.socket("subscribe") as socket:
        stream = {"type": "fill", "subaccount": env.trader.sender, "product_id": None}
        assert (await socket.ask("subscribe", stream=stream))["result"] is None
        assert await env.place("buy", "3010", "0.1", IOC | ISOLATED | isolated_margin(100)) == 0
        subaccount: str = (await socket.until("fill"))[0]["subaccount"]
        assert subaccount[:42] == env.trader.address
        return bool(subaccount == env.trader.sender)


@question("stream_auth_by_linked_signer", True, 2028, None)
async def _a_linked_signer_listens(env: Env) -> int | None:
    other = env.wallet(2)
    assert await env.execute("link_signer", env.trader.link(other.address)) == 0
    async with env.client.socket("subscribe") as socket:
        return (await _authenticate(socket, env, other)).get("error_code")


@question("fills_need_auth", True, True, False)
async def _strangers_see_fills(env: Env) -> bool:
    async with env.client.socket("subscribe") as socket:
        stream = {"type": "fill", "subaccount": env.trader.sender, "product_id": None}
        return "result" in await socket.ask("subscribe", stream=stream)


@question("control_error", "failure", None, "failure")
async def _shape_of_a_refused_subscription(env: Env) -> Any:
    async with env.client.socket("subscribe") as socket:
        refused = await socket.ask("subscribe", stream={"type": "nothing"})
        assert "error" in refused
        return refused.get("status")


@question("echo_id_on_failure", False, True, False)
async def _id_of_a_failure(env: Env) -> bool:
    return "id" in await _reply(env, "place_order", env.trader.order("buy", "2900.05", client_id=3))


@question("echo_id_of_replace", False, True, False)
async def _id_of_a_replacement(env: Env) -> bool:
    digest = await env.rest("buy", "2900", "0.1", POST_ONLY)
    place = env.trader.order("buy", "2901", "0.1", POST_ONLY, client_id=4)
    reply = await _reply(env, "cancel_and_place", env.replace(digest, place))
    assert reply["status"] == "success"
    return "id" in reply


@question("requires_unfilled", True, (0, 1), (2120, 0))
async def _a_partly_filled_order_replaced(env: Env) -> tuple[int, int]:
    return await _replace_partly_filled(env)


@question("partly_filled_cancel", "undone", (2120, 0), (2120, 1))
async def _what_becomes_of_the_old_order(env: Env) -> tuple[int, int]:
    return await _replace_partly_filled(env, place_requires_unfilled=True)


@question("gateway_needs_deflate", True, 101, 403)
async def _a_request_socket_without_deflate(env: Env) -> int:
    try:
        async with env.client.socket("gateway_ws", deflate=False):
            pass
        async with env.client.socket("gateway_ws_v2", deflate=False):
            return 101
    except aiohttp.WSServerHandshakeError as error:
        return error.status


@question("checked_first", "signature", 2011, 2028)
async def _late_and_forged(env: Env) -> int:
    order = env.wallet(2).order("buy", "2900", sender=env.trader.sender, nonce=env.trader.nonce(-5_000))
    return await env.execute("place_order", order)


@question("rate_limit_reply", "http", 200, 429, rate_limits=True)
async def _form_of_the_limit(env: Env) -> int:
    return (await _over_the_limit(env))[0]


@question("rate_limit_code", 1015, 1000, 1015, rate_limits=True)
async def _code_of_the_limit(env: Env) -> int:
    return int((await _over_the_limit(env))[1]["error_code"])


@question("maintenance_code", 2068, 1004, 2068)
async def _not_active(env: Env) -> int:
    await env.client.fault(status="syncing")
    return await env.place("buy", "2900")


@question("swapped_types", ["placed_at", "dt"], int, str)
async def _type_of_placed_at(env: Env) -> type:
    asked = {"type": "order", "product_id": ETH, "digest": await env.rest("buy", "2900", "0.1", POST_ONLY)}
    return type((await env.client.post("/query", asked))[1]["data"]["placed_at"])


@question("dt_unit", "ms", 3_600, 3_600_000)
async def _unit_of_dt(env: Env) -> int:
    async with env.client.socket("subscribe") as socket:
        await socket.ask("subscribe", stream={"type": "funding_payment", "product_id": ETH})
        env.exchange.pay_funding(ETH, ONE)
        return int((await socket.until("funding_payment"))[0]["dt"])


@question("payment_sign", "paid", -TENTH, TENTH)
async def _sign_of_a_payment(env: Env) -> int:
    assert await env.place("buy", "3010", "0.1", IOC) == 0
    env.exchange.pay_funding(ETH, ONE)
    return int((await _payment(env))["amount"])


@question("payment_rate", "daily", False, True)
async def _is_a_payments_rate_daily(env: Env) -> bool:
    assert await env.place("buy", "3010", "0.1", IOC) == 0
    env.exchange.set_oracle(ETH, x18("2995"))
    env.exchange.settle_funding()
    payment = await _payment(env)
    hourly = -int(payment["amount"]) * ONE // int(payment["balance_amount"])
    ratio = int(payment["rate_x18"]) * int(payment["oracle_price_x18"]) / ONE / hourly
    assert 0.5 < ratio < 50, "the mark moves between the two"
    return ratio > 10


@question("open_interest_sides", "one", 2 * TENTH, TENTH)
async def _sides_of_open_interest(env: Env) -> int:
    assert await env.place("buy", "3010", "0.1", IOC) == 0
    products = (await env.client.post("/query", {"type": "all_products"}))[1]["data"]["perp_products"]
    return int(next(p["state"]["open_interest"] for p in products if p["product_id"] == ETH))


# ---- hands


async def _reply(env: Env, name: str, body: Any) -> dict[str, Any]:
    found: dict[str, Any] = (await env.client.post("/execute", {name: body}))[1]
    return found


async def _authenticate(socket: Socket, env: Env, signer: Any) -> dict[str, Any]:
    expiration_ms = int(time.time() * 1000) + 60_000
    tx = {"sender": env.trader.sender, "expiration": str(expiration_ms)}
    signature = signer.stream_auth(expiration_ms, sender=env.trader.sender)
    return await socket.ask("authenticate", tx=tx, signature=signature)


async def _updates(env: Env, side: str, price: str, kind: int, count: int = 1) -> list[dict[str, Any]]:
    """Updates of one order that is cancelled if it still rests."""
    async with env.client.socket("subscribe") as socket:
        assert (await _authenticate(socket, env, env.trader))["result"] is None
        stream = {"type": "order_update", "subaccount": env.trader.sender, "product_id": ETH}
        assert (await socket.ask("subscribe", stream=stream))["result"] is None
        assert await env.place(side, price, "0.1", kind) == 0
        assert await env.execute("cancel_product_orders", env.trader.cancel_products()) == 0
        return await socket.until("order_update", count)


async def _replace_partly_filled(env: Env, **extra: Any) -> tuple[int, int]:
    """Code of the replacement of a half-filled order, and how many orders rest afterwards."""
    price_x18 = env.exchange.bbo(ETH)[0] + TENTH
    digest = await env.rest("buy", str(price_x18 / ONE), "0.1", POST_ONLY)
    env.exchange.house_place(HOUSE, ETH, price_x18, -TENTH // 2, 0)
    place = env.trader.order("buy", "2901", "0.1", POST_ONLY)
    code = await env.execute("cancel_and_place", env.replace(digest, place, **extra))
    return code, len(env.exchange.books[ETH].of_account(env.trader.sender))


async def _over_the_limit(env: Env) -> tuple[int, dict[str, Any]]:
    replies = [
        await env.client.post("/execute", {"cancel_product_orders": env.trader.cancel_products()})
        for _ in range(3)
    ]
    return replies[-1]


async def _payment(env: Env) -> dict[str, Any]:
    asked = {"interest_and_funding": {"subaccount": env.trader.sender, "product_ids": [ETH], "limit": 1}}
    found: dict[str, Any] = (await env.client.post("", asked, base="archive"))[1]["funding_payments"][0]
    return found


# ---- the table


def test_every_open_question_is_asked() -> None:
    assert set(QUESTIONS) == set(OPEN_QUESTIONS) == set(PARAMS)
    for name, asked in QUESTIONS.items():
        assert getattr(ExchangeConfig(), name) != asked.value, name


@pytest.mark.parametrize("name", QUESTIONS)
async def test_an_answer_by_default_at_run_time_and_at_the_start(name: str) -> None:
    asked = QUESTIONS[name]
    at_start = {**asked.options, "switches": {**asked.options.get("switches", {}), name: asked.value}}
    for options, thrown, expected in (
        (asked.options, False, asked.usual),
        (asked.options, True, asked.other),
        (at_start, False, asked.other),
    ):
        async with start_sim(seed=5, rate=0, **options) as server:
            async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as session:
                env = Env(server, Client(session, server.ready))
                if thrown:
                    shown = await env.client.fault(**{name: asked.value})
                    assert shown["counts"][name] >= 1
                assert await asked.look(env) == expected


async def test_a_thrown_switch_goes_back(client: Client, server: Any) -> None:
    config = server.exchange.config
    await client.fault(dead_digest="fill_remainder", update_extras=True, swapped_types=["dt", "placed_at"])
    assert (config.dead_digest, config.update_extras) == ("fill_remainder", True)
    assert config.swapped_types == {"dt", "placed_at"}
    await client.fault(dead_digest=None, update_extras=False)
    assert (config.dead_digest, config.update_extras) == ("reject", False)
    await client.fault(self_trade={"value": "reject_taker", "for_s": 3600})
    assert config.self_trade == "reject_taker"
    await client.fault(clear="all")
    assert config.swapped_types == frozenset()
    assert config.self_trade == "cancel_resting"


async def test_a_refused_subscription_may_go_unanswered(client: Client) -> None:
    await client.fault(control_error="silent")
    async with client.socket("subscribe") as socket:
        await socket.send({"method": "subscribe", "id": 9, "stream": {"type": "nothing"}})
        assert (await socket.ask("list"))["result"] == []
    status, body = await client.post("/faults", {"control_error": "loud"}, base="control")
    assert (status, "expected one of" in body["error"]) == (400, True)


async def test_the_tick_of_sol_is_a_matter_of_listing() -> None:
    async with start_sim(rate=0, switches={"sol_tick": "0.1"}) as server:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as session:
            symbols = (await Client(session, server.ready).get("/query", type="symbols"))[1]["data"][
                "symbols"
            ]
    assert symbols["SOL-PERP"]["price_increment_x18"] == str(TENTH)
    assert symbols["ETH-PERP"]["price_increment_x18"] == str(TENTH)
