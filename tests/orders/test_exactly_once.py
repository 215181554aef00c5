"""Exactly once, in virtual time: the real gateway, resolver, tracker and journal against a seeded world.

Sixty seeds here, ten thousand by `make long SUITE=exactly_once SEEDS=0:10000`. A seed is about ten orders, a
storm, and up to two kills; then the storm ends and everything has to be known.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import virtualtime
from chaosrecord import note
from orderworld import EPOCH_MS, ModelExchange, ModelLink, ModelRest, Storm

from bot.journal import Journal, read
from bot.recovery import Recovery
from nadofast import (
    GatewayConfig,
    LimitConfig,
    NadoRateLimiter,
    Network,
    OrderGateway,
    OrderRequest,
    OrderTracker,
    OrderType,
    OutcomeKind,
    Product,
    Signer,
    TimeSample,
    TimeSync,
    parse_symbols,
    to_x18,
)
from nadofast.clockkeeper import ClockKeeper
from nadofast.errors import NadoError
from nadofast.events import FillEvent
from nadofast.ratelimit import Window

SIGNER = Signer("0x" + "01" * 32, chain_id=1, endpoint_address="0x" + "00" * 20)
NETWORK = Network("model", "http://x", "ws://x", "ws://x", "ws://x", "http://x", 1, "0x" + "00" * 20)
SAMPLE = Path(__file__).parent.parent / "data" / "samples" / "query_symbols.json"
PRODUCTS: dict[int, Product] = parse_symbols(json.loads(SAMPLE.read_text())["response"]["data"])
ORDERS = 10
GOAL_MS = 2_000


def digest_of(body: Any) -> str:
    """The digest of a place_order, from its fields alone."""
    order = body["order"]
    return SIGNER.sign_order(
        product_id=body["product_id"], price_x18=int(order["priceX18"]), amount_x18=int(order["amount"]),
        expiration_s=int(order["expiration"]), nonce=int(order["nonce"]), appendix=int(order["appendix"]),
    ).digest  # fmt: skip


class Life:
    """One process: what dies with a kill. Only the journal's file and the exchange outlive it."""

    def __init__(self, world: World) -> None:
        loop = world.loop
        self.world = world
        self.tracker = OrderTracker(clock_ns=loop.now_ns)
        self.journal = Journal(world.path, account="a", wall_ns=lambda: EPOCH_MS * 10**6 + loop.now_ns())
        self.slept_ns = 0
        timesync = TimeSync(clock_ns=self.now_ns, boot_ns=loop.now_ns, wall_ns=loop.now_ns)
        timesync.update(TimeSample(loop.now_ns(), loop.now_ns(), world.exchange.now_ms()))
        self.limiter = NadoRateLimiter(world.limits, clock_ns=loop.now_ns)
        self.rest = ModelRest(loop, world.rng, world.exchange, world.storm)
        self.gateway = OrderGateway(
            NETWORK,
            SIGNER,
            products=PRODUCTS,
            timesync=timesync,
            rest=self.rest,
            tracker=self.tracker,  # type: ignore[arg-type]
            limiter=self.limiter,
            journal=self.journal.record_all,
            config=GatewayConfig(reply_timeout_s=0.4, time_retry_s=0.05, confirm_s=0.5),
        )
        self.link = ModelLink(loop, world.rng, world.exchange, world.storm)
        delivery = self.gateway._delivery
        lane = delivery.lanes.concurrent
        lane.link = self.link  # type: ignore[assignment]
        self.link.on_text = lambda message: delivery._on_text(lane, message)
        self.link.on_lost = lambda reason: delivery._on_lost(lane, reason)
        self.tracker.on_change(self.journal.note)
        self.is_dead = False
        self.stream_is_up = True
        self.tasks: set[asyncio.Task[Any]] = set()
        self.helpers: set[asyncio.Task[Any]] = set()
        keeper = ClockKeeper(self.rest, timesync, delivery.clock_doubts, self.gateway._config)  # type: ignore[arg-type]
        for work in (keeper.run(), self.gateway._confirm_ends()):
            self.spawn(work, self.helpers)
        world.exchange.publish = self.hear

    def hear(self, event: Any) -> None:
        """An event on its way: late, twice, out of order, or lost while the stream is down."""
        rng, storm = self.world.rng, self.world.storm
        if rng.random() < storm.cut:
            self._lose_stream()
        for _ in range(2 if rng.random() < storm.duplicate else 1):
            self.world.loop.call_later(rng.uniform(0.001, 0.05), self._deliver, event)

    def _lose_stream(self) -> None:
        if self.stream_is_up:
            self.stream_is_up = False
            self.world.loop.call_later(self.world.rng.uniform(0.1, 1.5), self._stream_is_back)

    def _stream_is_back(self) -> None:
        if not self.is_dead:
            self.tracker.on_gap()
            self.stream_is_up = True

    def _deliver(self, event: Any) -> None:
        if self.is_dead or not self.stream_is_up:
            return
        if isinstance(event, FillEvent):
            self.tracker.on_fill(event)
        else:
            self.tracker.on_order_update(event)

    def spawn(self, work: Any, group: set[asyncio.Task[Any]] | None = None) -> None:
        tasks = self.tasks if group is None else group
        task = self.world.loop.create_task(work)
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    def now_ns(self) -> int:
        """Its monotonic clock, which stands still while the machine sleeps."""
        return self.world.loop.now_ns() - self.slept_ns

    def suspend(self, seconds: float) -> None:
        """The machine sleeps: its monotonic clock stands still, its sockets break, the exchange goes on."""
        self.world.loop.skip(seconds)
        self.slept_ns += int(seconds * 1e9)
        self._lose_stream()
        self.link.cut("suspended")

    async def kill(self) -> None:
        """Nothing of it writes, sends or hears any more; what is on the wire goes on."""
        self.is_dead = self.link.is_dead = self.rest.is_dead = True
        os.close(self.journal._fd)
        self.journal._fd = -1
        tasks = [*self.tasks, *self.helpers]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.gateway._resolver.stop()


@dataclass
class World:
    """A seed, its exchange, and what every intent has come to. known_ms: sent to known, per order."""

    seed: int
    path: Path
    loop: virtualtime.VirtualLoop = field(default_factory=virtualtime.VirtualLoop)
    known_ms: list[float] = field(default_factory=list)
    kills: int = 0
    suspends: int = 0

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)
        self.storm = Storm.seeded(self.rng)
        self.faults = [name for name, share in vars(self.storm).items() if share]
        self.rest_is_up = not self.storm.rest_fails
        refills, lag_s = self.rng.random() < 0.5, self.rng.choice((0.0, 0.5, 3.0))
        self.lag_s = lag_s
        self.exchange = ModelExchange(self.loop, self.rng, digest_of, refills=refills, archive_lag_s=lag_s)
        self.exchange.is_silent = self.rng.random() < 0.3
        self.limits = LimitConfig(query_only_s=0.5, query_only_cap_s=2.0)
        if self.rng.random() < 0.3:
            execute = (Window(14, 4.0, 8),)
            self.limits = LimitConfig({**self.limits.limits, "execute": execute}, query_only_s=0.5)
        random.seed(self.seed)  # jitter of the client

    async def live(self) -> None:
        deaths = sorted(self.rng.sample(range(1, ORDERS), self.rng.randrange(3)))
        life = Life(self)
        for number in range(ORDERS):
            if number in deaths:
                self.kills += 1
                await life.kill()
                life = Life(self)
                await self._recover(life)
            if self.rng.random() < 0.03:
                self.suspends += 1
                life.suspend(self.rng.uniform(0.2, 8.0))
            if self.rng.random() < 0.05:
                self.exchange.down_until_s = self.loop.time() + self.rng.uniform(0.1, 1.0)
            life.spawn(self._trade(life, number))
            await asyncio.sleep(self.rng.choice((0.0, 0.01, 0.1, 0.5)))
        await asyncio.sleep(self.rng.uniform(0, 1))
        self.storm.calm()
        for task in list(life.tasks):
            await task
        # A late copy revives what was cancelled where dead digests may come again; not beyond its time.
        await asyncio.sleep(4)
        await self._finish(life)

    async def _trade(self, life: Life, number: int) -> None:
        """One intent: signed once, asked about until it is known, withdrawn now and then."""
        is_taker = self.rng.random() < 0.6
        side = self.rng.choice((1, -1))
        kind = OrderType.IOC if is_taker else OrderType.POST_ONLY
        request = OrderRequest(4, to_x18(3000), side * to_x18("0.1"), kind, client_id=number)
        sent_ns = life.now_ns()
        outcome = await life.gateway.place(request)
        if not is_taker and self.rng.random() < 0.5 and outcome.digest:
            await life.gateway.cancel(4, outcome.digest)
        while outcome.kind is OutcomeKind.UNKNOWN:
            outcome = await life.gateway.resolve(outcome.digest, 4)
        if outcome.kind is not OutcomeKind.DENIED:
            self.known_ms.append((life.now_ns() - sent_ns) / 1e6)

    async def _recover(self, life: Life) -> None:
        """As a supervisor would: again until the exchange answers."""
        while True:
            try:
                recovery = Recovery(
                    life.journal.found,
                    journal=life.journal,
                    tracker=life.tracker,
                    timesync=life.gateway._timesync,
                    gateway=life.gateway,
                    rest=life.rest,  # type: ignore[arg-type]
                    subaccount=SIGNER.subaccount(),
                    product_ids=(4,),
                )
                await recovery.look(timeout_s=20.0)
                await recovery.ask_archive()
                return
            except NadoError:
                await asyncio.sleep(0.2)

    async def _finish(self, life: Life) -> None:
        """Withdraw what rests, read every end, and compare with the exchange."""
        while resting := [digest for digest, entry in self.exchange.orders.items() if entry.rests]:
            await asyncio.gather(*(life.gateway.cancel(4, digest) for digest in resting))
            await asyncio.sleep(0.1)
        await asyncio.sleep(2)  # streams are back, and what was on its way has arrived
        for order in life.tracker.live():
            outcome = await life.gateway.resolve(order.digest, 4, 60)
            assert outcome.kind is not OutcomeKind.UNKNOWN, (self.seed, order)
        for order in list(life.tracker._orders.values()):
            if order.was_accepted and not order.is_settled:
                assert await life.gateway.settle(order.digest, 4, 60), (self.seed, order)
        await asyncio.sleep(1)
        await life.kill()
        self._compare(life)

    def _compare(self, life: Life) -> None:
        journal, orders = read(self.path), self.exchange.orders
        assert not journal.damaged
        assert orders.keys() <= journal.intents.keys(), (self.seed, "an order nobody wrote down")
        intents = [fields["client_id"] for fields in journal.intents.values()]
        assert len(intents) == len(set(intents)), (self.seed, "one intent was signed twice")
        for digest in journal.intents:
            entry, order = orders.get(digest), life.tracker.get(digest)
            filled = entry.filled if entry else 0
            if order is not None:
                assert order.is_settled, (self.seed, order)
                assert order.filled_x18 == filled, (self.seed, order, entry)
                assert order.fee_x18 == sum(
                    quantity // 1000 for _, quantity, _ in (entry.fills if entry else ())
                )
            end = journal.ends.get(digest)
            assert end is not None, (self.seed, "an order without an end", order)
            assert int(end["filled_x18"]) == filled, (self.seed, end, entry)


@dataclass
class Tally:
    """Sums over seeds. known_ms: sent to known with HTTP up; late_ms: where the archive is 3 s behind."""

    known_ms: list[float] = field(default_factory=list)
    late_ms: list[float] = field(default_factory=list)
    orders: int = 0
    fills: int = 0
    kills: int = 0
    suspends: int = 0

    def add(self, world: World) -> None:
        self.orders += len(world.exchange.orders)
        self.fills += sum(len(entry.fills) for entry in world.exchange.orders.values())
        self.kills += world.kills
        self.suspends += world.suspends
        if world.rest_is_up:
            (self.late_ms if world.lag_s > 1 else self.known_ms).extend(world.known_ms)


def percentiles(known_ms: list[float]) -> str:
    known_ms.sort()
    shares = (0.5, 0.9, 0.99, 0.999)
    spread = [f"p{share * 100:g} {known_ms[int(len(known_ms) * share)]:.0f} ms" for share in shares]
    return ", ".join([*spread, f"max {known_ms[-1]:.0f} ms of {len(known_ms)}"])


def record(world: World, failure: str = "") -> None:
    """For the matrix: what the storm did wrong, and what the process went through meanwhile."""
    lives = {"kill -9": world.kills, "suspended": world.suspends}
    phases = [name for name, count in lives.items() if count] or ["left alone"]
    worst_ms = max(world.known_ms, default=0.0) if world.rest_is_up else None
    for number, phase in enumerate(phases):
        facts = 0 if number else len(world.exchange.orders)
        note("orders", world.faults, phase, recovery_ms=worst_ms, facts=facts, failure=failure)


def campaign(seeds: range, directory: Path) -> None:
    tally = Tally()
    started_s = time.perf_counter()
    for seed in seeds:
        world = World(seed, directory / "journal")
        try:
            virtualtime.run(world.loop, world.live())
        except BaseException as error:
            print(f"seed {seed}")
            record(world, f"seed {seed}: {error}")
            raise
        record(world)
        tally.add(world)
        world.path.unlink()
    took_s = time.perf_counter() - started_s
    print(
        f"\n{len(seeds)} seeds, {tally.orders} orders, {tally.fills} fills, {tally.kills} kills,"
        f" {tally.suspends} suspends in {took_s:.1f} s ({len(seeds) / took_s:.0f} seeds/s)\n"
        f"outcome known with HTTP up: {percentiles(tally.known_ms)}\n"
        f"the same with an archive 3 s behind: {percentiles(tally.late_ms)}"
    )
    assert tally.fills
    assert tally.kills
    assert tally.suspends
    assert tally.known_ms[int(len(tally.known_ms) * 0.99)] < GOAL_MS


def test_exactly_once_in_virtual_time(tmp_path: Path) -> None:
    campaign(range(60), tmp_path)


@pytest.mark.long
def test_exactly_once_campaign(tmp_path: Path, seeds: range) -> None:
    campaign(seeds, tmp_path)
