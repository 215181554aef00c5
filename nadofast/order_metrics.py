"""What a gateway counts, as metric families of plain data: orders, budget and clock.

    text = exposition(order_metrics(gateway))

Every name begins with `nadofast_orders_`; times are seconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from .metrics import Kind, MetricFamily, Sample, quantiles_of

if TYPE_CHECKING:
    from .gateway import OrderGateway

PREFIX: Final = "nadofast_orders_"
PATHS: Final = ("ws", "ws_v1", "rest")
_MS: Final = 1e3
_COUNTERS: Final = (
    ("rest_resends", "Second copies of signed bytes, over HTTP"),
    ("lost_replies", "Requests a socket did not answer in time"),
    ("late_replies", "Answers nobody waited for any more"),
    ("orphan_replies", "Answers that belong to no request"),
    ("serial_fallbacks", "Times that the serial sockets were opened"),
)
_BUDGET: Final = (
    ("refused", "Requests there was no weight for"),
    ("reprices_refused", "Replacements of orders that were throttled"),
    ("rate_errors", "Times the exchange found us too fast"),
    ("query_only_errors", "Executes refused to an address that may only ask"),
)
_CLOCK: Final = (
    ("steps", "Times that samples of the clock contradicted each other"),
    ("suspends", "Times that this machine slept"),
    ("wall_jumps", "Times that the local wall clock was set"),
)


def order_metrics(gateway: OrderGateway) -> Iterator[MetricFamily]:
    """Every figure of a gateway at this moment. Counters never fall while it lives."""
    stats = gateway.stats()
    requests = [Sample(float(stats[f"{path}_requests"]), (("path", path),)) for path in PATHS]
    yield _family("requests_total", "counter", "Requests by the way they left", requests)
    path = [Sample(float(stats["path"] == name), (("path", name),)) for name in PATHS]
    yield _family("path", "gauge", "1 for the way the next request would take", path)
    yield _gauge("in_flight", "Requests without an answer", stats["in_flight"])
    yield _family("round_trip_seconds", "summary", "Request to answer", quantiles_of(gateway.round_trip))
    yield _gauge("entry_discard_seconds", "Discard time of an entry", stats["entry_discard_ms"] / _MS)
    yield from _counters(stats, _COUNTERS)
    yield from _counters(stats["clock"], _CLOCK, "clock_")
    yield _gauge(
        "clock_uncertainty_seconds", "Of the exchange's clock", stats["clock"]["uncertainty_ms"] / _MS
    )
    if stats["budget"]:
        yield from _budget(stats["budget"])


def _budget(budget: Mapping[str, Any]) -> Iterator[MetricFamily]:
    yield from _counters(budget, _BUDGET, "budget_")
    scopes = budget["scopes"].items()
    for name, text in (("left", "Weight left for entries"), ("left_urgent", "Weight left, reserve included")):
        samples = [Sample(float(row[name]), (("scope", scope),)) for scope, row in scopes]
        yield _family(f"budget_{name}", "gauge", text, samples)
    pauses = [Sample(row["paused_s"], (("scope", scope),)) for scope, row in scopes]
    yield _family("budget_paused_seconds", "gauge", "Left of a pause after a rate error", pauses)
    yield _gauge("query_only_seconds", "Left of a pause of executes over HTTP", budget["query_only_s"])


def _counters(
    values: Mapping[str, Any], names: Iterable[tuple[str, str]], prefix: str = ""
) -> Iterator[MetricFamily]:
    for name, text in names:
        yield _family(f"{prefix}{name}_total", "counter", text, [Sample(float(values[name]))])


def _gauge(name: str, text: str, value: float) -> MetricFamily:
    return _family(name, "gauge", text, [Sample(float(value))])


def _family(name: str, kind: Kind, text: str, samples: Iterable[Sample]) -> MetricFamily:
    return MetricFamily(PREFIX + name, kind, text, tuple(samples))
