"""Fills the stream did not bring: each once, none of an earlier session, none passed over."""

from __future__ import annotations

import asyncio
import copy
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from clientkit import sample, until
from rudekit import Script, scripted

from nadofast import Rest
from nadofast.backfill import BackfillConfig, FillBackfill, to_fill
from nadofast.events import FillEvent
from nadofast.models import archived_matches

START_S = 1_790_000_100
CONFIG = BackfillConfig(looks_s=(0.01, 0.05), page=3, max_pages=4)
SAMPLE = sample("archive_matches")["response"]


class Archive:
    """Matches by submission index and second; asleep until `is_up`."""

    def __init__(self) -> None:
        self.matches: list[tuple[int, int]] = []
        self.is_up = True
        self.looks = 0

    def add(self, index: int, timestamp_s: int) -> None:
        self.matches.append((index, timestamp_s))

    def answer(self, request: Any) -> Any:
        self.looks += 1
        if not self.is_up:
            return "the archive is away"
        body = request["matches"]
        top = body.get("idx", 1 << 60)
        found = sorted((match for match in self.matches if match[0] <= top), reverse=True)[: body["limit"]]
        return self.reply(found)

    @staticmethod
    def reply(found: list[tuple[int, int]]) -> dict[str, Any]:
        rows, transactions = [], []
        for index, timestamp_s in found:
            row = copy.deepcopy(SAMPLE["matches"][0])
            row |= {"submission_idx": str(index), "digest": f"0x{index:064x}"}
            rows.append(row)
            transaction = copy.deepcopy(SAMPLE["txs"][0])
            transactions.append(transaction | {"submission_idx": str(index), "timestamp": str(timestamp_s)})
        return {"matches": rows, "txs": transactions}

    def streamed(self, index: int) -> FillEvent:
        return to_fill(archived_matches(self.reply([(index, START_S + 1)]))[0])


@asynccontextmanager
async def backfill(
    archive: Archive, config: BackfillConfig = CONFIG, clock_steps: Callable[[], int] = lambda: 0
) -> AsyncIterator[tuple[FillBackfill, list[int]]]:
    told: list[int] = []
    async with scripted(Script(archive=archive.answer)) as network, Rest(network, timeout_s=1) as rest:
        work = FillBackfill(
            rest,
            "0x" + "11" * 32,
            [4],
            lambda fill: told.append(fill.submission_idx),
            config,
            exchange_now_s=lambda: START_S,
            clock_steps=clock_steps,
        )
        task = asyncio.create_task(work.run())
        try:
            yield work, told
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def looked(archive: Archive, work: FillBackfill) -> None:
    before = archive.looks
    work.request()
    await until(lambda: archive.looks > before and not work.is_busy, "a look at the archive")


async def test_a_fill_missed_before_the_archive_first_answered_is_news() -> None:
    """The archive was away when the session began; what it shows first is not all history."""
    archive = Archive()
    archive.add(10, START_S - 50)
    archive.is_up = False
    async with backfill(archive) as (work, told):
        await looked(archive, work)
        archive.add(11, START_S + 5)
        archive.is_up = True
        await looked(archive, work)
        await looked(archive, work)
    assert told == [11]


async def test_a_fill_of_an_earlier_session_that_is_indexed_late_is_not_news() -> None:
    archive = Archive()
    async with backfill(archive) as (work, told):
        await looked(archive, work)
        archive.add(10, START_S - 2)
        archive.add(11, START_S + 2)
        await looked(archive, work)
    assert told == [11]


async def test_a_clock_that_was_ahead_at_the_beginning_costs_no_fill() -> None:
    """The exchange's clock stepped back by less than a second, or ours was that wrong: its samples say so."""
    archive, steps = Archive(), 3
    async with backfill(archive, clock_steps=lambda: steps) as (work, told):
        await looked(archive, work)
        steps += 1
        archive.add(11, START_S - 1)
        await looked(archive, work)
    assert told == [11]


async def test_the_last_fill_before_a_quick_restart_is_not_news() -> None:
    """The process before this one had it a second ago; the archive shows it after the first reading."""
    archive = Archive()
    async with backfill(archive, clock_steps=lambda: 3) as (work, told):
        await looked(archive, work)
        archive.add(11, START_S - 1)
        archive.add(12, START_S + 1)
        await looked(archive, work)
    assert told == [12]


async def test_the_stream_after_the_archive_tells_nothing_twice() -> None:
    """A stalled stream may deliver what the archive has told, long after."""
    archive = Archive()
    async with backfill(archive) as (work, told):
        await looked(archive, work)
        archive.add(11, START_S + 2)
        await looked(archive, work)
        assert told == [11]
        await looked(archive, work)
        assert not work.note(archive.streamed(11))
        assert work.note(archive.streamed(12))


async def test_more_than_one_look_can_read_is_not_passed_over() -> None:
    archive = Archive()
    async with backfill(archive) as (work, told):
        await looked(archive, work)
        for index in range(100, 130):
            archive.add(index, START_S + 3)
        for _ in range(4):
            await looked(archive, work)
    assert sorted(told) == list(range(100, 130))


async def test_a_new_request_does_not_wait_for_the_next_look() -> None:
    archive = Archive()
    config = BackfillConfig(looks_s=(0.01, 60.0), spacing_s=0.02)
    async with backfill(archive, config) as (work, told):
        work.request()
        await until(lambda: work.knows_history, "the first look")
        archive.add(11, START_S + 5)
        work.request()
        await until(lambda: told == [11], "another look")


async def test_requests_without_end_neither_stop_progress_nor_spend_the_budget() -> None:
    archive = Archive()
    config = BackfillConfig(
        looks_s=(0.01, 0.02, 0.02), spacing_s=0.02, spacing_cap_s=0.1, max_restarts=3, page=3, max_pages=9
    )
    async with backfill(archive, config) as (work, told):
        await looked(archive, work)
        for index in range(11, 20):
            archive.add(index, START_S + 2)
        before, ends = archive.looks, time.monotonic() + 1.0
        while time.monotonic() < ends:
            work.request()
            await asyncio.sleep(0.002)
        assert told == list(range(11, 20))
        # Looks are 0.1 s apart in the end, and of one page; they were five while the mark stood still.
        assert archive.looks - before < 60
        archive.add(20, START_S + 3)
        work.request()
        await until(lambda: 20 in told, "the last one")
        await until(lambda: not work.is_busy, "the end")
