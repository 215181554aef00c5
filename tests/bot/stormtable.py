"""A campaign of `PairWorld`s: seeds in, one row each out, over as many processes as there are cores."""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import random
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path

from chaosrecord import note
from machinekit import plan
from pairworld import PairWorld, Weather

from bot.logs import table
from bot.model import Plan
from nadofast.products import Product
from nadosim.regimes import REGIMES

CYCLES = 3
MAX_BLIND_NS = 10_000_000_000
BEYOND = ("an entry of", "a resting")


@dataclass
class Outcome:
    """What one seed came to. error: "" when every promise was kept. gaps_s: stretches on one leg;
    dead_gaps_s: those in which the bot was killed. beyond_s: of `gaps_s`, what no fault lasted."""

    seed: int
    end: str = ""
    reason: str = ""
    cycles: int = 0
    planned: int = 0
    kills: int = 0
    exposure: str = ""
    ledger: str = ""
    orders: int = 0
    replaces: int = 0
    beyond: int = 0
    gaps_s: list[float] = field(default_factory=list)
    dead_gaps_s: list[float] = field(default_factory=list)
    beyond_s: list[float] = field(default_factory=list)
    struck: dict[str, int] = field(default_factory=dict)
    error: str = ""


def trade(products: tuple[Product, Product]) -> Plan:
    return plan(products=products, cycles=CYCLES, max_blind_ns=MAX_BLIND_NS)


def world_of(seed: int, directory: Path) -> PairWorld:
    """The world a seed of the campaign stands for."""
    rng = random.Random(seed + 1_000_000)
    return PairWorld(
        seed, directory, regime=rng.choice(sorted(REGIMES)), has_limits=False, weather=Weather.seeded(rng)
    )


def play(seed: int) -> Outcome:
    """One seed to its end. Never raises: a broken promise is told with its seed."""
    logging.disable(logging.ERROR)  # the storm's warnings are no news
    found = Outcome(seed)
    try:
        with tempfile.TemporaryDirectory(prefix="pairworld-") as directory:
            world = world_of(seed, Path(directory))
            try:
                end = world.run(trade, chaos=True)
                record(world)
                found.end, found.reason = end.code.name, end.reason
                found.exposure, found.ledger = world.bot.last_exposure, world.ledger_verdict()
            finally:
                found.cycles = len(world.cycles)
                found.planned = sum(not cycle.failure for cycle in world.cycles)
                found.kills, found.orders, found.replaces = world.kills, len(world.kinds), world.replaces
                found.beyond = sum(text.startswith(BEYOND) for text in world.complaints)
                found.gaps_s, found.dead_gaps_s = world.gaps_s, world.dead_gaps_s
                found.beyond_s = world.beyond_s
                found.struck = dict(world.struck)
    except Exception as error:
        record(world, f"seed {seed}: {error}")
        found.error = "".join(traceback.format_exception(error, chain=False))
    finally:
        logging.disable(logging.NOTSET)
    return found


def record(world: PairWorld, failure: str = "") -> None:
    """For the matrix: each mishap in the phase it met, each kind of weather over the whole run."""
    worst_ms = max(world.gaps_s, default=0.0) * 1e3
    weather = [(f"weather: {name}", "whole run") for name, share in vars(world.forecast).items() if share]
    facts = sum(fill["subaccount"] == world.subaccount for fill in world.exchange.fills_state())
    for fault, phase in (*world.struck_in, *weather):
        note("pair", fault, phase, recovery_ms=worst_ms, facts=facts, failure=failure)
        facts = 0


def campaign(seeds: Iterable[int], *, workers: int, results: Path | None = None) -> Iterator[Outcome]:
    """Every seed once, in any order. results: outcomes are appended there, and those in it kept."""
    done = {one.seed: one for one in read(results)} if results is not None else {}
    seeds = list(seeds)
    yield from (done[seed] for seed in seeds if seed in done)
    left = [seed for seed in seeds if seed not in done]
    context = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        for found in pool.map(play, left, chunksize=4):
            if results is not None:
                with results.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(asdict(found)) + "\n")
            yield found


def read(results: Path) -> list[Outcome]:
    if not results.exists():
        return []
    return [Outcome(**json.loads(line)) for line in results.read_text(encoding="utf-8").splitlines()]


def workers() -> int:
    """`NADOFAST_WORKERS`, else one a core."""
    return int(os.environ.get("NADOFAST_WORKERS", "0")) or os.cpu_count() or 1


def share_s(gaps_s: list[float], share: float) -> float:
    """The value that this share of them does not exceed."""
    return sorted(gaps_s)[min(len(gaps_s) - 1, int(len(gaps_s) * share))] if gaps_s else 0.0


def lines(outcomes: list[Outcome], took_s: float) -> list[str]:
    """One table of a campaign."""
    gaps_s = [gap for one in outcomes for gap in one.gaps_s]
    dead_s = [gap for one in outcomes for gap in one.dead_gaps_s]
    beyond_s = [gap for one in outcomes for gap in one.beyond_s]
    ends, ledgers = Counter(one.end for one in outcomes), Counter(one.ledger for one in outcomes)
    struck: Counter[str] = sum((Counter(one.struck) for one in outcomes), Counter())
    exposed = sum(one.end == "EXPOSED" for one in outcomes)
    cycles, planned = sum(one.cycles for one in outcomes), sum(one.planned for one in outcomes)
    rows = [
        ("runs (seeds)", f"{len(outcomes)} in {took_s:.0f} s"),
        ("cycles", str(cycles)),
        ("… as planned", str(planned)),
        ("… ended otherwise, flat", str(cycles - planned)),
        ("runs that ended flat", str(len(outcomes) - exposed - sum(bool(one.error) for one in outcomes))),
        ("runs that ended with their exposure named", str(exposed)),
        ("promises broken", str(sum(bool(one.error) for one in outcomes))),
        ("ends", ", ".join(f"{name or 'none'} {count}" for name, count in sorted(ends.items()))),
        ("bots killed and started again", str(sum(one.kills for one in outcomes))),
        ("orders at the exchange's door", str(sum(one.orders for one in outcomes))),
        ("… in the place of another", str(sum(one.replaces for one in outcomes))),
        ("… beyond a limit when sent", str(sum(one.beyond for one in outcomes))),
        ("ledger: equal to the last unit", str(ledgers["equal"])),
        ("ledger: equal, with a takeover named", str(ledgers["named"])),
        ("ledger: off", str(ledgers["off"])),
        ("stretches on one leg", str(len(gaps_s))),
        ("… p50 / p99 / max", " / ".join(f"{share_s(gaps_s, p):.2f}" for p in (0.5, 0.99, 1.0)) + " s"),
        ("… above 2 s", str(sum(gap > 2 for gap in gaps_s))),
        (
            "… beyond the faults' own time",
            " / ".join(f"{share_s(beyond_s, p):.2f}" for p in (0.5, 0.99, 1.0)) + " s",
        ),
        ("stretches on one leg across a kill", str(len(dead_s))),
        ("… p50 / p99 / max ", " / ".join(f"{share_s(dead_s, p):.2f}" for p in (0.5, 0.99, 1.0)) + " s"),
        *((f"fault: {kind}", str(count)) for kind, count in sorted(struck.items())),
    ]
    return table(("storm", ""), rows)


def say(outcomes: list[Outcome], started_s: float) -> None:
    print("\n" + "\n".join(lines(outcomes, time.perf_counter() - started_s)), flush=True)
    for one in outcomes:
        if one.error:
            print(f"\nseed {one.seed}:\n{one.error}", flush=True)
