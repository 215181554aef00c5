"""The way of an order into the engine: what is refused with which code, who may sign, what waits."""

from __future__ import annotations

import contextlib
import dataclasses
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
    code_of,
    sample,
    x18,
)

from nadosim.errors import ExchangeError
from nadosim.products import DEFAULT_PRODUCTS
from nadosim.x18 import ONE


@pytest.fixture
def trader(sim: Sim) -> Trader:
    return Trader(sim)


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
        (sim.exchange.validate_cancel_and_place, lambda: trader.replace(digest, trader.order())),
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
    assert code_of(sim.exchange.link_signer, trader.link(other.address, nonce=0)) == 2022
    assert code_of(sim.exchange.link_signer, trader.link(other.address, nonce=1)) == 2026
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
    assert code_of(sim.exchange.validate_place, request) == 2013
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


def test_the_open_order_limit_holds_for_orders_that_wait_side_by_side() -> None:
    sim = Sim(max_open_orders=2)
    trader = Trader(sim)
    waiting = [sim.exchange.validate_place(trader.order()) for _ in range(3)]
    assert [code_of(sim.exchange.commit_place, pending) for pending in waiting] == [0, 0, 2005]
    assert sim.exchange.orders_state()[-1]["end"] is None, "the third never was an order"
    more = [trader.order(product_id=SOL, price="140", size="1") for _ in range(3)]
    placed = sim.execute("place_orders", {"orders": more})["place_orders"]
    assert [one["error"] is None for one in placed] == [True, True, False]


def test_a_replacement_takes_the_room_of_the_order_it_replaces() -> None:
    sim = Sim(max_open_orders=2)
    trader = Trader(sim)
    old, _ = [sim.place(trader.order())["digest"] for _ in range(2)]
    pending = sim.exchange.validate_cancel_and_place(trader.replace(old, trader.order(price="2990")))
    assert code_of(sim.exchange.commit_cancel_and_place, pending) == 0
    assert sim.refusal(trader.order()) == 2005


def test_a_replacement_has_no_room_in_another_market() -> None:
    """And is refused before it costs the order that it should have replaced."""
    sim = Sim(max_open_orders=1)
    trader = Trader(sim)
    old = sim.place(trader.order())["digest"]
    sim.place(trader.order(price="139", size="1", product_id=SOL))
    request = trader.replace(old, trader.order(price="138", size="1", product_id=SOL))
    assert code_of(sim.exchange.validate_cancel_and_place, request) == 2005
    assert old in sim.exchange.books[ETH].orders


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
    assert code_of(sim.exchange.cancel_product_orders, trader.cancel_products()) == 1004
    assert sim.exchange.query({"type": "status"}) == "syncing"


def test_takers_may_be_smaller_than_the_minimum_unless_configured(sim: Sim, trader: Trader) -> None:
    sim.house("sell", "3000", "1")
    assert sim.refusal(trader.order(appendix=IOC, size="0.001")) == 0
    assert sim.private("fill")[0]["fee"] == "35012254289001150"
    strict = Sim(takers_obey_min_size=True)
    assert strict.refusal(Trader(strict).order(appendix=IOC, size="0.001")) == 2094


def test_stream_authentication(sim: Sim, trader: Trader) -> None:
    now_ms = sim.clock.now_ms()
    authenticate = sim.exchange.authenticate
    authenticate(trader.sender, now_ms + 1000, trader.stream_auth(now_ms + 1000))
    assert code_of(authenticate, trader.sender, now_ms, trader.stream_auth(now_ms)) == 2011
    late = now_ms + 100_001
    assert code_of(authenticate, trader.sender, late, trader.stream_auth(late)) == 2012
    wrong = Trader(sim, 2).stream_auth(now_ms + 1000)
    assert code_of(authenticate, trader.sender, now_ms + 1000, wrong) == 2028
