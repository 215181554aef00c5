"""Sockets first, HTTP behind them, and the other way round when told: nothing is lost in either switch."""

from __future__ import annotations

import asyncio

import pytest
from clientkit import Venue, until
from rudekit import ORDER, Script
from rudekit import gateway as scripted_gateway

from nadofast import NadoConnectionMode, OrderRequest, OrderState, OrderType, to_x18
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


async def test_an_order_that_never_arrived_is_rejected_by_the_updates() -> None:
    async with scripted_gateway(Script(), config={"min_entry_discard_ms": 100}) as gateway:
        modes = NadoConnectionMode(gateway)
        gateway.lanes.is_held = True
        signed = gateway._sign(ORDER)
        gateway.tracker.register(signed)
        gateway.tracker.on_sent(signed.digest, 1)
        while (update := await modes.get_update(5.0)).state is not OrderState.REJECTED:
            assert not update.is_terminal
