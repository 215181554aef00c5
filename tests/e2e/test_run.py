"""A whole run over the real wire: both directions, flat by the exchange's own record, exact money."""

from __future__ import annotations

import csv
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from botproc import BotProcess, end_exchange, positions, resting, state

from bot.metrics import COLUMNS


@pytest.mark.parametrize("seed", [1, 20261122])
def test_cycles_complete_in_both_directions_and_end_flat(tmp_path: Path, seed: int) -> None:
    with BotProcess(
        tmp_path, "--cycles", "3", "--seed", str(seed), exchange__linger_s=30, exit__maker_timeout_s=1
    ) as bot:
        assert bot.finish() == 0, bot.output + bot.stderr
        truth, pid = state(bot.control), bot.exchange_pid
        text = bot.output
    assert bot.stderr == ""
    assert positions(truth) == {}
    assert resting(truth) == []
    assert "3 cycles complete (BUY_FIRST 2, SELL_FIRST 1), 0 failed" in text
    assert "build filled 100 % (3/3) · close complete 100 % (3/3)" in text
    assert "equal to the ledger to the last unit" in text
    assert text.count("equal to the last unit") == 3
    for promise in ("limits    per leg 150.00 USD", "cost      ", "worst net delta", "leg gap write", "net "):
        assert promise in text
    check_csv(bot.csv_path, truth)
    check_positions(bot.csv_path.with_name("trades-positions.csv"), truth)
    check_orders(truth, maker_timeout_s=1)
    end_exchange(pid)


def check_csv(path: Path, truth: dict[str, Any]) -> None:
    """Every fill of the exchange is in the CSV, with its own fees, and the PnL is the balance change."""
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == COLUMNS
    quantities: dict[str, Decimal] = {}
    for fill in truth["fills"]:
        digest = fill["digest"]
        quantities[digest] = quantities.get(digest, Decimal(0)) + abs(Decimal(fill["base"])).scaleb(-18)
    assert {row["digest"]: Decimal(row["quantity"]) for row in rows} == quantities
    fees = sum(int(fill["fee"]) for fill in truth["fills"])
    assert sum(Decimal(row["fee_usd"]) for row in rows) == Decimal(fees).scaleb(-18)
    quote = sum(int(fill["quote_net"]) for fill in truth["fills"])
    assert sum(Decimal(row["pnl_with_fee"] or 0) for row in rows) == Decimal(quote).scaleb(-18)


def check_positions(path: Path, truth: dict[str, Any]) -> None:
    """One row a fill, each beginning where the last one of its product ended; at the end nothing is held."""
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(truth["fills"])
    held = dict.fromkeys(("ETH-PERP", "SOL-PERP"), "0")
    for row in rows:
        assert (row["old_position"], row["source"]) == (held[row["ticker"]], "fill")
        held[row["ticker"]] = row["new_position"]
    assert set(held.values()) == {"0"}


def check_orders(truth: dict[str, Any], maker_timeout_s: int) -> None:
    """Entries and takers never rest, resting exits die by themselves, no exit exceeds the position."""
    held: dict[int, int] = {}
    filled: dict[str, int] = {}
    for fill in truth["fills"]:
        filled[fill["digest"]] = filled.get(fill["digest"], 0) + int(fill["base"])
    for order in truth["orders"]:
        product, amount = order["product_id"], int(order["amount"])
        before = held.get(product, 0)
        if before:
            assert (amount > 0) != (before > 0)
            assert abs(amount) <= abs(before)
        if order["order_type"] == "post_only":
            life_s = int(order["expiration"]) - int(order["placed_ns"]) / 1e9
            assert 0 < life_s <= maker_timeout_s + 5
        else:
            assert order["order_type"] == "ioc"
            assert order["reduce_only"] is bool(before)
        held[product] = before + filled.get(order["digest"], 0)
    assert set(held.values()) == {0}
