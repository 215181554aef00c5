"""Questions that many ask at once, asked once.

When a socket is cut under forty orders, forty askers want to know what rests and what was filled. Whoever
asks while an answer is awaited shares the next question with all others that do.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Hashable, Mapping
from functools import partial
from typing import Generic, TypeVar

from .errors import NotConnected

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class _Round(Generic[K, V]):
    def __init__(self) -> None:
        self.keys: set[K] = set()
        self.answer: asyncio.Future[Mapping[K, V]] = asyncio.get_running_loop().create_future()
        # Everybody may have left before an error comes: it is nobody's then.
        self.answer.add_done_callback(lambda done: done.cancelled() or done.exception())


class SharedQuestion(Generic[K, V]):
    """ask(keys) → answers by key; what it raises reaches everybody who shared that question.

    An answer is never older than the question: nobody joins one that is already on its way.
    """

    def __init__(self, ask: Callable[[Collection[K]], Awaitable[Mapping[K, V]]]) -> None:
        self._ask = ask
        self._next: _Round[K, V] | None = None
        self._turn = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self.asked = 0
        """Questions that were sent."""

    async def get(self, key: K) -> V | None:
        """The answer about this key; None if there is none."""
        if self._next is None:
            self._next = _Round()
            # Not a part of whoever happens to be first: the others wait on when that one is cancelled.
            task = asyncio.get_running_loop().create_task(self._run(self._next))
            self._tasks.add(task)
            task.add_done_callback(partial(self._ended, self._next))
        mine = self._next
        mine.keys.add(key)
        return (await asyncio.shield(mine.answer)).get(key)

    async def _run(self, this: _Round[K, V]) -> None:
        async with self._turn:
            self._next = None
            self.asked += 1
            try:
                this.answer.set_result(await self._ask(this.keys))
            except Exception as error:
                this.answer.set_exception(error)

    def _ended(self, this: _Round[K, V], task: asyncio.Task[None]) -> None:
        """Stopped under way, before its turn or before its first step: nobody may wait for it, or join it."""
        self._tasks.discard(task)
        if self._next is this:
            self._next = None
        if not this.answer.done():
            this.answer.set_exception(NotConnected("stopped"))

    async def stop(self) -> None:
        """End the question under way; whoever waits for it gets NotConnected. It may be asked again later."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
