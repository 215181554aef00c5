"""x18 integers: ratios, and how amounts are shown. Nothing here is a float."""

from __future__ import annotations

from decimal import Decimal
from typing import Final

from nadofast.products import X18

BPS: Final = 10_000
NS_PER_MS: Final = 1_000_000
NS_PER_S: Final = 1_000_000_000


def sign(value: int) -> int:
    return (value > 0) - (value < 0)


def bps_of(part_x18: int, whole_x18: int) -> Decimal:
    """part / whole in basis points, four decimals; 0 when there is no whole. For reports only."""
    if whole_x18 == 0:
        return Decimal(0)
    return (Decimal(part_x18) * BPS / Decimal(whole_x18)).quantize(Decimal("0.0001"))


def scale_bps(value_x18: int, bps: int | Decimal) -> int:
    """value · bps / 10 000, truncated toward zero; exact for bps with up to four decimals."""
    numerator = value_x18 * int(Decimal(bps) * 10_000)
    return numerator // (BPS * 10_000) if numerator >= 0 else -(-numerator // (BPS * 10_000))


def decimal(value_x18: int) -> Decimal:
    """The exact value, without trailing zeros and without an exponent."""
    return Decimal(show(value_x18))


def show_usd(value_x18: int, places: int = 4, *, signed: bool = False) -> str:
    """Quote amount rounded for people; the sign is always shown when `signed`."""
    rounded = Decimal(value_x18).scaleb(-18).quantize(Decimal(1).scaleb(-places))
    return f"{rounded + 0:+f}" if signed else f"{rounded + 0:f}"


def show(value_x18: int, *, signed: bool = False) -> str:
    """Exact amount or price as plain digits. A picture of the bot has a hundred: by whole numbers alone."""
    whole, rest = divmod(abs(value_x18), X18)
    text = f"{whole}.{rest:018}".rstrip("0") if rest else str(whole)
    return f"-{text}" if value_x18 < 0 else f"+{text}" if signed and value_x18 > 0 else text
