"""A loop that is kept awake: it never waits, and nothing else loses its turn."""

from __future__ import annotations

import asyncio
import time
from itertools import pairwise

import pytest
from clientkit import DEADLINE_S, Venue

from nadofast.busypoll import BusyPoll
from nadofast.feed import Feed


class Counting(BusyPoll):
    turns = 0

    def _turn(self) -> None:
        self.turns += 1
        super()._turn()


async def test_the_loop_does_not_wait_until_it_is_stopped() -> None:
    poll = Counting()
    assert not poll.is_running
    poll.start()
    poll.start()  # once is enough
    assert poll.is_running
    await asyncio.sleep(0.1)
    assert poll.turns > 200
    poll.stop()
    poll.stop()
    assert not poll.is_running
    turns = poll.turns
    await asyncio.sleep(0.05)
    assert poll.turns == turns
    poll.start()
    await asyncio.sleep(0.01)
    assert poll.turns > turns, "it can be started again"
    poll.stop()


async def test_tasks_take_turns_with_it() -> None:
    """Another ready callback never waits for more than one turn of it, nor it for more than one of theirs."""
    poll = Counting()
    poll.start()
    seen = []
    for _ in range(100):
        await asyncio.sleep(0)
        seen.append(poll.turns)
    poll.stop()
    assert {after - before for before, after in pairwise(seen)} == {1}


async def test_timers_and_sockets_are_served() -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(100):
            writer.write(data)
        writer.close()

    poll = BusyPoll()
    poll.start()
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    fired = asyncio.Event()
    asyncio.get_running_loop().call_later(0.01, fired.set)
    for number in range(50):
        writer.write(b"%d" % number)
        assert await asyncio.wait_for(reader.read(100), DEADLINE_S) == b"%d" % number
    await asyncio.wait_for(fired.wait(), DEADLINE_S)
    writer.close()
    await writer.wait_closed()
    server.close()
    await server.wait_closed()
    poll.stop()


def test_needs_a_loop() -> None:
    with pytest.raises(RuntimeError, match="no running event loop"):
        BusyPoll().start()


async def test_feed_keeps_the_loop_awake_while_it_runs(venue: Venue) -> None:
    async def cpu_share(seconds: float) -> float:
        cpu, wall = time.thread_time(), time.monotonic()
        await asyncio.sleep(seconds)
        return (time.thread_time() - cpu) / (time.monotonic() - wall)

    options = {"products": [4], "streams": ["best_bid_offer"]}
    async with Feed(venue.network, **options, busy_poll=True) as feed:
        await feed.wait_synced(DEADLINE_S)
        awake = await cpu_share(0.2)
    assert awake > 0.15, "of a core that others may be using too"
    async with Feed(venue.network, **options) as feed:
        await feed.wait_synced(DEADLINE_S)
        assert await cpu_share(0.2) < awake, "off unless asked for"
