"""Market statistics since the exchange started, and snapshots of them for the archive."""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from dataclasses import dataclass, field
from typing import Any, Final

KEPT: Final = 3_000


@dataclass(slots=True)
class ProductStatistics:
    """Both sides of a match count once. volume_x18: quote. size_x18: base."""

    trades: int = 0
    volume_x18: int = 0
    size_x18: int = 0
    maker_fees_x18: int = 0
    taker_fees_x18: int = 0
    liquidated_x18: int = 0


class Statistics:
    """Counters by product."""

    def __init__(self) -> None:
        self._products: dict[int, ProductStatistics] = {}

    def of(self, product_id: int) -> ProductStatistics:
        found = self._products.get(product_id)
        if found is None:
            found = self._products[product_id] = ProductStatistics()
        return found

    def traded(
        self, product_id: int, size_x18: int, volume_x18: int, maker_fee_x18: int, taker_fee_x18: int
    ) -> None:
        product = self.of(product_id)
        product.trades += 1
        product.size_x18 += size_x18
        product.volume_x18 += volume_x18
        product.maker_fees_x18 += maker_fee_x18
        product.taker_fees_x18 += taker_fee_x18

    def liquidated(self, product_id: int, volume_x18: int) -> None:
        self.of(product_id).liquidated_x18 += volume_x18


@dataclass(slots=True)
class Snapshots:
    """Newest snapshots by time (s), as the archive shows them."""

    _times_s: deque[int] = field(default_factory=lambda: deque(maxlen=KEPT))
    _views: deque[dict[str, Any]] = field(default_factory=lambda: deque(maxlen=KEPT))

    def add(self, time_s: int, view: dict[str, Any]) -> None:
        self._times_s.append(time_s)
        self._views.append(view)

    def at(self, time_s: int) -> dict[str, Any] | None:
        """The last one taken at or before that time."""
        index = bisect_right(self._times_s, time_s)
        return self._views[index - 1] if index else None
