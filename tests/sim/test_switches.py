"""Open questions of the API: each switch in both positions. Defaults are tested where they belong."""

from __future__ import annotations

from typing import Any

import pytest
from simcore import ETH, IOC, LIMIT, POST_ONLY, REDUCE_ONLY, WETH, Sim, Trader, code_of, x18

from nadosim.x18 import ONE

UNKNOWN = "0x" + "11" * 32


def _world(**config: Any) -> tuple[Sim, Trader]:
    sim = Sim(**config)
    return sim, Trader(sim)


def test_a_self_trade_may_refuse_the_taker() -> None:
    sim, trader = _world(self_trade="reject_taker")
    sim.house("sell", "2999", "0.5")
    sim.place(trader.order("sell", "3000", "0.1", POST_ONLY))
    assert sim.refusal(trader.order("buy", "3000", "0.5", LIMIT)) == 0, "filled before it meets its own"
    sim.house("sell", "2999", "0.5")
    assert sim.refusal(trader.order("buy", "3000", "0.6", LIMIT)) == 2073
    assert sim.exchange.level(ETH, "asks", x18("2999")) == ONE // 2, "nothing traded"
    assert [order["end"] for order in sim.exchange.orders_state()] == [None, "filled"]


def test_reduce_only_may_rest_and_is_cut_at_the_match() -> None:
    sim, trader = _world(resting_reduce_only="accept")
    sim.house("sell", "3000", "1")
    sim.place(trader.order("buy", "3000", "0.3", IOC))
    sim.place(trader.order("sell", "3010", "1", POST_ONLY | REDUCE_ONLY))
    sim.house("buy", "3010", "1")
    assert sim.exchange.accounts.position_x18(sim.account(trader), ETH) == 0
    assert sim.private("fill")[-1]["filled_qty"] == str(x18("0.3"))
    assert sim.updates()[-1] == ("cancelled", "0")
    assert sim.exchange.orders_state()[-1]["end"] == "reduce_only"
    assert sim.refusal(trader.order("sell", "3010", "1", POST_ONLY | REDUCE_ONLY)) == 2064


def test_what_a_resting_reduce_only_order_trades_is_whole_increments() -> None:
    """A token balance need not be a multiple of the increment; every match is."""
    sim, trader = _world(resting_reduce_only="accept")
    sim.exchange.fund(trader.sender, x18("0.5004"), WETH)
    sim.place(trader.order("sell", "3010", "1", POST_ONLY | REDUCE_ONLY, product_id=WETH))
    sim.house("buy", "3010", "1", WETH)
    assert sim.private("fill")[-1]["filled_qty"] == str(x18("0.5"))
    assert sim.account(trader).spots[WETH] == x18("0.0004")
    assert sim.exchange.orders_state()[-1]["end"] == "reduce_only"


@pytest.mark.parametrize(("recheck", "code"), [(False, 0), (True, 2011)])
def test_the_deadline_may_be_judged_again_after_the_hold(recheck: bool, code: int) -> None:
    sim, trader = _world(recheck_recv_time=recheck)
    assert sim.refusal(trader.order(nonce=trader.nonce(20))) == code


@pytest.mark.parametrize(
    ("mixed", "code", "left"), [("refuse_all", 2020, 1), ("cancel_then_fail", 2020, 0), ("cancel_good", 0, 0)]
)
def test_a_list_of_cancels_with_a_bad_one(mixed: str, code: int, left: int) -> None:
    sim, trader = _world(mixed_cancel=mixed)
    digest = sim.place(trader.order())["digest"]
    assert code_of(sim.exchange.cancel_orders, trader.cancel(digest, UNKNOWN)) == code
    assert len(sim.exchange.books[ETH].of_account(trader.sender)) == left
    assert code_of(sim.exchange.cancel_orders, trader.cancel(UNKNOWN)) == 2020


@pytest.mark.parametrize(("empty", "code"), [("accept", 0), ("reject", 2020)])
def test_a_list_of_no_cancels(empty: str, code: int) -> None:
    sim, trader = _world(empty_cancel=empty)
    assert code_of(sim.exchange.cancel_orders, trader.cancel()) == code


@pytest.mark.parametrize(("sign", "amount"), [("positive", "0.4"), ("signed", "-0.4")])
def test_the_sign_of_a_sellers_update(sign: str, amount: str) -> None:
    sim, trader = _world(update_amount=sign)
    sim.place(trader.order("sell", "3000", "0.5", POST_ONLY))
    sim.house("buy", "3000", "0.1")
    expected = x18(amount.lstrip("-")) * (-1 if amount.startswith("-") else 1)
    assert sim.updates()[-1] == ("filled", str(expected))
    assert not any("filled_qty" in event for event in sim.private("order_update"))


def test_updates_may_tell_the_fill() -> None:
    sim, trader = _world(update_extras=True)
    sim.place(trader.order("sell", "3000", "0.5", POST_ONLY))
    sim.house("buy", "3000", "0.1")
    placed, filled = sim.private("order_update")
    assert (filled["filled_qty"], filled["filled_price"]) == (str(x18("0.1")), str(x18("3000")))
    assert "filled_qty" not in placed


def test_a_linked_signer_may_authenticate_a_stream_if_so_configured() -> None:
    for allowed, code in ((False, 2028), (True, 0)):
        sim, trader = _world(stream_auth_by_linked_signer=allowed)
        other = Trader(sim, 2)
        sim.exchange.link_signer(trader.link(other.address))
        expiration_ms = sim.clock.now_ms() + 1000
        signature = other.stream_auth(expiration_ms, sender=trader.sender)
        assert code_of(sim.exchange.authenticate, trader.sender, expiration_ms, signature) == code


def test_disputed_fields_travel_as_the_other_type() -> None:
    fields = {"submission_idx", "placed_at", "candle_time", "funding_time", "dt"}
    kinds = []
    for swapped in (frozenset(), frozenset(fields)):
        sim, trader = _world(swapped_types=swapped)
        sim.house("sell", "3000", "1")
        digest = sim.place(trader.order("buy", "3000", "2", LIMIT))["digest"]
        order = sim.exchange.query({"type": "order", "product_id": ETH, "digest": digest})
        sim.exchange.pay_funding(ETH, ONE)
        payment = sim.public("funding_payment")[0]
        values = (
            sim.private("fill")[0]["submission_idx"],
            order["placed_at"],
            sim.public("latest_candlestick")[0]["timestamp"],
            payment["timestamp"],
            payment["dt"],
        )
        kinds.append([type(value) for value in values])
    assert kinds == [[str, int, str, str, int], [int, str, int, int, str]]


def test_rates_of_payments_and_sides_of_open_interest() -> None:
    shown = []
    for rate, sides in (("hourly", "both"), ("daily", "one")):
        sim, trader = _world(payment_rate=rate, open_interest_sides=sides)
        sim.house("sell", "3000", "1")
        sim.place(trader.order("buy", "3000", "1", IOC))
        sim.house("sell", "3001", "1")
        sim.house("buy", "2999.8", "1")
        sim.exchange.funding.observe(ETH)
        sim.clock.advance_s(60)
        sim.exchange.settle_funding()
        request = {"interest_and_funding": {"subaccount": trader.sender, "product_ids": [4], "limit": 1}}
        payment = sim.exchange.archive(request)["funding_payments"][0]
        perp = sim.exchange.query({"type": "all_products"})["perp_products"][1]
        shown.append((int(payment["rate_x18"]), int(perp["state"]["open_interest"])))
    (hourly, both), (daily, one) = shown
    assert abs(daily - 24 * hourly) < 24
    assert hourly > 0
    assert (both, one) == (2 * ONE, ONE)
