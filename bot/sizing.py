"""Both legs sized together: the largest pair of steps in the budget whose notionals are near enough.

Rounding each leg alone leaves gaps of several per cent at small sizes, because one step of one product
may be worth many steps of the other. So pairs are compared, never legs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from nadofast.products import Product, mul_x18

from .units import BPS, scale_bps

DEFAULT_GAP_BPS: Final = 25
MOST_STEPS: Final = 4096


@dataclass(frozen=True, slots=True)
class LegQuote:
    """What sizing needs to know of one leg: its product and the arrival mid."""

    product: Product
    mid_x18: int


@dataclass(frozen=True, slots=True)
class PairSize:
    """Absolute sizes of both legs, their notionals at mid, and the gap between them."""

    sizes_x18: tuple[int, int]
    notionals_x18: tuple[int, int]

    @property
    def gap_x18(self) -> int:
        return abs(self.notionals_x18[0] - self.notionals_x18[1])

    @property
    def relative_gap_x18(self) -> int:
        """Gap over the larger notional, rounded up."""
        return -(-self.gap_x18 * 10**18 // max(self.notionals_x18))


@dataclass(frozen=True, slots=True)
class NoSize:
    """No pair of steps fits. `reason` names the bound that is in the way."""

    reason: str


@dataclass(frozen=True, slots=True)
class SizingRules:
    """budget_x18: most quote per leg at the worst price of the entry (mid moved by `cap_bps`).

    headroom_bps: how far above the exchange's minimum notional a leg stays, so that its exit is still a
    legal order after the price fell that much. gap_bps: the wanted gap, of the larger leg. Net delta is half
    of it: 25 bps of gap are an eighth of one per cent of delta.
    """

    budget_x18: int
    cap_bps: int
    headroom_bps: int
    gap_bps: int = DEFAULT_GAP_BPS


def step_bounds(leg: LegQuote, rules: SizingRules) -> tuple[int, int]:
    """Fewest and most size steps of a leg: minimum notional with headroom, budget at the worst price."""
    step = leg.product.size_increment_x18
    floor_x18 = leg.product.min_size_x18 + scale_bps(leg.product.min_size_x18, rules.headroom_bps)
    lowest_x18 = mul_x18(step, scale_bps(leg.mid_x18, BPS - rules.cap_bps))
    highest_x18 = mul_x18(step, scale_bps(leg.mid_x18, BPS + rules.cap_bps)) + 1
    if lowest_x18 <= 0:
        return 1, 0
    return max(1, -(-floor_x18 // lowest_x18)), rules.budget_x18 // highest_x18


def size_pair(legs: tuple[LegQuote, LegQuote], rules: SizingRules) -> PairSize | NoSize:
    """The largest step pair whose gap is wanted (`gap_bps`); if there is none, the one with the least gap.

    Walks the steps of the coarser leg from above and takes the nearest two of the finer one, so the cost is
    the number of coarse steps in the budget, capped to the 4,096 largest.
    """
    grid = _grid(legs, rules)
    if isinstance(grid, NoSize):
        return grid
    best: tuple[int, PairSize] | None = None
    for steps in range(grid.high, max(grid.low - 1, grid.high - MOST_STEPS), -1):
        size = grid.at(steps)
        gap = size.relative_gap_x18
        if gap * BPS <= rules.gap_bps * 10**18:
            return size
        if best is None or gap < best[0]:
            best = gap, size
    assert best is not None  # low ≤ high: the range above is never empty
    return best[1]


def smallest_pair(legs: tuple[LegQuote, LegQuote], rules: SizingRules) -> PairSize | None:
    """The smallest step pair within the budget whose gap is wanted; None if there is none among the 4,096
    smallest."""
    grid = _grid(legs, rules)
    if isinstance(grid, NoSize):
        return None
    for steps in range(grid.low, min(grid.high + 1, grid.low + MOST_STEPS)):
        size = grid.at(steps)
        if size.relative_gap_x18 * BPS <= rules.gap_bps * 10**18:
            return size
    return None


@dataclass(frozen=True, slots=True)
class _Grid:
    """Step pairs by the steps of the coarser leg, low to high. units_x18: what one step of a leg is worth."""

    legs: tuple[LegQuote, LegQuote]
    units_x18: tuple[int, int]
    coarse: int
    low: int
    high: int
    fine_low: int
    fine_high: int

    def at(self, steps: int) -> PairSize:
        """With the steps of the finer leg that come nearest."""
        fine_x18, worth_x18 = self.units_x18[1 - self.coarse], steps * self.units_x18[self.coarse]
        nearest = (worth_x18 // fine_x18, worth_x18 // fine_x18 + 1)
        partners = (min(max(n, self.fine_low), self.fine_high) for n in nearest)
        partner = min(partners, key=lambda n: abs(worth_x18 - n * fine_x18))
        first, second = (steps, partner) if self.coarse == 0 else (partner, steps)
        return PairSize(
            (
                first * self.legs[0].product.size_increment_x18,
                second * self.legs[1].product.size_increment_x18,
            ),
            (first * self.units_x18[0], second * self.units_x18[1]),
        )


def _grid(legs: tuple[LegQuote, LegQuote], rules: SizingRules) -> _Grid | NoSize:
    bounds = tuple(step_bounds(leg, rules) for leg in legs)
    for leg, (fewest, most) in zip(legs, bounds, strict=True):
        if leg.mid_x18 <= 0:
            return NoSize(f"{leg.product.symbol}: no price")
        if fewest > most:
            return NoSize(_why_not(leg, rules, fewest))
    first_x18, second_x18 = (mul_x18(leg.product.size_increment_x18, leg.mid_x18) for leg in legs)
    coarse = 0 if first_x18 >= second_x18 else 1
    return _Grid(legs, (first_x18, second_x18), coarse, *bounds[coarse], *bounds[1 - coarse])


def smallest_budget_x18(legs: tuple[LegQuote, LegQuote], rules: SizingRules) -> int:
    """The least budget per leg for which `size_pair` finds anything."""
    needs = []
    for leg in legs:
        fewest, _ = step_bounds(leg, rules)
        step_x18 = mul_x18(leg.product.size_increment_x18, scale_bps(leg.mid_x18, BPS + rules.cap_bps)) + 1
        needs.append(fewest * step_x18)
    return max(needs)


def _why_not(leg: LegQuote, rules: SizingRules, fewest: int) -> str:
    step_x18 = mul_x18(leg.product.size_increment_x18, scale_bps(leg.mid_x18, BPS + rules.cap_bps)) + 1
    need_usd = -(-fewest * step_x18 // 10**16) / 100
    return (
        f"{leg.product.symbol}: the smallest legal leg needs {need_usd:.2f} USD "
        f"(minimum {leg.product.min_size_x18 // 10**18} USD plus headroom), "
        f"the budget is {rules.budget_x18 / 10**18:.2f} USD"
    )
