"""While the stream is down: market and positions over HTTP, and the switch between the two ways.

Two ways, one truth: what HTTP says goes into the same BBOs and events, marked as such.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Final

from . import wire
from ._core import FeedCore
from .errors import NadoError
from .events import NO_ASK_X18, NO_BID_X18, PositionChangeEvent
from .models import IsolatedPosition, SubaccountInfo

if TYPE_CHECKING:
    from .rest import Rest

_NS: Final = 1_000_000_000
REST_REASON: Final = "rest"
MAX_CHANGES: Final = 256
# Weights and budget of an address, as in the limits section of the API: 2,400 a minute.
LIQUIDITY_WEIGHT: Final = wire.query_weight({"type": "market_liquidity"})
INFO_WEIGHT: Final = wire.query_weight({"type": "subaccount_info"})
ORDERS_WEIGHT: Final = wire.query_weight({"type": "subaccount_orders"})
ISOLATED_WEIGHT: Final = wire.query_weight({"type": "isolated_positions"})
QUERY_WEIGHT_PER_S: Final = 40.0
_Place = tuple[int, bool]  # product, isolated
_log = logging.getLogger(__name__)


class ConnectionMode(Enum):
    """Where a function of the feed (market data, account events) gets its news from."""

    WEBSOCKET = "websocket"
    REST = "rest"


@dataclass(frozen=True, slots=True)
class FallbackConfig:
    """down_s: the stream may be gone for so long before HTTP takes over. up_s: it must be back for so long
    before it is trusted alone. poll_s: pause between two polls, longer where their weight would exceed
    query_share of the address's budget. positions_every, orders_every: positions, and resting orders, are
    asked for after so many such pauses. audit_s: between two comparisons of the account with the exchange
    while its stream is live. market_age_s, account_age_s: without any WebSocket, what was read of the market,
    or of the account, is good for so long after the question."""

    down_s: float = 0.5
    up_s: float = 1.0
    poll_s: float = 0.2
    positions_every: int = 1
    orders_every: int = 5
    query_share: float = 0.5
    audit_s: float = 30.0
    market_age_s: float = 2.0
    account_age_s: float = 5.0


@dataclass(frozen=True, slots=True)
class ModeChange:
    """One switch. began_ns: monotonic time at which the old way failed (or the stream came back).
    lasted_s: how long the mode before it was in force."""

    function: str
    mode: ConnectionMode
    reason: str
    began_ns: int
    at_ns: int
    lasted_s: float


class ModeSwitch:
    """WEBSOCKET or REST for one function, with hysteresis. Sans-I/O. Starts as WEBSOCKET; is_rest_only: REST
    from the beginning, and for ever."""

    def __init__(
        self, config: FallbackConfig, function: str = "market", *, is_rest_only: bool = False
    ) -> None:
        self._config = config
        self._is_rest_only = is_rest_only
        self.function = function
        self.mode = ConnectionMode.REST if is_rest_only else ConnectionMode.WEBSOCKET
        self.switches = 0
        self.rest_s = 0.0
        """Seconds spent on REST, up to the last switch."""
        self.changes: deque[ModeChange] = deque(maxlen=MAX_CHANGES)
        self._other_since_ns: int | None = None
        self._mode_since_ns: int | None = None

    def update(self, is_stream_up: bool, now_ns: int, reason: str = "") -> ModeChange | None:
        """The change, if the mode changed now. reason: why the stream is not up."""
        if self._mode_since_ns is None:
            self._mode_since_ns = now_ns
        if self._is_rest_only:
            return None
        wanted = ConnectionMode.WEBSOCKET if is_stream_up else ConnectionMode.REST
        if wanted is self.mode:
            self._other_since_ns = None
            return None
        if self._other_since_ns is None:
            self._other_since_ns = now_ns
        patience_s = self._config.up_s if is_stream_up else self._config.down_s
        if now_ns - self._other_since_ns < patience_s * _NS:
            return None
        change = ModeChange(
            self.function,
            wanted,
            "the stream is back" if is_stream_up else reason or "the stream is down",
            self._other_since_ns,
            now_ns,
            (now_ns - self._mode_since_ns) / _NS,
        )
        if is_stream_up:
            self.rest_s += change.lasted_s
        self.mode = wanted
        self.switches += 1
        self.changes.append(change)
        self._mode_since_ns = now_ns
        self._other_since_ns = None
        return change

    def rest_total_s(self, now_ns: int) -> float:
        """Seconds spent on REST so far."""
        if self.mode is ConnectionMode.WEBSOCKET or self._mode_since_ns is None:
            return self.rest_s
        return self.rest_s + (now_ns - self._mode_since_ns) / _NS


class RestPoller:
    """Polls BBOs into the core, and positions into events when they differ from what is known.

    on_book(product_id): a whole book was read, because there is no stream that could keep one; the core's
    book says whether it is valid. None: only BBOs are read.
    """

    def __init__(
        self,
        core: FeedCore,
        rest: Rest,
        product_ids: Sequence[int],
        subaccount: str | None,
        *,
        on_position: Callable[[PositionChangeEvent], None],
        exchange_now_ns: Callable[[], int],
        config: FallbackConfig,
        on_book: Callable[[int], None] | None = None,
    ) -> None:
        self._core = core
        self._on_book = on_book
        self._rest = rest
        self._products = tuple(product_ids)
        self._subaccount = subaccount
        self._on_position = on_position
        self._exchange_now_ns = exchange_now_ns
        self._config = config
        self._positions: dict[_Place, int] = {}
        self._told_ns: dict[_Place, int] = {}
        self.uses_isolated = False
        self.polls = 0
        self.failures = 0
        self.market_asked_ns: dict[int, int] = {}
        """Product → monotonic time of the newest question about its market whose answer was taken."""
        self.account_asked_ns = 0

    def on_stream_position(self, event: PositionChangeEvent) -> None:
        """Remember what the stream said last, and when, so that only news is reported."""
        self.uses_isolated |= event.isolated
        place = (event.product_id, event.isolated)
        self._positions[place] = event.amount_x18
        self._told_ns[place] = time.monotonic_ns()

    async def poll_market(self, product_id: int) -> None:
        """One question about one product. A failure is counted; the next one tries again."""
        self.polls += 1
        try:
            await self._poll_product(product_id)
        except NadoError as error:
            self._failed(error)

    async def poll_account(self) -> None:
        """One round of positions. A failure is counted; the next round tries again."""
        if self._subaccount is None:
            return
        self.polls += 1
        try:
            await self._poll_positions(self._subaccount)
        except NadoError as error:
            self._failed(error)

    def _failed(self, error: NadoError) -> None:
        self.failures += 1
        _log.info("fallback poll: %s", error)

    def pause_s(self, *, market: bool, account: bool) -> float:
        """Until the next round: poll_s, or longer so that polling leaves most of the budget to others."""
        weight = float(len(self._products) * LIQUIDITY_WEIGHT) if market else 0.0
        if account and self._subaccount is not None:
            weight += INFO_WEIGHT + (ISOLATED_WEIGHT if self.uses_isolated else 0)
            weight += (INFO_WEIGHT + len(self._products) * ORDERS_WEIGHT) / self._config.orders_every
        return max(self._config.poll_s, weight / (QUERY_WEIGHT_PER_S * self._config.query_share))

    async def _poll_product(self, product_id: int) -> None:
        asked_ns = time.monotonic_ns()
        depth = 1 if self._on_book is None else wire.MAX_SNAPSHOT_LEVELS
        snapshot = await self._rest.market_liquidity(product_id, depth)
        if asked_ns < self.market_asked_ns.get(product_id, 0):
            return
        if self._on_book is not None:
            # Refused because it is older than the book, or crossed: then nothing was read. What is shown
            # grows old, and once it has expired whatever comes first is loaded.
            self._core.begin(product_id, keep=True)
            if not self._core.load_snapshot(product_id, snapshot.bids, snapshot.asks, snapshot.timestamp_ns):
                self.failures += 1
                _log.info("fallback poll: the snapshot of product %s was refused", product_id)
                self._on_book(product_id)
                return
        self.market_asked_ns[product_id] = asked_ns
        bid, bid_qty = snapshot.bids[0] if snapshot.bids else (NO_BID_X18, 0)
        ask, ask_qty = snapshot.asks[0] if snapshot.asks else (NO_ASK_X18, 0)
        self._core.seed_bbo(
            product_id,
            bid,
            ask,
            bid_qty_x18=bid_qty,
            ask_qty_x18=ask_qty,
            timestamp_ns=snapshot.timestamp_ns,
            now_ns=asked_ns,
        )
        if self._on_book is not None:
            self._on_book(product_id)

    async def _poll_positions(self, subaccount: str) -> None:
        asked_ns, timestamp_ns = time.monotonic_ns(), self._exchange_now_ns()
        info = await self._rest.subaccount_info(subaccount)
        self.take_info(info, asked_ns, timestamp_ns)
        if self.uses_isolated:
            positions = await self._rest.isolated_positions(subaccount)
            self.take_isolated(positions, asked_ns, timestamp_ns)
        self.account_asked_ns = asked_ns

    def take_info(self, info: SubaccountInfo, asked_ns: int, timestamp_ns: int) -> None:
        """Cross positions as asked for at asked_ns (monotonic): what differs from the last word is news."""
        for product_id in self._products:
            if (balance := info.perp.get(product_id)) is not None:
                self._take(
                    (product_id, False),
                    info.subaccount,
                    balance.amount_x18,
                    balance.v_quote_x18,
                    asked_ns,
                    timestamp_ns,
                )

    def take_isolated(self, positions: list[IsolatedPosition], asked_ns: int, timestamp_ns: int) -> None:
        """As take_info, for isolated positions; one that is not listed is closed."""
        held = {position.product_id: position for position in positions}
        for product_id in self._products:
            place, position = (product_id, True), held.get(product_id)
            if position is not None:
                self._take(
                    place,
                    position.subaccount,
                    position.amount_x18,
                    position.v_quote_x18,
                    asked_ns,
                    timestamp_ns,
                )
            elif self._positions.get(place):
                self._take(place, self._subaccount or "", 0, 0, asked_ns, timestamp_ns)

    def know(self, info: SubaccountInfo) -> None:
        """Positions of the beginning: nothing about them is news."""
        for product_id in self._products:
            if (balance := info.perp.get(product_id)) is not None:
                self._positions.setdefault((product_id, False), balance.amount_x18)

    def _take(
        self,
        place: _Place,
        subaccount: str,
        amount_x18: int,
        v_quote_x18: int,
        asked_ns: int,
        timestamp_ns: int,
    ) -> None:
        # What the stream has said since the question is newer than the answer.
        if self._told_ns.get(place, 0) >= asked_ns:
            return
        known = self._positions.get(place, 0)
        self._positions[place] = amount_x18
        if known != amount_x18:
            self._on_position(
                PositionChangeEvent(
                    product_id=place[0],
                    timestamp_ns=timestamp_ns,
                    subaccount=subaccount,
                    isolated=place[1],
                    amount_x18=amount_x18,
                    v_quote_amount_x18=v_quote_x18,
                    reason=REST_REASON,
                )
            )
