"""What an order may rely on: a reserve for getting out, a late leg that dies, fills without a stream, a clock
that is read again when it is wrong."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import replace
from typing import Any

import pytest
from clientkit import FAST_LINK, Venue, until
from quickest import quickest
from rudekit import ORDER, Script, failure, gateway
from simproc import start_sim

from nadofast import (
    GatewayConfig,
    LimitConfig,
    NadoConnectionMode,
    NadoRateLimiter,
    OrderRequest,
    OrderState,
    OrderType,
    OutcomeKind,
    Rest,
    Signer,
    custom,
    exposition,
    order_metrics,
    to_x18,
)

ETH = 4
SIZE = to_x18("0.1")


async def priced(venue: Venue, kind: OrderType, side: int = 1, **fields: Any) -> OrderRequest:
    """A taker through the touch, or a post-only order far from it."""
    book = await venue.rest.market_liquidity(ETH, depth=1)
    touch = (book.asks if side > 0 else book.bids)[0][0]
    percent = side if kind is OrderType.IOC else -3 * side
    price = venue.products[ETH].round_price(touch * (100 + percent) // 100, "up" if side > 0 else "down")
    return OrderRequest(ETH, price, side * SIZE, kind, **fields)


async def test_getting_out_is_possible_when_entries_have_spent_the_budget() -> None:
    """The exchange counts, too: neither the cancel nor the unwind may be refused there."""
    async with start_sim(seed=5, rate=40, rate_limits=True) as server:
        network = custom("sim", server.ready)
        key = server.ready["accounts"][0]["private_key"]
        signer = Signer(key, chain_id=network.chain_id, endpoint_address=network.endpoint_address)
        async with Rest(network) as rest:
            venue = Venue(server.ready, network, signer, rest, await rest.products([ETH]))
            async with venue.gateway(limiter=NadoRateLimiter()) as client:
                assert (await client.place(await priced(venue, OrderType.IOC))).is_confirmed
                entry = await priced(venue, OrderType.POST_ONLY)
                outcomes = await asyncio.gather(*(client.place(entry) for _ in range(80)))
                taken = [outcome for outcome in outcomes if outcome.is_confirmed]
                denied = [outcome for outcome in outcomes if outcome.kind is OutcomeKind.DENIED]
                assert len(taken) + len(denied) == 80
                assert all(outcome.reason.startswith("rate_limit") for outcome in denied)
                assert denied
                assert (await client.cancel(ETH, taken[0].digest)).is_confirmed
                unwind = await priced(venue, OrderType.IOC, -1, reduce_only=True)
                assert (await client.place(unwind)).is_confirmed
                assert (await client.cancel_product([ETH])).is_confirmed
                assert client.stats()["budget"]["scopes"]["execute"]["left"] == 0
        assert server.gateway.limits.refused["executes"] == 0


async def test_a_late_leg_dies_and_the_record_knows_why(venue: Venue) -> None:
    """Held up for longer than its discard time, on both ways: the exchange refuses every copy."""
    async with venue.gateway(config=GatewayConfig(link=FAST_LINK)) as client:
        leg = await priced(venue, OrderType.IOC, discard_after_ms=400)
        await venue.faults(delay_request={"ms": 900})
        outcome = await client.place(leg)
        await venue.faults(delay_request=0)
        if outcome.kind is OutcomeKind.UNKNOWN:
            outcome = await client.resolve(outcome.digest, ETH, 10)
        assert outcome.kind is OutcomeKind.REJECTED
        record = venue.tracker.get(outcome.digest)
        assert record is not None
        assert record.state is OrderState.REJECTED
        await until(lambda: record.error_code == 2011, "the reason, at the latest with the late answers")
    executes = [e for e in (await venue.state())["executes"] if outcome.digest in e["digests"]]
    assert executes
    assert {e["error_code"] for e in executes} == {2011}


async def test_a_fill_without_any_stream_is_known_over_http_in_half_a_second(venue: Venue) -> None:
    async with venue.feed(rest=venue.rest) as feed, venue.gateway() as client:
        await feed.wait_synced(10)
        await venue.faults(socket_refused=True, cut="all")
        await until(lambda: feed.account_mode is NadoConnectionMode.REST, "HTTP takes over")
        await until(lambda: client.path == "rest", "orders, too")

        async def fill() -> float:
            taker = await priced(venue, OrderType.IOC)
            began = time.monotonic()
            outcome = await client.place(taker)
            record = venue.tracker.get(outcome.digest)
            assert record is not None
            assert outcome.is_confirmed
            assert await client.settle(outcome.digest, ETH, 5)
            took_s = time.monotonic() - began
            assert record.filled_x18 == SIZE
            assert (record.state, outcome.path) == (OrderState.FILLED, "rest")
            return took_s

        await quickest(fill, 0.5)


async def test_an_order_that_expires_says_so(venue: Venue) -> None:
    async with venue.feed() as feed, venue.gateway() as client:
        await feed.wait_synced(10)
        resting = await priced(venue, OrderType.POST_ONLY)
        dies_s = venue.timesync.exchange_now_ms() // 1000 + 2
        outcome = await client.place(replace(resting, expiration_s=dies_s))
        record = venue.tracker.get(outcome.digest)
        assert record is not None
        assert record.state is OrderState.OPEN
        await until(lambda: record.is_terminal, "its end")
        assert record.state is OrderState.EXPIRED
        assert record.filled_x18 == 0


@pytest.mark.parametrize("code", [2121, 2124])
async def test_a_replacement_that_is_refused_leaves_a_record_that_was_read_again(code: int) -> None:
    """A fill in between: the caller finds in the record what is left now."""
    left = to_x18("0.06")
    resting: dict[str, Any] = {}

    def socket(message: Any) -> Any:
        if "place_order" in message:
            body = message["place_order"]
            return {"status": "success", "signature": body["signature"], "id": body["id"]}
        signature = message["cancel_and_place"]["place_order"]["signature"]
        return failure(code, "not as believed") | {"signature": signature}

    def query(message: Any) -> Any:
        return (
            {"status": "success", "data": resting}
            if message["digest"] == resting["digest"]
            else failure(2020)
        )

    async with gateway(Script(socket=socket, query=query)) as client:
        old = await client.place(ORDER)
        resting |= {
            "product_id": 4, "sender": client.subaccount, "price_x18": str(ORDER.price_x18),
            "amount": str(ORDER.amount_x18), "expiration": "1", "nonce": "1", "appendix": "1537",
            "unfilled_amount": str(left), "digest": old.digest, "order_type": "post_only", "placed_at": 1,
        }  # fmt: skip
        outcome = await client.cancel_and_place(4, old.digest, ORDER, ORDER.amount_x18)
        assert (outcome.kind, outcome.error_code) == (OutcomeKind.REJECTED, code)
        record = client.tracker.get(old.digest)
        assert record is not None
        assert (record.state, record.remaining_x18) == (OrderState.PARTIAL, left)


async def test_repricing_is_throttled_and_entries_go_on(venue: Venue) -> None:
    limiter = NadoRateLimiter()
    async with venue.gateway(limiter=limiter) as client:
        resting = await priced(venue, OrderType.POST_ONLY)
        last = await client.place(resting)
        while True:
            moved = await client.cancel_and_place(ETH, last.digest, resting, resting.amount_x18)
            if not moved.is_confirmed:
                break
            last = moved
        assert moved.reason.startswith("reprice_throttled"), moved
        assert limiter.stats()["reprices_refused"] == 1
        assert (await client.place(resting)).is_confirmed


async def test_an_address_that_may_only_ask_is_recognised(venue: Venue) -> None:
    await venue.faults(socket_refused=True)
    limiter = NadoRateLimiter(LimitConfig(query_only_s=0.3, query_only_cap_s=0.3))
    async with venue.gateway(limiter=limiter) as client:
        resting = await priced(venue, OrderType.POST_ONLY)
        order = await client.place(resting)
        await venue.faults(query_only=True)
        refused = await client.place(resting)
        assert (refused.kind, refused.error_code) == (OutcomeKind.REJECTED, 1002)
        kept = await client.place(resting)
        assert kept.kind is OutcomeKind.DENIED
        assert kept.reason.startswith("query_only")
        assert (await client.cancel(ETH, order.digest)).error_code == 1002  # getting out is tried regardless
        await venue.faults(query_only=False)
        assert (await client.cancel(ETH, order.digest)).is_confirmed
        assert limiter.query_only_s == 0
        assert (await client.place(resting)).is_confirmed
        assert client.stats()["budget"]["query_only_errors"] == 2


async def test_a_refusal_for_its_time_has_the_clock_read_again(venue: Venue) -> None:
    async with venue.gateway() as client:
        taker = await priced(venue, OrderType.IOC)
        await venue.faults(clock_offset=5_000)
        assert (await client.place(taker)).error_code == 2011
        await until(lambda: venue.timesync.steps > 0, "the clock is read again")
        assert (await client.place(await priced(venue, OrderType.IOC))).is_confirmed
        assert client.stats()["clock"]["steps"] == 1


async def test_a_machine_that_slept_sends_nothing_before_it_knows_the_time(venue: Venue) -> None:
    config = GatewayConfig(link=FAST_LINK, time_retry_s=5.0, time_retry_cap_s=5.0)
    async with venue.gateway(config=config) as client:
        resting = await priced(venue, OrderType.POST_ONLY)
        assert (await client.place(resting)).is_confirmed
        boot_ns = venue.timesync._boot_ns
        venue.timesync._boot_ns = lambda: boot_ns() + 60_000_000_000
        outcome = await client.place(resting)
        assert outcome.reason.startswith("clock_unknown")
        await venue.rest.sync_time(venue.timesync, 1)
        assert (await client.place(resting)).is_confirmed
        assert client.stats()["clock"]["suspends"] == 1
        assert json.dumps(client.stats(), default=str)


async def test_everything_of_a_gateway_is_exported(venue: Venue) -> None:
    async with venue.gateway(limiter=NadoRateLimiter()) as client:
        resting = await priced(venue, OrderType.POST_ONLY)
        for _ in range(2):
            assert (await client.place(resting)).is_confirmed
        families = {family.name: family for family in order_metrics(client)}
        text = exposition(families.values())
    assert len(families) == len(list(order_metrics(client)))
    sent = {dict(s.labels)["path"]: s.value for s in families["nadofast_orders_requests_total"].samples}
    assert sent == {"ws": 2, "ws_v1": 0, "rest": 0}
    left = {dict(s.labels)["scope"]: s.value for s in families["nadofast_orders_budget_left"].samples}
    assert left["execute"] == 48
    assert 'nadofast_orders_path{path="ws"} 1' in text
    assert "nadofast_orders_clock_suspends_total 0" in text
    async with venue.gateway() as bare:
        assert not any("budget" in family.name for family in order_metrics(bare))
