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
from .backfill import BackfillConfig
from .booksync import BookSync, CheckConfig
from .connection import LinkConfig, LinkState, NadoConnectionManager
from .control import ControlChannel
from .dispatch import EventHub, EventStream
from .errors import BadResponse, ConfigError, ExchangeError, NadoError, RequestTimeout, TransportError
from .events import BoundaryEvent, ControlReply
from .fallback import FallbackConfig, NadoConnectionMode
from .fanout import MarketFanOut
from .models import Snapshot
from .network import Network, resolve
from .queries import GatewayQueries
from .ratelimit import NadoRateLimiter
from .signing import NadoWebSocketAuth, Signer
from .standby import NO_STANDBY_STATS, RestStandby
from .streamgroup import StreamGroup
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
        wanted = self._stream_objects(streams)
        names = {stream["type"] for stream in wanted}
        self._was_live = False
        self._tasks: list[asyncio.Task[None]] = []
        self._verifications: set[asyncio.Task[None]] = set()
        self._progress = asyncio.Event()
        self._control = ControlChannel(self._send, self._config.ack_timeout_s)
        self._market = StreamGroup(
            "market",
            [stream for stream in wanted if stream["type"] not in wire.PRIVATE_STREAMS],
            on_up=self._on_market_up,
        )
        self._account = StreamGroup(
            "account",
            [stream for stream in wanted if stream["type"] in wire.PRIVATE_STREAMS],
            sign_in=self._auth_message,
            on_up=self._on_account_up,
        )
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
        self._fan_out = MarketFanOut(self._core, self._hub)
        self._standby = None if rest is None else self._make_standby(rest)

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
        for group in (self._market, self._account):
            self._spawn(group.keep_open(self._control, lambda: self.link.is_live), f"{group.name} streams")
        standby = self._standby
        if standby is not None:
            standby.begin()
            self._spawn(standby.poll_while_down(), "fallback")
            if standby.backfill is not None and standby.account is not None:
                self._spawn(standby.backfill.run(), "backfill")
                self._spawn(standby.account.run(), "account audit")

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
        """The stream is connected and every market-data subscription is acknowledged."""
        return (
            self.link.is_live and self.failure is None and (self._market.is_up or not self._market.is_wanted)
        )

    @property
    def account_live(self) -> bool:
        """Connected, authenticated, account streams acknowledged; with a `rest`, also what happened since
        they were lost has been found out and told."""
        return self._is_account_up() and (self._standby is None or self._standby.is_account_trusted)

    @property
    def is_synced(self) -> bool:
        """Live, and every book valid."""
        return self._missing() is None

    @property
    def mode(self) -> NadoConnectionMode:
        """Where market data comes from; always WEBSOCKET without a `rest`."""
        return NadoConnectionMode.WEBSOCKET if self._standby is None else self._standby.market.mode

    @property
    def account_mode(self) -> NadoConnectionMode:
        """Where account events come from; always WEBSOCKET without a `rest` or a key."""
        switch = None if self._standby is None else self._standby.account_switch
        return NadoConnectionMode.WEBSOCKET if switch is None else switch.mode

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
        self._fan_out.rewire()

        def off() -> None:
            end()
            self._fan_out.rewire()

        return off

    def events(self, kinds: Iterable[str], *, max_waiting: int = dispatch.MAX_FACTS) -> EventStream:
        """Queued events of these kinds, as an async iterator isolated from every other consumer.

        Account events and boundaries are complete and come first; EventOverflow if more than max_waiting were
        not read. Of best_bid_offer (BBOEvent) and book_depth (the live OrderBook) only the newest waits.
        """
        stream = self._hub.events(kinds, max_waiting)
        self._fan_out.rewire()
        return stream

    def stats(self) -> dict[str, Any]:
        """Counters and latencies; `core` is the compiled part's own."""
        standby = {} if self._standby is None else self._standby.stats(time.monotonic_ns())
        return {
            **NO_STANDBY_STATS,
            **standby,
            "core": self._core.stats(),
            "state": self.link.state.value,
            "mode": self.mode.value,
            "connects": self.link.connects,
            "losses": self.link.losses,
            "last_error": self.link.last_error,
            "snapshots": self._sync.planner.asked,
            "snapshot_failures": self._sync.planner.failed,
            "resyncs": self._sync.resyncs,
            "resyncs_coalesced": self._sync.planner.coalesced,
            "disagreements": self._sync.disagreements,
            "callback_errors": self._hub.callback_errors,
            "slow_callbacks": self._hub.slow_callbacks,
            "orphan_replies": self._control.orphans,
            "account_refusals": self._account.refusals,
        }

    # ------------------------------------------------------------------ link: set-up, probe, boundaries

    async def _set_up(self, link: NadoConnectionManager) -> None:
        """Clock, authentication, subscriptions; every one acknowledged, or the socket is given up."""
        await self._read_clock(self._config.time_samples)
        if self._account.is_wanted:
            link.enter(LinkState.AUTHENTICATING)
            await self._account.sign_in(self._control)
        link.enter(LinkState.SUBSCRIBING)
        self._sync.begin()
        if not any(await asyncio.gather(*(group.open(self._control) for group in self._groups()))):
            raise next((group.error for group in self._groups() if group.error), None) or ConfigError(
                "no stream to subscribe to"
            )
        if self._market.is_up:
            self._sync.need_all("new connection")

    def _groups(self) -> tuple[StreamGroup, StreamGroup]:
        return self._market, self._account

    def _auth_message(self, number: int) -> bytes:
        assert self._auth is not None
        return self._auth.message(number, self.timesync.exchange_now_ms())

    def _is_account_up(self) -> bool:
        return self.link.is_live and self.failure is None and self._account.is_up

    def _on_market_up(self) -> None:
        if self.link.is_live:  # after a refusal; a set-up asks when all of it is done
            self._sync.need_all("subscribed again")
        self._progress.set()

    def _on_account_up(self) -> None:
        if self._standby is not None and self.link.is_live:
            self._standby.on_account_up()
        self._progress.set()

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
        if self._standby is not None and self._account.is_up:
            self._standby.on_account_up()

    def _on_lost(self, reason: str) -> None:
        self._control.fail_all(reason)
        for group in self._groups():
            group.on_lost()
        if self._standby is not None:
            self._standby.on_lost()
        # First make it true, then tell: nobody may find a valid book behind the news (S9).
        invalidated = self._sync.abandon()
        if self._was_live:
            self._was_live = False
            self._publish_boundary("link_lost", reason)
        for product_id in invalidated:
            self._on_book_invalid(product_id, "link lost")

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
        if self._standby is None or self._standby.is_news(event):
            self._hub.publish(event)

    def _on_reply(self, reply: ControlReply) -> None:
        self._control.on_reply(reply)

    def _on_gap(self, product_id: int, reason: str) -> None:
        self._sync.on_gap(product_id, reason)
        if self._standby is not None:
            self._standby.on_gap()

    def _on_horizon(self, product_id: int) -> None:
        self._sync.on_horizon(product_id)

    def _on_callback_error(self, error: Exception) -> None:
        self._hub.callback_errors += 1
        _log.error("a market-data callback failed", exc_info=error)

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
            if self._standby is not None:
                for change in self._standby.update_modes(
                    self.is_live, self.account_live, now, self._why_down
                ):
                    self._publish_boundary("mode", f"{change.function} {change.mode.value}: {change.reason}")
            if self.link.is_live:
                for product_id in self._sync.check(now):
                    task = asyncio.create_task(self._verify(product_id))
                    self._verifications.add(task)
                    task.add_done_callback(self._verifications.discard)

    def _why_down(self, function: str) -> str:
        if not self.link.is_live:
            return self.link.last_error or f"the stream is {self.link.state.value}"
        return (self._market if function == "market" else self._account).reason or "not reconciled yet"

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

    # ------------------------------------------------------------------ parts

    @property
    def _sync_products(self) -> tuple[int, ...]:
        return self._sync.products

    def _stream_objects(self, streams: Sequence[str]) -> list[dict[str, Any]]:
        try:
            return wire.stream_objects(streams, self.products, self.subaccount)
        except ValueError as error:
            raise ConfigError(str(error)) from None

    def _make_standby(self, rest: Rest) -> RestStandby:
        return RestStandby(
            self._core,
            rest,
            self.products,
            self.subaccount if self._account.is_wanted else None,
            publish=self._hub.publish,
            is_account_up=self._is_account_up,
            on_trusted=self._progress.set,
            timesync=self.timesync,
            fallback=self._config.fallback,
            backfill=self._config.backfill,
        )

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
            except TransportError:
                # A refusal is an answer: asking elsewhere would only ask twice.
                if self._rest is None:
                    raise
        assert self._rest is not None
        return await self._rest.market_liquidity(product_id)

    def _missing(self) -> str | None:
        if self.failure is not None:
            return self.failure
        if not self.link.is_live:
            return f"the stream is {self.link.state.value} ({self.link.last_error or 'first attempt'})"
        for group in self._groups():
            if group.is_wanted and not group.is_up:
                return f"the {group.name} streams are refused ({group.reason or 'not answered yet'})"
        if self._account.is_wanted and not self.account_live:
            return "the account is not reconciled yet"
        for product_id in self._sync_products:
            if self._sync.with_books and not self._core.book(product_id).is_valid:
                return f"book {product_id} is not valid ({self._core.book(product_id).invalid_reason})"
            if not self._core.bbo(product_id).is_set:
                return f"no BBO of product {product_id}"
        return None
