"""Settles doubt about an order: the streams, then the book, then the archive. It never sends it again.

Absence is a proof only in this order: the order's discard time is certainly over, so no copy can be taken
any more; the book does not show it; the archive is complete up to that answer (`completeness.py`); the
archive does not show it. Nothing else makes UNKNOWN a rejection, however long it lasts.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from . import models, wire
from .backfill import next_top, to_fill
from .completeness import Completeness
from .connection import Backoff
from .errors import ExchangeError, NadoError
from .orders import OrderTracker, OutcomeFacts, TrackedOrder
from .outcome import Outcome, OutcomeKind
from .shared import SharedQuestion
from .signing import nonce_recv_time_ms
from .timesync import TimeSync
from .waiting import wait_event

if TYPE_CHECKING:
    from .rest import Rest

_PAGE: Final = 100
_MAX_PAGES: Final = 20
_Place = tuple[int, str]  # product, digest
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ResolverConfig:
    """hold_ms: how long after its discard time an accepted order may match for the first time. poll_s,
    poll_cap_s: jittered, growing pauses between two looks. settle_s: how long `find` looks."""

    hold_ms: int = 250
    poll_s: float = 0.1
    poll_cap_s: float = 0.5
    settle_s: float = 0.5


@dataclass(frozen=True, slots=True)
class _Look:
    """resting, archived: where it was seen. is_final: nothing can be added to that any more."""

    resting: models.OpenOrder | None = None
    archived: models.ArchivedOrder | None = None
    is_final: bool = False


class OrderResolver:
    """What became of an order that got no clear answer."""

    def __init__(
        self,
        tracker: OrderTracker,
        timesync: TimeSync,
        rest: Rest | None,
        config: ResolverConfig,
        *,
        subaccount: str,
    ) -> None:
        self._tracker = tracker
        self._timesync = timesync
        self._rest = rest
        self._config = config
        self._subaccount = subaccount
        self._completeness = None if rest is None else Completeness(rest, tracker, subaccount)
        self._books: SharedQuestion[_Place, models.OpenOrder] = SharedQuestion(self._ask_books)
        self._archive: SharedQuestion[str, models.ArchivedOrder] = SharedQuestion(self._ask_archive)
        self._clock: SharedQuestion[str, None] = SharedQuestion(self._ask_clock)
        self._waiting: dict[str, list[asyncio.Event]] = {}
        self._leave: Callable[[], None] = lambda: None

    async def stop(self) -> None:
        """End the questions under way."""
        questions = (self._books, self._archive, self._clock)
        await asyncio.gather(*(question.stop() for question in questions))
        if self._completeness is not None:
            await self._completeness.stop()

    # ------------------------------------------------------------------ what became of it

    async def resolve(self, digest: str, product_id: int, timeout_s: float) -> Outcome:
        """Look until it is settled: CONFIRMED, REJECTED, or UNKNOWN after timeout_s."""
        backoff = self._backoff()
        try:
            async with asyncio.timeout(timeout_s):
                with self._news_of(digest) as news:
                    while (outcome := await self._try(digest, product_id)) is None:
                        await self._pause(digest, news, backoff)
                    return outcome
        except TimeoutError:
            return Outcome(OutcomeKind.UNKNOWN, digest, reason=f"not resolved in {timeout_s} s")

    async def find(self, digest: str, product_id: int) -> Outcome | None:
        """A short search, for an answer that left doubt: CONFIRMED, REJECTED, or None, which says nothing."""
        outcome = await self.resolve(digest, product_id, self._config.settle_s if self._rest else 0.0)
        return None if outcome.kind is OutcomeKind.UNKNOWN else outcome

    async def settle(self, digest: str, product_id: int, timeout_s: float) -> bool:
        """Learn the last word on an order that was accepted: True once nothing can be added to it."""
        record = self._tracker.get(digest)
        if record is None or self._rest is None:
            return False
        backoff = self._backoff()
        try:
            async with asyncio.timeout(timeout_s):
                with self._news_of(digest) as news:
                    while not record.is_settled:
                        await self._ask_end(self._rest, record, product_id)
                        if not record.is_settled:
                            await self._pause(digest, news, backoff)
        except TimeoutError:
            return False
        return True

    async def reread(self, digest: str, product_id: int) -> None:
        """One look at an order that is not as it was believed to be; what it shows goes into the record."""
        record = self._tracker.get(digest)
        if record is not None and self._rest is not None:
            await self._ask_end(self._rest, record, product_id)

    async def refresh(self) -> None:
        """One look at every order that lives and may have left."""
        if self._rest is None:
            return
        left = [order for order in self._tracker.live() if order.sent_ns is not None or order.was_accepted]
        await asyncio.gather(*(self._refresh(self._rest, order) for order in left))

    async def _refresh(self, rest: Rest, order: TrackedOrder) -> None:
        if order.was_accepted:
            await self._ask_end(rest, order, order.product_id)
        else:
            await self._try(order.digest, order.product_id)

    async def wait_past(self, when_ms: int, timeout_s: float) -> bool:
        """Wait until that moment of the exchange's clock is over. False: not in time."""
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    left_ms = self._left_ms(when_ms)
                    if left_ms == 0:
                        return True
                    await asyncio.sleep(self._config.poll_s if left_ms is None else left_ms / 1000)
        except TimeoutError:
            return False

    async def wait_archived(self, product_ids: Collection[int], when_ms: int, timeout_s: float) -> bool:
        """Wait until the archive shows all fills of ours on these products up to a moment. False: not in
        time."""
        if self._completeness is None:
            return False
        backoff = self._backoff()
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    is_over = self._is_over(when_ms)
                    if is_over and await self._completeness.shows_all(product_ids, when_ms + 1):
                        return True
                    await asyncio.sleep(backoff.next_s())
        except TimeoutError:
            return False

    async def confirm_ends(self) -> None:
        """Ask for the orders that one source alone says are over, and for the last word on those that ended
        unsettled and can come no more. Raises what REST raises."""
        if self._rest is None:
            return
        doubtful = self._tracker.ends_in_doubt()
        rows = await asyncio.gather(*(self._books.get((o.product_id, o.digest)) for o in doubtful))
        for order, row in zip(doubtful, rows, strict=True):
            if row is None:
                self._tracker.on_absent(order.digest)
            else:
                _log.warning("%s rests, though the stream has seen its end", order.digest)
        # Not for their fills: whoever books those hears of them from the stream or from its own question.
        unsettled = [o for o in self._tracker.ends_not_settled() if self.is_discarded(o.digest)]
        await asyncio.gather(*(self._read_end(order, order.product_id) for order in unsettled))

    def is_discarded(self, digest: str) -> bool:
        """The engine would not take another copy: its discard time is certainly over."""
        record = self._tracker.get(digest)
        return record is not None and self._is_over(nonce_recv_time_ms(record.nonce))

    # ------------------------------------------------------------------ looks

    async def _try(self, digest: str, product_id: int) -> Outcome | None:
        record = self._tracker.get(digest)
        if record is not None and record.was_accepted:
            return self._found(digest, "stream")
        if self._rest is None:
            return None
        try:
            look = await self._look(digest, product_id)
        except NadoError as error:
            _log.info("look-up of %s: %s", digest, error)
            return None
        if look.resting is not None:
            self._tracker.on_resting(digest, look.resting.unfilled_x18)
            return self._found(digest, "query")
        if look.archived is not None:
            self._tracker.on_archived(digest, look.archived.base_filled_x18)
            return self._found(digest, "archive")
        if record is not None and record.was_accepted:  # told by the stream meanwhile
            return self._found(digest, "stream")
        if not look.is_final:
            return None
        self._tracker.on_outcome(digest, OutcomeFacts(is_rejected=True))
        reason = "nowhere after its discard time"
        return Outcome(OutcomeKind.REJECTED, digest, reason=reason, replied_ns=time.monotonic_ns())

    async def _look(self, digest: str, product_id: int) -> _Look:
        """One look. The order of the questions is what makes absence a proof; see the head of this file."""
        is_over = self._is_over(self._last_match_ms(digest))
        resting = await self._books.get((product_id, digest))
        if resting is not None:
            return _Look(resting=resting)
        is_final = False
        if is_over and self._completeness is not None and self._rest is not None:
            # A clock of the exchange that was set back meanwhile would make "over" wrong.
            await self._clock.get("")
            is_over = self._is_over(self._last_match_ms(digest))
        if is_over and self._completeness is not None:
            gone_ms = self._timesync.exchange_now_ms() + int(self._timesync.uncertainty_ms) + 1
            is_final = await self._completeness.shows_all([product_id], gone_ms)
        archived = await self._archive.get(digest)
        if is_final and (resting := await self._books.get((product_id, digest))) is not None:
            return _Look(resting=resting)  # one answer was stale: nothing is proven
        return _Look(archived=archived, is_final=is_final)

    async def _ask_end(self, rest: Rest, record: TrackedOrder, product_id: int) -> None:
        """One question about the end of an order that was accepted, and about its fills."""
        try:
            await self._read_end(record, product_id)
            await self._read_fills(rest, record)
        except NadoError as error:
            _log.info("end of %s: %s", record.digest, error)

    async def _read_end(self, record: TrackedOrder, product_id: int) -> None:
        look = await self._look(record.digest, product_id)
        if look.resting is not None:
            self._tracker.on_resting(record.digest, look.resting.unfilled_x18)
        elif look.is_final:
            filled_x18 = 0 if look.archived is None else abs(look.archived.base_filled_x18)
            filled_x18 = max(filled_x18, record.known_filled_x18)
            self._tracker.on_last_word(record.digest, abs(record.amount_x18) - filled_x18)
        if look.archived is not None:
            self._tracker.on_archived(record.digest, look.archived.base_filled_x18)

    async def _read_fills(self, rest: Rest, record: TrackedOrder) -> None:
        """Newest page first, until no fill is missing. Fills of other orders on the way are taken along."""
        top: int | None = None
        for _ in range(_MAX_PAGES):
            if record.filled_x18 >= record.known_filled_x18:
                return
            page = await rest.archive_matches(
                record.sender, [record.product_id], limit=_PAGE, max_submission_idx=top
            )
            for match in page:
                if match.base_filled_x18 and self._tracker.get(match.digest) is not None:
                    self._tracker.on_fill(to_fill(match))
            if len(page) < _PAGE:
                return
            top = next_top(page)

    # ------------------------------------------------------------------ questions, shared by all who ask

    async def _ask_books(self, places: Collection[_Place]) -> Mapping[_Place, models.OpenOrder]:
        by_product: dict[int, list[str]] = {}
        for product_id, digest in places:
            by_product.setdefault(product_id, []).append(digest)
        rows = await asyncio.gather(*(self._ask_book(*item) for item in by_product.items()))
        return {(row.product_id, row.digest): row for part in rows for row in part}

    async def _ask_book(self, product_id: int, digests: list[str]) -> list[models.OpenOrder]:
        assert self._rest is not None
        if len(digests) > wire.query_weight({"type": "subaccount_orders"}):
            return await self._rest.subaccount_orders(self._subaccount, product_id)
        found = await asyncio.gather(*(self._ask_order(product_id, digest) for digest in digests))
        return [row for row in found if row is not None]

    async def _ask_order(self, product_id: int, digest: str) -> models.OpenOrder | None:
        assert self._rest is not None
        try:
            return await self._rest.order(product_id, digest)
        except ExchangeError as error:
            if error.error_code == wire.Code.ORDER_NOT_FOUND:
                return None
            raise

    async def _ask_archive(self, digests: Collection[str]) -> Mapping[str, models.ArchivedOrder]:
        assert self._rest is not None
        wanted, found = list(digests), {}
        for first in range(0, len(wanted), wire.MAX_ARCHIVE_DIGESTS):
            for row in await self._rest.archive_orders(wanted[first : first + wire.MAX_ARCHIVE_DIGESTS]):
                found[row.digest] = row
        return found

    async def _ask_clock(self, _: Collection[str]) -> Mapping[str, None]:
        assert self._rest is not None
        await self._rest.sync_time(self._timesync, 1)
        return {}

    # ------------------------------------------------------------------ time and news

    def _found(self, digest: str, path: str) -> Outcome:
        now_ns = time.monotonic_ns()
        return Outcome(OutcomeKind.CONFIRMED, digest, reason="found", path=path, replied_ns=now_ns)

    def _last_match_ms(self, digest: str) -> int | None:
        """When the order can at the latest have matched for the first time, by the exchange's clock."""
        record = self._tracker.get(digest)
        return None if record is None else nonce_recv_time_ms(record.nonce) + self._config.hold_ms

    def _left_ms(self, when_ms: int) -> float | None:
        """Until that moment is certainly over; 0 if it is, None while the clock is not known."""
        if not self._timesync.is_known:
            return None
        return max(0.0, when_ms + 1 + self._timesync.uncertainty_ms - self._timesync.exchange_now_ms())

    def _is_over(self, when_ms: int | None) -> bool:
        return when_ms is not None and self._left_ms(when_ms) == 0

    def _backoff(self) -> Backoff:
        jitter = random.Random(random.getrandbits(64))  # a seed for random is one for this, too
        return Backoff(self._config.poll_s, self._config.poll_cap_s, jitter)

    async def _pause(self, digest: str, news: asyncio.Event, backoff: Backoff) -> None:
        """Until the next look: at once on news, and no later than when its discard time is over."""
        pause_s = max(0.01, backoff.next_s())
        when_ms = self._last_match_ms(digest)
        left_ms = None if when_ms is None else self._left_ms(when_ms)
        if left_ms:
            pause_s = min(pause_s, left_ms / 1000 + 0.001)
        await wait_event(news, pause_s)
        news.clear()

    @contextmanager
    def _news_of(self, digest: str) -> Iterator[asyncio.Event]:
        """An event that is set whenever a fact about this order comes in."""
        event = asyncio.Event()
        if not self._waiting:  # only while somebody waits: a tracker outlives those that ask it
            self._leave = self._tracker.on_change(self._wake)
        self._waiting.setdefault(digest, []).append(event)
        try:
            yield event
        finally:
            self._waiting[digest].remove(event)
            if not self._waiting[digest]:
                del self._waiting[digest]
            if not self._waiting:
                self._leave()

    def _wake(self, order: TrackedOrder) -> None:
        for event in self._waiting.get(order.digest, ()):
            event.set()
