"""Every REST and archive sample payload becomes its typed result; every stream sample becomes its event."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from clientkit import DATA, sample

from nadofast import errors, models, parse, to_x18, wire
from nadofast.backfill import to_fill
from nadofast.events import FillEvent
from nadofast.outcome import OutcomeKind, judge

READERS: dict[str, Callable[[Any], Any]] = {
    "query_contracts": models.contracts,
    "query_nonces": models.nonces,
    "query_market_price": models.market_price,
    "query_market_liquidity": lambda data: models.snapshot(data, 4),
    "query_all_products": models.perp_products,
    "query_subaccount_info": models.subaccount_info,
    "query_isolated_positions": models.isolated_positions,
    "query_subaccount_orders": models.open_orders,
    "query_order": models.open_order,
    "query_fee_rates": models.fee_rates,
    "execute_cancel_orders": models.cancelled_orders,
    "execute_cancel_product_orders": models.cancelled_orders,
}


def read(name: str) -> Any:
    return models.decode(name, READERS[name], sample(name)["response"]["data"])


@pytest.mark.parametrize("name", sorted(READERS))
def test_every_reader_reads_its_sample(name: str) -> None:
    assert read(name)


def test_values() -> None:
    assert read("query_contracts").chain_id == 57073
    info = read("query_subaccount_info")
    assert info.exists
    assert info.quote_x18 == to_x18(5000)
    assert info.position_x18(4) == to_x18("0.125")
    assert info.position_x18(8) == info.position_x18(999) == 0
    assert info.oracle_x18[4] == to_x18("3021.65")
    assert info.equity_x18 == 4999993478722872287229
    (isolated,) = read("query_isolated_positions")
    assert (isolated.product_id, isolated.amount_x18, isolated.margin_x18) == (4, to_x18("0.5"), to_x18(250))
    assert read("query_fee_rates").taker_x18(4) == 350000000000000
    assert read("query_fee_rates").maker_x18(4) == 100000000000000
    assert read("query_order").unfilled_x18 == to_x18("0.1")
    assert read("query_market_liquidity").bids[0] == (to_x18("3021.4"), to_x18("4.125"))
    assert read("query_all_products")[8].size_increment_x18 == to_x18("0.1")


def test_empty_sides_are_none() -> None:
    prices = sample("query_market_price")
    assert models.market_price(prices["response_empty_ask"]["data"]).ask_x18 is None
    assert models.market_price(prices["response_empty_bid"]["data"]).bid_x18 is None


def test_archive() -> None:
    (order,) = models.archived_orders(sample("archive_orders")["response"])
    assert (order.base_filled_x18, order.fee_x18) == (to_x18("0.125"), 37771277127712771)
    (match,) = models.archived_matches(sample("archive_matches")["response"])
    assert (match.product_id, match.price_x18, match.is_taker) == (4, to_x18("3021.4"), False)
    fill = to_fill(match)
    (stream,) = [parse(json.dumps(event)) for event in sample("stream_fill")["events"][:1]]
    assert isinstance(stream, FillEvent)
    assert fill.key == (match.digest, match.submission_idx)
    assert fill.filled_qty_x18 == to_x18("0.125")
    assert fill.remaining_qty_x18 == 0
    assert fill.is_bid


def test_a_match_without_its_transaction_still_has_product_and_price() -> None:
    response = dict(sample("archive_matches")["response"])
    response["txs"] = []
    (match,) = models.archived_matches(response)
    assert match.product_id == 4
    assert abs(match.price_x18 - to_x18("3021.4")) <= 10


def test_a_match_of_nothing_has_no_price_and_hides_no_other() -> None:
    response = dict(sample("archive_matches")["response"])
    (row,) = response["matches"]
    response |= {"txs": [], "matches": [{**row, "base_filled": "0"}, row]}
    nothing, match = models.decode("archive matches", models.archived_matches, response)
    assert (nothing.base_filled_x18, nothing.price_x18) == (0, 0)
    assert match.base_filled_x18 > 0


@pytest.mark.parametrize(
    ("said", "meant"),
    [(True, True), (False, False), ("true", True), ("false", False), ("no", None), (1, None)],
)
def test_a_flag_in_words_is_not_taken_for_yes(said: Any, meant: bool | None) -> None:
    response = dict(sample("archive_matches")["response"])
    response["matches"] = [row | {"is_taker": said, "isolated": said} for row in response["matches"]]
    if meant is None:
        with pytest.raises(errors.BadResponse, match="neither true nor false"):
            models.decode("archive matches", models.archived_matches, response)
        return
    (match,) = models.archived_matches(response)
    assert (match.is_taker, match.isolated) == (meant, meant)
    data = sample("query_subaccount_info")["response"]["data"] | {"exists": said}
    assert models.subaccount_info(data).exists is meant


@pytest.mark.parametrize("name", sorted(READERS))
def test_every_missing_field_is_a_bad_response(name: str) -> None:
    data = sample(name)["response"]["data"]
    for field in list(data) if isinstance(data, dict) else []:
        broken = {key: value for key, value in data.items() if key != field}
        try:
            models.decode(name, READERS[name], broken)
        except errors.BadResponse:
            continue  # a required one; optional ones read as before
    for broken in (None, 3, "text", [], {"x": 1}):
        with pytest.raises(errors.BadResponse):
            models.decode(name, READERS[name], broken)


@pytest.mark.parametrize(
    ("value", "expected"), [("12", 12), (12, 12), ("-5", -5), ("0", 0), (-(1 << 62), -(1 << 62))]
)
def test_integers_come_as_numbers_or_strings(value: Any, expected: int) -> None:
    assert wire.integer(value) == expected


@pytest.mark.parametrize("value", [1.5, 3e21, True, None, "", "-", "1.0", "0x10", " 1", "--1", "١", [1]])
def test_what_is_no_exact_integer_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match="not an integer"):
        wire.integer(value)


def test_execute_answers_are_judged() -> None:
    place = sample("execute_place_order")
    assert judge(place["response"], is_resend=False).kind is OutcomeKind.CONFIRMED
    for failure in place["failures"]:
        verdict = judge(failure, is_resend=False)
        expected = OutcomeKind.UNKNOWN if failure["error_code"] == 2013 else OutcomeKind.REJECTED
        assert (verdict.kind, verdict.error_code) == (expected, failure["error_code"])
        if failure["error_code"] != 2013:
            # About a second copy, a refusal says nothing of the first.
            assert judge(failure, is_resend=True).kind is OutcomeKind.UNKNOWN
    cancelled = judge(sample("execute_cancel_orders")["response"], is_resend=False).cancelled
    assert [order.unfilled_x18 for order in cancelled] == [to_x18("0.1")]


@pytest.mark.parametrize("envelope", [{}, {"status": "failure"}, {"status": "failure", "error_code": 5000}])
def test_answers_that_settle_nothing(envelope: dict[str, Any]) -> None:
    assert judge(envelope, is_resend=False).kind is OutcomeKind.UNKNOWN


@pytest.mark.parametrize("path", sorted((DATA / "samples").glob("stream_*.json")), ids=lambda path: path.stem)
def test_stream_samples_parse(path: Any) -> None:
    loaded = json.loads(path.read_text())
    for event in loaded.get("events", []):
        if isinstance(event, dict) and "type" in event:
            assert parse(json.dumps(event)) is not None


def test_queries_are_those_of_the_samples() -> None:
    assert sample("query_market_liquidity")["request"] == wire.market_liquidity(4, 5)
    asked = sample("query_order")["request"]
    assert wire.query("order", product_id=4, digest=asked["digest"]) == asked
    asked = sample("archive_orders")["request_by_digest"]
    assert wire.archive_orders(asked["orders"]["digests"]) == asked


def test_weights() -> None:
    assert wire.query_weight(wire.query("status")) == 1
    assert wire.query_weight(wire.query("isolated_positions", subaccount="0x")) == 10
    assert wire.query_weight({"type": "market_prices", "product_ids": [4, 8]}) == 2
    assert wire.query_weight({"type": "orders", "product_ids": [4, 8]}) == 4
    assert wire.query_weight({"type": "something_new"}) == 20
    assert wire.archive_weight(wire.archive_matches(["a"], [4], 50)) == 7
    assert wire.archive_weight(wire.archive_orders(["d"])) == 7  # charged for the default limit of 100
