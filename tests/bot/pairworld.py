"""The whole pair in virtual time: the real bot, gateway, tracker and gate on the real engine of the embedded
exchange, in one process, with a network in between that a seed makes bad.

What is a model is the network alone: sockets that break, answers that get lost, a stream that goes silent or
away and is made complete again from the archive. A bot that is killed is left where it stands, and another
one starts from its journal. Hours of it pass in seconds, and every run repeats exactly.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import orjson
import pairchaos
import virtualtime
from pairnet import EPOCH_NS, ETH, SOL, Weather, Wire, WorldClock, WorldFeed, WorldLink, WorldRest
from troubles import Troubles

import nadosim.fault_catalog
import nadosim.faults
import nadosim.gateway
from bot import opening
from bot.bookkeeping import book_events
from bot.client import NadoClient
from bot.desk import DeskOrder, OrderDesk
from bot.guard import Guard
from bot.inputs import Entry, InputLog
from bot.journal import Fsync, Journal, JournalConfig
from bot.ledger import Ledger
from bot.logs import EventLog
from bot.market import Market
from bot.metrics import TradeMetrics
from bot.model import End, ExitCode, PairState, Plan
from bot.pair import DNPairBot, PairParts
from bot.preflight import StartError
from bot.reconcile import Reconciler
from bot.recorder import CycleRecorder
from bot.recovery import ARCHIVE_TIMEOUT_S, Recovery, take_stock
from bot.restart import Found, OnOpen
from bot.risk import RiskGate, RiskLimits
from bot.shutdown import StopRequest
from bot.standing import Standing
from bot.tradecsv import TradesCsv
from nadofast import (
    GatewayConfig,
    Network,
    OrderGateway,
    OrderTracker,
    OrderType,
    Secret,
    Signer,
    TimeSync,
    to_x18,
)
from nadofast import parse as parse_event
from nadofast.appendix import unpack_appendix
from nadofast.errors import NadoError
from nadofast.products import Product, mul_x18
from nadofast.ratelimit import LimitConfig, NadoRateLimiter, Window
from nadosim.config import ExchangeConfig
from nadosim.exchange import Exchange
from nadosim.fault_state import Lies
from nadosim.faults import Faults
from nadosim.gateway import Gateway as Door
from nadosim.limits import Limits
from nadosim.market import Market as House
from nadosim.regimes import REGIMES
from nadosim.seeded_keys import FundedAccount, derive_account
from nadosim.steps import Step

__all__ = ["ETH", "SOL", "PairWorld", "Weather", "seeds"]

FUNDS_X18 = to_x18(100_000)
MARKET_STEP_S = 0.02
HOUSE_STEP_S = 0.1
HEDGED_WITHIN_BPS = 1_000
SCRIPT_DEADLINE_S = 120.0
UNHEDGED_FLOOR_X18 = to_x18(1)
MAX_STARTS = 20
MAX_FAILS_AT_START = 0.03
NO_LIMITS = LimitConfig({scope: (Window(1_000_000, 60.0),) for scope in ("execute", "query", "archive")})
PLACES = ("place_order", "cancel_and_place")


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

    has_limits: the order budget is kept on both sides; without it cycles follow each other without a pause.
    gaps_s: lengths of the stretches in which one leg stood without the other, by the exchange's own record;
    dead_gaps_s: of those in which the bot was killed. beyond_s: of `gaps_s`, what no fault lasted.
    struck: how often each kind of fault has happened; struck_in: what struck the pair in which phase.
    cycles: those of every bot that lived.
    """

    seed: int
    directory: Path
    regime: str = "lively"
    rate: float = 200.0
    weather: Weather = field(default_factory=Weather)
    has_limits: bool = True
    sign_ahead_ms: int = 0
    loop: virtualtime.VirtualLoop = field(default_factory=virtualtime.VirtualLoop)

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)
        self.feed: WorldFeed | None = None
        self.forecast, self.weather = self.weather, Weather()
        self.struck: Counter[str] = Counter()
        self.struck_in: dict[tuple[str, str], None] = {}
        vars(self.weather)["on_strike"] = lambda kind: self.struck.update((kind,))
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
        self.killed, self.kills, self.is_down = asyncio.Event(), 0, False
        self.start_state: PairState | None = None
        self._found: Found | None = None
        self._former: list[TradeMetrics] = []
        self._journal: Journal | None = None
        self.kinds: list[OrderType] = []
        self.replaces = 0
        self.rests_first = False
        """The bot enters as maker: an order that rests while nothing is held is an entry."""
        self.was_seized = False
        self.limits = RiskLimits(to_x18(150), to_x18(300), to_x18(1_000), 5_000)
        self.entries: list[Entry] = []
        self.said = Lines(self.loop)
        self.gaps_s: list[float] = []
        self.dead_gaps_s: list[float] = []
        self.beyond_s: list[float] = []
        self.troubles = Troubles()
        self.complaints: list[str] = []
        self._judged: set[str] = set()
        self._gap_since_s: float | None = None
        self._gap_life = 0
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
            await self._open(plan)
            async with asyncio.timeout(SCRIPT_DEADLINE_S):
                found = await script(self.bot)
            await self.bot.cleanup()
            await self._close()
            return found

        with virtual_clock(self.loop):
            return virtualtime.run(self.loop, act())

    async def _open(self, plan: Callable[[tuple[Product, Product]], Plan]) -> None:
        self.house.open()
        self.house.advance(1.0)
        self.spawn(self._market(self.loop.time()))
        self.spawn(self._keep_house())
        self.bot = await self._start(plan)

    async def _close(self) -> None:
        """Nothing is left running, what a killed bot was about included."""
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        if self._journal is not None:
            self._journal.close()

    async def _live(self, plan: Callable[[tuple[Product, Product]], Plan], *, chaos: bool) -> End:
        await self._open(plan)
        vars(self.weather).update(vars(self.forecast))  # a start in fair weather; the rest is on record
        if chaos:
            self.spawn(pairchaos.run(self))
        end = await self._lives(plan)
        self.weather.calm()
        await self._compare(end)
        await self._close()
        return end

    async def _lives(self, plan: Callable[[tuple[Product, Product]], Plan]) -> End:
        """One bot after the other, until one of them ends by itself."""
        choice = OnOpen.REFUSE
        while True:
            life, killer = self.loop.create_task(self._one_life(choice)), self.spawn(self.killed.wait())
            await asyncio.wait({life, killer}, return_when=asyncio.FIRST_COMPLETED)
            killer.cancel()
            if life.done():
                return life.result()
            self._kill()
            await asyncio.sleep(self.rng.uniform(0.05, 3.0))
            choice = self.rng.choice((OnOpen.ADOPT, OnOpen.FINISH, OnOpen.FLATTEN))
            await self._start_again(plan, choice)

    async def _one_life(self, choice: OnOpen) -> End:
        """As the composition root goes on from what it has found."""
        is_clean = self._found is None or self._found.is_clean
        if choice is OnOpen.FLATTEN and not is_clean:
            return await self.bot.flatten_now("flattened what was open at the start")
        if choice is OnOpen.FINISH and not is_clean:
            self.stop.drain("run.on_open = finish")
        return await self.bot.run_alternating_strategy(self.cash_x18, self.start_state)

    def _kill(self) -> None:
        """Nothing of the bot runs any more. What it sent is on its way; what it knew is in its journal."""
        assert self.feed is not None
        assert self._journal is not None
        self.killed.clear()
        self.kills += 1
        self.is_down = True
        self.feed.is_dead = self.link.is_dead = self.rest.is_dead = True
        ours = self._tasks - self._bot_tasks | self.link.tasks | {asyncio.current_task()}
        for task in asyncio.all_tasks() - ours:
            task.cancel()
        self._journal.close()
        self._former += self.recorder.finished

    async def _start_again(self, plan: Callable[[tuple[Product, Product]], Plan], choice: OnOpen) -> None:
        """As a supervisor does: again, until the exchange lets it. HTTP gets better meanwhile."""
        self.weather.rest_fails = min(self.weather.rest_fails, MAX_FAILS_AT_START)
        for _ in range(MAX_STARTS):
            try:
                self.bot = await self._start(plan, choice)
            except (NadoError, StartError) as error:
                self.said.line(f"start: {error}")
                assert self._journal is not None
                self._journal.close()
                await asyncio.sleep(0.5)
            else:
                self.is_down = False
                return
        raise AssertionError("the bot does not start any more")

    @property
    def cycles(self) -> list[TradeMetrics]:
        return [*self._former, *self.recorder.finished]

    async def _start(
        self, plan: Callable[[tuple[Product, Product]], Plan], choice: OnOpen = OnOpen.REFUSE
    ) -> DNPairBot:
        """Everything the composition root builds, with this world's clock and network."""
        loop, exchange = self.loop, self.exchange
        clock_ns = loop.now_ns
        network = Network(
            "world", "http://gateway", "ws://x", "ws://x", "ws://x", "http://archive",
            exchange.config.chain_id, exchange.config.endpoint_address,
        )  # fmt: skip
        limiter = NadoRateLimiter(None if self.has_limits else NO_LIMITS, clock_ns=clock_ns)
        self._bot_tasks = set()
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
        journal = self._journal = Journal(
            self.directory / f"journal-{self.seed}", account="world", config=JournalConfig(fsync=Fsync.NONE),
            wall_ns=exchange.clock.now_ns,
        )  # fmt: skip
        tracker.on_change(journal.note)

        def make_gateway() -> OrderGateway:
            gateway = OrderGateway(
                network, signer, products=listed, timesync=timesync, rest=rest, limiter=limiter,
                tracker=tracker, before_send=gate.admit, journal=journal.record_all,
                signed_ahead=journal.prepare,
                config=GatewayConfig(presign_slack_ms=self.sign_ahead_ms),
            )  # fmt: skip
            self._plug(gateway)
            return gateway

        gateway = self.gateway = make_gateway()
        made = plan(products)
        guard = Guard(
            feed, market, rest, timesync, limiter, cycle_weight=made.cycle_weight
        )  # fmt: skip
        reconciler = Reconciler(
            rest, gateway, ledger, tracker, subaccount=self.subaccount, product_ids=(ETH, SOL)
        )

        book_events(feed, ledger, tracker, reconciler)
        await guard.measure_clock()
        recovery = Recovery(
            journal.found, journal=journal, tracker=tracker, timesync=timesync, gateway=gateway, rest=rest,
            subaccount=self.subaccount, product_ids=(ETH, SOL), adopt_foreign=choice is not OnOpen.REFUSE,
        )  # fmt: skip
        if (left := await take_stock(recovery, reconciler, ledger, ARCHIVE_TIMEOUT_S)) is not None:
            self._bot_tasks.add(self.spawn(left))
        self._bot_tasks.add(self.spawn(guard.run()))
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
        await self._take_stock(parts, choice)

        def make_desk(on_change: Callable[[DeskOrder], None]) -> OrderDesk:
            return OrderDesk(
                parts.clients, gateway, gate, tracker, ask=reconciler.ask,
                is_stream_live=lambda: feed.is_account_streamed, on_change=on_change, timesync=timesync,
            )  # fmt: skip

        return DNPairBot(parts, make_desk)

    async def _take_stock(self, parts: PairParts, choice: OnOpen) -> None:
        """What the composition root does about an account that is not flat."""
        link: Any = SimpleNamespace(
            products=parts.plan.products, reconciler=parts.reconciler, gateway=parts.gateway, gate=parts.gate,
            market=parts.market, plan=parts.plan,
        )  # fmt: skip
        self._found = await opening.look(link, choice, only_looks=False, say=None)
        seen = await parts.reconciler.start(parts.market.marks_x18)
        self.cash_x18, self.ledger_start_x18 = seen.cash_x18((ETH, SOL)), parts.ledger.cash_x18
        self.adjusted_at_start = parts.ledger.adjustments
        self.start_state = opening.start_state(link, seen, choice)

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

    def revive(self) -> None:
        self.dead_leg = None

    def cut(self) -> None:
        """Both sockets at once."""
        self.link.cut("cut")
        if self.feed is not None:
            self.feed.lose()

    def strike(self, **request: Any) -> None:
        """A fault of the exchange's own catalogue."""
        nadosim.fault_catalog.apply(self.faults, request, {})

    def trouble(self, for_s: float) -> None:
        """From now on, for so long, something is broken."""
        self.troubles.add(self.loop.time(), for_s)

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
        return self.exchange.archive(request, self.archive_lag_s)

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
            self._gap_since_s, self._gap_life = self.loop.time(), -1 if self.is_down else self.kills
        elif not is_unhedged and self._gap_since_s is not None:
            was_alive = self._gap_life == self.kills and not self.is_down
            (self.gaps_s if was_alive else self.dead_gaps_s).append(self.loop.time() - self._gap_since_s)
            if was_alive:
                self.beyond_s.append(self.troubles.beyond_s(self._gap_since_s, self.loop.time()))
            self._gap_since_s = None

    def judge(self, message: dict[str, Any]) -> list[str]:
        """At the exchange's door: no entry beyond the limits, no resting exit beyond the position."""
        replacing = message.get("cancel_and_place", {})
        body = message.get("place_order") or replacing.get("place_order")
        if body is None or body["signature"] in self._judged:
            return []  # nothing new, or the same bytes once more
        found = []
        self.replaces += bool(replacing)
        self._judged.add(body["signature"])
        order, product_id = body["order"], body["product_id"]
        amount, appendix = int(order["amount"]), int(order["appendix"])
        position = self.positions_x18()[(ETH, SOL).index(product_id)]
        kind = unpack_appendix(appendix)
        is_resting, is_reduce_only = kind.order_type is OrderType.POST_ONLY, kind.reduce_only
        self.kinds.append(kind.order_type)
        is_entry = not is_resting or (self.rests_first and not position)
        if not is_entry and not self.was_seized:
            resting = self.exchange.books[product_id].of_account(self.subaccount)
            gone = set(replacing.get("cancel_tx", {}).get("digests", ()))
            old = [order for order in resting if order.digest in gone]
            others = sum(order.remaining_x18 for order in resting if order.digest not in gone)
            wanted = abs(int(replacing.get("required_unfilled_amount", 0)))
            if sum(order.remaining_x18 for order in old) != wanted:
                found.append(f"a resting {amount} in the place of {wanted} that are not unfilled")
            if abs(amount) + others > abs(position) or (amount > 0) == (position > 0):
                found.append(f"a resting {amount} beside {others} against a position of {position}")
        if is_entry and not is_reduce_only:
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
            assert self.ledger_verdict() != "off", (name, self.money())

    def money(self) -> tuple[int, int]:
        """(what the exchange's balance has changed by since the bot began, what its ledger says)."""
        account = self.exchange.accounts.open(self.subaccount)
        balance = account.spot_x18(0) + sum(p.v_quote_x18 for p in account.perps.values())
        return balance - self.cash_x18, self.ledger.cash_x18 - self.ledger_start_x18

    def ledger_verdict(self) -> str:
        """When flat: "equal" to the last unit, "named" when something was taken over at the exchange's word
        and is booked so, else "off"."""
        won, booked = self.money()
        if won == booked:
            return "named" if self.ledger.adjustments > self.adjusted_at_start else "equal"
        return "named" if self.was_seized else "off"  # what the exchange takes for itself is no trade


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
