"""Account events complete: after every break, and now and then, they are compared with the exchange.

The stream replays nothing. What was missed shows in what the exchange says now: positions that fills do not
explain, orders that rest or do not. The missing fills come from the archive, the ends of orders from the list
of those that rest. Only then is the account stream trusted again.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from . import wire
from .backfill import FillBackfill
from .errors import NadoError
from .events import FillEvent, OrderUpdateEvent, PositionChangeEvent
from .fillledger import FillLedger
from .models import OpenOrder, SubaccountInfo
from .waiting import wait_event

if TYPE_CHECKING:
    from .fallback import RestPoller
    from .rest import Rest

_NS: Final = 1_000_000_000
MAX_KNOWN_ORDERS: Final = 10_000
_FILLED: Final = wire.REASON_FILLED
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class AuditConfig:
    """looks_s: pauses before each comparison until everything is explained; after the last one the exchange's
    word is taken as it is. audit_s: between two comparisons of a stream that is trusted. settle_s: a position
    of the stream may be ahead of its fills for so long. pause_s: least time between two audits."""

    looks_s: tuple[float, ...] = (0.0, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 3.0)
    audit_s: float = 30.0
    settle_s: float = 0.15
    pause_s: float = 1.0


class OrderWatch:
    """Resting orders as the stream told them, and what a list of the exchange adds. Sans-I/O."""

    def __init__(self) -> None:
        self._open: dict[str, tuple[OrderUpdateEvent, int]] = {}
        self._gone: dict[str, None] = {}
        self.recovered = 0

    def on_stream(self, update: OrderUpdateEvent, now_ns: int) -> bool:
        """False: the news was told already, out of a query."""
        if update.digest in self._gone:
            return False
        if update.reason == wire.REASON_CANCELLED or update.amount_x18 == 0:
            self._end(update.digest)
            return True
        known = self._open.get(update.digest)
        if known is not None and known[0].amount_x18 <= abs(update.amount_x18):
            return False
        self._open[update.digest] = (update, now_ns)
        return True

    def on_fill(self, fill: FillEvent, now_ns: int) -> None:
        known = self._open.get(fill.order_digest)
        if known is not None:
            self._open[fill.order_digest] = (known[0], now_ns)

    def compare(
        self,
        listed: Sequence[OpenOrder],
        left_x18: Callable[[str], int | None],
        asked_ns: int,
        timestamp_ns: int,
    ) -> list[OrderUpdateEvent]:
        """What the stream did not tell. listed: the orders that rest now, asked for at asked_ns (monotonic).

        left_x18(digest): what is left of an order by its newest fill, None without one.
        """
        news = []
        resting = {order.digest: order for order in listed}
        for digest, (last, since_ns) in self._open.items():
            if since_ns >= asked_ns:
                continue
            left = abs(resting[digest].unfilled_x18) if digest in resting else None
            if left is None and left_x18(digest) == 0:
                news.append(replace(last, timestamp_ns=timestamp_ns, amount_x18=0, reason=_FILLED))
            elif left is None:
                news.append(replace(last, timestamp_ns=timestamp_ns, reason=wire.REASON_CANCELLED))
            elif left < abs(last.amount_x18):
                news.append(replace(last, timestamp_ns=timestamp_ns, amount_x18=left, reason=_FILLED))
        for order in listed:
            if order.digest not in self._open and order.digest not in self._gone:
                left, product_id = abs(order.unfilled_x18), order.product_id
                news.append(
                    OrderUpdateEvent(
                        product_id, timestamp_ns, order.digest, left, wire.REASON_PLACED, order.id
                    )
                )
        return news

    def told(self, update: OrderUpdateEvent, asked_ns: int) -> None:
        """The news out of a query was published: the stream's own word comes too late."""
        self.recovered += 1
        if update.reason == wire.REASON_CANCELLED or update.amount_x18 == 0:
            self._end(update.digest)
        else:
            self._open[update.digest] = (update, asked_ns)

    def _end(self, digest: str) -> None:
        """Nothing about it is news from here on: not a list from before, not a word that comes late."""
        self._open.pop(digest, None)
        self._gone[digest] = None
        if len(self._gone) > MAX_KNOWN_ORDERS:
            del self._gone[next(iter(self._gone))]


@dataclass(frozen=True, slots=True)
class _Look:
    info: SubaccountInfo
    orders: list[OpenOrder]
    asked_ns: int
    timestamp_ns: int


class AccountSync:
    """Compares the account with the exchange and publishes what the stream left out.

    is_stream_up(): whether the account streams are acknowledged on a live link. on_trusted() runs inline when
    an audit is done. `is_trusted`: since the streams are up, everything was explained once.
    """

    def __init__(
        self,
        rest: Rest,
        subaccount: str,
        product_ids: Sequence[int],
        publish: Callable[[Any], None],
        *,
        backfill: FillBackfill,
        poller: RestPoller,
        is_stream_up: Callable[[], bool],
        on_trusted: Callable[[], None],
        exchange_now_ns: Callable[[], int],
        config: AuditConfig,
    ) -> None:
        self._rest = rest
        self._subaccount = subaccount
        self._products = tuple(product_ids)
        self._publish = publish
        self._backfill = backfill
        self._poller = poller
        self._is_stream_up = is_stream_up
        self._on_trusted = on_trusted
        self._exchange_now_ns = exchange_now_ns
        self._config = config
        self._ledger = FillLedger()
        self._orders = OrderWatch()
        self._left: dict[str, int] = {}
        self._wanted = asyncio.Event()
        self._lost = asyncio.Event()
        self._generation = 0
        self.has_base = False
        """Positions have been read once: fills from here on must explain them."""
        self.is_trusted = False
        self.looked_ns = 0
        """Monotonic time of the newest question that was answered while the streams were down."""
        self._unexplained_since_ns: int | None = None  # in this outage
        self.audits = 0
        self.unexplained = 0
        """Audits that ended with positions nothing explains: a liquidation, a transfer."""

    @property
    def orders_recovered(self) -> int:
        return self._orders.recovered

    # ------------------------------------------------------------------ inline

    def on_fill(self, fill: FillEvent) -> None:
        """Every fill, whoever told it, once."""
        self._ledger.add(fill)
        self._left[fill.order_digest] = min(
            fill.remaining_qty_x18, self._left.get(fill.order_digest, fill.remaining_qty_x18)
        )
        if len(self._left) > MAX_KNOWN_ORDERS:
            del self._left[next(iter(self._left))]
        self._orders.on_fill(fill, time.monotonic_ns())

    def on_position(self, event: PositionChangeEvent) -> None:
        """A position of the stream that its fills do not explain is a sign of one that was lost."""
        if not event.isolated and not self._ledger.explains(
            event.product_id, event.amount_x18, event.v_quote_amount_x18
        ):
            self._wanted.set()

    def on_order_update(self, update: OrderUpdateEvent) -> bool:
        """Take note of an order update of the stream. False: it was told before, out of a query."""
        return self._orders.on_stream(update, time.monotonic_ns())

    def on_up(self) -> None:
        """The account streams are acknowledged: find out what happened before."""
        self._wanted.set()

    def on_lost(self) -> None:
        self.is_trusted = False
        self._unexplained_since_ns = None
        self._generation += 1
        self._lost.set()

    def want_audit(self) -> None:
        """The link has lost messages: account events may be among them."""
        self._wanted.set()

    # ------------------------------------------------------------------ the task

    async def run(self) -> None:
        """Audit when there is a reason to, and now and then without one. For ever."""
        done_ns = 0
        if not self.has_base:
            await self._read_base()
        while True:
            had_reason = await wait_event(self._wanted, self._config.audit_s)
            if had_reason and self.is_trusted:
                since_s = (time.monotonic_ns() - done_ns) / _NS
                await wait_event(self._lost, max(self._config.settle_s, self._config.pause_s - since_s))
            self._wanted.clear()
            self._lost.clear()
            if self._is_stream_up():
                await self._audit()
                done_ns = time.monotonic_ns()

    async def _read_base(self) -> None:
        """Before the stream is up: a fill made while it comes up is missed, not history."""
        try:
            info = await self._rest.subaccount_info(self._subaccount)
        except NadoError as error:
            _log.info("account audit: %s", error)
        else:
            self._begin(info)

    async def _audit(self) -> None:
        """Look until everything is explained, or the exchange's word has to be taken as it is."""
        self.audits += 1
        generation, look, news = self._generation, None, 0
        for pause_s in self._config.looks_s:
            await asyncio.sleep(pause_s)
            try:
                look = await self._look()
            except NadoError as error:
                _log.info("account audit: %s", error)
                continue
            if generation != self._generation:
                return  # whoever brings the streams back asks for an audit of his own
            if not self.has_base:
                self._begin(look.info)
            if not self._ledger.explains_all(look.info, self._products):
                self._backfill.request()
            elif news == (news := len(self._news(look))):
                # The stream had the time between two looks to tell it itself.
                self._settle(look)
                self._backfill.verified()
                return
        if look is None:
            self._wanted.set()
            return
        if not self._ledger.explains_all(look.info, self._products):
            self._take_its_word()
        self._settle(look)

    def _take_its_word(self) -> None:
        self.unexplained += 1
        _log.warning("the exchange holds positions that nothing explains; its word is taken")

    async def look_while_down(self) -> None:
        """The streams are down: tell what became of orders, once the fills that are known explain the
        positions (an order that is gone may have been filled). Fills that are missing are looked for; if they
        are not found for as long as an audit takes, the exchange's word is taken. Raises NadoError."""
        generation, look = self._generation, await self._look()
        if generation != self._generation or self._is_stream_up():
            return
        self.looked_ns = look.asked_ns
        if not self.has_base:
            self._begin(look.info)
        if self._ledger.explains_all(look.info, self._products):
            self._unexplained_since_ns = None
            self._tell(look)
            return
        self._backfill.request()
        if self._unexplained_since_ns is None:
            self._unexplained_since_ns = look.asked_ns
        elif look.asked_ns - self._unexplained_since_ns > sum(self._config.looks_s) * _NS:
            self._unexplained_since_ns = None
            self._take_its_word()
            self._tell(look)

    async def _look(self) -> _Look:
        asked_ns, timestamp_ns = time.monotonic_ns(), self._exchange_now_ns()
        # Orders first: the fills of one that is gone by then are in the positions that are read after it.
        lists = await asyncio.gather(
            *(self._rest.subaccount_orders(self._subaccount, product_id) for product_id in self._products)
        )
        info = await self._rest.subaccount_info(self._subaccount)
        return _Look(info, [order for orders in lists for order in orders], asked_ns, timestamp_ns)

    def _begin(self, info: SubaccountInfo) -> None:
        self.has_base = True
        self._poller.know(info)
        self._ledger.rebase(info, self._products)

    def _news(self, look: _Look) -> list[OrderUpdateEvent]:
        return self._orders.compare(look.orders, self._left.get, look.asked_ns, look.timestamp_ns)

    def _settle(self, look: _Look) -> None:
        """Nothing is missing any more: trust the stream."""
        self._tell(look)
        self._unexplained_since_ns = None
        self.is_trusted = True
        self._on_trusted()

    def _tell(self, look: _Look) -> None:
        """Publish what the exchange's word adds, and take it."""
        for update in self._news(look):
            self._orders.told(update, look.asked_ns)
            self._publish(update)
        self._ledger.rebase(look.info, self._products)
        self._poller.take_info(look.info, look.asked_ns, look.timestamp_ns)
