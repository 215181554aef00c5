"""The network between the bot and the exchange of a `PairWorld`: sockets, HTTP and streams without sockets,
made bad by a seed. Everything that goes wrong is counted by its kind.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from unittest import mock

import orjson
import virtualtime
from orderworld import ModelLink, Storm

from nadofast import Network, OrderBook, Rest
from nadofast.errors import ExchangeError, NotConnected, RequestTimeout
from nadofast.events import FillEvent, OrderUpdateEvent
from nadofast.fallback import ConnectionMode
from nadofast.ratelimit import NadoRateLimiter
from nadosim.clock import Clock
from nadosim.gateway import Blocked, Caller, LostReply, TooMany, kind_of

if TYPE_CHECKING:
    from pairworld import PairWorld

EPOCH_NS = 1_790_000_000_000_000_000
ETH, SOL = 4, 8
DEPTH_STEP_NS = 50_000_000


class WorldClock(Clock):
    """The exchange's clock, moved by the loop."""

    def __init__(self, loop: virtualtime.VirtualLoop) -> None:
        super().__init__()
        self._loop = loop

    def true_ns(self) -> int:
        return EPOCH_NS + self._loop.now_ns()


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
        body = message.get("place_order") or message.get("cancel_and_place", {}).get("place_order")
        if dead is not None and body is not None and body["product_id"] == dead:
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
        if self.is_dead or world.weather.strikes("rest_fails", world.rng):
            slow = world.rng.random() < 0.5
            await asyncio.sleep(2.0 if slow else 0.001)
            raise RequestTimeout("silent") if slow else NotConnected("refused")
        await asyncio.sleep(world.rng.uniform(0.0005, 0.004))
        caller = Caller("10.0.0.1")
        try:
            await world.door.hold_up(caller, kind_of(orjson.loads(body or b"{}")))
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

    def cut(self, reason: str) -> None:
        super().cut(reason)
        self.world.trouble(self._down_until_s - self._loop.time())

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
    has_websocket = True

    def __init__(self, world: PairWorld, rest: WorldRest) -> None:
        self._world, self._rest = world, rest
        self._handlers: dict[str, list[Callable[[Any], object]]] = {}
        self._bbos = {ETH: WorldBbo(), SOL: WorldBbo()}
        self._books = {ETH: OrderBook(ETH), SOL: OrderBook(SOL)}
        self._loaded_ns = {ETH: -DEPTH_STEP_NS, SOL: -DEPTH_STEP_NS}
        self._missed: list[Any] = []
        self._heard_ns = world.loop.now_ns()
        self._mute_until_s = self._gap_until_s = 0.0
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
    def is_account_streamed(self) -> bool:
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
        if now_ns < self._gap_until_s * 1e9:
            book.clear()
            self._loaded_ns[product_id] = -DEPTH_STEP_NS
            return book
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
        if world.weather.strikes("lose_stream", rng):
            self.lose()
        elif self.account_live and not self.is_mute and world.weather.strikes("mute", rng):
            self._mute_until_s = world.loop.time() + rng.uniform(0.2, 2.0)
            world.trouble(self._mute_until_s - world.loop.time())
            world.loop.call_at(self._mute_until_s, self.lose)
        if not self.account_live or self.is_mute:
            self._missed.append(event)
            return
        for _ in range(2 if world.weather.strikes("duplicate", rng) else 1):
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

    def break_books(self, for_s: float) -> None:
        """A depth message is missing: no book until the next snapshot. Prices and events go on."""
        self._gap_until_s = self._world.loop.time() + for_s

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
        self._world.trouble(down_s + self._world.archive_lag_s)
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
