"""The parser as json + int: every event kind from the field tables of the API."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from nadofast.events import (
    AllBBOEvent,
    BBOEvent,
    BookDepthEvent,
    CandlestickEvent,
    ControlReply,
    FillEvent,
    FundingPaymentEvent,
    FundingRateEvent,
    LiquidationEvent,
    OrderUpdateEvent,
    PositionChangeEvent,
    TradeEvent,
    UnknownEvent,
)

WIRE_INTEGER = re.compile(r"-?[0-9]{1,39}")
INT128_MIN, INT128_MAX = -(1 << 127), (1 << 127) - 1


def wire_int(value: object, low: int = INT128_MIN, high: int = INT128_MAX) -> int:
    """Integer from a string or a number; ValueError for anything else or out of range."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise ValueError("not an integer")
    text = str(value)
    if not WIRE_INTEGER.fullmatch(text):
        raise ValueError("not a wire integer")
    number = int(text)
    if not low <= number <= high:
        raise ValueError("out of range")
    return number


def _bool(value: object) -> bool:
    return {True: True, False: False, "true": True, "false": False}[value]  # type: ignore[index]


def _optional(message: dict[str, Any], key: str) -> int | None:
    return None if message.get(key) is None else wire_int(message[key])


def _seconds(value: int) -> int:
    return value // 10**9 if value > 10**17 else value // 1000 if value > 10**11 else value


def _nanoseconds(value: int) -> int:
    return value if value > 10**17 else value * 10**6 if value > 10**11 else value * 10**9


def _levels(value: list[list[object]]) -> tuple[tuple[int, int], ...]:
    return tuple((wire_int(price, 0), wire_int(qty, 0)) for price, qty in value)


def _depth(m: dict[str, Any]) -> BookDepthEvent:
    return BookDepthEvent(
        wire_int(m["product_id"]),
        wire_int(m["last_max_timestamp"]),
        wire_int(m["min_timestamp"]),
        wire_int(m["max_timestamp"]),
        _levels(m["bids"]),
        _levels(m["asks"]),
    )


def _bbo(m: dict[str, Any]) -> BBOEvent:
    keys = ("product_id", "timestamp", "bid_price", "bid_qty", "ask_price", "ask_qty")
    return BBOEvent(*(wire_int(m[key], 0) for key in keys))


def _trade(m: dict[str, Any]) -> TradeEvent:
    keys = ("product_id", "timestamp", "price", "taker_qty", "maker_qty")
    return TradeEvent(*(wire_int(m[key]) for key in keys), _bool(m["is_taker_buyer"]))


def _fill(m: dict[str, Any]) -> FillEvent:
    return FillEvent(
        product_id=wire_int(m["product_id"]),
        timestamp_ns=wire_int(m["timestamp"]),
        subaccount=m["subaccount"].lower(),
        order_digest=m["order_digest"].lower(),
        appendix=wire_int(m["appendix"], 0, (1 << 128) - 1),
        filled_qty_x18=wire_int(m["filled_qty"]),
        remaining_qty_x18=wire_int(m["remaining_qty"]),
        original_qty_x18=wire_int(m["original_qty"]),
        price_x18=wire_int(m["price"]),
        is_taker=_bool(m["is_taker"]),
        is_bid=_bool(m["is_bid"]),
        fee_x18=wire_int(m["fee"]),
        submission_idx=wire_int(m["submission_idx"]),
        id=_optional(m, "id"),
    )


def _order_update(m: dict[str, Any]) -> OrderUpdateEvent:
    return OrderUpdateEvent(
        product_id=wire_int(m["product_id"]),
        timestamp_ns=wire_int(m["timestamp"]),
        digest=m["digest"].lower(),
        amount_x18=abs(wire_int(m["amount"])),
        reason=m["reason"],
        id=_optional(m, "id"),
        filled_qty_x18=_optional(m, "filled_qty"),
        filled_price_x18=_optional(m, "filled_price"),
    )


def _position_change(m: dict[str, Any]) -> PositionChangeEvent:
    return PositionChangeEvent(
        wire_int(m["product_id"]),
        wire_int(m["timestamp"]),
        m["subaccount"].lower(),
        _bool(m["isolated"]),
        wire_int(m["amount"]),
        wire_int(m["v_quote_amount"]),
        m["reason"],
    )


def _candlestick(m: dict[str, Any]) -> CandlestickEvent:
    prices = ("open_x18", "high_x18", "low_x18", "close_x18", "volume")
    return CandlestickEvent(
        wire_int(m["product_id"]),
        _seconds(wire_int(m["timestamp"])),
        wire_int(m["granularity"]),
        *(wire_int(m[key]) for key in prices),
    )


def _funding_rate(m: dict[str, Any]) -> FundingRateEvent:
    return FundingRateEvent(
        wire_int(m["product_id"]),
        wire_int(m["timestamp"]),
        wire_int(m["funding_rate_x18"]),
        _seconds(wire_int(m["update_time"])),
    )


def _funding_payment(m: dict[str, Any]) -> FundingPaymentEvent:
    amounts = (
        "payment_amount",
        "open_interest",
        "cumulative_funding_long_x18",
        "cumulative_funding_short_x18",
    )
    return FundingPaymentEvent(
        wire_int(m["product_id"]),
        _nanoseconds(wire_int(m["timestamp"])),
        *(wire_int(m[key]) for key in amounts),
    )


def _liquidation(m: dict[str, Any]) -> LiquidationEvent:
    return LiquidationEvent(
        tuple(wire_int(product_id) for product_id in m["product_ids"]),
        wire_int(m["timestamp"]),
        m["liquidator"].lower(),
        m["liquidatee"].lower(),
        wire_int(m["amount"]),
        wire_int(m["price"]),
    )


def _all_bbo(m: dict[str, Any]) -> AllBBOEvent:
    bbos = {int(key): (wire_int(bbo["bid"]), wire_int(bbo["ask"])) for key, bbo in m["bbos"].items()}
    return AllBBOEvent(wire_int(m["time"]), bbos)


KINDS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "book_depth": _depth,
    "best_bid_offer": _bbo,
    "trade": _trade,
    "fill": _fill,
    "order_update": _order_update,
    "position_change": _position_change,
    "latest_candlestick": _candlestick,
    "funding_rate": _funding_rate,
    "funding_payment": _funding_payment,
    "liquidation": _liquidation,
    "all_bbo": _all_bbo,
}


def parse(data: bytes) -> Any:
    """Event of one message; ValueError, KeyError or TypeError if it cannot be read."""
    m = json.loads(data)
    if not isinstance(m, dict):
        raise ValueError("not an object")
    if isinstance(m.get("type"), str):
        build = KINDS.get(m["type"])
        return build(m) if build else UnknownEvent(m["type"], data)
    if not {"result", "error", "error_code"} & set(m) and not isinstance(m.get("status"), str):
        raise ValueError("neither an event nor a reply")
    is_envelope = "status" in m
    error, code = m.get("error"), m.get("error_code")
    if is_envelope and m["status"] != "success" and error is None and code is None:
        error = m["status"]
    return ControlReply(
        id=None if m.get("id") is None else wire_int(m["id"]),
        result=m if is_envelope else m.get("result"),
        error=None if error is None else str(error),
        error_code=None if code is None else wire_int(code),
    )
