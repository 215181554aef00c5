"""A feed core that tells a tap what changes it beside the messages of the streams: snapshots, values of REST,
new beginnings."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from ._core import FeedCore, monotonic_ns
from .tap import Tap

if TYPE_CHECKING:
    from ._book import Number


class TappedCore(FeedCore):
    """`replay_call` on another core takes what this one tells."""

    def __init__(self, tap: Tap, product_ids: Iterable[int], **callbacks: Any) -> None:
        product_ids = list(product_ids)
        super().__init__(product_ids, **callbacks)
        self._tap = tap
        tap.core_call("new", product_ids)

    def begin(self, product_id: int, keep: bool = False) -> None:
        self._tap.core_call("begin", (product_id, keep))
        super().begin(product_id, keep)

    def leave(self, link: int) -> None:
        self._tap.core_call("leave", (link,))
        super().leave(link)

    def load_snapshot(
        self,
        product_id: int,
        bids: Iterable[tuple[Number, Number]],
        asks: Iterable[tuple[Number, Number]],
        timestamp_ns: int,
        depth: int = 100,
    ) -> bool:
        sides = [[(str(price), str(qty)) for price, qty in side] for side in (bids, asks)]
        self._tap.core_call("load_snapshot", (product_id, *sides, timestamp_ns, depth))
        return super().load_snapshot(product_id, sides[0], sides[1], timestamp_ns, depth)

    def seed_bbo(
        self,
        product_id: int,
        bid_price_x18: int,
        ask_price_x18: int,
        *,
        bid_qty_x18: int = 0,
        ask_qty_x18: int = 0,
        timestamp_ns: int = 0,
        now_ns: int | None = None,
        source: str = "rest",
    ) -> bool:
        now_ns = monotonic_ns() if now_ns is None else now_ns
        prices = (bid_price_x18, ask_price_x18, bid_qty_x18, ask_qty_x18)
        self._tap.core_call("seed_bbo", (product_id, *map(str, prices), timestamp_ns, now_ns))
        return super().seed_bbo(
            product_id, bid_price_x18, ask_price_x18, bid_qty_x18=bid_qty_x18, ask_qty_x18=ask_qty_x18,
            timestamp_ns=timestamp_ns, now_ns=now_ns, source=source,
        )  # fmt: skip


def replay_call(core: FeedCore, name: str, arguments: Any) -> None:
    """Make a call again that a tap was told of. Raises ValueError on a name that is none of them."""
    match name:
        case "begin":
            core.begin(*arguments)
        case "leave":
            core.leave(*arguments)
        case "load_snapshot":
            product_id, bids, asks, timestamp_ns, depth = arguments
            core.load_snapshot(product_id, map(tuple, bids), map(tuple, asks), timestamp_ns, depth)
        case "seed_bbo":
            product_id, bid, ask, bid_qty, ask_qty, timestamp_ns, now_ns = arguments
            core.seed_bbo(
                product_id, int(bid), int(ask), bid_qty_x18=int(bid_qty), ask_qty_x18=int(ask_qty),
                timestamp_ns=timestamp_ns, now_ns=now_ns,
            )  # fmt: skip
        case _:
            raise ValueError(f"no call of a feed core: {name!r}")
