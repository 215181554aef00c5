"""How long messages wait inside the exchange: a histogram of fixed size."""

from __future__ import annotations

import math
from itertools import accumulate
from typing import Final

STEPS: Final = 20  # per decade
DECADES: Final = 6  # from 10 µs to 10 s
FLOOR_S: Final = 1e-5


class LagHistogram:
    """Percentiles are right to 12 %: the width of a step."""

    def __init__(self) -> None:
        self._counts = [0] * (STEPS * DECADES + 1)
        self.count = 0

    def add(self, seconds: float) -> None:
        step = math.ceil(math.log10(seconds / FLOOR_S) * STEPS) if seconds > FLOOR_S else 0
        self._counts[min(step, STEPS * DECADES)] += 1
        self.count += 1

    def percentile_ms(self, share: float) -> float:
        """Upper edge of the step that holds the percentile; 0 if nothing was measured."""
        if not self.count:
            return 0.0
        wanted = self.count * share
        step = next(at for at, counted in enumerate(accumulate(self._counts)) if counted >= wanted)
        return round(FLOOR_S * 10 ** (step / STEPS) * 1e3, 3)

    def view(self) -> dict[str, float]:
        return {f"p{share:g}": self.percentile_ms(share / 100) for share in (50, 90, 99, 99.9)}
