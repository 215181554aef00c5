"""Depth batches: what changed in each book since the last one, chained by the timestamps of the engine.

The chain belongs to the product, not to a subscriber: everybody sees the same one, and a client that lost a
batch can tell.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from .engine import SideName
from .exchange import Exchange

DEPTH_INTERVAL_S: Final = 0.05


@dataclass(slots=True)
class _Batch:
    """Levels of one product that changed since the last depth batch."""

    min_ns: int
    max_ns: int
    levels: set[tuple[SideName, int]]


class DepthBatches:
    """Collects changed levels and turns them into events."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._batches: dict[int, _Batch] = {}
        self._last_max_ns: dict[int, int] = {}

    def collect(self, product_id: int, levels: set[tuple[SideName, int]], timestamp_ns: int) -> None:
        batch = self._batches.get(product_id)
        if batch is None:
            self._batches[product_id] = _Batch(timestamp_ns, timestamp_ns, set(levels))
        else:
            batch.max_ns = timestamp_ns
            batch.levels |= levels

    def restart(self) -> None:
        """A new engine: the next batch of each product begins a chain."""
        self._batches.clear()
        self._last_max_ns.clear()

    def flush(self) -> list[dict[str, Any]]:
        """One event for each product whose book changed since the last call."""
        batches, self._batches = self._batches, {}
        return [self._event(product_id, batch) for product_id, batch in batches.items()]

    def _event(self, product_id: int, batch: _Batch) -> dict[str, Any]:
        last_max_ns = self._last_max_ns.get(product_id, 0)
        self._last_max_ns[product_id] = batch.max_ns
        return {
            "type": "book_depth",
            "last_max_timestamp": str(last_max_ns),
            "min_timestamp": str(batch.min_ns),
            "max_timestamp": str(batch.max_ns),
            "product_id": product_id,
            "bids": self._totals(product_id, batch, "bids"),
            "asks": self._totals(product_id, batch, "asks"),
        }

    def _totals(self, product_id: int, batch: _Batch, side: SideName) -> list[tuple[str, str]]:
        """[price, new total] of one side's changed levels, best first; total 0 removes the level."""
        prices = sorted((price for at, price in batch.levels if at == side), reverse=side == "bids")
        return [(str(price), str(self._exchange.level(product_id, side, price))) for price in prices]
