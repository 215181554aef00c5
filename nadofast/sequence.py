"""When to ask for a book snapshot, and when to give up. Sans-I/O: the caller tells the time.

The compiled book decides continuity and buffers deltas; this file only paces the questions. Numbers S1…S10
are the rules of book synchronisation in ARCHITECTURE.md.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

_NS: Final = 1_000_000_000


@dataclass(frozen=True, slots=True)
class SyncConfig:
    """retry_s: before asking again when a snapshot was too old; depth batches come about every 50 ms.
    error_base_s, error_cap_s: jittered back-off after a failed request. budget: most snapshots in any
    budget_window_s over all products, half of them at once and the others as time passes; one costs weight 1
    of the 400 that an address may spend in 10 s. What may be asked at once is for checks of books that may
    well be right by half only. give_up_s: a product without a valid book for so long, on a link that is up,
    means that the link is bad."""

    retry_s: float = 0.06
    error_base_s: float = 0.1
    error_cap_s: float = 3.0
    budget: int = 80
    budget_window_s: float = 10.0
    give_up_s: float = 15.0


@dataclass(slots=True)
class _Need:
    since_ns: int
    not_before_ns: int
    reason: str
    asked: bool = False
    failures: int = 0


class SnapshotPlanner:
    """Needs per product: wanted, asked, answered. A burst of gaps is one need (S6)."""

    def __init__(
        self,
        product_ids: Iterable[int],
        config: SyncConfig | None = None,
        rng: random.Random | None = None,
    ) -> None:
        self._config = config or SyncConfig()
        self._rng = rng or random.Random()
        self._products = tuple(product_ids)
        self._needs: dict[int, _Need] = {}
        half = self._config.budget / 2
        self._burst = max(1.0, half)
        self._per_ns = half / (self._config.budget_window_s * _NS)
        self._left = self._burst
        self._left_at_ns: int | None = None
        self.asked = 0
        self.checked = 0
        self.failed = 0
        self.coalesced = 0

    def need(self, product_id: int, reason: str, now_ns: int) -> None:
        """A snapshot is needed: a gap, a crossed book, a new connection, the horizon."""
        if product_id not in self._products:
            raise KeyError(product_id)
        if product_id in self._needs:
            self.coalesced += 1
        else:
            self._needs[product_id] = _Need(since_ns=now_ns, not_before_ns=now_ns, reason=reason)

    def reset(self, product_ids: Iterable[int] | None = None) -> None:
        """The link of these products, or of all, is gone: nothing can be joined until a new generation
        begins (S7)."""
        for product_id in self._products if product_ids is None else product_ids:
            self._needs.pop(product_id, None)

    def needs(self, product_id: int) -> bool:
        return product_id in self._needs

    def next_product(self, now_ns: int) -> int | None:
        """The product to ask for now, longest waiting first; None if none is due or the budget is spent."""
        if self._budget_wait_ns(now_ns) > 0:
            return None
        due = [
            (need.since_ns, product_id)
            for product_id, need in self._needs.items()
            if not need.asked and need.not_before_ns <= now_ns
        ]
        return min(due)[1] if due else None

    def wait_s(self, now_ns: int) -> float | None:
        """Seconds until `next_product` may have one; None if nothing is waiting."""
        waiting = [need.not_before_ns for need in self._needs.values() if not need.asked]
        if not waiting:
            return None
        return max(0, min(waiting) - now_ns, self._budget_wait_ns(now_ns)) / _NS

    def on_asked(self, product_id: int, now_ns: int) -> None:
        need = self._needs.get(product_id)
        if need is not None:
            need.asked = True
        self._spend(now_ns)
        self.asked += 1

    def room_for_checks(self, now_ns: int) -> int:
        """How many snapshots may be taken now only to see whether a silent book is still right."""
        self._refill(now_ns)
        kept = self._burst / 2 if self._burst >= 2 else 0.0  # of one there is no half
        return max(0, int(self._left - kept))

    def on_checked(self, now_ns: int) -> None:
        """One such snapshot is asked for: it comes out of the same budget."""
        self._spend(now_ns)
        self.checked += 1

    def on_loaded(self, product_id: int, is_valid: bool, now_ns: int) -> None:
        """The answer was joined. Not valid: it was older than what is buffered, take a newer one (S4)."""
        need = self._needs.get(product_id)
        if need is None:
            return
        if is_valid:
            del self._needs[product_id]
        else:
            need.asked = False
            need.not_before_ns = now_ns + int(self._config.retry_s * _NS)

    def on_failed(self, product_id: int, now_ns: int) -> None:
        """The request failed: ask again after a jittered, growing wait."""
        self.failed += 1
        need = self._needs.get(product_id)
        if need is None:
            return
        ceiling = min(self._config.error_cap_s, self._config.error_base_s * 2.0 ** min(need.failures, 30))
        need.failures += 1
        need.asked = False
        need.not_before_ns = now_ns + int(self._rng.uniform(ceiling / 2, ceiling) * _NS)

    def hopeless(self, now_ns: int) -> tuple[int, str] | None:
        """A product that could not be synchronised for too long, and why its link should be replaced."""
        for product_id, need in self._needs.items():
            if now_ns - need.since_ns > self._config.give_up_s * _NS:
                return product_id, (
                    f"product {product_id} not synchronised for {self._config.give_up_s} s ({need.reason})"
                )
        return None

    def _budget_wait_ns(self, now_ns: int) -> int:
        self._refill(now_ns)
        return 0 if self._left >= 1 else math.ceil((1 - self._left) / self._per_ns)

    def _spend(self, now_ns: int) -> None:
        self._refill(now_ns)
        self._left -= 1

    def _refill(self, now_ns: int) -> None:
        if self._left_at_ns is not None:
            self._left = min(self._burst, self._left + (now_ns - self._left_at_ns) * self._per_ns)
        self._left_at_ns = now_ns
