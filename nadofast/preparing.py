"""Requests become bytes that only have to leave: checked, timed, signed and encoded. Sans-I/O.

Nothing is registered, spent or sent here, so whatever was prepared can be thrown away.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from . import wire
from ._latency import Histogram
from .appendix import OrderType, pack_appendix
from .errors import OrderDenied
from .inflight import Prepared
from .order_rules import check_request
from .orders import OrderTracker, TrackedOrder
from .outcome import CANCEL_FINAL_CODES, OrderRequest
from .products import Product
from .signing import SignedOrder, Signer, make_nonce

if TYPE_CHECKING:
    from .gateway import GatewayConfig

OrderTime = tuple[int, float]
"""The exchange's time and its uncertainty, both in ms (`TimeSync.order_time`)."""

_MS: Final = 1_000_000
_MIN_PATIENCE_S: Final = 0.05
_MAX_UNCERTAINTY_MS: Final = 10_000
_APPENDICES: Final = {
    (order_type, reduce_only): pack_appendix(order_type, reduce_only=reduce_only)
    for order_type in OrderType
    for reduce_only in (False, True)
}


@dataclass(frozen=True, slots=True)
class SignedLegs:
    """Checked, signed and encoded, and not known to the tracker yet. discards_ms: what was asked for, or the
    default of that moment."""

    requests: tuple[OrderRequest, ...]
    records: tuple[TrackedOrder, ...]
    prepared: tuple[Prepared, ...]
    is_urgent: bool
    discards_ms: tuple[int, ...]


class Preparer:
    """Signs for one subaccount. round_trip: of the requests so far; reply_timeout_s: the longest a socket has
    for an answer.

    Raises OrderDenied for what the product's rules or the clock do not allow, ValueError or OverflowError for
    a number that fits no field.
    """

    def __init__(
        self,
        signer: Signer,
        products: Mapping[int, Product],
        *,
        subaccount: str,
        tracker: OrderTracker,
        round_trip: Histogram,
        reply_timeout_s: float,
        config: GatewayConfig,
    ) -> None:
        self._signer = signer
        self._products = products
        self._sender = subaccount
        self._tracker = tracker
        self._round_trip = round_trip
        self._reply_timeout_s = reply_timeout_s
        self._config = config
        self._ids = itertools.count(1)
        # One counter for all nonces: equal messages of one millisecond stay different.
        self._nonce_low = itertools.count(time.time_ns() & 0xFFFFF)

    def entry_discard_ms(self, uncertainty_ms: float) -> int:
        """Discard time for an order that must not arrive late: three times the p99 round trip plus twice the
        clock's uncertainty, between the floor and an ordinary order's discard time."""
        p99_ms = self._round_trip.percentile(99) / _MS
        measured = 3 * p99_ms + 2 * min(uncertainty_ms, _MAX_UNCERTAINTY_MS)
        ceiling = max(self._config.min_entry_discard_ms, self._config.discard_after_ms)
        return min(ceiling, max(self._config.min_entry_discard_ms, int(measured) + 1))

    def legs(self, requests: Sequence[OrderRequest], order_time: OrderTime, slack_ms: int = 0) -> SignedLegs:
        """Orders that may leave together. slack_ms: by how much later than asked they may still be taken."""
        for request in requests:
            check_request(request, self._products)
        now_ms, uncertainty_ms = order_time
        is_urgent = all(request.reduce_only for request in requests)
        records, prepared, discards_ms = [], [], self._discards_ms(requests, uncertainty_ms)
        for request, discard_ms in zip(requests, discards_ms, strict=True):
            order = self._sign(request, now_ms, discard_ms + slack_ms)
            records.append(self._tracker.record_of(order))
            request_id = self._request_id(order)
            prepared.append(
                Prepared(
                    request_id, wire.place_order(order, request_id), order.signature, order.digest,
                    order.product_id, is_order=True, patience_s=self._patience_s(discard_ms),
                    is_urgent=is_urgent,
                )
            )  # fmt: skip
        return SignedLegs(tuple(requests), tuple(records), tuple(prepared), is_urgent, discards_ms)

    def replacement(
        self,
        product_id: int,
        digest: str,
        request: OrderRequest,
        required_unfilled_x18: int | None,
        order_time: OrderTime,
    ) -> tuple[TrackedOrder, Prepared]:
        """The cancel of one order and the order in its place, in one message."""
        check_request(request, self._products)
        now_ms, uncertainty_ms = order_time
        (discard_ms,) = self._discards_ms([request], uncertainty_ms)
        order = self._sign(request, now_ms, discard_ms)
        cancel = self._signer.sign_cancel([product_id], [digest], self._cancel_nonce(now_ms), self._sender)
        request_id = self._request_id(order)
        record = self._tracker.record_of(order)
        record.replaces = digest.lower()
        return record, Prepared(
            request_id,
            wire.cancel_and_place(cancel, order, request_id, required_unfilled_x18),
            order.signature,
            order.digest,
            order.product_id,
            is_order=True,
            weight=wire.CANCEL_AND_PLACE_WEIGHT,
            replaces=digest.lower(),
            replaces_left_x18=required_unfilled_x18,
            patience_s=self._patience_s(discard_ms),
            is_urgent=request.reduce_only,
        )

    def cancel(
        self, product_id: int, digest: str, required_unfilled_x18: int | None, now_ms: int
    ) -> Prepared:
        """The cancel of one order."""
        signed = self._signer.sign_cancel([product_id], [digest], self._cancel_nonce(now_ms), self._sender)
        request_id = next(self._ids)
        return Prepared(
            request_id,
            wire.cancel_orders(signed, request_id, required_unfilled_x18),
            signed.signature,
            digest.lower(),
            product_id,
            is_order=False,
            final_codes=CANCEL_FINAL_CODES,
            patience_s=self._reply_timeout_s,
        )

    def cancel_products(self, product_ids: Sequence[int], weight: int, now_ms: int) -> Prepared:
        """The cancel of everything on these products; none named means on all."""
        signed = self._signer.sign_cancel_products(product_ids, self._cancel_nonce(now_ms), self._sender)
        request_id = next(self._ids)
        return Prepared(
            request_id, wire.cancel_product_orders(signed, request_id), signed.signature, signed.digest, 0,
            is_order=False, weight=weight, patience_s=self._reply_timeout_s,
        )  # fmt: skip

    def _sign(self, request: OrderRequest, now_ms: int, discard_ms: int) -> SignedOrder:
        if not 0 < discard_ms <= wire.MAX_AHEAD_MS:
            raise OrderDenied("discard_after", f"{discard_ms} ms is outside 1..{wire.MAX_AHEAD_MS}")
        expiration_s = request.expiration_s
        if expiration_s is None:
            expiration_s = now_ms // 1000 + self._config.expiration_s
        elif expiration_s <= now_ms // 1000:
            raise OrderDenied("expiration", f"{expiration_s} is in the past")
        return self._signer.sign_order(
            product_id=request.product_id,
            price_x18=request.price_x18,
            amount_x18=request.amount_x18,
            expiration_s=expiration_s,
            nonce=make_nonce(now_ms + discard_ms, next(self._nonce_low)),
            appendix=_APPENDICES[request.order_type, request.reduce_only],
            subaccount=self._sender,
            client_id=request.client_id,
        )

    def _discards_ms(self, requests: Sequence[OrderRequest], uncertainty_ms: float) -> tuple[int, ...]:
        """What each was given, or the default: an unwind had better arrive late than never."""
        entry_ms = 0
        if any(request.discard_after_ms is None and not request.reduce_only for request in requests):
            entry_ms = self.entry_discard_ms(uncertainty_ms)
        late_ms = self._config.discard_after_ms
        return tuple(
            (late_ms if request.reduce_only else entry_ms)
            if request.discard_after_ms is None
            else request.discard_after_ms
            for request in requests
        )

    def _patience_s(self, discard_ms: int) -> float:
        """How long the socket has for the answer: half of the time until the order is discarded."""
        return min(self._reply_timeout_s, max(_MIN_PATIENCE_S, discard_ms / 2000))

    def _request_id(self, order: SignedOrder) -> int:
        return next(self._ids) if order.client_id is None else order.client_id

    def _cancel_nonce(self, now_ms: int) -> int:
        return make_nonce(now_ms + self._config.cancel_discard_after_ms, next(self._nonce_low))
