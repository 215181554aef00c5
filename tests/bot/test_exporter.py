"""Prometheus: what is served, that its own parser reads it, and that it says what the status says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families
from simproc import start_sim
from statuskit import sample

from bot.exporter import Exporter
from bot.status import Status
from nadofast import (
    NadoRateLimiter,
    OrderGateway,
    OrderRequest,
    OrderType,
    Rest,
    Signer,
    TimeSync,
    custom,
    to_x18,
)
from nadofast.metrics import MetricFamily
from nadofast.order_metrics import order_metrics


class Page:
    def __init__(self, families: Callable[[], Iterable[MetricFamily]] = tuple) -> None:
        self.status: Status = sample()
        self.exporter = Exporter(lambda: self.status, "127.0.0.1", 0, families)

    async def get(self, path: str, accept: str = "text/plain") -> tuple[int, str, str]:
        url = f"http://127.0.0.1:{self.exporter.port}{path}"
        async with aiohttp.ClientSession() as session, session.get(url, headers={"Accept": accept}) as reply:
            return reply.status, await reply.text(), reply.headers["Content-Type"]

    async def values(self) -> dict[str, float]:
        _, text, _ = await self.get("/metrics")
        return {
            sample.name + "".join(f" {v}" for v in sample.labels.values()): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }


@pytest.fixture
async def page() -> AsyncIterator[Page]:
    one = Page()
    await one.exporter.start()
    yield one
    await one.exporter.stop()


async def test_the_figures_are_those_of_the_status(page: Page) -> None:
    values = await page.values()
    assert values["nadofast_phase HEDGED"] == 1
    assert values["nadofast_phase FLAT"] == 0
    assert values["nadofast_position SOL-PERP"] == -1.3
    assert values["nadofast_book_valid ETH-PERP"] == 1
    assert values["nadofast_book_valid SOL-PERP"] == 0
    assert "nadofast_quote_age_seconds SOL-PERP" not in values  # not known is absent, not zero
    assert values["nadofast_pnl_usd fees"] == -0.3
    assert values["nadofast_pnl_usd net"] == -0.49
    assert values["nadofast_latency_seconds depth wire to book 0.99"] == pytest.approx(2e-5)
    assert values["nadofast_limit_used_ratio daily loss"] == 0.15
    assert values["nadofast_orders_sent_total"] == 12
    assert values["nadofast_halted"] == 0


async def test_the_order_figures_of_a_gateway_that_trades_are_scraped() -> None:
    """From the exchange to the page: requests by path, round trips, clock and budget of a real gateway."""
    async with start_sim(seed=11) as server, Rest(custom("sim", server.ready)) as rest:
        network = custom("sim", server.ready)
        key, chain_id = server.ready["accounts"][0]["private_key"], network.chain_id
        signer = Signer(key, chain_id=chain_id, endpoint_address=network.endpoint_address)
        gateway = OrderGateway(
            network, signer, products=await rest.products([4]), timesync=TimeSync(), rest=rest,
            limiter=NadoRateLimiter(),
        )  # fmt: skip
        book = await rest.market_liquidity(4, depth=1)
        resting = OrderRequest(4, book.bids[0][0], to_x18("0.1"), OrderType.POST_ONLY)
        page = Page(lambda: order_metrics(gateway))
        await gateway.start()
        await page.exporter.start()
        before = await page.values()
        assert (await gateway.place(resting)).is_confirmed
        after = await page.values()
        for accept in ("text/plain", "application/openmetrics-text; version=1.0.0"):
            status, text, _ = await page.get("/metrics", accept)
            assert status == 200
            names = [line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")]
            assert len(names) == len(set(names))  # no family twice, or a scraper refuses the page
        await page.exporter.stop()
        await gateway.stop()
    assert after["nadofast_orders_requests_total ws"] == before["nadofast_orders_requests_total ws"] + 1
    assert after["nadofast_orders_round_trip_seconds_count"] == 1
    assert 0 < after["nadofast_orders_round_trip_seconds 0.99"] < 60
    assert after["nadofast_orders_path ws"] == 1
    left = "nadofast_orders_budget_left execute"
    assert after[left] == before[left] - 1
    assert after["nadofast_orders_clock_uncertainty_seconds"] > 0
    assert after["nadofast_phase HEDGED"] == 1  # and what the status says is still there


async def test_what_a_leak_would_show_in_is_served(page: Page) -> None:
    before = await page.values()
    waiting = [asyncio.create_task(asyncio.sleep(60)) for _ in range(5)]
    after = await page.values()
    for task in waiting:
        task.cancel()
    assert after["nadofast_tasks"] >= before["nadofast_tasks"] + 5
    assert before["process_open_fds"] >= 3
    assert before["process_resident_memory_bytes"] > 10**7


async def test_a_halt_is_seen_by_metrics_and_health_check(page: Page) -> None:
    assert (await page.get("/healthz"))[:2] == (200, "ok")
    page.status = sample(phase="HALTED", halt="daily loss 10 USD reached the limit")
    assert (await page.get("/healthz"))[:2] == (503, "daily loss 10 USD reached the limit")
    assert (await page.values())["nadofast_halted"] == 1


async def test_open_metrics_is_spoken_to_those_who_ask_for_it(page: Page) -> None:
    status, text, kind = await page.get("/metrics", "application/openmetrics-text; version=1.0.0")
    assert status == 200
    assert kind.startswith("application/openmetrics-text")
    assert text.endswith("# EOF\n")


async def test_other_paths_do_not_exist_and_a_taken_port_is_an_error(page: Page) -> None:
    assert (await page.get("/"))[0] == 404
    with pytest.raises(OSError, match="in use"):
        await Exporter(lambda: page.status, "127.0.0.1", page.exporter.port).start()
