"""Funding (funding section of the API): the premium of the mark over the index, averaged and paid hourly.

The mark is the middle of the book, weighted by the time it stood; a book with an empty side keeps the
last premium. Positive funding goes from longs to shorts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from .core import Core
from .engine import NO_ASK_X18, NO_BID_X18
from .events import funding_payment_event, funding_rate_event
from .records import FundingRecord
from .x18 import NS_PER_S, ONE, div_trunc, div_x18, mul_x18

DAY_S: Final = 86_400
HOUR_S: Final = 3_600
CAP_PER_DAY_X18: Final = ONE * 2 // 100


@dataclass(slots=True)
class _Premium:
    """Integral of the premium over the current interval, in x18·ns."""

    sum_x18_ns: int = 0
    duration_ns: int = 0
    latest_x18: int = 0
    observed_ns: int = 0


class Funding:
    """Rates of all perpetuals, and the payments made by them."""

    def __init__(self, core: Core) -> None:
        self._core = core
        now_ns = core.clock.true_ns()
        self._premiums = {
            p.product_id: _Premium(observed_ns=now_ns) for p in core.products.values() if p.is_perp
        }
        self.update_time_s = now_ns // NS_PER_S

    def observe(self, product_id: int) -> None:
        """Take in how long the last premium stood, and what it is now."""
        premium = self._premiums.get(product_id)
        if premium is None:
            return
        now_ns = self._core.clock.true_ns()
        stood_ns = max(0, now_ns - premium.observed_ns)
        premium.sum_x18_ns += premium.latest_x18 * stood_ns
        premium.duration_ns += stood_ns
        premium.observed_ns = now_ns
        mark = self.book_price_x18(product_id)
        if mark is not None:
            premium.latest_x18 = mark - self._index_x18(product_id)

    def book_price_x18(self, product_id: int) -> int | None:
        """Middle of the book; None if a side is empty."""
        bid, _, ask, _ = self._core.books[product_id].bbo()
        return None if bid == NO_BID_X18 or ask == NO_ASK_X18 else (bid + ask) // 2

    def mark_x18(self, product_id: int) -> int:
        """Time-weighted book price of the current interval, as distance from the index of now."""
        return self._index_x18(product_id) + self._average_x18(product_id)

    def daily_rate_x18(self, product_id: int) -> int:
        """Rate per 24 hours as a fraction, capped."""
        return div_x18(self._capped_x18(product_id), self._index_x18(product_id))

    def payment_x18(self, product_id: int, dt_s: int) -> int:
        """Quote per unit of base that longs owe shorts for dt_s at the current rate."""
        return div_trunc(self._capped_x18(product_id) * dt_s, DAY_S)

    # ---- inside a step

    def pay(self, product_id: int, payment_x18: int, dt_s: int, daily_rate_x18: int) -> None:
        """Book a payment on everybody's position, and tell the public."""
        core = self._core
        state = core.accounts.states[product_id]
        for account in core.accounts.real():
            position = core.accounts.position_x18(account, product_id)
            if position:
                core.history.funding_paid(
                    FundingRecord(
                        account=account,
                        product_id=product_id,
                        submission_idx=core.writer.next_idx(),
                        timestamp_ns=core.writer.timestamp_ns,
                        amount_x18=-mul_x18(payment_x18, position),
                        position_x18=position,
                        rate_x18=div_trunc(daily_rate_x18 * dt_s, DAY_S),
                        daily_rate_x18=daily_rate_x18,
                        oracle_price_x18=state.oracle_price_x18,
                    )
                )
        core.accounts.pay_funding(product_id, payment_x18)
        core.writer.announce(
            funding_payment_event(core.config, core.writer.timestamp_ns, product_id, state, payment_x18, dt_s)
        )

    def settle(self, dt_s: int) -> None:
        """Pay every product with open interest for the interval that ends now, and begin a new one."""
        for product_id, premium in self._premiums.items():
            self.observe(product_id)
            if self._core.accounts.states[product_id].open_interest_x18:
                payment = self.payment_x18(product_id, dt_s)
                self.pay(product_id, payment, dt_s, self.daily_rate_x18(product_id))
            premium.sum_x18_ns = premium.duration_ns = 0

    def announce_rates(self) -> None:
        """A funding_rate event for every product."""
        timestamp_ns = self._core.writer.timestamp_ns
        self.update_time_s = timestamp_ns // NS_PER_S
        for product_id in self._premiums:
            self.observe(product_id)
            rate = self.daily_rate_x18(product_id)
            self._core.writer.announce(funding_rate_event(timestamp_ns, product_id, rate))

    # ---- inside

    def _average_x18(self, product_id: int) -> int:
        premium = self._premiums[product_id]
        stood_ns = max(0, self._core.clock.true_ns() - premium.observed_ns)
        total = premium.sum_x18_ns + premium.latest_x18 * stood_ns
        duration = premium.duration_ns + stood_ns
        return div_trunc(total, duration) if duration else premium.latest_x18

    def _capped_x18(self, product_id: int) -> int:
        cap = mul_x18(self._index_x18(product_id), CAP_PER_DAY_X18)
        return max(-cap, min(cap, self._average_x18(product_id)))

    def _index_x18(self, product_id: int) -> int:
        return self._core.accounts.states[product_id].oracle_price_x18
