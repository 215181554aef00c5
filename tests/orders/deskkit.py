"""Two clients on one feed and one gateway, as the bot builds them, and a stranger to trade with."""

from __future__ import annotations

import asyncio
import json
import time
import urllib.request
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from simproc import start_sim

from bot.client import NadoClient
from bot.ledger import Ledger
from bot.market import Market
from bot.reconcile import Reconciler
from bot.risk import RiskGate, RiskLimits
from bot.standing import Standing
from nadofast import Feed, FeedConfig, OrderGateway, OrderTracker, Rest, Signer, TimeSync, custom, to_x18
from nadofast.connection import LinkConfig
from nadofast.events import FillEvent
from nadofast.gateway import OrderRequest
from nadofast.orders import TrackedOrder
from nadofast.products import Product
from nadofast.signing import OrderType

ETH, SOL = 4, 8
SIZE = Decimal("0.1")
LIMITS = RiskLimits(to_x18(20_000), to_x18(40_000), to_x18(1_000), 5_000)
LINK = LinkConfig(backoff_base_s=0.02, backoff_cap_s=0.2, close_timeout_s=0.5)


@dataclass
class Stranger:
    """Another account: it puts an order into the spread, for ours to meet."""

    gateway: OrderGateway
    products: dict[int, Product]

    async def offer(self, product_id: int, price: Decimal, amount: Decimal) -> str:
        """A resting order; its digest. A negative amount sells."""
        outcome = await self.gateway.place(
            OrderRequest(product_id, to_x18(price), to_x18(amount), OrderType.POST_ONLY)
        )
        assert outcome.is_confirmed, outcome
        return outcome.digest

    async def take(self, product_id: int, price: Decimal, amount: Decimal) -> None:
        outcome = await self.gateway.place(
            OrderRequest(product_id, to_x18(price), to_x18(amount), OrderType.IOC)
        )
        assert outcome.is_confirmed, outcome


@dataclass
class Desk:
    eth: NadoClient
    sol: NadoClient
    gateway: OrderGateway
    feed: Feed
    gate: RiskGate
    stranger: Stranger
    ready: dict[str, Any]

    async def faults(self, **request: Any) -> None:
        await asyncio.to_thread(self._post, "faults", request)

    async def state(self) -> dict[str, Any]:
        found: dict[str, Any] = await asyncio.to_thread(self._get, "state")
        return found

    def _post(self, path: str, request: dict[str, Any]) -> None:
        body, header = json.dumps(request).encode(), {"Content-Type": "application/json"}
        call = urllib.request.Request(f"{self.ready['control']}/{path}", body, header)
        urllib.request.urlopen(call, timeout=5).close()

    def _get(self, path: str) -> Any:
        with urllib.request.urlopen(f"{self.ready['control']}/{path}", timeout=5) as answer:
            return json.load(answer)

    async def stand_still(self) -> None:
        """Nobody trades but us and the stranger, and the book that is shown is the book that is."""
        await self.faults(pause_market=True)
        await asyncio.sleep(0.12)  # the depth batches under way

    async def inside(self, client: NadoClient, side: str) -> Decimal:
        """A price inside the spread; waits for one: `buy` above the bid, `sell` below the ask."""
        product = client.product
        end_s = time.monotonic() + 10
        while True:
            await self.stand_still()
            quote = client.quote()
            if quote.ask_x18 - quote.bid_x18 >= 2 * product.price_increment_x18:
                return await client.get_order_price(side)
            assert time.monotonic() < end_s, "the spread is one tick all the time"
            await self.faults(clear="pause_market")
            await asyncio.sleep(0.1)

    def order(self, digest: str | None) -> TrackedOrder:
        order = self.gateway.tracker.get(digest or "")
        assert order is not None
        return order


@asynccontextmanager
async def open_desk(**options: Any) -> AsyncIterator[Desk]:
    async with AsyncExitStack() as stack:
        sim = await stack.enter_async_context(start_sim(**{"seed": 5, "accounts": 2, **options}))
        network = custom("sim", sim.ready)
        ours, other = (
            Signer(
                account["private_key"], chain_id=network.chain_id, endpoint_address=network.endpoint_address
            )
            for account in sim.ready["accounts"]
        )
        timesync, tracker = TimeSync(), OrderTracker()
        rest = await stack.enter_async_context(Rest(network, timeout_s=2.0))
        products = await rest.products([ETH, SOL])
        pair = (products[ETH], products[SOL])
        feed = Feed(
            network, products=[ETH, SOL], signer=ours, rest=rest, timesync=timesync,
            config=FeedConfig(link=LINK, query_link=LINK),
        )  # fmt: skip
        market, ledger = Market(feed, pair), Ledger((ETH, SOL))
        gate = RiskGate(LIMITS, Standing(ledger, market).risk_view)
        gateway = OrderGateway(
            network, ours, products=products, timesync=timesync, rest=rest, tracker=tracker,
            before_send=gate.admit,
        )  # fmt: skip
        reconciler = Reconciler(
            rest, gateway, ledger, tracker, subaccount=ours.subaccount(), product_ids=(ETH, SOL)
        )

        def on_fill(fill: FillEvent) -> None:
            ledger.apply(fill)
            tracker.on_fill(fill)

        feed.on("fill", on_fill)
        feed.on("order_update", tracker.on_order_update)
        eth, sol = (
            NadoClient(
                product, market=market, gateway=gateway, gate=gate, timesync=timesync, feed=feed,
                reconciler=reconciler, discard_ms=2_000,
            )
            for product in pair
        )  # fmt: skip
        strange = OrderGateway(network, other, products=products, timesync=timesync, rest=rest)
        await stack.enter_async_context(feed)
        await stack.enter_async_context(gateway)
        await stack.enter_async_context(strange)
        await asyncio.gather(eth.connect(), sol.connect())
        stack.push_async_callback(eth.disconnect)
        stack.push_async_callback(sol.disconnect)
        yield Desk(eth, sol, gateway, feed, gate, Stranger(strange, products), sim.ready)


async def until(condition: Callable[[], Any], what: str, deadline_s: float = 30.0) -> None:
    """Wait for a condition, or fail naming it."""
    end_s = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < end_s, f"not within {deadline_s} s: {what}"
        await asyncio.sleep(0.002)
