"""Turns what happens into `TradeMetrics`, one per cycle; keeps the newest ones and the totals of the run."""

from __future__ import annotations

from collections import deque
from datetime import UTC, datetime
from decimal import Decimal
from typing import Final

from nadofast.products import Product, mul_x18

from .desk import DeskOrder, record
from .ledger import Ledger, Pnl
from .market import Market
from .metrics import TradeMetrics
from .model import Begin, CycleEnd, Phase
from .signals import PairSignals
from .standing import Standing
from .totals import Totals
from .units import bps_of

# Legs whose signed notionals cancel to within this share of the gross count as hedged.
HEDGED_WITHIN_BPS = 1_000
KEPT_CYCLES: Final = 1_000


class CycleRecorder:
    """Between `begin` and `end` there is one open cycle; `tick` is called at every decision."""

    def __init__(
        self,
        products: tuple[Product, Product],
        ledger: Ledger,
        market: Market,
        standing: Standing,
        signals: PairSignals | None = None,
    ) -> None:
        self._products = products
        self._ledger = ledger
        self._market = market
        self._standing = standing
        self._signals = signals
        self._pnl_before = Pnl(0, 0, 0)
        self._cash_before_x18: int | None = None
        self._last_tick_ns = 0
        self._was_hedged = True
        self._last_delta_x18 = 0
        self.cycle: TradeMetrics | None = None
        self.finished: deque[TradeMetrics] = deque(maxlen=KEPT_CYCLES)
        self.totals = Totals()

    def begin(self, action: Begin, now_ns: int, cash_x18: int | None) -> None:
        """A cycle starts; flat, so what the ledger holds now is its zero. `cash_x18`: the exchange's."""
        rates = tuple(product.taker_fee_rate_x18 for product in self._products)
        self.cycle = TradeMetrics(
            iteration=action.cycle,
            direction=action.direction,
            taker_rates_x18=(rates[0], rates[1]),
            started_ns=now_ns,
            started_at=datetime.now(UTC),
            spread_entry_bps=self._spreads_bps(),
        )
        if self._signals is not None:
            self.cycle.momentum = self._signals.momentum()
            self.cycle.spread_state_entry = self._signals.spread_state()
        self._pnl_before = self._standing.pnl()
        self._cash_before_x18 = cash_x18
        self._last_tick_ns, self._was_hedged, self._last_delta_x18 = now_ns, True, 0

    def tick(self, phase: Phase, now_ns: int, is_stream_live: bool) -> None:
        """Settled net delta and time spent unhedged, from the ledger at the last mids."""
        if self._signals is not None:
            self._signals.look()
        cycle = self.cycle
        if cycle is None:
            return
        cycle.is_stream_live &= is_stream_live
        passed_ns = now_ns - self._last_tick_ns
        marks_x18, notionals = self._notionals_x18()
        delta_bps = _delta_bps(notionals)
        if not self._was_hedged:
            cycle.unhedged_ns += passed_ns
        cycle.delta_x18_ns += self._last_delta_x18 * passed_ns
        if cycle.first_fill_mids_x18 is None and any(notionals):
            cycle.first_fill_mids_x18 = marks_x18
        self._was_hedged, self._last_tick_ns = delta_bps <= HEDGED_WITHIN_BPS, now_ns
        self._last_delta_x18 = abs(sum(notionals))
        if phase is Phase.HEDGED:
            cycle.worst_net_delta_bps = max(cycle.worst_net_delta_bps, delta_bps)

    def hedged(self) -> None:
        """Both legs are full: the first settled moment of the pair."""
        if self.cycle is not None:
            self.cycle.hedged_at = datetime.now(UTC)
            self.cycle.worst_net_delta_bps = _delta_bps(self._notionals_x18()[1])

    def phase_changed(self, phase: Phase) -> None:
        """The market at the start of the exit."""
        cycle = self.cycle
        if cycle is None:
            return
        if phase is Phase.UNWINDING and cycle.spread_exit_bps is None:
            cycle.spread_exit_bps = self._spreads_bps()
            if self._signals is not None:
                cycle.spread_state_exit = self._signals.spread_state()
            positions = [self._ledger.position_x18(product.product_id) for product in self._products]
            liquidity = [
                self._market.liquidity_x18(product.product_id, -position)
                for product, position in zip(self._products, positions, strict=True)
            ]
            cycle.exit_liquidity_x18 = (liquidity[0], liquidity[1])

    def repriced(self) -> None:
        if self.cycle is not None:
            self.cycle.repricing_count += 1

    def reconciled(self, took_ms: float) -> None:
        if self.cycle is not None:
            self.cycle.reconciliation_ms.append(took_ms)

    def end(
        self,
        action: CycleEnd,
        orders: list[DeskOrder],
        now_ns: int,
        cash_x18: int | None,
        *,
        is_closed: bool = True,
    ) -> TradeMetrics:
        """Close the open cycle: its orders, its PnL, and what the exchange's own balance did meanwhile.

        is_closed: the exchange has confirmed that it is flat; `cash_x18` is its balance then, else None.
        """
        cycle = self.cycle
        assert cycle is not None, "a cycle ends that never began"
        for order in orders:
            done = record(order, self._products[order.intent.leg].symbol)
            if done is not None:
                cycle.orders.append(done)
        cycle.ended_at, cycle.ended_ns = datetime.now(UTC), now_ns
        cycle.failure, cycle.skipped = action.failure, action.skipped
        cycle.is_closed = is_closed and not action.skipped
        if not action.is_flat:
            cycle.residual_x18 = sum(abs(notional) for notional in self._notionals_x18()[1])
        cycle.pnl = self._standing.pnl() - self._pnl_before
        if cash_x18 is not None and self._cash_before_x18 is not None:
            cycle.balance_change_x18 = cash_x18 - self._cash_before_x18
        self.finished.append(cycle)
        self.totals.add(cycle)
        self.cycle = None
        return cycle

    def _spreads_bps(self) -> tuple[Decimal, Decimal]:
        spreads = [self._market.quote(product.product_id).spread_bps for product in self._products]
        return spreads[0], spreads[1]

    def _notionals_x18(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """(mids, signed notionals) of both products now."""
        marks_x18 = self._market.marks_x18
        first, second = (marks_x18.get(p.product_id, 0) for p in self._products)
        held = [self._ledger.position_x18(p.product_id) for p in self._products]
        return (first, second), (mul_x18(held[0], first), mul_x18(held[1], second))


def _delta_bps(notionals: tuple[int, int]) -> Decimal:
    return bps_of(abs(sum(notionals)), sum(abs(n) for n in notionals))
