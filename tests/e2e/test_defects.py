"""A defect in the core with a position open: no new risk, flat by the other way, one line, exit 1."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import bot.desk
import bot.pair
import bot.reconcile
from bot.app import run
from bot.config import load
from bot.job import Job
from bot.logs import Output
from bot.model import ExitCode, Phase
from bot.tradecsv import TradesCsv
from nadofast.errors import RequestTimeout
from nadofast.gateway import OrderGateway
from nadofast.signing import OrderType


class Lines:
    """A stream that keeps what is written."""

    def __init__(self) -> None:
        self.text = ""

    def write(self, text: str) -> None:
        self.text += text

    def flush(self) -> None:
        """Nothing is held back."""


async def run_with(tmp_path: Path, seed: int = 5) -> tuple[ExitCode, str, str]:
    lines = Lines()
    output = Output(stream=lines)  # type: ignore[arg-type]
    try:
        csv = TradesCsv(tmp_path / "trades.csv", output.submit, mode="sim")
        settings = load(None, {"run.cycles": 2}, {}).settings
        code, reason = await run(Job(settings, seed, None), output, csv)
    finally:
        output.close()
    return code, reason, lines.text


@pytest.mark.parametrize("phase", [Phase.HEDGED, Phase.UNWINDING])
async def test_a_defect_of_the_machine_ends_flat(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, phase: Phase
) -> None:
    real: Callable[..., Any] = bot.pair.decide

    def broken(state: Any, *rest: Any) -> Any:
        if state.phase is phase:
            raise RuntimeError("a defect")
        return real(state, *rest)

    monkeypatch.setattr(bot.pair, "decide", broken)
    code, reason, text = await run_with(tmp_path)
    assert code is ExitCode.ERROR
    assert reason == "internal error: RuntimeError: a defect; flat"
    assert "flattening" in text
    assert "positions now: none" in text
    exits = re.findall(r",(exit-\w+),", (tmp_path / "trades.csv").read_text())
    assert len(exits) == 2  # a resting one may have filled before the defect struck
    assert "exit-take" in exits
    assert "equal to the ledger to the last unit" in text


async def test_a_defect_while_exits_rest_leaves_nothing_on_the_books(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real: Callable[..., Any] = bot.pair.decide

    def broken(state: Any, *rest: Any) -> Any:
        if state.phase is Phase.UNWINDING and any(leg.working for leg in state.legs):
            raise RuntimeError("a defect")
        return real(state, *rest)

    monkeypatch.setattr(bot.pair, "decide", broken)
    code, reason, text = await run_with(tmp_path)
    assert code is ExitCode.ERROR
    assert reason == "internal error: RuntimeError: a defect; flat"
    assert "positions now: none" in text


async def test_positions_that_cannot_be_read_because_of_a_defect_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The emergency way needs the same reading, so nothing can be proved: exposed, and said to be."""
    real: Callable[..., Any] = bot.reconcile.Reconciler.verify

    async def broken(self: Any, *arguments: Any, **options: Any) -> Any:
        if self._ledger.is_flat:
            return await real(self, *arguments, **options)
        raise KeyError("a defect")

    monkeypatch.setattr(bot.reconcile.Reconciler, "verify", broken)
    code, reason, text = await run_with(tmp_path)
    assert code is ExitCode.EXPOSED
    assert re.match(r"internal error: KeyError: 'a defect'; exposure: ETH-PERP \+0\.04\d", reason)
    assert "emergency unwind failed: KeyError" in text


async def test_orders_that_left_before_the_gateway_failed_are_not_taken_for_unsent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both entries leave, then the call fails. Taken for unsent they would be entered again, on top."""
    real: Callable[..., Any] = OrderGateway.place_many

    async def broken(self: Any, requests: Any) -> Any:
        outcomes = await real(self, requests)
        if not requests[0].reduce_only and requests[0].order_type is OrderType.IOC:
            raise RequestTimeout("after the bytes have left")
        return outcomes

    monkeypatch.setattr(OrderGateway, "place_many", broken)
    code, reason, text = await run_with(tmp_path)
    assert code is ExitCode.HALTED_FLAT
    assert reason.endswith("after the bytes have left; flat")
    assert (tmp_path / "trades.csv").read_text().count(",entry,") == 2
    assert "equal to the ledger to the last unit" in text


async def test_a_defect_in_a_task_of_the_desk_unwinds_and_halts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*arguments: Any) -> None:
        raise RuntimeError("a defect")

    monkeypatch.setattr(bot.desk.OrderDesk, "_watch", broken)
    code, reason, text = await run_with(tmp_path)
    assert code is ExitCode.HALTED_FLAT
    assert reason == "internal error: RuntimeError: a defect; flat"
    assert "positions now: none" in text
