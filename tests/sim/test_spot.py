"""Spot products: both balances move, loans arise where leverage is on, withdrawals and transfers."""

from __future__ import annotations

import pytest
from simcore import ETH, HOUSE, IOC, KBTC, LIMIT, REDUCE_ONLY, WETH, Sim, Trader, code_of, sample, shape, x18

from nadosim.x18 import ONE


@pytest.fixture
def sim() -> Sim:
    sim = Sim()
    for product_id, ask, bid in ((WETH, "3000", "2990"), (KBTC, "90000", "89990")):
        sim.exchange.house_place(HOUSE, product_id, x18(ask), -10 * ONE, 0)
        sim.exchange.house_place(HOUSE, product_id, x18(bid), 10 * ONE, 0)
    return sim


@pytest.fixture
def trader(sim: Sim) -> Trader:
    return Trader(sim)


def _spot(sim: Sim, trader: Trader) -> dict[int, int]:
    info = sim.exchange.query({"type": "subaccount_info", "subaccount": trader.sender})
    return {b["product_id"]: int(b["balance"]["amount"]) for b in info["spot_balances"]}


def test_buying_moves_both_balances_and_tells_both(sim: Sim, trader: Trader) -> None:
    sim.place(trader.order("buy", "3000", "1", IOC, product_id=WETH))
    fee = int(sim.private("fill")[0]["fee"])
    assert _spot(sim, trader) == {0: 2000 * ONE - fee, 1: 0, 3: ONE}
    told = [(e["product_id"], e["amount"]) for e in sim.private("position_change")[1:]]
    assert told == [(WETH, str(ONE)), (0, str(2000 * ONE - fee))]
    assert fee == 3000 * ONE * ONE // (ONE - x18("0.00035")) - 3000 * ONE
    matches = sim.exchange.archive({"matches": {"subaccounts": [trader.sender]}})["matches"]
    assert matches[0]["post_balance"]["base"]["spot"]["balance"]["amount"] == str(ONE)
    assert matches[0]["post_balance"]["quote"]["spot"]["balance"]["amount"] == str(2000 * ONE - fee)


def test_borrowing_needs_leverage(sim: Sim, trader: Trader) -> None:
    beyond = {"product_id": WETH, "appendix": IOC}
    assert sim.refusal(trader.order("buy", "3000", "2", spot_leverage=False, **beyond)) == 2017
    assert sim.refusal(trader.order("sell", "2990", "1", spot_leverage=False, **beyond)) == 2017
    assert sim.refusal(trader.order("buy", "3000", "2", **beyond)) == 0
    assert _spot(sim, trader)[0] < 0
    assert sim.refusal(trader.order("sell", "2990", "3", spot_leverage=True, **beyond)) == 0
    assert _spot(sim, trader)[WETH] == -ONE
    state = sim.exchange.query({"type": "all_products"})["spot_products"][2]["state"]
    assert state["total_borrows_normalized"] == str(ONE)


def test_leverage_ends_where_health_does(sim: Sim, trader: Trader) -> None:
    """A WETH counts 95 %: 5000 USDT0 carry 33 of them, bought at the oracle price."""
    query = {"type": "max_order_size", "sender": trader.sender, "product_id": WETH}
    query |= {"price_x18": str(x18("3000")), "direction": "long"}
    largest = int(sim.exchange.query(query)["max_order_size"])
    assert largest == x18("33.333")
    assert int(sim.exchange.query({**query, "spot_leverage": "false"})["max_order_size"]) == x18("1.666")
    assert sim.refusal(trader.order("buy", "3000", "33.334", LIMIT, product_id=WETH)) == 2006


def test_a_resting_order_without_leverage_does_not_borrow_later(sim: Sim, trader: Trader) -> None:
    sim.place(trader.order("buy", "2995", "1", LIMIT, product_id=WETH, spot_leverage=False))
    sim.execute("withdraw_collateral", trader.withdraw(0, 3000 * 10**6))
    sim.exchange.house_place(HOUSE, WETH, x18("2995"), -ONE, 0)
    assert sim.exchange.orders_state()[0]["end"] == "health"


def test_reduce_only_sells_what_is_there(sim: Sim, trader: Trader) -> None:
    assert sim.refusal(trader.order("sell", "2990", "1", IOC | REDUCE_ONLY, product_id=WETH)) == 2064
    sim.exchange.fund(trader.sender, ONE // 2, WETH)
    assert sim.refusal(trader.order("sell", "2990", "1", IOC | REDUCE_ONLY, product_id=WETH)) == 0
    assert _spot(sim, trader)[WETH] == 0


def test_the_largest_closing_order_is_whole_increments(sim: Sim, trader: Trader) -> None:
    sim.exchange.fund(trader.sender, x18("0.5004"), WETH)
    query = {"type": "max_order_size", "sender": trader.sender, "product_id": WETH, "direction": "short"}
    largest = sim.exchange.query({**query, "price_x18": str(x18("2990")), "reduce_only": "true"})
    assert largest == {"max_order_size": str(x18("0.5"))}


def test_the_spot_oracle_follows_its_perpetual(sim: Sim) -> None:
    sim.exchange.set_oracle(ETH, x18("3100"))
    spot, perp = sim.exchange.query({"type": "all_products"}).values()
    assert next(p for p in spot if p["product_id"] == WETH)["oracle_price_x18"] == str(x18("3100"))
    assert shape(spot[0]) == shape(sample("query_all_products")["response"]["data"]["spot_products"][0])
    assert len({p["config"]["token"] for p in spot}) == 3
    assert len(perp) == 3


def test_spot_products_are_listed_as_documented(sim: Sim) -> None:
    symbols = sim.exchange.query({"type": "symbols", "product_type": "spot"})["symbols"]
    assert list(symbols) == ["KBTC", "WETH"]
    assert symbols["WETH"] == sample("query_symbols")["response"]["data"]["symbols"]["WETH"]
    fees = sim.exchange.query({"type": "fee_rates", "sender": "0x" + "11" * 32})
    documented = sample("query_fee_rates")["response"]["data"]
    assert fees["withdraw_sequencer_fees"][:4] == documented["withdraw_sequencer_fees"]


# ---- withdrawals and transfers


def test_withdrawals_are_in_token_units_and_cost_a_fee(sim: Sim, trader: Trader) -> None:
    sim.exchange.fund(trader.sender, ONE, KBTC)
    assert sim.execute("withdraw_collateral", trader.withdraw(0, 10 * 10**6)) is None
    assert sim.execute("withdraw_collateral_v2", trader.withdraw_v2(KBTC, 10**7)) is None
    assert _spot(sim, trader) == {0: 4989 * ONE, 1: x18("0.89996"), 3: 0}
    reasons = [e["reason"] for e in sim.private("position_change")[-2:]]
    assert reasons == ["withdraw_collateral", "withdraw_collateral_v2"]
    totals = sim.exchange.accounts.totals()
    assert totals.quote_x18 == 0
    assert not any(totals.base_x18.values())


def test_what_may_be_withdrawn_may_and_no_more(sim: Sim, trader: Trader) -> None:
    sim.place(trader.order("buy", "3000", "1", IOC, product_id=WETH))
    for product_id, decimals in ((0, 6), (WETH, 18)):
        query = {"type": "max_withdrawable", "sender": trader.sender, "product_id": product_id}
        largest = int(sim.exchange.query({**query, "spot_leverage": "false"})["max_withdrawable"])
        units = largest // 10 ** (18 - decimals)
        assert units * 10 ** (18 - decimals) == largest > 0
        beyond = trader.withdraw(product_id, units + 1, spot_leverage=False)
        assert code_of(sim.execute, "withdraw_collateral", beyond) == 2017
    sim.execute("withdraw_collateral", trader.withdraw(WETH, units, spot_leverage=False))
    assert _spot(sim, trader)[WETH] == 0
    assert code_of(sim.exchange.query, {**query, "product_id": ETH}) == 2018


def test_refusals_of_withdrawals(sim: Sim, trader: Trader) -> None:
    def code(product_id: int, amount: int) -> int:
        return code_of(sim.execute, "withdraw_collateral", trader.withdraw(product_id, amount))

    assert code(ETH, 1) == 2018
    assert code(99, 1) == 2018
    assert code(0, 0) == 2002
    assert code(0, 5000 * 10**6) == 2036
    assert code(WETH, 100 * ONE) == 2036
    stale = trader.withdraw(0, 10**6)
    sim.execute("withdraw_collateral", trader.withdraw(0, 2 * 10**6))
    assert code_of(sim.execute, "withdraw_collateral", stale) == 2022


def test_transfers_create_the_recipient_and_cost_one(sim: Sim, trader: Trader) -> None:
    other = Trader(sim, 2, deposit=0)
    assert sim.execute("transfer_quote", trader.transfer(other.sender, 100 * ONE)) is None
    assert _spot(sim, trader)[0] == 4899 * ONE
    assert _spot(sim, other)[0] == 100 * ONE
    assert sim.exchange.accounts.own.sequencer_fees_x18 == ONE
    told = [e for e in sim.private("position_change") if e["reason"] == "transfer_quote"]
    assert [(e["subaccount"], e["amount"]) for e in told] == [
        (trader.sender, str(4899 * ONE)),
        (other.sender, str(100 * ONE)),
    ]
    assert sim.refusal(other.order("buy", "2900", "0.1")) == 0
    assert sim.exchange.accounts.totals().quote_x18 == 0


def test_new_recipients_are_counted_by_the_day(sim: Sim, trader: Trader) -> None:
    def send(number: int) -> int:
        recipient = f"0x{number:040x}" + "00" * 12
        return code_of(sim.execute, "transfer_quote", trader.transfer(recipient, 5 * ONE))

    assert [send(n) for n in range(1, 7)] == [0, 0, 0, 0, 0, 2078]
    assert send(3) == 0
    sim.clock.advance_s(86_401)
    assert send(6) == 0


def test_a_week_of_signers(sim: Sim, trader: Trader) -> None:
    for number in range(1, 51):
        sim.execute("link_signer", trader.link(f"0x{number:040x}"))
    assert code_of(sim.execute, "link_signer", trader.link(f"0x{51:040x}")) == 2030
    sim.clock.advance_s(7 * 86_400 + 1)
    assert code_of(sim.execute, "link_signer", trader.link(f"0x{51:040x}")) == 0
