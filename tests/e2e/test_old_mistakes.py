"""Mistakes that bots of this kind have made, each shown not to happen here, over the real wire."""

from __future__ import annotations

import asyncio
import csv
import inspect
import re
import signal
import statistics
import time
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from botproc import ROOT, BotProcess, end_exchange, fault, positions, resting, state
from deskkit import ETH, SIZE, SOL, Desk, open_desk, until

from bot.client import NadoClient
from bot.config import SettingsError, load
from bot.ledger import Ledger
from bot.reconcile import Reconciler
from bot.sizing import LegQuote, NoSize, PairSize, SizingRules, size_pair
from nadofast import to_x18, wire
from nadofast.errors import BookInvalid
from nadofast.products import from_x18
from nadofast.signing import OrderType, make_nonce, pack_appendix

MARGIN_USD = 100


async def isolated(desk: Desk, size: Decimal) -> None:
    """Buy ETH in a margin of its own."""
    signer, timesync = desk.gateway._preparer._signer, desk.eth._timesync
    price = desk.eth.product.round_price(desk.eth.quote().ask_x18 * 101 // 100, "up")
    now_ms = timesync.exchange_now_ms()
    signed = signer.sign_order(
        product_id=ETH, price_x18=price, amount_x18=to_x18(size), expiration_s=now_ms // 1000 + 60,
        nonce=make_nonce(now_ms + 5_000, 1),
        appendix=pack_appendix(OrderType.IOC, isolated=True, isolated_margin_x6=MARGIN_USD * 10**6),
    )  # fmt: skip
    await desk.eth._books().rest.execute(wire.place_order(signed, 1))


def sized_alone(leg: LegQuote, budget_x18: int) -> int:
    """Notional of a leg that looks at itself only: as many steps as the budget holds."""
    unit_x18 = leg.product.size_increment_x18 * leg.mid_x18 // 10**18
    return budget_x18 // unit_x18 * unit_x18


# ---------------------------------------------------------------------- positions, streams, books


async def test_a_position_in_its_own_margin_is_seen_and_its_margin_is_what_was_asked_for(desk: Desk) -> None:
    """Orders were isolated, positions read from the cross account; margins had a wrong scale."""
    await isolated(desk, SIZE)
    assert await desk.eth.get_account_positions() == SIZE
    books: Reconciler = desk.eth._books()
    holdings = await books.read(with_isolated=True)
    assert holdings.info.position_x18(ETH) == 0
    assert holdings.isolated is not None
    assert [row.margin_x18 for row in holdings.isolated] == [MARGIN_USD * 10**18]


async def test_a_fill_is_matched_to_its_order_by_the_fields_the_wire_has(desk: Desk) -> None:
    heard: list[Any] = []
    desk.feed.on("fill", heard.append)
    placed = await desk.eth.place_ioc_order(ETH, SIZE, "buy")
    await until(lambda: sum(f.filled_qty_x18 for f in heard) == to_x18(SIZE), "fills")
    assert {fill.order_digest for fill in heard} == {placed.order_id}
    truth = [fill for fill in (await desk.state())["fills"] if fill["digest"] == placed.order_id]
    assert [(f.price_x18, f.fee_x18) for f in heard] == [(int(t["price_x18"]), int(t["fee"])) for t in truth]


async def test_the_domain_of_signatures_is_the_exchanges_own() -> None:
    """A foreign chain id and contract were compiled in: here another exchange needs no change of code."""
    async with open_desk(chain_id=424_242) as desk:
        assert desk.feed.account_live
        assert (await desk.eth.place_ioc_order(ETH, SIZE, "buy")).success


async def test_after_every_cut_the_same_streams_are_subscribed_again(
    desk: Desk,
) -> None:
    """They were asked for in a wrong shape, and after five attempts not at all."""
    for count in range(7):
        await desk.faults(cut={"scope": "subscribe", "how": "rst"})
        await until(lambda: not desk.feed.account_live, f"loss {count}")
        await until(lambda: desk.feed.account_live and desk.feed.is_synced, f"return {count}")
    kinds = ("best_bid_offer", "book_depth", "trade", "fill", "order_update")
    heard = dict.fromkeys(kinds, 0)
    for kind in heard:
        desk.feed.on(kind, lambda event, kind=kind: heard.__setitem__(kind, heard[kind] + 1))
    assert (await desk.eth.place_ioc_order(ETH, SIZE, "buy")).filled_size == SIZE
    await until(lambda: all(heard.values()), f"every stream: {heard}")


async def test_prices_that_have_stopped_are_old_and_nothing_is_entered_on_them(desk: Desk) -> None:
    await desk.faults(mute=True)
    before = desk.eth.quote().age_ms
    await asyncio.sleep(0.3)
    assert desk.eth.quote().age_ms >= before + 250
    view = desk.gate._view()
    old = {product_id: 5_001 for product_id in view.quote_age_ms}
    desk.gate._view = lambda: type(view)(view.positions_x18, view.marks_x18, old, 0)  # type: ignore[method-assign]
    refused = await desk.eth.place_ioc_order(ETH, SIZE, "buy")
    assert (refused.status, refused.filled_size) == ("DENIED", 0)
    assert "quote_age" in (refused.error_message or "")


async def test_a_queue_nobody_reads_is_bounded(desk: Desk) -> None:
    state_only = desk.feed.events(["best_bid_offer", "book_depth"])
    facts = desk.feed.events(["fill", "order_update"], max_waiting=4)
    before = desk.feed.stats()["core"]["by_kind"]["best_bid_offer"]
    for _ in range(3):
        await desk.eth.place_ioc_order(ETH, SIZE, "buy")
        await desk.eth.place_ioc_order(ETH, SIZE, "sell")
    await until(lambda: desk.feed.stats()["core"]["by_kind"]["best_bid_offer"] > before + 20, "BBOs flow")
    assert len(state_only) <= 4  # the newest of two kinds and two products
    assert len(facts) <= 4 + 1  # and the word that some were lost


async def test_a_gap_in_the_book_is_seen_and_afterwards_it_is_the_exchanges(desk: Desk) -> None:
    reasons: list[str] = []
    desk.feed.on("boundary", lambda event: reasons.append(event.what))
    await desk.faults(drop_depth={"product_id": ETH, "count": 1})
    await until(lambda: "book_invalid" in reasons and desk.feed.book(ETH).is_valid, "a repaired gap")
    await desk.faults(cut={"scope": "subscribe", "how": "fin"})
    await until(lambda: not desk.feed.account_live, "the loss")
    await until(lambda: desk.feed.is_synced, "the return")
    await desk.stand_still()
    shown = await desk.eth._books().rest.market_liquidity(ETH, 20)
    book = desk.feed.book(ETH)
    assert (tuple(book.bids(20)), tuple(book.asks(20))) == (shown.bids, shown.asks)


async def test_no_data_is_not_taken_for_enough_of_it(desk: Desk) -> None:
    """One sentinel for both was read as "trade the full size"."""
    product = desk.eth.product
    rules = SizingRules(to_x18(150), 20, 300)
    nothing = size_pair((LegQuote(product, 0), LegQuote(desk.sol.product, to_x18(140))), rules)
    assert isinstance(nothing, NoSize)
    assert "no price" in nothing.reason
    desk.feed.book(ETH).clear()
    with pytest.raises(BookInvalid):
        desk.feed.book(ETH).slippage_bps("buy", to_x18(1))


# ---------------------------------------------------------------------- prices and sizes


async def test_ticks_and_steps_are_the_exchanges_and_rounding_asks_nobody(desk: Desk) -> None:
    assert (await desk.eth.get_contract_attributes(), await desk.sol.get_contract_attributes()) == (
        (ETH, Decimal("0.1")), (SOL, Decimal("0.01"))
    )  # fmt: skip
    started = time.process_time()
    for number in range(2_000):
        desk.eth.round_to_tick(Decimal(3_000) + Decimal(number).scaleb(-5))
    assert time.process_time() - started < 0.5
    price = desk.eth.round_to_tick(
        (from_x18(desk.eth.quote().ask_x18) * Decimal("1.00123")).quantize(Decimal("0.0001"))
    )
    assert price % Decimal("0.1") == 0
    assert (await desk.eth.place_ioc_order(ETH, SIZE, "buy", price)).success  # error 2000 otherwise


@pytest.mark.parametrize("budget", [120, 135, 150, 400, 1_000])
async def test_legs_are_sized_together(desk: Desk, budget: int) -> None:
    legs = tuple(LegQuote(c.product, c.quote().mid_x18) for c in (desk.eth, desk.sol))
    size = size_pair((legs[0], legs[1]), SizingRules(to_x18(budget), 20, 0))
    assert isinstance(size, PairSize)
    alone = abs(sized_alone(legs[0], to_x18(budget)) - sized_alone(legs[1], to_x18(budget)))
    assert size.gap_x18 <= alone
    assert size.gap_x18 * 100 < max(size.notionals_x18) * 2  # below two per cent at these sizes


# ---------------------------------------------------------------------- orders and fills


async def test_a_leg_that_waits_does_not_hide_the_fill_of_the_other(desk: Desk) -> None:
    await desk.stand_still()
    price = await desk.eth.get_order_price("buy")
    rests = await desk.eth.place_open_order(ETH, SIZE, "buy", price)
    waiting = asyncio.create_task(desk.eth.wait_for_fill(rests.order_id or "", timeout=30))
    started = time.monotonic()
    sold = await desk.sol.place_ioc_order(SOL, Decimal(2), "sell")
    assert time.monotonic() - started < 10
    assert not waiting.done()
    assert (sold.success, sold.side, sold.filled_size) == (True, "sell", Decimal(2))  # and sells are positive
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)


async def test_the_end_of_the_time_tells_what_has_filled_and_a_sell_is_no_negative_fill(desk: Desk) -> None:
    price = await desk.inside(desk.eth, "sell")
    placed = await desk.eth.place_open_order(ETH, SIZE, "sell", price)
    await desk.stranger.take(ETH, price, Decimal("0.03"))
    info = await desk.eth.wait_for_fill(placed.order_id or "", timeout=0.2)
    assert info is not None
    assert (info.status, info.side, info.filled_size) == ("CANCELLED", "sell", Decimal("0.03"))


async def test_an_order_nobody_knows_has_no_invented_end(desk: Desk) -> None:
    assert await desk.eth.get_order_info("0x" + "00" * 32) is None
    waited = await desk.eth.wait_for_fill_websocket("0x" + "00" * 32, timeout=0.1)
    assert (waited.success, waited.status) == (False, "UNKNOWN")


async def test_a_close_that_was_accepted_and_did_not_fill_has_closed_nothing(desk: Desk) -> None:
    """Taken for closed it was entered again on top, forty times."""
    await desk.eth.place_ioc_order(ETH, SIZE, "buy")
    await desk.stand_still()
    far = from_x18(desk.eth.quote().ask_x18) * 2
    closed = await desk.eth.place_close_order(ETH, SIZE, far, "sell", rests=False)
    assert (closed.success, closed.filled_size) == (False, 0)
    assert await desk.eth.get_account_positions() == SIZE
    assert desk.eth._books().booked_x18(ETH) == to_x18(SIZE)


async def test_waiting_for_a_position_compares_signed(desk: Desk) -> None:
    started = time.monotonic()
    assert (await desk.eth.wait_for_fill_by_position(-SIZE, timeout=0.3))[0] is False
    assert time.monotonic() - started >= 0.3
    await desk.eth.place_ioc_order(ETH, SIZE, "sell")
    found, moved, _ = await desk.eth.wait_for_fill_by_position(Decimal("-0.05"), timeout=0.2)
    assert (found, moved) == (False, 0)  # counted from the call, not from zero


async def test_every_way_to_place_an_order_goes_through_the_gate(desk: Desk) -> None:
    desk.gate.halt("enough")
    before = len((await desk.state())["executes"])
    price, size = from_x18(desk.eth.quote().mid_x18), SIZE
    answers = [
        await desk.eth.place_open_order(ETH, size, "buy", price),
        await desk.eth.place_ioc_order(ETH, size, "buy"),
        await desk.eth.place_limit_order(ETH, size, "sell", price),
        await desk.eth.place_close_order(ETH, size, price, "sell"),
    ]
    assert [(answer.success, answer.status) for answer in answers] == [(False, "DENIED")] * 4
    routed = await desk.eth.place_iterative_market_order(ETH, size, "buy")
    assert (routed["success"], routed["total_filled"]) == (False, 0)
    assert len((await desk.state())["executes"]) == before


def test_nobody_sets_a_position_by_hand() -> None:
    ledger = Ledger((ETH, SOL))
    account: Any = ledger.account(ETH)
    for name in ("position_x18", "quote_x18", "cross"):
        with pytest.raises((AttributeError, TypeError)):
            setattr(account, name, 0)
    holder: Any = ledger
    with pytest.raises(AttributeError):
        holder.is_flat = True


# ---------------------------------------------------------------------- whole runs


class Run:
    """Two cycles and a bit, ended by a real signal; what the bot wrote and what the exchange knows."""

    def __init__(self, path: Path) -> None:
        with BotProcess(
            path, "--cycles", "50", "--seed", "6", exchange__linger_s=30, exit__maker_timeout_s=0.5
        ) as bot:  # fmt: skip
            fault(bot.control, refuse={"kind": "place_order", "code": 2056, "count": 6})
            bot.wait_for("skipped", timeout_s=20)
            bot.wait_for("cycle 3", timeout_s=40)
            bot.signal(signal.SIGTERM)
            self.code = bot.finish()
            self.truth = state(bot.control)
            self.output, self.stderr, self.log = bot.output, bot.stderr, bot.log_path.read_text()
            pid = bot.exchange_pid
        end_exchange(pid)
        with bot.csv_path.open(newline="") as file:
            self.rows = list(csv.DictReader(file))
        with bot.csv_path.with_name("trades-metrics.csv").open(newline="") as file:
            self.cycles = [row for row in csv.DictReader(file) if row["primary_entry_price"]]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return Run(tmp_path_factory.mktemp("run"))


def test_a_signal_ends_the_run_flat(run: Run) -> None:
    """Handlers were written and never installed; positions stayed behind."""
    assert run.code == 0, run.output + run.stderr
    assert positions(run.truth) == {}
    assert resting(run.truth) == []


def test_both_legs_leave_together(run: Run) -> None:
    gaps = [float(row["leg_gap_write_ms"]) for row in run.cycles]
    assert len(gaps) >= 2
    assert max(gaps) < 100
    fills = [float(row["leg_gap_fill_ms"]) for row in run.cycles]
    assert statistics.median(fills) < 500


def test_the_second_cycle_goes_the_other_way_and_knows_entry_from_exit(run: Run) -> None:
    assert {row["direction"] for row in run.cycles} == {"BUY_FIRST", "SELL_FIRST"}
    for row in run.rows:
        if row["digest"] and row["symbol"] == "ETH-PERP":
            is_entry = row["purpose"] in ("entry", "hedge")
            buys_first = row["direction"] == "BUY_FIRST"
            assert (row["side"] == "buy") is (is_entry is buys_first)


def test_a_skipped_cycle_neither_fails_nor_ends_the_run(run: Run) -> None:
    assert "skipped" in run.output
    assert "0 failed" in run.output
    assert any(row["cycle_skipped"] == "true" for row in run.rows) or "skipped: " in run.output


def test_profit_has_the_right_sign_in_either_direction_and_fees_are_the_real_ones(run: Run) -> None:
    """A formula assumed a long first leg; fees and funding were constants."""
    fills: dict[str, list[dict[str, Any]]] = {}
    for fill in run.truth["fills"]:
        fills.setdefault(fill["digest"], []).append(fill)
    for cycle in run.cycles:
        mine = [r for r in run.rows if r["cycle_id"] == cycle["iteration"] and r["digest"]]
        own = [fill for row in mine for fill in fills[row["digest"]]]
        assert Decimal(cycle["net_pnl"]) == Decimal(sum(int(f["quote_net"]) for f in own)).scaleb(-18)
        assert Decimal(cycle["fees"]) == Decimal(sum(int(f["fee"]) for f in own)).scaleb(-18)
        assert Decimal(cycle["funding"]) == 0
    assert "equal to the ledger to the last unit" in run.output


def test_the_entry_price_is_the_mean_of_all_entry_fills(run: Run) -> None:
    for cycle in run.cycles:
        mine = [r for r in run.rows if r["cycle_id"] == cycle["iteration"] and r["digest"]]
        entries = [r for r in mine if r["symbol"] == "ETH-PERP" and r["purpose"] in ("entry", "hedge")]
        whole = sum(Decimal(r["quantity"]) for r in entries)
        mean = sum(Decimal(r["quantity"]) * Decimal(r["price"]) for r in entries) / whole
        assert abs(Decimal(cycle["primary_entry_price"]) - mean) < Decimal("1e-12")


def test_what_is_said_goes_to_one_place_and_errors_are_one_line(run: Run) -> None:
    assert run.stderr == ""
    assert "Traceback" not in run.output
    said = [line for line in run.output.splitlines() if line]
    assert said == [line for line in run.log.splitlines() if line]


# ---------------------------------------------------------------------- of the code itself


@pytest.mark.parametrize("name", ["MAINNET", "TESTNET", "DEVNET", "main", "live", ""])
def test_an_unknown_mode_is_an_error(name: str) -> None:
    with pytest.raises(SettingsError, match="unknown venue"):
        load(None, {"venue": name}, {})


def test_every_public_method_of_the_client_is_called_by_a_test_over_the_wire() -> None:
    """A close helper was called with a keyword it did not have; another method did not exist."""
    text = "\n".join(p.read_text() for p in (ROOT / "tests").glob("orders/*.py")) + Path(__file__).read_text()
    text += (ROOT / "bot" / "pair.py").read_text() + (ROOT / "bot" / "desk.py").read_text()
    methods = [n for n, _ in inspect.getmembers(NadoClient, inspect.isroutine) if not n.startswith("_")]
    missing = [name for name in methods if not re.search(rf"\b{name}\(", text)]
    assert not missing


def test_no_test_trusts_a_mock_that_answers_what_is_asked_for() -> None:
    """Objects that accept every call and attribute prove the shape of the code, not of the wire."""
    made_up = re.compile(r"\b(Magic|Async|NonCallable)?Mock\((?!spec_set=)|create_" + "autospec")
    found = [p.name for p in (ROOT / "tests").rglob("*.py") if made_up.search(p.read_text())]
    assert not found
