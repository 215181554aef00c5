"""Digits → int128: equal to int() as far as 128 bits go, refused beyond."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nadofast._parse import parse_x18
from nadofast.errors import ParseError

INT128_MIN, INT128_MAX = -(1 << 127), (1 << 127) - 1


@given(st.integers(INT128_MIN, INT128_MAX))
def test_equals_int_over_the_whole_range(number: int) -> None:
    assert parse_x18(str(number)) == number


@given(st.integers(1, 38), st.sampled_from(["", "-"]), st.data())
def test_equals_int_for_every_number_of_digits(count: int, sign: str, data: st.DataObject) -> None:
    digits = data.draw(st.text("0123456789", min_size=count, max_size=count))
    assert parse_x18(sign + digits) == int(sign + digits)


@pytest.mark.parametrize("number", [0, 1, INT128_MAX, INT128_MIN, INT128_MAX - 1, INT128_MIN + 1, 10**38])
def test_limits_are_inside(number: int) -> None:
    assert parse_x18(str(number)) == number


@pytest.mark.parametrize(
    "text",
    [
        str(INT128_MAX + 1),
        str(INT128_MIN - 1),
        "9" * 39,
        str(1 << 128),
        str((1 << 128) - 1),
        str((1 << 128) + 7),
        "1" + "0" * 39,
        "0" * 40,
        "1" * 400,
    ],
)
def test_beyond_128_bits_is_refused(text: str) -> None:
    with pytest.raises(ParseError):
        parse_x18(text)


@given(st.integers(INT128_MAX + 1, 1 << 140))
def test_never_wraps(number: int) -> None:
    for text in (str(number), str(-number - 1)):
        with pytest.raises(ParseError):
            parse_x18(text)


@pytest.mark.parametrize(
    "text", ["", "-", "+1", " 1", "1 ", "1_0", "0x1", "1.0", "1e5", "--1", "1-", "٣", "1\0", "12345678x"]
)
def test_only_digits_and_a_minus(text: str) -> None:
    with pytest.raises(ParseError):
        parse_x18(text)


@given(st.binary(max_size=48))
def test_any_bytes_are_an_integer_or_a_parse_error(data: bytes) -> None:
    try:
        number = parse_x18(data)
    except ParseError:
        return
    assert number == int(data)


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_reads_any_bytes_like(kind: type) -> None:
    assert parse_x18(kind(b"-3021400000000000000000")) == -3021400000000000000000
