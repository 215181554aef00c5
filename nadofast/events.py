"""Typed events of the subscription streams, as immutable values.

Prices, sizes and quote amounts are x18 integers, timestamps nanoseconds since the epoch unless the
name says otherwise. Field meanings follow the streams section of the API. Market-data events exist
for `parse()` and for queued consumers; the inline path keeps books and BBOs without creating them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

# Wire values of an empty book side (numbers section of the API).
NO_BID_X18: Final = 0
NO_ASK_X18: Final = (1 << 127) - 1


@dataclass(frozen=True, slots=True)
class BookDepthEvent:
    """Batch of level changes: (price_x18, new total qty_x18), qty 0 removes the level."""

    product_id: int
    last_max_timestamp_ns: int
    min_timestamp_ns: int
    max_timestamp_ns: int
    bids: tuple[tuple[int, int], ...]
    asks: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class BBOEvent:
    """Best bid and offer. An empty side has the wire sentinel as price: see has_bid, has_ask."""

    product_id: int
    timestamp_ns: int
    bid_price_x18: int
    bid_qty_x18: int
    ask_price_x18: int
    ask_qty_x18: int

    @property
    def has_bid(self) -> bool:
        return self.bid_price_x18 != NO_BID_X18

    @property
    def has_ask(self) -> bool:
        return self.ask_price_x18 != NO_ASK_X18


@dataclass(frozen=True, slots=True)
class TradeEvent:
    """One match, public. There is no trade id: equal trades in one sweep are legal."""

    product_id: int
    timestamp_ns: int
    price_x18: int
    taker_qty_x18: int
    maker_qty_x18: int
    is_taker_buyer: bool


@dataclass(frozen=True, slots=True)
class FillEvent:
    """One match of one own order. Quantities are positive; the side is is_bid. fee_x18 < 0 is a rebate.

    Identity for deduplication: (order_digest, submission_idx).
    """

    product_id: int
    timestamp_ns: int
    subaccount: str
    order_digest: str
    appendix: int
    filled_qty_x18: int
    remaining_qty_x18: int
    original_qty_x18: int
    price_x18: int
    is_taker: bool
    is_bid: bool
    fee_x18: int
    submission_idx: int
    id: int | None = None

    @property
    def key(self) -> tuple[str, int]:
        return (self.order_digest, self.submission_idx)


@dataclass(frozen=True, slots=True)
class OrderUpdateEvent:
    """Life of an own order. amount_x18 is what remains, as an absolute value (its sign is undocumented)."""

    product_id: int
    timestamp_ns: int
    digest: str
    amount_x18: int
    reason: str
    id: int | None = None
    filled_qty_x18: int | None = None
    filled_price_x18: int | None = None

    @property
    def key(self) -> tuple[str, int, str, int]:
        return (self.digest, self.timestamp_ns, self.reason, self.amount_x18)


@dataclass(frozen=True, slots=True)
class PositionChangeEvent:
    """New signed balance of one product (not a delta) and its new v_quote balance."""

    product_id: int
    timestamp_ns: int
    subaccount: str
    isolated: bool
    amount_x18: int
    v_quote_amount_x18: int
    reason: str

    @property
    def key(self) -> tuple[str, int, int, int, int]:
        return (self.subaccount, self.product_id, self.timestamp_ns, self.amount_x18, self.v_quote_amount_x18)


@dataclass(frozen=True, slots=True)
class CandlestickEvent:
    """Latest candle. timestamp_s is the start of the bucket, volume is base."""

    product_id: int
    timestamp_s: int
    granularity_s: int
    open_x18: int
    high_x18: int
    low_x18: int
    close_x18: int
    volume_x18: int


@dataclass(frozen=True, slots=True)
class FundingRateEvent:
    """funding_rate_x18 is the 24 h rate: hourly is a 24th of it."""

    product_id: int
    timestamp_ns: int
    funding_rate_x18: int
    update_time_s: int


@dataclass(frozen=True, slots=True)
class FundingPaymentEvent:
    """Hourly funding. payment_amount_x18 is quote per unit of base, already inside the cumulative values."""

    product_id: int
    timestamp_ns: int
    payment_amount_x18: int
    open_interest_x18: int
    cumulative_funding_long_x18: int
    cumulative_funding_short_x18: int


@dataclass(frozen=True, slots=True)
class LiquidationEvent:
    """Public liquidation; two product ids for a spread. The sign of amount is the liquidated position's."""

    product_ids: tuple[int, ...]
    timestamp_ns: int
    liquidator: str
    liquidatee: str
    amount_x18: int
    price_x18: int


@dataclass(frozen=True, slots=True)
class AllBBOEvent:
    """Touch prices of many products, without quantities: product id → (bid_x18, ask_x18)."""

    time_ms: int
    bbos: dict[int, tuple[int, int]]


@dataclass(frozen=True, slots=True)
class ControlReply:
    """Answer to a subscription request: exactly one of result or error is meaningful."""

    id: int | None
    result: Any
    error: str | None = None
    error_code: int | None = None

    @property
    def is_error(self) -> bool:
        return self.error is not None or self.error_code is not None


@dataclass(frozen=True, slots=True)
class UnknownEvent:
    """A kind this version does not know: counted and reported once, never dropped silently."""

    kind: str
    raw: bytes


@dataclass(frozen=True, slots=True)
class BoundaryEvent:
    """A break or a repair, delivered in order with the events around it.

    what: link_up | link_lost | book_invalid | book_valid | mode | spare_up | spare_lost | events_lost. A
    spare is a link of several that came or went while another one carried on, so that nothing was lost.
    events_lost: this reader was too slow, and what follows stands for what it missed. product_id is None
    when all are concerned. link: the number of the link.
    """

    what: str
    reason: str
    product_id: int | None = None
    link: int = 0
    monotonic_ns: int = 0


Event = (
    BookDepthEvent
    | BBOEvent
    | TradeEvent
    | FillEvent
    | OrderUpdateEvent
    | PositionChangeEvent
    | CandlestickEvent
    | FundingRateEvent
    | FundingPaymentEvent
    | LiquidationEvent
    | AllBBOEvent
    | ControlReply
    | UnknownEvent
)
# Historical names of the same events.
OrderFillEvent = FillEvent
PositionUpdateEvent = PositionChangeEvent
ParsedMessage = Event
