"""The life of an order: fills and ends in order, cancels, replacements, and what is remembered of it."""

from __future__ import annotations

from typing import Any

import pytest
from simcore import (
    ETH,
    HOUSE,
    IOC,
    LIMIT,
    POST_ONLY,
    REDUCE_ONLY,
    SOL,
    Sim,
    Trader,
    code_of,
    x18,
)

from nadosim.errors import ExchangeError
from nadosim.x18 import ONE


@pytest.fixture
def trader(sim: Sim) -> Trader:
    return Trader(sim)


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
    assert [f["submission_idx"] for f in fills] == ["3", "3", "4", "4"], "after two deposits"
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
    assert code_of(sim.exchange.cancel_orders, trader.cancel(digest)) == 2020


def test_cancel_codes(sim: Sim, trader: Trader) -> None:
    digest = sim.place(trader.order())["digest"]
    other = Trader(sim, 2)
    cancel = sim.exchange.cancel_orders
    assert code_of(cancel, {}) == 2038
    assert code_of(cancel, {"tx": {**trader.cancel(digest)["tx"], "digests": []}, "signature": "0x"}) == 2039
    assert code_of(cancel, {**trader.cancel(digest), "signature": "0x00"}) == 2027
    assert code_of(cancel, other.cancel(digest)) == 2014
    assert code_of(cancel, trader.cancel(digest, product_id=6)) == 2015
    assert code_of(cancel, trader.cancel(digest, product_id=SOL)) == 2020
    assert code_of(cancel, trader.cancel(digest, digest)) == 2020
    assert code_of(cancel, trader.cancel(digest, "0x" + "11" * 32)) == 2020
    assert code_of(cancel, trader.cancel(digest, digest, required_unfilled_amount="1")) == 2123
    assert code_of(cancel, trader.cancel(digest, required_unfilled_amount="1")) == 2124
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


def test_cancel_and_place_is_one_step(sim: Sim, trader: Trader) -> None:
    old = sim.place(trader.order(price="2990"))["digest"]
    pending = sim.exchange.validate_cancel_and_place(trader.replace(old, trader.order(appendix=POST_ONLY)))
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
    assert outcome(trader.replace(old, other.order())) == 2066
    assert outcome(trader.replace("0x" + "11" * 32, trader.order())) == 2121
    assert outcome(trader.replace(old, trader.order(), required_unfilled_amount="1")) == 2121
    sim.house("buy", "3000", "0.1", kind=1)
    assert outcome(trader.replace(old, trader.order("sell"), place_requires_unfilled=True)) == 2120
    assert sim.exchange.orders_state()[0]["end"] == "cancelled"
    assert outcome(trader.replace(old, trader.order(price="0"))) == 2055
    renewed = trader.order("sell", "3000", "0.1", POST_ONLY)
    assert outcome(trader.replace(old, renewed)) == 2121
    assert sim.refusal(renewed) == 0, "a digest that never reached the engine is free again"


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
