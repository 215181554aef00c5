"""The official SDK, unmodified but for the url, trades against the exchange: it speaks the protocol.

Nothing here knows our wire code: requests, signatures and the reading of answers are the SDK's own.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
import requests
from eth_account import Account
from nado_protocol.client import NadoClientContextOpts, NadoClientMode, create_nado_client
from nado_protocol.contracts.eip712.sign import build_eip712_typed_data, sign_eip712_typed_data
from nado_protocol.contracts.types import NadoTxType
from nado_protocol.engine_client import EngineClient
from nado_protocol.engine_client.types import (
    CancelOrdersParams,
    CancelProductOrdersParams,
    EngineClientOpts,
    OrderParams,
    PlaceMarketOrderParams,
    PlaceOrderParams,
    StreamAuthenticationParams,
)
from nado_protocol.engine_client.types.execute import CancelAndPlaceParams
from nado_protocol.engine_client.types.query import QuerySubaccountOpenOrdersParams
from nado_protocol.indexer_client import IndexerClient
from nado_protocol.indexer_client.types import IndexerClientOpts
from nado_protocol.indexer_client.types.query import (
    IndexerMatchesParams,
    IndexerSubaccountHistoricalOrdersParams,
)
from nado_protocol.utils.exceptions import ExecuteFailedException, QueryFailedException
from nado_protocol.utils.execute import MarketOrderParams
from nado_protocol.utils.expiration import OrderType, get_expiration_timestamp
from nado_protocol.utils.math import to_x18
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
SIZE = to_x18(0.1)  # 300 USDT0 of ETH
DEADLINE_S = 10.0


@pytest.fixture(scope="module")
def sim() -> Iterator[SimProcess]:
    with SimProcess(seed=11) as process:
        yield process


@pytest.fixture
def sdk(sim: SimProcess) -> Iterator[EngineClient]:
    """The SDK's engine client, set up as its own documentation says; nothing of ours in between."""
    client = EngineClient(EngineClientOpts(url=sim.ready["gateway"], signer=sim.account["private_key"]))
    contracts = client.get_contracts()
    client.endpoint_addr = contracts.endpoint_addr
    client.chain_id = int(contracts.chain_id)
    yield client
    client.cancel_product_orders(CancelProductOrdersParams(sender=sim.account["subaccount"], productIds=[]))
    client.session.close()
    client._querier.session.close()


def _order(
    sim: SimProcess, price_x18: int, amount_x18: int, kind: OrderType, **flags: Any
) -> PlaceOrderParams:
    order = OrderParams(
        sender=sim.account["subaccount"],
        priceX18=price_x18,
        amount=amount_x18,
        expiration=get_expiration_timestamp(60),
        appendix=build_appendix(kind, **flags),
        nonce=gen_order_nonce(),
    )
    return PlaceOrderParams(product_id=ETH, order=order, id=77)


def _touch(sdk: EngineClient, product_id: int = ETH) -> tuple[int, int]:
    price = sdk.get_market_price(product_id)
    return int(price.bid_x18), int(price.ask_x18)


def _position(sdk: EngineClient, sim: SimProcess, product_id: int = ETH) -> int:
    info = sdk.get_subaccount_info(sim.account["subaccount"])
    return int(next(b.balance.amount for b in info.perp_balances if b.product_id == product_id))


def test_reads_the_market(sdk: EngineClient, sim: SimProcess) -> None:
    subaccount, address = sim.account["subaccount"], sim.account["address"]
    assert sdk.get_status() == "active"
    assert int(sdk.get_contracts().chain_id) == sim.ready["chain_id"]
    assert int(sdk.get_nonces(address).order_nonce) > 0

    symbols = sdk.get_symbols().symbols
    assert {"BTC-PERP", "ETH-PERP", "SOL-PERP"} <= set(symbols)
    assert int(symbols["ETH-PERP"].price_increment_x18) == 10**17
    assert int(symbols["SOL-PERP"].size_increment) == 10**17
    assert {"USDT0", "ETH-PERP", "SOL-PERP"} <= {entry.symbol for entry in sdk.get_product_symbols()}

    products = sdk.get_all_products()
    assert {p.product_id for p in products.perp_products} == {2, ETH, SOL}
    assert [p.product_id for p in products.spot_products] == [0, 1, 3]

    bid, ask = _touch(sdk)
    assert 0 < bid < ask
    prices = sdk.get_market_prices([ETH, SOL]).market_prices
    assert [price.product_id for price in prices] == [ETH, SOL]
    book = sdk.get_market_liquidity(ETH, 50)
    assert len(book.bids) >= 40
    assert len(book.asks) >= 40
    assert int(book.timestamp) > 10**18

    fees = sdk.get_fee_rates(subaccount)
    assert int(fees.taker_fee_rates_x18[ETH]) == 35 * 10**13
    info = sdk.get_subaccount_info(subaccount)
    assert info.exists
    assert int(info.spot_balances[0].balance.amount) > 0


@pytest.mark.parametrize("kind", [OrderType.DEFAULT, OrderType.POST_ONLY])
def test_places_sees_and_cancels_a_resting_order(sdk: EngineClient, sim: SimProcess, kind: OrderType) -> None:
    bid, _ = _touch(sdk)
    price = bid * 95 // 100 // 10**17 * 10**17
    digest = sdk.place_order(_order(sim, price, SIZE, kind)).data.digest

    resting = sdk.get_subaccount_open_orders(ETH, sim.account["subaccount"]).orders
    assert [(o.digest, int(o.price_x18), int(o.unfilled_amount)) for o in resting] == [(digest, price, SIZE)]
    assert sdk.get_order(ETH, digest).digest == digest

    cancel = CancelOrdersParams(sender=sim.account["subaccount"], productIds=[ETH], digests=[digest])
    cancelled = sdk.cancel_orders(cancel).data.cancelled_orders
    assert [order.digest for order in cancelled] == [digest]
    assert not sdk.get_subaccount_open_orders(ETH, sim.account["subaccount"]).orders
    with pytest.raises(QueryFailedException, match="2020"):
        sdk.get_order(ETH, digest)
    with pytest.raises(ExecuteFailedException, match="2020"):
        sdk.cancel_orders(cancel.model_copy(update={"nonce": gen_order_nonce(), "signature": None}))


@pytest.mark.parametrize("kind", [OrderType.IOC, OrderType.FOK])
def test_takes_with_an_immediate_order(sdk: EngineClient, sim: SimProcess, kind: OrderType) -> None:
    before = _position(sdk, sim)
    _, ask = _touch(sdk)
    digest = sdk.place_order(_order(sim, ask + 20 * 10**17, SIZE, kind)).data.digest
    assert _position(sdk, sim) == before + SIZE
    assert not sdk.get_subaccount_open_orders(ETH, sim.account["subaccount"]).orders
    with pytest.raises(ExecuteFailedException, match="2020"):
        sdk.cancel_orders(
            CancelOrdersParams(sender=sim.account["subaccount"], productIds=[ETH], digests=[digest])
        )

    bid, _ = _touch(sdk)
    sdk.place_order(_order(sim, bid - 20 * 10**17, -SIZE, kind, reduce_only=True))
    assert _position(sdk, sim) == before


def test_immediate_orders_that_cannot_trade_are_refused(sdk: EngineClient, sim: SimProcess) -> None:
    bid, ask = _touch(sdk)
    far = bid * 95 // 100 // 10**17 * 10**17
    with pytest.raises(ExecuteFailedException, match="2056"):
        sdk.place_order(_order(sim, far, SIZE, OrderType.IOC))
    with pytest.raises(ExecuteFailedException, match="2031"):
        sdk.place_order(_order(sim, far, SIZE, OrderType.FOK))
    with pytest.raises(ExecuteFailedException, match="2008"):
        sdk.place_order(_order(sim, ask + 100 * 10**17, SIZE, OrderType.POST_ONLY))


def test_market_order_helper_sells(sdk: EngineClient, sim: SimProcess) -> None:
    """Its buy side prices off the bids, so only the sell side is of use; then back."""
    before = _position(sdk, sim)
    order = MarketOrderParams(sender=sim.account["subaccount"], amount=-SIZE)
    sdk.place_market_order(PlaceMarketOrderParams(product_id=ETH, market_order=order, slippage=0.005))
    assert _position(sdk, sim) == before - SIZE
    sdk.close_position(sim.account["subaccount"], ETH)
    assert _position(sdk, sim) == 0


def test_cancel_and_place_and_cancel_everything(sdk: EngineClient, sim: SimProcess) -> None:
    subaccount = sim.account["subaccount"]
    bid, _ = _touch(sdk)
    price = bid * 95 // 100 // 10**17 * 10**17
    first = sdk.place_order(_order(sim, price, SIZE, OrderType.POST_ONLY)).data.digest
    cancel = CancelOrdersParams(sender=subaccount, productIds=[ETH], digests=[first])
    sdk.cancel_and_place(
        CancelAndPlaceParams(
            cancel_orders=cancel, place_order=_order(sim, price - 10**17, SIZE, OrderType.POST_ONLY)
        )
    )
    orders = sdk.get_subaccount_multi_products_open_orders([ETH, SOL], subaccount).product_orders
    assert [int(order.price_x18) for entry in orders for order in entry.orders] == [price - 10**17]
    gone = sdk.cancel_product_orders(CancelProductOrdersParams(sender=subaccount, productIds=[ETH, SOL])).data
    assert len(gone.cancelled_orders) == 1


def test_archive_knows_the_fill(sdk: EngineClient, sim: SimProcess) -> None:
    _, ask = _touch(sdk)
    digest = sdk.place_order(_order(sim, ask + 20 * 10**17, SIZE, OrderType.IOC)).data.digest
    indexer = IndexerClient(IndexerClientOpts(url=sim.ready["archive"]))
    orders = indexer.get_historical_orders_by_digest([digest]).orders
    assert [(order.digest, int(order.base_filled)) for order in orders] == [(digest, SIZE)]
    matches = indexer.get_matches(
        IndexerMatchesParams(subaccounts=[sim.account["subaccount"]], product_ids=[ETH], limit=10)
    ).matches
    assert digest in {match.digest for match in matches}
    history = indexer.get_subaccount_historical_orders(
        IndexerSubaccountHistoricalOrdersParams(subaccounts=[sim.account["subaccount"]], limit=5)
    ).orders
    assert digest in {order.digest for order in history}
    indexer.session.close()
    sdk.close_position(sim.account["subaccount"], ETH)


def test_the_full_client_trades(sim: SimProcess) -> None:
    """`NadoClient` as a newcomer makes it: a network by name, with the urls replaced."""
    url = sim.ready["gateway"]
    urls = NadoClientContextOpts(
        engine_endpoint_url=url, indexer_endpoint_url=sim.ready["archive"], trigger_endpoint_url=url
    )
    client = create_nado_client(NadoClientMode.TESTNET, sim.account["private_key"], urls)
    assert client.context.engine_client.chain_id == sim.ready["chain_id"]
    subaccount = sim.account["subaccount"]
    bid = int(client.market.get_latest_market_price(SOL).bid_x18)
    params = _order(sim, bid * 95 // 100 // 10**16 * 10**16, to_x18(2), OrderType.POST_ONLY)
    params.product_id = SOL
    digest = client.market.place_order(params).data.digest
    resting = client.market.get_subaccount_open_orders(SOL, subaccount).orders
    assert [order.digest for order in resting] == [digest]
    client.market.cancel_orders(CancelOrdersParams(sender=subaccount, productIds=[SOL], digests=[digest]))
    assert not client.market.get_subaccount_open_orders(SOL, subaccount).orders
    engine, indexer = client.context.engine_client, client.context.indexer_client
    for session in (engine.session, engine._querier.session, indexer.session):
        session.close()


def test_gateway_socket_of_the_sdk(sdk: EngineClient, sim: SimProcess) -> None:
    subaccount = sim.account["subaccount"]
    bid, _ = _touch(sdk)
    price = bid * 95 // 100 // 10**17 * 10**17
    params = _order(sim, price, SIZE, OrderType.POST_ONLY)
    params.signature = sdk._sign("place_order", params.order.dict(), ETH)
    with NadoWebSocketClient(sim.ready["gateway"]) as socket:
        placed = socket.execute(params)
        assert (placed["status"], placed["id"]) == ("success", 77)
        assert placed["signature"] == params.signature
        seen = socket.query(QuerySubaccountOpenOrdersParams(product_id=ETH, sender=subaccount))
        assert [order["digest"] for order in seen["data"]["orders"]] == [placed["data"]["digest"]]


def test_subscriptions_of_the_sdk(sdk: EngineClient, sim: SimProcess) -> None:
    subaccount = sim.account["subaccount"]
    with NadoSubscriptionClient(sim.ready["gateway"]) as socket:
        assert socket.authenticate(_authentication(sim)) == {"result": None, "id": 1}
        private = [
            OrderUpdateStream(subaccount=subaccount),
            FillStream(subaccount=subaccount),
            PositionChangeStream(subaccount=subaccount),
        ]
        assert socket.subscribe_multi(private)["result"] is None
        assert len(socket.list_subscriptions()["result"]) == 3
        assert socket.ping(client_time="123")["result"]["client_time"] == "123"
        assert int(socket.time()["result"]["server_time"]) > 10**12

        _, ask = _touch(sdk)
        digest = sdk.place_order(_order(sim, ask + 20 * 10**17, SIZE, OrderType.IOC)).data.digest
        events = _collect(socket, {"order_update", "fill", "position_change"})
        assert {event["id"] for event in events if event["type"] != "position_change"} == {77}
        assert {e["order_digest"] for e in events if e["type"] == "fill"} == {digest}
        assert _answer(socket, socket.unsubscribe_multi(private))["result"] is None

        market = [stream(product_id=ETH) for stream in (BestBidOfferStream, BookDepthStream, TradeStream)]
        assert socket.subscribe_multi(market)["result"] is None
        kinds = {"best_bid_offer", "book_depth", "trade"}
        assert {event["product_id"] for event in _collect(socket, kinds)} == {ETH}
        assert _answer(socket, socket.unsubscribe_multi(market))["result"] is None
    sdk.close_position(subaccount, ETH)


def test_a_book_of_the_sdk_is_the_exchanges_book(sdk: EngineClient, sim: SimProcess) -> None:
    """Snapshot, then every later batch; compared while the market holds its breath."""
    with NadoSubscriptionClient(sim.ready["gateway"]) as socket:
        _answer(socket, socket.subscribe(BookDepthStream(product_id=ETH)))
        first = socket.recv(timeout=DEADLINE_S)
        snapshot = sdk.get_market_liquidity(ETH, 100)
        book = {"bids": dict(snapshot.bids), "asks": dict(snapshot.asks)}
        batches = [first, *(socket.recv(timeout=DEADLINE_S) for _ in range(30))]
        _pause_market(sim, True)
        batches += _rest_of(socket)
        quiet = sdk.get_market_liquidity(ETH, 20)
        _pause_market(sim, False)
    for earlier, later in pairwise(batches):
        assert later["last_max_timestamp"] == earlier["max_timestamp"]
    for batch in batches:
        if int(batch["max_timestamp"]) > int(snapshot.timestamp):
            for side, levels in book.items():
                levels.update(batch[side])
    for side, shown in (("bids", quiet.bids), ("asks", quiet.asks)):
        held = sorted((int(p), int(q)) for p, q in book[side].items() if q != "0")
        best = held[::-1] if side == "bids" else held
        assert best[:20] == [(int(price), int(quantity)) for price, quantity in shown]


def _pause_market(sim: SimProcess, is_paused: bool) -> None:
    reply = requests.post(
        f"{sim.ready['control']}/faults", json={"pause_market": is_paused}, timeout=DEADLINE_S
    )
    assert reply.status_code == 200


def _rest_of(socket: NadoSubscriptionClient) -> list[dict[str, Any]]:
    """Events until none has come for a while."""
    events = []
    while True:
        try:
            events.append(socket.recv(timeout=0.5))
        except TimeoutError:
            return events


def _answer(socket: NadoSubscriptionClient, frame: dict[str, Any]) -> dict[str, Any]:
    """The SDK takes the next frame for the reply, though an event may come first: read on to the reply."""
    while "type" in frame:
        frame = socket.recv(timeout=DEADLINE_S)
    return frame


def _authentication(sim: SimProcess) -> StreamAuthenticationParams:
    expiration_ms = int(time.time() * 1000) + 60_000
    sender = sim.account["subaccount"]
    typed = build_eip712_typed_data(
        NadoTxType.AUTHENTICATE_STREAM,
        {"sender": bytes.fromhex(sender[2:]), "expiration": expiration_ms},
        sim.ready["endpoint_addr"],
        sim.ready["chain_id"],
    )
    signature = sign_eip712_typed_data(typed, Account.from_key(sim.account["private_key"]))
    return StreamAuthenticationParams(sender=sender, expiration=expiration_ms, signature=signature)


def _collect(socket: NadoSubscriptionClient, kinds: set[str]) -> list[dict[str, Any]]:
    """Events until every kind has been seen."""
    events: list[dict[str, Any]] = []
    deadline_s = time.monotonic() + DEADLINE_S
    while not kinds <= {event["type"] for event in events}:
        events.append(socket.recv(timeout=deadline_s - time.monotonic()))
    return events
