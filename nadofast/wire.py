"""Every request and every wire string, in one place.

Builders return bytes ready for a socket or an HTTP body. 64- and 128-bit numbers travel as decimal
strings, product ids as numbers (numbers section of the API).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import orjson

from ._sign import OrderTemplate, SignedOrder

if TYPE_CHECKING:
    from .signing import SignedCancel, SignedCancelProducts, SignedLinkSigner

# Streams.
BEST_BID_OFFER: Final = "best_bid_offer"
BOOK_DEPTH: Final = "book_depth"
TRADE: Final = "trade"
FILL: Final = "fill"
ORDER_UPDATE: Final = "order_update"
POSITION_CHANGE: Final = "position_change"
LATEST_CANDLESTICK: Final = "latest_candlestick"
FUNDING_RATE: Final = "funding_rate"
FUNDING_PAYMENT: Final = "funding_payment"
LIQUIDATION: Final = "liquidation"
ALL_BBO: Final = "all_bbo"

PER_PRODUCT_STREAMS: Final = frozenset(
    {BEST_BID_OFFER, BOOK_DEPTH, TRADE, LATEST_CANDLESTICK, FUNDING_PAYMENT}
)
# Only order_update is documented to need authentication; all three get it.
PRIVATE_STREAMS: Final = frozenset({ORDER_UPDATE, FILL, POSITION_CHANGE})
GLOBAL_STREAMS: Final = frozenset({FUNDING_RATE, LIQUIDATION, ALL_BBO})
STREAMS: Final = PER_PRODUCT_STREAMS | PRIVATE_STREAMS | GLOBAL_STREAMS
CANDLE_GRANULARITY_S: Final = 60

AUTHENTICATE: Final = "authenticate"

# Reasons of order_update.
REASON_PLACED: Final = "placed"
REASON_FILLED: Final = "filled"
REASON_CANCELLED: Final = "cancelled"

# Paths below the gateway's base url.
EXECUTE_PATH: Final = "/execute"
QUERY_PATH: Final = "/query"
TIME_PATH: Final = "/time"

STATUS_SUCCESS: Final = "success"
STATUS_FAILURE: Final = "failure"
CONTENT_TYPE: Final = "application/json"
# The exchange refuses HTTP requests that accept no compression, and stream sockets that do not offer it.
ACCEPT_ENCODING: Final = "gzip, deflate"
DEFLATE_OFFER: Final = "permessage-deflate; client_max_window_bits"

MAX_SNAPSHOT_LEVELS: Final = 100
MAX_ARCHIVE_DIGESTS: Final = 500
_DEFAULT_ARCHIVE_LIMIT: Final = 100  # what a request without a limit is charged for
MAX_CLIENT_ID: Final = (1 << 53) - 1
# recv_time, and the expiration of an authentication, may be at most this far ahead.
MAX_AHEAD_MS: Final = 100_000
# Years 2017 and 2128: no second, microsecond or nanosecond count of this era lies between.
CLOCK_EARLIEST_MS: Final = 1_500_000_000_000
CLOCK_LATEST_MS: Final = 5_000_000_000_000


class Code:
    """Error codes a client acts on (error code table of the API)."""

    RATE_LIMIT: Final = 1000
    LOCATION_BLOCKED: Final = 1002
    TOO_MANY_REQUESTS: Final = 1015
    TOO_FAST: Final = frozenset({1000, 1015})
    POST_ONLY_CROSSES: Final = 2008
    TOO_LATE: Final = 2011
    TOO_EARLY: Final = 2012
    DUPLICATE_DIGEST: Final = 2013
    ORDER_NOT_FOUND: Final = 2020
    FOK_NOT_FILLABLE: Final = 2031
    INVALID_MESSAGE: Final = 2038
    IOC_NO_CROSS: Final = 2056
    OLD_ORDER_FILLED: Final = 2120
    CANCEL_FAILED: Final = 2121
    UNFILLED_DIFFERS: Final = 2124
    # The engine failed inside: whether the request was applied is not known.
    INTERNAL: Final = frozenset({4000, 5000})


def integer(value: Any) -> int:
    """An integer of the wire, given as JSON number or decimal string. Raises ValueError on anything else.

    A float is refused: JSON numbers beyond 64 bits decode to one and have already lost digits.
    """
    if type(value) is int:
        return value
    if type(value) is str and value.isascii() and value.removeprefix("-").isdigit():
        return int(value)
    raise ValueError(f"{str(value)[:40]!r} is not an integer")


def boolean(value: Any) -> bool:
    """A boolean of the wire, given as one or as its name. Raises ValueError on anything else."""
    if value is True or value == "true":
        return True
    if value is False or value == "false":
        return False
    raise ValueError(f"{str(value)[:40]!r} is neither true nor false")


def clock_ms(value: Any) -> int:
    """The exchange's clock, ms since the epoch. Raises ValueError on what cannot be one: seconds,
    nanoseconds, nothing. A clock that is taken over wrongly makes every later order void."""
    now_ms = integer(value)
    if not CLOCK_EARLIEST_MS <= now_ms < CLOCK_LATEST_MS:
        raise ValueError(f"{str(now_ms)[:40]} is not a time of day in ms")
    return now_ms


# ---------------------------------------------------------------------------- subscription socket


def subscribe(stream: dict[str, Any], request_id: int) -> bytes:
    return orjson.dumps({"method": "subscribe", "stream": stream, "id": request_id})


def unsubscribe(stream: dict[str, Any], request_id: int) -> bytes:
    return orjson.dumps({"method": "unsubscribe", "stream": stream, "id": request_id})


def server_time(request_id: int) -> bytes:
    return orjson.dumps({"method": "time", "id": request_id})


def authenticate(transaction: dict[str, str], signature: str, request_id: int) -> dict[str, Any]:
    return {"method": AUTHENTICATE, "id": request_id, "tx": transaction, "signature": signature}


def stream_objects(
    streams: Sequence[str], product_ids: Sequence[int], subaccount: str | None
) -> list[dict[str, Any]]:
    """The `stream` objects of a subscription set, private first. Raises ValueError on an unknown name."""
    unknown = [name for name in streams if name not in STREAMS]
    if unknown:
        raise ValueError(f"unknown streams: {', '.join(sorted(unknown))}")
    private: list[dict[str, Any]] = [
        {"type": name, "subaccount": subaccount, "product_id": None}
        for name in streams
        if name in PRIVATE_STREAMS and subaccount is not None
    ]
    public: list[dict[str, Any]] = []
    for name in streams:
        if name == ALL_BBO:
            public.append({"type": name})
        elif name in GLOBAL_STREAMS:
            public.append({"type": name, "product_id": None})
        elif name in PER_PRODUCT_STREAMS:
            public.extend(_product_stream(name, product_id) for product_id in product_ids)
    return private + public


def _product_stream(name: str, product_id: int) -> dict[str, Any]:
    stream: dict[str, Any] = {"type": name, "product_id": product_id}
    if name == LATEST_CANDLESTICK:
        stream["granularity"] = CANDLE_GRANULARITY_S
    return stream


# ---------------------------------------------------------------------------- executes


def _order_template(before: bytes, after: bytes) -> OrderTemplate:
    """A message with one order in it; field names as in the executes section of the API."""
    return OrderTemplate(
        before + b'{"product_id":',
        b',"order":{"sender":"',
        b'","priceX18":"',
        b'","amount":"',
        b'","expiration":"',
        b'","nonce":"',
        b'","appendix":"',
        b'"},"signature":"',
        b'","id":',
        b"}" + after,
    )


_ORDER: Final = _order_template(b"", b"")
_PLACE_ORDER: Final = _order_template(b'{"place_order":', b"}")


def place_order(signed: SignedOrder, request_id: int) -> bytes:
    return _PLACE_ORDER.encode(signed, request_id)


def cancel_orders(signed: SignedCancel, request_id: int, required_unfilled_x18: int | None = None) -> bytes:
    body: dict[str, Any] = {"tx": _cancel_tx(signed), "signature": signed.signature, "id": request_id}
    if required_unfilled_x18 is not None:
        body["required_unfilled_amount"] = str(required_unfilled_x18)
    return orjson.dumps({"cancel_orders": body})


def cancel_product_orders(signed: SignedCancelProducts, request_id: int) -> bytes:
    transaction = {
        "sender": signed.sender,
        "productIds": list(signed.product_ids),
        "nonce": str(signed.nonce),
    }
    return orjson.dumps(
        {"cancel_product_orders": {"tx": transaction, "signature": signed.signature, "id": request_id}}
    )


def cancel_and_place(
    cancel: SignedCancel, order: SignedOrder, request_id: int, required_unfilled_x18: int | None
) -> bytes:
    body: dict[str, Any] = {
        "cancel_tx": _cancel_tx(cancel),
        "cancel_signature": cancel.signature,
        "place_order": orjson.Fragment(_ORDER.encode(order, request_id)),
    }
    if required_unfilled_x18 is not None:
        body["place_requires_unfilled"] = True
        body["required_unfilled_amount"] = str(required_unfilled_x18)
    return orjson.dumps({"cancel_and_place": body})


def link_signer(signed: SignedLinkSigner) -> bytes:
    transaction = {"sender": signed.sender, "signer": signed.signer, "nonce": str(signed.nonce)}
    return orjson.dumps({"link_signer": {"tx": transaction, "signature": signed.signature}})


def _cancel_tx(signed: SignedCancel) -> dict[str, Any]:
    return {
        "sender": signed.sender,
        "productIds": list(signed.product_ids),
        "digests": list(signed.digests),
        "nonce": str(signed.nonce),
    }


# ---------------------------------------------------------------------------- queries and archive


def query(kind: str, **fields: Any) -> dict[str, Any]:
    """A gateway query; fields that are None are left out."""
    return {"type": kind} | {name: value for name, value in fields.items() if value is not None}


def market_liquidity(product_id: int, depth: int) -> dict[str, Any]:
    return query("market_liquidity", product_id=product_id, depth=depth)


def archive_orders(digests: Sequence[str]) -> dict[str, Any]:
    return {"orders": {"digests": list(digests)}}


def archive_matches(
    subaccounts: Sequence[str],
    product_ids: Sequence[int],
    limit: int,
    max_submission_idx: int | None = None,
    isolated: bool | None = None,
) -> dict[str, Any]:
    body: dict[str, Any] = {
        "subaccounts": list(subaccounts),
        "product_ids": list(product_ids),
        "limit": limit,
    }
    if max_submission_idx is not None:
        body["idx"] = max_submission_idx
    if isolated is not None:
        body["isolated"] = isolated
    return {"matches": body}


def archive_newest() -> dict[str, Any]:
    """The newest match of the whole exchange."""
    return {"matches": {"limit": 1}}


# ---------------------------------------------------------------------------- weights (limits section)

_QUERY_WEIGHTS: Final = {
    "status": 1,
    "contracts": 1,
    "order": 1,
    "market_liquidity": 1,
    "market_price": 1,
    "nonces": 2,
    "symbols": 2,
    "health_groups": 2,
    "fee_rates": 2,
    "subaccount_info": 2,
    "subaccount_orders": 2,
    "all_products": 5,
    "max_order_size": 5,
    "max_withdrawable": 5,
    "linked_signer": 5,
    "isolated_positions": 10,
}
_UNKNOWN_QUERY_WEIGHT: Final = 20
CANCEL_PRODUCT_WEIGHT: Final = 5
CANCEL_ALL_WEIGHT: Final = 50
CANCEL_AND_PLACE_WEIGHT: Final = 2


def query_weight(request: dict[str, Any]) -> int:
    """IP weight of a gateway query; an unknown kind counts as the dearest."""
    kind = request.get("type", "")
    if kind == "market_prices":
        return max(1, len(request.get("product_ids", ())))
    if kind == "orders":
        return 2 * max(1, len(request.get("product_ids", ())))
    return _QUERY_WEIGHTS.get(kind, _UNKNOWN_QUERY_WEIGHT)


def archive_weight(request: dict[str, Any]) -> int:
    """IP weight of an archive query that this client makes."""
    if "matches" in request:
        body = request["matches"]
        return 2 + int(body["limit"]) * max(1, len(body.get("subaccounts", ()))) // 10
    if "orders" in request:
        body = request["orders"]
        return 2 + int(body.get("limit", _DEFAULT_ARCHIVE_LIMIT)) // 20
    return _UNKNOWN_QUERY_WEIGHT
