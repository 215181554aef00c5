"""Prometheus: the figures of `status`, served by the trading loop itself, in prometheus-client's formats."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from aiohttp import web
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.exposition import choose_encoder

from nadofast.metrics import MetricFamily

from .conditions import Code
from .model import Phase
from .status import Status

QUANTILES: Final = {"p50": "0.5", "p95": "0.95", "p99": "0.99"}
CLOSE_TIMEOUT_S: Final = 1.0


class StatusCollector:
    """Metric families from one status, made when they are asked for. Nothing is counted twice."""

    def __init__(self, status: Callable[[], Status]) -> None:
        self._status = status

    def collect(self) -> Iterator[Metric]:
        status = self._status()
        yield from _pair(status)
        yield from _market(status)
        yield from _money(status)
        yield from _limits(status)
        for name, value in sorted(status.counters.items()):
            yield CounterMetricFamily(f"nadofast_{name}", f"{name.replace('_', ' ')} since the start", value)


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, value)


class FamilyCollector:
    """Families of the library as they are at the moment they are asked for."""

    def __init__(self, families: Callable[[], Iterable[MetricFamily]]) -> None:
        self._families = families

    def collect(self) -> Iterator[Metric]:
        for family in self._families():
            name = family.name.removesuffix("_total") if family.kind == "counter" else family.name
            metric = Metric(name, family.help, family.kind)
            for sample in family.samples:
                metric.add_sample(family.name + sample.suffix, dict(sample.labels), sample.value)
            yield metric


class LoopCollector:
    """The event loop itself. To be asked from inside it."""

    def collect(self) -> Iterator[Metric]:
        count = float(len(asyncio.all_tasks()))
        yield _gauge("nadofast_tasks", "Tasks of the loop; more and more of them are a leak", count)


def _pair(status: Status) -> Iterator[Metric]:
    yield InfoMetricFamily("nadofast_bot", "What runs", {"venue": status.venue, "account": status.account})
    phase = GaugeMetricFamily("nadofast_phase", "1 for the phase the pair is in", labels=["phase"])
    for name in Phase:
        phase.add_metric([name.value], float(status.phase == name.value))
    yield phase
    yield _gauge("nadofast_phase_seconds", "Time in the phase", status.phase_s)
    trouble = GaugeMetricFamily("nadofast_trouble", "1 while something is wrong, by code", labels=["code"])
    standing = {one.code for one in status.trouble}
    for code in Code:
        trouble.add_metric([code.value], float(code.value in standing))
    yield trouble
    yield _gauge("nadofast_blind_seconds", "Since the last word of the exchange", status.blind_s)
    yield _gauge("nadofast_halted", "1 when a limit has latched", float(bool(status.halt)))
    yield CounterMetricFamily("nadofast_cycles", "Complete cycles", status.cycles_done)
    yield _gauge(
        "nadofast_net_delta_ratio", "Signed notional of both legs over gross", status.net_delta_pct / 100
    )


def _market(status: Status) -> Iterator[Metric]:
    age = GaugeMetricFamily("nadofast_quote_age_seconds", "Age of the touch", labels=["product"])
    valid = GaugeMetricFamily("nadofast_book_valid", "1 when the book may be traded on", labels=["product"])
    position = GaugeMetricFamily("nadofast_position", "Signed position in units", labels=["product"])
    for leg in status.legs:
        if leg.age_ms is not None:
            age.add_metric([leg.symbol], leg.age_ms / 1_000)
        valid.add_metric([leg.symbol], float(leg.book == "valid"))
        position.add_metric([leg.symbol], float(leg.position))
    yield from (age, valid, position)
    link = GaugeMetricFamily("nadofast_link_live", "1 when the socket is live", labels=["link"])
    for one in status.links:
        link.add_metric([one.name], float(one.state == "LIVE"))
    yield link
    yield _gauge("nadofast_uptime_ratio", "Share of time with fresh data", status.uptime)
    if status.clock_uncertainty_ms is not None:
        yield _gauge(
            "nadofast_clock_uncertainty_seconds", "Of the exchange's clock", status.clock_uncertainty_ms / 1e3
        )
    quantiles = GaugeMetricFamily(
        "nadofast_latency_seconds", "Latency by kind and quantile", labels=["kind", "quantile"]
    )
    for kind, values in sorted(status.latencies.items()):
        for name, value_ms in values.items():
            quantiles.add_metric([kind, QUANTILES[name]], value_ms / 1_000)
    yield quantiles


def _money(status: Status) -> Iterator[Metric]:
    pnl = GaugeMetricFamily("nadofast_pnl_usd", "Since the start, by source", labels=["source"])
    parts = (
        ("price", status.pnl.price_usd), ("fees", -status.pnl.fees_usd), ("funding", status.pnl.funding_usd),
        ("net", status.pnl.net_usd), ("day", status.pnl.day_usd),
    )  # fmt: skip
    for source, value in parts:
        pnl.add_metric([source], value)
    yield pnl
    yield CounterMetricFamily("nadofast_volume_usd", "Traded notional", status.pnl.volume_usd)


def _limits(status: Status) -> Iterator[Metric]:
    used = GaugeMetricFamily("nadofast_limit_used_ratio", "Share of a limit that is used", labels=["limit"])
    for limit in status.limits:
        if limit.limit > 0:
            used.add_metric([limit.name], limit.used / limit.limit)
    yield used


class Exporter:
    """`GET /metrics` and `GET /healthz` on one address. `port` is the one in use once started. families: what
    else there is to tell."""

    def __init__(
        self,
        status: Callable[[], Status],
        host: str,
        port: int,
        families: Callable[[], Iterable[MetricFamily]] = tuple,
    ) -> None:
        self._status = status
        self._host = host
        self._registry = CollectorRegistry()
        self._registry.register(StatusCollector(status))
        self._registry.register(LoopCollector())
        self._registry.register(FamilyCollector(families))
        ProcessCollector(
            registry=self._registry
        )  # memory, open files, CPU time: what an operator watches grow
        self._runner: web.AppRunner | None = None
        self.port = port

    async def start(self) -> None:
        """Raises OSError if the port is taken."""
        app = web.Application()
        app.router.add_get("/metrics", self._metrics)
        app.router.add_get("/healthz", self._healthz)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=CLOSE_TIMEOUT_S)
        await self._runner.setup()
        site = web.TCPSite(self._runner, self._host, self.port)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _metrics(self, request: web.Request) -> web.Response:
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        return web.Response(body=encode(self._registry), headers={"Content-Type": content_type})

    async def _healthz(self, request: web.Request) -> web.Response:
        """200 while the loop runs and nothing is halted, else 503 with the reason."""
        halt = self._status().halt
        return web.Response(status=503 if halt else 200, text=halt or "ok")
