"""`python -m bot record`: market data without a key, until somebody interrupts it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from pathlib import Path

from clientkit import Venue
from simproc import ROOT

from bot.recordfile import RecordingReader
from nadofast._core import FeedCore
from nadofast.tape import Kind
from nadofast.tappedcore import replay_call

ENOUGH = 5_000
DEADLINE_S = 90.0


def wait_for_data(path: Path) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while path.stat().st_size < ENOUGH and time.monotonic() < deadline:
        time.sleep(0.1)


async def test_market_data_is_recorded_until_it_is_interrupted(venue: Venue, tmp_path: Path) -> None:
    ready, directory = tmp_path / "ready.json", tmp_path / "tapes"
    ready.write_text(json.dumps(venue.ready))
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bot", "record", str(directory), "--product", "4", "--product", "8",
        "--exchange", str(ready), stdout=asyncio.subprocess.PIPE, env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    try:
        async with asyncio.timeout(DEADLINE_S):
            assert process.stdout is not None
            path = Path((await process.stdout.readline()).decode().split()[1])
            await asyncio.to_thread(wait_for_data, path)
            process.send_signal(signal.SIGINT)
            said, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()
    assert process.returncode == 0, said
    assert b"recorded  " in said
    reader, core = RecordingReader(path), FeedCore([])
    valid: set[int] = set()
    for record in reader:
        if record.kind is Kind.RECEIVED:
            core.receive(record.message, record.at_ns)
            valid |= {product for product in core.product_ids if core.book(product).is_valid}
        elif record.kind is Kind.CORE:
            name, arguments = json.loads(record.payload)
            if name == "new":
                core = FeedCore(arguments)
            else:
                replay_call(core, name, arguments)
    assert reader.damage == ""
    assert valid == {4, 8}
    assert core.stats()["gaps"] == 0
