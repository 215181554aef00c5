"""Whether an entry may be made: both legs are looked at before either leaves. Pure.

What is wrong here is no fault of anybody: the cycle is skipped with a reason.
"""

from __future__ import annotations

from nadofast.products import Product, mul_x18

from . import execution
from .execution import LegInputs
from .model import PairInputs, Plan
from .sizing import PairSize
from .units import BPS, scale_bps, show_usd


def cannot_enter(inputs: PairInputs, plan: Plan, size: PairSize, targets_x18: tuple[int, int]) -> str:
    """Why not: what the books show, what the entry would lose to them, its fees, its margin; "" if it may."""
    for product, seen, target_x18, notional_x18 in zip(
        plan.products, inputs.legs, targets_x18, size.notionals_x18, strict=True
    ):
        price_x18 = execution.entry_price_x18(product, target_x18, seen.mid_x18, plan.entry_cap_bps)
        if seen.depth is not None and seen.depth.visible_x18(target_x18, price_x18) < abs(target_x18):
            return f"{product.symbol}: the book does not show the size inside {plan.entry_cap_bps} bps"
        fee_bps = taker_fee_bps(product, notional_x18)
        if plan.max_fee_bps and fee_bps > plan.max_fee_bps:
            return f"{product.symbol}: taker fee {fee_bps} bps of the leg, limit {plan.max_fee_bps} bps"
    lost_bps = slippage_bps(inputs.legs, targets_x18)
    if plan.max_slippage_bps and lost_bps > plan.max_slippage_bps:
        return f"the books would take {lost_bps} bps of the entry, limit {plan.max_slippage_bps} bps"
    return _no_margin(inputs, plan, size)


def shown_budget_x18(inputs: PairInputs, plan: Plan, signs: tuple[int, int]) -> int | None:
    """Most quote per leg, at the worst price of the entry, that both books show inside the cap; None while
    one of them is not known. A larger pair would leave a leg behind: it is made as large as it can be. It
    is not sliced, as an exit is: nothing has to be entered, and between two slices a leg may stand alone."""
    least: int | None = None
    for product, seen, side in zip(plan.products, inputs.legs, signs, strict=True):
        if seen.depth is None:
            return None
        price_x18 = execution.entry_price_x18(product, side, seen.mid_x18, plan.entry_cap_bps)
        worst_x18 = mul_x18(
            seen.depth.visible_x18(side, price_x18), scale_bps(seen.mid_x18, BPS + plan.entry_cap_bps)
        )
        least = worst_x18 if least is None else min(least, worst_x18)
    return least


def slippage_bps(legs: tuple[LegInputs, LegInputs], targets_x18: tuple[int, int]) -> int:
    """What crossing both books is estimated to lose against the mids, of both notionals, rounded up. 0 while
    a book is not shown; depth that is shown for less than the size does not come here."""
    lost_x18 = whole_x18 = 0
    for seen, target_x18 in zip(legs, targets_x18, strict=True):
        quote_x18 = None if seen.depth is None else seen.depth.quote_x18(target_x18)
        if quote_x18 is None:
            return 0
        fair_x18 = mul_x18(abs(target_x18), seen.mid_x18)
        lost_x18 += quote_x18 - fair_x18 if target_x18 > 0 else fair_x18 - quote_x18
        whole_x18 += fair_x18
    return -(-lost_x18 * BPS // whole_x18) if whole_x18 else 0


def taker_fee_bps(product: Product, notional_x18: int) -> int:
    """Taker fee of an order of this notional, rounded up: the exchange takes it of its minimum at least."""
    charged_x18 = max(notional_x18, product.min_size_x18)
    return -(-mul_x18(charged_x18, product.taker_fee_rate_x18) * BPS // notional_x18) if notional_x18 else 0


def _no_margin(inputs: PairInputs, plan: Plan, size: PairSize) -> str:
    margin_x18 = sum(
        mul_x18(notional_x18, 10**18 - product.long_weight_initial_x18)
        for product, notional_x18 in zip(plan.products, size.notionals_x18, strict=True)
    )
    if inputs.equity_x18 is not None and inputs.equity_x18 < margin_x18:
        return f"margin: {show_usd(inputs.equity_x18, 2)} USD of {show_usd(margin_x18, 2)} USD"
    return ""
