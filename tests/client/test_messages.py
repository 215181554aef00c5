"""The parser's object face: five kinds by name, what makes no sense, and what cannot be read."""

from __future__ import annotations

import json
from typing import Any

import pytest
from clientkit import sample
from eventkit import SUBACCOUNT

from nadofast import NadoMessageParser, errors, events, parse

KINDS = {
    "book_depth": ("parse_book_depth", events.BookDepthEvent),
    "best_bid_offer": ("parse_bbo", events.BBOEvent),
    "fill": ("parse_fill", events.FillEvent),
    "order_update": ("parse_order_update", events.OrderUpdateEvent),
    "position_change": ("parse_position_change", events.PositionChangeEvent),
}


def message(kind: str, **changes: Any) -> dict[str, Any]:
    first: dict[str, Any] = sample(f"stream_{kind}")["events"][0]
    return first | changes


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_has_its_reader(kind: str) -> None:
    method, expected = KINDS[kind]
    parser = NadoMessageParser()
    text = json.dumps(message(kind))
    for raw in (text, text.encode(), message(kind)):
        event = getattr(parser, method)(raw)
        assert type(event) is expected
        assert event == parse(text) == parser.parse_message(raw)
        assert parser.validate_message(raw)
    assert parser.counts == {expected.__name__: 6}
    for other in KINDS.keys() - {kind}:
        with pytest.raises(errors.ParseError, match=f"not a {expected.__name__}"):
            getattr(parser, method)(message(other))
    assert parser.errors == 4


@pytest.mark.parametrize(
    "raw", ["", "{", "[]", b"\xff", '{"type": "fill"}', {"type": "trade"}, {"a": {1, 2}}]
)
def test_what_cannot_be_read_is_an_error_and_is_counted(raw: Any) -> None:
    parser = NadoMessageParser()
    assert not parser.validate_message(raw)
    with pytest.raises(errors.ParseError):
        parser.parse_message(raw)
    assert (parser.errors, parser.counts) == (1, {})


@pytest.mark.parametrize(
    ("kind", "changes", "problem"),
    [
        ("best_bid_offer", {"bid_price": "2", "ask_price": "2"}, "bid is not below ask"),
        ("book_depth", {"min_timestamp": "9", "max_timestamp": "8"}, "min_timestamp is after"),
        ("book_depth", {"last_max_timestamp": "8", "min_timestamp": "8", "max_timestamp": "8"}, "itself"),
        ("book_depth", {"bids": [["0", "1"]]}, "a price is 0"),
        ("book_depth", {"asks": [["5", "1"], ["5", "2"]]}, "twice"),
        ("fill", {"filled_qty": "0"}, "positive"),
        ("fill", {"price": "0"}, "positive"),
        ("fill", {"remaining_qty": "1", "filled_qty": "2", "original_qty": "2"}, "than was ordered"),
        ("fill", {"subaccount": "0xab"}, "32 bytes"),
        ("order_update", {"reason": "vanished"}, "unknown reason"),
        ("position_change", {"subaccount": SUBACCOUNT[:-1]}, "32 bytes"),
        ("fill", {"type": "novelty"}, "unknown kind 'novelty'"),
    ],
)
def test_what_makes_no_sense_can_be_read_but_is_not_valid(
    kind: str, changes: dict[str, str], problem: str
) -> None:
    parser = NadoMessageParser()
    raw = message(kind, **changes)
    parser.parse_message(raw)
    assert problem in (parser.problem(raw) or "")
    assert not parser.validate_message(raw)


def test_empty_sides_and_other_kinds_are_valid() -> None:
    parser = NadoMessageParser()
    assert parser.validate_message(message("best_bid_offer", bid_price="0", ask_price=str(2**127 - 1)))
    assert parser.validate_message(message("trade"))
    assert parser.validate_message({"result": None, "id": 1})
