"""An order as queries and cancel replies show it."""

from __future__ import annotations

from typing import Any

from .config import ExchangeConfig
from .engine import Order
from .x18 import NS_PER_S


def order_view(config: ExchangeConfig, order: Order) -> dict[str, Any]:
    """`id` only if the client gave one."""
    view: dict[str, Any] = {
        "product_id": order.product_id,
        "sender": order.account.id,
        "price_x18": str(order.price_x18),
        "amount": str(order.amount_x18),
        "expiration": str(order.expiration_s),
        "order_type": order.order_type.wire_name,
        "nonce": str(order.nonce),
        "unfilled_amount": str(order.unfilled_x18),
        "digest": order.digest,
        "appendix": str(order.appendix),
        "placed_at": config.typed("placed_at", order.placed_ns // NS_PER_S, int),
    }
    if order.client_id is not None:
        view["id"] = order.client_id
    return view
