"""A network between two ends of TCP, in user space: delay, jitter, stalls as a lost segment makes them, cuts.

    with NetPath(port, Conditions(rtt_ms=80, jitter_ms=10)) as path:
        connect to path.port

It carries bytes, so TLS passes through it whole. Bytes keep their order, as they do in TCP: what follows a
stalled segment waits behind it. It runs in a thread and a loop of its own, so that a test may block.
"""

from __future__ import annotations

import asyncio
import random
import threading
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType

import uvloop

CHUNK = 64 * 1024
MOST_QUEUED = 4 * 1024 * 1024
LEAST_RTO_S = 0.2


@dataclass(frozen=True, slots=True)
class Conditions:
    """rtt_ms: both ways together. jitter_ms: at most this much more, either way. loss: share of segments that
    have to be sent again, which takes the sender's time-out (200 ms, or two round trips). cut_every_s: mean
    time between two cuts of every connection; 0 = never."""

    rtt_ms: float
    jitter_ms: float = 0.0
    loss: float = 0.0
    cut_every_s: float = 0.0


class NetPath:
    """Listens on a loopback port and carries connections to `target`. stalls, cuts, connections: so far."""

    def __init__(self, target: int, conditions: Conditions, seed: int = 1) -> None:
        self._target, self.conditions, self._rng = target, conditions, random.Random(seed)
        self._loop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._tasks: set[asyncio.Task[None]] = set()
        self._open: set[asyncio.StreamWriter] = set()
        self.port = self.stalls = self.cuts = self.connections = 0

    def __enter__(self) -> NetPath:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(5)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(5)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()

    def cut(self) -> None:
        """Drop every connection, without a word."""
        self._loop.call_soon_threadsafe(self._cut)

    async def _start(self) -> None:
        self._server = await asyncio.start_server(self._carry, "127.0.0.1", 0, limit=CHUNK)
        self.port = self._server.sockets[0].getsockname()[1]
        if self.conditions.cut_every_s:
            self._spawn(self._keep_cutting())

    async def _stop(self) -> None:
        self._server.close()
        self._cut()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _spawn(self, work: object) -> asyncio.Task[None]:
        task: asyncio.Task[None] = self._loop.create_task(work)  # type: ignore[arg-type]
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _cut(self) -> None:
        self.cuts += bool(self._open)
        for writer in self._open:
            writer.transport.abort()

    async def _keep_cutting(self) -> None:
        while True:
            await asyncio.sleep(self._rng.expovariate(1 / self.conditions.cut_every_s))
            self._cut()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, from its handshake to its end."""
        self.connections += 1
        self._open.add(writer)
        there: asyncio.StreamWriter | None = None
        try:
            await asyncio.sleep(self.conditions.rtt_ms / 1e3)  # the handshake of TCP
            back, there = await asyncio.open_connection("127.0.0.1", self._target, limit=CHUNK)
            self._open.add(there)
            ways = [self._spawn(self._one_way(reader, there)), self._spawn(self._one_way(back, writer))]
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
        except OSError:
            pass
        finally:
            for end in (writer, there):
                if end is not None:
                    self._open.discard(end)
                    end.close()

    async def _one_way(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        way = _Way()
        with suppress(OSError):
            delivering = self._spawn(self._deliver(way, writer))
            try:
                while data := await reader.read(CHUNK):
                    way.put(self._loop.time() + self._delay_s(), data)
                    await way.has_room.wait()
                way.put(self._loop.time() + self.conditions.rtt_ms / 2e3, b"")
                await delivering
            finally:
                delivering.cancel()

    def _delay_s(self) -> float:
        conditions = self.conditions
        delay_s = (conditions.rtt_ms / 2 + self._rng.uniform(0, conditions.jitter_ms)) / 1e3
        if self._rng.random() < conditions.loss:
            self.stalls += 1
            delay_s += max(LEAST_RTO_S, 2 * conditions.rtt_ms / 1e3)
        return delay_s

    async def _deliver(self, way: _Way, writer: asyncio.StreamWriter) -> None:
        """What is due, in order; an empty chunk is the end."""
        while True:
            due_s, data = await way.first()
            if (wait_s := due_s - self._loop.time()) > 0:
                await asyncio.sleep(wait_s)
            way.drop_first()
            if not data:
                return
            writer.write(data)
            await writer.drain()


@dataclass
class _Way:
    """Bytes under way in one direction."""

    chunks: deque[tuple[float, bytes]] = field(default_factory=deque)
    queued: int = 0
    last_due_s: float = 0.0
    grew: asyncio.Event = field(default_factory=asyncio.Event)
    has_room: asyncio.Event = field(default_factory=asyncio.Event)

    def put(self, due_s: float, data: bytes) -> None:
        self.last_due_s = max(self.last_due_s, due_s)
        self.chunks.append((self.last_due_s, data))
        self._count(len(data))
        self.grew.set()

    async def first(self) -> tuple[float, bytes]:
        while not self.chunks:
            self.grew.clear()
            await self.grew.wait()
        return self.chunks[0]

    def drop_first(self) -> None:
        self._count(-len(self.chunks.popleft()[1]))

    def _count(self, change: int) -> None:
        self.queued += change
        (self.has_room.set if self.queued <= MOST_QUEUED else self.has_room.clear)()
