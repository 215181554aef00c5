"""By which way an order leaves: the concurrent socket, the serial ones while it is refused, then HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from clientkit import Venue, until
from quickest import quickest

from nadofast import NadoConnectionMode, OrderGateway, OrderRequest, OrderType, Outcome, OutcomeKind, to_x18

ETH, SOL = 4, 8


async def resting(venue: Venue, product_id: int = ETH, **fields: object) -> OrderRequest:
    """A buy far below the market."""
    bid = (await venue.rest.market_liquidity(product_id, depth=1)).bids[0][0]
    product = venue.products[product_id]
    size = to_x18("0.1") if product_id == ETH else to_x18("2")
    price = product.round_price(bid * 97 // 100, "down")
    return OrderRequest(product_id, price, size, OrderType.POST_ONLY, **fields)  # type: ignore[arg-type]


async def crossing(venue: Venue, product_id: int = ETH) -> OrderRequest:
    ask = (await venue.rest.market_liquidity(product_id, depth=1)).asks[0][0]
    product = venue.products[product_id]
    size = to_x18("0.1") if product_id == ETH else to_x18("2")
    return OrderRequest(product_id, product.round_price(ask * 101 // 100, "up"), size, OrderType.IOC)


async def digests_seen(venue: Venue) -> list[str]:
    """Digests of all orders the exchange took, in the order it did."""
    executes = (await venue.state())["executes"]
    return [d for e in executes if e["error_code"] is None for d in e["digests"]]


def paths(outcomes: Sequence[Outcome]) -> list[str]:
    assert [outcome.kind for outcome in outcomes] == [OutcomeKind.CONFIRMED] * len(outcomes)
    return [outcome.path for outcome in outcomes]


async def test_refused_v2_gives_each_leg_a_serial_socket_and_the_rest_http(venue: Venue) -> None:
    await venue.faults(v2_refused=True)
    async with venue.gateway() as gateway:
        await until(lambda: gateway.path == "ws_v1", "a serial socket is up")
        legs = [await crossing(venue, ETH), await crossing(venue, SOL)]
        await until(lambda: all(lane.link.is_live for lane in gateway._delivery.lanes.serial), "both are up")
        both: list[Outcome] = []

        async def place_both() -> float:
            placed = await gateway.place_many(legs)
            assert paths(placed) == ["ws_v1", "ws_v1"]
            both.extend(placed)
            return (max(o.replied_ns for o in placed) - placed[0].sent_ns) / 1e9

        # Each leg had its own socket: neither waited out the other's hold of 30 ms.
        await quickest(place_both, 0.06)
        order = await resting(venue)
        crowd = await gateway.place_many([order] * 6)
        assert sorted(paths(crowd)) == ["rest"] * 4 + ["ws_v1"] * 2
        assert gateway.mode is NadoConnectionMode.WEBSOCKET
        assert gateway.stats()["serial_fallbacks"] == 1
    assert sorted(await digests_seen(venue)) == sorted(o.digest for o in (*both, *crowd))


async def test_orders_return_to_v2_and_the_serial_sockets_close(venue: Venue) -> None:
    await venue.faults(v2_refused=True)
    async with venue.gateway() as gateway:
        await until(lambda: gateway.path == "ws_v1", "a serial socket is up")
        await venue.faults(v2_refused=False)
        await until(lambda: gateway.path == "ws", "the concurrent socket is back")
        serial = gateway._delivery.lanes.serial
        await until(lambda: not any(lane.link.is_connected for lane in serial), "the serial ones are closed")
        assert paths([await gateway.place(await resting(venue))]) == ["ws"]
        await venue.faults(v2_refused=True, cut="gateway")
        await until(lambda: gateway.path == "ws_v1", "and open again when it is gone")
        assert paths([await gateway.place(await resting(venue))]) == ["ws_v1"]


async def test_a_silent_serial_socket_is_cut_and_the_same_bytes_go_over_http(venue: Venue) -> None:
    await venue.faults(v2_refused=True)
    async with venue.gateway(reply_timeout_s=0.2) as gateway:
        await until(lambda: gateway.path == "ws_v1", "a serial socket is up")
        await venue.faults(lose_reply={"scope": "gateway"})
        request = await resting(venue)
        lost = await gateway.place(request)
        assert lost.is_confirmed, lost
        assert gateway.stats()["rest_resends"] == 1
        again = await gateway.place(request)  # never behind the one that had no answer
        assert again.is_confirmed
    assert await digests_seen(venue) == [lost.digest, again.digest]


async def test_without_any_socket_orders_go_over_http(venue: Venue) -> None:
    await venue.faults(socket_refused=True)
    async with venue.gateway() as gateway:
        assert (gateway.path, gateway.mode) == ("rest", NadoConnectionMode.REST)
        assert paths([await gateway.place(await resting(venue))]) == ["rest"]


async def test_hundreds_in_flight_answered_out_of_order(venue: Venue) -> None:
    async with venue.gateway(reply_timeout_s=8.0) as gateway:
        # On a busy machine 200 answers take longer than half of an entry's usual discard time.
        request = replace(await resting(venue), discard_after_ms=20_000)
        await venue.faults(
            out_of_order={"probability": 0.5, "ms": 50}, delay_request={"ms": 0, "jitter_ms": 30}
        )
        outcomes = await asyncio.gather(*(gateway.place(request) for _ in range(200)))
        assert set(paths(outcomes)) == {"ws"}
        assert len({outcome.digest for outcome in outcomes}) == 200
        assert gateway.stats()["orphan_replies"] == 0
    assert sorted(await digests_seen(venue)) == sorted(outcome.digest for outcome in outcomes)


async def replaced(
    gateway: OrderGateway, venue: Venue, old: Outcome, required_x18: int | None
) -> tuple[Outcome, OrderRequest]:
    request = await resting(venue)
    return await gateway.cancel_and_place(ETH, old.digest, request, required_x18), request


async def test_replacing_demands_the_unfilled_amount(venue: Venue) -> None:
    """A fill in between refuses the new order; both records then say what the exchange says."""
    async with venue.feed() as feed, venue.gateway() as gateway:
        await feed.wait_synced(10)
        first = await gateway.place(await resting(venue))
        second, request = await replaced(gateway, venue, first, to_x18("0.1"))
        assert second.is_confirmed
        old = venue.tracker.get(first.digest)
        assert old is not None
        assert old.is_settled
        assert old.known_filled_x18 == 0
        gone, _ = await replaced(gateway, venue, first, to_x18("0.1"))
        assert (gone.kind, gone.error_code) == (OutcomeKind.REJECTED, 2121)
        book = await venue.rest.subaccount_orders(venue.subaccount, ETH)
        assert [(o.digest, o.unfilled_x18) for o in book] == [(second.digest, request.amount_x18)]
