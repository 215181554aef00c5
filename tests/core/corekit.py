"""A compiled core with everything it reports, and the messages it is fed."""

from __future__ import annotations

from typing import Any

from oracles.book import Depth, Level
from samples import compact, stream_events

from nadofast._feed import FeedCore
from nadofast.errors import ParseError
from nadofast.events import ControlReply

PRODUCT = 4


class Recorder:
    """A core and everything it reported."""

    def __init__(self, *products: int, **callbacks: Any) -> None:
        self.events: list[Any] = []
        self.replies: list[ControlReply] = []
        self.gaps: list[tuple[int, str]] = []
        self.horizons: list[int] = []
        self.errors: list[Exception] = []
        self.bad: list[ParseError] = []
        defaults: dict[str, Any] = {
            "on_event": self.events.append,
            "on_reply": self.replies.append,
            "on_gap": lambda product_id, reason: self.gaps.append((product_id, reason)),
            "on_horizon": self.horizons.append,
            "on_callback_error": self.errors.append,
            "on_parse_error": self.bad.append,
        }
        self.core = FeedCore(products or (PRODUCT,), **(defaults | callbacks))
        self.now = 1

    def receive(self, message: dict[str, Any] | Depth, link: int = 0) -> int:
        self.now += 1_000_000
        data = compact(message.as_json() if isinstance(message, Depth) else message)
        return self.core.receive(data, self.now, link)


def depth(last: int, newest: int, bids: list[Level] | None = None, asks: list[Level] | None = None) -> Depth:
    return Depth(PRODUCT, last, newest, tuple(bids or []), tuple(asks or []))


def bbo(time: int, bid: int = 100, bid_qty: int = 5, ask: int = 102, ask_qty: int = 5) -> dict[str, Any]:
    numbers = {"bid_price": bid, "bid_qty": bid_qty, "ask_price": ask, "ask_qty": ask_qty}
    head = {"type": "best_bid_offer", "timestamp": str(time), "product_id": PRODUCT}
    return head | {key: str(value) for key, value in numbers.items()}


def samples(kind: str) -> list[dict[str, Any]]:
    return [event for _, event in stream_events() if event["type"] == kind]
