"""When to ask for a snapshot: coalesced, in turn, inside a budget, given up in the end."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nadofast.sequence import SnapshotPlanner, SyncConfig

S = 1_000_000_000
MS = 1_000_000


def planner(**config: float) -> SnapshotPlanner:
    return SnapshotPlanner([4, 8], SyncConfig(**config), random.Random(1))  # type: ignore[arg-type]


def test_nothing_is_asked_unless_needed() -> None:
    plan = planner()
    assert plan.next_product(0) is None
    assert plan.wait_s(0) is None
    with pytest.raises(KeyError):
        plan.need(5, "not ours", 0)


def test_a_burst_of_breaks_is_one_request() -> None:
    plan = planner()
    for step in range(20):
        plan.need(4, "gap", step)
    assert plan.next_product(20) == 4
    plan.on_asked(4, 20)
    plan.need(4, "gap", 30)
    assert plan.next_product(40) is None
    plan.on_loaded(4, True, 50)
    assert not plan.needs(4)
    assert (plan.asked, plan.coalesced) == (1, 20)


def test_the_longest_waiting_product_goes_first() -> None:
    plan = planner()
    plan.need(8, "gap", 1)
    plan.need(4, "gap", 2)
    assert plan.next_product(5) == 8
    plan.on_asked(8, 5)
    assert plan.next_product(5) == 4


def test_a_snapshot_that_is_too_old_is_asked_again_after_a_depth_batch() -> None:
    plan = planner(retry_s=0.06)
    plan.need(4, "gap", 0)
    plan.on_asked(4, 0)
    plan.on_loaded(4, False, 10 * MS)
    assert plan.next_product(20 * MS) is None
    assert plan.wait_s(20 * MS) == pytest.approx(0.05)
    assert plan.next_product(70 * MS) == 4


def test_failures_back_off_with_jitter_and_a_cap() -> None:
    plan = planner(error_base_s=0.1, error_cap_s=0.4, give_up_s=1e9)
    plan.need(4, "gap", 0)
    now, waits = 0, []
    for _ in range(6):
        plan.on_asked(4, now)
        plan.on_failed(4, now)
        wait = plan.wait_s(now)
        assert wait is not None
        waits.append(wait)
        now += int(wait * S) + 1
        assert plan.next_product(now) == 4
    ceilings = [0.1, 0.2, 0.4, 0.4, 0.4, 0.4]
    assert all(ceiling / 2 <= wait <= ceiling for wait, ceiling in zip(waits, ceilings, strict=True))
    assert plan.failed == 6


@given(st.lists(st.tuples(st.sampled_from([4, 8]), st.integers(0, S)), max_size=100))
def test_the_budget_holds_whatever_happens(breaks: list[tuple[int, int]]) -> None:
    plan = planner(budget=5, budget_window_s=2.0)
    now, asked = 0, []
    for product_id, pause in breaks:
        now += pause
        plan.need(product_id, "gap", now)
        while (due := plan.next_product(now)) is not None:
            plan.on_asked(due, now)
            asked.append(now)
            plan.on_loaded(due, True, now)
        assert sum(at > now - 2 * S for at in asked) <= 5
        wait = plan.wait_s(now)
        if wait is not None:
            assert 0 <= wait <= 2.0


def test_it_gives_up_and_says_why() -> None:
    plan = planner(give_up_s=3.0)
    plan.need(8, "gap", 0)
    assert plan.hopeless(2 * S) is None
    found = plan.hopeless(4 * S)
    assert found is not None
    assert found[0] == 8
    assert "product 8 not synchronised for 3.0 s (gap)" in found[1]
    plan.reset()
    assert plan.hopeless(9 * S) is None


def test_answers_nobody_waits_for_change_nothing() -> None:
    plan = planner()
    plan.on_loaded(4, True, 0)
    plan.on_failed(4, 0)
    assert plan.next_product(S) is None


def test_a_spent_budget_comes_back_bit_by_bit() -> None:
    plan = planner(budget=10, budget_window_s=10.0)
    now = 0
    for _ in range(5):
        plan.need(4, "gap", now)
        assert plan.next_product(now) == 4
        plan.on_asked(4, now)
        plan.on_loaded(4, True, now)
    plan.need(4, "gap", now)
    assert plan.next_product(now) is None
    wait_s = plan.wait_s(now)
    assert wait_s == pytest.approx(2.0), "five in ten seconds, not ten seconds for five"
    assert plan.next_product(now + int(wait_s * S) + 1) == 4


def test_checks_leave_half_of_what_may_be_asked_at_once() -> None:
    plan = planner(budget=20, budget_window_s=10.0)
    assert plan.room_for_checks(0) == 5
    for _ in range(5):
        plan.on_checked(0)
    assert plan.room_for_checks(0) == 0
    for _ in range(5):
        plan.need(4, "gap", 0)
        assert plan.next_product(0) == 4
        plan.on_asked(4, 0)
        plan.on_loaded(4, True, 0)
    plan.need(4, "gap", 0)
    assert plan.next_product(0) is None
    assert plan.room_for_checks(10 * S) == 5
    assert (plan.checked, plan.asked) == (5, 5)


@pytest.mark.parametrize("budget", [1, 2, 3])
def test_the_smallest_budgets_still_ask_and_check(budget: int) -> None:
    plan = planner(budget=budget, budget_window_s=10.0)
    asked: list[int] = []
    for now in range(0, 100 * S, S // 10):
        plan.need(4, "gap", now)
        if plan.next_product(now) == 4:
            plan.on_asked(4, now)
            plan.on_loaded(4, True, now)
            asked.append(now)
    assert asked[0] == 0
    assert 4 * budget <= len(asked) <= 10 * budget
    for first in asked:
        assert sum(first <= at < first + 10 * S for at in asked) <= budget
    assert plan.room_for_checks(200 * S) == 1
