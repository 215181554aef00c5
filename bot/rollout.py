"""The steps between a set-up and trading with it: `run --dry-run` and `run --canary`.

A dry run goes the whole way of an entry, in both directions: decided by the machine, passed by the risk gate,
hashed and signed by the gateway. The door of the gateway is shut for all of it (`shut`), so that no order can
leave, whatever a defect does. A canary is one cycle, all checks of `doctor` before it and a verdict after it.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from nadofast.gateway import Outcome
from nadofast.orders import TrackedOrder
from nadofast.products import mul_x18

from .doctor import Finding, Mark, bad, look, ok
from .logs import table
from .metrics import TradeMetrics, expected_cost_x18
from .model import Direction, End, EntryMode, ExitCode, Note, PairState, Plan, Send
from .risk import OrderIntent
from .units import show, show_usd

if TYPE_CHECKING:
    from .pair import DNPairBot, PairParts

DEAR: Final = 2
"""A canary that costs so many times what was expected at worst is worth a look."""


class Task(StrEnum):
    """What a start is for. FLATTEN only closes what it finds."""

    TRADE = "trade"
    DRY_RUN = "dry run"
    CANARY = "canary"
    FLATTEN = "flatten"


class DryRun(PermissionError):
    """Nothing leaves in a dry run."""


def shut(order: TrackedOrder) -> None:
    """The door of a dry run. Raises DryRun, always."""
    raise DryRun(f"{order.digest} stays here")


# ---------------------------------------------------------------------- dry run


async def dry_run(bot: DNPairBot, parts: PairParts) -> End:
    """Both directions, said and not sent. DONE if a run would send both legs of each."""
    refused = []
    # A leg that rests first is one order: what crosses after it, or instead of it, is rehearsed as well.
    modes = dict.fromkeys((parts.plan.entry_mode, EntryMode.IOC))
    for direction, mode in itertools.product(Direction, modes):
        state, actions = bot.foresee(direction, mode)
        intents = next((action.intents for action in actions if isinstance(action, Send)), ())
        if not intents:
            why = _why_nothing(parts, state, [a.text for a in actions if isinstance(a, Note)])
            parts.log.event(f"dry run   {direction}: nothing would be sent: {why}")
            refused.append((direction, why, parts.gate.halt_reason is not None))
            continue
        refused += [(direction, why, False) for why in await _rehearse(parts, direction, intents)]
    if not refused:
        return End(ExitCode.DONE, "dry run: both directions would be sent; nothing was")
    code = ExitCode.HALTED_FLAT if all(is_halted for _, _, is_halted in refused) else ExitCode.ERROR
    return End(code, "; ".join(f"{direction}: {why}" for direction, why, _ in refused))


def _why_nothing(parts: PairParts, state: PairState, notes: Sequence[str]) -> str:
    if state.end is not None:
        return state.end.reason
    return "; ".join(notes) or parts.guard.not_ready() or parts.gate.pause_reason() or "the machine waits"


async def _rehearse(parts: PairParts, direction: Direction, intents: Sequence[OrderIntent]) -> list[str]:
    """Approve, sign and hand over, to a shut door. What the gate or the gateway had against it."""
    clients, gate = parts.clients, parts.gate
    outcomes: list[Outcome] = []
    decisions = [clients[intent.leg].approve(intent) for intent in intents]
    try:
        reasons = [reason for decision in decisions for reason in decision.reasons]
        approved = [decision.order for decision in decisions if decision.order is not None]
        if not reasons:
            requests = [clients[order.intent.leg].request(order) for order in approved]
            with _quiet_gateway():
                outcomes = await parts.gateway.place_many(requests)
            if wrong := [
                o.reason or str(o.kind) for o in outcomes if DryRun.__name__ not in (o.reason or "")
            ]:
                reasons = [f"gateway: {reason}" for reason in wrong]
    finally:
        for intent in intents:
            gate.release(intent.tag)
    verdict = f"refused: {'; '.join(reasons)}" if reasons else "would be sent"
    verdict = f"one leg rests first, {verdict}" if intents[0].purpose.rests else verdict
    parts.log.event(f"dry run   {direction}: {verdict}")
    parts.log.block(_order_lines(parts, intents, outcomes))
    return reasons


def _order_lines(parts: PairParts, intents: Sequence[OrderIntent], outcomes: Sequence[Outcome]) -> list[str]:
    rows = []
    for i, intent in enumerate(intents):
        client = parts.clients[intent.leg]
        notional_x18 = abs(mul_x18(intent.amount_x18, intent.price_x18))
        discard = f"{parts.gateway.entry_discard_ms} ms" if intent.discard else "-"
        kind = "post-only" if intent.purpose.rests else "ioc"
        digest = outcomes[i].digest if i < len(outcomes) else ""
        rows.append([
            client.product.symbol, show(intent.amount_x18, signed=True), show(intent.price_x18),
            show_usd(notional_x18, 2), kind, discard, digest or "-",
        ])  # fmt: skip
    return table(["leg", "size", "worst price", "USD at worst", "type", "discarded after", "digest"], rows)


@contextlib.contextmanager
def _quiet_gateway() -> Iterator[None]:
    """The gateway reports every refusal at its door as an error; these are what is wanted."""
    logger = logging.getLogger("nadofast.gateway")
    was, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = was


# ---------------------------------------------------------------------- canary


def plan_for(task: Task, plan: Plan) -> Plan:
    """A canary is one cycle: one that failed is its last, too. One that held nothing may be tried again."""
    return replace(plan, max_failures=1) if task is Task.CANARY else plan


@dataclass(frozen=True, slots=True)
class Outcomes:
    """What the one cycle left behind. gap_x18: exchange's cash less the ledger's, None when not proved flat.
    failovers: switches to REST during it. lost: what of its record could not be written; "" = nothing."""

    cycles: Sequence[TradeMetrics]
    end: End
    exposure: str
    halt: str
    gap_x18: int | None
    taken_over: int
    failovers: int
    max_net_delta_bps: int
    lost: str


def judge(seen: Outcomes) -> list[Finding]:
    """The checks after the cycle; a canary is alive when none is bad."""
    complete = [c for c in seen.cycles if not c.skipped and not c.failure and c.is_closed]
    if len(complete) != 1:
        why = next((c.failure for c in seen.cycles if c.failure), "") or seen.end.reason
        found = [bad("cycle", f"not complete: {why}", "see the lines before; nothing here was proved")]
    else:
        found = [ok("cycle", f"complete in {complete[0].cycle_s or 0:.2f} s"), *_cycle(complete[0], seen)]
    return [*found, *_account(seen)]


def _cycle(cycle: TradeMetrics, seen: Outcomes) -> list[Finding]:
    found = []
    delta = f"{cycle.worst_net_delta_bps / 100:.2f} % of gross at worst while hedged"
    if cycle.hedged_at is None:
        found.append(bad("hedge", "never confirmed by the exchange", "see the lines before"))
    elif cycle.worst_net_delta_bps > seen.max_net_delta_bps:
        found.append(bad("net delta", delta, "a larger size leaves a smaller residual"))
    else:
        found.append(ok("net delta", delta))
    gap_ms = cycle.leg_gap_fill_ms
    found.append(ok("leg gap", "not measured" if gap_ms is None else f"{gap_ms:.1f} ms between first fills"))
    found.append(_cost(cycle))
    if not cycle.is_stream_live or seen.failovers:
        found.append(look("stream", f"{seen.failovers} failovers to REST", "wait for a steady connection"))
    else:
        found.append(ok("stream", "live throughout"))
    return found


def _cost(cycle: TradeMetrics) -> Finding:
    """Fees and slippage against what the same orders cost when all of them cross."""
    entries = [[o for o in cycle.orders if o.leg == leg and not o.purpose.is_exit] for leg in (0, 1)]
    notionals = tuple(sum(abs(o.quote_x18) for o in orders) for orders in entries)
    spreads = cycle.spread_entry_bps
    net_x18 = 0 if cycle.pnl is None else cycle.pnl.net_x18
    text = f"net {show_usd(net_x18, signed=True)} USD"
    if spreads is None:
        return look("cost", text, "the spread at entry is not known")
    rates = cycle.taker_rates_x18
    _, worst_x18 = expected_cost_x18((notionals[0], notionals[1]), rates, rates, spreads)
    text += f"; crossing everything costs {show_usd(worst_x18)} USD at unmoved prices"
    if -net_x18 > DEAR * worst_x18:
        return look("cost", text, "prices moved against the pair, or the book is thinner than it looks")
    return ok("cost", text)


def _account(seen: Outcomes) -> list[Finding]:
    found = []
    if seen.exposure != "none":
        found.append(bad("flat", seen.exposure, "close it: `flatten --force`"))
    elif seen.gap_x18 is None:
        found.append(bad("flat", "not confirmed by the exchange", "look at the account"))
    else:
        found.append(ok("flat", "by the exchange's own word"))
    if seen.gap_x18:
        found.append(bad("ledger", f"off by {seen.gap_x18} x18", "do not trade: money moved unexplained"))
    elif seen.gap_x18 == 0:
        found.append(ok("ledger", "equal to the exchange to the last unit"))
    if seen.taken_over:
        found.append(bad("position", f"taken over {seen.taken_over} times", "somebody else trades here?"))
    if seen.halt:
        found.append(bad("halt", seen.halt, "see docs/operations.md"))
    if seen.lost:
        found.append(bad("record", seen.lost, "make room, or choose other paths"))
    else:
        found.append(ok("record", "trades, events and journal written"))
    return found


def verdict(before: Sequence[Finding], after: Sequence[Finding], end: End) -> tuple[list[str], End]:
    """The table of a canary, and how its run ends: what was bad makes a clean end an error."""
    rows = [[f.mark.value, f.name, f.text] for f in (*before, *after)]
    width = max(len(name) for _, name, _ in rows)
    lines = [f"  {mark:<4}  {name:<{width}}  {text}" for mark, name, text in rows]
    wrong = [f.name for f in (*before, *after) if f.mark is Mark.BAD]
    looks = sum(1 for f in (*before, *after) if f.mark is Mark.LOOK)
    if wrong:
        code = ExitCode.ERROR if end.code is ExitCode.DONE else end.code
        return [*lines, f"canary    NO GO: {', '.join(wrong)}"], End(code, f"canary: {', '.join(wrong)}")
    return [*lines, f"canary    GO, {looks} to look at"], end
