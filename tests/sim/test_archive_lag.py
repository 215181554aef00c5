"""An archive that is behind: what it says is what it said as long ago."""

from __future__ import annotations

import contextlib
from random import Random
from typing import Any

import pytest
from simcore import ETH, IOC, ISOLATED, LIMIT, Sim, Trader

from nadosim.errors import ExchangeError
from nadosim.x18 import NS_PER_S, ONE


@pytest.mark.parametrize("seed", range(4))
def test_an_archive_that_is_behind_says_what_it_said_then(seed: int) -> None:
    """Whatever is asked, and whatever has happened since; products alone are shown as they are now."""
    rng, sim = Random(seed), Sim()
    traders = [Trader(sim), Trader(sim, 2)]
    digests: list[str] = []
    past: list[tuple[int, list[Any], list[Any]]] = []
    for _ in range(60):
        sim.clock.advance_ns(rng.randint(1, 900) * 1_000_000)
        _something_happens(sim, rng, rng.choice(traders), digests)
        now_ns = max(sim.clock.now_ns(), sim.exchange.last_step_ns)
        asked = _everything_archived([trader.sender for trader in traders], digests, now_ns // NS_PER_S)
        past.append((now_ns, asked, [_without_products(sim.exchange.archive(one)) for one in asked]))
        then_ns, asked, said = rng.choice(past)
        lag_s = (now_ns - then_ns - 400_000) / NS_PER_S  # nothing happened in the 0.4 ms after it was asked
        if lag_s > 0:
            assert [_without_products(sim.exchange.archive(one, lag_s)) for one in asked] == said


def _something_happens(sim: Sim, rng: Random, trader: Trader, digests: list[str]) -> None:
    side, what = rng.choice(("buy", "sell")), rng.random()
    if what < 0.3:
        sim.house(side, rng.choice(("2999", "3000", "3001")), "3")
    elif what < 0.7:
        kind = rng.choice((IOC, LIMIT, IOC | ISOLATED | (100 * 10**6 << 64)))
        with contextlib.suppress(ExchangeError):
            price = rng.choice(("2995", "3000", "3005"))
            digests.append(sim.place(trader.order(side, price, "0.2", kind))["digest"])
    elif what < 0.8:
        sim.exchange.pay_funding(ETH, ONE // 7)
    elif what < 0.9:
        sim.exchange.fund(trader.sender, ONE)
    else:
        sim.exchange.seize(trader.sender)


def _everything_archived(senders: list[str], digests: list[str], now_s: int) -> list[dict[str, Any]]:
    return [
        {"matches": {"limit": 7}},
        {"matches": {"subaccounts": senders[:1], "isolated": True}},
        {"orders": {"limit": 9}},
        {"orders": {"digests": digests[-20:]}},
        {"events": {"limit": {"txs": 5}}},
        {"interest_and_funding": {"subaccount": senders[0]}},
        {"account_snapshots": {"subaccounts": senders, "timestamps": [now_s - 2, now_s + 100]}},
    ]


def _without_products(reply: Any) -> Any:
    if isinstance(reply, dict):
        return {name: _without_products(value) for name, value in reply.items() if name != "product"}
    return [_without_products(one) for one in reply] if isinstance(reply, list) else reply
