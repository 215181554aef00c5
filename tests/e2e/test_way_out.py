"""What forbids to trade does not forbid to close: `flatten --force` with an account that has a leg open."""

from __future__ import annotations

import asyncio
import json
import resource
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from botproc import ROOT
from operatorkit import clean_environment
from simproc import start_sim

from bot import statedir
from bot.latch import read_halt
from nadofast import OrderGateway, OrderRequest, Rest, Signer, TimeSync, custom, to_x18, wire
from nadofast.signing import OrderType, make_nonce, pack_appendix
from nadosim.app import SimServer

ETH, SOL = 4, 8
FLAT, EXPOSED = 0, 4


class Account:
    """The bot's account on an exchange in this loop, and the operator's terminal beside it."""

    def __init__(self, sim: SimServer, tmp_path: Path) -> None:
        self.sim, self.path = sim, tmp_path
        self.file = tmp_path / "exchange.json"
        self.file.write_text(json.dumps(sim.ready))
        self.network = custom("sim", sim.ready)
        self.signer = Signer(
            sim.ready["accounts"][0]["private_key"], chain_id=self.network.chain_id,
            endpoint_address=self.network.endpoint_address,
        )  # fmt: skip

    @property
    def directory(self) -> Path:
        """Where a bot of this account keeps its state."""
        where = self.network
        return self.path / "state" / statedir.directory_name(
            network=where.name, chain_id=where.chain_id, subaccount=self.signer.subaccount(),
            instance=f"{where.gateway_rest} {where.endpoint_address}",
        )  # fmt: skip

    async def buy(self, product_id: int, size: str, *, isolated: bool = False, rests: bool = False) -> None:
        """By an order that no bot has placed."""
        async with Rest(self.network, timeout_s=2.0) as rest:
            products, timesync = await rest.products([product_id]), TimeSync()
            await rest.sync_time(timesync)
            price = await rest.market_price(product_id)
            assert price.ask_x18 is not None
            percent = 90 if rests else 101
            limit_x18 = products[product_id].round_price(price.ask_x18 * percent // 100, "down")
            if isolated:
                now_ms = timesync.exchange_now_ms()
                signed = self.signer.sign_order(
                    product_id=product_id, price_x18=limit_x18, amount_x18=to_x18(size),
                    expiration_s=now_ms // 1000 + 60, nonce=make_nonce(now_ms + 5_000, 1),
                    appendix=pack_appendix(OrderType.IOC, isolated=True, isolated_margin_x6=100 * 10**6),
                )  # fmt: skip
                await rest.execute(wire.place_order(signed, 1))
                return
            async with OrderGateway(
                self.network, self.signer, products=products, timesync=timesync, rest=rest
            ) as gateway:
                kind = OrderType.POST_ONLY if rests else OrderType.IOC
                await gateway.place(OrderRequest(product_id, limit_x18, to_x18(size), kind))

    async def flatten(
        self, *, interrupt_at: str = "", heal_at: str = "", no_file_grows: bool = False, **environ: str
    ) -> tuple[int, str]:
        """Exit code and everything said. As soon as that is said, Ctrl-C comes (interrupt_at), or the
        exchange's faults end (heal_at)."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "bot", "flatten", "--force", "--exchange", str(self.file), cwd=ROOT,
            env=clean_environment(self.path) | environ, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        if no_file_grows:
            resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (0, 0))
        assert process.stdout is not None
        said = ""
        async with asyncio.timeout(45):
            async for line in process.stdout:
                said += line.decode()
                if interrupt_at and interrupt_at in said:
                    process.send_signal(signal.SIGINT)
                    interrupt_at = ""
                if heal_at and heal_at in said:
                    self.sim.control.strike({"clear": "all"})
                    heal_at = ""
            return await process.wait(), said

    async def positions(self) -> dict[str, int]:
        async with Rest(self.network, timeout_s=2.0) as rest:
            info = await rest.subaccount_info(self.signer.subaccount())
            return {str(p): info.position_x18(p) for p in (ETH, SOL) if info.position_x18(p)}


@pytest.fixture
async def account(tmp_path: Path) -> AsyncIterator[Account]:
    async with start_sim(seed=4) as sim:
        yield Account(sim, tmp_path)


def only_exits(account: Account) -> None:
    account.sim.exchange.set_trading_status(ETH, "reduce_only")


def damaged_day(account: Account) -> None:
    account.directory.mkdir(parents=True)
    (account.directory / "day.json").write_text("[")


def foreign_journal(account: Account) -> None:
    account.directory.mkdir(parents=True)
    (account.directory / "orders.log").mkdir()


@pytest.mark.parametrize(
    ("prepare", "environ", "says"),
    [
        (only_exits, {}, "is not open for trading: reduce_only"),
        (None, {"NADO_BOT_EXPECT__FIRST_TICK": "77"}, "expect.first_tick: 77 expected"),
        (damaged_day, {}, "day.json: not the day's result"),
        (foreign_journal, {}, "output.journal: "),
    ],
    ids=["only exits", "other rules", "damaged day", "no journal"],
)  # fmt: skip
async def test_what_forbids_to_trade_does_not_forbid_to_close(
    account: Account, prepare: Callable[[Account], None] | None, environ: dict[str, str], says: str
) -> None:
    await account.buy(ETH, "0.045")
    if prepare is not None:
        prepare(account)
    code, said = await account.flatten(**environ)
    assert (code, await account.positions()) == (FLAT, {}), said
    assert says in said
    assert "END  flattened what was open at the start; flat" in said
    halt = read_halt(account.directory / "halt.json")
    assert halt is not None, "whoever starts a bot again does not let it trade"
    assert halt.reason == "flattened by force"


async def test_a_full_disk_does_not_keep_anybody_in(account: Account) -> None:
    await account.buy(ETH, "0.045")
    code, said = await account.flatten(no_file_grows=True)
    assert (code, await account.positions()) == (FLAT, {}), said
    assert "the record of this run is not complete" in said
    assert "the halt is not written down" in said


async def test_orders_that_cannot_be_cancelled_at_first(account: Account) -> None:
    await account.buy(ETH, "0.045")
    await account.buy(SOL, "2", rests=True)
    account.sim.control.strike({"refuse": {"kind": "cancel_product_orders", "code": 5000, "for_s": 60}})
    code, said = await account.flatten(heal_at="; closing all the same")
    assert (code, await account.positions()) == (FLAT, {}), said
    assert "; closing all the same" in said


async def test_an_isolated_position_does_not_keep_the_other_leg_open(account: Account) -> None:
    await account.buy(ETH, "0.045", isolated=True)
    await account.buy(SOL, "1.5")
    code, said = await account.flatten()
    assert (code, await account.positions()) == (EXPOSED, {}), said
    assert "isolated positions" in said
    assert "exposure: ETH-PERP +0.045" in said


async def test_ended_before_anything_was_closed_is_exposed(account: Account) -> None:
    await account.buy(ETH, "0.045")
    account.sim.control.strike({"delay_request": {"ms": 1500}})
    code, said = await account.flatten(interrupt_at="exchange  at")
    assert code == EXPOSED, said
    assert "before anything was closed" in said


async def test_an_exchange_that_is_not_there_leaves_it_exposed(account: Account) -> None:
    await account.buy(ETH, "0.045")
    account.sim.control.strike({"chain_id": 5})
    code, said = await account.flatten()
    assert code == EXPOSED, said
    assert "chain id mismatch" in said
