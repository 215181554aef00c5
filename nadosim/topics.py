"""What can be subscribed to (streams section of the API), and how a request names it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, TypeGuard

from .errors import ExchangeError
from .fields import hex_bytes

PRIVATE: Final = frozenset({"order_update", "fill", "position_change"})
OF_ONE_PRODUCT: Final = frozenset(
    {"best_bid_offer", "book_depth", "trade", "latest_candlestick", "funding_payment"}
)
OF_ANY_PRODUCT: Final = frozenset({"liquidation", "funding_rate"})
ALL_BBO: Final = "all_bbo"
GRANULARITIES_S: Final = (60, 300, 900, 3600, 7200, 14400, 86400, 604800, 2419200)

# Stream type, subaccount ("" when public), product (None: all), granularity (0: none).
Topic = tuple[str, str, int | None, int]


class ControlError(Exception):
    """A control request that is refused. code: error code of the API, None if it has none."""

    def __init__(self, text: str, code: int | None = None) -> None:
        self.code = code
        super().__init__(text)


def public(kind: str, product_id: int | None, granularity: int = 0) -> Topic:
    return (kind, "", product_id, granularity)


def parse(stream: Any, products: Mapping[int, Any], books: Mapping[int, Any]) -> Topic:
    """The stream a request names, checked. Raises ControlError."""
    if not isinstance(stream, dict) or not isinstance(stream.get("type"), str):
        raise ControlError("A stream is an object with a type.", 2038)
    kind, product_id = stream["type"], stream.get("product_id")
    if kind in PRIVATE:
        subaccount = stream.get("subaccount")
        if not is_subaccount(subaccount):
            raise ControlError(f"Stream {kind} needs a subaccount of 32 bytes.", 2038)
        wanted = None if product_id is None else _known(product_id, products)
        return (kind, subaccount.lower(), wanted, 0)
    if kind in OF_ONE_PRODUCT:
        known = _known(product_id, books)
        return public(kind, known, _granularity(stream) if kind == "latest_candlestick" else 0)
    if kind in OF_ANY_PRODUCT:
        return public(kind, None if product_id is None else _known(product_id, books))
    if kind == ALL_BBO:
        return public(kind, None)
    raise ControlError(f"Stream {kind!r} is not available.", 4001)


def describe(topic: Topic) -> dict[str, Any]:
    """The stream object `list` shows."""
    kind, subaccount, product_id, granularity = topic
    if kind == ALL_BBO:
        return {"type": kind}
    shown: dict[str, Any] = {"type": kind}
    if kind in PRIVATE:
        shown["subaccount"] = subaccount
    shown["product_id"] = product_id
    if granularity:
        shown["granularity"] = granularity
    return shown


def _known(product_id: Any, products: Mapping[int, Any]) -> int:
    if isinstance(product_id, str) and product_id.isdecimal() and len(product_id) <= 10:
        product_id = int(product_id)
    if not isinstance(product_id, int) or isinstance(product_id, bool) or product_id not in products:
        raise ControlError(f"Invalid product id {product_id!r}.", 2016)
    return product_id


def _granularity(stream: Mapping[str, Any]) -> int:
    value = stream.get("granularity")
    if value not in GRANULARITIES_S or isinstance(value, bool):
        raise ControlError(f"Granularity is one of {', '.join(map(str, GRANULARITIES_S))}.", 3003)
    return int(value)


def is_subaccount(value: Any) -> TypeGuard[str]:
    try:
        hex_bytes(value, 32, "subaccount")
    except ExchangeError:
        return False
    return True
