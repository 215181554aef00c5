"""What the client tests share: sample payloads, waiting with a deadline, and one venue with all its parts."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from nadofast import (
    Feed,
    FeedConfig,
    GatewayConfig,
    LinkConfig,
    Network,
    OrderGateway,
    OrderTracker,
    Product,
    Rest,
    Signer,
    TimeSync,
)

DATA = Path(__file__).resolve().parent.parent / "data"
DEADLINE_S = 30.0


def sample(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((DATA / "samples" / f"{name}.json").read_text())
    return loaded


async def until(condition: Callable[[], Any], what: str, deadline_s: float = DEADLINE_S) -> None:
    """Wait for a condition, or fail naming it."""
    end = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < end, f"not within {deadline_s} s: {what}"
        await asyncio.sleep(0.005)


@dataclass
class Venue:
    """An exchange, and what a client of it needs."""

    ready: dict[str, Any]
    network: Network
    signer: Signer
    rest: Rest
    products: dict[int, Product]
    timesync: TimeSync = field(default_factory=TimeSync)
    tracker: OrderTracker = field(default_factory=OrderTracker)

    @property
    def subaccount(self) -> str:
        return self.signer.subaccount()

    async def faults(self, **request: Any) -> None:
        async with aiohttp.ClientSession() as session:
            async with session.post(f"{self.ready['control']}/faults", json=request) as response:
                assert response.status == 200, await response.text()

    async def state(self) -> dict[str, Any]:
        async with aiohttp.ClientSession() as session:
            async with session.get(f"{self.ready['control']}/state") as response:
                loaded: dict[str, Any] = await response.json()
                return loaded

    def feed(self, **options: Any) -> Feed:
        options.setdefault("products", [4, 8])
        options.setdefault("config", FeedConfig(link=FAST_LINK_WITH_DATA, query_link=FAST_LINK))
        feed = Feed(self.network, signer=self.signer, timesync=self.timesync, **options)
        feed.on("fill", self.tracker.on_fill)
        feed.on("order_update", self.tracker.on_order_update)
        return feed

    def gateway(self, **options: Any) -> OrderGateway:
        options.setdefault("rest", self.rest)
        # Tests share the machine: an order of theirs may wait for the processor.
        options.setdefault("config", GatewayConfig(link=FAST_LINK, min_entry_discard_ms=3_000))
        return OrderGateway(
            self.network,
            self.signer,
            products=self.products,
            timesync=self.timesync,
            tracker=self.tracker,
            **options,
        )


FAST_LINK = LinkConfig(backoff_base_s=0.02, backoff_cap_s=0.2, close_timeout_s=0.5)
FAST_LINK_WITH_DATA = LinkConfig(
    backoff_base_s=0.02, backoff_cap_s=0.2, close_timeout_s=0.5, data_timeout_s=0.6, probe_timeout_s=1.0
)
