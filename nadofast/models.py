"""Typed results of gateway queries and archive requests, and how they are read from JSON.

Every integer is accepted as a JSON number or a decimal string, every boolean as one or as its name, unknown
fields are ignored, a missing required field raises BadResponse that names the query and the field.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from .errors import BadResponse
from .events import NO_ASK_X18, NO_BID_X18
from .products import X18
from .wire import boolean, integer

T = TypeVar("T")
Level = tuple[int, int]
MAX_TIMESTAMP_NS: Final = (1 << 63) - 1


@dataclass(frozen=True, slots=True)
class Contracts:
    """What the exchange says signatures must be made for."""

    chain_id: int
    endpoint_address: str


@dataclass(frozen=True, slots=True)
class Nonces:
    """tx_nonce: sequential nonce of transfers and signer changes. order_nonce: a suggestion only."""

    tx_nonce: int
    order_nonce: int


@dataclass(frozen=True, slots=True)
class MarketPrice:
    """Touch prices; None for an empty side."""

    product_id: int
    bid_x18: int | None
    ask_x18: int | None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """`market_liquidity`: (price_x18, qty_x18), best first, and the engine time it was taken at."""

    product_id: int
    bids: tuple[Level, ...]
    asks: tuple[Level, ...]
    timestamp_ns: int


@dataclass(frozen=True, slots=True)
class PerpBalance:
    """Cross position of one perp. amount_x18 is signed base; v_quote includes fees and funding to date."""

    product_id: int
    amount_x18: int
    v_quote_x18: int
    last_cumulative_funding_x18: int


@dataclass(frozen=True, slots=True)
class PerpProduct:
    """Risk and state of one perp; weights and rates are fractions, x18."""

    product_id: int
    oracle_price_x18: int
    long_weight_initial_x18: int
    short_weight_initial_x18: int
    long_weight_maintenance_x18: int
    short_weight_maintenance_x18: int
    cumulative_funding_long_x18: int
    cumulative_funding_short_x18: int
    open_interest_x18: int
    available_settle_x18: int
    price_increment_x18: int
    size_increment_x18: int
    min_size_x18: int


@dataclass(frozen=True, slots=True)
class SubaccountInfo:
    """Balances and healths of the cross account; isolated positions are not in it.

    healths_x18: initial, maintenance, unweighted (= equity). quote_x18 is the USDT0 balance.
    """

    subaccount: str
    exists: bool
    quote_x18: int
    spot: dict[int, int]
    perp: dict[int, PerpBalance]
    oracle_x18: dict[int, int]
    healths_x18: tuple[int, int, int]

    @property
    def equity_x18(self) -> int:
        """Unweighted health: balances and positions at oracle prices."""
        return self.healths_x18[2]

    def position_x18(self, product_id: int) -> int:
        """Signed cross position; 0 if the exchange lists none."""
        balance = self.perp.get(product_id)
        return 0 if balance is None else balance.amount_x18


@dataclass(frozen=True, slots=True)
class IsolatedPosition:
    """A position with its own margin. subaccount is the isolated id, not the parent's."""

    subaccount: str
    product_id: int
    amount_x18: int
    v_quote_x18: int
    margin_x18: int


@dataclass(frozen=True, slots=True)
class OpenOrder:
    """An order on the book, or one taken off by a cancel. Amounts are signed; sells negative."""

    digest: str
    product_id: int
    sender: str
    price_x18: int
    amount_x18: int
    unfilled_x18: int
    expiration_s: int
    nonce: int
    appendix: int
    order_type: str
    placed_at_s: int
    id: int | None = None


@dataclass(frozen=True, slots=True)
class FeeRates:
    """Fee rates by product id, fractions x18. A maker rate may be negative: a rebate."""

    taker: tuple[int, ...]
    maker: tuple[int, ...]
    fee_tier: int | None

    def taker_x18(self, product_id: int) -> int:
        return self.taker[product_id]

    def maker_x18(self, product_id: int) -> int:
        return self.maker[product_id]


@dataclass(frozen=True, slots=True)
class ArchivedOrder:
    """An order that had a fill. base_filled is signed; quote_filled is signed and includes the fee."""

    digest: str
    subaccount: str
    product_id: int
    amount_x18: int
    base_filled_x18: int
    quote_filled_x18: int
    fee_x18: int
    submission_idx: int
    last_fill_submission_idx: int


@dataclass(frozen=True, slots=True)
class ArchivedMatch:
    """One match of one order. base_filled is signed; quote_filled is signed and includes the fee.

    price_x18 is the maker's; 0 if nothing was filled and nobody says. cumulative_base_x18: filled of the
    order up to and with this match, signed. balance_after: the perp balance it left its account with; None
    of a spot match.
    """

    digest: str
    sender: str
    product_id: int
    price_x18: int
    cumulative_base_x18: int
    base_filled_x18: int
    quote_filled_x18: int
    fee_x18: int
    submission_idx: int
    is_taker: bool
    isolated: bool
    timestamp_s: int
    appendix: int
    amount_x18: int
    balance_after: PerpBalance | None = None


def decode(what: str, reader: Callable[[Any], T], data: Any) -> T:
    """reader(data), with every shape problem turned into BadResponse."""
    try:
        return reader(data)
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise BadResponse(f"{what}: {type(error).__name__}: {error}") from None


def contracts(data: Any) -> Contracts:
    return Contracts(integer(data["chain_id"]), str(data["endpoint_addr"]).lower())


def nonces(data: Any) -> Nonces:
    return Nonces(integer(data["tx_nonce"]), integer(data["order_nonce"]))


def market_price(data: Any) -> MarketPrice:
    bid, ask = integer(data["bid_x18"]), integer(data["ask_x18"])
    return MarketPrice(
        product_id=integer(data["product_id"]),
        bid_x18=None if bid == NO_BID_X18 else bid,
        ask_x18=None if ask == NO_ASK_X18 else ask,
    )


def snapshot(data: Any, product_id: int) -> Snapshot:
    """`product_id` is that of the request: older servers leave it out of the answer."""
    answered = integer(data.get("product_id", product_id))
    if answered != product_id:
        raise ValueError(f"asked for product {product_id}, got {answered}")
    timestamp_ns = integer(data["timestamp"])
    if not 0 <= timestamp_ns <= MAX_TIMESTAMP_NS:
        raise ValueError(f"timestamp {str(timestamp_ns)[:40]}")
    return Snapshot(product_id, _levels(data["bids"]), _levels(data["asks"]), timestamp_ns)


def perp_products(data: Any) -> dict[int, PerpProduct]:
    products = (_perp_product(row) for row in data["perp_products"])
    return {product.product_id: product for product in products}


def subaccount_info(data: Any) -> SubaccountInfo:
    spot = {integer(row["product_id"]): integer(row["balance"]["amount"]) for row in data["spot_balances"]}
    perp = {integer(row["product_id"]): _perp_balance(row) for row in data["perp_balances"]}
    rows = [*data.get("spot_products", ()), *data.get("perp_products", ())]
    initial, maintenance, unweighted = (integer(row["health"]) for row in data["healths"])
    return SubaccountInfo(
        subaccount=str(data["subaccount"]).lower(),
        exists=boolean(data["exists"]),
        quote_x18=spot.get(0, 0),
        spot=spot,
        perp=perp,
        oracle_x18={integer(row["product_id"]): integer(row["oracle_price_x18"]) for row in rows},
        healths_x18=(initial, maintenance, unweighted),
    )


def isolated_positions(data: Any) -> list[IsolatedPosition]:
    return [
        IsolatedPosition(
            subaccount=str(row["subaccount"]).lower(),
            product_id=integer(row["base_balance"]["product_id"]),
            amount_x18=integer(row["base_balance"]["balance"]["amount"]),
            v_quote_x18=integer(row["base_balance"]["balance"]["v_quote_balance"]),
            margin_x18=integer(row["quote_balance"]["balance"]["amount"]),
        )
        for row in data["isolated_positions"]
    ]


def open_order(data: Any) -> OpenOrder:
    client_id = data.get("id")
    return OpenOrder(
        digest=str(data["digest"]).lower(),
        product_id=integer(data["product_id"]),
        sender=str(data["sender"]).lower(),
        price_x18=integer(data["price_x18"]),
        amount_x18=integer(data["amount"]),
        unfilled_x18=integer(data["unfilled_amount"]),
        expiration_s=integer(data["expiration"]),
        nonce=integer(data["nonce"]),
        appendix=integer(data["appendix"]),
        order_type=str(data.get("order_type", "")),
        placed_at_s=integer(data.get("placed_at") or 0),
        id=None if client_id is None else integer(client_id),
    )


def open_orders(data: Any) -> list[OpenOrder]:
    return [open_order(row) for row in data["orders"]]


def cancelled_orders(data: Any) -> list[OpenOrder]:
    return [open_order(row) for row in data["cancelled_orders"]]


def fee_rates(data: Any) -> FeeRates:
    tier = data.get("fee_tier")
    return FeeRates(
        taker=tuple(integer(rate) for rate in data["taker_fee_rates_x18"]),
        maker=tuple(integer(rate) for rate in data["maker_fee_rates_x18"]),
        fee_tier=None if tier is None else integer(tier),
    )


def archived_orders(data: Any) -> list[ArchivedOrder]:
    return [
        ArchivedOrder(
            digest=str(row["digest"]).lower(),
            subaccount=str(row["subaccount"]).lower(),
            product_id=integer(row["product_id"]),
            amount_x18=integer(row["amount"]),
            base_filled_x18=integer(row["base_filled"]),
            quote_filled_x18=integer(row["quote_filled"]),
            fee_x18=integer(row["fee"]),
            submission_idx=integer(row["submission_idx"]),
            last_fill_submission_idx=integer(row.get("last_fill_submission_idx", row["submission_idx"])),
        )
        for row in data["orders"]
    ]


def archived_matches(data: Any) -> list[ArchivedMatch]:
    transactions = {integer(row["submission_idx"]): row for row in data.get("txs", ())}
    return [_archived_match(row, transactions) for row in data["matches"]]


def _archived_match(row: Any, transactions: Mapping[int, Any]) -> ArchivedMatch:
    submission_idx = integer(row["submission_idx"])
    transaction = transactions.get(submission_idx, {})
    match = transaction.get("tx", {}).get("match_orders") or {}
    base, quote, fee = integer(row["base_filled"]), integer(row["quote_filled"]), integer(row["fee"])
    # The match itself names neither product nor price: its transaction does, else the balance and the sums.
    product_id = match.get("product_id")
    if product_id is None:
        product_id = row["post_balance"]["base"]["perp"]["product_id"]
    maker = match.get("maker")
    if maker:
        price = integer(maker["order"]["priceX18"])
    else:
        price = abs(quote + fee) * X18 // abs(base) if base else 0
    return ArchivedMatch(
        digest=str(row["digest"]).lower(),
        sender=str(row["order"]["sender"]).lower(),
        product_id=integer(product_id),
        price_x18=price,
        cumulative_base_x18=integer(row.get("cumulative_base_filled", base)),
        base_filled_x18=base,
        quote_filled_x18=quote,
        fee_x18=fee,
        submission_idx=submission_idx,
        is_taker=boolean(row.get("is_taker") or False),
        isolated=boolean(row.get("isolated") or False),
        timestamp_s=integer(transaction.get("timestamp", 0)),
        appendix=integer(row["order"]["appendix"]),
        amount_x18=integer(row["order"]["amount"]),
        balance_after=_balance_after(row),
    )


def _balance_after(row: Any) -> PerpBalance | None:
    perp = ((row.get("post_balance") or {}).get("base") or {}).get("perp")
    return None if perp is None else _perp_balance(perp)


def _levels(rows: Any) -> tuple[Level, ...]:
    """Prices positive and once each, sizes not negative, both below the sentinel of an empty side."""
    levels = tuple((integer(price), integer(quantity)) for price, quantity in rows)
    if not all(0 < price < NO_ASK_X18 and 0 <= quantity < NO_ASK_X18 for price, quantity in levels):
        raise ValueError("a level is out of range")
    if len({price for price, _ in levels}) != len(levels):
        raise ValueError("a price is given twice")
    return levels


def _perp_balance(row: Any) -> PerpBalance:
    balance = row["balance"]
    return PerpBalance(
        product_id=integer(row["product_id"]),
        amount_x18=integer(balance["amount"]),
        v_quote_x18=integer(balance["v_quote_balance"]),
        last_cumulative_funding_x18=integer(balance["last_cumulative_funding_x18"]),
    )


def _perp_product(row: Any) -> PerpProduct:
    risk, state, book = row["risk"], row["state"], row["book_info"]
    return PerpProduct(
        product_id=integer(row["product_id"]),
        oracle_price_x18=integer(row["oracle_price_x18"]),
        long_weight_initial_x18=integer(risk["long_weight_initial_x18"]),
        short_weight_initial_x18=integer(risk["short_weight_initial_x18"]),
        long_weight_maintenance_x18=integer(risk["long_weight_maintenance_x18"]),
        short_weight_maintenance_x18=integer(risk["short_weight_maintenance_x18"]),
        cumulative_funding_long_x18=integer(state["cumulative_funding_long_x18"]),
        cumulative_funding_short_x18=integer(state["cumulative_funding_short_x18"]),
        open_interest_x18=integer(state["open_interest"]),
        available_settle_x18=integer(state["available_settle"]),
        price_increment_x18=integer(book["price_increment_x18"]),
        size_increment_x18=integer(book["size_increment"]),
        min_size_x18=integer(book["min_size"]),
    )
