"""Requests on the concurrent gateway socket that wait for their answer. Sans-I/O.

Answers come in any order. They are matched by id, then by signature, then by digest (transport section of
the API): an id may be missing on failures, and a caller's own ids may repeat.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

MAX_LATE: Final = 256


@dataclass(slots=True, eq=False)
class Flight:
    """One request under way. answer: the decoded envelope; ConnectionLost if the socket went first."""

    request_id: int
    signature: str = field(repr=False)
    digest: str
    sent_ns: int
    answer: asyncio.Future[Mapping[str, Any]]

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
    """Open requests by every key an answer may carry, and the last ones that timed out."""

    def __init__(self) -> None:
        self._open: dict[str, Flight] = {}
        self._late: OrderedDict[str, Flight] = OrderedDict()
        self.orphans = 0
        """Answers that belong to no request of ours."""

    def __len__(self) -> int:
        return len(self._open)

    def add(self, flight: Flight) -> None:
        self._open[flight.signature] = flight

    def is_open(self, flight: Flight) -> bool:
        """Its caller still waits for an answer."""
        return self._open.get(flight.signature) is flight and not flight.answer.done()

    def remove(self, flight: Flight) -> None:
        """The caller stopped waiting. A request without an answer is remembered: it may still come."""
        self._open.pop(flight.signature, None)
        if not flight.is_answered:
            self._remember(flight)

    def match(self, envelope: Mapping[str, Any]) -> Flight | None:
        """The request this answer belongs to; None, and counted, if there is none."""
        flight = self._find(self._open, envelope) or self._find(self._late, envelope)
        if flight is None:
            self.orphans += 1
        return flight

    def drain(self) -> list[Flight]:
        """Every open request, which is no longer open: the socket is gone."""
        flights = list(self._open.values())
        self._open.clear()
        for flight in flights:
            self._remember(flight)
        return flights

    def _remember(self, flight: Flight) -> None:
        self._late[flight.signature] = flight
        while len(self._late) > MAX_LATE:
            self._late.popitem(last=False)

    @staticmethod
    def _find(flights: Mapping[str, Flight], envelope: Mapping[str, Any]) -> Flight | None:
        signature = envelope.get("signature")
        signature = signature.lower() if isinstance(signature, str) else None
        request_id = envelope.get("id")
        if request_id is not None:
            same_id = [flight for flight in flights.values() if flight.request_id == request_id]
            if len(same_id) == 1 and signature in (None, same_id[0].signature):
                return same_id[0]
        if signature is not None and signature in flights:
            return flights[signature]
        data = envelope.get("data")
        digest = data.get("digest") if isinstance(data, Mapping) else None
        if not isinstance(digest, str):
            return None
        return next((flight for flight in flights.values() if flight.digest == digest.lower()), None)
