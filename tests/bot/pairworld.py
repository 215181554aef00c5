"""The whole pair in virtual time: the real bot, gateway, tracker and gate on the real engine of the embedded
exchange, in one process, with a network in between that a seed makes bad.

What is a model is the network alone: sockets that break, answers that get lost, a stream that goes silent or
away and is made complete again from the archive. Hours of it pass in seconds, and every run repeats exactly.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import orjson
import virtualtime
from orderworld import ModelLink, Storm

import nadosim.fault_catalog
import nadosim.faults
import nadosim.gateway
from bot.bookkeeping import book_events
from bot.client import NadoClient
from bot.desk import DeskOrder, OrderDesk
from bot.guard import Guard
from bot.inputs import Entry, InputLog
from bot.ledger import Ledger
from bot.logs import EventLog
from bot.market import Market
from bot.model import End, ExitCode, Plan
from bot.pair import DNPairBot, PairParts
from bot.reconcile import Reconciler
from bot.recorder import CycleRecorder
from bot.risk import RiskGate, RiskLimits
from bot.shutdown import StopRequest
from bot.standing import Standing
from bot.tradecsv import TradesCsv
from nadofast import (
    Network,
    OrderBook,
    OrderGateway,
    OrderTracker,
    OrderType,
    Rest,
    Secret,
    Signer,
    TimeSync,
    to_x18,
)
from nadofast import parse as parse_event
from nadofast.appendix import unpack_appendix
from nadofast.errors import ExchangeError, NotConnected, RequestTimeout
from nadofast.events import FillEvent, OrderUpdateEvent
from nadofast.fallback import ConnectionMode
from nadofast.products import Product, mul_x18
from nadofast.ratelimit import NadoRateLimiter
from nadosim.clock import Clock
from nadosim.config import ExchangeConfig
from nadosim.exchange import Exchange
from nadosim.fault_state import Lies
from nadosim.faults import Faults
from nadosim.gateway import Blocked, Caller, LostReply, TooMany
from nadosim.gateway import Gateway as Door
from nadosim.limits import Limits
from nadosim.market import Market as House
from nadosim.regimes import REGIMES
from nadosim.seeded_keys import FundedAccount, derive_account
from nadosim.steps import Step

EPOCH_NS = 1_790_000_000_000_000_000
FUNDS_X18 = to_x18(100_000)
ETH, SOL = 4, 8
MARKET_STEP_S = 0.02
DEPTH_STEP_NS = 50_000_000
HOUSE_STEP_S = 0.1
HEDGED_WITHIN_BPS = 1_000
SCRIPT_DEADLINE_S = 120.0
UNHEDGED_FLOOR_X18 = to_x18(1)
MISHAPS = ("maintenance", "orders wiped", "dead leg", "leg taken over", "cut")


class WorldClock(Clock):
    """The exchange's clock, moved by the loop."""

    def __init__(self, loop: virtualtime.VirtualLoop) -> None:
        super().__init__()
        self._loop = loop

    def now_ns(self) -> int:
        return EPOCH_NS + self._loop.now_ns() + self.offset_ns


@dataclass
class Weather(Storm):
    """Chances of what goes wrong beside the storm on the request socket. mute: an event starts a silence of
    the stream; lose_stream: one takes it away; dead_leg: orders of one product are refused for a while."""

    lose_stream: float = 0.0
    mute: float = 0.0

    @staticmethod
    def seeded(rng: random.Random) -> Weather:
        def some() -> float:
            return rng.choice((0.0, 0.0, 0.0, 0.03, 0.1))

        return Weather(
            lose_request=some(), lose_answer=some(), duplicate=rng.choice((0.0, 0.3)), slow=some(),
            cut=some(), rate=rng.choice((0.0, 0.0, 0.0, 0.02)), rest_fails=rng.choice((0.0, 0.0, 0.05, 0.2)),
            lose_stream=some(), mute=rng.choice((0.0, 0.0, 0.02, 0.05)),
        )  # fmt: skip


class Wire:
    """The exchange behind its front door, as the model of a socket wants it, and what it saw pass."""

    def __init__(self, world: PairWorld) -> None:
        self._world = world
        self._caller = Caller("10.0.0.1", 1)

    async def execute(self, message: dict[str, Any], caller: Caller | None = None) -> dict[str, Any]:
        faults = self._world.judge(message)
        dead = self._world.dead_leg
        if dead is not None and "place_order" in message and message["place_order"]["product_id"] == dead:
            body = message["place_order"]
            return {
                "status": "failure", "error": "no", "error_code": 2006,
                "signature": body["signature"], "id": body["id"],
            }  # fmt: skip
        answer = await self._world.door.execute(message, caller or self._caller)
        if answer["status"] == "success":  # what the engine refuses has done no harm
            self._world.complaints += faults
        return answer


class WorldRest(Rest):
    """HTTP without sockets: the real requests and decoders, the exchange's own answers."""

    def __init__(self, world: PairWorld, network: Network, limiter: NadoRateLimiter) -> None:
        super().__init__(network, timeout_s=2.0, limiter=limiter)
        self._world = world
        self.is_dead = False

    async def _request(self, method: str, url: str, body: bytes | None, kind: str) -> Any:
        world = self._world
        if self.is_dead or world.rng.random() < world.weather.rest_fails:
            slow = world.rng.random() < 0.5
            await asyncio.sleep(2.0 if slow else 0.001)
            raise RequestTimeout("silent") if slow else NotConnected("refused")
        await asyncio.sleep(world.rng.uniform(0.0005, 0.004))
        caller = Caller("10.0.0.1")
        try:
            await world.door.hold_up(caller)
            if kind == "time":
                answer: Any = world.exchange.clock.now_ms()
            elif url == self.network.archive:
                answer = world.archived(orjson.loads(body or b"{}"))
            elif kind == "execute":
                # Whoever asked may go; what has arrived is carried out.
                answer = await asyncio.shield(
                    world.spawn(world.wire.execute(orjson.loads(body or b"{}"), caller))
                )
            else:
                answer = world.door.query(orjson.loads(body or b"{}"), caller)
        except LostReply:
            await asyncio.sleep(2.0)
            raise RequestTimeout("silent") from None
        except (TooMany, Blocked) as error:
            code = 1015 if isinstance(error, TooMany) else 1002
            raise ExchangeError(code, "edge", kind) from None
        await asyncio.sleep(world.rng.uniform(0.0005, 0.004))
        return answer


@dataclass
class WorldBbo:
    """The live object of a product."""

    bid_price_x18: int = 0
    ask_price_x18: int = 0
    is_set: bool = False

    @property
    def has_bid(self) -> bool:
        return self.bid_price_x18 > 0

    @property
    def has_ask(self) -> bool:
        return 0 < self.ask_price_x18 < 1 << 126


class WorldLink(ModelLink):
    """The model of a socket with the life of a link: up from the start."""

    world: PairWorld

    def start(self) -> None:
        """It is up already."""

    async def stop(self) -> None:
        self.is_dead = True

    def blocked(self) -> str | None:
        return super().blocked() if self.world.has_socket else "no socket"

    async def wait_first_try(self, timeout_s: float) -> bool:
        return self.is_live


class WorldFeed:
    """What the bot reads of a `Feed`. Down: events are lost, prices come over HTTP twice a second, and it is
    live again only once the archive has shown what was missed. Mute: live, prices stand, events are lost."""

    failure: str | None = None

    def __init__(self, world: PairWorld, rest: WorldRest) -> None:
        self._world, self._rest = world, rest
        self._handlers: dict[str, list[Callable[[Any], object]]] = {}
        self._bbos = {ETH: WorldBbo(), SOL: WorldBbo()}
        self._books = {ETH: OrderBook(ETH), SOL: OrderBook(SOL)}
        self._loaded_ns = {ETH: -DEPTH_STEP_NS, SOL: -DEPTH_STEP_NS}
        self._missed: list[Any] = []
        self._heard_ns = world.loop.now_ns()
        self._mute_until_s = 0.0
        self.account_live = True
        self.is_dead = False

    async def start(self) -> None:
        """It has been live from the beginning."""

    async def wait_synced(self, timeout_s: float) -> None:
        """The same."""

    @property
    def is_live(self) -> bool:
        return self.account_live

    @property
    def mode(self) -> ConnectionMode:
        return ConnectionMode.WEBSOCKET if self.account_live else ConnectionMode.REST

    @property
    def is_mute(self) -> bool:
        return self._world.loop.time() < self._mute_until_s

    def on(self, kind: str, handler: Callable[[Any], object]) -> Callable[[], None]:
        self._handlers.setdefault(kind, []).append(handler)
        return lambda: self._handlers[kind].remove(handler)

    def bbo(self, product_id: int) -> WorldBbo:
        return self._bbos[product_id]

    def book(self, product_id: int) -> OrderBook:
        book, now_ns = self._books[product_id], self._world.loop.now_ns()
        if self.account_live and not self.is_mute and now_ns - self._loaded_ns[product_id] >= DEPTH_STEP_NS:
            self._loaded_ns[product_id] = now_ns
            book.load_snapshot(*self._world.exchange.depth(product_id, 100), timestamp_ns=now_ns)
        return book

    def last_data_age_ms(self, product_id: int | None = None) -> float:
        return (self._world.loop.now_ns() - self._heard_ns) / 1e6

    def market_moved(self) -> None:
        """The stream tells the newest prices."""
        if self.is_dead or not self.account_live or self.is_mute:
            return
        self._read_prices()

    def _read_prices(self) -> None:
        self._heard_ns = self._world.loop.now_ns()
        for product_id, bbo in self._bbos.items():
            bid, _, ask, _ = self._world.exchange.bbo(product_id)
            bbo.bid_price_x18, bbo.ask_price_x18, bbo.is_set = bid, ask, True

    def hear(self, event: Any) -> None:
        """An account event leaves the exchange."""
        world, rng = self._world, self._world.rng
        if rng.random() < world.weather.lose_stream:
            self.lose()
        elif self.account_live and not self.is_mute and rng.random() < world.weather.mute:
            self._mute_until_s = world.loop.time() + rng.uniform(0.2, 2.0)
            world.loop.call_at(self._mute_until_s, self.lose)
        if not self.account_live or self.is_mute:
            self._missed.append(event)
            return
        for _ in range(2 if rng.random() < world.weather.duplicate else 1):
            world.loop.call_later(rng.uniform(0.0005, 0.003), self._deliver, event)

    def _deliver(self, event: Any) -> None:
        if self.is_dead:
            return
        if not self.account_live:
            self._missed.append(event)
            return
        self._publish(event)

    def _publish(self, event: Any) -> None:
        kind = {FillEvent: "fill", OrderUpdateEvent: "order_update"}.get(type(event), "position_change")
        for handler in self._handlers.get(kind, []):
            handler(event)

    def lose(self) -> None:
        """The socket is gone, and comes back."""
        if not self.account_live or self.is_dead:
            return
        self.account_live = False
        self._boundary("link_lost")
        self._world.spawn(self._return())

    async def _return(self) -> None:
        rng = self._world.rng
        down_s = rng.choice((rng.uniform(0.05, 0.4), rng.uniform(0.2, 1.5)))
        for _ in range(int(down_s / 0.5)):
            await asyncio.sleep(0.5)
            with contextlib.suppress(ExchangeError, NotConnected, RequestTimeout):
                await self._rest.market_price(ETH)
                self._read_prices()
        await asyncio.sleep(down_s % 0.5)
        self._boundary("link_up")
        await asyncio.sleep(self._world.archive_lag_s + 0.01)
        if self.is_dead:
            return
        missed, self._missed = self._missed, []
        for event in sorted(missed, key=lambda one: one.timestamp_ns):
            if isinstance(event, FillEvent) or rng.random() < 0.7:
                self._publish(event)
        self.account_live = True

    def _boundary(self, what: str) -> None:
        for handler in self._handlers.get("boundary", []):
            handler(mock.Mock(spec_set=("what",), what=what))


class Away:
    """Stands for the exchange's process as the bot sees it: it runs."""

    def __init__(self) -> None:
        self.gone = asyncio.Event()
        self.gone_reason: str | None = None


@dataclass
class Lines:
    """Collects what the bot says, with the world's time before it."""

    loop: virtualtime.VirtualLoop
    lines: list[str] = field(default_factory=list)

    def line(self, text: str) -> None:
        self.lines.append(f"{self.loop.time():.3f}  {text}")

    def submit(self, job: Callable[[], None]) -> None:
        job()


@dataclass
class PairWorld:
    """A seed: a market, an account, a bot and the weather. `run(plan, …)` plays it to the end.

    gaps_s: lengths of the stretches in which one leg stood without the other, by the exchange's own record.
    struck: what went wrong besides the weather, and the phase of the pair it met.
    """

    seed: int
    directory: Path
    regime: str = "lively"
    rate: float = 200.0
    weather: Weather = field(default_factory=Weather)
    has_limits: bool = True
    loop: virtualtime.VirtualLoop = field(default_factory=virtualtime.VirtualLoop)

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)
        self.feed: WorldFeed | None = None
        self.forecast, self.weather = self.weather, Weather()
        self.archive_lag_s = self.rng.choice((0.0, 0.3, 1.0)) if self.forecast != Weather() else 0.0
        self.faults = Faults(self.seed)
        config = ExchangeConfig(dead_digest=self.rng.choice(("reject", "fill_remainder")))
        self.exchange = Exchange(config, WorldClock(self.loop), self._on_step)
        self.door = Door(
            self.exchange, self.faults, Lies(self.faults, self.exchange),
            Limits(is_on=self.has_limits, clock_s=self.loop.time),
        )  # fmt: skip
        self.wire = Wire(self)
        account: FundedAccount = derive_account(self.seed, 0)
        assert account.private_key is not None
        self.key, self.subaccount = Secret(account.private_key), account.subaccount
        self.exchange.fund(self.subaccount, FUNDS_X18)
        products = [self.exchange.products[product_id] for product_id in (ETH, SOL)]
        self.house = House(
            self.exchange, products, seed=self.seed, rate=self.rate, regime=REGIMES[self.regime]
        )
        self.dead_leg: int | None = None
        self.has_socket = True
        self.kinds: list[OrderType] = []
        self.was_seized = False
        self.limits = RiskLimits(to_x18(150), to_x18(300), to_x18(1_000), 5_000)
        self.entries: list[Entry] = []
        self.said = Lines(self.loop)
        self.gaps_s: list[float] = []
        self.struck: list[tuple[str, str]] = []
        self.complaints: list[str] = []
        self._judged: set[str] = set()
        self._gap_since_s: float | None = None
        self._tasks: set[asyncio.Task[Any]] = set()

    # ------------------------------------------------------------------ running

    def run(self, plan: Callable[[tuple[Product, Product]], Plan], *, chaos: bool = False) -> End:
        """Play until the bot ends, and compare it with the exchange. AssertionError names the seed."""
        random.seed(self.seed)
        try:
            with virtual_clock(self.loop):
                end: End = virtualtime.run(self.loop, self._live(plan, chaos=chaos))
        except BaseException as error:
            error.add_note(f"seed {self.seed}, {self.regime}, {self.forecast}")
            error.add_note("\n".join(self.said.lines[-25:]))
            raise
        return end

    def play(
        self,
        plan: Callable[[tuple[Product, Product]], Plan],
        script: Callable[[DNPairBot], Awaitable[Any]],
    ) -> Any:
        """Let `script` use a bot that nobody else drives; what it returns."""
        random.seed(self.seed)

        async def act() -> Any:
            background = await self._open(plan)
            async with asyncio.timeout(SCRIPT_DEADLINE_S):
                found = await script(self.bot)
            await self.bot.cleanup()
            await self._close(background)
            return found

        with virtual_clock(self.loop):
            return virtualtime.run(self.loop, act())

    async def _open(self, plan: Callable[[tuple[Product, Product]], Plan]) -> list[asyncio.Task[Any]]:
        self.house.open()
        self.house.advance(1.0)
        background = [self.spawn(self._market(self.loop.time())), self.spawn(self._keep_house())]
        self.bot = await self._start(plan)
        return background

    async def _close(self, background: list[asyncio.Task[Any]]) -> None:
        for task in (*background, *self._tasks):
            task.cancel()
        await asyncio.gather(*background, *self._tasks, return_exceptions=True)

    async def _live(self, plan: Callable[[tuple[Product, Product]], Plan], *, chaos: bool) -> End:
        background = await self._open(plan)
        vars(self.weather).update(vars(self.forecast))  # a start in fair weather; the rest is on record
        if chaos:
            background.append(self.spawn(self._chaos()))
        end = await self.bot.run_alternating_strategy(self.cash_x18)
        self.weather.calm()
        await self._compare(end)
        await self._close(background)
        return end

    async def _start(self, plan: Callable[[tuple[Product, Product]], Plan]) -> DNPairBot:
        """Everything the composition root builds, with this world's clock and network."""
        loop, exchange = self.loop, self.exchange
        clock_ns = loop.now_ns
        network = Network(
            "world", "http://gateway", "ws://x", "ws://x", "ws://x", "http://archive",
            exchange.config.chain_id, exchange.config.endpoint_address,
        )  # fmt: skip
        limiter = NadoRateLimiter(clock_ns=clock_ns)
        timesync = TimeSync(clock_ns=clock_ns, wall_ns=lambda: EPOCH_NS + clock_ns())
        rest = WorldRest(self, network, limiter)
        signer = Signer(self.key, chain_id=network.chain_id, endpoint_address=network.endpoint_address)
        listed = await rest.products([ETH, SOL])
        products = (listed[ETH], listed[SOL])
        feed = self.feed = WorldFeed(self, rest)
        feed.market_moved()
        market, ledger = Market(feed, products), Ledger((ETH, SOL))
        standing = Standing(ledger, market, timesync=timesync, clock_ns=clock_ns)
        gate = RiskGate(self.limits, standing.risk_view)
        tracker = OrderTracker(clock_ns=clock_ns)

        def make_gateway() -> OrderGateway:
            gateway = OrderGateway(
                network, signer, products=listed, timesync=timesync, rest=rest, limiter=limiter,
                tracker=tracker, before_send=gate.admit,
            )  # fmt: skip
            self._plug(gateway)
            return gateway

        gateway = make_gateway()
        made = plan(products)
        guard = Guard(
            feed, market, rest, timesync, limiter, cycle_weight=made.cycle_weight
        )  # fmt: skip
        reconciler = Reconciler(
            rest, gateway, ledger, tracker, subaccount=self.subaccount, product_ids=(ETH, SOL)
        )

        book_events(feed, ledger, tracker, reconciler)
        await guard.measure_clock()
        self.spawn(guard.run())
        clients = tuple(
            NadoClient(
                product, market=market, gateway=gateway, gate=gate, timesync=timesync,
                feed=feed, reconciler=reconciler,
            )
            for product in products
        )  # fmt: skip
        self.rest, self.ledger, self.gate, self.reconciler = rest, ledger, gate, reconciler
        self.stop = StopRequest(clock_ns=clock_ns)
        self.recorder = CycleRecorder(products, ledger, market, standing)
        csv = TradesCsv(self.directory / f"trades-{self.seed}.csv", self.said.submit, mode="sim")
        parts = PairParts(
            plan=made, feed=feed, market=market, clients=(clients[0], clients[1]),
            gateway=gateway, gate=gate, ledger=ledger, standing=standing, reconciler=reconciler, guard=guard,
            recorder=self.recorder, exchange=Away(), stop=self.stop,
            log=EventLog(self.said), csv=csv,
            spare=make_gateway, inputs=InputLog(self.entries.append, clock_ns=clock_ns),
        )  # fmt: skip
        self.cash_x18 = (await reconciler.start({})).cash_x18((ETH, SOL))

        def make_desk(on_change: Callable[[DeskOrder], None]) -> OrderDesk:
            return OrderDesk(
                parts.clients, gateway, gate, tracker, ask=reconciler.ask,
                is_stream_live=lambda: feed.account_live, on_change=on_change, timesync=timesync,
            )  # fmt: skip

        return DNPairBot(parts, make_desk)

    def _plug(self, gateway: OrderGateway) -> None:
        """The model of a socket in the place of the concurrent lane's."""
        link = WorldLink(self.loop, self.rng, self.wire, self.weather)
        link.world = self
        delivery = gateway._delivery
        lane = delivery.lanes.concurrent
        lane.link = link
        link.on_text = lambda message: delivery._on_text(lane, message)
        link.on_lost = lambda reason: delivery._on_lost(lane, reason)
        self.link = link

    # ------------------------------------------------------------------ the exchange's side

    async def _market(self, started_s: float) -> None:
        while True:
            self.house.advance(1.0 + self.loop.time() - started_s)
            if self.feed is not None:
                self.feed.market_moved()
            await asyncio.sleep(MARKET_STEP_S)

    async def _keep_house(self) -> None:
        while True:
            self.exchange.run_due()
            await asyncio.sleep(HOUSE_STEP_S)

    async def _chaos(self) -> None:
        """Now and then something larger than a lost message."""
        while True:
            await asyncio.sleep(self.rng.uniform(0.5, 6.0))
            kind = self.rng.randrange(5)
            self.struck.append((MISHAPS[kind], self.bot.state.phase.value))
            match kind:
                case 0:
                    self.strike(maintenance={"for_s": self.rng.uniform(0.2, 1.5)})
                    self._cut()
                case 1:
                    self.exchange.wipe_orders()
                    self._cut()
                case 2:
                    self.dead_leg = self.rng.choice((ETH, SOL))
                    self.loop.call_later(self.rng.uniform(0.1, 2.0), self._revive)
                case 3:
                    self.was_seized |= bool(self.exchange.seize(self.subaccount, self.rng.choice((ETH, SOL))))
                case _:
                    self._cut()

    def _revive(self) -> None:
        self.dead_leg = None

    def _cut(self) -> None:
        self.link.cut("cut")
        if self.feed is not None:
            self.feed.lose()

    def strike(self, **request: Any) -> None:
        """A fault of the exchange's own catalogue."""
        nadosim.fault_catalog.apply(self.faults, request, {"maintenance": lambda rule: None})

    def spawn(self, work: Any) -> asyncio.Task[Any]:
        task: asyncio.Task[Any] = self.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self.complaints.append(repr(task.exception()))

    def archived(self, request: dict[str, Any]) -> Any:
        """The archive, as far behind as this world's is."""
        answer = self.exchange.archive(request)
        if self.archive_lag_s and isinstance(answer, dict) and "matches" in answer:
            seen_s = (self.exchange.clock.now_ns() / 1e9) - self.archive_lag_s
            late = {tx["submission_idx"] for tx in answer["txs"] if int(tx["timestamp"]) > seen_s}
            answer = {
                **answer,
                "matches": [row for row in answer["matches"] if row["submission_idx"] not in late],
                "txs": [tx for tx in answer["txs"] if tx["submission_idx"] not in late],
            }
        return answer

    def _on_step(self, step: Step) -> None:
        if self.feed is None:
            return
        for owner, event in step.private:
            if owner == self.subaccount:
                if event["type"] == "position_change":
                    self._position_moved()
                self.feed.hear(parse_event(orjson.dumps(event)))

    # ------------------------------------------------------------------ the judge

    def positions_x18(self) -> tuple[int, int]:
        account = self.exchange.accounts.open(self.subaccount)
        first, second = (self.exchange.accounts.position_x18(account, p) for p in (ETH, SOL))
        return first, second

    def resting(self) -> list[Any]:
        return [order for p in (ETH, SOL) for order in self.exchange.books[p].of_account(self.subaccount)]

    def _mark_x18(self, product_id: int) -> int:
        assert self.feed is not None
        bbo = self.feed.bbo(product_id)
        return (bbo.bid_price_x18 + bbo.ask_price_x18) // 2 if bbo.has_bid and bbo.has_ask else 0

    def _position_moved(self) -> None:
        """Open or close a stretch of standing on one leg."""
        notionals = [
            mul_x18(position, self._mark_x18(product_id))
            for product_id, position in zip((ETH, SOL), self.positions_x18(), strict=True)
        ]
        gross, net = sum(map(abs, notionals)), abs(sum(notionals))
        is_unhedged = net > UNHEDGED_FLOOR_X18 and net * 10_000 > gross * HEDGED_WITHIN_BPS
        if is_unhedged and self._gap_since_s is None:
            self._gap_since_s = self.loop.time()
        elif not is_unhedged and self._gap_since_s is not None:
            self.gaps_s.append(self.loop.time() - self._gap_since_s)
            self._gap_since_s = None

    def judge(self, message: dict[str, Any]) -> list[str]:
        """At the exchange's door: no entry beyond the limits, no resting exit beyond the position."""
        body = message.get("place_order") or message.get("cancel_and_place", {}).get("place_order")
        if body is None or body["signature"] in self._judged:
            return []  # nothing new, or the same bytes once more
        found = []
        self._judged.add(body["signature"])
        order, product_id = body["order"], body["product_id"]
        amount, appendix = int(order["amount"]), int(order["appendix"])
        position = self.positions_x18()[(ETH, SOL).index(product_id)]
        kind = unpack_appendix(appendix)
        is_resting, is_reduce_only = kind.order_type is OrderType.POST_ONLY, kind.reduce_only
        self.kinds.append(kind.order_type)
        if is_resting and not self.was_seized and "place_order" in message:
            others = sum(o.remaining_x18 for o in self.exchange.books[product_id].of_account(self.subaccount))
            if abs(amount) + others > abs(position) or (amount > 0) == (position > 0):
                found.append(f"a resting {amount} beside {others} against a position of {position}")
        if not is_resting and not is_reduce_only:
            after = mul_x18(abs(position + amount), int(order["priceX18"]))
            if after > self.limits.max_leg_x18 * 1_005 // 1_000:
                found.append(f"an entry of {amount} makes {after} of {self.limits.max_leg_x18}")
        return found

    async def _compare(self, end: End) -> None:
        """The end as told against the exchange's record."""
        positions, name = self.positions_x18(), f"seed {self.seed}: {end}"
        if end.code in (ExitCode.DONE, ExitCode.HALTED_FLAT, ExitCode.ERROR):
            assert positions == (0, 0), (name, positions)
            assert not self.resting(), name
        for symbol, position in zip(("ETH-PERP", "SOL-PERP"), positions, strict=True):
            assert not position or symbol in self.bot.last_exposure, (name, positions, self.bot.last_exposure)
        assert not self.complaints, (name, self.complaints)
        if end.code is not ExitCode.EXPOSED:
            await self._compare_money(name)

    async def _compare_money(self, name: str) -> None:
        """Flat: what the ledger says was won is what the exchange's balance says, to the last unit."""
        account = self.exchange.accounts.open(self.subaccount)
        balance = account.spot_x18(0) + sum(p.v_quote_x18 for p in account.perps.values())
        won = self.ledger.pnl({ETH: 0, SOL: 0}).net_x18
        if not self.ledger.adjustments and not self.was_seized:
            assert balance - FUNDS_X18 == won, (name, balance - FUNDS_X18, won)


@contextlib.contextmanager
def virtual_clock(loop: virtualtime.VirtualLoop) -> Iterator[None]:
    """Every reading of a monotonic clock, the exchange's included, is the loop's time."""
    with contextlib.ExitStack() as stack:
        for owner, name, reading in (
            (time, "monotonic", loop.time),
            (time, "monotonic_ns", loop.now_ns),
            (nadosim.gateway, "monotonic_ns", loop.now_ns),
            (nadosim.faults, "monotonic", loop.time),
            (nadosim.fault_catalog, "monotonic", loop.time),
        ):
            stack.enter_context(mock.patch.object(owner, name, reading))
        yield


def seeds() -> range:
    """`NADOFAST_SEEDS`, as `first:end`."""
    first, _, end = os.environ.get("NADOFAST_SEEDS", "0:2").partition(":")
    return range(int(first), int(end))
