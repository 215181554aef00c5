"""Messages of the exchange as typed events, and whether they make sense: the object face of `parse`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar

import orjson

from . import wire
from ._parse import parse
from .errors import ParseError
from .events import (
    BBOEvent,
    BookDepthEvent,
    FillEvent,
    OrderUpdateEvent,
    ParsedMessage,
    PositionChangeEvent,
    UnknownEvent,
)

if TYPE_CHECKING:
    from ._parse import Readable

T = TypeVar("T", BookDepthEvent, BBOEvent, FillEvent, OrderUpdateEvent, PositionChangeEvent)
RawMessage: TypeAlias = "Readable | Mapping[str, Any]"
_SUBACCOUNT: Final = re.compile(r"0x[0-9a-f]{64}")
_REASONS: Final = frozenset({wire.REASON_PLACED, wire.REASON_FILLED, wire.REASON_CANCELLED})


class NadoMessageParser:
    """Reads messages and counts what it read. raw: bytes, text, or an object that JSON decoding gave.

    parse_message takes every kind; the others take one, and raise ParseError on any other.
    """

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        """By name of the event class."""
        self.errors = 0

    def parse_message(self, raw: RawMessage) -> ParsedMessage:
        """One message of any kind; an UnknownEvent for a kind this version does not know.

        Raises ParseError on anything that cannot be read completely.
        """
        try:
            event = parse(_readable(raw))
        except ParseError:
            self.errors += 1
            raise
        name = type(event).__name__
        self.counts[name] = self.counts.get(name, 0) + 1
        return event

    def validate_message(self, message: RawMessage) -> bool:
        """Whether a message can be read, is of a known kind, and makes sense. Never raises."""
        return self.problem(message) is None

    def problem(self, message: RawMessage) -> str | None:
        """What is wrong with a message; None if nothing is."""
        try:
            return _contradiction(parse(_readable(message)))
        except ParseError as error:
            return str(error)

    def parse_book_depth(self, raw: RawMessage) -> BookDepthEvent:
        """Absolute totals of changed levels; 0 removes one. Three timestamps say what it follows."""
        return self._expect(raw, BookDepthEvent)

    def parse_bbo(self, raw: RawMessage) -> BBOEvent:
        """A best_bid_offer message. ParseError on anything else."""
        return self._expect(raw, BBOEvent)

    def parse_fill(self, raw: RawMessage) -> FillEvent:
        """A fill message. ParseError on anything else."""
        return self._expect(raw, FillEvent)

    def parse_order_update(self, raw: RawMessage) -> OrderUpdateEvent:
        """An order_update message. ParseError on anything else."""
        return self._expect(raw, OrderUpdateEvent)

    def parse_position_change(self, raw: RawMessage) -> PositionChangeEvent:
        """A position_change message. ParseError on anything else."""
        return self._expect(raw, PositionChangeEvent)

    def _expect(self, raw: RawMessage, wanted: type[T]) -> T:
        event = self.parse_message(raw)
        if not isinstance(event, wanted):
            self.errors += 1
            raise ParseError(f"a {type(event).__name__}, not a {wanted.__name__}")
        return event


def _readable(raw: RawMessage) -> Readable:
    if not isinstance(raw, Mapping):
        return raw
    try:
        return orjson.dumps(raw)
    except TypeError as error:  # orjson's own error is one
        raise ParseError(f"not a JSON object: {error}") from None


def _contradiction(event: ParsedMessage) -> str | None:
    """What no honest message says, though every field of it can be read."""
    match event:
        case UnknownEvent(kind=kind):
            return f"unknown kind {kind!r}"
        case BookDepthEvent():
            return _depth_contradiction(event)
        case BBOEvent() if event.has_bid and event.has_ask and event.bid_price_x18 >= event.ask_price_x18:
            return "bid is not below ask"
        case FillEvent():
            return _fill_contradiction(event)
        case OrderUpdateEvent(reason=reason) if reason not in _REASONS:
            return f"unknown reason {reason!r}"
        case PositionChangeEvent(subaccount=subaccount) if not _SUBACCOUNT.fullmatch(subaccount):
            return "subaccount is not 32 bytes"
    return None


def _depth_contradiction(event: BookDepthEvent) -> str | None:
    if event.min_timestamp_ns > event.max_timestamp_ns:
        return "min_timestamp is after max_timestamp"
    if event.last_max_timestamp_ns >= event.max_timestamp_ns:
        return "it follows itself"
    for side in (event.bids, event.asks):
        prices = [price for price, _ in side]
        if 0 in prices:
            return "a price is 0"
        if len(set(prices)) != len(prices):
            return "a price is given twice"
    return None


def _fill_contradiction(event: FillEvent) -> str | None:
    if event.filled_qty_x18 <= 0 or event.price_x18 <= 0:
        return "price and quantity of a fill are positive"
    if event.filled_qty_x18 + event.remaining_qty_x18 > event.original_qty_x18:
        return "more is filled and left than was ordered"
    if not _SUBACCOUNT.fullmatch(event.subaccount):
        return "subaccount is not 32 bytes"
    return None
