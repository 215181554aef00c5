"""Fifty cycles of the pair in one row: how they were built and closed, how long and at what cost."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from bot.logs import table
from bot.metrics import TradeMetrics
from bot.risk import Purpose

HEADER = (
    "regime", "BUILD at once", "BUILD in the end", "CLOSE", "maker", "leg gap ms", "on one leg s",
    "entry cost bps", "cycle s", "net delta %", "net USD", "ledger",
)  # fmt: skip
ENTRY_LINE = re.compile(r"  c(\d+) \S+ +(entry|hedge)  \S+ \S+ (filled whole|filled|\S+ without a fill)")


@dataclass(frozen=True, slots=True)
class Figures:
    """One cycle. at_once: both legs filled whole by the first order of each. made, out: notional of the exits
    that was filled as maker, and all of it."""

    at_once: bool
    is_built: bool
    is_closed: bool
    failure: str
    made: Decimal
    out: Decimal
    gap_ms: float | None
    unhedged_s: float
    entry_bps: Decimal | None
    cycle_s: float
    delta_bps: Decimal
    net_usd: Decimal
    is_exact: bool


def of_cycle(cycle: TradeMetrics) -> Figures:
    """From the bot's own record."""
    entries = [o for o in cycle.orders if not o.purpose.is_exit]
    exits = [o for o in cycle.orders if o.purpose.is_exit and o.filled_x18]
    is_built, pnl = cycle.hedged_at is not None, cycle.pnl
    assert pnl is not None
    return Figures(
        at_once=is_built and len(entries) == 2 and all(o.filled_x18 for o in entries),
        is_built=is_built,
        is_closed=cycle.is_closed,
        failure=cycle.failure,
        made=sum((Decimal(o.maker_x18 * o.price_x18).scaleb(-36) for o in exits), Decimal(0)),
        out=sum((Decimal(abs(o.filled_x18) * o.price_x18).scaleb(-36) for o in exits), Decimal(0)),
        gap_ms=cycle.leg_gap_fill_ms,
        unhedged_s=cycle.unhedged_ns / 1e9,
        entry_bps=cycle.slippage_bps(Purpose.ENTRY, Purpose.HEDGE),
        cycle_s=cycle.cycle_s or 0.0,
        delta_bps=cycle.worst_net_delta_bps,
        net_usd=Decimal(pnl.net_x18).scaleb(-18),
        is_exact=cycle.balance_change_x18 == pnl.net_x18,
    )


def of_files(trades: Path, lines: Sequence[str]) -> list[Figures]:
    """From the CSV of a run and the lines it has said."""
    with trades.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    tries: Counter[str] = Counter()
    for found in filter(None, map(ENTRY_LINE.search, lines)):
        tries[found[1].lstrip("0")] += 1 if found[3] == "filled whole" else 100
    cycles = dict.fromkeys(row["cycle_id"] for row in rows)
    return [_of_rows([row for row in rows if row["cycle_id"] == cycle], tries[cycle]) for cycle in cycles]


def _of_rows(rows: list[dict[str, str]], tries: int) -> Figures:
    last = rows[-1]
    exits = [row for row in rows if row["purpose"].startswith("exit")]
    is_built, gap, slip = bool(last["entry_timestamp"]), last["leg_gap_fill_ms"], last["slippage_bps_entry"]
    return Figures(
        at_once=is_built and tries == 2,
        is_built=is_built,
        is_closed=bool(last["exit_timestamp"]) and last["cycle_skipped"] == "false",
        failure=last["failure"],
        made=sum((_notional(row) for row in exits if row["is_maker"] == "true"), Decimal(0)),
        out=sum((_notional(row) for row in exits), Decimal(0)),
        gap_ms=float(gap) if gap else None,
        unhedged_s=float(last["unhedged_ms"]) / 1e3,
        entry_bps=Decimal(slip) if slip else None,
        cycle_s=float(last["cycle_s"]),
        delta_bps=Decimal(last["worst_net_delta_bps"]),
        net_usd=Decimal(last["pnl_with_fee"]),
        is_exact=Decimal(last["balance_change_usd"] or "NaN") == Decimal(last["pnl_with_fee"]),
    )


def _notional(row: dict[str, str]) -> Decimal:
    return Decimal(row["price"]) * Decimal(row["quantity"])


def row(name: str, cycles: list[Figures]) -> tuple[str, ...]:
    """One line of the table."""
    count = len(cycles)
    gaps = [c.gap_ms for c in cycles if c.gap_ms is not None]
    costs = [c.entry_bps for c in cycles if c.entry_bps is not None]
    out = sum((c.out for c in cycles), Decimal(0))
    return (
        name,
        f"{sum(c.at_once for c in cycles)}/{count}",
        f"{sum(c.is_built for c in cycles)}/{count}",
        f"{sum(c.is_closed for c in cycles)}/{count}",
        f"{100 * sum((c.made for c in cycles), Decimal(0)) / out:.1f} %" if out else "–",
        mean_and_worst(gaps, 1),
        mean_and_worst([c.unhedged_s for c in cycles], 2),
        f"{sum(costs, Decimal(0)) / len(costs):.2f}" if costs else "–",
        mean_and_worst([c.cycle_s for c in cycles], 2),
        f"{max((c.delta_bps for c in cycles), default=Decimal(0)) / 100:.3f}",
        f"{sum((c.net_usd for c in cycles), Decimal(0)):.2f}",
        f"equal {sum(c.is_exact for c in cycles)}/{count}",
    )


def mean_and_worst(values: Sequence[float], places: int) -> str:
    return f"{sum(values) / len(values):.{places}f} / {max(values):.{places}f}" if values else "–"


def say(rows: Sequence[tuple[str, ...]]) -> None:
    print("\n" + "\n".join(table(HEADER, rows)), flush=True)


def check_goals(cycles: list[Figures], count: int) -> None:
    """What calm and lively have to reach: all built and closed, quick, balanced, exact."""
    assert len(cycles) == count
    assert [c.failure for c in cycles] == [""] * count
    assert all(c.is_built and c.is_closed for c in cycles)
    assert sum(c.cycle_s for c in cycles) / count < 8
    assert max(c.delta_bps for c in cycles) < 100
    assert all(c.is_exact for c in cycles)
