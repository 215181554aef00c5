"""One connection with raw messages: its life, its streams, what it does about a break or a slow reader."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from clientkit import DEADLINE_S, FAST_LINK, Venue, until
from rudekit import SIGNER, Script, scripted
from simproc import start_sim
from test_typed_events import take

from nadofast import NadoMessageParser, NadoWebSocketClient, custom, errors, events
from nadofast.authsockets import AUTH_SOCKETS

Message = dict[str, Any]


@asynccontextmanager
async def connected(venue: Venue, **options: Any) -> AsyncIterator[NadoWebSocketClient]:
    async with NadoWebSocketClient(venue.network, config=FAST_LINK, **options) as client:
        yield client


async def read(client: NadoWebSocketClient, enough: Any) -> list[Message]:
    """Messages up to the first for which enough(message) holds."""
    seen = []
    async with asyncio.timeout(DEADLINE_S):
        async for message in client.get_messages():
            seen.append(message)
            if enough(message):
                return seen
    raise AssertionError("the messages ended")


def of_kind(kind: str) -> Any:
    return lambda message: message["type"] == kind


async def test_streams_come_and_go(venue: Venue) -> None:
    parser = NadoMessageParser()
    async with connected(venue) as client:
        await client.subscribe(["best_bid_offer", "trade"], [4, 8])
        await client.subscribe(["trade", "book_depth"], [4])  # what is there already is not asked for again
        assert len(client.subscriptions) == 5
        seen = await read(client, of_kind("trade")) + await read(client, of_kind("book_depth"))
        assert all(parser.validate_message(message) for message in seen)
        assert {message["type"] for message in seen} <= {"best_bid_offer", "trade", "book_depth"}
        await client.unsubscribe(["best_bid_offer", "trade"])
        assert client.subscriptions == ({"type": "book_depth", "product_id": 4},)
        await read(client, of_kind("book_depth"))
        later = await read(client, of_kind("book_depth")) + await read(client, of_kind("book_depth"))
        assert {message["type"] for message in later} == {"book_depth"}
        assert client.is_connected
    assert not client.is_connected
    async with asyncio.timeout(DEADLINE_S):
        assert all([message["type"] == "book_depth" async for message in client.get_messages()]), "and ends"


async def test_after_a_break_it_is_back_with_its_streams(venue: Venue) -> None:
    async with connected(venue, signer=venue.signer) as client:
        await client.subscribe(["order_update", "fill", "trade"], [4])
        await client.subscribe(["position_change"], [4])  # authenticated already
        await venue.faults(cut="subscribe")
        seen = await read(client, lambda message: message.get("what") == "link_up")
        breaks = [(m["what"], bool(m["reason"])) for m in seen if m["type"] == "boundary"]
        assert breaks == [("link_lost", True), ("link_up", True)]
        async with venue.gateway() as gateway:
            await venue.rest.sync_time(venue.timesync, 3)
            await take(venue, gateway, 1)
        fill = NadoMessageParser().parse_fill((await read(client, of_kind("fill")))[-1])
        assert fill.subaccount == venue.subaccount
        await read(client, of_kind("trade"))


async def test_it_connects_again_after_a_disconnect(venue: Venue) -> None:
    client = NadoWebSocketClient(venue.network, config=FAST_LINK)
    await client.connect()
    await client.subscribe(["trade"], [4])
    await client.disconnect()
    with pytest.raises(errors.ConnectionLost):
        await client.subscribe(["trade"], [8])
    await client.connect()
    await read(client, of_kind("trade"))
    await client.disconnect()


async def test_account_streams_need_a_key_that_the_exchange_accepts(venue: Venue) -> None:
    async with connected(venue) as client:
        with pytest.raises(errors.ConfigError, match="need a signer"):
            await client.subscribe(["fill"], [4])
    async with connected(venue, signer=SIGNER) as client:
        with pytest.raises(errors.ExchangeError):
            await client.subscribe(["order_update"], [4])
        assert client.subscriptions == ()
        await client.subscribe(["trade"], [4])
        await read(client, of_kind("trade"))


async def test_its_socket_is_counted_among_those_of_the_wallet(venue: Venue) -> None:
    wallet = f"{venue.network.subscribe} {venue.signer.owner_address}"
    clients = [NadoWebSocketClient(venue.network, signer=venue.signer, config=FAST_LINK) for _ in range(6)]
    try:
        for client in clients[:5]:
            await client.connect()
        assert AUTH_SOCKETS.in_use(wallet) == 5
        with pytest.raises(errors.ConfigError, match="all 5"):
            await clients[5].connect()
    finally:
        for client in clients:
            await client.disconnect()
    assert AUTH_SOCKETS.in_use(wallet) == 0


async def test_streams_that_do_not_exist_are_refused(venue: Venue) -> None:
    async with connected(venue) as client:
        for ask in (client.subscribe(["trades"], [4]), client.unsubscribe(["trades"])):
            with pytest.raises(errors.ConfigError, match="trades"):
                await ask
        with pytest.raises(errors.ExchangeError):
            await client.subscribe(["trade"], [4_000])
        assert client.subscriptions == ()


async def test_a_server_that_is_not_there(venue: Venue) -> None:
    network = custom("nowhere", dict(venue.ready) | {"subscribe": "ws://127.0.0.1:9/v1/subscribe"})
    client = NadoWebSocketClient(network, config=FAST_LINK)
    with pytest.raises(errors.NotConnected, match="no connection"):
        await client.connect(timeout_s=0.1)
    assert not client.is_connected


async def test_a_connect_that_is_cancelled_leaves_nothing_behind(venue: Venue) -> None:
    network = custom("nowhere", dict(venue.ready) | {"subscribe": "ws://127.0.0.1:9/v1/subscribe"})
    client = NadoWebSocketClient(network, config=FAST_LINK)
    connecting = asyncio.ensure_future(client.connect())
    await asyncio.sleep(0.02)
    connecting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await connecting
    assert client.manager._task is None


async def test_a_reader_that_is_too_slow_is_told_and_goes_on(venue: Venue) -> None:
    async with connected(venue, max_waiting=20) as client:
        await client.subscribe(["best_bid_offer"], [4, 8])
        await until(lambda: client.manager.losses, "the connection is replaced")
        messages = client.get_messages()
        assert len([await anext(messages) for _ in range(20)]) == 20
        with pytest.raises(errors.EventOverflow) as caught:
            await anext(messages)
        assert caught.value.lost > 0
        await read(client, of_kind("best_bid_offer"))


def answers(request: Any) -> Any:
    """Noise of every sort, then what was asked for."""
    if request["method"] == "subscribe" and request["stream"]["type"] == "trade":
        return "not JSON"
    return {"result": None, "id": request["id"]}


async def test_noise_is_counted_and_silence_is_an_error() -> None:
    async with scripted(Script(socket=answers)) as network:
        client = NadoWebSocketClient(network, config=FAST_LINK, ack_timeout_s=0.1)
        async with client:
            with pytest.raises(errors.RequestTimeout, match="subscribe trade: not acknowledged"):
                await client.subscribe(["trade"], [4])
            await client.subscribe(["best_bid_offer"], [4])
            for text in ("[1]", '{"id": 1, "result": }', "{}", json.dumps({"method": "gossip"})):
                client._on_text(text.encode())
            assert client.bad_messages >= 4


async def test_a_certificate_nobody_knows_is_refused_and_a_known_one_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with start_sim(seed=11, tls=True) as server:
        network = custom("sim", server.ready)
        assert network.subscribe.startswith("wss://")
        client = NadoWebSocketClient(network, config=FAST_LINK)
        with pytest.raises(errors.NotConnected, match="certificate"):
            await client.connect(timeout_s=1.5)
        trusted = tmp_path / "exchange.pem"
        trusted.write_text(server.ready["certificate"])
        monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
        async with NadoWebSocketClient(network, config=FAST_LINK) as client:
            await client.subscribe(["trade"], [4])
            trade = (await read(client, of_kind("trade")))[-1]
            assert isinstance(NadoMessageParser().parse_message(trade), events.TradeEvent)


async def test_two_who_ask_for_a_stream_at_once_ask_once(venue: Venue) -> None:
    async with connected(venue, signer=venue.signer) as client:
        await asyncio.gather(*(client.subscribe(["fill", "trade"], [4]) for _ in range(3)))
        assert len(client.subscriptions) == 2
        await venue.faults(cut="subscribe")
        await read(client, lambda message: message.get("what") == "link_up")
        await read(client, of_kind("trade"))
