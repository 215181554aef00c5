"""Sockets first, HTTP behind them, and the other way round when told: nothing is lost in either switch."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from clientkit import Venue, until
from rudekit import NOT_FOUND, ORDER, Script
from rudekit import gateway as scripted_gateway

from nadofast import (
    NadoConnectionMode,
    OrderGateway,
    OrderRequest,
    OrderState,
    OrderType,
    TrackedOrder,
    connection_mode,
    to_x18,
)
from nadofast.errors import RequestTimeout

ETH = 4


async def resting(venue: Venue) -> OrderRequest:
    bid = (await venue.rest.market_liquidity(ETH, depth=1)).bids[0][0]
    price = venue.products[ETH].round_price(bid * 97 // 100, "down")
    return OrderRequest(ETH, price, to_x18("0.1"), OrderType.POST_ONLY)


async def test_told_to_use_http_and_back(venue: Venue) -> None:
    async with venue.gateway() as gateway:
        modes = NadoConnectionMode(gateway)
        request = await resting(venue)
        assert modes.get_current_mode() is NadoConnectionMode.WEBSOCKET
        assert (await gateway.place(request)).path == "ws"
        await modes.switch_to_rest()
        await modes.switch_to_rest()
        assert modes.get_current_mode() is NadoConnectionMode.REST
        assert (await gateway.place(request)).path == "rest"
        assert gateway.link.is_live  # kept warm for the way back
        await modes.switch_to_websocket()
        assert modes.get_current_mode() is NadoConnectionMode.WEBSOCKET
        assert (await gateway.place(request)).path == "ws"
        assert modes.switches == 2


async def test_a_switch_waits_for_what_is_under_way_and_no_longer_than_told(venue: Venue) -> None:
    async with venue.gateway(reply_timeout_s=2.0) as gateway:
        modes = NadoConnectionMode(gateway)
        request = await resting(venue)
        await venue.faults(delay_request={"ms": 300})
        placing = asyncio.ensure_future(gateway.place(request))
        await until(lambda: gateway.stats()["ws_requests"] == 1, "sent")
        with pytest.raises(RequestTimeout, match="under way"):
            await modes.switch_to_rest(0.05)
        assert modes.get_current_mode() is NadoConnectionMode.REST
        await modes.switch_to_rest()
        assert placing.done() or gateway.lanes.concurrent.under_way == 0
        assert (await placing).path == "ws"


async def test_back_to_sockets_that_are_not_there(venue: Venue) -> None:
    await venue.faults(socket_refused=True)
    async with venue.gateway() as gateway:
        modes = NadoConnectionMode(gateway)
        await modes.switch_to_rest()
        with pytest.raises(RequestTimeout, match="no order socket"):
            await modes.switch_to_websocket(0.1)
        assert modes.get_current_mode() is NadoConnectionMode.REST
        await venue.faults(socket_refused=False)
        await modes.switch_to_websocket()
        assert modes.get_current_mode() is NadoConnectionMode.WEBSOCKET


async def test_updates_come_over_http_while_there_is_no_stream(venue: Venue) -> None:
    """The order is cancelled by somebody else; nobody here hears of it but by asking."""
    async with venue.gateway() as gateway, venue.gateway() as other:
        modes = NadoConnectionMode(gateway)
        await modes.switch_to_rest()
        placed = await gateway.place(await resting(venue))
        assert (await modes.get_update(1.0)).digest == placed.digest
        other.tracker = type(other.tracker)()
        other._delivery._tracker = other.tracker  # its own records: what it learns stays there
        assert (await other.cancel(ETH, placed.digest)).is_confirmed
        while True:
            update = await modes.get_update(10.0)
            if update.is_terminal:
                break
        assert (update.digest, update.state) == (placed.digest, OrderState.CANCELLED)
        modes.close()
        with pytest.raises(RequestTimeout, match="no news"):
            await modes.get_update(0.01)


def sent(gateway: OrderGateway) -> TrackedOrder:
    """The record of an order that has left, and of which nobody has said anything."""
    (record,) = gateway._preparer.legs([ORDER], gateway._timesync.order_time()).records
    gateway.tracker.adopt(record)
    gateway.tracker.on_sent(record.digest, 1)
    return record


async def test_nobody_is_asked_while_a_socket_would_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    """Silence on the sockets is no reason to ask: only without them is there nobody else to say it."""
    asked: list[Any] = []

    def query(message: Any) -> Any:
        asked.append(message)
        return NOT_FOUND

    monkeypatch.setattr(connection_mode, "POLL_S", 0.01)
    async with scripted_gateway(Script(query=query), config={"min_entry_discard_ms": 5_000}) as gateway:
        modes, record = NadoConnectionMode(gateway), sent(gateway)
        assert (await modes.get_update(1.0)) is record
        with pytest.raises(RequestTimeout, match="no news"):
            await modes.get_update(0.1)
        assert asked == []
        waiting = asyncio.ensure_future(modes.get_update(5.0))
        await asyncio.sleep(0.03)  # several looks have found nothing by now
        gateway.tracker.on_cancelled(record.digest, record.amount_x18)
        assert (await waiting).state is OrderState.CANCELLED
        assert asked == []
        await modes.switch_to_rest()
        assert modes.get_current_mode() is NadoConnectionMode.REST
        sent(gateway)
        await modes.get_update(1.0)
        with pytest.raises(RequestTimeout):
            await modes.get_update(0.1)
        assert asked


async def test_an_order_that_changed_often_is_told_once_as_it_is_now() -> None:
    async with scripted_gateway(Script()) as gateway:
        modes = NadoConnectionMode(gateway)
        first, second = sent(gateway), sent(gateway)
        gateway.tracker.on_resting(first.digest, first.amount_x18 // 2)
        gateway.tracker.on_cancelled(first.digest, first.amount_x18 // 2)
        assert await modes.get_update(1.0) is first  # it changed first
        assert first.state is OrderState.CANCELLED
        assert await modes.get_update(1.0) is second
        with pytest.raises(RequestTimeout):
            await modes.get_update(0.01)
        modes.close()
        gateway.tracker.on_cancelled(second.digest, 0)
        with pytest.raises(RequestTimeout):
            await modes.get_update(0.01)


async def test_news_that_nobody_fetches_take_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_mode, "MAX_CHANGED", 3)
    async with scripted_gateway(Script()) as gateway:
        modes = NadoConnectionMode(gateway)
        orders = [sent(gateway) for _ in range(5)]
        assert modes.missed == 2
        gateway.tracker.on_resting(orders[3].digest, 1)  # waits already
        assert modes.missed == 2
        assert [await modes.get_update(1.0) for _ in range(3)] == orders[2:]
        with pytest.raises(RequestTimeout):
            await modes.get_update(0.01)


async def test_orders_of_a_burst_survive_switches_in_both_directions(venue: Venue) -> None:
    """Each is at the exchange once, by whichever way it went; no switch changes or repeats one."""
    async with venue.gateway() as gateway:
        modes, request = NadoConnectionMode(gateway), await resting(venue)
        placing = []
        for switch in (modes.switch_to_rest, modes.switch_to_websocket, modes.switch_to_rest):
            placing += [asyncio.ensure_future(gateway.place(request)) for _ in range(4)]
            await asyncio.sleep(0)  # they have left
            await switch()
        placing += [asyncio.ensure_future(gateway.place(request)) for _ in range(4)]
        outcomes = await asyncio.gather(*placing)
    assert all(outcome.is_confirmed for outcome in outcomes)
    assert [outcome.path for outcome in outcomes] == ["ws"] * 4 + ["rest"] * 4 + ["ws"] * 4 + ["rest"] * 4
    digests = [outcome.digest for outcome in outcomes]
    taken = [digest for execute in (await venue.state())["executes"] for digest in execute["digests"]]
    assert sorted(taken) == sorted(set(digests)) == sorted(digests)


async def test_an_order_that_never_arrived_is_rejected_by_the_updates() -> None:
    async with scripted_gateway(Script(), config={"min_entry_discard_ms": 100}) as gateway:
        modes = NadoConnectionMode(gateway)
        gateway.lanes.is_held = True
        sent(gateway)
        while (update := await modes.get_update(5.0)).state is not OrderState.REJECTED:
            assert not update.is_terminal
