"""An exit that moves in one step, on the real engine in virtual time, with everything that can go wrong
between the decision and its answer. One rule holds throughout: the engine never has both of the two."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from machinekit import plan
from pairworld import ETH, SOL, PairWorld
from stormtable import trade

from bot.model import Plan
from bot.pair import DNPairBot
from nadofast import OrderGateway, OrderRequest, OrderTracker, OrderType, OutcomeKind, Secret, Signer
from nadofast.errors import NadoError, OrderDenied
from nadofast.products import Product, to_x18
from nadosim.seeded_keys import derive_account
from nadosim.steps import Step

MAKER_TIMEOUT_MS = 3_000
FOREVER_S = 3_600.0
PART = to_x18("0.02")
AWAY = 0.002
"""By so much, as a share, the market leaves both exits behind."""

Send = Callable[[], Awaitable[dict[str, Any]]]


def two_exits(products: tuple[Product, Product]) -> Plan:
    return plan(products=products, hold_ns=50_000_000, maker_timeout_ms=MAKER_TIMEOUT_MS)


@dataclass
class DoubtWorld(PairWorld):
    """`between` stands between the bot and the exchange whenever a copy of the first replacement of an ETH
    exit comes; `copies` are those. both: where more than one order lived, or more than the position."""

    between: Callable[[DoubtWorld, dict[str, Any], Send], Awaitable[dict[str, Any]]] | None = None
    copies: list[dict[str, Any]] = field(default_factory=list)
    both: list[str] = field(default_factory=list)
    answers: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__post_init__()
        through = self.wire.execute

        async def execute(message: dict[str, Any], caller: Any = None) -> dict[str, Any]:
            async def send() -> dict[str, Any]:
                answer = await through(message, caller)
                self.answers.append(answer)
                return answer

            body = message.get("cancel_and_place")
            if self.between is None or body is None or body["place_order"]["product_id"] != ETH:
                return await through(message, caller)
            if self.copies and body != self.copies[0]:
                return await through(message, caller)
            self.copies.append(body)
            return await self.between(self, body, send)

        vars(self.wire)["execute"] = execute

    def _on_step(self, step: Step) -> None:
        super()._on_step(step)
        if self.feed is None:
            return
        for product_id, position in zip((ETH, SOL), self.positions_x18(), strict=True):
            mine = self.exchange.books[product_id].of_account(self.subaccount)
            if sum(order.remaining_x18 for order in mine) > abs(position) or len(mine) > 1:
                self.both.append(f"{len(mine)} orders of {product_id} against {position}")

    def leave_behind(self) -> None:
        """The market moves away from a sell of ETH and from a buy of SOL."""
        prices = self.house._latent
        prices._own[ETH] -= AWAY / prices._volatility[ETH]
        prices._own[SOL] += AWAY / prices._volatility[SOL]

    def other(self) -> OrderGateway:
        """Somebody else, with money."""
        account, ours = derive_account(self.seed, 1), self.bot._p.gateway
        assert account.private_key is not None
        self.exchange.fund(account.subaccount, to_x18(10_000_000))
        signer = Signer(
            Secret(account.private_key), chain_id=ours.network.chain_id,
            endpoint_address=ours.network.endpoint_address,
        )  # fmt: skip
        products = {product.product_id: product for product in self.bot._p.plan.products}
        return OrderGateway(
            ours.network, signer, products=products, timesync=ours._timesync, rest=self.rest,
            tracker=OrderTracker(),
        )  # fmt: skip

    async def trade(self, price_x18: int, amount_x18: int, kind: OrderType) -> None:
        other = self.other()
        outcome = await other.place(OrderRequest(ETH, price_x18, amount_x18, kind))
        assert outcome.kind is OutcomeKind.CONFIRMED
        await other.stop()

    async def hit(self, part_x18: int | None = None) -> None:
        """Somebody takes all of our ETH offer, or a part, after everything that stands before it."""
        book = self.exchange.books[ETH]
        (offer,) = book.of_account(self.subaccount)
        shown = sum(q for price, q in book.depth(offer.side, 1_000) if price <= offer.price_x18)
        part_x18 = offer.remaining_x18 if part_x18 is None else part_x18
        await self.trade(offer.price_x18, shown - offer.remaining_x18 + part_x18, OrderType.IOC)


def failure(body: dict[str, Any], code: int) -> dict[str, Any]:
    place = body["place_order"]
    said = {"status": "failure", "error": "no", "error_code": code}
    return said | {"signature": place["signature"], "id": place["id"]}


async def never() -> dict[str, Any]:
    await asyncio.sleep(FOREVER_S)
    raise AssertionError("nobody waits so long")


async def filled(world: DoubtWorld, body: dict[str, Any], send: Send) -> dict[str, Any]:
    if len(world.copies) == 1:
        await world.hit()
    return await send()


async def partly_filled(world: DoubtWorld, body: dict[str, Any], send: Send) -> dict[str, Any]:
    if len(world.copies) == 1:
        await world.hit(PART)
    return await send()


async def filled_and_lost(world: DoubtWorld, body: dict[str, Any], send: Send) -> dict[str, Any]:
    if len(world.copies) == 1:
        await world.hit()
    return await never()


async def partly_filled_and_lost(world: DoubtWorld, body: dict[str, Any], send: Send) -> dict[str, Any]:
    if len(world.copies) == 1:
        await world.hit(PART)
    return await never()


async def lost(world: DoubtWorld, body: dict[str, Any], send: Send) -> dict[str, Any]:
    return await never()


async def first_copy_lost(world: DoubtWorld, body: dict[str, Any], send: Send) -> dict[str, Any]:
    return await (never() if len(world.copies) == 1 else send())


async def unanswered(world: DoubtWorld, body: dict[str, Any], send: Send) -> dict[str, Any]:
    await send()
    return await never()


async def unanswered_and_filled(world: DoubtWorld, body: dict[str, Any], send: Send) -> dict[str, Any]:
    answer = await send()
    if answer["status"] == "success":
        await world.hit()
    return await never()


async def late_first_copy(world: DoubtWorld, body: dict[str, Any], send: Send) -> dict[str, Any]:
    """It comes after the second one has been answered."""
    if len(world.copies) == 1:
        await asyncio.sleep(0.45)
    return await send()


async def very_late(world: DoubtWorld, body: dict[str, Any], send: Send) -> dict[str, Any]:
    """Both copies come when all of it is over."""
    await asyncio.sleep(2.5)
    return await send()


async def crossing(world: DoubtWorld, body: dict[str, Any], send: Send) -> dict[str, Any]:
    """Somebody bids our new price first: the engine takes the old order off and refuses the new one."""
    if len(world.copies) == 1:
        price_x18 = int(body["place_order"]["order"]["priceX18"])
        await world.trade(price_x18, to_x18(1_000), OrderType.DEFAULT)
    return await send()


def refused(code: int) -> Callable[..., Awaitable[dict[str, Any]]]:
    async def refuse(world: DoubtWorld, body: dict[str, Any], send: Send) -> dict[str, Any]:
        return failure(body, code)

    return refuse


async def undone(world: DoubtWorld, body: dict[str, Any], send: Send) -> dict[str, Any]:
    """The old order is off, and the new one was not placed."""
    (order,) = world.exchange.books[ETH].of_account(world.subaccount)
    core = world.exchange._core
    with core.step():
        core.cancel([order])
    return failure(body, 2120)


DOUBTS: dict[str, Callable[..., Awaitable[dict[str, Any]]]] = {
    "filled before": filled, "partly filled before": partly_filled,
    "filled, and the request lost": filled_and_lost, "partly filled, and lost": partly_filled_and_lost,
    "lost": lost, "first copy lost": first_copy_lost, "unanswered": unanswered,
    "unanswered and filled": unanswered_and_filled, "first copy late": late_first_copy,
    "very late": very_late, "crossing": crossing, "old one off, 2120": undone,
    **{f"refused with {code}": refused(code) for code in (2120, 2121, 2124, 2008, 2006, 5000, 1000)},
}  # fmt: skip


def play(
    world: DoubtWorld, before: Callable[[], None] = lambda: None, *, is_asked_to_stop: bool = False
) -> float:
    """Both exits rest, the market leaves them; how long the way out took."""

    async def script(bot: DNPairBot) -> float:
        assert await bot.execute_build_cycle("buy", "sell")
        vars(world.house)["advance"] = lambda now_s: None
        began_s = world.loop.time()
        closing = asyncio.ensure_future(bot.execute_unwind_cycle("sell", "buy"))
        for _ in range(100):
            await asyncio.sleep(0.01)
            if len(world.resting()) == 2:
                break
        del vars(world.house)["advance"]
        world.leave_behind()
        before()
        assert await closing or is_asked_to_stop
        return world.loop.time() - began_s

    return world.play(two_exits, script)


def check(world: DoubtWorld) -> None:
    assert not world.both
    assert not [said for said in world.complaints if said.startswith("a resting")]
    assert world.positions_x18() == (0, 0)
    assert not world.resting()
    assert [cycle.failure for cycle in world.recorder.finished] == [""]
    assert world.ledger_verdict() == "equal"
    assert world.copies


@pytest.mark.parametrize("doubt", DOUBTS)
def test_whatever_becomes_of_a_move_one_order_is_alive_and_the_leg_gets_out(
    tmp_path: Path, doubt: str
) -> None:
    world = DoubtWorld(7, tmp_path, between=DOUBTS[doubt])
    took_s = play(world)
    check(world)
    # Never signed again: whatever came was the same bytes, over another way.
    assert len({copy["place_order"]["signature"] for copy in world.copies}) == 1
    assert took_s < MAKER_TIMEOUT_MS / 1_000 + 1.5


UNSEEN = ["filled before", "filled, and the request lost", "partly filled, and lost", "unanswered and filled",
          "lost", "unanswered", "crossing"]  # fmt: skip


@pytest.mark.parametrize("archive_lag_s", [0.0, 60.0, None])
@pytest.mark.parametrize("doubt", UNSEEN)
def test_without_a_stream_the_exchange_is_asked_which_of_the_two_it_was(
    tmp_path: Path, doubt: str, archive_lag_s: float | None
) -> None:
    """No event comes for longer than the way out takes; with the archive away, too, only books and positions
    speak. What then has no price is taken over by its name. None: the archive does not even say no."""
    world = DoubtWorld(7, tmp_path, between=DOUBTS[doubt])
    world.archive_lag_s = 60.0 if archive_lag_s is None else archive_lag_s

    async def hang(digests: list[str]) -> list[Any]:
        await asyncio.sleep(5)  # REST's own time-out
        raise NadoError("no answer")

    async def away() -> None:
        assert world.feed is not None
        for _ in range(60):
            await asyncio.sleep(0.1)
            world.feed._read_prices()
        await world.feed._return()

    def lose_it() -> None:
        assert world.feed is not None
        world.feed.account_live = False
        world.feed._boundary("link_lost")
        world.spawn(away())
        if archive_lag_s is None:
            vars(world.rest)["archive_orders"] = hang

    took_s = play(world, lose_it)
    assert not world.both
    assert [cycle.failure for cycle in world.recorder.finished] == [""]
    assert world.positions_x18() == (0, 0)
    assert not world.resting()
    assert world.ledger_verdict() in ("equal", "named")
    assert world.copies
    assert took_s < MAKER_TIMEOUT_MS / 1_000 + 3


def test_a_lost_move_does_not_hold_up_an_exit_that_has_to_cross(tmp_path: Path) -> None:
    """Asked to flatten, the old order is cancelled at once; the reply proves that the new one cannot come."""

    async def lost_then_flatten(world: DoubtWorld, body: dict[str, Any], send: Send) -> dict[str, Any]:
        if len(world.copies) == 1:
            world.bot._p.stop.flatten("test")
        return await never()

    world = DoubtWorld(7, tmp_path, between=lost_then_flatten)
    play(world, is_asked_to_stop=True)
    assert not world.both
    assert (world.positions_x18(), world.resting()) == ((0, 0), [])
    assert max(world.gaps_s) < 0.3


def test_a_move_that_goes_well_is_one_request(tmp_path: Path) -> None:
    """While it is under way, what is said to be unfinished is one order and not two."""
    unfinished = []

    async def through(world: DoubtWorld, body: dict[str, Any], send: Send) -> dict[str, Any]:
        unfinished.append(world.bot._desk.unfinished_x18()[ETH])
        return await send()

    world = DoubtWorld(7, tmp_path, between=through)
    play(world)
    check(world)
    assert unfinished == [-to_x18("0.042")]
    assert [answer["status"] for answer in world.answers] == ["success"]
    (cycle,) = world.recorder.finished
    assert cycle.repricing_count >= 2
    assert any("replace order" in line for line in world.said.lines)
    assert not any("cancel order" in line and "market moved" in line for line in world.said.lines)


def test_a_move_the_budget_has_no_room_for_is_a_cancel_and_a_new_order(tmp_path: Path) -> None:
    world = DoubtWorld(7, tmp_path)
    limiter = None

    def spend() -> None:
        nonlocal limiter
        limiter = world.gateway._limiter
        assert limiter is not None
        vars(world.gateway)["_permit"] = lambda *a, is_reprice=False, **k: (
            ("reprice_throttled", "weight 2 is not free") if is_reprice else None
        )

    play(world, spend)
    assert not world.both
    assert world.replaces == 0
    assert world.positions_x18() == (0, 0)
    assert [cycle.failure for cycle in world.recorder.finished] == [""]


def test_a_lost_move_whose_cancels_are_refused_is_found_out_about(tmp_path: Path) -> None:
    """Once the engine would refuse the new order, the old one on the book says that there is no other."""
    world = DoubtWorld(7, tmp_path, between=lost)
    play(world, lambda: world.strike(refuse={"code": 1000, "kind": "cancel_orders", "count": 5}))
    check(world)


def test_a_replacement_nobody_could_sign_is_none(tmp_path: Path) -> None:
    world = DoubtWorld(7, tmp_path)

    async def replace(digest: str, order: Any) -> Any:
        raise OrderDenied("clock", "not known")

    def break_it() -> None:
        for client in world.bot._p.clients:
            vars(client)["replace"] = replace

    play(world, break_it)
    assert not world.both
    assert world.replaces == 0
    assert world.positions_x18() == (0, 0)
    assert [cycle.failure for cycle in world.recorder.finished] == [""]


def test_a_defect_in_the_midst_of_a_move_leaves_nothing_behind(tmp_path: Path) -> None:
    """What may have left is watched, the old order is cancelled, and the pair is left at once."""
    world = DoubtWorld(7, tmp_path)

    def break_it() -> None:
        for client in world.bot._p.clients:
            move = client.replace

            async def replace(digest: str, order: Any, move: Any = move) -> Any:
                await move(digest, order)
                raise RuntimeError("torn")

            vars(client)["replace"] = replace

    with pytest.raises(AssertionError):  # the cycle did not go as planned, and says so
        play(world, break_it)
    assert not world.both
    assert world.positions_x18() == (0, 0)
    assert not world.resting()
    assert world.gate.halt_reason == "internal error: RuntimeError: torn"


async def killed_before(world: DoubtWorld, body: dict[str, Any], send: Send) -> dict[str, Any]:
    """The bot is killed, and then its request arrives."""
    if len(world.copies) == 1:
        world.killed.set()
        await asyncio.sleep(0.02)
    return await send()


async def killed_and_lost(world: DoubtWorld, body: dict[str, Any], send: Send) -> dict[str, Any]:
    world.killed.set()
    return await never()


async def killed_after(world: DoubtWorld, body: dict[str, Any], send: Send) -> dict[str, Any]:
    answer = await send()
    world.killed.set()
    await asyncio.sleep(0.02)
    return answer


@pytest.mark.parametrize("seed", [4, 5, 6, 8])
@pytest.mark.parametrize("doubt", [killed_before, killed_and_lost, killed_after])
def test_a_bot_killed_over_a_move_is_taken_up_by_the_next_one(
    tmp_path: Path, seed: int, doubt: Callable[..., Awaitable[dict[str, Any]]]
) -> None:
    """Its journal holds both orders: each is asked about, and whichever rests is taken down or finished."""
    world = DoubtWorld(seed, tmp_path, between=doubt, has_limits=False)
    end = world.run(trade)
    assert world.copies
    assert (end.code.name, world.kills) == ("DONE", 1)
    assert not world.both
    assert world.ledger_verdict() in ("equal", "named")
