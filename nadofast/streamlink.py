"""One subscription socket of a feed: what is asked on it, and which streams it carries."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from ._core import FeedCore
from ._feed import FeedListener
from .connection import LinkConfig, LinkState, NadoConnectionManager
from .control import ControlChannel
from .errors import ConfigError
from .events import ControlReply
from .streamgroup import StreamGroup


class LinkOwner(Protocol):
    """Who has several links and knows what one of them means to the whole. All but two run inline."""

    async def read_clock(self, link: StreamLink) -> None:
        """The exchange's clock, over the fresh socket."""

    async def probe(self, link: StreamLink) -> bool:
        """A link without data: is the market quiet (True), or the link dead (False)?"""

    def subscribing(self, link: StreamLink) -> None:
        """Before the first subscription."""

    def subscribed(self, link: StreamLink) -> None:
        """Its market streams are acknowledged, at once or after a refusal; the account's are settled too."""

    def account_up(self, link: StreamLink) -> None:
        """It is authenticated and its account streams are acknowledged."""

    def live(self, link: StreamLink) -> None:
        """The set-up is done."""

    def lost(self, link: StreamLink, reason: str) -> None:
        """The socket is gone; the link's own state says so already."""


class StreamLink:
    """index: the number by which the core tells links apart. shard: which share of the products it carries.

    market, account: stream objects; sign_in(number): the authenticate message.
    """

    def __init__(
        self,
        index: int,
        shard: int,
        url: str,
        core: FeedCore,
        owner: LinkOwner,
        *,
        market: Sequence[dict[str, Any]],
        account: Sequence[dict[str, Any]],
        sign_in: Callable[[int], bytes],
        config: LinkConfig,
        ack_timeout_s: float,
        name: str,
    ) -> None:
        self.index = index
        self.shard = shard
        self.borrowers = 0
        self.was_live = False
        """Since its last loss."""
        self.keeps_books = False
        """Its owner knows of its market streams: what has to be asked for on their behalf has been asked."""
        self._core = core
        self._owner = owner
        self.control = ControlChannel(self._send, ack_timeout_s)
        self.market = StreamGroup("market", market, on_up=self._on_market_up)
        self.account = StreamGroup("account", account, sign_in=sign_in, on_up=lambda: owner.account_up(self))
        self.manager = NadoConnectionManager(
            url,
            self._make_listener,
            name=name,
            config=config,
            setup=self._set_up,
            probe=lambda _: owner.probe(self),
            on_live=self._on_live,
            on_lost=self._on_lost,
        )

    @property
    def carries_market(self) -> bool:
        """Its market streams keep the books; it may be probed at the moment."""
        return self.keeps_books and self.manager.is_connected

    @property
    def is_market_live(self) -> bool:
        return self.manager.is_live and (self.market.is_up or not self.market.is_wanted)

    @property
    def is_account_live(self) -> bool:
        return self.manager.is_live and self.account.is_up

    def is_manager_live(self) -> bool:
        return self.manager.is_live

    def groups(self) -> tuple[StreamGroup, StreamGroup]:
        return self.market, self.account

    def expects(self, reply: ControlReply) -> bool:
        """Whether one of its requests waits for this reply."""
        return self.control.expects(reply)

    async def _set_up(self, link: NadoConnectionManager) -> None:
        """Clock, authentication, subscriptions; every one acknowledged, or the socket is given up."""
        await self._owner.read_clock(self)
        if self.account.is_wanted:
            link.enter(LinkState.AUTHENTICATING)
            await self.account.sign_in(self.control)
        link.enter(LinkState.SUBSCRIBING)
        self._owner.subscribing(self)
        if not any(await asyncio.gather(*(group.open(self.control) for group in self.groups()))):
            errors = [group.error for group in self.groups() if group.error is not None]
            raise errors[0] if errors else ConfigError("no stream to subscribe to")
        if self.market.is_up or not self.market.is_wanted:
            self._subscribed()

    def _on_market_up(self) -> None:
        if self.manager.is_live:  # after a refusal; a set-up tells when all of it is done
            self._subscribed()

    def _subscribed(self) -> None:
        self._owner.subscribed(self)
        self.keeps_books = True

    def _on_live(self) -> None:
        self.was_live = True
        self._owner.live(self)

    def _on_lost(self, reason: str) -> None:
        self.control.fail_all(reason)
        for group in self.groups():
            group.on_lost()
        self.keeps_books = False
        self._core.leave(self.index)
        self._owner.lost(self, reason)
        self.was_live = False

    def _make_listener(self, on_disconnected: Callable[[object], None]) -> FeedListener:
        return FeedListener(self._core, link=self.index, on_disconnected=on_disconnected)

    def _send(self, message: bytes) -> None:
        self.manager.send(message)
