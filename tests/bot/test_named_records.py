"""Checks and records by name on a live pair: what they answer, and what they write."""

from __future__ import annotations

import csv
from collections.abc import AsyncIterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from deskkit import ETH, SIZE, SOL, Desk, open_desk

from bot.logs import EventLog
from bot.named import NamedRecords
from bot.totals import Totals
from bot.tradecsv import TradesCsv
from bot.tradefile import read
from nadofast import to_x18


class Named(NamedRecords):
    """The records alone, on a desk in place of a strategy."""

    def __init__(self, parts: Any) -> None:
        self._p = parts


@dataclass
class Setting:
    desk: Desk
    bot: Named
    said: list[str]
    csv_path: Path


class Lines:
    def __init__(self) -> None:
        self.lines: list[str] = []

    def line(self, text: str) -> None:
        self.lines.append(text)


@pytest.fixture
async def setting(tmp_path: Path) -> AsyncIterator[Setting]:
    async with open_desk() as desk:
        books = desk.eth._books()
        lines: Any = Lines()
        files = TradesCsv(tmp_path / "t.csv", lambda job: job(), mode="sim")
        parts = SimpleNamespace(
            market=desk.eth._market, gate=desk.gate, reconciler=books, log=EventLog(lines), csv=files,
            plan=SimpleNamespace(
                products=(desk.eth.product, desk.sol.product), sizing=SimpleNamespace(budget_x18=to_x18(150))
            ),
            recorder=SimpleNamespace(cycle=None, finished=[], totals=Totals()),
        )  # fmt: skip
        bot = Named(parts)
        books._ledger.on_move = bot.log_position_update
        yield Setting(desk, bot, lines.lines, files.path)


async def test_a_check_asks_and_orders_nothing(setting: Setting) -> None:
    assert setting.bot._pre_trade_check("ETH", "buy", SIZE)
    assert setting.bot._pre_trade_check("eth-perp", "SELL", SIZE)
    refused = setting.bot._pre_trade_check("SOL", "buy", Decimal(1_000))
    assert not refused
    assert refused.reasons[0].startswith("max_leg")
    assert any("pre-trade check SOL buy 1000: max_leg" in line for line in setting.said)
    assert (await setting.desk.state())["executes"] == []
    for ticker, side in (("BTC", "buy"), ("ETH", "long")):
        with pytest.raises(ValueError, match=r"leg of this pair|neither buy nor sell"):
            setting.bot._pre_trade_check(ticker, side, SIZE)


async def test_an_open_leg_is_a_warning_first_and_then_a_refusal(setting: Setting) -> None:
    assert (await setting.desk.eth.place_ioc_order(ETH, SIZE, "buy")).success
    verdict = setting.bot._pre_trade_check("ETH", "buy", SIZE)
    assert verdict.reasons[0].startswith("net_delta: 10000 bps")
    mids = [client.quote().mid_x18 for client in (setting.desk.eth, setting.desk.sol)]
    wanted = to_x18(SIZE) * mids[0] // mids[1] * 95 // 100  # 5 % short of a hedge, near enough
    sold = Decimal(wanted // 10**17) / 10
    setting.desk.gate.limits = type(setting.desk.gate.limits)(
        to_x18(20_000), to_x18(40_000), to_x18(1_000), 5_000, max_entry_delta_bps=10_000
    )
    assert (await setting.desk.sol.place_ioc_order(SOL, sold, "sell")).success
    warned = setting.bot._pre_trade_check("ETH", "buy", SIZE)
    assert warned
    assert warned.warnings[0].startswith("net_delta")


async def test_what_the_exchange_says_wins_and_is_written_down(setting: Setting) -> None:
    books = setting.desk.eth._books()
    await books.start(setting.desk.eth._market.marks_x18)
    await setting.desk.eth.place_ioc_order(ETH, SIZE, "buy")
    found = await setting.bot.reconcile_positions()
    assert (found.is_synced, found.needs_recovery, found.cash_gap_x18) == (True, False, 0)
    books._ledger.adopt(ETH, 0, setting.desk.eth.quote().mid_x18)  # forget it
    found = await setting.bot.reconcile_positions()
    assert (found.is_synced, found.needs_recovery) == (False, True)
    assert found.position_diff_x18[ETH] == to_x18(SIZE)
    assert books.booked_x18(ETH) == to_x18(SIZE)
    assert "positions taken from the exchange" in setting.said[-1]
    with setting.csv_path.with_name("t-positions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows[-1]["source"] == "exchange"
    assert [row["new_position"] for row in rows][-2:] == ["0", "0.1"]


async def test_trades_and_metrics_by_name(setting: Setting) -> None:
    setting.bot.log_trade_to_csv(side="buy", price=Decimal("3000.1"), quantity=SIZE, order_type="ioc")
    assert setting.csv_path.read_text().splitlines()[1].split(",")[2:7] == [
        "buy",
        "3000.1",
        "0.1",
        "ioc",
        "sim",
    ]
    (told,) = read([setting.csv_path])  # a report of the file has room for it
    assert (told.cycle_id, told.is_complete, told.volume_usd) == (0, False, Decimal("300.01"))
    path = setting.bot.export_trade_metrics()
    assert path.name == "t-export.csv"
    assert path.read_text().startswith("iteration,direction,")
