"""`DNPairBot` by its historical names, and the emergency unwind: on the real engine, in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from machinekit import plan
from pairkit import Days
from pairworld import ETH, SOL, PairWorld

from bot.latch import DayFile
from bot.model import Direction, ExitCode, Phase, Plan
from bot.order_results import OrderResult
from bot.pair import DNPairBot
from bot.sizing import PairSize
from bot.steps import STOP_REQUESTED
from nadofast import OrderGateway, OrderRequest, OrderTracker, OrderType, OutcomeKind
from nadofast.products import Product, to_x18


@pytest.fixture
def world(tmp_path: Path) -> PairWorld:
    return PairWorld(7, tmp_path)


def trade(products: tuple[Product, Product]) -> Plan:
    return plan(products=products, hold_ns=200_000_000)


def test_both_legs_leave_together_and_their_results_say_what_filled(world: PairWorld) -> None:
    async def script(bot: DNPairBot) -> tuple[OrderResult, OrderResult]:
        return await bot.place_simultaneous_orders("buy", "sell")

    eth, sol = world.play(trade, script)
    assert (eth.success, eth.side, eth.status) == (True, "buy", "FILLED")
    assert (sol.success, sol.side, sol.status) == (True, "sell", "FILLED")
    held = world.positions_x18()
    assert (to_x18(eth.filled_size), -to_x18(sol.filled_size)) == held
    sent = [order["id"] for order in world.exchange.orders_state()]
    assert len(sent) == 2


def test_legs_in_one_direction_are_no_pair(world: PairWorld) -> None:
    async def script(bot: DNPairBot) -> None:
        await bot.place_simultaneous_orders("buy", "buy")

    with pytest.raises(ValueError, match="one buy and one sell"):
        world.play(trade, script)


@pytest.mark.parametrize("side", [("buy", "sell"), ("sell", "buy")])
def test_build_then_unwind_in_either_direction(world: PairWorld, side: tuple[str, str]) -> None:
    async def script(bot: DNPairBot) -> tuple[bool, tuple[int, int], bool]:
        built = await bot.execute_build_cycle(*side)
        held = world.positions_x18()
        return built, held, await bot.execute_unwind_cycle(side[1], side[0])

    built, held, unwound = world.play(trade, script)
    assert (built, unwound) == (True, True)
    assert (held[0] > 0, held[1] > 0) == (side[0] == "buy", side[1] == "buy")
    assert world.positions_x18() == (0, 0)


def test_an_unwind_in_the_wrong_direction_is_refused_and_one_of_nothing_is_false(world: PairWorld) -> None:
    async def script(bot: DNPairBot) -> bool:
        found = await bot.execute_unwind_cycle()
        await bot.execute_build_cycle("buy", "sell")
        for sides in (("buy", "sell"), ("sell", "cover"), ("sell", "SELL")):
            with pytest.raises(ValueError, match="does not close"):
                await bot.execute_unwind_cycle(*sides)
        await bot.execute_unwind_cycle("sell", "buy")
        return found

    assert world.play(trade, script) is False
    assert world.positions_x18() == (0, 0)


def test_cycles_by_hand_add_up(world: PairWorld) -> None:
    """Five of them: all complete, in under ten seconds each, and the balance is the sum of their results."""

    async def script(bot: DNPairBot) -> list[bool]:
        await bot.initialize_clients()
        cycles = [bot.execute_buy_first_cycle, bot.execute_sell_first_cycle]
        return [await cycles[number % 2]() for number in range(5)]

    assert world.play(trade, script) == [True] * 5
    finished = world.recorder.finished
    assert [cycle.direction.value for cycle in finished] == ["BUY_FIRST", "SELL_FIRST"] * 2 + ["BUY_FIRST"]
    assert all(cycle.cycle_s is not None and cycle.cycle_s < 10 for cycle in finished)
    account = world.exchange.accounts.open(world.subaccount)
    won = account.spot_x18(0) + sum(p.v_quote_x18 for p in account.perps.values()) - to_x18(100_000)
    assert won == sum(cycle.pnl.net_x18 for cycle in finished if cycle.pnl is not None)


def test_a_defect_of_the_gateway_lets_no_entry_out(world: PairWorld) -> None:
    async def script(bot: DNPairBot) -> bool:
        world.gateway.failure = "gateway clock: KeyError: 4"
        return await bot.execute_buy_first_cycle()

    assert world.play(trade, script) is False
    assert world.gate.halt_reason == "internal error: gateway clock: KeyError: 4"
    assert world.positions_x18() == (0, 0)


SPOILT: dict[str, tuple[Callable[[DNPairBot], None], str]] = {
    "feed": (
        lambda bot: setattr(bot._p.feed, "failure", "feed: KeyError: 4"),
        "internal error: feed: KeyError",
    ),
    "desk": (lambda bot: setattr(bot._desk, "failure", KeyError(4)), "internal error: KeyError: 4"),
    "record": (lambda bot: setattr(bot._p.inputs, "failure", "no space"), "record of the inputs: no space"),
    "trades": (lambda bot: setattr(bot._p.csv._trades, "failure", "no space"), "trades CSV "),
}


@pytest.mark.parametrize("what", SPOILT)
def test_whatever_fails_beside_the_trading_halts_it(world: PairWorld, what: str) -> None:
    spoil, reason = SPOILT[what]

    async def script(bot: DNPairBot) -> bool:
        spoil(bot)
        return await bot.execute_buy_first_cycle()

    assert world.play(trade, script) is False
    assert (world.gate.halt_reason or "").startswith(reason)
    assert world.positions_x18() == (0, 0)


def test_a_figure_that_cannot_be_written_halts_nothing(world: PairWorld) -> None:
    async def script(bot: DNPairBot) -> bool:
        bot._p.csv._watch.failure = "no space"
        return await bot.execute_buy_first_cycle()

    assert world.play(trade, script) is True
    assert world.gate.halt_reason is None


@pytest.mark.parametrize("how", ["gone", "left", "stopped"])
def test_who_stops_while_a_pair_is_held_is_told_what_is_open(world: PairWorld, how: str) -> None:
    """Gone or left at once: nothing can be done any more, and the exposure is named. Stopped: out, flat."""

    async def script(bot: DNPairBot) -> Any:
        assert await bot.execute_build_cycle()
        if how == "gone":
            vars(bot._p.exchange)["gone_reason"] = "the exchange ended"
        elif how == "left":
            world.stop.leave.set()
        else:
            world.stop.flatten("SIGINT")
        await bot._drive(lambda state: False)
        return bot.state.end

    end = world.play(trade, script)
    is_flat = world.positions_x18() == (0, 0)
    assert (end.code, is_flat) == ((ExitCode.DONE, True) if how == "stopped" else (ExitCode.EXPOSED, False))


def test_a_pair_is_watched_while_a_cycle_by_hand_holds_it(world: PairWorld) -> None:
    """An hour of it: a person who asks to stop is not told to come back then."""

    async def script(bot: DNPairBot) -> bool:
        asyncio.get_running_loop().call_later(5, world.stop.flatten, "a test")
        async with asyncio.timeout(60):
            return await bot.execute_buy_first_cycle()

    assert world.play(lambda products: plan(products=products, hold_ns=3_600 * 10**9), script) is False
    assert world.positions_x18() == (0, 0)
    assert [cycle.failure for cycle in world.recorder.finished] == [STOP_REQUESTED]


def test_a_cycle_after_a_failed_one_starts_clean(world: PairWorld) -> None:
    async def script(bot: DNPairBot) -> tuple[bool, bool]:
        world.dead_leg = SOL
        failed = await bot.execute_buy_first_cycle()
        assert world.positions_x18() == (0, 0)  # the leg that filled was unwound
        world.dead_leg = None
        return failed, await bot.execute_buy_first_cycle()

    assert world.play(trade, script) == (False, True)


def test_sizes_by_name(world: PairWorld) -> None:
    async def script(bot: DNPairBot) -> list[Any]:
        shown, too_deep = [
            bot.calculate_order_size_with_slippage("ETH", "buy")[1],
            bot.calculate_balanced_quantities(),
        ]
        with pytest.raises(ValueError, match="not a leg"):
            bot.calculate_order_size("BTC")
        return [bot.calculate_order_size("SOL-PERP"), shown, too_deep]

    amount, slippage, size = world.play(trade, script)
    assert isinstance(size, PairSize)
    assert to_x18(amount) == size.sizes_x18[1]
    assert slippage is not None
    assert slippage >= 0


# ---------------------------------------------------------------------- emergencies


@pytest.mark.parametrize("down", [(), ("stream",), ("orders",), ("stream", "orders")])
def test_an_emergency_closes_everything_at_market_whatever_is_down(
    world: PairWorld, down: tuple[str, ...]
) -> None:
    """With the stream or the order socket gone, over HTTP; the result says why, how long and at what cost."""

    async def script(bot: DNPairBot) -> Any:
        await bot.execute_build_cycle()
        assert world.feed is not None
        before = len(world.kinds)
        if "stream" in down:
            world.feed.lose()
        if "orders" in down:
            world.has_socket = False
        failed = OrderResult(False, error_message="no answer")
        found = await bot.handle_emergency_unwind(None, failed, reason="test")
        return found, world.kinds[before:]

    unwound, kinds = world.play(trade, script)
    assert unwound.flat is not None
    assert world.positions_x18() == (0, 0)
    assert unwound.reason == "test; no answer"
    assert unwound.took_s < 10
    assert unwound.slippage_bps is not None
    assert set(kinds) == {OrderType.IOC}
    assert world.gate.halt_reason is not None


def test_one_leg_alone_can_be_closed(world: PairWorld) -> None:
    async def script(bot: DNPairBot) -> tuple[tuple[int, int], tuple[int, int], bool]:
        await bot.execute_build_cycle()
        await bot.emergency_unwind_eth()
        first = world.positions_x18()
        await bot.emergency_unwind_sol()
        second = world.positions_x18()
        return first, second, await bot._force_close_position("ETH")

    first, second, nothing_left = world.play(trade, script)
    assert first[0] == 0
    assert first[1] != 0
    assert second == (0, 0)
    assert nothing_left is True


def test_an_emergency_that_cannot_finish_names_what_is_left_in_time(world: PairWorld) -> None:
    async def script(bot: DNPairBot) -> Any:
        await bot.execute_build_cycle()
        world.dead_leg = ETH
        started_s = world.loop.time()
        return await bot.handle_emergency_unwind(reason="test"), world.loop.time() - started_s

    unwound, took_s = world.play(trade, script)
    assert unwound.flat is None
    assert took_s <= 12
    assert world.positions_x18()[0] != 0
    assert world.positions_x18()[1] == 0
    assert "ETH-PERP" in world.bot.exposure


def test_an_entry_that_is_still_on_its_way_is_waited_for(world: PairWorld) -> None:
    """The second leg hangs in the network while everything is closed: two empty readings prove nothing as
    long as the engine would still take it."""

    taken: list[str] = []

    async def script(bot: DNPairBot) -> Any:
        execute = world.wire.execute

        async def slow(message: dict[str, Any], caller: Any = None) -> dict[str, Any]:
            order = message.get("place_order")
            if order is None or order["product_id"] != SOL or int(order["order"]["amount"]) > 0:
                return await execute(message, caller)
            await asyncio.sleep(max(0.0, arrives_s - world.loop.time()))
            answer = await execute(message, caller)
            taken.append(answer["status"])
            return answer

        world.wire.execute = slow  # type: ignore[method-assign]
        bot._state = replace(bot._state, wanted=Direction.BUY_FIRST)
        bot._step()
        assert bot.state.phase is Phase.BUILDING
        arrives_s = world.loop.time() + 0.47
        await asyncio.sleep(0.06)
        found = await bot.handle_emergency_unwind(reason="test")
        at_the_end = world.positions_x18()
        await asyncio.sleep(2.0)
        return found, at_the_end, world.positions_x18()

    unwound, at_the_end, later = world.play(trade, script)
    assert "success" in taken
    assert (at_the_end, later) == ((0, 0), (0, 0))
    assert unwound.flat is not None


async def trade_beside(world: PairWorld, bot: DNPairBot, product_id: int, amount: str) -> None:
    """Somebody with the same key, an app on a telephone, trades at market."""
    ours = bot._p.gateway
    stranger = OrderGateway(
        ours.network, ours._preparer._signer, products=ours._preparer._products, timesync=ours._timesync,
        rest=world.rest, tracker=OrderTracker(),
    )  # fmt: skip
    mid_x18 = bot._p.market.quote(product_id).mid_x18
    far_x18 = mid_x18 * (102 if amount[0] == "+" else 98) // 100
    price_x18 = ours._preparer._products[product_id].round_price(far_x18, "down")
    outcome = await stranger.place(OrderRequest(product_id, price_x18, to_x18(amount), OrderType.IOC))
    assert outcome.kind is OutcomeKind.CONFIRMED
    await stranger.stop()


@pytest.mark.parametrize("is_held", [True, False])
def test_a_strangers_trade_is_seen_at_once_and_closed(world: PairWorld, is_held: bool) -> None:
    """It is not booked as ours, the pair is not kept and nothing is built on top."""

    async def script(bot: DNPairBot) -> list[tuple[int, int]]:
        if is_held:
            await bot.execute_build_cycle()
        found = [world.positions_x18()]
        await trade_beside(world, bot, ETH, "+0.05")
        found.append(world.positions_x18())
        await bot._drive(lambda state: state.failures > 0)
        await asyncio.sleep(0.5)
        return [*found, world.positions_x18()]

    before, with_it, after = world.play(trade, script)
    assert with_it[0] == before[0] + to_x18("0.05")
    assert after == (0, 0)
    assert world.bot.state.failures == 1
    assert "a trade that is not ours" in world.ledger.taken_over.reasons
    assert world.ledger.is_flat
    account = world.exchange.accounts.open(world.subaccount)
    balance = account.spot_x18(0) + sum(p.v_quote_x18 for p in account.perps.values())
    assert balance - to_x18(100_000) == world.ledger.pnl({}).net_x18
    assert any("somebody else traded +0.05" in line for line in world.said.lines)


def test_nothing_is_entered_while_the_days_result_cannot_be_kept(world: PairWorld, tmp_path: Path) -> None:
    """A restart would begin the day's loss at zero."""
    path = tmp_path / "missing" / "day.json"

    async def script(bot: DNPairBot) -> tuple[str, bool]:
        bot._p.standing._day_store = DayFile(path)
        bot._plan = replace(bot._plan, ready_timeout_ns=10**12)
        waiting = asyncio.ensure_future(bot.execute_build_cycle())
        await asyncio.sleep(3.0)
        status = next(e.value["not_ready"] for e in reversed(world.entries) if e.kind == "status")
        assert world.positions_x18() == (0, 0)
        path.parent.mkdir()
        return status, await waiting

    status, built = world.play(trade, script)
    assert "day's result cannot be written" in status
    assert built is True


def test_a_leg_that_is_taken_from_us_ends_the_pair_at_once(world: PairWorld) -> None:
    """A liquidation of one leg while both are held: noticed by the stream, the other one closed at market."""

    async def seize() -> None:
        await asyncio.sleep(1.0)
        assert all(world.positions_x18())
        world.was_seized = bool(world.exchange.seize(world.subaccount, ETH))

    async def script(bot: DNPairBot) -> float:
        taken = asyncio.ensure_future(seize())
        bot._plan = replace(bot._plan, hold_ns=10**12, cycles=1, max_failures=1)
        end = await bot.run_alternating_strategy(world.cash_x18)
        await taken
        assert end.reason == "1 failed in a row"
        return world.gaps_s[-1]

    assert world.play(trade, script) < 1.0
    assert world.positions_x18() == (0, 0)
    assert "liquidate" in world.recorder.finished[0].failure


def test_what_a_forced_way_out_costs_is_part_of_the_day(world: PairWorld) -> None:
    days = Days()

    async def script(bot: DNPairBot) -> int:
        await bot.execute_build_cycle()
        bot._p.standing._day_store = days
        await bot.flatten_now("test")
        assert bot._p.ledger.is_flat
        return bot._p.standing.day_pnl_x18()

    assert world.play(trade, script) == days.kept_x18[-1] < 0


def test_less_than_a_step_does_not_hold_up_a_forced_way_out(world: PairWorld) -> None:
    """No order can name it: the rest is closed, and what is left is said at once."""

    async def script(bot: DNPairBot) -> tuple[ExitCode, float, tuple[int, int]]:
        await bot.execute_build_cycle()
        accounts = world.exchange.accounts
        accounts.open(world.subaccount).perps[ETH].amount_x18 += to_x18("0.0005")
        started_s = world.loop.time()
        end = await bot.flatten_now("test")
        return end.code, world.loop.time() - started_s, world.positions_x18()

    code, took_s, left_x18 = world.play(trade, script)
    assert (code, left_x18) == (ExitCode.EXPOSED, (to_x18("0.0005"), 0))
    assert took_s < 3
