"""When "nowhere" is a proof: book, balance and archive have to agree. Time alone proves nothing."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import pytest
from clientkit import until

from nadofast import (
    OrderState,
    OrderTracker,
    OrderType,
    OutcomeKind,
    Signer,
    TimeSample,
    TimeSync,
    models,
    to_x18,
)
from nadofast import resolver as resolver_module
from nadofast.completeness import Completeness
from nadofast.errors import ExchangeError, NadoError, NotConnected
from nadofast.events import FillEvent
from nadofast.resolver import OrderResolver, ResolverConfig
from nadofast.shared import SharedQuestion
from nadofast.signing import make_nonce, pack_appendix

SIGNER = Signer("0x" + "01" * 32, chain_id=1, endpoint_address="0x" + "00" * 20)
ACCOUNT = SIGNER.subaccount()
PRICE, SIZE = to_x18(3000), to_x18("0.1")
START_MS = 1_790_000_000_000
FEE = 7


class Clock:
    def __init__(self) -> None:
        self.now_ns = 10**12

    def __call__(self) -> int:
        return self.now_ns


def balance_after(*sides: int) -> models.PerpBalance:
    amount = sum(side * SIZE for side in sides)
    quote = sum(-side * (SIZE * PRICE // 10**18) - FEE for side in sides)
    return models.PerpBalance(4, amount, quote, 0)


def match(
    digest: str, index: int, balance: models.PerpBalance | None, *, isolated: bool = False
) -> models.ArchivedMatch:
    return models.ArchivedMatch(
        digest, ACCOUNT, 4, PRICE, SIZE, SIZE, 0, FEE, index, True, isolated, 0, 1, SIZE, balance
    )


def fill(digest: str, index: int, *, is_bid: bool = True) -> FillEvent:
    return FillEvent(4, index, ACCOUNT, digest, 1, SIZE, 0, SIZE, PRICE, True, is_bid, FEE, index)


@dataclass
class Truth:
    """What the engine and the archive would say, and how often each was asked."""

    balance: models.PerpBalance = field(default_factory=balance_after)
    resting: models.OpenOrder | None = None
    matches: list[models.ArchivedMatch] = field(default_factory=list)
    newest_s: int = 0
    server_ms: int = 0
    asked: list[str] = field(default_factory=list)

    async def order(self, product_id: int, digest: str) -> models.OpenOrder:
        self.asked.append("order")
        if self.resting is None:
            raise ExchangeError(2020, "not found")
        return self.resting

    async def subaccount_orders(self, subaccount: str, product_id: int) -> list[models.OpenOrder]:
        self.asked.append("orders")
        return [] if self.resting is None else [self.resting]

    async def subaccount_info(self, subaccount: str) -> models.SubaccountInfo:
        self.asked.append("info")
        return models.SubaccountInfo(subaccount, True, 0, {}, {4: self.balance}, {}, (0, 0, 0))

    async def archive_orders(self, digests: list[str]) -> list[models.ArchivedOrder]:
        self.asked.append("archive")
        found = {m.digest for m in self.matches} & set(digests)
        return [models.ArchivedOrder(d, ACCOUNT, 4, SIZE, SIZE, 0, 0, 0, 0) for d in found]

    async def archive_matches(
        self, subaccount: str, product_ids: list[int], *, limit: int, max_submission_idx: int | None = None
    ) -> list[models.ArchivedMatch]:
        below = 1 << 60 if max_submission_idx is None else max_submission_idx
        rows = [row for row in self.matches if row.submission_idx <= below]
        return sorted(rows, key=lambda row: -row.submission_idx)[:limit]

    async def archive_newest_s(self) -> int:
        return self.newest_s

    async def sync_time(self, timesync: TimeSync, samples: int) -> None:
        self.asked.append("time")
        now_ns = timesync._clock_ns()
        timesync.update(TimeSample(now_ns, now_ns, self.server_ms))


class Desk:
    """A resolver, its tracker and clocks that stand still unless moved."""

    def __init__(self, truth: Truth) -> None:
        self.truth, self.clock = truth, Clock()
        self.tracker = OrderTracker(clock_ns=self.clock)
        self.timesync = TimeSync(clock_ns=self.clock, wall_ns=self.clock)
        self.pass_ms(0)
        self.resolver = OrderResolver(
            self.tracker, self.timesync, truth, ResolverConfig(poll_s=0.002, poll_cap_s=0.01),  # type: ignore[arg-type]
            subaccount=ACCOUNT,
        )  # fmt: skip

    def pass_ms(self, passed_ms: int) -> None:
        self.clock.now_ns += passed_ms * 10**6
        self.truth.server_ms = START_MS + (self.clock.now_ns - 10**12) // 10**6
        self.timesync.update(TimeSample(self.clock.now_ns, self.clock.now_ns, self.truth.server_ms))

    def order(self, low: int = 1, kind: OrderType = OrderType.POST_ONLY) -> str:
        nonce = make_nonce(START_MS + 500, low)
        signed = SIGNER.sign_order(
            product_id=4, price_x18=PRICE, amount_x18=SIZE, expiration_s=START_MS // 1000 + 60, nonce=nonce,
            appendix=pack_appendix(kind),
        )  # fmt: skip
        return self.tracker.register(signed).digest

    async def resolved(self, digest: str) -> OutcomeKind:
        return (await self.resolver.resolve(digest, 4, 0.1)).kind


async def test_before_its_discard_time_nothing_is_proven() -> None:
    desk = Desk(Truth(newest_s=START_MS))
    digest = desk.order()
    desk.pass_ms(700)  # it may still wait out the exchange's hold
    assert await desk.resolved(digest) is OutcomeKind.UNKNOWN
    desk.pass_ms(100)
    assert await desk.resolved(digest) is OutcomeKind.REJECTED


async def test_in_a_silent_market_an_unexplained_balance_keeps_it_unknown_however_long() -> None:
    """It filled, and the archive lags: an hour of silence does not turn that into a rejection."""
    desk = Desk(Truth(balance=balance_after(1)))
    digest = desk.order()
    for _ in range(3):
        desk.pass_ms(3_600_000 // 3)
        assert await desk.resolved(digest) is OutcomeKind.UNKNOWN
    desk.truth.matches = [match(digest, 9, balance_after(1))]
    assert await desk.resolved(digest) is OutcomeKind.CONFIRMED


async def test_in_a_silent_market_an_explained_balance_is_a_proof_at_once() -> None:
    desk = Desk(Truth())
    digest = desk.order()
    desk.pass_ms(800)
    assert await desk.resolved(digest) is OutcomeKind.REJECTED


async def test_fills_the_stream_told_explain_what_the_archive_lacks() -> None:
    desk = Desk(Truth(balance=balance_after(1, 1), matches=[match("0x" + "22" * 32, 5, balance_after(1))]))
    lost, known = desk.order(1), desk.order(2)
    desk.pass_ms(800)
    assert await desk.resolved(lost) is OutcomeKind.UNKNOWN
    desk.tracker.on_fill(fill(known, 6))
    assert await desk.resolved(lost) is OutcomeKind.REJECTED


async def test_a_pair_of_fills_that_cancels_out_still_shows_in_the_quote_balance() -> None:
    desk = Desk(Truth(balance=balance_after(1, -1)))
    digest = desk.order()
    desk.pass_ms(800)
    assert await desk.resolved(digest) is OutcomeKind.UNKNOWN


@pytest.mark.parametrize("row", [match("0x1", 5, None), match("0x1", 5, balance_after(), isolated=True)])
async def test_a_match_that_names_no_balance_of_this_account_explains_nothing(
    row: models.ArchivedMatch,
) -> None:
    desk = Desk(Truth(matches=[row]))
    digest = desk.order()
    desk.pass_ms(800)
    assert await desk.resolved(digest) is OutcomeKind.UNKNOWN


async def test_one_that_rested_and_filled_just_now_is_not_taken_for_one_that_never_came() -> None:
    """The archive has passed its discard time, but not the moment the book was found empty."""
    desk = Desk(Truth(newest_s=START_MS // 1000 + 60, balance=balance_after(1)))
    digest = desk.order()
    desk.pass_ms(61_500)
    assert await desk.resolved(digest) is OutcomeKind.UNKNOWN
    desk.truth.newest_s = START_MS // 1000 + 63
    desk.truth.matches = [match(digest, 9, balance_after(1))]
    assert await desk.resolved(digest) is OutcomeKind.CONFIRMED


async def test_a_clock_of_the_exchange_that_was_set_back_revives_the_doubt() -> None:
    desk = Desk(Truth())
    digest = desk.order()
    desk.pass_ms(800)
    desk.truth.server_ms -= 600
    assert await desk.resolved(digest) is OutcomeKind.UNKNOWN
    assert desk.timesync.steps >= 1


async def test_news_of_the_stream_end_the_wait_at_once() -> None:
    desk = Desk(Truth())
    desk.resolver = OrderResolver(
        desk.tracker, desk.timesync, desk.truth, ResolverConfig(poll_s=60, poll_cap_s=60),  # type: ignore[arg-type]
        subaccount=ACCOUNT,
    )  # fmt: skip
    digest = desk.order()
    asking = asyncio.ensure_future(desk.resolver.resolve(digest, 4, 5))
    await until(lambda: "archive" in desk.truth.asked, "the first look")
    desk.tracker.on_resting(digest, SIZE)
    assert (await asyncio.wait_for(asking, 1)).path == "stream"


async def test_a_tracker_outlives_those_that_asked_it() -> None:
    """Gateways come and go over one tracker: each would be told, and kept, for ever."""
    desk = Desk(Truth())
    digest = desk.order()
    assert await asyncio.create_task(desk.resolved(digest)) is OutcomeKind.UNKNOWN
    gone = weakref.ref(desk.resolver)
    del desk.resolver
    gc.collect()
    assert gone() is None
    desk.tracker.on_resting(digest, SIZE)


async def test_many_doubts_are_one_question() -> None:
    desk = Desk(Truth())
    digests = [desk.order(low) for low in range(1, 41)]
    desk.pass_ms(800)
    kinds = await asyncio.gather(*(desk.resolved(digest) for digest in digests))
    assert set(kinds) == {OutcomeKind.REJECTED}
    assert len(desk.truth.asked) <= 20


async def test_without_http_only_the_stream_can_tell() -> None:
    desk = Desk(Truth())
    blind = OrderResolver(desk.tracker, desk.timesync, None, ResolverConfig(), subaccount=ACCOUNT)
    digest = desk.order()
    assert (await blind.resolve(digest, 4, 0.05)).kind is OutcomeKind.UNKNOWN
    assert not await blind.settle(digest, 4, 0.05)
    assert not await blind.wait_archived([4], START_MS, 0.05)
    await blind.confirm_ends()
    await blind.reread(digest, 4)
    desk.tracker.on_resting(digest, SIZE)
    assert (await blind.resolve(digest, 4, 0.05)).path == "stream"


async def test_the_end_of_an_order_is_confirmed_by_the_book() -> None:
    """One source alone makes nobody forget an order."""
    desk = Desk(Truth())
    digest = desk.order()
    record = desk.tracker.get(digest)
    assert record is not None
    desk.tracker.on_resting(digest, SIZE)
    desk.tracker.on_archived(digest, 0)
    desk.tracker.on_cancelled(digest, None)
    assert (record.state, record.is_gone) == (OrderState.CANCELLED, False)
    desk.truth.resting = models.OpenOrder(digest, 4, ACCOUNT, PRICE, SIZE, SIZE, 1, 1, 1, "x", 1)
    await desk.resolver.confirm_ends()
    assert not record.is_gone  # it rests: the source was wrong
    desk.truth.resting = None
    await desk.resolver.confirm_ends()
    await desk.resolver.confirm_ends()
    assert record.is_gone
    assert desk.tracker.ends_in_doubt() == []


async def test_an_end_in_a_gap_has_its_last_word_once_nothing_can_come() -> None:
    desk = Desk(Truth())
    digest = desk.order()
    record = desk.tracker.get(digest)
    assert record is not None
    desk.tracker.on_resting(digest, SIZE)
    desk.tracker.on_gap()
    desk.tracker.on_cancelled(digest, None)
    for _ in range(3):
        await desk.resolver.confirm_ends()
    assert (record.is_gone, record.is_settled) == (True, False)
    desk.pass_ms(800)
    await desk.resolver.confirm_ends()
    assert record.is_settled
    asked = len(desk.truth.asked)
    await desk.resolver.confirm_ends()
    assert len(desk.truth.asked) == asked


async def test_a_fill_in_a_gap_is_known_by_the_last_word_and_told_by_nobody_but_its_source() -> None:
    """Whoever books fills hears of them from the stream or the archive: here they would be passed by."""
    desk = Desk(Truth(balance=balance_after(1)))
    digest = desk.order()
    record = desk.tracker.get(digest)
    assert record is not None
    desk.truth.matches = [match(digest, 5, balance_after(1))]
    desk.tracker.on_resting(digest, SIZE)
    desk.tracker.on_gap()
    desk.tracker.on_cancelled(digest, None)
    desk.pass_ms(800)
    await desk.resolver.confirm_ends()
    assert (record.known_filled_x18, record.filled_x18, record.is_settled) == (SIZE, 0, False)
    asked = len(desk.truth.asked)
    await desk.resolver.confirm_ends()
    assert len(desk.truth.asked) == asked
    desk.tracker.on_fill(fill(digest, 5))
    assert record.is_settled


async def test_a_question_is_shared_and_outlives_its_first_asker() -> None:
    gate, asked = asyncio.Event(), []

    async def ask(keys: Collection[int]) -> Mapping[int, int]:
        asked.append(set(keys))
        await gate.wait()
        if 13 in keys:
            raise ExchangeError(1000, "no")
        return {key: key * 10 for key in keys}

    question: SharedQuestion[int, int] = SharedQuestion(ask)
    first = asyncio.ensure_future(question.get(1))
    await until(lambda: asked, "the first question")
    others = [asyncio.ensure_future(question.get(key)) for key in (2, 3)]
    await asyncio.sleep(0)
    first.cancel()
    gate.set()
    assert await asyncio.gather(*others) == [20, 30]
    assert asked == [{1}, {2, 3}]
    with pytest.raises(NadoError):
        await question.get(13)
    gate.clear()
    last = asyncio.ensure_future(question.get(4))
    await until(lambda: len(asked) == 4, "the last question")
    await question.stop()
    with pytest.raises(NotConnected):
        await last


@pytest.mark.parametrize("looks", [1, 2])
async def test_whoever_waits_for_his_turn_is_not_forgotten_by_the_end(looks: int) -> None:
    gate, asked = asyncio.Event(), []

    async def ask(keys: Collection[int]) -> Mapping[int, int]:
        asked.append(set(keys))
        await gate.wait()
        return dict.fromkeys(keys, 7)

    question: SharedQuestion[int, int] = SharedQuestion(ask)
    under_way = asyncio.ensure_future(question.get(1))
    await until(lambda: asked, "the first question")
    next_one = asyncio.ensure_future(question.get(2))
    for _ in range(looks):  # after the first one its task has not begun
        await asyncio.sleep(0)
    await question.stop()
    async with asyncio.timeout(5):
        for waiting in (under_way, next_one):
            with pytest.raises(NotConnected):
                await waiting
        gate.set()
        assert await question.get(3) == 7  # it may be asked again
    assert asked == [{1}, {3}]


async def test_what_the_archive_cannot_say_proves_nothing() -> None:
    desk = Desk(Truth(newest_s=START_MS))

    async def broken() -> int:
        raise NotConnected("down")

    desk.truth.archive_newest_s = broken  # type: ignore[method-assign]
    desk.truth.balance = balance_after(1)
    completeness = Completeness(desk.truth, desk.tracker, ACCOUNT)  # type: ignore[arg-type]
    assert not await completeness.shows_all([4], START_MS)
    assert not await completeness.shows_all([8], START_MS)  # a product without a balance


async def test_the_last_word_waits_until_nothing_can_be_added() -> None:
    """It rested and is gone; the balance says that a fill is missing, and the archive comes to show it."""
    desk = Desk(Truth())
    digest = desk.order()
    desk.tracker.on_resting(digest, SIZE)
    desk.tracker.on_gap()
    desk.truth.balance = balance_after(1)
    desk.pass_ms(800)
    assert not await desk.resolver.settle(digest, 4, 0.05)
    asking = asyncio.ensure_future(desk.resolver.settle(digest, 4, 5))
    await until(lambda: "archive" in desk.truth.asked, "a look")
    desk.truth.matches = [match(digest, 9, balance_after(1))]
    assert await asking
    record = desk.tracker.get(digest)
    assert record is not None
    assert (record.state, record.filled_x18, record.fee_x18) == (OrderState.FILLED, SIZE, FEE)


async def test_fills_are_read_page_by_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resolver_module, "_PAGE", 2)
    desk = Desk(Truth(balance=balance_after(1)))
    digest = desk.order()
    others = [match("0x" + "33" * 32, index, balance_after(1)) for index in range(10, 15)]
    desk.truth.matches = [match(digest, 9, balance_after(1)), *others]
    desk.pass_ms(800)
    assert await desk.resolved(digest) is OutcomeKind.CONFIRMED
    assert await desk.resolver.settle(digest, 4, 5)
    monkeypatch.setattr(resolver_module, "_MAX_PAGES", 1)
    lost = desk.order(2)
    desk.truth.matches = [match(lost, 8, balance_after(1)), *others]
    assert await desk.resolved(lost) is OutcomeKind.CONFIRMED
    assert not await desk.resolver.settle(lost, 4, 0.05)  # more than one look reads; it is not passed over
    assert desk.tracker.get(lost).known_filled_x18 == SIZE  # type: ignore[union-attr]


async def test_a_match_with_two_entries_on_two_pages_is_read_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resolver_module, "_PAGE", 2)
    desk = Desk(Truth(balance=balance_after(1)))
    digest = desk.order()
    others = [match("0x" + "33" * 32, index, balance_after(1)) for index in (10, 9)]
    desk.truth.matches = [*others, match(digest, 9, balance_after(1)), match("0x" + "44" * 32, 8, None)]
    desk.pass_ms(800)
    assert await desk.resolved(digest) is OutcomeKind.CONFIRMED
    assert await desk.resolver.settle(digest, 4, 0.5)


async def test_waiting_for_a_moment_and_for_the_archive_to_reach_it() -> None:
    desk = Desk(Truth(balance=balance_after(1)))
    assert await desk.resolver.wait_past(START_MS - 10, 1)
    assert not await desk.resolver.wait_past(START_MS + 500, 0.02)
    assert not await desk.resolver.wait_archived([4], START_MS - 10, 0.03)
    waiting = asyncio.ensure_future(desk.resolver.wait_archived([4], START_MS - 10, 5))
    await asyncio.sleep(0)
    desk.truth.newest_s = START_MS // 1000 + 1
    assert await waiting
    desk.timesync = desk.resolver._timesync = TimeSync(clock_ns=desk.clock, wall_ns=desk.clock)
    assert not await desk.resolver.wait_past(START_MS - 10, 0.02)  # no clock, no moment


async def test_what_an_answer_without_http_cannot_refresh() -> None:
    desk = Desk(Truth())
    blind = OrderResolver(desk.tracker, desk.timesync, None, ResolverConfig(), subaccount=ACCOUNT)
    desk.tracker.on_resting(desk.order(), SIZE)
    await blind.refresh()
    assert desk.truth.asked == []
