"""Events to their consumers: inline callbacks, and queued iterators that cannot hold each other up.

Market data is state: a queue keeps the newest. Account events and boundaries are facts: a queue keeps all of
them, and says so with an error when it cannot.
"""

from __future__ import annotations

import asyncio
import logging
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Final

from . import wire
from .errors import EventOverflow
from .events import (
    AllBBOEvent,
    BBOEvent,
    BookDepthEvent,
    BoundaryEvent,
    CandlestickEvent,
    FillEvent,
    FundingPaymentEvent,
    FundingRateEvent,
    LiquidationEvent,
    OrderUpdateEvent,
    PositionChangeEvent,
    TradeEvent,
    UnknownEvent,
)

BOUNDARY: Final = "boundary"
UNKNOWN: Final = "unknown"
KINDS: Final[dict[type, str]] = {
    BookDepthEvent: wire.BOOK_DEPTH,
    BBOEvent: wire.BEST_BID_OFFER,
    TradeEvent: wire.TRADE,
    FillEvent: wire.FILL,
    OrderUpdateEvent: wire.ORDER_UPDATE,
    PositionChangeEvent: wire.POSITION_CHANGE,
    CandlestickEvent: wire.LATEST_CANDLESTICK,
    FundingRateEvent: wire.FUNDING_RATE,
    FundingPaymentEvent: wire.FUNDING_PAYMENT,
    LiquidationEvent: wire.LIQUIDATION,
    AllBBOEvent: wire.ALL_BBO,
    BoundaryEvent: BOUNDARY,
    UnknownEvent: UNKNOWN,
}
ALL_KINDS: Final = frozenset(KINDS.values())
# Facts: every one, once. The rest is state or a public tape.
LOSSLESS: Final = frozenset(
    {wire.FILL, wire.ORDER_UPDATE, wire.POSITION_CHANGE, wire.FUNDING_PAYMENT, BOUNDARY}
)
# State: one slot per kind and product.
CONFLATED: Final = frozenset(
    {wire.BEST_BID_OFFER, wire.BOOK_DEPTH, wire.ALL_BBO, wire.FUNDING_RATE, wire.LATEST_CANDLESTICK}
)
MAX_FACTS: Final = 100_000
MAX_TAPE: Final = 10_000
SLOW_CALLBACK_NS: Final = 200_000

_log = logging.getLogger(__name__)


class EventStream:
    """Queued events of some kinds: facts first and complete, then the tape, then the newest state.

    An async iterator with one reader. It ends when the feed stops; EventOverflow if more than `max_facts`
    were waiting, after those that were kept.
    """

    def __init__(self, kinds: frozenset[str], max_facts: int = MAX_FACTS, max_tape: int = MAX_TAPE) -> None:
        self.kinds = kinds
        self.dropped = 0
        """Trades and other public events that were not read in time."""
        self._facts: deque[Any] = deque()
        self._tape: deque[Any] = deque(maxlen=max_tape)
        self._state: dict[tuple[str, int], Any] = {}
        self._max_facts = max_facts
        self._overflowed = False
        self._closed = False
        self._wake = asyncio.Event()

    def put(self, kind: str, event: Any) -> None:
        """Called by the feed; never waits."""
        if self._closed or self._overflowed:
            return
        if kind in LOSSLESS:
            if len(self._facts) >= self._max_facts:
                self._overflowed = True
            else:
                self._facts.append(event)
        elif kind in CONFLATED:
            # Re-inserting moves the slot to the end: slots leave in order of their last change.
            slot = (kind, getattr(event, "product_id", 0))
            self._state.pop(slot, None)
            self._state[slot] = event
        else:
            self.dropped += len(self._tape) == self._tape.maxlen
            self._tape.append(event)
        self._wake.set()

    def close(self) -> None:
        """No more events; the reader gets what is queued, then the end."""
        self._closed = True
        self._wake.set()

    def __aiter__(self) -> EventStream:
        return self

    async def __anext__(self) -> Any:
        while True:
            if self._facts:
                return self._facts.popleft()
            if self._overflowed:
                raise EventOverflow(f"more than {self._max_facts} account events were waiting to be read")
            if self._tape:
                return self._tape.popleft()
            if self._state:
                return self._state.pop(next(iter(self._state)))
            if self._closed:
                raise StopAsyncIteration
            self._wake.clear()
            await self._wake.wait()

    def __len__(self) -> int:
        return len(self._facts) + len(self._tape) + len(self._state)


class EventHub:
    """Who wants which kind. An exception of one consumer stops no other."""

    def __init__(self) -> None:
        self.callback_errors = 0
        self.slow_callbacks = 0
        self._callbacks: dict[str, list[Callable[[Any], object]]] = {kind: [] for kind in ALL_KINDS}
        self._streams: weakref.WeakSet[EventStream] = weakref.WeakSet()

    def on(self, kind: str, callback: Callable[[Any], object]) -> Callable[[], None]:
        """Call `callback` inline with every event of the kind. Returns a function that ends it."""
        callbacks = self._callbacks[check_kind(kind)]
        callbacks.append(callback)
        return lambda: callbacks.remove(callback) if callback in callbacks else None

    def events(self, kinds: Iterable[str], max_facts: int = MAX_FACTS) -> EventStream:
        """A queue of its own; it lives as long as its reader holds it."""
        stream = EventStream(frozenset(check_kind(kind) for kind in kinds), max_facts)
        self._streams.add(stream)
        return stream

    def publish(self, event: Any) -> None:
        """Deliver one event, callbacks first."""
        self.publish_as(KINDS[type(event)], event)

    def publish_as(self, kind: str, event: Any) -> None:
        self.run_callbacks(kind, event)
        self.queue(kind, event)

    def callbacks(self, kind: str) -> list[Callable[[Any], object]]:
        return list(self._callbacks[kind])

    def has_readers(self, kind: str) -> bool:
        return any(kind in stream.kinds for stream in self._streams)

    def run_callbacks(self, kind: str, argument: Any) -> None:
        for callback in tuple(self._callbacks[kind]):
            self.call(callback, argument)

    def queue(self, kind: str, event: Any) -> None:
        for stream in tuple(self._streams):
            if kind in stream.kinds:
                stream.put(kind, event)

    def call(self, callback: Callable[[Any], object], argument: Any) -> None:
        """Run one callback, timed, its exception counted and logged."""
        started = time.perf_counter_ns()
        try:
            callback(argument)
        except Exception:
            self.callback_errors += 1
            _log.exception("a callback failed")
        if time.perf_counter_ns() - started > SLOW_CALLBACK_NS:
            self.slow_callbacks += 1

    def close(self) -> None:
        """End every iterator."""
        for stream in tuple(self._streams):
            stream.close()


def check_kind(kind: str) -> str:
    """The kind itself. Raises ValueError on a name that does not exist: a typo must not be silent."""
    if kind not in ALL_KINDS:
        raise ValueError(f"unknown event kind {kind!r}; known: {', '.join(sorted(ALL_KINDS))}")
    return kind
