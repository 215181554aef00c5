"""One self-contained HTML page about some runs: plots, tables, and the sums they come from.

Everything is inside the file, the plotting library too: it opens without a network. Money is summed in exact
decimals and turned into floats only to be drawn.
"""

from __future__ import annotations

import html
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from decimal import Decimal
from itertools import accumulate
from typing import Any, Final

import plotly.graph_objects as go
from plotly.io import to_html
from plotly.offline import get_plotlyjs

from . import watchfile
from .tradefile import Cycle, Trade
from .watchfile import Days

GROSS, FEES, FUNDING, NET = "#2a9d8f", "#e76f51", "#8ab17d", "#264653"
BUY, SELL = "#2a9d8f", "#e76f51"
COLORS: Final = (NET, SELL, BUY)
HEIGHT: Final = 320
STYLE: Final = """
body{font:15px/1.5 system-ui,sans-serif;color:#222;background:#fafafa;margin:0}
main{max-width:1180px;margin:0 auto;padding:24px}
h1{font-size:24px;margin:0 0 4px}h2{font-size:17px;margin:28px 0 8px}
.sub{color:#666;margin:0 0 20px}
.cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(200px,1fr));gap:12px}
.card{background:#fff;border:1px solid #e5e5e5;border-radius:8px;padding:12px 14px}
.card b{display:block;font-size:20px;font-variant-numeric:tabular-nums}.card span{color:#666;font-size:13px}
.plots{display:grid;grid-template-columns:repeat(2,minmax(0,1fr));gap:12px}
@media(max-width:800px){.plots{grid-template-columns:minmax(0,1fr)}}
.plot{background:#fff;border:1px solid #e5e5e5;border-radius:8px;padding:6px;min-width:0}
.wide{overflow-x:auto}
table{border-collapse:collapse;background:#fff;width:100%;font-variant-numeric:tabular-nums;font-size:13px}
th,td{border-bottom:1px solid #eee;padding:4px 10px;text-align:right;white-space:nowrap}
th:first-child,td:first-child,td.text,th.text{text-align:left}
th{color:#666;font-weight:600}tr.bad td{background:#fff1ee}
"""


@dataclass(frozen=True, slots=True)
class Totals:
    """Exact sums over cycles."""

    cycles: int
    complete: int
    skipped: int
    failed: int
    cut_short: int
    gross_usd: Decimal
    fees_usd: Decimal
    funding_usd: Decimal
    net_usd: Decimal
    fee_saved_usd: Decimal
    volume_usd: Decimal
    balance_change_usd: Decimal | None

    @property
    def net_bps(self) -> Decimal | None:
        return self.net_usd * 10_000 / self.volume_usd if self.volume_usd else None


def totals(cycles: Sequence[Cycle]) -> Totals:
    """balance_change_usd is None unless every cycle that traded has one."""
    zero = Decimal(0)
    changes = [cycle.balance_change_usd for cycle in cycles if cycle.trades]
    known = [change for change in changes if change is not None]
    return Totals(
        cycles=len(cycles),
        complete=sum(cycle.is_complete for cycle in cycles),
        skipped=sum(cycle.skipped for cycle in cycles),
        failed=sum(bool(c.failure) and not c.skipped and not c.is_cut_short for c in cycles),
        cut_short=sum(cycle.is_cut_short for cycle in cycles),
        gross_usd=sum((cycle.gross_usd or zero for cycle in cycles), zero),
        fees_usd=sum((cycle.fees_usd for cycle in cycles), zero),
        funding_usd=sum((cycle.funding_usd for cycle in cycles), zero),
        net_usd=sum((cycle.net_usd or zero for cycle in cycles), zero),
        fee_saved_usd=sum((cycle.fee_saved_usd for cycle in cycles), zero),
        volume_usd=sum((cycle.volume_usd for cycle in cycles), zero),
        balance_change_usd=sum(known, zero) if known and len(known) == len(changes) else None,
    )


def render(cycles: Sequence[Cycle], title: str, days: Days | None = None) -> str:
    """The page. days: how the runs were watched. ValueError if there is no cycle."""
    if not cycles:
        raise ValueError("there is no cycle to report on")
    plots = "".join(_plot(make(cycles), i) for i, make in enumerate(PLOTS))
    first, last = cycles[0].started, cycles[-1].ended or cycles[-1].started
    span = f"{first:%Y-%m-%d %H:%M:%S} to {last:%Y-%m-%d %H:%M:%S} UTC, {len(cycles)} cycles"
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
        '<link rel="icon" href="data:,"><meta name="viewport" content="width=device-width">'
        f"<style>{STYLE}</style><script>{get_plotlyjs()}</script></head><body><main>"
        f'<h1>{html.escape(title)}</h1><p class="sub">{span}</p>'
        f'<div class="cards">{_cards(totals(cycles))}</div>'
        f'<h2>Plots</h2><div class="plots">{plots}</div>'
        f"{_watched(days or {})}"
        f'<h2>Distributions</h2><div class="wide">{_distributions(cycles)}</div>'
        f'<h2>Cycles</h2><div class="wide">{_cycle_table(cycles)}</div>'
        "</main></body></html>\n"
    )


def summary_lines(cycles: Sequence[Cycle], days: Days | None = None) -> list[str]:
    """The same sums for a terminal."""
    sums = totals(cycles)
    bps = "" if sums.net_bps is None else f" ({sums.net_bps:+.2f} bps of volume)"
    lines = [
        f"cycles    {sums.cycles}: {sums.complete} complete, {sums.failed} failed,"
        f" {sums.cut_short} cut short, {sums.skipped} skipped",
        f"volume    {sums.volume_usd:.2f} USD",
        f"price     {sums.gross_usd:+.4f} USD",
        f"fees      {-sums.fees_usd:+.4f} USD, {sums.fee_saved_usd:.4f} USD saved by resting",
        f"funding   {sums.funding_usd:+.4f} USD",
        f"net       {sums.net_usd:+.4f} USD{bps}",
    ]
    if sums.balance_change_usd is not None:
        same = "equal" if sums.balance_change_usd == sums.net_usd else "NOT equal"
        lines.append(f"exchange  {sums.balance_change_usd:+.4f} USD by its balances: {same}")
    if (watched := watchfile.whole(days or {})) is not None:
        lines.append(f"watched   {watched.words()}")
    return lines


def as_record(cycles: Sequence[Cycle], days: Days | None = None) -> dict[str, object]:
    """The sums for a script; money as exact decimal text. watched: None if nothing was written down."""
    watched = watchfile.whole(days or {})
    sums: dict[str, object] = {
        name: value if isinstance(value, int) or value is None else f"{value:f}"
        for name, value in asdict(totals(cycles)).items()
    }
    return sums | {"watched": None if watched is None else asdict(watched)}


# ---------------------------------------------------------------------- cards and tables


def _cards(sums: Totals) -> str:
    def card(value: str, label: str) -> str:
        return f'<div class="card"><b>{html.escape(value)}</b><span>{html.escape(label)}</span></div>'

    bps = "-" if sums.net_bps is None else f"{sums.net_bps:+.2f} bps"
    cards = [
        card(f"{sums.net_usd:+.4f}", "net, USD"),
        card(f"{sums.gross_usd:+.4f}", "price, USD"),
        card(f"{-sums.fees_usd:+.4f}", "fees, USD"),
        card(f"{sums.funding_usd:+.4f}", "funding, USD"),
        card(bps, "net of volume"),
        card(f"{sums.volume_usd:.2f}", "volume, USD"),
        card(f"{sums.complete} of {sums.cycles}", "cycles complete"),
        card(f"{sums.fee_saved_usd:.4f}", "fees saved by resting, USD"),
    ]
    if sums.balance_change_usd is not None:
        same = sums.balance_change_usd == sums.net_usd
        cards.append(
            card("equal" if same else f"{sums.balance_change_usd:+.4f}", "net against exchange balance")
        )
    return "".join(cards)


def _watched(days: Days) -> str:
    return f'<h2>Watched</h2><div class="wide">{watchfile.table(days)}</div>' if days else ""


def _distributions(cycles: Sequence[Cycle]) -> str:
    rows = [
        ("cycle time", "s", _figure(cycles, "cycle_s")),
        ("leg gap, written", "ms", _figure(cycles, "leg_gap_write_ms")),
        ("leg gap, filled", "ms", _figure(cycles, "leg_gap_fill_ms")),
        ("taker sent to fill", "ms", _latencies(cycles, resting=False)),
        ("resting exit to fill", "ms", _latencies(cycles, resting=True)),
        ("unhedged", "ms", _figure(cycles, "unhedged_ms")),
        ("worst net delta", "bps", _figure(cycles, "worst_net_delta_bps")),
        ("slippage in", "bps", _figure(cycles, "slippage_bps_entry")),
        ("slippage out", "bps", _figure(cycles, "slippage_bps_exit")),
        ("maker share of exits", "%", _figure(cycles, "maker_share_pct")),
    ]
    body = "".join(
        f"<tr><td>{name}</td><td class=text>{unit}</td><td>{len(values)}</td>"
        + "".join(f"<td>{value}</td>" for value in _spread(values))
        + "</tr>"
        for name, unit, values in rows
    )
    head = "".join(f"<th>{name}</th>" for name in ("samples", "mean", "p50", "p95", "worst"))
    return f"<table><tr><th>figure</th><th class=text>unit</th>{head}</tr>{body}</table>"


def _spread(values: Sequence[float]) -> list[str]:
    if not values:
        return ["-"] * 4
    ordered = sorted(values)
    p95 = ordered[min(len(ordered) - 1, int(0.95 * len(ordered)))]
    return [f"{v:.3f}" for v in (statistics.fmean(ordered), statistics.median(ordered), p95, ordered[-1])]


def _cycle_table(cycles: Sequence[Cycle]) -> str:
    names = (
        "cycle", "direction", "result", "net USD", "price USD", "fees USD", "funding USD", "volume USD",
        "time s", "unhedged ms", "maker %",
    )  # fmt: skip
    head = "".join(f"<th{' class=text' if n in ('direction', 'result') else ''}>{n}</th>" for n in names)
    body = []
    for cycle in cycles:
        ended = "complete" if cycle.is_complete else "no result"
        result = f"skipped: {cycle.failure}" if cycle.skipped else cycle.failure or ended
        cells = [
            str(cycle.cycle_id),
            f"<td class=text>{html.escape(cycle.direction)}",
            f"<td class=text>{html.escape(result)}",
            _usd(cycle.net_usd),
            _usd(cycle.gross_usd),
            f"{-cycle.fees_usd:+.4f}",
            f"{cycle.funding_usd:+.4f}",
            f"{cycle.volume_usd:.2f}",
            _number(cycle, "cycle_s", 2),
            _number(cycle, "unhedged_ms", 0),
            _number(cycle, "maker_share_pct", 0),
        ]
        row = "".join(cell if cell.startswith("<td") else f"<td>{cell}" for cell in cells)
        body.append(f"<tr{'' if cycle.is_complete else ' class=bad'}>{row}</tr>")
    return f"<table><tr>{head}</tr>{''.join(body)}</table>"


def _usd(value: Decimal | None) -> str:
    return "-" if value is None else f"{value:+.4f}"


def _number(cycle: Cycle, name: str, places: int) -> str:
    return f"{cycle.figures[name]:.{places}f}" if name in cycle.figures else "-"


# ---------------------------------------------------------------------- plots


def _figure(cycles: Sequence[Cycle], name: str) -> list[float]:
    return [cycle.figures[name] for cycle in cycles if name in cycle.figures]


def _latencies(cycles: Sequence[Cycle], *, resting: bool) -> list[float]:
    return [
        trade.sent_to_fill_ms
        for cycle in cycles
        for trade in cycle.trades
        if trade.sent_to_fill_ms is not None and (trade.purpose == "exit-rest") == resting
    ]


def _ids(cycles: Sequence[Cycle]) -> list[int]:
    return list(range(1, len(cycles) + 1))


def _named(title: str, x: str, y: str, *traces: Any, **layout: Any) -> go.Figure:
    figure = go.Figure(list(traces))
    figure.update_layout(
        title={"text": title, "font": {"size": 14}}, height=HEIGHT,
        margin={"l": 56, "r": 16, "t": 40, "b": 44},
        template="plotly_white", colorway=COLORS, xaxis={"title": x}, yaxis={"title": y},
        legend={"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 1, "xanchor": "right"},
        **layout,
    )  # fmt: skip
    return figure


def _equity(cycles: Sequence[Cycle]) -> go.Figure:
    sums = [float(v) for v in accumulate(cycle.net_usd or Decimal(0) for cycle in cycles)]
    times = [cycle.ended or cycle.started for cycle in cycles]
    line = go.Scatter(x=times, y=sums, mode="lines+markers", line={"color": NET, "shape": "hv"}, name="net")
    return _named("Equity: net PnL added up", "UTC", "USD", line)


def _by_source(cycles: Sequence[Cycle]) -> go.Figure:
    ids = _ids(cycles)
    parts: tuple[tuple[str, str, Callable[[Cycle], Decimal]], ...] = (
        ("price", GROSS, lambda c: c.gross_usd or Decimal(0)),
        ("fees", FEES, lambda c: -c.fees_usd),
        ("funding", FUNDING, lambda c: c.funding_usd),
    )
    bars = [
        go.Bar(x=ids, y=[float(f(c)) for c in cycles], name=n, marker_color=color) for n, color, f in parts
    ]
    net = go.Scatter(
        x=ids, y=[float(c.net_usd or 0) for c in cycles], name="net", mode="markers", marker={"color": NET}
    )
    return _named("PnL per cycle by source", "cycle", "USD", *bars, net, barmode="relative")


def _gaps(cycles: Sequence[Cycle]) -> go.Figure:
    traces = [
        go.Box(y=_figure(cycles, name), name=label, boxpoints="all", jitter=0.4, marker={"size": 4})
        for label, name in (("written", "leg_gap_write_ms"), ("filled", "leg_gap_fill_ms"))
    ]
    figure = _named("Gap between the legs", "", "ms, logarithmic", *traces, showlegend=False)
    figure.update_yaxes(type="log")
    return figure


def _unhedged(cycles: Sequence[Cycle]) -> go.Figure:
    pairs = [
        (i, c.figures["unhedged_ms"])
        for i, c in zip(_ids(cycles), cycles, strict=True)
        if "unhedged_ms" in c.figures
    ]
    bar = go.Bar(x=[i for i, _ in pairs], y=[v for _, v in pairs], marker_color=NET)
    return _named("Time unhedged, entry and exit", "cycle", "ms", bar)


def _slippage(cycles: Sequence[Cycle]) -> go.Figure:
    traces = [
        go.Histogram(x=_figure(cycles, name), name=label, opacity=0.7, nbinsx=30)
        for label, name in (("entry", "slippage_bps_entry"), ("exit", "slippage_bps_exit"))
    ]
    return _named(
        "Slippage against arrival mid (negative is gained)", "bps", "cycles", *traces, barmode="overlay"
    )


def _latency(cycles: Sequence[Cycle]) -> go.Figure:
    taker = go.Histogram(x=_latencies(cycles, resting=False), nbinsx=40, name="taker", marker_color=NET)
    return _named("Taker order sent to fill seen", "ms", "orders", taker)


def _resting(cycles: Sequence[Cycle]) -> go.Figure:
    maker = go.Histogram(x=_latencies(cycles, resting=True), nbinsx=40, name="maker", marker_color=BUY)
    return _named("Resting exit sent to fill seen", "ms", "orders", maker)


def _maker(cycles: Sequence[Cycle]) -> go.Figure:
    pairs = [
        (i, c.figures["maker_share_pct"])
        for i, c in zip(_ids(cycles), cycles, strict=True)
        if "maker_share_pct" in c.figures
    ]
    bar = go.Bar(x=[i for i, _ in pairs], y=[v for _, v in pairs], marker_color=BUY)
    return _named("Share of exits filled as maker", "cycle", "%", bar, yaxis_range=[0, 105])


def _delta(cycles: Sequence[Cycle]) -> go.Figure:
    pairs = [
        (c.ended or c.started, c.figures["worst_net_delta_bps"] / 100)
        for c in cycles
        if "worst_net_delta_bps" in c.figures
    ]
    line = go.Scatter(
        x=[t for t, _ in pairs], y=[v for _, v in pairs], mode="lines+markers", line={"color": NET}
    )
    return _named("Worst net delta while hedged", "UTC", "% of gross", line)


def _positions(cycles: Sequence[Cycle]) -> go.Figure:
    trades: dict[str, list[Trade]] = {}
    for cycle in cycles:
        for trade in cycle.trades:
            trades.setdefault(trade.symbol, []).append(trade)
    traces = []
    for symbol, own in sorted(trades.items()):
        own.sort(key=lambda trade: trade.at)
        held = accumulate(trade.quantity for trade in own)
        traces.append(
            go.Scatter(
                x=[t.at for t in own],
                y=[float(v * t.price) for v, t in zip(held, own, strict=True)],
                name=symbol,
                mode="lines",
                opacity=0.8,
                line={"shape": "hv"},
            )
        )
    return _named("Signed notional held, by leg", "UTC", "USD", *traces)


PLOTS: Final[tuple[Callable[[Sequence[Cycle]], go.Figure], ...]] = (
    _equity, _by_source, _gaps, _unhedged, _slippage, _maker, _latency, _resting, _delta, _positions,
)  # fmt: skip


def _plot(figure: go.Figure, number: int) -> str:
    inner = to_html(
        figure, include_plotlyjs=False, full_html=False, div_id=f"plot-{number}",
        config={"displayModeBar": False, "responsive": True},
    )  # fmt: skip
    return f'<div class="plot">{inner}</div>'
