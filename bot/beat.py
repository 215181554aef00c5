"""Moments that everybody in the process knows, so that work for several readers is done once."""

from __future__ import annotations

import time


def until_beat_s(every_s: float, *, after_s: float = 0.0) -> float:
    """Seconds until `after_s` past the next multiple of `every_s`, by the monotonic clock.

    A timer may fire a little early: a beat that is nearer than a quarter of the period counts as this one,
    and the next is waited for.
    """
    left_s = every_s - (time.monotonic() - after_s) % every_s
    return left_s if left_s > every_s / 4 else left_s + every_s
