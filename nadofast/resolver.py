"""Settles doubt about an order: the streams, then the book, then the archive. It never sends it again."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from . import models, wire
from .errors import ExchangeError, NadoError
from .orders import OrderTracker, OutcomeFacts
from .outcome import Outcome, OutcomeKind
from .signing import nonce_recv_time_ms
from .timesync import TimeSync

if TYPE_CHECKING:
    from .rest import Rest

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ResolverConfig:
    """archive_lag_s: how long after its discard time an order may still turn up in the archive. poll_s: pause
    between two looks. absences: looks that must find nothing before an order counts as gone. settle_s: how
    long `find` looks."""

    archive_lag_s: float = 4.0
    poll_s: float = 0.2
    absences: int = 2
    settle_s: float = 0.5


class OrderResolver:
    """What became of an order that got no clear answer."""

    def __init__(
        self, tracker: OrderTracker, timesync: TimeSync, rest: Rest | None, config: ResolverConfig
    ) -> None:
        self._tracker = tracker
        self._timesync = timesync
        self._rest = rest
        self._config = config

    async def resolve(self, digest: str, product_id: int, timeout_s: float) -> Outcome:
        """Look until it is settled: CONFIRMED, REJECTED, or UNKNOWN after timeout_s."""
        absences = 0
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    is_final = self._is_past_discard(digest)
                    found, was_answered = await self._look(digest, product_id)
                    if found is not None:
                        return found
                    absences = absences + 1 if is_final and was_answered else 0
                    if absences >= self._config.absences:
                        self._tracker.on_outcome(digest, OutcomeFacts(is_rejected=True))
                        reason = "nowhere after its discard time"
                        return Outcome(OutcomeKind.REJECTED, digest, reason=reason)
                    await asyncio.sleep(self._config.poll_s)
        except TimeoutError:
            return Outcome(OutcomeKind.UNKNOWN, digest, reason=f"not resolved in {timeout_s} s")

    async def find(self, digest: str, product_id: int) -> Outcome | None:
        """A short search, for an answer that left doubt: CONFIRMED, or None, which says nothing."""
        try:
            async with asyncio.timeout(self._config.settle_s):
                while True:
                    found, _ = await self._look(digest, product_id)
                    if found is not None or self._rest is None:
                        return found
                    await asyncio.sleep(self._config.poll_s)
        except TimeoutError:
            return None

    async def _look(self, digest: str, product_id: int) -> tuple[Outcome | None, bool]:
        """One look: (CONFIRMED or None, whether both the book and the archive have answered)."""
        record = self._tracker.get(digest)
        if record is not None and record.was_accepted:
            return self._found(digest, "stream"), True
        if self._rest is None:
            return None, False
        try:
            resting = await self._resting(self._rest, product_id, digest)
            if resting is not None:
                self._tracker.on_resting(digest, resting.unfilled_x18)
                return self._found(digest, "query"), True
            for archived in await self._rest.archive_orders([digest]):
                if archived.digest == digest:
                    self._tracker.on_archived(digest, archived.base_filled_x18)
                    return self._found(digest, "archive"), True
        except NadoError as error:
            _log.info("look-up of %s: %s", digest, error)
            return None, False
        return None, True

    @staticmethod
    async def _resting(rest: Rest, product_id: int, digest: str) -> models.OpenOrder | None:
        try:
            return await rest.order(product_id, digest)
        except ExchangeError as error:
            if error.error_code == wire.Code.ORDER_NOT_FOUND:
                return None
            raise

    def _found(self, digest: str, path: str) -> Outcome:
        self._tracker.on_outcome(digest, OutcomeFacts(accepted=True))
        return Outcome(
            OutcomeKind.CONFIRMED,
            digest,
            reason="found",
            path=path,
            replied_ns=time.monotonic_ns(),
        )

    def _is_past_discard(self, digest: str) -> bool:
        """The order can no longer be accepted, and the archive has had time to show it."""
        record = self._tracker.get(digest)
        if record is None or not self._timesync.is_known:
            return False
        final_ms = nonce_recv_time_ms(record.nonce) + int(self._config.archive_lag_s * 1000)
        return self._timesync.exchange_now_ms() - self._timesync.uncertainty_ms > final_ms
