"""How we stand: what the gate is shown, the result of the day, and exposure in words."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any

import pytest
from machinekit import ETH, SOL
from test_ledger import fill

from bot.ledger import Ledger, Pnl
from bot.market import Quote
from bot.model import Begin, CycleEnd, Direction, End, ExitCode
from bot.recorder import CycleRecorder
from bot.report import summary_lines
from bot.risk import RiskLimits
from bot.sizing import PairSize
from bot.standing import Standing, utc_day
from nadofast import TimeSample, TimeSync
from nadofast.products import to_x18

NOW_NS = 5 * 10**9


@dataclass
class Prices:
    """Marks and ages of two products."""

    marks_x18: dict[int, int] = field(default_factory=lambda: {4: to_x18(3000), 8: to_x18(140)})
    ages_ms: dict[int, int] = field(default_factory=lambda: {4: 7, 8: 900})
    products: tuple[Any, ...] = (ETH, SOL)

    def quote(self, product_id: int) -> Quote:
        return Quote(0, 0, self.ages_ms[product_id])


@pytest.fixture
def ledger() -> Ledger:
    """One unit of product 4 bought at 3000 for a fee of 1."""
    ledger = Ledger((4, 8))
    ledger.apply(fill(side=1, qty="1", price="3000", fee_x18=to_x18(1), idx=1))
    return ledger


def standing(ledger: Ledger, prices: Any, **options: Any) -> Standing:
    return Standing(ledger, prices, clock_ns=lambda: NOW_NS, **options)


def known_clock(exchange_ms: int) -> TimeSync:
    timesync = TimeSync(clock_ns=lambda: NOW_NS, wall_ns=lambda: 0)
    timesync.update(TimeSample(NOW_NS, NOW_NS, exchange_ms))
    return timesync


def test_the_gate_is_shown_positions_marks_ages_and_the_days_result(ledger: Ledger) -> None:
    prices = Prices()
    view = standing(ledger, prices).risk_view()
    assert view.positions_x18 == {4: to_x18(1), 8: 0}
    assert view.marks_x18 == prices.marks_x18
    assert view.quote_age_ms == {4: 7, 8: 900}
    assert (view.day_pnl_x18, view.now_ns) == (-to_x18(1), NOW_NS)
    assert (view.utc_s, view.clock_offset_ms) == (None, None)  # nobody has a clock


def test_the_exchanges_time_is_shown_only_while_it_is_known(ledger: Ledger) -> None:
    view = standing(ledger, Prices(), timesync=known_clock(1_790_000_000_500)).risk_view()
    assert view.utc_s == pytest.approx(1_790_000_000.5, abs=0.01)
    assert view.clock_offset_ms == pytest.approx(1_790_000_000_500, abs=10)
    view = standing(ledger, Prices(), timesync=TimeSync(clock_ns=lambda: NOW_NS)).risk_view()
    assert (view.utc_s, view.clock_offset_ms) == (None, None)


def test_the_result_moves_with_the_mark_and_starts_anew_at_midnight(ledger: Ledger) -> None:
    prices, today = Prices(), [date(2026, 11, 24)]
    one = standing(ledger, prices, today=lambda: today[0])
    prices.marks_x18[4] = to_x18(2990)
    assert one.pnl().net_x18 == one.day_pnl_x18() == -to_x18(11)
    today[0] = date(2026, 11, 25)
    assert one.day_pnl_x18() == 0
    prices.marks_x18[4] = to_x18(2995)
    assert one.day_pnl_x18() == to_x18(5)
    assert one.pnl().net_x18 == -to_x18(6)  # the run's own goes on
    one.remember(at_once=True)  # nowhere to keep it: no error
    assert one.failure == ""


def test_a_product_that_never_had_a_price_counts_nothing(ledger: Ledger) -> None:
    one = standing(ledger, Prices(marks_x18={}))
    assert one.pnl().net_x18 == -to_x18(3001)  # what was spent, as long as nobody says what it is worth
    assert one.exposure() == "ETH-PERP +1 (+0.00 USD)"


def test_exposure_in_words(ledger: Ledger) -> None:
    one = standing(ledger, Prices())
    assert one.exposure() == "ETH-PERP +1 (+3000.00 USD)"
    assert one.exposure({4: 0, 8: to_x18("-2.5")}) == (
        "ETH-PERP +1 (+3000.00 USD), SOL-PERP 0 (+0.00 USD) and an unfinished order for -2.5"
    )
    assert one.exposure({4: to_x18("-1")}) == "ETH-PERP +1 (+3000.00 USD) and an unfinished order for -1"
    ledger.apply(fill(side=-1, qty="1", price="3000", fee_x18=0, idx=2))
    assert one.exposure() == "none"


def test_the_day_is_that_of_utc() -> None:
    before = datetime.now(UTC).date()
    assert before <= utc_day() <= datetime.now(UTC).date()


def test_a_long_run_keeps_the_newest_cycles_and_the_totals_of_all(ledger: Ledger) -> None:
    market: Any = Prices()
    recorder = CycleRecorder((ETH, SOL), ledger, market, standing(ledger, market))
    size = PairSize((to_x18(1), to_x18(1)), (to_x18(3000), to_x18(3000)))
    for number in range(1, 1_204):
        recorder.begin(Begin(number, Direction.BUY_FIRST, size), number, None)
        recorder.end(CycleEnd(number, "" if number % 3 else "lost"), [], number + 1, None)
    assert [len(recorder.finished), recorder.finished[0].iteration] == [1_000, 204]
    limits = RiskLimits(to_x18(150), to_x18(300), to_x18(1_000), 5_000)
    end = End(ExitCode.DONE, "over")
    lines = summary_lines(recorder.finished, recorder.totals, end, Pnl(0, 0, 0), "none", limits, [])
    assert lines[0] == (
        "summary   802 cycles complete (BUY_FIRST 802, SELL_FIRST 0), 401 failed, 0 cut short, 0 skipped"
        " · over"
    )
    assert lines[1] == "  of the newest 1000 cycles:"
