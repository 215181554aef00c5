"""place_orders: up to fifty at once, 50 ms dearer, each on its own; builders' fees on the way."""

from __future__ import annotations

from typing import Any

import pytest
from simcore import ETH, IOC, LIMIT, POST_ONLY, Sim, Trader, code_of, sample, shape, x18

from nadosim.x18 import ONE

BUILDER = 1 << 48 | 25 << 38  # builder 1 at 2.5 bps


@pytest.fixture
def sim() -> Sim:
    sim = Sim()
    sim.house("sell", "3000", "1")
    return sim


@pytest.fixture
def trader(sim: Sim) -> Trader:
    return Trader(sim)


def _batch(*orders: dict[str, Any], **extra: Any) -> dict[str, Any]:
    return {"orders": list(orders), **extra}


def test_each_order_succeeds_or_fails_alone(sim: Sim, trader: Trader) -> None:
    good = trader.order("buy", "2990", "0.1", POST_ONLY, client_id=7)
    crossing = trader.order("buy", "3000", "0.1", POST_ONLY)
    malformed = trader.order("buy", "2990.05", "0.1")
    last = trader.order("buy", "2980", "0.1", POST_ONLY)
    reply = sim.execute("place_orders", _batch(good, crossing, malformed, last))
    assert shape(reply) == {"place_orders": [{"digest": "str", "error": "NoneType"}]}
    results = reply["place_orders"]
    assert [entry["digest"] is not None for entry in results] == [True, False, False, True]
    assert "crosses" in results[1]["error"]
    assert len(sim.exchange.books[ETH].of_account(trader.sender)) == 2
    ends = [(e["execute"], e["error_code"]) for e in sim.exchange.executes_state()]
    assert ends[1:] == [("place_orders", code) for code in (None, 2008, 2000, None)]


def test_the_shape_of_the_reply_is_a_switch() -> None:
    documented = sample("execute_place_orders")
    for name, variant in (("object", "response_variant_object"), ("array", "response_variant_array")):
        sim = Sim(place_orders_shape=name)
        reply = sim.execute("place_orders", _batch(Trader(sim).order()))
        assert shape(reply) == shape(documented[variant]["data"])


@pytest.mark.parametrize("first_bad", ["2990.05", "3000"])
def test_it_may_stop_at_the_first_failure(sim: Sim, trader: Trader, first_bad: str) -> None:
    """A failure of entry and one of the engine stop alike; what is placed stays, the rest is free again."""
    orders = [trader.order("buy", price, "0.1", POST_ONLY) for price in ("2990", first_bad, "2980")]
    reply = sim.execute("place_orders", _batch(*orders, stop_on_failure=True))["place_orders"]
    assert [entry["digest"] is not None for entry in reply] == [True, False, False]
    assert len(sim.exchange.books[ETH].of_account(trader.sender)) == 1
    assert sim.refusal(orders[2]) == 0


def test_fifty_milliseconds_more(sim: Sim, trader: Trader) -> None:
    def delay_ms(*appendices: int) -> float:
        orders = [trader.order("buy", "2990", "0.1", appendix) for appendix in appendices]
        submission = sim.exchange.submit("place_orders", _batch(*orders))
        submission.commit()
        return submission.delay_ns / 1e6

    assert delay_ms(POST_ONLY, POST_ONLY) == 50
    assert delay_ms(POST_ONLY, LIMIT) == 80
    assert delay_ms() == 50


def test_refusals_of_the_whole(sim: Sim, trader: Trader) -> None:
    one = trader.order("buy", "2990", "0.1")

    def code(request: Any) -> int:
        return code_of(sim.execute, "place_orders", request)

    assert code(_batch(*[one] * 51)) == 2111
    assert code(_batch(one, Trader(sim, 2).order())) == 2114
    assert code(_batch(one, stop_on_failure="yes")) == 2040
    assert code({"orders": one}) == 2038
    assert code(_batch(one, {})) == 2038
    assert not sim.exchange.books[ETH].of_account(trader.sender)


def test_a_builder_gets_its_share(sim: Sim, trader: Trader) -> None:
    sim.place(trader.order("buy", "3000", "0.5", IOC | BUILDER))
    share = 1500 * ONE * 25 // 100_000
    assert sim.exchange.accounts.own.builder_fees_x18 == {1: share}
    fill, change = sim.private("fill")[0], sim.private("position_change")[-1]
    assert int(change["v_quote_amount"]) == -1500 * ONE - int(fill["fee"]) - share
    (match,) = sim.exchange.archive({"matches": {"subaccounts": [trader.sender]}})["matches"]
    assert match["builder_fee"] == str(share)
    assert match["quote_filled"] == change["v_quote_amount"]
    (order,) = sim.exchange.archive({"orders": {"subaccounts": [trader.sender]}})["orders"]
    assert order["builder_fee"] == str(share)
    assert sim.exchange.accounts.totals().quote_x18 == 0
    assert x18("0.375") == share
