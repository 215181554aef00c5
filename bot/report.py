"""Tables and summaries for people: limits at the start, one table per cycle, the run at the end."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from decimal import Decimal

from nadofast.products import Product

from .config import Settings
from .emergency import MAX_CAP_BPS
from .ledger import Pnl
from .logs import table
from .metrics import OrderRecord, TradeMetrics, expected_cost_x18, mean_slippage_bps
from .model import End
from .risk import ENTRIES, EXITS, RiskLimits
from .sizing import PairSize, SizingRules
from .totals import Totals, result_of
from .units import NS_PER_S, bps_of, show, show_usd
from .unwinding import MOST_EXIT_CAPS


def limits_lines(settings: Settings, limits: RiskLimits, equity_x18: int) -> list[str]:
    """What the run may not exceed, in force from the first order."""
    entry, exit_ = settings.entry, settings.exit
    return [
        f"limits    per leg {show_usd(limits.max_leg_x18, 2)} USD"
        f" · gross {show_usd(limits.max_gross_x18, 2)} USD"
        f" · daily loss {show_usd(limits.daily_loss_x18, 2)} USD of {show_usd(equity_x18, 2)} USD equity",
        f"          quote age {limits.max_quote_age_ms} ms · net delta {settings.risk.max_net_delta_pct} %"
        f" · blind {settings.risk.max_blind_s:g} s",
        f"          net delta held: line above {limits.warn_delta_bps / 100:g} %,"
        f" no entry above {limits.max_entry_delta_bps / 100:g} %"
        f" · a minute: {limits.max_orders_per_min or 'any'} orders,"
        f" {limits.max_builds_per_min or 'any'} builds"
        f" · maintenance windows {'kept' if limits.windows else 'not kept'}",
        f"          prices from mid: entry {entry.cap_bps} bps,"
        f" completing a leg {entry.cap_bps * entry.hedge_attempts} bps,"
        f" exit {exit_.cap_bps} bps, {exit_.cap_bps * MOST_EXIT_CAPS} bps if it does not fill,"
        f" {max(MAX_CAP_BPS, exit_.cap_bps)} bps after a defect",
    ]


def rest_only_lines(settings: Settings) -> list[str]:
    """Said loudly when the WebSocket is switched off; nothing otherwise."""
    websocket = settings.websocket
    if websocket.enabled:
        return []
    return [
        "REST ONLY  websocket.enabled = false: no WebSocket is opened, by configuration",
        f"REST ONLY  prices and books may be {websocket.rest_market_age_s:g} s old, the account"
        f" {websocket.rest_account_age_s:g} s; a fill is known when the archive shows it",
    ]


def cost_lines(
    products: tuple[Product, Product], size: PairSize, spreads_bps: tuple[Decimal, Decimal]
) -> list[str]:
    """Sizes of a cycle at the prices of now, and what it should cost if prices stand still."""
    best, worst = expected_cost_x18(
        size.notionals_x18,
        (products[0].taker_fee_rate_x18, products[1].taker_fee_rate_x18),
        (products[0].maker_fee_rate_x18, products[1].maker_fee_rate_x18),
        spreads_bps,
    )
    legs = " · ".join(
        f"{p.symbol} {show(s)} ({show_usd(n, 2)} USD, spread {spread:.2f} bps)"
        for p, s, n, spread in zip(products, size.sizes_x18, size.notionals_x18, spreads_bps, strict=True)
    )
    gap_bps = bps_of(size.gap_x18, max(size.notionals_x18))
    return [
        f"size      {legs} · gap {show_usd(size.gap_x18, 2)} USD ({gap_bps:.1f} bps)",
        f"cost      {show_usd(best)} USD a cycle if both exits fill as maker,"
        f" {show_usd(worst)} USD if both cross",
    ]


def smallest_lines(products: tuple[Product, Product], size: PairSize | None, rules: SizingRules) -> list[str]:
    """The smallest pair whose legs are as even as wanted."""
    wanted = f"within {rules.gap_bps} bps"
    if size is None:
        return [f"          no pair in the budget is {wanted}: the least gap is taken"]
    legs = " and ".join(
        f"{show(s)} {p.symbol} ({show_usd(n, 2)} USD)"
        for p, s, n in zip(products, size.sizes_x18, size.notionals_x18, strict=True)
    )
    return [f"          smallest pair {wanted}: {legs}"]


def cycle_lines(cycle: TradeMetrics, symbols: tuple[str, str]) -> list[str]:
    """The table of one cycle."""
    head = ["leg", "side", "size", "entry", "exit", "exit as", "slip in", "slip out", "fees USD", "gross USD"]
    rows = [_leg_row(cycle, leg, symbol) for leg, symbol in enumerate(symbols)]
    pnl = cycle.pnl or Pnl(0, 0, 0)
    result = result_of(cycle)
    lines = [
        f"cycle {cycle.iteration} {cycle.direction} {result}{': ' + cycle.failure if cycle.failure else ''}"
    ]
    if any(order.filled_x18 for order in cycle.orders):
        lines += table(head, rows)
    lines.append(
        f"  net {show_usd(pnl.net_x18, signed=True)} USD = gross {show_usd(pnl.gross_x18, signed=True)}"
        f" − fees {show_usd(pnl.fees_x18)}  ({bps_of(pnl.net_x18, pnl.volume_x18):+.2f} bps of volume)"
        f" · exchange balance {_balance(cycle)}"
    )
    if cycle.residual_x18:
        residual = show_usd(cycle.residual_x18, 2)
        lines.append(f"  {residual} USD carried: no order can close it; it counts at the last mid")
    elif not cycle.is_closed:
        lines.append("  not closed by the exchange's word: what may be open counts at the last mid")
    lines.append(
        f"  time {_s(cycle.cycle_s)} · leg gap write {_ms(cycle.leg_gap_write_ms)},"
        f" fill {_ms(cycle.leg_gap_fill_ms)}"
        f" · worst net delta while hedged {cycle.worst_net_delta_bps / 100:.2f} %"
        f" · unhedged {cycle.unhedged_ns / 1e6:.0f} ms"
        f" · delta {cycle.delta_usd_s:.2f} USD·s"
        f" · second leg {_cost(cycle.second_leg_cost_x18)}"
        f" · repriced {cycle.repricing_count}×"
    )
    return lines


def summary_lines(
    cycles: Sequence[TradeMetrics],
    totals: Totals,
    end: End,
    pnl: Pnl,
    exposure: str,
    limits: RiskLimits,
    extras: Sequence[str],
) -> list[str]:
    """The run in figures; only what was measured. Counts and sums are of all cycles, distributions of the
    newest ones, `cycles`."""
    complete = [c for c in cycles if result_of(c) == "complete"]
    others = totals.results
    by_direction = ", ".join(f"{name} {totals.complete[name]}" for name in ("BUY_FIRST", "SELL_FIRST"))
    builds = [c for c in cycles if not c.skipped]
    worst_bps = max((c.worst_net_delta_bps for c in cycles), default=Decimal(0))
    lines = [
        f"summary   {others['complete']} cycles complete ({by_direction}), {others['failed']} failed,"
        f" {others['cut short']} cut short, {others['skipped']} skipped"
        f" · {end.reason}",
        *([f"  of the newest {len(cycles)} cycles:"] if totals.cycles > len(cycles) else []),
        f"  build filled {_share(sum(1 for c in builds if c.hedged_at), len(builds))}"
        f" · close complete {_share(sum(1 for c in builds if c.is_closed), len(builds))}"
        f" · exits as maker {_mean_pct([c.maker_share for c in complete])}",
        f"  cycle time {_spread([c.cycle_s for c in complete], 's', 2)}{_in_all(cycles, totals)}",
        f"  leg gap write {_spread([c.leg_gap_write_ms for c in complete], 'ms', 3)}"
        f" · fill {_spread([c.leg_gap_fill_ms for c in complete], 'ms', 2)}",
        f"  taker sent to fill seen {_spread(_taker_latencies(complete), 'ms', 1)}, exchange delay included",
        f"  worst net delta while hedged {worst_bps / 100:.2f} %"
        f" · unhedged {_spread([c.unhedged_ns / 1e6 for c in complete], 'ms', 0)}",
        f"  delta over time {_spread([float(c.delta_usd_s) for c in complete], 'USD·s', 2)}"
        f" · second leg against its mid at the first fill {_costs([c.second_leg_cost_x18 for c in cycles])}",
        f"  fees {show_usd(pnl.fees_x18)} USD · fee saved by resting"
        f" {show_usd(totals.fee_saved_x18)} USD · volume {show_usd(pnl.volume_x18, 2)} USD",
        f"  gross {show_usd(pnl.gross_x18, signed=True)} USD · net {show_usd(pnl.net_x18, signed=True)} USD"
        f" ({bps_of(pnl.net_x18, pnl.volume_x18):+.2f} bps of volume)",
        f"  limits on: daily loss {show_usd(limits.daily_loss_x18, 2)} USD,"
        f" per leg {show_usd(limits.max_leg_x18, 2)} USD, gross {show_usd(limits.max_gross_x18, 2)} USD",
        f"  positions now: {exposure}{_residuals(cycles)}",
    ]
    return [*lines, *(f"  {extra}" for extra in extras)]


def _leg_row(cycle: TradeMetrics, leg: int, symbol: str) -> list[str]:
    entries = cycle.of(leg, *ENTRIES)
    exits = cycle.of(leg, *EXITS)
    both = [*entries, *exits]
    size = sum(o.filled_x18 for o in entries)
    made = sum(o.maker_x18 for o in exits)
    whole = sum(abs(o.filled_x18) for o in exits)
    how = "–" if not whole else "maker" if made == whole else "taker" if not made else "both"
    gross = sum(o.quote_x18 for o in both)
    return [
        symbol,
        "long" if size > 0 else "short" if size < 0 else "–",
        show(abs(size)),
        _price(cycle.entry_price_x18(leg)),
        _price(cycle.exit_price_x18(leg)),
        how,
        _slip(entries),
        _slip(exits),
        show_usd(sum(o.fee_x18 for o in both), 5),
        show_usd(gross, 4, signed=True) if whole == abs(size) else "open",
    ]


def _slip(orders: Sequence[OrderRecord]) -> str:
    mean = mean_slippage_bps(orders)
    return "–" if mean is None else f"{mean:.2f} bps"


def _price(value_x18: int | None) -> str:
    return "–" if value_x18 is None else show_usd(value_x18, 3)


def _balance(cycle: TradeMetrics) -> str:
    """The exchange's own balance change beside our net: equal, or the difference said out loud."""
    if cycle.balance_change_x18 is None or cycle.pnl is None:
        return "not read"
    difference = cycle.balance_change_x18 - cycle.pnl.net_x18
    text = show_usd(cycle.balance_change_x18, signed=True)
    return f"{text}, equal to the last unit" if difference == 0 else f"{text}, differs by {show(difference)}"


def _taker_latencies(cycles: Sequence[TradeMetrics]) -> list[float | None]:
    return [o.sent_to_fill_ms for c in cycles for o in c.orders if not o.purpose.rests and o.filled_x18]


def _spread(values: Sequence[float | None], unit: str, places: int) -> str:
    known = sorted(v for v in values if v is not None)
    if not known:
        return "not measured"
    mean, worst = statistics.fmean(known), known[-1]
    return f"{mean:.{places}f} {unit} mean, {worst:.{places}f} {unit} worst ({len(known)})"


def _in_all(cycles: Sequence[TradeMetrics], totals: Totals) -> str:
    """From the first cycle's start to the last one's end, pauses between cycles included."""
    if not cycles or cycles[-1].ended_ns is None or totals.started_ns is None:
        return ""
    return f" · {(cycles[-1].ended_ns - totals.started_ns) / NS_PER_S:.2f} s in all"


def _residuals(cycles: Sequence[TradeMetrics]) -> str:
    carried = [c.residual_x18 for c in cycles if c.residual_x18]
    return f" · residuals carried {len(carried)}×, worst {show_usd(max(carried), 2)} USD" if carried else ""


def _cost(cost_x18: int | None) -> str:
    return "–" if cost_x18 is None else f"{show_usd(cost_x18, signed=True)} USD"


def _costs(costs_x18: Sequence[int | None]) -> str:
    known = [cost for cost in costs_x18 if cost is not None]
    if not known:
        return "not measured"
    whole, worst = (show_usd(cost, signed=True) for cost in (sum(known), max(known)))
    return f"{whole} USD, worst {worst} USD ({len(known)})"


def _share(part: int, whole: int) -> str:
    return "–" if not whole else f"{100 * part / whole:.0f} % ({part}/{whole})"


def _mean_pct(values: Sequence[Decimal | None]) -> str:
    known = [v for v in values if v is not None]
    return "–" if not known else f"{100 * sum(known) / len(known):.0f} %"


def _s(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f} s"


def _ms(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f} ms"
