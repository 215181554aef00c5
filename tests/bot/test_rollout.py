"""A dry run sends nothing, by the exchange's own record; a canary judges the one cycle it traded."""

from __future__ import annotations

import json
import urllib.request
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from machinekit import inputs, plan
from simproc import SimProcess

from bot.app import run
from bot.config import load
from bot.doctor import Mark, ok
from bot.job import Job
from bot.ledger import Pnl
from bot.logs import Output
from bot.machine import decide
from bot.metrics import TradeMetrics
from bot.model import Direction, End, ExitCode, PairState
from bot.rollout import DryRun, Outcomes, Task, judge, plan_for, shut, verdict
from bot.tradecsv import TradesCsv
from nadofast import OrderGateway, OrderRequest, OrderType, Rest, Signer, TimeSync, custom, to_x18


class Exchange:
    """An exchange of its own process, and runs against it in this one."""

    def __init__(self, sim: SimProcess, tmp_path: Path) -> None:
        self.sim = sim
        self.tmp_path = tmp_path
        self.file = tmp_path / "exchange.json"
        self.file.write_text(json.dumps(sim.ready))

    async def run(self, task: Task, **changes: Any) -> tuple[ExitCode, str, str]:
        keys = {
            "exchange.file": self.file, "output.state_dir": self.tmp_path / "state", "run.cycles": 1,
            "run.hold_s": 0.1, "exit.maker_timeout_s": 0.5,
        } | {name.replace("__", "."): value for name, value in changes.items()}  # fmt: skip
        log = self.tmp_path / "log"
        log.unlink(missing_ok=True)
        output = Output(log_file=log)
        csv = TradesCsv(self.tmp_path / "t.csv", output.submit, mode="sim")
        code, reason = await run(Job(load(None, keys, {}).settings, 4, None, task=task), output, csv)
        output.close()
        return code, reason, log.read_text()

    def fault(self, **what: object) -> None:
        url = f"{self.sim.ready['control']}/faults"
        urllib.request.urlopen(urllib.request.Request(url, json.dumps(what).encode()), timeout=5).close()

    def orders(self) -> list[dict[str, Any]]:
        with urllib.request.urlopen(f"{self.sim.ready['control']}/state", timeout=5) as response:
            found: list[dict[str, Any]] = json.loads(response.read())["orders"]
            return found


@pytest.fixture
def exchange(tmp_path: Path) -> Any:
    with SimProcess(seed=4) as sim:
        yield Exchange(sim, tmp_path)


async def test_from_a_dry_run_to_a_canary(exchange: Exchange) -> None:
    code, reason, said = await exchange.run(Task.DRY_RUN)
    assert (code, reason) == (ExitCode.DONE, "")
    for direction in Direction:
        assert f"dry run   {direction}: would be sent" in said
    assert said.count("0x") >= 4, "each order by its digest"
    assert "END  dry run: both directions would be sent; nothing was" in said
    assert exchange.orders() == [], "no order reached the exchange"

    code, reason, said = await exchange.run(Task.DRY_RUN, entry__mode="maker_then_ioc")
    assert (code, reason) == (ExitCode.DONE, "")
    for direction in Direction:
        assert f"dry run   {direction}: one leg rests first, would be sent" in said
        assert f"dry run   {direction}: would be sent" in said, "both legs, as they cross"
    assert (said.count(" post-only "), said.count(" ioc ")) == (2, 4)
    assert exchange.orders() == []

    code, reason, _ = await exchange.run(Task.DRY_RUN, risk__max_first_coins="0.001")
    assert code is ExitCode.ERROR
    assert "coins" in reason
    assert exchange.orders() == []

    code, reason, said = await exchange.run(Task.CANARY)
    assert (code, reason) == (ExitCode.DONE, ""), said
    assert "canary    GO" in said
    for name in ("round trip", "ledger", "flat", "net delta", "record"):
        assert f"  ok    {name} " in said
    assert len({order["product_id"] for order in exchange.orders()}) == 2

    code, reason, said = await exchange.run(
        Task.CANARY, pair__size_usd="9000000", risk__max_leg_usd="9000000"
    )
    assert code is ExitCode.ERROR
    assert "NO GO: margin" in said, "nothing is ordered when a check before it is bad"


async def buy_one_leg(exchange: Exchange) -> None:
    """As a bot that died between its legs leaves it."""
    network, key = custom("sim", exchange.sim.ready), exchange.sim.account["private_key"]
    signer = Signer(key, chain_id=network.chain_id, endpoint_address=network.endpoint_address)
    async with Rest(network, timeout_s=2.0) as rest:
        products, timesync = await rest.products([4]), TimeSync()
        await rest.sync_time(timesync)
        async with OrderGateway(
            network, signer, products=products, timesync=timesync, rest=rest
        ) as gateway:  # fmt: skip
            price = await rest.market_price(4)
            limit_x18 = products[4].round_price((price.ask_x18 or 0) * 101 // 100, "down")
            await gateway.place(OrderRequest(4, limit_x18, to_x18("0.045"), OrderType.IOC))


def held(exchange: Exchange) -> int:
    account = exchange.sim.account["subaccount"]
    with urllib.request.urlopen(f"{exchange.sim.ready['control']}/state", timeout=5) as response:
        accounts = json.loads(response.read())["balances"]["subaccounts"]
    return int(accounts[account]["perps"]["4"]["amount"])


async def test_flatten_needs_no_stream_and_a_dry_run_leaves_what_it_finds(exchange: Exchange) -> None:
    await buy_one_leg(exchange)
    orders = len(exchange.orders())
    code, reason, _ = await exchange.run(Task.DRY_RUN)
    assert code is ExitCode.ERROR
    assert "a run would refuse: the account already holds ETH-PERP +0.045" in reason
    assert (held(exchange), len(exchange.orders())) == (45 * 10**15, orders)

    exchange.fault(socket_refused={"scope": "subscribe"})
    code, reason, said = await exchange.run(Task.FLATTEN)
    assert (code, reason) == (ExitCode.DONE, ""), said
    assert held(exchange) == 0


def cycle(**changes: Any) -> TradeMetrics:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    made = TradeMetrics(1, Direction.BUY_FIRST, (3 * 10**14, 3 * 10**14), 0, at)
    made.hedged_at, made.ended_at, made.ended_ns, made.is_closed = at, at, 10**9, True
    made.pnl, made.spread_entry_bps = Pnl(0, 0, 0), (Decimal(1), Decimal(1))
    for name, value in changes.items():
        setattr(made, name, value)
    return made


DONE = End(ExitCode.DONE, "all cycles complete")
GOOD = Outcomes([cycle()], DONE, "none", "", 0, 0, 0, 200, "")


def test_a_good_cycle_is_a_go() -> None:
    found = judge(GOOD)
    assert {finding.mark for finding in found} == {Mark.OK}
    lines, end = verdict([ok("network", "x")], found, DONE)
    assert (lines[-1], end) == ("canary    GO, 0 to look at", DONE)


@pytest.mark.parametrize(
    ("seen", "name", "mark"),
    [
        (replace(GOOD, cycles=[]), "cycle", Mark.BAD),
        (replace(GOOD, cycles=[cycle(failure="leg deadline")]), "cycle", Mark.BAD),
        (replace(GOOD, cycles=[cycle(hedged_at=None)]), "hedge", Mark.BAD),
        (replace(GOOD, cycles=[cycle(worst_net_delta_bps=Decimal(201))]), "net delta", Mark.BAD),
        (replace(GOOD, cycles=[cycle(is_closed=False)]), "cycle", Mark.BAD),
        (replace(GOOD, cycles=[cycle(pnl=Pnl(-(10**18), 0, 0))]), "cost", Mark.LOOK),
        (replace(GOOD, exposure="ETH-PERP +1"), "flat", Mark.BAD),
        (replace(GOOD, gap_x18=None), "flat", Mark.BAD),
        (replace(GOOD, gap_x18=-1), "ledger", Mark.BAD),
        (replace(GOOD, taken_over=1), "position", Mark.BAD),
        (replace(GOOD, halt="daily loss 1 USD"), "halt", Mark.BAD),
        (replace(GOOD, failovers=1), "stream", Mark.LOOK),
        (replace(GOOD, lost="No space left on device"), "record", Mark.BAD),
    ],
)
def test_what_is_wrong_is_named_and_is_no_go(seen: Outcomes, name: str, mark: Mark) -> None:
    found = judge(seen)
    assert (name, mark) in [(finding.name, finding.mark) for finding in found]
    lines, end = verdict([], found, DONE)
    assert (end.code is ExitCode.DONE) is (mark is Mark.LOOK)
    assert lines[-1].startswith("canary    GO, 1" if mark is Mark.LOOK else f"canary    NO GO: {name}")


def test_a_canary_ends_with_its_first_cycle_whatever_came_of_it() -> None:
    limits = plan_for(Task.CANARY, plan(cycles=1))
    for state in (PairState(done=1), PairState(failures=1)):
        assert decide(state, inputs(), limits, 0)[0].end is not None
    assert plan_for(Task.TRADE, plan()) == plan()


def test_a_worse_end_keeps_its_exit_code() -> None:
    exposed = End(ExitCode.EXPOSED, "x")
    assert verdict([], judge(replace(GOOD, end=exposed, exposure="y")), exposed)[1].code is ExitCode.EXPOSED


def test_the_door_of_a_dry_run_lets_nothing_through() -> None:
    class Anything:
        digest = "0xaa"

    with pytest.raises(DryRun, match="0xaa"):
        shut(Anything())  # type: ignore[arg-type]
