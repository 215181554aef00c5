"""Streams that heal: live books and BBOs, account events once each, and a word about every break.

    async with Feed(network, products=[4, 8], signer=signer, rest=rest) as feed:
        await feed.wait_synced(10)
        feed.book(4).best_bid

A Feed owns its subscription sockets and, for book snapshots, one query socket. This file is its face;
`upstream.py` keeps what it shows true.
"""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

from . import wire
from ._bbo import Bbo
from ._book import OrderBook
from ._core import FeedCore
from .busypoll import BusyPoll
from .dispatch import NadoEventRouter
from .errors import ConfigError, RequestTimeout
from .events import ControlReply
from .fallback import ConnectionMode
from .fanout import MarketFanOut
from .gap import MissedFills
from .messagequeue import NadoMessageQueue, QueueLimits
from .network import Network, resolve
from .pool import MAX_LINKS
from .ratelimit import NadoRateLimiter
from .signing import NadoWebSocketAuth, Signer
from .tappedcore import TappedCore
from .timesync import TimeSync
from .upstream import FeedConfig, Upstream
from .waiting import wait_event

if TYPE_CHECKING:
    from .rest import Rest

__all__ = ["DEFAULT_STREAMS", "Feed", "FeedConfig"]

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


class Feed:
    """Market and account streams of one exchange.

    products: product ids. streams: wire names; the private ones need a signer and are left out without one.
    rest: the way out while the stream is down, and the source of fills missed meanwhile. timesync: shared
    with the order gateway, kept fresh here. links: sockets with the same streams; while one of them lives
    the loss of another loses nothing. shards: shares the products are spread over, `links` sockets each, for
    those who follow many. busy_poll: keep the loop awake while the feed runs; market data arrives tens of
    microseconds sooner and one core is used whole. Raises ConfigError on a stream name that does not exist.
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
        links: int = 1,
        shards: int = 1,
        config: FeedConfig | None = None,
        busy_poll: bool = False,
    ) -> None:
        if links < 1 or not 1 <= shards <= max(1, len(products)) or links * shards > MAX_LINKS:
            raise ConfigError(
                f"links={links}, shards={shards}: at least one each, at most one shard a product, and at most"
                f" {MAX_LINKS} sockets in all"
            )
        self.network = resolve(network)
        self.products = tuple(products)
        self.timesync = timesync or TimeSync()
        self.subaccount = None if signer is None else signer.subaccount(subaccount)
        self._busy_poll = BusyPoll() if busy_poll else None
        missed = None
        if rest is not None and self.subaccount is not None:
            missed = MissedFills(rest, self.subaccount, self.products)
        self._router = NadoEventRouter(
            self.subaccount,
            recover=None if missed is None else missed.read,
            on_overflow=self._on_reader_overflow,
        )
        config = config or FeedConfig()
        tap = config.link.tap
        make_core = FeedCore if tap is None else partial(TappedCore, tap)
        self._core = make_core(
            self.products,
            on_event=self._on_event,
            on_reply=self._on_reply,
            on_gap=self._on_gap,
            on_horizon=self._on_horizon,
            on_callback_error=self._on_callback_error,
            on_slow_callback=self._on_slow_callback,
        )
        self._fan_out = MarketFanOut(self._core, self._router)
        self._upstream = Upstream(
            self.network,
            self._core,
            self._router.publish,
            products=self.products,
            streams=self._stream_objects(streams),
            auth=None if signer is None else NadoWebSocketAuth(signer, subaccount=subaccount),
            rest=rest,
            timesync=self.timesync,
            limiter=limiter,
            links=links,
            shards=shards,
            config=config,
        )
        self.pool = self._upstream.pool
        self.queries = self._upstream.queries
        self.has_websocket = config.websocket
        """False: told to do without; `is_live`, `account_live` and valid books then say that what was read
        over HTTP is young enough (`FeedConfig.fallback`)."""
        self.link = self.pool.links[0].manager
        """The first of its links; the only one unless more were asked for."""

    # ------------------------------------------------------------------ life

    async def start(self) -> None:
        """Begin to connect; returns at once. `wait_synced` waits for the result.

        Raises ConfigError if this process has no authenticated socket of the wallet left.
        """
        self._upstream.start()
        if self._busy_poll is not None:
            self._busy_poll.start()

    async def stop(self) -> None:
        """Close the sockets and end every iterator."""
        if self._busy_poll is not None:
            self._busy_poll.stop()
        await self._upstream.stop()
        self._router.close()

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
        upstream = self._upstream
        deadline_ns = time.monotonic_ns() + int(timeout_s * _NS)
        while (missing := upstream.missing()) is not None:
            left_s = (deadline_ns - time.monotonic_ns()) / _NS
            if left_s <= 0:
                raise RequestTimeout(f"not synchronised in {timeout_s} s: {missing}")
            upstream.progress.clear()
            # A probe that succeeds brings the link back without a boundary: look now and then.
            await wait_event(upstream.progress, min(left_s, upstream.monitor_s))

    # ------------------------------------------------------------------ reading

    def book(self, product_id: int) -> OrderBook:
        """The live book; read `is_valid` first. KeyError if the product is not one of this feed's."""
        return self._core.book(product_id)

    def bbo(self, product_id: int) -> Bbo:
        """The live best bid and offer; `source` tells stream from REST."""
        return self._core.bbo(product_id)

    @property
    def failure(self) -> str | None:
        """Why the feed gave up, if it did: a defect in its own code, never the network."""
        return self._upstream.failure

    @property
    def is_live(self) -> bool:
        """Every market-data subscription is acknowledged on a live link."""
        return self._upstream.is_live

    @property
    def account_live(self) -> bool:
        """Connected, authenticated, account streams acknowledged; with a `rest`, also what happened since
        they were lost has been found out and told."""
        return self._upstream.is_account_live

    @property
    def is_account_streamed(self) -> bool:
        """`account_live`, by a stream: an account event that does not come has not happened."""
        return self.has_websocket and self.account_live

    @property
    def is_synced(self) -> bool:
        """Live, and every book valid."""
        return self._upstream.missing() is None

    @property
    def mode(self) -> ConnectionMode:
        """Where market data comes from; always WEBSOCKET without a `rest`."""
        standby = self._upstream.standby
        return ConnectionMode.WEBSOCKET if standby is None else standby.market.mode

    @property
    def account_mode(self) -> ConnectionMode:
        """Where account events come from; always WEBSOCKET without a `rest` or a key."""
        standby = self._upstream.standby
        switch = None if standby is None else standby.account_switch
        return ConnectionMode.WEBSOCKET if switch is None else switch.mode

    def last_data_age_ms(self, product_id: int | None = None) -> float:
        """Age of the newest market data: of one product's BBO, or of anything. Infinite before the first."""
        if product_id is not None:
            received_ns = self._core.bbo(product_id).received_ns
        else:
            bbos = (self._core.bbo(product).received_ns for product in self.products)
            received_ns = max((self.pool.last_frame_ns, *bbos))
        return float("inf") if received_ns == 0 else (time.monotonic_ns() - received_ns) / _MS

    def on(self, kind: str, callback: Callable[[Any], object]) -> Callable[[], None]:
        """Call `callback` inline in the receive path; returns a function that ends it.

        best_bid_offer gets the live Bbo, book_depth the live OrderBook, boundary a BoundaryEvent, the others
        their event. Keep it short: above 200 µs it is counted and warned of. An exception of it is logged and
        counted. ValueError on an unknown kind, TypeError on a coroutine function.
        """
        end = self._router.register_handler(kind, callback)
        self._fan_out.rewire()

        def off() -> None:
            end()
            self._fan_out.rewire()

        return off

    def events(
        self,
        kinds: Iterable[str],
        *,
        max_waiting: int | None = None,
        limits: QueueLimits | None = None,
        name: str = "",
    ) -> NadoMessageQueue:
        """Queued events of these kinds, as an async iterator isolated from every other consumer.

        Account events and boundaries are complete and come first, then public events, then state: of
        best_bid_offer (BBOEvent) and book_depth (the live OrderBook) only the newest of a product waits.

        limits: how much may wait, and for how long; max_waiting: how many account events. A reader that falls
        behind further is told "events_lost", the fills it missed and the newest word on orders and positions;
        without a `rest` it gets EventOverflow if there were fills. With one the account is compared with the
        exchange then. name: for the metrics.
        """
        limits = limits or QueueLimits()
        if max_waiting is not None:
            limits = replace(limits, max_facts=max_waiting)
        queue = self._router.events(kinds, limits, name=name)
        self._fan_out.rewire()
        weakref.finalize(queue, self._fan_out.rewire).atexit = False
        return queue

    def stats(self) -> dict[str, Any]:
        """Counters and latencies; `core` is the compiled part's own, `pool` a PoolStats, `queues` has a
        QueueStats for every queue that is read."""
        return {
            **self._upstream.stats(),
            "core": self._core.stats(),
            "mode": self.mode.value,
            "callback_errors": self._router.callback_errors,
            "slow_callbacks": self._router.slow_callbacks,
            "foreign_events": self._router.foreign_events,
            "queues": self._router.stats(),
        }

    def get_connection_status(self) -> dict[str, str]:
        """websocket: connected | degraded (not all of it) | disconnected | off. rest: available | absent."""
        stats = self.pool.get_pool_stats()
        websocket = "connected" if self.is_live else "degraded" if stats.shards_live else "disconnected"
        if not self.has_websocket:
            websocket = "off"
        return {"websocket": websocket, "rest": "absent" if self._upstream.standby is None else "available"}

    def get_connection_metrics(self) -> dict[str, Any]:
        """websocket_latency, rest_latency (p50, p95, p99 of round trips in ms), failure_count,
        failover_count, recovery_time (ms, of the last failure), recovery, uptime, and drift: what the parser
        saw that the protocol does not name."""
        core = self._core.stats()
        drift = (
            "parse_errors",
            "unknown_kinds",
            "unknown_kind_names",
            "unknown_fields",
            "unknown_field_names",
        )
        return {**self._upstream.connection_metrics(), "drift": {name: core[name] for name in drift}}

    def get_connection_health(self) -> dict[str, Any]:
        """status ("healthy", "degraded", "down"), latency (ms, median round trip, None if not measured),
        uptime (0 to 1) and failover_count."""
        metrics = self._upstream.connection_metrics()
        by_rest = ConnectionMode.REST in (self.mode, self.account_mode)
        if self.is_synced:
            status = "degraded" if by_rest else "healthy"
        else:
            status = "degraded" if self.is_live or (by_rest and self.has_websocket) else "down"
        return {
            "status": status,
            "latency": metrics["websocket_latency"].get("p50"),
            "uptime": metrics["uptime"],
            "failover_count": metrics["failover_count"],
        }

    # ------------------------------------------------------------------ what the core tells, inline

    def _on_event(self, event: Any) -> None:
        standby = self._upstream.standby
        if self._router.is_ours(event) and (standby is None or standby.is_news(event)):
            self._router.publish(event)

    def _on_reply(self, reply: ControlReply) -> None:
        self.pool.on_reply(reply)

    def _on_gap(self, product_id: int, reason: str) -> None:
        self._upstream.on_gap(product_id, reason)

    def _on_horizon(self, product_id: int) -> None:
        self._upstream.sync.on_horizon(product_id)

    def _on_callback_error(self, error: Exception) -> None:
        self._router.failed(error)

    def _on_slow_callback(self, callback: Callable[[Any], object], took_ns: int) -> None:
        if getattr(callback, "__self__", None) not in (self, self._fan_out):  # those time what they call
            self._router.took(callback, took_ns)

    def _on_reader_overflow(self) -> None:
        """A reader missed account events: what we hold of the account is compared with the exchange."""
        if self._upstream.standby is not None:
            self._upstream.standby.on_gap()

    def _stream_objects(self, streams: Sequence[str]) -> list[dict[str, Any]]:
        try:
            return wire.stream_objects(streams, self.products, self.subaccount)
        except ValueError as error:
            raise ConfigError(str(error)) from None
