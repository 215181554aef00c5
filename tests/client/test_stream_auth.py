"""Signing a subscription socket in, over the real wire."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from clientkit import FAST_LINK, Venue

from nadofast import NadoConnectionManager, OrderRequest, OrderType, Signer, parse, to_x18, wire
from nadofast._feed import TextListener
from nadofast.control import ControlChannel
from nadofast.errors import ConfigError, ExchangeError, RequestTimeout
from nadofast.events import ControlReply, OrderUpdateEvent
from nadofast.signing import NadoWebSocketAuth


@dataclass
class Socket:
    """A subscription socket without a feed: requests, and the order updates that come."""

    link: NadoConnectionManager
    control: ControlChannel
    updates: asyncio.Queue[OrderUpdateEvent]


@asynccontextmanager
async def open_socket(venue: Venue) -> AsyncIterator[Socket]:
    updates: asyncio.Queue[OrderUpdateEvent] = asyncio.Queue(64)

    def on_text(message: bytes) -> None:
        event = parse(message)
        if isinstance(event, ControlReply):
            control.on_reply(event)
        elif isinstance(event, OrderUpdateEvent):
            updates.put_nowait(event)

    link = NadoConnectionManager(
        venue.network.subscribe,
        lambda gone: TextListener(on_text, on_disconnected=gone),
        name="one",
        config=FAST_LINK,
    )
    control = ControlChannel(link.send, 0.5)
    try:
        await link.ensure_connected(5)
        yield Socket(link, control, updates)
    finally:
        await link.stop()


async def sync(venue: Venue) -> None:
    await venue.rest.sync_time(venue.timesync, 3)


async def subscribe_to_updates(venue: Venue, socket: Socket) -> None:
    stream = {"type": wire.ORDER_UPDATE, "subaccount": venue.subaccount, "product_id": None}
    await socket.control.request(lambda number: wire.subscribe(stream, number), "subscribe")


async def test_an_accepted_signature_opens_the_private_streams(venue: Venue) -> None:
    await sync(venue)
    auth = NadoWebSocketAuth(venue.signer)
    async with open_socket(venue) as socket:
        with pytest.raises(ExchangeError):
            await subscribe_to_updates(venue, socket)
        assert not auth.is_authenticated
        await auth.authenticate_connection(socket.control, venue.timesync.exchange_now_ms)
        assert auth.is_authenticated
        await subscribe_to_updates(venue, socket)
        bids = (await venue.rest.market_liquidity(4, depth=1)).bids
        price_x18 = venue.products[4].round_price(bids[0][0] * 9 // 10, "down")
        async with venue.gateway() as gateway:
            outcome = await gateway.place(OrderRequest(4, price_x18, to_x18("0.1"), OrderType.POST_ONLY))
            update = await asyncio.wait_for(socket.updates.get(), 5)
            assert (update.digest, update.reason) == (outcome.digest, "placed")


async def test_a_refused_signature_is_an_error_and_leaves_it_unauthenticated(venue: Venue) -> None:
    await sync(venue)
    other = Signer("0x" + "77" * 32, chain_id=venue.network.chain_id, endpoint_address="0x" + "ee" * 20)
    auth = NadoWebSocketAuth(other)  # the domain of another contract: its signatures are somebody else's
    async with open_socket(venue) as socket:
        with pytest.raises(ExchangeError):
            await auth.authenticate_connection(socket.control, venue.timesync.exchange_now_ms)
        assert not auth.is_authenticated


async def test_no_answer_is_no_authentication(venue: Venue) -> None:
    await sync(venue)
    auth = NadoWebSocketAuth(venue.signer)
    silent = ControlChannel(lambda message: None, 0.05)
    with pytest.raises(RequestTimeout):
        await auth.authenticate_connection(silent, venue.timesync.exchange_now_ms)
    assert not auth.is_authenticated


def test_the_message_is_the_documented_one(vectors: dict[str, Any]) -> None:
    endpoint = vectors["chains"][0]["endpoint_address"]
    signer = Signer(vectors["keys"][0]["private_key"], chain_id=57073, endpoint_address=endpoint)
    auth = NadoWebSocketAuth(signer, valid_ms=90_000)
    message = auth.create_stream_auth_message(1_790_000_000_000, 0)
    assert message == vectors["wire_examples"]["authenticate"]
    assert json.loads(auth.message(0, 1_790_000_000_000)) == message
    assert auth.sign_eip712(message["tx"]) == message["signature"]


def test_only_the_own_wallet_and_at_most_100_s_are_signed_for(vectors: dict[str, Any]) -> None:
    signer = Signer(vectors["keys"][0]["private_key"], chain_id=1, endpoint_address="0x" + "00" * 20)
    auth = NadoWebSocketAuth(signer)
    with pytest.raises(ConfigError, match="does not belong"):
        auth.sign_eip712({"sender": "0x" + "12" * 32, "expiration": "1"})
    for wrong in (0, 100_001):
        with pytest.raises(ConfigError, match="valid_ms"):
            NadoWebSocketAuth(signer, valid_ms=wrong)
    shown = repr(auth) + repr(vars(auth))
    assert vectors["keys"][0]["private_key"][2:] not in shown
