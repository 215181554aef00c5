"""The ledger against a naive twin in fractions, and against the exchange's own accounting rule."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot import ledger as ledger_module
from bot.ledger import REMEMBERED_FILLS, Account, Cumulative, Ledger, Pnl, is_isolated
from nadofast.events import FillEvent, FundingPaymentEvent
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


def test_the_newest_fills_are_the_ones_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the exchange repeats, it repeats within seconds."""
    monkeypatch.setattr(ledger_module, "REMEMBERED_FILLS", 3)
    ledger = Ledger((4,))
    for idx in range(5):
        assert ledger.apply(fill(idx=idx))
    assert not any(ledger.apply(fill(idx=idx)) for idx in (4, 3, 2))
    assert ledger.apply(fill(idx=1))


def test_every_move_of_a_position_is_told_once_with_its_source_and_price() -> None:
    ledger = Ledger((4, 8))
    told: list[tuple[int, int, int, str, int]] = []
    ledger.apply(fill(qty="0.042", idx=1))  # nobody listens yet
    ledger.on_move = lambda *move: told.append(move)
    ledger.apply(fill(qty="0.002", price="3001", side=-1, idx=2))
    ledger.apply(fill(qty="0.002", price="3001", side=-1, idx=2))
    ledger.adopt(4, to_x18("0.030"), to_x18(3002))
    ledger.adopt(4, to_x18("0.030"), to_x18(3003))
    assert told == [
        (4, to_x18("0.042"), to_x18("0.040"), "fill", to_x18(3001)),
        (4, to_x18("0.040"), to_x18("0.030"), "exchange", to_x18(3002)),
    ]


def test_a_position_that_only_changed_its_margin_is_taken_over_without_profit() -> None:
    ledger = Ledger((4, 8))
    ledger.apply(fill(qty="0.042", price="3000", fee_x18=0))
    assert ledger.adopt(4, to_x18("0.042"), to_x18(3100)) == 0
    assert (ledger.isolated_x18(4), ledger.adjustments) == (0, 0)
    assert ledger.adopt(4, to_x18("0.042"), to_x18(3100), isolated_x18=to_x18("0.012")) == 0
    assert (ledger.position_x18(4), ledger.isolated_x18(4)) == (to_x18("0.042"), to_x18("0.012"))
    assert ledger.account(4).cross.position_x18 == to_x18("0.030")
    assert (ledger.adjustments, ledger.cash_x18) == (1, -to_x18(126))
    assert ledger.adopt(4, to_x18("0.040"), to_x18(3100)) == -to_x18("0.002")
    assert (ledger.isolated_x18(4), ledger.account(4).cross.position_x18) == (0, to_x18("0.040"))
    assert ledger.cash_x18 == to_x18("-119.8")


def test_a_correction_of_cash_is_part_of_the_cash_and_of_the_result() -> None:
    ledger = Ledger((4, 8))
    ledger.apply(fill(side=1, price="3000", fee_x18=7, idx=1))
    ledger.apply(fill(side=-1, price="3000", fee_x18=7, idx=2))
    ledger.correct_cash(-5, "liquidate_subaccount")
    assert ledger.cash_x18 == -19
    assert ledger.pnl({}) == Pnl(gross_x18=-5, fees_x18=14, volume_x18=to_x18(252), funding_x18=0)
    assert ledger.pnl({}).net_x18 == -19


def test_a_part_of_a_run_is_the_difference_of_two_results() -> None:
    part = Pnl(100, 10, 1_000, 1) - Pnl(40, 3, 300, 5)
    assert part == Pnl(60, 7, 700, -4)
    assert part.net_x18 == 57
    assert Pnl(100, 10, 1_000).net_x18 == 90


# ---------------------------------------------------------------------- funding


def test_longs_and_shorts_are_settled_at_their_own_value_and_a_flat_one_as_a_short() -> None:
    cumulative = Cumulative(5, -3)
    assert [cumulative.of(position) for position in (1, 0, -1)] == [5, -3, -3]


@pytest.mark.parametrize(("side", "paid"), [(1, "0.084"), (-1, "-0.126")])
def test_funding_is_paid_from_the_first_value_heard_and_is_pending_until_the_position_moves(
    side: int, paid: str
) -> None:
    """0.042 held while a long paid 2 and a short paid 3 (each per coin): what was before is not ours."""
    ledger = Ledger((4, 8))
    ledger.apply(fill(side=side, price="3000", fee_x18=0, idx=1))
    quote_x18 = ledger.cash_x18
    ledger.settle_funding(4, Cumulative(to_x18(10), to_x18(20)))
    assert ledger.account(4).funding_x18 == 0
    ledger.on_funding(FundingPaymentEvent(4, 1, to_x18(2), 1, to_x18(12), to_x18(23)))
    ledger.settle_funding(2, Cumulative(to_x18(12), to_x18(23)))  # a product that is not ours
    assert (ledger.account(4).booked_funding_x18, ledger.account(4).funding_x18) == (0, to_x18(paid))
    assert ledger.cash_x18 == quote_x18 - to_x18(paid)
    ledger.settle(2, is_isolated=False)
    ledger.settle(4, is_isolated=True)  # the other margin: nothing is held there
    assert ledger.account(4).booked_funding_x18 == 0
    ledger.settle(4, is_isolated=False)
    assert ledger.account(4).booked_funding_x18 == ledger.account(4).funding_x18 == to_x18(paid)
    assert ledger.position_x18(4) == side * to_x18("0.042")
    assert ledger.pnl({4: to_x18(3000)}).funding_x18 == to_x18(paid)
    assert ledger.pnl({4: to_x18(3000)}).net_x18 == -to_x18(paid)


def test_each_margin_settles_its_own_funding() -> None:
    ledger = Ledger((4, 8))
    ledger.settle_funding(4, Cumulative(0, 0))
    ledger.apply(fill(qty="1", fee_x18=0, idx=1))
    ledger.apply(replace(fill(qty="2", fee_x18=0, idx=2), appendix=1 << 8))
    assert (ledger.position_x18(4), ledger.isolated_x18(4)) == (to_x18(3), to_x18(2))
    ledger.settle_funding(4, Cumulative(to_x18(10), 0))
    assert ledger.account(4).funding_x18 == to_x18(30)
    ledger.apply(replace(fill(side=-1, qty="2", fee_x18=0, idx=3), appendix=1 << 8))
    assert ledger.account(4).booked_funding_x18 == to_x18(20)
    ledger.settle_funding(4, Cumulative(to_x18(11), 0))
    assert ledger.account(4).funding_x18 == to_x18(31)
    assert [is_isolated(1 << bit) for bit in (7, 8, 9)] == [False, True, False]
