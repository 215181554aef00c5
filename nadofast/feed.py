"""Streams that heal: live books and BBOs, account events once each, and a word about every break.

    async with Feed(network, products=[4, 8], signer=signer, rest=rest) as feed:
        await feed.wait_synced(10)
        feed.book(4).best_bid

A Feed owns one subscription socket and, for book snapshots, one query socket.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

from . import dispatch, wire
from ._book import OrderBook
from ._core import Bbo, FeedCore
from ._feed import FeedListener
from .backfill import BackfillConfig, FillBackfill
from .booksync import BookSync, CheckConfig
from .connection import LinkConfig, LinkState, NadoConnectionManager
from .control import ControlChannel
from .dispatch import EventHub, EventStream
from .errors import BadResponse, ConfigError, ExchangeError, NadoError, RequestTimeout
from .events import BBOEvent, BoundaryEvent, ControlReply, FillEvent, PositionChangeEvent
from .fallback import FallbackConfig, ModeSwitch, NadoConnectionMode, RestPoller
from .models import Snapshot
from .network import Network, resolve
from .queries import GatewayQueries
from .ratelimit import NadoRateLimiter
from .signing import NadoWebSocketAuth, Signer
from .timesync import TimeSync
from .waiting import wait_event

if TYPE_CHECKING:
    from .rest import Rest

DEFAULT_STREAMS: Final = (
    wire.BEST_BID_OFFER,
    wire.BOOK_DEPTH,
    wire.TRADE,
    wire.FILL,
    wire.ORDER_UPDATE,
    wire.POSITION_CHANGE,
)
_NS: Final = 1_000_000_000
_MS: Final = 1_000_000
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class FeedConfig:
    """data_timeout_s of `link`: market data silent for so long is probed. ack_timeout_s: for every request on
    the stream. time_samples: clock readings per connection. time_refresh_s: between two of them on a link
    that lives. monitor_s: interval of the checks."""

    link: LinkConfig = field(default_factory=lambda: LinkConfig(data_timeout_s=3.0))
    query_link: LinkConfig = field(default_factory=LinkConfig)
    checks: CheckConfig = field(default_factory=CheckConfig)
    fallback: FallbackConfig = field(default_factory=FallbackConfig)
    backfill: BackfillConfig = field(default_factory=BackfillConfig)
    ack_timeout_s: float = 3.0
    query_timeout_s: float = 2.0
    time_samples: int = 3
    time_refresh_s: float = 30.0
    monitor_s: float = 0.1


class Feed:
    """Market and account streams of one exchange.

    products: product ids. streams: wire names; the private ones need a signer and are left out without one.
    rest: the way out while the stream is down, and the source of fills missed meanwhile. timesync: shared
    with the order gateway, kept fresh here. Raises ConfigError on a stream name that does not exist.
    """

    def __init__(
        self,
        network: str | Network,
        *,
        products: Sequence[int],
        streams: Sequence[str] = DEFAULT_STREAMS,
        signer: Signer | None = None,
        subaccount: str = "default",
        rest: Rest | None = None,
        timesync: TimeSync | None = None,
        limiter: NadoRateLimiter | None = None,
        config: FeedConfig | None = None,
    ) -> None:
        self.network = resolve(network)
        self.products = tuple(products)
        self.timesync = timesync or TimeSync()
        self.subaccount = None if signer is None else signer.subaccount(subaccount)
        self.failure: str | None = None
        """Why the feed gave up, if it did: a defect in its own code, never the network."""
        self._config = config or FeedConfig()
        self._rest = rest
        self._hub = EventHub()
        self._auth = None if signer is None else NadoWebSocketAuth(signer, subaccount=subaccount)
        self._streams = self._stream_objects(streams)
        names = {stream["type"] for stream in self._streams}
        self._was_live = False
        self._has_private = not names.isdisjoint(wire.PRIVATE_STREAMS)
        self._tasks: list[asyncio.Task[None]] = []
        self._verifications: set[asyncio.Task[None]] = set()
        self._progress = asyncio.Event()
        self._control = ControlChannel(self._send, self._config.ack_timeout_s)
        self._core = FeedCore(
            self.products,
            on_event=self._on_event,
            on_reply=self._on_reply,
            on_gap=self._on_gap,
            on_horizon=self._on_horizon,
            on_callback_error=self._on_callback_error,
        )
        self.queries = GatewayQueries(
            self.network,
            limiter=limiter,
            config=self._config.query_link,
            timeout_s=self._config.query_timeout_s,
        )
        self.link = NadoConnectionManager(
            self.network.subscribe,
            self._make_listener,
            name="stream",
            config=self._config.link,
            setup=self._set_up,
            probe=self._probe,
            on_live=self._on_live,
            on_lost=self._on_lost,
        )
        self._sync = BookSync(
            self._core,
            self.products if names & {wire.BOOK_DEPTH, wire.BEST_BID_OFFER} else (),
            self._fetch_snapshot,
            with_books=wire.BOOK_DEPTH in names,
            on_valid=self._on_book_valid,
            on_invalid=self._on_book_invalid,
            on_bad_link=self.link.cut,
            config=self._config.checks,
        )
        self._switch = ModeSwitch(self._config.fallback)
        self._poller, self._backfill = self._fallback_parts()

    # ------------------------------------------------------------------ life

    async def start(self) -> None:
        """Begin to connect; returns at once. `wait_synced` waits for the result."""
        if self._tasks:
            return
        self.link.start()
        if self._sync_products:
            self.queries.start()
            self._spawn(self._sync.run(), "book sync")
        self._spawn(self._monitor(), "monitor")
        self._spawn(self._keep_time(), "clock")
        if self._poller is not None:
            self._spawn(self._poll_while_down(self._poller), "fallback")
        if self._backfill is not None:
            self._spawn(self._backfill.run(), "backfill")

    async def stop(self) -> None:
        """Close the sockets and end every iterator."""
        tasks, self._tasks = self._tasks, []
        for task in (*tasks, *self._verifications):
            task.cancel()
        await asyncio.gather(*tasks, *self._verifications, return_exceptions=True)
        await asyncio.gather(self.link.stop(), self.queries.stop())
        self._hub.close()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.stop()

    async def wait_synced(self, timeout_s: float) -> None:
        """Wait until the stream is live and every book and BBO it should have is there.

        Raises RequestTimeout that says what is missing.
        """
        deadline_ns = time.monotonic_ns() + int(timeout_s * _NS)
        while (missing := self._missing()) is not None:
            left_s = (deadline_ns - time.monotonic_ns()) / _NS
            if left_s <= 0:
                raise RequestTimeout(f"not synchronised in {timeout_s} s: {missing}")
            self._progress.clear()
            # A probe that succeeds brings the link back without a boundary: look now and then.
            await wait_event(self._progress, min(left_s, self._config.monitor_s))

    # ------------------------------------------------------------------ reading

    def book(self, product_id: int) -> OrderBook:
        """The live book; read `is_valid` first. KeyError if the product is not one of this feed's."""
        return self._core.book(product_id)

    def bbo(self, product_id: int) -> Bbo:
        """The live best bid and offer; `source` tells stream from REST."""
        return self._core.bbo(product_id)

    @property
    def is_live(self) -> bool:
        """The stream is connected and every subscription is acknowledged."""
        return self.link.is_live and self.failure is None

    @property
    def account_live(self) -> bool:
        """As is_live, with an authenticated socket and acknowledged account streams."""
        return self.is_live and self._has_private

    @property
    def is_synced(self) -> bool:
        """Live, and every book valid."""
        return self._missing() is None

    @property
    def mode(self) -> NadoConnectionMode:
        return self._switch.mode

    def last_data_age_ms(self, product_id: int | None = None) -> float:
        """Age of the newest market data: of one product's BBO, or of anything. Infinite before the first."""
        if product_id is not None:
            received_ns = self._core.bbo(product_id).received_ns
        else:
            bbos = (self._core.bbo(product).received_ns for product in self.products)
            received_ns = max((self.link.last_frame_ns, *bbos))
        return float("inf") if received_ns == 0 else (time.monotonic_ns() - received_ns) / _MS

    def on(self, kind: str, callback: Callable[[Any], object]) -> Callable[[], None]:
        """Call `callback` inline in the receive path; returns a function that ends it.

        best_bid_offer gets the live Bbo, book_depth the live OrderBook, boundary a BoundaryEvent, the others
        their event. Keep it short: above 200 µs it is counted as slow. ValueError on an unknown kind.
        """
        end = self._hub.on(kind, callback)
        self._wire_market_callbacks()

        def off() -> None:
            end()
            self._wire_market_callbacks()

        return off

    def events(self, kinds: Iterable[str], *, max_waiting: int = dispatch.MAX_FACTS) -> EventStream:
        """Queued events of these kinds, as an async iterator isolated from every other consumer.

        Account events and boundaries are complete and come first; EventOverflow if more than max_waiting were
        not read. Of best_bid_offer (BBOEvent) and book_depth (the live OrderBook) only the newest waits.
        """
        stream = self._hub.events(kinds, max_waiting)
        self._wire_market_callbacks()
        return stream

    def stats(self) -> dict[str, Any]:
        """Counters and latencies; `core` is the compiled part's own."""
        return {
            "core": self._core.stats(),
            "state": self.link.state.value,
            "mode": self.mode.value,
            "mode_switches": self._switch.switches,
            "connects": self.link.connects,
            "losses": self.link.losses,
            "last_error": self.link.last_error,
            "snapshots": self._sync.planner.asked,
            "snapshot_failures": self._sync.planner.failed,
            "resyncs": self._sync.resyncs,
            "resyncs_coalesced": self._sync.planner.coalesced,
            "disagreements": self._sync.disagreements,
            "fallback_polls": 0 if self._poller is None else self._poller.polls,
            "fills_recovered": 0 if self._backfill is None else self._backfill.recovered,
            "callback_errors": self._hub.callback_errors,
            "slow_callbacks": self._hub.slow_callbacks,
            "orphan_replies": self._control.orphans,
        }

    # ------------------------------------------------------------------ link: set-up, probe, boundaries

    async def _set_up(self, link: NadoConnectionManager) -> None:
        """Clock, authentication, subscriptions; every one acknowledged, or the socket is given up."""
        await self._read_clock(self._config.time_samples)
        auth = self._auth
        if auth is not None and self._has_private:
            link.enter(LinkState.AUTHENTICATING)
            now_ms = self.timesync.exchange_now_ms()
            await self._control.request(lambda number: auth.message(number, now_ms), "authenticate")
        link.enter(LinkState.SUBSCRIBING)
        self._sync.begin()
        await asyncio.gather(*(self._subscribe(stream) for stream in self._streams))
        self._sync.need_all("new connection")

    async def _subscribe(self, stream: dict[str, Any]) -> None:
        what = f"subscribe {stream['type']} {stream.get('product_id', '')}".rstrip()
        await self._control.request(lambda number: wire.subscribe(stream, number), what)

    async def _probe(self, link: NadoConnectionManager) -> bool:
        """A stream without data: is the market quiet, or the stream dead? Pongs and acks prove nothing."""
        await self._control.request(wire.server_time, "probe")
        for product_id in self._sync_products:
            if not await self._sync.verify(product_id):
                return False
        return True

    async def _read_clock(self, samples: int) -> None:
        """Over the stream; over HTTP where the stream does not tell the time."""
        try:
            await self._control.sync_time(self.timesync, samples)
        except (ExchangeError, RequestTimeout, BadResponse):
            if self._rest is None:
                raise
            await self._rest.sync_time(self.timesync, samples)

    def _on_live(self) -> None:
        self._was_live = True
        self._publish_boundary("link_up", f"connection {self.link.connects}")
        if self._backfill is not None:
            self._backfill.request()

    def _on_lost(self, reason: str) -> None:
        self._control.fail_all(reason)
        if self._backfill is not None:
            self._backfill.checkpoint()
        if self._was_live:
            self._was_live = False
            self._publish_boundary("link_lost", reason)
        self._sync.abandon("link lost")

    def _on_book_valid(self, product_id: int) -> None:
        if self._core.book(product_id).is_valid:
            self._publish_boundary("book_valid", "snapshot joined", product_id)
        self._progress.set()

    def _on_book_invalid(self, product_id: int, reason: str) -> None:
        self._publish_boundary("book_invalid", reason, product_id)

    def _publish_boundary(self, what: str, reason: str, product_id: int | None = None) -> None:
        _log.info("%s product=%s: %s", what, product_id, reason)
        self._hub.publish(BoundaryEvent(what, reason, product_id, 0, time.monotonic_ns()))
        self._progress.set()

    # ------------------------------------------------------------------ core callbacks, inline

    def _on_event(self, event: Any) -> None:
        if isinstance(event, FillEvent):
            if self._backfill is not None and not self._backfill.note(event):
                return
        elif isinstance(event, PositionChangeEvent) and self._poller is not None:
            self._poller.on_stream_position(event)
        self._hub.publish(event)

    def _on_reply(self, reply: ControlReply) -> None:
        self._control.on_reply(reply)

    def _on_gap(self, product_id: int, reason: str) -> None:
        self._sync.on_gap(product_id, reason)

    def _on_horizon(self, product_id: int) -> None:
        self._sync.on_horizon(product_id)

    def _on_callback_error(self, error: Exception) -> None:
        self._hub.callback_errors += 1
        _log.error("a market-data callback failed", exc_info=error)

    def _on_rest_position(self, event: PositionChangeEvent) -> None:
        self._hub.publish(event)
        if self._backfill is not None:
            self._backfill.request()

    def _wire_market_callbacks(self) -> None:
        """Nothing in Python runs per market message unless somebody asked for it."""
        for kind, fan_out in (
            (wire.BEST_BID_OFFER, self._fan_out_bbo),
            (wire.BOOK_DEPTH, self._fan_out_book),
        ):
            callbacks = self._hub.callbacks(kind)
            if self._hub.has_readers(kind) or len(callbacks) > 1:
                self._core.set_callback(kind, None, fan_out)
            else:
                self._core.set_callback(kind, None, callbacks[0] if callbacks else None)

    def _fan_out_bbo(self, bbo: Bbo) -> None:
        self._hub.run_callbacks(wire.BEST_BID_OFFER, bbo)
        if self._hub.has_readers(wire.BEST_BID_OFFER):
            event = BBOEvent(
                bbo.product_id,
                bbo.timestamp_ns,
                bbo.bid_price_x18,
                bbo.bid_qty_x18,
                bbo.ask_price_x18,
                bbo.ask_qty_x18,
            )
            self._hub.queue(wire.BEST_BID_OFFER, event)

    def _fan_out_book(self, book: OrderBook) -> None:
        self._hub.publish_as(wire.BOOK_DEPTH, book)

    # ------------------------------------------------------------------ tasks

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> None:
        self._tasks.append(asyncio.create_task(self._guard(work, name), name=f"feed {name}"))

    async def _guard(self, work: Coroutine[Any, Any, None], name: str) -> None:
        """A defect in one of the feed's own tasks ends the feed: it is never live again, and says why."""
        try:
            await work
        except Exception as error:
            self.failure = f"{name}: {type(error).__name__}: {error}"
            _log.exception("feed: %s failed", name)
            self.link.cut(self.failure)

    async def _monitor(self) -> None:
        while True:
            await asyncio.sleep(self._config.monitor_s)
            now = time.monotonic_ns()
            if self._rest is not None and self._switch.update(self.is_live, now):
                reason = self.link.last_error if self.mode is NadoConnectionMode.REST else "stream is back"
                self._publish_boundary("mode", f"{self.mode.value}: {reason}")
            if self.link.is_live:
                for product_id in self._sync.check(now):
                    task = asyncio.create_task(self._verify(product_id))
                    self._verifications.add(task)
                    task.add_done_callback(self._verifications.discard)

    async def _verify(self, product_id: int) -> None:
        try:
            if not await self._sync.verify(product_id):
                self.link.cut(f"product {product_id} is silent while its market moves")
        except NadoError as error:
            _log.info("product %d could not be verified: %s", product_id, error)

    async def _keep_time(self) -> None:
        while True:
            await asyncio.sleep(self._config.time_refresh_s)
            try:
                if self.link.is_live:
                    await self._read_clock(1)
                elif self._rest is not None:
                    await self._rest.sync_time(self.timesync, 1)
            except NadoError as error:
                _log.info("clock: %s", error)

    async def _poll_while_down(self, poller: RestPoller) -> None:
        while True:
            await asyncio.sleep(self._config.fallback.poll_s)
            if self.mode is NadoConnectionMode.REST:
                await poller.poll()

    # ------------------------------------------------------------------ parts

    @property
    def _sync_products(self) -> tuple[int, ...]:
        return self._sync.products

    def _stream_objects(self, streams: Sequence[str]) -> list[dict[str, Any]]:
        try:
            return wire.stream_objects(streams, self.products, self.subaccount)
        except ValueError as error:
            raise ConfigError(str(error)) from None

    def _fallback_parts(self) -> tuple[RestPoller | None, FillBackfill | None]:
        if self._rest is None:
            return None, None
        poller = RestPoller(
            self._core,
            self._rest,
            self.products,
            self.subaccount,
            on_position=self._on_rest_position,
            exchange_now_ns=lambda: self.timesync.exchange_now_ms() * _MS if self.timesync.is_known else 0,
            config=self._config.fallback,
        )
        if self.subaccount is None:
            return poller, None
        backfill = FillBackfill(
            self._rest, self.subaccount, self.products, self._hub.publish, self._config.backfill
        )
        return poller, backfill

    def _make_listener(self, on_disconnected: Callable[[object], None]) -> FeedListener:
        return FeedListener(self._core, on_disconnected=on_disconnected)

    def _send(self, message: bytes) -> None:
        self.link.send(message)

    async def _fetch_snapshot(self, product_id: int) -> Snapshot:
        """Over the query socket; over HTTP if that is down."""
        if self._rest is None:
            await self.queries.link.wait_live(self._config.query_timeout_s)
        if self._rest is None or self.queries.is_live:
            try:
                return await self.queries.market_liquidity(product_id)
            except NadoError:
                if self._rest is None:
                    raise
        assert self._rest is not None
        return await self._rest.market_liquidity(product_id)

    def _missing(self) -> str | None:
        if self.failure is not None:
            return self.failure
        if not self.link.is_live:
            return f"the stream is {self.link.state.value} ({self.link.last_error or 'first attempt'})"
        for product_id in self._sync_products:
            if self._sync.with_books and not self._core.book(product_id).is_valid:
                return f"book {product_id} is not valid ({self._core.book(product_id).invalid_reason})"
            if not self._core.bbo(product_id).is_set:
                return f"no BBO of product {product_id}"
        return None
