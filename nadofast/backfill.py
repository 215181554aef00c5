"""Fills the stream did not deliver, read from the archive: nothing is replayed after a reconnect.

The archive lags by seconds, so one look is not enough: each request looks several times. Fills are known by
(digest, submission index), so what the stream did deliver is not told twice.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from .errors import NadoError
from .events import FillEvent
from .models import ArchivedMatch

if TYPE_CHECKING:
    from .rest import Rest

_NS: Final = 1_000_000_000
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class BackfillConfig:
    """looks_s: pauses before each look at the archive. page: matches per request. max_pages: per look.
    max_seen: fills remembered."""

    looks_s: tuple[float, ...] = (0.1, 0.5, 1.0, 2.0, 3.0)
    page: int = 50
    max_pages: int = 10
    max_seen: int = 100_000


class FillBackfill:
    """Reads matches above the last known submission index and publishes those that are new."""

    def __init__(
        self,
        rest: Rest,
        subaccount: str,
        product_ids: Sequence[int],
        publish: Callable[[FillEvent], None],
        config: BackfillConfig | None = None,
    ) -> None:
        self._rest = rest
        self._subaccount = subaccount
        self._products = tuple(product_ids)
        self._publish = publish
        self._config = config or BackfillConfig()
        self._mark: int | None = None
        self._seen: dict[tuple[str, int], None] = {}
        self._wanted = asyncio.Event()
        self._is_busy = False
        self.recovered = 0

    def note(self, fill: FillEvent) -> bool:
        """A fill of the stream; False if it was published before."""
        if fill.key in self._seen:
            return False
        self._seen[fill.key] = None
        if len(self._seen) > self._config.max_seen:
            del self._seen[next(iter(self._seen))]
        return True

    def checkpoint(self) -> None:
        """The link is about to be lost and had delivered everything so far: look only above that."""
        if self._mark is not None and not self._is_busy and not self._wanted.is_set():
            self._advance(max((index for _, index in self._seen), default=self._mark))

    def request(self) -> None:
        """Something may have been missed: look."""
        self._wanted.set()

    async def run(self) -> None:
        """Serve requests, for ever. The first one only finds out where the history ends."""
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            self._is_busy = True
            try:
                await self._serve()
            finally:
                self._is_busy = False

    async def _serve(self) -> None:
        newest = -1 if self._mark is None else self._mark
        for pause_s in self._config.looks_s:
            await asyncio.sleep(pause_s)
            try:
                if self._mark is None:
                    self._mark = await self._end_of_history()
                    return
                newest = max(newest, await self._look(self._mark))
            except NadoError as error:
                _log.info("backfill: %s", error)
        if self._mark is not None and not self._wanted.is_set():
            self._advance(newest)

    async def _end_of_history(self) -> int:
        """The newest index before this session: what is older is not news. Fills seen meanwhile are."""
        matches = await self._rest.archive_matches(self._subaccount, self._products, limit=1)
        newest = max((match.submission_idx for match in matches), default=-1)
        first_seen = min((index for _, index in self._seen), default=newest + 1)
        return min(newest, first_seen - 1)

    async def _look(self, mark: int) -> int:
        """Publish what is above the mark, oldest first; the newest index found."""
        matches: list[ArchivedMatch] = []
        top: int | None = None
        for _ in range(self._config.max_pages):
            page = await self._rest.archive_matches(
                self._subaccount, self._products, limit=self._config.page, max_submission_idx=top
            )
            matches.extend(match for match in page if match.submission_idx > mark)
            if len(page) < self._config.page or page[-1].submission_idx <= mark:
                break
            top = page[-1].submission_idx - 1
        matches.sort(key=lambda match: match.submission_idx)
        for match in matches:
            fill = to_fill(match)
            if self.note(fill):
                self.recovered += 1
                self._publish(fill)
        return matches[-1].submission_idx if matches else mark

    def _advance(self, newest: int) -> None:
        """Everything up to `newest` is known: forget its keys, except the last of them.

        The archive is ordered by submission index, so nothing older can still turn up there.
        """
        self._mark = max(newest, -1 if self._mark is None else self._mark)
        for key in [key for key in self._seen if key[1] <= newest]:
            del self._seen[key]


def to_fill(match: ArchivedMatch) -> FillEvent:
    """The fill event the stream would have sent (its timestamp has whole seconds only)."""
    original = abs(match.amount_x18)
    return FillEvent(
        product_id=match.product_id,
        timestamp_ns=match.timestamp_s * _NS,
        subaccount=match.sender,
        order_digest=match.digest,
        appendix=match.appendix,
        filled_qty_x18=abs(match.base_filled_x18),
        remaining_qty_x18=original - abs(match.cumulative_base_x18),
        original_qty_x18=original,
        price_x18=match.price_x18,
        is_taker=match.is_taker,
        is_bid=match.base_filled_x18 > 0,
        fee_x18=match.fee_x18,
        submission_idx=match.submission_idx,
    )
