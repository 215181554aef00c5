"""Exits at the gate: never more than is held; one that moves counts once, and leaves in one place."""

from __future__ import annotations

from dataclasses import replace

import pytest
from gatekit import World, intent, leaving

from bot.risk import OrderIntent, Purpose, RiskGate
from nadofast.products import to_x18


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
