"""Metric families: valid by the format's own rules, complete, and true of a feed that is hurt."""

from __future__ import annotations

import logging
import re
from typing import Any

import pytest
from clientkit import DEADLINE_S, Venue, until
from prometheus_client.parser import text_string_to_metric_families
from test_order_paths import crossing

from nadofast import MetricFamily, NadoPerformanceMonitor, exposition, feed_metrics
from nadofast.metrics import Sample

NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
LINE = re.compile(r'([a-z_]+)(?:\{([a-z_]+="(?:[^"\\\n]|\\.)*"(?:,[a-z_]+="(?:[^"\\\n]|\\.)*")*)\})? (\S+)')


def read(text: str) -> dict[str, float]:
    """Series → value of a text in the format; fails on what the format does not allow."""
    series: dict[str, float] = {}
    kinds: dict[str, str] = {}
    assert text.endswith("\n")
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            assert NAME.fullmatch(name)
            assert name not in kinds, "one block per name"
            kinds[name] = kind
            assert (kind == "counter") == name.endswith("_total")
        elif not line.startswith("# HELP "):
            found = LINE.fullmatch(line)
            assert found, line
            name, labels, value = found.groups()
            assert name.removesuffix("_count") in kinds or name in kinds, name
            key = f"{name}{{{labels}}}" if labels else name
            assert key not in series, key
            series[key] = float(value)
    return series


def test_the_text_format_escapes_and_writes_numbers_whole() -> None:
    samples = (
        Sample(1.0, (("name", 'a "b"\\\n'),)),
        Sample(0.25),
        Sample(float("inf"), (), "_count"),
        Sample(float("-inf"), (("side", "low"),)),
    )
    text = exposition([MetricFamily("things", "gauge", "Of all sorts", samples)])
    assert text == (
        "# HELP things Of all sorts\n"
        "# TYPE things gauge\n"
        'things{name="a \\"b\\"\\\\\\n"} 1\n'
        "things 0.25\n"
        "things_count +Inf\n"
        'things{side="low"} -Inf\n'
    )
    assert exposition([]) == ""


def test_the_monitor_exports_what_it_recorded(caplog: pytest.LogCaptureFixture) -> None:
    now = [1_000 * 10**9]
    monitor = NadoPerformanceMonitor(clock_ns=lambda: now[0])
    for n in range(100):
        monitor.record_event("fill" if n % 4 else "trade", 2.0)
    series = read(monitor.export_metrics())
    assert series['nadofast_events_total{kind="fill"}'] == 75
    assert series['nadofast_event_latency_seconds_count{kind="trade"}'] == 25
    latency = series['nadofast_event_latency_seconds{kind="fill",quantile="0.99"}']
    assert latency == pytest.approx(0.002, rel=0.04)
    assert series["nadofast_event_rate"] == 100
    with caplog.at_level(logging.INFO, "nadofast.health"):
        monitor.log_metrics()
    assert [r.getMessage().split(" events")[0] for r in caplog.records] == ["fill: 75", "trade: 25"]


def test_the_monitor_keeps_a_bounded_number_of_kinds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nadofast.health.MAX_KINDS", 3)
    monitor = NadoPerformanceMonitor()
    for n in range(10):
        monitor.record_event(f"kind {n}", 1.0)
    series = read(monitor.export_metrics())
    assert series['nadofast_events_total{kind="other"}'] == 7
    assert sum(value for name, value in series.items() if name.startswith("nadofast_events_total")) == 10


async def test_a_feed_before_it_ever_connected_has_all_its_families(venue: Venue) -> None:
    feed = venue.feed()
    before = {family.name for family in feed_metrics(feed)}
    async with feed:
        await feed.wait_synced(DEADLINE_S)
        after = {family.name for family in feed_metrics(feed)}
    assert before == after
    assert all(name.startswith("nadofast_feed_") for name in before)


async def test_a_feed_that_is_hurt_says_so(venue: Venue) -> None:
    async with venue.feed(rest=venue.rest) as feed:
        queue = feed.events(["best_bid_offer", "fill"], name="reader")
        await feed.wait_synced(DEADLINE_S)
        await until(lambda: feed.get_connection_metrics()["websocket_latency"], "a ping answered")
        text = exposition(feed_metrics(feed))
        healthy = read(text)
        theirs = {s.name for f in text_string_to_metric_families(text) for s in f.samples}
        assert theirs == {name.split("{")[0] for name in healthy}, "the library reads the same"
        assert healthy['nadofast_feed_status{status="healthy"}'] == 1
        assert healthy['nadofast_feed_book_valid{product="4"}'] == 1
        assert healthy['nadofast_feed_link_live{link="0"}'] == 1
        assert healthy['nadofast_feed_by_rest{function="market"}'] == 0
        assert healthy['nadofast_feed_queue_waiting{queue="reader",lane="state"}'] > 0
        assert 0 < healthy['nadofast_feed_round_trip_seconds{path="websocket",quantile="0.5"}'] < 1
        stream, feed.link.url = feed.link.url, "ws://127.0.0.1:9/"
        feed.link.cut("test")
        await until(lambda: feed.get_connection_metrics()["failover_count"] == 2, "REST has taken over")
        await until(lambda: feed.get_connection_metrics()["failure_count"] == 1, "data is no longer fresh")
        feed._core.receive(b'{"type": "novelty", "what": 1}', 1)
        hurt = read(exposition(feed_metrics(feed)))
        assert hurt['nadofast_feed_status{status="degraded"}'] == 1
        assert hurt['nadofast_feed_book_valid{product="4"}'] == 0
        assert hurt['nadofast_feed_link_live{link="0"}'] == 0
        assert hurt['nadofast_feed_link_losses_total{link="0"}'] == 1
        assert hurt['nadofast_feed_by_rest{function="account"}'] == 1
        assert hurt["nadofast_feed_failures_total"] == 1
        assert hurt["nadofast_feed_failovers_total"] == 2
        assert hurt['nadofast_feed_drift_total{what="unknown_kinds"}'] == 1
        assert hurt['nadofast_feed_uptime_ratio{product="4"}'] < 1
        feed.link.url = stream
        await feed.wait_synced(DEADLINE_S)
        await until(lambda: feed.get_connection_metrics()["recovery_time"], "the way back is timed")
        healed = read(exposition(feed_metrics(feed)))
        assert healed['nadofast_feed_recovery_seconds{quantile="0.99"}'] > 0
        assert healed['nadofast_feed_round_trip_seconds{path="rest",quantile="0.5"}'] > 0
        totals = [name for name in hurt if "_total" in name]
        assert all(healed[name] >= hurt[name] for name in totals), "counters never fall"
        assert len(queue) > 0


async def test_switches_and_reconnects_are_logged_and_remembered(
    venue: Venue, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "nadofast"):
        async with venue.feed(rest=venue.rest) as feed:
            await feed.wait_synced(DEADLINE_S)
            stream, feed.link.url = feed.link.url, "ws://127.0.0.1:9/"
            feed.link.cut("the cable")
            await until(lambda: feed.get_connection_metrics()["failover_count"] == 2, "REST has taken over")
            feed.link.url = stream
            await until(lambda: len(feed.get_connection_metrics()["failovers"]) == 4, "and given back")
            switches = feed.get_connection_metrics()["failovers"]
    assert sorted(f"{s.function} {s.mode.value}" for s in switches) == [
        "account rest", "account websocket", "market rest", "market websocket",
    ]  # fmt: skip
    assert all(0 < switch.began_ns <= switch.at_ns and switch.reason for switch in switches)
    lines = [record.getMessage() for record in caplog.records]
    assert sum("now by rest" in line for line in lines) == 2
    assert sum("now by websocket" in line for line in lines) == 2
    assert sum(line.startswith("link stream: live") for line in lines) == 2, "the start and the reconnect"


async def test_an_orders_round_trip_is_measured_on_either_path(venue: Venue) -> None:
    async with venue.gateway() as gateway:
        await venue.rest.sync_time(venue.timesync, 3)
        assert (await gateway.place(await crossing(venue))).path == "ws"
        await venue.faults(socket_refused={"for_s": 5})
        await venue.faults(cut="gateway")
        await until(lambda: gateway.path == "rest", "no socket")
        assert (await gateway.place(await crossing(venue))).path == "rest"
        stats: dict[str, Any] = gateway.stats()
    for name, count in (("ws_round_trip", 1), ("rest_round_trip", 1)):
        assert stats[name]["count"] == count
        # 30 ms of it are the exchange's.
        assert 30e6 < stats[name]["p50_ns"] < 2e9
