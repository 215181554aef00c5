"""Cycle figures and the trades CSV: column names and order, one row per order, totals once."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from bot.ledger import Pnl
from bot.metrics import (
    COLUMNS,
    PAIR_COLUMNS,
    OrderRecord,
    TradeMetrics,
    TradesCsv,
    expected_cost_x18,
    rows,
)
from bot.model import Direction
from bot.risk import Purpose
from nadofast.products import to_x18

MS = 1_000_000
FAMILY_COLUMNS = [
    "exchange",
    "timestamp",
    "side",
    "price",
    "quantity",
    "order_type",
    "mode",
    "fee_usd",
    "pnl_no_fee",
    "pnl_with_fee",
    "cycle_id",
    "entry_timestamp",
    "exit_timestamp",
    "entry_price_eth",
    "entry_price_sol",
    "exit_price_eth",
    "exit_price_sol",
    "spread_bps_entry",
    "spread_bps_exit",
    "slippage_bps_entry",
    "slippage_bps_exit",
    "cycle_skipped",
    "skip_reason",
    "eth_momentum_state",
    "sol_momentum_state",
    "spread_state_entry",
    "spread_state_exit",
    "entry_threshold_bps",
    "exit_threshold_bps",
    "exit_liquidity_available",
    "exit_liquidity_usd",
    "websocket_available",
]


def order(
    leg: int, purpose: Purpose, amount: str, price: str, sent_ms: int, maker: bool = False
) -> OrderRecord:
    filled = to_x18(amount)
    return OrderRecord(
        leg=leg, symbol=("ETH-PERP", "SOL-PERP")[leg], purpose=purpose, digest=f"0x{leg}{sent_ms}",
        filled_x18=filled, quote_x18=-filled * to_x18(price) // 10**18, fee_x18=to_x18("0.01"),
        maker_x18=abs(filled) if maker else 0, arrival_mid_x18=to_x18(("3000", "140")[leg]), at_ns=10**18,
        sent_ns=sent_ms * MS, first_fill_ns=(sent_ms + 30) * MS,
    )  # fmt: skip


@pytest.fixture
def cycle() -> TradeMetrics:
    rate = to_x18("0.00035")
    found = TradeMetrics(3, Direction.BUY_FIRST, (rate, rate), 0, datetime(2026, 1, 2, tzinfo=UTC))
    found.orders = [
        order(0, Purpose.ENTRY, "0.042", "3000.3", 100),
        order(1, Purpose.ENTRY, "-0.9", "139.99", 102),
        order(0, Purpose.REST, "-0.042", "3000.1", 700, maker=True),
        order(1, Purpose.REST, "0.4", "140.00", 701, maker=True),
        order(1, Purpose.TAKE, "0.5", "140.02", 3800),
    ]
    found.pnl = Pnl(to_x18("-0.03"), to_x18("0.05"), to_x18(504))
    found.balance_change_x18 = to_x18("-0.08")
    found.ended_ns = 4_000 * MS
    return found


def test_columns_have_the_family_names_and_order() -> None:
    assert list(PAIR_COLUMNS) == FAMILY_COLUMNS
    assert len(PAIR_COLUMNS) == 32
    assert COLUMNS[:32] == PAIR_COLUMNS
    assert len(set(COLUMNS)) == len(COLUMNS)


def test_rows_are_orders_and_totals_stand_once(cycle: TradeMetrics) -> None:
    found = rows(cycle, "sim")
    assert len(found) == 5
    assert [row["side"] for row in found] == ["buy", "sell", "sell", "buy", "buy"]
    assert [row["order_type"] for row in found] == ["ioc", "ioc", "post_only", "post_only", "ioc"]
    assert [row.get("pnl_with_fee", "") for row in found] == ["", "", "", "", "-0.08"]
    assert {row["entry_price_eth"] for row in found} == {"3000.3"}
    assert {row["exit_price_sol"] for row in found} == {"140.011111111111111111"}
    assert all(set(row) <= set(COLUMNS) for row in found)


def test_gaps_shares_and_savings(cycle: TradeMetrics) -> None:
    assert cycle.leg_gap_write_ms == 2.0
    assert cycle.leg_gap_fill_ms == 2.0
    assert cycle.cycle_s == 4.0
    share = cycle.maker_share
    assert share is not None
    assert Decimal("0.71") < share < Decimal("0.73")
    taker_fee = (Decimal("126.0042") + Decimal("56")) * Decimal("0.00035")
    assert cycle.fee_saved_x18 == to_x18(taker_fee - Decimal("0.02"))


def test_slippage_is_a_loss_on_either_side(cycle: TradeMetrics) -> None:
    assert cycle.orders[0].slippage_bps == Decimal("1.0000")
    assert cycle.orders[1].slippage_bps == Decimal("0.7143")
    assert cycle.orders[2].slippage_bps == Decimal("-0.3333")


def test_a_cycle_without_fills_is_one_row_that_says_why() -> None:
    skipped = TradeMetrics(1, Direction.SELL_FIRST, (0, 0), 0, datetime(2026, 1, 2, tzinfo=UTC))
    skipped.skipped, skipped.failure = True, "no fill"
    (row,) = rows(skipped, "sim")
    assert (row["cycle_skipped"], row["skip_reason"], row["cycle_id"]) == ("true", "no fill", "1")


def test_the_file_is_readable_and_never_mixed(tmp_path: Path, cycle: TradeMetrics) -> None:
    def now(job: Callable[[], None]) -> None:
        job()

    path = tmp_path / "deep" / "trades.csv"
    for _ in range(2):
        TradesCsv(path, now, mode="sim").append(cycle)
    with path.open(newline="") as file:
        found = list(csv.DictReader(file))
    assert len(found) == 10
    assert tuple(found[0]) == COLUMNS
    assert sum(Decimal(row["pnl_with_fee"] or 0) for row in found) == Decimal("-0.16")
    assert not any(re.search(r"e[+-]?\d", row["price"] + row["fee_usd"]) for row in found)
    other = tmp_path / "other.csv"
    other.write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match="other columns"):
        TradesCsv(other, now, mode="sim")
    with pytest.raises(OSError):
        TradesCsv(path / "below-a-file.csv", now, mode="sim")


def test_expected_cost() -> None:
    """150 a leg, 3.5 / 1 bps, spread 2 bps: entry 4.5 bps; exit 1 bp resting, 4.5 bps crossing; two legs."""
    notional, taker, maker = to_x18(150), to_x18("0.00035"), to_x18("0.0001")
    spread = Decimal(2)
    best, worst = expected_cost_x18((notional, notional), (taker, taker), (maker, maker), (spread, spread))
    assert best == to_x18("0.165")
    assert worst == to_x18("0.27")
