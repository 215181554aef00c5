"""Orders to the exchange, and what became of each.

Signed in `preparing.py`, permitted here, carried by `delivery.py`, settled by `resolver.py`. On doubt the
same signed bytes are all that may leave; a new signature is never the answer to doubt.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from . import wire
from .clockkeeper import ClockKeeper
from .collection import NoCollection
from .connection import LinkConfig, NadoConnectionManager
from .delivery import Delivery
from .errors import ConfigError, NadoError, OrderDenied
from .fallback import ConnectionMode
from .lanes import LanesConfig
from .network import Network, resolve
from .orders import OrderTracker, OutcomeFacts, TrackedOrder
from .outcome import REREAD_CODES, CancelledOrder, OrderRequest, Outcome, OutcomeKind, denied
from .preparing import Preparer, SignedLegs
from .presign import Presigner
from .products import Product
from .ratelimit import NadoRateLimiter
from .resolver import OrderResolver, ResolverConfig
from .signing import Signer
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
    unknown. confirm_s: pause between two questions about orders that the stream alone says are over, or
    that have ended with something left to be known.
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

    before_send(record) runs for each order after signing and before any byte leaves, then journal(records)
    once for all that leave together; if either raises, nothing is sent.
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
        journal: Callable[[Sequence[TrackedOrder]], object] | None = None,
        signed_ahead: Callable[[TrackedOrder], object] | None = None,
        reply_timeout_s: float | None = None,
        config: GatewayConfig | None = None,
    ) -> None:
        self.network = resolve(network)
        self.tracker = OrderTracker() if tracker is None else tracker
        self.subaccount = signer.subaccount(subaccount)
        self._timesync = timesync
        self._rest = rest
        self._limiter = limiter
        self._before_send = before_send
        self._journal = journal
        self._signed_ahead = signed_ahead
        self._config = config or GatewayConfig()
        if rest is None and not self._config.websocket:
            raise ConfigError("without a WebSocket a gateway needs a rest")
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
        self._preparer = Preparer(
            signer,
            products,
            subaccount=self.subaccount,
            tracker=self.tracker,
            round_trip=self.round_trip,
            reply_timeout_s=reply_timeout_s or self._config.reply_timeout_s,
            config=self._config,
        )
        self._tasks: list[asyncio.Task[None]] = []
        self.failure: str | None = None
        """Why a task of the gateway has ended: a defect. Clock or ends of orders are not watched any more."""
        slack_ms = self._config.presign_slack_ms
        self.presigner = Presigner(self._sign_ahead, slack_ms) if slack_ms else None
        """Signs ahead what `expect` names; None unless the configuration gives it some slack."""

    # ------------------------------------------------------------------ life

    async def start(self) -> None:
        """Open the socket and keep it warm. Returns after the first attempt, whatever came of it: without the
        socket orders go over HTTP."""
        self._delivery.start(with_sockets=self._config.websocket)
        if self._rest is not None:
            keeper = ClockKeeper(self._rest, self._timesync, self._delivery.clock_doubts, self._config)
            if not self._timesync.is_known:
                await keeper.read(3)
            if not self._tasks:
                self._tasks = [
                    asyncio.create_task(keeper.run(), name="gateway clock"),
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
        return self._preparer.entry_discard_ms(self._timesync.uncertainty_ms)

    async def place(self, request: OrderRequest) -> Outcome:
        """Send one order and wait for what becomes of the request."""
        return (await self.place_many([request]))[0]

    async def place_many(self, requests: Sequence[OrderRequest]) -> list[Outcome]:
        """Send orders back to back in one loop turn, each in its own message; outcomes in the same order.

        All or none leave: if one is denied, so are the others.
        """
        if not requests:
            return []
        with NoCollection():
            legs = self._permitted(requests)
            if not isinstance(legs, SignedLegs):
                return legs
            flights = self._delivery.write(legs.prepared)
        return await self._delivery.outcomes(legs.prepared, flights)

    def _permitted(self, requests: Sequence[OrderRequest]) -> SignedLegs | list[Outcome]:
        """What may leave now, signed ahead or signed here; else why not."""
        try:
            self._check_room(len(requests))
            order_time = self._timesync.order_time()
            legs = None if self.presigner is None else self.presigner.take(requests, order_time[0])
            if legs is None:
                legs = self._preparer.legs(requests, order_time)
        except (OrderDenied, OverflowError, ValueError) as error:
            return [_denied_by(error)] * len(requests)
        records = [self.tracker.adopt(record) for record in legs.records]
        refusal = self._permit(len(records), urgent=legs.is_urgent) or self._announce(records)
        if refusal is not None:
            return [self._note_denied(record, refusal) for record in records]
        return legs

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
        try:
            now_ms, _ = self._timesync.order_time()
        except OrderDenied as error:
            return denied(error.rule, error.detail, digest)
        refusal = self._permit(1, urgent=True)
        if refusal is not None:
            return denied(*refusal, digest)
        prepared = self._preparer.cancel(product_id, digest, required_unfilled_x18, now_ms)
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
        try:
            now_ms, _ = self._timesync.order_time()
        except OrderDenied as error:
            return _denied_by(error)
        refusal = self._permit(weight, urgent=True)
        if refusal is not None:
            return denied(*refusal)
        prepared = self._preparer.cancel_products(product_ids, weight, now_ms)
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
            self._check_room(1)
            record, prepared = self._preparer.replacement(
                product_id, digest, request, required_unfilled_x18, self._timesync.order_time()
            )
        except (OrderDenied, OverflowError, ValueError) as error:
            return _denied_by(error)
        record = self.tracker.adopt(record)
        refusal = self._permit(prepared.weight, urgent=prepared.is_urgent, is_reprice=True)
        refusal = refusal or self._announce([record])
        if refusal is not None:
            return self._note_denied(record, refusal)
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

    def _sign_ahead(self, requests: Sequence[OrderRequest], slack_ms: int) -> SignedLegs:
        self._check_room(len(requests))
        legs = self._preparer.legs(requests, self._timesync.order_time(), slack_ms)
        if self._signed_ahead is not None:
            for record in legs.records:
                self._signed_ahead(record)
        return legs

    def _permit(self, weight: int, *, urgent: bool, is_reprice: bool = False) -> tuple[str, str] | None:
        """None if a request of this weight may leave now, and the weight is spent; else (rule, detail)."""
        blocked = self._delivery.blocked()
        if blocked is not None:
            return "not_connected", blocked
        if self._limiter is None:
            return None
        if not urgent and self._limiter.query_only_s and self.path == "rest":
            return "query_only", f"no executes from this address for {self._limiter.query_only_s:.1f} s"
        is_throttled = is_reprice and not urgent
        if is_throttled:
            is_free = self._limiter.try_reprice(weight)
        else:
            is_free = self._limiter.try_acquire("execute", weight, urgent=urgent)
        if is_free:
            return None
        return "reprice_throttled" if is_throttled else "rate_limit", f"weight {weight} is not free"

    def _announce(self, records: Sequence[TrackedOrder]) -> tuple[str, str] | None:
        """`before_send` and `journal`, the last things before bytes leave; None if they let them."""
        try:
            if self._before_send is not None:
                for record in records:
                    self._before_send(record)
            if self._journal is not None:
                self._journal(records)
        except Exception as error:
            _log.exception("before_send refused %s", ", ".join(record.digest for record in records))
            return "before_send", type(error).__name__
        return None

    def _note_denied(self, record: TrackedOrder, refusal: tuple[str, str]) -> Outcome:
        self.tracker.on_outcome(record.digest, OutcomeFacts(is_denied=True))
        return denied(*refusal, record.digest)


def _denied_by(error: Exception) -> Outcome:
    if isinstance(error, OrderDenied):
        return denied(error.rule, error.detail)
    return denied("request", str(error))
