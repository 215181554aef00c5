"""Answers find their request by id, by signature, by digest, in any order, and late."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from nadofast.errors import ConnectionLost
from nadofast.inflight import MAX_LATE, Flight, InFlight


async def flight(number: int, request_id: int) -> Flight:
    future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    return Flight(request_id, f"0xs{number}", f"0xd{number}", number, future)


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
    assert table.match(envelope) is (None if index is None else flights[index])
    assert table.orphans == (index is None)


async def test_a_request_given_up_is_still_recognised(three: tuple[InFlight, list[Flight]]) -> None:
    table, flights = three
    table.remove(flights[0])
    assert len(table) == 2
    assert table.match({"signature": "0xs1"}) is flights[0]
    assert not table.is_open(flights[0])
    flights[1].answer.set_result({})
    table.remove(flights[1])
    assert table.match({"signature": "0xs2"}) is None
    assert flights[0].loss == "no answer in time"


async def test_a_lost_socket_drains_everything(three: tuple[InFlight, list[Flight]]) -> None:
    table, flights = three
    assert table.drain() == flights
    assert len(table) == 0
    flights[0].answer.set_exception(ConnectionLost("cut"))
    assert flights[0].loss == "cut"
    assert not flights[0].is_answered
    assert table.match({"id": 9}) is flights[2]


async def test_what_is_remembered_is_bounded() -> None:
    table = InFlight()
    for number in range(MAX_LATE + 50):
        item = await flight(number, number)
        table.add(item)
        table.remove(item)
    assert table.match({"signature": "0xs10"}) is None
    assert table.match({"signature": f"0xs{MAX_LATE + 49}"}) is not None
