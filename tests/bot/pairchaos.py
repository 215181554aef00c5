"""What strikes a `PairWorld` beside its weather: now and then something larger than a lost message."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from pairnet import ETH, SOL

import nadosim.fault_catalog

if TYPE_CHECKING:
    from pairworld import PairWorld

REFUSALS = (2000, 2006, 2008, 2011, 2056, 5000)
JUMP_BPS = 25.0
JUMP_TAKERS = 25
MAX_KILLS = 2


async def run(world: PairWorld) -> None:
    """Until cancelled."""
    kinds = tuple(KINDS)
    while True:
        await asyncio.sleep(world.rng.uniform(0.5, 6.0))
        kind = world.rng.choice(kinds)
        phase = world.bot.state.phase.value
        if KINDS[kind](world):
            world.struck[kind] += 1
            world.struck_in[kind, phase] = None


def maintenance(world: PairWorld) -> bool:
    """Sockets dropped, executes refused for a while."""
    for_s = world.rng.uniform(0.2, 1.5)
    rule = {"maintenance": {"for_s": for_s}}
    nadosim.fault_catalog.apply(world.faults, rule, {"maintenance": lambda rule: None})
    world.trouble(for_s)
    world.cut()
    return True


def restart(world: PairWorld) -> bool:
    """The exchange comes back without the orders it had."""
    world.exchange.wipe_orders()
    return maintenance(world)


def dead_leg(world: PairWorld) -> bool:
    """Orders of one product are refused for a while."""
    world.dead_leg = world.rng.choice((ETH, SOL))
    for_s = world.rng.uniform(0.1, 2.0)
    world.trouble(for_s)
    world.loop.call_later(for_s, world.revive)
    return True


def seize(world: PairWorld) -> bool:
    """A leg is taken over by the exchange; False when there was none."""
    was_taken = bool(world.exchange.seize(world.subaccount, world.rng.choice((ETH, SOL))))
    world.was_seized |= was_taken
    return was_taken


def cut(world: PairWorld) -> bool:
    """Both sockets at once."""
    world.cut()
    return True


def gap(world: PairWorld) -> bool:
    """No valid book for a while."""
    assert world.feed is not None
    world.feed.break_books(world.rng.uniform(0.1, 1.5))
    return True


def refuse(world: PairWorld) -> bool:
    """The next orders are refused, for whatever reason."""
    rule = {"code": world.rng.choice(REFUSALS), "kind": "place_order", "count": world.rng.randint(1, 3)}
    rules = [rule, {**rule, "kind": "cancel_and_place"}]
    nadosim.fault_catalog.apply(world.faults, {"refuse": rules}, {})
    return True


def jump(world: PairWorld) -> bool:
    """News: prices move, makers stand aside, takers run one product over, against our leg of it."""
    house, index = world.house, world.rng.choice((0, 1))
    position = world.positions_x18()[index]
    house._latent.jump(world.rng.choice((-1, 1)) * JUMP_BPS)
    aside_s = world.rng.uniform(0.2, 0.8)
    world.trouble(aside_s)
    house._aside_until_s = house.now_s + aside_s
    for _ in range(JUMP_TAKERS):
        house._pits[(ETH, SOL)[index]].takers.strike(1 if position > 0 else 0)
    return True


def kill(world: PairWorld) -> bool:
    """kill -9 of the bot; another one takes over what it finds."""
    if world.kills >= MAX_KILLS or world.is_down:
        return False
    world.killed.set()
    return True


KINDS: dict[str, Callable[[PairWorld], bool]] = {
    "maintenance": maintenance, "restart": restart, "dead_leg": dead_leg, "seize": seize, "cut": cut,
    "gap": gap, "refuse": refuse, "jump": jump, "kill": kill,
}  # fmt: skip
