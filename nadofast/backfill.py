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
from .waiting import wait_event

if TYPE_CHECKING:
    from .rest import Rest

CLOCK_DOUBT_S: Final = 1
"""The exchange's clock may step back by so much, or turn out to have been read so wrong, without a fill
lost."""
_NS: Final = 1_000_000_000
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class BackfillConfig:
    """looks_s: pauses before each look at the archive. spacing_s, spacing_cap_s: pause before a look that a
    new request makes while looks are going on, doubled each time up to the cap: one costs weight 7 of the 400
    the archive allows in 10 s. max_restarts: after so many requests the looks are carried to their end. page:
    matches per request. max_pages: per look; the next one goes on where it ended. max_seen: fills
    remembered."""

    looks_s: tuple[float, ...] = (0.02, 0.3, 1.0, 2.0, 3.0)
    spacing_s: float = 0.2
    spacing_cap_s: float = 1.0
    max_restarts: int = 8
    page: int = 50
    max_pages: int = 10
    max_seen: int = 100_000


class FillBackfill:
    """Reads matches above the last known submission index and publishes those that are new.

    exchange_now_s: the earliest second the exchange's clock may show, 0 while unknown. clock_steps: how often
    samples of that clock have contradicted each other. Fills from before the first `request` are history, not
    news, whenever the archive comes to show them.
    """

    def __init__(
        self,
        rest: Rest,
        subaccount: str,
        product_ids: Sequence[int],
        publish: Callable[[FillEvent], None],
        config: BackfillConfig | None = None,
        *,
        exchange_now_s: Callable[[], int],
        clock_steps: Callable[[], int],
    ) -> None:
        self._rest = rest
        self._subaccount = subaccount
        self._products = tuple(product_ids)
        self._publish = publish
        self._config = config or BackfillConfig()
        self._exchange_now_s = exchange_now_s
        self._clock_steps = clock_steps
        self._started_s: int | None = None
        self._steps_at_start = 0
        self._had_loss = False
        self._mark: int | None = None
        self._deeper: int | None = None
        self._has_read = False
        self._history_top = -1
        self._seen: dict[tuple[str, int], None] = {}
        self._newest_seen = -1
        self._wanted = asyncio.Event()
        self._is_serving = False
        self.recovered = 0

    @property
    def is_busy(self) -> bool:
        """Looks are going on, or wanted."""
        return self._is_serving or self._wanted.is_set()

    @property
    def knows_history(self) -> bool:
        """The archive has been read once: what it shows from here on is news."""
        return self._has_read

    def note(self, fill: FillEvent) -> bool:
        """A fill of the stream; False if it was published before."""
        if fill.key in self._seen:
            return False
        self._seen[fill.key] = None
        self._newest_seen = max(self._newest_seen, fill.submission_idx)
        if len(self._seen) > self._config.max_seen:
            del self._seen[next(iter(self._seen))]
        return True

    def on_lost(self) -> None:
        """The link is gone: what the first reading shows may have been missed, and is news."""
        self._had_loss = True

    def verified(self) -> None:
        """No fill up to now is missing: look only above the newest one."""
        if self._mark is not None and not self.is_busy:
            self._mark = max(self._mark, self._newest_seen)

    def request(self) -> None:
        """Something may have been missed: look. The first request is the beginning of the session."""
        if self._started_s is None:
            self._started_s = self._exchange_now_s()
            self._steps_at_start = self._clock_steps()
        self._wanted.set()

    async def run(self) -> None:
        """Serve requests, for ever."""
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            self._is_serving = True
            try:
                await self._serve()
            finally:
                self._is_serving = False

    async def _serve(self) -> None:
        """Look as often as configured. What is asked for meanwhile is looked for at once, and the looks begin
        again; requests without end do not keep them from theirs."""
        mark: int | None = None
        config, restarts, is_asked = self._config, 0, False
        pauses = iter(config.looks_s)
        while (pause_s := next(pauses, None)) is not None:
            if await wait_event(self._wanted, pause_s):
                self._wanted.clear()
                await asyncio.sleep(min(config.spacing_cap_s, config.spacing_s * 2.0**restarts))
                if restarts < config.max_restarts:
                    restarts += 1
                    pauses = iter(config.looks_s[1:])
                else:
                    is_asked = True
            try:
                newest = await self._look()
            except NadoError as error:
                _log.info("backfill: %s", error)
            else:
                mark = newest if newest is not None else mark
        if self._deeper is not None:
            _log.warning("backfill: more fills than one reading takes; going on")
            self._wanted.set()
        elif mark is not None:
            self._mark = mark
        if is_asked:
            self._wanted.set()

    async def _look(self) -> int | None:
        """Publish what is above the mark; the newest index known then, None if the look ended half-way."""
        top, self._deeper = self._deeper, None
        mark = newest = -1 if self._mark is None else self._mark
        found: list[ArchivedMatch] = []
        has_end = False
        for _ in range(self._config.max_pages):
            page = await self._rest.archive_matches(
                self._subaccount, self._products, limit=self._config.page, max_submission_idx=top
            )
            found.extend(match for match in page if match.submission_idx > mark)
            has_end = len(page) < self._config.page or page[-1].submission_idx <= mark
            if has_end or self._is_history(page[-1]):
                has_end = True
                break
            top = next_top(page)
        self._tell(found)
        if not has_end:
            self._deeper = top
            return None
        if not self._has_read:
            past = [match.submission_idx for match in found if self._is_history(match)]
            self._history_top = max(past, default=-1)
        self._has_read = True
        return max([newest, *(match.submission_idx for match in found)])

    def _tell(self, found: list[ArchivedMatch]) -> None:
        for match in sorted(found, key=lambda match: match.submission_idx):
            fill = to_fill(match)
            if not self._is_history(match) and self.note(fill):
                self.recovered += 1
                self._publish(fill)

    def _is_history(self, match: ArchivedMatch) -> bool:
        """The archive tells whole seconds. Within the first one, or without a clock, what the very first
        reading shows is history, unless the link has been lost before: then it may have been missed."""
        started_s = self._started_s or 0
        # Only what the first reading could not show is in doubt, and only with a clock that has contradicted
        # itself since: the last fills of a process that was restarted at once are history.
        is_doubted = self._has_read and self._clock_steps() != self._steps_at_start
        doubt_s = CLOCK_DOUBT_S if is_doubted else 0
        if match.timestamp_s and match.timestamp_s < started_s - doubt_s:
            return True
        if match.submission_idx <= self._history_top:
            return True
        if self._had_loss:
            return False
        if started_s == 0:
            return self._mark is None
        return match.timestamp_s == started_s and not self._has_read


def next_top(page: Sequence[ArchivedMatch]) -> int:
    """`max_submission_idx` of the page behind this one: its last index again, because one match may have two
    entries, on two pages."""
    last = page[-1].submission_idx
    return last if last < page[0].submission_idx else last - 1


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
