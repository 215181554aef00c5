"""The subscription endpoint without its sockets: who listens to what, and what they are told.

`StreamHub.on_step` turns one engine step into events; `flush_depth`, called every 50 ms, turns what
changed in the books into one batch per product. An event is encoded once and the same bytes go to
every subscriber. Depth batches are chained per product by the engine, not per subscriber: everybody
sees the same chain, and a client that lost a batch can tell.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, TypeGuard

import orjson

from .engine import SideName
from .errors import ExchangeError
from .exchange import Exchange
from .faults import Faults
from .steps import Step

DEPTH_INTERVAL_S: Final = 0.05
MAX_STREAMS: Final = 512  # per connection
MAX_AUTHENTICATED: Final = 5  # connections per wallet
PUBLIC: Final = frozenset({"best_bid_offer", "book_depth", "trade"})
PRIVATE: Final = frozenset({"order_update", "fill", "position_change"})

Bbo = tuple[int, int, int, int]
Topic = tuple[str, str, int | None]  # stream type, subaccount ("" when public), product (None: all)


class Sink(Protocol):
    """Where one subscriber's messages go. Must not block."""

    def send(self, payload: bytes) -> None: ...


class ControlError(Exception):
    """A control request that is refused. code: error code of the API, None if it has none."""

    def __init__(self, text: str, code: int | None = None) -> None:
        self.code = code
        super().__init__(text)


@dataclass(eq=False, slots=True)
class Subscriber:
    """One subscription socket: its streams in the order they were asked for, and its wallet if known."""

    sink: Sink
    streams: dict[Topic, dict[str, Any]] = field(default_factory=dict)
    wallet: str | None = None


@dataclass(slots=True)
class _Batch:
    """Levels of one product that changed since the last depth batch."""

    min_ns: int
    max_ns: int
    levels: set[tuple[SideName, int]]


class StreamHub:
    """All subscribers and the market data they share."""

    def __init__(self, exchange: Exchange, faults: Faults) -> None:
        self._exchange = exchange
        self._faults = faults
        self._topics: dict[Topic, dict[Subscriber, None]] = {}
        self._wallets: dict[str, set[Subscriber]] = {}
        self._bbos: dict[int, Bbo] = {}
        self._batches: dict[int, _Batch] = {}
        self._last_max_ns: dict[int, int] = {}
        self.subscribers: set[Subscriber] = set()
        self.events: dict[str, int] = dict.fromkeys((*sorted(PUBLIC), *sorted(PRIVATE)), 0)
        self.sent = 0

    # Connections ------------------------------------------------------------------------------

    def connect(self, sink: Sink) -> Subscriber:
        subscriber = Subscriber(sink)
        self.subscribers.add(subscriber)
        return subscriber

    def disconnect(self, subscriber: Subscriber) -> None:
        self.subscribers.discard(subscriber)
        for topic in subscriber.streams:
            self._drop_topic(topic, subscriber)
        subscriber.streams.clear()
        if subscriber.wallet is not None:
            self._wallets[subscriber.wallet].discard(subscriber)

    def handle(self, subscriber: Subscriber, text: str | bytes) -> bool:
        """Answer one control message. False: the connection is one too many and has to go."""
        request_id: Any = None
        try:
            message = _decode(text)
            request_id = message.get("id")
            result = self._dispatch(subscriber, message)
        except (ControlError, ExchangeError) as error:
            self._reply(subscriber, _refusal(error, request_id))
            return not (isinstance(error, ControlError) and error.code == 1000)
        self._reply(subscriber, {"result": result, "id": request_id})
        return True

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
                if message.get("client_time") is not None:
                    pong["client_time"] = message["client_time"]
                return pong
            case "time":
                return {"method": "time", "server_time": str(self._exchange.clock.now_ms())}
            case method:
                raise ControlError(f"Unknown method {method!r}.", 2038)

    def _subscribe(self, subscriber: Subscriber, streams: list[Any]) -> None:
        wanted = [self._topic(stream) for stream in streams]
        for topic in wanted:
            if topic[0] == "order_update" and subscriber.wallet != topic[1][:42]:
                raise ControlError("Authentication required for stream order_update.")
        if len(subscriber.streams) + len(wanted) > MAX_STREAMS:
            raise ControlError(f"More than {MAX_STREAMS} streams on one connection.", 1000)
        for topic in wanted:
            subscriber.streams[topic] = _describe(topic)
            self._topics.setdefault(topic, {})[subscriber] = None

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
        """The stream a request names, checked. Raises ControlError."""
        if not isinstance(stream, dict) or not isinstance(stream.get("type"), str):
            raise ControlError("A stream is an object with a type.", 2038)
        kind = stream["type"]
        product_id = stream.get("product_id")
        if kind in PRIVATE:
            subaccount = stream.get("subaccount")
            if not _is_subaccount(subaccount):
                raise ControlError(f"Stream {kind} needs a subaccount of 32 bytes.", 2038)
            wanted = None if product_id is None else self._known(product_id, self._exchange.products)
            return (kind, subaccount.lower(), wanted)
        if kind in PUBLIC:
            return (kind, "", self._known(product_id, self._exchange.books))
        raise ControlError(f"Stream {kind!r} is not available.", 4001)

    def _known(self, product_id: Any, products: Mapping[int, Any]) -> int:
        if isinstance(product_id, str) and product_id.isdecimal() and len(product_id) <= 10:
            product_id = int(product_id)
        if not isinstance(product_id, int) or isinstance(product_id, bool) or product_id not in products:
            raise ControlError(f"Invalid product id {product_id!r}.", 2016)
        return product_id

    def _admit(self, subscriber: Subscriber, message: Mapping[str, Any]) -> None:
        """Check a StreamAuthentication. It covers every subaccount of the wallet and cannot change."""
        tx, signature = message.get("tx"), message.get("signature")
        if not isinstance(tx, dict) or not _is_subaccount(tx.get("sender")) or not isinstance(signature, str):
            raise ControlError("authenticate needs tx{sender, expiration} and signature.", 2038)
        try:
            expiration_ms = int(tx["expiration"])
        except (KeyError, TypeError, ValueError, OverflowError):
            raise ControlError("authenticate needs an expiration in milliseconds.", 2038) from None
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
            self._publish(("trade", "", trade["product_id"]), trade)
        for product_id, levels in step.touched.items():
            self._collect(product_id, levels, step.timestamp_ns)
            self._publish_bbo(product_id, step.timestamp_ns)

    def flush_depth(self) -> None:
        """Send one depth batch for each product whose book changed since the last call."""
        batches, self._batches = self._batches, {}
        for product_id, batch in batches.items():
            last_max_ns = self._last_max_ns.get(product_id, 0)
            self._last_max_ns[product_id] = batch.max_ns
            topic: Topic = ("book_depth", "", product_id)
            if self._faults.take_dropped_depth(product_id):
                continue
            self.events["book_depth"] += 1
            if topic in self._topics:
                self._deliver(self._topics[topic], self._depth_event(product_id, batch, last_max_ns))

    def _depth_event(self, product_id: int, batch: _Batch, last_max_ns: int) -> dict[str, Any]:
        return {
            "type": "book_depth",
            "last_max_timestamp": str(last_max_ns),
            "min_timestamp": str(batch.min_ns),
            "max_timestamp": str(batch.max_ns),
            "product_id": product_id,
            "bids": self._totals(product_id, batch, "bids"),
            "asks": self._totals(product_id, batch, "asks"),
        }

    def _totals(self, product_id: int, batch: _Batch, side: SideName) -> list[tuple[str, str]]:
        """[price, new total] of one side's changed levels, best first; total 0 removes the level."""
        prices = sorted((price for at, price in batch.levels if at == side), reverse=side == "bids")
        return [(str(price), str(self._exchange.level(product_id, side, price))) for price in prices]

    def _collect(self, product_id: int, levels: set[tuple[SideName, int]], timestamp_ns: int) -> None:
        batch = self._batches.get(product_id)
        if batch is None:
            self._batches[product_id] = _Batch(timestamp_ns, timestamp_ns, set(levels))
        else:
            batch.max_ns = timestamp_ns
            batch.levels |= levels

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
        self._publish(("best_bid_offer", "", product_id), event)

    def _publish(self, topic: Topic, event: dict[str, Any]) -> None:
        self.events[topic[0]] += 1
        listeners = self._topics.get(topic)
        if listeners:
            self._deliver(listeners, event)

    def _publish_private(self, subaccount: str, event: dict[str, Any]) -> None:
        """To those who follow this product of the subaccount or all its products; once to each."""
        kind: str = event["type"]
        one = self._topics.get((kind, subaccount, event["product_id"]))
        every = self._topics.get((kind, subaccount, None))
        if one or every:
            self.events[kind] += 1
            self._deliver({**(one or {}), **(every or {})}, event)

    def _deliver(self, listeners: dict[Subscriber, None], event: dict[str, Any]) -> None:
        if self._faults.is_muted:
            return
        payload = orjson.dumps(event)
        for subscriber in listeners:
            subscriber.sink.send(payload)
        self.sent += len(listeners)

    def _reply(self, subscriber: Subscriber, reply: dict[str, Any]) -> None:
        if not self._faults.is_muted:
            subscriber.sink.send(orjson.dumps(reply))


def _decode(text: str | bytes) -> dict[str, Any]:
    try:
        message = orjson.loads(text)
    except orjson.JSONDecodeError:
        raise ControlError("Not a JSON message.", 2038) from None
    if not isinstance(message, dict):
        raise ControlError("A message is a JSON object.", 2038)
    return message


def _stream_list(message: Mapping[str, Any]) -> list[Any]:
    streams = message.get("streams")
    if not isinstance(streams, list) or not streams:
        raise ControlError("streams is a list of at least one stream.", 2038)
    return streams


def _is_subaccount(value: Any) -> TypeGuard[str]:
    if not isinstance(value, str) or len(value) != 66 or value[:2].lower() != "0x":
        return False
    try:
        bytes.fromhex(value[2:])
    except ValueError:
        return False
    return True


def _describe(topic: Topic) -> dict[str, Any]:
    kind, subaccount, product_id = topic
    if kind in PRIVATE:
        return {"type": kind, "subaccount": subaccount, "product_id": product_id}
    return {"type": kind, "product_id": product_id}


def _refusal(error: ControlError | ExchangeError, request_id: Any) -> dict[str, Any]:
    reply: dict[str, Any] = {"error": error.text if isinstance(error, ExchangeError) else str(error)}
    if error.code is not None:
        reply["error_code"] = error.code
    reply["id"] = request_id
    return reply
