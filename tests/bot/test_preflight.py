"""Questions of a start: lost ones are put again, a few times; refusals are not."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from machinekit import ETH, SOL
from simproc import start_sim

from bot import doctor, preflight
from bot.config import SettingsError, load
from bot.credentials import Credentials
from bot.planning import limits_of
from bot.preflight import StartError
from nadofast import Rest, custom
from nadofast.errors import ConfigError, NadoError, TransportError


def asking(*errors: NadoError) -> tuple[Callable[[], Awaitable[str]], list[int]]:
    """A question that fails so, then is answered; and how often it was put."""
    left, put = list(errors), [0]

    async def ask() -> str:
        put[0] += 1
        if left:
            raise left.pop(0)
        return "answer"

    return ask, put


async def test_a_lost_question_is_put_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "RETRY_PAUSE_S", 0.001)
    ask, put = asking(TransportError("lost"), TransportError("lost"))
    assert (await preflight.answer(ask), put) == ("answer", [3])


async def test_it_is_not_put_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "RETRY_PAUSE_S", 0.001)
    ask, put = asking(*(TransportError("lost") for _ in range(9)))
    with pytest.raises(TransportError):
        await preflight.answer(ask)
    assert put == [preflight.MAX_TRIES]
    monkeypatch.setattr(preflight, "RETRY_DEADLINE_S", 0.0)
    ask, put = asking(TransportError("lost"))
    with pytest.raises(TransportError):
        await preflight.answer(ask)
    assert put == [1]


async def test_a_refusal_is_an_answer() -> None:
    ask, put = asking(ConfigError("no"))
    with pytest.raises(ConfigError):
        await preflight.answer(ask)
    assert put == [1]


def test_an_account_without_equity_may_leave() -> None:
    settings = load(None, {}, {}).settings
    for equity_x18 in (0, -(10**18)):
        with pytest.raises(StartError):
            limits_of(settings, (ETH, SOL), equity_x18)
        assert limits_of(settings, (ETH, SOL), equity_x18, only_exits=True).daily_loss_x18 > 0


RIGHT = {"first_product_id": 4, "second_product_id": 8, "first_tick": "0.1", "second_tick": "0.01"}
WRONG = {"first_product_id": 8, "second_product_id": 4, "first_tick": "0.01", "second_tick": "0.1"}


async def test_a_start_needs_the_rules_that_the_operator_expects() -> None:
    """Asked of the exchange over its wire, not of a table of ours."""
    async with start_sim(seed=4) as sim, Rest(custom("sim", sim.ready)) as rest:
        right = {f"expect.{key}": value for key, value in RIGHT.items()}
        first, second = await preflight.pair_products(rest, load(None, right, {}).settings)
        assert [(p.product_id, p.symbol) for p in (first, second)] == [(4, "ETH-PERP"), (8, "SOL-PERP")]
        for key, value in WRONG.items():
            settings = load(None, right | {f"expect.{key}": value}, {}).settings
            with pytest.raises(SettingsError, match=rf"^expect\.{key}: {value} expected, the exchange says "):
                await preflight.pair_products(rest, settings)
            said: list[str] = []
            assert await preflight.pair_products(rest, settings, said.append) == (first, second)
            assert len(said) == 1, "a way out is told, and not shut"


async def test_the_doctor_sees_what_a_start_would_refuse(tmp_path: Path) -> None:
    async with start_sim(seed=4) as sim:
        file = tmp_path / "ready.json"
        file.write_text(json.dumps(sim.ready))
        settings = load(None, {"exchange.file": str(file)}, {}).settings
        nobody = Credentials(None, None, "the exchange's own account")
        healthy = await doctor.visit(settings, nobody)
        assert doctor.Mark.BAD not in {finding.mark for finding in healthy}
        sim.exchange.set_trading_status(4, "reduce_only")
        (shut,) = [f for f in await doctor.visit(settings, nobody) if f.mark is doctor.Mark.BAD]
    assert shut.text == "ETH-PERP is not open for trading: reduce_only"
