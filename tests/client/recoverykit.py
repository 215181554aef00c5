"""How long a feed needs from a fault to being right again, and what it asks for meanwhile.

Every figure is taken inside this process, from the message or the loss that shows the fault on: what the
exchange itself takes before (its 50 ms depth beat, for one) is not in it. The exchange is a process of its
own.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Any

from clientkit import until
from faultkit import Control, Exchange

from nadofast import (
    Feed,
    FeedConfig,
    GatewayConfig,
    LinkConfig,
    LinkState,
    NadoConnectionMode,
    OrderGateway,
    OrderRequest,
    OrderType,
    Rest,
    TimeSync,
    to_x18,
)

PRODUCTS = (4, 8)
DEADLINE_S = 15.0
DATA_TIMEOUT_S = 0.4
MS = 1_000_000
# The defaults, but for what would let one round of a measurement disturb the next: back-off that grows while
# a link is cut every second, and the age at which a mute link is told, which is what is measured.
LINK = LinkConfig(data_timeout_s=3.0, stable_after_s=0.1)
CONFIG = FeedConfig(link=LINK, query_link=LinkConfig(stable_after_s=0.1))
MUTE = replace(CONFIG, link=replace(LINK, data_timeout_s=DATA_TIMEOUT_S))


@dataclass
class Figure:
    """One line of the table. samples in ms; queries: book snapshots asked for, per fault."""

    name: str
    goal_ms: float | None
    samples: list[float] = field(default_factory=list)
    queries: list[int] = field(default_factory=list)
    note: str = ""

    def percentile(self, share: float) -> float:
        """By the nearest rank."""
        return sorted(self.samples)[math.ceil(share * len(self.samples)) - 1]

    def line(self) -> str:
        p50, p99, worst = self.percentile(0.5), self.percentile(0.99), max(self.samples)
        goal = "" if self.goal_ms is None else f"{self.goal_ms:.0f}"
        asked = f"{max(self.queries)}" if self.queries else ""
        return (
            f"{self.name:<34}{len(self.samples):>6}{p50:>9.1f}{p99:>9.1f}{worst:>9.1f}{goal:>7}{asked:>9}"
            f"  {self.note}"
        )


HEAD = f"{'fault':<34}{'n':>6}{'p50 ms':>9}{'p99 ms':>9}{'max ms':>9}{'goal':>7}{'queries':>9}"


class Watched:
    """A running feed, its boundaries, and its snapshots so far."""

    def __init__(self, feed: Feed) -> None:
        self.feed = feed
        self.boundaries: list[Any] = []
        feed.on("boundary", self.boundaries.append)

    def asked(self) -> int:
        stats = self.feed.stats()
        asked: int = stats["snapshots"] + stats["snapshots_to_check"]
        return asked

    def last_ns(self, what: str, since: int) -> int:
        """When the newest boundary of a kind was told, of those after the first `since`."""
        return max((e.monotonic_ns for e in self.boundaries[since:] if e.what == what), default=0)


async def depth_gaps(exchange: Exchange, control: Control, rounds: int) -> Figure:
    """A depth batch is lost on its way: from the message that shows it to the valid book."""
    figure = Figure("depth gap → valid", 50.0)
    async with Rest(exchange.network) as rest, _feed(exchange, rest, CONFIG) as feed:
        seen = Watched(feed)
        for _ in range(rounds):
            since, asked = len(seen.boundaries), seen.asked()
            await control.strike({"drop_depth": 4})
            await until(
                lambda n=since: seen.last_ns("book_valid", n) > seen.last_ns("book_invalid", n) > 0,
                "repaired",
            )
            gone_ns = seen.last_ns("book_invalid", since)
            figure.samples.append((seen.last_ns("book_valid", since) - gone_ns) / MS)
            figure.queries.append(seen.asked() - asked)
            await asyncio.sleep(0.2)  # inside the budget of snapshots: many more in a row have to wait
    return figure


async def cuts(exchange: Exchange, control: Control, rounds: int) -> tuple[Figure, Figure]:
    """The only socket is reset: from the loss to every book and BBO fresh; and to the account reconciled."""
    market, account = Figure("cut → live", 300.0), Figure("cut → account reconciled", None)
    async with Rest(exchange.network) as rest, _feed(exchange, rest, CONFIG) as feed:
        seen = Watched(feed)
        for _ in range(rounds):
            await until(lambda: feed.link.is_live and feed.is_synced, "quiet before the cut")
            await asyncio.sleep(0.25)  # past `stable_after_s`: the back-off begins anew
            since, asked = len(seen.boundaries), seen.asked()
            await control.strike({"cut": {"scope": "subscribe", "how": "rst"}})
            await until(lambda n=since: seen.last_ns("link_lost", n) > 0, "the loss")
            lost_ns = seen.last_ns("link_lost", since)
            await until(lambda: feed.is_live and _is_valid(feed), "fresh data", DEADLINE_S)
            joined_ns = [
                e.monotonic_ns for e in seen.boundaries[since:] if e.what in ("book_valid", "link_up")
            ]
            market.samples.append((max(joined_ns) - lost_ns) / MS)
            market.queries.append(seen.asked() - asked)
            await until(lambda: feed.account_live, "the account", DEADLINE_S)
            account.samples.append((time.monotonic_ns() - lost_ns) / MS)
    return market, account


async def mutes(exchange: Exchange, control: Control, rounds: int) -> tuple[Figure, Figure]:
    """Messages are swallowed and pongs go on: how old the data is when the link is called stale, less the
    configured age; and from then on to fresh data over a new link."""
    late = Figure("mute: noticed after its age", 25.0, note=f"configured age {DATA_TIMEOUT_S * 1000:.0f} ms")
    healed = Figure("mute: noticed → live", None)
    async with Rest(exchange.network) as rest, _feed(exchange, rest, MUTE) as feed:
        manager = feed.link
        for _ in range(rounds):
            await until(lambda: manager.is_live and feed.is_live and _is_valid(feed), "live", DEADLINE_S)
            await asyncio.sleep(0.2)
            (number,) = await _sockets(control)
            await control.strike({"mute": {"connection": number, "for_s": 30}})
            await until(lambda: manager.state is LinkState.STALE, "stale", DEADLINE_S)
            noticed_ns = manager.history[-1].monotonic_ns
            late.samples.append((noticed_ns - manager.last_frame_ns) / MS - DATA_TIMEOUT_S * 1000)
            connects = manager.connects
            await until(lambda n=connects: manager.connects > n, "the link is replaced", DEADLINE_S)
            await until(lambda: feed.is_live and _is_valid(feed), "fresh data", DEADLINE_S)
            healed.samples.append((time.monotonic_ns() - noticed_ns) / MS)
    return late, healed


class Arrivals:
    """When each trade and BBO of one feed came, by what it says. Equal ones are numbered."""

    def __init__(self, feed: Feed) -> None:
        self.at_ns: dict[tuple[Any, ...], int] = {}
        self._turns: Counter[tuple[Any, ...]] = Counter()
        feed.on(
            "trade", lambda e: self._note("trade", e.product_id, e.timestamp_ns, e.price_x18, e.taker_qty_x18)
        )
        feed.on("best_bid_offer", self._on_bbo)

    def _on_bbo(self, bbo: Any) -> None:
        if bbo.source == "stream":  # what a snapshot says comes to each feed at a time of its own
            self._note("bbo", bbo.product_id, bbo.timestamp_ns, bbo.bid_price_x18, bbo.ask_price_x18)

    def knew(self, key: tuple[Any, ...], by_ns: int) -> bool:
        """Whether a BBO as new had been told by then: state, of which a link that lags may bring an older one
        when it is no news any more. A trade is never replaced by another."""
        return key[0] == "bbo" and any(
            other[:2] == key[:2] and other[2] >= key[2] and at_ns <= by_ns
            for other, at_ns in self.at_ns.items()
        )

    def _note(self, *what: Any) -> None:
        self._turns[what] += 1
        self.at_ns[(*what, self._turns[what])] = time.monotonic_ns()


async def cuts_of_two(exchange: Exchange, control: Control, rounds: int) -> tuple[Figure, int, int]:
    """Each of two links is reset in turn, beside a feed that nobody cuts: how much later its messages came.

    The figure; trades and BBOs that were lost; trades told twice.
    """
    figure = Figure("two links, a cut of either: late by", 5.0)
    async with Rest(exchange.network) as rest:
        calm = _feed(exchange, rest, CONFIG, account=False)
        async with calm:
            others = await _sockets(control)
            async with _feed(exchange, rest, CONFIG, account=False, links=2) as feed:
                seen, here, there = Watched(feed), Arrivals(feed), Arrivals(calm)
                asked, before = seen.asked(), dict(there.at_ns)
                for turn in range(rounds):
                    await until(lambda: feed.pool.get_pool_stats().live == 2, "both links", DEADLINE_S)
                    await asyncio.sleep(0.25)
                    mine = sorted(await _sockets(control) - others)
                    await control.strike({"cut": {"connection": mine[turn % 2], "how": "rst"}})
                    await until(lambda n=turn: feed.stats()["losses"] == n + 1, "the loss")
                    assert _is_valid(feed)
                await asyncio.sleep(1.5)
                assert feed.stats()["resyncs"] == 0
                figure.queries.append(seen.asked() - asked)
                end_ns = time.monotonic_ns() - 1_000 * MS  # what came last may not have come to both
    shared = [key for key, at_ns in there.at_ns.items() if key not in before and at_ns < end_ns]
    figure.samples = [max(0, here.at_ns[key] - there.at_ns[key]) / MS for key in shared if key in here.at_ns]
    twice = [key for key in here.at_ns if key[0] == "trade" and key not in there.at_ns]
    missed = [key for key in shared if key not in here.at_ns and there.at_ns[key] > min(here.at_ns.values())]
    lost = [key for key in missed if not here.knew(key, there.at_ns[key] + 50 * MS)]
    print("".join(f"missed {key} at {there.at_ns[key]}, lost: {key in lost}\n" for key in missed), end="")
    return figure, len(lost), len([key for key in twice if here.at_ns[key] < end_ns])


async def fills_over_rest(exchange: Exchange, control: Control, rounds: int) -> tuple[Figure, Figure]:
    """Own fills while the stream is refused: from the fill's confirmation to the position, and to the fill
    with its price and fee."""
    position = Figure("REST mode: fill → position told", 500.0)
    fill = Figure("REST mode: fill → price and fee told", None, note="out of the archive")
    signer, timesync = exchange.signer(), TimeSync()
    async with Rest(exchange.network) as rest:
        await rest.sync_time(timesync, 3)
        products = await rest.products(list(PRODUCTS))
        feed = Feed(
            exchange.network, products=PRODUCTS, signer=signer, rest=rest, config=CONFIG, timesync=timesync
        )
        gateway = OrderGateway(
            exchange.network, signer, products=products, timesync=timesync, rest=rest, config=GatewayConfig()
        )
        told: dict[tuple[str, int], tuple[int, Any]] = {}
        positions: list[Any] = []
        feed.on("fill", lambda e: told.setdefault(e.key, (time.monotonic_ns(), e)))
        feed.on("position_change", lambda e: positions.append((time.monotonic_ns(), e)))
        async with gateway, feed:
            await feed.wait_synced(DEADLINE_S)
            await control.strike({"socket_refused": {"for_s": 60}, "cut": "subscribe"})
            await until(lambda: feed.account_mode is NadoConnectionMode.REST, "HTTP takes over")
            for turn in range(rounds):
                book = await rest.market_liquidity(4, 1)
                side = 1 if turn % 2 == 0 else -1
                touch = (book.asks if side > 0 else book.bids)[0][0]
                price = products[4].round_price(touch * (100 + side) // 100, "up" if side > 0 else "down")
                before = len(positions)
                outcome = await gateway.place(OrderRequest(4, price, side * to_x18("0.1"), OrderType.IOC))
                done_ns = time.monotonic_ns()
                await until(lambda n=before: len(positions) > n, "the position")
                position.samples.append((positions[-1][0] - done_ns) / MS)
                await until(lambda d=outcome.digest: any(key[0] == d for key in told), "the fill")
                told_ns = min(at_ns for key, (at_ns, _) in told.items() if key[0] == outcome.digest)
                fill.samples.append((told_ns - done_ns) / MS)
            await control.strike({"clear": "all"})
            truth = {(f["digest"], int(f["submission_idx"])): f for f in (await control.state())["fills"]}
            for key, (_, event) in told.items():
                assert event.price_x18 == int(truth[key]["price_x18"])
                assert event.fee_x18 == int(truth[key]["fee"])
    return position, fill


def _feed(exchange: Exchange, rest: Rest, config: FeedConfig, *, account: bool = True, links: int = 1) -> Any:
    return _Synced(
        exchange.network,
        products=PRODUCTS,
        signer=exchange.signer() if account else None,
        rest=rest,
        config=config,
        links=links,
    )


class _Synced(Feed):
    """A feed whose block begins when it is synchronised."""

    async def start(self) -> None:
        await super().start()
        await self.wait_synced(DEADLINE_S)
        links = len(self.pool.links)
        await until(lambda: self.pool.get_pool_stats().live == links, "every link", DEADLINE_S)


def _is_valid(feed: Feed) -> bool:
    return all(feed.book(product).is_valid and feed.bbo(product).is_set for product in PRODUCTS)


async def _sockets(control: Control) -> set[int]:
    """Numbers of the subscription sockets the exchange has open."""
    async with control.session.get(f"{control.url}/health") as response:
        health = await response.json()
    return {int(one["connection"]) for one in health["connections"] if one["scope"] == "subscribe"}
