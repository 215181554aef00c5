"""The ledger against a naive twin in fractions, and against the exchange's own accounting rule."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.ledger import REMEMBERED_FILLS, Account, Ledger
from nadofast.events import FillEvent
from nadofast.products import mul_x18, to_x18

ONE = 10**18
SUB = "0x" + "11" * 32


def fill(
    product_id: int = 4,
    side: int = 1,
    qty: str | int = "0.042",
    price: str | int = "3000.1",
    fee_x18: int = 44_100_000_000_000_000,
    idx: int = 1,
    digest: str = "0xaa",
) -> FillEvent:
    qty_x18, price_x18 = to_x18(qty), to_x18(price)
    return FillEvent(
        product_id=product_id, timestamp_ns=idx, subaccount=SUB, order_digest=digest, appendix=1,
        filled_qty_x18=qty_x18, remaining_qty_x18=0, original_qty_x18=qty_x18, price_x18=price_x18,
        is_taker=True, is_bid=side > 0, fee_x18=fee_x18, submission_idx=idx,
    )  # fmt: skip


FILLS = st.lists(
    st.builds(
        lambda product_id, side, steps, ticks, fee, idx: replace(
            fill(product_id, side, idx=idx, fee_x18=fee),
            filled_qty_x18=steps * 10**15,
            price_x18=ticks * 10**17,
        ),
        st.sampled_from((4, 8)),
        st.sampled_from((1, -1)),
        st.integers(1, 10_000),
        st.integers(1, 100_000),
        st.integers(-(10**17), 10**18),
        st.integers(0, 10**6),
    ),
    max_size=40,
    unique_by=lambda f: f.submission_idx,
)


@given(fills=FILLS, repeats=st.lists(st.integers(0, 39), max_size=20))
def test_equals_a_naive_twin_and_ignores_repeats(fills: list[FillEvent], repeats: list[int]) -> None:
    ledger = Ledger((4, 8))
    assert all(ledger.apply(f) for f in fills)
    assert ledger.fills == len(fills)
    again = [fills[i] for i in repeats if i < len(fills)]
    assert not any(ledger.apply(f) for f in again)
    assert ledger.duplicates == len(again)
    for product_id in (4, 8):
        mine = [f for f in fills if f.product_id == product_id]
        sides = [1 if f.is_bid else -1 for f in mine]
        account = ledger.account(product_id)
        assert account.position_x18 == sum(s * f.filled_qty_x18 for s, f in zip(sides, mine, strict=True))
        spent = (Fraction(s * f.filled_qty_x18 * f.price_x18, ONE) for s, f in zip(sides, mine, strict=True))
        assert account.quote_x18 == -sum(spent, Fraction(0))
        assert account.fees_x18 == sum(f.fee_x18 for f in mine)
        assert account.volume_x18 == sum(mul_x18(f.filled_qty_x18, f.price_x18) for f in mine)
        assert account.fills == len(mine)


@given(fills=FILLS, oracle=st.tuples(st.integers(1, 10**5), st.integers(1, 10**5)))
def test_equals_the_exchange_balance(fills: list[FillEvent], oracle: tuple[int, int]) -> None:
    """v_quote of the accounting rule, per match: quote − fee. Position · price + v_quote is our net PnL."""
    ledger = Ledger((4, 8))
    v_quote = {4: 0, 8: 0}
    for f in fills:
        ledger.apply(f)
        gross = mul_x18(f.filled_qty_x18, f.price_x18)
        v_quote[f.product_id] += (-gross if f.is_bid else gross) - f.fee_x18
    marks = {4: oracle[0] * 10**17, 8: oracle[1] * 10**16}
    worth = sum(
        mul_x18(ledger.position_x18(p), marks[p]) + v_quote[p] if ledger.position_x18(p) else v_quote[p]
        for p in (4, 8)
    )
    assert ledger.pnl(marks).net_x18 == worth


def test_a_round_trip_in_either_direction_has_the_right_sign() -> None:
    for side, expected in ((1, "+0.0042"), (-1, "-0.0042")):
        ledger = Ledger((4, 8))
        ledger.apply(fill(side=side, price="3000.1", fee_x18=0, idx=1))
        ledger.apply(fill(side=-side, price="3000.2", fee_x18=0, idx=2))
        assert ledger.is_flat
        assert ledger.pnl({}).net_x18 == to_x18(expected)


def test_taking_over_a_position_makes_no_profit() -> None:
    ledger = Ledger((4, 8))
    ledger.apply(fill(qty="0.042", price="3000", fee_x18=0))
    mark = to_x18(3000)
    assert ledger.adopt(4, to_x18("0.040"), mark) == -to_x18("0.002")
    assert ledger.position_x18(4) == to_x18("0.040")
    assert ledger.pnl({4: mark}).net_x18 == 0
    assert ledger.adopt(4, to_x18("0.040"), mark) == 0
    assert ledger.adjustments == 1


def test_corrections_of_cash_add_up_under_their_names() -> None:
    ledger = Ledger((4, 8))
    for gap_x18, reason in ((5, "a"), (-2, "a"), (7, "b")):
        ledger.correct_cash(gap_x18, reason)
    assert (ledger.taken_over.reasons, ledger.taken_over.quote_x18) == ({"a": 3, "b": 7}, 10)


def test_a_fill_that_cannot_be_booked_is_not_marked_as_seen() -> None:
    ledger = Ledger((4,))
    with pytest.raises(KeyError):
        ledger.apply(fill(product_id=8))
    assert ledger.account(4) == Account()
    assert not ledger._seen


def test_an_order_that_is_left_out_is_never_booked_however_often_it_is_told() -> None:
    ledger = Ledger((4, 8))
    ledger.leave_out(["0xaa"])
    assert not any(ledger.apply(fill(idx=idx)) for idx in (1, 2))
    assert (ledger.is_flat, ledger.cash_x18) == (True, 0)
    assert ledger.apply(fill(digest="0xbb"))


def test_memory_of_fills_is_bounded() -> None:
    ledger = Ledger((4,))
    for idx in range(REMEMBERED_FILLS + 10):
        ledger.apply(fill(idx=idx))
    assert len(ledger._seen) == REMEMBERED_FILLS
