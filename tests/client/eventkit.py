"""Events made up for the tests of queues, handlers and routing."""

from __future__ import annotations

from nadofast.events import BBOEvent, FillEvent, OrderUpdateEvent, PositionChangeEvent, TradeEvent

SUBACCOUNT = "0x" + "11" * 32
X18 = 10**18


def bbo(product_id: int, price: int) -> BBOEvent:
    return BBOEvent(product_id, 1, price, 1, price + 1, 1)


def trade(index: int) -> TradeEvent:
    return TradeEvent(4, index, 1, 1, 1, True)


def update(index: int, digest: str = "0x", reason: str = "placed", left_x18: int = 1) -> OrderUpdateEvent:
    return OrderUpdateEvent(4, index, digest, left_x18, reason)


def fill(
    index: int,
    digest: str = "0xaa",
    *,
    qty_x18: int = X18,
    left_x18: int = 0,
    original_x18: int = X18,
    price_x18: int = 100 * X18,
    is_bid: bool = True,
    fee_x18: int = 0,
) -> FillEvent:
    return FillEvent(
        4, index, SUBACCOUNT, digest, 0, qty_x18, left_x18, original_x18, price_x18, True, is_bid, fee_x18,
        index,
    )  # fmt: skip


def position(index: int, amount_x18: int = X18, v_quote_x18: int = -100 * X18) -> PositionChangeEvent:
    return PositionChangeEvent(4, index, SUBACCOUNT, False, amount_x18, v_quote_x18, "match_orders")
