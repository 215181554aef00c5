"""A trading day of the official SDK, unmodified but for urls: from the first look to the archive."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests
from eth_account import Account
from nado_protocol.contracts.eip712.sign import build_eip712_typed_data, sign_eip712_typed_data
from nado_protocol.contracts.types import NadoTxType
from nado_protocol.engine_client import EngineClient
from nado_protocol.engine_client.types import (
    CancelOrdersParams,
    CancelProductOrdersParams,
    EngineClientOpts,
    OrderParams,
    PlaceOrderParams,
    StreamAuthenticationParams,
)
from nado_protocol.engine_client.types.execute import (
    CancelAndPlaceParams,
    LinkSignerParams,
    PlaceOrdersParams,
)
from nado_protocol.engine_client.types.models import MaxOrderSizeDirection
from nado_protocol.engine_client.types.query import QueryMaxOrderSizeParams
from nado_protocol.indexer_client import IndexerClient
from nado_protocol.indexer_client.types import IndexerClientOpts
from nado_protocol.indexer_client.types.query import (
    IndexerAccountSnapshotsParams,
    IndexerCandlesticksParams,
    IndexerMarketSnapshotInterval,
    IndexerMarketSnapshotsParams,
    IndexerMatchesParams,
    IndexerProductSnapshotsParams,
)
from nado_protocol.utils.exceptions import ExecuteFailedException, QueryFailedException
from nado_protocol.utils.expiration import OrderType, get_expiration_timestamp
from nado_protocol.utils.math import to_x6, to_x18
from nado_protocol.utils.nonce import gen_order_nonce
from nado_protocol.utils.order import build_appendix
from nado_protocol.ws import (
    BestBidOfferStream,
    BookDepthStream,
    FillStream,
    NadoSubscriptionClient,
    NadoWebSocketClient,
    OrderUpdateStream,
    PositionChangeStream,
    TradeStream,
)
from simproc import SimProcess

ETH, SOL = 4, 8
SIZE = to_x18(0.1)
DEADLINE_S = 10.0
TICK = 10**17


class Day:
    """Clients of one account, and what they have to remember from hour to hour."""

    def __init__(self, sim: SimProcess) -> None:
        self.sim = sim
        self.subaccount = sim.account["subaccount"]
        self.engine = self.engine_of(sim.account["private_key"])
        self.indexer = IndexerClient(IndexerClientOpts(url=sim.ready["archive"]))
        self.bought: list[str] = []

    def engine_of(self, key: str) -> EngineClient:
        engine = EngineClient(EngineClientOpts(url=self.sim.ready["gateway"], signer=key))
        contracts = engine.get_contracts()
        engine.endpoint_addr = contracts.endpoint_addr
        engine.chain_id = int(contracts.chain_id)
        return engine

    def close(self) -> None:
        for session in (self.engine.session, self.engine._querier.session, self.indexer.session):
            session.close()

    def order(self, bps: int, amount: int, kind: OrderType, **flags: Any) -> PlaceOrderParams:
        """bps: from the middle of the book."""
        price = self.engine.get_market_price(ETH)
        middle = (int(price.bid_x18) + int(price.ask_x18)) // 2
        order = OrderParams(
            sender=self.subaccount,
            priceX18=middle * (10_000 + bps) // 10_000 // TICK * TICK,
            amount=amount,
            expiration=get_expiration_timestamp(300),
            appendix=build_appendix(kind, **flags),
            nonce=gen_order_nonce(),
        )
        return PlaceOrderParams(product_id=ETH, order=order, id=5)

    def place(self, *args: Any, **flags: Any) -> str:
        digest: str = self.engine.place_order(self.order(*args, **flags)).data.digest
        return digest

    def resting(self) -> list[str]:
        orders = self.engine.get_subaccount_open_orders(ETH, self.subaccount).orders
        return [order.digest for order in orders]

    def position(self) -> Any:
        info = self.engine.get_subaccount_info(self.subaccount)
        return next(b.balance for b in info.perp_balances if b.product_id == ETH)

    def strike(self, **faults: Any) -> None:
        reply = requests.post(f"{self.sim.ready['control']}/faults", json=faults, timeout=DEADLINE_S)
        assert reply.status_code == 200

    def authentication(self) -> StreamAuthenticationParams:
        expiration_ms = int(time.time() * 1000) + 60_000
        typed = build_eip712_typed_data(
            NadoTxType.AUTHENTICATE_STREAM,
            {"sender": bytes.fromhex(self.subaccount[2:]), "expiration": expiration_ms},
            self.sim.ready["endpoint_addr"],
            self.sim.ready["chain_id"],
        )
        signature = sign_eip712_typed_data(typed, Account.from_key(self.sim.account["private_key"]))
        return StreamAuthenticationParams(
            sender=self.subaccount, expiration=expiration_ms, signature=signature
        )


@pytest.fixture
def day() -> Iterator[Day]:
    with SimProcess(seed=13) as process:
        day = Day(process)
        yield day
        day.close()


def look_around(day: Day) -> None:
    engine = day.engine
    assert engine.get_status() == "active"
    assert int(engine.get_contracts().chain_id) == day.sim.ready["chain_id"]
    assert int(engine.get_nonces(day.sim.account["address"]).tx_nonce) == 0
    assert {"BTC-PERP", "ETH-PERP", "SOL-PERP"} <= set(engine.get_symbols().symbols)
    assert ETH in {p.product_id for p in engine.get_all_products().perp_products}
    assert 0 < int(engine.get_market_price(ETH).bid_x18) < int(engine.get_market_price(ETH).ask_x18)
    prices = engine.get_market_prices([ETH, SOL]).market_prices
    assert [price.product_id for price in prices] == [ETH, SOL]
    liquidity = engine.get_market_liquidity(ETH, 20)
    assert (len(liquidity.bids), len(liquidity.asks)) == (20, 20)


def count_the_money(day: Day) -> None:
    engine = day.engine
    info = engine.get_subaccount_info(day.subaccount)
    assert info.exists
    assert int(info.spot_balances[0].balance.amount) == to_x18(100_000)
    assert engine.get_isolated_positions(day.subaccount).isolated_positions == []
    assert int(engine.get_fee_rates(day.subaccount).taker_fee_rates_x18[ETH]) > 0
    wanted = QueryMaxOrderSizeParams(
        sender=day.subaccount,
        product_id=ETH,
        price_x18=str(to_x18(3000)),
        direction=MaxOrderSizeDirection.LONG,
    )
    assert int(engine.get_max_order_size(wanted).max_order_size) > SIZE
    assert int(engine.get_max_withdrawable(0, day.subaccount).max_withdrawable) > to_x18(90_000)


def trade_by_all_order_types(day: Day) -> None:
    resting = [day.place(-500, SIZE, kind) for kind in (OrderType.DEFAULT, OrderType.POST_ONLY)]
    assert set(day.resting()) == set(resting)
    assert day.engine.get_order(ETH, resting[0]).digest == resting[0]
    day.bought = [day.place(50, SIZE, kind) for kind in (OrderType.IOC, OrderType.FOK)]
    assert int(day.position().amount) == 2 * SIZE
    with pytest.raises(QueryFailedException, match="2020"):
        day.engine.get_order(ETH, day.bought[0])
    with pytest.raises(ExecuteFailedException, match="2008"):
        day.place(50, SIZE, OrderType.POST_ONLY)
    cancel = CancelOrdersParams(sender=day.subaccount, productIds=[ETH, ETH], digests=resting)
    gone = day.engine.cancel_orders(cancel).data.cancelled_orders
    assert [order.digest for order in gone] == resting


def quote(day: Day) -> None:
    orders = [day.order(bps, SIZE, OrderType.POST_ONLY) for bps in (-400, -300)]
    reply = day.engine.place_orders(PlaceOrdersParams(orders=orders))
    placed = reply.data if isinstance(reply.data, list) else reply.data.place_orders
    first, second = (entry.digest for entry in placed)
    cancel = CancelOrdersParams(sender=day.subaccount, productIds=[ETH], digests=[first])
    replacing = CancelAndPlaceParams(
        cancel_orders=cancel, place_order=day.order(-350, SIZE, OrderType.POST_ONLY)
    )
    third = day.engine.cancel_and_place(replacing).data.digest
    assert set(day.resting()) == {second, third}
    everything = CancelProductOrdersParams(sender=day.subaccount, productIds=[ETH])
    assert len(day.engine.cancel_product_orders(everything).data.cancelled_orders) == 2
    assert day.resting() == []


def trade_isolated(day: Day) -> None:
    day.place(50, SIZE, OrderType.IOC, isolated=True, isolated_margin=to_x6(50))
    (position,) = day.engine.get_isolated_positions(day.subaccount).isolated_positions
    assert int(position.base_balance.balance.amount) == SIZE
    day.place(-50, -SIZE, OrderType.IOC, isolated=True, reduce_only=True)
    assert day.engine.get_isolated_positions(day.subaccount).isolated_positions == []


def lend_the_pen(day: Day) -> None:
    key = "0x" + "07" * 32
    address = str(Account.from_key(key).address).lower()
    other = day.engine_of(key)
    day.engine.link_signer(LinkSignerParams(sender=day.subaccount, signer=address + "0" * 24))
    assert day.engine.get_linked_signer(day.subaccount).linked_signer == address
    digest = other.place_order(day.order(-500, SIZE, OrderType.POST_ONLY)).data.digest
    assert day.resting() == [digest]
    other.cancel_product_orders(CancelProductOrdersParams(sender=day.subaccount, productIds=[]))
    limits = day.indexer.get_linked_signer_rate_limits(day.subaccount)
    assert (limits.remaining_tx, limits.signer) == ("49", address)
    for session in (other.session, other._querier.session):
        session.close()


def follow_events(day: Day) -> None:
    with NadoSubscriptionClient(day.sim.ready["gateway"]) as socket:
        assert socket.authenticate(day.authentication())["result"] is None
        kinds = (OrderUpdateStream, FillStream, PositionChangeStream)
        streams = [kind(subaccount=day.subaccount) for kind in kinds]
        assert socket.subscribe_multi(streams)["result"] is None
        day.bought.append(day.place(50, SIZE, OrderType.IOC))
        events = _collect(socket, {"order_update", "fill", "position_change"})
        assert {e["order_digest"] for e in events if e["type"] == "fill"} == {day.bought[-1]}
        frame = socket.unsubscribe_multi(streams)
        while "type" in frame:
            frame = socket.recv(timeout=DEADLINE_S)
        market = [stream(product_id=ETH) for stream in (BestBidOfferStream, TradeStream)]
        assert socket.subscribe_multi(market)["result"] is None
        _collect(socket, {"best_bid_offer", "trade"})
    with NadoWebSocketClient(day.sim.ready["gateway"]) as gateway:
        params = day.order(-500, SIZE, OrderType.POST_ONLY)
        params.signature = day.engine._sign("place_order", params.order.dict(), ETH)
        placed = gateway.execute(params)
        assert (placed["status"], placed["id"]) == ("success", 5)


def keep_a_book(day: Day) -> None:
    """Snapshot and every later batch, compared with the exchange's book at a quiet point."""
    with NadoSubscriptionClient(day.sim.ready["gateway"]) as socket:
        socket.subscribe(BookDepthStream(product_id=ETH))
        batches = [socket.recv(timeout=DEADLINE_S)]
        snapshot = day.engine.get_market_liquidity(ETH, 100)
        book = {"bids": dict(snapshot.bids), "asks": dict(snapshot.asks)}
        batches += [socket.recv(timeout=DEADLINE_S) for _ in range(20)]
        day.strike(pause_market=True)
        try:
            while True:
                batches.append(socket.recv(timeout=0.4))
        except TimeoutError:
            quiet = day.engine.get_market_liquidity(ETH, 20)
        day.strike(pause_market=False)
    for batch in batches:
        if int(batch.get("max_timestamp", 0)) > int(snapshot.timestamp):
            for side, levels in book.items():
                levels.update(batch[side])
    for side, shown in (("bids", quiet.bids), ("asks", quiet.asks)):
        held = sorted((int(p), int(q)) for p, q in book[side].items() if q != "0")
        best = held[::-1] if side == "bids" else held
        assert best[:20] == [(int(price), int(quantity)) for price, quantity in shown]


def be_paid_or_pay(day: Day) -> None:
    before = int(day.position().v_quote_balance)
    day.strike(funding=True)
    moved = int(day.position().v_quote_balance) - before
    payments = day.indexer.get_paginated_subaccount_interest_funding_payments(day.subaccount, [ETH], 5)
    (payment,) = payments.funding_payments
    assert moved != 0
    assert int(payment.amount) == pytest.approx(moved, abs=2)
    assert int(payment.balance_amount) == int(day.position().amount) == 3 * SIZE


def read_the_archive(day: Day) -> None:
    indexer = day.indexer
    orders = indexer.get_historical_orders_by_digest(day.bought).orders
    assert {order.digest: int(order.base_filled) for order in orders} == dict.fromkeys(day.bought, SIZE)
    found = indexer.get_matches(IndexerMatchesParams(subaccounts=[day.subaccount], limit=100)).matches
    assert set(day.bought) <= {match.digest for match in found}
    candles = indexer.get_candlesticks(IndexerCandlesticksParams(product_id=ETH, granularity=60, limit=5))
    assert int(candles.candlesticks[0].volume) > 0
    assert indexer.get_perp_funding_rate(ETH).product_id == ETH
    interval = IndexerMarketSnapshotInterval(count=1, granularity=60)
    markets = IndexerMarketSnapshotsParams(interval=interval, product_ids=[ETH])
    assert int(indexer.get_market_snapshots(markets).snapshots[0].cumulative_volumes["4"]) > 0
    products = indexer.get_product_snapshots(IndexerProductSnapshotsParams(product_id=ETH, limit=1))
    assert products.products[0].product_id == ETH
    now_s = int(time.time()) + 1
    wanted = IndexerAccountSnapshotsParams(
        subaccounts=[day.subaccount], timestamps=[1, now_s], isolated=False
    )
    snapshots = indexer.get_multi_subaccount_snapshots(wanted).snapshots[day.subaccount]
    assert snapshots["1"] == []
    amounts = {e.product_id: e.post_balance for e in snapshots[str(now_s)]}
    assert int(amounts[ETH].perp.balance.amount) == 3 * SIZE


def go_home_flat(day: Day) -> None:
    day.engine.close_position(day.subaccount, ETH)
    day.engine.cancel_product_orders(CancelProductOrdersParams(sender=day.subaccount, productIds=[]))
    assert int(day.position().amount) == 0
    assert day.resting() == []


HOURS: list[Callable[[Day], None]] = [
    look_around,
    count_the_money,
    trade_by_all_order_types,
    quote,
    trade_isolated,
    lend_the_pen,
    follow_events,
    keep_a_book,
    be_paid_or_pay,
    read_the_archive,
    go_home_flat,
]


def test_a_trading_day(day: Day) -> None:
    for hour in HOURS:
        hour(day)


def _collect(socket: NadoSubscriptionClient, kinds: set[str]) -> list[dict[str, Any]]:
    """Events until every kind has been seen."""
    events: list[dict[str, Any]] = []
    deadline_s = time.monotonic() + DEADLINE_S
    while not kinds <= {event.get("type") for event in events}:
        events.append(socket.recv(timeout=deadline_s - time.monotonic()))
    return events
