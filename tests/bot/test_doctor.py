"""`doctor` and the start of a run find the same things wrong, at an exchange that has exactly that wrong."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from simproc import start_sim

from bot import preflight
from bot.config import load
from bot.doctor import Mark, Patient, examine
from nadofast import NadoRateLimiter, Rest, Signer, TimeSync, custom
from nadosim.app import SimServer

STRANGER = "0x" + "5c" * 32


class Ward:
    """An exchange in this loop, and whoever is examined there."""

    def __init__(self, sim: SimServer) -> None:
        self.sim = sim
        self.network = custom("sim", sim.ready)

    def signer(self, key: str | None = None, owner: str | None = None) -> Signer:
        return Signer(
            key or self.sim.ready["accounts"][0]["private_key"], chain_id=self.network.chain_id,
            endpoint_address=self.network.endpoint_address, owner_address=owner,
        )  # fmt: skip

    async def examined(self, signer: Signer, name: str = "default", **settings: Any) -> dict[str, Mark]:
        """The worst mark of each finding."""
        chosen = load(None, {key.replace("__", "."): value for key, value in settings.items()}, {}).settings
        async with Rest(self.network, timeout_s=5.0) as rest:
            products = await preflight.listed_pair(rest, chosen)
            found = await examine(
                Patient(
                    chosen, rest, signer, signer.subaccount(name), NadoRateLimiter(), TimeSync(), products
                )
            )
        assert all(finding.advice for finding in found if finding.mark is not Mark.OK)
        order = list(Mark)
        return {
            name: max((f.mark for f in found if f.name == name), key=order.index)
            for name in dict.fromkeys(f.name for f in found)
        }


@pytest.fixture
async def ward() -> AsyncIterator[Ward]:
    async with start_sim(seed=4) as sim:
        yield Ward(sim)


async def test_nothing_is_wrong_where_nothing_is(ward: Ward) -> None:
    assert Mark.BAD not in (await ward.examined(ward.signer())).values()


@pytest.mark.parametrize(
    ("strike", "what"),
    [({"status": "syncing"}, "status"), ({"chain_id": 5}, "network"), ({"clock_offset": 900}, "clock")],
)
async def test_an_exchange_that_is_not_as_it_should_be(ward: Ward, strike: dict[str, Any], what: str) -> None:
    healthy = await ward.examined(ward.signer())
    ward.sim.control.strike(strike)
    found = await ward.examined(ward.signer())
    assert {name for name in found if found[name] is not healthy.get(name, Mark.OK)} == {what}


async def test_a_signer_that_is_not_linked_starts_nothing(ward: Ward) -> None:
    """Every order of it would be refused; one that is linked signs for the wallet."""
    owner = ward.signer()
    linked = ward.signer(STRANGER, owner.address)
    subaccount = linked.subaccount()
    assert subaccount == owner.subaccount()
    assert (await ward.examined(linked))["signer"] is Mark.BAD
    async with Rest(ward.network, timeout_s=5.0) as rest:
        with pytest.raises(preflight.StartError, match="is not the linked signer of"):
            await preflight.prove_signer(rest, linked, subaccount)
        for account in ward.sim.exchange.accounts.real():
            account.owner.linked_signer = linked.address
        assert (await ward.examined(linked))["signer"] is Mark.OK
        await preflight.prove_signer(rest, linked, subaccount)


async def test_a_start_waits_for_an_exchange_to_be_active_and_names_what_it_is(
    ward: Ward, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preflight, "ACTIVE_TIMEOUT_S", 0.2)
    ward.sim.control.strike({"status": "syncing"})
    async with Rest(ward.network, timeout_s=5.0) as rest:
        with pytest.raises(preflight.StartError, match="the exchange is not active but 'syncing'"):
            await preflight.prove_identity(rest)
        ward.sim.control.strike({"clear": "all"})
        await preflight.prove_identity(rest)


@pytest.mark.parametrize(
    ("name", "settings", "what"),
    [("nobody", {}, "account"), ("default", {"pair__size_usd": 10_000_000}, "margin")],
)
async def test_an_account_that_cannot_trade(
    ward: Ward, name: str, settings: dict[str, Any], what: str
) -> None:
    assert (await ward.examined(ward.signer(), name, **settings))[what] is Mark.BAD


async def test_a_position_is_worth_a_look(ward: Ward) -> None:
    for account in ward.sim.exchange.accounts.real():
        ward.sim.exchange.accounts.apply(account, 4, 10**17, -3 * 10**20)
    assert (await ward.examined(ward.signer()))["position"] is Mark.LOOK
