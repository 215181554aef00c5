"""Keeps the books of one link joined: snapshots when needed, and checks that they stay true.

The numbers S1…S10 are the rules of book synchronisation in ARCHITECTURE.md. Continuity and buffering are the
compiled core's; when to ask is `sequence.py`'s; this file fetches.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from ._bbo import Bbo
from ._book import OrderBook
from ._core import FeedCore
from .errors import NadoError
from .events import NO_ASK_X18, NO_BID_X18
from .models import Snapshot
from .sequence import SnapshotPlanner, SyncConfig
from .waiting import wait_event

_NS: Final = 1_000_000_000
_MS: Final = 1_000_000
IDLE_S: Final = 1.0
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class CheckConfig:
    """disagree_s: BBO and book may differ for so long. depth_lag_ms: depth may trail the BBO's engine time by
    so much. product_quiet_s: a product silent for so long is compared with a snapshot. settle_s: a stream
    that differs from a snapshot gets this long to catch up. max_disagreements: more of them within
    disagree_window_s, and the link is replaced."""

    disagree_s: float = 0.3
    depth_lag_ms: int = 1_000
    product_quiet_s: float = 5.0
    settle_s: float = 0.25
    max_disagreements: int = 3
    disagree_window_s: float = 60.0
    planner: SyncConfig = field(default_factory=SyncConfig)


class BookSync:
    """Snapshots for the products of one feed.

    fetch(product_id) takes a snapshot. on_valid(product_id) and on_invalid(product_id, reason) run inline at
    the boundary (S9). on_bad_link(reason, product_ids): the stream of these cannot be trusted, replace its
    sockets.
    """

    def __init__(
        self,
        core: FeedCore,
        product_ids: Sequence[int],
        fetch: Callable[[int], Awaitable[Snapshot]],
        *,
        with_books: bool,
        on_valid: Callable[[int], None],
        on_invalid: Callable[[int, str], None],
        on_bad_link: Callable[[str, Sequence[int]], None],
        config: CheckConfig | None = None,
    ) -> None:
        self._core = core
        self.products = tuple(product_ids)
        self._fetch = fetch
        self.with_books = with_books
        self._on_valid = on_valid
        self._on_invalid = on_invalid
        self._on_bad_link = on_bad_link
        self._config = config or CheckConfig()
        self.planner = SnapshotPlanner(product_ids, self._config.planner)
        self.resyncs = 0
        self.disagreements = 0
        self._generation = dict.fromkeys(product_ids, 0)
        self._wake = asyncio.Event()
        self._fetching: set[asyncio.Task[None]] = set()
        self._differs_since_ns: dict[int, int] = {}
        self._disagreed_ns: deque[int] = deque()
        self._looked_ns: dict[int, int] = {}
        self._verifying: set[int] = set()

    # ------------------------------------------------------------------ boundaries, inline

    def begin(self, product_ids: Iterable[int] | None = None) -> None:
        """A new connection for these products, or for all (S1, S7): clear everything and buffer deltas.
        Before the first subscription."""
        self._disagreed_ns.clear()
        self._forget(self._mine(product_ids))

    def need_all(self, reason: str, product_ids: Iterable[int] | None = None) -> None:
        """Every subscription stands: ask for a snapshot of each product (S2)."""
        now = time.monotonic_ns()
        for product_id in self._mine(product_ids):
            self._looked_ns[product_id] = now
            self.planner.need(product_id, reason, now)
        self._wake.set()

    def abandon(self, product_ids: Iterable[int] | None = None) -> list[int]:
        """Their last connection is gone: no book is valid, nothing is worth asking for. Those it cost."""
        mine = self._mine(product_ids)
        invalidated = [product for product in mine if self._core.book(product).is_valid]
        self._forget(mine)
        return invalidated if self.with_books else []

    def _mine(self, product_ids: Iterable[int] | None) -> tuple[int, ...]:
        if product_ids is None:
            return self.products
        wanted = set(product_ids)
        return tuple(product for product in self.products if product in wanted)

    def _forget(self, product_ids: tuple[int, ...]) -> None:
        self.planner.reset(product_ids)
        for product_id in product_ids:
            self._generation[product_id] += 1
            self._differs_since_ns.pop(product_id, None)
            if self.with_books:
                self._core.begin(product_id)

    def on_gap(self, product_id: int, reason: str) -> None:
        """The core found a break (S6): the book is invalid and deltas are buffered already."""
        self.resyncs += 1
        # What is under way may be from before the gap.
        self._generation[product_id] += 1
        self.planner.reset((product_id,))
        self.planner.need(product_id, reason, time.monotonic_ns())
        self._on_invalid(product_id, reason)
        self._wake.set()

    def on_horizon(self, product_id: int) -> None:
        """The touch came near the end of what is known (S10): refresh while the book stays valid."""
        self._core.begin(product_id, keep=True)
        self.planner.need(product_id, "horizon", time.monotonic_ns())
        self._wake.set()

    # ------------------------------------------------------------------ the task

    async def run(self) -> None:
        """Ask for what is due, for ever. Runs as the owner's task."""
        try:
            while True:
                self._wake.clear()
                now = time.monotonic_ns()
                while (product_id := self.planner.next_product(now)) is not None:
                    self.planner.on_asked(product_id, now)
                    task = asyncio.create_task(self._take(product_id), name=f"snapshot {product_id}")
                    self._fetching.add(task)
                    task.add_done_callback(self._fetching.discard)
                self._give_up(now)
                wait_s = self.planner.wait_s(now)
                await wait_event(self._wake, IDLE_S if wait_s is None else min(wait_s, IDLE_S))
        finally:
            for task in self._fetching:
                task.cancel()
            await asyncio.gather(*self._fetching, return_exceptions=True)

    def _give_up(self, now_ns: int) -> None:
        """Replace the links of a product that cannot be synchronised. A book that is valid, and only could
        not be refreshed, is no reason: it is asked for anew."""
        hopeless = self.planner.hopeless(now_ns)
        if hopeless is None:
            return
        product_id, reason = hopeless
        self.planner.reset((product_id,))
        if self.with_books and self._core.book(product_id).is_valid:
            self.planner.need(product_id, "horizon", now_ns)
        else:
            self._on_bad_link(reason, (product_id,))

    async def _take(self, product_id: int) -> None:
        """One snapshot (S2), joined (S3, S4) unless the connection changed meanwhile (S7)."""
        generation = self._generation[product_id]
        try:
            snapshot = await self._fetch(product_id)
        except NadoError as error:
            _log.info("snapshot of product %d: %s", product_id, error)
            if generation == self._generation[product_id]:
                self.planner.on_failed(product_id, time.monotonic_ns())
                self._wake.set()
            return
        if generation != self._generation[product_id]:
            return
        self._seed(snapshot)
        is_valid = True
        if self.with_books:
            was_valid = self._core.book(product_id).is_valid
            is_valid = self._core.load_snapshot(
                product_id, snapshot.bids, snapshot.asks, snapshot.timestamp_ns
            )
        self.planner.on_loaded(product_id, is_valid, time.monotonic_ns())
        if is_valid and not (self.with_books and was_valid):
            self._on_valid(product_id)
        self._wake.set()

    def _seed(self, snapshot: Snapshot) -> None:
        """The touch of the snapshot as BBO, unless the stream is ahead of it."""
        bid, bid_qty = snapshot.bids[0] if snapshot.bids else (NO_BID_X18, 0)
        ask, ask_qty = snapshot.asks[0] if snapshot.asks else (NO_ASK_X18, 0)
        self._core.seed_bbo(
            snapshot.product_id,
            bid,
            ask,
            bid_qty_x18=bid_qty,
            ask_qty_x18=ask_qty,
            timestamp_ns=snapshot.timestamp_ns,
        )

    # ------------------------------------------------------------------ checks

    def check(self, now_ns: int) -> list[int]:
        """Compare book and BBO (S8). Returns products that were silent for too long, as many as the budget
        allows: `verify` them."""
        silent = []
        for product_id in self.products:
            book, bbo = self._core.book(product_id), self._core.bbo(product_id)
            if self.with_books:
                self._check_touch(product_id, book, bbo, now_ns)
            last_ns = max(bbo.received_ns, self._looked_ns.get(product_id, now_ns))
            if now_ns - last_ns > self._config.product_quiet_s * _NS and product_id not in self._verifying:
                silent.append(product_id)
        return silent[: self.planner.room_for_checks(now_ns)] if silent else silent

    def liveliest(self, product_ids: Iterable[int], count: int) -> list[int]:
        """Those that were heard of last: a dead stream shows in them first."""
        mine = self._mine(product_ids)
        return sorted(mine, key=lambda product: -self._core.bbo(product).received_ns)[:count]

    async def verify(self, product_id: int) -> bool:
        """Whether what we hold of a silent product is still what the exchange has. Raises NadoError.

        Whatever comes of it, `check` is content for another `product_quiet_s`.
        """
        self._verifying.add(product_id)
        self.planner.on_checked(time.monotonic_ns())
        try:
            snapshot = await self._fetch(product_id)
            if not self._matches(snapshot):
                # The change may be on its way: depth comes in batches.
                await asyncio.sleep(self._config.settle_s)
                if not self._matches(snapshot) and not self._is_ahead_of(snapshot):
                    return False
            return True
        finally:
            self._looked_ns[product_id] = time.monotonic_ns()
            self._verifying.discard(product_id)

    def _check_touch(self, product_id: int, book: OrderBook, bbo: Bbo, now_ns: int) -> None:
        if not touch_differs(book, bbo, self._config.depth_lag_ms):
            self._differs_since_ns.pop(product_id, None)
            return
        since_ns = self._differs_since_ns.setdefault(product_id, now_ns)
        if now_ns - since_ns <= self._config.disagree_s * _NS:
            return
        del self._differs_since_ns[product_id]
        self.disagreements += 1
        self._disagreed_ns.append(now_ns)
        while self._disagreed_ns[0] < now_ns - self._config.disagree_window_s * _NS:
            self._disagreed_ns.popleft()
        if len(self._disagreed_ns) > self._config.max_disagreements:
            self._on_bad_link(f"book and BBO of product {product_id} keep disagreeing", (product_id,))
            return
        self._core.begin(product_id)
        self.on_gap(product_id, "book and BBO disagree")

    def _matches(self, snapshot: Snapshot) -> bool:
        bid = snapshot.bids[0] if snapshot.bids else None
        ask = snapshot.asks[0] if snapshot.asks else None
        if self.with_books:
            book = self._core.book(snapshot.product_id)
            return not book.is_valid or (book.best_bid == bid and book.best_ask == ask)
        bbo = self._core.bbo(snapshot.product_id)
        return bbo.bid_price_x18 == (bid[0] if bid else NO_BID_X18) and bbo.ask_price_x18 == (
            ask[0] if ask else NO_ASK_X18
        )

    def _is_ahead_of(self, snapshot: Snapshot) -> bool:
        """The stream has moved on since the snapshot: it is alive."""
        if self.with_books:
            return self._core.book(snapshot.product_id).timestamp_ns > snapshot.timestamp_ns
        return self._core.bbo(snapshot.product_id).timestamp_ns > snapshot.timestamp_ns


def touch_differs(book: OrderBook, bbo: Bbo, depth_lag_ms: int) -> bool:
    """Book and BBO contradict each other, which a BBO that merely leads its depth batch does not."""
    if not book.is_valid or not bbo.is_set or bbo.timestamp_ns == 0:
        return False
    lead_ns = bbo.timestamp_ns - book.timestamp_ns
    if lead_ns > 0:
        return lead_ns > depth_lag_ms * _MS
    best_bid, best_ask = book.best_bid, book.best_ask
    return (best_bid[0] if best_bid else None) != (bbo.bid_price_x18 if bbo.has_bid else None) or (
        best_ask[0] if best_ask else None
    ) != (bbo.ask_price_x18 if bbo.has_ask else None)
