"""Limits in time on a machine that does other things besides: what code can do is what it did at its best."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

TRIES = 6


async def quickest(attempt: Callable[[], Awaitable[float]], limit_s: float) -> float:
    """Seconds of the first attempt that keeps to the limit; each returns what it took, and checks all else.

    AssertionError with every figure if none of them does: a code that is too slow is so every time.
    """
    took_s: list[float] = []
    while len(took_s) < TRIES:
        took_s.append(await attempt())
        if took_s[-1] < limit_s:
            return took_s[-1]
    raise AssertionError(f"never within {limit_s} s: {', '.join(f'{took:.3f}' for took in took_s)}")
