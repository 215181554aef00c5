"""What the exchange says against what we booked. The exchange wins; every difference is explained or named.

Order of trust: fills still on their way are waited for, fills the stream never brought are read from the
archive, and what then remains is taken over as it is.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from nadofast.backfill import to_fill
from nadofast.errors import ExchangeError, NadoError
from nadofast.gateway import OrderGateway, OutcomeKind
from nadofast.models import OpenOrder, SubaccountInfo
from nadofast.orders import OrderTracker, TrackedOrder
from nadofast.rest import Rest
from nadofast.wire import Code

from .ledger import Ledger
from .units import NS_PER_MS

# Fill events usually arrive before the answer over REST; 0.3 s covers a depth batch and a busy loop.
FILLS_POLLS: Final = 30
POLL_S: Final = 0.01
ARCHIVE_LIMIT: Final = 100
RESOLVE_TIMEOUT_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Reconciled:
    """The exchange's positions in the order asked for. cash_x18: quote balance plus the products' v_quote.

    drifts_x18: what had to be taken over (exchange minus ledger), zero when all was explained.
    from_archive: fills the stream had not brought. resting: own orders on the books, if asked for.
    """

    positions_x18: tuple[int, ...]
    cash_x18: int
    equity_x18: int
    drifts_x18: tuple[int, ...]
    from_archive: int
    resting: int
    took_ms: float


class Reconciler:
    """Compares and repairs. Owned by one loop; every call is bounded by the REST deadline."""

    def __init__(
        self,
        rest: Rest,
        gateway: OrderGateway,
        ledger: Ledger,
        tracker: OrderTracker,
        *,
        subaccount: str,
        product_ids: tuple[int, ...],
    ) -> None:
        self._rest = rest
        self._gateway = gateway
        self._ledger = ledger
        self._tracker = tracker
        self._subaccount = subaccount
        self._product_ids = product_ids
        self.drift_count = 0

    @property
    def rest(self) -> Rest:
        return self._rest

    def booked_x18(self, product_id: int) -> int:
        """Signed position of the ledger."""
        return self._ledger.position_x18(product_id)

    async def position_x18(self, product_id: int) -> int:
        """The exchange's signed position. Raises what REST raises."""
        return (await self.read()).position_x18(product_id)

    async def resting(self, product_id: int) -> list[OpenOrder]:
        """Orders of the account on this book. Raises what REST raises."""
        return await self._rest.subaccount_orders(self._subaccount, product_id)

    async def read(self) -> SubaccountInfo:
        return await self._rest.subaccount_info(self._subaccount)

    async def verify(self, marks_x18: Mapping[int, int], *, with_orders: bool = False) -> Reconciled:
        """Positions by REST against the ledger. `marks_x18` values what has to be taken over.

        with_orders: count what rests on the books, too.

        Raises TransportError or ExchangeError when the exchange does not answer.
        """
        started_ns = time.monotonic_ns()
        resting = await self.count_resting() if with_orders else 0
        info = await self.read()
        from_archive = 0
        if not self._agrees(info):
            await self._wait_for_fills(info)
        if not self._agrees(info):
            from_archive = await self._fills_from_archive()
        if not self._agrees(info):
            info = await self.read()  # something may have filled since the first answer
        drifts = tuple(
            self._ledger.adopt(product_id, info.position_x18(product_id), marks_x18.get(product_id, 0))
            for product_id in self._product_ids
        )
        self.drift_count += any(drifts)
        return Reconciled(
            positions_x18=tuple(info.position_x18(product_id) for product_id in self._product_ids),
            cash_x18=self._cash_x18(info),
            equity_x18=info.equity_x18,
            drifts_x18=drifts,
            from_archive=from_archive,
            resting=resting,
            took_ms=(time.monotonic_ns() - started_ns) / NS_PER_MS,
        )

    def _agrees(self, info: SubaccountInfo) -> bool:
        return all(info.position_x18(p) == self._ledger.position_x18(p) for p in self._product_ids)

    def _cash_x18(self, info: SubaccountInfo) -> int:
        quotes = (info.perp[p].v_quote_x18 for p in self._product_ids if p in info.perp)
        return info.quote_x18 + sum(quotes)

    async def count_resting(self) -> int:
        """Orders of ours on the books of the pair. Raises what REST raises."""
        lists = [await self._rest.subaccount_orders(self._subaccount, p) for p in self._product_ids]
        return sum(len(orders) for orders in lists)

    async def ask(self, order: TrackedOrder) -> None:
        """Find out how an order stands when the stream does not say, and tell the tracker.

        Not resting and nowhere in the streams: the change of the position says what it filled, because a
        product has one order of ours at a time. Its price and fee follow from the archive in `verify`.
        Raises what REST raises.
        """
        if not order.was_accepted:
            outcome = await self._gateway.resolve(order.digest, order.product_id, timeout_s=RESOLVE_TIMEOUT_S)
            if outcome.kind is not OutcomeKind.CONFIRMED:
                return
        try:
            resting = await self._rest.order(order.product_id, order.digest)
        except ExchangeError as error:
            if error.error_code != Code.ORDER_NOT_FOUND:
                raise
        else:
            self._tracker.on_resting(order.digest, resting.unfilled_x18)
            return
        before_x18, filled_x18 = self._ledger.position_x18(order.product_id), order.filled_x18
        info = await self.read()
        side = 1 if order.is_buy else -1
        moved_x18 = (info.position_x18(order.product_id) - before_x18) * side
        total_x18 = min(abs(order.amount_x18), max(order.known_filled_x18, filled_x18 + moved_x18))
        self._tracker.on_cancelled(order.digest, abs(order.amount_x18) - total_x18)

    async def _wait_for_fills(self, info: SubaccountInfo) -> None:
        for _ in range(FILLS_POLLS):
            if self._agrees(info):
                return
            await asyncio.sleep(POLL_S)

    async def _fills_from_archive(self) -> int:
        """Book the fills of our own orders that no stream brought. Returns how many were new."""
        try:
            matches = await self._rest.archive_matches(
                self._subaccount, self._product_ids, limit=ARCHIVE_LIMIT
            )
        except NadoError:
            return 0  # the archive lags or is away: the position is taken over below, its price is not known
        booked = 0
        for match in reversed(matches):
            if self._tracker.get(match.digest) is None or match.base_filled_x18 == 0:
                continue
            fill = to_fill(match)
            if self._ledger.apply(fill):
                self._tracker.on_fill(fill)
                booked += 1
        return booked
