"""Questions that are put again while nobody answers: bounded in number, and the first answer counts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from types import SimpleNamespace
from typing import Any

import pytest

from bot.client import NadoClient
from bot.waits import FillWaiter, hedged
from nadofast import OrderTracker, Signer
from nadofast.errors import ExchangeError, NadoError, NotConnected, RequestTimeout

SIGNER = Signer("0x" + "3c1d" * 16, chain_id=1, endpoint_address="0x" + "00" * 20)
X18 = 10**18
AFTER_S = 0.02
SILENCE = None


def answers(*script: object) -> tuple[Callable[[], Coroutine[Any, Any, object]], list[int]]:
    """Asked for the n-th time, the n-th of these happens: a silence, an error, or an answer."""
    asked: list[int] = []

    async def ask() -> object:
        number = len(asked)
        asked.append(number)
        what = script[number]
        if what is SILENCE:
            await asyncio.sleep(60)
        if isinstance(what, Exception):
            raise what
        return what

    return ask, asked


@pytest.mark.parametrize(
    ("script", "questions"),
    [
        (("yes", "no"), 1),
        ((SILENCE, "yes"), 2),
        ((NotConnected("down"), "yes"), 2),
        ((SILENCE, RequestTimeout("late"), "yes"), 3),
    ],
)
async def test_the_first_answer_counts(script: tuple[object, ...], questions: int) -> None:
    ask, asked = answers(*script)
    async with asyncio.timeout(5):
        assert await hedged(ask, AFTER_S) == "yes"
    assert len(asked) == questions
    assert len(asyncio.all_tasks()) == 1  # nobody waits on for what came too late


@pytest.mark.parametrize(
    ("script", "questions"),
    [
        ((NotConnected("1"), NotConnected("2"), NotConnected("3")), 3),
        ((ExchangeError(2020, "not found", "order"),), 1),
        ((ValueError("a defect"),), 1),
    ],
)
async def test_what_nobody_answers_or_would_answer_otherwise_is_raised(
    script: tuple[Exception, ...], questions: int
) -> None:
    ask, asked = answers(*script)
    with pytest.raises((NadoError, ValueError), match=str(script[-1])):
        await hedged(ask, AFTER_S)
    assert len(asked) == questions


# ---------------------------------------------------------------------- a caller that has gone


async def ended(task: asyncio.Task[Any]) -> bool:
    """Whether a task that was just cancelled is, at once."""
    task.cancel()
    await asyncio.wait([task], timeout=1)
    return task.cancelled()


@pytest.mark.parametrize("turns", range(6))
async def test_a_wait_for_an_order_ends_with_its_caller(turns: int) -> None:
    """Also in the turn in which the order has news: who goes on then places the next one."""
    tracker = OrderTracker()
    order = tracker.register(
        SIGNER.sign_order(
            product_id=4, price_x18=X18, amount_x18=X18, expiration_s=2**32, nonce=1 << 62, appendix=1
        )
    )
    ask, _ = answers(SILENCE)
    task = asyncio.ensure_future(FillWaiter(tracker, lambda _: ask(), lambda: True).wait(order, 30))
    for _ in range(3):
        await asyncio.sleep(0)
    tracker.on_sent(order.digest, 5)
    for _ in range(turns):
        await asyncio.sleep(0)
    assert await ended(task)


@pytest.mark.parametrize("turns", range(6))
async def test_a_wait_for_the_stream_ends_with_its_caller(turns: int) -> None:
    news: list[Callable[[object], None]] = []
    streams = SimpleNamespace(on=lambda kind, callback: news.append(callback) or (lambda: None))
    client: Any = SimpleNamespace(_streams=lambda: streams)
    task = asyncio.ensure_future(NadoClient._until(client, lambda: False, 30, "the stream"))
    for _ in range(3):
        await asyncio.sleep(0)
    news[0](None)
    for _ in range(turns):
        await asyncio.sleep(0)
    assert await ended(task)
