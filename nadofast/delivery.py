"""Signed requests to the exchange, and what their answers say.

The concurrent gateway socket first, then the serial ones, then HTTP. No answer in time: the same signed bytes
go over HTTP, unless the order was withdrawn meanwhile or the gateway stops. Nothing is signed here.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import orjson

from . import outcome, wire
from ._latency import Histogram
from .connection import LinkConfig
from .errors import ConnectionLost, ExchangeError, NadoError, NotConnected, RequestTimeout, TransportError
from .inflight import Flight, InFlight, Prepared
from .lanes import Lane, Lanes, LanesConfig
from .orders import OrderTracker, OutcomeFacts
from .outcome import Outcome, OutcomeKind, Verdict
from .ratelimit import NadoRateLimiter
from .resolver import OrderResolver

if TYPE_CHECKING:
    from .rest import Rest

_COUNTS: Final = (
    "ws_requests",
    "ws_v1_requests",
    "rest_requests",
    "rest_resends",
    "lost_replies",
    "late_replies",
)
_MIN_POST_S: Final = 0.2
_log = logging.getLogger(__name__)


class Delivery:
    """Takes prepared requests to the exchange and tells the tracker what came back.

    Every request ends as an Outcome within the reply time-out, the HTTP time-out and the resolver's
    `settle_s`, whatever the network does.
    """

    def __init__(
        self,
        concurrent_url: str,
        serial_url: str,
        *,
        rest: Rest | None,
        tracker: OrderTracker,
        resolver: OrderResolver,
        limiter: NadoRateLimiter | None,
        link_config: LinkConfig,
        lanes_config: LanesConfig,
    ) -> None:
        self.round_trip = Histogram()
        """By whatever way an answer came."""
        self.ws_round_trip = Histogram()
        self.rest_round_trip = Histogram()
        self.in_flight = InFlight()
        self.counts: dict[str, int] = dict.fromkeys(_COUNTS, 0)
        self.is_stopped = False
        self._rest = rest
        self._tracker = tracker
        self._resolver = resolver
        self._limiter = limiter
        self.clock_doubts = asyncio.Event()
        """Set when a refusal says that our idea of the exchange's time is wrong."""
        self.lanes = Lanes(
            concurrent_url,
            serial_url,
            on_text=self._on_text,
            on_lost=self._on_lost,
            link_config=link_config,
            config=lanes_config,
        )

    def start(self, *, with_sockets: bool = True) -> None:
        self.is_stopped = False
        if with_sockets:
            self.lanes.start()

    async def stop(self) -> None:
        """Close the sockets. Open requests end as if they had broken, but no order is sent again."""
        self.is_stopped = True
        await self.lanes.stop()

    def blocked(self) -> str | None:
        """Why nothing could leave now, over any way; None if something could."""
        return self.lanes.blocked() if self._rest is None else None

    async def send_all(self, batch: Sequence[Prepared]) -> list[Outcome]:
        """Send back to back, wait for all."""
        return await self.outcomes(batch, self.write(batch))

    def write(self, batch: Sequence[Prepared]) -> Sequence[Flight | None]:
        """Hand requests to the sockets; None for each that none took, and that has to go over HTTP.

        No await and nobody else's code before all have left: the legs of a pair leave in one turn, by the
        concurrent socket in one write, by the serial ones each on its own.
        """
        lane = self.lanes.pick()
        if lane is None or lane.is_serial:
            flights: Sequence[Flight | None] = [self._write([r], self.lanes.pick())[0] for r in batch]
        else:
            flights = self._write(batch, lane)
        for flight in flights:
            if flight is not None and flight.request.is_order:
                self._tracker.on_sent(flight.request.digest, flight.sent_ns)
        return flights

    async def outcomes(self, batch: Sequence[Prepared], flights: Sequence[Flight | None]) -> list[Outcome]:
        """Wait for all. Cancelled: the orders without an answer are UNKNOWN, those that never left DENIED."""
        pairs = list(zip(batch, flights, strict=True))
        try:
            return list(await asyncio.gather(*(self._await_answer(*pair) for pair in pairs)))
        except asyncio.CancelledError:
            # A wait that was cancelled before its first step let go of nothing, and sent nothing over HTTP.
            for request, flight in pairs:
                if flight is not None and self._let_go(flight):
                    self._abandoned(request, flight)
                elif flight is None and self._has_stayed(request):
                    self._tell(request, Verdict(OutcomeKind.DENIED, reason="abandoned before it left"))
            raise

    # ------------------------------------------------------------------ the sockets

    def _write(self, batch: Sequence[Prepared], lane: Lane | None) -> Sequence[Flight | None]:
        """Write messages to one socket; None for each if it refused, and nothing left."""
        if lane is None:
            return [None] * len(batch)
        try:
            lane.link.send_all([request.message for request in batch])
        except ConnectionLost:
            return [None] * len(batch)
        sent_ns = time.monotonic_ns()
        loop = asyncio.get_running_loop()
        flights = [Flight(request, sent_ns, loop.create_future(), lane) for request in batch]
        for flight in flights:
            lane.took()
            self.in_flight.add(flight)
        self.counts[f"{lane.path}_requests"] += len(batch)
        return flights

    async def _await_answer(self, request: Prepared, flight: Flight | None) -> Outcome:
        if flight is None:
            if self._rest is not None:
                return await self._over_rest(request)
            verdict = Verdict(OutcomeKind.DENIED, reason="no socket took it, and there is no other way")
            return self._finish(request, verdict, "", 0, 0)
        lane = flight.lane
        try:
            await asyncio.wait([flight.answer], timeout=request.patience_s)
        except asyncio.CancelledError:
            self._abandoned(request, flight)
            raise
        finally:
            self._let_go(flight)
            if lane.is_serial and not flight.answer.done():
                lane.link.cut("no answer in time: whatever follows would wait behind it")
        if not flight.is_answered:
            self.counts["lost_replies"] += 1
            return await self._after_silence(flight)
        now = time.monotonic_ns()
        self.round_trip.record_ns(now - flight.sent_ns)
        self._answered(lane.path, self.ws_round_trip, request, now - flight.sent_ns)
        verdict = self._judge(request, flight.answer.result(), is_resend=False)
        return await self._settle(request, verdict, lane.path, flight.sent_ns, now)

    def _has_stayed(self, request: Prepared) -> bool:
        record = self._tracker.get(request.digest) if request.is_order else None
        return record is not None and record.sent_ns is None

    def _let_go(self, flight: Flight) -> bool:
        """Nobody waits for it any more. False if that was so before."""
        if not self.in_flight.remove(flight):
            return False
        flight.lane.gave()
        return True

    async def _after_silence(self, flight: Flight) -> Outcome:
        """The request left and nothing came back."""
        request = flight.request
        record = self._tracker.get(request.digest) if request.is_order else None
        if record is not None and record.was_accepted:
            verdict = Verdict(OutcomeKind.CONFIRMED, reason="seen on the stream")
            return self._finish(request, verdict, "stream", flight.sent_ns, time.monotonic_ns())
        reason = self._no_second_copy(flight)
        if reason is not None:
            verdict = Verdict(OutcomeKind.UNKNOWN, reason=f"{flight.loss}; {reason}")
            return await self._settle(request, verdict, "", flight.sent_ns, 0)
        _log.warning("no answer to %s (%s): same bytes over HTTP", request.digest, flight.loss)
        return await self._over_rest(request, first_sent_ns=flight.sent_ns)

    def _no_second_copy(self, flight: Flight) -> str | None:
        """Why the bytes may not leave again; None if they may. Cancels always may: they only take away."""
        if self._rest is None:
            return "no other way to send it"
        if flight.request.is_order and self.is_stopped:
            return "the gateway stops"
        if flight.request.is_order and flight.is_withdrawn:
            return "withdrawn meanwhile"
        if flight.request.is_order and self._resolver.is_discarded(flight.request.digest):
            return "past its discard time"
        if not self._may_spend_again(flight.request):
            return "no weight for a second copy"
        return None

    def _may_spend_again(self, request: Prepared) -> bool:
        """A second copy costs, too. Cancels and unwinds leave whatever is spent."""
        if self._limiter is None:
            return True
        if self._limiter.try_acquire("execute", request.weight, urgent=request.is_urgent):
            return True
        if request.is_urgent:
            self._limiter.note_spent("execute", request.weight)
        return request.is_urgent

    # ------------------------------------------------------------------ HTTP

    async def _over_rest(self, request: Prepared, first_sent_ns: int = 0) -> Outcome:
        """Send the signed bytes over HTTP. first_sent_ns > 0: a copy has left before."""
        is_resend = first_sent_ns > 0
        sent_ns = first_sent_ns or time.monotonic_ns()
        self.counts["rest_resends" if is_resend else "rest_requests"] += 1
        if is_resend and request.is_order:
            self._tracker.on_resent(request.digest)
        if request.is_order and not is_resend:
            self._tracker.on_sent(request.digest, sent_ns)
        try:
            verdict = await self._execute(request, is_resend=is_resend)
            now_ns = time.monotonic_ns()
            if not is_resend and verdict.kind is not OutcomeKind.UNKNOWN:
                self.round_trip.record_ns(now_ns - sent_ns)
            return await self._settle(request, verdict, "rest", sent_ns, now_ns)
        except asyncio.CancelledError:
            self._abandoned(request, None)
            raise

    async def _execute(self, request: Prepared, *, is_resend: bool) -> Verdict:
        assert self._rest is not None
        asked_ns = time.monotonic_ns()
        try:
            envelope = await self._post(self._rest, request, is_resend=is_resend)
            self._answered("rest", self.rest_round_trip, request, time.monotonic_ns() - asked_ns)
            if self._limiter is not None:
                self._limiter.on_executes_taken()
            return self._judge(request, envelope, is_resend=is_resend)
        except ExchangeError as error:
            self._answered("rest", self.rest_round_trip, request, time.monotonic_ns() - asked_ns)
            self._note_refusal(error.error_code)
            if self._limiter is not None and error.is_query_only:
                self._limiter.on_query_only()
            return outcome.judge_refusal(
                error.error_code, error.text, is_resend=is_resend, final_codes=request.final_codes
            )
        except NotConnected as error:
            kind = OutcomeKind.UNKNOWN if is_resend else OutcomeKind.DENIED
            return Verdict(kind, reason=f"unreachable: {error}")
        except TransportError as error:
            return Verdict(OutcomeKind.UNKNOWN, reason=str(error))

    @staticmethod
    async def _post(rest: Rest, request: Prepared, *, is_resend: bool) -> Mapping[str, Any]:
        """Not waited for beyond the discard time of an order: from then on asking says more than waiting, and
        what hangs must not keep the questions from their connections."""
        patience_s = max(_MIN_POST_S, request.patience_s * (1 if is_resend else 2))
        try:
            async with asyncio.timeout(patience_s):
                return await rest.execute(request.message)
        except TimeoutError:
            raise RequestTimeout(f"execute: no answer within {patience_s:.2f} s") from None

    # ------------------------------------------------------------------ answers

    def _judge(self, request: Prepared, envelope: Mapping[str, Any], *, is_resend: bool) -> Verdict:
        try:
            verdict = outcome.judge(envelope, is_resend=is_resend, final_codes=request.final_codes)
        except NadoError as error:
            return Verdict(OutcomeKind.UNKNOWN, reason=str(error))
        self._note_refusal(verdict.error_code)
        if self._limiter is not None and verdict.kind is OutcomeKind.CONFIRMED:
            self._limiter.on_success("execute")
        return verdict

    async def _settle(
        self, request: Prepared, verdict: Verdict, path: str, sent_ns: int, replied_ns: int
    ) -> Outcome:
        """A verdict that settles nothing is followed by a short look for the order itself."""
        if verdict.kind is OutcomeKind.DENIED:
            return self._finish(request, verdict, "", 0, 0)
        if verdict.kind is OutcomeKind.UNKNOWN and request.is_order:
            self._tell(request, verdict)  # now: the look may be cancelled
            found = await self._resolver.find(request.digest, request.product_id)
            if found is not None:
                verdict = Verdict(found.kind, verdict.error_code, found.reason)
                path, replied_ns = found.path, found.replied_ns
        return self._finish(request, verdict, path, sent_ns, replied_ns)

    def _finish(
        self, request: Prepared, verdict: Verdict, path: str, sent_ns: int, replied_ns: int
    ) -> Outcome:
        """Tell the tracker and build the Outcome."""
        self._tell(request, verdict)
        return Outcome(
            verdict.kind,
            request.digest,
            verdict.error_code,
            verdict.reason,
            path,
            sent_ns,
            replied_ns,
            verdict.cancelled,
        )

    def _tell(self, request: Prepared, verdict: Verdict) -> None:
        if request.is_order:
            self._tracker.on_outcome(request.digest, _facts(verdict))
        if request.replaces and verdict.kind is OutcomeKind.CONFIRMED:
            self._tracker.on_cancelled(request.replaces, request.replaces_left_x18)
        for order in verdict.cancelled:
            self._tracker.on_cancelled(order.digest, order.unfilled_x18)

    def _abandoned(self, request: Prepared, flight: Flight | None) -> None:
        """The caller stopped waiting: what has come by now is kept, the rest is in doubt."""
        if flight is not None and flight.is_answered:
            self._tell(request, self._judge(request, flight.answer.result(), is_resend=False))
        else:
            self._tell(request, Verdict(OutcomeKind.UNKNOWN, reason="the wait was abandoned"))

    def _answered(self, path: str, round_trips: Histogram, request: Prepared, took_ns: int) -> None:
        round_trips.record_ns(took_ns)
        _log.debug("%s answered over %s in %.1f ms", request.digest, path, took_ns / 1e6)

    def _note_refusal(self, code: int | None) -> None:
        if self._limiter is not None and code in wire.Code.TOO_FAST:
            self._limiter.on_rate_error("execute")
        if code in (wire.Code.TOO_LATE, wire.Code.TOO_EARLY):
            self.clock_doubts.set()

    # ------------------------------------------------------------------ socket callbacks, inline

    def _on_text(self, lane: Lane, message: bytes) -> None:
        try:
            envelope = orjson.loads(message)
        except orjson.JSONDecodeError:
            envelope = None
        if not isinstance(envelope, dict):
            self.in_flight.orphans += 1
            _log.warning("order socket: a message that is not a JSON object (%d bytes)", len(message))
            return
        flight = self.in_flight.match(envelope, lane)
        if flight is None:
            _log.warning("order socket: an answer that belongs to no request of ours")
        elif self.in_flight.is_open(flight):
            flight.answer.set_result(envelope)
        else:
            self._on_late_answer(flight.request, envelope)

    def _on_late_answer(self, request: Prepared, envelope: Mapping[str, Any]) -> None:
        """The caller has gone another way since; the records still learn what a success says.

        A late refusal says nothing: the second copy may have been taken.
        """
        self.counts["late_replies"] += 1
        verdict = self._judge(request, envelope, is_resend=True)
        if verdict.kind is OutcomeKind.CONFIRMED:
            self._tell(request, verdict)
        elif request.is_order:
            self._tracker.on_outcome(request.digest, OutcomeFacts(hint_code=verdict.error_code))

    def _on_lost(self, lane: Lane, reason: str) -> None:
        for flight in self.in_flight.drain(lane):
            if not flight.answer.done():
                flight.answer.set_exception(ConnectionLost(f"{lane.link.name}: {reason}"))


def _facts(verdict: Verdict) -> OutcomeFacts:
    return OutcomeFacts(
        accepted=verdict.kind is OutcomeKind.CONFIRMED,
        is_rejected=verdict.kind is OutcomeKind.REJECTED,
        is_denied=verdict.kind is OutcomeKind.DENIED,
        is_unknown=verdict.kind is OutcomeKind.UNKNOWN,
        rejected_code=verdict.error_code if verdict.kind is OutcomeKind.REJECTED else None,
        hint_code=verdict.error_code if verdict.kind is OutcomeKind.UNKNOWN else None,
    )
