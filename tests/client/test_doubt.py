"""Orders whose answer is lost, late or odd: what is sent again, what never, and what the records say."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import web
from clientkit import until
from rudekit import ORDER, PRODUCTS, SIGNER, Script, failure, gateway, scripted

from nadofast import (
    NadoRateLimiter,
    OrderGateway,
    OrderRequest,
    OrderState,
    OrderType,
    OutcomeKind,
    TimeSync,
    TrackedOrder,
    to_x18,
)

IOC = OrderRequest(4, to_x18(3000), to_x18("0.1"), OrderType.IOC, discard_after_ms=300)


def record_of(client: Any, digest: str) -> TrackedOrder:
    record: TrackedOrder | None = client.tracker.get(digest)
    assert record is not None
    return record


def placed(message: Any, digest: str | None = None) -> dict[str, Any]:
    body = message["place_order"]
    reply = {"status": "success", "signature": body["signature"], "id": body["id"]}
    return reply if digest is None else reply | {"data": {"digest": digest}}


def cancelled(message: Any, digest: str, unfilled_x18: int) -> dict[str, Any]:
    body = message["cancel_orders"]
    order = {
        "product_id": 4, "sender": SIGNER.subaccount(), "price_x18": str(ORDER.price_x18),
        "amount": str(ORDER.amount_x18), "expiration": "1", "nonce": "1", "appendix": "1537",
        "unfilled_amount": str(unfilled_x18), "digest": digest,
    }  # fmt: skip
    return {"status": "success", "signature": body["signature"], "data": {"cancelled_orders": [order]}}


# ---------------------------------------------------------------------------- a digest that exists


async def test_a_digest_that_exists_and_lives_nowhere_is_unknown_then_rejected() -> None:
    """The first copy may have been refused, its digest used up: "exists" alone is no order."""
    async with gateway(Script(execute=lambda _: failure(2013, "digest exists"))) as client:
        outcome = await client.place(replace(IOC, discard_after_ms=1_500))
        assert (outcome.kind, outcome.error_code) == (OutcomeKind.UNKNOWN, 2013)
        record = record_of(client, outcome.digest)
        assert record.state is OrderState.UNKNOWN
        resolved = await client.resolve(outcome.digest, 4, 5)
        assert resolved.kind is OutcomeKind.REJECTED
        assert record.state is OrderState.REJECTED


async def test_a_resend_after_its_discard_time_says_nothing() -> None:
    async with gateway(Script(execute=lambda _: failure(2011, "too late"))) as client:
        outcome = await client.place(replace(IOC, discard_after_ms=1_500))
        assert (outcome.kind, outcome.error_code) == (OutcomeKind.UNKNOWN, 2011)
        assert record_of(client, outcome.digest).state is OrderState.UNKNOWN


# ---------------------------------------------------------------------------- never sent again


async def test_nothing_is_sent_again_once_the_gateway_stops() -> None:
    script = Script(execute=lambda _: failure(2013))
    async with gateway(script, config={"discard_after_ms": 5_000}, reply_timeout_s=5.0) as client:
        placing = asyncio.ensure_future(client.place(ORDER))
        await until(lambda: len(script.over_socket) == 1, "sent")
        await client.stop()
        outcome = await placing
        assert outcome.kind is OutcomeKind.UNKNOWN
        assert outcome.sent_ns > 0
        after = await client.place(ORDER)
        assert after.kind is OutcomeKind.DENIED
        assert after.reason.startswith("stopped")
    assert script.executed == []


async def test_nothing_is_sent_again_past_its_discard_time() -> None:
    """The engine would not take the copy: it could only spend weight, and its refusal would say nothing."""
    script = Script(execute=placed)
    async with gateway(script) as client:
        await until(lambda: client.path == "ws", "the socket is up")
        late = await client.place(replace(ORDER, discard_after_ms=10))  # less than any socket is waited for
        assert late.kind in (OutcomeKind.UNKNOWN, OutcomeKind.REJECTED)  # as soon as that is proven
        assert client.stats()["rest_resends"] == 0
        assert script.executed == []
        in_time = await client.place(replace(ORDER, discard_after_ms=5_000))
        assert in_time.is_confirmed
        assert client.stats()["rest_resends"] == 1
    assert len(script.executed) == 1


@pytest.mark.parametrize("sweep", [False, True])
async def test_an_order_that_was_withdrawn_is_not_sent_again(sweep: bool) -> None:
    """Its cancel found nothing; a second copy of the order arriving after that would rest for good."""

    def answer(message: Any) -> Any:
        if "place_order" in message:
            return None
        body = next(iter(message.values()))
        data = {"data": {"cancelled_orders": []}} | ({"status": "success"} if sweep else failure(2020))
        return data | {"signature": body["signature"]}

    script = Script(socket=answer, execute=lambda message: placed(message))
    async with gateway(script, reply_timeout_s=0.4) as client:
        placing = asyncio.ensure_future(client.place(replace(ORDER, discard_after_ms=5_000)))
        await until(lambda: len(script.over_socket) == 1, "sent")
        (record,) = client.tracker.live()
        if sweep:
            assert (await client.cancel_product([4, 8])).is_confirmed
        else:
            assert (await client.cancel(4, record.digest)).error_code == 2020
        assert (await placing).kind is OutcomeKind.UNKNOWN
    assert script.executed == []


async def test_a_cancel_between_the_loss_of_the_socket_and_the_second_copy_withdraws_it() -> None:
    """Whoever waits for the answer hears of the loss some turns of the loop later."""
    script = Script(execute=lambda message: placed(message) if "place_order" in message else failure(2020))
    async with gateway(script, reply_timeout_s=5.0) as client:
        placing = asyncio.ensure_future(client.place(replace(ORDER, discard_after_ms=5_000)))
        await until(lambda: len(script.over_socket) == 1, "sent")
        (record,) = client.tracker.live()
        client.link.cut("gone")
        async with asyncio.timeout(5):
            while client.stats()["in_flight"]:  # noqa: ASYNC110 - the very turn counts
                await asyncio.sleep(0)
        assert not placing.done()
        assert (await client.cancel(4, record.digest)).error_code == 2020
        assert (await placing).kind is OutcomeKind.UNKNOWN
    assert [next(iter(message)) for message in script.executed] == ["cancel_orders"]


async def test_a_sweep_of_another_product_withdraws_nothing() -> None:
    def answer(message: Any) -> Any:
        if "place_order" in message:
            return None
        body = message["cancel_product_orders"]
        return {"status": "success", "signature": body["signature"], "data": {"cancelled_orders": []}}

    script = Script(socket=answer, execute=lambda message: placed(message))
    async with gateway(script, reply_timeout_s=0.4) as client:
        placing = asyncio.ensure_future(client.place(ORDER))
        await until(lambda: len(script.over_socket) == 1, "sent")
        assert (await client.cancel_product([8])).is_confirmed
        assert (await placing).is_confirmed
    assert len(script.executed) == 1


# ---------------------------------------------------------------------------- late and odd answers


async def test_the_late_answer_to_a_cancel_still_ends_the_order() -> None:
    """What it says was unfilled is final, whoever waits for it."""
    script = Script(execute=lambda _: failure(2020))
    script.socket = lambda message: placed(message) if "place_order" in message else None
    async with gateway(script) as client:
        order = await client.place(ORDER)
        outcome = await client.cancel(4, order.digest)
        assert (outcome.kind, outcome.error_code) == (OutcomeKind.REJECTED, 2020)
        record = record_of(client, order.digest)
        left = to_x18("0.06")
        await script.sockets[0].send_str(json.dumps(cancelled(script.over_socket[1], order.digest, left)))
        await until(lambda: client.stats()["late_replies"] == 1, "the late answer")
        assert record.state is OrderState.CANCELLED
        assert record.known_filled_x18 == to_x18("0.04")
        assert not record.is_settled


async def test_a_replacement_found_after_a_lost_answer_ends_the_old_order() -> None:
    resting: dict[str, Any] = {}

    def query(message: Any) -> Any:
        if message["digest"] != resting.get("digest"):
            return failure(2020)
        return {"status": "success", "data": resting}

    script = Script(query=query, execute=lambda _: failure(2121, "cancel failed"))
    script.socket = lambda message: placed(message) if "place_order" in message else None
    async with gateway(script) as client:
        old = await client.place(ORDER)
        moving = asyncio.ensure_future(client.cancel_and_place(4, old.digest, ORDER, ORDER.amount_x18))
        await until(lambda: len(script.over_socket) == 2, "sent")
        (new,) = [record for record in client.tracker.live() if record.digest != old.digest]
        resting |= cancelled({"cancel_orders": {"signature": ""}}, new.digest, ORDER.amount_x18)["data"][
            "cancelled_orders"
        ][0]
        outcome = await moving
        assert outcome.is_confirmed
        record = record_of(client, old.digest)
        assert record.state is OrderState.CANCELLED
        assert record.is_settled


async def test_an_answer_about_another_digest_is_not_ours() -> None:
    """Ids are not unique: a late answer to an older request must not pass for the answer to this one."""

    def answer(message: Any) -> Any:
        return {"status": "success", "id": message["place_order"]["id"], "data": {"digest": "0x" + "9" * 64}}

    script = Script(socket=answer, execute=lambda message: placed(message))
    async with gateway(script) as client:
        outcome = await client.place(replace(ORDER, client_id=7))
        assert (outcome.kind, outcome.path) == (OutcomeKind.CONFIRMED, "rest")
        assert client.stats()["orphan_replies"] == 1


async def test_an_abandoned_wait_over_http_leaves_the_order_unknown() -> None:
    script = Script()
    async with gateway(script) as client:
        placing = asyncio.ensure_future(client.place(ORDER))
        await until(lambda: len(script.executed) == 1, "on its way over HTTP")
        placing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await placing
        (record,) = client.tracker.live()
        assert record.state is OrderState.UNKNOWN


async def test_an_abandoned_look_leaves_the_order_unknown() -> None:
    """The answer settled nothing, and the caller does not wait for the look that follows."""
    asked: list[Any] = []

    def query(message: Any) -> Any:
        asked.append(message)

    def answer(message: Any) -> Any:
        return placed(message) | {"status": "failure", "error": "internal", "error_code": 5000}

    async with gateway(Script(socket=answer, query=query)) as client:
        placing = asyncio.ensure_future(client.place(ORDER))
        await until(lambda: asked, "the look")
        placing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await placing
        (record,) = client.tracker.live()
        assert record.state is OrderState.UNKNOWN


async def test_resolve_keeps_its_own_deadline() -> None:
    script = Script(socket=lambda message: None, query=lambda _: None)
    async with gateway(script) as client:
        loop = asyncio.get_running_loop()
        started = loop.time()
        outcome = await client.resolve("0x" + "11" * 32, 4, 0.2)
        assert outcome.kind is OutcomeKind.UNKNOWN
        assert loop.time() - started < 2


# ---------------------------------------------------------------------------- both legs or none


async def test_a_listener_that_fails_cannot_tear_a_pair_apart(caplog: pytest.LogCaptureFixture) -> None:
    script = Script(socket=lambda message: placed(message))

    def listener(_: TrackedOrder) -> None:
        raise RuntimeError("a defect of the caller")

    async with gateway(script) as client:
        client.tracker.on_change(listener)
        outcomes = await client.place_many([ORDER, ORDER])
        assert [outcome.kind for outcome in outcomes] == [OutcomeKind.CONFIRMED] * 2
        assert client.tracker.listener_errors > 0
    assert len(script.over_socket) == 2
    assert "a defect of the caller" in caplog.text


# ---------------------------------------------------------------------------- budget and clock


async def test_a_rate_error_over_http_is_one_rate_error() -> None:
    limiter = NadoRateLimiter()
    script = Script(execute=lambda _: web.Response(status=429, text="slow down"))
    async with gateway(script, limiter=limiter) as client:
        assert client._rest is not None
        client._rest.limiter = limiter
        await client.place(ORDER)
    assert limiter.rate_errors == 1


async def test_a_second_copy_is_paid_for() -> None:
    limiter = NadoRateLimiter()
    script = Script(execute=lambda message: placed(message))
    async with gateway(script, limiter=limiter) as client:
        before = limiter.left("execute", urgent=True)
        assert (await client.place(ORDER)).path == "rest"
        assert before - limiter.left("execute", urgent=True) == 2


async def test_a_clock_that_could_not_be_read_is_read_again_soon() -> None:
    """Without it nothing may be sent, exits included: a minute is too long."""
    # Nonsense first: seconds, nothing, nanoseconds. None of it may be taken for the exchange's clock.
    script = Script(socket=lambda message: placed(message), clocks=["1790000000", "0", "1" * 19])
    timesync = TimeSync()
    async with gateway(script, timesync=timesync, config={"time_retry_s": 0.05}) as client:
        await until(lambda: timesync.is_known, "the clock is read again")
        assert (await client.place(ORDER)).is_confirmed


async def test_the_discard_time_of_an_entry_has_a_cap() -> None:
    async with gateway(Script()) as client:
        client.round_trip.record_ns(60_000_000_000)
        assert client.entry_discard_ms == 5_000


# ---------------------------------------------------------------------------- secrets


@pytest.mark.parametrize("shape", ["page", "envelope", "error"])
async def test_an_echo_of_the_request_shows_no_signature(
    shape: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A proxy page, an envelope without status, or an error text that repeats what was sent."""

    def echo(message: Any) -> Any:
        signature = message["place_order"]["signature"]
        if shape == "page":
            return f"bad request {signature}"
        return {"signature": signature} if shape == "envelope" else failure(2008, f"cannot {signature}")

    caplog.set_level("DEBUG")
    script = Script(execute=echo)
    async with gateway(script) as client:
        outcome = await client.place(ORDER)
    digits = script.executed[0]["place_order"]["signature"][2:]
    assert digits[:40] not in outcome.reason
    assert digits[:40] not in caplog.text


# ---------------------------------------------------------------------------- life


async def test_a_start_that_is_cancelled_leaves_nothing_running() -> None:
    async with scripted(Script()) as network:
        nowhere = replace(network, gateway_ws_v2="ws://127.0.0.1:9/")
        client = OrderGateway(nowhere, SIGNER, products=PRODUCTS, timesync=TimeSync())
        before = asyncio.all_tasks()

        async def enter() -> None:
            async with client:
                pytest.fail("it was cancelled before")

        entering = asyncio.ensure_future(enter())
        await asyncio.sleep(0)
        entering.cancel()
        await asyncio.gather(entering, return_exceptions=True)
        assert asyncio.all_tasks() <= before
