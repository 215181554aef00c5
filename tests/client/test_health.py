"""Uptime, failures, recoveries and latencies: by plain arithmetic, and on a feed that is hurt."""

from __future__ import annotations

from itertools import pairwise

import pytest
from clientkit import DEADLINE_S, Venue, until
from hypothesis import given
from hypothesis import strategies as st

from nadofast import NadoPerformanceMonitor
from nadofast.health import ConnectionHealth

S = 10**9


@given(st.lists(st.tuples(st.integers(1, 5 * S), st.booleans(), st.booleans()), min_size=1, max_size=40))
def test_uptime_is_the_share_of_fresh_time(steps: list[tuple[int, bool, bool]]) -> None:
    health, now = ConnectionHealth([4, 8]), 0
    ticks = []
    for wait_ns, four, eight in steps:
        now += wait_ns
        health.tick({4: four, 8: eight}, now)
        ticks.append((now, four, eight))
    for wanted, fresh in ((None, lambda t: t[1] and t[2]), (4, lambda t: t[1]), (8, lambda t: t[2])):
        since = next((i for i, tick in enumerate(ticks) if fresh(tick)), None)
        if since is None:
            assert health.calculate_uptime(wanted) == 0.0
            continue
        spans = [(b[0] - a[0], fresh(a)) for a, b in pairwise(ticks[since:])]
        total = sum(span for span, _ in spans)
        expected = sum(span for span, up in spans if up) / total if total else 1.0
        assert health.calculate_uptime(wanted) == pytest.approx(expected)
    both = [four and eight for _, four, eight in ticks]
    assert health.failure_count == sum(a and not b for a, b in pairwise(both))


def test_recovery_is_timed() -> None:
    health = ConnectionHealth([4])
    for at_s, fresh in ((1, True), (2, False), (3, False), (5, True)):
        health.tick({4: fresh}, at_s * S)
    assert (health.failure_count, health.last_recovery_ms) == (1, 3000.0)
    assert health.recovery.count == 1


def test_the_monitor_counts_rates_and_percentiles() -> None:
    now = [1_000 * S]
    monitor = NadoPerformanceMonitor(clock_ns=lambda: now[0])
    assert monitor.get_rps() == 0
    assert monitor.get_latency_percentiles() == {}
    for n in range(200):
        monitor.record_event("fill" if n % 2 else "best_bid_offer", 1.0 if n < 190 else 9.0)
        now[0] += S // 20
    assert monitor.get_rps() == pytest.approx(20, rel=0.11)
    percentiles = monitor.get_latency_percentiles()
    assert percentiles["p50"] == pytest.approx(1.0, rel=0.04)
    assert percentiles["p99"] == pytest.approx(9.0, rel=0.04)
    assert monitor.get_latency_percentiles("best_bid_offer").keys() == {"p50", "p95", "p99"}
    assert monitor.get_latency_percentiles("trade") == {}
    now[0] += 60 * S
    assert monitor.get_rps() == 0
    for _ in range(500):  # a new second each: only the last ten are remembered
        monitor.record_event("fill", 1.0)
        now[0] += S
    assert monitor.get_rps() == pytest.approx(1, rel=0.11)
    assert len(monitor._seconds) <= 11
    with pytest.raises(ValueError, match="negative"):
        monitor.record_event("fill", -1)


@pytest.mark.parametrize("seconds", [20, 20.05, 20.5, 20.95, 3.5, 10.0])
def test_a_steady_rate_is_told_as_it_is_at_any_moment(seconds: float) -> None:
    now = [1_000 * S + S // 3]
    monitor = NadoPerformanceMonitor(clock_ns=lambda: now[0])
    for _ in range(int(seconds * 100)):
        now[0] += S // 100
        monitor.record_event("fill", 1.0)
    assert monitor.get_rps() == pytest.approx(100, rel=0.01)


async def test_a_feed_tells_how_it_is(venue: Venue) -> None:
    async with venue.feed(rest=venue.rest) as feed:
        assert feed.get_connection_status() == {"websocket": "disconnected", "rest": "available"}
        assert feed.get_connection_health()["status"] == "down"
        await feed.wait_synced(DEADLINE_S)
        await until(lambda: feed.get_connection_metrics()["websocket_latency"], "a ping answered")
        await until(lambda: feed.get_connection_metrics()["uptime"] == 1.0, "looked at")
        assert feed.get_connection_status() == {"websocket": "connected", "rest": "available"}
        health = feed.get_connection_health()
        assert health["status"] == "healthy"
        assert 0 < health["latency"] < 1_000
        stream = feed.link.url
        feed.link.url = "ws://127.0.0.1:9/"
        feed.link.cut("test")
        await until(
            lambda: feed.get_connection_metrics()["failover_count"] == 2, "market and account on REST"
        )
        assert feed.get_connection_status()["websocket"] == "disconnected"
        assert feed.get_connection_health()["status"] == "degraded"
        feed.link.url = stream
        await feed.wait_synced(DEADLINE_S)
        await until(lambda: feed.get_connection_metrics()["recovery_time"], "the way back is timed")
        metrics = feed.get_connection_metrics()
        assert metrics["failure_count"] == 1
        assert 0 < metrics["uptime"] < 1
        assert set(metrics["uptime_by_product"]) == {4, 8}
        assert metrics["rest_latency"]["p50"] > 0
        assert metrics["drift"]["parse_errors"] == 0
        assert all(change.reason for change in feed._upstream.health.failovers)
