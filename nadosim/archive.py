"""The archive: orders that had a fill, and their matches. One entry per real order, or per order and match.

quote_filled includes the fee. Entry and realised figures are by average entry, fees included.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

from .accounts import PerpBalance
from .engine import Order
from .errors import ExchangeError
from .records import FillRecord, History, OrderRecord
from .x18 import NS_PER_S

DEFAULT_LIMIT: Final = 100
MAX_LIMIT: Final = 500
MALFORMED: Final = 2038
NO_SIGNATURE: Final = "0x"  # signed orders are not handed out


@dataclass(frozen=True, slots=True)
class _Filter:
    """None: not restricted. idx: largest submission_idx wanted. max_time_s likewise."""

    subaccounts: frozenset[str] | None
    product_ids: frozenset[int] | None
    max_time_s: int | None
    idx: int | None
    isolated: bool
    limit: int

    def takes(self, fill: FillRecord) -> bool:
        return (
            not self.isolated
            and (self.subaccounts is None or fill.match.order.account.id in self.subaccounts)
            and (self.product_ids is None or fill.match.order.product_id in self.product_ids)
            and (self.max_time_s is None or fill.match.timestamp_ns // NS_PER_S <= self.max_time_s)
            and (self.idx is None or fill.match.submission_idx <= self.idx)
        )


class Archive:
    """Answers `{"orders": {...}}` and `{"matches": {...}}`."""

    def __init__(self, history: History) -> None:
        self._history = history

    def answer(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Raises ExchangeError: 3000, 3001 about digests, 2038 for a query not offered."""
        if "orders" in request:
            return {"orders": [_order_view(record) for record in self._orders(_params(request, "orders"))]}
        if "matches" in request:
            return self._matches(_params(request, "matches"))
        raise ExchangeError(MALFORMED, "unknown archive query")

    def _orders(self, params: Mapping[str, Any]) -> Iterator[OrderRecord]:
        digests = params.get("digests")
        if digests is None:
            return self._filtered_orders(_parse_filter(params))
        if any(params.get(key) is not None for key in ("subaccounts", "product_ids", "max_time", "idx")):
            raise ExchangeError(3000)
        if not isinstance(digests, list):
            raise ExchangeError(MALFORMED, "digests")
        if len(digests) > MAX_LIMIT:
            raise ExchangeError(3001)
        found = (self._history.order(str(digest).lower()) for digest in digests)
        return (record for record in found if record is not None and record.fills)

    def _filtered_orders(self, wanted: _Filter) -> Iterator[OrderRecord]:
        """Newest last fill first."""
        matching = [r for r in self._history.orders() if r.fills and wanted.takes(r.fills[-1])]
        matching.sort(key=lambda record: record.fills[-1].match.submission_idx, reverse=True)
        return iter(matching[: wanted.limit])

    def _matches(self, params: Mapping[str, Any]) -> dict[str, Any]:
        wanted = _parse_filter(params)
        newest = filter(wanted.takes, self._history.fills_newest_first())
        fills = list(islice(newest, wanted.limit))
        txs = {fill.match.submission_idx: _tx_view(fill) for fill in fills}
        return {"matches": [_match_view(fill) for fill in fills], "txs": list(txs.values())}


def _params(request: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    params = request[name]
    if not isinstance(params, Mapping):
        raise ExchangeError(MALFORMED, name)
    return params


def _parse_filter(params: Mapping[str, Any]) -> _Filter:
    try:
        subaccounts, product_ids = params.get("subaccounts"), params.get("product_ids")
        max_time, idx, limit = params.get("max_time"), params.get("idx"), params.get("limit")
        return _Filter(
            subaccounts=None if subaccounts is None else frozenset(str(s).lower() for s in subaccounts),
            product_ids=None if product_ids is None else frozenset(int(p) for p in product_ids),
            max_time_s=None if max_time is None else int(max_time),
            idx=None if idx is None else int(idx),
            isolated=params.get("isolated") is True,
            limit=min(MAX_LIMIT, DEFAULT_LIMIT if limit is None else max(0, int(limit))),
        )
    except (TypeError, ValueError, OverflowError):
        raise ExchangeError(MALFORMED, "filter") from None


def _order_view(record: OrderRecord) -> dict[str, Any]:
    order, fills = record.order, record.fills
    return {
        "digest": order.digest,
        "subaccount": order.account.id,
        "product_id": order.product_id,
        "submission_idx": str(fills[0].match.submission_idx),
        "last_fill_submission_idx": str(fills[-1].match.submission_idx),
        "amount": str(order.amount_x18),
        "price_x18": str(order.price_x18),
        "base_filled": str(sum(f.match.base_x18 for f in fills)),
        "quote_filled": str(sum(f.match.quote_net_x18 for f in fills)),
        "fee": str(sum(f.match.fee_x18 for f in fills)),
        "builder_fee": "0",
        "expiration": str(order.expiration_s),
        "nonce": str(order.nonce),
        "appendix": str(order.appendix),
        "isolated": False,
        "closed_amount": str(sum(f.closing.closed_x18 for f in fills)),
        "realized_pnl": str(sum(f.closing.realized_pnl_x18 for f in fills)),
        "closed_net_entry": str(sum(f.closing.closed_net_entry_x18 for f in fills)),
        "closed_margin": None,
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
        "builder_fee": "0",
        "cumulative_fee": str(fill.cumulative_fee_x18),
        "cumulative_base_filled": str(fill.cumulative_base_x18),
        "cumulative_quote_filled": str(fill.cumulative_quote_net_x18),
        "submission_idx": str(fill.match.submission_idx),
        "isolated": False,
        "is_taker": fill.match.is_taker,
        "closed_amount": str(fill.closing.closed_x18),
        "realized_pnl": str(fill.closing.realized_pnl_x18),
        "closed_net_entry": str(fill.closing.closed_net_entry_x18),
        "margin": None,
        "net_entry_unrealized": str(fill.net_entry_unrealized_x18),
        "net_entry_cumulative": str(fill.net_entry_cumulative_x18),
        "pre_balance": _balance_view(order.product_id, fill.match.before),
        "post_balance": _balance_view(order.product_id, fill.match.after),
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


def _balance_view(product_id: int, balance: PerpBalance) -> dict[str, Any]:
    return {
        "base": {
            "perp": {
                "product_id": product_id,
                "lp_balance": None,
                "balance": {
                    "amount": str(balance.amount_x18),
                    "v_quote_balance": str(balance.v_quote_x18),
                    "last_cumulative_funding_x18": str(balance.last_cumulative_funding_x18),
                },
            }
        },
        "quote": None,
    }
