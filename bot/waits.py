"""Waiting: for an order, by events and by REST while they do not come; for an answer, by asking again."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from nadofast.errors import NadoError
from nadofast.orders import OrderTracker, TrackedOrder
from nadofast.waiting import wait_event

POLL_S: Final = 0.1
SILENCE_S: Final = 0.5
MAX_ASKING: Final = 3
T = TypeVar("T")


async def first_answer(ask: Callable[[], Awaitable[T]], pause_s: float) -> T:
    """The first answer to come. While there is none the question is put again, at most MAX_ASKING times at
    once: one that got lost must not hold up the others until its deadline. After a refusal it pauses.

    Whatever is not a NadoError is raised.
    """
    asking: set[asyncio.Future[T]] = set()
    try:
        while True:
            if len(asking) < MAX_ASKING:
                asking.add(asyncio.ensure_future(ask()))
            jittered_s = pause_s * random.uniform(0.8, 1.2)
            done, asking = await asyncio.wait(asking, timeout=jittered_s, return_when=asyncio.FIRST_COMPLETED)
            answers = [task for task in done if not isinstance(task.exception(), NadoError)]
            if answers:
                return answers[0].result()
            if done:
                await asyncio.sleep(jittered_s)
    finally:
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)


async def hedged(ask: Callable[[], Awaitable[T]], after_s: float, copies: int = 3) -> T:
    """The first answer of at most `copies` equal questions, each put `after_s` after the one before unless an
    answer has come. Raises the last error when all of them failed, and at once what is not worth another try.
    """
    loop, asking = asyncio.get_running_loop(), set[asyncio.Future[T]]()
    error: BaseException | None = None
    left = copies
    try:
        while left or asking:
            if left:
                asking.add(asyncio.ensure_future(ask()))
                left -= 1
            pause_s = after_s * random.uniform(0.8, 1.2) if left else None
            done, asking = await asyncio.wait(asking, timeout=pause_s, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                if (failure := task.exception()) is None:
                    return task.result()
                if not isinstance(failure, NadoError) or not failure.retryable:
                    raise failure
                error = failure
            if done and left and pause_s is not None:
                await asyncio.sleep(pause_s)
        assert error is not None  # no copy is left and none was answered
        raise error
    finally:
        if not loop.is_closed():
            for task in asking:
                task.cancel()
            await asyncio.gather(*asking, return_exceptions=True)


class FillWaiter:
    """ask(order): put the question to the exchange over REST and let the tracker take the answer."""

    def __init__(
        self,
        tracker: OrderTracker,
        ask: Callable[[TrackedOrder], Awaitable[None]],
        is_stream_live: Callable[[], bool],
    ) -> None:
        self._tracker = tracker
        self._ask = ask
        self._is_stream_live = is_stream_live

    async def wait(self, order: TrackedOrder, timeout_s: float) -> bool:
        """Until the order has ended; True if it has. Each REST question is bounded by the time left."""
        return await self._wait(order, timeout_s, lambda: order.is_terminal, asks=True)

    async def wait_settled(self, order: TrackedOrder, timeout_s: float) -> bool:
        """Until every fill of an ended order was seen, price and fee included; True if so."""
        return await self._wait(order, timeout_s, lambda: order.is_settled, asks=False)

    async def _wait(
        self, order: TrackedOrder, timeout_s: float, is_over: Callable[[], bool], *, asks: bool
    ) -> bool:
        changed = asyncio.Event()
        leave = self._tracker.on_change(lambda one: changed.set() if one is order else None)
        deadline_s = time.monotonic() + timeout_s
        try:
            while not is_over():
                left_s = deadline_s - time.monotonic()
                if left_s <= 0:
                    return False
                changed.clear()
                pause_s = SILENCE_S if self._is_stream_live() else POLL_S
                if await wait_event(changed, min(pause_s, left_s)) or not asks:
                    continue
                with contextlib.suppress(TimeoutError, NadoError):  # no answer is no fact: asked again
                    async with asyncio.timeout(max(0.01, deadline_s - time.monotonic())):
                        await self._ask(order)
            return True
        finally:
            leave()
