"""Cycle figures and the trades CSV: column names and order, one row per order, totals once."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from bot.htmlreport import totals
from bot.ledger import Pnl
from bot.metrics import (
    COLUMNS,
    PAIR_COLUMNS,
    OrderRecord,
    TradeMetrics,
    expected_cost_x18,
    rows,
)
from bot.model import Direction
from bot.risk import Purpose
from bot.tradecsv import (
    METRIC_COLUMNS,
    POSITION_COLUMNS,
    SPREAD_COLUMNS,
    TradesCsv,
    export_metrics,
    metric_row,
    spread_row,
)
from bot.tradefile import TradeFileError, read
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


@pytest.mark.parametrize(("mid", "cost"), [("140.09", "0.09"), ("139.95", "-0.036")])
def test_the_second_leg_costs_against_its_mid_when_the_first_one_filled(
    cycle: TradeMetrics, mid: str, cost: str
) -> None:
    """SOL filled two milliseconds after ETH, at 139.99: sold for less than it was worth then, or for more."""
    assert cycle.second_leg_cost_x18 is None
    cycle.first_fill_mids_x18 = (to_x18("3000"), to_x18(mid))
    assert cycle.second_leg_cost_x18 == to_x18(cost)
    cycle.delta_x18_ns = to_x18(126) * 2 * MS + to_x18(3) * 1_000 * MS
    assert cycle.delta_usd_s == Decimal("3.252000")
    row = rows(cycle, "sim")[-1]
    assert (row["delta_usd_s"], row["second_leg_cost_usd"]) == ("3.252000", cost)
    cycle.orders = [o for o in cycle.orders if o.leg == 0]
    assert cycle.second_leg_cost_x18 is None


def test_what_the_market_did_stands_in_every_row(cycle: TradeMetrics) -> None:
    cycle.momentum, cycle.spread_state_entry, cycle.spread_state_exit = ("bullish", ""), "stable", "widening"
    names = ("eth_momentum_state", "sol_momentum_state", "spread_state_entry", "spread_state_exit")
    assert {tuple(row[name] for name in names) for row in rows(cycle, "sim")} == {
        ("bullish", "", "stable", "widening")
    }


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


def test_a_torn_line_stays_a_line_of_its_own(tmp_path: Path, cycle: TradeMetrics) -> None:
    """The disk was full, or the process was killed: what comes later must not be glued to it."""
    path = tmp_path / "trades.csv"
    TradesCsv(path, lambda job: job(), mode="sim").append(cycle)
    whole = path.read_bytes()
    for tear in range(1, len(whole.splitlines()[-1]), 40):
        path.write_bytes(whole[:-tear])
        TradesCsv(path, lambda job: job(), mode="sim").append(cycle)
        lines = path.read_bytes().splitlines()
        assert lines[6:] == whole.splitlines()[1:]
        assert b"\n".join(lines[:6]) + b"\n" == whole[:-tear] + b"\n"


def test_a_write_that_was_cut_is_not_glued_to_the_next_one(tmp_path: Path, cycle: TradeMetrics) -> None:
    path = tmp_path / "trades.csv"
    csv_file = TradesCsv(path, lambda job: job(), mode="sim")
    with path.open("ab") as torn:
        torn.write(b"nado,2026-")
    csv_file.append(cycle)
    assert path.read_bytes().splitlines()[1] == b"nado,2026-"


def test_a_file_that_is_cut_anywhere_is_told_exactly_or_refused(tmp_path: Path, cycle: TradeMetrics) -> None:
    path = tmp_path / "trades.csv"
    TradesCsv(path, lambda job: job(), mode="sim").append(cycle)
    whole, read_whole = path.read_bytes(), 0
    for length in range(whole.index(b"\n") + 1, len(whole) + 1):
        path.write_bytes(whole[:length])
        try:
            found = read([path])
        except TradeFileError:
            continue
        trades = sum(len(one.trades) for one in found)
        assert trades - whole[:length].count(b"\n") in (-1, 0)
        if trades == len(cycle.orders):
            read_whole += 1
            assert (totals(found).net_usd, totals(found).volume_usd) == (Decimal("-0.08"), 504)
    assert read_whole >= 1


def test_two_runs_in_one_file_are_two_runs_in_the_report(tmp_path: Path, cycle: TradeMetrics) -> None:
    """Both begin to count their cycles at one."""
    path = tmp_path / "trades.csv"
    for minute in (1, 2):
        cycle.ended_at = datetime(2026, 1, 2, 0, minute, tzinfo=UTC)
        TradesCsv(path, lambda job: job(), mode="sim").append(cycle)
    sums = totals(read([path]))
    assert (sums.cycles, sums.net_usd) == (2, Decimal("-0.16"))
    assert sums.volume_usd == 2 * Decimal(504)


def test_what_was_closed_by_force_is_in_the_sums(tmp_path: Path, cycle: TradeMetrics) -> None:
    """Orders of the emergency exit have no row; their fees are no funding, and they are volume."""
    cycle.pnl = Pnl(to_x18("-0.03"), to_x18("0.07"), to_x18(600), to_x18("0.002"))
    path = tmp_path / "trades.csv"
    TradesCsv(path, lambda job: job(), mode="sim").append(cycle)
    sums = totals(read([path]))
    assert (sums.fees_usd, sums.funding_usd) == (Decimal("0.07"), Decimal("-0.002"))
    assert (sums.volume_usd, sums.net_usd) == (600, Decimal("-0.102"))


POSITION_NAMES = "exchange,timestamp,ticker,old_position,new_position,position_change,cycle_id,source,price"
SPREAD_NAMES = (
    "cycle_id,timestamp,eth_spread_entry,sol_spread_entry,eth_spread_exit,sol_spread_exit,"
    "eth_slippage_actual,sol_slippage_actual,pnl_with_fee"
)
METRIC_NAMES = (
    "iteration,direction,primary_entry_price,hedge_entry_price,primary_entry_time,hedge_entry_time,"
    "primary_exit_price,hedge_exit_price,primary_exit_time,hedge_exit_time,order_to_fill_primary,"
    "order_to_fill_hedge,websocket_latency,rest_latency,reconciliation_time,repricing_count,total_cycle_time,"
    "hedge_entry_order_type,hedge_exit_order_type,hedge_entry_fee_saved,hedge_exit_fee_saved"
)


def test_the_other_files_have_the_family_names_and_order() -> None:
    assert ",".join(POSITION_COLUMNS) == POSITION_NAMES
    assert ",".join(SPREAD_COLUMNS) == SPREAD_NAMES
    assert ",".join(METRIC_COLUMNS[:21]) == METRIC_NAMES
    assert len(set(METRIC_COLUMNS)) == len(METRIC_COLUMNS)


def test_a_cycle_in_figures(cycle: TradeMetrics) -> None:
    figures = ("delta_usd_s", "second_leg_cost_usd")
    assert METRIC_COLUMNS[-3:] == (*figures, "residual_usd")
    assert COLUMNS[-5:] == (*figures, "funding_usd", "volume_usd", "residual_usd")
    cycle.reconciliation_ms = [5.0, 3.0]
    row = metric_row(cycle, to_x18("-0.2"))
    assert set(row) == set(METRIC_COLUMNS)
    assert (row["primary_entry_price"], row["hedge_entry_price"]) == ("3000.3", "139.99")
    assert (row["primary_exit_price"], row["hedge_exit_price"]) == ("3000.1", "140.011111111111111111")
    assert (row["hedge_entry_order_type"], row["hedge_exit_order_type"]) == ("ioc", "post_only+ioc")
    assert (row["primary_entry_order_type"], row["primary_exit_order_type"]) == ("ioc", "post_only")
    assert (row["websocket_latency"], row["rest_latency"], row["reconciliation_time"]) == (
        "30.000", "3.000", "8.000"
    )  # fmt: skip
    assert (row["order_to_fill_primary"], row["order_to_fill_hedge"]) == ("30.000", "30.000")
    assert (row["gross_pnl"], row["fees"], row["net_pnl"]) == ("-0.03", "0.05", "-0.08")
    assert (row["pnl_bps"], row["cumulative_net_pnl"]) == ("-1.5873", "-0.2")
    assert (row["hedge_entry_fee_saved"], row["total_cycle_time"]) == ("0", "4.000")
    assert Decimal(row["hedge_exit_fee_saved"]) == Decimal(56) * Decimal("0.00035") - Decimal("0.01")
    assert row["primary_entry_time"] == row["hedge_entry_time"] == "2001-09-09T01:46:40.030+00:00"


def test_a_cycle_nothing_was_measured_of_is_empty_not_zero() -> None:
    skipped = TradeMetrics(1, Direction.SELL_FIRST, (0, 0), 0, datetime(2026, 1, 2, tzinfo=UTC))
    row = metric_row(skipped, 0)
    for name in (
        "primary_entry_price",
        "websocket_latency",
        "rest_latency",
        "total_cycle_time",
        "hedge_exit_time",
    ):
        assert row[name] == ""
    assert "net_pnl" not in row
    assert spread_row(skipped)["eth_slippage_actual"] == ""


def test_export_adds_the_cycles_up(tmp_path: Path, cycle: TradeMetrics) -> None:
    path = tmp_path / "export.csv"
    assert export_metrics([cycle, cycle, cycle], path) == 3
    with path.open(newline="") as file:
        found = list(csv.DictReader(file))
    assert [row["cumulative_net_pnl"] for row in found] == ["-0.08", "-0.16", "-0.24"]


def test_every_file_of_a_run_is_written_and_one_failure_is_enough(
    tmp_path: Path, cycle: TradeMetrics
) -> None:
    def now(job: Callable[[], None]) -> None:
        job()

    cycle.spread_entry_bps = (Decimal("0.3"), Decimal("0.7"))
    files = TradesCsv(tmp_path / "t.csv", now, mode="sim")
    files.append(cycle)
    files.log_position("ETH-PERP", 0, to_x18("0.042"), cycle_id=3, source="fill", price_x18=to_x18(3000))
    row = {"cycle_id": "3", "side": "buy", "price": "1", "quantity": "2", "order_type": "ioc"}
    files.log_trade(row)
    with pytest.raises(ValueError, match="no column colour"):
        files.log_trade({"colour": "red"})
    for wrong, why in (
        ({"side": "long"}, "'long' is neither buy nor sell"), ({"quantity": ""}, "'' is no amount"),
        ({"price": "1e9999999"}, "'1e9999999' is no amount"),
        ({"price": "None"}, "'None' is no amount"), ({"timestamp": "now"}, "now"), ({"cycle_id": ""}, "''"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=why):
            files.log_trade(row | wrong)
    position = (tmp_path / "t-positions.csv").read_text().splitlines()[1].split(",")
    assert position[2:] == ["ETH-PERP", "0", "0.042", "0.042", "3", "fill", "3000"]
    spread = (tmp_path / "t-spread.csv").read_text().splitlines()[1].split(",")
    assert (spread[0], spread[2:6], spread[8]) == ("3", ["0.3", "0.7", "", ""], "-0.08")
    assert (tmp_path / "t.csv").read_text().count("\n") == 1 + 5 + 1
    assert files.failure is None
    (tmp_path / "t-spread.csv").unlink()
    (tmp_path / "t-spread.csv").mkdir()
    files.append(cycle)
    assert (files.failure or "").startswith(f"{tmp_path / 't-spread.csv'}: ")
    assert files.trades_failure is None


def test_expected_cost() -> None:
    """150 a leg, 3.5 / 1 bps, spread 2 bps: entry 4.5 bps; exit 1 bp resting, 4.5 bps crossing; two legs."""
    notional, taker, maker = to_x18(150), to_x18("0.00035"), to_x18("0.0001")
    spread = Decimal(2)
    best, worst = expected_cost_x18((notional, notional), (taker, taker), (maker, maker), (spread, spread))
    assert best == to_x18("0.165")
    assert worst == to_x18("0.27")
