"""While the stream is down: market and positions over HTTP, and the switch between the two ways.

Two ways, one truth: what HTTP says goes into the same BBOs and events, marked as such.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Final

from ._core import FeedCore
from .errors import NadoError
from .events import NO_ASK_X18, NO_BID_X18, PositionChangeEvent

if TYPE_CHECKING:
    from .rest import Rest

_NS: Final = 1_000_000_000
REST_REASON: Final = "rest"
_log = logging.getLogger(__name__)


class NadoConnectionMode(Enum):
    """Where market data comes from."""

    WEBSOCKET = "websocket"
    REST = "rest"


@dataclass(frozen=True, slots=True)
class FallbackConfig:
    """down_s: the stream may be gone for so long before HTTP takes over. up_s: it must be back for so long
    before it is trusted alone. poll_s: pause between two polls. positions_every: polls per position poll."""

    down_s: float = 0.5
    up_s: float = 1.0
    poll_s: float = 0.2
    positions_every: int = 2


class ModeSwitch:
    """WEBSOCKET or REST, with hysteresis. Sans-I/O. Starts as WEBSOCKET."""

    def __init__(self, config: FallbackConfig) -> None:
        self._config = config
        self.mode = NadoConnectionMode.WEBSOCKET
        self.switches = 0
        self._other_since_ns: int | None = None

    def update(self, is_stream_up: bool, now_ns: int) -> bool:
        """True if the mode changed now."""
        wanted = NadoConnectionMode.WEBSOCKET if is_stream_up else NadoConnectionMode.REST
        if wanted is self.mode:
            self._other_since_ns = None
            return False
        if self._other_since_ns is None:
            self._other_since_ns = now_ns
        patience_s = self._config.up_s if is_stream_up else self._config.down_s
        if now_ns - self._other_since_ns < patience_s * _NS:
            return False
        self.mode = wanted
        self.switches += 1
        self._other_since_ns = None
        return True


class RestPoller:
    """Polls BBOs into the core, and positions into events when they differ from what is known."""

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
    ) -> None:
        self._core = core
        self._rest = rest
        self._products = tuple(product_ids)
        self._subaccount = subaccount
        self._on_position = on_position
        self._exchange_now_ns = exchange_now_ns
        self._config = config
        self._positions: dict[int, int] = {}
        self._told_ns: dict[int, int] = {}
        self.polls = 0
        self.failures = 0

    def on_stream_position(self, event: PositionChangeEvent) -> None:
        """Remember what the stream said last, and when, so that only news is reported."""
        if not event.isolated:
            self._positions[event.product_id] = event.amount_x18
            self._told_ns[event.product_id] = time.monotonic_ns()

    async def poll(self) -> None:
        """One round. A failure is counted; the next round tries again."""
        work = [self._poll_bbo(product_id) for product_id in self._products]
        if self._subaccount is not None and self.polls % self._config.positions_every == 0:
            work.append(self._poll_positions(self._subaccount))
        self.polls += 1
        for error in await asyncio.gather(*work, return_exceptions=True):
            if isinstance(error, NadoError):
                self.failures += 1
                _log.info("fallback poll: %s", error)
            elif error is not None:
                raise error

    async def _poll_bbo(self, product_id: int) -> None:
        snapshot = await self._rest.market_liquidity(product_id, depth=1)
        bid, bid_qty = snapshot.bids[0] if snapshot.bids else (NO_BID_X18, 0)
        ask, ask_qty = snapshot.asks[0] if snapshot.asks else (NO_ASK_X18, 0)
        self._core.seed_bbo(
            product_id,
            bid,
            ask,
            bid_qty_x18=bid_qty,
            ask_qty_x18=ask_qty,
            timestamp_ns=snapshot.timestamp_ns,
        )

    async def _poll_positions(self, subaccount: str) -> None:
        asked_ns, timestamp_ns = time.monotonic_ns(), self._exchange_now_ns()
        info = await self._rest.subaccount_info(subaccount)
        for product_id in self._products:
            balance = info.perp.get(product_id)
            # What the stream has said since the question is newer than the answer.
            if balance is None or self._told_ns.get(product_id, 0) >= asked_ns:
                continue
            known = self._positions.get(product_id, 0)
            self._positions[product_id] = balance.amount_x18
            if known != balance.amount_x18:
                self._on_position(
                    PositionChangeEvent(
                        product_id=product_id,
                        timestamp_ns=timestamp_ns,
                        subaccount=subaccount,
                        isolated=False,
                        amount_x18=balance.amount_x18,
                        v_quote_amount_x18=balance.v_quote_x18,
                        reason=REST_REASON,
                    )
                )
