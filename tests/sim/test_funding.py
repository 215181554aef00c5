"""Funding to the last unit, on the hour, scaled; and settlement of what positions are worth."""

from __future__ import annotations

import pytest
from simcore import ETH, HOUSE, IOC, SOL, Sim, Trader, sample, shape, x18

from nadosim.funding import HOUR_S
from nadosim.x18 import NS_PER_S, ONE


@pytest.fixture
def sim() -> Sim:
    """ETH's book stands 0.9375 above the index of 3021.65."""
    sim = Sim()
    sim.exchange.set_oracle(ETH, x18("3021.65"))
    sim.exchange.house_place(HOUSE, ETH, x18("3022.5"), 10 * ONE, 0)
    sim.exchange.house_place(HOUSE, ETH, x18("3022.6"), -10 * ONE, 0)
    sim.exchange.set_oracle(ETH, x18("3021.6125"))
    return sim


@pytest.fixture
def holder(sim: Sim) -> Trader:
    trader = Trader(sim)
    sim.place(trader.order("buy", "3022.6", "0.125", IOC))
    return trader


def test_the_documented_hour(sim: Sim, holder: Trader) -> None:
    """A mark 0.9375 above the index costs a long 0.0390625 per ETH an hour."""
    sim.exchange.funding.observe(ETH)
    sim.clock.advance_s(HOUR_S)
    sim.exchange.settle_funding()
    event = next(e for e in sim.public("funding_payment") if e["product_id"] == ETH)
    assert event["payment_amount"] == str(x18("0.0390625"))
    assert shape(event) == shape(sample("stream_funding_payment")["events"][0])
    state = sim.exchange.accounts.states[ETH]
    assert event["cumulative_funding_long_x18"] == str(state.cumulative_funding_long_x18)
    request = {"interest_and_funding": {"subaccount": holder.sender, "product_ids": [4], "limit": 10}}
    reply = sim.exchange.archive(request)
    (payment,) = reply["funding_payments"]
    assert payment["amount"] == "-4882812500000000"
    documented = sample("archive_funding")["response_payments"]
    assert shape(reply) == shape(documented)


def test_the_premium_is_averaged_over_time(sim: Sim, holder: Trader) -> None:
    sim.exchange.settle_funding()
    sim.clock.advance_s(HOUR_S // 2)
    sim.exchange.set_oracle(ETH, x18("3022.55"))
    sim.clock.advance_s(HOUR_S // 2)
    assert sim.exchange.funding.mark_x18(ETH) == x18("3022.55") + x18("0.9375") // 2
    sim.exchange.settle_funding()
    event = [e for e in sim.public("funding_payment") if e["product_id"] == ETH][-1]
    assert event["payment_amount"] == str(x18("0.0390625") // 2)


@pytest.mark.parametrize("premium", ["100", "-100"])
def test_the_rate_is_capped_at_two_percent_a_day(sim: Sim, holder: Trader, premium: str) -> None:
    index = x18("3022.55") - x18(premium.lstrip("-")) * (-1 if premium.startswith("-") else 1)
    sim.exchange.set_oracle(ETH, index)
    sim.exchange.settle_funding()
    sim.exchange.funding.observe(ETH)
    sim.clock.advance_s(HOUR_S)
    rate = int(sim.exchange.archive({"funding_rate": {"product_id": ETH}})["funding_rate_x18"])
    assert abs(rate) == ONE * 2 // 100
    assert (rate > 0) == (not premium.startswith("-"))


def test_a_book_with_an_empty_side_keeps_the_last_premium(sim: Sim, holder: Trader) -> None:
    sim.exchange.funding.observe(ETH)
    for digest in list(sim.exchange.books[ETH].orders):
        sim.exchange.house_cancel(HOUSE, ETH, digest)
    sim.exchange.funding.observe(ETH)
    sim.clock.advance_s(HOUR_S)
    assert sim.exchange.funding.payment_x18(ETH, HOUR_S) == x18("0.0390625")


def test_products_nobody_holds_are_not_paid_for(sim: Sim, holder: Trader) -> None:
    sim.exchange.settle_funding()
    assert {event["product_id"] for event in sim.public("funding_payment")} == {ETH}


@pytest.mark.parametrize("speed", [1.0, 360.0])
def test_hours_come_on_the_hour_and_as_fast_as_asked(speed: float) -> None:
    sim = Sim(speed=speed)
    sim.house("sell", "3000", "1")
    sim.place(Trader(sim).order("buy", "3000", "1", IOC))
    left_s = sim.exchange.schedule.next_hour_s() - sim.clock.now_ns() // NS_PER_S
    assert 0 < left_s <= HOUR_S / speed
    sim.clock.advance_s(max(0, left_s - 2))
    sim.exchange.run_due()
    assert not sim.public("funding_payment")
    sim.clock.advance_s(3)
    sim.exchange.run_due()
    assert len(sim.public("funding_payment")) == 1
    sim.clock.advance_s(round(HOUR_S / speed))
    sim.exchange.run_due()
    assert len(sim.public("funding_payment")) == 2


@pytest.mark.parametrize("wrong_s", [-100_000, 100_000])
def test_a_wrong_clock_disturbs_no_schedule(sim: Sim, holder: Trader, wrong_s: int) -> None:
    """While it is wrong, and when it is right again."""
    next_hour_s = sim.exchange.schedule.next_hour_s()
    sim.clock.offset_ns = wrong_s * NS_PER_S
    sim.exchange.run_due()
    assert not sim.public("funding_payment")
    assert sim.exchange.schedule.next_hour_s() == next_hour_s + wrong_s
    sim.clock.offset_ns = 0
    for _ in range(60):
        sim.clock.advance_s(1)
        sim.exchange.run_due()
    assert len(sim.public("funding_rate")) == 9
    sim.clock.advance_s(HOUR_S)
    sim.exchange.run_due()
    assert len(sim.public("funding_payment")) == 1


def test_rates_are_told_every_twenty_seconds(sim: Sim) -> None:
    for _ in range(60):
        sim.clock.advance_s(1)
        sim.exchange.run_due()
    rates = sim.public("funding_rate")
    assert [event["product_id"] for event in rates] == [2, ETH, SOL] * 3
    assert shape(rates[0]) == shape(sample("stream_funding_rate")["events"][0])
    assert rates[1]["funding_rate_x18"] == str(x18("0.9375") * ONE // x18("3021.6125"))


# ---- settlement


def _equity(sim: Sim, trader: Trader) -> int:
    info = sim.exchange.query({"type": "subaccount_info", "subaccount": trader.sender})
    return int(info["healths"][2]["health"])


def test_settling_moves_quote_and_not_equity(sim: Sim, holder: Trader) -> None:
    loser = Trader(sim, 2)
    sim.place(loser.order("sell", "3022.5", "0.5", IOC))
    sim.exchange.set_oracle(ETH, x18("3100"))
    before = _equity(sim, holder), _equity(sim, loser)
    assert sim.exchange.settle_pnl(holder.sender) == 0, "nothing to pay winners from yet"
    lost = sim.exchange.settle_pnl(loser.sender)
    won = sim.exchange.settle_pnl(holder.sender)
    assert lost < 0 < won <= -lost
    assert (_equity(sim, holder), _equity(sim, loser)) == before
    assert sim.exchange.accounts.states[ETH].available_settle_x18 == -lost - won
    events = [e for e in sim.private("position_change") if e["reason"] == "settle_pnl"]
    assert [e["product_id"] for e in events] == [ETH, 0, ETH, 0]
    unsettled = int(events[2]["v_quote_amount"]) + int(events[2]["amount"]) * 3100
    assert unsettled == 0


def test_random_settlement_when_asked_for() -> None:
    sim = Sim(settle_interval_s=60.0)
    sim.house("sell", "3000", "1")
    trader = Trader(sim)
    sim.place(trader.order("buy", "3000", "1", IOC))
    sim.exchange.set_oracle(ETH, x18("2990"))
    for _ in range(60):
        sim.clock.advance_s(10)
        sim.exchange.run_due()
    assert "settle_pnl" in {event["reason"] for event in sim.private("position_change")}
    assert sim.exchange.accounts.totals().quote_x18 == 0
