"""Unhealthy accounts: by the exchange's pool at once, or by whoever asks first; the debt that is left."""

from __future__ import annotations

import pytest
from simcore import (
    ETH,
    HOUSE,
    IOC,
    ISOLATED,
    KBTC,
    POST_ONLY,
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

from nadosim.health import Margin
from nadosim.liquidation import POOL_ID
from nadosim.x18 import ONE


def _with_long(deposit: int = 200, **config: bool) -> tuple[Sim, Trader]:
    """A trader with 200 USDT0 and 2 ETH, bought at 3000."""
    sim = Sim(**config)
    sim.house("sell", "3000", "10")
    sim.house("buy", "2000", "10")
    trader = Trader(sim, deposit=deposit)
    sim.place(trader.order("buy", "3000", "2", IOC))
    return sim, trader


def _health(sim: Sim, trader: Trader, margin: Margin) -> int:
    return sim.exchange.health.health_x18(sim.account(trader), margin)


def test_orders_go_first_then_as_little_as_heals() -> None:
    sim, trader = _with_long()
    sim.place(trader.order("sell", "3100", "0.1", POST_ONLY))
    sim.exchange.set_oracle(ETH, x18("2930"))
    assert sim.updates()[-1] == ("cancelled", "0")
    assert sim.exchange.orders_state()[-1]["end"] == "liquidation"
    (event,) = sim.public("liquidation")
    assert shape(event) == shape(sample("stream_liquidation")["events"][0])
    assert (event["liquidator"], event["liquidatee"]) == (POOL_ID, trader.sender)
    assert event["price"] == str(x18("2930") * 995 // 1000)
    taken = int(event["amount"])
    assert 0 < taken < 2 * ONE
    assert _health(sim, trader, Margin.MAINTENANCE) >= 0
    assert _health(sim, trader, Margin.INITIAL) <= 0
    change = [e for e in sim.private("position_change") if e["reason"] == "liquidate_subaccount"][-1]
    assert change["amount"] == str(2 * ONE - taken)
    assert not any(e["timestamp"] == event["timestamp"] for e in sim.private("fill"))
    insured = taken * (x18("2930") - int(event["price"])) // ONE // 2
    assert sim.exchange.query({"type": "insurance"}) == {"insurance": str(insured)}


def test_a_healthy_account_is_left_alone() -> None:
    sim, _ = _with_long()
    sim.exchange.set_oracle(ETH, x18("2945"))
    assert not sim.public("liquidation")


def test_a_short_is_taken_over_at_a_premium() -> None:
    sim = Sim()
    sim.house("buy", "3000", "10")
    trader = Trader(sim, deposit=200)
    sim.place(trader.order("sell", "3000", "2", IOC))
    sim.exchange.set_oracle(ETH, x18("3070"))
    (event,) = sim.public("liquidation")
    assert event["price"] == str(x18("3070") * 1005 // 1000)
    assert -2 * ONE < int(event["amount"]) < 0


def test_a_gap_beyond_the_margin_is_written_off() -> None:
    sim, trader = _with_long()
    sim.exchange.set_oracle(ETH, x18("2500"))
    account = sim.account(trader)
    assert account.quote_x18 == 0
    assert sim.exchange.accounts.position_x18(account, ETH) == 0
    own = sim.exchange.accounts.own
    assert own.insurance_x18 == 0
    assert own.bad_debt_x18 < -750 * ONE
    assert sim.exchange.accounts.totals().quote_x18 == 0


def test_funding_can_break_an_account_too() -> None:
    sim, _ = _with_long()
    sim.exchange.pay_funding(ETH, 80 * ONE)
    assert len(sim.public("liquidation")) == 1


def test_of_an_isolated_position_the_parent_notices_nothing() -> None:
    sim = Sim()
    sim.house("sell", "3000", "10")
    trader = Trader(sim)
    sim.place(trader.order("buy", "3000", "1", IOC | ISOLATED | isolated_margin(80)))
    sim.place(trader.order("sell", "3200", "0.1", POST_ONLY))
    before = sim.account(trader).quote_x18
    subaccount = sim.isolated(trader)[0]["subaccount"]
    sim.exchange.set_oracle(ETH, x18("2600"))
    assert sim.isolated(trader) == []
    assert sim.account(trader).quote_x18 == before
    assert [e["liquidatee"] for e in sim.public("liquidation")] == [subaccount]
    assert sim.exchange.bbo(ETH)[3] != 0, "the parent's own order still rests"
    assert sim.exchange.accounts.totals().quote_x18 == 0


def test_positions_go_before_tokens_and_tokens_before_loans() -> None:
    sim = Sim()
    trader = Trader(sim, deposit=100)
    sim.exchange.fund(trader.sender, ONE, WETH)
    sim.exchange.house_place(HOUSE, KBTC, x18("90000"), ONE, 0)
    sim.exchange.house_place(HOUSE, SOL, x18("140"), -1000 * ONE, 0)
    sim.place(trader.order("sell", "90000", "0.01", IOC, product_id=KBTC))
    sim.place(trader.order("buy", "140", "100", IOC, product_id=SOL))
    sim.exchange.set_oracle(SOL, x18("100"))
    taken = [event["product_ids"][0] for event in sim.public("liquidation")]
    assert taken == [SOL, WETH, KBTC]
    account = sim.account(trader)
    assert not any(account.spots.values())
    assert account.quote_x18 == 0


def test_a_spread_is_healthier_than_its_legs() -> None:
    """Long WETH against a short ETH-PERP: the hedged part bears a fifth of the haircut."""
    sim = Sim()
    sim.house("buy", "3000", "10")
    trader = Trader(sim, deposit=10)
    sim.exchange.fund(trader.sender, ONE, WETH)
    sim.place(trader.order("sell", "3000", "1", IOC))
    rules, account = sim.exchange.health, sim.account(trader)
    contributions = rules.contributions_x18(account, Margin.INITIAL)
    usual = (x18("0.95") + x18("0.975")) // 2
    hedged = min(ONE - (ONE - usual) // 5, x18("0.99"))
    assert contributions[WETH] == x18("3000") * 95 // 100 + 6000 * (hedged - usual)
    assert sim.exchange.query({"type": "health_groups"}) == {"health_groups": [[1, 2], [3, 4]]}


# ---- by request


@pytest.fixture
def sick() -> tuple[Sim, Trader, Trader]:
    """An unhealthy long of 2 ETH nobody has taken over yet, and somebody who would."""
    sim, trader = _with_long(auto_liquidation=False)
    sim.exchange.set_oracle(ETH, x18("2930"))
    return sim, trader, Trader(sim, 2)


def test_anybody_may_take_part_of_it_over(sick: tuple[Sim, Trader, Trader]) -> None:
    sim, trader, liquidator = sick
    before = sim.account(liquidator).quote_x18
    sim.place(liquidator.order("buy", "2900", "0.1", POST_ONLY))
    assert sim.execute("liquidate_subaccount", liquidator.liquidate(trader.sender, ETH, ONE // 2)) is None
    assert sim.exchange.accounts.position_x18(sim.account(liquidator), ETH) == ONE // 2
    gain = x18("0.5") * 2930 * 5 // 1000
    assert sim.account(liquidator).quote_x18 == before - gain // 2 - ONE
    assert sim.exchange.accounts.totals().quote_x18 == 0
    assert sim.exchange.query({"type": "nonces", "address": liquidator.address})["tx_nonce"] == "1"


def test_refusals_of_liquidation(sick: tuple[Sim, Trader, Trader]) -> None:
    sim, trader, liquidator = sick
    poor = Trader(sim, 3, deposit=10)
    healthy = Trader(sim, 4)

    def code(who: Trader, whom: str, product_id: int, amount: int, **extra: bool) -> int:
        request = who.liquidate(whom, product_id, amount, **extra)
        return code_of(sim.execute, "liquidate_subaccount", request)

    assert code(liquidator, healthy.sender, ETH, ONE) == 2042
    assert code(liquidator, trader.sender, ETH, 2 * ONE) == 2044
    assert code(poor, trader.sender, ETH, ONE) == 2043
    assert code(trader, trader.sender, ETH, ONE) == 2045
    assert code(liquidator, trader.sender, 0, ONE) == 2045
    assert code(liquidator, trader.sender, ETH, ONE // 7) == 2046
    assert code(liquidator, trader.sender, ETH, -ONE) == 2047
    assert code(liquidator, trader.sender, ETH, 3 * ONE) == 2047
    assert code(liquidator, trader.sender, SOL, ONE) == 2047
    assert code(liquidator, trader.sender, 4 << 16 | 3, ONE, spread=True) == 4001
    assert sim.exchange.accounts.position_x18(sim.account(trader), ETH) == 2 * ONE


def test_loans_come_last_by_request_too() -> None:
    sim = Sim(auto_liquidation=False)
    trader, liquidator = Trader(sim, deposit=100), Trader(sim, 2)
    sim.exchange.fund(trader.sender, ONE, WETH)
    sim.exchange.house_place(HOUSE, KBTC, x18("90000"), ONE, 0)
    sim.place(trader.order("sell", "90000", "0.02", IOC, product_id=KBTC))
    sim.exchange.set_oracle(2, x18("300000"))
    request = liquidator.liquidate(trader.sender, KBTC, -x18("0.01"))
    assert code_of(sim.execute, "liquidate_subaccount", request) == 2048


def test_the_pool_comes_first(sick: tuple[Sim, Trader, Trader]) -> None:
    """Withdrawn from the book by trading, not by the oracle, an account may be sick for a moment."""
    sim, trader = _with_long()
    liquidator = Trader(sim, 2)
    sim.exchange.accounts.states[ETH].oracle_price_x18 = x18("2930")
    request = liquidator.liquidate(trader.sender, ETH, ONE // 2)
    assert code_of(sim.execute, "liquidate_subaccount", request) == 2115
    assert len(sim.public("liquidation")) == 1


def test_a_seized_isolated_position_gives_its_margin_back() -> None:
    sim = Sim()
    sim.house("sell", "3000", "10")
    trader = Trader(sim, deposit=1500)
    sim.place(trader.order("buy", "3000", "1", IOC | ISOLATED | isolated_margin(300)))
    parent = sim.account(trader)
    assert sim.exchange.seize(parent.isolated[ETH].id) == 1
    assert parent.isolated == {}
    assert x18("1480") < parent.quote_x18 < x18("1500")
    last = sim.private("position_change")[-1]
    assert (last["product_id"], last["amount"]) == (0, str(parent.quote_x18))
    assert sim.exchange.accounts.totals().quote_x18 == 0
