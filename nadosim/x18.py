"""Fixed-point arithmetic of the exchange: integers scaled by 1e18, truncating toward zero."""

from __future__ import annotations

from typing import Final

ONE: Final = 10**18
INT128_MAX: Final = (1 << 127) - 1
INT128_MIN: Final = -(1 << 127)
UINT64_MAX: Final = (1 << 64) - 1
UINT128_MAX: Final = (1 << 128) - 1

NS_PER_MS: Final = 1_000_000
NS_PER_S: Final = 1_000_000_000


def mul_x18(a: int, b: int) -> int:
    """a * b / 1e18, truncated toward zero (Python's `//` would floor)."""
    product = a * b
    return product // ONE if product >= 0 else -(-product // ONE)


def div_x18(a: int, b: int) -> int:
    """a * 1e18 / b, truncated toward zero. Raises ZeroDivisionError on b == 0."""
    return div_trunc(a * ONE, b)


def div_trunc(a: int, b: int) -> int:
    """a / b, truncated toward zero. Raises ZeroDivisionError on b == 0."""
    quotient = abs(a) // abs(b)
    return quotient if (a >= 0) == (b >= 0) else -quotient


def sign(a: int) -> int:
    """-1, 0 or 1."""
    return (a > 0) - (a < 0)
