"""A fast market for two minutes: nobody is dropped, latency stays bounded, memory flat."""

from __future__ import annotations

import pytest
from load import measure

from nadosim.lag import LagHistogram


@pytest.mark.long
async def test_two_thousand_messages_a_second_to_five_subscribers() -> None:
    report = await measure(rate=2000, subscribers=5, seconds=120)
    first, second = report.memory_mib
    assert second - first < 1.5, "after the first minute memory is flat"
    assert report.market_messages_per_s > 1_400
    assert report.received_per_s > 4.9 * report.market_messages_per_s
    assert report.send_lag_ms["p99"] < 100
    assert report.sockets_cut == {}


async def test_the_measuring_itself() -> None:
    report = await measure(rate=300, subscribers=2, seconds=2)
    assert report.market_messages_per_s > 100
    assert report.received_per_s > 1.5 * report.market_messages_per_s
    assert 0 < report.arrival_ms["p50"] <= report.arrival_ms["p99"]
    assert 0 < report.send_lag_ms["p50"] <= report.send_lag_ms["p99"]
    assert report.memory_mib[0] > 10


def test_lags_are_counted_in_steps_of_a_twentieth_of_a_decade() -> None:
    lag = LagHistogram()
    assert lag.percentile_ms(0.99) == 0.0
    for number in range(1, 1001):
        lag.add(number / 1000)
    lag.add(0.0)
    lag.add(99.0)
    assert lag.percentile_ms(0.5) == pytest.approx(500, rel=0.13)
    assert lag.percentile_ms(0.99) == pytest.approx(990, rel=0.13)
    assert lag.percentile_ms(1.0) == pytest.approx(10_000)
