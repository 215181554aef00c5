"""Orders to the exchange, and what became of each.

Signed here, carried by `delivery.py`, settled by `resolver.py`. On doubt the same signed bytes are all that
may leave; a new signature is never the answer to doubt.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import random
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

from . import wire
from .appendix import OrderType, pack_appendix
from .connection import Backoff, LinkConfig, NadoConnectionManager
from .delivery import Delivery
from .errors import ConfigError, NadoError, OrderDenied
from .fallback import ConnectionMode
from .inflight import Prepared
from .lanes import LanesConfig
from .network import Network, resolve
from .order_rules import check_request
from .orders import OrderTracker, OutcomeFacts, TrackedOrder
from .outcome import (
    CANCEL_FINAL_CODES,
    REREAD_CODES,
    CancelledOrder,
    OrderRequest,
    Outcome,
    OutcomeKind,
    denied,
)
from .presign import Presigner, SignedLegs
from .products import Product
from .ratelimit import NadoRateLimiter
from .resolver import OrderResolver, ResolverConfig
from .signing import SignedOrder, Signer, make_nonce
from .timesync import TimeSync
from .waiting import wait_event

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
_CLOCK_WATCH_S: Final = 1.0
_MIN_PATIENCE_S: Final = 0.05
_APPENDICES: Final = {
    (order_type, reduce_only): pack_appendix(order_type, reduce_only=reduce_only)
    for order_type in OrderType
    for reduce_only in (False, True)
}
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class GatewayConfig:
    """reply_timeout_s: then the same bytes go over HTTP; an order has at most half of its discard time, so
    that the second copy can still be taken. discard_after_ms: default discard time of an unwind, and the
    ceiling of `entry_discard_ms`, the default of every other order; min_entry_discard_ms: its floor.
    cancel_discard_after_ms: discard time of a cancel. expiration_s: default life of an order. max_in_flight:
    requests under way on sockets. start_timeout_s: longest wait of `start` for the socket. time_refresh_s: if
    nobody else has read the exchange's clock for so long, the gateway does, over HTTP; at once when an order
    was refused for its time. time_retry_s, time_retry_cap_s: jittered back-off between two tries while it is
    unknown. confirm_s: pause between two questions about orders that the stream alone says are over.
    presign_slack_ms: what `expect` names is signed ahead, with a discard time later by at most this; 0:
    nothing is. resolver: how doubt is settled. lanes: when the serial sockets open. websocket: False opens no
    socket at all, for a roll-back: everything goes over HTTP, which needs a `rest`."""

    reply_timeout_s: float = 1.0
    discard_after_ms: int = 5_000
    min_entry_discard_ms: int = 500
    confirm_s: float = 5.0
    cancel_discard_after_ms: int = 10_000
    expiration_s: int = 60
    max_in_flight: int = 256
    start_timeout_s: float = 3.0
    time_refresh_s: float = 60.0
    time_retry_s: float = 0.5
    time_retry_cap_s: float = 5.0
    presign_slack_ms: int = 0
    resolver: ResolverConfig = field(default_factory=ResolverConfig)
    link: LinkConfig = field(default_factory=LinkConfig)
    lanes: LanesConfig = field(default_factory=LanesConfig)
    websocket: bool = True


class OrderGateway:
    """Places and cancels orders of one subaccount.

    before_send(record) runs after signing and before any byte leaves; if it raises, nothing is sent.
    signed_ahead(record) runs in idle time for each order signed ahead, most of which never leave. Methods
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
        signed_ahead: Callable[[TrackedOrder], object] | None = None,
        reply_timeout_s: float | None = None,
        config: GatewayConfig | None = None,
    ) -> None:
        self.network = resolve(network)
        self.tracker = OrderTracker() if tracker is None else tracker
        self.subaccount = signer.subaccount(subaccount)
        self._signer = signer
        self._products = products
        self._timesync = timesync
        self._rest = rest
        self._limiter = limiter
        self._before_send = before_send
        self._signed_ahead = signed_ahead
        self._config = config or GatewayConfig()
        if rest is None and not self._config.websocket:
            raise ConfigError("without a WebSocket a gateway needs a rest")
        self._reply_timeout_s = reply_timeout_s or self._config.reply_timeout_s
        self._resolver = OrderResolver(
            self.tracker, timesync, rest, self._config.resolver,
            subaccount=self.subaccount,
        )  # fmt: skip
        self._delivery = Delivery(
            self.network.gateway_ws_v2,
            self.network.gateway_ws_v1,
            rest=rest,
            tracker=self.tracker,
            resolver=self._resolver,
            limiter=limiter,
            link_config=self._config.link,
            lanes_config=self._config.lanes,
        )
        self.lanes = self._delivery.lanes
        self.link: NadoConnectionManager = self.lanes.concurrent.link
        self.round_trip = self._delivery.round_trip
        self._tasks: list[asyncio.Task[None]] = []
        self.failure: str | None = None
        """Why a task of the gateway has ended: a defect. Clock or ends of orders are not watched any more."""
        slack_ms = self._config.presign_slack_ms
        self.presigner = Presigner(self._sign_ahead, timesync.exchange_now_ms, slack_ms) if slack_ms else None
        """Signs ahead what `expect` names; None unless the configuration gives it some slack."""
        self._ids = itertools.count(1)
        # One counter for all nonces: equal messages of one millisecond stay different.
        self._nonce_low = itertools.count(time.time_ns() & 0xFFFFF)

    # ------------------------------------------------------------------ life

    async def start(self) -> None:
        """Open the socket and keep it warm. Returns after the first attempt, whatever came of it: without the
        socket orders go over HTTP."""
        self._delivery.start(with_sockets=self._config.websocket)
        if self._rest is not None:
            if not self._timesync.is_known:
                await self._read_clock(self._rest, 3)
            if not self._tasks:
                self._tasks = [
                    asyncio.create_task(self._keep_time(self._rest), name="gateway clock"),
                    asyncio.create_task(self._confirm_ends(), name="gateway ends"),
                ]
                for task in self._tasks:
                    task.add_done_callback(self._say_defect)
        if not self._config.websocket:
            _log.warning("no order socket is opened: orders go over HTTP only")
        elif not await self.lanes.wait_first_try(self._config.start_timeout_s):
            _log.warning("no order socket is up: %s", self.link.last_error or "no answer yet")

    async def stop(self) -> None:
        """Close the socket; open requests end as if it had broken. No order leaves from here on, not even
        the second copy of one that got no answer; cancels still may."""
        tasks, self._tasks = self._tasks, []
        if self.presigner is not None:
            self.presigner.forget()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._delivery.stop()
        await self._resolver.stop()

    async def __aenter__(self) -> Self:
        try:
            await self.start()
        except BaseException:
            await self.stop()
            raise
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
        """Without a clock nothing may be sent, exits included: never let it grow old, and look often enough
        to see a machine that slept."""
        jitter = random.Random(random.getrandbits(64))
        retry = Backoff(self._config.time_retry_s, self._config.time_retry_cap_s, jitter)
        doubts = self._delivery.clock_doubts
        while True:
            if not self._timesync.is_known:
                await asyncio.sleep(retry.next_s())
                await self._read_clock(rest, 1)
                continue
            retry.reset()
            is_doubted = await wait_event(doubts, min(_CLOCK_WATCH_S, self._config.time_refresh_s))
            if is_doubted or self._timesync.sample_age_s > self._config.time_refresh_s:
                await self._read_clock(rest, 1)
            if is_doubted:
                await asyncio.sleep(self._config.time_retry_s)  # a burst of refusals is one doubt
                doubts.clear()

    async def _confirm_ends(self) -> None:
        """The stream alone does not make an order forgotten: the book is asked, too."""
        while True:
            await asyncio.sleep(self._config.confirm_s * random.uniform(0.8, 1.2))
            try:
                await self._resolver.confirm_ends()
            except NadoError as error:
                _log.info("orders whose end is in doubt: %s", error)

    @property
    def path(self) -> str:
        """How the next order would leave: "ws", "ws_v1" or "rest"."""
        lane = self.lanes.pick()
        return "rest" if lane is None else lane.path

    @property
    def mode(self) -> ConnectionMode:
        """REST while no socket would take an order."""
        return ConnectionMode.REST if self.path == "rest" else ConnectionMode.WEBSOCKET

    # ------------------------------------------------------------------ orders

    @property
    def entry_discard_ms(self) -> int:
        """Discard time for an order that must not arrive late: three times the p99 round trip plus twice the
        clock's uncertainty, between the floor and an ordinary order's discard time."""
        p99_ms = self.round_trip.percentile(99) / _MS
        measured = 3 * p99_ms + 2 * min(self._timesync.uncertainty_ms, 10_000)
        ceiling = max(self._config.min_entry_discard_ms, self._config.discard_after_ms)
        return min(ceiling, max(self._config.min_entry_discard_ms, int(measured) + 1))

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
            self._check_room(len(requests))
            legs = None if self.presigner is None else self.presigner.take(requests)
            if legs is None:
                legs = self._sign_legs(requests, 0)
        except (OrderDenied, OverflowError, ValueError) as error:
            return [_denied_by(error)] * len(requests)
        records = [self.tracker.adopt(record) for record in legs.records]
        refusal = self._permit(records, len(records), urgent=legs.is_urgent)
        if refusal is not None:
            return [self._note_denied(record, refusal) for record in records]
        return await self._delivery.send_all(legs.prepared)

    def expect(self, requests: Sequence[OrderRequest]) -> None:
        """These may be placed soon: with `presign_slack_ms` they are signed in idle time, so that the same
        requests then only have to be written. Say it again whenever price or size change; an empty list ends
        it. Nothing is sent."""
        if self.presigner is not None:
            self.presigner.expect(requests)

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
        prepared = Prepared(
            request_id,
            message,
            signed.signature,
            digest.lower(),
            product_id,
            is_order=False,
            final_codes=CANCEL_FINAL_CODES,
            patience_s=self._reply_timeout_s,
        )
        self._delivery.in_flight.withdraw(prepared.digest)
        outcome = (await self._delivery.send_all([prepared]))[0]
        if outcome.error_code == wire.Code.UNFILLED_DIFFERS:
            await self._resolver.reread(prepared.digest, product_id)
        return outcome

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
        prepared = Prepared(
            request_id, message, signed.signature, signed.digest, 0, is_order=False, weight=weight,
            patience_s=self._reply_timeout_s,
        )  # fmt: skip
        self._delivery.in_flight.withdraw_products(product_ids)
        return (await self._delivery.send_all([prepared]))[0]

    async def cancel_and_place(
        self,
        product_id: int,
        digest: str,
        request: OrderRequest,
        required_unfilled_x18: int | None = None,
    ) -> Outcome:
        """Replace an order in one engine step; the outcome and its digest are the new order's.

        With required_unfilled_x18 a fill in between refuses the whole (2120, 2121 or 2124): the old order has
        been read again by the time this returns, and its record says what is left. Throttled: DENIED when
        re-pricing has spent its share of the budget, except for a reduce-only order.
        """
        try:
            self._check_all([request])
            order = self._sign(request)
        except (OrderDenied, OverflowError, ValueError) as error:
            return _denied_by(error)
        record = self.tracker.register(order)
        weight = wire.CANCEL_AND_PLACE_WEIGHT
        refusal = self._permit([record], weight, urgent=request.reduce_only, is_reprice=True)
        if refusal is not None:
            return self._note_denied(record, refusal)
        cancel = self._signer.sign_cancel([product_id], [digest], self._cancel_nonce(), self.subaccount)
        request_id = self._request_id(order)
        message = wire.cancel_and_place(cancel, order, request_id, required_unfilled_x18)
        prepared = Prepared(
            request_id,
            message,
            order.signature,
            order.digest,
            order.product_id,
            is_order=True,
            weight=weight,
            replaces=digest.lower(),
            replaces_left_x18=required_unfilled_x18,
            patience_s=self._patience_s(self._discard_ms(request)),
            is_urgent=request.reduce_only,
        )
        self._delivery.in_flight.withdraw(prepared.replaces)
        outcome = (await self._delivery.send_all([prepared]))[0]
        if outcome.error_code in REREAD_CODES:
            await self._resolver.reread(prepared.replaces, product_id)
        return outcome

    async def resolve(self, digest: str, product_id: int, timeout_s: float = 15.0) -> Outcome:
        """Find out what became of an order whose outcome is UNKNOWN, without sending it again.

        CONFIRMED as soon as a stream, the book or the archive shows it. REJECTED when it shows nowhere,
        twice, once the archive has passed its discard time. UNKNOWN if the time runs out.
        """
        return await self._resolver.resolve(digest.lower(), product_id, timeout_s)

    async def settle(self, digest: str, product_id: int, timeout_s: float = 15.0) -> bool:
        """Read the last word on an order that was accepted, fills included, over HTTP. True: it has ended and
        every fill of it is in the tracker. False: it still rests, or the time ran out."""
        return await self._resolver.settle(digest.lower(), product_id, timeout_s)

    async def refresh(self) -> None:
        """Ask about every order that lives, over HTTP; what is found goes into the records."""
        await self._resolver.refresh()

    async def wait_past(self, when_ms: int, timeout_s: float) -> bool:
        """Wait until a moment of the exchange's clock is certainly over."""
        return await self._resolver.wait_past(when_ms, timeout_s)

    async def wait_archive(self, product_ids: Collection[int], when_ms: int, timeout_s: float) -> bool:
        """Wait until the archive shows all fills of ours on these products up to a moment of the exchange's
        clock."""
        return await self._resolver.wait_archived(product_ids, when_ms, timeout_s)

    def stats(self) -> dict[str, Any]:
        """Counters of the requests, and the round trips over sockets and over HTTP, apart."""
        return {
            **self._delivery.counts,
            "in_flight": len(self._delivery.in_flight),
            "orphan_replies": self._delivery.in_flight.orphans,
            "connects": self.link.connects,
            "serial_fallbacks": self.lanes.fallbacks,
            "path": self.path,
            "round_trip": self.round_trip.summary(),
            "ws_round_trip": self._delivery.ws_round_trip.summary(),
            "rest_round_trip": self._delivery.rest_round_trip.summary(),
            "entry_discard_ms": self.entry_discard_ms,
            "clock": {
                "uncertainty_ms": self._timesync.uncertainty_ms,
                "steps": self._timesync.steps,
                "suspends": self._timesync.suspends,
                "wall_jumps": self._timesync.wall_jumps,
            },
            "budget": {} if self._limiter is None else self._limiter.stats(),
        }

    def _say_defect(self, task: asyncio.Task[None]) -> None:
        """Nobody awaits such a task before the end: without a word the clock would only grow old."""
        if not task.cancelled() and (error := task.exception()) is not None:
            self.failure = f"{task.get_name()}: {type(error).__name__}: {error}"
            _log.critical("%s has failed and does not go on", task.get_name(), exc_info=error)

    # ------------------------------------------------------------------ before sending

    def _check_room(self, count: int) -> None:
        if self._delivery.is_stopped:
            raise OrderDenied("stopped", "the gateway was stopped")
        under_way = len(self._delivery.in_flight)
        if under_way + count > self._config.max_in_flight:
            raise OrderDenied("in_flight", f"{under_way} requests are under way")

    def _check_all(self, requests: Sequence[OrderRequest]) -> None:
        if not self._timesync.is_known:
            raise OrderDenied("clock_unknown", f"uncertainty {self._timesync.uncertainty_ms:.0f} ms")
        self._check_room(len(requests))
        for request in requests:
            check_request(request, self._products)

    def _sign_legs(self, requests: Sequence[OrderRequest], slack_ms: int) -> SignedLegs:
        """Orders that only have to leave. slack_ms: by how much later than asked they may still be taken."""
        self._check_all(requests)
        now_ms = self._timesync.exchange_now_ms()
        discards_ms = tuple(self._discard_ms(request) for request in requests)
        signed = [
            self._sign_at(request, now_ms, discard_ms + slack_ms)
            for request, discard_ms in zip(requests, discards_ms, strict=True)
        ]
        is_urgent = all(request.reduce_only for request in requests)
        return SignedLegs(
            tuple(requests),
            tuple(self.tracker.record_of(order) for order in signed),
            tuple(
                self._prepare_order(order, is_urgent, self._patience_s(discard_ms))
                for order, discard_ms in zip(signed, discards_ms, strict=True)
            ),
            is_urgent,
            discards_ms,
        )

    def _sign_ahead(self, requests: Sequence[OrderRequest], slack_ms: int) -> SignedLegs:
        legs = self._sign_legs(requests, slack_ms)
        if self._signed_ahead is not None:
            for record in legs.records:
                self._signed_ahead(record)
        return legs

    def _discard_ms(self, request: OrderRequest) -> int:
        if request.discard_after_ms is not None:
            return request.discard_after_ms
        # An unwind had better arrive late than never.
        return self._config.discard_after_ms if request.reduce_only else self.entry_discard_ms

    def _sign(self, request: OrderRequest) -> SignedOrder:
        return self._sign_at(request, self._timesync.exchange_now_ms(), self._discard_ms(request))

    def _sign_at(self, request: OrderRequest, now_ms: int, discard_ms: int) -> SignedOrder:
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
            subaccount=self.subaccount,
            client_id=request.client_id,
        )

    def _permit(
        self, records: Sequence[TrackedOrder], weight: int, *, urgent: bool, is_reprice: bool = False
    ) -> tuple[str, str] | None:
        """None if the request may leave now, else (rule, detail). Runs before_send last."""
        if not self._timesync.is_known:
            return "clock_unknown", "the exchange's clock is not known"
        blocked = self._delivery.blocked()
        if blocked is not None:
            return "not_connected", blocked
        if self._limiter is not None:
            if not urgent and self._limiter.query_only_s and self.path == "rest":
                return "query_only", f"no executes from this address for {self._limiter.query_only_s:.1f} s"
            is_throttled = is_reprice and not urgent
            if not (
                self._limiter.try_reprice(weight)
                if is_throttled
                else self._limiter.try_acquire("execute", weight, urgent=urgent)
            ):
                return "reprice_throttled" if is_throttled else "rate_limit", f"weight {weight} is not free"
        if self._before_send is not None:
            for record in records:
                try:
                    self._before_send(record)
                except Exception as error:
                    _log.exception("before_send refused %s", record.digest)
                    return "before_send", type(error).__name__
        return None

    def _prepare_order(self, order: SignedOrder, is_urgent: bool, patience_s: float) -> Prepared:
        request_id = self._request_id(order)
        message = wire.place_order(order, request_id)
        return Prepared(
            request_id, message, order.signature, order.digest, order.product_id, is_order=True,
            patience_s=patience_s, is_urgent=is_urgent,
        )  # fmt: skip

    def _patience_s(self, discard_ms: int) -> float:
        """How long the socket has for the answer: half of the time until the order is discarded."""
        return min(self._reply_timeout_s, max(_MIN_PATIENCE_S, discard_ms / 2000))

    def _request_id(self, order: SignedOrder) -> int:
        return next(self._ids) if order.client_id is None else order.client_id

    def _cancel_nonce(self) -> int:
        recv_time_ms = self._timesync.exchange_now_ms() + self._config.cancel_discard_after_ms
        return make_nonce(recv_time_ms, next(self._nonce_low))

    def _note_denied(self, record: TrackedOrder, refusal: tuple[str, str]) -> Outcome:
        self.tracker.on_outcome(record.digest, OutcomeFacts(is_denied=True))
        return denied(*refusal, record.digest)


def _denied_by(error: Exception) -> Outcome:
    if isinstance(error, OrderDenied):
        return denied(error.rule, error.detail)
    return denied("request", str(error))
