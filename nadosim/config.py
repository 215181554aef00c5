"""Settings of the exchange core. Every switch is a point the API leaves open, or a limit it states."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from .products import DEFAULT_PRODUCTS, Product

# Neither real chain: an order signed for this exchange is worthless anywhere else.
CHAIN_ID: Final = 77001
ENDPOINT_ADDRESS: Final = "0x00000000000000000000000000000000000e0d0a"
QUOTE_TOKEN_ADDRESS: Final = "0x0000000000000000000000000000000000005d70"


@dataclass(frozen=True, slots=True)
class ExchangeConfig:
    """Defaults are the exchange's documented values.

    taker_delay_ns: hold of every order that is not post-only.
    recv_window_ms: how far ahead a request's recv_time may lie.
    band_low_bps, band_high_bps: order price limits as a share of the oracle price.
    takers_obey_min_size: whether IOC and FOK orders may not be smaller than min_size either.
    kill_answer: how an IOC that does not cross or an unfillable FOK ends: failure reply, event, or both.
    dead_digest: a digest that was used before and no longer rests: refused, or its unfilled rest accepted.
    history_limit: finished orders, fills and executes of real accounts kept for the archive.
    """

    chain_id: int = CHAIN_ID
    endpoint_address: str = ENDPOINT_ADDRESS
    products: tuple[Product, ...] = DEFAULT_PRODUCTS
    taker_delay_ns: int = 30_000_000
    recv_window_ms: int = 100_000
    band_low_bps: int = 2_000
    band_high_bps: int = 50_000
    max_open_orders: int = 500
    takers_obey_min_size: bool = False
    kill_answer: Literal["both", "failure", "event"] = "both"
    dead_digest: Literal["reject", "fill_remainder"] = "reject"
    history_limit: int = 20_000
