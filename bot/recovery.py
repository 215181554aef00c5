"""After a start: what became of the orders a former process left behind, and whose the others are.

Nothing is signed here. The exchange is asked for every digest the journal holds no end of, until it has an
answer; orders on the book that no journal of ours knows are left alone, or taken over if so configured.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Final

from nadofast.backfill import next_top, to_fill
from nadofast.errors import NadoError
from nadofast.gateway import OrderGateway
from nadofast.models import OpenOrder
from nadofast.orders import OrderTracker, OutcomeFacts, TrackedOrder
from nadofast.rest import Rest
from nadofast.signing import nonce_recv_time_ms
from nadofast.timesync import TimeSync
from nadofast.wire import MAX_ARCHIVE_DIGESTS

from .journal import Contents, Journal, order_fields
from .ledger import Ledger
from .reconcile import Reconciler

PAGE: Final = 100
MAX_PAGES: Final = 50
ARCHIVE_TIMEOUT_S: Final = 15.0
# From the last moment at which the engine takes an order to its match.
HELD_MS: Final = 250
FIRST_PAUSE_S: Final = 0.5
MAX_PAUSE_S: Final = 30.0
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Recovered:
    """resting: orders of the journal still on the book. finished: known to their end. unknown: the exchange
    has not said yet. foreign: on the book of this account and not from the journal; adopted: those of them
    that are tracked now."""

    resting: tuple[TrackedOrder, ...]
    finished: tuple[TrackedOrder, ...]
    unknown: tuple[TrackedOrder, ...]
    foreign: tuple[OpenOrder, ...]
    adopted: tuple[TrackedOrder, ...]


@dataclass(slots=True)
class Recovery:
    """The questions a start has about the journal's orders: what rests, which the books say at once, and what
    became of the others, which the archive says seconds later.

    gone: orders that had left the books and that no copy can bring back. Whatever they filled is in positions
    read after `look`.
    """

    found: Contents
    journal: Journal
    tracker: OrderTracker
    gateway: OrderGateway
    timesync: TimeSync
    rest: Rest
    subaccount: str
    product_ids: Sequence[int]
    adopt_foreign: bool = False
    orders: tuple[TrackedOrder, ...] = ()
    gone: tuple[TrackedOrder, ...] = ()
    foreign: tuple[OpenOrder, ...] = ()
    adopted: tuple[TrackedOrder, ...] = ()
    _answered_ms: int = 0

    async def look(self, timeout_s: float = 15.0) -> None:
        """Rebuild the tracker from the journal and read the books. Raises what REST raises."""
        tracker, rest = self.tracker, self.rest
        self.orders = tuple(tracker.restore(**dict(order_fields(fields))) for fields in self.found.unfinished)
        past = await asyncio.gather(*(self._wait_past(order, timeout_s) for order in self.orders))
        books = await asyncio.gather(*(rest.subaccount_orders(self.subaccount, p) for p in self.product_ids))
        # After the answers: what is not among them may have been filled up to now.
        self._answered_ms = self.timesync.exchange_now_ms() + int(self.timesync.uncertainty_ms) + 1
        resting = {order.digest: order for book in books for order in book}
        for digest, row in resting.items():
            if tracker.get(digest) is not None:
                tracker.on_resting(digest, row.unfilled_x18)
        self.gone = tuple(
            order
            for order, is_past in zip(self.orders, past, strict=True)
            if is_past and order.digest not in resting
        )
        self.foreign = tuple(row for digest, row in resting.items() if tracker.get(digest) is None)
        if self.adopt_foreign:
            self.adopted = tuple(_adopt(row, tracker, self.journal, self.subaccount) for row in self.foreign)

    async def _wait_past(self, order: TrackedOrder, timeout_s: float) -> bool:
        """No copy of it can arrive any more. One with more time than that is not waited for: somebody else's
        that was taken over may have a discard time far away."""
        last_ms = nonce_recv_time_ms(order.nonce) + HELD_MS
        if self.timesync.is_known and last_ms > self.timesync.exchange_now_ms() + timeout_s * 1000:
            return False
        return await self.gateway.wait_past(last_ms, timeout_s)

    @property
    def lacks_fills(self) -> bool:
        """An order that is not gone was filled before, and nobody has told by what: such fills are in the
        positions of now, and must be known by the time a ledger starts from those."""
        orders = (*self.orders, *self.adopted)
        return any(order.filled_x18 < order.known_filled_x18 for order in orders if order not in self.gone)

    async def ask_until_known(self, timeout_s: float) -> None:
        """Ask the archive until it has told the end of all that are gone. Raises what is not retryable."""
        pause_s = FIRST_PAUSE_S
        while True:
            try:
                await self.ask_archive(timeout_s)
                reason = "it is behind"
            except NadoError as error:
                if not error.retryable:
                    raise
                reason = str(error)
            if all(order.is_terminal for order in self.gone):
                return
            _log.warning("archive: what became of former orders is not known yet: %s", reason)
            await asyncio.sleep(random.uniform(0.5, 1.0) * pause_s)
            pause_s = min(MAX_PAUSE_S, 2 * pause_s)

    async def ask_archive(self, timeout_s: float = ARCHIVE_TIMEOUT_S) -> Recovered:
        """Ends and fills of what `look` has found, for as long. Raises what REST raises."""
        places = {order.product_id for order in self.gone}
        if self.gone and await self.gateway.wait_archive(places, self._answered_ms, timeout_s):
            await _read_ends(self.gone, self.rest, self.tracker)
        orders = (*self.orders, *self.adopted)
        await _read_fills(orders, self.rest, self.tracker, self.subaccount, self.product_ids)
        for order in self.orders:
            self.journal.note(order)
        live = tuple(order for order in self.orders if order.was_accepted and not order.is_terminal)
        finished = tuple(order for order in self.orders if order.is_terminal)
        unknown = tuple(order for order in self.orders if order not in live and order not in finished)
        if self.orders or self.foreign:
            _log.warning(
                "journal: %d resting, %d finished, %d unknown; %d orders of others, %d adopted",
                len(live), len(finished), len(unknown), len(self.foreign), len(self.adopted),
            )  # fmt: skip
        return Recovered(live, finished, unknown, self.foreign, self.adopted)


async def take_stock(
    recovery: Recovery, reconciler: Reconciler, ledger: Ledger, archive_timeout_s: float
) -> Coroutine[Any, Any, object] | None:
    """Look, and ask the archive only if nothing is held: it may be seconds behind, and what stands open must
    not wait for it, unless fills are missing of an order that rests. Returns what is left to ask beside the
    trading, None when all was asked.

    What the orders that are gone have filled is in every position read from now on; the ledger, which starts
    from those, never books it again, however late it is told. Raises what REST raises.
    """
    await recovery.look()
    ledger.leave_out(order.digest for order in recovery.gone)
    if recovery.gone and not recovery.lacks_fills:
        seen = await reconciler.read(with_isolated=True)
        if any(seen.position_x18(product_id) for product_id in recovery.product_ids):
            return recovery.ask_until_known(archive_timeout_s)
    await recovery.ask_archive(archive_timeout_s)
    return None


async def _read_ends(gone: Sequence[TrackedOrder], rest: Rest, tracker: OrderTracker) -> None:
    """Of orders that do not rest, in an archive that shows them all: filled so much, or never taken."""
    for first in range(0, len(gone), MAX_ARCHIVE_DIGESTS):
        part = gone[first : first + MAX_ARCHIVE_DIGESTS]
        rows = await rest.archive_orders([order.digest for order in part])
        filled_x18 = {row.digest: abs(row.base_filled_x18) for row in rows}
        for order in part:
            if order.digest in filled_x18:
                left_x18 = abs(order.amount_x18) - filled_x18[order.digest]
                tracker.on_last_word(order.digest, left_x18)
            elif order.was_accepted:
                tracker.on_last_word(order.digest, order.remaining_x18)
            else:
                tracker.on_outcome(order.digest, OutcomeFacts(is_rejected=True))


async def _read_fills(
    orders: Sequence[TrackedOrder],
    rest: Rest,
    tracker: OrderTracker,
    subaccount: str,
    product_ids: Sequence[int],
) -> None:
    """Bring in the fills of these orders, newest page first, until none is missing or the history ends."""
    top: int | None = None
    for _ in range(MAX_PAGES):
        if not any(order.filled_x18 < order.known_filled_x18 for order in orders):
            return
        page = await rest.archive_matches(subaccount, product_ids, limit=PAGE, max_submission_idx=top)
        for match in page:
            if match.base_filled_x18 and tracker.get(match.digest) is not None:
                tracker.on_fill(to_fill(match))
        if len(page) < PAGE:
            return
        top = next_top(page)


def _adopt(row: OpenOrder, tracker: OrderTracker, journal: Journal, subaccount: str) -> TrackedOrder:
    order = tracker.restore(
        digest=row.digest, product_id=row.product_id, sender=subaccount, price_x18=row.price_x18,
        amount_x18=row.amount_x18, expiration_s=row.expiration_s, nonce=row.nonce, appendix=row.appendix,
        client_id=row.id,
    )  # fmt: skip
    tracker.on_resting(row.digest, row.unfilled_x18)
    journal.record(order)
    return order
