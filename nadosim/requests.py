"""Execute messages as typed values. Anything that is not what the API documents is refused with 2038.

Order fields are strings on the wire, as the real server insists; ids and product ids are numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final

from .errors import ExchangeError
from .fields import (
    MALFORMED,
    client_id,
    flag,
    hex_bytes,
    lenient_int,
    mapping,
    nonce,
    product_ids,
    sender,
    text,
    uint32,
    wire_int,
)
from .x18 import INT128_MAX, INT128_MIN, UINT64_MAX, UINT128_MAX

MAX_BATCH: Final = 50


class OrderType(IntEnum):
    """Bits 9–10 of the appendix."""

    DEFAULT = 0
    IOC = 1
    FOK = 2
    POST_ONLY = 3

    @property
    def wire_name(self) -> str:
        return self.name.lower()

    @property
    def is_taker(self) -> bool:
        """Never rests."""
        return self in (OrderType.IOC, OrderType.FOK)


@dataclass(frozen=True, slots=True)
class Appendix:
    """Bit fields of an order's appendix."""

    version: int
    isolated: bool
    order_type: OrderType
    reduce_only: bool
    trigger: int
    reserved: int
    builder_fee_rate: int
    builder_id: int
    value: int

    @classmethod
    def unpack(cls, raw: int) -> Appendix:
        return cls(
            version=raw & 0xFF,
            isolated=bool(raw >> 8 & 1),
            order_type=OrderType(raw >> 9 & 3),
            reduce_only=bool(raw >> 11 & 1),
            trigger=raw >> 12 & 3,
            reserved=raw >> 14 & 0xFFFFFF,
            builder_fee_rate=raw >> 38 & 0x3FF,
            builder_id=raw >> 48 & 0xFFFF,
            value=raw >> 64,
        )


@dataclass(frozen=True, slots=True)
class OrderFields:
    """The signed part of an order. sender is lower-case hex of 32 bytes."""

    sender: str
    price_x18: int
    amount_x18: int
    expiration_s: int
    nonce: int
    appendix: int


@dataclass(frozen=True, slots=True)
class PlaceRequest:
    """spot_leverage, borrow_margin: None when the request does not name them."""

    product_id: int
    order: OrderFields
    signature: str
    client_id: int | None
    spot_leverage: bool | None
    borrow_margin: bool | None


@dataclass(frozen=True, slots=True)
class CancelRequest:
    """required_unfilled_x18: cancel only while this much, signed like the amount, is unfilled."""

    sender: str
    product_ids: tuple[int, ...]
    digests: tuple[str, ...]
    nonce: int
    signature: str
    required_unfilled_x18: int | None


@dataclass(frozen=True, slots=True)
class CancelProductsRequest:
    sender: str
    product_ids: tuple[int, ...]
    nonce: int
    signature: str


@dataclass(frozen=True, slots=True)
class ReplaceRequest:
    """cancel_and_place. requires_unfilled: None when the request does not name it."""

    cancel: CancelRequest
    place: PlaceRequest
    requires_unfilled: bool | None


@dataclass(frozen=True, slots=True)
class BatchRequest:
    """place_orders."""

    orders: tuple[PlaceRequest, ...]
    stop_on_failure: bool


def parse_place(request: object) -> PlaceRequest:
    fields = mapping(request, "place_order")
    order = mapping(fields.get("order"), "order")
    return PlaceRequest(
        product_id=uint32(fields.get("product_id"), "product_id"),
        order=OrderFields(
            sender=sender(order),
            price_x18=wire_int(order, "priceX18", INT128_MIN, INT128_MAX),
            amount_x18=wire_int(order, "amount", INT128_MIN, INT128_MAX),
            expiration_s=wire_int(order, "expiration", 0, UINT64_MAX),
            nonce=nonce(order, as_text=True),
            appendix=wire_int(order, "appendix", 0, UINT128_MAX),
        ),
        signature=text(fields.get("signature"), "signature"),
        client_id=client_id(fields.get("id")),
        spot_leverage=_optional_flag(fields, "spot_leverage"),
        borrow_margin=_optional_flag(fields, "borrow_margin"),
    )


def parse_cancel(request: object) -> CancelRequest:
    fields = mapping(request, "cancel_orders")
    return _cancel(
        fields.get("tx"), fields.get("signature"), fields.get("required_unfilled_amount"), "cancel_orders"
    )


def parse_cancel_products(request: object) -> CancelProductsRequest:
    fields = mapping(request, "cancel_product_orders")
    tx = mapping(fields.get("tx"), "tx")
    return CancelProductsRequest(
        sender=sender(tx),
        product_ids=product_ids(tx.get("productIds")),
        nonce=nonce(tx),
        signature=text(fields.get("signature"), "signature"),
    )


def parse_replace(request: object) -> ReplaceRequest:
    fields = mapping(request, "cancel_and_place")
    return ReplaceRequest(
        cancel=_cancel(
            fields.get("cancel_tx"),
            fields.get("cancel_signature"),
            fields.get("required_unfilled_amount"),
            "cancel_tx",
        ),
        place=parse_place(fields.get("place_order")),
        requires_unfilled=_optional_flag(fields, "place_requires_unfilled"),
    )


def parse_batch(request: object) -> BatchRequest:
    """2111 for more than 50 orders, 2114 for different senders."""
    fields = mapping(request, "place_orders")
    orders = fields.get("orders")
    if not isinstance(orders, list):
        raise ExchangeError(MALFORMED, "orders")
    if len(orders) > MAX_BATCH:
        raise ExchangeError(2111)
    parsed = tuple(parse_place(order) for order in orders)
    if len({place.order.sender for place in parsed}) > 1:
        raise ExchangeError(2114)
    return BatchRequest(parsed, flag(fields, "stop_on_failure", False))


def _cancel(tx: object, signature: object, required_unfilled: object, what: str) -> CancelRequest:
    fields = mapping(tx, what)
    digests = fields.get("digests")
    if not isinstance(digests, list):
        raise ExchangeError(MALFORMED, "digests")
    required = (
        None
        if required_unfilled is None
        else lenient_int(required_unfilled, INT128_MIN, INT128_MAX, "required_unfilled_amount")
    )
    return CancelRequest(
        sender=sender(fields),
        product_ids=product_ids(fields.get("productIds")),
        digests=tuple(hex_bytes(digest, 32, "digests") for digest in digests),
        nonce=nonce(fields),
        signature=text(signature, "signature"),
        required_unfilled_x18=required,
    )


def _optional_flag(fields: Mapping[str, Any], name: str) -> bool | None:
    return None if fields.get(name) is None else flag(fields, name, False)
