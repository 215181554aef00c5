"""What a reader did not get: little enough to keep, and enough to find the rest.

Orders, positions and funding are told by their newest word, which is kept. Fills are told only one by one, so
they are counted, and read again from the archive.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from .backfill import to_fill
from .errors import EventOverflow, NadoError
from .events import BoundaryEvent, FillEvent, FundingPaymentEvent, OrderUpdateEvent, PositionChangeEvent

if TYPE_CHECKING:
    from .rest import Rest

MAX_SUBJECTS: Final = 100_000
"""Orders, positions and boundaries one gap keeps the newest word of."""
MODE: Final = "mode"
_log = logging.getLogger(__name__)


class Gap:
    """The events of one reader from the one that found no room on."""

    def __init__(self) -> None:
        self.events = 0
        self.fills = 0
        self.oldest_idx = 0
        """Submission indices of the fills, from the oldest to the newest."""
        self.newest_idx = 0
        self.is_hopeless = False
        """More, or other, events than can be found again."""
        self._newest: dict[Hashable, Any] = {}

    def add(self, event: Any) -> None:
        self.events += 1
        if isinstance(event, FillEvent):
            index = event.submission_idx
            self.oldest_idx = min(index, self.oldest_idx) if self.fills else index
            self.newest_idx = max(index, self.newest_idx)
            self.fills += 1
            return
        subject = _subject(event)
        if subject is None or len(self._newest) >= MAX_SUBJECTS:
            self.is_hopeless = True
            return
        # Re-inserting moves it to the end: they leave in the order of their last change.
        self._newest.pop(subject, None)
        self._newest[subject] = event

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
    """looks_s: pauses before each look at the archive, which lags by seconds. page: matches per request.
    max_fills: more than that are not read again."""

    looks_s: tuple[float, ...] = (0.0, 0.3, 1.0, 2.0, 3.0, 5.0)
    page: int = 100
    max_fills: int = 20_000


class MissedFills:
    """Reads the fills of a gap from the archive."""

    def __init__(
        self, rest: Rest, subaccount: str, product_ids: Sequence[int], config: MissedConfig | None = None
    ) -> None:
        self._rest = rest
        self._subaccount = subaccount
        self._products = tuple(product_ids)
        self._config = config or MissedConfig()

    async def read(self, gap: Gap, is_told: Callable[[FillEvent], bool]) -> list[FillEvent]:
        """The gap's fills, oldest first. is_told(fill): the reader has had it, from outside the gap.

        Raises EventOverflow if not all of them are there after the last look.
        """
        found: list[FillEvent] = []
        for pause_s in self._config.looks_s if gap.fills <= self._config.max_fills else ():
            await asyncio.sleep(pause_s)
            try:
                found = [fill for fill in await self._look(gap) if not is_told(fill)]
            except NadoError as error:
                _log.info("missed fills: %s", error)
            if len(found) >= gap.fills:
                return sorted(found, key=lambda fill: fill.submission_idx)
        raise EventOverflow(
            f"{gap.fills} fills were not read in time, and the archive shows {len(found)} of them",
            lost=gap.events,
            retryable=gap.fills <= self._config.max_fills,
        )

    async def _look(self, gap: Gap) -> list[FillEvent]:
        fills: dict[tuple[str, int], FillEvent] = {}
        top = gap.newest_idx
        while top >= gap.oldest_idx:
            page = await self._rest.archive_matches(
                self._subaccount, self._products, limit=self._config.page, max_submission_idx=top
            )
            for match in page:
                if match.submission_idx >= gap.oldest_idx:
                    fill = to_fill(match)
                    fills[fill.key] = fill
            if len(page) < self._config.page:
                break
            # The last index again: one match may have two entries, on two pages.
            last = page[-1].submission_idx
            top = last if last < page[0].submission_idx else last - 1
        return list(fills.values())
