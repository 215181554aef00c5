"""`NadoClient`: the members callers of old use, and the mistakes of old that it must not make again."""

from __future__ import annotations

import asyncio
import inspect
from decimal import Decimal
from typing import Any

import pytest
from deskkit import ETH, SIZE, SOL, Desk, until

from bot import client_market
from bot.client import ClientConfig, NadoClient
from bot.order_results import OrderInfo, OrderResult
from nadofast import OrderType, make_nonce, pack_appendix, to_x18, wire
from nadofast.errors import (
    BookInvalid,
    ConfigError,
    ConnectionLost,
    InsufficientDepth,
    InvalidKey,
    RequestTimeout,
)

MEMBERS = {
    "round_to_tick": ["price"],
    "connect": [],
    "disconnect": [],
    "get_exchange_name": [],
    "setup_order_update_handler": ["handler"],
    "fetch_bbo_prices": ["contract_id"],
    "get_order_price": ["direction"],
    "get_contract_attributes": [],
    "place_open_order": ["contract_id", "quantity", "direction"],
    "place_close_order": ["contract_id", "quantity", "price", "side"],
    "place_ioc_order": ["contract_id", "quantity", "direction"],
    "place_limit_order": ["contract_id", "quantity", "direction", "price"],
    "place_limit_order_with_timeout": ["contract_id", "quantity", "direction"],
    "place_iterative_market_order": ["contract_id", "target_quantity", "side"],
    "cancel_order": ["order_id"],
    "get_order_info": ["order_id"],
    "get_active_orders": ["contract_id"],
    "get_account_positions": [],
    "wait_for_fill": ["order_id"],
    "wait_for_fill_by_position": ["expected_quantity"],
    "wait_for_fill_websocket": ["order_id"],
    "extract_filled_quantity": ["result"],
    "calculate_timeout": ["quantity"],
    "calculate_slippage_bps": ["execution_price", "reference_price"],
    "get_bbo_handler": [],
    "get_bookdepth_handler": [],
    "has_ws_market_data": [],
    "estimate_slippage": ["side", "quantity"],
    "check_exit_capacity": ["position"],
    "get_available_liquidity": ["side"],
    "verify_leverage": [],
    "connect_websocket": [],
    "subscribe_to_orders": ["callback"],
    "get_connection_status": [],
    "get_connection_metrics": [],
    "get_connection_health": [],
    "_validate_config": [],
    "_authenticate_websocket": [],
    "_ws_message_handler": [],
    "_ws_reconnect": [],
}
OPTIONAL = {
    "place_open_order": {"price": None},
    "place_limit_order_with_timeout": {"price": None, "timeout_seconds": None, "max_retries": 3},
    "place_iterative_market_order": {"max_iterations": 20, "max_slippage_bps": 5},
    "wait_for_fill": {"timeout": 10},
    "wait_for_fill_by_position": {"timeout": 10},
    "wait_for_fill_websocket": {"timeout": 5.0},
    "calculate_timeout": {"spread_state": None},
}


@pytest.mark.parametrize("name", sorted(MEMBERS))
def test_every_member_has_the_parameters_of_old(name: str) -> None:
    parameters = [
        p for n, p in inspect.signature(getattr(NadoClient, name)).parameters.items() if n != "self"
    ]
    assert [p.name for p in parameters if p.default is p.empty] == MEMBERS[name]
    for option, default in OPTIONAL.get(name, {}).items():
        assert next(p.default for p in parameters if p.name == option) == default


def test_results_have_the_fields_of_old() -> None:
    assert list(OrderResult.__dataclass_fields__) == [
        "success", "order_id", "side", "size", "price", "status", "error_message", "filled_size",
        "from_post_only",
    ]  # fmt: skip
    assert list(OrderInfo.__dataclass_fields__) == [
        "order_id", "side", "size", "price", "status", "filled_size", "remaining_size", "cancel_reason",
        "avg_fill_price",
    ]  # fmt: skip


async def test_the_owner_is_the_keys_wallet(desk: Desk) -> None:
    assert desk.eth.owner_address == desk.ready["accounts"][0]["address"].lower()


async def test_a_key_is_checked_without_being_shown(desk: Desk) -> None:
    desk.eth._validate_config(desk.ready["accounts"][0]["private_key"])
    for wrong, reason in (
        ("0x" + "ab" * 20, "looks like an address"),
        ("0x" + "0" * 64, "zero"),
        ("0x12", "64"),
    ):
        with pytest.raises(InvalidKey, match=reason) as caught:
            desk.eth._validate_config(wrong)
        assert wrong[2:] not in str(caught.value)


async def test_a_configuration_of_another_product_is_refused(desk: Desk) -> None:
    parts: dict[str, Any] = {
        "market": desk.eth._market, "gateway": desk.gateway, "gate": desk.gate, "timesync": desk.eth._timesync
    }  # fmt: skip
    for config in (
        ClientConfig(tick_size=Decimal("0.0001")), ClientConfig(contract_id=SOL),
        ClientConfig(min_size=Decimal(1)), ClientConfig(direction="long"),
    ):  # fmt: skip
        with pytest.raises(ConfigError):
            NadoClient(desk.eth.product, config=config, **parts)
    good = NadoClient(desk.sol.product, config=ClientConfig(contract_id=SOL, direction="sell"), **parts)
    assert await good.get_contract_attributes() == (SOL, Decimal("0.01"))
    assert (good.config.ticker, good.config.tick_size) == ("SOL", Decimal("0.01"))
    assert good.config.close_order_side == "buy"
    assert good.config.min_size


async def test_no_order_is_sent_for_another_products_contract(desk: Desk) -> None:
    for call in (
        desk.eth.place_open_order(SOL, SIZE, "buy"), desk.eth.place_ioc_order(SOL, SIZE, "buy"),
        desk.eth.place_close_order(SOL, SIZE, None, "sell"), desk.eth.fetch_bbo_prices(SOL),
        desk.eth.get_active_orders(SOL), desk.eth.place_limit_order_with_timeout(SOL, SIZE, "buy"),
        desk.eth.place_iterative_market_order(SOL, SIZE, "buy"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match="contract 8 is not 4"):
            await call
    assert len(desk.gateway.tracker) == 0


# ---------------------------------------------------------------------------- mistakes of old


async def test_a_frozen_stream_is_not_asked_for_a_price(desk: Desk) -> None:
    """A socket that is open and says nothing: the age of what it said last counts, not that it is open."""
    await desk.faults(mute=True)
    await until(
        lambda: desk.eth.quote().age_ms > 2_000 or desk.feed.bbo(ETH).source == "rest", "the stream is old"
    )
    bid, ask = await desk.eth.fetch_bbo_prices(ETH)
    assert 0 < bid < ask
    queried = await desk.eth._bbo_over_rest()
    assert abs(queried[0] - bid) < bid / 100


async def test_three_failures_of_rest_give_no_price_and_no_order(desk: Desk) -> None:
    await desk.faults(socket_refused=True, cut="subscribe", http_error={"probability": 1.0})
    await until(lambda: not desk.eth._ws_connected, "the stream is gone")
    await until(lambda: desk.eth.quote().age_ms > 2_000, "its last price is old")
    calls: list[int] = []
    rest = desk.eth._books().rest
    ask = rest.query

    async def counted(request: dict[str, Any]) -> Any:
        if request["type"] == "market_price" and asyncio.current_task() is me:
            calls.append(1)
        return await ask(request)

    me, rest.query = asyncio.current_task(), counted  # type: ignore[method-assign]
    assert await desk.eth.fetch_bbo_prices(ETH) == (0, 0)
    assert len(calls) == 3


async def test_a_price_is_asked_for_again_before_giving_up(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    await desk.stand_still()
    rest, failures = desk.eth._books().rest, [RequestTimeout("slow"), ConnectionLost("cut")]
    ask, calls = rest.query, 0

    async def rude(request: dict[str, Any]) -> Any:
        nonlocal calls
        if request["type"] == "market_price" and asyncio.current_task() is me:
            calls += 1
            if failures:
                raise failures.pop()
        return await ask(request)

    me = asyncio.current_task()
    monkeypatch.setattr(rest, "query", rude)
    monkeypatch.setattr(client_market, "MAX_BBO_AGE_MS", -1)  # no stream is fresh enough
    bid, ask_price = await desk.eth.fetch_bbo_prices(ETH)
    quote = desk.eth.quote()
    assert (to_x18(bid), to_x18(ask_price)) == (quote.bid_x18, quote.ask_x18)
    assert calls == 3


async def test_no_data_and_not_enough_of_it_are_two_things(desk: Desk) -> None:
    await desk.stand_still()
    assert await desk.eth.estimate_slippage("buy", SIZE) >= 0
    everything = await desk.eth.get_available_liquidity("sell", 10_000)
    assert everything > 0
    with pytest.raises(InsufficientDepth):
        await desk.eth.estimate_slippage("sell", everything + 1)
    whole, held = await desk.eth.check_exit_capacity(SIZE)
    assert (whole, held) == (True, SIZE)
    whole, held = await desk.eth.check_exit_capacity(-10 * everything, max_slippage_bps=1)
    assert not whole
    assert 0 < held < 10 * everything
    with pytest.raises(InsufficientDepth):
        await desk.eth.check_exit_capacity(-10 * everything, max_slippage_bps=9_000)
    desk.feed.book(ETH).clear()
    for call in (
        desk.eth.estimate_slippage("buy", SIZE), desk.eth.get_available_liquidity("buy"),
        desk.eth.check_exit_capacity(SIZE),
    ):  # fmt: skip
        with pytest.raises(BookInvalid):
            await call


async def test_prices_snap_to_the_exchanges_tick(desk: Desk) -> None:
    assert desk.eth.round_to_tick(Decimal("3000.05")) == Decimal("3000.1")
    assert desk.eth.round_to_tick(Decimal("3000.049999")) == Decimal("3000.0")
    assert desk.sol.round_to_tick(Decimal("115.065")) == Decimal("115.07")
    base = await desk.eth.get_order_price("buy")
    result = await desk.eth.place_open_order(ETH, SIZE, "buy", base * Decimal("0.97123456789"))
    assert result.success  # the exchange took it: not off the grid
    assert result.price is not None
    assert result.price % Decimal("0.1") == 0


async def test_a_position_includes_what_has_its_own_margin(desk: Desk) -> None:
    """Isolated orders live in a subaccount of their own: a reader of the cross account alone sees nothing."""
    signer, timesync = desk.gateway._preparer._signer, desk.eth._timesync
    ask = desk.eth.quote().ask_x18
    signed = signer.sign_order(
        product_id=ETH,
        price_x18=desk.eth.product.round_price(ask * 101 // 100, "up"),
        amount_x18=to_x18(SIZE),
        expiration_s=timesync.exchange_now_ms() // 1000 + 60,
        nonce=make_nonce(timesync.exchange_now_ms() + 5_000, 1),
        appendix=pack_appendix(OrderType.IOC, isolated=True, isolated_margin_x6=100_000_000),
    )
    await desk.eth._books().rest.execute(wire.place_order(signed, 1))
    assert await desk.eth.get_account_positions() == SIZE


async def test_a_timeout_tells_what_filled_and_the_next_order_does_not_repeat_it(desk: Desk) -> None:
    price = await desk.inside(desk.eth, "buy")
    placed = await desk.eth.place_open_order(ETH, SIZE, "buy", price)
    await desk.stranger.take(ETH, price, Decimal("-0.03"))
    info = await desk.eth.wait_for_fill(placed.order_id or "", timeout=0.2)
    assert info is not None
    assert (info.status, info.filled_size, info.remaining_size) == (
        "CANCELLED", Decimal("0.03"), Decimal("0.07")
    )  # fmt: skip
    assert info.avg_fill_price == price
    assert await desk.eth.get_account_positions() == Decimal("0.03")


async def test_a_filled_sell_reads_as_filled(desk: Desk) -> None:
    sold = await desk.eth.place_ioc_order(ETH, SIZE, "sell")
    assert (sold.success, sold.side, sold.filled_size) == (True, "sell", SIZE)
    assert desk.eth.extract_filled_quantity(sold) == SIZE
    assert await desk.eth.get_account_positions() == -SIZE


async def test_an_answer_that_never_came_is_not_a_cancel(desk: Desk) -> None:
    """The order is there; its answer is lost, and so is every other way to ask. It is not cancelled."""
    await desk.stand_still()
    price = await desk.eth.get_order_price("buy")
    await desk.faults(query_only=True, lose_reply=1, mute=True, http_error={"probability": 1.0})
    result = await desk.eth.place_open_order(ETH, SIZE, "buy", price)
    assert (result.success, result.status) == (False, "UNKNOWN")
    waited = await desk.eth.wait_for_fill_websocket(result.order_id or "", timeout=0.1)
    assert (waited.success, waited.status) == (False, "UNKNOWN")


async def test_leverage_is_the_accounts_own(desk: Desk) -> None:
    flat = await desk.eth.verify_leverage()
    assert (flat["notional"], flat["leverage"], flat["is_within"]) == (0, 0, True)
    assert flat["max_leverage"] > 1
    assert (await desk.eth.place_ioc_order(ETH, Decimal(1), "buy")).success
    held = await desk.eth.verify_leverage()
    mid = Decimal(desk.eth.quote().mid_x18) / 10**18
    assert abs(held["notional"] - mid) < mid / 50
    assert held["leverage"] == held["notional"] / held["equity"]
    assert held["is_within"]


async def test_a_post_only_exit_never_exceeds_the_position(desk: Desk) -> None:
    assert (await desk.eth.place_ioc_order(ETH, SIZE, "buy")).success
    await desk.stand_still()
    price = await desk.eth.get_order_price("sell")
    first = await desk.eth.place_close_order(ETH, Decimal("0.06"), price, "sell")
    assert first.success
    second = await desk.eth.place_close_order(ETH, Decimal("0.06"), price, "sell")
    assert (second.success, second.status) == (False, "DENIED")
    assert to_x18("0.06") == -desk.order(first.order_id).amount_x18
