"""After a start: the journal's orders are asked for, those of others left alone or taken over."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from clientkit import FAST_LINK, Venue

from bot import recovery
from bot.journal import Journal, read
from bot.recovery import Recovered, Recovery
from nadofast import (
    GatewayConfig,
    OrderGateway,
    OrderRequest,
    OrderState,
    OrderTracker,
    OrderType,
    OutcomeKind,
    TrackedOrder,
    to_x18,
)

ETH = 4
SIZE = to_x18("0.1")


async def sent(venue: Venue, kind: OrderType, **options: Any) -> str:
    """The digest of an order of another process, and of another journal or none."""
    book = await venue.rest.market_liquidity(ETH, depth=1)
    touch, percent = (book.asks[0][0], 101) if kind is OrderType.IOC else (book.bids[0][0], 97)
    price = venue.products[ETH].round_price(touch * percent // 100, "up")
    async with venue.gateway(config=GatewayConfig(link=FAST_LINK), **options) as gateway:
        outcome = await gateway.place(OrderRequest(ETH, price, SIZE, kind))
        assert outcome.is_confirmed
        return outcome.digest


async def recovered(venue: Venue, path: Path, **options: Any) -> tuple[Recovered, OrderTracker]:
    tracker = venue.tracker = OrderTracker()
    async with venue.gateway() as gateway:
        with Journal(path, account="a") as journal:
            tracker.on_change(journal.note)
            asking = Recovery(
                journal.found, journal=journal, tracker=tracker, gateway=gateway, timesync=venue.timesync,
                rest=venue.rest, subaccount=venue.subaccount, product_ids=(ETH,), **options,
            )  # fmt: skip
            await asking.look(timeout_s=10.0)
            found = await asking.ask_archive()
            await _end(gateway, tracker)
            return found, tracker


async def _end(gateway: OrderGateway, tracker: OrderTracker) -> None:
    for order in tracker.live():
        assert (await gateway.cancel(ETH, order.digest)).is_confirmed
        assert await gateway.settle(order.digest, ETH, 10)  # a copy of it may have been on its way


@pytest.mark.parametrize("adopts", [False, True])
async def test_orders_of_others_are_left_alone_or_taken_over(
    venue: Venue, tmp_path: Path, adopts: bool
) -> None:
    digest = await sent(venue, OrderType.POST_ONLY)
    found, tracker = await recovered(venue, tmp_path / "j", adopt_foreign=adopts)
    assert [row.digest for row in found.foreign] == [digest]
    assert [order.digest for order in found.adopted] == [digest] * adopts
    rests = await venue.rest.subaccount_orders(venue.subaccount, ETH)
    assert len(rests) == (not adopts)
    assert len(tracker) == adopts
    journal = read(tmp_path / "j")
    assert list(journal.intents) == list(journal.ends) == [digest] * adopts


async def test_ends_of_a_former_process_are_found_page_by_page(
    venue: Venue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recovery, "PAGE", 1)
    with Journal(tmp_path / "j", account="a") as journal:
        taken = [await sent(venue, OrderType.IOC, before_send=journal.record) for _ in range(3)]
        resting = await sent(venue, OrderType.POST_ONLY, before_send=journal.record)
    assert [fields["digest"] for fields in read(tmp_path / "j").unfinished] == [*taken, resting]
    found, tracker = await recovered(venue, tmp_path / "j")
    assert [order.digest for order in found.finished] == taken
    assert [order.digest for order in found.resting] == [resting]
    assert found.unknown == found.foreign == ()
    assert all(order.filled_x18 == SIZE for order in found.finished)
    ends = read(tmp_path / "j").ends
    assert {digest: int(end["filled_x18"]) for digest, end in ends.items()} == {
        **dict.fromkeys(taken, SIZE),
        resting: 0,
    }
    assert tracker.live() == []


async def test_a_history_longer_than_one_recovery_reads_stays_unsettled(
    venue: Venue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recovery, "PAGE", 1)
    monkeypatch.setattr(recovery, "MAX_PAGES", 1)
    with Journal(tmp_path / "j", account="a") as journal:
        for _ in range(2):
            await sent(venue, OrderType.IOC, before_send=journal.record)
    found, _ = await recovered(venue, tmp_path / "j")
    assert sorted(order.is_settled for order in found.finished) == [False, True]
    assert len(read(tmp_path / "j").ends) == 1  # the other one is asked about at the next start


async def test_an_order_that_was_written_down_and_never_left_is_refused_by_its_absence(
    venue: Venue, tmp_path: Path
) -> None:
    """Killed between the journal and the socket, beside one that filled: nobody has seen the first."""
    with Journal(tmp_path / "j", account="a") as journal:

        def killed(order: TrackedOrder) -> None:
            journal.record(order)
            raise OSError("the process ends here")

        filled = await sent(venue, OrderType.IOC, before_send=journal.record)
        async with venue.gateway(config=GatewayConfig(link=FAST_LINK), before_send=killed) as gateway:
            outcome = await gateway.place(OrderRequest(ETH, to_x18(3000), SIZE, OrderType.IOC))
        assert outcome.kind is OutcomeKind.DENIED
    found, tracker = await recovered(venue, tmp_path / "j")
    states = {order.digest: order.state for order in found.finished}
    assert states == {filled: OrderState.FILLED, outcome.digest: OrderState.REJECTED}
    assert found.resting == found.unknown == ()
    assert read(tmp_path / "j").ends[outcome.digest]["state"] == OrderState.REJECTED.value
    assert tracker.live() == []
