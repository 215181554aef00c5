"""A toy exchange that knows the truth: every state of one product's book, and messages that lead there.

It plays the sequencer (steps with increasing engine time), the batching of depth messages (per link) and
the network in between (loss, duplicates, reordering), all from one seed.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from oracles.book import Depth, Level

TICK = 10**17


@dataclass
class Link:
    """One connection's batching: changes since its last batch."""

    last_max: int
    bids: dict[int, int] = field(default_factory=dict)
    asks: dict[int, int] = field(default_factory=dict)
    dirty: bool = False


class ToyExchange:
    def __init__(self, rng: random.Random, product_id: int = 4, links: int = 1) -> None:
        self.rng = rng
        self.product_id = product_id
        self.time = 1_790_000_000_000_000_000
        self.touch = 30_000
        self.bids: dict[int, int] = {}
        self.asks: dict[int, int] = {}
        self.truth: dict[int, tuple[dict[int, int], dict[int, int]]] = {}
        self.links = [Link(self.time) for _ in range(links)]
        for _ in range(40):
            self.step()
        for link in self.links:
            link.bids.clear()
            link.asks.clear()
            link.last_max = self.time

    def step(self) -> None:
        """One engine step: a few levels change, the book never crosses."""
        self.time += self.rng.randrange(1, 20_000_000)
        self.touch += self.rng.choice([-1, 0, 0, 1])
        for _ in range(self.rng.randrange(1, 4)):
            offset = min(int(self.rng.expovariate(0.3)), 60)
            qty = self.rng.choice([0, 1, 2, 3]) * 10**18
            if self.rng.random() < 0.5:
                self._set(self.bids, (self.touch - 1 - offset) * TICK, qty, "bids")
            else:
                self._set(self.asks, (self.touch + 1 + offset) * TICK + self.rng.choice([0, 7]), qty, "asks")
        for price in [price for price in self.bids if price >= self.touch * TICK]:
            self._set(self.bids, price, 0, "bids")
        for price in [price for price in self.asks if price <= self.touch * TICK]:
            self._set(self.asks, price, 0, "asks")
        self.truth[self.time] = (dict(self.bids), dict(self.asks))

    def _set(self, levels: dict[int, int], price: int, qty: int, side: str) -> None:
        if qty:
            levels[price] = qty
        else:
            levels.pop(price, None)
        for link in self.links:
            getattr(link, side)[price] = qty
            link.dirty = True

    def batch(self, index: int = 0) -> Depth | None:
        """The depth message of one link, None if nothing happened since its last one."""
        link = self.links[index]
        if not link.dirty:
            return None
        depth = Depth(
            self.product_id, link.last_max, self.time, tuple(link.bids.items()), tuple(link.asks.items())
        )
        link.last_max, link.dirty = self.time, False
        link.bids.clear()
        link.asks.clear()
        return depth

    def snapshot(self, depth: int = 100) -> tuple[list[Level], list[Level], int]:
        bids = sorted(self.bids.items(), reverse=True)[:depth]
        return bids, sorted(self.asks.items())[:depth], self.time

    def bbo(self) -> dict[str, object]:
        bid = max(self.bids.items(), default=(0, 0))
        ask = min(self.asks.items(), default=((1 << 127) - 1, 0))
        return {
            "type": "best_bid_offer",
            "timestamp": str(self.time),
            "product_id": self.product_id,
            "bid_price": str(bid[0]),
            "bid_qty": str(bid[1]),
            "ask_price": str(ask[0]),
            "ask_qty": str(ask[1]),
        }
