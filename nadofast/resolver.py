"""Settles doubt about an order: the streams, then the book, then the archive. It never sends it again."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from . import models, wire
from .backfill import to_fill
from .errors import ExchangeError, NadoError
from .orders import OrderTracker, OutcomeFacts, TrackedOrder
from .outcome import Outcome, OutcomeKind
from .signing import nonce_recv_time_ms
from .timesync import TimeSync

if TYPE_CHECKING:
    from .rest import Rest

_PAGE: Final = 100
_MAX_PAGES: Final = 20
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ResolverConfig:
    """archive_lag_s: how long the archive may lag in a market so silent that its newest match proves nothing.
    poll_s: pause between two looks. absences: looks that must find nothing before an order counts as gone.
    settle_s: how long `find` looks. hold_ms: how long after its discard time an accepted order may match."""

    archive_lag_s: float = 4.0
    hold_ms: int = 250
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
                    # Before the look: what the archive has reached by then, the look can see.
                    is_final = await self._is_past(self._last_match_ms(digest))
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

    async def settle(self, digest: str, product_id: int, timeout_s: float) -> bool:
        """Learn the last word on an order that was accepted: True once nothing can be added to it.

        It must not rest, and the archive must have passed the moment it did not.
        """
        record = self._tracker.get(digest)
        if record is None or self._rest is None:
            return False
        gone_ms: int | None = None
        try:
            async with asyncio.timeout(timeout_s):
                while not record.is_settled:
                    try:
                        gone_ms = await self._ask_end(self._rest, digest, product_id, gone_ms)
                    except NadoError as error:
                        _log.info("end of %s: %s", digest, error)
                    if not record.is_settled:
                        await asyncio.sleep(self._config.poll_s)
        except TimeoutError:
            return False
        return True

    async def _ask_end(self, rest: Rest, digest: str, product_id: int, gone_ms: int | None) -> int | None:
        """One question about the end. Returns since when it is known not to rest."""
        if gone_ms is None:
            resting = await self._resting(rest, product_id, digest)
            if resting is not None:
                self._tracker.on_resting(digest, resting.unfilled_x18)
                return None
            now_ms = self._timesync.exchange_now_ms() + self._config.hold_ms
            gone_ms = max(now_ms, self._last_match_ms(digest) or 0)
            if gone_ms > now_ms:
                return None  # a copy may still arrive: look again when none can
        if await self._is_past(gone_ms):
            record = self._tracker.get(digest)
            assert record is not None
            filled = {row.digest: abs(row.base_filled_x18) for row in await rest.archive_orders([digest])}
            self._tracker.on_last_word(digest, abs(record.amount_x18) - filled.get(digest, 0))
            await self._read_fills(rest, record)
        return gone_ms

    async def _read_fills(self, rest: Rest, record: TrackedOrder) -> None:
        """Newest page first, until no fill is missing. Fills of other orders on the way are taken along."""
        below: int | None = None
        for _ in range(_MAX_PAGES):
            if record.filled_x18 >= record.known_filled_x18:
                return
            page = await rest.archive_matches(
                record.sender, [record.product_id], limit=_PAGE, max_submission_idx=below
            )
            for match in page:
                if match.base_filled_x18 and self._tracker.get(match.digest) is not None:
                    self._tracker.on_fill(to_fill(match))
            if len(page) < _PAGE:
                return
            below = min(match.submission_idx for match in page) - 1

    async def wait_past(self, when_ms: int, timeout_s: float) -> bool:
        """Wait until that moment of the exchange's clock is over and in the archive. False: not in time."""
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    if await self._is_past(when_ms + self._config.hold_ms):
                        return True
                    await asyncio.sleep(self._config.poll_s)
        except TimeoutError:
            return False

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

    def _last_match_ms(self, digest: str) -> int | None:
        """When the order can at the latest have matched for the first time, by the exchange's clock."""
        record = self._tracker.get(digest)
        return None if record is None else nonce_recv_time_ms(record.nonce) + self._config.hold_ms

    async def _is_past(self, when_ms: int | None) -> bool:
        """That moment is over, and the archive shows what happened until then."""
        if when_ms is None or self._rest is None or not self._timesync.is_known:
            return False
        past_ms = self._timesync.exchange_now_ms() - self._timesync.uncertainty_ms - when_ms
        if past_ms <= 0:
            return False
        if past_ms > self._config.archive_lag_s * 1000:
            return True
        try:
            # Whole seconds, cut: a match of a later second was made after it.
            return await self._rest.archive_newest_s() * 1000 > when_ms
        except NadoError as error:
            _log.info("how far the archive is: %s", error)
            return False
