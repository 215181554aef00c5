"""`python -m bot record`: market data without a key, until somebody interrupts it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from clientkit import Venue
from simproc import ROOT

from bot.exporting import SYNC_TIMEOUT_S
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


async def recorder(directory: Path, ready: dict[str, Any]) -> asyncio.subprocess.Process:
    """The command, as somebody starts it from a shell."""
    file = directory / "ready.json"
    file.write_text(json.dumps(ready))
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bot", "record", str(directory / "tapes"), "--product", "4", "--product", "8",
        "--exchange", str(file), stdout=asyncio.subprocess.PIPE, env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip


async def test_it_listens_to_a_signal_while_nobody_answers(venue: Venue, tmp_path: Path) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        port, theirs = nobody.getsockname()[1], urlsplit(venue.ready["gateway"]).port
        ready = json.loads(json.dumps(venue.ready).replace(f":{theirs}/", f":{port}/"))
        process = await recorder(tmp_path, ready)
        try:
            async with asyncio.timeout(SYNC_TIMEOUT_S - 10):
                assert process.stdout is not None
                assert (await process.stdout.readline()).startswith(b"recording ")
                process.send_signal(signal.SIGINT)
                said, _ = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.communicate()
    assert (process.returncode, said[:9]) == (0, b"recorded ")


async def test_market_data_is_recorded_until_it_is_interrupted(venue: Venue, tmp_path: Path) -> None:
    process = await recorder(tmp_path, venue.ready)
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
