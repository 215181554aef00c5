"""Each example runs against the embedded exchange and says what it promises."""

from __future__ import annotations

import asyncio
import io
import json
import os
import re
import runpy
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from clientkit import DEADLINE_S, Venue
from simproc import ROOT

from nadofast.tape import Kind, Reader


@asynccontextmanager
async def example(venue: Venue, *arguments: str) -> AsyncIterator[asyncio.StreamReader]:
    """The example as a process that reads the exchange's ready line; its output."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(ROOT / "examples" / arguments[0]), *arguments[1:],
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(json.dumps(venue.ready).encode() + b"\n")
        await process.stdin.drain()
        async with asyncio.timeout(DEADLINE_S):
            yield process.stdout
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def until_end(output: asyncio.StreamReader) -> list[str]:
    return (await output.read()).decode().splitlines()


async def test_best_prices_of_several_products_are_printed(venue: Venue) -> None:
    async with example(venue, "print_bbo.py", "-", "4", "8") as output:
        seen: dict[str, tuple[float, float]] = {}
        while len(seen) < 2:
            line = (await output.readline()).decode()
            found = re.fullmatch(r" +(\d+)  ([\d.]+) \| ([\d.]+)\n", line)
            assert found is not None, line
            seen[found[1]] = (float(found[2]), float(found[3]))
    assert set(seen) == {"4", "8"}
    assert all(0 < bid < ask for bid, ask in seen.values())


async def test_latencies_are_measured_on_both_ways(venue: Venue) -> None:
    async with example(venue, "latency_probe.py", "-", "4", "1.5") as output:
        lines = await until_end(output)
    assert re.fullmatch(r"\d+ events/s, clock ± \d+\.\d\d ms", lines[0]), lines
    for line, kind in zip(lines[1:], ("event_to_handler", "rest_round_trip"), strict=True):
        found = re.fullmatch(rf"{kind} +p50 ([\d.]+) ms  p95 ([\d.]+) ms  p99 ([\d.]+) ms", line)
        assert found is not None, line
        assert 0 < float(found[1]) <= float(found[2]) <= float(found[3]) < 5_000


async def test_the_quoter_trades_and_leaves_nothing_on_the_book(venue: Venue) -> None:
    async with example(venue, "quoter.py", "4", "8") as output:
        lines = await until_end(output)
    found = re.fullmatch(r"(\d+) fills, inventory (-?[\d.]+), result [+-][\d.]+ USD at the mid", lines[-1])
    assert found is not None, lines
    assert int(found[1]) == sum(line.startswith("fill ") for line in lines) > 0
    truth = await venue.state()
    account = venue.ready["accounts"][0]["subaccount"]
    assert [order for order in truth["orders"] if order["end"] is None] == []
    held = truth["balances"]["subaccounts"][account]["perps"].get("4", {"amount": "0"})
    assert int(held["amount"]) / 10**18 == float(found[2])


class Narrow(io.RawIOBase):
    """A file that takes at most seven bytes at once, as a raw file may."""

    def __init__(self) -> None:
        self.content = b""

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self.content += bytes(data[:7])
        return min(7, len(data))


def test_a_recording_is_whole_on_a_file_that_takes_a_part_at_a_time() -> None:
    Recorder = runpy.run_path(str(ROOT / "examples" / "recorder.py"))["Recorder"]
    file = Narrow()
    recorder = Recorder(file)
    for number in range(20):
        recorder.received("a link", number, b"message %d" % number)
        recorder.write()
    recorder.end()
    reader = Reader(io.BytesIO(file.content))
    messages = [one.message for one in reader if one.kind is Kind.RECEIVED]
    assert messages == [b"message %d" % number for number in range(20)]
    assert not reader.damage


async def test_market_data_is_recorded_and_read_again(venue: Venue, tmp_path: Path) -> None:
    """The books that a recording ends with are those its recorder saw; cut, it is read up to there."""
    path = tmp_path / "both.tape"
    async with example(venue, "recorder.py", "-", str(path), "1.5", "4", "8") as output:
        recorded = await until_end(output)
    async with example(venue, "recorder.py", "read", str(path)) as output:
        found = await until_end(output)
    counted = re.fullmatch(r"(\d+) messages, (\d+) bytes", recorded[-1])
    assert counted is not None, recorded
    assert int(counted[2]) == path.stat().st_size
    assert found[0] == f"{counted[1]} messages"
    assert int(counted[1]) > 50
    assert found[-2:] == recorded[:2]
    assert [line.split()[:2] for line in found[-2:]] == [["book", "4"], ["book", "8"]]
    assert all("none" not in line for line in found[-2:])
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    async with example(venue, "recorder.py", "read", str(path)) as output:
        cut = await until_end(output)
    assert re.match(r"\d+ messages; cut at byte \d+$", cut[0]), cut
    assert 0 < int(cut[0].split()[0]) < int(counted[1])
