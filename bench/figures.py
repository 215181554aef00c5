"""Figures from raw samples."""

from __future__ import annotations


def percentile(samples: list[int], percent: float) -> int:
    """Nearest-rank percentile of raw samples; never below the true one."""
    ordered = sorted(samples)
    rank = max(-(-len(ordered) * percent // 100), 1)
    return ordered[int(rank) - 1]
