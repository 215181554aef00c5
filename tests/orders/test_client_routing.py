"""`NadoClient`: every order type, an impatient limit, a market order in slices; over the real wire."""

from __future__ import annotations

import asyncio
from decimal import Decimal

import pytest
from deskkit import ETH, SIZE, SOL, Desk, until

from nadofast import OrderType
from nadofast.products import from_x18, to_x18


@pytest.mark.parametrize("order_type", list(OrderType))
async def test_every_order_type_rests_or_ends_as_it_should(desk: Desk, order_type: OrderType) -> None:
    price = await desk.inside(desk.eth, "buy")
    result = await desk.eth.place_open_order(ETH, SIZE, "buy", price, order_type=order_type)
    if order_type in (OrderType.IOC, OrderType.FOK):
        assert (result.success, result.filled_size) == (False, 0)  # nothing to meet: no fill is told
        assert result.status in ("REJECTED", "CANCELLED")
        assert (await desk.state())["fills"] == []
        assert await desk.eth.get_account_positions() == 0
        await desk.stranger.offer(ETH, price, -SIZE)
        result = await desk.eth.place_open_order(ETH, SIZE, "buy", price, order_type=order_type)
        assert (result.success, result.status, result.filled_size) == (True, "FILLED", SIZE)
        return
    assert (result.success, result.status) == (True, "OPEN")
    rows = await desk.eth.get_active_orders(ETH)
    assert [(row.order_id, row.side, row.price) for row in rows] == [(result.order_id, "buy", price)]
    assert (await desk.eth.cancel_order(result.order_id or "")).success
    assert await desk.eth.get_active_orders(ETH) == []


async def test_an_order_leaves_by_the_socket_and_by_rest_when_there_is_none(desk: Desk) -> None:
    price = await desk.inside(desk.eth, "buy")
    assert (await desk.eth.place_open_order(ETH, SIZE, "buy", price)).success
    assert desk.gateway.stats()["ws_requests"] == 1
    await desk.faults(socket_refused=True, cut="gateway")
    await until(lambda: desk.gateway.path == "rest", "the order sockets are gone")
    assert (await desk.eth.place_open_order(ETH, SIZE, "buy", price)).success
    assert desk.gateway.stats()["rest_requests"] == 1
    assert len(await desk.eth.get_active_orders(ETH)) == 2


async def test_a_limit_takes_what_crosses_and_rests_with_the_remainder(desk: Desk) -> None:
    price = await desk.inside(desk.eth, "sell")
    await desk.stranger.offer(ETH, price, Decimal("-0.04"))
    result = await desk.eth.place_limit_order(ETH, SIZE, "buy", price)
    assert result.success
    order = desk.order(result.order_id)
    await until(lambda: order.known_filled_x18 > 0, "the crossing part")
    info = await desk.eth.get_order_info(order.digest)
    assert info is not None
    assert (info.status, info.remaining_size) == ("PARTIALLY_FILLED", Decimal("0.06"))


async def test_two_clients_at_once_do_not_disturb_each_other(desk: Desk) -> None:
    orders = [desk.eth.place_ioc_order(ETH, SIZE, "buy") for _ in range(3)]
    orders += [desk.sol.place_ioc_order(SOL, Decimal(2), "sell") for _ in range(3)]
    results = await asyncio.gather(*orders)
    assert [result.filled_size for result in results] == [SIZE] * 3 + [Decimal(2)] * 3
    assert len({result.order_id for result in results}) == 6
    at_exchange: dict[str, int] = {}
    for fill in (await desk.state())["fills"]:
        at_exchange[fill["digest"]] = at_exchange.get(fill["digest"], 0) + abs(int(fill["base"]))
    for result in results:
        assert at_exchange[result.order_id or ""] == to_x18(result.filled_size)
    assert [desk.order(result.order_id).product_id for result in results] == [ETH] * 3 + [SOL] * 3
    assert await desk.eth.get_account_positions() == 3 * SIZE
    assert await desk.sol.get_account_positions() == -6


async def test_a_partly_filled_ioc_tells_what_it_got(desk: Desk) -> None:
    price = await desk.inside(desk.eth, "sell")
    await desk.stranger.offer(ETH, price, Decimal("-0.04"))
    result = await desk.eth.place_ioc_order(ETH, SIZE, "buy", price)
    assert (result.status, result.filled_size, result.price) == ("CANCELLED", Decimal("0.04"), price)
    assert desk.eth.extract_filled_quantity(result) == Decimal("0.04")


async def test_an_impatient_limit_gives_in_step_by_step(desk: Desk) -> None:
    """Far from the market nobody meets it: every price is two bps nearer than the last, and none is left."""
    far = desk.eth.round_to_tick(await desk.eth.get_order_price("buy") * Decimal("0.9"))
    result = await desk.eth.place_limit_order_with_timeout(
        ETH, SIZE, "buy", far, timeout_seconds=0.05, max_retries=3
    )
    assert (result.success, result.status, result.filled_size) == (False, "EXPIRED", 0)
    prices = [from_x18(order.price_x18) for order in desk.gateway.tracker._orders.values()]
    tick = from_x18(desk.eth.product.price_increment_x18)
    for price, bps in zip(prices, (0, 2, 4, 6), strict=True):
        wanted = far * (1 + Decimal(bps) / 10_000)
        assert wanted - tick < price <= wanted
    assert await desk.eth.get_active_orders(ETH) == []


async def test_an_impatient_limit_orders_only_what_is_missing(desk: Desk) -> None:
    price = await desk.inside(desk.eth, "buy")
    task = asyncio.create_task(
        desk.eth.place_limit_order_with_timeout(ETH, SIZE, "buy", price, timeout_seconds=1.0, max_retries=1)
    )
    await until(lambda: len(desk.gateway.tracker) == 1, "the first order")
    (first,) = desk.gateway.tracker._orders.values()
    await until(lambda: first.was_accepted, "it rests")
    await desk.stranger.take(ETH, price, Decimal("-0.04"))
    await until(lambda: task.done() or len(desk.gateway.tracker) == 2, "the retry")
    assert len(desk.gateway.tracker) == 2, (task.result().status, task.result().error_message)
    second = list(desk.gateway.tracker._orders.values())[1]
    assert second.amount_x18 == 6 * 10**16
    await desk.faults(clear="pause_market")
    result = await task  # two bps nearer the market somebody sells
    assert (result.success, result.status, result.filled_size) == (True, "FILLED", SIZE)
    assert await desk.eth.get_account_positions() == SIZE


async def test_an_impatient_limit_stops_where_an_end_is_not_known(desk: Desk) -> None:
    price = await desk.inside(desk.eth, "buy")
    task = asyncio.create_task(
        desk.eth.place_limit_order_with_timeout(ETH, SIZE, "buy", price, timeout_seconds=0.5, max_retries=3)
    )
    await until(lambda: len(desk.gateway.tracker) == 1, "the first order")
    (first,) = desk.gateway.tracker._orders.values()
    await until(lambda: first.was_accepted, "it rests")
    await desk.faults(query_only=True, socket_refused=True, cut="all")  # its cancel cannot get through
    result = await task
    assert (result.success, result.status) == (False, "UNKNOWN")
    assert len(desk.gateway.tracker) == 1


async def test_a_market_order_in_slices_stays_inside_its_cap(desk: Desk) -> None:
    await desk.stand_still()
    mid = from_x18(desk.sol.quote().mid_x18)
    done = await desk.sol.place_iterative_market_order(SOL, Decimal(6), "buy", max_slippage_bps=20)
    assert (done["success"], done["total_filled"], done["reason"]) == (True, Decimal(6), "filled")
    assert 1 <= done["iterations"] <= 20
    assert done["total_fees"] > 0
    assert done["average_price"] <= mid * Decimal("1.002")
    assert await desk.sol.get_account_positions() == 6
    back = await desk.sol.place_iterative_market_order(SOL, Decimal(6), "sell", max_slippage_bps=20)
    assert back["success"]
    assert back["average_price"] >= mid * Decimal("0.997")
    assert await desk.sol.get_account_positions() == 0


async def test_a_market_order_in_slices_takes_no_more_than_lies_inside_the_cap(desk: Desk) -> None:
    """The price does not walk away: what the cap cannot buy is left, and told."""
    price = await desk.inside(desk.eth, "buy")  # one tick above the bid: not above the middle
    task = asyncio.create_task(
        desk.eth.place_iterative_market_order(ETH, SIZE, "buy", max_iterations=4, max_slippage_bps=0)
    )
    await asyncio.sleep(0.05)
    assert len(desk.gateway.tracker) == 0  # nobody sells at the middle yet
    await desk.stranger.offer(ETH, price, Decimal("-0.04"))
    done = await task
    assert (done["success"], done["iterations"], done["reason"]) == (False, 4, "4 iterations")
    assert (done["total_filled"], done["average_price"]) == (Decimal("0.04"), price)
    (only,) = desk.gateway.tracker._orders.values()
    assert only.amount_x18 == 4 * 10**16


async def test_a_market_order_that_the_gate_refuses_says_so(desk: Desk) -> None:
    desk.gate.halt("a test")
    done = await desk.eth.place_iterative_market_order(ETH, SIZE, "buy", max_slippage_bps=20)
    assert (done["success"], done["iterations"], done["total_filled"]) == (False, 1, 0)
    assert "halted" in done["reason"]
    assert len(desk.gateway.tracker) == 0
