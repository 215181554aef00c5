"""A start that holds something asks the archive beside the trading: when it may, and until when."""

from __future__ import annotations

from collections.abc import Collection, Coroutine
from dataclasses import dataclass, field
from typing import Any

import pytest

from bot import recovery as recovery_module
from bot.ledger import Ledger
from bot.recovery import Recovery, take_stock
from nadofast import OrderState, OrderTracker, OrderType, TimeSample, TimeSync, models, to_x18
from nadofast.errors import ExchangeError, NadoError, NotConnected
from nadofast.signing import make_nonce, pack_appendix

ETH = 4
PRICE, SIZE = to_x18(3000), to_x18("0.1")
NOW_MS = 1_790_000_000_000
GONE, RESTING = "0x01", "0x02"


def fields(digest: str, discard_ms: int) -> dict[str, Any]:
    return {
        "digest": digest, "product_id": ETH, "sender": "0xa", "price_x18": PRICE, "amount_x18": SIZE,
        "expiration_s": 2_000_000_000, "nonce": make_nonce(discard_ms, 1),
        "appendix": pack_appendix(OrderType.POST_ONLY), "client_id": None,
    }  # fmt: skip


def match(digest: str, base_x18: int) -> models.ArchivedMatch:
    return models.ArchivedMatch(
        digest, "0xa", ETH, PRICE, base_x18, base_x18, 0, 0, 7, False, False, 0, 1, SIZE
    )


@dataclass
class World:
    """What books and archive say, a position that stands, and the questions of a start about them."""

    discard_ms: dict[str, int]
    unfilled_x18: int | None = None
    failures: list[NadoError] = field(default_factory=list)
    is_behind: int = 0
    waited_ms: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.tracker = OrderTracker()
        timesync = TimeSync(clock_ns=lambda: 10**12, wall_ns=lambda: NOW_MS * 10**6)
        timesync.update(TimeSample(10**12, 10**12, NOW_MS))
        found: Any = type("Found", (), {"unfinished": [fields(*item) for item in self.discard_ms.items()]})
        me: Any = self
        self.recovery = Recovery(
            found, journal=me, tracker=self.tracker, gateway=me, timesync=timesync, rest=me, subaccount="0xa",
            product_ids=(ETH,),
        )  # fmt: skip

    def note(self, order: object) -> None: ...

    def record(self, order: object) -> None: ...

    def position_x18(self, product_id: int) -> int:
        return SIZE

    async def read(self, *, with_isolated: bool) -> World:
        return self

    async def wait_past(self, when_ms: int, timeout_s: float) -> bool:
        self.waited_ms.append(when_ms)
        return when_ms < NOW_MS

    async def wait_archive(self, product_ids: Collection[int], when_ms: int, timeout_s: float) -> bool:
        self.is_behind -= 1
        return self.is_behind < 0

    async def subaccount_orders(self, subaccount: str, product_id: int) -> list[models.OpenOrder]:
        if self.unfilled_x18 is None:
            return []
        row = {name: value for name, value in fields(RESTING, NOW_MS).items() if name != "client_id"}
        return [models.OpenOrder(**row, unfilled_x18=self.unfilled_x18, order_type="", placed_at_s=0)]

    async def archive_orders(self, digests: list[str]) -> list[models.ArchivedOrder]:
        if self.failures:
            raise self.failures.pop(0)
        return []

    async def archive_matches(self, *_: object, **__: object) -> list[models.ArchivedMatch]:
        return [match(RESTING, SIZE // 4)]

    async def start(self) -> Coroutine[Any, Any, object] | None:
        me: Any = self
        return await take_stock(self.recovery, me, Ledger((ETH,)), 1.0)


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recovery_module, "FIRST_PAUSE_S", 0.0)


async def test_fills_before_the_start_of_an_order_that_rests_are_told_before_the_ledger_starts() -> None:
    world = World({GONE: NOW_MS - 5_000, RESTING: NOW_MS - 5_000}, unfilled_x18=SIZE - SIZE // 4)
    assert await world.start() is None
    told = world.tracker.fills_after(ETH, -1)
    assert told is not None
    assert [fill.order_digest for fill in told] == [RESTING]


async def test_those_of_an_order_that_is_taken_over_are_told_too() -> None:
    world = World({GONE: NOW_MS - 5_000}, unfilled_x18=SIZE - SIZE // 4)
    world.recovery.adopt_foreign = True
    assert await world.start() is None
    assert len(world.tracker.fills_after(ETH, -1) or ()) == 1


async def test_the_archive_is_asked_until_it_has_told_every_end() -> None:
    """Behind for one question, then away for two."""
    lost = [NotConnected("archive"), NotConnected("archive")]
    world = World({GONE: NOW_MS - 5_000, RESTING: NOW_MS - 5_000}, unfilled_x18=SIZE, failures=lost)
    left = await world.start()
    assert left is not None
    world.is_behind = 1
    await left
    assert world.failures == []
    gone = world.tracker.get(GONE)
    assert gone is not None
    assert gone.state is OrderState.REJECTED


async def test_what_asking_again_does_not_mend_is_raised() -> None:
    world = World({GONE: NOW_MS - 5_000}, failures=[ExchangeError(2024, "no such account")])
    left = await world.start()
    assert left is not None
    with pytest.raises(ExchangeError):
        await left


async def test_an_order_that_may_still_arrive_keeps_no_other_from_its_end() -> None:
    """Nor is one waited for whose discard time is beyond the deadline."""
    soon, far = "0x03", "0x04"
    world = World({GONE: NOW_MS - 5_000, soon: NOW_MS + 1_000, far: NOW_MS + 60_000})
    await world.recovery.look(timeout_s=15.0)
    assert [order.digest for order in world.recovery.gone] == [GONE]
    held_ms = recovery_module.HELD_MS
    assert world.waited_ms == [NOW_MS - 5_000 + held_ms, NOW_MS + 1_000 + held_ms]
