"""How parts of a run begin and end: started with their end arranged, given up when somebody asks to stop."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack
from typing import Any, Final, TypeVar

from .logs import EventLog
from .preflight import StartError
from .shutdown import StopRequest
from .venue import Exchange

T = TypeVar("T")
CLOSE_TIMEOUT_S: Final = 3.0


async def unless_stopped(stop: StopRequest, exchange: Exchange, work: Coroutine[Any, Any, T]) -> T | None:
    """The result of `work`; None if a person asked to stop first. StartError if the exchange ended first."""
    task = asyncio.ensure_future(work)
    others = [asyncio.ensure_future(stop.asked.wait()), asyncio.ensure_future(exchange.gone.wait())]
    try:
        await asyncio.wait({task, *others}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        if exchange.gone_reason is not None:
            raise StartError(exchange.gone_reason)
        return None
    finally:
        for pending in (task, *others):
            pending.cancel()
        await asyncio.gather(task, *others, return_exceptions=True)


async def start_and_stop(
    stack: AsyncExitStack, start: Callable[[], Awaitable[object]], stop: Callable[[], Awaitable[object]]
) -> None:
    """Start a part and see to it that it is stopped, within a deadline, when the run ends."""

    async def bounded_stop() -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await stop()

    stack.push_async_callback(bounded_stop)
    await start()


def start_helper(
    stack: AsyncExitStack, work: Coroutine[Any, Any, object], *, on_failure: Callable[[str], None]
) -> None:
    """Run something beside the trading until the end. If it dies before that, `on_failure` says what of."""
    task = asyncio.ensure_future(work)

    def ended(task: asyncio.Task[object]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            on_failure(f"{type(error).__name__}: {error}")

    async def end() -> None:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    task.add_done_callback(ended)
    stack.push_async_callback(end)


def report_loop_errors(log: EventLog) -> None:
    """What a callback of the loop raised is one line, never a traceback on the terminal."""

    def handler(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        detail = f": {type(error).__name__}: {error}" if error is not None else ""
        log.event(f"warning: {context.get('message', 'loop error')}{detail}")

    asyncio.get_running_loop().set_exception_handler(handler)
