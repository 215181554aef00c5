"""The gate: approvals never exceed a limit at worst case, exits pass, and nothing goes around it."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.client import NadoClient
from bot.latch import KillSwitch, read_halt, resume
from bot.maintenance import MaintenanceWindows
from bot.risk import (
    CLIENT_ID_BASE,
    ENTRIES,
    EXITS,
    ApprovedOrder,
    OrderIntent,
    Purpose,
    RiskGate,
    RiskLimits,
    RiskView,
    _Proof,
    net_delta_bps,
)
from nadofast.orders import TrackedOrder
from nadofast.products import mul_x18, to_x18
from nadofast.timesync import TimeSync

LIMITS = RiskLimits(to_x18(150), to_x18(300), to_x18(10), 5_000)


@dataclass
class World:
    positions: dict[int, int] = field(default_factory=lambda: {4: 0, 8: 0})
    marks: dict[int, int] = field(default_factory=lambda: {4: to_x18(3000), 8: to_x18(140)})
    ages: dict[int, int] = field(default_factory=lambda: {4: 5, 8: 5})
    pnl: int = 0
    now_ns: int = 0
    utc_s: float | None = None
    offset_ms: float | None = None

    def view(self) -> RiskView:
        return RiskView(
            self.positions, self.marks, self.ages, self.pnl, self.now_ns, self.utc_s, self.offset_ms
        )


def intent(
    amount: str, purpose: Purpose = Purpose.ENTRY, tag: int = 1, product_id: int = 4, price: str = "3000"
) -> OrderIntent:
    return OrderIntent(tag, 0 if product_id == 4 else 1, product_id, purpose, to_x18(amount), to_x18(price))


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def gate(world: World) -> RiskGate:
    return RiskGate(LIMITS, world.view)


def test_an_order_within_limits_passes_and_counts_until_released(gate: RiskGate) -> None:
    assert gate.check(intent("0.050", tag=1))
    assert "max_leg" in gate.check(intent("0.001", tag=2)).reasons[0]
    gate.release(1)
    assert gate.check(intent("0.050", tag=3))


def test_what_the_exchange_says_is_on_no_book_counts_no_more(gate: RiskGate) -> None:
    first = intent("0.050", tag=1)
    assert gate.check(first)
    gate.release_all()
    assert gate.check(intent("0.050", tag=2))
    with pytest.raises(PermissionError, match="has not approved"):
        gate.admit(leaving(first))


def test_worst_price_counts_not_the_mid(gate: RiskGate) -> None:
    assert gate.check(intent("0.050", price="3000"))
    gate.release(1)
    assert not gate.check(intent("0.050", price="3000.1"))
    assert not gate.check(intent("-0.0501", tag=2, price="2990"))  # a sell may fill above its limit: the mark


def test_gross_limit_spans_both_products(world: World) -> None:
    gate = RiskGate(RiskLimits(to_x18(200), to_x18(300), to_x18(10), 5_000), world.view)
    assert gate.check(intent("0.060", tag=1))
    decision = gate.check(intent("-0.9", tag=2, product_id=8, price="139"))
    assert not decision
    assert decision.reasons[0].startswith("max_gross")


def test_what_has_filled_is_not_counted_twice(world: World, gate: RiskGate) -> None:
    assert gate.check(intent("0.050", tag=1))
    world.positions[4] = to_x18("0.020")
    gate.expect(1, to_x18("0.030"))
    assert gate._worst_x18(4, world.view(), None) == to_x18(150)


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"pnl": -to_x18(10)}, "daily_loss"),
        ({"ages": {4: 5_001, 8: 5}}, "quote_age"),
        ({"ages": {8: 5}}, "quote_age"),
    ],
)
def test_entries_are_refused_by_name(
    world: World, gate: RiskGate, change: dict[str, object], rule: str
) -> None:
    for name, value in change.items():
        setattr(world, name, value)
    decision = gate.check(intent("0.040"))
    assert not decision
    assert decision.order is None
    assert decision.reasons[0].startswith(rule)


def test_a_halt_latches_and_exits_still_pass(world: World, gate: RiskGate) -> None:
    world.positions[4] = to_x18("0.042")
    world.pnl = -to_x18(11)
    assert "daily loss" in (gate.watch() or "")
    world.pnl = to_x18(5)
    gate.halt("something else")
    assert "daily loss" in (gate.watch() or "")
    assert not gate.check(intent("0.001", tag=1))
    world.ages = {4: 10**9, 8: 10**9}
    assert gate.check(intent("-0.042", Purpose.TAKE, tag=2, price="2900"))


@pytest.mark.parametrize(
    ("position", "amount"),
    [("0.042", "0.042"), ("0", "-0.001"), ("0.042", "-0.043"), ("-0.042", "-0.001"), ("-0.9", "1.0")],
)
def test_an_exit_is_proved_by_arithmetic(world: World, gate: RiskGate, position: str, amount: str) -> None:
    world.positions[4] = to_x18(position)
    assert not gate.check(intent(amount, Purpose.REST))
    assert not gate.check(intent(amount, Purpose.TAKE))


def test_two_exits_together_do_not_exceed_the_position(world: World, gate: RiskGate) -> None:
    world.positions[4] = to_x18("0.042")
    assert gate.check(intent("-0.030", Purpose.REST, tag=1))
    assert not gate.check(intent("-0.020", Purpose.TAKE, tag=2))
    assert gate.check(intent("-0.012", Purpose.TAKE, tag=3))


def test_nothing_but_the_gate_makes_an_approved_order() -> None:
    with pytest.raises(PermissionError):
        ApprovedOrder(intent("0.040"))
    with pytest.raises(PermissionError):
        ApprovedOrder(intent("0.040"), proof=object())  # type: ignore[arg-type]
    with pytest.raises(PermissionError):
        _Proof(intent("0.040"), object())


def leaving(intent: OrderIntent, **changes: object) -> TrackedOrder:
    """The order as the gateway is about to send it."""
    order = TrackedOrder(
        digest="0xaa", product_id=intent.product_id, sender="0x11", price_x18=intent.price_x18,
        amount_x18=intent.amount_x18, expiration_s=1, nonce=1, appendix=1,
        client_id=CLIENT_ID_BASE + intent.tag,
    )  # fmt: skip
    return replace(order, **changes)  # type: ignore[arg-type]


def test_an_approved_order_leaves_once_and_unchanged(gate: RiskGate) -> None:
    wanted = intent("0.040", tag=1)
    assert gate.check(wanted)
    for changes in ({"amount_x18": to_x18("0.4")}, {"price_x18": to_x18(9000)}, {"product_id": 8}):
        with pytest.raises(PermissionError, match="not the one that was approved"):
            gate.admit(leaving(wanted, **changes))
    gate.admit(leaving(wanted))
    with pytest.raises(PermissionError, match="left before"):
        gate.admit(leaving(wanted))
    gate.release(1)
    with pytest.raises(PermissionError, match="not approved"):
        gate.admit(leaving(wanted))


@pytest.fixture
def resting(world: World, gate: RiskGate) -> OrderIntent:
    """An exit of a whole position that has left."""
    world.positions[4] = to_x18("0.042")
    old = intent("-0.042", Purpose.REST, tag=1)
    assert gate.check(old)
    gate.admit(leaving(old))
    return old


def test_an_exit_and_the_one_in_its_place_count_once(
    world: World, gate: RiskGate, resting: OrderIntent
) -> None:
    """Of the two one lives at most, whichever it is: until both are over nothing else gets out."""
    new = intent("-0.042", Purpose.REST, tag=2, price="3001")
    assert "exit_too_large" in gate.check(new).reasons[0]
    assert gate.check(new, replaces=1)
    world.positions[4] = to_x18("0.044")
    assert gate.check(intent("-0.002", Purpose.TAKE, tag=3))
    assert not gate.check(intent("-0.001", Purpose.TAKE, tag=4))
    gate.release(3)
    gate.release(1)
    assert not gate.check(intent("-0.003", Purpose.TAKE, tag=5))
    gate.release(2)
    assert gate.check(intent("-0.044", Purpose.TAKE, tag=6))


def test_a_part_of_the_old_exit_that_fills_makes_no_room(
    world: World, gate: RiskGate, resting: OrderIntent
) -> None:
    assert gate.check(intent("-0.042", Purpose.REST, tag=2, price="3001"), replaces=1)
    world.positions[4] = to_x18("0.030")
    gate.expect(1, to_x18("0.030"))
    assert not gate.check(intent("-0.030", Purpose.TAKE, tag=3))
    gate.release(2)
    assert not gate.check(intent("-0.001", Purpose.TAKE, tag=4))
    gate.release(1)
    assert gate.check(intent("-0.030", Purpose.TAKE, tag=5))


def test_the_larger_of_the_two_counts_until_the_old_one_is_known_to_be_over(
    world: World, gate: RiskGate, resting: OrderIntent
) -> None:
    assert gate.check(intent("-0.042", Purpose.REST, tag=2, price="3001"), replaces=1)
    gate.expect(2, to_x18("0.010"))  # told first that the new one has filled a part
    world.positions[4] = to_x18("0.043")
    assert not gate.check(intent("-0.002", Purpose.TAKE, tag=3))
    assert gate.check(intent("-0.001", Purpose.TAKE, tag=4))
    gate.release(1)
    assert gate.check(intent("-0.032", Purpose.TAKE, tag=5))


@pytest.mark.parametrize(
    ("amount", "purpose", "product_id", "old_tag"),
    [
        ("-0.040", Purpose.REST, 4, 1),  # not all of what is unfilled
        ("-0.043", Purpose.REST, 4, 1),
        ("-0.042", Purpose.TAKE, 4, 1),
        ("0.042", Purpose.REST, 4, 1),
        ("0.042", Purpose.MAKE, 4, 1),
        ("-0.042", Purpose.REST, 8, 1),
        ("-0.042", Purpose.REST, 4, 7),  # nobody knows it
        ("-0.042", Purpose.REST, 4, 3),  # approved, and it has not left
    ],
)
def test_nothing_but_the_same_exit_takes_the_place_of_an_exit(
    world: World,
    gate: RiskGate,
    resting: OrderIntent,
    amount: str,
    purpose: Purpose,
    product_id: int,
    old_tag: int,
) -> None:
    world.positions[8] = to_x18("0.9")
    assert gate.check(intent("-0.042", Purpose.REST, tag=3, product_id=8))
    decision = gate.check(intent(amount, purpose, tag=2, product_id=product_id), replaces=old_tag)
    assert decision.reasons[0].startswith("replacement: ")


def test_a_replacement_leaves_in_the_place_of_its_order_and_in_no_other_way(
    gate: RiskGate, resting: OrderIntent
) -> None:
    new = intent("-0.042", Purpose.REST, tag=2, price="3001")
    assert gate.check(new, replaces=1)
    for replaces in ("", "0xbb"):  # beside it, and in the place of another
        with pytest.raises(PermissionError, match="not approved in the place"):
            gate.admit(leaving(new, replaces=replaces))
    gate.admit(leaving(new, digest="0xcc", replaces="0xaa"))
    last = intent("-0.042", Purpose.REST, tag=3, price="3002")
    assert "may not be in its own place" in gate.check(last, replaces=2).reasons[0]
    gate.release(1)
    assert gate.check(last, replaces=2)
    gate.release(2)
    with pytest.raises(PermissionError, match="has ended"):
        gate.admit(leaving(last, digest="0xdd", replaces="0xcc"))


def test_an_order_of_its_own_replaces_nothing(world: World, gate: RiskGate, resting: OrderIntent) -> None:
    world.positions[4] = to_x18("0.084")
    beside = intent("-0.042", Purpose.REST, tag=2)
    assert gate.check(beside)
    with pytest.raises(PermissionError, match="not approved in the place"):
        gate.admit(leaving(beside, digest="0xbb", replaces="0xaa"))


def test_a_copy_of_an_approval_with_another_intent_goes_nowhere(gate: RiskGate) -> None:
    approved = gate.check(intent("0.040", tag=1)).order
    assert approved is not None
    for forged in (intent("4.0", tag=1), intent("0.040", tag=1)):
        with pytest.raises(PermissionError):
            replace(approved, intent=forged)
    with pytest.raises(PermissionError):
        gate.admit(leaving(intent("4.0", tag=1)))


def test_the_latch_stops_an_approved_entry_at_the_door_but_no_exit(world: World, gate: RiskGate) -> None:
    world.positions[8] = to_x18("-0.9")
    entry = intent("0.040", Purpose.HEDGE, tag=1)
    out = intent("0.9", Purpose.TAKE, tag=2, product_id=8, price="141")
    assert gate.check(entry)
    assert gate.check(out)
    gate.halt("enough")
    with pytest.raises(PermissionError, match="halted: enough"):
        gate.admit(leaving(entry))
    gate.admit(leaving(out))


def test_a_client_cannot_be_built_without_a_gate() -> None:
    nothing: object = None
    with pytest.raises(TypeError, match="RiskGate"):
        NadoClient(nothing, market=nothing, gateway=nothing, gate=nothing, timesync=TimeSync())  # type: ignore[arg-type]


@given(
    orders=st.lists(
        st.tuples(st.sampled_from((4, 8)), st.integers(-80, 80), st.integers(95, 105), st.booleans()),
        max_size=25,
    ),
    start=st.tuples(st.integers(-40, 40), st.integers(-10, 10)),
)
def test_no_sequence_of_approvals_exceeds_a_limit_even_if_all_of_them_fill(
    orders: list[tuple[int, int, int, bool]], start: tuple[int, int]
) -> None:
    """Entries only ever add up to the limits at worst price, whichever subset of them fills."""
    steps = {4: 10**15, 8: 10**17}
    world = World(positions={4: start[0] * steps[4], 8: start[1] * steps[8]})
    gate = RiskGate(replace(LIMITS, max_entry_delta_bps=10_000), world.view)
    worst = {p: {1: 0, -1: 0} for p in (4, 8)}
    for tag, (product_id, amount, percent, ends) in enumerate(orders):
        mark = world.marks[product_id]
        order = OrderIntent(
            tag, 0, product_id, Purpose.ENTRY, amount * steps[product_id], mark * percent // 100
        )
        if not gate.check(order):
            continue
        assert amount != 0
        if ends:
            gate.release(tag)
            continue
        side = 1 if amount > 0 else -1
        worst[product_id][side] += mul_x18(abs(order.amount_x18), max(order.price_x18, mark))
        reached = {}
        for p in (4, 8):
            held = mul_x18(world.positions[p], world.marks[p])
            reached[p] = max(abs(held + worst[p][1]), abs(held - worst[p][-1]))
        assert reached[product_id] <= LIMITS.max_leg_x18
        assert sum(reached.values()) <= LIMITS.max_gross_x18


# ---------------------------------------------------------------------- limits of entries, one by one


def limited(world: World, **limits: object) -> RiskGate:
    return RiskGate(
        replace(LIMITS, max_leg_x18=to_x18(50_000), max_gross_x18=to_x18(90_000), **limits), world.view
    )  # type: ignore[arg-type]


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


def test_a_loss_that_reaches_the_limit_halts_and_is_told_in_money(world: World) -> None:
    gate = limited(world, daily_loss_x18=to_x18(5))
    world.pnl = -to_x18("4.999999999999999999")
    assert gate.watch() is None
    world.pnl = -to_x18(5)
    assert gate.watch() == "daily loss 5.0000 USD reached the limit"
    reasons = gate.pre_trade_check(4, to_x18("0.01"), to_x18(3000)).reasons
    assert reasons[1] == f"daily_loss: {to_x18(5)} x18 of {to_x18(5)} x18"


def test_a_minute_ends_after_sixty_seconds(world: World) -> None:
    world.now_ns = start_ns = 1_000 * 10**9
    gate = limited(world, max_orders_per_min=1)
    assert gate.check(intent("0.001", tag=1))
    world.now_ns = start_ns + 60 * 10**9 - 1
    assert not gate.check(intent("0.001", tag=2))
    world.now_ns = start_ns + 60 * 10**9
    assert gate.check(intent("0.001", tag=3))


def test_a_question_is_no_order_of_any_tag(world: World, gate: RiskGate) -> None:
    assert gate.check(intent("0.001", tag=1))
    assert gate.pre_trade_check(4, to_x18("0.001"), to_x18(3000))
    for price_x18, is_order in ((0, False), (1, True)):
        reasons = gate.pre_trade_check(4, to_x18("0.001"), price_x18).reasons
        assert any(reason.startswith("malformed") for reason in reasons) is not is_order


def test_an_exit_is_recognised_by_its_approval(world: World, gate: RiskGate) -> None:
    world.positions[8] = to_x18("-0.9")
    entry = intent("0.040", Purpose.HEDGE, tag=1)
    out = intent("0.9", Purpose.TAKE, tag=2, product_id=8, price="141")
    assert gate.check(entry)
    assert gate.check(out)
    assert gate.is_exit(leaving(out)) is True
    assert gate.is_exit(leaving(entry)) is False
    assert gate.is_exit(leaving(replace(out, tag=3))) is False
    assert gate.is_exit(replace(leaving(out), client_id=None)) is False


def test_an_approval_shows_and_compares_its_intent_alone(world: World) -> None:
    first, second = (RiskGate(LIMITS, world.view).check(intent("0.040")).order for _ in range(2))
    assert first == second
    assert "proof" not in repr(first)
    with pytest.raises(FrozenInstanceError):
        first.intent = intent("4")  # type: ignore[misc, union-attr]


# ---------------------------------------------------------------------- the kill switch


def test_a_halt_outlives_the_process_until_somebody_takes_it_back(tmp_path: Path, world: World) -> None:
    path = tmp_path / "halt.json"
    gate = RiskGate(LIMITS, world.view, KillSwitch(path, wall_s=lambda: 1_795_000_000.0))
    world.pnl = -to_x18(11)
    assert gate.watch() is not None
    world.pnl = 0  # the next day
    later = RiskGate(LIMITS, world.view, KillSwitch(path))
    assert "daily loss" in (later.halt_reason or "")
    assert "halted" in later.check(intent("0.001")).reasons[0]
    later.halt("something else")
    assert "daily loss" in str(read_halt(path))
    assert "2026-11-18" in str(read_halt(path))
    assert "daily loss" in str(resume(path))
    assert resume(path) is None
    assert RiskGate(LIMITS, world.view, KillSwitch(path)).check(intent("0.001"))


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"reason": "x", "at_s": "soon"}'])
def test_a_halt_that_cannot_be_read_is_a_halt(tmp_path: Path, content: str) -> None:
    path = tmp_path / "halt.json"
    path.write_text(content)
    assert KillSwitch(path).halt is not None
    resume(path)
    assert KillSwitch(path).halt is None


def test_a_halt_that_cannot_be_written_still_halts(tmp_path: Path) -> None:
    switch = KillSwitch(tmp_path / "missing" / "halt.json")
    switch.engage("enough")
    assert switch.halt is not None
    assert switch.halt.reason == "enough"
    assert switch.halt.failure


def test_a_halt_that_could_not_be_written_is_said_and_written_once_it_can(
    tmp_path: Path, world: World, caplog: pytest.LogCaptureFixture
) -> None:
    path, now_ns = tmp_path / "missing" / "halt.json", [0]
    gate = RiskGate(LIMITS, world.view, KillSwitch(path, clock_ns=lambda: now_ns[0]))
    gate.halt("enough")
    assert [record.levelname for record in caplog.records] == ["CRITICAL"]
    assert "a restart would forget it" in caplog.text
    path.parent.mkdir()
    now_ns[0] = 999_999_999
    gate.watch()
    assert not path.exists()  # not at every turn
    now_ns[0] = 1_000_000_000
    gate.watch()
    assert KillSwitch(path).halt is not None
    assert [record.levelname for record in caplog.records] == ["CRITICAL", "WARNING"]
    path.unlink()
    now_ns[0] = 10**12
    gate.watch()
    gate.keep_halt(at_once=True)
    assert not path.exists()  # what was written once is a person's to take away


def test_a_failure_to_write_the_halt_is_said_once_and_tried_at_the_end(
    tmp_path: Path, world: World, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "missing" / "halt.json"
    gate = RiskGate(LIMITS, world.view, KillSwitch(path, clock_ns=lambda: 0))
    gate.halt("enough")
    gate.keep_halt(at_once=True)
    assert len(caplog.records) == 1
    path.parent.mkdir()
    gate.keep_halt(at_once=True)
    assert path.exists()


def test_the_gate_counts_and_a_tag_is_used_once(world: World, gate: RiskGate) -> None:
    assert gate.check(intent("0.001", tag=1))
    assert gate.check(intent("0.001", tag=1)).reasons == ("duplicate: tag 1 is in flight",)
    assert gate.check(intent("0.001", tag=2))
    assert (gate.approved, gate.refused) == (2, 1)


def test_defaults_and_constants_are_the_documented_ones() -> None:
    assert (LIMITS.max_entry_delta_bps, LIMITS.warn_delta_bps) == (1_000, 100)
    assert (LIMITS.max_orders_per_min, LIMITS.max_builds_per_min, LIMITS.max_residual_x18) == (0, 0, 0)
    assert CLIENT_ID_BASE == 1 << 40
    plain = OrderIntent(1, 0, 4, Purpose.ENTRY, 1, 1)
    assert (plain.ttl_ms, plain.discard) == (0, False)
    assert RiskView({}, {}, {}, 0).now_ns == 0


def test_what_each_purpose_is() -> None:
    assert ENTRIES + EXITS == (Purpose.ENTRY, Purpose.MAKE, Purpose.HEDGE, Purpose.REST, Purpose.TAKE)
    assert [purpose for purpose in Purpose if purpose.is_exit] == [*EXITS]
    assert [purpose for purpose in Purpose if purpose.rests] == [Purpose.MAKE, Purpose.REST]
    assert [purpose for purpose in Purpose if purpose.begins] == [Purpose.ENTRY, Purpose.MAKE]
