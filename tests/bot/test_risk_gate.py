"""The gate: approvals never exceed a limit at worst case, exits pass, and nothing goes around it."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.client import NadoClient
from bot.risk import ApprovedOrder, OrderIntent, Purpose, RiskGate, RiskLimits, RiskView
from nadofast.products import mul_x18, to_x18
from nadofast.timesync import TimeSync

LIMITS = RiskLimits(to_x18(150), to_x18(300), to_x18(10), 5_000)


@dataclass
class World:
    positions: dict[int, int] = field(default_factory=lambda: {4: 0, 8: 0})
    marks: dict[int, int] = field(default_factory=lambda: {4: to_x18(3000), 8: to_x18(140)})
    ages: dict[int, int] = field(default_factory=lambda: {4: 5, 8: 5})
    pnl: int = 0

    def view(self) -> RiskView:
        return RiskView(self.positions, self.marks, self.ages, self.pnl)


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
    gate.fills(1, to_x18("0.020"))
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
        ApprovedOrder(intent("0.040"), proof=object())


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
    gate = RiskGate(LIMITS, world.view)
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
