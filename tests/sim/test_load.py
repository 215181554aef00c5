"""A fast market for a minute: nobody is dropped, latency stays bounded, memory flat."""

from __future__ import annotations

import pytest
from load import measure


@pytest.mark.long
async def test_two_thousand_messages_a_second_to_five_subscribers() -> None:
    report = await measure(rate=2000, subscribers=5, seconds=60)
    assert report.market_messages_per_s > 1_400
    assert report.received_per_s > 4.9 * report.market_messages_per_s
    assert report.latency_ms["p99"] < 100
    assert report.sockets_cut == {}


async def test_the_measuring_itself() -> None:
    report = await measure(rate=300, subscribers=2, seconds=2)
    assert report.market_messages_per_s > 100
    assert report.received_per_s > 1.5 * report.market_messages_per_s
    assert 0 < report.latency_ms["p50"] <= report.latency_ms["p99"]
    assert report.memory_mib[0] > 10
