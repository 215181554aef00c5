"""Orders that had a fill, and their matches, as the archive shows them.

quote_filled includes the fees. Entry and realised figures are by average entry, fees included.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any, Final

from .accounts import PerpBalance
from .archive_params import MAX_LIMIT, Filter, optional_list, parse_filter
from .config import ExchangeConfig
from .engine import Order
from .errors import ExchangeError
from .events import reported_id
from .products import QUOTE_PRODUCT_ID
from .records import FillRecord, History, OrderRecord
from .x18 import NS_PER_S

NO_SIGNATURE: Final = "0x"  # signed orders are not handed out
FilledOrder = tuple[Order, list[FillRecord]]


class FillArchive:
    """Answers `orders` and `matches`."""

    def __init__(self, config: ExchangeConfig, history: History) -> None:
        self._config = config
        self._history = history

    def orders(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """By digests (3000 with another filter, 3001 if too many), or newest last fill first."""
        return {"orders": [self._order_view(order, fills) for order, fills in self._orders(params)]}

    def matches(self, params: Mapping[str, Any]) -> dict[str, Any]:
        wanted = parse_filter(params)
        newest = (fill for fill in self._history.fills_newest_first() if _takes(wanted, fill))
        fills = list(islice(newest, wanted.limit))
        txs = {fill.match.submission_idx: _tx_view(fill) for fill in fills}
        return {"matches": [_match_view(fill) for fill in fills], "txs": list(txs.values())}

    def _orders(self, params: Mapping[str, Any]) -> list[FilledOrder]:
        if params.get("digests") is None:
            return self._filtered_orders(parse_filter(params))
        if any(params.get(key) is not None for key in ("subaccounts", "product_ids", "max_time", "idx")):
            raise ExchangeError(3000)
        digests = optional_list(params, "digests") or []
        if len(digests) > MAX_LIMIT:
            raise ExchangeError(3001)
        found = (self._history.order(str(digest).lower()) for digest in digests)
        return self._filled(record for record in found if record is not None)

    def _filtered_orders(self, wanted: Filter) -> list[FilledOrder]:
        matching = [one for one in self._filled(self._history.orders()) if _takes(wanted, one[1][-1])]
        matching.sort(key=lambda one: one[1][-1].match.submission_idx, reverse=True)
        return matching[: wanted.limit]

    def _filled(self, records: Iterable[OrderRecord]) -> list[FilledOrder]:
        """Orders that had a fill the archive knows of."""
        known = ((record.order, self._history.fills_of(record)) for record in records)
        return [(order, fills) for order, fills in known if fills]

    def _order_view(self, order: Order, fills: list[FillRecord]) -> dict[str, Any]:
        return {
            "digest": order.digest,
            "subaccount": reported_id(self._config, fills[-1].match.bearer),
            "product_id": order.product_id,
            "submission_idx": str(fills[0].match.submission_idx),
            "last_fill_submission_idx": str(fills[-1].match.submission_idx),
            "amount": str(order.amount_x18),
            "price_x18": str(order.price_x18),
            "base_filled": str(sum(f.match.base_x18 for f in fills)),
            "quote_filled": str(sum(f.match.quote_net_x18 for f in fills)),
            "fee": str(sum(f.match.fee_x18 for f in fills)),
            "builder_fee": str(sum(f.match.builder_fee_x18 for f in fills)),
            "expiration": str(order.expiration_s),
            "nonce": str(order.nonce),
            "appendix": str(order.appendix),
            "isolated": order.is_isolated,
            "closed_amount": str(sum(f.closing.closed_x18 for f in fills)),
            "realized_pnl": str(sum(f.closing.realized_pnl_x18 for f in fills)),
            "closed_net_entry": str(sum(f.closing.closed_net_entry_x18 for f in fills)),
            "closed_margin": "0" if order.is_isolated else None,
            "first_fill_timestamp": str(fills[0].match.timestamp_ns // NS_PER_S),
            "last_fill_timestamp": str(fills[-1].match.timestamp_ns // NS_PER_S),
        }


def _match_view(fill: FillRecord) -> dict[str, Any]:
    order = fill.match.order
    return {
        "digest": order.digest,
        "order": _signed_fields(order),
        "base_filled": str(fill.match.base_x18),
        "quote_filled": str(fill.match.quote_net_x18),
        "fee": str(fill.match.fee_x18),
        "sequencer_fee": "0",
        "builder_fee": str(fill.match.builder_fee_x18),
        "cumulative_fee": str(fill.cumulative_fee_x18),
        "cumulative_base_filled": str(fill.cumulative_base_x18),
        "cumulative_quote_filled": str(fill.cumulative_quote_net_x18),
        "submission_idx": str(fill.match.submission_idx),
        "isolated": order.is_isolated,
        "is_taker": fill.match.is_taker,
        "closed_amount": str(fill.closing.closed_x18),
        "realized_pnl": str(fill.closing.realized_pnl_x18),
        "closed_net_entry": str(fill.closing.closed_net_entry_x18),
        "margin": str(fill.match.quote_after_x18) if order.is_isolated else None,
        "net_entry_unrealized": str(fill.net_entry_unrealized_x18),
        "net_entry_cumulative": str(fill.net_entry_cumulative_x18),
        "pre_balance": _balances_view(fill, fill.match.before, fill.match.quote_before_x18),
        "post_balance": _balances_view(fill, fill.match.after, fill.match.quote_after_x18),
    }


def _tx_view(fill: FillRecord) -> dict[str, Any]:
    taker, maker = (
        (fill.match.order, fill.match.counterparty)
        if fill.match.is_taker
        else (fill.match.counterparty, fill.match.order)
    )
    return {
        "tx": {
            "match_orders": {
                "product_id": fill.match.order.product_id,
                "amm": False,
                "taker": {"order": _signed_fields(taker), "signature": NO_SIGNATURE},
                "maker": {"order": _signed_fields(maker), "signature": NO_SIGNATURE},
            }
        },
        "submission_idx": str(fill.match.submission_idx),
        "timestamp": str(fill.match.timestamp_ns // NS_PER_S),
    }


def _signed_fields(order: Order) -> dict[str, str]:
    return {
        "sender": order.account.id,
        "priceX18": str(order.price_x18),
        "amount": str(order.amount_x18),
        "expiration": str(order.expiration_s),
        "nonce": str(order.nonce),
        "appendix": str(order.appendix),
    }


def _balances_view(fill: FillRecord, base: PerpBalance, quote_x18: int) -> dict[str, Any]:
    """A spot match moves the quote balance too."""
    product_id = fill.match.order.product_id
    is_spot = product_id % 2 == 1
    quote = {
        "spot": {"product_id": QUOTE_PRODUCT_ID, "lp_balance": None, "balance": {"amount": str(quote_x18)}}
    }
    return {"base": balance_view(product_id, base), "quote": quote if is_spot else None}


def balance_view(product_id: int, balance: PerpBalance) -> dict[str, Any]:
    """Balance of one product, tagged by its kind."""
    if product_id == QUOTE_PRODUCT_ID or product_id % 2 == 1:
        amount = {"amount": str(balance.amount_x18)}
        return {"spot": {"product_id": product_id, "lp_balance": None, "balance": amount}}
    return {
        "perp": {
            "product_id": product_id,
            "lp_balance": None,
            "balance": {
                "amount": str(balance.amount_x18),
                "v_quote_balance": str(balance.v_quote_x18),
                "last_cumulative_funding_x18": str(balance.last_cumulative_funding_x18),
            },
        }
    }


def _takes(wanted: Filter, fill: FillRecord) -> bool:
    match = fill.match
    return wanted.takes(
        (match.order.account.id, match.bearer.id),
        match.order.product_id,
        match.timestamp_ns,
        match.submission_idx,
        is_isolated=match.order.is_isolated,
    )
