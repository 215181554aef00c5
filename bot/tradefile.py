"""The trades CSV read back: cycles with exact figures. What the file does not say is None, never zero."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Final

from .steps import STOP_REQUESTED

NEEDED: Final = ("timestamp", "side", "price", "quantity", "fee_usd", "pnl_with_fee", "cycle_id")
SIDES: Final = {"buy": 1, "sell": -1}
MOST: Final = 10**15
Row = Mapping[str, str]


class TradeFileError(Exception):
    """The file cannot be used; one line that names file, row and column."""


@dataclass(frozen=True, slots=True)
class Trade:
    """One order that filled. quantity is signed: sells are negative."""

    at: datetime
    symbol: str
    purpose: str
    price: Decimal
    quantity: Decimal
    fee_usd: Decimal
    is_maker: bool | None
    sent_to_fill_ms: float | None

    @property
    def notional_usd(self) -> Decimal:
        return abs(self.quantity) * self.price


@dataclass(slots=True)
class Cycle:
    """One cycle as its rows tell it."""

    cycle_id: int
    direction: str
    started: datetime
    skipped: bool = False
    failure: str = ""
    trades: list[Trade] = field(default_factory=list)
    ended: datetime | None = None
    gross_usd: Decimal | None = None
    net_usd: Decimal | None = None
    balance_change_usd: Decimal | None = None
    told_funding_usd: Decimal | None = None
    told_volume_usd: Decimal | None = None
    fee_saved_usd: Decimal = Decimal(0)
    figures: dict[str, float] = field(default_factory=dict)
    """leg_gap_write_ms, leg_gap_fill_ms, cycle_s, worst_net_delta_bps, unhedged_ms, maker_share_pct,
    slippage_bps_entry, slippage_bps_exit, repricings: those that were measured."""

    @property
    def fees_usd(self) -> Decimal:
        """Of the whole cycle where the file says the funding, too; else of the orders that have a row."""
        if self.told_funding_usd is not None and self.net_usd is not None and self.gross_usd is not None:
            return self.gross_usd + self.told_funding_usd - self.net_usd
        return sum((trade.fee_usd for trade in self.trades), Decimal(0))

    @property
    def funding_usd(self) -> Decimal:
        """Received; negative was paid. A file without it says it by what is left of net, price and fees."""
        if self.told_funding_usd is not None:
            return self.told_funding_usd
        if self.net_usd is None or self.gross_usd is None:
            return Decimal(0)
        return self.net_usd - self.gross_usd + self.fees_usd

    @property
    def volume_usd(self) -> Decimal:
        if self.told_volume_usd is not None:
            return self.told_volume_usd
        return sum((trade.notional_usd for trade in self.trades), Decimal(0))

    @property
    def is_complete(self) -> bool:
        """It came to its end, as planned."""
        return self.net_usd is not None and not self.skipped and not self.failure

    @property
    def is_cut_short(self) -> bool:
        """A person ended it."""
        return not self.skipped and self.failure == STOP_REQUESTED


FIGURES: Final = (
    "leg_gap_write_ms", "leg_gap_fill_ms", "cycle_s", "worst_net_delta_bps", "unhedged_ms", "maker_share_pct",
    "slippage_bps_entry", "slippage_bps_exit", "repricings",
)  # fmt: skip


def read(paths: Iterable[Path]) -> list[Cycle]:
    """The cycles of some files, in their order. Raises TradeFileError."""
    return [cycle for path in paths for cycle in _read_one(path)]


def _read_one(path: Path) -> list[Cycle]:
    try:
        with path.open(newline="", encoding="utf-8") as opened:
            reader = csv.DictReader(opened)
            missing = [name for name in NEEDED if name not in (reader.fieldnames or ())]
            if missing:
                raise TradeFileError(f"{path}: no trades file: column {missing[0]} is missing")
            return _cycles(path, reader)
    except OSError as error:
        raise TradeFileError(f"{path}: {error.strerror}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise TradeFileError(f"{path}: no CSV file: {error}") from None


def _cycles(path: Path, reader: csv.DictReader[str]) -> list[Cycle]:
    cycles: list[Cycle] = []
    for number, row in enumerate(reader, start=2):
        try:
            if None in row or None in row.values():
                raise ValueError("it is torn, or holds more than its header names")
            _add(cycles, row)
        except (ValueError, TypeError) as error:
            raise TradeFileError(f"{path}: row {number} cannot be read: {error}") from None
    return cycles


def check(row: Row) -> None:
    """Raises ValueError on a row with which its file could not be read again."""
    _add([], {**dict.fromkeys(NEEDED, ""), **row})


def _add(cycles: list[Cycle], row: Row) -> None:
    cycle_id = int(row["cycle_id"])
    if not cycles or not _goes_on(cycles[-1], cycle_id, row):
        direction = row.get("direction") or ""
        cycles.append(Cycle(cycle_id, direction, datetime.fromisoformat(row["timestamp"])))
    _take(cycles[-1], row)


def _goes_on(cycle: Cycle, cycle_id: int, row: Row) -> bool:
    """Whether a row belongs to the cycle before it. The next run in the same file counts from one again; its
    cycle ended at another time."""
    ended = row.get("exit_timestamp")
    is_another = ended and cycle.ended is not None and cycle.ended != datetime.fromisoformat(ended)
    return cycle.cycle_id == cycle_id and not is_another


def _take(cycle: Cycle, row: Row) -> None:
    cycle.skipped = cycle.skipped or row.get("cycle_skipped") == "true"
    cycle.failure = row.get("failure") or cycle.failure
    if row["price"]:
        cycle.trades.append(_trade(row))
    if row.get("exit_timestamp"):
        cycle.ended = datetime.fromisoformat(row["exit_timestamp"])
    if row["pnl_with_fee"]:
        cycle.net_usd = _number(row["pnl_with_fee"])
        cycle.gross_usd = _number(row.get("pnl_no_fee") or row["pnl_with_fee"])
        cycle.balance_change_usd = _decimal(row.get("balance_change_usd"))
        cycle.told_funding_usd = _decimal(row.get("funding_usd"))
        cycle.told_volume_usd = _decimal(row.get("volume_usd"))
        cycle.fee_saved_usd = _decimal(row.get("fee_saved_usd")) or Decimal(0)
        cycle.figures = {name: float(_number(row[name])) for name in FIGURES if row.get(name)}


def _trade(row: Row) -> Trade:
    maker, latency, side = row.get("is_maker"), row.get("sent_to_fill_ms"), row["side"].lower()
    if side not in SIDES:
        raise ValueError(f"{side[:20]!r} is neither buy nor sell")
    return Trade(
        datetime.fromisoformat(row["timestamp"]),
        row.get("symbol") or "",
        row.get("purpose") or row.get("order_type") or "",
        _number(row["price"]),
        _number(row["quantity"]) * SIDES[side],
        _decimal(row["fee_usd"]) or Decimal(0),
        None if not maker else maker == "true",
        float(_number(latency)) if latency else None,
    )


def _decimal(text: str | None) -> Decimal | None:
    return _number(text) if text else None


def _number(text: str) -> Decimal:
    """Raises ValueError on what is no amount, or none of this world."""
    try:
        number = Decimal(text)
    except InvalidOperation:
        number = Decimal("NaN")
    if not number.is_finite() or not -MOST <= number <= MOST:  # `abs` fails on a huge exponent
        raise ValueError(f"{text[:20]!r} is no amount")
    return number
