"""Answers find their request by id, by signature, by digest, in any order, and late."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from nadofast import LinkConfig
from nadofast.errors import ConnectionLost
from nadofast.inflight import MAX_LATE, Flight, InFlight, Prepared
from nadofast.lanes import Lane


def lane(*, is_serial: bool) -> Lane:
    return Lane(
        "ws://127.0.0.1", name="x", path="ws", is_serial=is_serial, on_text=lambda *_: None,
        on_lost=lambda *_: None, on_live=lambda: None, config=LinkConfig(),
    )  # fmt: skip


LANE = lane(is_serial=False)


async def flight(number: int, request_id: int) -> Flight:
    future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    request = Prepared(request_id, b"", f"0xs{number}", f"0xd{number}", number, is_order=True)
    return Flight(request, number, future, LANE)


@pytest.fixture
async def three() -> tuple[InFlight, list[Flight]]:
    table = InFlight()
    flights = [await flight(1, 7), await flight(2, 7), await flight(3, 9)]
    for item in flights:
        table.add(item)
    return table, flights


@pytest.mark.parametrize(
    ("envelope", "index"),
    [
        ({"id": 9}, 2),
        ({"id": 9, "signature": "0xS3"}, 2),
        ({"id": 7, "signature": "0xs2"}, 1),
        ({"signature": "0xs1"}, 0),
        ({"id": 9, "signature": "0xs1"}, 0),
        ({"data": {"digest": "0xD2"}}, 1),
        ({"id": 7, "data": {"digest": "0xd1"}}, 0),
        ({"id": 1234, "signature": "0xs3"}, 2),
        ({"id": 9, "signature": "0xother"}, None),
        ({"id": 9, "data": {"digest": "0xother"}}, None),
        ({"id": True}, None),
        ({"id": 7}, None),
        ({"id": 1234}, None),
        ({"data": None}, None),
        ({}, None),
    ],
)
async def test_matching(
    three: tuple[InFlight, list[Flight]], envelope: dict[str, Any], index: int | None
) -> None:
    table, flights = three
    assert table.match(envelope, LANE) is (None if index is None else flights[index])
    assert table.orphans == (index is None)


async def test_a_request_given_up_is_still_recognised(three: tuple[InFlight, list[Flight]]) -> None:
    table, flights = three
    table.remove(flights[0])
    assert len(table) == 2
    assert table.match({"signature": "0xs1"}, LANE) is flights[0]
    assert not table.is_open(flights[0])
    flights[1].answer.set_result({})
    table.remove(flights[1])
    assert table.match({"signature": "0xs2"}, LANE) is None
    assert flights[0].loss == "no answer in time"


async def test_a_lost_socket_drains_everything(three: tuple[InFlight, list[Flight]]) -> None:
    table, flights = three
    assert table.drain(LANE) == flights
    assert len(table) == 0
    flights[0].answer.set_exception(ConnectionLost("cut"))
    assert flights[0].loss == "cut"
    assert not flights[0].is_answered
    assert table.match({"id": 9}, LANE) is flights[2]


async def test_what_is_remembered_is_bounded() -> None:
    table = InFlight()
    for number in range(MAX_LATE + 50):
        item = await flight(number, number)
        table.add(item)
        table.remove(item)
    assert table.match({"signature": "0xs10"}, LANE) is None
    assert table.match({"signature": f"0xs{MAX_LATE + 49}"}, LANE) is not None


async def test_an_id_shared_with_a_request_given_up_names_nobody(
    three: tuple[InFlight, list[Flight]],
) -> None:
    table, flights = three
    table.remove(flights[2])
    table.add(again := await flight(4, 9))
    assert table.match({"id": 9}, LANE) is None
    assert table.match({"id": 9, "signature": "0xs4"}, LANE) is again


async def test_withdrawn_by_digest_or_by_product(three: tuple[InFlight, list[Flight]]) -> None:
    table, flights = three
    table.withdraw("0xd2")
    assert [item.is_withdrawn for item in flights] == [False, True, False]
    table.withdraw_products([3, 99])
    assert [item.is_withdrawn for item in flights] == [False, True, True]
    table.withdraw_products([])
    assert all(item.is_withdrawn for item in flights)


async def test_a_serial_socket_answers_in_order_and_alone() -> None:
    """An answer that names nothing belongs to the one request of its socket; on the other one to nobody."""
    table, serial = InFlight(), lane(is_serial=True)
    request = Prepared(1, b"", "0xaa", "0xdd", 4, is_order=True)
    open_ = Flight(request, 1, asyncio.get_running_loop().create_future(), serial)
    table.add(open_)
    refusal = {"status": "failure", "error_code": 1000}
    assert table.match(refusal, LANE) is None
    assert table.match({**refusal, "signature": "0xbb"}, serial) is None
    assert table.match(refusal, serial) is open_
    assert table.drain(LANE) == []
    assert table.drain(serial) == [open_]
