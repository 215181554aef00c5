"""Orders over real sockets: every type, every way an answer can get lost, exactly once."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Sequence

import pytest
from clientkit import DEADLINE_S, FAST_LINK, Venue, until
from simproc import SimProcess

from nadofast import (
    GatewayConfig,
    NadoRateLimiter,
    OrderRequest,
    OrderState,
    OrderType,
    OutcomeKind,
    Rest,
    Signer,
    TimeSync,
    TrackedOrder,
    custom,
    to_x18,
)
from nadofast.ratelimit import LimitConfig, Window
from nadofast.resolver import ResolverConfig

ETH = 4
SIZE = to_x18("0.1")


async def prices(venue: Venue, product_id: int = ETH) -> tuple[int, int]:
    """(a buy price that crosses, a buy price that rests)."""
    snapshot = await venue.rest.market_liquidity(product_id, depth=1)
    product = venue.products[product_id]
    crossing = product.round_price(snapshot.asks[0][0] * 101 // 100, "up")
    return crossing, product.round_price(snapshot.bids[0][0] * 99 // 100, "down")


def order(price: int, order_type: OrderType, **fields: object) -> OrderRequest:
    return OrderRequest(ETH, price, SIZE, order_type, **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize("order_type", list(OrderType))
async def test_an_order_of_each_type(venue: Venue, order_type: OrderType) -> None:
    async with venue.feed() as feed, venue.gateway() as gateway:
        await feed.wait_synced(DEADLINE_S)
        crossing, resting = await prices(venue)
        is_taker = order_type in (OrderType.IOC, OrderType.FOK)
        outcome = await gateway.place(order(crossing if is_taker else resting, order_type))
        assert (outcome.kind, outcome.path) == (OutcomeKind.CONFIRMED, "ws")
        assert 0 < outcome.sent_ns <= outcome.replied_ns
        record = venue.tracker.get(outcome.digest)
        assert record is not None
        if is_taker:
            await until(lambda: record.is_settled, "fills arrive")
            assert record.state is OrderState.FILLED
            assert record.filled_x18 == SIZE
            assert record.fee_x18 > 0
            assert record.avg_price_x18 is not None
            assert record.avg_price_x18 <= crossing
            assert record.quote_x18 < 0
            assert record.first_fill_ns is not None
        else:
            assert (await venue.rest.order(ETH, outcome.digest)).unfilled_x18 == SIZE
            cancelled = await gateway.cancel(ETH, outcome.digest, SIZE)
            assert cancelled.is_confirmed
            assert [(c.digest, c.unfilled_x18) for c in cancelled.cancelled] == [(outcome.digest, SIZE)]
            assert record.state is OrderState.CANCELLED
            assert record.is_settled
            again = await gateway.cancel(ETH, outcome.digest)
            assert (again.kind, again.error_code) == (OutcomeKind.REJECTED, 2020)


async def test_two_legs_leave_in_one_turn(venue: Venue) -> None:
    async with venue.gateway() as gateway:
        eth, _ = await prices(venue, 4)
        snapshot = await venue.rest.market_liquidity(8, depth=1)
        sol = venue.products[8].round_price(snapshot.bids[0][0] * 99 // 100, "down")
        legs = [
            OrderRequest(4, eth, to_x18("0.1"), OrderType.IOC, client_id=77),
            OrderRequest(8, sol, -to_x18("2"), OrderType.IOC, client_id=77),
        ]
        first, second = await gateway.place_many(legs)
        assert first.is_confirmed
        assert second.is_confirmed
        assert abs(second.sent_ns - first.sent_ns) < 5_000_000
        # Concurrent: neither leg waited for the other's answer.
        assert max(first.sent_ns, second.sent_ns) < min(first.replied_ns, second.replied_ns)
    fills = (await venue.state())["fills"]
    assert {fill["digest"] for fill in fills} == {first.digest, second.digest}


async def test_digest_is_known_and_recorded_before_the_bytes_leave(venue: Venue) -> None:
    seen: list[tuple[str, int, int]] = []
    async with venue.gateway() as gateway:

        def before_send(record: TrackedOrder) -> None:
            seen.append((record.digest, gateway.stats()["ws_requests"], time.monotonic_ns()))
            assert record.sent_ns is None
            assert venue.tracker.get(record.digest) is record
            assert not hasattr(record, "signature")

        gateway._before_send = before_send
        _, resting = await prices(venue)
        outcomes = await gateway.place_many([order(resting, OrderType.POST_ONLY)] * 2)
    assert [digest for digest, _, _ in seen] == [outcome.digest for outcome in outcomes]
    assert [requests for _, requests, _ in seen] == [0, 0]
    assert all(noted <= outcome.sent_ns for (_, _, noted), outcome in zip(seen, outcomes, strict=True))
    # Equal orders in one millisecond are two orders.
    assert outcomes[0].digest != outcomes[1].digest


async def test_the_journal_is_given_both_legs_at_once_and_before_the_bytes(venue: Venue) -> None:
    seen: list[tuple[list[str], int]] = []
    is_full = False

    async with venue.gateway() as gateway:

        def write_down(records: Sequence[TrackedOrder]) -> None:
            seen.append(([record.digest for record in records], gateway.stats()["ws_requests"]))
            if is_full:
                raise OSError("no space left")

        gateway._journal = write_down
        _, resting = await prices(venue)
        legs = [order(resting, OrderType.POST_ONLY)] * 2
        outcomes = await gateway.place_many(legs)
        assert seen == [([outcome.digest for outcome in outcomes], 0)]
        is_full = True
        denied = await gateway.place_many(legs)
        assert [outcome.kind for outcome in denied] == [OutcomeKind.DENIED] * 2
        moved = await gateway.cancel_and_place(ETH, outcomes[0].digest, legs[0])
        assert moved.kind is OutcomeKind.DENIED
        assert gateway.stats()["ws_requests"] == 2
    assert len((await venue.state())["executes"]) == 2


async def test_a_journal_that_refuses_stops_the_order(venue: Venue) -> None:
    def full_disk(_: TrackedOrder) -> None:
        raise OSError("no space left")

    async with venue.gateway(before_send=full_disk) as gateway:
        _, resting = await prices(venue)
        outcome = await gateway.place(order(resting, OrderType.POST_ONLY))
    assert outcome.kind is OutcomeKind.DENIED
    assert outcome.reason.startswith("before_send")
    assert (await venue.state())["executes"] == []
    record = venue.tracker.get(outcome.digest)
    assert record is not None
    assert record.state is OrderState.DENIED


async def test_a_lost_reply_is_confirmed_by_the_same_bytes_over_rest(venue: Venue) -> None:
    async with venue.gateway(reply_timeout_s=0.3) as gateway:
        _, resting = await prices(venue)
        await venue.faults(lose_reply=1)
        outcome = await gateway.place(order(resting, OrderType.POST_ONLY))
        # "Digest exists" alone would not tell a live order from a dead one: the book does.
        assert (outcome.kind, outcome.path, outcome.error_code) == (OutcomeKind.CONFIRMED, "query", 2013)
        assert gateway.stats()["rest_resends"] == 1
    orders = (await venue.state())["orders"]
    assert [found["digest"] for found in orders] == [outcome.digest]


async def test_a_lost_taker_reply_fills_once(venue: Venue) -> None:
    async with venue.feed() as feed, venue.gateway(reply_timeout_s=0.4) as gateway:
        await feed.wait_synced(DEADLINE_S)
        crossing, _ = await prices(venue)
        await venue.faults(lose_reply=1)
        outcome = await gateway.place(order(crossing, OrderType.IOC))
        # The stream had shown it by the time the wait was over: nothing needed to be sent again.
        assert (outcome.kind, outcome.path) == (OutcomeKind.CONFIRMED, "stream")
        record = venue.tracker.get(outcome.digest)
        assert record is not None
        await until(lambda: record.is_settled, "fills arrive")
        assert record.filled_x18 == SIZE
    position = (await venue.rest.subaccount_info(venue.subaccount)).position_x18(ETH)
    assert position == SIZE


async def test_a_socket_that_dies_under_an_order_fails_fast_to_rest(venue: Venue) -> None:
    async with venue.gateway(reply_timeout_s=5.0) as gateway:
        crossing, _ = await prices(venue)
        started = time.monotonic()
        placing = asyncio.ensure_future(gateway.place(order(crossing, OrderType.IOC)))
        await until(lambda: gateway.stats()["ws_requests"] == 1, "sent")
        await venue.faults(cut="gateway")
        outcome = await placing
        assert outcome.kind is OutcomeKind.CONFIRMED
        assert time.monotonic() - started < 3.0
        await gateway.link.wait_live(DEADLINE_S)
        assert gateway.link.connects == 2
        assert (await gateway.place(order(crossing, OrderType.IOC))).path == "ws"
    position = (await venue.rest.subaccount_info(venue.subaccount)).position_x18(ETH)
    assert position == 2 * SIZE


async def test_without_a_socket_orders_go_over_rest(venue: Venue) -> None:
    ready = {**venue.ready, "gateway_ws_v2": venue.ready["gateway_ws_v2"] + "/refused"}
    ready["gateway_ws"] = ready["gateway_ws"] + "/refused"
    venue.network = custom("sim", ready)
    async with venue.gateway(config=GatewayConfig(link=FAST_LINK, start_timeout_s=0.3)) as gateway:
        _, resting = await prices(venue)
        outcome = await gateway.place(order(resting, OrderType.POST_ONLY))
        assert (outcome.kind, outcome.path) == (OutcomeKind.CONFIRMED, "rest")
        cancelled = await gateway.cancel(ETH, outcome.digest)
        assert (cancelled.kind, cancelled.path) == (OutcomeKind.CONFIRMED, "rest")
        rejected = await gateway.place(order(resting * 2, OrderType.POST_ONLY))
        assert rejected.kind is OutcomeKind.REJECTED
        assert rejected.error_code == 2008


async def test_nothing_reachable_is_denied_and_nothing_was_sent(venue: Venue) -> None:
    nowhere = {
        **venue.ready,
        "gateway": "http://127.0.0.1:9/v1",
        "gateway_ws": "ws://127.0.0.1:9/v1/ws",
        "gateway_ws_v2": "ws://127.0.0.1:9/ws/v2",
    }
    await venue.rest.sync_time(venue.timesync)
    _, resting = await prices(venue)
    venue.network = custom("nowhere", nowhere)
    async with Rest(venue.network) as dead:
        async with venue.gateway(rest=dead, config=GatewayConfig(link=FAST_LINK)) as gateway:
            outcome = await gateway.place(order(resting, OrderType.POST_ONLY))
            assert (outcome.kind, outcome.path) == (OutcomeKind.DENIED, "")
            assert "unreachable" in outcome.reason
    async with venue.gateway(rest=None, config=GatewayConfig(link=FAST_LINK)) as gateway:
        outcome = await gateway.place(order(resting, OrderType.POST_ONLY))
        assert outcome.reason.startswith("not_connected")
        assert (await gateway.cancel(ETH, "0x" + "11" * 32)).kind is OutcomeKind.DENIED


async def test_without_rest_what_no_socket_took_is_denied(
    venue: Venue, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(fd: int, data: bytes) -> int:
        raise BrokenPipeError(32, "Broken pipe")

    await venue.rest.sync_time(venue.timesync)
    _, resting = await prices(venue)
    async with venue.gateway(rest=None, config=GatewayConfig(link=FAST_LINK)) as gateway:
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", broken)
            outcomes = await gateway.place_many([order(resting, OrderType.POST_ONLY)] * 2)
        assert {(one.kind, one.reason) for one in outcomes} == {
            (OutcomeKind.DENIED, "no socket took it, and there is no other way")
        }
        assert gateway.tracker.live() == []
    assert (await venue.state())["executes"] == []


async def test_orders_are_denied_while_the_clock_is_unknown(venue: Venue) -> None:
    _, resting = await prices(venue)
    async with venue.gateway() as gateway:
        gateway._timesync = TimeSync()
        outcome = await gateway.place(order(resting, OrderType.POST_ONLY))
        assert outcome.kind is OutcomeKind.DENIED
        assert outcome.reason.startswith("clock_unknown")
        assert (await gateway.cancel(ETH, "0x" + "11" * 32)).reason.startswith("clock_unknown")
    assert (await venue.state())["executes"] == []


@pytest.mark.parametrize(
    ("fields", "rule"),
    [
        ({"product_id": 2}, "product"),
        ({"price_x18": 1}, "price"),
        ({"price_x18": -(10**17)}, "price"),
        ({"amount_x18": 0}, "amount"),
        ({"amount_x18": 1}, "amount"),
        ({"amount_x18": 10**15}, "min_size"),
        ({"reduce_only": True}, "reduce_only"),
        ({"expiration_s": 1_000_000}, "expiration"),
        ({"discard_after_ms": 100_001}, "discard_after"),
        ({"discard_after_ms": 0}, "discard_after"),
        ({"client_id": 1 << 53}, "client_id"),
        ({"price_x18": 10**17 * 10**30}, "request"),
    ],
)
async def test_local_rules(venue: Venue, fields: dict[str, int], rule: str) -> None:
    base = {
        "product_id": ETH,
        "price_x18": to_x18(3000),
        "amount_x18": SIZE,
        "order_type": OrderType.POST_ONLY,
    }
    async with venue.gateway() as gateway:
        good = OrderRequest(**{**base, "price_x18": to_x18(2000)})  # type: ignore[arg-type]
        bad = OrderRequest(**{**base, **fields})  # type: ignore[arg-type]
        outcomes = await gateway.place_many([good, bad])
    # A pair is sent whole or not at all.
    assert [outcome.kind for outcome in outcomes] == [OutcomeKind.DENIED] * 2
    assert outcomes[1].reason.split(":")[0] == rule
    assert (await venue.state())["executes"] == []


async def test_a_late_order_dies_at_the_engine(venue: Venue) -> None:
    async with venue.gateway() as gateway:
        crossing, _ = await prices(venue)
        # As if the request had been on its way for longer than its discard time.
        now_ms, uncertainty_ms = venue.timesync.order_time()
        venue.timesync.order_time = lambda: (now_ms - 1_000, uncertainty_ms)  # type: ignore[method-assign]
        outcome = await gateway.place(order(crossing, OrderType.IOC, discard_after_ms=500))
        assert (outcome.kind, outcome.error_code) == (OutcomeKind.REJECTED, 2011)


async def test_rejections_carry_their_code(venue: Venue) -> None:
    async with venue.gateway() as gateway:
        crossing, resting = await prices(venue)
        assert (await gateway.place(order(crossing, OrderType.POST_ONLY))).error_code == 2008
        assert (await gateway.place(order(resting, OrderType.IOC))).error_code == 2056
        assert (await gateway.place(order(resting, OrderType.FOK))).error_code == 2031
        reduce = await gateway.place(order(crossing, OrderType.IOC, reduce_only=True))
        assert (reduce.kind, reduce.error_code) == (OutcomeKind.REJECTED, 2064)
        record = venue.tracker.get(reduce.digest)
        assert record is not None
        assert (record.state, record.error_code) == (OrderState.REJECTED, 2064)


async def test_wrong_signature_is_a_rejection(venue: Venue) -> None:
    venue.signer = Signer(
        "0x" + "02" * 32,
        chain_id=venue.network.chain_id,
        endpoint_address=venue.network.endpoint_address,
        owner_address=venue.signer.owner_address,
    )
    async with venue.gateway() as gateway:
        _, resting = await prices(venue)
        outcome = await gateway.place(order(resting, OrderType.POST_ONLY))
        assert (outcome.kind, outcome.error_code) == (OutcomeKind.REJECTED, 2028)


async def test_cancel_product_and_cancel_and_place(venue: Venue) -> None:
    async with venue.gateway() as gateway:
        _, resting = await prices(venue)
        step = venue.products[ETH].price_increment_x18
        first = await gateway.place(order(resting, OrderType.POST_ONLY))
        moved = await gateway.cancel_and_place(
            ETH, first.digest, order(resting - step, OrderType.POST_ONLY), SIZE
        )
        assert moved.is_confirmed
        assert moved.digest != first.digest
        open_orders = await venue.rest.subaccount_orders(venue.subaccount, ETH)
        assert [found.digest for found in open_orders] == [moved.digest]
        gone = await gateway.cancel_and_place(ETH, first.digest, order(resting, OrderType.POST_ONLY), SIZE)
        assert gone.kind is OutcomeKind.REJECTED
        swept = await gateway.cancel_product([ETH, 8])
        assert [found.digest for found in swept.cancelled] == [moved.digest]
        assert (await gateway.cancel_product([])).is_confirmed
        assert await venue.rest.subaccount_orders(venue.subaccount, ETH) == []
        record = venue.tracker.get(first.digest)
        assert record is not None
        assert record.state is OrderState.CANCELLED


async def test_a_lost_cancel_reply_is_asked_again(venue: Venue) -> None:
    async with venue.gateway(reply_timeout_s=0.3) as gateway:
        _, resting = await prices(venue)
        placed = await gateway.place(order(resting, OrderType.POST_ONLY))
        await venue.faults(lose_reply=1)
        cancelled = await gateway.cancel(ETH, placed.digest)
        # The first copy did it: the second finds nothing resting, which is final.
        assert (cancelled.kind, cancelled.error_code, cancelled.path) == (OutcomeKind.REJECTED, 2020, "rest")
    assert await venue.rest.subaccount_orders(venue.subaccount, ETH) == []


async def test_unknown_is_resolved_without_sending_again(venue: Venue) -> None:
    config = GatewayConfig(link=FAST_LINK, reply_timeout_s=0.2, resolver=ResolverConfig(poll_s=0.05))
    async with venue.gateway(rest=None, config=config) as blind, venue.gateway(config=config) as gateway:
        await venue.rest.sync_time(venue.timesync)
        crossing, resting = await prices(venue)
        await venue.faults(lose_reply=1)
        lost = await blind.place(order(resting, OrderType.POST_ONLY))
        assert lost.kind is OutcomeKind.UNKNOWN
        record = venue.tracker.get(lost.digest)
        assert record is not None
        assert record.state is OrderState.UNKNOWN
        executes = len((await venue.state())["executes"])
        found = await gateway.resolve(lost.digest, ETH)
        assert (found.kind, found.path) == (OutcomeKind.CONFIRMED, "query")
        await venue.faults(lose_reply=1)
        taker = await blind.place(order(crossing, OrderType.IOC))
        assert taker.kind is OutcomeKind.UNKNOWN
        found = await gateway.resolve(taker.digest, ETH, 10)
        assert (found.kind, found.path) == (OutcomeKind.CONFIRMED, "archive")
        assert len((await venue.state())["executes"]) == executes + 1


async def test_an_order_that_never_arrived_is_rejected_in_the_end(venue: Venue) -> None:
    config = GatewayConfig(link=FAST_LINK, resolver=ResolverConfig(poll_s=0.05))
    async with venue.gateway(config=config) as gateway:
        await venue.rest.sync_time(venue.timesync)
        _, resting = await prices(venue)
        request = order(resting, OrderType.POST_ONLY, discard_after_ms=300)
        (signed,) = gateway._preparer.legs([request], venue.timesync.order_time()).records
        venue.tracker.adopt(signed)
        early = await gateway.resolve(signed.digest, ETH, 0.1)
        assert early.kind is OutcomeKind.UNKNOWN
        late = await gateway.resolve(signed.digest, ETH, 5)
        assert late.kind is OutcomeKind.REJECTED
        record = venue.tracker.get(signed.digest)
        assert record is not None
        assert record.state is OrderState.REJECTED


async def test_the_budget_keeps_a_reserve_for_cancels(venue: Venue) -> None:
    limits = LimitConfig(limits={"execute": (Window(4, 60.0, reserve=2),), "query": (), "archive": ()})
    async with venue.gateway(limiter=NadoRateLimiter(limits)) as gateway:
        _, resting = await prices(venue)
        placed = await gateway.place_many([order(resting, OrderType.POST_ONLY)] * 2)
        assert all(outcome.is_confirmed for outcome in placed)
        refused = await gateway.place(order(resting, OrderType.POST_ONLY))
        assert refused.reason.startswith("rate_limit")
        for outcome in placed:
            assert (await gateway.cancel(ETH, outcome.digest)).is_confirmed
        assert (await gateway.cancel(ETH, placed[0].digest)).reason.startswith("rate_limit")


async def test_entry_discard_follows_the_measured_round_trip(venue: Venue) -> None:
    async with venue.gateway(config=GatewayConfig(link=FAST_LINK)) as gateway:
        assert gateway.entry_discard_ms == 500
        gateway.round_trip.record_ns(400_000_000)
        assert gateway.entry_discard_ms >= 1200


async def test_no_key_and_no_signature_in_any_log(venue: Venue, caplog: pytest.LogCaptureFixture) -> None:
    signatures: list[str] = []
    sign = venue.signer.sign_order
    key = venue.ready["accounts"][0]["private_key"][2:]

    def spy(**fields: object) -> object:
        signed = sign(**fields)  # type: ignore[arg-type]
        signatures.append(signed.signature[2:])
        return signed

    venue.signer.sign_order = spy  # type: ignore[method-assign,assignment]
    caplog.set_level("DEBUG")
    async with venue.feed(rest=venue.rest) as feed, venue.gateway(reply_timeout_s=0.2) as gateway:
        await feed.wait_synced(DEADLINE_S)
        crossing, resting = await prices(venue)
        await venue.faults(lose_reply=1)
        outcomes = [
            await gateway.place(order(resting, OrderType.POST_ONLY)),
            await gateway.place(order(crossing, OrderType.POST_ONLY)),
            await gateway.place(order(crossing, OrderType.IOC)),
        ]
        shown = repr((outcomes, gateway.stats(), feed.stats(), venue.tracker.live(), gateway, feed))
    assert len(signatures) == 3
    for text in (caplog.text, shown):
        assert key not in text
        assert not any(signature in text for signature in signatures)


async def test_an_exchange_that_dies_leaves_unknown_then_denied(venue: Venue) -> None:
    with SimProcess(seed=5) as sim:
        network = custom("sim", sim.ready)
        signer = Signer(
            sim.account["private_key"],
            chain_id=network.chain_id,
            endpoint_address=network.endpoint_address,
        )
        async with Rest(network, timeout_s=0.5) as rest:
            doomed = Venue(sim.ready, network, signer, rest, await rest.products([4, 8]))
            async with doomed.feed(rest=rest) as feed, doomed.gateway(reply_timeout_s=0.5) as gateway:
                await feed.wait_synced(DEADLINE_S)
                crossing, _ = await prices(doomed)
                started = time.monotonic()
                sim.process.send_signal(signal.SIGSTOP)  # no answer overtakes its end
                placing = asyncio.ensure_future(gateway.place(order(crossing, OrderType.IOC)))
                await until(lambda: gateway.stats()["ws_requests"] == 1, "sent")
                sim.kill()
                outcome = await placing
                assert outcome.kind is OutcomeKind.UNKNOWN
                assert outcome.sent_ns > 0
                assert time.monotonic() - started < 5
                assert not feed.is_live
                assert not feed.book(ETH).is_valid
                after = await gateway.place(order(crossing, OrderType.IOC))
                assert after.kind is OutcomeKind.DENIED
                resolved = await gateway.resolve(outcome.digest, ETH, 0.5)
                assert resolved.kind is OutcomeKind.UNKNOWN
