"""Whose doing a change of position is: the reason tells, and where there is none, time does."""

from __future__ import annotations

import pytest

from bot.ledger import Ledger
from bot.positions import ARCHIVE_NS, SETTLE_NS, PositionWatch
from nadofast.events import PositionChangeEvent

X18 = 10**18


def told(reason: str, amount_x18: int = X18) -> PositionChangeEvent:
    return PositionChangeEvent(4, 1, "0x", False, amount_x18, 0, reason)


@pytest.mark.parametrize(("reason", "patience_ns"), [("match_orders", SETTLE_NS), ("rest", ARCHIVE_NS)])
def test_a_match_may_be_ours_until_its_fill_had_time_to_come(reason: str, patience_ns: int) -> None:
    watch = PositionWatch(Ledger((4, 8)), (4, 8), is_ours=lambda _: True)
    watch.on_change(told(reason))
    assert watch.look({4}, 1) is None, "an order of ours is under way"
    assert watch.look(set(), patience_ns - 10) is None
    found = watch.look(set(), patience_ns + 10)
    assert found is not None
    assert not found.is_certain
    assert watch.look(set(), patience_ns * 9) is None, "told once"


def test_a_liquidation_is_certain_at_once() -> None:
    watch = PositionWatch(Ledger((4, 8)), (4, 8), is_ours=lambda _: True)
    watch.on_change(told("liquidate_subaccount"))
    found = watch.look({4}, 1)
    assert found is not None
    assert found.is_certain
