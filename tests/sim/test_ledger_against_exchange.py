"""The bot's ledger against the exchange's own accounts, over random trading days: equal to the last unit.

The ledger hears what a client hears (fills, funding payments, position changes) and the reconciler reads what
a client can read. Cross and isolated positions, funding, settlement, liquidation and auto-deleveraging.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Any
from unittest import mock

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simcore import ETH, SOL, Trader
from tradingday import Day

from bot import reconcile
from bot.ledger import Ledger
from bot.reconcile import Reconciled, Reconciler
from nadofast import models, parse
from nadofast.events import FillEvent, FundingPaymentEvent, PositionChangeEvent
from nadofast.orders import OrderTracker
from nadosim.errors import ExchangeError

ACTIONS = 80
KINDS = {
    "house": 12,
    "cross": 8,
    "isolated": 6,
    "cancel": 1,
    "funding": 3,
    "oracle": 3,
    "settle": 2,
    "seize": 1,
}
DUST = "funding truncated at a takeover"
MARKS = {ETH: 3000 * 10**18, SOL: 140 * 10**18}


class Queries:
    """What the reconciler asks, answered by the exchange core in this process."""

    def __init__(self, day: Day) -> None:
        self._exchange = day.sim.exchange

    def _ask(self, what: str, **fields: Any) -> Any:
        return orjson.loads(orjson.dumps(self._exchange.query({"type": what, **fields})))

    async def subaccount_info(self, subaccount: str) -> models.SubaccountInfo:
        return models.subaccount_info(self._ask("subaccount_info", subaccount=subaccount))

    async def isolated_positions(self, subaccount: str) -> list[models.IsolatedPosition]:
        return models.isolated_positions(self._ask("isolated_positions", subaccount=subaccount))

    async def all_products(self) -> dict[int, models.PerpProduct]:
        return models.perp_products(self._ask("all_products"))

    async def archive_matches(self, *arguments: Any, **options: Any) -> list[models.ArchivedMatch]:
        return []


class Books:
    """One trader's ledger, fed with that trader's events."""

    def __init__(self, day: Day, trader: Trader) -> None:
        self.day, self.trader = day, trader
        self.ledger = Ledger((ETH, SOL))
        rest: Any = Queries(day)
        gateway: Any = None
        self.reconciler = Reconciler(
            rest, gateway, self.ledger, OrderTracker(), subaccount=trader.sender, product_ids=(ETH, SOL)
        )
        self._seen = 0
        self.takeovers = 0
        asyncio.run(self._start())

    async def _start(self) -> None:
        self._seen = len(self.day.sim.steps)
        await self.reconciler.start(MARKS)
        accounts = [self.ledger.account(p) for p in (ETH, SOL)]
        self.opened = sum(bool(m.position_x18) for a in accounts for m in (a.cross, a.isolated))

    def hear(self, *, loses_funding: bool = False) -> None:
        """Take in what happened since; loses_funding: the link was down when payments were told."""
        for step in self.day.sim.steps[self._seen :]:
            told = [event for owner, event in step.private if owner == self.trader.sender]
            for event in (*step.public, *told):
                self._take(parse(orjson.dumps(event)), loses_funding)
        self._seen = len(self.day.sim.steps)

    def _take(self, event: Any, loses_funding: bool) -> None:
        if isinstance(event, FillEvent):
            self.ledger.apply(event)
        elif isinstance(event, FundingPaymentEvent) and not loses_funding:
            self.ledger.on_funding(event)
        elif isinstance(event, PositionChangeEvent):
            self.reconciler.on_position_change(event)

    def verify(self) -> Reconciled:
        return asyncio.run(self.reconciler.verify(MARKS))

    def gap_x18(self) -> int:
        holdings = asyncio.run(self.reconciler.read(with_isolated=True))
        gap_x18 = self.reconciler.cash_gap_x18(holdings.cash_x18((ETH, SOL)))
        assert gap_x18 is not None
        return gap_x18

    def is_equal(self) -> bool:
        holdings = asyncio.run(self.reconciler.read(with_isolated=True))
        return self.gap_x18() == 0 and all(
            holdings.position_x18(p) == self.ledger.position_x18(p) for p in (ETH, SOL)
        )


@pytest.fixture(autouse=True)
def no_waiting() -> Iterator[None]:
    """Nothing is on its way here: every event was heard."""
    with mock.patch.object(reconcile, "FILLS_POLLS", 0):
        yield


def act(day: Day) -> str:
    kind = day.rng.choices(list(KINDS), weights=list(KINDS.values()))[0]
    day.sim.clock.advance_ns(day.rng.randrange(200_000_000))
    with contextlib.suppress(ExchangeError):
        if kind == "seize":
            day.sim.exchange.seize(day.rng.choice(day.traders).sender, day.rng.choice([ETH, SOL]))
        elif kind == "cross":  # without builder codes: the bot sends none
            product_id = day.rng.choice([ETH, SOL])
            day._place(day.rng.choice(day.traders), product_id, day.rng.choice([1, 513, 1025, 1537, 2561]))
        else:
            getattr(day, f"_{kind}")()
    return kind


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32), joins_at=st.integers(0, 40))
def test_any_history_ends_with_the_exchange_s_own_figures(seed: int, joins_at: int) -> None:
    """From flat, and from the middle of a day with positions open; after every single step."""
    day = Day(seed)
    for _ in range(joins_at):
        act(day)
    books = [Books(day, trader) for trader in day.traders]
    for _ in range(ACTIONS):
        act(day)
        for one in books:
            one.hear()
            if one.is_equal():
                continue
            gap_x18 = one.gap_x18()
            seen = one.verify()  # only the exchange's own hand may have moved a position without a fill
            if any(seen.drifts_x18):
                assert seen.explained_by == "liquidate_subaccount", (seed, seen)
            else:  # open before the books began: where their funding was last truncated is unknown
                assert abs(gap_x18) <= one.opened + one.takeovers, (seed, gap_x18)
            assert seen.cash_gap_x18 == 0
            assert one.is_equal()
            one.takeovers += 2 * any(seen.drifts_x18)
    assert all(one.reconciler.unexplained_x18 == 0 for one in books)
    named = [one.ledger.taken_over.reasons for one in books]
    assert all(set(reasons) <= {"liquidate_subaccount", DUST} for reasons in named)


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_payments_missed_are_found_with_the_next_question(seed: int) -> None:
    """A position that stood through a payment nobody told us of: the cumulative values say what it was."""
    day = Day(seed)
    for _ in range(60):
        act(day)
    one = Books(day, day.traders[0])
    day.sim.exchange.pay_funding(ETH, 10**16 + seed)
    day.sim.exchange.pay_funding(SOL, -(10**15) - seed)
    one.hear(loses_funding=True)
    seen = one.verify()
    assert seen.cash_gap_x18 == 0
    assert not any(seen.drifts_x18)
    assert one.reconciler.unexplained_x18 == 0
    assert one.is_equal()


def test_the_days_reach_what_they_claim_to_cover() -> None:
    found: dict[str, int] = dict.fromkeys(("isolated", "funding", "liquidation", "fills"), 0)
    for seed in range(8):
        day = Day(seed)
        books = Books(day, day.traders[0])
        for _ in range(2 * ACTIONS):
            act(day)
            books.hear()
            if not books.is_equal():
                found["liquidation"] += 1
                books.verify()
            accounts = [books.ledger.account(p) for p in (ETH, SOL)]
            found["isolated"] += any(a.isolated.position_x18 for a in accounts)
            found["funding"] += any(a.booked_funding_x18 for a in accounts)
            found["fills"] += sum(a.fills for a in accounts)
    assert all(found.values()), found


def test_money_from_elsewhere_is_named_once_and_nothing_else_is_lost() -> None:
    day = Day(1)
    one = Books(day, day.traders[0])
    day.sim.exchange.fund(one.trader.sender, 7 * 10**18)
    one.hear()
    assert one.verify().cash_gap_x18 == 7 * 10**18
    assert one.verify().cash_gap_x18 == 0
    assert one.reconciler.unexplained_x18 == 7 * 10**18
    assert one.ledger.cash_x18 == 0
