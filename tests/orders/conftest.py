"""Seeds of the campaigns, and the clients by name."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator

import pytest
from deskkit import Desk, open_desk


@pytest.fixture
def seeds() -> range:
    """`NADOFAST_SEEDS`, as `first:end`."""
    first, _, end = os.environ.get("NADOFAST_SEEDS", "0:2").partition(":")
    return range(int(first), int(end))


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    async with open_desk() as opened:
        yield opened
