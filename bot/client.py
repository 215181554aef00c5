"""`NadoClient`: one product's exchange interface. It cannot be built without a gate.

Both clients of the pair are views on one feed and one gateway: two products, one set of sockets, which belong
to the composition root. The client by parts: `client_parts` (what it stands on), `client_market`,
`client_orders`, `client_routing`, and here its connection and the updates of its orders.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import time
from collections.abc import Callable
from decimal import Decimal
from typing import Any, Final

from nadofast.depthsignals import NadoBookDepthHandler
from nadofast.errors import EventOverflow, RequestTimeout
from nadofast.messagequeue import NadoMessageQueue
from nadofast.signals import NadoBBOHandler
from nadofast.waiting import wait_event

from .client_parts import ClientConfig, UpdateHandler
from .client_routing import RoutingNames
from .order_results import OrderUpdate, update_of

__all__ = ["ClientConfig", "NadoClient"]

CONNECT_TIMEOUT_S: Final = 10.0
ACCOUNT_POLL_S: Final = 0.01
OVERFLOW_PAUSE_S: Final = 0.5
_KINDS: Final = ("fill", "order_update")
_log = logging.getLogger(__name__)

FillHandler = Callable[[str, Decimal, Decimal, int], object]
"""(order_id, filled_size, price, timestamp in ns), once per fill."""


class NadoClient(RoutingNames):
    """The client as strategies use it. Methods take and give Decimals; an order's id is its digest."""

    _updates: NadoMessageQueue | None = None
    _update_task: asyncio.Task[None] | None = None
    handler_errors = 0
    """Exceptions of order handlers: logged, and they reach nobody else."""

    # ------------------------------------------------------------------ connection

    async def connect(self, timeout_s: float = CONNECT_TIMEOUT_S) -> None:
        """WebSocket first: streams live, account signed in, books valid, contract attributes known, signals
        of this product running. Raises RequestTimeout saying what is missing."""
        await self.connect_websocket(timeout_s)
        await self._streams().wait_synced(timeout_s)
        await self.get_contract_attributes()
        if self._bbo_handler is None:
            feed, product_id = self._streams(), self.product.product_id
            self._bbo_handler = NadoBBOHandler(product_id)
            self._depth_handler = NadoBookDepthHandler(feed.book(product_id))
            self._leave.append(feed.on("best_bid_offer", self._bbo_handler.on_bbo))
            self._leave.append(feed.on("boundary", self._bbo_handler.on_boundary))
            self._leave.append(feed.on("book_depth", self._depth_handler.on_book_depth))

    async def disconnect(self) -> None:
        """Forget the handlers of this client; the shared sockets stay up for the other one."""
        while self._leave:
            self._leave.pop()()
        self._bbo_handler = self._depth_handler = None
        self._handlers.clear()
        task, self._update_task = self._update_task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        if self._updates is not None:
            self._updates.close()

    async def connect_websocket(self, timeout_s: float = CONNECT_TIMEOUT_S) -> None:
        """Open the stream socket if nobody has, and wait until it is live and signed in."""
        await self._streams().start()
        await self._ws_reconnect(timeout_s)
        await self._authenticate_websocket(timeout_s)

    @property
    def _ws_connected(self) -> bool:
        """A stream socket is up. False from the moment its loss is seen."""
        return self._streams().get_connection_status()["websocket"] != "disconnected"

    async def _ws_reconnect(self, timeout_s: float = CONNECT_TIMEOUT_S) -> None:
        """Wait until the stream is live. It comes back by itself, for ever, with a jittered exponential pause
        between two attempts. Raises RequestTimeout."""
        await self._until(lambda: self._streams().is_live, timeout_s, "the market stream")

    async def _authenticate_websocket(self, timeout_s: float = CONNECT_TIMEOUT_S) -> None:
        """Wait until the account streams are signed in and acknowledged, which happens on every new socket.
        Raises RequestTimeout."""
        await self._until(lambda: self._streams().account_live, timeout_s, "the account stream")

    async def _until(self, is_so: Callable[[], bool], timeout_s: float, what: str) -> None:
        changed = asyncio.Event()
        off = self._streams().on("boundary", lambda _: changed.set())
        deadline_s = time.monotonic() + timeout_s
        try:
            while not is_so():
                if time.monotonic() >= deadline_s:
                    raise RequestTimeout(f"{what} is not live in {timeout_s:g} s")
                changed.clear()
                await wait_event(changed, ACCOUNT_POLL_S)  # not every change is a boundary: look now and then
        finally:
            off()

    def get_connection_status(self) -> dict[str, str]:
        """websocket: connected | degraded | disconnected. rest: available | absent. mode: where market data
        comes from now. account: live | down. orders: the way of the next one, ws | ws_v1 | rest."""
        feed = self._streams()
        return {
            **feed.get_connection_status(),
            "mode": feed.mode.value,
            "account": "live" if feed.account_live else "down",
            "orders": self._gateway.path,
        }

    def get_connection_metrics(self) -> dict[str, Any]:
        """Those of the feed, and `orders`: counters of requests by path and their round trip."""
        return {**self._streams().get_connection_metrics(), "orders": self._gateway.stats()}

    def get_connection_health(self) -> dict[str, Any]:
        """status (healthy | degraded | down), latency (ms), uptime (0 to 1), failover_count."""
        return self._streams().get_connection_health()

    # ------------------------------------------------------------------ updates of orders

    def setup_order_update_handler(self, handler: FillHandler) -> None:
        """Call handler(order_id, filled_size, price, timestamp_ns) on every fill of this product."""

        def on_update(update: OrderUpdate) -> object:
            if update.price is None:  # no fill
                return None
            return handler(update.order_id, update.filled_size, update.price, update.timestamp_ns)

        self._listen(on_update)

    async def subscribe_to_orders(
        self, callback: UpdateHandler, timeout_s: float = CONNECT_TIMEOUT_S
    ) -> None:
        """Call `callback(update)` on everything that happens to orders of this account on this product, once
        the subscription is acknowledged. In the exchange's order, each fact once; it may be a coroutine
        function, and is waited for before the next update."""
        self._listen(callback)
        await self._authenticate_websocket(timeout_s)

    def _listen(self, handler: UpdateHandler) -> None:
        self._handlers.append(handler)
        if self._update_task is None or self._update_task.done():
            self._updates = self._streams().events(_KINDS)
            self._update_task = asyncio.get_running_loop().create_task(
                self._ws_message_handler(), name=f"orders of {self.product.symbol}"
            )

    async def _ws_message_handler(self) -> None:
        """Hand what the account stream says of this product to the handlers, until the feed stops."""
        while self._updates is not None:
            try:
                async for event in self._updates:
                    update = update_of(event) if event.product_id == self.product.product_id else None
                    if update is not None:
                        await self._tell(update)
                return
            except EventOverflow as error:  # fell behind; the queue fetches what was missed, or says again
                _log.error("%s: %s", self.product.symbol, error)
                await asyncio.sleep(OVERFLOW_PAUSE_S)

    async def _tell(self, update: OrderUpdate) -> None:
        for handler in tuple(self._handlers):
            try:
                answer = handler(update)
                if inspect.isawaitable(answer):
                    await answer
            except Exception:
                self.handler_errors += 1
                _log.exception("%s: an order handler failed", self.product.symbol)
