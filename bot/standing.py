"""How we stand: positions, PnL of the day, and the view the risk gate decides on."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, date, datetime
from typing import Final

from nadofast.products import mul_x18
from nadofast.timesync import TimeSync

from .latch import DayStore
from .ledger import Ledger, Pnl
from .market import Market
from .risk import RiskView
from .units import NS_PER_S, show, show_usd

REMEMBER_NS: Final = NS_PER_S


def utc_day() -> date:
    return datetime.now(UTC).date()


class Standing:
    """Ledger and market put together. The day's PnL starts at zero at UTC midnight; a halt does not.

    day_store: keeps the day's PnL between runs, so that a restart does not start it at zero.
    timesync: the exchange's clock, for limits that depend on it.
    """

    def __init__(
        self,
        ledger: Ledger,
        market: Market,
        *,
        timesync: TimeSync | None = None,
        day_store: DayStore | None = None,
        today: Callable[[], date] = utc_day,
        clock_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._ledger = ledger
        self._market = market
        self._timesync = timesync
        self._day_store = day_store
        self._today = today
        self._clock_ns = clock_ns
        self._day = today()
        self._day_start_x18 = 0 if day_store is None else -day_store.load(self._day)
        self._remembered_ns = clock_ns() - REMEMBER_NS

    def pnl(self) -> Pnl:
        """Since the start, open positions at the last mid; 0 for one that never had a price."""
        marks_x18 = {product.product_id: 0 for product in self._market.products} | self._market.marks_x18
        return self._ledger.pnl(marks_x18)

    def day_pnl_x18(self) -> int:
        """Net of fees and funding since UTC midnight, former runs of the day included."""
        net_x18 = self.pnl().net_x18
        if (today := self._today()) != self._day:
            self._day, self._day_start_x18 = today, net_x18
        return net_x18 - self._day_start_x18

    def remember(self, *, at_once: bool = False) -> None:
        """Write the day's PnL down, at most once a second unless `at_once`."""
        now_ns = self._clock_ns()
        if self._day_store is None or (not at_once and now_ns - self._remembered_ns < REMEMBER_NS):
            return
        self._remembered_ns = now_ns
        net_x18 = self.day_pnl_x18()
        self._day_store.save(self._day, net_x18)

    @property
    def failure(self) -> str:
        """Why the day's PnL is not on disk: a restart would begin the day's loss anew. "" when it is."""
        if self._day_store is None or not self._day_store.failure:
            return ""
        return f"the day's result cannot be written: {self._day_store.failure}"

    def risk_view(self) -> RiskView:
        ids = [product.product_id for product in self._market.products]
        is_timed = self._timesync is not None and self._timesync.is_known
        return RiskView(
            positions_x18={product_id: self._ledger.position_x18(product_id) for product_id in ids},
            marks_x18=self._market.marks_x18,
            quote_age_ms={product_id: self._market.quote(product_id).age_ms for product_id in ids},
            day_pnl_x18=self.day_pnl_x18(),
            now_ns=self._clock_ns(),
            utc_s=self._timesync.exchange_now_ms() / 1000 if self._timesync and is_timed else None,
            clock_offset_ms=self._timesync.offset_ms if self._timesync and is_timed else None,
        )

    def exposure(self, working: dict[int, int] | None = None) -> str:
        """Positions in words: size and notional at the last mid; `working`: unfinished orders by product."""
        marks_x18, parts = self._market.marks_x18, []
        for product in self._market.products:
            position_x18 = self._ledger.position_x18(product.product_id)
            open_x18 = (working or {}).get(product.product_id, 0)
            if not position_x18 and not open_x18:
                continue
            worth = show_usd(mul_x18(position_x18, marks_x18.get(product.product_id, 0)), 2, signed=True)
            doubt = f" and an unfinished order for {show(open_x18, signed=True)}" if open_x18 else ""
            parts.append(f"{product.symbol} {show(position_x18, signed=True)} ({worth} USD){doubt}")
        return ", ".join(parts) or "none"
