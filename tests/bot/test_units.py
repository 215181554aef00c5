"""Amounts as people read them are exact, whatever their size and sign."""

from __future__ import annotations

from decimal import Decimal, localcontext

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bot.units import decimal, show

AMOUNTS = st.integers(-(2**127), 2**127)


@given(AMOUNTS)
@example(0)
@example(1)
@example(-1)
@example(10**18)
@example(-(10**19))
@example(10**18 + 10)
def test_the_digits_are_the_amount(value_x18: int) -> None:
    text = show(value_x18)
    with localcontext(prec=60):
        assert Decimal(text) == Decimal(value_x18).scaleb(-18)
    assert text == format(decimal(value_x18), "f")


@pytest.mark.parametrize(
    ("value_x18", "plain", "signed"),
    [
        (0, "0", "0"),
        (25 * 10**17, "2.5", "+2.5"),
        (-(10**18) // 4, "-0.25", "-0.25"),
        (1, "0.000000000000000001", "+0.000000000000000001"),
        (100 * 10**18, "100", "+100"),
    ],
)
def test_plain_digits_and_a_sign_on_request(value_x18: int, plain: str, signed: str) -> None:
    assert show(value_x18) == plain
    assert show(value_x18, signed=True) == signed
