"""WEBSOCKET first, REST behind it: the way orders take, and the news of them that comes back.

Left alone it follows the sockets: an order leaves by the best one that is up, and over HTTP while there is
none. It can also be told, for a maintenance of the sockets or a roll-back; either switch loses nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from typing import TYPE_CHECKING, ClassVar, Final

from .errors import RequestTimeout
from .fallback import ConnectionMode
from .orders import TrackedOrder
from .waiting import wait_event

if TYPE_CHECKING:
    from .gateway import OrderGateway

POLL_S: Final = 0.3  # one look is at most 11 weight, whatever the number of orders
MAX_CHANGED: Final = 10_000  # orders with news that nobody has fetched
_log = logging.getLogger(__name__)


class NadoConnectionMode:
    """The mode of one gateway. Feeds have modes of their own (`Feed.mode`, `Feed.account_mode`)."""

    WEBSOCKET: ClassVar[ConnectionMode] = ConnectionMode.WEBSOCKET
    REST: ClassVar[ConnectionMode] = ConnectionMode.REST

    def __init__(self, gateway: OrderGateway) -> None:
        self._gateway = gateway
        self._lanes = gateway.lanes
        self._changed: OrderedDict[str, TrackedOrder] = OrderedDict()
        self._news = asyncio.Event()
        self._leave = gateway.tracker.on_change(self._on_change)
        self.switches = 0
        """How often it was told to change."""
        self.missed = 0
        """News of orders that nobody fetched before 10,000 others had some; the tracker still knows them."""

    def close(self) -> None:
        """Stop collecting updates."""
        self._leave()

    def get_current_mode(self) -> ConnectionMode:
        """By which way the next order would leave."""
        return self._gateway.mode

    async def switch_to_rest(self, timeout_s: float = 5.0) -> None:
        """Send over HTTP from now on. Returns once nothing is under way on the sockets, which stay up.

        Raises RequestTimeout if something still is after timeout_s; the switch holds all the same.
        """
        if not self._lanes.is_held:
            self._lanes.is_held = True
            self.switches += 1
            _log.warning("orders go over HTTP: told to")
        try:
            async with asyncio.timeout(timeout_s):
                await self._lanes.wait_idle()
        except TimeoutError:
            raise RequestTimeout(f"requests still under way after {timeout_s} s") from None

    async def switch_to_websocket(self, timeout_s: float = 5.0) -> None:
        """Let orders leave by a socket again. Returns once one would take the next.

        Raises RequestTimeout if none is up in time: orders go over HTTP until one is.
        """
        if self._lanes.is_held:
            self._lanes.is_held = False
            self.switches += 1
            _log.warning("orders go by socket again: told to")
        if not await self._lanes.wait_up(timeout_s):
            raise RequestTimeout(f"no order socket within {timeout_s} s")

    async def get_update(self, timeout_s: float) -> TrackedOrder:
        """The next order about which something new is known, changed longest ago first.

        From the stream and the answers as they come; while in REST mode the exchange is asked, too. An order
        that changed several times since the last call is told once, as it is now. Raises RequestTimeout.
        """
        try:
            async with asyncio.timeout(timeout_s):
                while not self._changed:
                    self._news.clear()
                    is_news = await wait_event(self._news, POLL_S)
                    if not is_news and self.get_current_mode() is ConnectionMode.REST:
                        await self._gateway.refresh()
        except TimeoutError:
            raise RequestTimeout(f"no news of any order within {timeout_s} s") from None
        return self._changed.popitem(last=False)[1]

    def _on_change(self, order: TrackedOrder) -> None:
        self._changed.setdefault(order.digest, order)
        if len(self._changed) > MAX_CHANGED:
            self._changed.popitem(last=False)
            self.missed += 1
        self._news.set()
