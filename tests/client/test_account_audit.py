"""The account after an outage: what explains a position, and how soon the account is trusted again."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from clientkit import DEADLINE_S, FAST_LINK, FAST_LINK_WITH_DATA, Venue, until
from hypothesis import given
from hypothesis import strategies as st
from simproc import start_sim

from nadofast import FeedConfig, NadoConnectionMode, OrderRequest, OrderType, Rest, Signer, custom, to_x18
from nadofast.backfill import BackfillConfig
from nadofast.events import FillEvent
from nadofast.fallback import FallbackConfig
from nadofast.fillledger import FillLedger
from nadofast.models import PerpBalance, SubaccountInfo
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
                        await venue.faults(funding=True)
                    else:
                        server.exchange.settle_pnl(venue.subaccount)
                    assert (await rest.subaccount_info(venue.subaccount)).perp[4].v_quote_x18 != before
                    feed.link.url = url
                    await until(lambda: feed.pool.is_account_live, "the streams")
                    began = time.monotonic()
                    await until(lambda: feed.account_live, f"trusted after {happening}", 2.0)
                    assert time.monotonic() - began < 1.0
                assert feed.stats()["audits_unexplained"] == 0
