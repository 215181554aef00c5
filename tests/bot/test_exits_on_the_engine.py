"""Exits on the real engine, over the wire's own messages: what fills, what is left, and how fast."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from machinekit import plan
from pairworld import ETH, SOL, PairWorld

from bot.metrics import OrderRecord
from bot.model import Phase, Plan
from bot.pair import DNPairBot
from bot.risk import Purpose
from nadofast import OrderGateway, OrderRequest, OrderTracker, OrderType, OutcomeKind, Secret, Signer
from nadofast.products import Product, to_x18
from nadosim.seeded_keys import derive_account

MAKER_TIMEOUT_MS = 1_000
PART = to_x18("0.02")
FAR = 1.0


def trade(products: tuple[Product, Product]) -> Plan:
    return plan(products=products, hold_ns=50_000_000, maker_timeout_ms=MAKER_TIMEOUT_MS, reprice_ns=0)


def stand_still(world: PairWorld) -> None:
    """Nobody but us trades from now on; prices go on being told."""
    vars(world.house)["advance"] = lambda now_s: None


async def hit(world: PairWorld, bot: DNPairBot) -> None:
    """Somebody else takes PART of our offer, after all that stands before it."""
    book = world.exchange.books[ETH]
    (offer,) = book.of_account(world.subaccount)
    levels = book.depth(offer.side, 1_000)
    shown_x18 = sum(quantity for price, quantity in levels if price <= offer.price_x18)
    amount_x18 = shown_x18 - offer.remaining_x18 + PART
    account, ours = derive_account(world.seed, 1), bot._p.gateway
    assert account.private_key is not None
    world.exchange.fund(account.subaccount, to_x18(10_000_000))
    products = {product.product_id: product for product in bot._p.plan.products}
    signer = Signer(
        Secret(account.private_key), chain_id=ours.network.chain_id,
        endpoint_address=ours.network.endpoint_address,
    )  # fmt: skip
    other = OrderGateway(
        ours.network, signer, products=products, timesync=ours._timesync, rest=world.rest,
        tracker=OrderTracker(),
    )  # fmt: skip
    outcome = await other.place(OrderRequest(ETH, offer.price_x18, amount_x18, OrderType.IOC))
    assert outcome.kind is OutcomeKind.CONFIRMED
    await other.stop()


def exits(world: PairWorld) -> list[list[OrderRecord]]:
    """Of both legs, in the order they were sent."""
    (cycle,) = world.recorder.finished
    return [
        [o for o in cycle.orders if o.leg == leg and o.purpose in (Purpose.REST, Purpose.TAKE)]
        for leg in (0, 1)
    ]


def seconds_until(order: OrderRecord) -> float:
    assert order.sent_ns is not None
    assert order.first_fill_ns is not None
    return (order.first_fill_ns - order.sent_ns) / 1e9


@pytest.mark.parametrize("is_hit", [False, True])
def test_what_is_unfilled_at_the_time_out_is_crossed_at_once(tmp_path: Path, is_hit: bool) -> None:
    """Both exits rest and nobody comes, or somebody takes a part of one: exactly the rest crosses, and its
    fill is known well inside half a second."""
    world = PairWorld(7, tmp_path)

    async def script(bot: DNPairBot) -> tuple[int, int]:
        assert await bot.execute_build_cycle("buy", "sell")
        held = world.positions_x18()
        stand_still(world)
        closing = asyncio.ensure_future(bot.execute_unwind_cycle("sell", "buy"))
        for _ in range(100):
            await asyncio.sleep(0.01)
            if len(world.resting()) == 2:
                break
        if is_hit:
            await hit(world, bot)
        assert await closing
        return held

    held = world.play(trade, script)
    assert world.positions_x18() == (0, 0)
    filled = PART if is_hit else 0
    for leg, (rest, cross) in enumerate(exits(world)):
        part = filled if leg == 0 else 0
        assert (rest.purpose, cross.purpose) == (Purpose.REST, Purpose.TAKE)
        assert abs(rest.filled_x18) == rest.maker_x18 == part
        assert (abs(cross.filled_x18), cross.maker_x18) == (abs(held[leg]) - part, 0)
        assert rest.sent_ns is not None
        assert cross.sent_ns is not None
        assert (cross.sent_ns - rest.sent_ns) / 1e6 < MAKER_TIMEOUT_MS + 500
        assert seconds_until(cross) < 0.5


def test_a_cancel_that_is_refused_is_sent_again(tmp_path: Path) -> None:
    """The exit rests for as long as its cancel is refused, and not until somebody looks for its end."""
    world = PairWorld(7, tmp_path)

    async def script(bot: DNPairBot) -> float:
        assert await bot.execute_build_cycle("buy", "sell")
        stand_still(world)
        world.strike(refuse={"code": 1000, "kind": "cancel_orders", "count": 4})
        began_s = world.loop.time()
        assert await bot.execute_unwind_cycle("sell", "buy")
        return world.loop.time() - began_s

    assert world.play(trade, script) < 3.0
    assert [[o.purpose for o in leg] for leg in exits(world)] == [[Purpose.REST, Purpose.TAKE]] * 2
    assert [cycle.failure for cycle in world.recorder.finished] == [""]


def test_a_settled_pair_more_than_two_per_cent_out_of_balance_is_closed(tmp_path: Path) -> None:
    """The products part: the pair is closed, flat by the exchange's word, and the reason is on record."""
    world = PairWorld(7, tmp_path)

    def patient(products: tuple[Product, Product]) -> Plan:
        return plan(products=products, hold_ns=600_000_000_000)

    async def script(bot: DNPairBot) -> None:
        assert await bot.execute_build_cycle("buy", "sell")
        prices = world.house._latent
        prices._own[ETH], prices._own[SOL] = -FAR / prices._volatility[ETH], FAR / prices._volatility[SOL]
        await bot._drive(lambda state: state.phase is Phase.FLAT)

    world.play(patient, script)
    assert world.positions_x18() == (0, 0)
    (cycle,) = world.recorder.finished
    assert cycle.failure == "net delta above 200 bps"
    assert cycle.worst_net_delta_bps > 200
