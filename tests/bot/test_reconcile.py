"""Ledger against exchange: fills on their way, fills only the archive knows, and what is taken over."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

import pytest
from test_ledger import SUB, fill

from bot.ledger import Ledger
from bot.reconcile import UNTOLD, Reconciler
from nadofast.backfill import to_fill
from nadofast.errors import ExchangeError, RequestTimeout
from nadofast.models import ArchivedMatch, IsolatedPosition, PerpBalance, SubaccountInfo
from nadofast.orders import OrderTracker, OutcomeFacts, TrackedOrder
from nadofast.products import mul_x18, to_x18
from nadofast.signing import Signer
from nadofast.wire import Code

SIGNER = Signer("0x" + "2b" * 32, chain_id=1, endpoint_address="0x" + "00" * 20)
MARKS = {4: to_x18(3000), 8: to_x18(140)}


@dataclass
class Exchange:
    """The three queries the reconciler makes."""

    positions: dict[int, int]
    matches: list[ArchivedMatch] = field(default_factory=list)
    archive_fails: bool = False
    isolated: list[IsolatedPosition] = field(default_factory=list)
    cash: int = 0
    asked: int = 0
    oracle: dict[int, int] = field(default_factory=dict)

    async def subaccount_info(self, subaccount: str) -> SubaccountInfo:
        self.asked += 1
        perp = {p: PerpBalance(p, amount, to_x18(-5), 0) for p, amount in self.positions.items()}
        quote = to_x18(1000) + self.cash
        return SubaccountInfo(subaccount, True, quote, {}, perp, self.oracle, (0, 0, to_x18(990)))

    async def isolated_positions(self, subaccount: str) -> list[IsolatedPosition]:
        return self.isolated

    async def all_products(self) -> dict[int, Any]:
        return {}

    async def archive_matches(self, subaccount: str, ids: tuple[int, ...], limit: int) -> list[ArchivedMatch]:
        if self.archive_fails:
            raise RequestTimeout("archive: no answer")
        return self.matches


def match(digest: str, amount: str, price: str, fee_x18: int) -> ArchivedMatch:
    base, price_x18 = to_x18(amount), to_x18(price)
    return ArchivedMatch(
        digest=digest, sender=SUB, product_id=4, price_x18=price_x18, cumulative_base_x18=base,
        base_filled_x18=base, quote_filled_x18=-mul_x18(base, price_x18) - fee_x18, fee_x18=fee_x18,
        submission_idx=9, is_taker=True, isolated=False, timestamp_s=1, appendix=1, amount_x18=base,
    )  # fmt: skip


def signed(amount: str, nonce: int = 1) -> Any:
    return SIGNER.sign_order(
        product_id=4,
        price_x18=to_x18(3000),
        amount_x18=to_x18(amount),
        expiration_s=2,
        nonce=nonce,
        appendix=1,
    )


def make(exchange: Exchange) -> tuple[Reconciler, Ledger, OrderTracker]:
    ledger, tracker = Ledger((4, 8)), OrderTracker()
    nothing: Any = None
    rest: Any = exchange
    return Reconciler(rest, nothing, ledger, tracker, subaccount=SUB, product_ids=(4, 8)), ledger, tracker


@pytest.fixture
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is on its way, so nothing is waited for."""
    monkeypatch.setattr("bot.reconcile.FILLS_POLLS", 1)


async def test_agreement_costs_one_request() -> None:
    exchange = Exchange({4: 0, 8: 0})
    reconciler, _, _ = make(exchange)
    seen = await reconciler.verify(MARKS)
    assert seen.positions_x18 == (0, 0)
    assert seen.drifts_x18 == (0, 0)
    assert seen.cash_x18 == to_x18(1000) + 2 * to_x18(-5)
    assert exchange.asked == 1


async def test_a_fill_on_its_way_is_waited_for() -> None:
    reconciler, ledger, _ = make(Exchange({4: to_x18("0.042"), 8: 0}))
    asyncio.get_running_loop().call_later(0.03, ledger.apply, fill())
    seen = await reconciler.verify(MARKS)
    assert seen.drifts_x18 == (0, 0)
    assert seen.from_archive == 0


async def test_a_fill_the_stream_never_brought_comes_from_the_archive_with_its_fee() -> None:
    exchange = Exchange({4: to_x18("0.042"), 8: 0})
    reconciler, ledger, tracker = make(exchange)
    order = signed("0.042")
    tracker.register(order)
    quote, fee = mul_x18(to_x18("0.042"), to_x18("3000.1")), to_x18("0.0441")
    exchange.matches = [match(order.digest, "0.042", "3000.1", fee), match("0xforeign", "1", "3000", 0)]
    seen = await reconciler.verify(MARKS)
    assert (seen.from_archive, seen.drifts_x18) == (1, (0, 0))
    assert ledger.account(4).fees_x18 == fee
    assert ledger.account(4).quote_x18 == -quote
    record = tracker.get(order.digest)
    assert record is not None
    assert record.filled_x18 == to_x18("0.042")


async def test_fills_of_a_former_process_are_in_the_first_positions_and_never_booked(hurry: None) -> None:
    """The journal brings its last orders back; a later look into the archive shows their fills once more."""
    exchange = Exchange({4: to_x18("0.042"), 8: 0})
    reconciler, ledger, tracker = make(exchange)
    order = signed("0.042")
    tracker.register(order)
    exchange.matches = [match(order.digest, "0.042", "3000.1", 5)]
    tracker.on_fill(to_fill(exchange.matches[0]))
    await reconciler.start(MARKS)
    exchange.positions[4] = 0  # and now somebody else closes it, so that the archive is asked
    seen = await reconciler.verify(MARKS)
    assert (seen.from_archive, seen.drifts_x18) == (0, (-to_x18("0.042"), 0))
    assert ledger.account(4).fees_x18 == 0


async def test_without_a_price_of_the_market_a_position_starts_at_the_oracle(hurry: None) -> None:
    """A start that only closes does not wait for the streams, and the day's loss goes over restarts."""
    exchange = Exchange({4: to_x18("0.05"), 8: 0}, oracle={4: to_x18(3000)})
    reconciler, ledger, _ = make(exchange)
    await reconciler.start({})
    assert ledger.pnl(MARKS).net_x18 == 0


@pytest.mark.parametrize("archive_fails", [True, False])
async def test_what_nobody_can_explain_is_taken_over(archive_fails: bool) -> None:
    reconciler, ledger, _ = make(Exchange({4: to_x18("0.042"), 8: 0}, archive_fails=archive_fails))
    seen = await reconciler.verify(MARKS)
    assert seen.drifts_x18 == (to_x18("0.042"), 0)
    assert ledger.position_x18(4) == to_x18("0.042")
    assert reconciler.drift_count == 1
    assert ledger.pnl(MARKS).net_x18 == 0


@pytest.mark.parametrize("position", ["0.042", "0.05"])
async def test_a_fill_that_a_takeover_has_booked_is_not_booked_again_when_it_is_told(
    hurry: None, position: str
) -> None:
    """Known to be filled whole, by an update or a reply; its price comes when the archive has caught up. A
    takeover of another size was something else: the fill is booked, and the exchange asked again."""
    exchange = Exchange({4: to_x18(position), 8: 0}, archive_fails=True)
    reconciler, ledger, tracker = make(exchange)
    order = signed("0.042")
    tracker.register(order)
    tracker.on_cancelled(order.digest, 0)
    seen = await reconciler.verify(MARKS)
    assert seen.drifts_x18 == (to_x18(position), 0)
    is_the_fill = position == "0.042"
    assert seen.explained_by == (UNTOLD if is_the_fill else "unknown")
    exchange.archive_fails, exchange.matches = False, [match(order.digest, "0.042", "3000.1", 5)]
    exchange.positions[4] = 0  # somebody closes it, so that the archive is asked
    seen = await reconciler.verify(MARKS)
    assert seen.from_archive == (0 if is_the_fill else 1)
    assert ledger.account(4).fees_x18 == (0 if is_the_fill else 5)
    record = tracker.get(order.digest)
    assert record is not None
    assert record.is_settled


# ---------------------------------------------------------------------- by name


async def test_a_drift_is_measured_told_and_taken_over(hurry: None) -> None:
    """Expected 0.5, the exchange says 0.45: ten per cent, its word wins, and it is a recovery."""
    reconciler, ledger, _ = make(Exchange({4: to_x18("0.45"), 8: to_x18(-10)}))
    ledger.apply(fill(qty="0.5", fee_x18=0))
    ledger.apply(fill(product_id=8, side=-1, qty="10", price="140", fee_x18=0, idx=2))
    report = await reconciler.reconcile_positions(MARKS, {4: to_x18("0.5"), 8: to_x18(10)})
    assert report.position_diff_x18 == {4: -to_x18("0.05"), 8: 0}
    assert report.drift_bps == 1_000
    assert (report.is_synced, report.needs_recovery) == (False, True)
    assert report.explained_by == "unknown"
    assert ledger.position_x18(4) == to_x18("0.45")
    assert report.latency_ms > 0
    again = await reconciler.reconcile_positions(MARKS, {4: to_x18("0.5"), 8: to_x18(10)})
    assert (again.is_synced, again.needs_recovery, again.drift_bps) == (True, False, 0)


@pytest.mark.parametrize(
    ("exchange", "recovers"),
    [("0.495", False), ("0.494999999999999999", True), ("0.505", False), ("0.505000000000000001", True)],
)
async def test_one_per_cent_of_the_order_is_the_bound(hurry: None, exchange: str, recovers: bool) -> None:
    reconciler, ledger, _ = make(Exchange({4: to_x18(exchange), 8: 0}))
    ledger.apply(fill(qty="0.5", fee_x18=0))
    report = await reconciler.reconcile_positions(MARKS, {4: to_x18("0.5")})
    assert report.needs_recovery is recovers


async def test_net_delta_of_equal_notional_is_below_one_per_cent(hurry: None) -> None:
    reconciler, _, _ = make(Exchange({4: to_x18("0.5"), 8: to_x18(-50)}))
    report = await reconciler.reconcile_positions({4: to_x18(3000), 8: to_x18(30)}, {})
    assert report.net_delta_bps == 0
    report = await reconciler.reconcile_positions({4: to_x18(3000), 8: to_x18("30.5")}, {})
    assert 0 < report.net_delta_bps < 100


async def test_isolated_positions_are_exposure_like_any_other(hurry: None) -> None:
    """The parent's cross balance shows zero although the order has filled."""
    exchange = Exchange({4: 0, 8: 0})
    exchange.isolated = [IsolatedPosition("0xiso", 4, to_x18("0.1"), to_x18(-300), to_x18(50))]
    reconciler, ledger, _ = make(exchange)
    await reconciler.start(MARKS)
    assert await reconciler.position_x18(4) == to_x18("0.1")
    assert ledger.position_x18(4) == ledger.isolated_x18(4) == to_x18("0.1")
    exchange.isolated = []
    seen = await reconciler.verify(MARKS)
    assert seen.positions_x18 == (0, 0)
    assert seen.drifts_x18 == (-to_x18("0.1"), 0)


async def test_a_fill_before_the_answer_is_older_than_it_and_rest_wins(hurry: None) -> None:
    """A snapshot that differs with nothing on its way is the truth, whatever the stream has said."""
    reconciler, ledger, _ = make(Exchange({4: 0, 8: 0}))
    ledger.apply(fill())
    seen = await reconciler.verify(MARKS)
    assert ledger.position_x18(4) == 0
    assert seen.drifts_x18[0] == -to_x18("0.042")


def sent(tracker: OrderTracker, nonce: int, replaces: str = "") -> TrackedOrder:
    order = tracker.record_of(signed("-1", nonce))
    order.replaces = replaces
    tracker.adopt(order)
    return order


@pytest.mark.parametrize("has_former", [False, True])
@pytest.mark.parametrize("meanwhile", ["moved", "told"])
async def test_what_the_position_moved_by_while_an_order_was_asked_about_may_be_another_ones(
    meanwhile: str, has_former: bool
) -> None:
    """An order that was not resting any more had moved on, to one that filled; or its end was told."""
    exchange = Exchange({4: to_x18("1"), 8: 0})
    reconciler, ledger, tracker = make(exchange)
    ledger.adopt(4, to_x18("1"), to_x18(3_000), isolated_x18=0)
    former = sent(tracker, 1) if has_former else None
    order = sent(tracker, 2, former.digest if former else "")
    tracker.on_outcome(order.digest, OutcomeFacts(accepted=True))
    if former is not None:
        tracker.on_cancelled(former.digest, to_x18("1"))
    read = exchange.subaccount_info

    async def gone(product_id: int, digest: str) -> Any:
        raise ExchangeError(Code.ORDER_NOT_FOUND, "gone")

    async def late(subaccount: str) -> SubaccountInfo:
        if exchange.positions[4] == to_x18("1"):
            exchange.positions[4] = to_x18("0.6")
            if meanwhile == "moved":
                sent(tracker, 3, order.digest)
            else:
                tracker.on_cancelled(order.digest, to_x18("1"))
        return await read(subaccount)

    vars(exchange).update(order=gone, subaccount_info=late)
    await reconciler.ask(order, beside=former)
    assert order.known_filled_x18 == 0
    assert order.is_terminal is (meanwhile == "told")
