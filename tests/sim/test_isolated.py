"""Isolated margin: birth at the first match, margin once, own health, the rest given back, refusals."""

from __future__ import annotations

import dataclasses

import pytest
from simcore import (
    ETH,
    IOC,
    ISOLATED,
    LIMIT,
    POST_ONLY,
    REDUCE_ONLY,
    SOL,
    WETH,
    Sim,
    Trader,
    code_of,
    isolated_margin,
    sample,
    shape,
    x18,
)

from nadosim.products import DEFAULT_PRODUCTS
from nadosim.x18 import ONE

ISO_LIMIT, ISO_IOC, ISO_POST = LIMIT | ISOLATED, IOC | ISOLATED, POST_ONLY | ISOLATED
MARGIN = isolated_margin(100)


@pytest.fixture
def sim() -> Sim:
    sim = Sim()
    sim.house("sell", "3000", "50")
    sim.house("buy", "2990", "50")
    return sim


@pytest.fixture
def trader(sim: Sim) -> Trader:
    return Trader(sim)


def _open(sim: Sim, trader: Trader, size: str = "1") -> str:
    """A long isolated position with 100 USDT0 of margin; its subaccount."""
    sim.place(trader.order("buy", "3000", size, ISO_IOC | MARGIN))
    subaccount: str = sim.isolated(trader)[0]["subaccount"]
    return subaccount


def test_the_first_match_opens_it_and_moves_the_margin_once(sim: Sim, trader: Trader) -> None:
    before = sim.account(trader).quote_x18
    digest = sim.place(trader.order("buy", "2995", "1", ISO_POST | MARGIN))["digest"]
    assert sim.isolated(trader) == []
    sim.house("sell", "2995", "0.4", kind=1)
    sim.house("sell", "2995", "0.6", kind=1)
    assert sim.account(trader).quote_x18 == before - 100 * ONE
    (position,) = sim.isolated(trader)
    assert position["quote_balance"]["balance"]["amount"] == str(100 * ONE)
    assert position["base_balance"]["balance"]["amount"] == str(ONE)
    assert position["subaccount"] == f"{trader.address}{'00' * 6}0004{'00'}{b'iso'.hex()}"
    assert {fill["order_digest"] for fill in sim.private("fill")} == {digest}
    info = sim.exchange.query({"type": "subaccount_info", "subaccount": trader.sender})
    assert all(balance["balance"]["amount"] == "0" for balance in info["perp_balances"])


def test_positions_have_the_documented_shape(sim: Sim, trader: Trader) -> None:
    _open(sim, trader)
    data = sim.exchange.query({"type": "isolated_positions", "subaccount": trader.sender})
    assert shape(data) == shape(sample("query_isolated_positions")["response"]["data"])
    event = sim.private("position_change")[-2]
    assert shape(event) == shape(sample("stream_position_change")["events"][2])
    assert (event["isolated"], event["subaccount"], event["amount"]) == (True, trader.sender, str(ONE))


def test_the_documented_healths_of_an_isolated_position() -> None:
    documented = sample("query_isolated_positions")["response"]["data"]["isolated_positions"][0]
    sim = Sim()
    trader = Trader(sim)
    account = sim.exchange.accounts.open_isolated(sim.account(trader), ETH)
    account.quote_x18 = 250 * ONE
    sim.exchange.accounts.apply(account, ETH, ONE // 2, -1511228930125543940379)
    sim.exchange.set_oracle(ETH, x18("3021.65"))
    (shown,) = sim.isolated(trader)
    for name in ("healths", "quote_healths", "base_healths"):
        assert shown[name] == documented[name]


def test_a_closed_one_gives_the_rest_back_and_frees_its_id(sim: Sim, trader: Trader) -> None:
    before = sim.account(trader).quote_x18
    subaccount = _open(sim, trader)
    sim.place(trader.order("sell", "2990", "2", ISO_IOC | REDUCE_ONLY))
    assert sim.isolated(trader) == []
    assert sim.exchange.accounts.find(subaccount) is None
    fees = sum(int(fill["fee"]) for fill in sim.private("fill"))
    assert sim.account(trader).quote_x18 == before - 10 * ONE - fees
    assert _open(sim, trader) == subaccount


def test_a_second_order_brings_its_own_margin(sim: Sim, trader: Trader) -> None:
    _open(sim, trader)
    sim.place(trader.order("buy", "3000", "0.5", ISO_IOC | isolated_margin(30)))
    (position,) = sim.isolated(trader)
    assert position["quote_balance"]["balance"]["amount"] == str(130 * ONE)


def test_margin_must_carry_the_order_and_the_parent_must_have_it(sim: Sim, trader: Trader) -> None:
    assert sim.refusal(trader.order("buy", "3000", "1", ISO_IOC | isolated_margin(74))) == 2006
    assert sim.refusal(trader.order("buy", "3000", "1", ISO_IOC | isolated_margin(5001))) == 2006
    dear = trader.order("buy", "3000", "1", ISO_IOC | isolated_margin(5001), borrow_margin=False)
    assert sim.refusal(dear) == 2087
    assert sim.refusal(trader.order("buy", "3000", "1", ISO_IOC | isolated_margin(76))) == 0


def test_a_resting_isolated_order_whose_parent_has_spent_the_margin_is_cancelled(sim: Sim) -> None:
    poor = Trader(sim, 2, deposit=120)
    sim.place(poor.order("buy", "2995", "1", ISO_POST | MARGIN))
    sim.execute("transfer_quote", poor.transfer(Trader(sim, 3).sender, 60 * ONE))
    sim.house("sell", "2995", "1", kind=0)
    assert sim.updates()[-1] == ("cancelled", "0")
    assert sim.exchange.orders_state()[0]["end"] == "health"


def test_a_parent_with_a_cross_position_keeps_it_apart(sim: Sim, trader: Trader) -> None:
    sim.place(trader.order("sell", "2990", "0.5", IOC))
    _open(sim, trader)
    (position,) = sim.isolated(trader)
    assert position["base_balance"]["balance"]["amount"] == str(ONE)
    assert sim.exchange.accounts.position_x18(sim.account(trader), ETH) == -ONE // 2
    matches = sim.exchange.archive({"matches": {"subaccounts": [trader.sender], "isolated": True}})["matches"]
    assert [(m["isolated"], m["margin"]) for m in matches] == [(True, str(100 * ONE))]
    cross = sim.exchange.archive({"matches": {"subaccounts": [trader.sender], "isolated": False}})["matches"]
    assert [m["margin"] for m in cross] == [None]


def test_reports_may_carry_the_isolated_id() -> None:
    sim = Sim(isolated_reporting="isolated")
    sim.house("sell", "3000", "1")
    trader = Trader(sim)
    subaccount = _open(sim, trader)
    assert sim.private("fill")[0]["subaccount"] == subaccount
    heard = {to for step in sim.steps for to, event in step.private if event["type"] == "fill"}
    assert heard == {trader.sender}


def test_an_isolated_subaccount_as_sender_may_only_reduce(sim: Sim, trader: Trader) -> None:
    subaccount = _open(sim, trader)
    own = {"sender": subaccount}
    assert sim.refusal(trader.order("buy", "3000", "1", ISO_IOC | MARGIN, **own)) == 2081
    reduce = IOC | REDUCE_ONLY
    assert sim.refusal(trader.order("sell", "140", "1", reduce, product_id=SOL, **own)) == 2082
    assert sim.refusal(trader.order("sell", "2990", "1", IOC, **own)) == 2088
    assert sim.refusal(trader.order("sell", "2990", "1", reduce, **own)) == 0
    assert sim.isolated(trader) == []


def test_refusals_of_isolated_orders(sim: Sim, trader: Trader) -> None:
    assert sim.refusal(trader.order(appendix=ISO_LIMIT | MARGIN, product_id=WETH)) == 2083
    assert sim.refusal(trader.order("sell", "2990", "1", ISO_IOC | REDUCE_ONLY)) == 2064
    strict = Sim(isolated_reduce_only="reject")
    assert strict.refusal(Trader(strict).order("sell", appendix=ISO_IOC | REDUCE_ONLY)) == 2085


def test_a_market_may_be_isolated_only() -> None:
    products = tuple(dataclasses.replace(p, isolated_only=p.product_id == ETH) for p in DEFAULT_PRODUCTS)
    sim = Sim(products=products)
    trader = Trader(sim)
    assert sim.refusal(trader.order()) == 2122
    assert sim.refusal(trader.order(appendix=ISO_LIMIT | MARGIN)) == 0


def test_ten_isolated_subaccounts_per_wallet(sim: Sim, trader: Trader) -> None:
    parent = sim.account(trader)
    for index in range(10):
        other = sim.exchange.accounts.open(trader.address + f"{index:024x}")
        sim.exchange.accounts.open_isolated(other, ETH)
    assert len({a.id for a in sim.exchange.accounts if a.is_isolated}) == 10
    assert sim.refusal(trader.order("buy", "3000", "1", ISO_IOC | MARGIN)) == 2125
    assert not parent.isolated


def test_the_largest_isolated_order(sim: Sim, trader: Trader) -> None:
    query = {
        "type": "max_order_size",
        "sender": trader.sender,
        "product_id": 4,
        "price_x18": str(x18("3000")),
        "direction": "long",
        "isolated": "true",
    }
    largest = int(sim.exchange.query(query)["max_order_size"])
    assert 60 * ONE < largest < 67 * ONE
    assert code_of(sim.exchange.query, {**query, "product_id": WETH}) == 2083
    assert code_of(sim.exchange.query, {**query, "isolated": "perhaps"}) == 2040


def test_transfers_top_an_isolated_subaccount_up_and_take_from_it(sim: Sim, trader: Trader) -> None:
    subaccount = _open(sim, trader)
    before = sim.account(trader).quote_x18
    sim.execute("transfer_quote", trader.transfer(subaccount, 50 * ONE))
    assert sim.account(trader).quote_x18 == before - x18("50.1")
    assert sim.isolated(trader)[0]["quote_balance"]["balance"]["amount"] == str(150 * ONE)
    sim.execute("transfer_quote", trader.transfer(trader.sender, 10 * ONE, sender=subaccount))
    assert sim.isolated(trader)[0]["quote_balance"]["balance"]["amount"] == str(x18("139.9"))
    assert code_of(sim.execute, "transfer_quote", Trader(sim, 2).transfer(subaccount, 50 * ONE)) == 2050
    assert code_of(sim.execute, "transfer_quote", trader.transfer(subaccount, 4 * ONE)) == 2077
    draining = trader.transfer(trader.sender, 100 * ONE, sender=subaccount)
    assert code_of(sim.execute, "transfer_quote", draining) == 2036


def test_margin_for_a_position_that_closed_meanwhile_goes_nowhere(sim: Sim, trader: Trader) -> None:
    """Only the engine makes isolated subaccounts: money sent to a free id would be in no position."""
    sim.place(trader.order("buy", "3000", "1", ISO_IOC | MARGIN))
    subaccount = sim.isolated(trader)[0]["subaccount"]
    sim.place(trader.order("sell", "2990", "1", ISO_IOC | REDUCE_ONLY))
    before = sim.account(trader).quote_x18
    assert code_of(sim.execute, "transfer_quote", trader.transfer(subaccount, 50 * ONE)) == 2050
    assert sim.account(trader).quote_x18 == before
    sim.place(trader.order("buy", "3000", "1", ISO_IOC | MARGIN))
    assert sim.isolated(trader)[0]["subaccount"] == subaccount, "the id is free again"
