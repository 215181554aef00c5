"""Seeded streams as the exchange writes them: the same bytes for every contender.

A stream starts from a snapshot of `levels` a side and never crosses. `changes` levels change per depth
message, near the top (as markets do) or anywhere in the book.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, field
from typing import Any

X18 = 10**18
TICK = X18 // 10
PRODUCT = 4
START_NS = 1_790_000_000_000_000_000
SUBACCOUNT = "0x1a642f0e3c3af545e7acbd38b07251b3990914f164656661756c740000000000"

Level = tuple[int, int]


def compact(message: dict[str, Any]) -> bytes:
    return json.dumps(message, separators=(",", ":")).encode()


@dataclass
class Stream:
    """One product's market; `depth()` and `bbo()` are the next messages of its life."""

    levels: int = 200
    changes: int = 10
    anywhere: bool = False
    seed: int = 1
    product_id: int = PRODUCT
    time_ns: int = START_NS
    bids: dict[int, int] = field(default_factory=dict)
    asks: dict[int, int] = field(default_factory=dict)
    untold: dict[str, dict[int, int]] = field(default_factory=lambda: {"bids": {}, "asks": {}})

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)
        self.middle = 30_000
        for i in range(self.levels):
            self.bids[(self.middle - 1 - i) * TICK] = self._qty()
            self.asks[(self.middle + 1 + i) * TICK] = self._qty()

    def _qty(self) -> int:
        return self.rng.randrange(1, 50_000) * X18 // 1000

    def snapshot(self) -> tuple[list[Level], list[Level], int]:
        return sorted(self.bids.items(), reverse=True), sorted(self.asks.items()), self.time_ns

    def _change(self) -> tuple[str, int, int]:
        """A side, a price on it and its new total; a deleted level comes back when it is hit again."""
        spread = 2 + self.changes / 4
        offset = self.rng.randrange(self.levels) if self.anywhere else int(self.rng.expovariate(1 / spread))
        is_bid = self.rng.random() < 0.5
        levels = self.bids if is_bid else self.asks
        price = (self.middle - 1 - offset if is_bid else self.middle + 1 + offset) * TICK
        qty = 0 if price in levels and len(levels) > 2 and self.rng.random() < 0.3 else self._qty()
        return ("bids" if is_bid else "asks"), price, qty

    def depth(self, time_ns: int | None = None) -> dict[str, Any]:
        """The next batch; its time is `time_ns` or one step after the last one."""
        last = self.time_ns
        self.time_ns = last + 50_000_000 if time_ns is None else time_ns
        sides, self.untold = self.untold, {"bids": {}, "asks": {}}
        while sum(map(len, sides.values())) < self.changes:
            side, price, qty = self._change()
            sides[side][price] = qty
        for side, levels in (("bids", self.bids), ("asks", self.asks)):
            for price, qty in sides[side].items():
                if qty:
                    levels[price] = qty
                else:
                    levels.pop(price, None)
        return {
            "type": "book_depth",
            "last_max_timestamp": str(last),
            "min_timestamp": str(self.time_ns),
            "max_timestamp": str(self.time_ns),
            "product_id": self.product_id,
            "bids": [[str(price), str(qty)] for price, qty in sides["bids"].items()],
            "asks": [[str(price), str(qty)] for price, qty in sides["asks"].items()],
        }

    def touch(self) -> None:
        """The quantity at the touch changes: a BBO shows it at once, the next batch tells it too."""
        if self.rng.random() < 0.5:
            price = max(self.bids)
            self.bids[price] = self.untold["bids"][price] = self._qty()
        else:
            price = min(self.asks)
            self.asks[price] = self.untold["asks"][price] = self._qty()

    def bbo(self, time_ns: int) -> dict[str, Any]:
        bid, ask = max(self.bids.items()), min(self.asks.items())
        return {
            "type": "best_bid_offer",
            "timestamp": str(time_ns),
            "product_id": self.product_id,
            "bid_price": str(bid[0]),
            "bid_qty": str(bid[1]),
            "ask_price": str(ask[0]),
            "ask_qty": str(ask[1]),
        }

    def fill(self, time_ns: int, submission_idx: int) -> dict[str, Any]:
        return {
            "type": "fill",
            "timestamp": str(time_ns),
            "product_id": self.product_id,
            "subaccount": SUBACCOUNT,
            "order_digest": "0x" + self.rng.randbytes(32).hex(),
            "appendix": "1537",
            "filled_qty": "125000000000000000",
            "remaining_qty": "0",
            "original_qty": "125000000000000000",
            "price": str(self.middle * TICK),
            "is_taker": False,
            "is_bid": True,
            "fee": "37771277127712771",
            "submission_idx": str(submission_idx),
        }


def depth_messages(
    count: int, **options: Any
) -> tuple[Stream, list[bytes], tuple[list[Level], list[Level], int]]:
    """The stream (at its end), its messages and the snapshot they start from."""
    stream = Stream(**options)
    snapshot = stream.snapshot()
    return stream, [compact(stream.depth()) for _ in range(count)], snapshot


def bbo_messages(count: int, seed: int = 1) -> list[bytes]:
    stream = Stream(seed=seed, changes=2)
    messages = []
    for _ in range(count):
        stream.depth()
        messages.append(compact(stream.bbo(stream.time_ns)))
    return messages


def mixed_messages(count: int, seed: int = 1) -> list[bytes]:
    """60 % BBO, 35 % depth with 10 changes, 5 % private: what a trading account's socket carries."""
    stream = Stream(seed=seed)
    rng = random.Random(seed)
    messages = []
    now = stream.time_ns
    for index in range(count):
        now += 1_000_000
        draw = rng.random()
        if draw < 0.60:
            messages.append(compact(stream.bbo(now)))
        elif draw < 0.95:
            messages.append(compact(stream.depth(now)))
        else:
            messages.append(compact(stream.fill(now, index)))
    return messages


def live_messages(count: int, stream: Stream, bbo: float = 0.60, private: float = 0.05) -> list[bytes]:
    """The same mix with the digits of a live market: times to the nanosecond, no BBO twice.

    This is what a deflater finds on the wire; repeated values would cost it nothing. bbo, private: shares of
    BBOs and fills, the rest is depth. The stream is left at its end, a batch that tells everything.
    """
    rng = random.Random(stream.seed)
    messages = []
    now = stream.time_ns
    for index in range(count):
        now += rng.randrange(1, 2_000_000)
        draw = rng.random() if index < count - 1 else bbo
        if draw < bbo:
            stream.touch()
            messages.append(compact(stream.bbo(now)))
        elif draw <= 1 - private:
            last = stream.time_ns
            depth = stream.depth(now)
            depth["min_timestamp"] = str(rng.randrange(last + 1, now + 1))
            messages.append(compact(depth))
        else:
            messages.append(compact(stream.fill(now, index)))
    return messages
