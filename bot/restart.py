"""A start that finds a pair open or half open: what it was, and how the strategy goes on from there.

    refuse   start nothing, name what is there
    adopt    take it over as the current cycle and go on: complete a missing leg, hold, close, next cycle
    finish   close it as planned, resting first, and end flat
    flatten  cross out of it at once and end flat

The exchange's positions are the truth; the journal says which orders were ours and what became of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from nadofast.models import OpenOrder
from nadofast.products import Product, mul_x18

from .execution import LegState
from .model import Direction, PairState, Phase
from .risk import CLIENT_ID_BASE, RiskLimits, net_delta_bps
from .sizing import LegQuote, PairSize
from .units import show, sign

# Ours carry CLIENT_ID_BASE plus a tag far below this.
CLIENT_ID_END: Final = CLIENT_ID_BASE << 1


class OnOpen(StrEnum):
    REFUSE = "refuse"
    ADOPT = "adopt"
    FINISH = "finish"
    FLATTEN = "flatten"


@dataclass(frozen=True, slots=True)
class Found:
    """Signed positions of both products (isolated_x18: the part of them with its own margin), and orders on
    their books."""

    products: tuple[Product, Product]
    positions_x18: tuple[int, int]
    isolated_x18: tuple[int, int]
    resting: tuple[OpenOrder, ...]

    @property
    def is_clean(self) -> bool:
        return not any(self.positions_x18) and not any(self.isolated_x18) and not self.resting

    @property
    def foreign(self) -> tuple[OpenOrder, ...]:
        """Orders that no bot of this kind has placed."""
        return tuple(order for order in self.resting if not is_ours(order.id))

    def words(self) -> str:
        held = [
            f"{product.symbol} {show(position, signed=True)}"
            for product, position in zip(self.products, self.positions_x18, strict=True)
            if position
        ]
        if self.resting:
            held.append(f"{len(self.resting)} orders on the books")
        return ", ".join(held) or "nothing"


def is_ours(client_id: int | None) -> bool:
    return client_id is not None and CLIENT_ID_BASE <= client_id < CLIENT_ID_END


def refusal(found: Found, choice: OnOpen) -> str:
    """Why this start may not go on; "" when it may."""
    if found.is_clean:
        return ""
    if any(found.isolated_x18):
        return f"the account holds isolated positions ({found.words()}): they are not traded here"
    if choice is OnOpen.REFUSE:
        others = ", ".join(one.value for one in OnOpen if one is not OnOpen.REFUSE)
        return f"the account already holds {found.words()}; choose with run.on_open what to do: {others}"
    if found.foreign and choice is not OnOpen.FLATTEN:
        return f"the account has {len(found.foreign)} orders of somebody else; only flatten takes them off"
    return ""


def first_state(
    choice: OnOpen,
    products: tuple[Product, Product],
    positions_x18: tuple[int, int],
    mids_x18: tuple[int, int],
    limits: RiskLimits,
    *,
    max_net_delta_bps: int,
    now_ns: int,
) -> PairState | None:
    """Where the machine starts from with these positions; None when it starts from flat.

    adopt: hedged if the legs cancel within the limit, else building if the missing leg can be had within the
    limits of a leg. Whatever cannot be adopted is closed.
    """
    if not any(positions_x18):
        return None
    by_id = {product.product_id: i for i, product in enumerate(products)}
    positions = {product_id: positions_x18[i] for product_id, i in by_id.items()}
    marks = {product_id: mids_x18[i] for product_id, i in by_id.items()}
    direction = _direction(positions_x18)
    if choice is OnOpen.ADOPT:
        if net_delta_bps(positions, marks) <= max_net_delta_bps:
            return _state(Phase.HEDGED, positions_x18, positions_x18, direction, now_ns)
        targets = _completed(products, positions_x18, mids_x18, limits)
        if targets is not None:
            return _state(Phase.BUILDING, targets, positions_x18, direction, now_ns)
    return _state(Phase.UNWINDING, positions_x18, positions_x18, direction, now_ns)


def adopted_size(state: PairState, legs: Sequence[LegQuote]) -> PairSize:
    """What the adopted cycle is worth at these mids, for the records."""
    sizes = tuple(abs(leg.target_x18) for leg in state.legs)
    notionals = tuple(mul_x18(size, leg.mid_x18) for size, leg in zip(sizes, legs, strict=True))
    return PairSize((sizes[0], sizes[1]), (notionals[0], notionals[1]))


def _direction(positions_x18: tuple[int, int]) -> Direction:
    lead = sign(positions_x18[0]) or -sign(positions_x18[1])
    return Direction.BUY_FIRST if lead > 0 else Direction.SELL_FIRST


def _completed(
    products: tuple[Product, Product],
    positions_x18: tuple[int, int],
    mids_x18: tuple[int, int],
    limits: RiskLimits,
) -> tuple[int, int] | None:
    """Targets that hedge the larger leg by adding to the smaller one; None when that cannot be."""
    notionals = [mul_x18(p, mid) for p, mid in zip(positions_x18, mids_x18, strict=True)]
    large = 0 if abs(notionals[0]) >= abs(notionals[1]) else 1
    small = 1 - large
    step_x18 = products[small].size_increment_x18
    unit_x18 = mul_x18(step_x18, mids_x18[small])
    if unit_x18 <= 0 or sign(positions_x18[small]) == sign(positions_x18[large]):
        return None
    steps = (2 * abs(notionals[large]) + unit_x18) // (2 * unit_x18)
    target_x18 = -sign(positions_x18[large]) * steps * step_x18
    adds_x18 = mul_x18(abs(target_x18 - positions_x18[small]), mids_x18[small])
    if adds_x18 < products[small].min_size_x18 or max(map(abs, notionals)) > limits.max_leg_x18:
        return None
    return (positions_x18[0], target_x18) if small == 1 else (target_x18, positions_x18[1])


def _state(
    phase: Phase, targets_x18: tuple[int, int], held_x18: tuple[int, int], direction: Direction, now_ns: int
) -> PairState:
    """One crossing order a leg counts as made: the next one may pay the cap of a first try."""
    legs = tuple(
        LegState(target_x18=target, held_x18=held, attempts=int(phase is Phase.BUILDING))
        for target, held in zip(targets_x18, held_x18, strict=True)
    )
    return PairState(
        phase=phase, since_ns=now_ns, legs=(legs[0], legs[1]), direction=direction, cycle=1, attempts=1,
        first_fill_ns=now_ns if phase is Phase.BUILDING else None,
    )  # fmt: skip
