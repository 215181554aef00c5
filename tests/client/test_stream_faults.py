"""Every stream fault in every state of a connection, seeded; the exchange's own record is the oracle.

Forty scenarios here, five exchanges at a time. `make long SUITE=stream_faults SEEDS=0:2000` runs more: about
0.4 s a seed, each appended to runs/stream_faults.jsonl.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from random import Random

import pytest
from chaosrecord import note
from faultkit import FAULTS, NOT_OF_STREAMS, RECOVERY_S, STATES, Exchange, Scenario, run
from simproc import ROOT, SimProcess

from nadosim.fault_catalog import CATALOG
from nadosim.switches import PARAMS as SWITCHES

AT_ONCE = 5
SHORT = 40
RESULTS = ROOT / "runs" / "stream_faults.jsonl"


def seeds() -> range:
    """`NADOFAST_SEEDS`, as `first:end`."""
    first, _, end = os.environ.get("NADOFAST_SEEDS", "0:100").partition(":")
    return range(int(first), int(end))


@pytest.fixture(scope="module")
def exchanges() -> Iterator[list[Exchange]]:
    def start(number: int) -> SimProcess:
        return SimProcess(seed=100 + number, rate=150, accounts=16)

    with ThreadPoolExecutor(AT_ONCE) as pool, ExitStack() as stack:
        yield [Exchange(stack.enter_context(sim).ready) for sim in pool.map(start, range(AT_ONCE))]


async def run_all(exchanges: list[Exchange], wanted: range, results: Path | None = None) -> None:
    """Scenarios of these seeds, one at a time on each exchange. Fails with the seeds that failed."""
    waiting, failed = list(reversed(wanted)), []

    async def work(exchange: Exchange) -> None:
        while waiting:
            scenario = Scenario.of(waiting.pop())
            try:
                report = await run(exchange, scenario)
            except Exception as error:
                report = {"seed": scenario.seed, "failed": f"{type(error).__name__}: {error}"}
                failed.append(f"{scenario}: {report['failed']}")
                print(f"seed {scenario.seed} failed: {scenario}: {report['failed']}")
            note(
                "streams", scenario.fault, scenario.state,
                recovery_ms=report.get("healed_s", RECOVERY_S) * 1e3,
                facts=report.get("facts", 0), failure=str(report.get("failed", "")),
            )  # fmt: skip
            if results is not None:
                with results.open("a") as out:
                    out.write(json.dumps(report) + "\n")

    await asyncio.gather(*(work(exchange) for exchange in exchanges))
    assert not failed, "\n".join(failed)


@pytest.mark.parametrize("first", range(0, SHORT, 10))
async def test_scenarios(exchanges: list[Exchange], first: int) -> None:
    await run_all(exchanges, range(first, first + 10))


# 1359, 1903: a position that was liquidated before the feed began is no news of the feed.
@pytest.mark.parametrize("seed", [1359, 1903])
async def test_scenarios_that_failed_once(exchanges: list[Exchange], seed: int) -> None:
    await run_all(exchanges, range(seed, seed + 1))


def test_every_fault_meets_every_state() -> None:
    scenarios = [Scenario.of(seed) for seed in range(len(FAULTS) * len(STATES))]
    assert {(scenario.fault, scenario.state) for scenario in scenarios} == {
        (fault, state) for fault in FAULTS for state in STATES
    }
    assert Scenario.of(17) == Scenario.of(17)


def test_every_fault_of_the_exchange_that_streams_know_is_there() -> None:
    named = {name for fault in FAULTS.values() for name in fault(Random(1))}
    assert named | NOT_OF_STREAMS == set(CATALOG) - set(SWITCHES)


@pytest.mark.long
async def test_stream_faults_long(exchanges: list[Exchange]) -> None:
    RESULTS.parent.mkdir(exist_ok=True)
    await run_all(exchanges, seeds(), RESULTS)
