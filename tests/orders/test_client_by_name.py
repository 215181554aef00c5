"""`NadoClient` by its names, over the real wire: placement, waiting, and what the helpers refuse to guess."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from deskkit import ETH, SIZE, SOL, Desk, until
from quickest import quickest

from bot.order_results import (
    OrderResult,
    calculate_slippage_bps,
    calculate_timeout,
    extract_filled_quantity,
    query_retry,
    result_of,
)
from bot.risk import CLIENT_ID_BASE
from nadofast import OrderTracker, TimeSync, parse
from nadofast.errors import RequestTimeout
from nadofast.events import FillEvent
from nadofast.products import to_x18

FILL_SAMPLE = Path(__file__).parent.parent / "data" / "samples" / "stream_fill.json"


async def test_attributes_prices_and_a_flat_account(desk: Desk) -> None:
    assert await desk.eth.get_contract_attributes() == (4, Decimal("0.1"))
    assert await desk.sol.get_contract_attributes() == (8, Decimal("0.01"))
    await desk.stand_still()
    for client, product_id in ((desk.eth, ETH), (desk.sol, SOL)):
        bid, ask = await client.fetch_bbo_prices(product_id)
        assert 0 < bid < ask
        assert (bid, ask) == await client._bbo_over_rest()  # the stream and the exchange say the same
        assert bid <= await client.get_order_price("buy") < ask
        assert bid < await client.get_order_price("sell") <= ask
        position = await client.get_account_positions()
        assert (type(position), position) == (Decimal, 0)
    assert desk.eth.get_exchange_name() == "nado"


async def test_both_legs_fill_by_events_and_leave_again(desk: Desk) -> None:
    heard: list[tuple[str, Decimal]] = []
    desk.eth.setup_order_update_handler(lambda digest, size, price, at: heard.append((digest, size)))
    eth, sol = await asyncio.gather(
        desk.eth.place_ioc_order(ETH, SIZE, "buy"), desk.sol.place_ioc_order(SOL, Decimal("2"), "sell")
    )
    assert (eth.success, eth.status, eth.filled_size, eth.side) == (True, "FILLED", SIZE, "buy")
    assert (sol.success, sol.filled_size, sol.side) == (True, Decimal("2"), "sell")  # positive for sells
    await until(lambda: sum(size for _, size in heard) == SIZE, "the handler hears of every fill")
    assert {digest for digest, _ in heard} == {eth.order_id}
    assert await desk.sol.get_account_positions() == -2
    closed = await desk.eth.place_close_order(ETH, SIZE, None, "sell", rests=False)
    assert (closed.success, closed.filled_size) == (True, SIZE)
    refused = await desk.eth.place_close_order(ETH, SIZE, None, "sell", rests=False)
    assert (refused.success, refused.status) == (False, "DENIED")
    assert await desk.eth.get_account_positions() == 0
    await desk.eth.disconnect()


async def test_an_order_without_a_known_time_is_denied_and_holds_nothing(desk: Desk) -> None:
    """More than half of the limit each: what the first one claims must be free for the second."""
    known, desk.eth._timesync = desk.eth._timesync, TimeSync()
    most = Decimal(4)
    denied = await desk.eth.place_ioc_order(ETH, most, "buy")
    assert (denied.success, denied.status) == (False, "DENIED")
    assert "clock_unknown" in (denied.error_message or "")
    desk.eth._timesync = known
    assert (await desk.eth.place_ioc_order(ETH, most, "buy")).status != "DENIED"


async def test_what_an_interrupted_order_may_still_do_counts_until_it_is_over(desk: Desk) -> None:
    """Whoever waited has gone; the order has not, and the limit is free again only when it has ended."""
    await desk.stand_still()
    bid, most = (await desk.eth.fetch_bbo_prices(ETH))[0], Decimal(4)
    await desk.faults(lose_reply=1)
    placing = asyncio.create_task(desk.eth.place_limit_order(ETH, most, "buy", bid * Decimal("0.98")))
    await until(lambda: len(desk.gateway.tracker) == 1, "it is on its way")
    placing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await placing
    (order,) = desk.gateway.tracker.live()
    assert (await desk.eth.place_ioc_order(ETH, most, "buy")).status == "DENIED"
    await desk.eth.cancel_order(order.digest)
    await until(lambda: order.is_settled, "it is over")
    assert (await desk.eth.place_ioc_order(ETH, most, "buy")).status != "DENIED"


async def test_an_order_that_left_twice_counts_until_no_copy_can_come(desk: Desk) -> None:
    await desk.stand_still()
    bid, most = (await desk.eth.fetch_bbo_prices(ETH))[0], Decimal(4)
    await desk.faults(lose_reply=1, drop={"kind": "order_update", "count": 1})
    placed = await desk.eth.place_limit_order(ETH, most, "buy", bid * Decimal("0.98"))
    order = desk.order(placed.order_id)
    assert (await desk.eth.cancel_order(order.digest)).success
    assert order.may_revive
    assert (await desk.eth.place_ioc_order(ETH, most, "buy")).status == "DENIED"
    await until(lambda: order.is_settled, "nothing can come of it any more")
    assert (await desk.eth.place_ioc_order(ETH, most, "buy")).status != "DENIED"


async def test_the_end_of_a_former_order_of_the_same_tag_frees_nothing(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tags begin anew with every process: of two orders with one client id the gate counts its own."""
    tag, former, tracker = 1 << 37, "0x" + "0a" * 32, desk.gateway.tracker
    monkeypatch.setattr("bot.client_orders._TAGS", itertools.count(tag))
    tracker.restore(
        digest=former, product_id=ETH, sender="0x01", price_x18=to_x18(3_000), amount_x18=to_x18(1),
        expiration_s=2**62, nonce=1 << 20, appendix=1, client_id=CLIENT_ID_BASE + tag,
    )  # fmt: skip
    await desk.stand_still()
    bid, most = (await desk.eth.fetch_bbo_prices(ETH))[0], Decimal(4)
    await desk.faults(lose_reply=1)
    placing = asyncio.create_task(desk.eth.place_limit_order(ETH, most, "buy", bid * Decimal("0.98")))
    await until(lambda: len(tracker) == 2, "it is on its way")
    placing.cancel()
    await asyncio.wait([placing])
    tracker.on_last_word(former, to_x18(1))
    assert (await desk.eth.place_ioc_order(ETH, most, "buy")).status == "DENIED"


async def test_a_resting_exit_is_seen_waited_for_and_cancelled(desk: Desk) -> None:
    await desk.faults(pause_market=True)
    opened = await desk.eth.place_ioc_order(ETH, SIZE, "buy")
    assert opened.filled_size == SIZE
    far = (await desk.eth.fetch_bbo_prices(ETH))[1] * Decimal("1.05")
    rests = await desk.eth.place_close_order(ETH, SIZE, far, "sell")
    assert (rests.success, rests.status) == (True, "OPEN")
    assert rests.order_id is not None
    assert [info.order_id for info in await desk.eth.get_active_orders(ETH)] == [rests.order_id]
    assert await desk.sol.get_active_orders(SOL) == []
    waited = await desk.eth.wait_for_fill_websocket(rests.order_id, timeout=0.2)
    assert (waited.success, waited.status, waited.filled_size) == (False, "OPEN", 0)
    info = await desk.eth.wait_for_fill(rests.order_id, timeout=0.2)
    assert info is not None
    assert (info.status, info.filled_size, info.remaining_size) == ("CANCELLED", 0, SIZE)
    again = await desk.eth.cancel_order(rests.order_id)
    assert not again.success
    assert await desk.eth.get_active_orders(ETH) == []


async def test_an_order_nobody_knows_is_not_called_cancelled(desk: Desk) -> None:
    stranger = "0x" + "12" * 32
    assert await desk.eth.get_order_info(stranger) is None
    assert await desk.eth.wait_for_fill(stranger) is None
    assert (await desk.eth.wait_for_fill_websocket(stranger)).status == "UNKNOWN"


async def test_a_fill_with_the_stream_down_is_known_within_half_a_second(desk: Desk) -> None:
    lost = asyncio.Event()
    desk.feed.on("boundary", lambda event: lost.set() if event.what == "link_lost" else None)
    await desk.faults(socket_refused=True, cut="subscribe")
    await asyncio.wait_for(lost.wait(), 5)
    assert not desk.feed.account_live

    async def fill() -> float:
        started_s = time.monotonic()
        result = await desk.eth.place_ioc_order(ETH, SIZE, "buy")
        took_s = time.monotonic() - started_s
        print(f"fill with the stream down known after {took_s * 1e3:.0f} ms")
        assert (result.success, result.filled_size) == (True, SIZE)
        return took_s

    await quickest(fill, 0.5)


async def test_waiting_by_position_compares_signed(desk: Desk) -> None:
    there, moved, _ = await desk.eth.wait_for_fill_by_position(-SIZE, timeout=0.2)
    assert (there, moved) == (False, 0)
    selling = asyncio.create_task(desk.eth.wait_for_fill_by_position(-SIZE, timeout=0.5))
    waiting = asyncio.create_task(desk.eth.wait_for_fill_by_position(SIZE, timeout=3))
    await asyncio.sleep(0)
    assert (await desk.eth.place_ioc_order(ETH, SIZE, "buy")).success
    assert (await waiting)[:2] == (True, SIZE)
    assert (await selling)[:2] == (False, SIZE)  # as much, and the wrong way
    with pytest.raises(ValueError, match="zero"):
        await desk.eth.wait_for_fill_by_position(Decimal(0))


async def test_a_side_that_is_not_understood_is_never_guessed(desk: Desk) -> None:
    with pytest.raises(ValueError, match="neither buy nor sell"):
        await desk.eth.place_ioc_order(ETH, SIZE, "long")


@pytest.mark.parametrize(
    ("quantity", "state", "seconds"),
    [
        ("0.1", None, 5), ("0.5", None, 10), ("2.0", None, 20), ("-2.0", None, 20),
        ("0.1", "WIDENING", 3), ("0.5", "WIDENING", 5), ("0.5", "NARROWING", 20), ("2.0", "NARROWING", 30),
        ("0.5", "STABLE", 10),
    ],
)  # fmt: skip
def test_timeout_by_size(quantity: str, state: str | None, seconds: int) -> None:
    assert calculate_timeout(Decimal(quantity), state) == seconds


@pytest.mark.parametrize(
    ("result", "filled"),
    [
        (OrderResult(True, size=Decimal(1), filled_size=Decimal("0.4")), "0.4"),
        (OrderResult(True, size=Decimal(1)), "0"),
        ({"filled_size": Decimal("-0.3"), "size": Decimal(1)}, "0.3"),
        ({"size": Decimal(5)}, "0"),
        ({"filled_size": 3 * 10**17}, "0"),
        ({"filled_size": Decimal("NaN")}, "0"),
        (None, "0"),
        ([1, 2], "0"),
    ],
)
def test_filled_quantity_is_what_was_said_to_be_filled(result: Any, filled: str) -> None:
    assert extract_filled_quantity(result) == Decimal(filled)


def test_the_exchanges_own_numbers_read_as_what_was_filled() -> None:
    """Digits of the wire, times 10^18, through the records to the helper."""
    (message,) = json.loads(FILL_SAMPLE.read_text())["events"]
    message |= {"filled_qty": "25000000000000000", "remaining_qty": "100000000000000000"}
    tracker = OrderTracker()
    order = tracker.restore(
        digest=message["order_digest"], product_id=ETH, sender=message["subaccount"],
        price_x18=int(message["price"]), amount_x18=int(message["original_qty"]), expiration_s=2_000_000_000,
        nonce=1, appendix=int(message["appendix"]),
    )  # fmt: skip
    event = parse(json.dumps(message).encode())
    assert isinstance(event, FillEvent)
    tracker.on_fill(event)
    result = result_of(order, is_success=True)
    assert (result.side, result.status, result.size) == ("buy", "PARTIALLY_FILLED", Decimal("0.125"))
    assert result.price == Decimal("3021.4")
    assert extract_filled_quantity(result) == Decimal("0.025")


def test_slippage_in_bps() -> None:
    assert calculate_slippage_bps(Decimal("3003"), Decimal(3000)) == 10
    assert calculate_slippage_bps(Decimal("2997"), Decimal(3000)) == 10
    assert calculate_slippage_bps(Decimal("2997"), Decimal(0)) == 0


async def test_queries_are_tried_again_then_give_their_default() -> None:
    calls: list[int] = []

    @query_retry(-1, RequestTimeout, max_attempts=3, min_wait=0.001)
    async def query(failures: int) -> int:
        calls.append(failures)
        if len(calls) <= failures:
            raise RequestTimeout("no")
        return len(calls)

    assert await query(2) == 3
    calls.clear()
    assert await query(5) == -1
    assert len(calls) == 3
