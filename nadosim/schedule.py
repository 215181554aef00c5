"""What the exchange does by the clock: expiries, hourly funding, rates, settlement, market snapshots.

Funding hours run `speed` times as fast as real ones. Nothing here waits: `run_due` is called often.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Final

from .core import Core
from .funding import HOUR_S, Funding
from .settlement import Settlement
from .x18 import NS_PER_S

RATE_INTERVAL_S: Final = 20
SNAPSHOT_INTERVAL_S: Final = 60


class Schedule:
    """take_snapshot: called once a minute, for the archive. protect: called after funding was paid."""

    def __init__(
        self,
        core: Core,
        funding: Funding,
        settlement: Settlement,
        *,
        take_snapshot: Callable[[], None],
        protect: Callable[[], object],
        seed: int = 0,
    ) -> None:
        self._core = core
        self._funding = funding
        self._settlement = settlement
        self._take_snapshot = take_snapshot
        self._protect = protect
        self._rng = Random(seed)
        self._start_ns = core.clock.true_ns()
        self._hour = self._market_s() // HOUR_S
        self._rate_due_s = self._start_ns // NS_PER_S + RATE_INTERVAL_S
        self._snapshot_due_s = self._start_ns // NS_PER_S + SNAPSHOT_INTERVAL_S
        self._settle_due_ns = self._start_ns + self._settle_pause_ns()

    def run_due(self) -> None:
        """Everything whose time has come. A clock that jumped pays one hour of funding, not every one."""
        self._core.expire()
        now_s = self._core.clock.true_ns() // NS_PER_S
        hour = self._market_s() // HOUR_S
        if hour > self._hour:
            self._hour = hour
            self.pay_hour()
        if now_s >= self._rate_due_s:
            self._rate_due_s = now_s + RATE_INTERVAL_S
            with self._core.step():
                self._funding.announce_rates()
        if now_s >= self._snapshot_due_s:
            self._snapshot_due_s = now_s + SNAPSHOT_INTERVAL_S
            self._take_snapshot()
        if self._core.config.settle_interval_s and self._core.clock.true_ns() >= self._settle_due_ns:
            self._settle_due_ns = self._core.clock.true_ns() + self._settle_pause_ns()
            self._settle_somebody()

    def pay_hour(self) -> None:
        with self._core.step():
            self._funding.settle(HOUR_S)
        self._protect()

    def next_hour_s(self) -> int:
        """When the next funding is paid (s), by the clock that clients see."""
        left_s = HOUR_S - self._market_s() % HOUR_S
        return self._core.clock.now_ns() // NS_PER_S + max(1, round(left_s / self._core.config.speed))

    def _market_s(self) -> int:
        """Exchange time: real time at the start, then `speed` times as fast."""
        passed_ns = self._core.clock.true_ns() - self._start_ns
        return (self._start_ns + int(passed_ns * self._core.config.speed)) // NS_PER_S

    def _settle_pause_ns(self) -> int:
        mean_s = self._core.config.settle_interval_s
        return int(self._rng.expovariate(1 / mean_s) * NS_PER_S) if mean_s else 0

    def _settle_somebody(self) -> None:
        """Losers of the house first, so that there is something to pay winners from."""
        holders = [account for account in self._core.accounts if account.perps]
        if not holders:
            return
        with self._core.step():
            for account in self._rng.sample(holders, min(3, len(holders))):
                self._settlement.settle(account)
            real = [account for account in holders if not account.is_house]
            if real:
                self._settlement.settle(self._rng.choice(real))
