"""Orders to the exchange, and what became of each.

The concurrent gateway socket first, HTTP second. On doubt the same signed bytes go over the next way and
"digest exists" means that the first copy arrived; a new signature is never the answer to doubt.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

import orjson

from . import outcome, wire
from ._feed import TextListener
from ._latency import Histogram
from .appendix import OrderType, pack_appendix
from .connection import LinkConfig, NadoConnectionManager
from .errors import ConnectionLost, ExchangeError, NadoError, NotConnected, OrderDenied, TransportError
from .inflight import Flight, InFlight
from .network import Network, resolve
from .orders import OrderTracker, OutcomeFacts, TrackedOrder
from .outcome import CANCEL_FINAL_CODES, CancelledOrder, OrderRequest, Outcome, OutcomeKind, Verdict, denied
from .products import Product
from .ratelimit import NadoRateLimiter
from .resolver import OrderResolver, ResolverConfig
from .signing import SignedOrder, Signer, make_nonce
from .timesync import TimeSync

if TYPE_CHECKING:
    from .rest import Rest

__all__ = [
    "CancelledOrder",
    "GatewayConfig",
    "OrderGateway",
    "OrderRequest",
    "Outcome",
    "OutcomeKind",
]

_MS: Final = 1_000_000
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class GatewayConfig:
    """reply_timeout_s: then the same bytes go over HTTP. discard_after_ms: default discard time of an order.
    min_entry_discard_ms: floor of `entry_discard_ms`. cancel_discard_after_ms: discard time of a cancel.
    expiration_s: default life of an order. max_in_flight: requests under way on the socket. start_timeout_s:
    longest wait of `start` for the socket. time_refresh_s: if nobody else has read the exchange's clock for
    so long, the gateway does, over HTTP. resolver: how doubt is settled."""

    reply_timeout_s: float = 2.0
    discard_after_ms: int = 5_000
    min_entry_discard_ms: int = 500
    cancel_discard_after_ms: int = 10_000
    expiration_s: int = 60
    max_in_flight: int = 64
    start_timeout_s: float = 3.0
    time_refresh_s: float = 60.0
    resolver: ResolverConfig = field(default_factory=ResolverConfig)
    link: LinkConfig = field(default_factory=LinkConfig)


@dataclass(frozen=True, slots=True)
class _Prepared:
    """A signed request. digest: the order it is about."""

    request_id: int
    message: bytes = field(repr=False)
    signature: str = field(repr=False)
    digest: str
    product_id: int
    is_order: bool
    final_codes: frozenset[int] = frozenset()
    replaces: str = ""


class OrderGateway:
    """Places and cancels orders of one subaccount.

    before_send(record) runs after signing and before any byte leaves; if it raises, nothing is sent. Methods
    return an Outcome and raise nothing for what the exchange or the network does. Orders are DENIED while the
    exchange's clock is unknown, the link is not fit and there is no `rest`, or a product rule is violated.
    """

    def __init__(
        self,
        network: str | Network,
        signer: Signer,
        *,
        products: Mapping[int, Product],
        timesync: TimeSync,
        rest: Rest | None = None,
        limiter: NadoRateLimiter | None = None,
        tracker: OrderTracker | None = None,
        subaccount: str = "default",
        before_send: Callable[[TrackedOrder], object] | None = None,
        reply_timeout_s: float | None = None,
        config: GatewayConfig | None = None,
    ) -> None:
        self.network = resolve(network)
        self.tracker = OrderTracker() if tracker is None else tracker
        self.subaccount = signer.subaccount(subaccount)
        self.round_trip = Histogram()
        self._signer = signer
        self._products = products
        self._timesync = timesync
        self._rest = rest
        self._limiter = limiter
        self._before_send = before_send
        self._config = config or GatewayConfig()
        self._reply_timeout_s = reply_timeout_s or self._config.reply_timeout_s
        self._resolver = OrderResolver(self.tracker, timesync, rest, self._config.resolver)
        self._in_flight = InFlight()
        self._clock_task: asyncio.Task[None] | None = None
        self._ids = itertools.count(1)
        # One counter for all nonces: equal messages of one millisecond stay different.
        self._nonce_low = itertools.count(time.time_ns() & 0xFFFFF)
        self._counts: dict[str, int] = dict.fromkeys(
            ("ws_requests", "rest_requests", "rest_resends", "lost_replies", "late_replies"), 0
        )
        self.link = NadoConnectionManager(
            self.network.gateway_ws_v2,
            self._make_listener,
            name="orders",
            config=self._config.link,
            on_lost=self._on_lost,
        )

    # ------------------------------------------------------------------ life

    async def start(self) -> None:
        """Open the socket and keep it warm. Returns after the first attempt, whatever came of it: without the
        socket orders go over HTTP."""
        self.link.start()
        if self._rest is not None:
            if not self._timesync.is_known:
                await self._read_clock(self._rest, 3)
            if self._clock_task is None:
                self._clock_task = asyncio.create_task(self._keep_time(self._rest), name="gateway clock")
        if not await self.link.wait_first_try(self._config.start_timeout_s):
            _log.warning("order socket is not up: %s", self.link.last_error or "no answer yet")

    async def stop(self) -> None:
        """Close the socket; open requests end as if it had broken."""
        task, self._clock_task = self._clock_task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        await self.link.stop()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.stop()

    async def _read_clock(self, rest: Rest, samples: int) -> None:
        try:
            await rest.sync_time(self._timesync, samples)
        except NadoError as error:
            _log.warning("the exchange's clock could not be read: %s", error)

    async def _keep_time(self, rest: Rest) -> None:
        """Without a clock nothing may be sent, exits included: never let it grow old."""
        while True:
            await asyncio.sleep(self._config.time_refresh_s)
            if self._timesync.sample_age_s > self._config.time_refresh_s:
                await self._read_clock(rest, 1)

    # ------------------------------------------------------------------ orders

    @property
    def entry_discard_ms(self) -> int:
        """Discard time for an order that must not arrive late: the floor, or three times the p99 round trip
        plus twice the clock's uncertainty."""
        p99_ms = self.round_trip.percentile(99) / _MS
        measured = 3 * p99_ms + 2 * min(self._timesync.uncertainty_ms, 10_000)
        return max(self._config.min_entry_discard_ms, int(measured) + 1)

    async def place(self, request: OrderRequest) -> Outcome:
        """Send one order and wait for what becomes of the request."""
        return (await self.place_many([request]))[0]

    async def place_many(self, requests: Sequence[OrderRequest]) -> list[Outcome]:
        """Send orders back to back in one loop turn, each in its own message; outcomes in the same order.

        All or none leave: if one is denied, so are the others.
        """
        if not requests:
            return []
        try:
            self._check_all(requests)
            signed = [self._sign(request) for request in requests]
        except (OrderDenied, OverflowError, ValueError) as error:
            return [_denied_by(error)] * len(requests)
        records = [self.tracker.register(order) for order in signed]
        refusal = self._permit(records, len(records), all(request.reduce_only for request in requests))
        if refusal is not None:
            return [self._note_denied(record, refusal) for record in records]
        return await self._send_all([self._prepare_order(order) for order in signed])

    async def cancel(self, product_id: int, digest: str, required_unfilled_x18: int | None = None) -> Outcome:
        """Cancel one order. CONFIRMED carries what was unfilled, which is final.

        REJECTED 2020: it does not rest (filled, gone, never there); a fill may be on its way. With
        required_unfilled_x18 the exchange cancels only if that much is still unfilled, else REJECTED 2124.
        """
        refusal = self._permit([], 1, urgent=True)
        if refusal is not None:
            return denied(*refusal, digest)
        signed = self._signer.sign_cancel([product_id], [digest], self._cancel_nonce(), self.subaccount)
        request_id = next(self._ids)
        message = wire.cancel_orders(signed, request_id, required_unfilled_x18)
        prepared = _Prepared(
            request_id, message, signed.signature, digest.lower(), product_id, False, CANCEL_FINAL_CODES
        )
        return (await self._send_all([prepared]))[0]

    async def cancel_product(self, product_ids: Sequence[int]) -> Outcome:
        """Cancel everything on these products; none named means on all. Nothing open is CONFIRMED, too.

        After a lost answer a CONFIRMED list may be short: the first copy may have done the work.
        """
        weight = wire.CANCEL_PRODUCT_WEIGHT * len(product_ids) or wire.CANCEL_ALL_WEIGHT
        refusal = self._permit([], weight, urgent=True)
        if refusal is not None:
            return denied(*refusal)
        signed = self._signer.sign_cancel_products(product_ids, self._cancel_nonce(), self.subaccount)
        request_id = next(self._ids)
        message = wire.cancel_product_orders(signed, request_id)
        prepared = _Prepared(request_id, message, signed.signature, signed.digest, 0, False)
        return (await self._send_all([prepared]))[0]

    async def cancel_and_place(
        self,
        product_id: int,
        digest: str,
        request: OrderRequest,
        required_unfilled_x18: int | None = None,
    ) -> Outcome:
        """Replace an order in one engine step; the outcome and its digest are the new order's.

        With required_unfilled_x18 a fill in between refuses the whole (2120, 2121 or 2124): re-read first.
        """
        try:
            self._check_all([request])
            order = self._sign(request)
        except (OrderDenied, OverflowError, ValueError) as error:
            return _denied_by(error)
        record = self.tracker.register(order)
        refusal = self._permit([record], 2, urgent=request.reduce_only)
        if refusal is not None:
            return self._note_denied(record, refusal)
        cancel = self._signer.sign_cancel([product_id], [digest], self._cancel_nonce(), self.subaccount)
        request_id = self._request_id(order)
        message = wire.cancel_and_place(cancel, order, request_id, required_unfilled_x18)
        prepared = _Prepared(
            request_id, message, order.signature, order.digest, product_id, True, replaces=digest.lower()
        )
        return (await self._send_all([prepared]))[0]

    async def resolve(self, digest: str, product_id: int, timeout_s: float = 15.0) -> Outcome:
        """Find out what became of an order whose outcome is UNKNOWN, without sending it again.

        CONFIRMED as soon as a stream, the book or the archive shows it. REJECTED when it shows nowhere,
        twice, after its discard time and the archive's lag. UNKNOWN if the time runs out.
        """
        return await self._resolver.resolve(digest.lower(), product_id, timeout_s)

    def stats(self) -> dict[str, Any]:
        """Counters of the requests, and the round trip of those answered over the socket."""
        return {
            **self._counts,
            "in_flight": len(self._in_flight),
            "orphan_replies": self._in_flight.orphans,
            "connects": self.link.connects,
            "round_trip": self.round_trip.summary(),
        }

    # ------------------------------------------------------------------ before sending

    def _check_all(self, requests: Sequence[OrderRequest]) -> None:
        if not self._timesync.is_known:
            raise OrderDenied("clock_unknown", f"uncertainty {self._timesync.uncertainty_ms:.0f} ms")
        if len(self._in_flight) + len(requests) > self._config.max_in_flight:
            raise OrderDenied("in_flight", f"{len(self._in_flight)} requests are under way")
        for request in requests:
            check_request(request, self._products)

    def _sign(self, request: OrderRequest) -> SignedOrder:
        now_ms = self._timesync.exchange_now_ms()
        discard_ms = (
            self._config.discard_after_ms if request.discard_after_ms is None else request.discard_after_ms
        )
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
            appendix=pack_appendix(request.order_type, reduce_only=request.reduce_only),
            subaccount=self.subaccount,
            client_id=request.client_id,
        )

    def _permit(self, records: Sequence[TrackedOrder], weight: int, urgent: bool) -> tuple[str, str] | None:
        """None if the request may leave now, else (rule, detail). Runs before_send last."""
        if not self._timesync.is_known:
            return "clock_unknown", "the exchange's clock is not known"
        blocked = self.link.blocked()
        if blocked is not None and self._rest is None:
            return "not_connected", blocked
        if self._limiter is not None and not self._limiter.try_acquire("execute", weight, urgent=urgent):
            return "rate_limit", f"weight {weight} is not free"
        if self._before_send is not None:
            for record in records:
                try:
                    self._before_send(record)
                except Exception as error:
                    _log.exception("before_send refused %s", record.digest)
                    return "before_send", type(error).__name__
        return None

    def _prepare_order(self, order: SignedOrder) -> _Prepared:
        request_id = self._request_id(order)
        message = wire.place_order(order, request_id)
        return _Prepared(request_id, message, order.signature, order.digest, order.product_id, True)

    def _request_id(self, order: SignedOrder) -> int:
        return next(self._ids) if order.client_id is None else order.client_id

    def _cancel_nonce(self) -> int:
        recv_time_ms = self._timesync.exchange_now_ms() + self._config.cancel_discard_after_ms
        return make_nonce(recv_time_ms, next(self._nonce_low))

    def _note_denied(self, record: TrackedOrder, refusal: tuple[str, str]) -> Outcome:
        self.tracker.on_outcome(record.digest, OutcomeFacts(is_denied=True))
        return denied(*refusal, record.digest)

    # ------------------------------------------------------------------ sending

    async def _send_all(self, batch: Sequence[_Prepared]) -> list[Outcome]:
        if self.link.blocked() is not None:
            return list(await asyncio.gather(*(self._over_rest(prepared) for prepared in batch)))
        # No await between the writes: the legs of a pair leave in one turn of the loop.
        flights = [self._write(prepared) for prepared in batch]
        return list(
            await asyncio.gather(*(self._await_answer(*pair) for pair in zip(batch, flights, strict=True)))
        )

    def _write(self, prepared: _Prepared) -> Flight | None:
        """Write one message to the socket; None if it refused, and nothing left."""
        answer: asyncio.Future[Mapping[str, Any]] = asyncio.get_running_loop().create_future()
        flight = Flight(prepared.request_id, prepared.signature, prepared.digest, 0, answer)
        self._in_flight.add(flight)
        try:
            self.link.send(prepared.message)
        except ConnectionLost:
            self._in_flight.remove(flight)
            return None
        flight.sent_ns = time.monotonic_ns()
        self._counts["ws_requests"] += 1
        if prepared.is_order:
            self.tracker.on_sent(prepared.digest, flight.sent_ns)
        return flight

    async def _await_answer(self, prepared: _Prepared, flight: Flight | None) -> Outcome:
        if flight is None:
            return await self._over_rest(prepared)
        try:
            await asyncio.wait([flight.answer], timeout=self._reply_timeout_s)
        except asyncio.CancelledError:
            if prepared.is_order:
                self.tracker.on_outcome(prepared.digest, OutcomeFacts(is_unknown=True))
            raise
        finally:
            self._in_flight.remove(flight)
        if not flight.is_answered:
            self._counts["lost_replies"] += 1
            return await self._after_silence(prepared, flight.sent_ns, flight.loss)
        envelope = flight.answer.result()
        now = time.monotonic_ns()
        self.round_trip.record_ns(now - flight.sent_ns)
        verdict = self._judge(prepared, envelope, is_resend=False)
        return self._finish(prepared, verdict, "ws", flight.sent_ns, now)

    async def _after_silence(self, prepared: _Prepared, sent_ns: int, reason: str) -> Outcome:
        """The request left and nothing came back."""
        record = self.tracker.get(prepared.digest) if prepared.is_order else None
        if record is not None and record.was_accepted:
            verdict = Verdict(OutcomeKind.CONFIRMED, reason="seen on the stream")
            return self._finish(prepared, verdict, "stream", sent_ns, time.monotonic_ns())
        if self._rest is None:
            return self._finish(prepared, Verdict(OutcomeKind.UNKNOWN, reason=reason), "", sent_ns, 0)
        _log.warning("no answer to %s (%s): same bytes over HTTP", prepared.digest, reason)
        return await self._over_rest(prepared, first_sent_ns=sent_ns)

    async def _over_rest(self, prepared: _Prepared, first_sent_ns: int = 0) -> Outcome:
        """Send the signed bytes over HTTP. first_sent_ns > 0: a copy has left before."""
        assert self._rest is not None
        is_resend = first_sent_ns > 0
        sent_ns = first_sent_ns or time.monotonic_ns()
        self._counts["rest_resends" if is_resend else "rest_requests"] += 1
        if prepared.is_order and not is_resend:
            self.tracker.on_sent(prepared.digest, sent_ns)
        try:
            envelope: Mapping[str, Any] = await self._rest.execute(prepared.message)
            verdict = self._judge(prepared, envelope, is_resend=is_resend)
        except ExchangeError as error:
            self._note_rate_error(error.error_code)
            verdict = outcome.judge_refusal(
                error.error_code, error.text, is_resend=is_resend, final_codes=prepared.final_codes
            )
        except NotConnected as error:
            kind = OutcomeKind.UNKNOWN if is_resend else OutcomeKind.DENIED
            return self._finish(prepared, Verdict(kind, reason=f"unreachable: {error}"), "", sent_ns, 0)
        except TransportError as error:
            verdict = Verdict(OutcomeKind.UNKNOWN, reason=str(error))
        if verdict.kind is OutcomeKind.UNKNOWN and prepared.is_order:
            found, _ = await self._resolver.look(prepared.digest, prepared.product_id, sent_ns)
            if found is not None:
                return found
        return self._finish(prepared, verdict, "rest", sent_ns, time.monotonic_ns())

    # ------------------------------------------------------------------ answers

    def _judge(self, prepared: _Prepared, envelope: Mapping[str, Any], *, is_resend: bool) -> Verdict:
        try:
            verdict = outcome.judge(envelope, is_resend=is_resend, final_codes=prepared.final_codes)
        except NadoError as error:
            return Verdict(OutcomeKind.UNKNOWN, reason=str(error))
        self._note_rate_error(verdict.error_code)
        if self._limiter is not None and verdict.kind is OutcomeKind.CONFIRMED:
            self._limiter.on_success("execute")
        return verdict

    def _finish(
        self, prepared: _Prepared, verdict: Verdict, path: str, sent_ns: int, replied_ns: int
    ) -> Outcome:
        """Tell the tracker and build the Outcome."""
        if prepared.is_order:
            self.tracker.on_outcome(
                prepared.digest,
                OutcomeFacts(
                    accepted=verdict.kind is OutcomeKind.CONFIRMED,
                    is_rejected=verdict.kind is OutcomeKind.REJECTED,
                    is_denied=verdict.kind is OutcomeKind.DENIED,
                    is_unknown=verdict.kind is OutcomeKind.UNKNOWN,
                    rejected_code=verdict.error_code if verdict.kind is OutcomeKind.REJECTED else None,
                ),
            )
        if prepared.replaces and verdict.kind is OutcomeKind.CONFIRMED:
            self.tracker.on_cancelled(prepared.replaces, None)
        for order in verdict.cancelled:
            self.tracker.on_cancelled(order.digest, order.unfilled_x18)
        return Outcome(
            verdict.kind,
            prepared.digest,
            verdict.error_code,
            verdict.reason,
            path,
            sent_ns,
            replied_ns,
            verdict.cancelled,
        )

    def _note_rate_error(self, code: int | None) -> None:
        if self._limiter is not None and code in (wire.Code.RATE_LIMIT, wire.Code.TOO_MANY_REQUESTS):
            self._limiter.on_rate_error("execute")

    # ------------------------------------------------------------------ socket callbacks, inline

    def _make_listener(self, on_disconnected: Callable[[object], None]) -> TextListener:
        return TextListener(self._on_text, on_disconnected=on_disconnected)

    def _on_text(self, message: bytes) -> None:
        try:
            envelope = orjson.loads(message)
        except orjson.JSONDecodeError:
            envelope = None
        if not isinstance(envelope, dict):
            self._in_flight.orphans += 1
            _log.warning("order socket: a message that is not a JSON object (%d bytes)", len(message))
            return
        flight = self._in_flight.match(envelope)
        if flight is None:
            _log.warning("order socket: an answer that belongs to no request: %s", envelope.get("error_code"))
        elif self._in_flight.is_open(flight):
            flight.answer.set_result(envelope)
        else:
            self._on_late_answer(flight, envelope)

    def _on_late_answer(self, flight: Flight, envelope: Mapping[str, Any]) -> None:
        """The caller has gone another way since; the order's record still learns of it."""
        self._counts["late_replies"] += 1
        if envelope.get("status") == wire.STATUS_SUCCESS and self.tracker.get(flight.digest) is not None:
            self.tracker.on_outcome(flight.digest, OutcomeFacts(accepted=True))

    def _on_lost(self, reason: str) -> None:
        for flight in self._in_flight.drain():
            if not flight.answer.done():
                flight.answer.set_exception(ConnectionLost(f"orders: {reason}"))


def check_request(request: OrderRequest, products: Mapping[int, Product]) -> None:
    """Raises OrderDenied naming the product rule that the request violates."""
    product = products.get(request.product_id)
    if product is None:
        raise OrderDenied("product", f"product {request.product_id} is not configured")
    if not product.is_valid_price(request.price_x18):
        raise OrderDenied("price", f"{request.price_x18} is not a positive multiple of the price step")
    if not product.is_valid_size(request.amount_x18):
        raise OrderDenied("amount", f"{request.amount_x18} is not a non-zero multiple of the size step")
    is_taker_only = request.order_type in (OrderType.IOC, OrderType.FOK)
    if request.reduce_only and not is_taker_only:
        raise OrderDenied("reduce_only", "the exchange takes reduce-only from IOC and FOK orders only")
    if not is_taker_only and not product.meets_min_size(request.amount_x18, request.price_x18):
        raise OrderDenied("min_size", f"notional is below {product.min_size_x18} x18")
    if request.client_id is not None and not 0 <= request.client_id <= wire.MAX_CLIENT_ID:
        raise OrderDenied("client_id", f"{request.client_id} is outside 0..2^53-1")
    status = product.trading_status
    if status == "not_tradable":
        raise OrderDenied("trading_status", f"{product.symbol} is not tradable")
    if status == "post_only" and request.order_type is not OrderType.POST_ONLY:
        raise OrderDenied("trading_status", f"{product.symbol} takes post-only orders only")
    if status in ("reduce_only", "soft_reduce_only") and not request.reduce_only:
        raise OrderDenied("trading_status", f"{product.symbol} takes reduce-only orders only")


def _denied_by(error: Exception) -> Outcome:
    if isinstance(error, OrderDenied):
        return denied(error.rule, error.detail)
    return denied("request", str(error))
