"""Prometheus: what is served, that its own parser reads it, and that it says what the status says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families
from statuskit import sample

from bot.exporter import Exporter
from bot.status import Status


class Page:
    def __init__(self) -> None:
        self.status: Status = sample()
        self.exporter = Exporter(lambda: self.status, "127.0.0.1", 0)

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
