"""Figures from raw samples."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable

BLOCK = 64


def percentile(samples: list[int], percent: float) -> int:
    """Nearest-rank percentile of raw samples; never below the true one."""
    ordered = sorted(samples)
    rank = max(-(-len(ordered) * percent // 100), 1)
    return ordered[int(rank) - 1]


def ns_per_message(call: Callable[[bytes], object], messages: list[bytes]) -> float:
    """Of the median block of messages: what interrupts one block does not count.

    A block is brought into the cache before the clock runs, as a socket brings it.
    """
    took = []
    gc.collect()
    gc.disable()
    try:
        for first in range(0, len(messages), BLOCK):
            block = messages[first : first + BLOCK]
            b"".join(block)
            start = time.perf_counter_ns()
            for message in block:
                call(message)
            took.append((time.perf_counter_ns() - start) / len(block))
    finally:
        gc.enable()
    return statistics.median(took)


def interleaved(runs: int, *contenders: Callable[[], float]) -> list[list[float]]:
    """Figures of every contender, in turn; noise hits neighbours alike."""
    rounds = [[contender() for contender in contenders] for _ in range(runs)]
    return [list(figures) for figures in zip(*rounds, strict=True)]


def ratio(slow: list[float], fast: list[float]) -> float:
    """Median of the ratios of neighbouring runs."""
    return statistics.median(a / b for a, b in zip(slow, fast, strict=True))
