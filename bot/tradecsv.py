"""The CSV files of a run. Names and order of the columns are those that analysis tools of the pair bot family
read; ours are appended to the right. What was not measured is empty, never invented.

    trades.csv            one row an order that filled (`metrics.COLUMNS`)
    trades-positions.csv  one row a change of a booked position
    trades-spread.csv     one row a cycle: spreads and slippage of both legs
    trades-metrics.csv    one row a cycle: prices, times and latencies of both legs
    trades-watch.csv      one row each five minutes: share of fresh data, halts, worst ages (`watchfile`)
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import BinaryIO, Final

from . import tradefile, watchfile
from .metrics import COLUMNS, OrderRecord, TradeMetrics, rows
from .risk import ENTRIES, EXITS
from .tradefile import Row
from .units import NS_PER_S, bps_of, show
from .watch import Bucket

MAX_HEADER: Final = 64 * 1024
POSITION_COLUMNS: Final = (
    "exchange", "timestamp", "ticker", "old_position", "new_position", "position_change", "cycle_id",
    "source", "price",
)  # fmt: skip
SPREAD_COLUMNS: Final = (
    "cycle_id", "timestamp", "eth_spread_entry", "sol_spread_entry", "eth_spread_exit", "sol_spread_exit",
    "eth_slippage_actual", "sol_slippage_actual", "pnl_with_fee",
)  # fmt: skip
FAMILY_METRICS: Final = (
    "iteration", "direction",
    "primary_entry_price", "hedge_entry_price", "primary_entry_time", "hedge_entry_time",
    "primary_exit_price", "hedge_exit_price", "primary_exit_time", "hedge_exit_time",
    "order_to_fill_primary", "order_to_fill_hedge", "websocket_latency", "rest_latency",
    "reconciliation_time", "repricing_count", "total_cycle_time",
    "hedge_entry_order_type", "hedge_exit_order_type", "hedge_entry_fee_saved", "hedge_exit_fee_saved",
)  # fmt: skip
OUR_METRICS: Final = (
    "primary_entry_order_type", "primary_exit_order_type", "primary_fee_saved", "leg_gap_write_ms",
    "leg_gap_fill_ms", "unhedged_ms", "worst_net_delta_bps", "gross_pnl", "fees", "funding", "net_pnl",
    "pnl_bps", "cumulative_net_pnl", "is_closed", "failure",
    "delta_usd_s", "second_leg_cost_usd", "residual_usd",
)  # fmt: skip
METRIC_COLUMNS: Final = FAMILY_METRICS + OUR_METRICS
Submit = Callable[[Callable[[], None]], None]


COMPANIONS: Final = ("positions", "spread", "metrics", "watch")
EXPORT: Final = "export"
"""Beside them, if a strategy asks for it: `export_metrics`."""


class CsvFile:
    """Appends rows to one file. `submit` runs the write once the callback that asked for it is over.

    failure: why a row could not be written; what should be in the file is not all there then.
    """

    def __init__(self, path: Path, columns: tuple[str, ...], submit: Submit, *, must_write: bool) -> None:
        """Creates the file (and its directory) at once, so that a bad path is known before trading.

        Raises OSError. An existing file is continued only if its header is ours (ValueError otherwise).
        must_write: False where that is no reason not to trade: then it is the `failure`.
        """
        self.path = path
        self.failure: str | None = None
        self._columns = columns
        self._submit = submit
        self._has_begun = False
        try:
            self._begin()
            self._has_begun = True
        except (OSError, ValueError) as error:
            if must_write:
                raise
            self.failure = (error.strerror if isinstance(error, OSError) else None) or str(error)

    def _begin(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a+b") as file:
            file.seek(0)
            header = file.readline(MAX_HEADER).decode(errors="replace").strip()
            if header and header != ",".join(self._columns):
                raise ValueError(f"the file exists and has other columns: {self.path.name}")
            if not header:
                file.write((",".join(self._columns) + "\n").encode())

    def append(self, table: Iterable[Row]) -> None:
        if not self._has_begun:
            return
        text = _text(table, self._columns)
        self._submit(lambda: self._write(text))

    def _write(self, text: str) -> None:
        try:
            with self.path.open("a+b") as file:
                file.write(_after_a_tear(file) + text.encode())
        except OSError as error:
            self.failure = error.strerror or type(error).__name__


class TradesCsv:
    """The files of a run, named after the first one. Raises what `CsvFile` raises."""

    def __init__(self, path: Path, submit: Submit, *, mode: str, must_write: bool = True) -> None:
        self.path = path
        self.mode = mode
        self.cumulative_x18 = 0
        self._trades = CsvFile(path, COLUMNS, submit, must_write=must_write)
        positions, spreads, metrics, watch = (companion(path, what) for what in COMPANIONS)
        self._positions = CsvFile(positions, POSITION_COLUMNS, submit, must_write=must_write)
        self._spreads = CsvFile(spreads, SPREAD_COLUMNS, submit, must_write=must_write)
        self._metrics = CsvFile(metrics, METRIC_COLUMNS, submit, must_write=must_write)
        self._watch = CsvFile(watch, watchfile.COLUMNS, submit, must_write=must_write)

    @property
    def failure(self) -> str | None:
        """Which of them is not whole, and why. Only the trades are worth a halt: see `trades_failure`."""
        files = (self._trades, self._positions, self._spreads, self._metrics, self._watch)
        return next((why for file in files if (why := _why(file)) is not None), None)

    @property
    def trades_failure(self) -> str | None:
        """The same of the trades alone; the other files are figures made of them."""
        return _why(self._trades)

    def append(self, cycle: TradeMetrics) -> None:
        """A cycle has ended."""
        self.cumulative_x18 += 0 if cycle.pnl is None else cycle.pnl.net_x18
        self._trades.append(rows(cycle, self.mode))
        self._spreads.append([spread_row(cycle)])
        self._metrics.append([metric_row(cycle, self.cumulative_x18)])

    def log_trade(self, row: Row) -> None:
        """One row of the trades file. Raises ValueError on a column it does not have, and on what would keep
        a report from reading the file."""
        if unknown := sorted(set(row) - set(COLUMNS)):
            raise ValueError(f"the trades file has no column {', '.join(unknown)}")
        whole = {"exchange": "nado", "mode": self.mode, "timestamp": _now(), **row}
        tradefile.check(whole)
        self._trades.append([whole])

    def log_position(
        self, ticker: str, old_x18: int, new_x18: int, *, cycle_id: int, source: str, price_x18: int | None
    ) -> None:
        """A booked position has changed; source: fill or exchange."""
        row = {
            "exchange": "nado", "timestamp": _now(), "ticker": ticker, "old_position": show(old_x18),
            "new_position": show(new_x18), "position_change": show(new_x18 - old_x18),
            "cycle_id": str(cycle_id), "source": source, "price": _price(price_x18),
        }  # fmt: skip
        self._positions.append([row])

    def log_watch(self, bucket: Bucket) -> None:
        """Five minutes are over, or the run is."""
        self._watch.append([watchfile.row(bucket)])


def _after_a_tear(file: BinaryIO) -> bytes:
    """What ends a line that a full disk or a kill has cut, so that the next one stands alone."""
    if not file.seek(0, os.SEEK_END):
        return b""
    file.seek(-1, os.SEEK_END)
    return b"" if file.read(1) == b"\n" else b"\n"


def _why(file: CsvFile) -> str | None:
    return None if file.failure is None else f"{file.path}: {file.failure}"


def companion(path: Path, what: str) -> Path:
    """The file beside `path` that holds `what`."""
    return path.with_name(f"{path.stem}-{what}{path.suffix}")


def export_metrics(cycles: Iterable[TradeMetrics], path: Path) -> int:
    """Write one row a cycle, replacing the file; how many. Raises OSError."""
    table, cumulative_x18 = [], 0
    for cycle in cycles:
        cumulative_x18 += 0 if cycle.pnl is None else cycle.pnl.net_x18
        table.append(metric_row(cycle, cumulative_x18))
    path.write_text(",".join(METRIC_COLUMNS) + "\n" + _text(table, METRIC_COLUMNS), encoding="utf-8")
    return len(table)


def spread_row(cycle: TradeMetrics) -> dict[str, str]:
    entry, exit_ = cycle.spread_entry_bps, cycle.spread_exit_bps
    return {
        "cycle_id": str(cycle.iteration),
        "timestamp": _wall(cycle.ended_at),
        "eth_spread_entry": "" if entry is None else _plain(entry[0]),
        "sol_spread_entry": "" if entry is None else _plain(entry[1]),
        "eth_spread_exit": "" if exit_ is None else _plain(exit_[0]),
        "sol_spread_exit": "" if exit_ is None else _plain(exit_[1]),
        "eth_slippage_actual": _plain(cycle.leg_slippage_bps(0)),
        "sol_slippage_actual": _plain(cycle.leg_slippage_bps(1)),
        "pnl_with_fee": "" if cycle.pnl is None else show(cycle.pnl.net_x18),
    }


def metric_row(cycle: TradeMetrics, cumulative_x18: int) -> dict[str, str]:
    """The family calls the first leg primary and the second one hedge. Latencies in ms, cycle time in s.

    websocket_latency: mean time from a taker order sent to its fill seen on the stream. rest_latency: the
    fastest answer about positions over REST. reconciliation_time: all such questions of the cycle.
    """
    row = {"iteration": str(cycle.iteration), "direction": cycle.direction.value}
    for leg, name in enumerate(("primary", "hedge")):
        row |= _leg_columns(cycle, leg, name)
    takers = [o.sent_to_fill_ms for o in cycle.orders if not o.purpose.rests and o.filled_x18]
    seen = [ms for ms in takers if ms is not None]
    asked = cycle.reconciliation_ms
    row |= {
        "websocket_latency": _ms(sum(seen) / len(seen) if seen else None),
        "rest_latency": _ms(min(asked) if asked else None),
        "reconciliation_time": _ms(sum(asked) if asked else None),
        "repricing_count": str(cycle.repricing_count),
        "total_cycle_time": "" if cycle.cycle_s is None else f"{cycle.cycle_s:.3f}",
        "leg_gap_write_ms": _ms(cycle.leg_gap_write_ms),
        "leg_gap_fill_ms": _ms(cycle.leg_gap_fill_ms),
        "unhedged_ms": _ms(cycle.unhedged_ns / 1e6),
        "worst_net_delta_bps": _plain(cycle.worst_net_delta_bps),
        "is_closed": str(cycle.is_closed).lower(),
        "failure": cycle.failure,
        "delta_usd_s": _plain(cycle.delta_usd_s),
        "second_leg_cost_usd": _price(cycle.second_leg_cost_x18),
        "residual_usd": show(cycle.residual_x18),
    }
    if (pnl := cycle.pnl) is not None:
        row |= {
            "gross_pnl": show(pnl.gross_x18),
            "fees": show(pnl.fees_x18),
            "funding": show(pnl.funding_x18),
            "net_pnl": show(pnl.net_x18),
            "pnl_bps": _plain(bps_of(pnl.net_x18, pnl.volume_x18)),
            "cumulative_net_pnl": show(cumulative_x18),
        }
    return row


def _leg_columns(cycle: TradeMetrics, leg: int, name: str) -> dict[str, str]:
    entries = cycle.of(leg, *ENTRIES)
    exits = cycle.of(leg, *EXITS)
    row = {
        f"{name}_entry_price": _price(cycle.entry_price_x18(leg)),
        f"{name}_exit_price": _price(cycle.exit_price_x18(leg)),
        f"{name}_entry_time": _filled_at(entries, first=True),
        f"{name}_exit_time": _filled_at(exits, first=False),
        f"order_to_fill_{name}": _ms(entries[0].sent_to_fill_ms if entries else None),
        f"{name}_entry_order_type": _types(entries),
        f"{name}_exit_order_type": _types(exits),
    }
    entry_x18, exit_x18 = (sum(cycle.saved_x18(o) for o in orders) for orders in (entries, exits))
    if name == "hedge":
        return row | {"hedge_entry_fee_saved": show(entry_x18), "hedge_exit_fee_saved": show(exit_x18)}
    return row | {"primary_fee_saved": show(entry_x18 + exit_x18)}


def _types(orders: list[OrderRecord]) -> str:
    kinds = {"post_only" if o.purpose.rests else "ioc" for o in orders}
    return "+".join(sorted(kinds, reverse=True))


def _filled_at(orders: list[OrderRecord], *, first: bool) -> str:
    times = sorted(o.filled_at_ns for o in orders if o.filled_at_ns is not None)
    if not times:
        return ""
    return _wall(datetime.fromtimestamp(times[0 if first else -1] / NS_PER_S, UTC))


def _text(table: Iterable[Row], columns: tuple[str, ...]) -> str:
    text = io.StringIO()
    csv.DictWriter(text, columns, restval="", lineterminator="\n").writerows(table)
    return text.getvalue()


def _now() -> str:
    return _wall(datetime.now(UTC))


def _wall(at: datetime | None) -> str:
    return "" if at is None else at.isoformat(timespec="milliseconds")


def _price(value_x18: int | None) -> str:
    return "" if value_x18 is None else show(value_x18)


def _plain(value: Decimal | None) -> str:
    return "" if value is None else format(value, "f")


def _ms(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
