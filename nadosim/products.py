"""Listed products: the rules that stay, and the state that moves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from .x18 import ONE

QUOTE_PRODUCT_ID: Final = 0
TradingStatus = Literal["live", "post_only", "reduce_only", "soft_reduce_only", "not_tradable"]


@dataclass(frozen=True, slots=True)
class Product:
    """Rules of one product, as the `symbols` query publishes them.

    price_increment_x18: tick. size_increment_x18: base step. min_size_x18: quote notional, not base.
    start_price_x18: oracle price until the first set_oracle().
    token_decimals, withdraw_fee_x18: of a spot product's token; amounts of withdrawals are in token decimals.
    """

    product_id: int
    symbol: str
    kind: Literal["spot", "perp"]
    price_increment_x18: int
    size_increment_x18: int
    min_size_x18: int
    maker_fee_rate_x18: int
    taker_fee_rate_x18: int
    long_weight_initial_x18: int
    long_weight_maintenance_x18: int
    max_open_interest_x18: int | None
    start_price_x18: int
    isolated_only: bool = False
    token_decimals: int = 18
    withdraw_fee_x18: int = 0

    @property
    def short_weight_initial_x18(self) -> int:
        return 2 * ONE - self.long_weight_initial_x18

    @property
    def short_weight_maintenance_x18(self) -> int:
        return 2 * ONE - self.long_weight_maintenance_x18

    @property
    def is_perp(self) -> bool:
        return self.kind == "perp"


@dataclass(slots=True)
class ProductState:
    """What moves: oracle price, cumulative funding (quote per base), open interest (both sides counted)."""

    oracle_price_x18: int
    cumulative_funding_long_x18: int = 0
    cumulative_funding_short_x18: int = 0
    open_interest_x18: int = 0
    available_settle_x18: int = 0
    collected_fees_x18: int = 0
    trading_status: TradingStatus = "live"


_BP = ONE // 10_000

USDT0: Final = Product(
    product_id=QUOTE_PRODUCT_ID,
    symbol="USDT0",
    kind="spot",
    price_increment_x18=0,
    size_increment_x18=0,
    min_size_x18=0,
    maker_fee_rate_x18=0,
    taker_fee_rate_x18=0,
    long_weight_initial_x18=ONE,
    long_weight_maintenance_x18=ONE,
    max_open_interest_x18=None,
    start_price_x18=ONE,
    token_decimals=6,
    withdraw_fee_x18=ONE,
)

# A spot product and the perpetual on the same asset: opposite positions offset each other's risk.
HEALTH_GROUPS: Final = ((1, 2), (3, 4))


def _spot(
    product_id: int,
    symbol: str,
    *,
    tick_x18: int,
    step_x18: int,
    start_price: int,
    token_decimals: int,
    withdraw_fee_x18: int,
) -> Product:
    return Product(
        product_id=product_id,
        symbol=symbol,
        kind="spot",
        price_increment_x18=tick_x18,
        size_increment_x18=step_x18,
        min_size_x18=100 * ONE,
        maker_fee_rate_x18=_BP,
        taker_fee_rate_x18=_BP * 35 // 10,
        long_weight_initial_x18=ONE * 95 // 100,
        long_weight_maintenance_x18=ONE * 97 // 100,
        max_open_interest_x18=None,
        start_price_x18=start_price * ONE,
        token_decimals=token_decimals,
        withdraw_fee_x18=withdraw_fee_x18,
    )


def _perp(
    product_id: int,
    symbol: str,
    *,
    tick_x18: int,
    step_x18: int,
    weight_initial_milli: int,
    weight_maintenance_tenth_milli: int,
    max_open_interest: int,
    start_price: int,
) -> Product:
    return Product(
        product_id=product_id,
        symbol=symbol,
        kind="perp",
        price_increment_x18=tick_x18,
        size_increment_x18=step_x18,
        min_size_x18=100 * ONE,
        maker_fee_rate_x18=_BP,
        taker_fee_rate_x18=_BP * 35 // 10,
        long_weight_initial_x18=weight_initial_milli * ONE // 1000,
        long_weight_maintenance_x18=weight_maintenance_tenth_milli * ONE // 10_000,
        max_open_interest_x18=max_open_interest * ONE,
        start_price_x18=start_price * ONE,
    )


DEFAULT_PRODUCTS: Final[tuple[Product, ...]] = (
    USDT0,
    _spot(
        1,
        "KBTC",
        tick_x18=ONE,
        step_x18=5 * 10**13,
        start_price=90_000,
        token_decimals=8,
        withdraw_fee_x18=4 * 10**13,
    ),
    _perp(
        2,
        "BTC-PERP",
        tick_x18=ONE,
        step_x18=5 * 10**13,
        weight_initial_milli=980,
        weight_maintenance_tenth_milli=9900,
        max_open_interest=165_000_000,
        start_price=90_000,
    ),
    _spot(
        3,
        "WETH",
        tick_x18=ONE // 10,
        step_x18=ONE // 1000,
        start_price=3_000,
        token_decimals=18,
        withdraw_fee_x18=6 * 10**14,
    ),
    _perp(
        4,
        "ETH-PERP",
        tick_x18=ONE // 10,
        step_x18=ONE // 1000,
        weight_initial_milli=975,
        weight_maintenance_tenth_milli=9875,
        max_open_interest=100_000_000,
        start_price=3_000,
    ),
    _perp(
        8,
        "SOL-PERP",
        tick_x18=ONE // 100,
        step_x18=ONE // 10,
        weight_initial_milli=950,
        weight_maintenance_tenth_milli=9700,
        max_open_interest=50_000_000,
        start_price=140,
    ),
)
