"""What a run has come to so far, counted as its cycles end: it does not grow with their number."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from .metrics import TradeMetrics
from .steps import STOP_REQUESTED


def result_of(cycle: TradeMetrics) -> str:
    """How a cycle ended: "complete", "failed", "cut short" or "skipped"."""
    if cycle.skipped:
        return "skipped"
    if cycle.failure == STOP_REQUESTED:
        return "cut short"
    return "failed" if cycle.failure else "complete"


@dataclass(slots=True)
class Totals:
    """Of all cycles of a run. results: by `result_of`. complete: the complete ones by direction. started_ns:
    when the first one began, on the monotonic clock, None before it ended. fee_saved_x18: quote."""

    cycles: int = 0
    results: Counter[str] = field(default_factory=Counter)
    complete: Counter[str] = field(default_factory=Counter)
    started_ns: int | None = None
    fee_saved_x18: int = 0

    def add(self, cycle: TradeMetrics) -> None:
        """One more has ended."""
        result = result_of(cycle)
        self.cycles += 1
        self.results[result] += 1
        self.fee_saved_x18 += cycle.fee_saved_x18
        if self.started_ns is None:
            self.started_ns = cycle.started_ns
        if result == "complete":
            self.complete[cycle.direction] += 1
