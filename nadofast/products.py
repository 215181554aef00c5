"""Product rules as the exchange states them, and exact conversion between decimals and x18 integers.

Nothing here is hard-coded: steps, minimum and fees come from the `symbols` query at start.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Context, Decimal, InvalidOperation
from typing import Any, Final, Literal

from .errors import BadResponse
from .wire import boolean, integer

X18: Final = 10**18
_EXACT: Final = Context(prec=60)

Rounding = Literal["down", "up"]


def to_x18(value: Decimal | str | int) -> int:
    """The number × 1e18, exactly. Raises ValueError if it has more than 18 decimals, TypeError on a float."""
    if isinstance(value, bool) or not isinstance(value, Decimal | str | int):
        raise TypeError(f"{type(value).__name__} is not exact; use Decimal, str or int")
    if isinstance(value, int):
        return value * X18
    try:
        scaled = Decimal(value).scaleb(18, context=_EXACT)
    except InvalidOperation:
        raise ValueError(f"{value!r} is not a number") from None
    if not scaled.is_finite() or scaled != scaled.to_integral_value():
        raise ValueError(f"{value!r} does not fit 18 decimals")
    return int(scaled)


def from_x18(value: int) -> Decimal:
    """The number an x18 integer stands for, exactly."""
    return Decimal(value).scaleb(-18, context=_EXACT)


def mul_x18(a_x18: int, b_x18: int) -> int:
    """a · b truncated toward zero, as the engine does it."""
    product = a_x18 * b_x18
    return product // X18 if product >= 0 else -(-product // X18)


def div_x18(a_x18: int, b_x18: int) -> int:
    """a / b truncated toward zero, as the engine does it. Raises ZeroDivisionError."""
    quotient = abs(a_x18) * X18 // abs(b_x18)
    return quotient if (a_x18 < 0) == (b_x18 < 0) else -quotient


@dataclass(frozen=True, slots=True)
class Product:
    """Trading rules of one product (`symbols` query). Fees are fractions of notional, x18.

    min_size_x18 is notional in the quote token, not base units.
    """

    product_id: int
    symbol: str
    price_increment_x18: int
    size_increment_x18: int
    min_size_x18: int
    maker_fee_rate_x18: int
    taker_fee_rate_x18: int
    long_weight_initial_x18: int
    long_weight_maintenance_x18: int
    trading_status: str = "live"
    is_perp: bool = True
    isolated_only: bool = False
    max_open_interest_x18: int | None = None

    def round_price(self, price_x18: int, rounding: Rounding) -> int:
        """The nearest multiple of the price step that is not above ("down") or not below ("up")."""
        steps, rest = divmod(price_x18, self.price_increment_x18)
        return (steps + (1 if rest and rounding == "up" else 0)) * self.price_increment_x18

    def round_size(self, size_x18: int) -> int:
        """The multiple of the size step nearest toward zero; sign kept. 0 if it is below one step."""
        steps = abs(size_x18) // self.size_increment_x18
        return steps * self.size_increment_x18 * (1 if size_x18 >= 0 else -1)

    def round_size_nonzero(self, size_x18: int) -> int:
        """As `round_size`, but raises ValueError instead of returning 0."""
        rounded = self.round_size(size_x18)
        if rounded == 0:
            raise ValueError(f"{self.symbol}: {size_x18} x18 is less than one size step")
        return rounded

    def is_valid_price(self, price_x18: int) -> bool:
        """Positive and on the price grid."""
        return price_x18 > 0 and price_x18 % self.price_increment_x18 == 0

    def is_valid_size(self, size_x18: int) -> bool:
        """Not zero and on the size grid; either sign."""
        return size_x18 != 0 and size_x18 % self.size_increment_x18 == 0

    def notional_x18(self, size_x18: int, price_x18: int) -> int:
        """|size| · price in the quote token."""
        return mul_x18(abs(size_x18), price_x18)

    def meets_min_size(self, size_x18: int, price_x18: int) -> bool:
        """Whether the order's notional reaches the minimum of the product."""
        return self.notional_x18(size_x18, price_x18) >= self.min_size_x18


def parse_symbols(data: Any) -> dict[int, Product]:
    """Products of a `symbols` reply (its `data`, or the map inside), by product id.

    Numbers may be JSON numbers or decimal strings. Raises BadResponse naming what is missing.
    """
    if isinstance(data, Mapping) and "symbols" in data:
        data = data["symbols"]
    if isinstance(data, Mapping):
        rows: Iterable[Any] = data.values()
    elif isinstance(data, list):
        rows = data
    else:
        raise BadResponse("symbols: neither a map nor a list")
    products = (_product(row) for row in rows)
    return {product.product_id: product for product in products}


def _product(row: Any) -> Product:
    if not isinstance(row, Mapping):
        raise BadResponse("symbols: an entry is not an object")
    try:
        cap = row.get("max_open_interest_x18")
        product_id = integer(row["product_id"])
        product = Product(
            product_id=product_id,
            symbol=str(row["symbol"]),
            price_increment_x18=integer(row["price_increment_x18"]),
            size_increment_x18=integer(row["size_increment"]),
            min_size_x18=integer(row["min_size"]),
            maker_fee_rate_x18=integer(row["maker_fee_rate_x18"]),
            taker_fee_rate_x18=integer(row["taker_fee_rate_x18"]),
            long_weight_initial_x18=integer(row["long_weight_initial_x18"]),
            long_weight_maintenance_x18=integer(row["long_weight_maintenance_x18"]),
            trading_status=str(row.get("trading_status") or "live"),
            is_perp=product_id != 0 and product_id % 2 == 0,
            isolated_only=boolean(row.get("isolated_only") or False),
            max_open_interest_x18=None if cap is None else integer(cap),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise BadResponse(f"symbols: entry {row.get('symbol')!r}: {error!r}") from None
    if product.price_increment_x18 <= 0 or product.size_increment_x18 <= 0:
        raise BadResponse(f"symbols: entry {product.symbol!r} has no price or size step")
    return product
