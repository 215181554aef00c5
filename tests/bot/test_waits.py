"""Questions that are put again while nobody answers: bounded in number, and the first answer counts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from bot.waits import hedged
from nadofast.errors import ExchangeError, NadoError, NotConnected, RequestTimeout

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
