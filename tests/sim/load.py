"""How the exchange bears a fast market: messages per second, event to arrival, memory, CPU.

    python tests/sim/load.py --rate 2000 --subscribers 5 --seconds 600

The exchange is a process of its own. Every subscriber follows best_bid_offer, book_depth and trade of every
perpetual over permessage-deflate, and inflates what it gets. send_lag_ms is the exchange's own figure: from
the first event of a burst to its last frame handed to the transport, deflate included. arrival_ms is this
process's wall clock when a message was read less the event's stamp, for best_bid_offer and trade: it holds
the socket and our own inflating too, and so says as much about the subscribers as about the exchange.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import uvloop

TESTS = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(TESTS), str(TESTS.parent)]  # run as a script, it finds its neighbours itself
from simproc import SimProcess  # noqa: E402 - after the path above

PRODUCTS = (2, 4, 8)
STAMP = re.compile(rb'"timestamp":"(\d+)"')
PING_S = 15.0
BUCKET_NS = 100_000  # 0.1 ms
BUCKETS = 100_000  # up to 10 s


@dataclass
class Report:
    """What was measured. Rates are per second; memory is resident, in MiB, by minute (median)."""

    rate: float
    regime: str
    subscribers: int
    seconds: float
    market_messages_per_s: float = 0.0
    by_kind_per_s: dict[str, float] = field(default_factory=dict)
    received_per_s: float = 0.0
    bytes_per_message: float = 0.0
    send_lag_ms: dict[str, float] = field(default_factory=dict)
    arrival_ms: dict[str, float] = field(default_factory=dict)
    memory_mib: list[float] = field(default_factory=list)
    cpu_percent: float = 0.0
    sockets_cut: dict[str, int] = field(default_factory=dict)


class Histogram:
    """Latencies in buckets of 0.1 ms: memory does not grow with the run."""

    def __init__(self) -> None:
        self.counts = [0] * BUCKETS
        self.total = 0

    def add(self, value_ns: int) -> None:
        self.counts[min(BUCKETS - 1, max(0, value_ns // BUCKET_NS))] += 1
        self.total += 1

    def percentile_ms(self, share: float) -> float:
        left = self.total * share
        for bucket, count in enumerate(self.counts):
            left -= count
            if left <= 0:
                return round((bucket + 1) * BUCKET_NS / 1e6, 1)
        return BUCKETS * BUCKET_NS / 1e6


class Subscriber:
    """One connection that follows everything public."""

    def __init__(self, histogram: Histogram) -> None:
        self.received = 0
        self.bytes = 0
        self._histogram = histogram

    async def run(self, session: aiohttp.ClientSession, url: str) -> None:
        async with session.ws_connect(url, compress=15, max_msg_size=1 << 22, decode_text=False) as ws:
            streams = [
                {"type": kind, "product_id": product_id}
                for product_id in PRODUCTS
                for kind in ("best_bid_offer", "book_depth", "trade")
            ]
            await ws.send_str(json.dumps({"method": "subscribe_multi", "id": 1, "streams": streams}))
            pinger = asyncio.create_task(_ping(ws))
            try:
                async for message in ws:
                    self._take(message.data)
            finally:
                pinger.cancel()
        raise ConnectionError("the exchange ended the connection")

    def _take(self, payload: bytes) -> None:
        self.received += 1
        self.bytes += len(payload)
        if b'"book_depth"' not in payload[:24]:
            found = STAMP.search(payload)
            if found is not None:
                self._histogram.add(time.time_ns() - int(found[1]))


async def _ping(ws: aiohttp.ClientWebSocketResponse) -> None:
    """Regularly, not when idle: this socket never is, and the exchange cuts one that does not ping."""
    while True:
        await asyncio.sleep(PING_S)
        await ws.ping()


def resident_mib(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / (1 << 20)


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def measure(rate: float, subscribers: int, seconds: float, regime: str = "lively") -> Report:
    """Run one load. Raises ConnectionError if a subscriber is dropped."""
    report = Report(rate, regime, subscribers, seconds)
    histogram = Histogram()
    with SimProcess(rate=rate, seed=1, regime=regime) as sim:
        async with aiohttp.ClientSession() as session:
            clients = [Subscriber(histogram) for _ in range(subscribers)]
            tasks = [asyncio.create_task(client.run(session, sim.ready["subscribe"])) for client in clients]
            try:
                await _watch(report, sim, session, clients, tasks)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.wait(tasks)
    report.arrival_ms = {f"p{share:g}": histogram.percentile_ms(share / 100) for share in (50, 90, 99, 99.9)}
    return report


async def _watch(
    report: Report,
    sim: SimProcess,
    session: aiohttp.ClientSession,
    clients: list[Subscriber],
    tasks: list[asyncio.Task[None]],
) -> None:
    async def health() -> dict[str, Any]:
        async with session.get(sim.ready["control"] + "/health") as response:
            found: dict[str, Any] = await response.json()
            return found

    before, began_s, cpu_before_s = await health(), time.monotonic(), cpu_s(sim.pid)
    samples: list[float] = []
    while (elapsed_s := time.monotonic() - began_s) < report.seconds:
        done, _ = await asyncio.wait(tasks, timeout=1.0, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
        samples.append(resident_mib(sim.pid))
    after = await health()
    kinds = ("best_bid_offer", "book_depth", "trade")
    report.seconds = round(elapsed_s, 1)
    report.by_kind_per_s = {
        kind: round((after["events"][kind] - before["events"][kind]) / elapsed_s, 1) for kind in kinds
    }
    report.market_messages_per_s = round(sum(report.by_kind_per_s.values()), 1)
    report.received_per_s = round(sum(client.received for client in clients) / elapsed_s, 1)
    report.bytes_per_message = round(
        sum(c.bytes for c in clients) / max(1, sum(c.received for c in clients)), 1
    )
    report.cpu_percent = round(100 * (cpu_s(sim.pid) - cpu_before_s) / elapsed_s, 1)
    minutes = [samples[at : at + 60] for at in range(0, len(samples), 60)]
    report.memory_mib = [round(sorted(minute)[len(minute) // 2], 1) for minute in minutes]
    report.send_lag_ms = after["send_lag_ms"]
    report.sockets_cut = after["sockets_cut"]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rate", type=float, default=2000.0)
    parser.add_argument("--subscribers", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--regime", default="lively")
    options = parser.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        report = runner.run(measure(options.rate, options.subscribers, options.seconds, options.regime))
    print(json.dumps(asdict(report), indent=1))


if __name__ == "__main__":
    main()
