"""The rules of book synchronisation, S1 to S10, one test each: core, planner and fetcher together.

The exchange of these tests answers a snapshot when it is told to, so that everything can happen in between.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from clientkit import until

from nadofast import _feed
from nadofast._feed import FeedCore
from nadofast.booksync import BookSync, CheckConfig
from nadofast.errors import InsufficientDepth, RequestTimeout
from nadofast.models import Snapshot
from nadofast.sequence import SyncConfig

PRODUCT = 4
Levels = list[tuple[int, int]]
SIDES: tuple[Levels, Levels] = ([(100, 5), (99, 5)], [(102, 5), (103, 5)])


@dataclass
class Rig:
    """One product between a stream and snapshots; `boundaries` in the order they were told."""

    boundaries: list[tuple[str, str, bool]] = field(default_factory=list)
    bad_links: list[tuple[str, Sequence[int]]] = field(default_factory=list)
    asked: list[asyncio.Future[Snapshot]] = field(default_factory=list)
    now_ns: int = 1
    give_up_s: float = 5.0

    def __post_init__(self) -> None:
        self.core = FeedCore(
            [PRODUCT],
            on_gap=lambda product_id, reason: self.sync.on_gap(product_id, reason),
            on_horizon=lambda product_id: self.sync.on_horizon(product_id),
        )
        self.sync = BookSync(
            self.core,
            [PRODUCT],
            self._fetch,
            with_books=True,
            on_valid=lambda _: self._told("valid", ""),
            on_invalid=lambda _, reason: self._told("invalid", reason),
            on_bad_link=lambda *why: self.bad_links.append(why),
            config=CheckConfig(disagree_s=0.05, planner=SyncConfig(retry_s=0.01, give_up_s=self.give_up_s)),
        )
        self.book = self.core.book(PRODUCT)

    def _fetch(self, product_id: int) -> asyncio.Future[Snapshot]:
        self.asked.append(asyncio.get_running_loop().create_future())
        return self.asked[-1]

    def _told(self, what: str, reason: str) -> None:
        self.boundaries.append((what, reason, self.book.is_valid))

    def depth(self, last: int, newest: int, bids: Levels | None = None, asks: Levels | None = None) -> int:
        return self._receive(
            type="book_depth",
            min_timestamp=str(last + 1),
            max_timestamp=str(newest),
            last_max_timestamp=str(last),
            product_id=PRODUCT,
            bids=[[str(price), str(qty)] for price, qty in bids or []],
            asks=[[str(price), str(qty)] for price, qty in asks or []],
        )

    def bbo(self, time: int, bid: int, ask: int) -> int:
        return self._receive(
            type="best_bid_offer",
            timestamp=str(time),
            product_id=PRODUCT,
            bid_price=str(bid),
            bid_qty="5",
            ask_price=str(ask),
            ask_qty="5",
        )

    def _receive(self, **message: Any) -> int:
        self.now_ns += 1_000_000
        return self.core.receive(json.dumps(message).encode(), self.now_ns)

    async def question(self, number: int) -> None:
        """Wait for the how-manieth question, and see that it is the last one."""
        await until(lambda: len(self.asked) >= number, f"question {number}")
        assert len(self.asked) == number

    async def answer(self, time: int, bids: Levels = SIDES[0], asks: Levels = SIDES[1]) -> None:
        """Answer the last question with the book of that engine time."""
        self.asked[-1].set_result(Snapshot(PRODUCT, tuple(bids), tuple(asks), time))
        for _ in range(5):
            await asyncio.sleep(0)

    async def join(self, time: int, bids: Levels = SIDES[0], asks: Levels = SIDES[1]) -> None:
        """The way to a valid book: begin, subscribe, ask, answer."""
        self.sync.begin()
        self.sync.need_all("new connection")
        await self.question(1)
        await self.answer(time, bids, asks)
        assert self.book.is_valid


@contextlib.asynccontextmanager
async def rig(give_up_s: float = 5.0) -> AsyncIterator[Rig]:
    made = Rig(give_up_s=give_up_s)
    task = asyncio.create_task(made.sync.run())
    try:
        yield made
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_s1_deltas_are_buffered_before_anything_is_asked() -> None:
    async with rig() as r:
        r.sync.begin()
        assert r.depth(1000, 1010, [(98, 1)]) == _feed.BUFFERED
        await asyncio.sleep(0.02)
        assert r.asked == []
        assert not r.book.is_valid


async def test_s2_the_snapshot_is_asked_for_once_subscribed_and_meets_what_was_buffered() -> None:
    async with rig() as r:
        r.sync.begin()
        r.depth(1000, 1010, [(98, 1)])
        r.sync.need_all("new connection")
        await r.question(1)
        r.depth(1010, 1020, [(97, 1)])
        await r.answer(1005)
        assert r.book.bids(9) == [(100, 5), (99, 5), (98, 1), (97, 1)]
        assert r.book.timestamp_ns == 1020


async def test_s3_what_the_snapshot_contains_already_is_dropped() -> None:
    async with rig() as r:
        r.sync.begin()
        r.depth(990, 1000, [(100, 9)])
        r.sync.need_all("new connection")
        await r.question(1)
        await r.answer(1000)
        assert r.book.bids(9) == SIDES[0]
        assert r.depth(995, 1000, [(100, 9)]) == _feed.DUPLICATE
        assert r.book.bids(9) == SIDES[0]


async def test_s4_a_snapshot_from_before_the_first_delta_is_asked_again() -> None:
    async with rig() as r:
        r.sync.begin()
        r.depth(1000, 1010, [(98, 1)])
        r.sync.need_all("new connection")
        await r.question(1)
        await r.answer(999)
        assert not r.book.is_valid, "what happened between 999 and 1000 is nowhere"
        await r.question(2)
        await r.answer(1000)
        assert r.book.is_valid
        assert r.book.timestamp_ns == 1010


async def test_s5_a_live_book_takes_only_its_own_successor() -> None:
    async with rig() as r:
        await r.join(1000)
        assert r.depth(1000, 1010) == _feed.APPLIED
        assert r.depth(1011, 1020) == _feed.GAP
        assert not r.book.is_valid
        await r.question(2)
        await r.answer(1015)
        assert r.book.is_valid
        assert r.depth(0, 1030) == _feed.GAP, "the engine has started anew"
        assert not r.book.is_valid


async def test_s6_a_burst_during_a_recovery_is_one_question_on_the_same_link() -> None:
    async with rig() as r:
        await r.join(1000)
        assert r.depth(1001, 1010) == _feed.GAP
        assert not r.book.is_valid, "on the very message"
        for step in range(1010, 1040, 2):  # every other one is missing
            r.depth(step + 1, step + 2, [(98, step)])
        await r.question(2)
        await asyncio.sleep(0.03)
        await r.question(2)
        await r.answer(1039)
        assert r.book.is_valid
        assert (len(r.asked), r.sync.resyncs, r.bad_links) == (2, 1, [])


async def test_s7_a_new_connection_clears_first_and_ignores_the_old_answer() -> None:
    async with rig() as r:
        await r.join(1000)
        r.depth(1001, 1010)
        await r.question(2)
        r.sync.begin()
        r.depth(2000, 2010)
        await r.answer(1005)
        assert not r.book.is_valid, "of the generation before"
        assert len(r.book) == 0
        r.sync.need_all("new connection")
        await r.question(3)
        await r.answer(2005)
        assert r.book.is_valid
        assert r.book.timestamp_ns == 2010


async def test_s8_crossed_and_contradicted_books_are_resynchronised() -> None:
    async with rig() as r:
        await r.join(1000)
        assert r.depth(1000, 1010, [(102, 1)]) == _feed.GAP
        assert not r.book.is_valid
        await r.question(2)
        await r.answer(1010)
        r.bbo(1010, 98, 102)
        now_ns = 1
        r.sync.check(now_ns)
        assert r.book.is_valid, "a BBO may lead the depth batch"
        r.sync.check(now_ns + 100_000_000)
        assert not r.book.is_valid
        await r.question(3)
        await r.answer(1020)
        assert r.book.is_valid
        assert [reason for what, reason, _ in r.boundaries if what == "invalid"] == [
            "crossed",
            "book and BBO disagree",
        ]


async def test_s9_a_boundary_tells_what_is_already_true() -> None:
    async with rig() as r:
        await r.join(1000)
        r.depth(1001, 1010)
        await r.question(2)
        await r.answer(1010)
        assert r.boundaries == [
            ("valid", "", True),
            ("invalid", r.boundaries[1][1], False),
            ("valid", "", True),
        ]
        assert "gap" in r.boundaries[1][1]


async def test_s10_beyond_the_horizon_nothing_is_invented_and_a_touch_near_it_refreshes() -> None:
    async with rig() as r:
        bids = [(1000 - step, 1) for step in range(100)]
        await r.join(1000, bids, [(2000, 1)])
        low, _ = r.book.horizon
        assert low == 901
        r.depth(1000, 1001, [(500, 7)])
        assert r.book.known_levels == (100, 1), "what lies between 500 and 901 is not known"
        assert r.book.vwap_x18("sell", 100) > 0
        with pytest.raises(InsufficientDepth):
            r.book.vwap_x18("sell", 101)
        for step in range(95):
            r.depth(1001 + step, 1002 + step, [(1000 - step, 0)])
        await r.question(2)
        assert r.book.is_valid, "while it is asked"
        await r.answer(1096, [*bids[95:], *((900 - step, 1) for step in range(95))], [(2000, 1)])
        assert r.book.is_valid
        assert r.book.known_levels == (100, 1)
        assert r.boundaries == [("valid", "", True)], "a refresh is no boundary"


async def near_the_horizon(r: Rig) -> Levels:
    """A valid book whose refresh has been asked for; the bids it began with."""
    bids = [(1000 - step, 1) for step in range(100)]
    await r.join(1000, bids, [(2000, 1)])
    for step in range(95):
        r.depth(1000 + step, 1001 + step, [(1000 - step, 0)])
    await r.question(2)
    return bids


async def test_a_gap_during_a_refresh_is_asked_for_at_once() -> None:
    async with rig() as r:
        bids = await near_the_horizon(r)
        assert r.depth(1096, 1100) == _feed.GAP
        await r.question(3)
        await r.answer(1100, bids[95:], [(2000, 1)])
        assert r.book.is_valid


async def test_an_answer_to_what_was_asked_before_a_gap_is_never_loaded() -> None:
    async with rig() as r:
        bids = await near_the_horizon(r)
        refresh = r.asked[-1]
        assert r.depth(1096, 1100) == _feed.GAP
        await r.question(3)
        refresh.set_result(Snapshot(PRODUCT, tuple(bids[95:]), ((2000, 1),), 1098))
        await asyncio.sleep(0.03)
        assert not r.book.is_valid, "whatever time it shows"
        await r.question(3)
        await r.answer(1100, bids[95:], [(2000, 1)])
        assert r.book.is_valid


async def test_a_refresh_that_never_comes_costs_no_link() -> None:
    async with rig(give_up_s=0.1) as r:
        await near_the_horizon(r)
        r.asked[-1].set_exception(RequestTimeout("no answer"))
        await until(lambda: len(r.asked) >= 4, "asked again and again")
        assert r.bad_links == []
        assert r.book.is_valid


async def test_a_book_that_cannot_be_joined_costs_its_link() -> None:
    async with rig(give_up_s=0.1) as r:
        await r.join(1000)
        r.depth(1001, 1010)
        await until(lambda: r.bad_links, "given up")
        ((reason, products),) = r.bad_links
        assert products == (PRODUCT,)
        assert "not synchronised" in reason
