"""Both legs sized together: the pair of steps with the least notional gap that fits the budget.

Rounding each leg alone leaves gaps of several per cent at small sizes, because one step of one product
may be worth many steps of the other. So pairs are compared, never legs.
"""

from __future__ import annotations

from dataclasses import dataclass

from nadofast.products import Product, mul_x18

from .units import BPS, scale_bps


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


@dataclass(frozen=True, slots=True)
class NoSize:
    """No pair of steps fits. `reason` names the bound that is in the way."""

    reason: str


@dataclass(frozen=True, slots=True)
class SizingRules:
    """budget_x18: most quote per leg at the worst price of the entry (mid moved by `cap_bps`).

    headroom_bps: how far above the exchange's minimum notional a leg stays, so that its exit is still a
    legal order after the price fell that much.
    """

    budget_x18: int
    cap_bps: int
    headroom_bps: int


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
    """The step pair with the least notional gap; equal gaps go to the larger pair.

    Walks the steps of the coarser leg and takes the nearest two of the finer one, so the cost is the
    number of coarse steps in the budget, capped to the 4,096 largest.
    """
    bounds = tuple(step_bounds(leg, rules) for leg in legs)
    for leg, (fewest, most) in zip(legs, bounds, strict=True):
        if leg.mid_x18 <= 0:
            return NoSize(f"{leg.product.symbol}: no price")
        if fewest > most:
            return NoSize(_why_not(leg, rules, fewest))
    unit = tuple(mul_x18(leg.product.size_increment_x18, leg.mid_x18) for leg in legs)
    coarse = 0 if unit[0] >= unit[1] else 1
    fine = 1 - coarse
    best: tuple[int, int, int, int] | None = None  # gap, −notional, coarse steps, fine steps
    (low, high), (fine_low, fine_high) = bounds[coarse], bounds[fine]
    for steps in range(high, max(low, high - 4096) - 1, -1):
        worth = steps * unit[coarse]
        for other in {worth // unit[fine], worth // unit[fine] + 1}:
            partner = min(max(other, fine_low), fine_high)
            candidate = (abs(worth - partner * unit[fine]), -worth, steps, partner)
            if best is None or candidate < best:
                best = candidate
    assert best is not None  # low ≤ high: the range above is never empty
    counts = (best[2], best[3]) if coarse == 0 else (best[3], best[2])
    return PairSize(
        (counts[0] * legs[0].product.size_increment_x18, counts[1] * legs[1].product.size_increment_x18),
        (counts[0] * unit[0], counts[1] * unit[1]),
    )


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
