"""Positions as the stream tells them: the last word on each, and what came before."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from .callbacks import Callbacks
from .errors import NoSignal
from .events import PositionUpdateEvent
from .fallback import REST_REASON
from .products import X18, from_x18

HISTORY: Final = 1_000
_Place = tuple[int, bool]  # product, isolated


@dataclass(frozen=True, slots=True)
class PositionDetails:
    """One position. size: in base, not negative; side: "long", "short" or "flat".

    unrealized_pnl: amount · mark + v_quote, in quote, fees and the funding of before the event included; None
    if there is no mark price now. isolated: it has a margin, and a result, of its own.
    """

    product_id: int
    subaccount: str
    isolated: bool
    side: str
    size: Decimal
    v_quote: Decimal
    unrealized_pnl: Decimal | None
    timestamp_ns: int
    reason: str


Callback = Callable[[PositionDetails | None, PositionDetails], object]


class NadoPositionHandler:
    """`feed.on("position_change", handler.on_position_update)`. Cross and isolated are kept apart.

    mark_x18(product_id): the price to value at, None if there is none now, for example
    `lambda product_id: feed.bbo(product_id).mid_x18`. history: changes that are remembered.
    """

    def __init__(
        self,
        callback: Callback | None = None,
        *,
        mark_x18: Callable[[int], int | None] = lambda _: None,
        history: int = HISTORY,
    ) -> None:
        self.callbacks = Callbacks(callback)
        self._mark_x18 = mark_x18
        self._last: dict[_Place, PositionUpdateEvent] = {}
        self._engine_ns: dict[_Place, int] = {}
        self._history: deque[PositionUpdateEvent] = deque(maxlen=history)
        self.updates = 0
        self.outdated = 0
        """Events that were repeated, or older than what is known."""

    def on_position_update(self, event: PositionUpdateEvent) -> None:
        """Take the new balance of one position and tell the callbacks (before, now); before is None the
        first time."""
        place = (event.product_id, event.isolated)
        last = self._last.get(place)
        if last is not None and (event == last or self._is_older(event, last)):
            self.outdated += 1
            return
        if event.reason != REST_REASON:
            self._engine_ns[place] = event.timestamp_ns
        self.updates += 1
        self._last[place] = event
        self._history.append(event)
        before = None if last is None else self.extract_position_details(last)
        self.trigger_callback(before, self.extract_position_details(event))

    def extract_position_details(self, event: PositionUpdateEvent) -> PositionDetails:
        """The position of an event in plain terms, valued now."""
        amount, mark = event.amount_x18, self._mark_x18(event.product_id)
        pnl_x36 = None if mark is None else amount * mark + event.v_quote_amount_x18 * X18
        return PositionDetails(
            product_id=event.product_id,
            subaccount=event.subaccount,
            isolated=event.isolated,
            side="long" if amount > 0 else "short" if amount < 0 else "flat",
            size=from_x18(abs(amount)),
            v_quote=from_x18(event.v_quote_amount_x18),
            # Towards minus infinity: a result is never shown as better than it is.
            unrealized_pnl=None if pnl_x36 is None else from_x18(pnl_x36 // X18),
            timestamp_ns=event.timestamp_ns,
            reason=event.reason,
        )

    def get_current_position(self, product_id: int, *, isolated: bool = False) -> PositionDetails:
        """The last word, valued now. Raises NoSignal if the stream has not told of it: that is not flat."""
        event = self._last.get((product_id, isolated))
        if event is None:
            raise NoSignal(f"product {product_id}: no position was told yet")
        return self.extract_position_details(event)

    def get_position_history(self, product_id: int | None = None) -> list[PositionDetails]:
        """Changes, oldest first, of one product or all, each valued now."""
        return [
            self.extract_position_details(event)
            for event in self._history
            if product_id is None or event.product_id == product_id
        ]

    def register_callback(self, callback: Callback) -> Callable[[], None]:
        """Call it with every change (before, now). Returns a function that ends it."""
        return self.callbacks.add(callback)

    def trigger_callback(self, before: PositionDetails | None, now: PositionDetails) -> None:
        """Tell all callbacks; an exception of one is logged and counted, and stops no other."""
        self.callbacks.tell(before, now)

    def _is_older(self, event: PositionUpdateEvent, last: PositionUpdateEvent) -> bool:
        """By the engine's time. What was read over REST has none: it is newer because it came later, and what
        the stream said before it does not come back."""
        engine_ns = self._engine_ns.get((event.product_id, event.isolated))
        if event.reason == REST_REASON or engine_ns is None:
            return False
        if last.reason == REST_REASON:
            return event.timestamp_ns <= engine_ns
        return event.timestamp_ns < engine_ns
