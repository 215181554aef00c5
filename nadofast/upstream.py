"""Where a feed's data comes from: its links, the snapshots that join its books, and HTTP beside them.

Everything here is about being right again after something broke: what a lost link means, when a book may be
trusted, which fills were missed. Per message none of it runs.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from . import wire
from ._core import FeedCore
from ._latency import Histogram
from .authsockets import AUTH_SOCKETS
from .backfill import BackfillConfig
from .booksync import BookSync, CheckConfig
from .connection import LinkConfig
from .errors import BadResponse, ConfigError, ExchangeError, NadoError, RequestTimeout, TransportError
from .events import BoundaryEvent
from .fallback import FallbackConfig
from .health import ConnectionHealth
from .models import Snapshot
from .network import Network
from .pool import NadoConnectionPool, Shard
from .queries import GatewayQueries
from .ratelimit import NadoRateLimiter
from .signing import NadoWebSocketAuth
from .standby import NO_STANDBY_STATS, RestStandby
from .streamlink import StreamLink
from .timesync import TimeSync

if TYPE_CHECKING:
    from .rest import Rest

PROBED_PRODUCTS: Final = 3
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class FeedConfig:
    """data_timeout_s of `link`: market data silent for so long is probed. ack_timeout_s: for every request on
    the stream. time_samples: clock readings per connection. time_refresh_s: between two of them on a link
    that lives. monitor_s: interval of the checks. websocket: False opens no socket at all, for a roll-back:
    market and account are read over HTTP, which needs a `rest`, as `fallback` says."""

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
    websocket: bool = True


class Upstream:
    """Keeps the books and the account of one feed true, over `links` sockets for each of `shards` shares.

    publish(event): boundaries, and what HTTP knows and the stream did not tell. auth: for account streams.
    """

    def __init__(
        self,
        network: Network,
        core: FeedCore,
        publish: Callable[[Any], None],
        *,
        products: Sequence[int],
        streams: Sequence[dict[str, Any]],
        auth: NadoWebSocketAuth | None,
        rest: Rest | None,
        timesync: TimeSync,
        limiter: NadoRateLimiter | None,
        links: int,
        shards: int,
        config: FeedConfig,
    ) -> None:
        self.failure: str | None = None
        self.monitor_s = config.monitor_s
        self.health = ConnectionHealth(products)
        self.progress = asyncio.Event()
        """Set when something became valid, or ceased to be."""
        self._products = tuple(products)
        self._books_read: set[int] = set()
        """Those valid because they were read over HTTP, without any WebSocket."""
        self._core = core
        self._publish = publish
        self._auth = auth
        self._wallet = "" if auth is None else f"{network.subscribe} {auth.wallet}"
        self._rest = rest
        self._timesync = timesync
        self._config = config
        self._tasks: list[asyncio.Task[None]] = []
        self._verifications: set[asyncio.Task[None]] = set()
        names = {stream["type"] for stream in streams}
        account = [stream for stream in streams if stream["type"] in wire.PRIVATE_STREAMS]
        market = [stream for stream in streams if stream["type"] not in wire.PRIVATE_STREAMS]
        self.queries = GatewayQueries(
            network, limiter=limiter, config=config.query_link, timeout_s=config.query_timeout_s
        )
        self.pool = NadoConnectionPool(
            network.subscribe,
            core,
            self,
            spread(products, market, shards),
            links=links,
            account=account,
            sign_in=self._auth_message,
            config=config.link,
            ack_timeout_s=config.ack_timeout_s,
        )
        self.sync = BookSync(
            core,
            products if names & {wire.BOOK_DEPTH, wire.BEST_BID_OFFER} else (),
            self._fetch_snapshot,
            with_books=wire.BOOK_DEPTH in names,
            on_valid=self._on_book_valid,
            on_invalid=self._on_book_invalid,
            on_bad_link=self.pool.cut,
            config=config.checks,
        )
        self.standby: RestStandby | None = None
        if rest is not None:
            self.standby = RestStandby(
                core,
                rest,
                products,
                auth.subaccount if auth is not None and account else None,
                publish=publish,
                is_account_up=lambda: self.failure is None and self.pool.carries_account,
                on_trusted=self.progress.set,
                timesync=timesync,
                fallback=config.fallback,
                backfill=config.backfill,
                on_book=None if config.websocket else self._on_book_read,
            )
        elif not config.websocket:
            raise ConfigError("without a WebSocket a feed needs a rest")

    # ------------------------------------------------------------------ life

    def start(self) -> None:
        """Begin to connect. Raises ConfigError if the wallet has no authenticated socket left."""
        if self._tasks:
            return
        if self._config.websocket:
            self._start_sockets()
            self._start_standby()
        else:
            _log.warning("no WebSocket is opened: market and account are read over HTTP only")
            self._spawn(self._start_without_sockets(), "start")
        self._spawn(self._monitor(), "monitor")
        self._spawn(self._keep_time(), "clock")

    def _start_standby(self) -> None:
        if self.standby is not None:
            self.standby.begin()
            for work, name in self.standby.tasks():
                self._spawn(work, name)

    async def _start_without_sockets(self) -> None:
        """The clock first: by their time fills are told from those of before the session."""
        assert self._rest is not None
        while not self._timesync.is_known:
            try:
                await self._rest.sync_time(self._timesync, self._config.time_samples)
            except NadoError as error:
                _log.info("clock: %s", error)
                await asyncio.sleep(random.uniform(0.1, 0.5))
        self._start_standby()

    def _start_sockets(self) -> None:
        self._reserve_auth_sockets()
        self.pool.start()
        if self.sync.products:
            self.queries.start()
            self._spawn(self.sync.run(), "book sync")
        for work, name in self.pool.tasks():
            self._spawn(work, name)

    async def stop(self) -> None:
        tasks, self._tasks = self._tasks, []
        for task in (*tasks, *self._verifications):
            task.cancel()
        await asyncio.gather(*tasks, *self._verifications, return_exceptions=True)
        await asyncio.gather(self.pool.stop(), self.queries.stop())
        AUTH_SOCKETS.release(self._wallet, self)

    # ------------------------------------------------------------------ state

    @property
    def is_live(self) -> bool:
        if not self._config.websocket:
            return self.failure is None and all(map(self._is_read, self._products))
        return self.failure is None and self.pool.is_live

    @property
    def is_account_live(self) -> bool:
        if not self._config.websocket:
            return self.failure is None and self._is_account_read()
        return (
            self.failure is None
            and self.pool.is_account_live
            and (self.standby is None or self.standby.is_account_trusted)
        )

    def missing(self) -> str | None:
        """What keeps the feed from being synchronised; None if nothing does."""
        if self.failure is not None:
            return self.failure
        if not self._config.websocket:
            return self._not_read()
        if not self.pool.is_live:
            return self.pool.why_down("market") or "the stream is down"
        if self.pool.wants_account and not self.pool.is_account_live:
            return self.pool.why_down("account")
        if self.pool.wants_account and not self.is_account_live:
            return "the account is not reconciled yet"
        for product_id in self.sync.products:
            if self.sync.with_books and not self._core.book(product_id).is_valid:
                return f"book {product_id} is not valid ({self._core.book(product_id).invalid_reason})"
            if not self._core.bbo(product_id).is_set:
                return f"no BBO of product {product_id}"
        return None

    def is_fresh(self, product_id: int) -> bool:
        """A live link carries the product, and what is shown of it is valid."""
        if not self._config.websocket:
            is_valid = self._core.book(product_id).is_valid
            return self.failure is None and is_valid and self._is_read(product_id)
        if self.failure is not None or not self.pool.is_product_live(product_id):
            return False
        if product_id not in self.sync.products:
            return True
        book = self._core.book(product_id)
        return self._core.bbo(product_id).is_set and (book.is_valid or not self.sync.with_books)

    # ------------------------------------------------------------------ without any WebSocket

    def _is_read(self, product_id: int) -> bool:
        standby = self.standby
        return standby is not None and standby.is_market_read(product_id, time.monotonic_ns())

    def _is_account_read(self) -> bool:
        return self.standby is not None and self.standby.is_account_read(time.monotonic_ns())

    def _not_read(self) -> str | None:
        for product_id in self._products:
            if not self._is_read(product_id) or not self._core.book(product_id).is_valid:
                return f"product {product_id} is not read over HTTP"
        return None if self._is_account_read() else "the account is not read over HTTP"

    def _on_book_read(self, product_id: int) -> None:
        is_valid, was_valid = self._core.book(product_id).is_valid, product_id in self._books_read
        if is_valid and not was_valid:
            self._books_read.add(product_id)
            self._publish_boundary("book_valid", "read over HTTP", product_id)
        elif was_valid and not is_valid:
            self._expire(product_id, self._core.book(product_id).invalid_reason or "not valid")

    def _expire(self, product_id: int, reason: str) -> None:
        """First make it true, then tell."""
        self._books_read.discard(product_id)
        self._core.begin(product_id)
        self._on_book_invalid(product_id, reason)

    def _expire_old(self) -> None:
        for product_id in tuple(self._books_read):
            if not self._is_read(product_id):
                self._expire(product_id, f"not read for {self._config.fallback.market_age_s:g} s")

    # ------------------------------------------------------------------ figures

    def connection_metrics(self) -> dict[str, Any]:
        """Latencies of both ways, failures, recoveries and uptime."""
        websocket = Histogram()
        for link in self.pool.links:
            websocket.merge(link.manager.ping_round_trip)
        rest = Histogram() if self._rest is None else self._rest.round_trip
        return self.health.metrics(websocket, rest)

    def stats(self) -> dict[str, Any]:
        """Counters of links, snapshots and recoveries."""
        links = self.pool.links
        standby = NO_STANDBY_STATS if self.standby is None else self.standby.stats(time.monotonic_ns())
        return {
            **standby,
            "state": self.pool.best.manager.state.value,
            "connects": sum(link.manager.connects for link in links),
            "losses": sum(link.manager.losses for link in links),
            "last_error": next((link.manager.last_error for link in links if link.manager.last_error), ""),
            "pool": self.pool.get_pool_stats(),
            "snapshots": self.sync.planner.asked,
            "snapshots_to_check": self.sync.planner.checked,
            "snapshot_failures": self.sync.planner.failed,
            "resyncs": self.sync.resyncs,
            "resyncs_coalesced": self.sync.planner.coalesced,
            "disagreements": self.sync.disagreements,
            "orphan_replies": sum(link.control.orphans for link in links),
            "account_refusals": sum(link.account.refusals for link in links),
        }

    # ------------------------------------------------------------------ what the core tells, inline

    def on_gap(self, product_id: int, reason: str) -> None:
        self.sync.on_gap(product_id, reason)
        if self.standby is not None:
            self.standby.on_gap()

    # ------------------------------------------------------------------ what the links tell (PoolOwner)

    async def read_clock(self, link: StreamLink) -> None:
        """A fresh socket is set up with a fresh clock."""
        await self._read_clock(link, self._config.time_samples)

    async def probe_products(self, products: Sequence[int]) -> bool:
        """Pongs and acknowledgements prove nothing about a stream: the liveliest products are compared."""
        for product_id in self.sync.liveliest(products, PROBED_PRODUCTS):
            if not await self.sync.verify(product_id):
                return False
        return True

    def market_begins(self, products: Sequence[int]) -> None:
        self.sync.begin(products)

    def market_needed(self, products: Sequence[int], reason: str) -> None:
        self.sync.need_all(reason, products)
        self.progress.set()

    def market_lost(self, products: Sequence[int], reason: str, link: int, was_live: bool) -> None:
        # First make it true, then tell: nobody may find a valid book behind the news (S9).
        invalidated = self.sync.abandon(products)
        if was_live:
            self._publish_boundary("link_lost", reason, link=link)
        for product_id in invalidated:
            self._on_book_invalid(product_id, "link lost")

    def spare_lost(self, reason: str, link: int) -> None:
        self._publish_boundary("spare_lost", reason, link=link)

    def link_is_live(self, link: int, is_spare: bool) -> None:
        connects = self.pool.links[link].manager.connects
        self._publish_boundary("spare_up" if is_spare else "link_up", f"connection {connects}", link=link)

    def account_is_up(self) -> None:
        if self.standby is not None:
            self.standby.on_account_up()
        self.progress.set()

    def account_is_lost(self) -> None:
        if self.standby is not None:
            self.standby.on_lost()

    # ------------------------------------------------------------------ boundaries

    def _on_book_valid(self, product_id: int) -> None:
        if self._core.book(product_id).is_valid:
            self._publish_boundary("book_valid", "snapshot joined", product_id)
        self.progress.set()

    def _on_book_invalid(self, product_id: int, reason: str) -> None:
        self._publish_boundary("book_invalid", reason, product_id)

    def _publish_boundary(self, what: str, reason: str, product_id: int | None = None, link: int = 0) -> None:
        _log.info("%s product=%s link=%d: %s", what, product_id, link, reason)
        self._publish(BoundaryEvent(what, reason, product_id, link, time.monotonic_ns()))
        self.progress.set()

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
            self.pool.cut(self.failure)

    async def _monitor(self) -> None:
        while True:
            await asyncio.sleep(self._config.monitor_s)
            now = time.monotonic_ns()
            self.health.tick({product_id: self.is_fresh(product_id) for product_id in self._products}, now)
            if self.standby is not None:
                for change in self.standby.update_modes(
                    self.is_live, self.is_account_live, now, self._why_down
                ):
                    self.health.log_failover(change)
                    self._publish_boundary("mode", f"{change.function} {change.mode.value}: {change.reason}")
            if not self._config.websocket:
                self._expire_old()
                continue
            for product_id in self.sync.check(now):
                if self.pool.is_product_live(product_id):
                    task = asyncio.create_task(
                        self._guard(self._verify(product_id), f"check of {product_id}")
                    )
                    self._verifications.add(task)
                    task.add_done_callback(self._verifications.discard)

    async def _verify(self, product_id: int) -> None:
        try:
            if not await self.sync.verify(product_id):
                self.pool.cut(f"product {product_id} is silent while its market moves", [product_id])
        except NadoError as error:
            _log.info("product %d could not be verified: %s", product_id, error)

    async def _keep_time(self) -> None:
        while True:
            await asyncio.sleep(self._config.time_refresh_s)
            try:
                if self.pool.best.manager.is_live:
                    link = await self.pool.acquire()
                    try:
                        await self._read_clock(link, 1)
                    finally:
                        await self.pool.release(link)
                elif self._rest is not None:
                    await self._rest.sync_time(self._timesync, 1)
            except NadoError as error:
                _log.info("clock: %s", error)

    async def _read_clock(self, link: StreamLink, samples: int) -> None:
        """Over the stream; over HTTP where the stream does not tell the time."""
        try:
            await link.control.sync_time(self._timesync, samples)
        except (ExchangeError, RequestTimeout, BadResponse):
            if self._rest is None:
                raise
            await self._rest.sync_time(self._timesync, samples)

    def _why_down(self, function: str) -> str:
        return self.pool.why_down(function) or "not reconciled yet"

    # ------------------------------------------------------------------ parts

    def _auth_message(self, number: int) -> bytes:
        assert self._auth is not None
        return self._auth.message(number, self._timesync.exchange_now_ms())

    def _reserve_auth_sockets(self) -> None:
        """The exchange allows few per wallet: links beyond that carry no account streams."""
        wanted = sum(link.account.is_wanted for link in self.pool.links)
        if not wanted:
            return
        granted = AUTH_SOCKETS.reserve(self._wallet, self, wanted)
        if granted == 0:
            raise ConfigError(
                f"this process holds {AUTH_SOCKETS.limit} authenticated sockets of {self._wallet} already,"
                " all that the exchange allows a wallet: stop another feed, or leave the account streams out"
            )
        if granted < wanted:
            _log.warning(
                "%d of %d links carry account streams: the wallet's sockets are spent", granted, wanted
            )
        self.pool.limit_authenticated(granted)

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


def spread(products: Sequence[int], streams: Sequence[dict[str, Any]], shards: int) -> list[Shard]:
    """Products in turn over the shards; what has no product goes with the first."""
    shares = [tuple(products[shard::shards]) for shard in range(shards)]
    home = {product_id: shard for shard, share in enumerate(shares) for product_id in share}
    return [
        Shard(share, tuple(s for s in streams if home.get(s.get("product_id", -1), 0) == shard))
        for shard, share in enumerate(shares)
    ]
