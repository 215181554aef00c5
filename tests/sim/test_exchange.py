"""The entry pipeline, order life, queries and archive, as a client sees them."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simcore import (
    ETH,
    FOK,
    HOUSE,
    IOC,
    ISOLATED,
    LIMIT,
    POST_ONLY,
    REDUCE_ONLY,
    SOL,
    Sim,
    Trader,
    sample,
    x18,
)

from nadosim.errors import ExchangeError
from nadosim.products import DEFAULT_PRODUCTS
from nadosim.x18 import ONE


@pytest.fixture
def sim() -> Sim:
    return Sim()


@pytest.fixture
def trader(sim: Sim) -> Trader:
    return Trader(sim)


def _code(call: Any, *args: Any) -> int:
    with pytest.raises(ExchangeError) as refusal:
        call(*args)
    return refusal.value.code


# ---- entry


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"price": "0"}, 2055),
        ({"price": "-1"}, 2055),
        ({"price": "3000.05"}, 2000),
        ({"size": "0"}, 2002),
        ({"size": "0.0005"}, 2001),
        ({"size": "0.033"}, 2094),
        ({"price": "599.9", "size": "1"}, 2007),
        ({"price": "15000.1", "size": "1"}, 2007),
        ({"product_id": 0}, 2016),
        ({"product_id": 6}, 2015),
        ({"appendix": 2}, 2095),
        ({"appendix": LIMIT | 1 << 14}, 2065),
        ({"appendix": LIMIT | 1 << 64}, 2065),
        ({"appendix": LIMIT | 1 << 12}, 2009),
        ({"appendix": LIMIT | 1 << 48}, 2118),
        ({"appendix": LIMIT | ISOLATED}, 2006),
        ({"appendix": LIMIT | REDUCE_ONLY}, 2067),
        ({"appendix": POST_ONLY | REDUCE_ONLY}, 2067),
        ({"appendix": IOC | REDUCE_ONLY}, 2064),
        ({"appendix": IOC}, 2056),
        ({"appendix": FOK}, 2031),
        ({"expiration_s": 1_790_000_000}, 2004),
        ({"spot_leverage": True}, 2019),
        ({"size": "100"}, 2006),
        ({"price": "600", "size": "0.167"}, 0),
        ({"appendix": POST_ONLY}, 0),
    ],
)
def test_codes_of_entry(sim: Sim, trader: Trader, fields: dict[str, Any], code: int) -> None:
    assert sim.refusal(trader.order(**fields)) == code


@pytest.mark.parametrize(("ahead_ms", "code"), [(-1, 2011), (0, 2011), (1, 0), (100_000, 0), (100_001, 2012)])
def test_recv_time_window(sim: Sim, trader: Trader, ahead_ms: int, code: int) -> None:
    assert sim.refusal(trader.order(nonce=trader.nonce(ahead_ms))) == code


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("order", "priceX18"), 3000 * ONE),
        (("order", "amount"), "1e18"),
        (("order", "amount"), str(1 << 127)),
        (("order", "amount"), " 1"),
        (("order", "nonce"), str(1 << 64)),
        (("order", "expiration"), "-1"),
        (("order", "sender"), "0x12"),
        (("order", "sender"), "0x" + "zz" * 32),
        (("order", "sender"), "0x" + " " * 64),
        (("order",), []),
        (("product_id",), "4"),
        (("signature",), None),
        (("id",), -1),
        (("id",), True),
    ],
)
def test_malformed_orders(sim: Sim, trader: Trader, path: tuple[str, ...], value: Any) -> None:
    request = trader.order()
    target = request
    for key in path[:-1]:
        target = target[key]
    target[path[-1]] = value
    assert sim.refusal(request) == 2038
    assert sim.refusal([]) == 2038  # type: ignore[arg-type]


scalars = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8), st.just("0x" + "1" * 64)
)
anything = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
)


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_nothing_but_a_refusal_comes_out_of_nonsense(data: st.DataObject) -> None:
    """Valid messages with one field replaced by anything: answered, or refused with a code."""
    sim = Sim()
    trader = Trader(sim)
    digest, matches = "0x" + "11" * 32, {"subaccounts": [], "product_ids": [4], "limit": 5, "idx": 9}
    # Made only if it is drawn: the signatures of all of them would take most of the time.
    templates: list[tuple[Any, Callable[[], dict[str, Any]]]] = [
        (sim.place, trader.order),
        (sim.exchange.cancel_orders, lambda: trader.cancel(digest)),
        (sim.exchange.cancel_product_orders, lambda: trader.cancel_products(ETH)),
        (sim.exchange.validate_cancel_and_place, lambda: _replace(trader, digest, trader.order())),
        (sim.exchange.link_signer, lambda: trader.link(trader.address, 0)),
        (sim.exchange.archive, lambda: {"matches": matches}),
        (sim.exchange.archive, lambda: {"orders": {"digests": []}}),
        (partial(sim.execute, "place_orders"), lambda: {"orders": [trader.order()], "stop_on_failure": True}),
        (partial(sim.execute, "withdraw_collateral"), lambda: trader.withdraw(0, 10)),
        (partial(sim.execute, "withdraw_collateral_v2"), lambda: trader.withdraw_v2(0, 10)),
        (partial(sim.execute, "transfer_quote"), lambda: trader.transfer(trader.sender, 10)),
        (partial(sim.execute, "liquidate_subaccount"), lambda: trader.liquidate(trader.sender, ETH, 10)),
        *((sim.exchange.archive, partial(dict, request)) for request in _archive_requests(trader)),
    ]
    for kind in (
        "symbols",
        "market_prices",
        "market_liquidity",
        "subaccount_info",
        "order",
        "max_order_size",
        "max_withdrawable",
        "isolated_positions",
    ):
        templates.append((sim.exchange.query, partial(dict, sample(f"query_{kind}")["request"])))
    call, make = data.draw(st.sampled_from(templates), label="request")
    request = make()
    parents: list[dict[str, Any]] = [request, *(v for v in request.values() if isinstance(v, dict))]
    parents += [v for parent in parents[1:] for v in parent.values() if isinstance(v, dict)]
    parent = data.draw(st.sampled_from(parents), label="parent")
    parent[data.draw(st.sampled_from(sorted(parent)), label="field")] = data.draw(anything, label="value")
    with contextlib.suppress(ExchangeError):
        call(request)


def _archive_requests(trader: Trader) -> list[dict[str, Any]]:
    interval = {"count": 2, "granularity": 60, "max_time": 1_790_000_000}
    payments = {"subaccount": trader.sender, "product_ids": [4], "limit": 5, "max_idx": "9"}
    return [
        {"candlesticks": {"product_id": 4, "granularity": 60, "limit": 2, "max_time": 1_790_000_000}},
        {"funding_rates": {"product_ids": [4, 8]}},
        {"perp_prices": {"product_ids": [4, 8]}},
        {"oracle_price": {"product_ids": [4]}},
        {"products": {"product_id": 4, "limit": 1}},
        {"market_snapshots": {"interval": interval, "product_ids": [4]}},
        {"market_snapshots": interval},
        {"interest_and_funding": payments},
        {"events": {"subaccounts": [trader.sender], "event_types": ["settle_pnl"], "limit": {"txs": 5}}},
        {"events": {"limit": {"raw": 5}}},
        {"subaccounts": {"address": trader.address, "start": 0, "limit": 5}},
    ]


def test_only_the_wallet_or_its_linked_signer_may_sign(sim: Sim, trader: Trader) -> None:
    other = Trader(sim, 2)
    assert sim.refusal(other.order(sender=trader.sender)) == 2028
    sim.exchange.link_signer(trader.link(other.address, nonce=0))
    assert sim.refusal(other.order(sender=trader.sender)) == 0
    assert sim.exchange.query({"type": "linked_signer", "subaccount": trader.sender}) == {
        "linked_signer": other.address
    }
    assert _code(sim.exchange.link_signer, trader.link(other.address, nonce=0)) == 2022
    assert _code(sim.exchange.link_signer, trader.link(other.address, nonce=1)) == 2026
    sim.exchange.link_signer(trader.link("0x" + "00" * 20, nonce=1))
    assert sim.refusal(other.order(sender=trader.sender)) == 2028


def test_without_a_deposit_there_is_no_account(sim: Sim) -> None:
    stranger = Trader(sim, 3, deposit=0)
    assert sim.refusal(stranger.order()) == 2024
    info = sim.exchange.query({"type": "subaccount_info", "subaccount": stranger.sender})
    assert info["exists"] is False


def test_a_simulated_account_cannot_be_signed_for_or_funded(sim: Sim) -> None:
    sim.house("buy", "2900", "1")
    with pytest.raises(ValueError, match="house"):
        sim.exchange.fund(HOUSE, ONE)


def test_only_post_only_orders_enter_at_once(sim: Sim, trader: Trader) -> None:
    for appendix, delay_ns in ((LIMIT, 30_000_000), (IOC, 30_000_000), (FOK, 30_000_000), (POST_ONLY, 0)):
        assert sim.exchange.validate_place(trader.order(appendix=appendix)).delay_ns == delay_ns


def test_a_digest_is_taken_once_even_while_it_waits(sim: Sim, trader: Trader) -> None:
    request = trader.order()
    pending = sim.exchange.validate_place(request)
    assert _code(sim.exchange.validate_place, request) == 2013
    sim.exchange.commit_place(pending)
    assert sim.refusal(request) == 2013
    sim.exchange.cancel_orders(trader.cancel(pending.digest))
    assert sim.refusal(request) == 2013
    sim.clock.advance_s(6)
    assert sim.refusal(request) == 2011


def test_an_order_refused_by_the_engine_may_be_sent_again(sim: Sim, trader: Trader) -> None:
    blocking = sim.house("sell", "3000", "1")
    request = trader.order(appendix=POST_ONLY)
    assert sim.refusal(request) == 2008
    sim.exchange.house_cancel(HOUSE, ETH, blocking)
    assert sim.refusal(request) == 0


def test_a_dead_digest_may_come_back_for_its_remainder_if_so_configured() -> None:
    sim = Sim(dead_digest="fill_remainder")
    trader = Trader(sim)
    sim.house("sell", "3000", "0.04")
    request = trader.order(appendix=IOC, size="0.1")
    assert sim.refusal(request) == 0
    sim.house("sell", "3000", "1")
    assert sim.refusal(request) == 0
    assert [f["filled_qty"] for f in sim.private("fill")] == [str(x18("0.04")), str(x18("0.06"))]
    assert sim.private("fill")[1]["remaining_qty"] == "0"
    assert sim.refusal(request) == 2013


def test_open_order_limit() -> None:
    sim = Sim(max_open_orders=2)
    trader = Trader(sim)
    assert [sim.refusal(trader.order()) for _ in range(3)] == [0, 0, 2005]
    assert sim.refusal(trader.order(product_id=SOL, price="140", size="1")) == 0


@pytest.mark.parametrize(
    ("status", "appendix", "code"),
    [
        ("not_tradable", LIMIT, 2069),
        ("post_only", LIMIT, 2117),
        ("post_only", POST_ONLY, 0),
        ("reduce_only", LIMIT, 2119),
        ("soft_reduce_only", IOC | REDUCE_ONLY, 2064),
    ],
)
def test_trading_status(sim: Sim, trader: Trader, status: Any, appendix: int, code: int) -> None:
    sim.exchange.set_trading_status(ETH, status)
    assert sim.refusal(trader.order(appendix=appendix)) == code
    shown = sim.exchange.query({"type": "symbols"})["symbols"]["ETH-PERP"]["trading_status"]
    assert shown == status


def test_an_isolated_only_market() -> None:
    products = tuple(dataclasses.replace(p, isolated_only=p.product_id == ETH) for p in DEFAULT_PRODUCTS)
    sim = Sim(products=products)
    assert sim.refusal(Trader(sim).order()) == 2122


def test_maintenance_refuses_executes_and_answers_queries(sim: Sim, trader: Trader) -> None:
    sim.exchange.status = "syncing"
    assert sim.refusal(trader.order()) == 1004
    assert _code(sim.exchange.cancel_product_orders, trader.cancel_products()) == 1004
    assert sim.exchange.query({"type": "status"}) == "syncing"


def test_takers_may_be_smaller_than_the_minimum_unless_configured(sim: Sim, trader: Trader) -> None:
    sim.house("sell", "3000", "1")
    assert sim.refusal(trader.order(appendix=IOC, size="0.001")) == 0
    assert sim.private("fill")[0]["fee"] == "35012254289001150"
    strict = Sim(takers_obey_min_size=True)
    assert strict.refusal(Trader(strict).order(appendix=IOC, size="0.001")) == 2094


# ---- life of an order


def test_a_taker_limit_order_fills_two_levels_and_rests(sim: Sim, trader: Trader) -> None:
    sim.house("sell", "2999.9", "0.1")
    sim.house("sell", "3000", "0.2")
    sim.place(trader.order(size="1", price="3000", client_id=7))
    assert sim.updates() == [("filled", str(x18(a))) for a in ("0.9", "0.7")] + [("placed", str(x18("0.7")))]
    step = sim.steps[-1]
    stamps = {event["timestamp"] for _, event in step.private} | {t["timestamp"] for t in step.trades}
    assert stamps == {str(step.timestamp_ns)}
    assert [t["price"] for t in step.trades] == [str(x18("2999.9")), str(x18("3000"))]
    assert all(event["id"] == 7 for _, event in step.private if event["type"] != "position_change")
    assert step.touched[ETH] == {("asks", x18("2999.9")), ("asks", x18("3000")), ("bids", x18("3000"))}


def test_stamps_rise_and_each_match_has_its_own_index(sim: Sim, trader: Trader) -> None:
    counterpart = Trader(sim, 2)
    sim.place(counterpart.order("sell", "3000", "0.1", POST_ONLY))
    sim.place(counterpart.order("sell", "3000", "0.1", POST_ONLY))
    sim.clock.advance_ns(-5_000_000_000)
    sim.place(trader.order("buy", "3000", "0.2", IOC, nonce=trader.nonce(90_000)))
    stamps = [step.timestamp_ns for step in sim.steps]
    assert stamps == sorted(set(stamps))
    fills = sim.private("fill")
    assert [f["submission_idx"] for f in fills] == ["1", "1", "2", "2"]
    assert [f["is_taker"] for f in fills] == [True, False, True, False]
    assert [f["is_bid"] for f in fills] == [True, False, True, False]


def test_an_ioc_remainder_is_cancelled(sim: Sim, trader: Trader) -> None:
    sim.house("sell", "3000", "0.6")
    assert sim.refusal(trader.order(size="1", appendix=IOC)) == 0
    assert sim.updates() == [("filled", str(x18("0.4"))), ("cancelled", "0")]
    assert sim.exchange.orders_state()[0]["end"] == "remainder"


@pytest.mark.parametrize(
    ("answer", "code", "updates"),
    [("both", 2056, [("cancelled", "0")]), ("failure", 2056, []), ("event", 0, [("cancelled", "0")])],
)
def test_how_an_ioc_without_a_cross_ends(answer: str, code: int, updates: list[tuple[str, str]]) -> None:
    sim = Sim(kill_answer=answer)
    assert sim.refusal(Trader(sim).order(appendix=IOC)) == code
    assert sim.updates() == updates
    assert sim.exchange.orders_state()[0]["end"] == "no_cross"


def test_reduce_only_closes_and_never_turns(sim: Sim, trader: Trader) -> None:
    sim.house("sell", "3000", "0.4")
    sim.place(trader.order(size="0.4", appendix=IOC))
    assert sim.refusal(trader.order(size="0.1", appendix=IOC | REDUCE_ONLY)) == 2064
    sim.house("buy", "2999", "5")
    assert sim.refusal(trader.order("sell", "2999", "1", IOC | REDUCE_ONLY)) == 0
    assert sim.exchange.accounts.position_x18(sim.exchange.accounts.open(trader.sender), ETH) == 0
    assert sim.private("fill")[-1]["remaining_qty"] == str(x18("0.6"))
    assert sim.updates()[-1] == ("cancelled", "0")


def test_self_trade_cancels_the_resting_order(sim: Sim, trader: Trader) -> None:
    sim.place(trader.order("sell", "3000", "0.1", POST_ONLY))
    sim.place(trader.order("buy", "3000", "0.1", LIMIT))
    assert sim.updates() == [("placed", str(x18("0.1"))), ("cancelled", "0"), ("placed", str(x18("0.1")))]
    assert [order["end"] for order in sim.exchange.orders_state()] == ["self_trade", None]
    assert not sim.private("fill")


def test_orders_expire(sim: Sim, trader: Trader) -> None:
    sim.place(trader.order(expiration_s=sim.clock.now_ms() // 1000 + 3))
    sim.clock.advance_s(2)
    sim.exchange.expire()
    assert len(sim.updates()) == 1
    sim.clock.advance_s(1)
    sim.exchange.expire()
    assert sim.updates()[-1] == ("cancelled", "0")
    assert sim.exchange.bbo(ETH)[0] == 0
    assert sim.exchange.orders_state()[0]["end"] == "expired"


def test_a_simulated_order_expires_even_under_its_own_cancel(sim: Sim) -> None:
    expiration_s = sim.clock.now_ms() // 1000 + 1
    digest = sim.exchange.house_place(HOUSE, ETH, x18("2900"), ONE, 0, expiration_s)
    sim.clock.advance_s(1)
    assert not sim.exchange.house_cancel(HOUSE, ETH, digest)
    assert sim.exchange.level(ETH, "bids", x18("2900")) == 0


def test_an_expired_order_is_never_traded_with(sim: Sim, trader: Trader) -> None:
    sim.place(trader.order("buy", "3000", "0.1", POST_ONLY, expiration_s=sim.clock.now_ms() // 1000 + 1))
    sim.clock.advance_s(1)
    with pytest.raises(ExchangeError, match="2056"):
        sim.house("sell", "3000", "0.1", kind=1)


def test_a_resting_order_that_lost_its_margin_is_cancelled_at_the_match(sim: Sim) -> None:
    trader = Trader(sim, deposit=100)
    sim.place(trader.order("buy", "3000", "1", POST_ONLY))
    sim.exchange.set_oracle(ETH, x18("2000"))
    with pytest.raises(ExchangeError, match="2056"):
        sim.house("sell", "3000", "1", kind=1)
    assert sim.updates()[-1] == ("cancelled", "0")
    assert sim.exchange.orders_state()[0]["end"] == "health"


# ---- cancels


def test_cancel_tells_what_was_left(sim: Sim, trader: Trader) -> None:
    digest = sim.place(trader.order("sell", "3000", "0.5", client_id=9))["digest"]
    sim.house("buy", "3000", "0.2", kind=1)
    reply = sim.exchange.cancel_orders(trader.cancel(digest))
    assert [o["unfilled_amount"] for o in reply["cancelled_orders"]] == [str(-x18("0.3"))]
    assert reply["cancelled_orders"][0]["id"] == 9
    assert _code(sim.exchange.cancel_orders, trader.cancel(digest)) == 2020


def test_cancel_codes(sim: Sim, trader: Trader) -> None:
    digest = sim.place(trader.order())["digest"]
    other = Trader(sim, 2)
    cancel = sim.exchange.cancel_orders
    assert _code(cancel, {}) == 2038
    assert _code(cancel, {"tx": {**trader.cancel(digest)["tx"], "digests": []}, "signature": "0x"}) == 2039
    assert _code(cancel, {**trader.cancel(digest), "signature": "0x00"}) == 2027
    assert _code(cancel, other.cancel(digest)) == 2014
    assert _code(cancel, trader.cancel(digest, product_id=6)) == 2015
    assert _code(cancel, trader.cancel(digest, product_id=SOL)) == 2020
    assert _code(cancel, trader.cancel(digest, digest)) == 2020
    assert _code(cancel, trader.cancel(digest, "0x" + "11" * 32)) == 2020
    assert _code(cancel, trader.cancel(digest, digest, required_unfilled_amount="1")) == 2123
    assert _code(cancel, trader.cancel(digest, required_unfilled_amount="1")) == 2124
    assert sim.exchange.bbo(ETH)[1] == x18("0.1")
    assert cancel(trader.cancel(digest, required_unfilled_amount=str(x18("0.1"))))


def test_cancel_by_product_and_of_everything(sim: Sim, trader: Trader) -> None:
    for _ in range(2):
        sim.place(trader.order())
    sim.place(trader.order(product_id=SOL, price="140", size="1"))
    other = Trader(sim, 2)
    sim.place(other.order())
    cancel = sim.exchange.cancel_product_orders
    assert len(cancel(trader.cancel_products(SOL))["cancelled_orders"]) == 1
    assert len(cancel(trader.cancel_products())["cancelled_orders"]) == 2
    assert cancel(trader.cancel_products(ETH, SOL)) == {"cancelled_orders": []}
    assert sim.exchange.bbo(ETH)[1] == x18("0.1")


def _replace(trader: Trader, digest: str, place: dict[str, Any], **extra: Any) -> dict[str, Any]:
    tx, signature = trader.cancel_tx(digest)
    return {"cancel_tx": tx, "cancel_signature": signature, "place_order": place, **extra}


def test_cancel_and_place_is_one_step(sim: Sim, trader: Trader) -> None:
    old = sim.place(trader.order(price="2990"))["digest"]
    pending = sim.exchange.validate_cancel_and_place(_replace(trader, old, trader.order(appendix=POST_ONLY)))
    steps = len(sim.steps)
    assert sim.exchange.commit_cancel_and_place(pending) == {"digest": pending.digest}
    assert len(sim.steps) == steps + 1
    assert sim.updates()[-2:] == [("cancelled", "0"), ("placed", str(x18("0.1")))]


def test_cancel_and_place_codes(sim: Sim, trader: Trader) -> None:
    other = Trader(sim, 2)

    def outcome(request: dict[str, Any]) -> int:
        try:
            sim.exchange.commit_cancel_and_place(sim.exchange.validate_cancel_and_place(request))
        except ExchangeError as error:
            return error.code
        return 0

    old = sim.place(trader.order("sell", "3000", "0.2", POST_ONLY))["digest"]
    assert outcome(_replace(trader, old, other.order())) == 2066
    assert outcome(_replace(trader, "0x" + "11" * 32, trader.order())) == 2121
    assert outcome(_replace(trader, old, trader.order(), required_unfilled_amount="1")) == 2121
    sim.house("buy", "3000", "0.1", kind=1)
    assert outcome(_replace(trader, old, trader.order("sell"), place_requires_unfilled=True)) == 2120
    assert sim.exchange.orders_state()[0]["end"] == "cancelled"
    assert outcome(_replace(trader, old, trader.order(price="0"))) == 2055
    renewed = trader.order("sell", "3000", "0.1", POST_ONLY)
    assert outcome(_replace(trader, old, renewed)) == 2121
    assert sim.refusal(renewed) == 0, "a digest that never reached the engine is free again"


# ---- stream authentication


def test_stream_authentication(sim: Sim, trader: Trader) -> None:
    now_ms = sim.clock.now_ms()
    authenticate = sim.exchange.authenticate
    authenticate(trader.sender, now_ms + 1000, trader.stream_auth(now_ms + 1000))
    assert _code(authenticate, trader.sender, now_ms, trader.stream_auth(now_ms)) == 2011
    late = now_ms + 100_001
    assert _code(authenticate, trader.sender, late, trader.stream_auth(late)) == 2012
    wrong = Trader(sim, 2).stream_auth(now_ms + 1000)
    assert _code(authenticate, trader.sender, now_ms + 1000, wrong) == 2028


# ---- replies and events have the documented fields and types


def _shape(value: Any) -> Any:
    """Keys and JSON types; a list is the shape of its first entry."""
    if isinstance(value, dict):
        return {key: _shape(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_shape(value[0])] if value else []
    return type(value).__name__


@pytest.fixture
def traded() -> tuple[Sim, Trader, str]:
    """A trader with a resting order, a position and fills on both sides."""
    sim = Sim()
    trader = Trader(sim)
    sim.house("sell", "3000", "0.2")
    sim.house("buy", "2990", "1")
    sim.place(trader.order("buy", "3000", "0.2", IOC, client_id=100))
    digest = sim.place(trader.order("buy", "2999.5", "0.125", POST_ONLY, client_id=100))["digest"]
    sim.house("sell", "2999.5", "0.025", kind=1)
    sim.house("sell", "3001", "1")
    return sim, trader, digest


@pytest.mark.parametrize(
    ("name", "request_fields"),
    [
        ("query_status", {}),
        ("query_contracts", {}),
        ("query_nonces", {"address": "ADDRESS"}),
        ("query_market_price", {"product_id": "4"}),
        ("query_market_prices", {"product_ids": "[4,8]"}),
        ("query_market_liquidity", {"product_id": 4, "depth": "5"}),
        ("query_subaccount_info", {"subaccount": "SENDER"}),
        ("query_subaccount_orders", {"sender": "SENDER", "product_id": 4}),
        ("query_orders", {"sender": "SENDER", "product_ids": [4, 8]}),
        ("query_order", {"product_id": 4, "digest": "DIGEST"}),
        ("query_all_products", {}),
        ("query_fee_rates", {"sender": "SENDER"}),
        (
            "query_max_order_size",
            {"sender": "SENDER", "product_id": 4, "price_x18": str(3000 * ONE), "direction": "long"},
        ),
        ("query_max_withdrawable", {"sender": "SENDER", "product_id": 0}),
        ("query_linked_signer", {"subaccount": "SENDER"}),
    ],
)
def test_query_replies_have_the_documented_shape(
    traded: tuple[Sim, Trader, str], name: str, request_fields: dict[str, Any]
) -> None:
    sim, trader, digest = traded
    names = {"ADDRESS": trader.address, "SENDER": trader.sender, "DIGEST": digest}
    request = {k: names.get(v, v) if isinstance(v, str) else v for k, v in request_fields.items()}
    data = sim.exchange.query({"type": name.removeprefix("query_"), **request})
    assert _shape(data) == _shape(sample(name)["response"]["data"])


def test_other_query_shapes(traded: tuple[Sim, Trader, str]) -> None:
    sim, trader, _ = traded
    symbols = sim.exchange.query({"type": "symbols", "product_ids": [4, 8]})["symbols"]
    documented = sample("query_symbols")["response"]["data"]["symbols"]
    assert _shape(symbols) == _shape({name: documented[name] for name in ("ETH-PERP", "SOL-PERP")})
    for name in symbols:
        for field in ("price_increment_x18", "size_increment", "min_size", "maker_fee_rate_x18"):
            assert symbols[name][field] == documented[name][field]
    none = sample("query_isolated_positions")["response_none"]["data"]
    assert sim.exchange.query({"type": "isolated_positions", "subaccount": trader.sender}) == none
    assert list(sim.exchange.query({"type": "health_groups"})) == ["health_groups"]
    assert _shape(sim.exchange.symbols_list()) == _shape(sample("rest_time_and_symbols")["response_symbols"])


@pytest.mark.parametrize("kind", ["order_update", "fill", "position_change"])
def test_private_events_have_the_documented_shape(traded: tuple[Sim, Trader, str], kind: str) -> None:
    documented = _shape(sample(f"stream_{kind}")["events"][0])
    events = traded[0].private(kind)
    assert len(events) >= 2
    assert all(_shape(event) == documented for event in events)


def test_trades_have_the_documented_shape(traded: tuple[Sim, Trader, str]) -> None:
    trades = [trade for step in traded[0].steps for trade in step.trades]
    assert [trade["is_taker_buyer"] for trade in trades] == [True, False]
    assert all(_shape(trade) == _shape(sample("stream_trade")["events"][0]) for trade in trades)


def test_execute_replies_have_the_documented_shape(traded: tuple[Sim, Trader, str]) -> None:
    sim, trader, digest = traded
    reply = sim.exchange.cancel_orders(trader.cancel(digest))
    assert _shape(reply) == _shape(sample("execute_cancel_orders")["response"]["data"])
    reply = sim.place(trader.order())
    assert _shape(reply) == _shape(sample("execute_place_order")["response"]["data"])


def test_the_archive_has_the_documented_shape(traded: tuple[Sim, Trader, str]) -> None:
    sim, trader, digest = traded
    orders = sim.exchange.archive({"orders": {"digests": [digest]}})
    assert _shape(orders) == _shape(sample("archive_orders")["response"])
    matches = sim.exchange.archive({"matches": {"subaccounts": [trader.sender], "product_ids": [4]}})
    documented = _shape(sample("archive_matches")["response"])
    taker = documented["txs"][0]["tx"]["match_orders"]["taker"]["order"]
    taker["expiration"] = taker["nonce"] = "str"
    assert _shape(matches) == documented


# ---- figures of queries and archive


def test_the_archive_agrees_with_the_fills(traded: tuple[Sim, Trader, str]) -> None:
    sim, trader, digest = traded
    (order,) = sim.exchange.archive({"orders": {"digests": [digest]}})["orders"]
    fill = sim.private("fill")[-1]
    assert (order["base_filled"], order["fee"]) == (str(x18("0.025")), fill["fee"])
    assert int(order["quote_filled"]) == -(x18("0.025") * x18("2999.5") // ONE) - int(fill["fee"])
    matches = sim.exchange.archive({"matches": {"subaccounts": [trader.sender]}})["matches"]
    assert [m["submission_idx"] for m in matches] == ["2", "1"]
    position = sim.private("position_change")[-1]
    assert (
        matches[0]["post_balance"]["base"]["perp"]["balance"]["v_quote_balance"] == position["v_quote_amount"]
    )
    older = sim.exchange.archive({"matches": {"subaccounts": [trader.sender], "idx": 1}})["matches"]
    assert [m["submission_idx"] for m in older] == ["1"]
    limited = sim.exchange.archive({"orders": {"subaccounts": [trader.sender], "limit": 1}})["orders"]
    assert [o["digest"] for o in limited] == [digest]


def test_the_archive_knows_only_orders_that_filled(sim: Sim, trader: Trader) -> None:
    digest = sim.place(trader.order())["digest"]
    assert sim.exchange.archive({"orders": {"digests": [digest]}}) == {"orders": []}


def test_archive_codes(sim: Sim) -> None:
    archive = sim.exchange.archive
    assert _code(archive, {"orders": {"digests": [], "subaccounts": []}}) == 3000
    assert _code(archive, {"orders": {"digests": ["0x"] * 501}}) == 3001
    assert _code(archive, {"matches": {"limit": "many"}}) == 2038
    assert _code(archive, {"no_such_query": {}}) == 2038
    assert _code(archive, {"leaderboard": {}}) == 4001


@pytest.mark.parametrize(
    ("request_fields", "code"),
    [
        ({}, 2038),
        ({"type": "nlp_pool_info"}, 4001),
        ({"type": "no_such_query"}, 2038),
        ({"type": "market_price"}, 2038),
        ({"type": "market_price", "product_id": "four"}, 2038),
        ({"type": "market_price", "product_id": 6}, 2015),
        ({"type": "market_liquidity", "product_id": 4, "depth": 101}, 2038),
        ({"type": "order", "product_id": 4, "digest": "0x" + "11" * 32}, 2020),
        ({"type": "subaccount_info", "subaccount": "0x12"}, 2038),
        ({"type": "subaccount_info", "subaccount": "0x" + "zz" * 32}, 2038),
        ({"type": "nonces", "address": "0x" + " " * 40}, 2038),
        ({"type": "subaccount_info", "subaccount": "0x" + "11" * 32, "txns": "[1]"}, 2038),
    ],
)
def test_query_codes(sim: Sim, request_fields: dict[str, Any], code: int) -> None:
    assert _code(sim.exchange.query, request_fields) == code


def test_the_largest_order_is_accepted_and_one_step_more_is_not(sim: Sim, trader: Trader) -> None:
    query = {
        "type": "max_order_size",
        "sender": trader.sender,
        "product_id": 4,
        "price_x18": str(x18("3000")),
    }
    for direction, side in (("long", "buy"), ("short", "sell")):
        largest = int(sim.exchange.query({**query, "direction": direction})["max_order_size"])
        assert largest > 0
        beyond = trader.order(side, "3000", str((largest + 10**15) / ONE))
        assert sim.refusal(beyond) == 2006
        assert sim.refusal(trader.order(side, "3000", str(largest / ONE), POST_ONLY)) == 0
        sim.exchange.cancel_product_orders(trader.cancel_products())
    closing = {**query, "direction": "short", "reduce_only": "true"}
    assert sim.exchange.query(closing) == {"max_order_size": "0"}


def test_simulated_changes_of_an_account(sim: Sim, trader: Trader) -> None:
    request = {**sample("query_subaccount_info")["request_simulated"], "subaccount": trader.sender}
    request["txns"] = request["txns"].replace(
        sample("query_subaccount_info")["request"]["subaccount"], trader.sender
    )
    info = sim.exchange.query(request)
    eth = next(b for b in info["perp_balances"] if b["product_id"] == ETH)
    assert eth["balance"]["amount"] == "100000000000000000"
    assert info["pre_state"]["perp_balances"][1]["balance"]["amount"] == "0"
    assert info["pre_state"]["healths"][2]["health"] == str(5000 * ONE)


def test_simulated_changes_are_no_wider_than_a_balance(sim: Sim, trader: Trader) -> None:
    delta = {"product_id": ETH, "subaccount": trader.sender, "amount_delta": "9" * 4299, "v_quote_delta": "0"}
    request = {"type": "subaccount_info", "subaccount": trader.sender}
    assert _code(sim.exchange.query, {**request, "txns": json.dumps([{"apply_delta": delta}])}) == 2038


def test_funding_shows_in_balances_at_once(sim: Sim, trader: Trader) -> None:
    sim.house("sell", "3000", "1")
    sim.place(trader.order("buy", "3000", "1", IOC))
    query = {"type": "subaccount_info", "subaccount": trader.sender}
    before = int(sim.exchange.query(query)["perp_balances"][1]["balance"]["v_quote_balance"])
    sim.exchange.pay_funding(ETH, x18("0.0390625"))
    after = int(sim.exchange.query(query)["perp_balances"][1]["balance"]["v_quote_balance"])
    assert before - after == x18("0.0390625")


def test_a_snapshot_is_stamped_by_the_last_step(sim: Sim, trader: Trader) -> None:
    sim.place(trader.order())
    sim.clock.advance_s(60)
    snapshot = sim.exchange.query({"type": "market_liquidity", "product_id": 4, "depth": 1})
    assert snapshot["timestamp"] == str(sim.steps[-1].timestamp_ns)


# ---- what the exchange keeps


def test_every_execute_is_on_record_without_its_signature(sim: Sim, trader: Trader) -> None:
    request = trader.order()
    digest = sim.place(request)["digest"]
    sim.refusal({})
    waiting = sim.exchange.validate_place(trader.order())
    state = sim.exchange.executes_state()
    assert [(e["done"], e["error_code"]) for e in state] == [(True, None), (True, 2038), (False, None)]
    assert state[0]["digests"] == [digest]
    assert request["signature"][2:] not in repr([state, sim.exchange.orders_state()])
    sim.exchange.commit_place(waiting)


def test_memory_is_bounded() -> None:
    sim = Sim(history_limit=5)
    trader = Trader(sim)
    resting = sim.place(trader.order(price="2000"))["digest"]
    for _ in range(12):
        sim.house("sell", "3000", "0.1")
        sim.place(trader.order(appendix=IOC))
    assert len(sim.exchange.fills_state()) == len(sim.exchange.executes_state()) == 5
    orders = sim.exchange.orders_state()
    assert len(orders) == 6
    assert orders[0]["digest"] == resting


def test_simulated_participants_leave_no_trace_but_their_balances(sim: Sim) -> None:
    for _ in range(3000):
        sim.exchange.house_cancel(HOUSE, ETH, sim.house("buy", "2900", "1"))
    assert not sim.exchange.orders_state()
    assert not sim.exchange.books[ETH].orders
    assert not any(step.private for step in sim.steps)
