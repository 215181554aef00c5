"""Where a request goes in the turns nobody waits for: a socket that refuses, a caller that leaves at once."""

from __future__ import annotations

import asyncio
import gc
import json
from collections.abc import Sequence
from dataclasses import replace

import pytest
from clientkit import until
from rudekit import ORDER, Script, gateway, scripted
from test_doubt import placed

from nadofast import OrderState, OutcomeKind, Rest, errors
from nadofast.rest import RestConfig


async def test_a_socket_that_refuses_to_write_costs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    script = Script(execute=placed)

    def refuse(_: list[bytes]) -> None:
        raise errors.ConnectionLost("gone in this very turn")

    async with gateway(script) as client:
        await until(lambda: client.path == "ws", "the socket is up")
        monkeypatch.setattr(client.link, "send_all", refuse)
        outcome = await client.place(ORDER)
        assert (outcome.is_confirmed, outcome.path) == (True, "rest")
        stats = client.stats()
        assert (stats["ws_requests"], stats["rest_requests"], stats["in_flight"]) == (0, 1, 0)
    assert script.over_socket == []


async def test_no_collection_of_the_heap_begins_between_a_decision_and_its_bytes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And whoever had switched it off finds it off."""
    may_collect: list[bool] = []
    async with gateway(Script(socket=placed)) as client:
        await until(lambda: client.path == "ws", "the socket is up")
        send_all = client.link.send_all

        def watched(messages: Sequence[bytes]) -> None:
            may_collect.append(gc.isenabled())
            send_all(messages)

        monkeypatch.setattr(client.link, "send_all", watched)
        assert gc.isenabled()
        assert (await client.place(ORDER)).is_confirmed
        assert gc.isenabled()
        assert (await client.place(replace(ORDER, amount_x18=0))).kind is OutcomeKind.DENIED
        assert gc.isenabled()
        gc.disable()
        try:
            assert (await client.place(ORDER)).is_confirmed
            assert not gc.isenabled()
        finally:
            gc.enable()
    assert may_collect == [False, False]


async def test_orders_abandoned_in_the_turn_they_left_are_in_doubt() -> None:
    async with gateway(Script()) as client:
        await until(lambda: client.path == "ws", "the socket is up")
        placing = asyncio.ensure_future(client.place_many([ORDER, ORDER]))
        await asyncio.sleep(0)  # one turn: written, and nobody waits yet
        assert client.stats()["in_flight"] == 2
        placing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await placing
        assert client.stats()["in_flight"] == 0
        assert [order.state for order in client.tracker.live()] == [OrderState.UNKNOWN] * 2


async def test_orders_abandoned_before_they_left_over_http_are_no_open_question() -> None:
    script = Script(execute=placed)
    async with gateway(script) as client:
        client.lanes.is_held = True
        placing = asyncio.ensure_future(client.place_many([ORDER, ORDER]))
        await asyncio.sleep(0)  # one turn: on the way to HTTP, and no byte has left
        orders = client.tracker.live()
        placing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await placing
        assert [order.state for order in orders] == [OrderState.DENIED] * 2
        assert client.tracker.live() == []
    assert script.executed == []


async def test_what_waits_for_a_connection_when_http_stops_is_lost_and_not_cancelled() -> None:
    """The connector cancels it, which must not look as if the caller had left."""
    async with scripted(Script()) as network:
        async with Rest(network, config=RestConfig(max_connections=1)) as rest:
            asking = [asyncio.ensure_future(rest.execute(b"{}")) for _ in range(3)]
            await until(lambda: rest._session.connector._waiters, "two of them wait")  # type: ignore[union-attr]
            asking[2].cancel()
            await asyncio.wait(asking[2:])
        await asyncio.wait(asking, timeout=5)
    assert asking[2].cancelled()
    assert [type(task.exception()) for task in asking[:2]] == [errors.ConnectionLost] * 2


async def test_an_answer_that_comes_as_the_caller_leaves_is_kept() -> None:
    script = Script()
    async with gateway(script) as client:
        await until(lambda: client.path == "ws", "the socket is up")
        placing = asyncio.ensure_future(client.place(ORDER))
        await until(lambda: script.over_socket, "sent")
        client._delivery._on_text(
            client._delivery.lanes.concurrent, json.dumps(placed(script.over_socket[0])).encode()
        )
        placing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await placing
        (order,) = client.tracker.live()
        assert order.state is OrderState.OPEN
