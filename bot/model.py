"""What the pair's state machine reads and writes: plan, inputs, state, actions. Immutable values.

Times are monotonic nanoseconds given from outside; sizes and prices x18, signed where the name says so.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import Final

from nadofast.products import Product

from .execution import LegInputs, LegState
from .risk import OrderIntent
from .sizing import PairSize, SizingRules

# More is never asked for in advance: exits that find the budget spent cross, and those have a reserve.
MAX_CYCLE_WEIGHT: Final = 40


class Phase(StrEnum):
    FLAT = "FLAT"
    BUILDING = "BUILDING"
    HEDGED = "HEDGED"
    UNWINDING = "UNWINDING"
    RECOVERING = "RECOVERING"
    HALTED = "HALTED"


class Direction(StrEnum):
    """BUY_FIRST: long the first product, short the second. SELL_FIRST: the mirror."""

    BUY_FIRST = "BUY_FIRST"
    SELL_FIRST = "SELL_FIRST"

    @property
    def signs(self) -> tuple[int, int]:
        return (1, -1) if self is Direction.BUY_FIRST else (-1, 1)


class ExitCode(IntEnum):
    DONE = 0
    ERROR = 1
    USAGE = 2
    HALTED_FLAT = 3
    EXPOSED = 4


class EntryMode(StrEnum):
    """IOC: both legs cross together. MAKER_THEN_IOC: the thinner leg rests first, the rest crosses."""

    IOC = "ioc"
    MAKER_THEN_IOC = "maker_then_ioc"


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that stays the same during a run.

    take_deadline_ns: a crossing order without an end for so long is looked for. leg_deadline_ns: from the
    first fill of an entry until the other leg is full, or both are left. exit_leg_ns: from the first fill of
    an exit on the other leg may rest no longer than this. max_stale_ns: a position whose market is not seen
    for so long is closed. leg_risk_bps: completing a leg may cost so much more than leaving the other one.
    is_by_hand: a cycle begins only when one is wanted. max_slippage_bps, max_fee_bps: an entry that is
    estimated to lose more to the books, or whose taker fee is more, is skipped (0: whatever it costs).
    maker_entry_ms: how long the leg that rests first may wait. maker_leg_ns, maker_leg_x18: budget of leg
    risk of a part of it that filled, since the first fill and in quote. max_residual_x18: quote that may be
    carried from one cycle to the next because no order can close it. moves_in_one_step: a resting exit is
    replaced, not cancelled and placed anew (recordings of older runs do not say so, and did not).
    """

    products: tuple[Product, Product]
    sizing: SizingRules
    cycles: int
    hold_ns: int
    max_skips: int
    ready_timeout_ns: int
    entry_cap_bps: int
    entry_attempts: int
    hedge_attempts: int
    leg_deadline_ns: int
    maker_timeout_ms: int
    reprice_ns: int
    exit_cap_bps: int
    exit_deadline_ns: int
    max_net_delta_bps: int
    max_blind_ns: int
    order_deadline_ns: int = 5_000_000_000
    take_deadline_ns: int = 1_500_000_000
    exit_leg_ns: int = 1_000_000_000
    max_stale_ns: int = 3_000_000_000
    leg_risk_bps: int = 25
    is_by_hand: bool = False
    max_slippage_bps: int = 0
    max_fee_bps: int = 0
    entry_mode: EntryMode = EntryMode.IOC
    maker_entry_ms: int = 2_000
    maker_leg_ns: int = 250_000_000
    maker_leg_x18: int = 75 * 10**18
    max_residual_x18: int = 100 * 10**18
    verify_deadline_ns: int = 3_000_000_000
    recover_deadline_ns: int = 10_000_000_000
    stop_deadline_ns: int = 13_000_000_000
    max_failures: int = 3
    ladder: tuple[SizingRules, ...] = ()
    ladder_cycles: int = 1
    moves_in_one_step: bool = False

    def sizing_at(self, done: int) -> SizingRules:
        """The size of the next cycle: up the ladder, `ladder_cycles` complete ones a step, then `sizing`."""
        step = done // self.ladder_cycles
        return self.ladder[step] if step < len(self.ladder) else self.sizing

    @property
    def cycle_weight(self) -> int:
        """Order budget of a full cycle: entries, a hedge a leg, exits moved as often as they may, takers."""
        moves = self.maker_timeout_ms * 1_000_000 // self.reprice_ns if self.reprice_ns else 0
        first = 0
        if self.entry_mode is EntryMode.MAKER_THEN_IOC and self.reprice_ns:
            first = 2 * self.maker_entry_ms * 1_000_000 // self.reprice_ns
        return min(2 + first + 2 + 2 * 2 * (1 + moves) + 2, MAX_CYCLE_WEIGHT)


@dataclass(frozen=True, slots=True)
class Verified:
    """The exchange's own answer about both positions, to the request numbered `seq`.

    resting: how many of our orders are on the two books; only counted when the request asked for it, or
    when an order of the cycle left more than once.
    pending: how many of ours may still get there.
    """

    seq: int
    positions_x18: tuple[int, int]
    resting: int = 0
    pending: int = 0


@dataclass(frozen=True, slots=True)
class Foreign:
    """A position changed and no order of ours did it: a liquidation, ADL, somebody else. number: of how many
    so far. is_certain: the exchange named a reason; else a match that no fill of ours explains, which may be
    news that was overtaken, so the positions have to be asked for."""

    number: int
    why: str
    is_certain: bool = True


@dataclass(frozen=True, slots=True)
class PairInputs:
    """The world at one decision.

    not_ready: why no entry may be made ("" = ready). pacing: the order budget has to recover before the
    next cycle; that is no fault and has no deadline. halt: the latched limit. stop_age_ns: how long ago
    a person asked to stop. drain: no new cycle. blind_ns: how long nothing was heard from the exchange.
    stale_ns: age of the older price. gone: the exchange has ended for good. equity_x18: of the account, None
    while nobody has said.
    """

    legs: tuple[LegInputs, LegInputs]
    not_ready: str = ""
    pacing: bool = False
    halt: str | None = None
    stop_age_ns: int | None = None
    drain: bool = False
    blind_ns: int = 0
    stale_ns: int = 0
    gone: str | None = None
    verified: Verified | None = None
    equity_x18: int | None = None
    foreign: Foreign | None = None


@dataclass(frozen=True, slots=True)
class End:
    code: ExitCode
    reason: str


@dataclass(frozen=True, slots=True)
class PairState:
    """cycle counts every begun cycle, done the complete ones; skips and failures are in a row.

    wanted: direction of the next cycle, None: the other one than last time. urgent: why an exit must cross
    at once ("" = may rest). first_fill_ns starts the leg-risk clock of the phase: an entry's, or an exit's.
    foreign: how many changes of others were dealt with. cancelled_ns: when everything was cancelled last.
    mids_x18: of both products when the entry was decided, or rested anew. maker: the leg that rests first in
    this attempt, None if both cross; maker_until_ns: until when it may.
    """

    phase: Phase = Phase.FLAT
    since_ns: int = 0
    legs: tuple[LegState, LegState] = field(default_factory=lambda: (LegState(), LegState()))
    direction: Direction = Direction.BUY_FIRST
    wanted: Direction | None = None
    cycle: int = 0
    done: int = 0
    skips: int = 0
    failures: int = 0
    attempts: int = 0
    not_before_ns: int = 0
    tag: int = 0
    verify_seq: int = 0
    is_verifying: bool = False
    asked_ns: int = 0
    flat_answers: int = 0
    is_pacing: bool = False
    first_fill_ns: int | None = None
    foreign: int = 0
    cancelled_ns: int = 0
    mids_x18: tuple[int, int] = (0, 0)
    maker: int | None = None
    maker_until_ns: int = 0
    urgent: str = ""
    end: End | None = None

    @property
    def is_exposed(self) -> bool:
        """A position is held, an order may still make one, or what we believed has turned out to be wrong."""
        is_in_doubt = self.phase is Phase.RECOVERING or (self.phase is Phase.FLAT and self.is_verifying)
        return is_in_doubt or any(leg.held_x18 or leg.working is not None for leg in self.legs)


@dataclass(frozen=True, slots=True)
class Begin:
    """A cycle starts with these sizes. Its first orders follow in the same list."""

    cycle: int
    direction: Direction
    size: PairSize


@dataclass(frozen=True, slots=True)
class Send:
    """Orders that leave in one loop turn, all or none."""

    intents: tuple[OrderIntent, ...]


@dataclass(frozen=True, slots=True)
class Cancel:
    tag: int
    why: str


@dataclass(frozen=True, slots=True)
class Replace:
    """Cancel one order and put another in its place, in one step of the exchange. Whatever becomes of that,
    the old one ends: where the step fails, it is cancelled and nothing else is sent."""

    tag: int
    intent: OrderIntent
    why: str


@dataclass(frozen=True, slots=True)
class CancelAll:
    """Cancel whatever rests on both products, known or not."""


@dataclass(frozen=True, slots=True)
class Verify:
    """Read both positions (with_orders: and what rests) from the exchange; answered by `Verified(seq)`."""

    seq: int
    with_orders: bool = False


@dataclass(frozen=True, slots=True)
class Hedged:
    """Both legs are full, proved by the exchange."""


@dataclass(frozen=True, slots=True)
class Note:
    """One line for the operator."""

    text: str


@dataclass(frozen=True, slots=True)
class CycleEnd:
    """The pair is flat again, proved by the exchange. failure: "" when the cycle went as planned. is_flat:
    False when a residual is carried on."""

    cycle: int
    failure: str = ""
    skipped: bool = False
    is_flat: bool = True


Action = Begin | Send | Cancel | Replace | CancelAll | Verify | Hedged | Note | CycleEnd
