"""The market: reproducible, correlated, near its rate, and lively enough to trade against."""

from __future__ import annotations

import asyncio
import hashlib
import math
import time
from random import Random
from statistics import correlation, median, pstdev
from typing import Any

import pytest
from simcore import ETH, SOL, Sim
from simproc import start_sim
from wireclient import eventually

from nadosim.faults import Faults, Rule
from nadosim.latent import LatentPrices, Volatility
from nadosim.market import MAX_LAG_S, Market, activity, run
from nadosim.regimes import REGIMES
from nadosim.seeded_keys import default_subaccount
from nadosim.streams import StreamHub
from nadosim.x18 import ONE

TRADED = (ETH, SOL)
PROBE = default_subaccount("0x" + "f" * 40)
OTHER_PROBE = default_subaccount("0x" + "e" * 40)
STEP_S = 0.01


class World(Sim):
    """An exchange with a market, in virtual time."""

    def __init__(self, seed: int = 1, rate: float = 200.0, regime: str = "lively") -> None:
        super().__init__()
        self.hub = StreamHub(self.exchange, Faults())
        self.exchange._on_step = self.hub.on_step
        perps = [product for product in self.exchange.config.products if product.is_perp]
        self.market = Market(self.exchange, perps, seed=seed, rate=rate, regime=REGIMES[regime])
        self.market.open()
        self.hub.flush_depth()
        self._played = 0

    @property
    def now_s(self) -> float:
        return self._played * STEP_S

    def play(self, seconds: float) -> None:
        for _ in range(round(seconds / STEP_S)):
            self._played += 1
            self.clock.advance_ns(round(STEP_S * 1e9))
            self.market.advance(self.now_s)
            if self._played % 5 == 0:
                self.hub.flush_depth()

    def touch(self, product_id: int) -> tuple[int, int]:
        bid, _, ask, _ = self.exchange.bbo(product_id)
        return bid, ask

    def spread_ticks(self, product_id: int) -> int:
        bid, ask = self.touch(product_id)
        return (ask - bid) // self.exchange.products[product_id].price_increment_x18

    def state(self) -> Any:
        return [self.exchange.depth(product_id, 1000) for product_id in TRADED]

    def fill_time_s(self, product_id: int, is_buy: bool, patience_s: float = 10.0) -> float:
        """Seconds until a small post-only order that joins the touch is filled; inf if it is not."""
        product = self.exchange.products[product_id]
        price = self.touch(product_id)[0 if is_buy else 1]
        lots = -(-150 * ONE * ONE // (price * product.size_increment_x18))
        amount = lots * product.size_increment_x18
        digest = self.exchange.house_place(PROBE, product_id, price, amount if is_buy else -amount, 3)
        started_s = self.now_s
        while self.now_s - started_s < patience_s:
            self.play(STEP_S)
            if digest not in self.exchange.books[product_id].orders:
                return self.now_s - started_s
        self.exchange.house_cancel(PROBE, product_id, digest)
        return math.inf


def test_the_seed_is_the_market() -> None:
    worlds = [World(seed) for seed in (3, 3, 4)]
    for world in worlds:
        world.play(5)
    assert worlds[0].state() == worlds[1].state()
    assert worlds[0].hub.events == worlds[1].hub.events
    assert worlds[0].state() != worlds[2].state()


def test_lateness_does_not_change_the_market() -> None:
    prompt, late = World(3), World(3)
    prompt.play(5)
    for until_s in (0.5, 0.51, 3.0, 5.0):
        while not late.market.advance(until_s, max_events=7):
            pass
    assert prompt.state() == late.state()


@pytest.mark.parametrize("regime", list(REGIMES))
@pytest.mark.parametrize("rate", [10.0, 200.0, 2000.0])
def test_messages_come_at_about_the_rate_asked_for(rate: float, regime: str) -> None:
    world = World(2, rate, regime)
    before = sum(world.hub.events.values())
    seconds = min(60.0, 3000 / rate)
    world.play(seconds)
    found = (sum(world.hub.events.values()) - before) / seconds
    assert 0.7 * rate < found < 1.4 * rate
    assert world.market.refused == 0


FROZEN = {
    "calm": "ca9c06fa370d7576",
    "lively": "6b5065e4731da6f2",
    "thin": "6d5cc644116ac6d2",
    "jumpy": "5952d13bdaf5ce4e",
}


@pytest.mark.parametrize("regime", list(REGIMES))
def test_regimes_are_frozen(regime: str) -> None:
    """A regime may change, with a line in the changelog and the new value here."""
    digest = hashlib.sha256(repr(REGIMES[regime]).encode()).hexdigest()[:16]
    assert digest == FROZEN[regime]


@pytest.mark.parametrize("regime", list(REGIMES))
def test_the_same_seed_and_script_give_the_same_fills(regime: str) -> None:
    def fills() -> list[Any]:
        world = World(11, regime=regime)
        trades: list[Any] = []
        hub_step = world.hub.on_step
        world.exchange._on_step = lambda step: (trades.extend(step.trades), hub_step(step))[1]
        for number in range(6):
            world.play(0.5)
            price = world.touch(ETH)[0]
            who = PROBE if number % 2 == 0 else OTHER_PROBE
            world.exchange.house_place(who, ETH, price, (-1) ** number * ONE // 10, number % 2)
        return [(t["product_id"], t["price"], t["taker_qty"], t["is_taker_buyer"]) for t in trades]

    first = fills()
    assert len(first) > 20
    assert fills() == first


def test_regimes_differ_as_their_names_say() -> None:
    spreads, volumes = {}, {}
    for regime in REGIMES:
        world = World(5, regime=regime)
        found, sizes = [], []
        for _ in range(150):
            world.play(0.2)
            bids, asks = world.exchange.depth(ETH, 1000)
            assert min(len(bids), len(asks)) >= 80
            found.append(world.spread_ticks(ETH))
            sizes.append(sum(quantity for _, quantity in bids[:10]) / ONE)
        spreads[regime], volumes[regime] = sum(found) / len(found), sum(sizes) / len(sizes)
    assert spreads["calm"] <= spreads["lively"] < spreads["thin"]
    assert volumes["calm"] > volumes["lively"] > volumes["thin"]


def test_makers_lean_against_what_they_hold() -> None:
    world = World(3)
    maker = world.market._pits[ETH].makers[-1]
    before = maker._targets(30_000.0)
    world.exchange.accounts.apply(world.exchange.accounts.find(maker.subaccount), ETH, 20 * ONE, 0)
    assert maker._lean() > 0.9 * maker._style.half_spread
    assert maker._targets(30_000.0) < before


def test_jumps_move_every_product_at_once() -> None:
    latent = LatentPrices(Random(7), {ETH: 3000.0, SOL: 140.0}, {ETH: Volatility(5.0), SOL: Volatility(6.5)})
    latent.step(1.0)
    before = {product_id: latent.value(product_id) for product_id in TRADED}
    latent.jump(30.0)
    latent.step(0.001)
    moves = [1e4 * math.log(latent.value(product_id) / before[product_id]) for product_id in TRADED]
    assert all(20 < move < 40 for move in moves)


def test_a_rate_of_zero_is_a_frozen_book() -> None:
    assert activity(0) == 0
    world = World(1, rate=0)
    before = world.state()
    world.play(2)
    assert world.state() == before
    assert all(len(side) >= 100 for sides in before for side in sides)


@pytest.mark.parametrize("seed", [1, 2])
def test_the_books_are_deep_tight_and_never_crossed(seed: int) -> None:
    world = World(seed)
    spreads: dict[int, list[int]] = {product_id: [] for product_id in TRADED}
    costs_bps: dict[int, list[float]] = {product_id: [] for product_id in TRADED}
    for _ in range(300):
        world.play(0.2)
        for product_id in TRADED:
            bids, asks = world.exchange.depth(product_id, 1000)
            assert min(len(bids), len(asks)) >= 40
            assert bids[0][0] < asks[0][0]
            spreads[product_id].append(world.spread_ticks(product_id))
            costs_bps[product_id].append(_cost_bps(asks, 5_000.0))
    for product_id in TRADED:
        assert median(spreads[product_id]) <= 3
        assert sorted(costs_bps[product_id])[-15] < 2.0  # 95 % of the time
    assert world.market.refused == 0


def _cost_bps(levels: list[tuple[int, int]], notional: float) -> float:
    """What taking `notional` costs over the touch."""
    left, cost = notional, 0.0
    for price, quantity in levels:
        taken = min(left, price * quantity / 1e36)
        cost += taken * (price / levels[0][0] - 1) * 1e4
        left -= taken
        if left <= 0:
            return cost / notional
    return math.inf


def test_an_order_at_the_touch_fills_within_seconds() -> None:
    rng = Random(9)
    times_s: dict[int, list[float]] = {product_id: [] for product_id in TRADED}
    for seed in (1, 2, 3):
        world = World(seed)
        world.play(2)
        for _ in range(12):
            for product_id in TRADED:
                world.play(rng.random())
                times_s[product_id].append(world.fill_time_s(product_id, rng.random() < 0.5))
    for found in times_s.values():
        assert median(found) < 2.0
        assert sum(time_s < 3.0 for time_s in found) >= 0.7 * len(found)


def test_the_oracle_follows_the_market() -> None:
    world = World(4)
    for _ in range(20):
        world.play(1)
        for product_id in TRADED:
            bid, ask = world.touch(product_id)
            oracle = world.exchange.accounts.states[product_id].oracle_price_x18
            assert abs(oracle - (bid + ask) // 2) * 10_000 < 20 * oracle


def test_latent_prices_are_correlated_and_as_volatile_as_they_say() -> None:
    latent = LatentPrices(Random(7), {ETH: 3000.0, SOL: 140.0}, {ETH: Volatility(5.0), SOL: Volatility(6.5)})
    returns: dict[int, list[float]] = {ETH: [], SOL: []}
    before = {product_id: latent.value(product_id) for product_id in TRADED}
    for _ in range(400):
        for _ in range(60):
            latent.step(1.0)
        for product_id in TRADED:
            now = latent.value(product_id)
            returns[product_id].append(1e4 * math.log(now / before[product_id]))
            before[product_id] = now
    assert 4.0 < pstdev(returns[ETH]) < 6.0
    assert 5.0 < pstdev(returns[SOL]) < 8.0
    assert max(map(abs, returns[SOL])) < 50
    assert correlation(returns[ETH], returns[SOL]) > 0.6
    assert abs(before[ETH] / 3000.0 - 1) < 0.02


async def test_a_stall_is_not_followed_by_a_storm() -> None:
    world = World(1)
    task = asyncio.create_task(run(world.market, Faults()))
    await eventually(lambda: world.market.now_s > 0)
    before_s = world.market.now_s
    time.sleep(1.0)  # noqa: ASYNC251 - the stall
    resumed_s = time.monotonic()
    await eventually(lambda: world.market.now_s > before_s)
    assert world.market.now_s - before_s < MAX_LAG_S + (time.monotonic() - resumed_s) + 0.1
    task.cancel()
    await asyncio.wait([task])


async def test_a_paused_market_stands_still_and_goes_on() -> None:
    async with start_sim(seed=1, rate=400) as server:
        await eventually(lambda: server.hub.events["trade"] > 3)
        server.faults.add(Rule("pause_market"))
        played = server.market.played
        now_s = server.market.now_s
        await asyncio.sleep(0.5)
        assert (server.market.played, server.market.now_s) == (played, now_s)
        resumed_s = time.monotonic()
        server.faults.clear("pause_market")
        await eventually(lambda: server.market.played > played)
        assert server.market.now_s - now_s < MAX_LAG_S + (time.monotonic() - resumed_s) + 0.1


async def test_speed_runs_the_market_not_the_wire() -> None:
    async with start_sim(seed=1, rate=50, speed=20) as server:
        await eventually(lambda: server.market.now_s > 4.0)
        assert server.health()["uptime_s"] < 2.0
        assert abs(server.exchange.last_step_ns - server.clock.now_ns()) < 5 * 10**9
