"""The archive beside orders and matches: candles, rates, prices, payments, events; documented shapes."""

from __future__ import annotations

from typing import Any

import pytest
from simcore import (
    ETH,
    IOC,
    ISOLATED,
    OTHER_HOUSE,
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

from nadosim.candles import GRANULARITIES_S
from nadosim.records import History
from nadosim.x18 import NS_PER_S, ONE


@pytest.fixture
def trader(sim: Sim) -> Trader:
    return Trader(sim)


def _trade(sim: Sim, price: str, size: str, product_id: int = ETH) -> None:
    sim.house("sell", price, size, product_id)
    sim.exchange.house_place(OTHER_HOUSE, product_id, x18(price), x18(size), 1)


def _candles(sim: Sim, granularity: int, **fields: Any) -> list[dict[str, Any]]:
    request = {"candlesticks": {"product_id": ETH, "granularity": granularity, **fields}}
    candles: list[dict[str, Any]] = sim.exchange.archive(request)["candlesticks"]
    return candles


def test_candles_are_what_traded(sim: Sim) -> None:
    start_s = sim.clock.now_ns() // 10**9 // 60 * 60
    for price, size, wait_s in (("3000", "1", 1), ("3005", "2", 1), ("2990", "1", 0), ("3001", "3", 60)):
        _trade(sim, price, size)
        sim.clock.advance_s(wait_s)
    _trade(sim, "3002", "1")
    newest, oldest = _candles(sim, 60)
    figures = [oldest[name] for name in ("open_x18", "high_x18", "low_x18", "close_x18", "volume")]
    assert figures == [str(x18(v)) for v in ("3000", "3005", "2990", "3001", "7")]
    assert (oldest["timestamp"], newest["timestamp"]) == (str(start_s), str(start_s + 60))
    assert newest["submission_idx"] == "5"
    assert shape({"candlesticks": [newest]}) == shape(sample("archive_candlesticks")["response"])


def test_every_granularity_and_its_paging(sim: Sim) -> None:
    for _ in range(5):
        _trade(sim, "3000", "1")
        sim.clock.advance_s(60)
    for granularity in GRANULARITIES_S:
        candles = _candles(sim, granularity)
        assert sum(int(c["volume"]) for c in candles) == 5 * ONE
        assert all(int(c["timestamp"]) % granularity == 0 for c in candles)
    newest = _candles(sim, 60, limit=2)
    older = _candles(sim, 60, limit=2, max_time=int(newest[-1]["timestamp"]) - 1)
    assert len({c["timestamp"] for c in [*newest, *older]}) == 4
    assert code_of(_candles, sim, 61) == 3003
    assert code_of(sim.exchange.archive, {"candlesticks": {"product_id": 99, "granularity": 60}}) == 2015


def test_the_latest_candle_is_told_with_each_trade(sim: Sim) -> None:
    _trade(sim, "3000", "1")
    _trade(sim, "3001", "1")
    events = [e for e in sim.public("latest_candlestick") if e["granularity"] == 60]
    assert [(e["open_x18"], e["close_x18"]) for e in events] == [
        (str(x18("3000")), str(x18("3000"))),
        (str(x18("3000")), str(x18("3001"))),
    ]
    assert shape(events[0]) == shape(sample("stream_latest_candlestick")["events"][0])
    assert {e["granularity"] for e in sim.public("latest_candlestick")} == set(GRANULARITIES_S)


def test_rates_and_prices_have_the_documented_shape(sim: Sim) -> None:
    sim.house("buy", "2999", "1")
    sim.house("sell", "3003", "1")
    sim.exchange.funding.observe(ETH)
    sim.clock.advance_s(10)
    archive, rates, prices = sim.exchange.archive, sample("archive_funding"), sample("archive_prices")
    rate = archive({"funding_rate": {"product_id": 4}})
    assert shape(rate) == shape(rates["response_funding_rate"])
    assert int(rate["funding_rate_x18"]) == ONE // 3000
    both = archive({"funding_rates": {"product_ids": [4, 8]}})
    assert shape(both) == shape(rates["response_funding_rates"])
    price = archive({"price": {"product_id": 4}})
    assert shape(price) == shape(prices["response_price"])
    assert (price["index_price_x18"], price["mark_price_x18"]) == (str(x18("3000")), str(x18("3001")))
    assert archive({"perp_prices": {"product_ids": [4]}}) == {"4": price}
    oracle = archive({"oracle_price": {"product_ids": [4]}})
    assert shape(oracle) == shape(prices["response_oracle_price"])
    for request in ({"funding_rate": {"product_id": 3}}, {"price": {"product_id": 5}}):
        assert code_of(archive, request) == 2015


def test_products_and_market_snapshots(sim: Sim, trader: Trader) -> None:
    _trade(sim, "3000", "2")
    documented = sample("archive_product_snapshots")
    products = sim.exchange.archive({"products": {"product_id": 4, "limit": 1}})
    assert shape(products) == shape(documented["response"])
    for _ in range(5):
        sim.clock.advance_s(60)
        sim.exchange.run_due()
    request = {"interval": {"count": 3, "granularity": 60}, "product_ids": [4]}
    snapshots = sim.exchange.archive({"market_snapshots": request})["snapshots"]
    assert shape(snapshots[0]) == shape(documented["response_market_snapshots"]["snapshots"][0])
    assert [s["timestamp"] for s in snapshots] == [snapshots[0]["timestamp"] - 60 * i for i in range(3)]
    assert snapshots[0]["cumulative_volumes"] == {"4": str(6000 * ONE)}
    assert snapshots[0]["cumulative_trades"] == {"4": 1}
    assert snapshots[0]["tvl"] == str(5000 * ONE)
    before = {"interval": {"count": 2, "granularity": 3600}}
    assert len(sim.exchange.archive({"market_snapshots": before})["snapshots"]) == 1
    for interval in (None, {"count": 0, "granularity": 60}, {"count": 1, "granularity": 0}):
        assert code_of(sim.exchange.archive, {"market_snapshots": {"interval": interval}}) == 3003


def test_payments_are_paged_downward(sim: Sim, trader: Trader) -> None:
    sim.house("sell", "3000", "5")
    sim.place(trader.order("buy", "3000", "1", IOC))
    sim.place(trader.order("buy", "3000", "1", IOC | ISOLATED | isolated_margin(100)))
    for _ in range(3):
        sim.exchange.pay_funding(ETH, ONE)
    request = {"subaccount": trader.sender, "product_ids": [4], "limit": 4}
    first = sim.exchange.archive({"interest_and_funding": request})
    assert [p["isolated"] for p in first["funding_payments"]] == [True, False, True, False]
    rest = sim.exchange.archive({"interest_and_funding": {**request, "max_idx": first["next_idx"]}})
    assert len(rest["funding_payments"]) == 2
    last = sim.exchange.archive({"interest_and_funding": {**request, "max_idx": rest["next_idx"]}})
    assert (last["funding_payments"], last["next_idx"]) == ([], "")
    assert {p["amount"] for p in rest["funding_payments"]} == {str(-ONE)}
    other = sim.exchange.archive({"interest_and_funding": {**request, "product_ids": [SOL]}})
    assert other["funding_payments"] == []


def test_balance_events(sim: Sim, trader: Trader) -> None:
    sim.house("sell", "3000", "5")
    sim.place(trader.order("buy", "3000", "1", IOC))
    sim.exchange.settle_pnl(trader.sender)
    archive = sim.exchange.archive
    events = archive({"events": {"subaccounts": [trader.sender], "limit": {"raw": 10}}})["events"]
    kinds = [(e["event_type"], e["product_id"]) for e in events]
    assert kinds == [("settle_pnl", 0), ("settle_pnl", 4), ("match_orders", 4), ("deposit_collateral", 0)]
    match = events[2]
    assert match["post_balance"]["perp"]["balance"]["amount"] == str(ONE)
    assert match["net_entry_unrealized"] == str(
        -int(match["post_balance"]["perp"]["balance"]["v_quote_balance"])
    )
    one = archive({"events": {"event_types": ["match_orders"], "limit": {"txs": 1}}})
    assert [len(one["events"]), len(one["txs"])] == [1, 1]


def test_a_deposit_is_a_transaction_of_its_own(sim: Sim, trader: Trader) -> None:
    sim.house("sell", "3000", "5")
    sim.place(trader.order("buy", "3000", "1", IOC))
    sim.exchange.fund(trader.sender, ONE)
    told = sim.exchange.archive({"events": {"subaccounts": [trader.sender]}})
    kinds = {tx["submission_idx"]: next(iter(tx["tx"])) for tx in told["txs"]}
    assert [event["event_type"] for event in told["events"]] == [
        "deposit_collateral",
        "match_orders",
        "deposit_collateral",
    ]
    assert [kinds[event["submission_idx"]] for event in told["events"]] == [
        event["event_type"] for event in told["events"]
    ]


def test_kinds_of_events_are_a_set_whatever_their_number(sim: Sim, trader: Trader) -> None:
    """A message may name tens of thousands: looking each event up among them would hold everybody up."""
    sim.exchange.fund(trader.sender, ONE)
    kinds = _Searched(["deposit_collateral", "settle_pnl"])
    assert sim.exchange.archive({"events": {"event_types": kinds}})["events"]
    assert not sim.exchange.archive({"events": {"event_types": ["settle_pnl"]}})["events"]
    assert kinds.searches == 0
    assert code_of(sim.exchange.archive, {"events": {"event_types": "settle_pnl"}}) == 2038


class _Searched(list[str]):
    searches = 0

    def __contains__(self, item: object) -> bool:
        self.searches += 1
        return super().__contains__(item)


def test_many_account_snapshots_are_one_look_at_the_past(
    sim: Sim, trader: Trader, monkeypatch: pytest.MonkeyPatch
) -> None:
    start_s = sim.clock.now_ns() // NS_PER_S
    for _ in range(4):
        sim.clock.advance_s(10)
        sim.exchange.fund(trader.sender, ONE)
        sim.exchange.fund(trader.sender, ONE, WETH)
    looks = []
    newest_first = History.balances_newest_first
    monkeypatch.setattr(History, "balances_newest_first", lambda self: looks.append(1) or newest_first(self))
    times_s = [start_s - 1, start_s + 25, start_s + 60, start_s + 20]
    asked = {"subaccounts": [trader.sender, "0x" + "11" * 32], "timestamps": times_s}
    told = sim.exchange.archive({"account_snapshots": asked})["snapshots"]
    assert list(told[trader.sender]) == [str(time_s) for time_s in times_s]
    amounts = [
        [
            (view["product_id"], int(view["post_balance"]["spot"]["balance"]["amount"]) // ONE)
            for view in views
        ]
        for views in told[trader.sender].values()
    ]
    assert amounts == [[], [(WETH, 2), (0, 5002)], [(WETH, 4), (0, 5004)], [(WETH, 2), (0, 5002)]]
    assert not any(told["0x" + "11" * 32].values())
    assert len(looks) == 1


def test_subaccounts_and_backlog(sim: Sim, trader: Trader) -> None:
    sim.house("sell", "3000", "5")
    Trader(sim, 2)
    sim.place(trader.order("buy", "3000", "1", IOC | ISOLATED | isolated_margin(100)))
    mine = sim.exchange.archive({"subaccounts": {"address": trader.address}})["subaccounts"]
    assert [(s["subaccount_name"], s["isolated"]) for s in mine] == [("default", False), ("", True)]
    assert len(sim.exchange.archive({"subaccounts": {}})["subaccounts"]) == 3
    assert sim.exchange.archive({"backlog": {}})["backlog_size"] == "0"


def test_the_insurance_and_display_queries(sim: Sim) -> None:
    assert sim.exchange.query({"type": "insurance"}) == {"insurance": "0"}
    edge = sim.exchange.query({"type": "edge_all_products"})["edge_all_products"]
    assert edge == {"77001": sim.exchange.query({"type": "all_products"})}


@pytest.mark.parametrize("wrong", [4.0, 4.5, True, "4.0", "1_0", " 4", [4], {}])
@pytest.mark.parametrize("name", ["product_ids", "idx", "submission_idx", "max_idx", "max_time", "limit"])
def test_whole_numbers_are_whole_numbers(sim: Sim, name: str, wrong: Any) -> None:
    """A number or its digits: a half, a yes or a digit group is none."""
    for right in (4, "4"):
        sim.exchange.archive({"matches": {name: [right] if name == "product_ids" else right}})
    value = [wrong] if name == "product_ids" else wrong
    assert code_of(sim.exchange.archive, {"matches": {name: value}}) == 2038
