"""A start that finds something: what it refuses, and where the machine goes on from."""

from __future__ import annotations

import json
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest
from gatekit import LIMITS
from machinekit import plan
from simproc import start_sim

from bot import link
from bot.app import run
from bot.config import load
from bot.job import Job
from bot.logs import Output
from bot.model import Direction, ExitCode, PairState, Phase
from bot.restart import Found, OnOpen, adopted_size, first_state, is_ours, refusal
from bot.risk import CLIENT_ID_BASE
from bot.sizing import LegQuote
from bot.tradecsv import TradesCsv
from nadofast import OrderGateway, OrderRequest, Rest, Signer, TimeSync, custom, to_x18
from nadofast.models import OpenOrder
from nadofast.signing import OrderType

PRODUCTS = plan().products
MIDS = (to_x18(3000), to_x18(140))


def start(choice: OnOpen, eth: str, sol: str, mids: tuple[int, int] = MIDS) -> PairState | None:
    held = (to_x18(eth), to_x18(sol))
    return first_state(choice, PRODUCTS, held, mids, LIMITS, max_net_delta_bps=200, now_ns=7)


def resting(client_id: int | None) -> OpenOrder:
    return OpenOrder(
        "0xaa", 4, "0x11", to_x18(3000), to_x18(1), to_x18(1), 1, 1, 1, "post_only", 1, client_id
    )


def found(eth: str = "0", sol: str = "0", isolated: str = "0", *orders: OpenOrder) -> Found:
    return Found(PRODUCTS, (to_x18(eth), to_x18(sol)), (to_x18(isolated), 0), orders)


@pytest.mark.parametrize("choice", list(OnOpen))
def test_from_flat_every_choice_starts_as_always(choice: OnOpen) -> None:
    assert start(choice, "0", "0") is None
    assert refusal(found(), choice) == ""


@pytest.mark.parametrize(
    ("eth", "sol", "direction"),
    [("0.042", "-0.9", Direction.BUY_FIRST), ("-0.042", "0.9", Direction.SELL_FIRST)],
)
def test_a_balanced_pair_is_hedged_when_adopted_and_left_when_finished(
    eth: str, sol: str, direction: Direction
) -> None:
    adopted, finished = start(OnOpen.ADOPT, eth, sol), start(OnOpen.FINISH, eth, sol)
    assert adopted is not None
    assert finished is not None
    assert (adopted.phase, finished.phase) == (Phase.HEDGED, Phase.UNWINDING)
    for state in (adopted, finished):
        assert [leg.held_x18 for leg in state.legs] == [to_x18(eth), to_x18(sol)]
        assert [leg.missing_x18 for leg in state.legs] == [0, 0]
        assert (state.direction, state.since_ns, state.urgent, state.cycle) == (direction, 7, "", 1)


@pytest.mark.parametrize(
    ("eth", "sol", "targets"),
    [
        ("0.042", "0", ("0.042", "-0.9")),
        ("0", "1", ("-0.047", "1")),
        ("-0.042", "0", ("-0.042", "0.9")),
        ("0.042", "-0.1", ("0.042", "-0.9")),
    ],
)
def test_a_missing_leg_is_completed_to_the_nearest_step(eth: str, sol: str, targets: tuple[str, str]) -> None:
    state = start(OnOpen.ADOPT, eth, sol)
    assert state is not None
    assert state.phase is Phase.BUILDING
    assert [leg.target_x18 for leg in state.legs] == [to_x18(target) for target in targets]
    assert state.first_fill_ns == 7  # the clock of the missing leg runs from here
    assert all(leg.attempts == 1 for leg in state.legs)


@pytest.mark.parametrize(
    ("eth", "sol"),
    [
        ("0.042", "0.9"),  # both long: nothing that hedges it is missing
        ("0.060", "0"),  # larger than a leg may be
        ("0.042", "-0.5"),  # the rest is below the exchange's minimum
    ],
)
def test_what_cannot_be_adopted_is_left_in_the_normal_way(eth: str, sol: str) -> None:
    state = start(OnOpen.ADOPT, eth, sol)
    assert state is not None
    assert (state.phase, state.urgent) == (Phase.UNWINDING, "")


def test_without_a_price_nothing_is_completed() -> None:
    state = start(OnOpen.ADOPT, "0.042", "0", (to_x18(3000), 0))
    assert state is not None
    assert state.phase is Phase.UNWINDING


def test_the_records_of_an_adopted_cycle_have_its_size() -> None:
    state = start(OnOpen.ADOPT, "0.042", "0")
    assert state is not None
    size = adopted_size(
        state, [LegQuote(product_, mid) for product_, mid in zip(PRODUCTS, MIDS, strict=True)]
    )
    assert size.sizes_x18 == (to_x18("0.042"), to_x18("0.9"))
    assert size.notionals_x18 == (to_x18(126), to_x18(126))


def test_orders_are_told_apart_by_their_client_ids() -> None:
    assert is_ours(CLIENT_ID_BASE + 5)
    assert not any(is_ours(number) for number in (None, 0, 5, CLIENT_ID_BASE - 1, CLIENT_ID_BASE * 2))


@pytest.mark.parametrize(
    ("what", "choice", "expected"),
    [
        (
            found("0.042", "-0.9"),
            OnOpen.REFUSE,
            "holds ETH-PERP 0.042, SOL-PERP -0.9; choose with run.on_open",
        ),
        (found("0", "0", "0", resting(None)), OnOpen.REFUSE, "1 orders on the books"),
        (found("0.042", "0", "0.042"), OnOpen.FLATTEN, "isolated positions"),
        (found("0", "0", "0", resting(None)), OnOpen.ADOPT, "1 orders of somebody else; only flatten"),
        (found("0", "0", "0", resting(None)), OnOpen.FINISH, "1 orders of somebody else"),
        (found("0", "0", "0", resting(None)), OnOpen.FLATTEN, ""),
        (found("0", "0", "0", resting(CLIENT_ID_BASE + 1)), OnOpen.ADOPT, ""),
        (found("0.042", "-0.9"), OnOpen.ADOPT, ""),
    ],
)
def test_why_a_start_may_not_go_on(what: Found, choice: OnOpen, expected: str) -> None:
    reason = refusal(what, choice).replace("+", "")
    assert expected in reason
    assert bool(reason) is bool(expected)


# ---------------------------------------------------------------------- over the wire, in this process


@pytest.mark.parametrize(
    ("choice", "said"),
    [("adopt", "taken up in phase BUILDING"), ("finish", "END  drained"), ("flatten", "END  flattened what")],
)
async def test_a_half_open_pair_is_dealt_with_as_chosen(tmp_path: Path, choice: str, said: str) -> None:
    log = tmp_path / "log"
    async with start_sim(seed=4) as sim:
        network = custom("sim", sim.ready)
        key = sim.ready["accounts"][0]["private_key"]
        signer = Signer(key, chain_id=network.chain_id, endpoint_address=network.endpoint_address)
        async with Rest(network, timeout_s=2.0) as rest:
            products, timesync = await rest.products([4]), TimeSync()
            await rest.sync_time(timesync)
            async with OrderGateway(
                network, signer, products=products, timesync=timesync, rest=rest
            ) as gateway:  # fmt: skip
                price = await rest.market_price(4)
                limit = products[4].round_price((price.ask_x18 or 0) * 101 // 100, "down")
                await gateway.place(OrderRequest(4, limit, to_x18("0.045"), OrderType.IOC))
            (tmp_path / "exchange.json").write_text(json.dumps(sim.ready))
            keys = {
                "exchange.file": tmp_path / "exchange.json", "output.state_dir": tmp_path / "state",
                "run.cycles": 1, "run.on_open": choice, "run.hold_s": 0.1, "exit.maker_timeout_s": 0.5,
            }  # fmt: skip
            output = Output(log_file=log)
            csv = TradesCsv(tmp_path / "t.csv", output.submit, mode="sim")
            code, reason = await run(Job(load(None, keys, {}).settings, 4, None), output, csv)
            output.close()
            assert (code, reason) == (ExitCode.DONE, ""), log.read_text()
            info = await rest.subaccount_info(signer.subaccount())
            assert (info.position_x18(4), info.position_x18(8)) == (0, 0)
    assert said in log.read_text()
    assert "equal to the ledger to the last unit" in log.read_text()


async def test_what_fails_while_the_archive_is_asked_halts_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fails() -> None:
        raise KeyError(4)

    async def take_stock(*_: object) -> Coroutine[Any, Any, object]:
        return fails()

    monkeypatch.setattr(link, "take_stock", take_stock)
    async with start_sim(seed=4) as sim:
        (tmp_path / "exchange.json").write_text(json.dumps(sim.ready))
        keys = {
            "exchange.file": tmp_path / "exchange.json", "output.state_dir": tmp_path / "state",
            "run.cycles": 1, "run.hold_s": 0.1,
        }  # fmt: skip
        output = Output(log_file=tmp_path / "log")
        csv = TradesCsv(tmp_path / "t.csv", output.submit, mode="sim")
        code, _ = await run(Job(load(None, keys, {}).settings, 4, None), output, csv)
        output.close()
    assert code is not ExitCode.DONE
    assert "internal error: KeyError: 4" in (tmp_path / "log").read_text()
