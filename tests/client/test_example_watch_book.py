"""The book watcher runs on any exchange and survives the loss of its links."""

from __future__ import annotations

import asyncio
import json
import os
import sys

from clientkit import DEADLINE_S, Venue
from simproc import ROOT


async def test_it_prints_a_book_and_survives_cuts(venue: Venue) -> None:
    example = ROOT / "examples" / "watch_book.py"
    assert len(example.read_text().splitlines()) < 40
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(example),
        "-",
        "4",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert process.stdin is not None
    assert process.stdout is not None
    output = process.stdout

    async def line_with(text: str) -> str:
        async with asyncio.timeout(DEADLINE_S):
            while True:
                line = (await output.readline()).decode()
                assert line, f"ended before {text!r}"
                if text in line:
                    return line

    try:
        process.stdin.write(json.dumps(venue.ready).encode() + b"\n")
        await process.stdin.drain()
        assert " | " in await line_with(" levels")
        await venue.faults(cut="subscribe")
        await line_with("_lost")
        await line_with("_up")
        assert " | " in await line_with(" levels")
    finally:
        process.kill()
        await process.communicate()
