"""After a start: what became of the orders a former process left behind, and whose the others are.

Nothing is signed here. The exchange is asked for every digest the journal holds no end of, until it has an
answer; orders on the book that no journal of ours knows are left alone, or taken over if so configured.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from nadofast.backfill import to_fill
from nadofast.gateway import OrderGateway
from nadofast.models import OpenOrder
from nadofast.orders import OrderTracker, OutcomeFacts, TrackedOrder
from nadofast.rest import Rest
from nadofast.signing import nonce_recv_time_ms
from nadofast.timesync import TimeSync
from nadofast.wire import MAX_ARCHIVE_DIGESTS

from .journal import Contents, Journal, order_fields

PAGE: Final = 100
MAX_PAGES: Final = 50
ARCHIVE_TIMEOUT_S: Final = 15.0
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


async def recover(
    found: Contents,
    *,
    journal: Journal,
    tracker: OrderTracker,
    gateway: OrderGateway,
    timesync: TimeSync,
    rest: Rest,
    subaccount: str,
    product_ids: Sequence[int],
    adopt_foreign: bool = False,
    timeout_s: float = 15.0,
    archive_timeout_s: float = ARCHIVE_TIMEOUT_S,
) -> Recovered:
    """Rebuild the tracker from the journal and ask. archive_timeout_s: how long for what is not on the books.
    Raises what REST raises."""
    orders = [tracker.restore(**dict(order_fields(fields))) for fields in found.unfinished]
    if orders:  # before that a copy may still arrive
        last_ms = max(nonce_recv_time_ms(order.nonce) for order in orders)
        await gateway.wait_past(last_ms, timeout_s)
    books = await asyncio.gather(*(rest.subaccount_orders(subaccount, p) for p in product_ids))
    # After the answers: what is not among them may have been filled up to now.
    answered_ms = timesync.exchange_now_ms() + int(timesync.uncertainty_ms) + 1
    resting = {order.digest: order for book in books for order in book}
    for digest, row in resting.items():
        if tracker.get(digest) is not None:
            tracker.on_resting(digest, row.unfilled_x18)
    gone = [order for order in orders if order.digest not in resting]
    places = {order.product_id for order in gone}
    if gone and await gateway.wait_archive(places, answered_ms, archive_timeout_s):
        await _read_ends(gone, rest, tracker)
    await _read_fills(orders, rest, tracker, subaccount, product_ids)
    foreign = tuple(row for digest, row in resting.items() if tracker.get(digest) is None)
    adopted = tuple(_adopt(row, tracker, journal, subaccount) for row in foreign) if adopt_foreign else ()
    for order in orders:
        journal.note(order)
    live = tuple(order for order in orders if order.was_accepted and not order.is_terminal)
    finished = tuple(order for order in orders if order.is_terminal)
    unknown = tuple(order for order in orders if order not in live and order not in finished)
    if orders or foreign:
        _log.warning(
            "journal: %d resting, %d finished, %d unknown; %d orders of others, %d adopted",
            len(live), len(finished), len(unknown), len(foreign), len(adopted),
        )  # fmt: skip
    return Recovered(live, finished, unknown, foreign, adopted)


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
    below: int | None = None
    for _ in range(MAX_PAGES):
        if not any(order.filled_x18 < order.known_filled_x18 for order in orders):
            return
        page = await rest.archive_matches(subaccount, product_ids, limit=PAGE, max_submission_idx=below)
        for match in page:
            if match.base_filled_x18 and tracker.get(match.digest) is not None:
                tracker.on_fill(to_fill(match))
        if len(page) < PAGE:
            return
        below = min(match.submission_idx for match in page) - 1


def _adopt(row: OpenOrder, tracker: OrderTracker, journal: Journal, subaccount: str) -> TrackedOrder:
    order = tracker.restore(
        digest=row.digest, product_id=row.product_id, sender=subaccount, price_x18=row.price_x18,
        amount_x18=row.amount_x18, expiration_s=row.expiration_s, nonce=row.nonce, appendix=row.appendix,
        client_id=row.id,
    )  # fmt: skip
    tracker.on_resting(row.digest, row.unfilled_x18)
    journal.record(order)
    return order
