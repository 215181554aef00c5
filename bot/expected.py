"""Product rules the operator expects, held against what the exchange says. A difference stops the start."""

from __future__ import annotations

from decimal import Decimal

from nadofast.products import Product, from_x18

from .config import ExpectSection


def mismatches(products: tuple[Product, Product], expect: ExpectSection) -> list[str]:
    """Every expectation that the exchange does not meet, one text each; empty ones are not checked."""
    wanted: tuple[tuple[str, Decimal | int | None, Decimal | int], ...] = tuple(
        row
        for name, product in zip(("first", "second"), products, strict=True)
        for row in (
            (f"{name}_product_id", getattr(expect, f"{name}_product_id"), product.product_id),
            (f"{name}_tick", getattr(expect, f"{name}_tick"), from_x18(product.price_increment_x18)),
            (f"{name}_size_step", getattr(expect, f"{name}_size_step"), from_x18(product.size_increment_x18)),
        )
    )
    return [
        f"expect.{key}: {value} expected, the exchange says {_plain(found)}"
        for key, value, found in wanted
        if value is not None and value != found
    ]


def _plain(value: Decimal | int) -> str:
    return f"{value.normalize():f}" if isinstance(value, Decimal) else str(value)
