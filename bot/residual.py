"""What is left of a leg that no order can close: below the exchange's minimum, or off its step grid. Pure.

It is carried into the next cycle, whose entry on that leg is larger by as much and so takes it in. It is
limited: beyond `Plan.max_residual_x18` nothing is built any more, and a person has to act.
"""

from __future__ import annotations

from dataclasses import replace

from nadofast.products import Product, mul_x18

from .execution import LegState
from .model import Direction, PairInputs, PairState, Phase, Plan
from .units import show, show_usd, sign


def is_stuck(state: PairState, inputs: PairInputs, plan: Plan) -> bool:
    """Something is held, and whatever is held was refused as too small, or is less than a step, and is worth
    less than the minimum."""
    held = [
        (
            leg.too_small or is_dust(leg, product),
            mul_x18(abs(leg.held_x18), seen.mid_x18),
            product.min_size_x18,
        )
        for leg, seen, product in zip(state.legs, inputs.legs, plan.products, strict=True)
        if leg.held_x18
    ]
    return bool(held) and all(is_small and worth < least for is_small, worth, least in held)


def is_dust(leg: LegState, product: Product) -> bool:
    """Less than one size step is held: no order can name it, and nobody has to be asked about that."""
    return leg.held_x18 != 0 and product.round_size(leg.held_x18) == 0


def worth_x18(state: PairState, inputs: PairInputs) -> int:
    """Quote of both residuals together."""
    return sum(
        mul_x18(abs(leg.carried_x18), seen.mid_x18) for leg, seen in zip(state.legs, inputs.legs, strict=True)
    )


def words(state: PairState, inputs: PairInputs, plan: Plan) -> str:
    parts = [
        f"{product.symbol} {show(leg.held_x18, signed=True)}"
        f" ({show_usd(mul_x18(abs(leg.held_x18), seen.mid_x18), 2)} USD)"
        for product, leg, seen in zip(plan.products, state.legs, inputs.legs, strict=True)
        if leg.held_x18
    ]
    return "residual " + ", ".join(parts)


def carry(state: PairState) -> PairState:
    """FLAT but for what is stuck. No next cycle is asked for by that."""
    return replace(state, legs=clean_legs(state, held=True))


def clean_legs(state: PairState, *, held: bool = False) -> tuple[LegState, LegState]:
    """Legs of nothing but residuals: the carried ones, or (held) whatever is held now."""
    amounts = [leg.held_x18 if held else leg.carried_x18 for leg in state.legs]
    first, second = (LegState(held_x18=amount, carried_x18=amount) for amount in amounts)
    return first, second


def wanted(state: PairState) -> Direction | None:
    """The direction whose entries oppose the residuals, so that their orders are larger and not smaller; None
    if there are none."""
    for index, leg in enumerate(state.legs):
        if leg.held_x18:
            is_first_bought = (leg.held_x18 < 0) == (index == 0)
            return Direction.BUY_FIRST if is_first_bought else Direction.SELL_FIRST
    return None


def too_much(state: PairState, inputs: PairInputs, plan: Plan) -> str:
    """Why nothing may be built on what is carried; "" if it may."""
    if state.phase is not Phase.FLAT or not any(leg.carried_x18 for leg in state.legs):
        return ""
    worth = worth_x18(state, inputs)
    if worth > plan.max_residual_x18:
        limit = show_usd(plan.max_residual_x18, 2)
        return f"{words(state, inputs, plan)} above the limit of {limit} USD: close it by hand"
    signs = {sign(leg.carried_x18) * side for leg, side in zip(state.legs, (1, -1), strict=True)} - {0}
    if len(signs) > 1:
        return f"{words(state, inputs, plan)} on the same side of both legs: close it by hand"
    return ""
