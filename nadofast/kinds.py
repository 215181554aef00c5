"""The kinds of events there are, and how each is treated when its reader is not there."""

from __future__ import annotations

from enum import IntEnum
from typing import Any, Final

from . import wire
from ._bbo import Bbo
from ._book import OrderBook
from .events import (
    AllBBOEvent,
    BBOEvent,
    BookDepthEvent,
    BoundaryEvent,
    CandlestickEvent,
    FillEvent,
    FundingPaymentEvent,
    FundingRateEvent,
    LiquidationEvent,
    OrderUpdateEvent,
    PositionChangeEvent,
    TradeEvent,
    UnknownEvent,
)

BOUNDARY: Final = "boundary"
UNKNOWN: Final = "unknown"


class Priority(IntEnum):
    """What waits longest: lower goes first.

    ACCOUNT: facts, every one, once and in order. TAPE: public events, the newest so many. STATE: the newest
    of each kind and product.
    """

    ACCOUNT = 0
    TAPE = 1
    STATE = 2


KINDS: Final[dict[type, str]] = {
    OrderBook: wire.BOOK_DEPTH,
    BookDepthEvent: wire.BOOK_DEPTH,
    Bbo: wire.BEST_BID_OFFER,
    BBOEvent: wire.BEST_BID_OFFER,
    TradeEvent: wire.TRADE,
    FillEvent: wire.FILL,
    OrderUpdateEvent: wire.ORDER_UPDATE,
    PositionChangeEvent: wire.POSITION_CHANGE,
    CandlestickEvent: wire.LATEST_CANDLESTICK,
    FundingRateEvent: wire.FUNDING_RATE,
    FundingPaymentEvent: wire.FUNDING_PAYMENT,
    LiquidationEvent: wire.LIQUIDATION,
    AllBBOEvent: wire.ALL_BBO,
    BoundaryEvent: BOUNDARY,
    UnknownEvent: UNKNOWN,
}
PRIORITIES: Final[dict[str, Priority]] = {
    wire.FILL: Priority.ACCOUNT,
    wire.ORDER_UPDATE: Priority.ACCOUNT,
    wire.POSITION_CHANGE: Priority.ACCOUNT,
    wire.FUNDING_PAYMENT: Priority.ACCOUNT,
    BOUNDARY: Priority.ACCOUNT,
    wire.TRADE: Priority.TAPE,
    wire.LIQUIDATION: Priority.TAPE,
    UNKNOWN: Priority.TAPE,
    wire.BEST_BID_OFFER: Priority.STATE,
    wire.BOOK_DEPTH: Priority.STATE,
    wire.ALL_BBO: Priority.STATE,
    wire.FUNDING_RATE: Priority.STATE,
    wire.LATEST_CANDLESTICK: Priority.STATE,
}
ALL_KINDS: Final = frozenset(PRIORITIES)


def kind_of(event: Any) -> str:
    """The kind of an event object; UNKNOWN for anything else."""
    return KINDS.get(type(event), UNKNOWN)


def check_kind(kind: str | type) -> str:
    """The kind, given by name or by the class of its events.

    Raises ValueError on one that does not exist: a typo must not be silent.
    """
    name = KINDS.get(kind, "") if isinstance(kind, type) else kind
    if name not in ALL_KINDS:
        raise ValueError(f"unknown event kind {kind!r}; known: {', '.join(sorted(ALL_KINDS))}")
    return name
