"""The order appendix: order type, reduce-only, isolated margin and builder, packed into a uint128.

Bit layout as in the order-appendix section of the API (bit 0 is the least significant).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

VERSION: Final = 1
_ISOLATED_BIT: Final = 8
_ORDER_TYPE_SHIFT: Final = 9
_REDUCE_ONLY_BIT: Final = 11
_TRIGGER_SHIFT: Final = 12
_BUILDER_FEE_SHIFT: Final = 38
_BUILDER_ID_SHIFT: Final = 48
_VALUE_SHIFT: Final = 64
_TWAP_TIMES_SHIFT: Final = 32

MAX_VERSION: Final = (1 << 8) - 1
MAX_BUILDER_FEE_RAW: Final = (1 << 10) - 1
MAX_BUILDER_ID: Final = (1 << 16) - 1
MAX_U32: Final = (1 << 32) - 1
MAX_U64: Final = (1 << 64) - 1


class OrderType(IntEnum):
    """How an order meets the book. Values are those of the wire."""

    DEFAULT = 0
    IOC = 1
    FOK = 2
    POST_ONLY = 3


class Trigger(IntEnum):
    """Conditional orders of the trigger service; NONE for everything the engine takes directly."""

    NONE = 0
    PRICE = 1
    TWAP = 2
    TWAP_CUSTOM_AMOUNTS = 3


_TWAP: Final = (Trigger.TWAP, Trigger.TWAP_CUSTOM_AMOUNTS)


@dataclass(frozen=True, slots=True)
class Appendix:
    """The fields of an appendix. isolated_margin_x6: USDT0 × 1e6. builder_fee_raw: units of 0.1 bps."""

    order_type: OrderType
    reduce_only: bool = False
    isolated: bool = False
    isolated_margin_x6: int = 0
    trigger: Trigger = Trigger.NONE
    twap_times: int = 0
    twap_slippage_x6: int = 0
    builder_id: int = 0
    builder_fee_raw: int = 0
    version: int = VERSION


def pack_appendix(
    order_type: OrderType,
    *,
    reduce_only: bool = False,
    isolated: bool = False,
    isolated_margin_x6: int = 0,
    trigger: Trigger = Trigger.NONE,
    twap_times: int = 0,
    twap_slippage_x6: int = 0,
    builder_id: int = 0,
    builder_fee_raw: int = 0,
    version: int = VERSION,
) -> int:
    """The appendix as an integer. Raises ValueError on a field out of range or a forbidden mix."""
    _check("version", version, MAX_VERSION)
    _check("builder_id", builder_id, MAX_BUILDER_ID)
    _check("builder_fee_raw", builder_fee_raw, MAX_BUILDER_FEE_RAW)
    _check("isolated_margin_x6", isolated_margin_x6, MAX_U64)
    _check("twap_times", twap_times, MAX_U32)
    _check("twap_slippage_x6", twap_slippage_x6, MAX_U32)
    if isolated_margin_x6 and not isolated:
        raise ValueError("isolated_margin_x6 needs isolated=True")
    if builder_fee_raw and not builder_id:
        raise ValueError("a builder fee needs a builder id")
    if trigger in _TWAP:
        if isolated:
            raise ValueError("a TWAP order cannot be isolated")
        if order_type is not OrderType.IOC:
            raise ValueError("a TWAP order must be IOC")
        value = twap_times << _TWAP_TIMES_SHIFT | twap_slippage_x6
    else:
        if twap_times or twap_slippage_x6:
            raise ValueError("TWAP fields need a TWAP trigger")
        value = isolated_margin_x6
    return (
        version
        | int(isolated) << _ISOLATED_BIT
        | int(order_type) << _ORDER_TYPE_SHIFT
        | int(reduce_only) << _REDUCE_ONLY_BIT
        | int(trigger) << _TRIGGER_SHIFT
        | builder_fee_raw << _BUILDER_FEE_SHIFT
        | builder_id << _BUILDER_ID_SHIFT
        | value << _VALUE_SHIFT
    )


def unpack_appendix(appendix: int) -> Appendix:
    """The fields of `appendix`. Raises ValueError if it is not a uint128."""
    _check("appendix", appendix, (1 << 128) - 1)
    trigger = Trigger(appendix >> _TRIGGER_SHIFT & 0b11)
    isolated = bool(appendix >> _ISOLATED_BIT & 1)
    value = appendix >> _VALUE_SHIFT
    is_twap = trigger in _TWAP
    return Appendix(
        order_type=OrderType(appendix >> _ORDER_TYPE_SHIFT & 0b11),
        reduce_only=bool(appendix >> _REDUCE_ONLY_BIT & 1),
        isolated=isolated,
        isolated_margin_x6=value if isolated and not is_twap else 0,
        trigger=trigger,
        twap_times=value >> _TWAP_TIMES_SHIFT if is_twap else 0,
        twap_slippage_x6=value & MAX_U32 if is_twap else 0,
        builder_id=appendix >> _BUILDER_ID_SHIFT & MAX_BUILDER_ID,
        builder_fee_raw=appendix >> _BUILDER_FEE_SHIFT & MAX_BUILDER_FEE_RAW,
        version=appendix & MAX_VERSION,
    )


def _check(name: str, value: int, maximum: int) -> None:
    if not 0 <= value <= maximum:
        raise ValueError(f"{name}={value} is outside 0..{maximum}")
