"""The fills of a gap out of the archive: all of them and no others, or an error that says how it stands."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from rudekit import Script, scripted
from test_missed_fills import START_S, Archive

from nadofast import Rest, errors
from nadofast.backfill import to_fill
from nadofast.gap import Gap, MissedConfig, MissedFills
from nadofast.models import archived_matches

CONFIG = MissedConfig(looks_s=(0.0, 0.02), attempts=3, page=3)


@asynccontextmanager
async def missed(archive: Archive) -> AsyncIterator[MissedFills]:
    async with scripted(Script(archive=archive.answer)) as network, Rest(network, timeout_s=1) as rest:
        yield MissedFills(rest, "0x" + "11" * 32, [4], CONFIG)


def gap_of(archive: Archive, *indices: int) -> Gap:
    gap = Gap()
    for index in indices:
        gap.add(archive.streamed(index))
    return gap


async def read(archive: Archive, *indices: int) -> list[int]:
    gap = gap_of(archive, *indices)
    async with missed(archive) as fills:
        await fills.read(gap)
    return [fill.submission_idx for fill in gap.found()]


def archive_with(*indices: int) -> Archive:
    archive = Archive()
    for index in indices:
        archive.add(index, START_S)
    return archive


@pytest.mark.parametrize("count", [1, 2, 3, 4, 7, 12])
async def test_pages_are_read_from_the_newest_down_to_the_oldest(count: int) -> None:
    archive = archive_with(*range(1, 30))
    wanted = range(10, 10 + count)
    assert await read(archive, *wanted) == list(wanted)


async def test_what_the_reader_has_had_is_left_out() -> None:
    assert await read(archive_with(4, 5, 6), 6, 4) == [4, 6]


async def test_two_entries_of_one_match_on_two_pages_are_both_found() -> None:
    """Both orders of a match were ours: the same index twice, and a page ends between them."""
    archive = archive_with(5, 5, 6, 7)
    rows = archive.reply([(index, START_S) for index in (7, 6, 5, 5)])["matches"]
    rows[3]["digest"] = "0x" + "ff" * 32

    def answer(request: Any) -> Any:
        body = request["matches"]
        page = [row for row in rows if int(row["submission_idx"]) <= body["idx"]][: body["limit"]]
        transactions = archive.reply([(int(row["submission_idx"]), START_S) for row in page])["txs"]
        return {"matches": page, "txs": transactions}

    async with scripted(Script(archive=answer)) as network, Rest(network, timeout_s=1) as rest:
        gap = gap_of(archive, 5, 6, 7)
        gap.add(to_fill(archived_matches(answer({"matches": {"idx": 5, "limit": 9}}))[1]))
        await MissedFills(rest, "0x" + "11" * 32, [4], CONFIG).read(gap)
    assert [fill.submission_idx for fill in gap.found()] == [5, 5, 6, 7]
    assert len({fill.key for fill in gap.found()}) == 4


async def test_an_archive_that_is_away_or_behind_is_asked_again_and_then_said() -> None:
    for archive, shown in ((archive_with(1), 1), (archive_with(1, 2), 0)):
        archive.is_up = shown > 0
        with pytest.raises(errors.EventOverflow, match=f"shows {shown} of them") as caught:
            await read(archive, 1, 2)
        assert archive.looks >= 2
        assert (caught.value.lost, caught.value.retryable) == (2, True)


async def test_a_fill_that_never_appears_is_given_up_by_name() -> None:
    archive = archive_with(1, 3)
    gap = gap_of(archive, 1, 2, 3)
    async with missed(archive) as fills:
        for reading in range(4):
            with pytest.raises(errors.EventOverflow) as caught:
                await fills.read(gap)
            # The first one found something.
            assert caught.value.retryable == (reading < 3)
    assert caught.value.missing == (archive.streamed(2).key,)
    assert "take its word" in str(caught.value)
    assert [fill.submission_idx for fill in gap.found()] == [1, 3]


async def test_an_archive_that_is_away_for_long_is_no_reason_to_give_up() -> None:
    archive = archive_with(1, 2)
    archive.is_up = False
    gap = gap_of(archive, 1, 2)
    async with missed(archive) as fills:
        for _ in range(CONFIG.attempts + 1):
            with pytest.raises(errors.EventOverflow) as caught:
                await fills.read(gap)
            assert caught.value.retryable
        archive.is_up = True
        await fills.read(gap)
    assert [fill.submission_idx for fill in gap.found()] == [1, 2]


async def test_an_error_half_way_costs_nothing_that_was_read() -> None:
    """Thirteen pages, and the archive refuses every third question: each page is read once."""
    archive = archive_with(*range(1, 27))
    pages: list[int] = []
    questions = 0

    def answer(request: Any) -> Any:
        nonlocal questions
        questions += 1
        if questions % 3 == 0:
            return "too many requests"
        pages.append(request["matches"]["idx"])
        return archive.answer(request)

    gap = gap_of(archive, *range(1, 27))
    async with scripted(Script(archive=answer)) as network, Rest(network, timeout_s=1) as rest:
        fills = MissedFills(rest, "0x" + "11" * 32, [4], CONFIG)
        while gap.missing:
            with contextlib.suppress(errors.EventOverflow):
                await fills.read(gap)
    assert pages == list(range(26, 0, -2)), "the last index of a page again, and no page twice"
    assert len(gap.found()) == 26


async def test_more_than_can_be_kept_is_hopeless(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nadofast.gap.MAX_FILLS", 20)
    archive = archive_with(*range(40))
    gap = gap_of(archive, *range(20))
    assert not gap.is_hopeless
    gap.add(archive.streamed(20))
    assert gap.is_hopeless
    assert len(gap.missing) == 20
