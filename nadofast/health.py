"""How well a feed has been doing: uptime as share of time with fresh data, failures, recoveries, latencies.

Nothing here runs per message: it looks at states now and then, and reads counters the compiled core keeps.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from ._latency import Histogram
from .fallback import ConnectionMode, ModeChange
from .metrics import MetricFamily, Sample, exposition, quantiles_of

_NS: Final = 1_000_000_000
_MS: Final = 1_000_000
FAILOVERS_KEPT: Final = 64
RATE_WINDOW_S: Final = 10
MAX_KINDS: Final = 256
OTHER: Final = "other"
_log = logging.getLogger(__name__)


class NadoPerformanceMonitor:
    """Events a second over the last ten seconds, and latency percentiles, by kind: any names, the first 256
    of them apart. What a feed counts by itself is in `feed_metrics`."""

    def __init__(self, clock_ns: Callable[[], int] = time.monotonic_ns) -> None:
        self._clock_ns = clock_ns
        self._started_ns = clock_ns()
        self._seconds: dict[int, int] = {}
        self._histograms: dict[str, Histogram] = {}

    def record_event(self, event_type: str, latency_ms: float) -> None:
        """One event of a kind that took so long. ValueError on a negative latency."""
        if latency_ms < 0:
            raise ValueError("a latency is not negative")
        second = self._clock_ns() // _NS
        if second not in self._seconds:
            for old in [known for known in self._seconds if known <= second - RATE_WINDOW_S]:
                del self._seconds[old]
        self._seconds[second] = self._seconds.get(second, 0) + 1
        kind = event_type
        if kind not in self._histograms and len(self._histograms) >= MAX_KINDS:
            kind = OTHER
        self._histograms.setdefault(kind, Histogram()).record_ns(int(latency_ms * _MS))

    def get_rps(self) -> float:
        """Events a second over this second and the nine before, or since the start if that is less."""
        now_ns = self._clock_ns()
        first = now_ns // _NS - RATE_WINDOW_S + 1
        counted = sum(n for at, n in self._seconds.items() if at >= first)
        return counted / max(1.0, (now_ns - max(self._started_ns, first * _NS)) / _NS)

    def get_latency_percentiles(self, event_type: str | None = None) -> dict[str, float]:
        """p50, p95, p99 in ms, of one kind or of all; empty if there was none."""
        merged = Histogram()
        for kind, histogram in self._histograms.items():
            if event_type is None or kind == event_type:
                merged.merge(histogram)
        return percentiles_ms(merged)

    def metric_families(self) -> list[MetricFamily]:
        """Rate, counts and latencies by kind, as plain data."""
        kinds = sorted(self._histograms)
        counts = [Sample(float(self._histograms[kind].count), (("kind", kind),)) for kind in kinds]
        latencies = [s for kind in kinds for s in quantiles_of(self._histograms[kind], kind=kind)]
        return [
            MetricFamily(
                "nadofast_event_rate", "gauge", "Events a second, of all kinds", (Sample(self.get_rps()),)
            ),
            MetricFamily("nadofast_events_total", "counter", "Events by kind", tuple(counts)),
            MetricFamily(
                "nadofast_event_latency_seconds", "summary", "Latency of events by kind", tuple(latencies)
            ),
        ]

    def export_metrics(self) -> str:
        """Everything in the text format of Prometheus."""
        return exposition(self.metric_families())

    def log_metrics(self) -> None:
        """One line a kind to the log."""
        for kind, histogram in sorted(self._histograms.items()):
            _log.info("%s: %d events, %s ms", kind, histogram.count, percentiles_ms(histogram))


@dataclass(slots=True)
class _Share:
    """Time with fresh data, out of the time since it was fresh for the first time."""

    fresh_ns: int = 0
    total_ns: int = 0
    was_fresh: bool = False
    began: bool = False

    def add(self, elapsed_ns: int) -> None:
        if self.began:
            self.total_ns += elapsed_ns
            self.fresh_ns += elapsed_ns if self.was_fresh else 0

    def value(self) -> float:
        return self.fresh_ns / self.total_ns if self.total_ns else float(self.was_fresh)


class ConnectionHealth:
    """Failures, recoveries and uptime of one feed. `tick` it with what is fresh; sans-I/O.

    A failure is a change from everything fresh to not; its recovery is the way back.
    """

    def __init__(self, products: Sequence[int]) -> None:
        self.failure_count = 0
        self.failovers: deque[ModeChange] = deque(maxlen=FAILOVERS_KEPT)
        self.failover_count = 0
        self.recovery = Histogram()
        self.last_recovery_ms: float | None = None
        self._shares = {product_id: _Share() for product_id in products}
        self._overall = _Share()
        self._last_ns: int | None = None
        self._failed_ns: int | None = None

    def tick(self, fresh: Mapping[int, bool], now_ns: int) -> None:
        """fresh: per product, whether its data may be acted on now."""
        elapsed_ns = 0 if self._last_ns is None else now_ns - self._last_ns
        self._last_ns = now_ns
        for product_id, share in self._shares.items():
            self._advance(share, elapsed_ns, fresh[product_id])
        was_fresh, is_fresh = self._overall.was_fresh, all(fresh.values())
        self._advance(self._overall, elapsed_ns, is_fresh)
        if was_fresh and not is_fresh:
            self.failure_count += 1
            self._failed_ns = now_ns
        elif is_fresh and self._failed_ns is not None:
            self.recovery.record_ns(now_ns - self._failed_ns)
            self.last_recovery_ms = (now_ns - self._failed_ns) / _MS
            self._failed_ns = None

    def _advance(self, share: _Share, elapsed_ns: int, is_fresh: bool) -> None:
        share.add(elapsed_ns)
        share.was_fresh = is_fresh
        share.began = share.began or is_fresh

    def log_failover(self, change: ModeChange) -> None:
        """A switch between the stream and REST, either way. Only the way to REST counts as a failover."""
        self.failovers.append(change)
        self.failover_count += change.mode is ConnectionMode.REST
        _log.warning("%s now by %s: %s", change.function, change.mode.value, change.reason)

    def calculate_uptime(self, product_id: int | None = None) -> float:
        """Share of time, 0 to 1, with fresh data, since there was some for the first time."""
        return (self._overall if product_id is None else self._shares[product_id]).value()

    def metrics(self, websocket: Histogram, rest: Histogram) -> dict[str, Any]:
        """websocket, rest: round trips of the two paths. recovery_time: of the last failure, in ms.
        failovers: the newest switches either way, each with its reason and its times."""
        return {
            "websocket_latency": percentiles_ms(websocket),
            "rest_latency": percentiles_ms(rest),
            "failure_count": self.failure_count,
            "failover_count": self.failover_count,
            "failovers": tuple(self.failovers),
            "recovery_time": self.last_recovery_ms,
            "recovery": percentiles_ms(self.recovery),
            "uptime": self.calculate_uptime(),
            "uptime_by_product": {product_id: share.value() for product_id, share in self._shares.items()},
        }


def percentiles_ms(histogram: Histogram) -> dict[str, float]:
    """p50, p95, p99 in ms; empty if nothing was recorded."""
    if histogram.count == 0:
        return {}
    return {f"p{percent}": histogram.percentile(percent) / _MS for percent in (50, 95, 99)}
