"""Memory stays flat over ten million messages (`make long SUITE=memory`); a short run of it by default."""

from __future__ import annotations

import asyncio
import random
import select
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import uvloop
from endless import CYCLE, Endless
from picows import WSMsgType, ws_connect

from nadofast._feed import FeedCore, FeedListener

PRODUCT = 4
KIB = 1024
PAGE_KIB = 4
SLACK_KIB = 2048  # two generations of remembered fills come and go in between


def rss_kib() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE_KIB


def core_of(endless: Endless, fills: list[int]) -> FeedCore:
    def count(event: object) -> None:
        fills[0] += 1

    core = FeedCore((PRODUCT,), on_event=count)
    assert core.load_snapshot(PRODUCT, *endless.snapshot, depth=10_000)
    return core


def check(core: FeedCore, fills: int, messages: int) -> None:
    """Nothing was lost on the way: no gap, every kind in its share, each fill once."""
    stats = core.stats()
    product = stats["products"][PRODUCT]
    assert core.book(PRODUCT).is_valid
    assert (stats["gaps"], stats["parse_errors"], stats["duplicates"]) == (0, 0, 0)
    assert product["best_bid_offer"] + product["book_depth"] + fills == stats["messages"] == messages


def report(where: str, marks: dict[int, int]) -> None:
    told = ", ".join(f"{count:,}: {kib:,} KiB" for count, kib in marks.items())
    print(f"\nresident memory {where} after messages {told}")


def in_process(points: list[int]) -> dict[int, int]:
    endless, fills, marks = Endless(), [0], {}
    core = core_of(endless, fills)
    receive = core.receive
    for number, message in enumerate(endless.messages(random.Random(1)), 1):
        receive(message, number)
        if number == points[len(marks)]:
            marks[number] = rss_kib()
            if len(marks) == len(points):
                check(core, fills[0], number)
                return marks
    raise AssertionError


@contextmanager
def server(count: int) -> Iterator[int]:
    command = [sys.executable, str(Path(__file__).with_name("endless.py")), str(count)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert select.select([process.stdout], [], [], 60)[0], "the server did not start"
            yield int(process.stdout.readline())
        finally:
            process.kill()


async def over_a_socket(points: list[int], port: int, deadline_s: float) -> dict[int, int]:
    endless, fills, marks, gone = Endless(), [0], {}, asyncio.Event()
    core = core_of(endless, fills)
    listener = FeedListener(core, on_disconnected=lambda _: gone.set())
    transport, _ = await ws_connect(
        lambda: listener,
        f"ws://127.0.0.1:{port}/",
        extra_headers={"Sec-WebSocket-Extensions": "permessage-deflate"},
        use_aiofastnet=False,
        enable_auto_pong=False,
    )
    transport.send(WSMsgType.TEXT, b"ready")
    async with asyncio.timeout(deadline_s):
        while not gone.is_set():
            await asyncio.sleep(0.01)
            if len(marks) < len(points) and listener.messages >= points[len(marks)]:
                marks[points[len(marks)]] = rss_kib()
    assert listener.failure is None
    check(core, fills[0], listener.messages)
    marks.setdefault(points[-1], rss_kib())
    return marks


@pytest.mark.parametrize(
    "points",
    [
        pytest.param([60_000, 120_000], id="short"),
        pytest.param([100_000, 1_000_000, 10_000_000], id="memory", marks=pytest.mark.long),
    ],
)
@pytest.mark.parametrize("where", ["in process", "over a socket"])
def test_memory_is_flat(where: str, points: list[int]) -> None:
    assert points[0] > 10 * CYCLE
    if where == "in process":
        marks = in_process(points)
    else:
        with server(points[-1]) as port:
            marks = uvloop.run(over_a_socket(points, port, 60 + points[-1] / 5_000))
    report(where, marks)
    assert list(marks) == points
    first, *_, last = list(marks.values())[-2:]
    assert last - first < SLACK_KIB
