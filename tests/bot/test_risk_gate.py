"""The gate: approvals never exceed a limit at worst case, exits pass, and nothing goes around it."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, replace

import pytest
from gatekit import LIMITS, World, intent, leaving
from hypothesis import given
from hypothesis import strategies as st

from bot.client import NadoClient
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
)
from nadofast.products import mul_x18, to_x18
from nadofast.timesync import TimeSync


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


def test_nothing_but_the_gate_makes_an_approved_order() -> None:
    with pytest.raises(PermissionError):
        ApprovedOrder(intent("0.040"))
    with pytest.raises(PermissionError):
        ApprovedOrder(intent("0.040"), proof=object())  # type: ignore[arg-type]
    with pytest.raises(PermissionError):
        _Proof(intent("0.040"), object())


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


def test_a_copy_of_an_approval_with_another_intent_goes_nowhere(gate: RiskGate) -> None:
    approved = gate.check(intent("0.040", tag=1)).order
    assert approved is not None
    for forged in (intent("4.0", tag=1), intent("0.040", tag=1)):
        with pytest.raises(PermissionError):
            replace(approved, intent=forged)
    with pytest.raises(PermissionError):
        gate.admit(leaving(intent("4.0", tag=1)))


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


def test_a_question_is_no_order_of_any_tag(world: World, gate: RiskGate) -> None:
    assert gate.check(intent("0.001", tag=1))
    assert gate.pre_trade_check(4, to_x18("0.001"), to_x18(3000))
    for price_x18, is_order in ((0, False), (1, True)):
        reasons = gate.pre_trade_check(4, to_x18("0.001"), price_x18).reasons
        assert any(reason.startswith("malformed") for reason in reasons) is not is_order


def test_an_approval_shows_and_compares_its_intent_alone(world: World) -> None:
    first, second = (RiskGate(LIMITS, world.view).check(intent("0.040")).order for _ in range(2))
    assert first == second
    assert "proof" not in repr(first)
    with pytest.raises(FrozenInstanceError):
        first.intent = intent("4")  # type: ignore[misc, union-attr]


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


def test_the_digest_of_an_approved_order_is_known_once_it_leaves(gate: RiskGate) -> None:
    wanted = intent("0.040")
    assert gate.digest_of(wanted.tag) == "", "nothing was approved"
    assert gate.check(wanted)
    assert gate.digest_of(wanted.tag) == "", "it has not left"
    gate.admit(leaving(wanted))
    assert gate.digest_of(wanted.tag) == "0xaa"
    gate.release(wanted.tag)
    assert gate.digest_of(wanted.tag) == ""
