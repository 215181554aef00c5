"""A long bad day: more than 2,000 messages a second, something goes wrong every second, and nothing grows.

`make long SUITE=soak` runs ten minutes of it (`NADOFAST_SOAK_S`) and prints uptime, memory and tasks by
minute, of a feed with one link and of one with two, side by side on one exchange.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
import statistics
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from faultkit import (
    CONFIG,
    FAULTS,
    LINK,
    Control,
    Exchange,
    Scenario,
    Told,
    account_is_truth,
    concerning,
    faults_over,
    positions_held_x18,
    stand_still,
    trade,
)
from simproc import SimProcess

from nadofast import Feed, GatewayConfig, OrderGateway, OrderTracker, Rest, TimeSync

RATE = 2_000
"""Market messages a second that the exchange has to make, faults that stop its market included."""
ASKED_RATE = 2_400
"""Faults pause the market, and a busy machine skips market time: more is asked for than is needed."""
SOAK_S = float(os.environ.get("NADOFAST_SOAK_S", "600"))
FOLLOWED = (2, 4, 8)
TRADED = (4, 8)
RECOVERY_S = 30.0
WARM_UP_S = 60.0
MAX_GROWTH_MIB = 16.0  # the worst burst so far stays allocated
MAX_SLOPE_MIB_PER_MIN = 0.25
SEED = 77
CLEAR_S = 10.0
"""Rules that wait for an occasion, or for ever, are cleared so often."""


def memory_mib() -> float:
    """Resident memory of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


@dataclass
class Life:
    """What is looked at every second."""

    memory_mib: list[float] = field(default_factory=list)
    tasks: list[int] = field(default_factory=list)
    files: list[int] = field(default_factory=list)
    made: int = 0
    """Market messages the exchange made meanwhile."""
    market_s: float = 0.0
    lasted_s: float = 0.0

    def look(self) -> None:
        self.memory_mib.append(memory_mib())
        self.tasks.append(len(asyncio.all_tasks()))
        self.files.append(len(list(Path("/proc/self/fd").iterdir())))

    def minutes(self) -> list[tuple[float, int, int]]:
        """Median memory, most tasks and most open files, by minute."""
        parts = range(0, len(self.memory_mib), 60)
        return [
            (
                statistics.median(self.memory_mib[i : i + 60]),
                max(self.tasks[i : i + 60]),
                max(self.files[i : i + 60]),
            )
            for i in parts
        ]


def steady_slope(values: list[float]) -> float:
    """Growth a sample, the median of all pairs (Theil and Sen): a leak moves it, one step hardly does."""
    pairs = combinations(range(0, len(values), max(1, len(values) // 200)), 2)
    return statistics.median((values[j] - values[i]) / (j - i) for i, j in pairs)


def made_by(health: dict[str, Any]) -> dict[str, int]:
    """Market messages of the exchange by kind, since its start."""
    return {kind: health["events"][kind] for kind in ("best_bid_offer", "book_depth", "trade")}


async def bad_day(
    control: Control, feeds: list[Feed], rng: random.Random, seconds: float, life: Life
) -> Counter[str]:
    """A random fault a second, cleared now and then; how often each struck."""
    struck: Counter[str] = Counter()
    ends, cleared = time.monotonic() + seconds, time.monotonic()
    while time.monotonic() < ends:
        turn = time.monotonic()
        name = rng.choice(tuple(FAULTS))
        await control.strike(concerning(FAULTS[name](rng), feeds[0]))
        struck[name] += 1
        await asyncio.sleep(max(0.0, 1.0 - (time.monotonic() - turn)))
        life.look()
        if time.monotonic() - cleared > CLEAR_S:
            await control.strike({"clear": "all"})
            cleared = time.monotonic()
    return struck


async def soak(exchange: Exchange, seconds: float) -> tuple[Life, list[dict[str, Any]], Counter[str]]:
    """One bad day. Raises AssertionError if a book or the account is not the exchange's in the end."""
    signer, timesync, rng, life = exchange.signer(), TimeSync(), random.Random(SEED), Life()
    async with exchange.control() as control, Rest(exchange.network) as rest:
        await rest.sync_time(timesync, 3)
        products = await rest.products(list(TRADED))
        before = await control.state()
        told = Told(
            {(fill["digest"], int(fill["submission_idx"])) for fill in before["fills"]},
            positions_held_x18(before, signer.subaccount(), TRADED),
        )
        feeds = [
            Feed(
                exchange.network,
                products=FOLLOWED,
                signer=owner,
                rest=rest,
                config=CONFIG,
                timesync=timesync,
                links=links,
            )
            for links, owner in ((1, signer), (2, exchange.signer()))
        ]
        feeds[0].on("fill", told.fills.append)
        feeds[0].on("order_update", told.updates.append)
        feeds[0].on("position_change", told.positions.append)
        tracker = OrderTracker()
        gateway = OrderGateway(
            exchange.network,
            signer,
            products=products,
            timesync=timesync,
            tracker=tracker,
            rest=rest,
            config=GatewayConfig(link=replace(LINK, data_timeout_s=None), reply_timeout_s=0.5),
        )
        async with gateway, feeds[0], feeds[1]:
            for feed in feeds:
                await feed.wait_synced(RECOVERY_S)

            async def keep_trading() -> None:
                for number in range(1_000_000):
                    scenario = Scenario(number, 1, TRADED, "live", "", {}, None, 1 + number % 2)
                    await trade(scenario, rest, gateway, tracker, products, feeds[0])
                    await asyncio.sleep(3.0)

            trading = asyncio.create_task(keep_trading())
            before, began = await control.health(), time.monotonic()
            struck = await bad_day(control, feeds, rng, seconds, life)
            after, life.lasted_s = await control.health(), time.monotonic() - began
            life.made = sum(made_by(after).values()) - sum(made_by(before).values())
            life.market_s = after["market"]["time_s"] - before["market"]["time_s"]
            trading.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await trading
            await faults_over(control)
            for feed in feeds:
                await feed.wait_synced(RECOVERY_S)
                assert feed.failure is None
            for feed in feeds:
                await stand_still(control, rest, feed, FOLLOWED)
                await control.strike({"clear": "all"})
            await account_is_truth(control, TRADED, told, signer.subaccount(), feeds[0])
            shown = [feed.stats() | feed.get_connection_metrics() for feed in feeds]
            shown[0]["fills"] = len(told.fills)
    return life, shown, struck


@pytest.mark.long
async def test_soak_long(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)  # ten minutes of warnings, captured, are memory that grows
    with SimProcess(seed=SEED, rate=ASKED_RATE, accounts=4) as sim:
        tasks_before = len(asyncio.all_tasks())
        life, shown, struck = await soak(Exchange(sim.ready), SOAK_S)
        tasks_after = len(asyncio.all_tasks())
    print()
    for minute, (mib, tasks, files) in enumerate(life.minutes(), start=1):
        print(f"minute {minute:>3}: {mib:7.1f} MiB, at most {tasks} tasks, {files} open files")
    made_per_s = life.made / life.lasted_s
    print(
        f"the exchange: {made_per_s:,.0f} market messages/s made, its market open"
        f" {life.market_s / life.lasted_s:.1%} of {life.lasted_s:.0f} s"
    )
    for links, stats in enumerate(shown, start=1):
        print(
            f"{links} link{'s' if links > 1 else ''}: uptime {stats['uptime']:.4f},"
            f" {stats['core']['messages'] / SOAK_S:,.0f} messages/s, {stats['losses']} links lost,"
            f" {stats['resyncs']} gaps, {stats['snapshots'] + stats['snapshots_to_check']} snapshots,"
            f" {stats['failover_count']} failovers, recovery {stats['recovery']}"
        )
    print(
        f"{sum(struck.values())} faults of {len(struck)} kinds; {shown[0]['fills']} own fills, each told once"
    )
    warm = life.memory_mib[int(min(WARM_UP_S, SOAK_S / 3)) :]
    growth_mib, slope_mib_per_min = max(warm) - warm[0], 60 * steady_slope(warm)
    print(f"memory, warm: at most {growth_mib:+.1f} MiB, steadily {slope_mib_per_min:+.3f} MiB/minute")
    assert made_per_s >= RATE, "the exchange has not made what the soak is about"
    assert growth_mib < MAX_GROWTH_MIB
    assert slope_mib_per_min < MAX_SLOPE_MIB_PER_MIN
    assert tasks_after == tasks_before
    assert statistics.median(life.tasks[-60:]) <= statistics.median(life.tasks[:60]) + 3
    assert statistics.median(life.files[-60:]) <= statistics.median(life.files[:60]) + 3
    for stats in shown:
        asked = stats["snapshots"] + stats["snapshots_to_check"]
        assert asked <= 80 * (1 + SOAK_S / 10)
        assert stats["callback_errors"] == 0


def test_a_leak_is_told_from_a_step() -> None:
    rng = random.Random(SEED)
    noise = [rng.uniform(-0.1, 0.1) for _ in range(540)]
    step = [240.0 + n + (8.0 if i > 400 else 0.0) for i, n in enumerate(noise)]
    leak = [240.0 + n + i * 0.5 / 60 for i, n in enumerate(noise)]
    assert abs(60 * steady_slope(step)) < MAX_SLOPE_MIB_PER_MIN < 60 * steady_slope(leak)
