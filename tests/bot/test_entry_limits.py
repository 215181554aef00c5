"""What an entry may not exceed, limit by limit, and each bound from both sides."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from gatekit import LIMITS, World, intent, limited

from bot.maintenance import MaintenanceWindows
from bot.risk import OrderIntent, Purpose, RiskGate, RiskLimits, net_delta_bps
from nadofast.products import to_x18


@pytest.mark.parametrize(
    ("held", "wanted", "passes"),
    [("4.5", "1", False), ("4.5", "0.4", True), ("4.5", "0.5", True), ("4.5", "-1", True),
     ("-4.5", "-0.6", False)],
)  # fmt: skip
def test_coins_per_product(world: World, held: str, wanted: str, passes: bool) -> None:
    world.positions = {4: to_x18(held), 8: -to_x18(held) * 3000 // 140}
    gate = limited(world, max_coins_x18={4: to_x18(5)})
    verdict = gate.pre_trade_check(4, to_x18(wanted), to_x18(3000))
    assert bool(verdict) is passes
    assert [reason.partition(":")[0] for reason in verdict.reasons] == ([] if passes else ["max_position"])
    assert gate.approved == gate.refused == 0
    assert gate.check(intent("0.001", tag=1))  # the question has claimed nothing


def test_coins_in_flight_count_on_their_own_side(world: World) -> None:
    gate = limited(world, max_coins_x18={4: to_x18(5)})
    assert gate.check(intent("3", tag=1))
    assert not gate.check(intent("2.001", tag=2))
    assert gate.check(intent("-5", tag=3))
    gate.expect(1, to_x18(1))
    assert gate.check(intent("4", tag=4))


def test_a_loss_of_the_day_refuses_by_the_limit_and_not_before(world: World) -> None:
    gate = limited(world, daily_loss_x18=to_x18(5))
    world.pnl = -to_x18("5.10")
    verdict = gate.pre_trade_check(4, to_x18("0.01"), to_x18(3000))
    assert not verdict
    assert verdict.reasons[0].startswith("daily_loss")
    world.pnl = -to_x18("4.999999999999999999")
    assert gate.pre_trade_check(4, to_x18("0.01"), to_x18(3000))
    world.pnl = -to_x18(5)
    assert not gate.pre_trade_check(4, to_x18("0.01"), to_x18(3000))


def test_net_delta_is_signed_notional_over_gross_never_coins() -> None:
    marks = {4: to_x18(100), 8: to_x18(100)}
    assert net_delta_bps({4: to_x18(1), 8: -to_x18("0.9")}, marks) == 527  # 10 of 190
    assert net_delta_bps({4: to_x18("0.5"), 8: -to_x18(10)}, {4: to_x18(3000), 8: to_x18(150)}) == 0
    assert net_delta_bps({4: -to_x18(1), 8: to_x18(1)}, marks) == 0
    assert net_delta_bps({4: to_x18(1), 8: to_x18(1)}, marks) == 10_000
    assert net_delta_bps({4: 0, 8: 0}, {}) == 0
    assert net_delta_bps({4: to_x18(1), 8: -to_x18(1)}, {4: to_x18(100)}) == 10_000  # one has no price
    assert net_delta_bps({4: 10**18 + 1, 8: -(10**18)}, marks) == 1  # rounded up, never to nothing


@pytest.mark.parametrize(("sol", "passes", "warns"), [("-0.999", True, False), ("-0.9", True, True),
                                                      ("-0.5", False, True)])  # fmt: skip
def test_an_unbalanced_pair_warns_and_then_blocks_what_would_be_built_on_it(
    world: World, sol: str, passes: bool, warns: bool
) -> None:
    """Ratios 0.05 %, 5 % and 33 %: a line above 1 %, no entry above 10 %."""
    world.marks = {4: to_x18(100), 8: to_x18(100)}
    world.positions = {4: to_x18(1), 8: to_x18(sol)}
    gate = limited(world)
    verdict = gate.pre_trade_check(4, to_x18("0.1"), to_x18(100))
    assert bool(verdict) is passes
    assert bool(verdict.warnings) is warns
    assert bool(gate.delta_warning()) is warns
    assert gate.check(intent("-0.1", Purpose.HEDGE, tag=1, product_id=8, price="100"))  # what mends it may go
    assert gate.check(intent("-0.1", Purpose.TAKE, tag=2, price="100"))


@pytest.mark.parametrize(
    ("limits", "changes", "rule"),
    [
        ({}, {"pnl": -to_x18(10)}, "daily_loss"),
        ({}, {"ages": {4: 5_001, 8: 5}}, "quote_age"),
        ({"max_clock_offset_ms": 50.0}, {"offset_ms": 51.0}, "clock"),
        ({"max_clock_offset_ms": 50.0}, {"offset_ms": None}, "clock"),
        ({"windows": MaintenanceWindows()}, {"utc_s": None}, "maintenance"),
        ({"max_coins_x18": {4: to_x18("0.01")}}, {}, "max_position"),
        ({"max_leg_x18": to_x18(50)}, {}, "max_leg"),
        ({"max_gross_x18": to_x18(50)}, {}, "max_gross"),
    ],
)
def test_what_is_left_of_an_entry_is_bound_by_whatever_bounds_a_loss(
    world: World, limits: dict[str, object], changes: dict[str, object], rule: str
) -> None:
    """The other leg stands alone: it is unwound when this one is refused, and the way out is always free."""
    world.positions[8] = -to_x18("0.9")
    for name, value in changes.items():
        setattr(world, name, value)
    gate = RiskGate(replace(LIMITS, **limits), world.view)  # type: ignore[arg-type]
    refused = gate.check(intent("0.042", Purpose.HEDGE, tag=1))
    assert [reason.partition(":")[0] for reason in refused.reasons] == [rule]
    assert gate.check(intent("0.9", Purpose.TAKE, tag=2, product_id=8, price="140"))


def test_what_is_left_of_an_entry_is_free_of_what_paces_beginnings(world: World) -> None:
    """A budget of orders that is used up, and a pair out of balance, are reasons to complete it at once."""
    gate = limited(world, max_orders_per_min=1, max_builds_per_min=1)
    assert gate.check(intent("0.042", tag=1))
    gate.release(1)
    world.positions[4] = to_x18("0.042")
    refused = gate.check(intent("-0.9", tag=2, product_id=8, price="140"))
    assert {reason.partition(":")[0] for reason in refused.reasons} == {"order_rate", "net_delta"}
    assert gate.check(intent("-0.9", Purpose.HEDGE, tag=3, product_id=8, price="140"))
    gate.halt("a test")
    assert "halted" in gate.check(intent("-0.1", Purpose.HEDGE, tag=4, product_id=8, price="140")).reasons[0]


def test_orders_and_builds_of_a_minute(world: World) -> None:
    gate = limited(world, max_orders_per_min=5, max_builds_per_min=2)
    for tag in (1, 2):
        assert gate.check(intent("0.001", tag=tag))
        assert gate.check(intent("-0.01", tag=10 + tag, product_id=8, price="140"))
        world.now_ns += 10**9
    assert "build_rate" in gate.check(intent("0.001", tag=3)).reasons[0]
    assert "build_rate" in gate.pause_reason()
    assert gate.check(intent("0.001", Purpose.HEDGE, tag=4))
    world.now_ns = 60 * 10**9 - 1
    assert "order_rate" in gate.check(intent("0.001", tag=5)).reasons[0]
    world.positions[4] = to_x18("0.1")
    assert gate.check(intent("-0.1", Purpose.TAKE, tag=6, price="2900"))  # an exit always
    world.positions[4] = 0
    world.now_ns = 121 * 10**9
    assert gate.pause_reason() == ""
    assert gate.check(intent("0.001", tag=7))


@pytest.mark.parametrize(
    ("offset_ms", "passes"), [(None, False), (900.0, True), (-1_100.0, False), (1_100.0, False)]
)
def test_the_clock_has_to_be_known_and_right(world: World, offset_ms: float | None, passes: bool) -> None:
    world.offset_ms = offset_ms
    decision = limited(world, max_clock_offset_ms=1_000.0).check(intent("0.001"))
    assert bool(decision) is passes
    assert passes or decision.reasons[0].startswith("clock")


@pytest.mark.parametrize(
    ("text", "is_open"),
    [
        ("2026-11-23 13:54:59", True), ("2026-11-23 13:55:00", False), ("2026-11-23 14:00:00", False),
        ("2026-11-23 14:09:59", False), ("2026-11-23 14:10:00", True), ("2026-11-24 14:00:00", True),
        ("2026-11-26 14:05:00", False), ("2026-11-25 14:05:00", True),
    ],
)  # fmt: skip
def test_maintenance_windows_with_their_margin(world: World, text: str, is_open: bool) -> None:
    world.utc_s = datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()
    gate = limited(world, windows=MaintenanceWindows())
    assert bool(gate.check(intent("0.001"))) is is_open
    assert ("maintenance window of" in gate.pause_reason()) is not is_open
    world.positions[4] = to_x18("0.042")
    assert gate.check(intent("-0.042", Purpose.TAKE, tag=2, price="2900"))


def test_a_margin_reaches_back_over_midnight() -> None:
    windows = MaintenanceWindows(weekdays=(0,), hour_utc=0, length_s=60, margin_s=600)
    sunday = datetime(2026, 11, 22, 23, 50, tzinfo=UTC).timestamp()
    assert windows.reason(sunday - 1) == ""
    assert windows.reason(sunday)
    assert windows.reason(sunday + 659)
    assert windows.reason(sunday + 660) == ""


def test_an_unknown_time_closes_the_windows(world: World) -> None:
    decision = limited(world, windows=MaintenanceWindows()).check(intent("0.001"))
    assert not decision
    assert decision.reasons[0].startswith("maintenance")


def test_what_no_order_can_close_blocks_no_entry_up_to_its_limit(world: World) -> None:
    """A residual alone is all delta and no pair: it may be built on while it is worth what may be carried."""
    gate = limited(world, max_residual_x18=to_x18(60))
    for held, passes in (("0.02", True), ("-0.02", True), ("0.020000000000000001", False)):
        world.positions = {4: to_x18(held), 8: 0}
        assert bool(gate.check(intent("-0.9", tag=1, product_id=8, price="140"))) is passes
        gate.release(1)
    world.positions = {4: to_x18("0.01"), 8: to_x18("0.3")}  # 30 and 42: together more
    assert gate.check(intent("-0.9", product_id=8, price="140")).reasons[0].startswith("net_delta: 10000 bps")
    world.positions, world.marks = {4: to_x18("0.01"), 8: 0}, {8: to_x18(140)}  # worth nobody knows what
    assert gate.check(intent("-0.9", product_id=8, price="140")).reasons[0].startswith("net_delta: 10000 bps")


# ---------------------------------------------------------------------- every bound, and the other side of it


def test_a_limit_is_reached_exactly_and_not_one_unit_beyond(world: World) -> None:
    gate = RiskGate(RiskLimits(to_x18(200), to_x18(300), to_x18(10), 5_000), world.view)
    assert gate.check(intent("0.05", tag=1))
    assert gate.check(intent("-1", tag=2, product_id=8, price="140"))
    gate.release(2)
    assert gate.check(intent("-1.071428571428571428", tag=3, product_id=8, price="140"))  # 150 less 8e-17
    gate.release(3)
    assert not gate.check(intent("-1.071428571428571430", tag=4, product_id=8, price="140"))
    gate = RiskGate(LIMITS, world.view)
    world.marks[8] = to_x18(150)
    assert gate.check(intent("0.05", tag=1))
    assert gate.check(intent("-1", tag=2, product_id=8, price="150"))  # gross is 300 of 300


def test_the_smallest_order_counts_on_its_own_side(world: World) -> None:
    world.positions = {4: to_x18("0.05"), 8: 0}
    tiny = OrderIntent(1, 0, 4, Purpose.HEDGE, 1, to_x18(3000))
    assert RiskGate(LIMITS, world.view).check(tiny).reasons[0].startswith("max_leg")
    for held in (5, -5):
        world.positions = {4: to_x18(held), 8: 0}
        tiny = OrderIntent(1, 0, 4, Purpose.HEDGE, held // 5, to_x18(3000))
        gate = limited(world, max_coins_x18={4: to_x18(5)})
        assert gate.check(tiny).reasons[0].startswith("max_position")


def test_what_an_order_has_no_more_to_add_is_nothing(world: World, gate: RiskGate) -> None:
    assert gate.check(intent("0.05", tag=1))
    gate.expect(1, -5)
    assert gate.check(intent("0.05", tag=2))


def test_gross_counts_an_order_for_its_own_product(world: World) -> None:
    """Short one product, long the other: an order of the first would look like a hedge of the second."""
    world.positions, world.marks = {4: 0, 8: -to_x18(1)}, {4: to_x18(100), 8: to_x18(100)}
    gate = RiskGate(RiskLimits(to_x18(150), to_x18(199), to_x18(10), 5_000), world.view)
    assert gate.check(intent("1", Purpose.HEDGE, price="100")).reasons[0].startswith("max_gross: 200")


def test_what_is_not_known_counts_as_nothing_held(world: World, gate: RiskGate) -> None:
    world.positions = {}
    assert "position 0" in gate.check(intent("-0.05", Purpose.TAKE)).reasons[0]
    assert gate.check(intent("0.05", Purpose.HEDGE, tag=1))
    gate.release(1)
    coins = limited(world, max_coins_x18={4: to_x18(5)})
    assert coins.check(intent("5", Purpose.HEDGE, tag=2))
    assert limited(world, max_builds_per_min=1).pause_reason() == ""
    world.positions, world.marks = {4: to_x18(5), 8: 0}, {8: to_x18(140)}
    assert gate.check(intent("0.05", Purpose.HEDGE, tag=3))  # no mark: what is held has no notional


def test_ages_offsets_and_deltas_are_allowed_up_to_their_limit(world: World) -> None:
    world.ages[4], world.offset_ms = 5_000, -1_000.0
    gate = limited(world, max_clock_offset_ms=1_000.0)
    assert gate.check(intent("0.001", tag=1))
    world.marks, world.positions = {4: to_x18(100), 8: to_x18(100)}, {4: to_x18("1.1"), 8: -to_x18("0.9")}
    assert net_delta_bps(world.positions, world.marks) == 1_000
    assert gate.check(intent("0.001", tag=2, price="100"))
    world.positions = {4: to_x18("1.01"), 8: -to_x18("0.99")}
    assert net_delta_bps(world.positions, world.marks) == 100
    assert gate.delta_warning() == ""


def test_a_minute_ends_after_sixty_seconds(world: World) -> None:
    world.now_ns = start_ns = 1_000 * 10**9
    gate = limited(world, max_orders_per_min=1)
    assert gate.check(intent("0.001", tag=1))
    world.now_ns = start_ns + 60 * 10**9 - 1
    assert not gate.check(intent("0.001", tag=2))
    world.now_ns = start_ns + 60 * 10**9
    assert gate.check(intent("0.001", tag=3))
