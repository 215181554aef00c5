"""Events to their consumers: inline callbacks, and queues that cannot hold each other up."""

from __future__ import annotations

import inspect
import logging
import time
import weakref
from collections.abc import Callable, Iterable
from itertools import chain, count
from typing import Any, Final

from .appendix import unpack_appendix
from .callbacks import enlist
from .events import FillEvent, OrderUpdateEvent, PositionChangeEvent
from .kinds import ALL_KINDS, check_kind, kind_of
from .messagequeue import NadoMessageQueue, QueueLimits, QueueStats, Recover

SLOW_CALLBACK_NS: Final = 200_000
COLD_CALLBACK_NS: Final = 2_000_000
WARN_EVERY_NS: Final = 10_000_000_000
NAMES_KEPT: Final = 64
WALLET_DIGITS: Final = 42
"""Characters of a subaccount that name its wallet, "0x" included."""
Handler = Callable[[Any], object]
_log = logging.getLogger(__name__)


class NadoEventRouter:
    """Who wants which kind. An exception, or the slowness, of one consumer stops no other.

    subaccount: whose account events are ours; None takes all. recover, on_overflow: for the queues, see
    NadoMessageQueue.
    """

    def __init__(
        self,
        subaccount: str | None = None,
        *,
        recover: Recover | None = None,
        on_overflow: Callable[[], object] | None = None,
    ) -> None:
        self.callback_errors = 0
        self.slow_callbacks = 0
        self.slowest_callback_ns = 0
        self.foreign_events = 0
        """Account events of another subaccount, which were delivered to nobody."""
        self._subaccount = None if subaccount is None else subaccount.lower()
        self._recover = recover
        self._on_overflow = on_overflow
        self._handlers: dict[str, list[Handler]] = {kind: [] for kind in ALL_KINDS}
        self._queues: weakref.WeakSet[NadoMessageQueue] = weakref.WeakSet()
        self._warned_ns: dict[str, int] = {}

    # ------------------------------------------------------------------ consumers

    def register_handler(self, event_type: str | type, handler: Handler) -> Callable[[], None]:
        """Call `handler` inline with every event of a kind, given by name or class. Returns its end.

        ValueError on an unknown kind; TypeError on a coroutine function, which belongs at the end of a queue.
        """
        if inspect.iscoroutinefunction(handler):
            raise TypeError("an inline callback is a plain function; read a queue where you have to wait")
        return enlist(self._handlers[check_kind(event_type)], handler)

    def events(
        self, kinds: Iterable[str | type], limits: QueueLimits | None = None, *, name: str = ""
    ) -> NadoMessageQueue:
        """A queue of its own; it lives as long as its reader holds it. name: its kinds if none is given; a
        number follows one that is taken."""
        queue = NadoMessageQueue(
            frozenset(check_kind(kind) for kind in kinds),
            limits,
            name=name,
            recover=self._recover,
            on_overflow=self._on_overflow,
        )
        taken = {other.name for other in self._queues}
        names = chain([queue.name], (f"{queue.name} {number}" for number in count(2)))
        queue.name = next(name for name in names if name not in taken)
        self._queues.add(queue)
        return queue

    def callbacks(self, kind: str) -> list[Handler]:
        """Those registered for a kind, in their order."""
        return list(self._handlers[kind])

    def has_readers(self, kind: str) -> bool:
        """Whether a queue wants this kind."""
        return any(kind in queue.kinds for queue in self._queues)

    # ------------------------------------------------------------------ events

    def filter_events(self, event: Any) -> bool:
        """Whether an event is public or our own subaccount's; that of an isolated position may be named by an
        id of its own, of the same wallet. Order updates carry no subaccount: they come for one only."""
        subaccount = self._subaccount
        if subaccount is None or not isinstance(event, FillEvent | PositionChangeEvent):
            return True
        if event.subaccount == subaccount:
            return True
        if isinstance(event, FillEvent):
            isolated = unpack_appendix(event.appendix).isolated
        else:
            isolated = event.isolated
        return isolated and event.subaccount[:WALLET_DIGITS] == subaccount[:WALLET_DIGITS]

    def is_ours(self, event: FillEvent | OrderUpdateEvent | PositionChangeEvent) -> bool:
        """As filter_events; what is not ours is counted."""
        ours = self.filter_events(event)
        self.foreign_events += not ours
        return ours

    async def route_event(self, event: Any, *, timeout_s: float = 5.0) -> bool:
        """Deliver one event for a source that can wait: queues without room are waited for.

        False: it is another subaccount's. Raises EventOverflow for a queue that has no room in time; the
        others have the event by then.
        """
        if not self.is_ours(event):
            return False
        kind = kind_of(event)
        self.run_callbacks(kind, event)
        full: Exception | None = None
        for queue in tuple(self._queues):
            if kind in queue.kinds:
                try:
                    await queue.enqueue(event, timeout_s=timeout_s)
                except Exception as error:
                    full = error
        if full is not None:
            raise full
        return True

    def publish(self, event: Any) -> None:
        """Deliver one event, callbacks first; never waits."""
        self.publish_as(kind_of(event), event)

    def publish_as(self, kind: str, event: Any) -> None:
        """`publish` for an event whose kind is not its type."""
        self.run_callbacks(kind, event)
        self.queue(kind, event)

    def run_callbacks(self, kind: str, argument: Any) -> None:
        """Call the callbacks of a kind; none disturbs another."""
        for handler in tuple(self._handlers[kind]):
            self.call(handler, argument)

    def queue(self, kind: str, event: Any) -> None:
        """Put an event into every queue that wants its kind."""
        for queue in tuple(self._queues):
            if kind in queue.kinds:
                queue.put(kind, event)

    def call(self, handler: Handler, argument: Any) -> None:
        """Run one callback, timed, its exception counted and logged."""
        started = time.perf_counter_ns()
        try:
            handler(argument)
        except Exception as error:
            self.failed(error)
        self.took(handler, time.perf_counter_ns() - started)

    def failed(self, error: Exception) -> None:
        """Count and log what a callback raised."""
        self.callback_errors += 1
        _log.error("a callback failed", exc_info=error)

    def took(self, handler: Handler, took_ns: int) -> None:
        """Note the time of one callback; a slow one is warned of by name, now and then. The first call of one
        runs code that nothing has warmed: it is counted, and warned of when it took really long."""
        if took_ns <= SLOW_CALLBACK_NS:
            return
        self.slow_callbacks += 1
        self.slowest_callback_ns = max(self.slowest_callback_ns, took_ns)
        name, now = getattr(handler, "__qualname__", repr(handler)), time.monotonic_ns()
        warned_ns = self._warned_ns.get(name)
        is_cold = warned_ns is None and took_ns < COLD_CALLBACK_NS
        if warned_ns is not None and now - warned_ns < WARN_EVERY_NS:
            return
        if len(self._warned_ns) >= NAMES_KEPT:
            del self._warned_ns[next(iter(self._warned_ns))]
        self._warned_ns[name] = now - WARN_EVERY_NS if is_cold else now
        if is_cold:
            return
        _log.warning(
            "callback %s took %d µs: every message behind it waited (%d slow ones so far)",
            name,
            took_ns // 1_000,
            self.slow_callbacks,
        )

    # ------------------------------------------------------------------ state

    def stats(self) -> list[QueueStats]:
        """Of every queue that still has a reader."""
        return sorted((queue.stats() for queue in tuple(self._queues)), key=lambda stats: stats.name)

    def close(self) -> None:
        """End every iterator."""
        for queue in tuple(self._queues):
            queue.close()
