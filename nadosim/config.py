"""Settings of the exchange core. Every switch is a point the API leaves open, or a limit it states."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, Literal

from .products import DEFAULT_PRODUCTS, Product
from .x18 import ONE

# Neither real chain: an order signed for this exchange is worthless anywhere else.
CHAIN_ID: Final = 77001
ENDPOINT_ADDRESS: Final = "0x00000000000000000000000000000000000e0d0a"
QUOTE_TOKEN_ADDRESS: Final = "0x0000000000000000000000000000000000005d70"

# Switches that may be thrown while the exchange runs.
OPEN_QUESTIONS: Final = (
    "band_low_bps",
    "band_high_bps",
    "takers_obey_min_size",
    "kill_answer",
    "dead_digest",
    "self_trade",
    "resting_reduce_only",
    "isolated_reduce_only",
    "recheck_recv_time",
    "mixed_cancel",
    "empty_cancel",
    "place_orders_shape",
    "update_amount",
    "update_extras",
    "isolated_reporting",
    "stream_auth_by_linked_signer",
    "echo_id_on_failure",
    "payment_rate",
    "open_interest_sides",
    "maintenance_code",
    "swapped_types",
    "dt_unit",
    "payment_sign",
    "cancelled_amount",
    "fills_need_auth",
    "control_error",
    "echo_id_of_replace",
    "requires_unfilled",
    "partly_filled_cancel",
    "gateway_needs_deflate",
    "checked_first",
    "rate_limit_reply",
    "rate_limit_code",
)

SwappedField = Literal["submission_idx", "placed_at", "candle_time", "funding_time", "dt"]


@dataclass(slots=True)
class ExchangeConfig:
    """Defaults are the exchange's documented values, or where it is silent the best reading.

    One object serves every part of an exchange: what OPEN_QUESTIONS names may be changed while it runs.

    Limits and times:
    taker_delay_ns: hold of every order that is not post-only. batch_delay_ns: of a place_orders request.
    recv_window_ms: how far ahead a request's recv_time may lie.
    band_low_bps, band_high_bps: order price limits as a share of the oracle price.
    history_limit: finished orders, fills and executes of real accounts kept for the archive.
    speed: exchange hours per hour, for funding; wire stamps and deadlines stay real time.
    settle_interval_s: mean seconds between random settlements of profit and loss; 0: never.
    auto_liquidation: the exchange's own pool takes unhealthy accounts over at once.
    builder_ids: registered builders.

    Open questions:
    takers_obey_min_size: whether IOC and FOK orders may not be smaller than min_size either.
    kill_answer: how an IOC that does not cross or an unfillable FOK ends: failure reply, event, or both.
    dead_digest: a digest that was used before and no longer rests: refused, or its unfilled rest accepted.
    self_trade: the resting order goes, or the taker is refused (2073).
    resting_reduce_only: reduce-only on orders that may rest: refused (2067), or accepted.
    isolated_reduce_only: accepted as now, or refused (2085) as formerly.
    recheck_recv_time: whether recv_time is judged again after the hold.
    mixed_cancel: a list of cancels with a bad one: nothing happens and 2020; the good ones go and 2020; or
        the good ones go and the reply names them.
    empty_cancel: a list of no cancels: success, or 2020.
    place_orders_shape: `data` of the reply: an object around the list, or the list itself.
    update_amount: amount of order_update: positive always, or signed like the order.
    update_extras: whether order_update tells filled_qty and filled_price of a fill.
    isolated_reporting: subaccount of isolated fills and position changes: the parent's, or the isolated id.
    stream_auth_by_linked_signer: whether a linked signer may authenticate a stream.
    echo_id_on_failure: whether failures of executes repeat the request's id.
    payment_rate: rate of a funding payment in the archive: of its hour, or of a day.
    open_interest_sides: whether shown open interest counts both sides of a position, or one.
    maintenance_code: refusal of executes while the status is not active.
    swapped_types: disputed fields that travel as the other JSON type (string for number and back).
    dt_unit: of `dt` in funding payments: s, or ms.
    payment_sign: of a payment in the archive: as the balance changes, or as it was paid.
    cancelled_amount: amount of an order_update `cancelled`: 0 always, or what was left.
    fills_need_auth: whether fill and position_change are for the authenticated owner only.
    control_error: a refused control request: `error` alone, a `status` of failure too, or no answer.
    echo_id_of_replace: whether the reply of cancel_and_place repeats its id.
    requires_unfilled: what place_requires_unfilled means when it is left out.
    partly_filled_cancel: the old order of such a request, if partly filled: cancelled, or left where it is.
    gateway_needs_deflate: whether the request sockets insist on permessage-deflate too.
    checked_first: of a stale and badly signed request: recv_time, or the signature.
    rate_limit_reply, rate_limit_code: over the limit: HTTP 200 with that code, or HTTP 429.
    sol_tick: tick of SOL-PERP; of the listing, so at start only.
    """

    chain_id: int = CHAIN_ID
    endpoint_address: str = ENDPOINT_ADDRESS
    products: tuple[Product, ...] = DEFAULT_PRODUCTS
    taker_delay_ns: int = 30_000_000
    batch_delay_ns: int = 50_000_000
    recv_window_ms: int = 100_000
    band_low_bps: int = 2_000
    band_high_bps: int = 50_000
    max_open_orders: int = 500
    history_limit: int = 20_000
    speed: float = 1.0
    settle_interval_s: float = 0.0
    auto_liquidation: bool = True
    builder_ids: frozenset[int] = frozenset({1})

    takers_obey_min_size: bool = False
    kill_answer: Literal["both", "failure", "event"] = "both"
    dead_digest: Literal["reject", "fill_remainder"] = "reject"
    self_trade: Literal["cancel_resting", "reject_taker"] = "cancel_resting"
    resting_reduce_only: Literal["reject", "accept"] = "reject"
    isolated_reduce_only: Literal["accept", "reject"] = "accept"
    recheck_recv_time: bool = False
    mixed_cancel: Literal["refuse_all", "cancel_then_fail", "cancel_good"] = "refuse_all"
    empty_cancel: Literal["accept", "reject"] = "accept"
    place_orders_shape: Literal["object", "array"] = "object"
    update_amount: Literal["positive", "signed"] = "positive"
    update_extras: bool = False
    isolated_reporting: Literal["parent", "isolated"] = "parent"
    stream_auth_by_linked_signer: bool = False
    echo_id_on_failure: bool = True
    payment_rate: Literal["hourly", "daily"] = "hourly"
    open_interest_sides: Literal["both", "one"] = "both"
    maintenance_code: Literal[1004, 2068] = 1004
    swapped_types: frozenset[SwappedField] = frozenset()
    dt_unit: Literal["s", "ms"] = "s"
    payment_sign: Literal["balance", "paid"] = "balance"
    cancelled_amount: Literal["zero", "unfilled"] = "zero"
    fills_need_auth: bool = False
    control_error: Literal["error", "failure", "silent"] = "error"
    echo_id_of_replace: bool = True
    requires_unfilled: bool = False
    partly_filled_cancel: Literal["holds", "undone"] = "holds"
    gateway_needs_deflate: bool = False
    checked_first: Literal["recv_time", "signature"] = "recv_time"
    rate_limit_reply: Literal["code", "http"] = "code"
    rate_limit_code: Literal[1000, 1015] = 1000
    sol_tick: Literal["0.01", "0.1"] = "0.01"

    def __post_init__(self) -> None:
        if self.sol_tick == "0.1":
            self.products = tuple(
                replace(p, price_increment_x18=ONE // 10) if p.symbol == "SOL-PERP" else p
                for p in self.products
            )

    def typed(self, field: SwappedField, value: int, usual: type[str] | type[int]) -> str | int:
        """The value in the JSON type a disputed field has here; `usual` is its default type."""
        as_text = (usual is str) != (field in self.swapped_types)
        return str(value) if as_text else value
