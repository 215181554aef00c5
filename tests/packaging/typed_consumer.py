"""A program against the public interface, for mypy alone: never run.

`assert_type` says what a name is for a type checker; a line marked `type: ignore[…]` has to be an error of
that kind, because under --strict an ignore that is not needed is an error itself.
"""

from collections.abc import Callable
from decimal import Decimal
from typing import Any, assert_type

from nadofast import (
    MAINNET,
    Bbo,
    ConnectionMode,
    Feed,
    LinkState,
    NadoConnectionManager,
    NadoError,
    NadoMessageParser,
    NadoMessageQueue,
    Network,
    OrderBook,
    OrderGateway,
    OrderRequest,
    OrderTracker,
    OrderType,
    Outcome,
    OutcomeKind,
    Product,
    Rest,
    Secret,
    SignedOrder,
    Signer,
    TimeSync,
    TrackedOrder,
    from_x18,
    parse,
    parse_private_key,
    resolve,
    to_x18,
)
from nadofast.errors import ExchangeError, InsufficientDepth
from nadofast.events import BBOEvent, BookDepthEvent, FillEvent, OrderUpdateEvent, PositionChangeEvent


def books(book: OrderBook, bbo: Bbo) -> None:
    assert_type(book.best_bid, tuple[int, int] | None)
    assert_type(book.bids(5), list[tuple[int, int]])
    assert_type(book.is_valid, bool)
    assert_type(book.vwap_x18("buy", 10**18), int)
    assert_type(book.slippage_bps("sell", 10**18), float)
    assert_type(bbo.mid_x18, int | None)
    book.vwap_x18("long", 10**18)  # type: ignore[arg-type]
    book.bids(2.5)  # type: ignore[arg-type]
    book.is_valid = True  # type: ignore[misc]
    price, _ = book.best_bid  # type: ignore[misc]
    print(price)


async def data(key: Secret) -> None:
    signer = Signer(key, chain_id=MAINNET.chain_id, endpoint_address=MAINNET.endpoint_address)
    async with Rest("testnet") as rest:
        assert_type(await rest.products([4]), dict[int, Product])
        assert_type(await rest.server_time_ms(), int)
        feed = Feed("testnet", products=[4, 8], signer=signer, rest=rest)
        async with feed as same:
            assert_type(same, Feed)
            await feed.wait_synced(timeout_s=5)
            assert_type(feed.book(4), OrderBook)
            assert_type(feed.bbo(4), Bbo)
            assert_type(feed.mode, ConnectionMode)
            assert_type(feed.last_data_age_ms(), float)
            off = feed.on("fill", print)
            assert_type(off, Callable[[], None])
            queue = feed.events(["fill"])
            assert_type(queue, NadoMessageQueue)
            async for event in queue:
                assert_type(event, Any)
    Feed("testnet", [4, 8])  # type: ignore[call-arg]


async def orders(gateway: OrderGateway, tracker: OrderTracker) -> None:
    request = OrderRequest(4, to_x18("3000"), -to_x18(Decimal("0.1")), OrderType.IOC, client_id=7)
    outcome = await gateway.place(request)
    assert_type(outcome, Outcome)
    assert_type(outcome.kind, OutcomeKind)
    assert_type(await gateway.place_many([request, request]), list[Outcome])
    assert_type(await gateway.settle(outcome.digest, 4), bool)
    assert_type(tracker.get(outcome.digest), TrackedOrder | None)
    OrderRequest(4, 3000.5, 1, OrderType.IOC)  # type: ignore[arg-type]
    to_x18(0.1)  # type: ignore[arg-type]
    request.price_x18 = 1  # type: ignore[misc]


def events(message: bytes) -> None:
    parser = NadoMessageParser()
    assert_type(parser.parse_fill(message), FillEvent)
    assert_type(parser.parse_bbo(message), BBOEvent)
    assert_type(parser.parse_book_depth(message), BookDepthEvent)
    assert_type(parser.parse_order_update(message), OrderUpdateEvent)
    assert_type(parser.parse_position_change(message), PositionChangeEvent)
    assert_type(parser.validate_message(message), bool)
    fill = parser.parse_fill(message)
    assert_type(fill.price_x18, int)
    assert_type(fill.order_digest, str)
    fill.price_x18 = 1  # type: ignore[misc]
    parse(17)  # type: ignore[arg-type]


def rest_of_it(
    product: Product, timesync: TimeSync, order: SignedOrder, manager: NadoConnectionManager
) -> None:
    assert_type(product.round_price(1, "down"), int)
    assert_type(from_x18(1), Decimal)
    assert_type(timesync.is_known, bool)
    assert_type(order.client_id, int | None)
    assert_type(resolve("mainnet"), Network)
    assert_type(parse_private_key("0x"), Secret)
    assert_type(manager.get_connection_state(), LinkState)
    product.round_price(1, "nearest")  # type: ignore[arg-type]
    str_of_secret: bytes = parse_private_key("0x")  # type: ignore[assignment]
    print(str_of_secret)
    try:
        raise InsufficientDepth(4, 10**18, 0)
    except NadoError as error:
        assert_type(error.retryable, bool)
        assert_type(error.terminal, bool)
        if isinstance(error, ExchangeError):
            assert_type(error.error_code, int | None)
