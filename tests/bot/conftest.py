"""The bot's tests use the network model of the order tests. Those of the gate share a world."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from gatekit import LIMITS, World

from bot.risk import RiskGate

sys.path.append(str(Path(__file__).resolve().parents[1] / "orders"))


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def gate(world: World) -> RiskGate:
    return RiskGate(LIMITS, world.view)
