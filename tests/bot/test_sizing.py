"""Joint sizing against brute force over every step pair."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from machinekit import ETH, SOL, product

from bot.sizing import (
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
