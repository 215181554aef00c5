"""A queue between one source and one reader, bounded by count and age.

Market data is state: the newest waits. Account events are facts: all of them wait, and those there was no
room for are found again before anything newer is told, or the reader is told that they are gone.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

from .errors import EventOverflow
from .events import AllBBOEvent, BoundaryEvent
from .gap import Gap
from .kinds import ALL_KINDS, BOUNDARY, PRIORITIES, Priority, kind_of
from .waiting import wait_event

EVENTS_LOST: Final = "events_lost"
_NS: Final = 1_000_000_000
_NOTHING: Final = object()
Recover = Callable[[Gap], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class QueueLimits:
    """max_facts, fact_age_s: account events that may wait, and the longest one of them may. max_tape,
    tape_age_s: the same of public events, where the oldest give way. State is bounded by the products."""

    max_facts: int = 100_000
    fact_age_s: float = 300.0
    max_tape: int = 10_000
    tape_age_s: float = 30.0


@dataclass(frozen=True, slots=True)
class QueueStats:
    """How far behind a reader is. lost: facts there was no room for; recovered: those told later after all,
    found again or replaced by a newer word. dropped: public events; conflated: states nobody saw."""

    name: str
    facts: int
    tape: int
    state: int
    most_facts: int
    oldest_ms: float
    overflows: int
    lost: int
    recovered: int
    dropped: int
    conflated: int


class NadoMessageQueue:
    """Events of some kinds, by priority: facts first and complete, then the tape, then the newest state.

    An async iterator with one reader; it ends after `close`, when everything was read. recover(gap): finds
    the fills again that there was no room for, or raises EventOverflow. on_overflow() runs inline when facts
    do not fit, and when such fills are given up.

    A reader that fell behind gets what had been kept, then BoundaryEvent "events_lost" (if it reads
    boundaries), the fills it missed, and the newest word on every order and position it missed; then what
    came after. If the fills cannot be found now, the read raises a retryable EventOverflow and the next one
    tries again. If they never can be, one read raises it (not retryable, `missing` names them), and the next
    ones tell the same, without them.
    """

    def __init__(
        self,
        kinds: frozenset[str] = ALL_KINDS,
        limits: QueueLimits | None = None,
        *,
        name: str = "",
        recover: Recover | None = None,
        on_overflow: Callable[[], object] | None = None,
    ) -> None:
        self.kinds = kinds
        self.name = name or ",".join(sorted(kinds))
        self.limits = limits or QueueLimits()
        self._recover = recover
        self._on_overflow = on_overflow
        self._facts: deque[tuple[int, Any]] = deque()
        self._tape: deque[tuple[int, Any]] = deque()
        self._state: dict[tuple[str, int], Any] = {}
        self._gap: Gap | None = None
        """Behind every fact that waits."""
        self._closing: Gap | None = None
        """Before every fact that waits."""
        self.is_closed = False
        self._wake = asyncio.Event()
        self._has_read = asyncio.Event()
        self._most_facts = self._overflows = self._lost = self._recovered = 0
        self._dropped = self._conflated = 0

    # ------------------------------------------------------------------ in

    def put(self, kind: str, event: Any, priority: Priority | None = None) -> None:
        """For a source that must not wait. What does not fit is dealt with as its priority demands: that of
        the kind if None."""
        if not self.is_closed:
            priority = PRIORITIES[kind] if priority is None else priority
            self._put(priority, kind, event, time.monotonic_ns())

    async def enqueue(
        self, message: Any, priority: Priority | None = None, *, timeout_s: float = 5.0
    ) -> None:
        """For a source that can wait: nothing gives way, the caller waits until there is room.

        priority: that of the message's kind if None. Raises EventOverflow if there is none in time and the
        message was not taken, RuntimeError after `close`, ValueError on a kind this queue is not for.
        """
        kind = kind_of(message)
        if kind not in self.kinds:
            raise ValueError(f"this queue does not take {kind}")
        priority = PRIORITIES[kind] if priority is None else priority
        deadline_ns = time.monotonic_ns() + int(timeout_s * _NS)
        while True:
            now = time.monotonic_ns()
            if self.is_closed:
                raise RuntimeError("the queue is closed")
            if self._has_room(priority, now):
                self._put(priority, kind, message, now)
                return
            self._has_read.clear()
            if now >= deadline_ns or not await wait_event(self._has_read, (deadline_ns - now) / _NS):
                raise EventOverflow(f"no room in queue {self.name} within {timeout_s} s", retryable=True)

    def close(self) -> None:
        """No more events; the reader gets what is queued, then the end."""
        self.is_closed = True
        self._wake.set()
        self._has_read.set()

    # ------------------------------------------------------------------ out

    async def dequeue(self) -> Any:
        """The next event, once there is one. Raises StopAsyncIteration at the end, and EventOverflow."""
        while True:
            if self._closing is None and self._gap is not None and not self._facts:
                self._closing, self._gap = self._gap, None
            if self._closing is not None:
                await self._close_gap(self._closing)
            event = self._pop()
            if event is not _NOTHING:
                return event
            if self.is_closed and self._gap is None:
                raise StopAsyncIteration
            self._wake.clear()
            await self._wake.wait()

    async def process_batch(self, batch_size: int) -> list[Any]:
        """What there is, at most batch_size events, as soon as there is one; [] at the end."""
        if batch_size < 1:
            raise ValueError("batch_size is at least 1")
        try:
            batch = [await self.dequeue()]
        except StopAsyncIteration:
            return []
        while len(batch) < batch_size and self._closing is None and not (self._gap and not self._facts):
            event = self._pop()
            if event is _NOTHING:
                break
            batch.append(event)
        return batch

    def __aiter__(self) -> NadoMessageQueue:
        return self

    async def __anext__(self) -> Any:
        return await self.dequeue()

    # ------------------------------------------------------------------ state

    def get_queue_size(self) -> int:
        """Events that wait."""
        return len(self._facts) + len(self._tape) + len(self._state)

    def __len__(self) -> int:
        return self.get_queue_size()

    def stats(self) -> QueueStats:
        """What waits, and what has become of the rest."""
        heads = [lane[0][0] for lane in (self._facts, self._tape) if lane]
        return QueueStats(
            name=self.name,
            facts=len(self._facts),
            tape=len(self._tape),
            state=len(self._state),
            most_facts=self._most_facts,
            oldest_ms=(time.monotonic_ns() - min(heads)) / 1e6 if heads else 0.0,
            overflows=self._overflows,
            lost=self._lost,
            recovered=self._recovered,
            dropped=self._dropped,
            conflated=self._conflated,
        )

    # ------------------------------------------------------------------ parts

    def _put(self, priority: Priority, kind: str, event: Any, now_ns: int) -> None:
        if priority is Priority.ACCOUNT:
            self._put_fact(event, now_ns)
        elif priority is Priority.STATE:
            self._put_state(kind, event)
        else:
            self._expire_tape(now_ns)
            if len(self._tape) >= self.limits.max_tape:
                self._tape.popleft()
                self._dropped += 1
            self._tape.append((now_ns, event))
        self._wake.set()

    def _has_room(self, priority: Priority, now_ns: int) -> bool:
        if priority is Priority.STATE:
            return True
        if priority is Priority.TAPE:
            return len(self._tape) < self.limits.max_tape
        return (
            self._gap is None
            and len(self._facts) < self.limits.max_facts
            and (not self._facts or now_ns - self._facts[0][0] <= self.limits.fact_age_s * _NS)
        )

    def _put_fact(self, event: Any, now_ns: int) -> None:
        if self._has_room(Priority.ACCOUNT, now_ns):
            self._facts.append((now_ns, event))
            self._most_facts = max(self._most_facts, len(self._facts))
            return
        self._lost += 1
        began = self._gap is None
        if self._gap is None:
            self._gap = Gap()
            self._overflows += 1
        self._gap.add(event)
        if began and self._on_overflow is not None:
            self._on_overflow()

    def _put_state(self, kind: str, event: Any) -> None:
        # Re-inserting moves the slot to the end: slots leave in order of their last change.
        slot = (kind, getattr(event, "product_id", 0))
        before = self._state.pop(slot, None)
        if before is not None:
            self._conflated += 1
            if isinstance(event, AllBBOEvent) and isinstance(before, AllBBOEvent):
                # One message may hold a part of the products: the others keep their last word.
                event = AllBBOEvent(event.time_ms, before.bbos | event.bbos)
        self._state[slot] = event

    def _expire_tape(self, now_ns: int) -> None:
        oldest_ns = now_ns - int(self.limits.tape_age_s * _NS)
        while self._tape and self._tape[0][0] < oldest_ns:
            self._tape.popleft()
            self._dropped += 1

    def _pop(self) -> Any:
        """The first event by priority, _NOTHING if none waits."""
        self._has_read.set()
        if self._facts:
            return self._facts.popleft()[1]
        self._expire_tape(time.monotonic_ns())
        if self._tape:
            return self._tape.popleft()[1]
        if self._state:
            return self._state.pop(next(iter(self._state)))
        return _NOTHING

    async def _close_gap(self, gap: Gap) -> None:
        """Find what was missed and put it before everything that came since. Raises EventOverflow."""
        try:
            await self._read_again(gap)
        except EventOverflow as error:
            if self.is_closed or not error.retryable:
                self._put_in_place(gap)  # said once; nobody will find the others any more
                if error.missing and self._on_overflow is not None:
                    self._on_overflow()
            raise
        self._put_in_place(gap)

    async def _read_again(self, gap: Gap) -> None:
        if gap.is_hopeless or (gap.missing and self._recover is None):
            raise EventOverflow(
                f"{gap.events} account events were not read in time: more than {self.limits.max_facts}"
                f" waited, or one for longer than {self.limits.fact_age_s} s",
                lost=gap.events,
            )
        if gap.missing:
            assert self._recover is not None
            await self._recover(gap)

    def _put_in_place(self, gap: Gap) -> None:
        news = [*gap.found(), *gap.newest()]
        if news and BOUNDARY in self.kinds:
            reason = f"{gap.events} events were not read in time; what follows stands for them"
            if gap.is_hopeless or gap.missing:
                reason += ", without what cannot be found"
            news.insert(0, BoundaryEvent(EVENTS_LOST, reason, monotonic_ns=time.monotonic_ns()))
        now = time.monotonic_ns()
        self._facts.extendleft((now, event) for event in reversed(news))
        self._recovered += 0 if gap.is_hopeless else gap.events - len(gap.missing)
        self._closing = None
