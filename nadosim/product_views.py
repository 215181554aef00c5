"""Products as queries show them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from .accounts import Accounts
from .config import QUOTE_TOKEN_ADDRESS, ExchangeConfig
from .events import shown_open_interest_x18
from .products import QUOTE_PRODUCT_ID, Product, ProductState
from .x18 import ONE

# Loans cost no interest here: the curve is shown because clients parse it.
_INTEREST: Final[Mapping[str, str]] = {
    "interest_inflection_util_x18": str(ONE * 8 // 10),
    "interest_floor_x18": str(ONE // 100),
    "interest_small_cap_x18": str(ONE * 4 // 100),
    "interest_large_cap_x18": str(ONE),
}


def symbol_view(product: Product, state: ProductState) -> dict[str, Any]:
    """Entry of the `symbols` query. min_size is quote notional."""
    cap = product.max_open_interest_x18
    return {
        "type": product.kind,
        "product_id": product.product_id,
        "symbol": product.symbol,
        "price_increment_x18": str(product.price_increment_x18),
        "size_increment": str(product.size_increment_x18),
        "min_size": str(product.min_size_x18),
        "maker_fee_rate_x18": str(product.maker_fee_rate_x18),
        "taker_fee_rate_x18": str(product.taker_fee_rate_x18),
        "long_weight_initial_x18": str(product.long_weight_initial_x18),
        "long_weight_maintenance_x18": str(product.long_weight_maintenance_x18),
        "max_open_interest_x18": None if cap is None else str(cap),
        "trading_status": state.trading_status,
        "isolated_only": product.isolated_only,
    }


def product_view(config: ExchangeConfig, product: Product, accounts: Accounts) -> dict[str, Any]:
    """Entry of `all_products` and `subaccount_info`."""
    state = accounts.states[product.product_id]
    view: dict[str, Any] = {
        "product_id": product.product_id,
        "oracle_price_x18": str(state.oracle_price_x18),
        "risk": {
            "long_weight_initial_x18": str(product.long_weight_initial_x18),
            "short_weight_initial_x18": str(product.short_weight_initial_x18),
            "long_weight_maintenance_x18": str(product.long_weight_maintenance_x18),
            "short_weight_maintenance_x18": str(product.short_weight_maintenance_x18),
            "price_x18": str(state.oracle_price_x18),
        },
    }
    if product.is_perp:
        view["state"] = {
            "cumulative_funding_long_x18": str(state.cumulative_funding_long_x18),
            "cumulative_funding_short_x18": str(state.cumulative_funding_short_x18),
            "available_settle": str(state.available_settle_x18),
            "open_interest": str(shown_open_interest_x18(config, state)),
        }
    else:
        view |= _spot_parts(product, accounts)
    view["book_info"] = {
        "size_increment": str(product.size_increment_x18),
        "price_increment_x18": str(product.price_increment_x18),
        "min_size": str(product.min_size_x18),
        "collected_fees": str(state.collected_fees_x18),
    }
    return view


def _spot_parts(product: Product, accounts: Accounts) -> dict[str, Any]:
    """Multipliers stay at one, so normalized amounts are plain ones."""
    lent, borrowed = accounts.spot_totals_x18(product.product_id)
    return {
        "config": {
            "token": _token(product.product_id),
            **_INTEREST,
            "withdraw_fee_x18": str(product.withdraw_fee_x18),
            "min_deposit_rate_x18": "0",
        },
        "state": {
            "cumulative_deposits_multiplier_x18": str(ONE),
            "cumulative_borrows_multiplier_x18": str(ONE),
            "total_deposits_normalized": str(lent),
            "total_borrows_normalized": str(borrowed),
        },
    }


def _token(product_id: int) -> str:
    """Address of the product's token: made up, and different for each."""
    if product_id == QUOTE_PRODUCT_ID:
        return QUOTE_TOKEN_ADDRESS
    return f"0x{int(QUOTE_TOKEN_ADDRESS, 16) + product_id:040x}"


def fee_rates_view(products: Mapping[int, Product]) -> dict[str, Any]:
    """`fee_rates`: arrays indexed by product id. Ids not listed carry the filler of the entry tier."""
    listed = next(p for p in products.values() if p.is_perp)
    by_id = [products.get(i) for i in range(max(products) + 1)]
    perps = [p if p is not None and p.product_id != QUOTE_PRODUCT_ID else listed for p in by_id]
    return {
        "taker_fee_rates_x18": [str(p.taker_fee_rate_x18) for p in perps],
        "maker_fee_rates_x18": [str(p.maker_fee_rate_x18) for p in perps],
        "liquidation_sequencer_fee": str(ONE),
        "health_check_sequencer_fee": str(ONE),
        "taker_sequencer_fee": "0",
        "withdraw_sequencer_fees": [str(p.withdraw_fee_x18 if p is not None else 0) for p in by_id],
        "fee_tier": 0,
    }
