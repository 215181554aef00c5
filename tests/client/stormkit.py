"""Traders in a storm: several accounts of one exchange, each with its own seed, sockets, journal and cuts.

A storm is one exchange with one weather; every trader in it is one scenario. Its seed says what it sends and
where its sockets are cut: before a request, under it, or after it. Time-outs are a tenth of those in use.
When the weather is over everything has to be known, and the exchange's own record is the oracle.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import aiohttp
from chaosrecord import note
from simproc import start_sim

from bot.journal import Journal, read
from nadofast import (
    Feed,
    FeedConfig,
    GatewayConfig,
    LinkConfig,
    NadoRateLimiter,
    Network,
    OrderGateway,
    OrderRequest,
    OrderTracker,
    OrderType,
    Outcome,
    OutcomeKind,
    Product,
    Rest,
    Signer,
    TimeSync,
    custom,
    to_x18,
)
from nadofast.backfill import BackfillConfig
from nadofast.errors import NadoError
from nadofast.fallback import FallbackConfig
from nadofast.resolver import ResolverConfig

ETH = 4
SIZE_X18 = to_x18("0.1")
STEPS = 8
LINK = LinkConfig(
    handshake_timeout_s=1.0, close_timeout_s=0.2, backoff_base_s=0.01, backoff_cap_s=0.1, data_timeout_s=None
)
FEED = FeedConfig(
    link=replace(LINK, data_timeout_s=0.5, probe_timeout_s=0.5),
    query_link=LINK,
    fallback=FallbackConfig(down_s=0.1, up_s=0.1, poll_s=0.1, audit_s=0.5),
    backfill=BackfillConfig(looks_s=(0.02, 0.1, 0.3, 0.6, 1.0)),
)
ORDERS = GatewayConfig(
    reply_timeout_s=0.1,
    discard_after_ms=500,
    min_entry_discard_ms=300,
    time_retry_s=0.05,
    confirm_s=0.5,
    resolver=ResolverConfig(poll_s=0.03, poll_cap_s=0.15),
    link=LINK,
)
QUIET_S = 20.0


def weather(rng: random.Random) -> dict[str, Any]:
    """What the exchange does wrong while the storm lasts."""
    draw = rng.choice
    wanted: dict[str, dict[str, Any]] = {
        "lose_reply": {"probability": draw((0.0, 0.1, 0.3))},
        "out_of_order": {"probability": draw((0.0, 0.3)), "ms": 60},
        "rate_error": {
            "probability": draw((0.0, 0.05)),
            "kind": "place_order",
            "form": draw(("code", "http")),
        },
        "drop": {
            "probability": draw((0.0, 0.1)),
            "kind": draw(("fill", "order_update")),
            "scope": "subscribe",
        },
        "duplicate": {"probability": draw((0.0, 0.2)), "kind": "fill", "scope": "subscribe"},
        "reorder": {"probability": draw((0.0, 0.2)), "kind": "order_update", "scope": "subscribe"},
        "delay_request": {"ms": draw((0, 0, 20)), "jitter_ms": draw((0, 40))},
        "archive_lag": {"seconds": draw((0.0, 0.3, 0.6))},
    }
    return {name: rule for name, rule in wanted.items() if next(iter(rule.values()))}


def squall(rng: random.Random) -> dict[str, Any]:
    """What happens once, in the middle."""
    return rng.choice(
        (
            {"restart": {"for_s": 0.3, "orders": rng.choice(("kept", "wiped"))}},
            {"maintenance": {"for_s": 0.3}},
            {"query_only": {"for_s": 0.4}},
            {"v2_refused": {"for_s": 0.5}, "cut": {"scope": "gateway"}},
            {"cut": {"scope": "all", "how": rng.choice(("fin", "rst", "close"))}},
            {"half_open": "gateway"},
        )
    )  # type: ignore[return-value]


@dataclass
class Result:
    """known_ms: sent to known, of every request that left. problems: what did not agree with the exchange.
    moments: when sockets were cut, around a request."""

    known_ms: list[float] = field(default_factory=list)
    kinds: dict[str, int] = field(default_factory=dict)
    cuts: int = 0
    problems: list[str] = field(default_factory=list)
    moments: set[str] = field(default_factory=set)

    def add(self, other: Result) -> None:
        self.known_ms += other.known_ms
        self.cuts += other.cuts
        self.problems += other.problems
        for kind, count in other.kinds.items():
            self.kinds[kind] = self.kinds.get(kind, 0) + count


class Trader:
    """One scenario: an account, a seed, a life of a few seconds."""

    def __init__(
        self, seed: int, network: Network, key: str, products: dict[int, Product], directory: Path
    ) -> None:
        self.seed, self.rng = seed, random.Random(seed)
        self.network, self.products = network, products
        self.signer = Signer(key, chain_id=network.chain_id, endpoint_address=network.endpoint_address)
        self.subaccount = self.signer.subaccount()
        self.path = directory / f"journal-{seed}"
        self.tracker, self.timesync = OrderTracker(), TimeSync()
        self.result = Result()
        self._intents = 0
        self._asked: set[asyncio.Task[Outcome]] = set()

    async def start(self, stack: AsyncExitStack) -> None:
        self.journal = stack.enter_context(Journal(self.path, account=self.subaccount))
        self.tracker.on_change(self.journal.note)
        self.rest = await stack.enter_async_context(Rest(self.network, timeout_s=1.0))
        self.feed = Feed(
            self.network, products=[ETH], streams=["best_bid_offer"], signer=self.signer, rest=self.rest,
            timesync=self.timesync, config=FEED,
        )  # fmt: skip
        self.feed.on("fill", self.tracker.on_fill)
        self.feed.on("order_update", self.tracker.on_order_update)
        self.feed.on("boundary", lambda e: self.tracker.on_gap() if e.what.startswith("link") else None)
        self.gateway = OrderGateway(
            self.network, self.signer, products=self.products, timesync=self.timesync, rest=self.rest,
            tracker=self.tracker, limiter=NadoRateLimiter(), journal=self.journal.record_all, config=ORDERS,
        )  # fmt: skip
        await stack.enter_async_context(self.feed)
        await stack.enter_async_context(self.gateway)
        await self.feed.wait_synced(QUIET_S)

    async def trade(self) -> None:
        """The storm: one step after another, requests of the former ones still under way."""
        for _ in range(STEPS):
            step = self.rng.choice(
                (self._take, self._take, self._pair, self._rest, self._withdraw, self._move)
            )
            try:
                await step()
            except NadoError:
                await asyncio.sleep(0.02)
            await asyncio.sleep(self.rng.choice((0.0, 0.0, 0.03, 0.15)))

    # ---- steps

    async def _request(self, kind: OrderType, side: int) -> OrderRequest:
        book = await self.rest.market_liquidity(ETH, depth=1)
        touch_x18 = (book.asks if side > 0 else book.bids)[0][0]
        if kind is OrderType.POST_ONLY:
            touch_x18 = (book.bids if side > 0 else book.asks)[0][0]
            price_x18 = touch_x18 * (1000 - side * self.rng.choice((1, 1, 30))) // 1000
        else:
            price_x18 = touch_x18 * (100 + side) // 100
        self._intents += 1
        price_x18 = self.products[ETH].round_price(price_x18, "down" if side < 0 else "up")
        return OrderRequest(ETH, price_x18, side * SIZE_X18, kind, client_id=self._intents)

    def _send(self, work: Any) -> asyncio.Task[Outcome]:
        """Start a request, with a cut of the order socket before, under or after it now and then."""
        moment = self.rng.choice(("before", "under", "after", "", "", ""))
        self.result.moments.add(f"cut {moment} a request" if moment else "no cut")
        if moment == "before":
            self._cut()
        task = asyncio.ensure_future(self._known(work))
        self._asked.add(task)
        if moment == "under":  # in the turn after the one that writes
            asyncio.get_running_loop().call_soon(asyncio.get_running_loop().call_soon, self._cut)
        elif moment == "after":
            asyncio.get_running_loop().call_later(self.rng.uniform(0.001, 0.05), self._cut)
        return task

    def _cut(self) -> None:
        if self.gateway.link.is_live:
            self.result.cuts += 1
            self.gateway.link.cut("cut by the plan")

    async def _known(self, work: Any, began_s: float | None = None) -> Outcome:
        """The outcome of a request about an order, however often it takes to ask."""
        began_s = began_s or time.monotonic()
        outcome: Outcome = await work
        while outcome.kind is OutcomeKind.UNKNOWN and self.tracker.get(outcome.digest) is not None:
            outcome = await self.gateway.resolve(outcome.digest, ETH, QUIET_S)
        if outcome.kind is not OutcomeKind.DENIED:
            self.result.known_ms.append((time.monotonic() - began_s) * 1e3)
        self.result.kinds[outcome.kind.value] = self.result.kinds.get(outcome.kind.value, 0) + 1
        return outcome

    async def _take(self) -> None:
        self._send(self.gateway.place(await self._request(OrderType.IOC, self.rng.choice((1, -1)))))

    async def _pair(self) -> None:
        """Two orders in one turn; each is known by itself."""
        legs = [await self._request(OrderType.IOC, side) for side in (1, -1)]
        began_s = time.monotonic()
        for outcome in await self.gateway.place_many(legs):
            self._asked.add(asyncio.ensure_future(self._known(_already(outcome), began_s)))

    async def _rest(self) -> None:
        self._send(self.gateway.place(await self._request(OrderType.POST_ONLY, self.rng.choice((1, -1)))))

    async def _withdraw(self) -> None:
        """The cancel leaves while the order is under way, or after its answer."""
        placing = self._send(
            self.gateway.place(await self._request(OrderType.POST_ONLY, self.rng.choice((1, -1))))
        )
        if self.rng.random() < 0.5:
            await placing
        else:
            await asyncio.sleep(0)
        live = self.tracker.live()
        if live:
            self._send(self.gateway.cancel(ETH, live[-1].digest))

    async def _move(self) -> None:
        """Re-price whatever rests, demanding what is believed to be unfilled."""
        live = [order for order in self.tracker.live() if order.may_rest and order.was_accepted]
        if not live:
            return await self._rest()
        old = self.rng.choice(live)
        request = await self._request(OrderType.POST_ONLY, 1 if old.is_buy else -1)
        left_x18 = old.remaining_x18 if old.is_buy else -old.remaining_x18
        self._send(self.gateway.cancel_and_place(ETH, old.digest, request, left_x18))
        return None

    # ---- afterwards

    async def settle(self) -> None:
        """The weather is over: withdraw what rests, and wait until every end is known."""
        async with asyncio.timeout(QUIET_S):
            await asyncio.gather(*self._asked)
            while True:
                await self.gateway.cancel_product([ETH])
                if not await self.rest.subaccount_orders(self.subaccount, ETH):
                    break
            for order in list(self.tracker._orders.values()):
                if not order.is_terminal and not order.was_accepted:
                    await self.gateway.resolve(order.digest, ETH, QUIET_S)
                if order.was_accepted and not order.is_settled:
                    await self.gateway.settle(order.digest, ETH, QUIET_S)

    def problems(self, truth: dict[str, Any]) -> list[str]:
        """Journal and records against the exchange; empty if they agree."""
        found, problems = read(self.path), []
        fills: dict[str, list[int]] = {}
        for row in truth["fills"]:
            if row["subaccount"] == self.subaccount:
                fills.setdefault(row["digest"], []).append(abs(int(row["base"])))
        taken = {
            digest
            for row in truth["executes"]
            if row["error_code"] is None and (row["sender"] or "").lower() == self.subaccount
            and row["execute"] in ("place_order", "cancel_and_place")
            for digest in row["digests"]
        }  # fmt: skip
        if strays := (taken | fills.keys()) - found.intents.keys():
            problems.append(f"orders nobody wrote down: {strays}")
        intents = [fields["client_id"] for fields in found.intents.values()]
        if len(intents) != len(set(intents)):
            problems.append("an intent was signed twice")
        for digest in found.intents:
            record, truly = self.tracker.get(digest), sum(fills.get(digest, ()))
            if record is None or record.filled_x18 != truly:
                problems.append(f"{digest}: filled {truly}, record {record}")
            end = found.ends.get(digest)
            if end is None or int(end["filled_x18"]) != truly:
                problems.append(f"{digest}: filled {truly}, journal {end}, record {record}")
            if truly > SIZE_X18:
                problems.append(f"{digest}: filled more than its size")
            if record is not None and record.state.value == "rejected" and digest in taken and truly:
                problems.append(f"{digest}: rejected, and the exchange took it")
        return [f"seed {self.seed}: {problem}" for problem in problems]


async def _already(outcome: Outcome) -> Outcome:
    return outcome


async def storm(seeds: Sequence[int], directory: Path) -> Result:
    """One exchange, one weather, one trader for each seed."""
    rng = random.Random(f"storm {seeds[0]}")
    switches = {
        "dead_digest": "fill_remainder" if seeds[0] // len(seeds) % 2 else "reject",
        "recheck_recv_time": rng.random() < 0.5,
    }
    rules, blow = weather(rng), squall(rng)
    result = Result()
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(
            start_sim(seed=seeds[0] + 1, rate=40, accounts=len(seeds), switches=switches)
        )
        network, http = custom("sim", server.ready), await stack.enter_async_context(aiohttp.ClientSession())

        async def strike(request: dict[str, Any]) -> None:
            async with http.post(f"{server.ready['control']}/faults", json=request) as response:
                assert response.status == 200, await response.text()

        async with Rest(network) as rest:
            products = await rest.products([ETH])
        keys = [account["private_key"] for account in server.ready["accounts"]]
        traders = [Trader(s, network, key, products, directory) for s, key in zip(seeds, keys, strict=True)]
        await asyncio.gather(*(trader.start(stack) for trader in traders))
        await strike(rules)
        trading = asyncio.gather(*(trader.trade() for trader in traders))
        await asyncio.sleep(rng.uniform(0.2, 0.8))
        await strike(blow)
        await trading
        await asyncio.sleep(0.4)
        await strike({"clear": "all"})
        settled = await asyncio.gather(*(trader.settle() for trader in traders), return_exceptions=True)
        await asyncio.sleep(1.2)  # an audit of the feeds may bring what the stream kept to itself
        async with http.get(f"{server.ready['control']}/state") as response:
            truth = await response.json()
        for trader, error in zip(traders, settled, strict=True):
            if error is not None:
                trader.result.problems.append(f"seed {trader.seed}: {type(error).__name__} {error}")
            trader.result.problems += trader.problems(truth)
            result.add(trader.result)
            for number, moment in enumerate(sorted(trader.result.moments)):
                note(
                    "orders over sockets", [*rules, *blow], moment,
                    recovery_ms=max(trader.result.known_ms, default=0.0),
                    facts=0 if number else len(trader.tracker._orders),
                    failure="; ".join(trader.result.problems),
                )  # fmt: skip
    result.problems = [f"{problem} [{switches} {rules} {blow}]" for problem in result.problems]
    return result
