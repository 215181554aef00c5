"""The live dashboard: a process of its own that reads the control socket and draws; plain lines without a
terminal. It holds no key and cannot slow the bot down: a reader that lags is dropped by the server."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import orjson
from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from . import control
from .status import LegView, LimitView, Status, from_json

PHASE_STYLE: Final = {
    "FLAT": "bold white", "BUILDING": "bold yellow", "HEDGED": "bold green", "UNWINDING": "bold cyan",
    "RECOVERING": "bold magenta", "HALTED": "bold white on red",
}  # fmt: skip
LEVEL_STYLE: Final = {"critical": "bold red", "warning": "yellow"}
BAR: Final = 8
TALL: Final = 49
MIDDLE: Final = 36
NEEDED: Final = 20
"""Lines of everything but latencies, levels and events."""
LEVELS: Final = 8
FEW_LEVELS: Final = 3
FEW_EVENTS: Final = 2
PAUSE_S: Final = 1.0


class OtherVersion(control.ControlError):
    """A bot is there, and is not of this version."""


def run(path: Path, *, every_s: float, once: bool, console: Console | None = None) -> None:
    """Draw until the bot ends or the reader leaves. Raises ControlError if no bot is there at first."""
    console = console or Console()
    if once:
        console.print(screen(next(_statuses(path, every_s))))
        return
    if not console.is_terminal:
        for status in _statuses(path, every_s):
            console.print(Text(line(status)), soft_wrap=True)
        return
    with Live(console=console, screen=True, auto_refresh=False) as live:
        for status in _statuses(path, every_s):
            live.update(screen(status, console.height), refresh=True)


def _statuses(path: Path, every_s: float) -> Iterator[Status]:
    request = {"do": "watch", "every_s": every_s}
    for reply in control.stream(path, request, timeout_s=max(3.0, 4 * every_s)):
        yield picture(reply)


def picture(reply: Mapping[str, Any]) -> Status:
    """The status in an answer. Raises OtherVersion."""
    try:
        return from_json(orjson.dumps(reply["status"]))
    except (ValueError, KeyError):
        raise OtherVersion("it answers, in words of another version of this program") from None


def line(status: Status) -> str:
    """One plain line."""
    held = " ".join(f"{leg.symbol} {leg.position} {leg.source or 'no data'}" for leg in status.legs)
    halt = f" HALT {status.halt}" if status.halt else ""
    trouble = "".join(f" [{name}]" for name in _names(status))
    return (
        f"{_clock(status)} {status.phase} cycle {status.cycle}/{status.cycles_wanted} {held}"
        f" delta {status.net_delta_pct:.2f}% net {status.pnl.net_usd:+.4f} USD"
        f" links {sum(1 for link in status.links if link.state == 'LIVE')}/{len(status.links)}{trouble}{halt}"
    )


def screen(status: Status, height: int = TALL) -> RenderableType:
    """The whole picture. height: of the terminal, in lines; in a low one latencies go first, then depth."""
    legs = Table.grid(expand=True)
    for _ in status.legs:
        legs.add_column(ratio=1)
    levels = LEVELS if height >= MIDDLE else FEW_LEVELS
    legs.add_row(*[_book(leg, levels) for leg in status.legs])
    lower = Table.grid(expand=True)
    for _ in range(3):
        lower.add_column(ratio=1)
    lower.add_row(_money(status), _links(status), _limits(status))
    if height >= TALL:
        return Group(_head(status), legs, lower, _latencies(status), _events(status))
    last = max(FEW_EVENTS, height - (NEEDED + levels))
    return Group(_head(status), legs, lower, _events(replace(status, events=status.events[-last:])))


def _names(status: Status) -> list[str]:
    return list(dict.fromkeys(one.code for one in status.trouble))


def _clock(status: Status) -> str:
    return f"{datetime.fromtimestamp(status.at_s, UTC):%H:%M:%S}"


def _head(status: Status) -> RenderableType:
    text = Text()
    text.append(f" {status.phase} ", PHASE_STYLE.get(status.phase, "bold"))
    text.append(
        f"  {status.phase_s:6.1f} s   cycle {status.cycle} of {status.cycles_wanted}"
        f" ({status.cycles_done} done)   {status.direction}   {status.venue}   pid {status.pid}"
        f"   {_clock(status)} UTC"
    )
    for label, value, style in (
        ("HALT", status.halt, "bold red"), ("STOPPING", status.stop, "yellow"),
        ("waiting", status.not_ready, "yellow"),
    ):  # fmt: skip
        if value:
            text.append(f"\n {label}: {value}", style)
    for one in status.trouble:
        text.append(f"\n [{one.code}] {one.text}", LEVEL_STYLE.get(one.level, "yellow"))
    return Panel(text, box=box.HEAVY, title="pair", title_align="left")


def _book(leg: LegView, levels: int) -> RenderableType:
    table = Table(box=None, expand=True, padding=(0, 1))
    for name in ("ours", "bid qty", "bid", "ask", "ask qty", "ours"):
        table.add_column(name, justify="right", header_style="dim")
    for i in range(min(levels, max(len(leg.bids), len(leg.asks)))):
        bid = leg.bids[i] if i < len(leg.bids) else None
        ask = leg.asks[i] if i < len(leg.asks) else None
        table.add_row(
            _ours(bid.ours) if bid else "", bid.qty if bid else "",
            Text(bid.price, "green") if bid else "", Text(ask.price, "red") if ask else "",
            ask.qty if ask else "", _ours(ask.ours) if ask else "",
        )  # fmt: skip
    age = "no data" if leg.age_ms is None else f"{leg.age_ms:.0f} ms by {leg.source or '-'}"
    style = "green" if leg.book == "valid" else "red"
    title = Text(f"{leg.symbol}  {leg.position}  ({leg.notional_usd:+.2f} USD)")
    return Panel(
        table,
        title=title,
        subtitle=f"book {leg.book} · {age} · {leg.spread_bps:.2f} bps",
        style="",
        border_style=style,
    )


def _ours(qty: str) -> Text:
    return Text("" if qty == "0" else qty, "bold yellow")


def _pairs(title: str, rows: list[tuple[str, str]]) -> RenderableType:
    table = Table.grid(expand=True, padding=(0, 1))
    table.add_column()
    table.add_column(justify="right")
    for name, value in rows:
        table.add_row(Text(name, "dim"), Text(value))
    return Panel(table, title=title, title_align="left")


def _money(status: Status) -> RenderableType:
    pnl = status.pnl
    return _pairs(
        "PnL, USD",
        [
            ("price", f"{pnl.price_usd:+.4f}"), ("fees", f"{-pnl.fees_usd:+.4f}"),
            ("funding", f"{pnl.funding_usd:+.4f}"), ("net", f"{pnl.net_usd:+.4f}"),
            ("today", f"{pnl.day_usd:+.4f}"), ("volume", f"{pnl.volume_usd:.2f}"),
            ("net delta", f"{status.net_delta_pct:+.3f} %"),
        ],
    )  # fmt: skip


def _links(status: Status) -> RenderableType:
    rows = [
        (link.name, f"{link.state} {'' if link.age_ms is None else f'{link.age_ms:.0f} ms'}".strip())
        for link in status.links
    ]
    rows += [(f"{name} by", mode) for name, mode in status.modes.items()]
    rows.append(("uptime", f"{100 * status.uptime:.3f} %"))
    if (watch := status.watch) is not None:
        rows.append((f"last {watch.hours:.1f} h", f"{100 * watch.uptime:.2f} % fresh, {watch.halts} halts"))
        rows += [(f"oldest {symbol}", f"{age_ms:.0f} ms") for symbol, age_ms in watch.worst_age_ms.items()]
    if status.clock_uncertainty_ms is not None and status.clock_offset_ms is not None:
        rows.append(("clock", f"{status.clock_offset_ms:+.1f} ± {status.clock_uncertainty_ms:.1f} ms"))
    return _pairs("links", rows)


def _limits(status: Status) -> RenderableType:
    return _pairs("limits", [(limit.name, _bar(limit)) for limit in status.limits])


def _bar(limit: LimitView) -> str:
    share = min(1.0, max(0.0, limit.used / limit.limit)) if limit.limit > 0 else 0.0
    full = round(share * BAR)
    return f"{limit.used:.4g} / {limit.limit:.4g} {limit.unit} {'█' * full}{'░' * (BAR - full)}"


def _latencies(status: Status) -> RenderableType:
    table = Table(box=None, expand=True, padding=(0, 1))
    for name in ("latency", "p50 ms", "p95 ms", "p99 ms"):
        table.add_column(name, justify="left" if name == "latency" else "right", header_style="dim")
    for kind, values in status.latencies.items():
        table.add_row(kind, *(f"{values[q]:.3f}" if q in values else "-" for q in ("p50", "p95", "p99")))
    return Panel(table)


def _events(status: Status) -> RenderableType:
    return Panel(Text("\n".join(status.events) or "nothing yet"), title="last events", title_align="left")
