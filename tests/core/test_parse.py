"""One message → one event: against json + int, on samples, permutations, mutations and truncations."""

from __future__ import annotations

import gc
import json
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import parser as oracle
from samples import compact, replies, stream_events

from nadofast._parse import parse, scanner
from nadofast.errors import ParseError
from nadofast.events import BBOEvent, BookDepthEvent, ControlReply, FillEvent, OrderUpdateEvent, UnknownEvent

EVENTS = stream_events()
REPLIES = replies()
BBO = dict(EVENTS[[name for name, _ in EVENTS].index("stream_best_bid_offer")][1])
DEPTH = dict(EVENTS[[name for name, _ in EVENTS].index("stream_book_depth")][1])
FILL = dict(EVENTS[[name for name, _ in EVENTS].index("stream_fill")][1])


def ids(samples: list[tuple[str, dict[str, Any]]]) -> list[str]:
    return [f"{name}-{index}" for index, (name, _) in enumerate(samples)]


@pytest.mark.parametrize(("name", "event"), EVENTS, ids=ids(EVENTS))
def test_every_sample_event(name: str, event: dict[str, Any]) -> None:
    for text in (compact(event), json.dumps(event).encode(), json.dumps(event, indent=2).encode()):
        assert parse(text) == oracle.parse(text)


@pytest.mark.parametrize(("name", "reply"), REPLIES, ids=ids(REPLIES))
def test_every_sample_reply(name: str, reply: dict[str, Any]) -> None:
    parsed = parse(compact(reply))
    assert parsed == oracle.parse(compact(reply))
    assert isinstance(parsed, ControlReply)
    assert parsed.is_error == ("error" in reply or "error_code" in reply)


def test_samples_cover_all_kinds() -> None:
    assert {event["type"] for _, event in EVENTS} == set(oracle.KINDS)
    assert len(REPLIES) > 40


@pytest.mark.parametrize("index", range(len(EVENTS)))
def test_truncation_at_every_byte(index: int) -> None:
    text = compact(EVENTS[index][1])
    for size in range(len(text)):
        with pytest.raises(ParseError) as caught:
            parse(text[:size])
        assert 0 <= caught.value.offset <= size
        assert len(caught.value.excerpt.encode()) <= 40


@pytest.mark.parametrize("index", range(len(REPLIES)))
def test_truncated_replies(index: int) -> None:
    text = compact(REPLIES[index][1])
    for size in range(0, len(text), max(1, len(text) // 200)):
        with pytest.raises(ParseError):
            parse(text[:size])


@pytest.mark.parametrize("kind", ["best_bid_offer", "book_depth", "fill"])
def test_what_is_frequent_as_the_exchange_writes_it_takes_the_canonical_scanner(kind: str) -> None:
    texts = [compact(event) for _, event in EVENTS if event["type"] == kind]
    assert {scanner(text) for text in texts} == {"canonical"}
    assert {scanner(b" " + text) for text in texts} == {"tolerant"}


def outcome(data: bytes, after: bytes = b"") -> Any:
    """The event, or what the error says and where in `data`."""
    try:
        event = parse(data + after)
    except ParseError as error:
        return error.message, min(error.offset, len(data))
    return event.kind if isinstance(event, UnknownEvent) else event


@pytest.mark.parametrize("index", [i for i, (_, event) in enumerate(EVENTS) if event["type"] == "fill"])
def test_both_scanners_read_a_damaged_fill_alike(index: int) -> None:
    """A space at the end takes the tolerant one. Every byte replaced, doubled, dropped; every cut."""
    text = compact(EVENTS[index][1])
    assert scanner(text) == "canonical"
    for at in range(len(text)):
        for piece in (b'"', b"\\", b"0", b"A", b"-", b"}", b"\xc3", b"\n", text[at : at + 1] * 2, b""):
            damaged = text[:at] + piece + text[at + 1 :]
            assert outcome(damaged) == outcome(damaged, b" "), damaged
        assert outcome(text[:at]) == outcome(text[:at], b" ")


@pytest.mark.parametrize(
    "client_id", ["0", "7", "00", "", "18446744073709551615", "18446744073709551616", '"7"', "-1"]
)
def test_both_scanners_read_the_id_of_a_fill_alike(client_id: str) -> None:
    event = next(event for _, event in EVENTS if event["type"] == "fill")
    text = compact({key: value for key, value in event.items() if key != "id"})
    text = text[:-1] + b',"id":' + client_id.encode() + b"}"
    assert scanner(text) == "canonical" if client_id in ("0", "7") else True
    assert outcome(text) == outcome(text, b" ")


ACCOUNTS = [
    *("0x" + "ab" * 32, "0x" + "AB" * 32, "0x" + "ab" * 31 + "ac", ""),
    *("0x" + "\\" * 64, "0x" + "\\" * 32),  # the second one's bytes are the first one's text
    *("\u00c2\u00a7" * 33, "\u00a7" * 33),  # likewise
]


@pytest.mark.parametrize("ascii_only", [True, False])
def test_the_account_of_a_fill_is_not_that_of_the_last_one(ascii_only: bool) -> None:
    """The text of the last account is kept for the next fill."""
    for before in ACCOUNTS:
        for account in ACCOUNTS:
            for name in (before, account):
                event = FILL | {"subaccount": name}
                text = json.dumps(event, separators=(",", ":"), ensure_ascii=ascii_only).encode()
                assert parse(text) == oracle.parse(text)


def test_the_collector_need_not_visit_an_event() -> None:
    """Numbers and texts make no cycle: a bot that keeps its fills does not pay for them again and again."""
    assert not any(gc.is_tracked(parse(compact(event))) for event in (FILL, BBO, DEPTH))


def scrambled(value: Any, rng: random.Random, *, top: bool = True) -> str:
    """The same JSON value in another dress: key order, white space, escapes, unknown fields."""
    gap = lambda: rng.choice(["", "", " ", "\n", "\t\r "])  # noqa: E731
    if isinstance(value, dict):
        items = [(key, scrambled(item, rng, top=False)) for key, item in value.items()]
        if top and rng.random() < 0.7:
            items.append(
                ("brand_new", rng.choice(['{"a":[1,{"b":null}]}', "[[],{}]", "-1.5e-3", '"\\u00e9"']))
            )
        rng.shuffle(items)
        pairs = [f"{gap()}{quoted(key, rng)}{gap()}:{gap()}{item}{gap()}" for key, item in items]
        return gap() + "{" + ",".join(pairs) + "}" + gap()
    if isinstance(value, list):
        return "[" + ",".join(f"{gap()}{scrambled(item, rng, top=False)}{gap()}" for item in value) + "]"
    if isinstance(value, str):
        if value.isdigit() and rng.random() < 0.3:
            return str(int(value))
        return quoted(value, rng)
    if isinstance(value, int) and not isinstance(value, bool) and rng.random() < 0.5:
        return quoted(str(value), rng)
    return json.dumps(value)


def quoted(text: str, rng: random.Random) -> str:
    if rng.random() < 0.8:
        return json.dumps(text)
    at = rng.randrange(len(text)) if text else 0
    return (
        json.dumps(text[:at])[:-1]
        + "".join(f"\\u{ord(ch):04x}" for ch in text[at : at + 1])
        + text[at + 1 :]
        + '"'
    )


@pytest.mark.parametrize("index", range(len(EVENTS)))
def test_scanners_agree_on_every_dress(index: int) -> None:
    event = EVENTS[index][1]
    expected = oracle.parse(compact(event))
    for seed in range(150):
        text = scrambled(event, random.Random(seed)).encode()
        assert parse(text) == expected, f"seed {seed}: {text!r}"


@given(st.permutations(list(BBO)), st.permutations(list(DEPTH)))
def test_key_permutations(bbo_keys: list[str], depth_keys: list[str]) -> None:
    for event, keys in ((BBO, bbo_keys), (DEPTH, depth_keys)):
        text = compact({key: event[key] for key in keys})
        assert parse(text) == parse(compact(event))
        assert scanner(text) == ("canonical" if list(keys) == list(event) else "tolerant")


amounts = st.integers(0, (1 << 127) - 1)
times = st.integers(0, (1 << 63) - 1)
level_lists = st.lists(st.tuples(amounts, amounts), max_size=6)


@given(times, times, times, st.integers(0, (1 << 32) - 1), level_lists, level_lists)
def test_depth_equals_json_plus_int(
    last: int, low: int, high: int, product: int, bids: list[tuple[int, int]], asks: list[tuple[int, int]]
) -> None:
    message = dict(DEPTH, last_max_timestamp=str(last), min_timestamp=str(low), max_timestamp=str(high))
    message |= {"product_id": product, "bids": [[str(p), str(q)] for p, q in bids]}
    message["asks"] = [[str(p), str(q)] for p, q in asks]
    event = parse(compact(message))
    assert isinstance(event, BookDepthEvent)
    assert event == BookDepthEvent(product, last, low, high, tuple(bids), tuple(asks))
    assert scanner(compact(message)) == "canonical"


@given(times, st.integers(0, (1 << 32) - 1), st.tuples(amounts, amounts, amounts, amounts))
def test_bbo_equals_json_plus_int(time: int, product: int, numbers: tuple[int, int, int, int]) -> None:
    keys = ("bid_price", "bid_qty", "ask_price", "ask_qty")
    fields = {key: str(number) for key, number in zip(keys, numbers, strict=True)}
    message = {"type": "best_bid_offer", "timestamp": str(time), "product_id": product, **fields}
    assert parse(compact(message)) == BBOEvent(product, time, *numbers)
    assert scanner(compact(message)) == "canonical"


@pytest.mark.parametrize("product_id", ["04", "00", "", "-4", "4294967296", "12345678901", "4.0", "4e0"])
def test_a_product_id_that_json_or_32_bits_do_not_allow(product_id: str) -> None:
    for event in (BBO, DEPTH):
        text = compact(event | {"product_id": 4}).replace(
            b'"product_id":4', b'"product_id":' + product_id.encode()
        )
        with pytest.raises(ParseError):
            parse(text)


@pytest.mark.parametrize("digits", [1, 7, 8, 9, 15, 16, 17, 19, 20, 23, 24, 25, 31, 32, 33, 38])
def test_numbers_of_every_length_wherever_they_stand(digits: int) -> None:
    """Also where fewer bytes follow than the scanner looks at together."""
    rng = random.Random(digits)
    low, high = 10 ** (digits - 1), 10**digits - 1
    for quantities in ([rng.randint(low, high)], [5, rng.randint(low, high)], [rng.randint(low, high), 0]):
        levels = [[str(rng.randint(low, high)), str(qty)] for qty in quantities]
        for bids, asks in ((levels, []), ([], levels), (levels, levels)):
            text = compact(DEPTH | {"bids": bids, "asks": asks})
            assert parse(text) == oracle.parse(text)
            assert scanner(text) == "canonical"
            for at in range(text.index(b"bids"), len(text)):
                damaged = text[:at] + (b"x" if text[at : at + 1] == b":" else b":") + text[at + 1 :]
                with pytest.raises(ParseError):
                    parse(damaged)


@pytest.mark.parametrize("half", [rb'"\ud800"', b'"\xed\xa0\x80"'])
def test_half_a_surrogate_pair_is_no_number(half: bytes) -> None:
    """JSON readers take it; what has no UTF-8 cannot be encoded, and that must not cost the link."""
    for text in (
        b'{"type":"all_bbo","time":1,"bbos":{%b:{"bid":"1","ask":"2"}}}' % half,
        b'{"type":"all_bbo","time":1,"bbos":{"4":{"bid":%b,"ask":"2"}}}' % half,
        b'{"type":"liquidation","product_ids":[%b],"timestamp":"1"}' % half,
        b'{"id":1,"error":"no","error_code":%b}' % half,
    ):
        with pytest.raises(ParseError):
            parse(text)


def accepted_by_oracle(data: bytes) -> Any:
    try:
        return oracle.parse(data)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


@settings(max_examples=600)
@given(st.sampled_from(EVENTS + REPLIES[:20]), st.data())
def test_mutated_samples_never_crash(sample: tuple[str, dict[str, Any]], data: st.DataObject) -> None:
    text = bytearray(compact(sample[1]))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(text) - 1))
        kind = data.draw(st.sampled_from(["set", "drop", "insert", "cut"]))
        byte = data.draw(st.sampled_from(b'{}[]",:\\ -0123456789.eEtfnu\x00\x1f\x80\xff'))
        if kind == "set":
            text[at] = byte
        elif kind == "insert":
            text.insert(at, byte)
        elif kind == "drop" and len(text) > 1:
            del text[at]
        elif kind == "cut" and at:
            del text[at:]
    try:
        event = parse(bytes(text))
    except ParseError as error:
        assert 0 <= error.offset <= len(text)  # noqa: PT017
        return
    try:
        bytes(text).decode()
    except UnicodeDecodeError:
        return  # bytes of fields that nobody reads are not decoded
    expected = accepted_by_oracle(bytes(text))
    assert expected is not None, "read what json cannot read"
    assert event == expected


@given(st.binary(max_size=200))
def test_any_bytes_give_an_event_or_a_parse_error(data: bytes) -> None:
    for text in (data, b'{"type":"best_bid_offer"' + data, b'{"type":"book_depth"' + data + b"}"):
        try:
            parse(text)
        except ParseError as error:
            assert 0 <= error.offset <= len(text)  # noqa: PT017


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"bid_price": "170141183460469231731687303715884105728"}, "128"),
        ({"bid_price": "1" * 40}, "128"),
        ({"bid_price": "-1"}, "negative"),
        ({"bid_price": 1.5}, "integer"),
        ({"bid_price": "1e5"}, "integer"),
        ({"bid_price": [1]}, "integer"),
        ({"bid_price": True}, "integer"),
        ({"bid_price": None}, "bid_price is missing"),
        ({"timestamp": str(1 << 63)}, "range"),
        ({"product_id": 1 << 32}, "range"),
        ({"product_id": None}, "product_id is missing"),
        ({"type": None}, "neither"),
        ({"type": 7}, "neither"),
    ],
)
def test_wrong_fields_are_named(change: dict[str, Any], where: str) -> None:
    with pytest.raises(ParseError, match=where):
        parse(compact(BBO | change))


@pytest.mark.parametrize(
    "levels",
    [
        "x",
        {},
        [1],
        [[]],
        [["1"]],
        [["1", "2", "3"]],
        [["1", "-2"]],
        [["-1", "2"]],
        [["1", None]],
        [[["1"], "2"]],
        [["1", "2"], ["1"]],
        None,
    ],
)
@pytest.mark.parametrize("side", ["bids", "asks"])
def test_bad_levels(levels: object, side: str) -> None:
    with pytest.raises(ParseError):
        parse(compact(DEPTH | {side: levels}))


@pytest.mark.parametrize("kind", sorted(oracle.KINDS))
def test_each_required_field_is_required(kind: str) -> None:
    event = next(event for _, event in EVENTS if event["type"] == kind)
    optional = {"type", "id", "dt", "filled_price"} | ({"filled_qty"} if kind == "order_update" else set())
    for key in set(event) - optional:
        for broken in ({k: v for k, v in event.items() if k != key}, event | {key: None}):
            with pytest.raises(ParseError, match=key):
                parse(compact(broken))


def test_integers_as_numbers_beyond_64_bits() -> None:
    event = parse(compact(BBO | {"ask_price": (1 << 127) - 1, "bid_qty": 10**30}))
    assert isinstance(event, BBOEvent)
    assert not event.has_ask
    assert event.bid_qty_x18 == 10**30


def test_identities_are_lower_case_and_optional_fields_optional() -> None:
    upper = {key: FILL[key].upper().replace("0X", "0x") for key in ("subaccount", "order_digest")}
    event = parse(compact(FILL | upper))
    assert isinstance(event, FillEvent)
    assert event == parse(compact(FILL))
    assert parse(compact({k: v for k, v in FILL.items() if k != "id"})).id is None  # type: ignore[union-attr]
    assert event.appendix == 1537
    wide = parse(compact(FILL | {"appendix": str((1 << 128) - 1)}))
    assert isinstance(wide, FillEvent)
    assert wide.appendix == (1 << 128) - 1
    with pytest.raises(ParseError):
        parse(compact(FILL | {"appendix": str(1 << 128)}))


def test_order_update_amount_is_absolute() -> None:
    event = next(event for _, event in EVENTS if event["type"] == "order_update")
    parsed = parse(compact(event | {"amount": "-" + event["amount"]}))
    assert isinstance(parsed, OrderUpdateEvent)
    assert parsed.amount_x18 == int(event["amount"])


def test_units_by_magnitude() -> None:
    candle = next(event for _, event in EVENTS if event["type"] == "latest_candlestick")
    payment = next(event for _, event in EVENTS if event["type"] == "funding_payment")
    for scale in (1, 1000, 10**9):
        assert parse(compact(candle | {"timestamp": 1789999980 * scale})).timestamp_s == 1789999980  # type: ignore[union-attr]
        assert (
            parse(compact(payment | {"timestamp": 1790002800 * scale})).timestamp_ns  # type: ignore[union-attr]
            == 1790002800 * 10**9
        )


def test_unknown_kind_keeps_its_bytes() -> None:
    text = b'{"type":"auction","price":"1"}'
    assert parse(text) == UnknownEvent("auction", text)


def test_a_kind_with_escapes_is_still_that_kind() -> None:
    text = (
        compact(BBO)
        .replace(b'"best_bid_offer"', b'"best\\u005fbid_offer"')
        .replace(b'"type"', b'"t\\u0079pe"')
    )
    assert parse(text) == parse(compact(BBO))


def test_type_decides_before_id() -> None:
    assert isinstance(parse(compact(FILL | {"id": 5, "result": None})), FillEvent)


def test_repeated_key_means_the_last_one() -> None:
    text = compact(BBO)[:-1] + b',"bid_qty":"77"}'
    event = parse(text)
    assert isinstance(event, BBOEvent)
    assert event.bid_qty_x18 == 77


def test_nesting_is_bounded() -> None:
    assert parse(b'{"result":' + b"[" * 20 + b"]" * 20 + b"}")
    for deep in (b"[" * 5000, b'{"a":' * 5000, b"[" * 5000 + b"]" * 5000):
        with pytest.raises(ParseError, match="deep"):
            parse(b'{"result":' + deep + b"}")


def test_other_buffers() -> None:
    text = compact(DEPTH)
    expected = parse(text)
    assert parse(bytearray(text)) == parse(memoryview(text)) == parse(text.decode()) == expected
    assert parse(memoryview(b"xx" + text + b"yy")[2:-2]) == expected
    held = bytearray(text)
    parse(held)
    held.extend(b"not locked")
    with pytest.raises(ParseError):
        parse("\ud800")
    for wrong in (None, 5, memoryview(text)[::2], ["x"]):
        with pytest.raises(TypeError):
            parse(wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("text", [b"\xff", b"\xed\xa0\x80", b"\xc3"])
def test_strings_must_be_utf8(text: bytes) -> None:
    fill = compact(FILL).replace(FILL["order_digest"].encode(), text)
    with pytest.raises(ParseError, match="UTF-8"):
        parse(fill)
    with pytest.raises(ParseError):
        parse(b'{"result":"' + text + b'"}')


@pytest.mark.parametrize(
    "text",
    [
        b"{}",
        b"[]",
        b"null",
        b'"x"',
        b"{,}",
        b'{"type":"fill",}',
        b'{"type" "fill"}',
        b'{"type":"fill"}}',
        b'{"type":"fill"} x',
        b'{"id":5}',
        b'{"status":5}',
        b"{'type':'fill'}",
        b'{"a":01,"result":1}',
        b'{"a":+1,"result":1}',
        b'{"a":.5,"result":1}',
        b'{"a":1.,"result":1}',
        b'{"a":1e,"result":1}',
        b'{"a":-,"result":1}',
        b'{"a":tru,"result":1}',
        b'{"a":nul',
        b'{"a":"\\x","result":1}',
        b'{"a":"\\u12g4","result":1}',
        b'{"a":"\n","result":1}',
        b'{"result":1',
    ],
)
def test_not_a_message(text: bytes) -> None:
    with pytest.raises(ParseError):
        parse(text)
