"""Nothing is made or lost: base, quote, fees and funding sum to zero over random trading days."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from simcore import ETH, SOL, WETH, Sim
from tradingday import Day

from nadosim.steps import Step

ACTIONS = 90


# Days by seed: drawn action by action they stay too short and too simple to trade much.
@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32))
def test_trading_conserves_base_and_quote(seed: int) -> None:
    day = Day(seed)
    for _ in range(ACTIONS):
        day.act()
        for product_id in (ETH, SOL, WETH):
            bid, _, ask, _ = day.sim.exchange.bbo(product_id)
            assert bid < ask, "crossed"
    _check_sums(day)
    _check_orders(day.sim)
    _check_positions(day.sim)
    _check_told_balances(day.sim)
    for step in day.sim.steps:
        _check_events(step)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from(["isolated", "parent"]))
def test_the_switches_of_reporting_change_no_balance(seed: int, reporting: str) -> None:
    """The same day under both readings ends with the same money."""
    days = [
        Day(seed),
        Day(seed, isolated_reporting=reporting, update_amount="signed", place_orders_shape="array"),
    ]
    for day in days:
        for _ in range(ACTIONS // 2):
            day.act()
    assert days[0].sim.exchange.balances_state() == days[1].sim.exchange.balances_state()


def test_a_day_has_everything_in_it() -> None:
    """The generator reaches what the property claims to cover."""
    kinds: set[str] = set()
    reasons: set[str] = set()
    isolated = 0
    for seed in range(12):
        day = Day(seed)
        for _ in range(ACTIONS):
            day.act()
        for step in day.sim.steps:
            kinds |= {event["type"] for event in step.public} | {"trade" for _ in step.trades}
            reasons |= {e["reason"] for _, e in step.private if e["type"] == "position_change"}
        isolated += sum(fill["bearer"] != fill["subaccount"] for fill in day.sim.exchange.fills_state())
    assert kinds == {"trade", "latest_candlestick", "funding_payment", "liquidation"}
    assert reasons == {
        "match_orders",
        "deposit_collateral",
        "withdraw_collateral",
        "transfer_quote",
        "settle_pnl",
        "liquidate_subaccount",
    }
    assert isolated > 20


def _check_sums(day: Day) -> None:
    exchange = day.sim.exchange
    totals = exchange.accounts.totals()
    assert not any(totals.base_x18.values())
    assert totals.quote_x18 == 0
    assert exchange.balances_state()["quote_sum"] == "0"
    assert abs(totals.funding_dust_x18) <= day.bookings
    for product_id, state in exchange.accounts.states.items():
        held = sum(abs(a.perps[product_id].amount_x18) for a in exchange.accounts if product_id in a.perps)
        assert state.open_interest_x18 == held


def _check_orders(sim: Sim) -> None:
    """No order fills beyond its amount; a FOK order fills whole or not at all; takers never rest."""
    filled: dict[str, int] = {}
    for fill in sim.exchange.fills_state():
        filled[fill["digest"]] = filled.get(fill["digest"], 0) + int(fill["base"])
    for order in sim.exchange.orders_state():
        amount, unfilled = int(order["amount"]), int(order["unfilled_amount"])
        assert amount - filled.get(order["digest"], 0) == unfilled
        assert unfilled * amount >= 0
        if order["order_type"] == "fok" and not order["reduce_only"]:
            assert filled.get(order["digest"], 0) in (0, amount)
        if order["order_type"] in ("ioc", "fok"):
            assert order["end"] is not None


def _check_positions(sim: Sim) -> None:
    """What a subaccount holds is what it traded, less what was liquidated; closed ones hold nothing."""
    held: dict[tuple[str, int], int] = {}
    for fill in sim.exchange.fills_state():
        key = (fill["bearer"], fill["product_id"])
        held[key] = held.get(key, 0) + int(fill["base"])
    for step in sim.steps:
        for event in step.public:
            if event["type"] == "liquidation":
                key = (event["liquidatee"], event["product_ids"][0])
                held[key] = held.get(key, 0) - int(event["amount"])
    for (subaccount, product_id), amount in held.items():
        if product_id == WETH:
            continue  # tokens also come and go without a trade
        account = sim.exchange.accounts.find(subaccount)
        assert amount == (sim.exchange.accounts.position_x18(account, product_id) if account else 0)


def _check_told_balances(sim: Sim) -> None:
    """The last position_change of every balance is its amount."""
    told: dict[tuple[str, int, bool], int] = {}
    for step in sim.steps:
        for _, event in step.private:
            if event["type"] == "position_change":
                key = (event["subaccount"], event["product_id"], event["isolated"])
                told[key] = int(event["amount"])
    for (subaccount, product_id, is_isolated), amount in told.items():
        account = sim.exchange.accounts.find(subaccount)
        assert account is not None
        if is_isolated and product_id == 0:
            continue  # told under the parent, whose isolated subaccounts each have a quote balance
        if is_isolated:
            bearer = account.isolated.get(product_id)
            held = sim.exchange.accounts.position_x18(bearer, product_id) if bearer is not None else 0
        else:
            held = sim.exchange.health.holding_x18(account, product_id)
        assert held == amount, (product_id, is_isolated)


def _check_events(step: Step) -> None:
    """Every fill comes with an order_update and a position_change; all events share the step's stamp."""
    updates = [(e["digest"], e["amount"]) for _, e in step.private if e.get("reason") == "filled"]
    fills = [e for _, e in step.private if e["type"] == "fill"]
    assert sorted((f["order_digest"], f["remaining_qty"]) for f in fills) == sorted(updates)
    changed = {e["subaccount"] for _, e in step.private if e["type"] == "position_change"}
    assert {fill["subaccount"] for fill in fills} <= changed
    events = [*step.trades, *(e for _, e in step.private), *step.public]
    stamps = {e["timestamp"] for e in events if e["type"] != "latest_candlestick"}
    assert stamps <= {str(step.timestamp_ns)}
    assert len(fills) <= 2 * len(step.trades)
