"""What the exchange must forget in time: expired orders, and digests that can no longer come again."""

from __future__ import annotations

import heapq
from collections.abc import Iterator

from .engine import Order


class UsedDigests:
    """Digests that reached the engine, until their recv_time makes a repeat impossible anyway."""

    def __init__(self) -> None:
        self._recv_time_ms: dict[str, int] = {}
        self._purge_at = 1024

    def __contains__(self, digest: str) -> bool:
        return digest in self._recv_time_ms

    def add(self, digest: str, recv_time_ms: int, now_ms: int) -> None:
        self._recv_time_ms[digest] = recv_time_ms
        if len(self._recv_time_ms) >= self._purge_at:
            self._recv_time_ms = {d: t for d, t in self._recv_time_ms.items() if t >= now_ms}
            self._purge_at = 1024 + 2 * len(self._recv_time_ms)


class Expiries:
    """Resting orders by expiration. Orders that ended otherwise are dropped when they surface or pile up."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, Order]] = []
        self._added = 0
        self._compact_at = 1024

    def add(self, order: Order) -> None:
        self._added += 1
        heapq.heappush(self._heap, (order.expiration_s, self._added, order))
        if len(self._heap) >= self._compact_at:
            self._heap = [entry for entry in self._heap if entry[2].end is None]
            heapq.heapify(self._heap)
            self._compact_at = 1024 + 2 * len(self._heap)

    def is_due(self, now_s: int) -> bool:
        return bool(self._heap) and self._heap[0][0] <= now_s

    def pop_due(self, now_s: int) -> Iterator[Order]:
        while self.is_due(now_s):
            order = heapq.heappop(self._heap)[2]
            if order.end is None:
                yield order
