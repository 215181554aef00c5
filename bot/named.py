"""Checks and records of `DNPairBot` under the names the family of pair bots knows them by."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

from nadofast.products import to_x18

from . import report
from .model import End, ExitCode
from .reconcile import PositionReport
from .risk import Verdict
from .tradecsv import EXPORT, companion, export_metrics

if TYPE_CHECKING:
    from .pair import PairParts


class NamedRecords:
    """Part of `DNPairBot`; `_p` are its parts."""

    _p: PairParts

    def _pre_trade_check(
        self, ticker: str, side: str, quantity: Decimal, price: Decimal | None = None
    ) -> Verdict:
        """Whether an entry of this size would pass the gate now: falsy with reasons, or true, with warnings.

        price: the worst it may fill at; None = the last mid. Raises ValueError on an unknown ticker or side.
        """
        product_id = self._product_id(ticker)
        if side.lower() not in ("buy", "sell"):
            raise ValueError(f"side {side!r} is neither buy nor sell")
        mark_x18 = self._p.market.marks_x18.get(product_id, 0)
        amount_x18 = to_x18(quantity) * (1 if side.lower() == "buy" else -1)
        price_x18 = mark_x18 if price is None else to_x18(price)
        verdict = self._p.gate.pre_trade_check(product_id, amount_x18, price_x18)
        for text in (*verdict.reasons, *verdict.warnings):
            self._p.log.event(f"pre-trade check {ticker} {side} {quantity}: {text}")
        return verdict

    async def reconcile_positions(self) -> PositionReport:
        """Compare with the exchange; its word wins. A drift is measured against the budget of a leg.

        Raises what REST raises.
        """
        marks_x18 = self._p.market.marks_x18
        budget_x18 = self._p.plan.sizing.budget_x18
        sizes = {p: budget_x18 * 10**18 // mark for p, mark in marks_x18.items() if mark}
        found = await self._p.reconciler.reconcile_positions(marks_x18, sizes)
        if not found.is_synced:
            self._p.log.event(
                f"positions taken from the exchange, {found.drift_bps} bps of a leg: {found.explained_by}"
            )
        return found

    def export_trade_metrics(self, path: Path | None = None) -> Path:
        """Write one row for each of the newest 1,000 finished cycles; where. Raises OSError."""
        chosen = path or companion(self._p.csv.path, EXPORT)
        export_metrics(self._p.recorder.finished, chosen)
        return chosen

    def print_trade_summary(self, end: End | None = None) -> list[str]:
        """The run in figures, printed and returned."""
        end = end or End(ExitCode.DONE, "so far")
        parts = self._p
        lines = report.summary_lines(
            parts.recorder.finished, parts.recorder.totals, end, parts.standing.pnl(),
            parts.standing.exposure(), parts.gate.limits, [f"trades CSV: {parts.csv.path}"],
        )  # fmt: skip
        parts.log.block(lines)
        return lines

    def log_trade_to_csv(self, **columns: object) -> None:
        """One row of the trades file by its columns' names, for the open cycle unless it names one. Raises
        ValueError on a column it does not have, and on a row that no report could read."""
        row = {name: str(value) for name, value in columns.items()}
        self._p.csv.log_trade({"cycle_id": str(self._cycle_id())} | row)

    def log_position_update(
        self, product_id: int, old_x18: int, new_x18: int, source: str, price_x18: int
    ) -> None:
        """A booked position has changed, by a fill or by the exchange's word: one row."""
        self._p.csv.log_position(
            self._symbol(product_id), old_x18, new_x18, cycle_id=self._cycle_id(), source=source,
            price_x18=price_x18,
        )  # fmt: skip

    def _cycle_id(self) -> int:
        """Of the open cycle; 0 between two of them."""
        cycle = self._p.recorder.cycle
        return 0 if cycle is None else cycle.iteration

    def _product_id(self, ticker: str) -> int:
        """ETH and ETH-PERP are the same leg."""
        for product in self._p.plan.products:
            if ticker.upper() in (product.symbol.upper(), product.symbol.upper().partition("-")[0]):
                return product.product_id
        raise ValueError(f"{ticker!r} is not a leg of this pair")

    def _symbol(self, product_id: int) -> str:
        return next(p.symbol for p in self._p.plan.products if p.product_id == product_id)
