"""Candles of every granularity, built from the trades as they happen."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

GRANULARITIES_S: Final = (60, 300, 900, 3600, 7200, 14_400, 86_400, 604_800, 2_419_200)
KEPT: Final = 2_000  # newest per product and granularity


@dataclass(slots=True)
class Candle:
    """One bucket. submission_idx: of the last trade in it. volume_x18: base."""

    product_id: int
    granularity_s: int
    start_s: int
    open_x18: int
    high_x18: int
    low_x18: int
    close_x18: int
    volume_x18: int
    submission_idx: int


class Candles:
    """Buckets without a trade do not exist."""

    def __init__(self) -> None:
        self._candles: dict[tuple[int, int], deque[Candle]] = {}

    def trade(
        self, product_id: int, price_x18: int, quantity_x18: int, time_s: int, submission_idx: int
    ) -> None:
        for granularity_s in GRANULARITIES_S:
            series = self._candles.get((product_id, granularity_s))
            if series is None:
                series = self._candles[product_id, granularity_s] = deque(maxlen=KEPT)
            start_s = time_s - time_s % granularity_s
            candle = series[-1] if series else None
            if candle is None or candle.start_s != start_s:
                series.append(
                    Candle(
                        product_id,
                        granularity_s,
                        start_s,
                        price_x18,
                        price_x18,
                        price_x18,
                        price_x18,
                        quantity_x18,
                        submission_idx,
                    )
                )
                continue
            if price_x18 > candle.high_x18:
                candle.high_x18 = price_x18
            elif price_x18 < candle.low_x18:
                candle.low_x18 = price_x18
            candle.close_x18 = price_x18
            candle.volume_x18 += quantity_x18
            candle.submission_idx = submission_idx

    def latest(self, product_id: int, granularity_s: int) -> Candle | None:
        series = self._candles.get((product_id, granularity_s))
        return series[-1] if series else None

    def newest_first(self, product_id: int, granularity_s: int) -> Iterator[Candle]:
        return reversed(self._candles.get((product_id, granularity_s), ()))
