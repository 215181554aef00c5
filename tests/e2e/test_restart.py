"""kill -9 in each phase, over an exchange that outlives the bot; the next start does what was chosen."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botproc import ROOT, BotProcess, fault, positions, resting, state
from simproc import SimProcess

from nadofast import OrderGateway, OrderRequest, Rest, Signer, TimeSync, custom, to_x18
from nadofast.signing import OrderType

CHOICES = ("adopt", "finish", "flatten")


class World:
    """An exchange that stays, and bots that come and go on its one account."""

    def __init__(self, sim: SimProcess, tmp_path: Path) -> None:
        self.sim, self.path = sim, tmp_path
        self.control: str = sim.ready["control"]
        self.file = tmp_path / "exchange.json"
        self.file.write_text(json.dumps(sim.ready))
        self.runs = 0

    def bot(self, *arguments: str, **settings: object) -> BotProcess:
        self.runs += 1
        directory = self.path / str(self.runs)
        directory.mkdir()
        return BotProcess(
            directory, "--exchange", str(self.file), "--cycles", "1", *arguments,
            **{"output__state_dir": self.path / "state", "exit__maker_timeout_s": 1, **settings},
        )  # fmt: skip

    def truth(self) -> dict[str, Any]:
        return state(self.control)

    def kill_at(self, moment: str, *, still: bool = False) -> None:
        """A bot that is killed with SIGKILL as soon as it says `moment`; still: while nobody else trades."""
        hold_s = 0.2 if "exit" in moment else 30
        with self.bot("--on-open", "finish", run__hold_s=hold_s) as bot:
            if still:
                bot.wait_for("entry  SOL-PERP")
                bot.wait_for("entry  ETH-PERP")
                fault(self.control, pause_market=True)
            bot.wait_for(moment)
            bot.process.send_signal(signal.SIGKILL)
            bot.finish()
        if still:
            fault(self.control, clear="all")

    def end_as_chosen(self, choice: str) -> str:
        """The next run, with that choice: it ends flat with code 0, and its books are the exchange's."""
        with self.bot("--on-open", choice) as bot:
            assert bot.finish() == 0, bot.output + bot.stderr
        truth = self.truth()
        assert positions(truth) == {}
        assert resting(truth) == []
        assert "positions now: none" in bot.output
        assert "equal to the ledger to the last unit" in bot.output, bot.output
        return bot.output


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with SimProcess(seed=4, rate_limits=True) as sim:
        yield World(sim, tmp_path)


@pytest.mark.parametrize(
    ("moment", "still", "choice"),
    [
        ("BUILD", False, "finish"),
        ("exit-rest  SOL-PERP", True, "flatten"),
    ],
)
def test_a_kill_in_each_phase(world: World, moment: str, still: bool, choice: str) -> None:
    world.kill_at(moment, still=still)
    world.end_as_chosen(choice)


@pytest.mark.long
@pytest.mark.parametrize("choice", CHOICES)
@pytest.mark.parametrize(
    "moment", ["exchange  at", "BUILD", "entry  SOL-PERP", "entry  ETH-PERP", "exit-rest  SOL-PERP"]
)
def test_a_kill_campaign(world: World, moment: str, choice: str, seeds: range) -> None:
    for _ in seeds:
        world.kill_at(moment, still="exit" in moment)
        world.end_as_chosen(choice)


async def open_leg(ready: dict[str, Any], amount: str) -> None:
    """An ETH position of the bot's account, filled by somebody else's order."""
    network = custom("sim", ready)
    key = ready["accounts"][0]["private_key"]
    signer = Signer(key, chain_id=network.chain_id, endpoint_address=network.endpoint_address)
    async with Rest(network, timeout_s=2.0) as rest:
        products, timesync = await rest.products([4]), TimeSync()
        await rest.sync_time(timesync)
        async with OrderGateway(network, signer, products=products, timesync=timesync, rest=rest) as gateway:
            price = await rest.market_price(4)
            assert price.ask_x18 is not None
            limit = products[4].round_price(price.ask_x18 * 101 // 100, "down")
            await gateway.place(OrderRequest(4, limit, to_x18(amount), OrderType.IOC))


def test_a_half_open_pair_is_named_then_completed_and_closed(world: World) -> None:
    asyncio.run(open_leg(world.sim.ready, "0.045"))
    with world.bot() as bot:
        assert bot.finish() == 1
    assert "the account already holds ETH-PERP +0.045" in bot.stderr
    assert "adopt, finish, flatten" in bot.stderr
    assert bot.stderr.count("\n") == 1
    assert len(positions(world.truth())) == 1
    text = world.end_as_chosen("adopt")
    assert "taken up in phase BUILDING: ETH-PERP +0.045" in text
    assert "hedge  SOL-PERP -" in text
    assert "1 cycles complete" in text


def test_a_pair_that_is_open_is_adopted_as_it_stands_and_trading_goes_on(world: World) -> None:
    world.kill_at("entry  SOL-PERP", still=True)
    held = positions(world.truth())
    assert len(held) == 2
    (journal,) = (world.path / "state").glob("*/orders.log")
    journal.write_bytes(journal.read_bytes() + b"00000000 {a block of another file}\n")
    with world.bot("--on-open", "adopt", "--cycles", "2") as bot:
        assert bot.finish() == 0, bot.output + bot.stderr
    assert "warning   damaged lines in the journal: 1" in bot.output
    assert "taken up in phase HEDGED" in bot.output
    assert "2 cycles complete" in bot.output
    assert positions(world.truth()) == {}


def test_a_halt_outlives_the_bot_and_is_taken_back_by_hand(world: World) -> None:
    with world.bot(risk__daily_loss_usd="0.01") as bot:
        assert bot.finish() == 3, bot.output + bot.stderr
    assert "daily loss" in bot.stderr
    with world.bot() as bot:
        assert bot.finish() == 3
    assert "daily loss" in bot.stderr
    assert "BUILD" not in bot.output
    assert positions(world.truth()) == {}
    state_dir = {"NADO_BOT_OUTPUT__STATE_DIR": str(world.path / "state")}
    resumed = subprocess.run(
        [sys.executable, "-m", "bot", "resume"], cwd=ROOT, env={**os.environ, **state_dir},
        capture_output=True, text=True, timeout=20, check=False,
    )  # fmt: skip
    assert resumed.returncode == 0, resumed.stderr
    assert "resumed; it was halted for: daily loss" in resumed.stdout
    assert not list((world.path / "state").glob("*/halt.json"))
