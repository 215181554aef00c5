"""Events as they go over the wire: plain dicts in the field types of the streams section of the API.

Quantities and prices are x18 strings, stamps are ns strings, ids of products are numbers.
"""

from __future__ import annotations

from typing import Any

from .accounts import Subaccount
from .candles import Candle
from .config import ExchangeConfig
from .engine import Order
from .products import ProductState
from .x18 import NS_PER_S

Event = dict[str, Any]


def trade_event(timestamp_ns: int, taker: Order, maker: Order, quantity_x18: int) -> Event:
    quantity = str(quantity_x18)
    return {
        "type": "trade",
        "timestamp": str(timestamp_ns),
        "product_id": taker.product_id,
        "price": str(maker.price_x18),
        "taker_qty": quantity,
        "maker_qty": quantity,
        "is_taker_buyer": taker.is_buy,
    }


def order_update_event(
    config: ExchangeConfig,
    timestamp_ns: int,
    order: Order,
    reason: str,
    amount_x18: int,
    filled: tuple[int, int] | None = None,
) -> Event:
    """amount_x18: what remains, unsigned. filled: (quantity, price) of the match that caused it."""
    if config.update_amount == "signed" and not order.is_buy:
        amount_x18 = -amount_x18
    event: Event = {
        "type": "order_update",
        "timestamp": str(timestamp_ns),
        "product_id": order.product_id,
        "digest": order.digest,
        "amount": str(amount_x18),
        "reason": reason,
    }
    if config.update_extras and filled is not None:
        event["filled_qty"], event["filled_price"] = str(filled[0]), str(filled[1])
    return _with_id(event, order)


def fill_event(
    config: ExchangeConfig,
    timestamp_ns: int,
    order: Order,
    bearer: Subaccount,
    *,
    quantity_x18: int,
    price_x18: int,
    fee_x18: int,
    is_taker: bool,
    submission_idx: int,
) -> Event:
    event: Event = {
        "type": "fill",
        "timestamp": str(timestamp_ns),
        "product_id": order.product_id,
        "subaccount": reported_id(config, bearer),
        "order_digest": order.digest,
        "appendix": str(order.appendix),
        "filled_qty": str(quantity_x18),
        "remaining_qty": str(order.remaining_x18),
        "original_qty": str(abs(order.amount_x18)),
        "price": str(price_x18),
        "is_taker": is_taker,
        "is_bid": order.is_buy,
        "fee": str(fee_x18),
        "submission_idx": config.typed("submission_idx", submission_idx, str),
    }
    return _with_id(event, order)


def position_change_event(
    config: ExchangeConfig,
    timestamp_ns: int,
    account: Subaccount,
    product_id: int,
    amount_x18: int,
    v_quote_x18: int,
    reason: str,
) -> Event:
    """New balances; v_quote_x18 is 0 for a spot balance."""
    return {
        "type": "position_change",
        "timestamp": str(timestamp_ns),
        "product_id": product_id,
        "subaccount": reported_id(config, account),
        "isolated": account.is_isolated,
        "amount": str(amount_x18),
        "v_quote_amount": str(v_quote_x18),
        "reason": reason,
    }


def liquidation_event(
    timestamp_ns: int, product_id: int, liquidator: str, liquidatee: str, amount_x18: int, price_x18: int
) -> Event:
    """amount_x18 has the sign of the position that was taken over."""
    return {
        "type": "liquidation",
        "timestamp": str(timestamp_ns),
        "product_ids": [product_id],
        "liquidator": liquidator,
        "liquidatee": liquidatee,
        "amount": str(amount_x18),
        "price": str(price_x18),
    }


def funding_payment_event(
    config: ExchangeConfig,
    timestamp_ns: int,
    product_id: int,
    state: ProductState,
    payment_x18: int,
    dt_s: int,
) -> Event:
    """payment_x18: quote per unit of base, already in the cumulative values."""
    return {
        "type": "funding_payment",
        "timestamp": config.typed("funding_time", timestamp_ns, str),
        "product_id": product_id,
        "payment_amount": str(payment_x18),
        "open_interest": str(shown_open_interest_x18(config, state)),
        "cumulative_funding_long_x18": str(state.cumulative_funding_long_x18),
        "cumulative_funding_short_x18": str(state.cumulative_funding_short_x18),
        "dt": config.typed("dt", dt_s * (1000 if config.dt_unit == "ms" else 1), int),
    }


def funding_rate_event(timestamp_ns: int, product_id: int, rate_x18: int) -> Event:
    """rate_x18: per 24 hours."""
    return {
        "type": "funding_rate",
        "timestamp": str(timestamp_ns),
        "product_id": product_id,
        "funding_rate_x18": str(rate_x18),
        "update_time": str(timestamp_ns // NS_PER_S),
    }


def candle_event(config: ExchangeConfig, candle: Candle) -> Event:
    return {
        "type": "latest_candlestick",
        "timestamp": config.typed("candle_time", candle.start_s, str),
        "product_id": candle.product_id,
        "granularity": candle.granularity_s,
        "open_x18": str(candle.open_x18),
        "high_x18": str(candle.high_x18),
        "low_x18": str(candle.low_x18),
        "close_x18": str(candle.close_x18),
        "volume": str(candle.volume_x18),
    }


def reported_id(config: ExchangeConfig, account: Subaccount) -> str:
    """Subaccount under which events of an isolated position are told."""
    return account.owner.id if config.isolated_reporting == "parent" else account.id


def shown_open_interest_x18(config: ExchangeConfig, state: ProductState) -> int:
    return state.open_interest_x18 // (2 if config.open_interest_sides == "one" else 1)


def _with_id(event: Event, order: Order) -> Event:
    if order.client_id is not None:
        event["id"] = order.client_id
    return event
