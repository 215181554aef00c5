"""What tests of the whole pair in virtual time share."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from typing import Any

from machinekit import plan
from pairworld import PairWorld

from bot.model import Plan
from bot.pair import DNPairBot
from nadofast.products import Product


def trade(products: tuple[Product, Product]) -> Plan:
    """Pairs held for 0.2 s."""
    return plan(products=products, hold_ns=200_000_000)


def kinds(world: PairWorld, kind: str) -> list[Any]:
    """The inputs of one kind that entered, in order."""
    return [entry.value for entry in world.entries if entry.kind == kind]


async def rest_both_exits(world: PairWorld, bot: DNPairBot) -> None:
    """Build, and go on until both exits rest; from then on the market stands still."""
    assert await bot.execute_build_cycle()
    bot._plan = replace(bot._plan, hold_ns=0)
    vars(world.house)["advance"] = lambda now_s: None
    while len(world.resting()) < 2:
        bot._step()
        await bot._wait()


class Days:
    """Keeps what is written down of the day."""

    failure = ""

    def __init__(self) -> None:
        self.kept_x18: list[int] = []

    def load(self, day: date) -> int:
        return 0

    def save(self, day: date, net_x18: int) -> None:
        self.kept_x18.append(net_x18)
