"""Position changes that no order of ours made: a liquidation, auto-deleveraging, somebody else's trade.

The stream tells every new position. What the booked fills do not explain, once nothing of ours is under way
on that product and the fills had time to come, is somebody else's doing. A fill of an order that was not
signed here is that for certain.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from nadofast.events import FillEvent, PositionChangeEvent
from nadofast.fallback import REST_REASON

from .ledger import Ledger
from .model import Foreign
from .reconcile import MATCHED
from .units import NS_PER_MS, show

# A fill event follows its position change within a depth batch; a busy loop may take a little longer.
SETTLE_NS: Final = 300 * NS_PER_MS
# A position that was polled is ahead of its fill by as much as the archive lags.
ARCHIVE_NS: Final = 3_000 * NS_PER_MS


class PositionWatch:
    """Compares what the stream says of positions with the ledger; `look` is called at every decision.

    is_ours(digest): whether the order was signed here.
    """

    def __init__(
        self, ledger: Ledger, product_ids: tuple[int, ...], *, is_ours: Callable[[str], bool]
    ) -> None:
        self._ledger = ledger
        self._is_ours = is_ours
        self._strange: FillEvent | None = None
        self._told: dict[int, tuple[int, str]] = {}
        self._product_ids = product_ids
        self._differs_since_ns: dict[int, int] = {}
        self._count = 0

    def on_change(self, event: PositionChangeEvent) -> None:
        """A cross position has a new size."""
        if event.product_id in self._product_ids and not event.isolated:
            self._told[event.product_id] = (event.amount_x18, event.reason)

    def on_fill(self, fill: FillEvent) -> None:
        """Somebody traded on the account; the ledger has booked it if it was one of us."""
        if fill.product_id in self._product_ids and not self._is_ours(fill.order_digest):
            self._strange = fill

    def look(self, busy: set[int], now_ns: int) -> Foreign | None:
        """What has just turned out to be somebody else's doing; told once. busy: products with an order of
        ours under way."""
        if (fill := self._strange) is not None:
            self._strange = None
            amount = show(fill.filled_qty_x18 if fill.is_bid else -fill.filled_qty_x18, signed=True)
            return self._found(f"somebody else traded {amount} of product {fill.product_id}", is_certain=True)
        for product_id, (told_x18, reason) in tuple(self._told.items()):
            booked_x18 = self._ledger.position_x18(product_id)
            if told_x18 == booked_x18:
                self._differs_since_ns.pop(product_id, None)
                continue
            since_ns = self._differs_since_ns.setdefault(product_id, now_ns)
            # REST knows no reasons: it may be a match whose fill the archive does not show yet.
            may_be_ours = reason in (MATCHED, REST_REASON)
            if product_id in busy and may_be_ours:
                self._differs_since_ns[product_id] = now_ns
            elif not may_be_ours or now_ns - since_ns >= (SETTLE_NS if reason == MATCHED else ARCHIVE_NS):
                del self._told[product_id], self._differs_since_ns[product_id]
                why = f"position of product {product_id} changed without us ({reason}): "
                why += f"{show(booked_x18)} → {show(told_x18)}"
                return self._found(why, is_certain=not may_be_ours)
        return None

    def _found(self, why: str, *, is_certain: bool) -> Foreign:
        self._count += 1
        return Foreign(self._count, why, is_certain=is_certain)
