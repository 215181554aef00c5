"""Fixtures of the exchange: its core alone; its surface in this loop, and a client for it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import aiohttp
import pytest
from simcore import Sim, Trader
from simproc import start_sim
from wireclient import Client

from nadosim.app import SimServer


@pytest.fixture
def sim() -> Sim:
    """The exchange without its surface; its time stands still until told."""
    return Sim()


@pytest.fixture
async def server() -> AsyncIterator[SimServer]:
    """An exchange with ladders on every book and nobody who moves them."""
    async with start_sim(seed=5, rate=0) as running:
        yield running


@pytest.fixture
async def client(server: SimServer) -> AsyncIterator[Client]:
    connector = aiohttp.TCPConnector(limit=0)
    timeout = aiohttp.ClientTimeout(total=5)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        yield Client(session, server.ready)


@pytest.fixture
def trader(server: SimServer) -> Trader:
    """A funded wallet that signs with the official SDK."""
    return Trader(server, deposit=50_000)  # type: ignore[arg-type]
