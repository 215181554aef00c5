"""What a reader did not get: little enough to keep, and enough to find the rest.

Orders, positions and funding are told by their newest word, which is kept. Fills are told only one by one: of
them the key is kept, and they are read again from the archive.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from .backfill import next_top, to_fill
from .errors import EventOverflow, NadoError
from .events import BoundaryEvent, FillEvent, FundingPaymentEvent, OrderUpdateEvent, PositionChangeEvent

if TYPE_CHECKING:
    from .rest import Rest

MAX_SUBJECTS: Final = 100_000
"""Orders, positions and boundaries one gap keeps the newest word of."""
MAX_FILLS: Final = 20_000
"""Fills one gap keeps the keys of; more than that are not read again."""
MODE: Final = "mode"
FillKey = tuple[str, int]
_log = logging.getLogger(__name__)


class Gap:
    """The events of one reader from the one that found no room on, and how far they have been found again."""

    def __init__(self) -> None:
        self.events = 0
        self.is_hopeless = False
        """More, or other, events than can be found again."""
        self.missing: set[FillKey] = set()
        self.attempts = 0
        """Readings of the archive in a row that were answered and found nothing."""
        self.top: int | None = None
        """Where the reading that an error ended goes on; None: at the newest that is missing."""
        self._found: dict[FillKey, FillEvent] = {}
        self._newest: dict[Hashable, Any] = {}

    def add(self, event: Any) -> None:
        self.events += 1
        if isinstance(event, FillEvent):
            if len(self.missing) < MAX_FILLS:
                self.missing.add(event.key)
            else:
                self.is_hopeless = True
            return
        subject = _subject(event)
        if subject is None or (len(self._newest) >= MAX_SUBJECTS and subject not in self._newest):
            self.is_hopeless = True
            return
        # Re-inserting moves it to the end: they leave in the order of their last change.
        self._newest.pop(subject, None)
        self._newest[subject] = event

    def take(self, fill: FillEvent) -> None:
        """A fill of the archive; those that were not missed are passed over."""
        if fill.key in self.missing:
            self.missing.remove(fill.key)
            self._found[fill.key] = fill

    @property
    def fills(self) -> int:
        """Missed, whether they have been found or not."""
        return len(self.missing) + len(self._found)

    def found(self) -> list[FillEvent]:
        """Those that have been found, oldest first."""
        return sorted(self._found.values(), key=lambda fill: fill.submission_idx)

    def newest(self) -> list[Any]:
        """The newest event of every order, position, product's funding, book, link and mode."""
        return list(self._newest.values())


def _subject(event: Any) -> Hashable | None:
    """Whose newest word an event is; None if it is not a word that replaces the last one."""
    if isinstance(event, OrderUpdateEvent):
        return (OrderUpdateEvent, event.digest)
    if isinstance(event, PositionChangeEvent):
        return (PositionChangeEvent, event.subaccount, event.product_id, event.isolated)
    if isinstance(event, FundingPaymentEvent):
        return (FundingPaymentEvent, event.product_id)
    if isinstance(event, BoundaryEvent):
        return (BoundaryEvent, event.what == MODE, event.product_id, event.link)
    return None


@dataclass(frozen=True, slots=True)
class MissedConfig:
    """looks_s: pauses before each look at the archive, which lags by seconds. attempts: readings, each of all
    these looks, in a row that find nothing, and are answered, before what is left is given up. page: matches
    per request."""

    looks_s: tuple[float, ...] = (0.0, 0.3, 1.0, 2.0, 3.0, 5.0)
    attempts: int = 5
    page: int = 100


class MissedFills:
    """Reads the fills of a gap from the archive."""

    def __init__(
        self, rest: Rest, subaccount: str, product_ids: Sequence[int], config: MissedConfig | None = None
    ) -> None:
        self._rest = rest
        self._subaccount = subaccount
        self._products = tuple(product_ids)
        self._config = config or MissedConfig()

    async def read(self, gap: Gap) -> None:
        """Find what the gap misses. What is found stays found, so that the next reading goes on from there.

        Raises EventOverflow if not all of it is there after the last look; retryable, until `attempts`
        readings in a row have found nothing. One without any answer of the archive does not count.
        """
        missed, was_answered = len(gap.missing), False
        for pause_s in self._config.looks_s:
            await asyncio.sleep(pause_s)
            try:
                await self._look(gap)
            except NadoError as error:
                _log.info("missed fills: %s", error)
            else:
                was_answered = True
            if not gap.missing:
                return
        if len(gap.missing) < missed:
            gap.attempts = 0
        elif was_answered:  # an archive that is away says nothing about fills
            gap.attempts += 1
        is_over = gap.attempts >= self._config.attempts
        what_now = (
            f"given up after {gap.attempts} readings that found nothing: positions and orders are compared"
            " with the exchange, take its word on them"
            if is_over
            else "the next read looks again"
        )
        raise EventOverflow(
            f"{gap.fills} fills were not read in time, and the archive shows"
            f" {gap.fills - len(gap.missing)} of them; {what_now}",
            lost=gap.events,
            retryable=not is_over,
            missing=tuple(sorted(gap.missing, key=_index)),
        )

    async def _look(self, gap: Gap) -> None:
        """From the newest that is missing down to the oldest, page by page."""
        oldest = min(map(_index, gap.missing))
        if gap.top is None:
            gap.top = max(map(_index, gap.missing))
        while gap.missing and gap.top >= oldest:
            page = await self._rest.archive_matches(
                self._subaccount, self._products, limit=self._config.page, max_submission_idx=gap.top
            )
            for match in page:
                gap.take(to_fill(match))
            if len(page) < self._config.page:
                break
            gap.top = next_top(page)
        gap.top = None


def _index(key: FillKey) -> int:
    return key[1]
