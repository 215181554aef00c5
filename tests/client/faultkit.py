"""Seeded bad days of a feed: one seed says what goes wrong, in which state, and what we trade meanwhile.

A scenario ends at a quiet point, where the exchange's own record is the oracle: valid books equal its
snapshots, and what a consumer was told of the account is what happened, nothing lost, nothing twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Any

import aiohttp
from clientkit import until

from nadofast import (
    Feed,
    FeedConfig,
    GatewayConfig,
    LinkConfig,
    LinkState,
    NadoConnectionMode,
    OrderGateway,
    OrderRequest,
    OrderTracker,
    OrderType,
    Rest,
    Signer,
    TimeSync,
    custom,
    errors,
    to_x18,
)
from nadofast.backfill import BackfillConfig
from nadofast.booksync import CheckConfig
from nadofast.fallback import FallbackConfig
from nadofast.sequence import SyncConfig

LINK = LinkConfig(
    handshake_timeout_s=1.0,
    setup_timeout_s=2.0,
    close_timeout_s=0.3,
    backoff_base_s=0.03,
    backoff_cap_s=0.3,
    data_timeout_s=0.5,
    probe_timeout_s=0.6,
    watch_interval_s=0.05,
)
CONFIG = FeedConfig(
    link=LINK,
    query_link=replace(LINK, data_timeout_s=None),
    checks=CheckConfig(product_quiet_s=1.0, planner=SyncConfig(error_base_s=0.05, error_cap_s=0.3)),
    fallback=FallbackConfig(down_s=0.15, up_s=0.2, poll_s=0.1, audit_s=0.5),
    backfill=BackfillConfig(looks_s=(0.02, 0.2, 0.5, 0.8)),
    ack_timeout_s=0.5,
    query_timeout_s=0.5,
    monitor_s=0.05,
)
STATES = ("connecting", "authenticating", "subscribing", "live", "stale", "backoff", "rest", "resyncing")
SIZES = {4: to_x18("0.1"), 8: to_x18("2")}
RECOVERY_S = 20.0
QUIET_S = 10.0

Fault = Callable[[random.Random], dict[str, Any]]


def _occasion(name: str, **params: Any) -> Fault:
    """Of a random kind of message, a few times."""
    kinds = ("book_depth", "best_bid_offer", "fill", "order_update", "position_change", None)

    def fault(rng: random.Random) -> dict[str, Any]:
        kind = rng.choice(kinds)
        rule = {"scope": "subscribe", "count": rng.choice((1, 2, 5)), **params}
        return {name: rule | ({} if kind is None else {"kind": kind})}

    return fault


def _for(name: str, *, low: float, high: float, **params: Any) -> Fault:
    return lambda rng: {name: {"for_s": round(rng.uniform(low, high), 2), **params}}


FAULTS: dict[str, Fault] = {
    "cut": lambda rng: {"cut": {"scope": "subscribe", "how": rng.choice(("fin", "rst", "close"))}},
    "cut_all": lambda rng: {"cut": {"scope": "all", "how": rng.choice(("fin", "rst", "close"))}},
    "half_open": lambda _: {"half_open": "subscribe"},
    "stall_read": lambda rng: {"stall_read": {"scope": "subscribe", "seconds": rng.uniform(0.1, 0.6)}},
    "socket_refused": _for("socket_refused", low=0.2, high=0.6),
    "mute": _for("mute", low=0.1, high=0.9, scope="subscribe"),
    "mute_account": lambda rng: {
        "mute": [
            {"kind": kind, "scope": "subscribe", "for_s": 0.4}
            for kind in ("fill", "order_update", "position_change")
        ]
    },
    "drop": _occasion("drop"),
    "drop_depth": lambda rng: {"drop_depth": {"product_id": rng.choice((4, 8)), "count": rng.choice((1, 6))}},
    "duplicate": _occasion("duplicate"),
    "duplicate_all": lambda _: {"duplicate": {"probability": 0.5, "for_s": 0.4, "scope": "subscribe"}},
    "reorder": _occasion("reorder"),
    "delay": _for("delay", low=0.2, high=0.5, ms=60, jitter_ms=60, scope="subscribe"),
    "batch": _for("batch", low=0.2, high=0.5, every_ms=120, scope="subscribe"),
    "corrupt_json": _occasion("corrupt_json"),
    "extra_fields": _occasion("extra_fields"),
    "swap_types": _occasion("swap_types"),
    "truncated_frame": _occasion("truncated_frame", count=1),
    "oversized_frame": _occasion("oversized_frame", count=1),
    "bad_deflate": _occasion("bad_deflate", count=1),
    "deflate_bomb": _occasion("deflate_bomb", count=1),
    "delay_request": _for("delay_request", low=0.2, high=0.4, ms=100, jitter_ms=50),
    "rate_error": lambda rng: {
        "rate_error": {
            "kind": "market_liquidity",
            "count": rng.choice((1, 4)),
            "form": rng.choice(("code", "http")),
        }
    },
    "http_error": lambda rng: {"http_error": {"count": rng.choice((1, 5))}},
    "stale_snapshot": lambda rng: {"stale_snapshot": {"count": rng.choice((1, 3))}},
    "archive_lag": _for("archive_lag", low=0.3, high=0.6, seconds=1),
    "auth_refused": lambda rng: {"auth_refused": {"count": rng.choice((1, 2))}},
    "lose_ack": lambda rng: {"lose_ack": {"kind": rng.choice(("authenticate", "subscribe", "time"))}},
    "pause_market": _for("pause_market", low=0.3, high=0.8),
    "clock_offset": _for("clock_offset", low=0.3, high=0.5, ms=-700),
    "maintenance": _for("maintenance", low=0.2, high=0.5),
    "restart": lambda rng: {"restart": {"for_s": 0.4, "orders": rng.choice(("kept", "wiped"))}},
    "funding": lambda _: {"funding": True},
    "liquidate": lambda rng: {"liquidate": {"subaccount": OWN, "product_id": rng.choice((4, 8))}},
}
# What nadosim can do besides, to requests of the order path and of whoever looks at the exchange's status.
NOT_OF_STREAMS = frozenset(
    {"v2_refused", "lose_reply", "refuse", "out_of_order", "query_only", "status", "chain_id"}
)
OWN = "the subaccount of the scenario"
# Breaks that put the feed into the state in which the fault is to strike.
SILENCE: dict[str, Any] = {"mute": {"for_s": 0.9, "scope": "subscribe"}}
PRELUDE: dict[str, dict[str, Any]] = {
    "backoff": {"cut": "subscribe"},
    "rest": {"socket_refused": {"for_s": 0.8}, "cut": "subscribe"},
}


@dataclass(frozen=True, slots=True)
class Scenario:
    """What a seed means. second: another fault shortly after, or None."""

    seed: int
    links: int
    products: tuple[int, ...]
    state: str
    fault: str
    request: dict[str, Any]
    second: dict[str, Any] | None
    orders: int

    @classmethod
    def of(cls, seed: int) -> Scenario:
        rng = random.Random(seed)
        names = tuple(FAULTS)
        # Every fault in turn, and each in every state in turn.
        turn, number = divmod(seed, len(names))
        fault, state = names[number], STATES[(number + turn) % len(STATES)]
        second = FAULTS[rng.choice(names)](rng) if rng.random() < 0.3 else None
        products = rng.choice(((4, 8), (4,), (4, 8)))
        request, orders = FAULTS[fault](rng), rng.randint(1, 4)
        return cls(seed, rng.choice((1, 1, 2)), products, state, fault, request, second, orders)


@dataclass
class Told:
    """Everything a consumer was told of the account, as it came. known, held_x18: fills and positions of
    before."""

    known: set[tuple[str, int]]
    held_x18: dict[int, int]
    fills: list[Any] = field(default_factory=list)
    updates: list[Any] = field(default_factory=list)
    positions: list[Any] = field(default_factory=list)

    def positions_x18(self) -> dict[int, int]:
        """Product → the cross position by the last word about it."""
        return self.held_x18 | {event.product_id: event.amount_x18 for event in self.positions}

    def open_orders(self) -> set[str]:
        last = {update.digest: update for update in self.updates}
        return {d for d, u in last.items() if u.reason != "cancelled" and u.amount_x18 != 0}


class Exchange:
    """One nadosim of several scenarios, and its control door."""

    def __init__(self, ready: dict[str, Any]) -> None:
        self.ready = ready
        self.network = custom("sim", ready)
        self._turn = 0

    def signer(self) -> Signer:
        """Another account each time: a scenario must not see the last one's fills as its own."""
        accounts = self.ready["accounts"]
        self._turn += 1
        return Signer(
            accounts[self._turn % len(accounts)]["private_key"],
            chain_id=self.network.chain_id,
            endpoint_address=self.network.endpoint_address,
        )

    @contextlib.asynccontextmanager
    async def control(self) -> AsyncIterator[Control]:
        async with aiohttp.ClientSession() as session:
            control = Control(session, self.ready["control"])
            await control.strike({"clear": "all"})
            yield control


@dataclass
class Control:
    session: aiohttp.ClientSession
    url: str

    async def strike(self, request: dict[str, Any]) -> dict[str, Any]:
        async with self.session.post(f"{self.url}/faults", json=request) as response:
            assert response.status == 200, await response.text()
            shown: dict[str, Any] = await response.json()
            return shown

    async def state(self) -> dict[str, Any]:
        return await self._get("state")

    async def health(self) -> dict[str, Any]:
        return await self._get("health")

    async def _get(self, what: str) -> dict[str, Any]:
        async with self.session.get(f"{self.url}/{what}") as response:
            shown: dict[str, Any] = await response.json()
            return shown


async def run(exchange: Exchange, scenario: Scenario) -> dict[str, Any]:
    """One scenario; figures of it. Raises AssertionError or a NadoError with what went wrong."""
    signer, timesync, tracker = exchange.signer(), TimeSync(), OrderTracker()
    async with exchange.control() as control, Rest(exchange.network) as rest:
        await rest.sync_time(timesync, 3)
        products = await rest.products(list(scenario.products))
        feed = Feed(
            exchange.network,
            products=scenario.products,
            signer=signer,
            rest=rest,
            config=CONFIG,
            timesync=timesync,
            links=scenario.links,
        )
        before = await control.state()
        told = Told(
            {(fill["digest"], int(fill["submission_idx"])) for fill in before["fills"]},
            positions_held_x18(before, signer.subaccount(), scenario.products),
        )
        feed.on("fill", told.fills.append)
        feed.on("order_update", told.updates.append)
        feed.on("position_change", told.positions.append)
        gateway = OrderGateway(
            exchange.network,
            signer,
            products=products,
            timesync=timesync,
            tracker=tracker,
            rest=rest,
            config=GatewayConfig(link=replace(LINK, data_timeout_s=None), reply_timeout_s=0.5),
        )
        began = time.monotonic()
        async with gateway, _closing(feed):
            await _strike(feed, control, scenario, told)
            await _history_known(feed)
            await trade(scenario, rest, gateway, tracker, products, feed)
            if scenario.second is not None:
                await control.strike(concerning(scenario.second, feed))
                await asyncio.sleep(0.05)
            await faults_over(control)
            calm = time.monotonic()
            await feed.wait_synced(RECOVERY_S)
            recovered_s, healed_s = time.monotonic() - began, time.monotonic() - calm
            await trade(replace(scenario, orders=1), rest, gateway, tracker, products, feed)
            await stand_still(control, rest, feed, scenario.products)
            await account_is_truth(control, scenario.products, told, signer.subaccount(), feed)
            stats = feed.stats()
            assert feed.failure is None
            assert stats["callback_errors"] == 0
            # One question a reason, asked again only if it failed or the answer was too old: no storms.
            reasons = len(scenario.products) * stats["connects"] + stats["resyncs"]
            asked = stats["snapshots"] + stats["snapshots_to_check"]
            # And a quiet product is checked each second.
            checks = len(scenario.products) * (time.monotonic() - began)
            most = 2 * reasons + stats["snapshot_failures"] + 6 + checks
            assert asked <= most, f"{asked} snapshots, {most:.0f} expected at most"
            await control.strike({"clear": "all"})
    return {
        "seed": scenario.seed,
        "fault": scenario.fault,
        "state": scenario.state,
        "links": scenario.links,
        "recovered_s": round(recovered_s, 3),
        "healed_s": round(healed_s, 3),
        "facts": len(told.fills) + len(told.updates) + len(told.positions),
        "snapshots": stats["snapshots"],
        "reasons": reasons,
        "checks": stats["snapshots_to_check"],
        "connects": stats["connects"],
        "resyncs": stats["resyncs"],
        "fills": len(told.fills),
        "fills_recovered": stats["fills_recovered"],
        "orders_recovered": stats["orders_recovered"],
        "mode_switches": stats["mode_switches"],
    }


@contextlib.asynccontextmanager
async def _closing(feed: Feed) -> AsyncIterator[None]:
    """The feed is started by whoever strikes; it is stopped here."""
    try:
        yield
    finally:
        await feed.stop()


async def _strike(feed: Feed, control: Control, scenario: Scenario, told: Told) -> None:
    """Start the feed and let the fault strike in the state the scenario names."""

    async def strike() -> None:
        await control.strike(concerning(scenario.request, feed))

    match scenario.state:
        case "connecting":
            await strike()
            # Nobody listened yet: what the fault did to positions is no news.
            told.held_x18 = positions_held_x18(await control.state(), str(feed.subaccount), scenario.products)
            await feed.start()
        case "authenticating":
            for group in (link.account for link in feed.pool.links):
                group.sign_in = _first(strike, group.sign_in)  # type: ignore[method-assign]
            await feed.start()
        case "subscribing":
            for group in (link.market for link in feed.pool.links):
                group.open = _first(strike, group.open)  # type: ignore[method-assign]
            await feed.start()
        case _:
            await feed.start()
            await feed.wait_synced(RECOVERY_S)
            if scenario.state in PRELUDE:
                await control.strike(PRELUDE[scenario.state])
            if scenario.state == "backoff":
                with contextlib.suppress(AssertionError):  # a back-off may be over before anybody looks
                    await until(lambda: feed.link.state is LinkState.BACKOFF, "backing off", 0.5)
            elif scenario.state == "stale":
                # One that is given up at once is not stale when somebody looks, and on a busy machine the
                # silence may end unnoticed.
                async with asyncio.timeout(4 * RECOVERY_S):
                    while not _was_stale(feed):
                        await control.strike(SILENCE)
                        with contextlib.suppress(AssertionError):
                            await until(lambda: _was_stale(feed), "a stale link", 1.5)
            elif scenario.state == "rest":
                await until(lambda: feed.mode is NadoConnectionMode.REST, "HTTP takes over", 3.0)
            elif scenario.state == "resyncing":
                product_id = scenario.products[0]
                while not feed.stats()["resyncs"]:  # what is lost before a snapshot is no gap
                    await control.strike({"drop_depth": product_id})
                    with contextlib.suppress(AssertionError):
                        await until(lambda: feed.stats()["resyncs"], "a gap", 0.5)
            await strike()


def _was_stale(feed: Feed) -> bool:
    histories = [link.manager.history for link in feed.pool.links]
    return any(entered.state is LinkState.STALE for history in histories for entered in history)


def concerning(request: dict[str, Any], feed: Feed) -> dict[str, Any]:
    """The request, concerning the subaccount of this feed where it concerns one."""
    return {
        name: rule | {"subaccount": feed.subaccount}
        if isinstance(rule, dict) and rule.get("subaccount") == OWN
        else rule
        for name, rule in request.items()
    }


async def _history_known(feed: Feed) -> None:
    """Fills from here on are news; from another second on even if the archive cannot be read."""
    standby = feed._upstream.standby
    assert standby is not None
    assert standby.backfill is not None
    assert standby.account is not None
    backfill, account = standby.backfill, standby.account
    with contextlib.suppress(AssertionError):
        await until(lambda: backfill.knows_history and account.has_base, "history", 1.2)


def _first(before: Callable[[], Awaitable[None]], method: Callable[..., Awaitable[Any]]) -> Any:
    """method, with something done before its first call."""
    has_run = False

    async def wrapped(*args: Any) -> Any:
        nonlocal has_run
        if not has_run:
            has_run = True
            await before()
        return await method(*args)

    return wrapped


async def trade(
    scenario: Scenario,
    rest: Rest,
    gateway: OrderGateway,
    tracker: OrderTracker,
    products: Any,
    feed: Feed,
) -> None:
    """Own orders while things go wrong: takers that fill, makers that rest, some of them cancelled."""
    rng = random.Random(scenario.seed)
    for number in range(scenario.orders):
        product_id = rng.choice(scenario.products)
        side = rng.choice((1, -1))
        taker = number % 2 == 0
        try:
            book = await rest.market_liquidity(product_id, 1)
            touch = (book.asks if side > 0 else book.bids)[0][0]
            away = 101 if taker == (side > 0) else 99
            price = products[product_id].round_price(touch * away // 100, "up" if side > 0 else "down")
            kind = OrderType.IOC if taker else OrderType.POST_ONLY
            outcome = await gateway.place(OrderRequest(product_id, price, side * SIZES[product_id], kind))
            if not taker and rng.random() < 0.5:
                await gateway.cancel(product_id, outcome.digest)
        except errors.NadoError:
            await asyncio.sleep(0.05)
        await asyncio.sleep(rng.uniform(0.0, 0.08))


async def faults_over(control: Control) -> None:
    """Wait for faults that end by themselves; clear those that wait for an occasion."""
    deadline = time.monotonic() + 3
    while time.monotonic() < deadline:
        rules = (await control.strike({"clear": "stale_snapshot"}))["rules"]
        if not any("for_s" in rule for rule in rules):
            break
        await asyncio.sleep(0.05)
    await control.strike({"clear": "all"})


async def stand_still(control: Control, rest: Rest, feed: Feed, products: tuple[int, ...]) -> None:
    """The market moves a little, then stands still: every book is the exchange's."""
    depth = {p: feed.stats()["core"]["products"][p]["last_book_depth_ns"] for p in products}
    await until(
        lambda: all(feed.stats()["core"]["products"][p]["last_book_depth_ns"] > depth[p] for p in products),
        "depth flows",
        QUIET_S,
    )
    await control.strike({"pause_market": True})
    for product_id in products:
        deadline = time.monotonic() + QUIET_S
        while True:
            snapshot = await rest.market_liquidity(product_id)
            book, bbo = feed.book(product_id), feed.bbo(product_id)
            theirs = (list(snapshot.bids[:30]), list(snapshot.asks[:30]))
            touch = (snapshot.bids[0][0], snapshot.asks[0][0])
            ours = (book.bids(30), book.asks(30))
            if book.is_valid and ours == theirs and touch == (bbo.bid_price_x18, bbo.ask_price_x18):
                break
            assert time.monotonic() < deadline, (
                f"product {product_id}: valid={book.is_valid} ({book.invalid_reason}),"
                f" book equal={ours == theirs}, BBO {bbo!r} against {touch}"
            )
            await asyncio.sleep(0.02)


async def account_is_truth(
    control: Control, products: tuple[int, ...], told: Told, subaccount: str, feed: Feed
) -> None:
    deadline = time.monotonic() + QUIET_S
    while True:
        state = await control.state()
        problem = _difference(state, told, subaccount, products)
        if problem is None:
            return
        assert time.monotonic() < deadline, f"{problem}; {feed.stats()['modes']}"
        await asyncio.sleep(0.05)


def _difference(state: dict[str, Any], told: Told, subaccount: str, products: tuple[int, ...]) -> str | None:
    """What the consumer was told wrong, if anything."""
    doubled = [key for key, count in Counter(fill.key for fill in told.fills).items() if count > 1]
    if doubled:
        return f"fills told twice: {doubled}"
    signs = Counter((u.digest, u.reason, u.amount_x18) for u in told.updates)
    if twice := [sign for sign, count in signs.items() if count > 1]:
        return f"order updates told twice: {twice}"
    seen = {fill.key: (fill.price_x18, fill.fee_x18, fill.filled_qty_x18) for fill in told.fills}
    truth = {
        (fill["digest"], int(fill["submission_idx"])): (
            int(fill["price_x18"]),
            int(fill["fee"]),
            abs(int(fill["base"])),
        )
        for fill in state["fills"]
        if fill["subaccount"] == subaccount
        and (fill["digest"], int(fill["submission_idx"])) not in told.known
    }
    if seen != truth:
        return (
            f"fills: lost {sorted(truth.keys() - seen.keys())}, invented {sorted(seen.keys() - truth.keys())}"
        )
    alive = {
        order["digest"]
        for order in state["orders"]
        if order["subaccount"] == subaccount and order["product_id"] in products and order["end"] is None
    }
    if (believed := told.open_orders()) != alive:
        return f"orders: believed open but gone {believed - alive}, open but not told {alive - believed}"
    held = positions_held_x18(state, subaccount, products)
    if (positions := {product: told.positions_x18()[product] for product in products}) != held:
        return f"positions: {positions} instead of {held}"
    return None


def positions_held_x18(state: dict[str, Any], subaccount: str, products: tuple[int, ...]) -> dict[int, int]:
    """Product → cross position, by the exchange's own record."""
    perps = state["balances"]["subaccounts"].get(subaccount, {"perps": {}})["perps"]
    return {product: int(perps.get(str(product), {"amount": "0"})["amount"]) for product in products}
