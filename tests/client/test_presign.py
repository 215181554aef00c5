"""Orders signed ahead: used once, for exactly what was decided, never with an earlier or much later end."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from clientkit import FAST_LINK, Venue, until
from hypothesis import given
from hypothesis import strategies as st

from nadofast import GatewayConfig, OrderGateway, OrderRequest, OrderType, OutcomeKind, to_x18
from nadofast.errors import OrderDenied
from nadofast.orders import OrderTracker
from nadofast.preparing import SignedLegs
from nadofast.presign import PAUSE_S, Presigner
from nadofast.signing import Signer, make_nonce, nonce_recv_time_ms

SLACK_MS = 400
NOW_MS = 1_790_000_000_000
SIGNER = Signer("0x" + "1c" * 32, chain_id=1, endpoint_address="0x" + "0d" * 20)
LEG = OrderRequest(4, to_x18(3000), to_x18("0.1"), OrderType.IOC, discard_after_ms=500, client_id=7)


class World:
    """A presigner with a clock that is set by hand."""

    def __init__(self) -> None:
        self.now_ms = NOW_MS
        self.is_clock_known = True
        self.count = 0
        self.presigner = Presigner(self.sign, SLACK_MS)

    def take(self, requests: Any) -> SignedLegs | None:
        return self.presigner.take(requests, self.now_ms)

    def exchange_now_ms(self) -> int:
        if not self.is_clock_known:
            raise OrderDenied("clock_unknown", "a test")
        return self.now_ms

    def sign(self, requests: Any, slack_ms: int) -> SignedLegs:
        records = []
        for request in requests:
            self.count += 1
            nonce = make_nonce(self.exchange_now_ms() + request.discard_after_ms + slack_ms, self.count)
            signed = SIGNER.sign_order(
                product_id=request.product_id, price_x18=request.price_x18, amount_x18=request.amount_x18,
                expiration_s=NOW_MS // 1000 + 60, nonce=nonce, appendix=513, client_id=request.client_id,
            )  # fmt: skip
            records.append(OrderTracker().record_of(signed))
        return SignedLegs(
            tuple(requests),
            tuple(records),
            (),
            False,
            tuple(request.discard_after_ms for request in requests),
        )


@given(st.integers(0, 1_000), st.integers(100, 2_000), st.integers(100, 2_000))
def test_its_end_is_never_earlier_and_at_most_the_slack_later(
    age_ms: int, signed_ms: int, wanted_ms: int
) -> None:
    async def run() -> None:
        world = World()
        world.presigner.expect([replace(LEG, discard_after_ms=signed_ms)])
        await asyncio.sleep(0)
        await until(lambda: world.presigner.signed, "signed in idle time")
        world.now_ms += age_ms
        legs = world.take([replace(LEG, discard_after_ms=wanted_ms)])
        late_ms = NOW_MS + signed_ms + SLACK_MS - (world.now_ms + wanted_ms)
        assert (legs is not None) == (0 <= late_ms <= SLACK_MS)
        if legs is not None:
            (record,) = legs.records
            assert 0 <= nonce_recv_time_ms(record.nonce) - world.now_ms - wanted_ms <= SLACK_MS

    asyncio.run(run())


@pytest.mark.parametrize(
    "other",
    [
        {"price_x18": to_x18(3001)}, {"amount_x18": to_x18("0.2")}, {"amount_x18": -to_x18("0.1")},
        {"product_id": 8}, {"order_type": OrderType.FOK}, {"reduce_only": True}, {"client_id": 8},
        {"client_id": None},
    ],
)  # fmt: skip
async def test_another_decision_does_not_get_it(other: dict[str, Any]) -> None:
    world = World()
    world.presigner.expect([LEG])
    await until(lambda: world.presigner.signed, "signed")
    assert world.take([replace(LEG, **other)]) is None
    assert world.take([LEG]) is None  # thrown away with the first decision
    assert (world.presigner.used, world.presigner.missed) == (0, 1)


async def test_one_signature_is_used_once() -> None:
    world = World()
    world.presigner.expect([LEG, replace(LEG, product_id=8)])
    await until(lambda: world.presigner.signed, "signed")
    assert world.take([LEG]) is None  # one leg of two is another decision
    world.presigner.expect([LEG, replace(LEG, product_id=8)])
    await until(lambda: world.presigner.signed == 2, "signed again")
    assert world.take([replace(LEG), replace(LEG, product_id=8)]) is not None
    assert world.take([LEG, replace(LEG, product_id=8)]) is None
    count = world.count
    await asyncio.sleep(3 * PAUSE_S)
    assert world.count == count  # nothing is expected any more


async def test_the_newest_price_is_the_one_that_lies_ready() -> None:
    world = World()
    for step in range(200):  # a busy market
        world.presigner.expect([replace(LEG, price_x18=LEG.price_x18 + step)])
        await asyncio.sleep(0)
    newest = replace(LEG, price_x18=LEG.price_x18 + 199)
    await until(lambda: world.presigner._legs is not None, "the newest is signed")
    assert world.count < 20
    legs = world.take([newest])
    assert legs is not None
    assert legs.records[0].price_x18 == newest.price_x18


async def test_a_resting_order_keeps_its_exact_expiration() -> None:
    world, resting = World(), replace(LEG, order_type=OrderType.POST_ONLY, expiration_s=NOW_MS // 1000 + 60)
    world.presigner.expect([resting])
    await until(lambda: world.presigner.signed, "signed")
    assert world.take([replace(resting, expiration_s=NOW_MS // 1000 + 61)]) is None
    world.presigner.expect([resting])
    await until(lambda: world.presigner.signed == 2, "signed again")
    assert world.take([replace(resting)]) is not None


async def test_nothing_lies_ready_while_the_clock_is_unknown() -> None:
    world = World()
    world.is_clock_known = False
    world.presigner.expect([LEG])
    await asyncio.sleep(2 * PAUSE_S)
    assert world.take([LEG]) is None
    world.is_clock_known = True
    world.presigner.expect([LEG])
    await until(lambda: world.presigner.signed, "signed once the clock is there")
    world.presigner.expect([])
    assert world.take([LEG]) is None


# ---------------------------------------------------------------------------- over the wire


def gateway_of(venue: Venue, slack_ms: int = SLACK_MS, **options: Any) -> OrderGateway:
    return venue.gateway(config=GatewayConfig(link=FAST_LINK, presign_slack_ms=slack_ms), **options)


async def pair_of(venue: Venue) -> list[OrderRequest]:
    """Two legs that meet the book."""
    legs = []
    for product_id, amount in ((4, "0.1"), (8, "-2")):
        snapshot = await venue.rest.market_liquidity(product_id, depth=1)
        touch, percent = (snapshot.asks, 101) if to_x18(amount) > 0 else (snapshot.bids, 99)
        price = venue.products[product_id].round_price(touch[0][0] * percent // 100, "down")
        legs.append(OrderRequest(product_id, price, to_x18(amount), OrderType.IOC))
    return legs


async def test_both_legs_leave_as_they_were_signed_and_fill(venue: Venue) -> None:
    seen: list[str] = []
    async with gateway_of(venue, before_send=lambda record: seen.append(record.digest)) as gateway:
        presigner, legs = gateway.presigner, await pair_of(venue)
        assert presigner is not None
        gateway.expect(legs)
        await until(lambda: presigner._legs, "signed")
        assert presigner._legs is not None
        ready = [record.digest for record in presigner._legs.records]
        assert (len(venue.tracker), seen) == (0, [])  # nobody has decided anything
        outcomes = await gateway.place_many(legs)
    assert [outcome.kind for outcome in outcomes] == [OutcomeKind.CONFIRMED] * 2
    assert [outcome.digest for outcome in outcomes] == ready == seen
    assert presigner.used == 1
    assert {fill["digest"] for fill in (await venue.state())["fills"]} == set(ready)


async def test_what_was_signed_for_another_price_never_leaves(venue: Venue) -> None:
    async with gateway_of(venue) as gateway:
        presigner, legs = gateway.presigner, await pair_of(venue)
        assert presigner is not None
        gateway.expect(legs)
        await until(lambda: presigner._legs, "signed")
        assert presigner._legs is not None
        ready = {record.digest for record in presigner._legs.records}
        tick = venue.products[4].price_increment_x18
        moved = [replace(legs[0], price_x18=legs[0].price_x18 + tick), legs[1]]
        outcomes = await gateway.place_many(moved)
        assert all(outcome.is_confirmed for outcome in outcomes)
        assert not ready & {outcome.digest for outcome in outcomes}
        assert (presigner.used, presigner.missed, len(venue.tracker)) == (0, 1, 2)
    assert len((await venue.state())["executes"]) == 2


async def test_a_leg_that_waited_too_long_is_signed_anew(venue: Venue) -> None:
    async with gateway_of(venue, slack_ms=60) as gateway:
        presigner, legs = gateway.presigner, await pair_of(venue)
        assert presigner is not None
        gateway.expect(legs)
        await until(lambda: presigner._legs, "signed")
        stale = presigner._legs
        assert stale is not None
        await until(lambda: presigner.signed >= 3, "refreshed by itself")
        presigner._legs = stale  # as if the loop had hung since
        await until(lambda: not presigner._is_in_time(stale, legs, venue.timesync.exchange_now_ms()), "stale")
        presigner._legs = stale
        outcomes = await gateway.place_many(legs)
        assert all(outcome.is_confirmed for outcome in outcomes)
        assert presigner.missed == 1


async def test_the_gates_refusal_holds_for_signed_ones_too(venue: Venue) -> None:
    def refuse(record: object) -> None:
        raise PermissionError("no")

    async with gateway_of(venue, before_send=refuse) as gateway:
        presigner, legs = gateway.presigner, await pair_of(venue)
        assert presigner is not None
        gateway.expect(legs)
        await until(lambda: presigner._legs, "signed")
        outcomes = await gateway.place_many(legs)
        assert [outcome.kind for outcome in outcomes] == [OutcomeKind.DENIED] * 2
    assert (await venue.state())["executes"] == []


async def test_it_is_off_unless_asked_for(venue: Venue) -> None:
    async with gateway_of(venue, slack_ms=0) as gateway:
        legs = await pair_of(venue)
        gateway.expect(legs)
        assert gateway.presigner is None
        assert all(outcome.is_confirmed for outcome in await gateway.place_many(legs))


async def test_a_hook_that_raises_is_said_once_and_signing_ahead_goes_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    world = World()
    sign, is_broken = world.presigner._sign, True

    def broken(requests: Any, slack_ms: int) -> SignedLegs:
        if is_broken:
            raise KeyError("a hook of the owner")
        return sign(requests, slack_ms)

    world.presigner._sign = broken
    world.presigner.expect([LEG])
    await until(lambda: world.presigner.failed >= 2, "tried again")
    assert [record.getMessage() for record in caplog.records] == ["nothing can be signed ahead"]
    is_broken = False
    await until(lambda: world.presigner.signed, "signed")
    assert world.take([LEG]) is not None
