"""The subscription endpoint without its sockets: who listens to what, and what they are told.

`StreamHub.on_step` turns one engine step into events; `flush_depth`, called every 50 ms, turns what
changed in the books into one batch per product; `publish_all_bbo`
has a beat of its own. An event is encoded once and the same bytes go to every subscriber.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import orjson

from .depth import DEPTH_INTERVAL_S, DepthBatches
from .errors import ExchangeError
from .exchange import Exchange
from .faults import Faults
from .messages import Malformed, decode
from .steps import Step
from .tape import Tape
from .topics import (
    ALL_BBO,
    OF_ANY_PRODUCT,
    OF_ONE_PRODUCT,
    PRIVATE,
    ControlError,
    Topic,
    describe,
    is_subaccount,
    parse,
    public,
)

__all__ = ["DEPTH_INTERVAL_S", "MAX_AUTHENTICATED", "MAX_STREAMS", "StreamHub", "Subscriber"]

ALL_BBO_INTERVAL_S: Final = 0.3
MAX_STREAMS: Final = 512  # per connection
MAX_AUTHENTICATED: Final = 5  # connections per wallet

Bbo = tuple[int, int, int, int]


class Sink(Protocol):
    """Where one subscriber's messages go. Must not block. kind: event type, or `ack`."""

    def send(self, payload: bytes, kind: str = ..., product_id: int | None = ...) -> None: ...


@dataclass(eq=False, slots=True)
class Subscriber:
    """One subscription socket: its streams in the order they were asked for, and its wallet if known."""

    sink: Sink
    number: int | None = None
    streams: dict[Topic, dict[str, Any]] = field(default_factory=dict)
    wallet: str | None = None


class StreamHub:
    """All subscribers and the market data they share."""

    def __init__(self, exchange: Exchange, faults: Faults) -> None:
        self._exchange = exchange
        self._faults = faults
        self._topics: dict[Topic, dict[Subscriber, None]] = {}
        self._wallets: dict[str, set[Subscriber]] = {}
        self._bbos: dict[int, Bbo] = {}
        self._depth = DepthBatches(exchange)
        self.tape = Tape()
        self.subscribers: set[Subscriber] = set()
        kinds = (*sorted(OF_ONE_PRODUCT), *sorted(OF_ANY_PRODUCT), ALL_BBO, *sorted(PRIVATE))
        self.events: dict[str, int] = dict.fromkeys(kinds, 0)
        self.sent = 0

    # Connections ------------------------------------------------------------------------------

    def connect(self, sink: Sink, number: int | None = None) -> Subscriber:
        """number: of the connection, for faults that name one."""
        subscriber = Subscriber(sink, number)
        self.subscribers.add(subscriber)
        return subscriber

    def disconnect(self, subscriber: Subscriber) -> None:
        self.subscribers.discard(subscriber)
        for topic in subscriber.streams:
            self._drop_topic(topic, subscriber)
        subscriber.streams.clear()
        if subscriber.wallet is not None:
            peers = self._wallets[subscriber.wallet]
            peers.discard(subscriber)
            if not peers:
                del self._wallets[subscriber.wallet]

    def restart(self) -> None:
        """The engine starts anew: the depth chain begins again."""
        self._depth.restart()
        self._bbos.clear()

    def handle(self, subscriber: Subscriber, text: str | bytes) -> bool:
        """Answer one control message. False: the connection is one too many and has to go."""
        request_id, method = None, None
        try:
            message = _decode(text)
            request_id, method = _scalar(message.get("id")), message.get("method")
            result = self._dispatch(subscriber, message)
        except (ControlError, ExchangeError) as error:
            self._refuse(subscriber, error, request_id)
            return not (isinstance(error, ControlError) and error.code == 1000)
        if not self._faults.take("lose_ack", kind=str(method), connection=subscriber.number):
            subscriber.sink.send(orjson.dumps({"result": result, "id": request_id}), "ack")
        return True

    def _refuse(self, subscriber: Subscriber, error: ControlError | ExchangeError, request_id: Any) -> None:
        shape = self._exchange.config.control_error
        if shape != "silent":
            status = {"status": "failure"} if shape == "failure" else {}
            subscriber.sink.send(orjson.dumps({**status, **_refusal(error, request_id)}), "ack")

    def _dispatch(self, subscriber: Subscriber, message: Mapping[str, Any]) -> Any:
        match message.get("method"):
            case "subscribe":
                return self._subscribe(subscriber, [message.get("stream")])
            case "subscribe_multi":
                return self._subscribe(subscriber, _stream_list(message))
            case "unsubscribe":
                return self._unsubscribe(subscriber, [message.get("stream")])
            case "unsubscribe_multi":
                return self._unsubscribe(subscriber, _stream_list(message))
            case "list":
                return list(subscriber.streams.values())
            case "authenticate":
                return self._admit(subscriber, message)
            case "ping":
                pong = {"method": "pong", "server_time": str(self._exchange.clock.now_ms())}
                if (client_time := _scalar(message.get("client_time"))) is not None:
                    pong["client_time"] = client_time
                return pong
            case "time":
                return {"method": "time", "server_time": str(self._exchange.clock.now_ms())}
            case method:
                raise ControlError(f"Unknown method {method!r}.", 2038)

    def _subscribe(self, subscriber: Subscriber, streams: list[Any]) -> None:
        wanted = [self._topic(stream) for stream in streams]
        for topic in wanted:
            if self._needs_owner(topic[0]) and subscriber.wallet != topic[1][:42]:
                raise ControlError(f"Authentication required for stream {topic[0]}.")
        if len(subscriber.streams.keys() | wanted) > MAX_STREAMS:
            raise ControlError(f"More than {MAX_STREAMS} streams on one connection.", 1000)
        for topic in wanted:
            subscriber.streams[topic] = describe(topic)
            self._topics.setdefault(topic, {})[subscriber] = None

    def _needs_owner(self, kind: str) -> bool:
        return kind == "order_update" or (kind in PRIVATE and self._exchange.config.fills_need_auth)

    def _unsubscribe(self, subscriber: Subscriber, streams: list[Any]) -> None:
        for topic in [self._topic(stream) for stream in streams]:
            if subscriber.streams.pop(topic, None) is not None:
                self._drop_topic(topic, subscriber)

    def _drop_topic(self, topic: Topic, subscriber: Subscriber) -> None:
        listeners = self._topics.get(topic)
        if listeners is not None:
            listeners.pop(subscriber, None)
            if not listeners:
                del self._topics[topic]

    def _topic(self, stream: Any) -> Topic:
        return parse(stream, self._exchange.products, self._exchange.books)

    def _admit(self, subscriber: Subscriber, message: Mapping[str, Any]) -> None:
        """Check a StreamAuthentication. It covers every subaccount of the wallet and cannot change."""
        tx, signature = message.get("tx"), message.get("signature")
        if not isinstance(tx, dict) or not is_subaccount(tx.get("sender")) or not isinstance(signature, str):
            raise ControlError("authenticate needs tx{sender, expiration} and signature.", 2038)
        try:
            expiration_ms = int(tx["expiration"])
        except (KeyError, TypeError, ValueError, OverflowError):
            raise ControlError("authenticate needs an expiration in milliseconds.", 2038) from None
        if rule := self._faults.take("auth_refused", connection=subscriber.number):
            raise ExchangeError(rule.value["code"])
        self._exchange.authenticate(tx["sender"], expiration_ms, signature)
        wallet = tx["sender"][:42].lower()
        if subscriber.wallet not in (None, wallet):
            raise ControlError("The connection is authenticated for another wallet.", 2050)
        peers = self._wallets.setdefault(wallet, set())
        if subscriber not in peers and len(peers) >= MAX_AUTHENTICATED:
            raise ControlError(
                f"More than {MAX_AUTHENTICATED} authenticated connections of one wallet.", 1000
            )
        peers.add(subscriber)
        subscriber.wallet = wallet

    # Events -----------------------------------------------------------------------------------

    def on_step(self, step: Step) -> None:
        """Tell subscribers what one engine step did; remember changed levels for the next batch."""
        for subaccount, event in step.private:
            self._publish_private(subaccount, event)
        for trade in step.trades:
            self._publish(trade)
            self.tape.add(trade)
        for event in step.public:
            # Nine granularities a trade: those nobody follows are not worth a look.
            if event["type"] != "latest_candlestick" or self._follows_candle(event):
                self._publish(event)
        for product_id, levels in step.touched.items():
            self._depth.collect(product_id, levels, step.timestamp_ns)
            self._publish_bbo(product_id, step.timestamp_ns)

    def flush_depth(self) -> None:
        """Send one depth batch for each product whose book changed since the last call."""
        for event in self._depth.flush():
            if not self._faults.take("drop_depth", product_id=event["product_id"]):
                self._publish(event)

    def publish_all_bbo(self) -> None:
        """The best prices of all products in one event, without quantities; about every 300 ms."""
        if public(ALL_BBO, None) not in self._topics:
            return
        bbos = {}
        for product_id in self._exchange.books:
            bid, _, ask, _ = self._exchange.bbo(product_id)
            bbos[str(product_id)] = {"bid": str(bid), "ask": str(ask)}
        self._publish({"type": ALL_BBO, "time": str(self._exchange.clock.now_ms()), "bbos": bbos})

    def _follows_candle(self, event: Mapping[str, Any]) -> bool:
        return public("latest_candlestick", event["product_id"], event["granularity"]) in self._topics

    def _publish_bbo(self, product_id: int, timestamp_ns: int) -> None:
        bbo = self._exchange.bbo(product_id)
        if bbo == self._bbos.get(product_id):
            return
        self._bbos[product_id] = bbo
        bid_price, bid_qty, ask_price, ask_qty = bbo
        event = {
            "type": "best_bid_offer",
            "timestamp": str(timestamp_ns),
            "product_id": product_id,
            "bid_price": str(bid_price),
            "bid_qty": str(bid_qty),
            "ask_price": str(ask_price),
            "ask_qty": str(ask_qty),
        }
        self._publish(event)

    def _publish(self, event: dict[str, Any]) -> None:
        """To those who follow the event's product, one of its products (a spread), or all; once to each."""
        kind: str = event["type"]
        granularity = event.get("granularity", 0)
        self.events[kind] += 1
        product_ids: Iterable[int | None] = event.get("product_ids") or (event.get("product_id"),)
        listeners: dict[Subscriber, None] | None = None
        for product_id in product_ids:
            listeners = _joined(listeners, self._topics.get(public(kind, product_id, granularity)))
        if kind in OF_ANY_PRODUCT:
            listeners = _joined(listeners, self._topics.get(public(kind, None)))
        if listeners:
            self._deliver(listeners, event)

    def _publish_private(self, subaccount: str, event: dict[str, Any]) -> None:
        """To those who follow this product of the subaccount or all its products; once to each."""
        kind: str = event["type"]
        one = self._topics.get((kind, subaccount, event["product_id"], 0))
        every = self._topics.get((kind, subaccount, None, 0))
        listeners = _joined(one, every)
        if not listeners:
            return
        self.events[kind] += 1
        self._deliver(listeners, event)

    def _deliver(self, listeners: dict[Subscriber, None], event: dict[str, Any]) -> None:
        payload, kind, product_id = orjson.dumps(event), event["type"], event.get("product_id")
        for subscriber in listeners:
            subscriber.sink.send(payload, kind, product_id)
        self.sent += len(listeners)


def _joined(
    one: dict[Subscriber, None] | None, other: dict[Subscriber, None] | None
) -> dict[Subscriber, None] | None:
    return {**one, **other} if one and other else one or other


def _decode(text: str | bytes) -> dict[str, Any]:
    try:
        return decode(text)
    except Malformed as error:
        raise ControlError(str(error), 2038) from None


def _scalar(value: Any) -> Any:
    """What may be repeated to its sender: an id or a time, no more than one."""
    return value if isinstance(value, int | float | str) else None


def _stream_list(message: Mapping[str, Any]) -> list[Any]:
    streams = message.get("streams")
    if not isinstance(streams, list) or not streams:
        raise ControlError("streams is a list of at least one stream.", 2038)
    return streams


def _refusal(error: ControlError | ExchangeError, request_id: Any) -> dict[str, Any]:
    reply: dict[str, Any] = {"error": error.text if isinstance(error, ExchangeError) else str(error)}
    if error.code is not None:
        reply["error_code"] = error.code
    reply["id"] = request_id
    return reply
