"""What a feed counts, as metric families of plain data: names and units of Prometheus, no library.

    for family in feed_metrics(feed): ...
    text = exposition(feed_metrics(feed))

Every name begins with `nadofast_feed_`; times are seconds. Whoever serves them may hand the families to a
Prometheus client instead of using `exposition`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from ._latency import Histogram
from .fallback import ConnectionMode
from .messagequeue import QueueStats
from .pool import PoolStats

if TYPE_CHECKING:
    from .feed import Feed

Kind = Literal["counter", "gauge", "summary"]
QUANTILES: Final = (50.0, 95.0, 99.0)
PREFIX: Final = "nadofast_feed_"
STATES: Final = ("healthy", "degraded", "down")
_MS: Final = 1e3
_NS: Final = 1e9


@dataclass(frozen=True, slots=True)
class Sample:
    """One value. suffix: of the family's name ("_count" of a summary)."""

    value: float
    labels: tuple[tuple[str, str], ...] = ()
    suffix: str = ""


@dataclass(frozen=True, slots=True)
class MetricFamily:
    """Samples of one name. A counter's name ends in `_total`; a summary's samples have a `quantile`."""

    name: str
    kind: Kind
    help: str
    samples: tuple[Sample, ...]


def feed_metrics(feed: Feed) -> Iterator[MetricFamily]:
    """Every figure of a feed at this moment. Counters never fall while the feed lives."""
    stats, connection = feed.stats(), feed.get_connection_metrics()
    yield from _health(feed, connection)
    yield from _latencies(connection, stats["core"]["latency"])
    yield from _messages(stats["core"])
    yield from _books(stats)
    yield from _links(stats["pool"])
    yield from _account(stats)
    yield from _consumers(stats)


def exposition(families: Iterable[MetricFamily]) -> str:
    """The text format of Prometheus, version 0.0.4."""
    lines = []
    for family in families:
        lines.append(f"# HELP {family.name} {family.help}")
        lines.append(f"# TYPE {family.name} {family.kind}")
        lines += [
            f"{family.name}{s.suffix}{_label_text(s.labels)} {_number(s.value)}" for s in family.samples
        ]
    return "".join(line + "\n" for line in lines)


def quantiles_of(histogram: Histogram, **labels: str) -> list[Sample]:
    """Samples of a summary: quantiles in seconds, if anything was recorded, and the count."""
    fixed = tuple(labels.items())
    samples = [
        Sample(histogram.percentile(percent) / _NS, (*fixed, ("quantile", f"{percent / 100:g}")))
        for percent in QUANTILES
        if histogram.count
    ]
    return [*samples, Sample(float(histogram.count), fixed, "_count")]


# ---------------------------------------------------------------------------- groups


def _health(feed: Feed, connection: Mapping[str, Any]) -> Iterator[MetricFamily]:
    status = feed.get_connection_health()["status"]
    states = [Sample(float(state == status), (("status", state),)) for state in STATES]
    yield _family("status", "gauge", "1 for the state the feed is in", states)
    uptime = [Sample(connection["uptime"], (("product", "all"),))]
    uptime += [Sample(share, (("product", str(p)),)) for p, share in connection["uptime_by_product"].items()]
    yield _family("uptime_ratio", "gauge", "Share of time with fresh data", uptime)
    yield _counter("failures", "Times that data ceased to be fresh", connection["failure_count"])
    yield _counter("failovers", "Switches from the stream to REST", connection["failover_count"])
    by_rest = [
        Sample(float(mode is ConnectionMode.REST), (("function", function),))
        for function, mode in (("market", feed.mode), ("account", feed.account_mode))
    ]
    yield _family("by_rest", "gauge", "1 while this comes by REST", by_rest)
    drift = [
        Sample(float(connection["drift"][name]), (("what", name),))
        for name in ("parse_errors", "unknown_kinds", "unknown_fields")
    ]
    yield _family("drift_total", "counter", "What the protocol does not name", drift)


def _latencies(connection: Mapping[str, Any], core: Mapping[str, Any]) -> Iterator[MetricFamily]:
    paths = [
        Sample(value_ms / _MS, (("path", path), ("quantile", _quantile(name))))
        for path in ("websocket", "rest")
        for name, value_ms in connection[f"{path}_latency"].items()
    ]
    yield _family("round_trip_seconds", "summary", "Round trips of pings and of HTTP requests", paths)
    recovery = [
        Sample(value_ms / _MS, (("quantile", _quantile(name)),))
        for name, value_ms in connection["recovery"].items()
    ]
    yield _family("recovery_seconds", "summary", "From a failure to fresh data", recovery)
    handling = [
        Sample(summary[name] / _NS, (("kind", kind), ("quantile", quantile)))
        for kind, summary in core.items()
        if summary["count"]
        for name, quantile in (("p50_ns", "0.5"), ("p95_ns", "0.95"), ("p99_ns", "0.99"))
    ]
    handling += [Sample(summary["count"], (("kind", kind),), "_count") for kind, summary in core.items()]
    yield _family("handling_seconds", "summary", "From the socket to the book, and of callbacks", handling)


def _messages(core: Mapping[str, Any]) -> Iterator[MetricFamily]:
    kinds = [Sample(float(count), (("kind", kind),)) for kind, count in core["by_kind"].items()]
    yield _family("messages_total", "counter", "Messages by kind", kinds)
    yield _counter("bytes", "Bytes of messages, inflated", core["bytes"])
    yield _counter("duplicates", "Messages that were known already", core["duplicates"])


def _books(stats: Mapping[str, Any]) -> Iterator[MetricFamily]:
    products = stats["core"]["products"]
    valid = [Sample(float(row["is_valid"]), (("product", str(p)),)) for p, row in products.items()]
    yield _family("book_valid", "gauge", "1 while the book may be read", valid)
    gaps = [Sample(float(row["gaps"]), (("product", str(p)),)) for p, row in products.items()]
    yield _family("book_gaps_total", "counter", "Breaks of a valid book", gaps)
    yield _counter("snapshots", "Book snapshots that were asked for", stats["snapshots"])
    yield _counter("resyncs", "Books that were synchronised anew", stats["resyncs"])


def _links(pool: PoolStats) -> Iterator[MetricFamily]:
    links = [((("link", str(link.index)),), link) for link in pool.links]
    live = [Sample(float(link.state == "live"), labels) for labels, link in links]
    yield _family("link_live", "gauge", "1 while the socket is set up", live)
    connects = [Sample(float(link.connects), labels) for labels, link in links]
    yield _family("link_connects_total", "counter", "Sockets that were opened", connects)
    losses = [Sample(float(link.losses), labels) for labels, link in links]
    yield _family("link_losses_total", "counter", "Sockets that were lost", losses)
    ages = [Sample(link.data_age_ms / _MS, labels) for labels, link in links if link.data_age_ms is not None]
    yield _family("link_data_age_seconds", "gauge", "Since the last frame of this socket", ages)


def _account(stats: Mapping[str, Any]) -> Iterator[MetricFamily]:
    yield _counter("fills_recovered", "Fills the stream did not tell", stats["fills_recovered"])
    yield _counter("orders_recovered", "Order updates the stream did not tell", stats["orders_recovered"])
    yield _counter("audits", "Comparisons of the account with the exchange", stats["audits"])
    yield _counter("foreign_events", "Account events of another subaccount", stats["foreign_events"])


def _consumers(stats: Mapping[str, Any]) -> Iterator[MetricFamily]:
    yield _counter("callback_errors", "Exceptions of inline callbacks", stats["callback_errors"])
    yield _counter("slow_callbacks", "Inline callbacks above 200 µs", stats["slow_callbacks"])
    queues: list[QueueStats] = stats["queues"]
    waiting = [
        Sample(float(getattr(queue, lane)), (("queue", queue.name), ("lane", lane)))
        for queue in queues
        for lane in ("facts", "tape", "state")
    ]
    yield _family("queue_waiting", "gauge", "Events that wait for their reader", waiting)
    ages = [Sample(queue.oldest_ms / _MS, (("queue", queue.name),)) for queue in queues]
    yield _family("queue_age_seconds", "gauge", "How long the oldest event has waited", ages)
    for field, text in (
        ("overflows", "Times that a reader fell too far behind"),
        ("lost", "Account events there was no room for"),
        ("recovered", "Account events that were told later after all"),
        ("dropped", "Public events that gave way"),
        ("conflated", "States nobody saw"),
    ):
        samples = [Sample(float(getattr(queue, field)), (("queue", queue.name),)) for queue in queues]
        yield _family(f"queue_{field}_total", "counter", text, samples)


# ---------------------------------------------------------------------------- parts


def _family(name: str, kind: Kind, text: str, samples: Iterable[Sample]) -> MetricFamily:
    return MetricFamily(PREFIX + name, kind, text, tuple(samples))


def _counter(name: str, text: str, value: float) -> MetricFamily:
    return _family(f"{name}_total", "counter", text, [Sample(float(value))])


def _quantile(name: str) -> str:
    """p99 → 0.99."""
    return f"{int(name[1:]) / 100:g}"


def _label_text(labels: tuple[tuple[str, str], ...]) -> str:
    if not labels:
        return ""
    shown = ",".join(f'{name}="{_escaped(value)}"' for name, value in labels)
    return f"{{{shown}}}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def _number(value: float) -> str:
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return repr(int(value)) if value == int(value) else repr(value)
