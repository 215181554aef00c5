"""Legs signed ahead: what is foreseen is what is decided, or it never leaves."""

from __future__ import annotations

import logging
import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
from machinekit import inputs, plan
from orderworld import ModelLink
from pairworld import PairWorld, Weather
from stormtable import CYCLES, trade

from bot.ahead import next_entry
from bot.building import flat
from bot.execution import LegState
from bot.journal import read
from bot.model import Direction, End, ExitCode, PairState, Phase, Send
from bot.unwinding import cycle_complete
from nadofast.gateway import OrderGateway, OrderRequest
from nadofast.products import to_x18
from nadofast.signing import nonce_recv_time_ms

NOW_NS = 10**12


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    logging.disable(logging.ERROR)
    yield
    logging.disable(logging.NOTSET)


def sent(state: PairState, **changes: Any) -> Any:
    _, actions = flat(state, inputs(**changes), plan(), NOW_NS)
    return next(action.intents for action in actions if isinstance(action, Send))


def test_in_a_pause_the_next_entry_is_foreseen_to_the_last_digit() -> None:
    pause = PairState(since_ns=NOW_NS, not_before_ns=NOW_NS + 10**9, tag=6)
    foreseen = next_entry(pause, inputs(), plan(), NOW_NS)
    assert flat(pause, inputs(), plan(), NOW_NS) == (pause, [])  # it is not decided yet
    assert foreseen == sent(replace(pause, not_before_ns=0))
    assert [(intent.leg, intent.tag) for intent in foreseen] == [(0, 7), (1, 8)]


def test_while_the_exchange_is_asked_whether_we_are_flat_the_next_cycle_is_foreseen() -> None:
    asked = PairState(phase=Phase.UNWINDING, since_ns=NOW_NS, is_verifying=True, cycle=1, tag=4)
    foreseen = next_entry(asked, inputs(), plan(), NOW_NS)
    after, _ = cycle_complete(asked, NOW_NS)
    assert foreseen == sent(after)
    assert foreseen[0].amount_x18 < 0  # the other way round than the first one


@pytest.mark.parametrize(
    ("state", "changes"),
    [
        ({"phase": Phase.HEDGED}, {}),
        ({"phase": Phase.BUILDING}, {}),
        ({"phase": Phase.UNWINDING}, {}),
        ({"phase": Phase.UNWINDING, "is_verifying": True, "legs": (LegState(held_x18=1), LegState())}, {}),
        ({"end": End(ExitCode.DONE, "x")}, {}),
        ({}, {"halt": "a limit"}),
        ({}, {"drain": True}),
        ({}, {"pacing": True}),
        ({}, {"not_ready": "a book"}),
        ({"done": 99}, {}),
    ],
)
def test_nothing_is_foreseen_while_anything_else_comes_first(
    state: dict[str, Any], changes: dict[str, Any]
) -> None:
    assert next_entry(PairState(since_ns=NOW_NS, **state), inputs(**changes), plan(), NOW_NS) == ()


def test_by_hand_nothing_is_foreseen_before_a_cycle_is_wanted() -> None:
    by_hand, state = plan(is_by_hand=True), PairState(since_ns=NOW_NS)
    assert next_entry(state, inputs(), by_hand, NOW_NS) == ()
    wanted = replace(state, wanted=Direction.SELL_FIRST)
    assert len(next_entry(wanted, inputs(), by_hand, NOW_NS)) == 2


def test_cycles_leave_as_they_were_decided_and_journalled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is handed over is in the journal by then, says what was decided, and dies when it was asked to."""
    world = PairWorld(5, tmp_path, sign_ahead_ms=400)
    decided: dict[int, tuple[OrderRequest, int]] = {}
    late_ms: list[int] = []
    place_many, send_all = OrderGateway.place_many, ModelLink.send_all

    async def decide(gateway: OrderGateway, requests: Any) -> Any:
        now_ms = gateway._timesync.exchange_now_ms()
        decided.update({request.client_id: (request, now_ms) for request in requests})
        return await place_many(gateway, requests)

    def leave(link: ModelLink, messages: Any) -> None:
        written = {int(record["nonce"]) for record in read(world._journal.path).intents.values()}
        for body in (orjson.loads(message).get("place_order") for message in messages):
            if body is not None:
                order, (request, now_ms) = body["order"], decided[body["id"]]
                assert int(order["nonce"]) in written
                assert int(order["priceX18"]) == request.price_x18
                assert int(order["amount"]) == request.amount_x18
                if request.discard_after_ms is not None:
                    asked_ms = now_ms + request.discard_after_ms
                    late_ms.append(nonce_recv_time_ms(int(order["nonce"])) - asked_ms)
        send_all(link, messages)

    monkeypatch.setattr(OrderGateway, "place_many", decide)
    monkeypatch.setattr(ModelLink, "send_all", leave)
    end = world.run(trade)
    presigner = world.gateway.presigner
    assert presigner is not None
    assert (end.code.name, [cycle.failure for cycle in world.cycles]) == ("DONE", [""] * CYCLES)
    assert presigner.used >= 1
    assert len(late_ms) >= 2 * CYCLES
    assert all(0 <= late <= 400 for late in late_ms)
    assert max(late_ms) > 0  # of those that were signed before
    nonces = [record["nonce"] for record in read(world._journal.path).intents.values()]
    assert len(nonces) == len(set(nonces))


def test_what_the_market_has_left_is_thrown_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The foreseen price is one tick off each time: nothing signed ahead leaves, and every cycle fills."""
    world = PairWorld(5, tmp_path, sign_ahead_ms=400)
    signed: set[str] = set()
    sign_ahead = OrderGateway._sign_ahead

    def off_by_one(gateway: OrderGateway, requests: Any, slack_ms: int) -> Any:
        moved = [replace(r, price_x18=r.price_x18 + to_x18("0.1")) for r in requests]
        legs = sign_ahead(gateway, moved, slack_ms)
        signed.update(record.digest for record in legs.records)
        return legs

    monkeypatch.setattr(OrderGateway, "_sign_ahead", off_by_one)
    end = world.run(trade)
    presigner = world.gateway.presigner
    assert presigner is not None
    assert (end.code.name, presigner.used) == ("DONE", 0)
    assert presigner.missed >= 1
    assert signed
    assert not signed & read(world._journal.path).intents.keys()  # nobody decided them


@pytest.mark.parametrize("seed", [2, 3])
def test_in_a_storm_it_costs_nothing(seed: int, tmp_path: Path) -> None:
    weather = Weather.seeded(random.Random(seed))
    world = PairWorld(seed, tmp_path, sign_ahead_ms=400, weather=weather)
    end = world.run(trade, chaos=True)
    assert end.code.name == "EXPOSED" or world.positions_x18() == (0, 0)
    assert world.resting() == []
