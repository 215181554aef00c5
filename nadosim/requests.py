"""Execute messages as typed values. Anything that is not what the API documents is refused with 2038.

Order fields are strings on the wire, as the real server insists; ids and product ids are numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from .errors import ExchangeError
from .x18 import INT128_MAX, INT128_MIN, UINT64_MAX, UINT128_MAX

MALFORMED = 2038
UINT32_MAX = (1 << 32) - 1


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
    product_id: int
    order: OrderFields
    signature: str
    client_id: int | None
    names_spot_leverage: bool


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
    """cancel_and_place."""

    cancel: CancelRequest
    place: PlaceRequest
    requires_unfilled: bool


@dataclass(frozen=True, slots=True)
class LinkSignerRequest:
    """signer: 32 bytes, an address padded on the right; zero revokes."""

    sender: str
    signer: str
    nonce: int
    signature: str


def parse_place(request: object) -> PlaceRequest:
    fields = _mapping(request, "place_order")
    order = _mapping(fields.get("order"), "order")
    return PlaceRequest(
        product_id=_uint32(fields.get("product_id"), "product_id"),
        order=OrderFields(
            sender=_hex(order.get("sender"), 32, "sender"),
            price_x18=_wire_int(order, "priceX18", INT128_MIN, INT128_MAX),
            amount_x18=_wire_int(order, "amount", INT128_MIN, INT128_MAX),
            expiration_s=_wire_int(order, "expiration", 0, UINT64_MAX),
            nonce=_wire_int(order, "nonce", 0, UINT64_MAX),
            appendix=_wire_int(order, "appendix", 0, UINT128_MAX),
        ),
        signature=_text(fields.get("signature"), "signature"),
        client_id=_client_id(fields.get("id")),
        names_spot_leverage=fields.get("spot_leverage") is not None,
    )


def parse_cancel(request: object) -> CancelRequest:
    fields = _mapping(request, "cancel_orders")
    return _cancel(
        fields.get("tx"), fields.get("signature"), fields.get("required_unfilled_amount"), "cancel_orders"
    )


def parse_cancel_products(request: object) -> CancelProductsRequest:
    fields = _mapping(request, "cancel_product_orders")
    tx = _mapping(fields.get("tx"), "tx")
    return CancelProductsRequest(
        sender=_hex(tx.get("sender"), 32, "sender"),
        product_ids=_product_ids(tx.get("productIds")),
        nonce=_lenient_int(tx.get("nonce"), 0, UINT64_MAX, "nonce"),
        signature=_text(fields.get("signature"), "signature"),
    )


def parse_replace(request: object) -> ReplaceRequest:
    fields = _mapping(request, "cancel_and_place")
    requires_unfilled = fields.get("place_requires_unfilled", False)
    if not isinstance(requires_unfilled, bool):
        raise ExchangeError(MALFORMED, "place_requires_unfilled")
    return ReplaceRequest(
        cancel=_cancel(
            fields.get("cancel_tx"),
            fields.get("cancel_signature"),
            fields.get("required_unfilled_amount"),
            "cancel_tx",
        ),
        place=parse_place(fields.get("place_order")),
        requires_unfilled=requires_unfilled,
    )


def parse_link_signer(request: object) -> LinkSignerRequest:
    fields = _mapping(request, "link_signer")
    tx = _mapping(fields.get("tx"), "tx")
    return LinkSignerRequest(
        sender=_hex(tx.get("sender"), 32, "sender"),
        signer=_hex(tx.get("signer"), 32, "signer"),
        nonce=_lenient_int(tx.get("nonce"), 0, UINT64_MAX, "nonce"),
        signature=_text(fields.get("signature"), "signature"),
    )


def _cancel(tx: object, signature: object, required_unfilled: object, what: str) -> CancelRequest:
    fields = _mapping(tx, what)
    digests = fields.get("digests")
    if not isinstance(digests, list):
        raise ExchangeError(MALFORMED, "digests")
    required = (
        None
        if required_unfilled is None
        else _lenient_int(required_unfilled, INT128_MIN, INT128_MAX, "required_unfilled_amount")
    )
    return CancelRequest(
        sender=_hex(fields.get("sender"), 32, "sender"),
        product_ids=_product_ids(fields.get("productIds")),
        digests=tuple(_hex(digest, 32, "digests") for digest in digests),
        nonce=_lenient_int(fields.get("nonce"), 0, UINT64_MAX, "nonce"),
        signature=_text(signature, "signature"),
        required_unfilled_x18=required,
    )


def _mapping(value: object, what: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise ExchangeError(MALFORMED, what)
    return value


def _text(value: object, what: str) -> str:
    if not isinstance(value, str):
        raise ExchangeError(MALFORMED, what)
    return value


def _hex(value: object, size: int, what: str) -> str:
    """0x-hex of exactly `size` bytes, in lower case."""
    text = _text(value, what).lower()
    if len(text) != 2 + 2 * size or not text.startswith("0x"):
        raise ExchangeError(MALFORMED, what)
    try:
        bytes.fromhex(text[2:])
    except ValueError:
        raise ExchangeError(MALFORMED, what) from None
    return text


def _wire_int(fields: Mapping[str, Any], name: str, low: int, high: int) -> int:
    value = fields.get(name)
    if not isinstance(value, str):
        raise ExchangeError(MALFORMED, f"{name} must be a string")
    return _lenient_int(value, low, high, name)


def _lenient_int(value: object, low: int, high: int, what: str) -> int:
    """Integer from a decimal string or a number. Python's own `int()` takes spaces and underscores too."""
    if isinstance(value, str):
        digits = value[1:] if value.startswith("-") else value
        if len(digits) > 40 or not (digits.isascii() and digits.isdigit()):
            raise ExchangeError(MALFORMED, what)
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise ExchangeError(MALFORMED, what)
    return value


def _uint32(value: object, what: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= UINT32_MAX:
        raise ExchangeError(MALFORMED, what)
    return value


def _product_ids(value: object) -> tuple[int, ...]:
    if not isinstance(value, list):
        raise ExchangeError(MALFORMED, "productIds")
    return tuple(_uint32(item, "productIds") for item in value)


def _client_id(value: object) -> int | None:
    if value is None:
        return None
    return _lenient_int(value, 0, UINT64_MAX, "id")
