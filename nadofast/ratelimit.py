"""The exchange's weight limits kept on our side, with a reserve that only cancels and unwinds may spend.

Rolling windows: in no interval of a window's length is more than its limit spent, whatever way the
exchange counts (fixed windows, buckets). Limits as in the limits section of the API.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from .errors import ExchangeError
from .wire import CANCEL_ALL_WEIGHT, Code

Scope = Literal["execute", "query", "archive"]
_NS: Final = 1_000_000_000
_QUIET_NS: Final = _NS  # between two log lines about refusals
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Window:
    """At most `limit` weight in any `seconds`; `reserve` of it is for urgent requests only."""

    limit: int
    seconds: float
    reserve: int = 0


def _default_limits() -> dict[Scope, tuple[Window, ...]]:
    ip = (Window(2400, 60.0, 240), Window(400, 10.0, 40))
    # The dearest urgent request, a cancel of everything, must fit into what the others leave.
    execute = (Window(600, 60.0, 120), Window(100, 10.0, CANCEL_ALL_WEIGHT))
    return {"execute": execute, "query": ip, "archive": ip}


@dataclass(frozen=True, slots=True)
class LimitConfig:
    """limits: windows per scope. margin: windows are this much longer than stated, for network jitter.
    penalty_s, penalty_cap_s: pause of non-urgent requests after a rate error, doubled each time.
    reprice_share: how much of what is not reserved re-pricing may spend, so that it never crowds out entries.
    query_only_s, query_only_cap_s: the same pause once the exchange takes no executes from this address."""

    limits: Mapping[Scope, tuple[Window, ...]] = field(default_factory=_default_limits)
    margin: float = 0.03
    penalty_s: float = 1.0
    penalty_cap_s: float = 30.0
    reprice_share: float = 0.5
    query_only_s: float = 5.0
    query_only_cap_s: float = 60.0


class _Spent:
    """Weight that left inside one sliding window. Asking costs the same however much has left.

    Bounded: each entry has weight >= 1, a window never holds more than its limit, and second copies are at
    most as many as first ones.
    """

    __slots__ = ("_entries", "_length_ns", "_total", "window")

    def __init__(self, window: Window, margin: float) -> None:
        self.window = window
        self._length_ns = int(window.seconds * (1 + margin) * _NS)
        self._entries: deque[tuple[int, int]] = deque()
        self._total = 0

    def add(self, now_ns: int, weight: int) -> None:
        self._entries.append((now_ns, weight))
        self._total += weight

    def total(self, now_ns: int) -> int:
        start_ns = now_ns - self._length_ns
        while self._entries and self._entries[0][0] <= start_ns:
            self._total -= self._entries.popleft()[1]
        return self._total

    def wait_s(self, weight: int, allowed: int, now_ns: int) -> float:
        """Seconds until `weight` more is at most `allowed`: 0 now, infinite if it never is."""
        if weight > allowed:
            return float("inf")
        excess = self.total(now_ns) + weight - allowed
        if excess <= 0:
            return 0.0
        for spent_ns, spent in self._entries:
            excess -= spent
            if excess <= 0:
                return (spent_ns + self._length_ns - now_ns) / _NS
        return float("inf")


class NadoRateLimiter:
    """Weight budgets of one wallet ("execute") and one IP ("query", "archive")."""

    def __init__(
        self, config: LimitConfig | None = None, *, clock_ns: Callable[[], int] = time.monotonic_ns
    ) -> None:
        self._config = config or LimitConfig()
        self._clock_ns = clock_ns
        margin = self._config.margin
        self._spent: dict[Scope, tuple[_Spent, ...]] = {
            scope: tuple(_Spent(window, margin) for window in windows)
            for scope, windows in self._config.limits.items()
        }
        self._blocked_until_ns: dict[Scope, int] = dict.fromkeys(self._config.limits, 0)
        self._penalties: dict[Scope, int] = dict.fromkeys(self._config.limits, 0)
        self._repriced = tuple(_Spent(window, margin) for window in self._config.limits["execute"])
        self._query_only_until_ns = 0
        self._query_only_streak = 0
        self._quiet_until_ns = 0
        self.refused = 0
        self.rate_errors = 0
        self.query_only_errors = 0
        self.reprices_refused = 0

    def try_acquire(self, scope: Scope, weight: int, *, urgent: bool = False) -> bool:
        """Spend `weight` now if the budget allows it. urgent: may use the reserve and ignores a penalty."""
        wait_s = self.wait_s(scope, weight, urgent=urgent)
        if wait_s > 0:
            self._refuse(scope, weight, wait_s)
            return False
        self.note_spent(scope, weight)
        return True

    def try_reprice(self, weight: int) -> bool:
        """As try_acquire, for replacing a resting order: in no window more than `reprice_share` of what is
        not reserved."""
        now = self._clock_ns()
        for spent in self._repriced:
            window = spent.window
            allowed = int((window.limit - window.reserve) * self._config.reprice_share)
            if spent.total(now) + weight > allowed:
                self.reprices_refused += 1
                self._refuse("execute", weight, window.seconds)
                return False
        if not self.try_acquire("execute", weight):
            return False
        for spent in self._repriced:
            spent.add(now, weight)
        return True

    def _refuse(self, scope: Scope, weight: int, wait_s: float) -> None:
        self.refused += 1
        now = self._clock_ns()
        if now >= self._quiet_until_ns:
            self._quiet_until_ns = now + _QUIET_NS
            _log.warning(
                "%s budget: weight %d refused, free in %.2f s at the latest (%d refusals so far)",
                scope, weight, wait_s, self.refused,
            )  # fmt: skip

    def note_spent(self, scope: Scope, weight: int) -> None:
        """Count what leaves, whatever the budget says: the second copy of a request that got no answer."""
        now = self._clock_ns()
        for spent in self._spent[scope]:
            spent.add(now, weight)

    async def acquire(self, scope: Scope, weight: int, *, urgent: bool = False, timeout_s: float) -> bool:
        """Wait until the weight can be spent, at most `timeout_s`. False: it could not."""
        deadline_ns = self._clock_ns() + int(timeout_s * _NS)
        while True:
            wait_s = self.wait_s(scope, weight, urgent=urgent)
            if wait_s <= 0:
                self.note_spent(scope, weight)
                return True
            if wait_s > (deadline_ns - self._clock_ns()) / _NS:
                self._refuse(scope, weight, wait_s)
                return False
            await asyncio.sleep(wait_s)

    def wait_s(self, scope: Scope, weight: int, *, urgent: bool = False) -> float:
        """Seconds until `weight` could be spent: 0 now, infinite if it exceeds the limit itself."""
        now = self._clock_ns()
        wait = 0.0 if urgent else max(0.0, (self._blocked_until_ns[scope] - now) / _NS)
        for spent in self._spent[scope]:
            allowed = spent.window.limit - (0 if urgent else spent.window.reserve)
            wait = max(wait, spent.wait_s(weight, allowed, now))
        return wait

    def left(self, scope: Scope, *, urgent: bool = False) -> int:
        """Weight that could be spent now."""
        now = self._clock_ns()
        return max(
            0,
            min(
                spent.window.limit - (0 if urgent else spent.window.reserve) - spent.total(now)
                for spent in self._spent[scope]
            ),
        )

    def limit(self, scope: Scope) -> int:
        """Weight the tightest window of a scope holds when nothing is spent."""
        return min(window.limit for window in self._config.limits[scope])

    def on_rate_error(self, scope: Scope) -> float:
        """The exchange said "too many": pause non-urgent requests. Returns the pause in seconds."""
        self.rate_errors += 1
        self._penalties[scope] += 1
        ceiling = min(
            self._config.penalty_cap_s, self._config.penalty_s * 2.0 ** min(self._penalties[scope] - 1, 30)
        )
        pause_s = ceiling * random.uniform(1.0, 1.5)
        self._blocked_until_ns[scope] = self._clock_ns() + int(pause_s * _NS)
        _log.warning("too fast for the exchange (%s): %.1f s of pause for what is not urgent", scope, pause_s)
        return pause_s

    def on_query_only(self) -> float:
        """Executes over HTTP are refused to this address, questions are not. Returns the pause in seconds
        until something that is not urgent may try again."""
        self.query_only_errors += 1
        config = self._config
        ceiling = min(config.query_only_cap_s, config.query_only_s * 2.0 ** min(self._query_only_streak, 30))
        pause_s = ceiling * random.uniform(1.0, 1.5)
        self._query_only_streak += 1
        self._query_only_until_ns = self._clock_ns() + int(pause_s * _NS)
        _log.warning(
            "the exchange takes questions only from this address: %.1f s of pause over HTTP", pause_s
        )
        return pause_s

    def on_executes_taken(self) -> None:
        """An execute over HTTP came through: the address is not, or no longer, restricted."""
        self._query_only_streak = self._query_only_until_ns = 0

    @property
    def query_only_s(self) -> float:
        """Seconds for which nothing that is not urgent should go over HTTP; 0: it may."""
        return max(0.0, (self._query_only_until_ns - self._clock_ns()) / _NS)

    def stats(self) -> dict[str, Any]:
        """Counters, and weight left per scope: all of it, and without the reserve."""
        now = self._clock_ns()
        scopes = {
            scope: {
                "left": self.left(scope),
                "left_urgent": self.left(scope, urgent=True),
                "paused_s": max(0.0, (self._blocked_until_ns[scope] - now) / _NS),
            }
            for scope, windows in self._config.limits.items()
            if windows
        }
        return {
            "refused": self.refused,
            "rate_errors": self.rate_errors,
            "reprices_refused": self.reprices_refused,
            "query_only_errors": self.query_only_errors,
            "query_only_s": self.query_only_s,
            "scopes": scopes,
        }

    def on_success(self, scope: Scope) -> None:
        """A request of the scope was accepted: the next penalty starts small again."""
        self._penalties[scope] = 0

    @contextmanager
    def watch(self, scope: Scope) -> Iterator[None]:
        """Around one request: learn whether the exchange found us too fast. Exceptions pass through."""
        try:
            yield
        except ExchangeError as error:
            if error.error_code in Code.TOO_FAST:
                self.on_rate_error(scope)
            raise
        self.on_success(scope)
