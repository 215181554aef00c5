"""The public tape: recent trades and a day's volume of each product, from trade events."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any, Final

from .x18 import NS_PER_S, mul_x18

MAX_TRADES: Final = 2_000
MINUTES_A_DAY: Final = 1_440


@dataclass(frozen=True, slots=True)
class Trade:
    """One match as everybody sees it. base_x18 is signed by the taker."""

    trade_id: int
    timestamp_s: int
    price_x18: int
    base_x18: int

    @property
    def quote_x18(self) -> int:
        return -mul_x18(self.base_x18, self.price_x18)


@dataclass(slots=True)
class Bar:
    """Trades of some time. volume_x18 is base; quote_x18 what changed hands for it."""

    start_s: int
    open_x18: int
    close_x18: int
    volume_x18: int = 0
    quote_x18: int = 0

    def add(self, trade: Trade) -> None:
        self.close_x18 = trade.price_x18
        self.volume_x18 += abs(trade.base_x18)
        self.quote_x18 += abs(trade.quote_x18)


@dataclass(slots=True)
class _ProductTape:
    """One product: newest trades last, a day of minutes."""

    trades: deque[Trade] = field(default_factory=lambda: deque(maxlen=MAX_TRADES))
    minutes: deque[Bar] = field(default_factory=lambda: deque(maxlen=MINUTES_A_DAY))


class Tape:
    """All products."""

    def __init__(self) -> None:
        self._products: dict[int, _ProductTape] = {}
        self._last_trade_id = 0

    def add(self, event: dict[str, Any]) -> None:
        """Take in one trade event."""
        tape = self._products.setdefault(event["product_id"], _ProductTape())
        self._last_trade_id += 1
        quantity = int(event["taker_qty"])
        trade = Trade(
            self._last_trade_id,
            int(event["timestamp"]) // NS_PER_S,
            int(event["price"]),
            quantity if event["is_taker_buyer"] else -quantity,
        )
        tape.trades.append(trade)
        start_s = trade.timestamp_s // 60 * 60
        if not tape.minutes or tape.minutes[-1].start_s != start_s:
            tape.minutes.append(Bar(start_s, trade.price_x18, trade.price_x18))
        tape.minutes[-1].add(trade)

    def trades(self, product_id: int, limit: int, max_trade_id: int | None = None) -> list[Trade]:
        """Newest first, none above max_trade_id."""
        tape = self._products.get(product_id)
        if tape is None:
            return []
        wanted = (t for t in reversed(tape.trades) if max_trade_id is None or t.trade_id <= max_trade_id)
        return [trade for trade, _ in zip(wanted, range(limit), strict=False)]

    def day(self, product_id: int, now_s: int) -> Bar | None:
        """The last 24 hours as one bar; None without a trade in them."""
        tape = self._products.get(product_id)
        minutes = [m for m in tape.minutes if m.start_s > now_s - 86_400] if tape is not None else []
        if not minutes:
            return None
        return Bar(
            start_s=minutes[0].start_s,
            open_x18=minutes[0].open_x18,
            close_x18=minutes[-1].close_x18,
            volume_x18=sum(minute.volume_x18 for minute in minutes),
            quote_x18=sum(minute.quote_x18 for minute in minutes),
        )
