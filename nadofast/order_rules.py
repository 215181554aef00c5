"""What an order must satisfy before it is worth a signature (order checks of the products section)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from . import wire
from .appendix import OrderType
from .errors import OrderDenied
from .outcome import OrderRequest
from .products import Product

TAKER_ONLY: Final = frozenset({OrderType.IOC, OrderType.FOK})


def check_request(request: OrderRequest, products: Mapping[int, Product]) -> None:
    """Raises OrderDenied naming the product rule that the request violates."""
    product = products.get(request.product_id)
    if product is None:
        raise OrderDenied("product", f"product {request.product_id} is not configured")
    if not product.is_valid_price(request.price_x18):
        raise OrderDenied("price", f"{request.price_x18} is not a positive multiple of the price step")
    if not product.is_valid_size(request.amount_x18):
        raise OrderDenied("amount", f"{request.amount_x18} is not a non-zero multiple of the size step")
    is_taker_only = request.order_type in TAKER_ONLY
    if request.reduce_only and not is_taker_only:
        raise OrderDenied("reduce_only", "the exchange takes reduce-only from IOC and FOK orders only")
    if not is_taker_only and not product.meets_min_size(request.amount_x18, request.price_x18):
        raise OrderDenied("min_size", f"notional is below {product.min_size_x18} x18")
    if request.client_id is not None and not 0 <= request.client_id <= wire.MAX_CLIENT_ID:
        raise OrderDenied("client_id", f"{request.client_id} is outside 0..2^53-1")
    _check_trading_status(request, product)


def _check_trading_status(request: OrderRequest, product: Product) -> None:
    status = product.trading_status
    if status == "not_tradable":
        raise OrderDenied("trading_status", f"{product.symbol} is not tradable")
    if status == "post_only" and request.order_type is not OrderType.POST_ONLY:
        raise OrderDenied("trading_status", f"{product.symbol} takes post-only orders only")
    if status in ("reduce_only", "soft_reduce_only") and not request.reduce_only:
        raise OrderDenied("trading_status", f"{product.symbol} takes reduce-only orders only")
