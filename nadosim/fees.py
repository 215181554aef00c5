"""Trade fees (fees section of the API): taken out of a fill's quote, taker floor included."""

from __future__ import annotations

from .x18 import ONE, div_x18, mul_x18, sign


def trade_fee_x18(
    quote_x18: int,
    rate_x18: int,
    *,
    is_taker: bool,
    already_quote_x18: int = 0,
    is_first_match: bool = True,
    min_size_x18: int = 0,
) -> int:
    """Fee of one side of one match, in quote; negative is a rebate.

    quote_x18: signed quote change of this side before the fee (a buy is negative).
    already_quote_x18: same sign; what the order has filled before, valued at this match's price.
    A taker order pays on at least min_size_x18 over all its matches: the floor is charged with the first.
    """
    if is_taker:
        metered = sign(quote_x18) * min_size_x18 if is_first_match else 0
        extra = min(abs(already_quote_x18 + quote_x18) - min_size_x18, abs(quote_x18))
        if extra > 0:
            metered += sign(quote_x18) * extra
    else:
        metered = quote_x18
    keep = ONE - rate_x18
    after_fee = mul_x18(metered, keep) if metered > 0 else div_x18(metered, keep)
    return metered - after_fee
