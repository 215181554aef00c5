"""What a careful Python client does per message: orjson, integers, sorted price lists."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable
from typing import Any

import orjson


class ReferenceSide:
    """Sorted prices and a total per price."""

    def __init__(self, levels: list[tuple[int, int]]) -> None:
        self.qty = dict(levels)
        self.prices = sorted(self.qty)

    def put(self, price: int, qty: int) -> None:
        if qty:
            if price not in self.qty:
                insort(self.prices, price)
            self.qty[price] = qty
        elif self.qty.pop(price, None) is not None:
            del self.prices[bisect_left(self.prices, price)]


class ReferenceBook:
    def __init__(self, snapshot: tuple[list[tuple[int, int]], list[tuple[int, int]], int]) -> None:
        bids, asks, self.timestamp_ns = snapshot
        self.bids = ReferenceSide(bids)
        self.asks = ReferenceSide(asks)

    def apply(self, data: bytes) -> tuple[int, int]:
        """One book_depth message; returns the best prices."""
        return self.take(orjson.loads(data))

    def take(self, message: dict[str, Any]) -> tuple[int, int]:
        if int(message["last_max_timestamp"]) != self.timestamp_ns:
            raise ValueError("gap")
        for price, qty in message["bids"]:
            self.bids.put(int(price), int(qty))
        for price, qty in message["asks"]:
            self.asks.put(int(price), int(qty))
        self.timestamp_ns = int(message["max_timestamp"])
        return self.bids.prices[-1], self.asks.prices[0]

    def levels(self) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
        bids = [(price, self.bids.qty[price]) for price in reversed(self.bids.prices)]
        return bids, [(price, self.asks.qty[price]) for price in self.asks.prices]


class ReferenceBbo:
    """Latest best bid and offer."""

    def __init__(self) -> None:
        self.timestamp_ns = 0
        self.values = (0, 0, 0, 0)

    def apply(self, data: bytes) -> None:
        message: dict[str, Any] = orjson.loads(data)
        if message["type"] != "best_bid_offer":
            raise ValueError("kind")
        self.take(message)

    def take(self, message: dict[str, Any]) -> None:
        self.timestamp_ns = int(message["timestamp"])
        self.values = (
            int(message["bid_price"]),
            int(message["bid_qty"]),
            int(message["ask_price"]),
            int(message["ask_qty"]),
        )


class ReferenceFeed:
    """Both of one product, fed by the messages of a socket."""

    def __init__(
        self,
        snapshot: tuple[list[tuple[int, int]], list[tuple[int, int]], int],
        loads: Callable[[str | bytes], dict[str, Any]] = orjson.loads,
    ) -> None:
        self.book = ReferenceBook(snapshot)
        self.bbo = ReferenceBbo()
        self.fills = 0
        self.loads = loads

    def receive(self, data: str | bytes) -> None:
        self.take(self.loads(data))

    def take(self, message: dict[str, Any]) -> None:
        kind = message["type"]
        if kind == "best_bid_offer":
            self.bbo.take(message)
        elif kind == "book_depth":
            self.book.take(message)
        else:
            self.fills += int(message["filled_qty"]) > 0
