"""Subscriptions and events without sockets: control replies, routing, BBO, and the depth chain."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simcore import ETH, HOUSE, IOC, LIMIT, OTHER_HOUSE, POST_ONLY, SOL, Sim, Trader, sample, x18

from nadosim.faults import Faults, Rule
from nadosim.streams import MAX_STREAMS, StreamHub, Subscriber

NO_ASK = str((1 << 127) - 1)


class Listener:
    """A subscriber that keeps what it is sent."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.payloads: list[bytes] = []
        self.subscriber: Subscriber = world.hub.connect(self)
        self._last_id = 0

    def send(self, payload: bytes, kind: str = "", product_id: int | None = None) -> None:
        self.payloads.append(payload)

    @property
    def messages(self) -> list[dict[str, Any]]:
        return [json.loads(payload) for payload in self.payloads]

    def events(self, kind: str) -> list[dict[str, Any]]:
        return [message for message in self.messages if message.get("type") == kind]

    def ask(self, method: str, **fields: Any) -> dict[str, Any]:
        self._last_id += 1
        self._world.hub.handle(self.subscriber, json.dumps({"method": method, "id": self._last_id, **fields}))
        reply: dict[str, Any] = self.messages[-1]
        assert reply["id"] == self._last_id
        return reply

    def follow(self, *streams: dict[str, Any]) -> Listener:
        assert self.ask("subscribe_multi", streams=list(streams))["result"] is None
        return self


class World(Sim):
    """The core with a hub behind it."""

    def __init__(self, **config: Any) -> None:
        super().__init__(**config)
        self.faults = Faults()
        self.hub = StreamHub(self.exchange, self.faults)
        self.exchange._on_step = self.hub.on_step

    def tick(self) -> None:
        """50 ms later, the depth batches."""
        self.clock.advance_ns(50_000_000)
        self.hub.flush_depth()


@pytest.fixture
def world() -> World:
    return World()


def public(kind: str, product_id: int = ETH) -> dict[str, Any]:
    return {"type": kind, "product_id": product_id}


def private(kind: str, trader: Trader, product_id: int | None = None) -> dict[str, Any]:
    return {"type": kind, "subaccount": trader.sender, "product_id": product_id}


def take(world: World, price: str, size: str) -> None:
    """An immediate order of another participant."""
    world.exchange.house_place(OTHER_HOUSE, ETH, x18(price), x18(size), 1)


def authenticate(listener: Listener, trader: Trader, world: World, ahead_ms: int = 90_000) -> dict[str, Any]:
    expiration_ms = world.clock.now_ms() + ahead_ms
    return listener.ask(
        "authenticate",
        tx={"sender": trader.sender, "expiration": str(expiration_ms)},
        signature=trader.stream_auth(expiration_ms),
    )


# Control --------------------------------------------------------------------------------------------


def test_control_replies_have_the_published_shape(world: World) -> None:
    control = sample("stream_control")
    listener = Listener(world)
    for step in ("subscribe", "list", "ping", "time", "unsubscribe"):
        world.hub.handle(listener.subscriber, json.dumps(control[step]["request"]))
        reply, published = listener.messages[-1], control[step]["response"]
        assert list(reply) == list(published)
        assert reply["id"] == published["id"]
        if step in ("ping", "time"):
            assert list(reply["result"]) == list(published["result"])
            assert reply["result"]["server_time"] == str(world.clock.now_ms())
        elif step == "list":
            assert reply["result"] == published["result"][:1]
        else:
            assert reply["result"] is None


def test_list_shows_what_is_followed_in_order(world: World) -> None:
    trader = Trader(world)
    listener = Listener(world).follow(
        private("fill", trader, SOL), public("trade"), public("book_depth", SOL)
    )
    assert listener.ask("unsubscribe", stream=public("trade"))["result"] is None
    assert listener.ask("list")["result"] == [private("fill", trader, SOL), public("book_depth", SOL)]


def test_order_updates_need_the_owner(world: World) -> None:
    owner, other = Trader(world), Trader(world, 2)
    listener = Listener(world)
    stream = private("order_update", owner)
    refused = listener.ask("subscribe", stream=stream)
    assert refused["error"] == "Authentication required for stream order_update."
    assert authenticate(listener, other, world)["result"] is None
    assert "error" in listener.ask("subscribe", stream=stream)
    assert authenticate(listener, owner, world)["error_code"] == 2050

    own = Listener(world)
    assert authenticate(own, owner, world)["result"] is None
    other_subaccount = owner.address + b"second".ljust(12, b"\0").hex()
    for subaccount in (owner.sender, other_subaccount, owner.sender.upper().replace("0X", "0x")):
        assert own.ask("subscribe", stream={**stream, "subaccount": subaccount})["result"] is None


def test_authentication_is_checked(world: World) -> None:
    owner, other = Trader(world), Trader(world, 2)
    listener = Listener(world)
    expiration_ms = world.clock.now_ms() + 1_000
    tx = {"sender": owner.sender, "expiration": str(expiration_ms)}
    assert (
        listener.ask("authenticate", tx=tx, signature=other.stream_auth(expiration_ms))["error_code"] == 2028
    )
    assert listener.ask("authenticate", tx=tx, signature="0x00")["error_code"] == 2027
    assert listener.ask("authenticate", tx=tx)["error_code"] == 2038
    assert authenticate(listener, owner, world, ahead_ms=-1)["error_code"] == 2011
    assert authenticate(listener, owner, world, ahead_ms=101_000)["error_code"] == 2012
    assert listener.subscriber.wallet is None


@pytest.mark.parametrize(
    ("stream", "code"),
    [
        (None, 2038),
        ("trade", 2038),
        ({"type": 4}, 2038),
        ({"type": "trade"}, 2016),
        ({"type": "trade", "product_id": 999}, 2016),
        ({"type": "trade", "product_id": 0}, 2016),
        ({"type": "book_depth", "product_id": None}, 2016),
        ({"type": "position_change", "subaccount": "0x" + "0" * 64, "product_id": 999}, 2016),
        ({"type": "fill"}, 2038),
        ({"type": "fill", "subaccount": "0x12"}, 2038),
        ({"type": "weather", "product_id": 4}, 4001),
    ],
)
def test_streams_that_do_not_exist_are_refused(world: World, stream: Any, code: int) -> None:
    assert Listener(world).ask("subscribe", stream=stream)["error_code"] == code


def test_of_several_streams_all_or_none_are_followed(world: World) -> None:
    listener = Listener(world)
    assert "error" in listener.ask("subscribe_multi", streams=[public("trade"), public("trade", 999)])
    assert listener.ask("list")["result"] == []


def test_streams_per_connection_are_limited(world: World) -> None:
    listener = Listener(world)
    subaccounts = [f"0x{number:064x}" for number in range(MAX_STREAMS + 1)]
    streams = [{"type": "fill", "subaccount": subaccount} for subaccount in subaccounts]
    assert listener.ask("subscribe_multi", streams=streams)["error_code"] == 1000
    assert listener.ask("subscribe_multi", streams=streams[1:])["result"] is None


FUZZED = World()
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
_METHODS = st.sampled_from(
    [
        "subscribe",
        "subscribe_multi",
        "unsubscribe",
        "unsubscribe_multi",
        "authenticate",
        "list",
        "ping",
        "time",
    ]
)


@settings(max_examples=200, deadline=None)
@given(
    message=_JSON
    | st.fixed_dictionaries({"method": _METHODS}, optional={"stream": _JSON, "streams": _JSON, "tx": _JSON})
)
def test_any_message_gets_exactly_one_reply(message: Any) -> None:
    listener = Listener(FUZZED)
    FUZZED.hub.handle(listener.subscriber, json.dumps(message))
    (reply,) = listener.messages
    assert ("result" in reply) != ("error" in reply)


def test_a_stream_that_is_followed_already_takes_no_more_room(world: World) -> None:
    streams = [
        {"type": "fill", "subaccount": f"0x{number:064x}", "product_id": None}
        for number in range(MAX_STREAMS)
    ]
    listener = Listener(world).follow(*streams)
    assert listener.ask("subscribe", stream=streams[7])["result"] is None
    assert listener.ask("subscribe_multi", streams=streams[3:9])["result"] is None
    assert listener.ask("subscribe", stream=public("trade"))["error_code"] == 1000


@pytest.mark.parametrize("message", ['{"method":"ping","client_time":%s}', '{"method":"list","id":%s}'])
def test_what_is_nested_is_not_repeated(world: World, message: str) -> None:
    """And deeper than JSON can be written, though it can be read, it is no message."""
    listener = Listener(world)
    for depth in (1, 400):
        world.hub.handle(listener.subscriber, message % ("[" * depth + "]" * depth))
    plain, deep = listener.messages
    assert plain["id"] is None
    assert "client_time" not in str(plain["result"])
    assert deep["error_code"] == 2038


# Market data ----------------------------------------------------------------------------------------


def test_bbo_is_sent_when_it_changes_and_only_then(world: World) -> None:
    listener = Listener(world).follow(public("best_bid_offer"))
    world.house("buy", "2999.9", "2")
    world.house("buy", "2999.8", "2")
    world.house("sell", "3000.1", "3")
    world.house("buy", "2999.9", "1")
    take(world, "2999.9", "-3")
    shown = [
        (event["bid_price"], event["bid_qty"], event["ask_price"], event["ask_qty"])
        for event in listener.events("best_bid_offer")
    ]
    bid, lower, ask = str(x18("2999.9")), str(x18("2999.8")), str(x18("3000.1"))
    two, three = str(x18(2)), str(x18(3))
    assert shown == [
        (bid, two, NO_ASK, "0"),
        (bid, two, ask, three),
        (bid, three, ask, three),
        (lower, two, ask, three),
    ]
    assert list(listener.events("best_bid_offer")[0]) == list(sample("stream_best_bid_offer")["events"][0])


def test_an_emptied_book_shows_both_sentinels(world: World) -> None:
    listener = Listener(world).follow(public("best_bid_offer"))
    digest = world.house("buy", "2999.9", "2")
    world.exchange.house_cancel(HOUSE, ETH, digest)
    event = listener.events("best_bid_offer")[-1]
    assert (event["bid_price"], event["bid_qty"]) == ("0", "0")
    assert (event["ask_price"], event["ask_qty"]) == (NO_ASK, "0")


def test_trades_of_one_sweep_share_a_timestamp(world: World) -> None:
    listener = Listener(world).follow(public("trade"))
    world.house("sell", "3000.1", "1")
    world.house("sell", "3000.2", "1")
    take(world, "3000.2", "2")
    first, second = listener.events("trade")
    assert list(first) == list(sample("stream_trade")["events"][0])
    assert first["timestamp"] == second["timestamp"]
    assert (first["price"], second["price"]) == (str(x18("3000.1")), str(x18("3000.2")))
    assert first["is_taker_buyer"] is True


def test_depth_batches_are_chained_totals(world: World) -> None:
    listener = Listener(world).follow(public("book_depth"))
    world.house("buy", "2999.9", "2")
    world.clock.advance_ns(1_000)
    world.house("buy", "2999.8", "1")
    world.house("sell", "3000.1", "1")
    world.tick()
    world.tick()  # nothing changed: nothing sent
    world.house("buy", "2999.9", "0.5")
    take(world, "2999.9", "-2.5")
    world.tick()
    first, second = listener.events("book_depth")
    assert list(first) == list(sample("stream_book_depth")["events"][0])
    assert first["last_max_timestamp"] == "0"
    assert int(first["min_timestamp"]) < int(first["max_timestamp"])
    assert first["bids"] == [[str(x18("2999.9")), str(x18(2))], [str(x18("2999.8")), str(x18(1))]]
    assert second["last_max_timestamp"] == first["max_timestamp"]
    assert second["bids"] == [[str(x18("2999.9")), "0"]]
    assert second["asks"] == []


def test_the_chain_is_the_same_for_everybody(world: World) -> None:
    early = Listener(world).follow(public("book_depth"))
    world.house("buy", "2999.9", "2")
    world.tick()
    late = Listener(world).follow(public("book_depth"))
    world.house("buy", "2999.8", "2")
    world.tick()
    assert late.payloads[-1] is early.payloads[-1]  # encoded once
    assert (
        late.events("book_depth")[0]["last_max_timestamp"] == early.events("book_depth")[0]["max_timestamp"]
    )


def test_products_do_not_mix(world: World) -> None:
    listener = Listener(world).follow(public("book_depth", SOL), public("best_bid_offer", SOL))
    world.house("buy", "2999.9", "2")
    world.tick()
    assert len(listener.messages) == 1  # the acknowledgement


def test_a_dropped_batch_shows_as_a_gap(world: World) -> None:
    listener = Listener(world).follow(public("book_depth"))
    world.faults.add(Rule("drop_depth", product_id=ETH, count=1))
    for price in ("2999.9", "2999.8", "2999.7"):
        world.house("buy", price, "2")
        world.tick()
    second, third = listener.events("book_depth")
    assert second["last_max_timestamp"] != "0"
    assert third["last_max_timestamp"] == second["max_timestamp"]


def test_after_unsubscribing_or_leaving_nothing_comes(world: World) -> None:
    listener = Listener(world).follow(public("best_bid_offer"), public("book_depth"))
    listener.ask("unsubscribe_multi", streams=[public("best_bid_offer"), public("book_depth")])
    gone = Listener(world).follow(public("best_bid_offer"))
    world.hub.disconnect(gone.subscriber)
    count = len(listener.payloads), len(gone.payloads)
    world.house("buy", "2999.9", "2")
    world.tick()
    assert (len(listener.payloads), len(gone.payloads)) == count
    assert world.hub._topics == {}


_ACTIONS = st.lists(
    st.tuples(st.sampled_from(["buy", "sell"]), st.integers(-8, 8), st.integers(1, 4), st.booleans()),
    max_size=40,
)


@settings(max_examples=60, deadline=None)
@given(before=_ACTIONS, during=_ACTIONS, after=_ACTIONS, flush=st.integers(1, 7))
def test_a_client_that_joins_by_the_rules_has_the_exchanges_book(
    before: list[Any], during: list[Any], after: list[Any], flush: int
) -> None:
    """Subscribe, snapshot, join (local-book section of the API): the client's book is the exchange's."""
    world = World()
    _play(world, before, flush)
    listener = Listener(world).follow(public("book_depth"))
    _play(world, during, flush)
    world.clock.advance_ns(1)
    snapshot = world.exchange.query({"type": "market_liquidity", "product_id": ETH, "depth": 100})
    _play(world, after, flush)
    world.tick()

    at_ns = int(snapshot["timestamp"])
    book = {side: {int(p): int(q) for p, q in snapshot[side]} for side in ("bids", "asks")}
    last_ns = None
    for event in listener.events("book_depth"):
        if int(event["max_timestamp"]) <= at_ns:
            continue
        assert (
            int(event["last_max_timestamp"]) == last_ns
            if last_ns
            else int(event["last_max_timestamp"]) <= at_ns
        )
        last_ns = int(event["max_timestamp"])
        for side in ("bids", "asks"):
            for price, quantity in event[side]:
                book[side].pop(int(price), None)
                if int(quantity):
                    book[side][int(price)] = int(quantity)
    bids, asks = world.exchange.depth(ETH, 1000)
    assert book == {"bids": dict(bids), "asks": dict(asks)}


def _play(world: World, actions: list[Any], flush: int) -> None:
    for number, (side, offset, size, is_cancel) in enumerate(actions):
        world.clock.advance_ns(1_000)
        own = list(world.exchange.books[ETH].orders)
        if is_cancel and own:
            world.exchange.house_cancel(HOUSE, ETH, own[offset % len(own)])
        else:
            amount = x18(size) if side == "buy" else -x18(size)
            house = HOUSE if side == "buy" else OTHER_HOUSE
            world.exchange.house_place(house, ETH, x18(3000) + offset * x18("0.1"), amount)
        if number % flush == 0:
            world.hub.flush_depth()


# Account events -------------------------------------------------------------------------------------


def test_private_events_go_to_their_account_and_product_once(world: World) -> None:
    trader, other = Trader(world), Trader(world, 2)
    follower = Listener(world)
    authenticate(follower, trader, world)
    kinds = ("order_update", "fill", "position_change")
    follower.follow(*(private(kind, trader) for kind in kinds), private("fill", trader, ETH))
    elsewhere = Listener(world).follow(private("fill", trader, SOL), private("fill", other))
    world.house("sell", "3000.1", "1")
    digest = world.place(trader.order("buy", "3000.1", "0.5", IOC, client_id=5))["digest"]

    (update,) = follower.events("order_update")
    assert (update["digest"], update["reason"], update["amount"], update["id"]) == (digest, "filled", "0", 5)
    (fill,) = follower.events("fill")
    assert list(fill) == list(sample("stream_fill")["events"][0])
    assert (fill["order_digest"], fill["is_taker"], fill["is_bid"]) == (digest, True, True)
    (change,) = follower.events("position_change")
    assert list(change) == list(sample("stream_position_change")["events"][0])
    assert change["amount"] == str(x18("0.5"))
    assert {e["timestamp"] for e in (update, fill, change)} == {update["timestamp"]}
    assert len(elsewhere.messages) == 1


def test_a_deposit_is_a_position_change_of_product_zero(world: World) -> None:
    trader = Trader(world)
    listener = Listener(world).follow(private("position_change", trader, 0))
    world.exchange.fund(trader.sender, x18(10))
    (change,) = listener.events("position_change")
    assert (change["product_id"], change["reason"]) == (0, "deposit_collateral")


def test_resting_and_cancelled_orders_are_told(world: World) -> None:
    trader = Trader(world)
    listener = Listener(world)
    authenticate(listener, trader, world)
    listener.follow(private("order_update", trader, ETH))
    digest = world.place(trader.order("buy", "2990", "0.1", POST_ONLY))["digest"]
    world.exchange.cancel_orders(trader.cancel(digest))
    world.place(trader.order("buy", "2990", "0.1", LIMIT, expiration_s=world.clock.now_ns() // 10**9 + 5))
    world.clock.advance_s(6)
    world.exchange.expire()
    updates = [(event["reason"], event["amount"]) for event in listener.events("order_update")]
    assert updates == [("placed", str(x18("0.1"))), ("cancelled", "0")] * 2


# Streams of events that come by the clock ------------------------------------------------------------


def test_all_bbo_names_every_product_without_quantities(world: World) -> None:
    listener = Listener(world)
    world.hub.publish_all_bbo()  # nobody listens
    listener.follow({"type": "all_bbo"})
    world.house("buy", "2999.9", "2")
    world.hub.publish_all_bbo()
    (event,) = listener.events("all_bbo")
    published = sample("stream_all_bbo")["events"][0]
    assert list(event) == list(published)
    assert event["time"] == str(world.clock.now_ms())
    assert event["bbos"]["4"] == {"bid": str(x18("2999.9")), "ask": NO_ASK}
    assert listener.ask("list")["result"] == [{"type": "all_bbo"}]


def test_candles_go_to_followers_of_their_granularity(world: World) -> None:
    minute = {"type": "latest_candlestick", "product_id": ETH, "granularity": 60}
    listener = Listener(world).follow(minute)
    hour = Listener(world).follow({**minute, "granularity": 3600})
    world.house("sell", "3000.1", "1")
    take(world, "3000.1", "0.4")
    (event,) = listener.events("latest_candlestick")
    published = sample("stream_latest_candlestick")["events"][0]
    assert {name: type(value) for name, value in event.items()} == {
        name: type(value) for name, value in published.items()
    }
    assert (event["granularity"], event["volume"]) == (60, str(x18("0.4")))
    assert [e["granularity"] for e in hour.events("latest_candlestick")] == [3600]
    assert listener.ask("list")["result"] == [minute]
    for granularity in (None, 61, True, "60"):
        refused = listener.ask("subscribe", stream={**minute, "granularity": granularity})
        assert refused["error_code"] == 3003


@pytest.mark.parametrize("product_id", [ETH, None])
def test_funding_is_told_by_rate_and_by_payment(world: World, product_id: int | None) -> None:
    listener = Listener(world).follow(
        {"type": "funding_rate", "product_id": product_id}, {"type": "funding_payment", "product_id": ETH}
    )
    world.house("buy", "2999.9", "2")
    world.house("sell", "3000.1", "1")
    take(world, "3000.1", "0.4")
    world.clock.advance_s(21)
    world.exchange.run_due()
    rates = listener.events("funding_rate")
    assert len([event for event in rates if event["product_id"] == ETH]) == 1
    assert (len(rates) == 1) is (product_id is not None)
    assert list(rates[0]) == list(sample("stream_funding_rate")["events"][0])
    world.exchange.pay_funding(ETH, x18("0.5"))
    (payment,) = listener.events("funding_payment")
    assert list(payment) == list(sample("stream_funding_payment")["events"][0])
    assert payment["payment_amount"] == str(x18("0.5"))


@pytest.mark.parametrize(("product_id", "count"), [(ETH, 1), (None, 1), (SOL, 0)])
def test_a_liquidation_is_told_once_to_whom_it_concerns(
    world: World, product_id: int | None, count: int
) -> None:
    trader = Trader(world)
    listener = Listener(world).follow({"type": "liquidation", "product_id": product_id})
    world.house("sell", "3000.1", "1")
    world.place(trader.order("buy", "3000.1", "0.5", IOC))
    assert world.exchange.seize(trader.sender) == 1
    events = listener.events("liquidation")
    assert len(events) == count
    for event in events:
        assert list(event) == list(sample("stream_liquidation")["events"][0])


def test_after_a_restart_the_depth_chain_begins_again(world: World) -> None:
    listener = Listener(world).follow(public("book_depth"))
    for price in ("2999.9", "2999.8", "2999.7"):
        world.house("buy", price, "2")
        world.tick()
        if price == "2999.8":
            world.hub.restart()
    chain = [event["last_max_timestamp"] for event in listener.events("book_depth")]
    assert chain[0] == chain[2] == "0" != chain[1]
