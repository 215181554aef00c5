"""Requests on the concurrent gateway socket that wait for their answer. Sans-I/O.

Answers come in any order. The signature names a request beyond doubt; an id may be missing on failures and
need not be unique, so it counts only where nothing contradicts it (transport section of the API).
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from .lanes import Lane

MAX_LATE: Final = 256


@dataclass(slots=True, eq=False)
class Prepared:
    """A signed request, ready to leave. Nobody changes one; made as cheaply as Python can, because one stands
    between each decision and its bytes.

    digest: the order it is about. weight: what it costs. final_codes: refusals that settle the matter even
    for a second copy. replaces: digest of the order it takes off the book when it succeeds;
    replaces_left_x18: what is then unfilled of that one, None if not known. patience_s: how long the socket
    has for the answer. is_urgent: a cancel or an unwind, which may spend the reserve.
    """

    request_id: int
    message: bytes = field(repr=False)
    signature: str = field(repr=False)
    digest: str
    product_id: int
    is_order: bool
    weight: int = 1
    final_codes: frozenset[int] = frozenset()
    replaces: str = ""
    replaces_left_x18: int | None = None
    patience_s: float = 1.0
    is_urgent: bool = True


@dataclass(slots=True, eq=False)
class Flight:
    """One request under way. answer: the decoded envelope; ConnectionLost if the socket went first."""

    request: Prepared
    sent_ns: int
    answer: asyncio.Future[Mapping[str, Any]]
    lane: Lane
    is_withdrawn: bool = False
    """A cancel of the order has left since: a second copy must not bring it back."""
    is_left: bool = False
    """Nobody waits for the answer any more."""

    @property
    def is_answered(self) -> bool:
        """An answer came in time: not a loss, not a time-out, not a cancelled wait."""
        answer = self.answer
        return answer.done() and not answer.cancelled() and answer.exception() is None

    @property
    def loss(self) -> str:
        """Why there is no answer."""
        answer = self.answer
        error = answer.exception() if answer.done() and not answer.cancelled() else None
        return "no answer in time" if error is None else str(error)


class InFlight:
    """Open requests by their signatures, and the last ones that got no answer in time."""

    def __init__(self) -> None:
        self._open: dict[str, Flight] = {}
        self._late: OrderedDict[str, Flight] = OrderedDict()
        self.orphans = 0
        """Answers that belong to no request of ours."""

    def __len__(self) -> int:
        return len(self._open)

    def add(self, flight: Flight) -> None:
        self._open[flight.request.signature] = flight

    def is_open(self, flight: Flight) -> bool:
        """Its caller still waits for an answer."""
        return self._open.get(flight.request.signature) is flight and not flight.answer.done()

    def remove(self, flight: Flight) -> bool:
        """The caller stopped waiting. A request without an answer is remembered: it may still come. False if
        it had stopped before."""
        if flight.is_left:
            return False
        flight.is_left = True
        self._open.pop(flight.request.signature, None)
        if not flight.is_answered:
            self._remember(flight)
        return True

    def withdraw(self, digest: str) -> None:
        """A cancel of this order leaves. A flight whose socket is gone counts: its other copy may be next."""
        for flight in self._all():
            flight.is_withdrawn |= flight.request.digest == digest

    def withdraw_products(self, product_ids: Collection[int]) -> None:
        """A cancel of everything on these products leaves; none named means on all."""
        for flight in self._all():
            flight.is_withdrawn |= not product_ids or flight.request.product_id in product_ids

    def match(self, envelope: Mapping[str, Any], lane: Lane) -> Flight | None:
        """The request this answer belongs to; None, and counted, if there is none."""
        flight = self._by_signature(envelope) or self._by_id(envelope) or self._by_digest(envelope)
        if flight is None and lane.is_serial and not _text(envelope, "signature"):
            # Answers of a serial socket keep the order of the requests, and it has one at a time.
            flight = next((open_ for open_ in self._open.values() if open_.lane is lane), None)
        if flight is None:
            self.orphans += 1
        return flight

    def drain(self, lane: Lane) -> list[Flight]:
        """Every open request of a socket that is gone; they are no longer open."""
        flights = [flight for flight in self._open.values() if flight.lane is lane]
        for flight in flights:
            del self._open[flight.request.signature]
            self._remember(flight)
        return flights

    def _remember(self, flight: Flight) -> None:
        self._late[flight.request.signature] = flight
        while len(self._late) > MAX_LATE:
            self._late.popitem(last=False)

    def _all(self) -> list[Flight]:
        return [*self._open.values(), *self._late.values()]

    def _by_signature(self, envelope: Mapping[str, Any]) -> Flight | None:
        signature = _text(envelope, "signature")
        return self._open.get(signature) or self._late.get(signature)

    def _by_id(self, envelope: Mapping[str, Any]) -> Flight | None:
        request_id = envelope.get("id")
        if type(request_id) is not int or _text(envelope, "signature"):
            return None
        same = [flight for flight in self._all() if flight.request.request_id == request_id]
        if len(same) != 1 or _digest(envelope) not in ("", same[0].request.digest):
            return None
        return same[0]

    def _by_digest(self, envelope: Mapping[str, Any]) -> Flight | None:
        digest = _digest(envelope)
        return next((flight for flight in self._all() if flight.request.digest == digest), None)


def _text(envelope: Mapping[str, Any], name: str) -> str:
    value = envelope.get(name)
    return value.lower() if isinstance(value, str) else ""


def _digest(envelope: Mapping[str, Any]) -> str:
    data = envelope.get("data")
    return _text(data, "digest") if isinstance(data, Mapping) else ""
