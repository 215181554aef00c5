"""What a cycle cost and how it went: `TradeMetrics`, and the rows of the trades CSV.

The first 32 CSV columns keep the names and the order that analysis tools of the pair bot family read; ours
are appended to the right. One row is one order that filled; figures of the whole cycle stand on its last
row only, so that summing a column gives the total. What an emergency exit did has no row of its own and is in
those figures alone. What was not measured is empty, never invented.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Final

from nadofast.products import mul_x18

from .ledger import Pnl
from .model import Direction
from .risk import ENTRIES, EXITS, Purpose
from .units import NS_PER_MS, NS_PER_S, bps_of, decimal, scale_bps, show

PAIR_COLUMNS: Final = (
    "exchange", "timestamp", "side", "price", "quantity", "order_type", "mode",
    "fee_usd", "pnl_no_fee", "pnl_with_fee", "cycle_id", "entry_timestamp", "exit_timestamp",
    "entry_price_eth", "entry_price_sol", "exit_price_eth", "exit_price_sol",
    "spread_bps_entry", "spread_bps_exit", "slippage_bps_entry", "slippage_bps_exit",
    "cycle_skipped", "skip_reason", "eth_momentum_state", "sol_momentum_state",
    "spread_state_entry", "spread_state_exit", "entry_threshold_bps", "exit_threshold_bps",
    "exit_liquidity_available", "exit_liquidity_usd", "websocket_available",
)  # fmt: skip
OUR_COLUMNS: Final = (
    "symbol", "direction", "purpose", "digest", "is_maker", "sent_to_fill_ms", "leg_gap_write_ms",
    "leg_gap_fill_ms", "cycle_s", "worst_net_delta_bps", "unhedged_ms", "maker_share_pct",
    "fee_saved_usd", "repricings", "balance_change_usd", "failure", "delta_usd_s",
    "second_leg_cost_usd", "funding_usd", "volume_usd", "residual_usd",
)  # fmt: skip
COLUMNS: Final = PAIR_COLUMNS + OUR_COLUMNS
# A line that is cut in its last column looks whole: no sum is made of that one.


@dataclass(frozen=True, slots=True)
class OrderRecord:
    """One of our orders as it ended. Amount and quote are signed; times are monotonic ns, at_ns is wall."""

    leg: int
    symbol: str
    purpose: Purpose
    digest: str
    filled_x18: int
    quote_x18: int
    fee_x18: int
    maker_x18: int
    arrival_mid_x18: int
    at_ns: int
    sent_ns: int | None
    first_fill_ns: int | None

    @property
    def price_x18(self) -> int:
        """Average price, truncated to x18."""
        return abs(self.quote_x18) * 10**18 // abs(self.filled_x18) if self.filled_x18 else 0

    @property
    def slippage_bps(self) -> Decimal:
        """What the average price loses against the mid when the order was decided; negative = gained."""
        worse_x18 = self.price_x18 - self.arrival_mid_x18
        return bps_of(worse_x18 if self.filled_x18 > 0 else -worse_x18, self.arrival_mid_x18)

    @property
    def filled_at_ns(self) -> int | None:
        """Wall time of the first fill, None without one."""
        if not self.filled_x18 or self.sent_to_fill_ms is None:
            return None
        return self.at_ns + int(self.sent_to_fill_ms * NS_PER_MS)

    @property
    def sent_to_fill_ms(self) -> float | None:
        if self.sent_ns is None or self.first_fill_ns is None:
            return None
        return (self.first_fill_ns - self.sent_ns) / NS_PER_MS


@dataclass(slots=True)
class TradeMetrics:
    """One cycle. The driver fills it in; everything derived is computed from the orders' own fills.

    is_closed: flat by the exchange's own answer. If not, an open position is in `pnl` at the last mid.
    delta_x18_ns: integral of |signed notional of both legs together| over time. first_fill_mids_x18: of both
    products when the entry's first fill was seen. residual_x18: quote that no order could close. momentum,
    spread_state: "" where no signal was.
    """

    iteration: int
    direction: Direction
    taker_rates_x18: tuple[int, int]
    started_ns: int
    started_at: datetime
    orders: list[OrderRecord] = field(default_factory=list)
    hedged_at: datetime | None = None
    ended_at: datetime | None = None
    ended_ns: int | None = None
    pnl: Pnl | None = None
    balance_change_x18: int | None = None
    spread_entry_bps: tuple[Decimal, Decimal] | None = None
    spread_exit_bps: tuple[Decimal, Decimal] | None = None
    exit_liquidity_x18: tuple[int, int] | None = None
    worst_net_delta_bps: Decimal = Decimal(0)
    unhedged_ns: int = 0
    repricing_count: int = 0
    reconciliation_ms: list[float] = field(default_factory=list)
    delta_x18_ns: int = 0
    residual_x18: int = 0
    first_fill_mids_x18: tuple[int, int] | None = None
    momentum: tuple[str, str] = ("", "")
    spread_state_entry: str = ""
    spread_state_exit: str = ""
    is_stream_live: bool = True
    skipped: bool = False
    is_closed: bool = False
    failure: str = ""

    def of(self, leg: int, *purposes: Purpose) -> list[OrderRecord]:
        return [o for o in self.orders if o.leg == leg and o.purpose in purposes and o.filled_x18]

    def entry_price_x18(self, leg: int) -> int | None:
        return _average(self.of(leg, *ENTRIES))

    def exit_price_x18(self, leg: int) -> int | None:
        return _average(self.of(leg, *EXITS))

    @property
    def cycle_s(self) -> float | None:
        return None if self.ended_ns is None else (self.ended_ns - self.started_ns) / NS_PER_S

    @property
    def leg_gap_write_ms(self) -> float | None:
        """Between the two entry orders' bytes leaving; None if one of them rested first."""
        if any(order.purpose is Purpose.MAKE for order in self._first_entries()):
            return None
        return self._entry_gap_ms([o.sent_ns for o in self._first_entries()])

    @property
    def leg_gap_fill_ms(self) -> float | None:
        """Between the first fills of the two legs, as we saw them."""
        return self._entry_gap_ms([o.first_fill_ns for o in self._first_entries()])

    @property
    def maker_share(self) -> Decimal | None:
        """Share of the exits' quantity, by notional, that was filled as maker."""
        exits = [o for o in self.orders if o.purpose.is_exit and o.filled_x18]
        whole = sum(abs(o.quote_x18) for o in exits)
        made = sum(mul_x18(o.maker_x18, o.price_x18) for o in exits)
        return Decimal(made) / Decimal(whole) if whole else None

    @property
    def fee_saved_x18(self) -> int:
        """Taker fee at the listed rate for what was filled as maker, less the fee really paid for it."""
        return sum(self.saved_x18(order) for order in self.orders)

    def saved_x18(self, order: OrderRecord) -> int:
        """The same of one order; 0 for one that crossed."""
        if not order.purpose.rests or not order.filled_x18:
            return 0
        return mul_x18(abs(order.quote_x18), self.taker_rates_x18[order.leg]) - order.fee_x18

    @property
    def delta_usd_s(self) -> Decimal:
        """The integral in USD times seconds, six decimals."""
        return (Decimal(self.delta_x18_ns) / Decimal(10**18 * NS_PER_S)).quantize(Decimal("0.000001"))

    @property
    def second_leg_cost_x18(self) -> int | None:
        """Quote that the entry of the leg that filled later cost against its mid when the first leg filled;
        None if only one filled or that mid is not known."""
        entries = [self.of(leg, *ENTRIES) for leg in (0, 1)]
        first_ns = [min((o.first_fill_ns for o in leg if o.first_fill_ns), default=None) for leg in entries]
        if self.first_fill_mids_x18 is None or first_ns[0] is None or first_ns[1] is None:
            return None
        second = 0 if first_ns[0] > first_ns[1] else 1
        filled_x18 = sum(o.filled_x18 for o in entries[second])
        paid_x18 = -sum(o.quote_x18 for o in entries[second])
        return paid_x18 - mul_x18(filled_x18, self.first_fill_mids_x18[second])

    def leg_slippage_bps(self, leg: int) -> Decimal | None:
        """Mean over all fills of one leg, weighted by notional."""
        return mean_slippage_bps([o for o in self.orders if o.leg == leg])

    def slippage_bps(self, *purposes: Purpose) -> Decimal | None:
        """Mean over the legs, weighted by notional."""
        return mean_slippage_bps([o for o in self.orders if o.purpose in purposes])

    def _first_entries(self) -> list[OrderRecord]:
        firsts: dict[int, OrderRecord] = {}
        for order in self.orders:
            if order.purpose.begins or (order.purpose in ENTRIES and order.leg not in firsts):
                firsts[order.leg] = order  # a repeated BUILD replaces the attempt that filled nothing
        return [firsts[leg] for leg in sorted(firsts)]

    @staticmethod
    def _entry_gap_ms(times: Sequence[int | None]) -> float | None:
        if len(times) != 2 or times[0] is None or times[1] is None:
            return None
        return abs(times[1] - times[0]) / NS_PER_MS


def mean_slippage_bps(orders: Sequence[OrderRecord]) -> Decimal | None:
    """Weighted by notional; None if nothing filled."""
    filled = [o for o in orders if o.filled_x18]
    whole = sum(abs(o.quote_x18) for o in filled)
    if not whole:
        return None
    lost = sum((o.slippage_bps * abs(o.quote_x18) for o in filled), Decimal(0))
    return (lost / whole).quantize(Decimal("0.0001"))


def _average(orders: Sequence[OrderRecord]) -> int | None:
    filled = sum(abs(o.filled_x18) for o in orders)
    return sum(abs(o.quote_x18) for o in orders) * 10**18 // filled if filled else None


def rows(cycle: TradeMetrics, mode: str) -> list[dict[str, str]]:
    """CSV rows of a cycle, by column name; a cycle without a fill has one row that says so."""
    shared = _shared(cycle, mode)
    filled = [o for o in cycle.orders if o.filled_x18]
    result = [shared | _order(o) for o in filled] or [shared | {"timestamp": _time(cycle.started_at)}]
    result[-1] |= _totals(cycle)
    return result


def _shared(cycle: TradeMetrics, mode: str) -> dict[str, str]:
    return {
        "exchange": "nado",
        "mode": mode,
        "cycle_id": str(cycle.iteration),
        "direction": cycle.direction.value,
        "entry_timestamp": _time(cycle.hedged_at),
        "exit_timestamp": _time(cycle.ended_at),
        "entry_price_eth": _show(cycle.entry_price_x18(0)),
        "entry_price_sol": _show(cycle.entry_price_x18(1)),
        "exit_price_eth": _show(cycle.exit_price_x18(0)),
        "exit_price_sol": _show(cycle.exit_price_x18(1)),
        "cycle_skipped": str(cycle.skipped).lower(),
        "skip_reason": cycle.failure if cycle.skipped else "",
        "eth_momentum_state": cycle.momentum[0],
        "sol_momentum_state": cycle.momentum[1],
        "spread_state_entry": cycle.spread_state_entry,
        "spread_state_exit": cycle.spread_state_exit,
        "websocket_available": str(cycle.is_stream_live).lower(),
    }


def _order(order: OrderRecord) -> dict[str, str]:
    return {
        "timestamp": _time(datetime.fromtimestamp(order.at_ns / NS_PER_S, UTC)),
        "side": "buy" if order.filled_x18 > 0 else "sell",
        "price": show(order.price_x18),
        "quantity": show(abs(order.filled_x18)),
        "order_type": "post_only" if order.purpose.rests else "ioc",
        "fee_usd": show(order.fee_x18),
        "symbol": order.symbol,
        "purpose": order.purpose.value,
        "digest": order.digest,
        "is_maker": str(order.maker_x18 == abs(order.filled_x18)).lower(),
        "sent_to_fill_ms": _ms(order.sent_to_fill_ms),
    }


def _totals(cycle: TradeMetrics) -> dict[str, str]:
    liquidity = None if cycle.exit_liquidity_x18 is None else min(cycle.exit_liquidity_x18)
    share = cycle.maker_share
    return {
        "pnl_no_fee": "" if cycle.pnl is None else show(cycle.pnl.gross_x18),
        "pnl_with_fee": "" if cycle.pnl is None else show(cycle.pnl.net_x18),
        "spread_bps_entry": _mean(cycle.spread_entry_bps),
        "spread_bps_exit": _mean(cycle.spread_exit_bps),
        "slippage_bps_entry": _text(cycle.slippage_bps(*ENTRIES)),
        "slippage_bps_exit": _text(cycle.slippage_bps(*EXITS)),
        "exit_liquidity_available": "" if liquidity is None else str(liquidity > 0).lower(),
        "exit_liquidity_usd": "" if liquidity is None else show(liquidity // 10**14 * 10**14),
        "leg_gap_write_ms": _ms(cycle.leg_gap_write_ms),
        "leg_gap_fill_ms": _ms(cycle.leg_gap_fill_ms),
        "cycle_s": "" if cycle.cycle_s is None else f"{cycle.cycle_s:.3f}",
        "worst_net_delta_bps": _text(cycle.worst_net_delta_bps),
        "unhedged_ms": _ms(cycle.unhedged_ns / NS_PER_MS),
        "maker_share_pct": "" if share is None else f"{share * 100:.1f}",
        "fee_saved_usd": show(cycle.fee_saved_x18),
        "repricings": str(cycle.repricing_count),
        "balance_change_usd": _show(cycle.balance_change_x18),
        "failure": cycle.failure,
        "delta_usd_s": _text(cycle.delta_usd_s),
        "second_leg_cost_usd": _show(cycle.second_leg_cost_x18),
        "residual_usd": _show(cycle.residual_x18),
        "funding_usd": "" if cycle.pnl is None else show(-cycle.pnl.funding_x18),
        "volume_usd": "" if cycle.pnl is None else show(cycle.pnl.volume_x18),
    }


def expected_cost_x18(
    notionals_x18: tuple[int, int],
    taker_x18: tuple[int, int],
    maker_x18: tuple[int, int],
    spreads_bps: tuple[Decimal, Decimal],
) -> tuple[int, int]:
    """Quote a cycle is expected to cost: (exits rest and fill, exits cross).

    Entry pays the taker fee and half the spread. An exit that rests pays the maker fee, one that crosses
    the taker fee and the other half of the spread. Price moves are not in it.
    """
    best = worst = 0
    for notional, taker, maker, spread in zip(notionals_x18, taker_x18, maker_x18, spreads_bps, strict=True):
        half_spread = scale_bps(notional, spread) // 2
        entry = mul_x18(notional, taker) + half_spread
        best += entry + mul_x18(notional, maker)
        worst += entry + mul_x18(notional, taker) + half_spread
    return best, worst


def _time(at: datetime | None) -> str:
    return "" if at is None else at.isoformat(timespec="milliseconds")


def _show(value_x18: int | None) -> str:
    return "" if value_x18 is None else format(decimal(value_x18), "f")


def _ms(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _text(value: Decimal | None) -> str:
    return "" if value is None else format(value, "f")


def _mean(values: tuple[Decimal, Decimal] | None) -> str:
    return "" if values is None else f"{(values[0] + values[1]) / 2:.4f}"
