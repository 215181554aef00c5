"""Fixtures of the client tests: the vectors, and an exchange to talk to."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from clientkit import DATA, Venue
from simproc import start_sim

from nadofast import Rest, Signer, custom


@pytest.fixture(scope="session")
def vectors() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((DATA / "vectors.json").read_text())
    return loaded


@pytest.fixture
async def venue() -> AsyncIterator[Venue]:
    async with start_sim(seed=11) as server:
        network = custom("sim", server.ready)
        signer = Signer(
            server.ready["accounts"][0]["private_key"],
            chain_id=network.chain_id,
            endpoint_address=network.endpoint_address,
        )
        async with Rest(network) as rest:
            yield Venue(server.ready, network, signer, rest, await rest.products([4, 8]))
