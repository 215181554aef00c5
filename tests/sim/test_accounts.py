"""Fees, balances and health against the worked figures, to the last unit."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from simcore import DATA, ETH, sample, x18

from nadosim.accounts import Accounts, Subaccount
from nadosim.fees import trade_fee_x18
from nadosim.health import HealthRules, Margin
from nadosim.products import DEFAULT_PRODUCTS, Product
from nadosim.records import Closing, NetEntry
from nadosim.x18 import ONE, div_x18, mul_x18

PRODUCTS: dict[int, Product] = {p.product_id: p for p in DEFAULT_PRODUCTS}
MIN_SIZE = PRODUCTS[ETH].min_size_x18


def test_worked_accounting_to_the_last_unit() -> None:
    accounts = Accounts(DEFAULT_PRODUCTS)
    account = accounts.open("0x01")
    filled: dict[str, int] = {}
    for step in json.loads((DATA / "worked_accounting.json").read_text())["steps"]:
        if "fill" in step:
            _book_worked_fill(accounts, account, step, filled)
        elif "effective_v_quote_balance" in step:
            accounts.pay_funding(ETH, int(step["cumulative_funding_x18"]))
            stored = account.perps[ETH]
            assert str(stored.v_quote_x18) == step["stored"]["v_quote_balance"]
            effective = accounts.effective(account, ETH)
            assert str(effective.v_quote_x18) == step["effective_v_quote_balance"]
        else:
            balance = accounts.effective(account, ETH)
            unrealised = mul_x18(balance.amount_x18, int(step["oracle_price_x18"])) + balance.v_quote_x18
            assert str(unrealised) == step["unrealised_quote"], step["step"]


def _book_worked_fill(
    accounts: Accounts, account: Subaccount, step: dict[str, Any], filled: dict[str, int]
) -> None:
    fill = step["fill"]
    base = int(fill["qty"]) if fill["side"] == "buy" else -int(fill["qty"])
    price = int(fill["price"])
    before = filled.get(fill["order"], 0)
    quote = -mul_x18(base, price)
    fee = trade_fee_x18(
        quote,
        int(fill["fee_rate_x18"]),
        is_taker=fill["is_taker"],
        already_quote_x18=-mul_x18(before, price),
        is_first_match=before == 0,
        min_size_x18=MIN_SIZE,
    )
    assert str(fee) == step["fee"], step["step"]
    balance = accounts.apply(account, ETH, base, quote - fee)
    filled[fill["order"]] = before + base
    shown = {
        "amount": str(balance.amount_x18),
        "v_quote_balance": str(balance.v_quote_x18),
        "last_cumulative_funding_x18": str(balance.last_cumulative_funding_x18),
    }
    assert shown == step["after"], step["step"]


def test_a_seller_pays_the_rate_and_a_buyer_a_little_more() -> None:
    rate = ONE // 1000
    assert trade_fee_x18(100 * ONE, rate, is_taker=False) == ONE // 10
    assert trade_fee_x18(-100 * ONE, rate, is_taker=False) == 100 * ONE * ONE // (ONE - rate) - 100 * ONE


@given(st.lists(st.integers(1, 10**21), min_size=1, max_size=6), st.booleans())
def test_a_taker_pays_on_its_whole_notional_or_the_floor(parts: list[int], is_buy: bool) -> None:
    """At one price the fee of an order does not depend on how its fill is cut into matches."""
    rate, sign = PRODUCTS[ETH].taker_fee_rate_x18, -1 if is_buy else 1
    fee, already = 0, 0
    for part in parts:
        fee += trade_fee_x18(
            sign * part,
            rate,
            is_taker=True,
            already_quote_x18=sign * already,
            is_first_match=already == 0,
            min_size_x18=MIN_SIZE,
        )
        already += part
    whole = trade_fee_x18(sign * max(already, MIN_SIZE), rate, is_taker=False)
    assert abs(fee - whole) <= len(parts)


@given(st.integers(-(10**40), 10**40), st.integers(-(10**40), 10**40))
def test_division_and_multiplication_truncate_toward_zero(a: int, b: int) -> None:
    assert mul_x18(a, b) == (abs(a * b) // ONE) * (1 if a * b >= 0 else -1)
    if b:
        expected = abs(a) * ONE // abs(b)
        assert div_x18(a, b) == (expected if (a >= 0) == (b > 0) else -expected)


def test_health_equals_the_documented_reply() -> None:
    reply = sample("query_subaccount_info")["response"]["data"]
    accounts = Accounts(DEFAULT_PRODUCTS)
    accounts.states[ETH].oracle_price_x18 = x18("3021.65")
    accounts.pay_funding(ETH, 33101120779669575254)
    account = accounts.open(reply["subaccount"])
    accounts.deposit(account, 5000 * ONE)
    accounts.apply(account, ETH, x18("0.125"), -377712771277127712771)
    rules = HealthRules(PRODUCTS, accounts)
    for margin in Margin:
        assert str(rules.health_x18(account, margin)) == reply["healths"][margin]["health"]
        contributions = rules.contributions_x18(account, margin)
        assert str(contributions[ETH]) == reply["health_contributions"][ETH][margin]


def test_funding_moves_quote_from_longs_to_shorts_and_leaves_no_more_than_dust() -> None:
    accounts = Accounts(DEFAULT_PRODUCTS)
    long, short = accounts.open("0x01"), accounts.open("0x02")
    accounts.apply(long, ETH, x18("1.001"), -x18("3003"))
    accounts.apply(short, ETH, -x18("1.001"), x18("3003"))
    accounts.pay_funding(ETH, 39062500000000001)
    assert accounts.effective(long, ETH).v_quote_x18 == -x18("3003") - 39101562500000001
    assert accounts.effective(short, ETH).v_quote_x18 == x18("3003") + 39101562500000001
    accounts.apply(long, ETH, 0, 0)
    totals = accounts.totals()
    assert totals.quote_x18 == 0
    assert abs(totals.funding_dust_x18) <= 2


def test_open_interest_counts_both_sides() -> None:
    accounts = Accounts(DEFAULT_PRODUCTS)
    long, short = accounts.open("0x01"), accounts.open("0x02")
    accounts.apply(long, ETH, 3 * ONE, 0)
    accounts.apply(short, ETH, -3 * ONE, 0)
    assert accounts.states[ETH].open_interest_x18 == 6 * ONE
    accounts.apply(long, ETH, -4 * ONE, 0)
    assert accounts.states[ETH].open_interest_x18 == 4 * ONE


def test_a_subaccount_is_either_real_or_a_simulated_one() -> None:
    accounts = Accounts(DEFAULT_PRODUCTS)
    accounts.open("0x01")
    with pytest.raises(ValueError, match="real"):
        accounts.open("0x01", is_house=True)


def test_net_entry_averages_in_realises_pro_rata_and_crosses_zero() -> None:
    entry = NetEntry()
    assert entry.book(0, 2 * ONE, -6000 * ONE) == Closing()
    assert entry.book(2 * ONE, -ONE, 3100 * ONE) == Closing(ONE, 100 * ONE, 3000 * ONE)
    closing = entry.book(ONE, -3 * ONE, 9600 * ONE)
    assert closing == Closing(ONE, 200 * ONE, 3000 * ONE)
    assert entry.unrealized_x18 == -6400 * ONE
    assert entry.cumulative_x18 == 6000 * ONE - 3100 * ONE - 9600 * ONE
