"""Joint sizing against brute force over every step pair."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from machinekit import ETH, SOL, product

from bot.sizing import (
    MOST_STEPS,
    LegQuote,
    NoSize,
    PairSize,
    SizingRules,
    size_pair,
    smallest_budget_x18,
    smallest_pair,
    step_bounds,
)
from nadofast.products import mul_x18, to_x18

RULES = SizingRules(to_x18(150), cap_bps=20, headroom_bps=300)


def quotes(eth: str, sol: str) -> tuple[LegQuote, LegQuote]:
    return LegQuote(ETH, to_x18(eth)), LegQuote(SOL, to_x18(sol))


def brute_force(legs: tuple[LegQuote, LegQuote], rules: SizingRules) -> list[tuple[int, int]]:
    """(relative gap, notional of the coarser leg) of every legal pair."""
    units = [mul_x18(leg.product.size_increment_x18, leg.mid_x18) for leg in legs]
    coarse = 0 if units[0] >= units[1] else 1
    found = []
    for a in range(step_bounds(legs[0], rules)[0], step_bounds(legs[0], rules)[1] + 1):
        for b in range(step_bounds(legs[1], rules)[0], step_bounds(legs[1], rules)[1] + 1):
            worth = (a * units[0], b * units[1])
            found.append((-(-abs(worth[0] - worth[1]) * 10**18 // max(worth)), worth[coarse]))
    return found


def test_a_larger_pair_with_too_wide_a_gap_does_not_win() -> None:
    """0.047 and 1.0 would be 71 bps apart."""
    size = size_pair(quotes("3000", "140"), RULES)
    assert isinstance(size, PairSize)
    assert size.sizes_x18 == (to_x18("0.042"), to_x18("0.9"))
    assert size.gap_x18 == 0


def test_rounding_each_leg_alone_would_be_worse() -> None:
    """At 3100 and 147 the largest legal legs are 1.3 % apart; the pair chosen is within 0.2 %."""
    size = size_pair(quotes("3100", "147"), RULES)
    assert isinstance(size, PairSize)
    assert size.gap_x18 * 500 < size.notionals_x18[0]


@settings(max_examples=200, deadline=None)
@given(
    eth=st.integers(1_000_0, 6_000_0),
    sol=st.integers(20_00, 400_00),
    budget=st.integers(90, 600),
    cap_bps=st.integers(0, 100),
    headroom_bps=st.integers(0, 500),
    gap_bps=st.sampled_from((0, 1, 25, 100, 10_000)),
)
def test_equals_brute_force(
    eth: int, sol: int, budget: int, cap_bps: int, headroom_bps: int, gap_bps: int
) -> None:
    legs = (LegQuote(ETH, eth * 10**17), LegQuote(SOL, sol * 10**16))
    rules = SizingRules(budget * 10**18, cap_bps, headroom_bps, gap_bps)
    pairs, size, least = brute_force(legs, rules), size_pair(legs, rules), smallest_pair(legs, rules)
    if not pairs:
        assert isinstance(size, NoSize)
        assert least is None
        return
    assert isinstance(size, PairSize)
    coarse = (
        0
        if mul_x18(ETH.size_increment_x18, legs[0].mid_x18)
        >= mul_x18(SOL.size_increment_x18, legs[1].mid_x18)
        else 1
    )
    wanted = [worth for gap, worth in pairs if gap * 10_000 <= gap_bps * 10**18]
    if wanted:
        assert size.notionals_x18[coarse] == max(wanted)
        assert size.relative_gap_x18 * 10_000 <= gap_bps * 10**18
        assert least is not None
        assert least.notionals_x18[coarse] == min(wanted)
    else:
        assert size.relative_gap_x18 == min(gap for gap, _ in pairs)
        assert least is None
    for leg, amount in zip(legs, size.sizes_x18, strict=True):
        assert amount % leg.product.size_increment_x18 == 0
        worst_high = amount * leg.mid_x18 * (10_000 + cap_bps) // (10_000 * 10**18)
        worst_low = amount * leg.mid_x18 * (10_000 - cap_bps) // (10_000 * 10**18)
        assert worst_high <= rules.budget_x18
        assert worst_low >= leg.product.min_size_x18 * 9_999 // 10_000


def test_reasons_name_the_product_and_the_need() -> None:
    legs = quotes("3000", "140")
    small = size_pair(legs, SizingRules(to_x18(60), 20, 300))
    assert isinstance(small, NoSize)
    assert small.reason == (
        "ETH-PERP: the smallest legal leg needs 105.22 USD (minimum 100 USD plus headroom),"
        " the budget is 60.00 USD"
    )
    assert size_pair(quotes("0", "140"), RULES) == NoSize("ETH-PERP: no price")


def test_smallest_budget_is_enough_and_one_unit_less_is_not() -> None:
    legs = quotes("2987.3", "141.7")
    least = smallest_budget_x18(legs, RULES)
    assert isinstance(size_pair(legs, SizingRules(least, 20, 300)), PairSize)
    assert isinstance(size_pair(legs, SizingRules(least - 1, 20, 300)), NoSize)


def test_equal_gaps_go_to_the_larger_pair() -> None:
    twin = product(10, "TWIN-PERP", "0.1", "0.001")
    size = size_pair((LegQuote(ETH, to_x18(3000)), LegQuote(twin, to_x18(3000))), RULES)
    assert isinstance(size, PairSize)
    assert size.gap_x18 == 0
    assert size.sizes_x18[0] == to_x18("0.049")


def test_money_is_used_while_the_gap_is_as_wanted() -> None:
    """With 300 USD no pair is as even as that of 157 USD; one of 299 USD is within 25 bps."""
    legs = quotes("2900", "142.44")
    size = size_pair(legs, SizingRules(to_x18(300), 20, 300))
    even = size_pair(legs, SizingRules(to_x18(300), 20, 300, gap_bps=0))
    least = smallest_pair(legs, SizingRules(to_x18(300), 20, 300))
    assert isinstance(size, PairSize)
    assert isinstance(even, PairSize)
    assert least is not None
    assert size.notionals_x18[0] > to_x18(298)
    assert even.notionals_x18[0] < to_x18(157)
    assert even.relative_gap_x18 < size.relative_gap_x18 <= 25 * 10**14
    assert least.notionals_x18[0] <= even.notionals_x18[0]


# ---------------------------------------------------------------------- every bound, and the other side of it


def steps_worth(
    first: str, second: str, *, least: tuple[str, str] | None = None
) -> tuple[LegQuote, LegQuote]:
    """Two legs whose single steps are worth so much. least: their minimum notionals, 100 USD without it."""
    one, other = (product(p, f"P{p}-PERP", "0.000000000000000001", "1") for p in (4, 8))
    if least is not None:
        one = replace(one, min_size_x18=to_x18(least[0]))
        other = replace(other, min_size_x18=to_x18(least[1]))
    return LegQuote(one, to_x18(first)), LegQuote(other, to_x18(second))


def steps_of(size: PairSize | NoSize | None) -> tuple[int, int] | None:
    """How many steps each leg has, where a step is one coin."""
    return (size.sizes_x18[0] // 10**18, size.sizes_x18[1] // 10**18) if isinstance(size, PairSize) else None


def exact(budget: str, gap_bps: int = 25) -> SizingRules:
    """At mid, without a cap and without headroom."""
    return SizingRules(to_x18(budget), cap_bps=0, headroom_bps=0, gap_bps=gap_bps)


def test_a_gap_of_exactly_the_wanted_one_is_wanted() -> None:
    """21 · 19 and 25 · 16 are 1 of 400 apart, 25 bps; 16 · 19 and 19 · 16 are equal but less money."""
    legs = steps_worth("19", "16")
    assert steps_of(size_pair(legs, exact("401"))) == (21, 25)
    assert steps_of(size_pair(legs, exact("401", gap_bps=24))) == (16, 19)
    legs = steps_worth("19", "16", least=("390", "390"))
    assert steps_of(smallest_pair(legs, exact("401"))) == (21, 25)
    assert smallest_pair(legs, exact("401", gap_bps=24)) is None


def test_of_equal_gaps_that_are_all_too_wide_the_largest_pair_is_taken() -> None:
    assert steps_of(size_pair(steps_worth("400", "399"), exact("1300", gap_bps=24))) == (3, 3)


def test_one_step_each_is_a_size() -> None:
    legs = steps_worth("300", "300")
    assert step_bounds(legs[0], exact("301")) == (1, 1)
    assert steps_of(size_pair(legs, exact("301"))) == (1, 1)
    assert steps_of(smallest_pair(legs, exact("301"))) == (1, 1)
    assert steps_of(size_pair(legs, exact("299"))) is None
    assert smallest_pair(legs, exact("299")) is None


def test_no_pair_is_looked_for_below_a_minimum() -> None:
    """21 and 25 steps would be nearer than 22 and 26, but 399 is less than the 399.5 an order has to be."""
    legs = steps_worth("19", "16", least=("399.5", "399.5"))
    assert steps_of(size_pair(legs, exact("420"))) == (22, 26)


def test_no_pair_is_looked_for_beyond_the_budget() -> None:
    """8 and 21 steps would be near enough, but 400 is more than the budget; nothing below it is."""
    assert smallest_pair(steps_worth("50", "19"), exact("399.5")) is None
    assert steps_of(smallest_pair(steps_worth("50", "19"), exact("400.5"))) == (8, 21)


def test_a_decision_looks_at_so_many_steps_and_no_more() -> None:
    """A budget of any size costs no more time. Only multiples of 5,000 steps of 5.001 are one of 5."""
    for more, found in ((MOST_STEPS - 1, True), (MOST_STEPS, False)):
        rules = exact(f"{(5_000 + more) * 5.001 + 0.001:.3f}", gap_bps=0)
        size = size_pair(steps_worth("5.001", "5"), rules)
        assert isinstance(size, PairSize)
        assert (size.gap_x18 == 0) is found
        least = f"{(5_000 - more) * 5.001:.3f}"
        fewest = smallest_pair(steps_worth("5.001", "5", least=(least, least)), exact("30000", gap_bps=0))
        assert steps_of(fewest) == ((5_000, 5_001) if found else None)
    assert MOST_STEPS == 4_096


def test_a_step_that_is_worth_nothing_makes_no_size() -> None:
    legs = LegQuote(ETH, 1), LegQuote(SOL, to_x18(140))
    assert isinstance(size_pair(legs, RULES), NoSize)
    assert smallest_pair(legs, RULES) is None


@pytest.mark.parametrize(("mid", "need"), [("105", "105.01"), ("104.999999999999999999", "105.00")])
def test_the_budget_that_a_refusal_names_is_enough_and_a_cent_less_is_not(mid: str, need: str) -> None:
    """A limit at the worst price is kept to the unit, so an exact cent needs the next one."""
    legs = steps_worth(mid, mid)
    refused = size_pair(legs, exact("60"))
    assert isinstance(refused, NoSize)
    assert refused.reason == (
        f"P4-PERP: the smallest legal leg needs {need} USD (minimum 100 USD plus headroom),"
        " the budget is 60.00 USD"
    )
    assert steps_of(size_pair(legs, exact(need))) == (1, 1)
    assert steps_of(size_pair(legs, exact(f"{float(need) - 0.01:.2f}"))) is None


def test_the_gap_that_is_wanted_unless_said_otherwise() -> None:
    assert SizingRules(to_x18(150), cap_bps=20, headroom_bps=300).gap_bps == 25


@pytest.mark.parametrize("coarse", [0, 1])
def test_the_coarser_leg_leads_whichever_it_is(coarse: int) -> None:
    """4,096 steps of a cent do not reach from 1,099 USD down to the ten whole hundreds."""
    worth, steps = ("100", "0.01"), (10, 100_000)
    legs = steps_worth(worth[coarse], worth[1 - coarse])
    assert steps_of(size_pair(legs, exact("1099"))) == (steps[coarse], steps[1 - coarse])
    least = steps_of(smallest_pair(legs, exact("1099")))
    assert least == ((1, 10_000) if coarse == 0 else (10_000, 1))


def test_a_leg_keeps_its_minimum_after_a_fall_and_its_budget_after_a_rise() -> None:
    """10 % either way: twelve steps of 10 USD are still 108 of the 100 wanted, eleven would be 99; thirteen
    are 143 of the 150 to spend, fourteen would be 154."""
    leg, _ = steps_worth("10", "10")
    assert step_bounds(leg, SizingRules(to_x18(150), cap_bps=1_000, headroom_bps=0)) == (12, 13)
    assert step_bounds(leg, SizingRules(to_x18(150), cap_bps=1_000, headroom_bps=1_000)) == (13, 13)
