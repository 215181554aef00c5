"""What seldom or never comes from the exchange: bounds of memory, odd types, hostile bits."""

from __future__ import annotations

import zlib
from typing import Any

import pytest
from samples import compact, stream_events

from nadofast import _feed
from nadofast._book import OrderBook
from nadofast._feed import FeedCore
from nadofast._inflate import Inflater
from nadofast._parse import parse
from nadofast.errors import ParseError

PRODUCT = 4
LARGEST = (1 << 127) - 1


def sample(kind: str) -> dict[str, Any]:
    return next(event for _, event in stream_events() if event["type"] == kind)


def delta(last: int, newest: int, bids: list[list[str]] | None = None) -> bytes:
    times = {"last_max_timestamp": str(last), "min_timestamp": str(newest), "max_timestamp": str(newest)}
    return compact(sample("book_depth") | times | {"product_id": PRODUCT, "bids": bids or [], "asks": []})


# --- the core ---------------------------------------------------------------------------------------------


def test_kept_deltas_that_cross_the_snapshot_leave_no_book() -> None:
    core = FeedCore((PRODUCT,))
    core.receive(delta(10, 11, [["105", "1"]]), 1)
    core.receive(delta(11, 12, [["105", "0"]]), 2)
    assert not core.load_snapshot(PRODUCT, [(100, 1)], [(102, 1)], 10)
    assert core.needs_snapshot(PRODUCT)
    assert core.book(PRODUCT).invalid_reason == "crossed"


def test_kept_deltas_are_bounded_in_bytes_too() -> None:
    core = FeedCore((PRODUCT,))
    level = [["1" + "0" * 35, "1"]]
    for newest in range(1, 5):
        core.receive(delta(newest - 1, newest, level * 60_000), 1)
    assert core.stats()["products"][PRODUCT]["buffer_overflows"] > 0
    assert not core.load_snapshot(PRODUCT, [(100, 1)], [(102, 1)], 1)
    assert core.load_snapshot(PRODUCT, [(100, 1)], [(10**37, 1)], 3)
    assert core.book(PRODUCT).timestamp_ns == 4


def test_a_kind_whose_name_is_no_text_is_counted() -> None:
    bad: list[ParseError] = []
    core = FeedCore((PRODUCT,), on_parse_error=bad.append)
    assert core.receive(b'{"type":"trade","product_id":4,"timestamp":"\xff"}', 1) == _feed.PARSE_ERROR
    assert core.receive(b'{"type":"n\xffws","product_id":4}', 2) == _feed.PARSE_ERROR
    assert core.stats()["parse_errors"] == len(bad) == 2


def test_trades_and_positions_of_any_number_of_products_are_told_once() -> None:
    told: list[Any] = []
    core = FeedCore((PRODUCT,), on_event=told.append)
    trade, position = sample("trade"), sample("position_change")
    for product_id in range(4_100):
        for event in (trade, position):
            assert core.receive(compact(event | {"product_id": product_id}), 1) == _feed.DELIVERED
    assert len(told) == 2 * 4_100
    assert core.receive(compact(trade | {"product_id": 4_099}), 1, 1) == _feed.DUPLICATE
    assert core.receive(compact(position | {"product_id": 4_099}), 1, 1) == _feed.DUPLICATE


# --- books ------------------------------------------------------------------------------------------------


def test_edges_of_a_book() -> None:
    with pytest.raises(ValueError, match="not negative"):
        OrderBook(-1)
    book = OrderBook(PRODUCT)
    book.load_snapshot([(2, LARGEST), (1, 1)], [(3, 1)], 1)
    assert book.liquidity_x18("sell", 1) == LARGEST
    with pytest.raises(OverflowError):
        book.liquidity_x18("sell", 2)
    book.load_snapshot([], [(0, 5)], 2)
    assert book.slippage_bps("buy", 5) == 0.0
    assert repr(FeedCore((PRODUCT,)).bbo(PRODUCT)) == "<Bbo product 4: not set>"


# --- messages ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("indent", [None, 1])
def test_a_message_of_too_many_levels(indent: int | None) -> None:
    """Whether it is written as the exchange does or not."""
    most = [["1", "2"]] * 65_536
    space = "" if indent is None else " "
    event = parse(delta(1, 2, most).replace(b',"asks"', f',{space}"asks"'.encode()))
    assert len(event.bids) == 65_536  # type: ignore[union-attr]
    with pytest.raises(ParseError, match="too many levels"):
        parse(delta(1, 2, [*most, ["1", "2"]]).replace(b',"asks"', f',{space}"asks"'.encode()))


@pytest.mark.parametrize(
    ("kind", "change", "where"),
    [
        ("fill", {"order_digest": 7}, "order_digest: a string"),
        ("fill", {"is_taker": "yes"}, "is_taker: true or false"),
        ("liquidation", {"product_ids": {}}, "product_ids: an array"),
        ("liquidation", {"product_ids": [None]}, "128 bits"),
        ("liquidation", {"product_ids": ["x"]}, "128 bits"),
        ("all_bbo", {"bbos": []}, "bbos: an object is"),
        ("all_bbo", {"bbos": {"1": []}}, "bbos: an object per product"),
        ("all_bbo", {"bbos": {"1": {"bid": 1.5, "ask": "2"}}}, "128 bits"),
    ],
)
def test_wrong_types_are_named(kind: str, change: dict[str, Any], where: str) -> None:
    with pytest.raises(ParseError, match=where):
        parse(compact(sample(kind) | change))


def test_a_status_that_is_no_success_is_the_error() -> None:
    reply = parse(b'{"status":"busy","signature":"0x1"}')
    assert reply.error == "busy"  # type: ignore[union-attr]


@pytest.mark.parametrize("text", [rb'{"type":"a\ ', rb'{"type":"a\u12', rb'{"type":"a\u1', b'{"type":"a\\'])
def test_a_string_that_ends_in_an_escape(text: bytes) -> None:
    with pytest.raises(ParseError):
        parse(text.rstrip())


def test_keys_with_escapes() -> None:
    event = sample("best_bid_offer")
    plain = compact(event)
    assert parse(plain.replace(b'"bid_qty"', rb'"bid\u005fqty"')) == parse(plain)
    for unknown in (rb'"bid\fqty"', rb'"bid\u00e4qty"', b'"' + rb"\n" * 70 + b'"'):
        with pytest.raises(ParseError, match="bid_qty is missing"):
            parse(plain.replace(b'"bid_qty"', unknown))


# --- deflate ----------------------------------------------------------------------------------------------


class Bits:
    """A deflate stream written bit by bit."""

    def __init__(self) -> None:
        self.text = ""

    def copy(self) -> Bits:
        found = Bits()
        found.text = self.text
        return found

    def number(self, value: int, width: int) -> Bits:
        self.text += format(value, f"0{width}b")[::-1]
        return self

    def code(self, code: str) -> Bits:
        """A Huffman code, first bit first."""
        self.text += code
        return self

    def dynamic(self, lengths: dict[int, int], distances: int = 1) -> Bits:
        """Head of a dynamic block: lengths of the code for lengths."""
        order = (16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15)
        self.number(0, 1).number(2, 2).number(0, 5).number(distances - 1, 5).number(len(order) - 4, 4)
        for symbol in order:
            self.number(lengths.get(symbol, 0), 3)
        return self

    def __bytes__(self) -> bytes:
        padded = self.text + "0" * (-len(self.text) % 8)
        return bytes(int(padded[i : i + 8][::-1], 2) for i in range(0, len(padded), 8))


ONE_AND_REPEAT = Bits().dynamic({18: 1, 1: 1}).code("0").code("0").code("1").number(127, 7)
STORED = Bits().number(0, 3).number(0, 5)
BROKEN = {
    "a repeat of nothing": Bits().dynamic({16: 1, 0: 1}).code("1").number(0, 2),
    "a repeat beyond the end": ONE_AND_REPEAT.code("1").number(127, 7),
    "too many distances": Bits().dynamic({0: 1, 1: 1}, distances=31),
    "a stored block without its text": STORED.copy().number(9, 16).number(~9 & 0xFFFF, 16),
    "a stored block without its size": STORED.copy().number(4, 16),
    "sizes that are not each other's complement": STORED.copy().number(4, 16).number(4, 16),
    "a block of no kind": Bits().number(6, 3),
}


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("name", BROKEN)
def test_broken_blocks_are_refused(name: str, own: bool) -> None:
    data = bytes(BROKEN[name])
    with pytest.raises(ValueError):
        Inflater(15, False, 10_000, own).inflate(data)
    follower = Inflater(15, False, 10_000, own)
    assert follower.inflate(b"\x4a\x04\x00") == b"a", "a good message is taken"


@pytest.mark.parametrize("own", [False, True])
def test_one_distance_code_alone_and_what_it_leaves_unused(own: bool) -> None:
    """Literal "a" and one length, and a single distance code of one bit: its other bit means nothing."""

    def block(distance_bit: str) -> bytes:
        # Code lengths: 97 -> 2, 256 -> 2, 257 (length 3) -> 1; distance 0 -> 1.
        head = Bits().number(0, 1).number(2, 2).number(1, 5).number(0, 5).number(15, 4)
        for symbol in (16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15):
            head.number({18: 2, 1: 2, 2: 2, 0: 2}.get(symbol, 0), 3)
        # Codes of 2 bits in order of symbols: 0 "00", 1 "01", 2 "10", 18 "11".
        head.code("11").number(97 - 11, 7).code("10")
        head.code("11").number(138 - 11, 7).code("11").number(20 - 11, 7).code("10").code("01").code("01")
        # Literal codes: 257 "0", 97 "10", 256 "11".
        return bytes(head.code("10").code("0").code(distance_bit).code("11").number(0, 3))

    assert zlib.decompressobj(-15).decompress(block("0")) == b"aaaa"
    assert Inflater(15, False, 10_000, own).inflate(block("0")) == b"aaaa"
    with pytest.raises(ValueError):
        Inflater(15, False, 10_000, own).inflate(block("1"))


@pytest.mark.parametrize("own", [False, True])
def test_stored_blocks_up_to_the_cap(own: bool) -> None:
    text = bytes(range(256)) * 200
    stored = b"\x00" + len(text).to_bytes(2, "little") + (~len(text) & 0xFFFF).to_bytes(2, "little") + text
    assert Inflater(15, False, 3 * len(text), own).inflate(stored * 3 + b"\x00") == text * 3
    with pytest.raises(ValueError, match="limit"):
        Inflater(15, False, 3 * len(text) - 1, own).inflate(stored * 3 + b"\x00")
