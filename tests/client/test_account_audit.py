"""The account after an outage: what explains a position, and how soon the account is trusted again."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from clientkit import DEADLINE_S, FAST_LINK, FAST_LINK_WITH_DATA, Venue, sample, until
from hypothesis import given
from hypothesis import strategies as st
from rudekit import SIGNER, Script, scripted
from simproc import start_sim

from nadofast import FeedConfig, NadoConnectionMode, OrderRequest, OrderType, Rest, Signer, custom, to_x18
from nadofast._core import FeedCore
from nadofast.accountsync import MAX_KNOWN_ORDERS, AccountSync, AuditConfig, OrderWatch
from nadofast.appendix import pack_appendix
from nadofast.backfill import BackfillConfig, FillBackfill
from nadofast.events import FillEvent, OrderUpdateEvent
from nadofast.fallback import FallbackConfig, RestPoller
from nadofast.fillledger import FillLedger
from nadofast.models import OpenOrder, PerpBalance, SubaccountInfo
from nadofast.products import mul_x18

PRODUCTS = (4, 8)
CONFIG = FeedConfig(
    link=FAST_LINK_WITH_DATA,
    query_link=FAST_LINK,
    fallback=FallbackConfig(down_s=0.05, up_s=0.1, poll_s=0.05),
    backfill=BackfillConfig(looks_s=(0.05, 0.2)),
)


@dataclass
class ToyAccount:
    """Cross positions the way the exchange keeps them: [amount, quote, cumulative], and the USDT0 balance."""

    usdt0_x18: int = 1000 * 10**18
    positions: dict[int, list[int]] = field(
        default_factory=lambda: {product: [0, 0, 0] for product in PRODUCTS}
    )
    fills: int = 0

    def fill(self, product_id: int, amount_x18: int, price_x18: int, fee_x18: int) -> FillEvent:
        self.fills += 1
        position = self.positions[product_id]
        position[0] += amount_x18
        position[1] -= mul_x18(amount_x18, price_x18) + fee_x18
        return FillEvent(
            product_id=product_id,
            timestamp_ns=self.fills,
            subaccount="0x",
            order_digest=f"0x{self.fills}",
            appendix=1,
            filled_qty_x18=abs(amount_x18),
            remaining_qty_x18=0,
            original_qty_x18=abs(amount_x18),
            price_x18=price_x18,
            is_taker=True,
            is_bid=amount_x18 > 0,
            fee_x18=fee_x18,
            submission_idx=self.fills,
        )

    def fund(self, product_id: int, per_unit_x18: int) -> None:
        position = self.positions[product_id]
        position[1] -= mul_x18(per_unit_x18, position[0])
        position[2] += per_unit_x18

    def settle(self, product_id: int, amount_x18: int) -> None:
        self.positions[product_id][1] -= amount_x18
        self.usdt0_x18 += amount_x18

    def info(self) -> SubaccountInfo:
        perp = {product: PerpBalance(product, *position) for product, position in self.positions.items()}
        return SubaccountInfo("0x", True, self.usdt0_x18, {}, perp, {}, (0, 0, 0))


amounts = st.integers(1, 10**6).map(lambda n: n * 10**13) | st.integers(1, 10**6).map(lambda n: -n * 10**13)
fills = st.tuples(
    st.just("fill"), st.sampled_from(PRODUCTS), amounts, st.integers(10**18, 10**23), st.booleans()
)
settlements = st.tuples(
    st.just("settle"), st.sampled_from(PRODUCTS), st.integers(-(10**21), 10**21), st.none(), st.none()
)


@given(st.lists(fills | settlements, max_size=12), st.integers(-(10**19), 10**19), st.integers(0, 12))
def test_fills_funding_and_settlement_explain_a_position_and_a_missed_fill_does_not(
    steps: list[tuple[str, int, int, Any, Any]], per_unit_x18: int, funded_at: int
) -> None:
    account, ledger = ToyAccount(), FillLedger()
    ledger.rebase(account.info(), PRODUCTS)
    is_complete = True
    for number, (what, product_id, amount_x18, price_x18, is_missed) in enumerate(steps):
        if number == funded_at:
            account.fund(PRODUCTS[0], per_unit_x18)
        if what == "settle":
            # After a settlement funding is known of the present position only: no fill may follow.
            account.settle(product_id, amount_x18)
            break
        # No funding and no settlement of this range comes near such a fee.
        fill = account.fill(product_id, amount_x18, price_x18, fee_x18=(2 * number + 1) * 10**27)
        if is_missed:
            is_complete = False
        else:
            ledger.add(fill)
    assert ledger.explains_all(account.info(), PRODUCTS) == is_complete
    ledger.rebase(account.info(), PRODUCTS)
    account.fund(PRODUCTS[1], per_unit_x18)
    assert ledger.explains_all(account.info(), PRODUCTS)


def test_what_is_not_followed_explains_nothing() -> None:
    account, ledger = ToyAccount(), FillLedger()
    assert ledger.explains(4, 5, 5), "nobody has said anything yet"
    ledger.rebase(account.info(), PRODUCTS)
    ledger.add(
        replace(account.fill(4, 10**18, 10**21, 10**17), appendix=pack_appendix(OrderType.IOC, isolated=True))
    )
    assert ledger.explains(4, 0, 0), "isolated positions are others"
    assert not ledger.explains(4, 10**18, 0)
    assert ledger.explains_all(replace(account.info(), perp={}), PRODUCTS)


# ---------------------------------------------------------------------------- orders


def update(digest: str, amount_x18: int, reason: str, time_ns: int = 1) -> OrderUpdateEvent:
    return OrderUpdateEvent(4, time_ns, digest, amount_x18, reason)


def resting(digest: str, unfilled_x18: int) -> OpenOrder:
    return OpenOrder(
        digest=digest,
        product_id=4,
        sender="0x",
        price_x18=1,
        amount_x18=10,
        unfilled_x18=unfilled_x18,
        expiration_s=1,
        nonce=1,
        appendix=1,
        order_type="default",
        placed_at_s=1,
    )


def test_an_order_that_has_ended_is_never_told_as_placed_again() -> None:
    """Not out of a list from before its end, and not by a word of the stream that comes late."""
    watch = OrderWatch()
    assert watch.on_stream(update("ended", 10, "placed"), 100)
    assert watch.on_stream(update("ended", 10, "cancelled", 2), 210)
    assert watch.compare([resting("ended", 10)], {}.get, asked_ns=200, timestamp_ns=9) == []
    assert not watch.on_stream(update("ended", 10, "placed"), 220)
    for number in range(MAX_KNOWN_ORDERS):
        assert watch.on_stream(update(f"more {number}", 0, "filled"), 230)
    assert len(watch._gone) == MAX_KNOWN_ORDERS


def test_a_list_of_orders_tells_what_the_stream_left_out_and_nothing_else() -> None:
    watch = OrderWatch()
    for digest in ("partly", "filled", "cancelled", "same", "late"):
        assert watch.on_stream(update(digest, 10, "placed"), 100)
    assert not watch.on_stream(update("same", 10, "placed", 2), 101), "no news"
    assert watch.on_stream(update("late", 8, "filled", 3), 300), "after the list was asked for"
    listed = [resting("partly", 4), resting("same", 10), resting("unknown", -7)]
    news = watch.compare(listed, {"filled": 0}.get, asked_ns=200, timestamp_ns=9)
    assert [(event.digest, event.amount_x18, event.reason) for event in news] == [
        ("partly", 4, "filled"),
        ("filled", 0, "filled"),
        ("cancelled", 10, "cancelled"),
        ("unknown", 7, "placed"),
    ]
    for event in news:
        watch.told(event, 200)
    assert watch.recovered == 4
    assert watch.compare(listed, {"filled": 0}.get, asked_ns=250, timestamp_ns=9) == [], "told once"
    # What the stream says of them afterwards comes too late.
    assert not watch.on_stream(update("cancelled", 0, "cancelled", 4), 310)
    assert not watch.on_stream(update("partly", 4, "filled", 4), 310)
    assert watch.on_stream(update("partly", 0, "filled", 5), 310)
    for number in range(MAX_KNOWN_ORDERS + 1):
        watch.told(update(f"more {number}", 0, "cancelled"), 1)
    assert watch.on_stream(update("cancelled", 0, "cancelled", 6), 311), "remembered for long, not for ever"


# ---------------------------------------------------------------------------- the audit


@dataclass
class Bank:
    """What HTTP says of the account: nothing while it is down."""

    amount_x18: int = 0
    is_up: bool = True
    looks: int = 0

    def answer(self, message: Any) -> Any:
        if not self.is_up:
            return "the exchange is away"
        if message["type"] == "subaccount_orders":
            rows: dict[str, Any] = {
                "sender": message["sender"],
                "product_id": message["product_id"],
                "orders": [],
            }
            return {"status": "success", "data": rows}
        assert message["type"] == "subaccount_info"
        self.looks += 1
        answer: dict[str, Any] = copy.deepcopy(sample("query_subaccount_info")["response"])
        for row in answer["data"]["perp_balances"]:
            row["balance"]["amount"] = str(self.amount_x18 if row["product_id"] == 4 else 0)
        return answer


@asynccontextmanager
async def audit(
    bank: Bank, is_stream_up: Callable[[], bool] = lambda: True
) -> AsyncIterator[tuple[AccountSync, list[Any]]]:
    """An audit of product 4, by default with the streams up, and what it published."""
    told: list[Any] = []
    subaccount = SIGNER.subaccount()
    async with scripted(Script(query=bank.answer)) as network, Rest(network, timeout_s=1) as rest:
        poller = RestPoller(
            FeedCore([4]),
            rest,
            [4],
            subaccount,
            on_position=told.append,
            exchange_now_ns=lambda: 1,
            config=FallbackConfig(),
        )
        account = AccountSync(
            rest,
            subaccount,
            [4],
            told.append,
            backfill=FillBackfill(
                rest, subaccount, [4], told.append, exchange_now_s=lambda: 1, clock_steps=lambda: 0
            ),
            poller=poller,
            is_stream_up=is_stream_up,
            on_trusted=lambda: None,
            exchange_now_ns=lambda: 1,
            config=AuditConfig(looks_s=(0.0, 0.01, 0.01), audit_s=0.05, settle_s=0.01, pause_s=0.02),
        )
        task = asyncio.create_task(account.run())
        try:
            yield account, told
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def test_an_audit_without_an_answer_is_repeated_until_there_is_one() -> None:
    bank = Bank(amount_x18=5, is_up=False)
    async with audit(bank) as (account, told):
        account.on_up()
        await until(lambda: account.audits >= 2, "repeated")
        assert not account.has_base
        assert not account.is_trusted
        bank.is_up = True
        await until(lambda: account.is_trusted, "trusted")
        assert told == [], "what was there from the beginning is no news"


async def test_a_position_that_nothing_explains_is_taken_in_the_end() -> None:
    bank = Bank(amount_x18=5)
    async with audit(bank) as (account, told):
        await until(lambda: account.has_base, "the base")
        bank.amount_x18 = 9
        account.on_up()
        await until(lambda: account.is_trusted, "trusted")
        assert account.unexplained == 1
        assert [(event.amount_x18, event.reason) for event in told] == [(9, "rest")]
        looks = bank.looks
        await until(lambda: bank.looks >= looks + 2, "now and then, without a reason")
        assert account.unexplained == 1


@pytest.mark.parametrize("is_trusted_between", [True, False])
async def test_each_outage_gives_missing_fills_a_time_of_their_own(is_trusted_between: bool) -> None:
    """The order behind a missing fill is gone: told at once it would be told as cancelled."""
    bank, is_up = Bank(), False
    async with audit(bank, lambda: is_up) as (account, told):
        await until(lambda: account.has_base, "the base")
        bank.amount_x18 = 5
        await account.look_while_down()
        assert told == []
        if is_trusted_between:
            is_up = True
            account.on_up()
            await until(lambda: account.is_trusted, "trusted")
            is_up = False
        assert account.on_order_update(update("filled meanwhile", 10, "placed"))
        account.on_lost()
        unexplained, count = account.unexplained, len(told)
        bank.amount_x18 = 9
        await asyncio.sleep(0.03)  # longer than the looks of an audit take
        await account.look_while_down()
        assert (account.unexplained, len(told)) == (unexplained, count)
        await asyncio.sleep(0.03)
        await account.look_while_down()
        assert account.unexplained == unexplained + 1, "not found for long enough"


async def test_a_loss_during_an_audit_leaves_the_rest_to_the_next() -> None:
    bank = Bank()
    async with audit(bank) as (account, _):
        await until(lambda: account.has_base, "the base")
        bank.amount_x18 = 9  # so that one look is not enough
        account.on_up()
        looks = bank.looks
        await until(lambda: bank.looks > looks, "looking")
        account.on_lost()
        assert not account.is_trusted
        await until(lambda: account.is_trusted, "the streams of this test are up again at once: audited anew")
        assert account.audits >= 2


async def buy(venue: Venue, gateway: Any) -> str:
    ask = (await venue.rest.market_liquidity(4, 1)).asks[0][0]
    price = venue.products[4].round_price(ask * 101 // 100, "up")
    outcome = await gateway.place(OrderRequest(4, price, to_x18("0.1"), OrderType.IOC))
    assert outcome.is_confirmed
    digest: str = outcome.digest
    return digest


async def test_funding_and_settlement_while_away_do_not_hold_the_account_up() -> None:
    async with start_sim(seed=12) as server:
        network = custom("sim", server.ready)
        signer = Signer(
            server.ready["accounts"][0]["private_key"],
            chain_id=network.chain_id,
            endpoint_address=network.endpoint_address,
        )
        async with Rest(network) as rest:
            venue = Venue(server.ready, network, signer, rest, await rest.products([4, 8]))
            fills: list[FillEvent] = []
            async with venue.feed(rest=rest, config=CONFIG) as feed, venue.gateway() as gateway:
                feed.on("fill", fills.append)
                await feed.wait_synced(DEADLINE_S)
                for happening in ("funding", "settlement"):
                    digest = await buy(venue, gateway)
                    await until(
                        lambda digest=digest: any(f.order_digest == digest for f in fills), "the fill"
                    )
                    url, feed.link.url = feed.link.url, "ws://127.0.0.1:9/"
                    feed.link.cut("test: the way is blocked")
                    await until(lambda: feed.account_mode is NadoConnectionMode.REST, "HTTP takes over")
                    before = (await rest.subaccount_info(venue.subaccount)).perp[4].v_quote_x18
                    if happening == "funding":
                        server.exchange.pay_funding(4, to_x18(1))  # far from what passes as dust
                    else:
                        server.exchange.settle_pnl(venue.subaccount)
                    assert (await rest.subaccount_info(venue.subaccount)).perp[4].v_quote_x18 != before
                    feed.link.url = url
                    await until(lambda: feed.pool.is_account_live, "the streams")
                    await until(lambda: feed.account_live, f"trusted after {happening}")
                    # Nothing moves any more: an audit that does not find the reason at once never does.
                    assert feed.stats()["audits_unexplained"] == 0, happening
