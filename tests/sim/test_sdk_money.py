"""The official SDK beyond single orders: batches, isolated margin, signers, transfers, and the archive."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from eth_account import Account
from nado_protocol.engine_client import EngineClient
from nado_protocol.engine_client.types import EngineClientOpts, OrderParams, PlaceOrderParams
from nado_protocol.engine_client.types.execute import (
    LinkSignerParams,
    PlaceOrdersParams,
    TransferQuoteParams,
    WithdrawCollateralParams,
)
from nado_protocol.engine_client.types.models import MaxOrderSizeDirection
from nado_protocol.engine_client.types.query import QueryMaxOrderSizeParams
from nado_protocol.indexer_client import IndexerClient
from nado_protocol.indexer_client.types import IndexerClientOpts
from nado_protocol.indexer_client.types.query import (
    IndexerCandlesticksParams,
    IndexerMarketSnapshotInterval,
    IndexerMarketSnapshotsParams,
    IndexerProductSnapshotsParams,
    IndexerSubaccountsParams,
)
from nado_protocol.utils.exceptions import ExecuteFailedException
from nado_protocol.utils.expiration import OrderType, get_expiration_timestamp
from nado_protocol.utils.math import to_x6, to_x18
from nado_protocol.utils.nonce import gen_order_nonce
from nado_protocol.utils.order import build_appendix
from simproc import SimProcess

ETH, SOL, WETH = 4, 8, 3
SIZE = to_x18(0.1)


@pytest.fixture(scope="module")
def sim() -> Iterator[SimProcess]:
    with SimProcess(seed=12) as process:
        yield process


@pytest.fixture
def sdk(sim: SimProcess) -> Iterator[EngineClient]:
    client = _engine(sim, sim.account["private_key"])
    yield client
    client.session.close()
    client._querier.session.close()


@pytest.fixture
def indexer(sim: SimProcess) -> Iterator[IndexerClient]:
    client = IndexerClient(IndexerClientOpts(url=sim.ready["archive"]))
    yield client
    client.session.close()


def _engine(sim: SimProcess, key: str) -> EngineClient:
    client = EngineClient(EngineClientOpts(url=sim.ready["gateway"], signer=key))
    contracts = client.get_contracts()
    client.endpoint_addr = contracts.endpoint_addr
    client.chain_id = int(contracts.chain_id)
    return client


def _order(sim: SimProcess, sdk: EngineClient, bps: int, amount: int, appendix: int) -> PlaceOrderParams:
    """bps: from the middle of the book."""
    price = sdk.get_market_price(ETH)
    middle = (int(price.bid_x18) + int(price.ask_x18)) // 2
    order = OrderParams(
        sender=sim.account["subaccount"],
        priceX18=middle * (10_000 + bps) // 10_000 // 10**17 * 10**17,
        amount=amount,
        expiration=get_expiration_timestamp(60),
        appendix=appendix,
        nonce=gen_order_nonce(),
    )
    return PlaceOrderParams(product_id=ETH, order=order)


def test_a_batch(sdk: EngineClient, sim: SimProcess) -> None:
    resting, crossing = (
        _order(sim, sdk, bps, SIZE, build_appendix(OrderType.POST_ONLY)) for bps in (-500, 100)
    )
    reply = sdk.place_orders(PlaceOrdersParams(orders=[resting, crossing]))
    data = reply.data if isinstance(reply.data, list) else reply.data.place_orders
    assert [entry.digest is not None for entry in data] == [True, False]
    assert sdk.get_order(ETH, data[0].digest).product_id == ETH


def test_an_isolated_position_and_back(sdk: EngineClient, sim: SimProcess) -> None:
    subaccount = sim.account["subaccount"]
    opening = build_appendix(OrderType.IOC, isolated=True, isolated_margin=to_x6(50))
    sdk.place_order(_order(sim, sdk, 50, SIZE, opening))
    (position,) = sdk.get_isolated_positions(subaccount).isolated_positions
    assert int(position.base_balance.balance.amount) == SIZE
    assert int(position.quote_balance.balance.amount) == to_x18(50)
    closing = build_appendix(OrderType.IOC, isolated=True, reduce_only=True)
    sdk.place_order(_order(sim, sdk, -50, -SIZE, closing))
    assert sdk.get_isolated_positions(subaccount).isolated_positions == []


def test_what_may_be_done(sdk: EngineClient, sim: SimProcess) -> None:
    subaccount = sim.account["subaccount"]
    wanted = QueryMaxOrderSizeParams(
        sender=subaccount, product_id=ETH, price_x18=str(to_x18(3000)), direction=MaxOrderSizeDirection.LONG
    )
    assert int(sdk.get_max_order_size(wanted).max_order_size) > SIZE
    assert int(sdk.get_max_withdrawable(0, subaccount).max_withdrawable) > to_x18(1000)
    assert [1, 2] in sdk.get_health_groups().health_groups
    assert int(sdk.get_insurance().insurance) >= 0


def test_a_linked_signer_trades_until_it_is_revoked(sdk: EngineClient, sim: SimProcess) -> None:
    subaccount, key = sim.account["subaccount"], "0x" + "07" * 32
    address = str(Account.from_key(key).address).lower()
    linked = _engine(sim, key)
    order = _order(sim, linked, -500, SIZE, build_appendix(OrderType.POST_ONLY))
    with pytest.raises(ExecuteFailedException, match="2028"):
        linked.place_order(order.model_copy(deep=True))
    sdk.link_signer(LinkSignerParams(sender=subaccount, signer=address + "0" * 24))
    assert sdk.get_linked_signer(subaccount).linked_signer == address
    linked.place_order(order)
    sdk.link_signer(LinkSignerParams(sender=subaccount, signer="0x" + "0" * 64))
    assert int(sdk.get_linked_signer(subaccount).linked_signer, 16) == 0
    linked.session.close()
    linked._querier.session.close()


def test_money_moves(sdk: EngineClient, sim: SimProcess) -> None:
    subaccount = sim.account["subaccount"]
    other = sim.account["address"] + b"savings".ljust(12, b"\0").hex()
    sdk.transfer_quote(TransferQuoteParams(sender=subaccount, recipient=other, amount=to_x18(25)))
    info = sdk.get_subaccount_info(other)
    assert (info.exists, int(info.spot_balances[0].balance.amount)) == (True, to_x18(25))
    sdk.withdraw_collateral(WithdrawCollateralParams(sender=other, productId=0, amount=to_x6(5)))
    assert int(sdk.get_subaccount_info(other).spot_balances[0].balance.amount) == to_x18(19)


def test_the_archive(sdk: EngineClient, sim: SimProcess, indexer: IndexerClient) -> None:
    subaccount = sim.account["subaccount"]
    sdk.place_order(_order(sim, sdk, 50, SIZE, build_appendix(OrderType.IOC)))
    candles = indexer.get_candlesticks(IndexerCandlesticksParams(product_id=ETH, granularity=60, limit=5))
    assert int(candles.candlesticks[0].volume) > 0
    assert indexer.get_perp_funding_rate(ETH).product_id == ETH
    assert set(indexer.get_perp_funding_rates([ETH, SOL])) == {"4", "8"}
    price = indexer.get_perp_prices(ETH)
    assert abs(int(price.mark_price_x18) - int(price.index_price_x18)) < to_x18(30)
    assert indexer.get_oracle_prices([ETH]).prices[0].product_id == ETH
    assert int(indexer.get_quote_price().price_x18) == to_x18(1)
    interval = IndexerMarketSnapshotInterval(count=1, granularity=60)
    snapshots = indexer.get_market_snapshots(
        IndexerMarketSnapshotsParams(interval=interval, product_ids=[ETH])
    ).snapshots
    assert int(snapshots[0].cumulative_volumes["4"]) > 0
    products = indexer.get_product_snapshots(IndexerProductSnapshotsParams(product_id=ETH, limit=1))
    assert products.products[0].product_id == ETH
    payments = indexer.get_paginated_subaccount_interest_funding_payments(subaccount, [ETH], 5)
    assert (payments.funding_payments, payments.meta.has_more) == ([], False)
    deposits = indexer.get_paginated_subaccount_collateral_events(subaccount, 50)
    assert deposits.events[-1].event_type == "deposit_collateral"
    matches = indexer.get_paginated_subaccount_match_events(subaccount, 1)
    assert (len(matches.matches), matches.meta.has_more) == (1, True)
    owned = indexer.get_subaccounts(IndexerSubaccountsParams(address=sim.account["address"])).subaccounts
    assert subaccount in {entry.subaccount for entry in owned}
    assert indexer.get_liquidation_feed() == []
    assert indexer.get_sequencer_backlog().backlog_size == "0"
