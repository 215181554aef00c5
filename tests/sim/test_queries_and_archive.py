"""Queries and the archive: documented fields and types, and the figures in them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from nado_protocol.indexer_client.types.query import IndexerQueryType
from simcore import (
    ETH,
    IOC,
    POST_ONLY,
    Sim,
    Trader,
    code_of,
    sample,
    shape,
    x18,
)

from nadosim.errors import ExchangeError
from nadosim.x18 import ONE


@pytest.fixture
def trader(sim: Sim) -> Trader:
    return Trader(sim)


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
def test_query_replies_have_the_documentedshape(
    traded: tuple[Sim, Trader, str], name: str, request_fields: dict[str, Any]
) -> None:
    sim, trader, digest = traded
    names = {"ADDRESS": trader.address, "SENDER": trader.sender, "DIGEST": digest}
    request = {k: names.get(v, v) if isinstance(v, str) else v for k, v in request_fields.items()}
    data = sim.exchange.query({"type": name.removeprefix("query_"), **request})
    assert shape(data) == shape(sample(name)["response"]["data"])


def test_other_query_shapes(traded: tuple[Sim, Trader, str]) -> None:
    sim, trader, _ = traded
    symbols = sim.exchange.query({"type": "symbols", "product_ids": [4, 8]})["symbols"]
    documented = sample("query_symbols")["response"]["data"]["symbols"]
    assert shape(symbols) == shape({name: documented[name] for name in ("ETH-PERP", "SOL-PERP")})
    for name in symbols:
        for field in ("price_increment_x18", "size_increment", "min_size", "maker_fee_rate_x18"):
            assert symbols[name][field] == documented[name][field]
    none = sample("query_isolated_positions")["response_none"]["data"]
    assert sim.exchange.query({"type": "isolated_positions", "subaccount": trader.sender}) == none
    assert list(sim.exchange.query({"type": "health_groups"})) == ["health_groups"]
    assert shape(sim.exchange.symbols_list()) == shape(sample("rest_time_and_symbols")["response_symbols"])


@pytest.mark.parametrize("kind", ["order_update", "fill", "position_change"])
def test_private_events_have_the_documentedshape(traded: tuple[Sim, Trader, str], kind: str) -> None:
    documented = shape(sample(f"stream_{kind}")["events"][0])
    events = traded[0].private(kind)
    assert len(events) >= 2
    assert all(shape(event) == documented for event in events)


def test_trades_have_the_documentedshape(traded: tuple[Sim, Trader, str]) -> None:
    trades = [trade for step in traded[0].steps for trade in step.trades]
    assert [trade["is_taker_buyer"] for trade in trades] == [True, False]
    assert all(shape(trade) == shape(sample("stream_trade")["events"][0]) for trade in trades)


def test_execute_replies_have_the_documentedshape(traded: tuple[Sim, Trader, str]) -> None:
    sim, trader, digest = traded
    reply = sim.exchange.cancel_orders(trader.cancel(digest))
    assert shape(reply) == shape(sample("execute_cancel_orders")["response"]["data"])
    reply = sim.place(trader.order())
    assert shape(reply) == shape(sample("execute_place_order")["response"]["data"])


def test_the_archive_has_the_documentedshape(traded: tuple[Sim, Trader, str]) -> None:
    sim, trader, digest = traded
    orders = sim.exchange.archive({"orders": {"digests": [digest]}})
    assert shape(orders) == shape(sample("archive_orders")["response"])
    matches = sim.exchange.archive({"matches": {"subaccounts": [trader.sender], "product_ids": [4]}})
    documented = shape(sample("archive_matches")["response"])
    taker = documented["txs"][0]["tx"]["match_orders"]["taker"]["order"]
    taker["expiration"] = taker["nonce"] = "str"
    assert shape(matches) == documented


# ---- figures of queries and archive


def test_the_archive_agrees_with_the_fills(traded: tuple[Sim, Trader, str]) -> None:
    sim, trader, digest = traded
    (order,) = sim.exchange.archive({"orders": {"digests": [digest]}})["orders"]
    fill = sim.private("fill")[-1]
    assert (order["base_filled"], order["fee"]) == (str(x18("0.025")), fill["fee"])
    assert int(order["quote_filled"]) == -(x18("0.025") * x18("2999.5") // ONE) - int(fill["fee"])
    matches = sim.exchange.archive({"matches": {"subaccounts": [trader.sender]}})["matches"]
    assert [m["submission_idx"] for m in matches] == ["3", "2"], "after a deposit"
    position = sim.private("position_change")[-1]
    assert (
        matches[0]["post_balance"]["base"]["perp"]["balance"]["v_quote_balance"] == position["v_quote_amount"]
    )
    older = sim.exchange.archive({"matches": {"subaccounts": [trader.sender], "idx": 2}})["matches"]
    assert [m["submission_idx"] for m in older] == ["2"]
    limited = sim.exchange.archive({"orders": {"subaccounts": [trader.sender], "limit": 1}})["orders"]
    assert [o["digest"] for o in limited] == [digest]


def test_the_archive_knows_only_orders_that_filled(sim: Sim, trader: Trader) -> None:
    digest = sim.place(trader.order())["digest"]
    assert sim.exchange.archive({"orders": {"digests": [digest]}}) == {"orders": []}


def test_archive_codes(sim: Sim) -> None:
    archive = sim.exchange.archive
    assert code_of(archive, {"orders": {"digests": [], "subaccounts": []}}) == 3000
    assert code_of(archive, {"orders": {"digests": ["0x"] * 501}}) == 3001
    assert code_of(archive, {"matches": {"limit": "many"}}) == 2038
    assert code_of(archive, {"no_such_query": {}}) == 2038
    assert code_of(archive, {"leaderboard": {}}) == 4001


@pytest.mark.parametrize("kind", list(IndexerQueryType))
def test_every_archive_query_of_the_sdk_is_answered_or_said_to_be_missing(sim: Sim, kind: str) -> None:
    """Empty parameters may be wrong ones: then it is they that are complained of, not the query."""
    said = ""
    try:
        sim.exchange.archive({kind: {}})
    except ExchangeError as refusal:
        said = str(refusal)
    assert kind not in said or said.startswith("4001")


@pytest.mark.parametrize(
    ("request_fields", "code"),
    [
        ({}, 2038),
        ({"type": "nlp_pool_info"}, 4001),
        ({"type": "list_trigger_orders"}, 4001),
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
    assert code_of(sim.exchange.query, request_fields) == code


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
    assert code_of(sim.exchange.query, {**request, "txns": json.dumps([{"apply_delta": delta}])}) == 2038


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
