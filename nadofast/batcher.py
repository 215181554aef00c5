"""Messages in batches: one is handed on when it is full, or when its oldest message has waited enough."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

T = TypeVar("T")
_log = logging.getLogger(__name__)


class NadoMessageBatcher(Generic[T]):
    """Collects messages and gives them to `handler` as lists, in order and one list at a time.

    batch_size: messages that make a batch full. timeout_s: the longest a message waits for others.
    handler_timeout_s: a handler that takes longer is cancelled. A batch is given once: if its handler fails,
    whoever flushed gets the exception; where nobody waits, as after a flush by age, on_error(batch, error)
    does, or the log. ValueError on sizes and times that are not positive.
    """

    def __init__(
        self,
        handler: Callable[[list[T]], Awaitable[object]],
        *,
        batch_size: int,
        timeout_s: float,
        handler_timeout_s: float = 5.0,
        on_error: Callable[[list[T], Exception], object] | None = None,
    ) -> None:
        if batch_size < 1 or timeout_s <= 0 or handler_timeout_s <= 0:
            raise ValueError("batch_size is at least 1 and the times are positive")
        self._handler = handler
        self._batch_size = batch_size
        self._timeout_s = timeout_s
        self._handler_timeout_s = handler_timeout_s
        self._on_error = on_error
        self._waiting: list[T] = []
        self._timer: asyncio.TimerHandle | None = None
        self._turn = asyncio.Lock()
        self._handing: set[asyncio.Task[Exception | None]] = set()
        self._is_closed = False
        self.batches = 0
        self.messages = 0
        self.failures = 0

    async def add_message(self, message: T) -> None:
        """Take a message; the one that fills the batch waits until the batch is handled.

        That is the back-pressure: who adds faster than the handler works waits for it. RuntimeError after
        `close`.
        """
        if self._is_closed:
            raise RuntimeError("the batcher is closed")
        self._waiting.append(message)
        if len(self._waiting) >= self._batch_size:
            await self.flush_batch()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._timeout_s, self._is_old)

    async def flush_batch(self) -> int:
        """Hand on what waits now; how many it were. Raises what the handler raises, and TimeoutError.

        A caller that is cancelled does not take the batch with it.
        """
        batch = self._take()
        if not batch:
            return 0
        handing = self._hand_on(batch)
        try:
            error = await asyncio.shield(handing)
        except asyncio.CancelledError:
            handing.add_done_callback(lambda done: self._report(batch, done))
            raise
        if error is not None:
            raise error
        return len(batch)

    def get_batch_size(self) -> int:
        """Messages that wait now."""
        return len(self._waiting)

    async def close(self) -> None:
        """Hand on what waits, wait for what is being handled, and take no more. Raises as `flush_batch`."""
        self._is_closed = True
        try:
            await self.flush_batch()
        finally:
            await asyncio.gather(*self._handing)

    def _take(self) -> list[T]:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        batch, self._waiting = self._waiting, []
        return batch

    def _is_old(self) -> None:
        batch = self._take()
        self._hand_on(batch).add_done_callback(lambda done: self._report(batch, done))

    def _hand_on(self, batch: list[T]) -> asyncio.Task[Exception | None]:
        # Tasks begin in the order they are made, and the lock is fair: batches stay in order.
        handing = asyncio.get_running_loop().create_task(self._handle(batch))
        self._handing.add(handing)
        handing.add_done_callback(self._handing.discard)
        return handing

    async def _handle(self, batch: list[T]) -> Exception | None:
        async with self._turn:
            self.batches += 1
            self.messages += len(batch)
            try:
                async with asyncio.timeout(self._handler_timeout_s):
                    await self._handler(batch)
            except Exception as error:
                self.failures += 1
                return error
        return None

    def _report(self, batch: list[T], done: asyncio.Task[Exception | None]) -> None:
        """Nobody waits for this batch: its failure must not go unseen."""
        if done.cancelled() or (error := done.result()) is None:
            return
        if self._on_error is not None:
            self._on_error(batch, error)
        else:
            _log.error("a batch of %d messages failed", len(batch), exc_info=error)
