"""The links of a feed: several sockets with the same streams, and products spread over several of those.

A shard is a share of the products; each of its links carries all of its streams, so that the loss of one
loses nothing while another one lives. Account streams ride on the first shard.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from . import wire
from ._core import FeedCore
from .connection import LinkConfig, LinkState
from .errors import NotConnected
from .events import ControlReply
from .streamlink import StreamLink
from .waiting import wait_event

MAX_LINKS: Final = 16
"""Sockets of one feed: what the compiled core can tell apart."""
_NS: Final = 1_000_000_000
_BETTER_FIRST: Final = (
    LinkState.LIVE,
    LinkState.STALE,
    LinkState.SUBSCRIBING,
    LinkState.AUTHENTICATING,
    LinkState.CONNECTING,
    LinkState.BACKOFF,
    LinkState.CLOSED,
    LinkState.DISCONNECTED,
)


@dataclass(frozen=True, slots=True)
class Shard:
    """products: ids. market: stream objects of those, and in the first shard those without a product."""

    products: tuple[int, ...]
    market: tuple[dict[str, Any], ...]


@dataclass(frozen=True, slots=True)
class LinkStats:
    index: int
    shard: int
    state: str
    connects: int
    losses: int
    last_error: str
    data_age_ms: float | None
    """Since the last frame of this socket; None before the first."""
    is_authenticated: bool
    borrowers: int


@dataclass(frozen=True, slots=True)
class PoolStats:
    size: int
    live: int
    shards: int
    shards_live: int
    authenticated: int
    borrowed: int
    links: tuple[LinkStats, ...]


class PoolOwner(Protocol):
    """What the feed has to do about its links. `products`: those of the shard concerned."""

    async def read_clock(self, link: StreamLink) -> None: ...

    async def probe_products(self, products: Sequence[int]) -> bool:
        """Whether what is held of them is what the exchange has."""

    def market_begins(self, products: Sequence[int]) -> None:
        """The first link of a shard is about to subscribe."""

    def market_needed(self, products: Sequence[int], reason: str) -> None:
        """Subscribed, and no other link has kept the books."""

    def market_lost(self, products: Sequence[int], reason: str, link: int, was_live: bool) -> None:
        """The last link of a shard is gone."""

    def account_is_up(self) -> None: ...

    def account_is_lost(self) -> None:
        """The last link with account streams is gone."""

    def spare_lost(self, reason: str, link: int) -> None:
        """A link is gone, and another one carries on."""

    def link_is_live(self, link: int, is_spare: bool) -> None: ...


class NadoConnectionPool:
    """Supervises the links of a feed and tells its owner what the loss or return of one means to the whole.

    It lends links, too: `acquire` gives the live one with the fewest borrowers, for requests on it.
    """

    def __init__(
        self,
        url: str,
        core: FeedCore,
        owner: PoolOwner,
        shards: Sequence[Shard],
        *,
        links: int,
        account: Sequence[dict[str, Any]],
        sign_in: Callable[[int], bytes],
        config: LinkConfig,
        ack_timeout_s: float,
    ) -> None:
        self._core = core
        self._owner = owner
        self._shards = tuple(shards)
        self._config = config
        self._changed = asyncio.Event()
        self._account_was_up = False
        count = len(self._shards) * links
        self.links = tuple(
            StreamLink(
                index,
                index // links,
                url,
                core,
                self,
                market=self._shards[index // links].market,
                account=account if index < links else (),
                sign_in=sign_in,
                config=config,
                ack_timeout_s=ack_timeout_s,
                name="stream" if count == 1 else f"stream {index}",
            )
            for index in range(count)
        )
        self._choose_public()

    # ------------------------------------------------------------------ life

    def limit_authenticated(self, allowed: int) -> None:
        """Leave the account streams to the first `allowed` of the links that would carry them."""
        for link in [link for link in self.links if link.account.is_wanted][allowed:]:
            link.account.withdraw()

    def start(self) -> None:
        """Begin to connect every link. Returns at once."""
        for link in self.links:
            link.manager.start()

    async def stop(self) -> None:
        """End every link and wait until all of them have."""
        await asyncio.gather(*(link.manager.stop() for link in self.links))

    def tasks(self) -> list[tuple[Coroutine[Any, Any, None], str]]:
        """What has to run while the pool does, with a name each."""
        return [
            (group.keep_open(link.control, link.is_manager_live), f"{group.name} streams {link.index}")
            for link in self.links
            for group in link.groups()
            if group.is_wanted
        ]

    def cut(self, reason: str, products: Sequence[int] | None = None) -> None:
        """Replace the links that carry these products, or all: what they say cannot be trusted."""
        for link in self.links:
            if products is None or not set(products).isdisjoint(self._shards[link.shard].products):
                link.manager.cut(reason)

    # ------------------------------------------------------------------ state

    @property
    def is_live(self) -> bool:
        """Every shard has a live link with all of its market streams."""
        return all(
            any(link.is_market_live for link in self.links if link.shard == shard)
            for shard in range(len(self._shards))
        )

    def is_product_live(self, product_id: int) -> bool:
        """Whether a live link carries it."""
        return any(
            link.is_market_live and product_id in self._shards[link.shard].products for link in self.links
        )

    @property
    def is_account_live(self) -> bool:
        return any(link.is_account_live for link in self.links)

    @property
    def carries_account(self) -> bool:
        """As is_account_live, though the link may be probed at the moment."""
        return any(link.manager.is_connected and link.account.is_up for link in self.links)

    @property
    def wants_account(self) -> bool:
        return any(link.account.is_wanted for link in self.links)

    @property
    def last_frame_ns(self) -> int:
        return max(link.manager.last_frame_ns for link in self.links)

    @property
    def best(self) -> StreamLink:
        """The link whose state stands for the whole: the one that is furthest."""
        return min(self.links, key=lambda link: _BETTER_FIRST.index(link.manager.state))

    def why_down(self, function: str) -> str:
        """What is wrong with "market" or "account"; "" if nothing is known."""
        if function == "account":
            carriers = [link for link in self.links if link.account.is_wanted]
        else:
            live = {link.shard for link in self.links if link.is_market_live}
            carriers = [link for link in self.links if link.shard not in live]
        for link in carriers:
            if link.manager.is_live:
                group = link.account if function == "account" else link.market
                return f"the {function} streams are refused ({group.reason or 'not answered yet'})"
        for link in carriers:
            return f"the stream is {link.manager.state.value} ({link.manager.last_error or 'first attempt'})"
        return ""

    def get_pool_stats(self) -> PoolStats:
        """Counts of the pool and a line a link, as of now."""
        now = time.monotonic_ns()
        links = tuple(self._link_stats(link, now) for link in self.links)
        live_shards = {link.shard for link in self.links if link.is_market_live}
        return PoolStats(
            size=len(links),
            live=sum(link.manager.is_live for link in self.links),
            shards=len(self._shards),
            shards_live=len(live_shards),
            authenticated=sum(link.is_authenticated for link in links),
            borrowed=sum(link.borrowers for link in self.links),
            links=links,
        )

    def _link_stats(self, link: StreamLink, now_ns: int) -> LinkStats:
        manager, frame_ns = link.manager, link.manager.last_frame_ns
        return LinkStats(
            index=link.index,
            shard=link.shard,
            state=manager.state.value,
            connects=manager.connects,
            losses=manager.losses,
            last_error=manager.last_error,
            data_age_ms=(now_ns - frame_ns) / 1e6 if frame_ns else None,
            is_authenticated=link.is_account_live,
            borrowers=link.borrowers,
        )

    # ------------------------------------------------------------------ lending

    async def acquire(self, timeout_s: float = 5.0) -> StreamLink:
        """A live link, the one with the fewest borrowers; give it back with `release`.

        Raises NotConnected if there is none in time.
        """
        link = await self.get_healthy_connection(timeout_s)
        link.borrowers += 1
        return link

    async def release(self, client: StreamLink) -> None:
        """Give a link back. ValueError if nobody had acquired it."""
        if client.borrowers == 0:
            raise ValueError(f"link {client.index} was not acquired")
        client.borrowers -= 1

    async def get_healthy_connection(self, timeout_s: float = 5.0) -> StreamLink:
        """As `acquire`, without keeping account of it."""
        deadline_ns = time.monotonic_ns() + int(timeout_s * _NS)
        while True:
            live = [link for link in self.links if link.manager.is_live]
            if live:
                return min(live, key=lambda link: (link.borrowers, -link.manager.last_frame_ns))
            left_s = (deadline_ns - time.monotonic_ns()) / _NS
            if left_s <= 0:
                raise NotConnected(f"no live link in {timeout_s} s: {self.best.manager.last_error}")
            self._changed.clear()
            await wait_event(self._changed, left_s)

    # ------------------------------------------------------------------ what the links tell

    async def read_clock(self, link: StreamLink) -> None:
        """A link has its socket: the exchange's clock can be read over it."""
        await self._owner.read_clock(link)

    async def probe(self, link: StreamLink) -> bool:
        """Mute if another link of the shard has gone on; otherwise the exchange must agree with our books."""
        patience_ns = int((self._config.data_timeout_s or 0) * _NS) // 2
        last_ns = link.manager.last_frame_ns
        if any(other.manager.last_frame_ns - last_ns > patience_ns for other in self._carriers(link)):
            return False
        answered = asyncio.ensure_future(link.control.request(wire.server_time, "probe"))
        try:
            # A market that moved while the stream did not is proof enough; what agrees may still be deaf.
            if not await self._owner.probe_products(self._shards[link.shard].products):
                return False
            await answered
            return True
        finally:
            answered.cancel()
            await asyncio.gather(answered, return_exceptions=True)

    def subscribing(self, link: StreamLink) -> None:
        """A link is about to subscribe: books nobody else carries start afresh."""
        if not self._carriers(link):
            self._owner.market_begins(self._shards[link.shard].products)

    def subscribed(self, link: StreamLink) -> None:
        """A link has subscribed: books nobody else carries need a snapshot."""
        if not self._carriers(link):
            reason = "subscribed again" if link.was_live else "new connection"
            self._owner.market_needed(self._shards[link.shard].products, reason)
        self._tell()

    def account_up(self, link: StreamLink) -> None:
        """A link follows the account."""
        if link.manager.is_live:
            self._account_up()

    def live(self, link: StreamLink) -> None:
        """A link is set up: events may be taken from it."""
        self._choose_public()
        self._owner.link_is_live(link.index, bool(self._carriers(link)))
        if link.account.is_up:
            self._account_up()
        self._tell()

    def lost(self, link: StreamLink, reason: str) -> None:
        """First what it means, then the news."""
        self._choose_public()
        if self._account_was_up and not self.carries_account:
            self._account_was_up = False
            self._owner.account_is_lost()
        if self._carriers(link):
            if link.was_live:
                self._owner.spare_lost(reason, link.index)
        else:
            products = self._shards[link.shard].products
            self._owner.market_lost(products, reason, link.index, link.was_live)
        self._tell()

    def on_reply(self, reply: ControlReply) -> None:
        """Hand a reply to the link whose request it answers."""
        link = next((link for link in self.links if link.expects(reply)), self.best)
        link.control.on_reply(reply)

    # ------------------------------------------------------------------ parts

    def _carriers(self, link: StreamLink) -> list[StreamLink]:
        """The other links that carry the market streams of its shard."""
        return [
            other
            for other in self.links
            if other is not link and other.shard == link.shard and other.carries_market
        ]

    def _account_up(self) -> None:
        if not self._account_was_up:
            self._account_was_up = True
            self._owner.account_is_up()

    def _choose_public(self) -> None:
        """One link per shard for events that carry no key to tell a copy by."""
        chosen = 0
        for shard in range(len(self._shards)):
            mine = [link for link in self.links if link.shard == shard]
            kept = [link for link in mine if link.carries_market]
            current = [link for link in kept if self._core.public_links >> link.index & 1]
            chosen |= 1 << (current or kept or mine)[0].index
        self._core.public_links = chosen

    def _tell(self) -> None:
        self._changed.set()
