"""Market history as the archive shows it: candles, funding rates, prices, products, snapshots."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import Any, Final

from .archive_params import integer, integers, limit, optional_integer
from .candles import GRANULARITIES_S, Candle
from .core import Core
from .errors import ExchangeError
from .funding import Funding
from .product_views import product_view
from .products import QUOTE_PRODUCT_ID
from .statistics import ProductStatistics, Snapshots
from .x18 import NS_PER_S

MAX_SNAPSHOTS: Final = 500
Params = Mapping[str, Any]


class MarketArchive:
    """All of it public."""

    def __init__(self, core: Core, funding: Funding) -> None:
        self._core = core
        self._funding = funding
        self._snapshots = Snapshots()

    def candlesticks(self, params: Params) -> dict[str, Any]:
        """Newest first. 3003 for a granularity that does not exist."""
        product_id = self._product(params)
        granularity = integer(params, "granularity")
        if granularity not in GRANULARITIES_S:
            raise ExchangeError(3003)
        max_time = optional_integer(params, "max_time")
        candles = self._core.writer.candles.newest_first(product_id, granularity)
        wanted = (c for c in candles if max_time is None or c.start_s <= max_time)
        return {"candlesticks": [_candle_view(candle) for candle in islice(wanted, limit(params))]}

    def funding_rate(self, params: Params) -> dict[str, Any]:
        return self._rate_view(self._perp(integer(params, "product_id")))

    def funding_rates(self, params: Params) -> dict[str, Any]:
        return {str(pid): self._rate_view(self._perp(pid)) for pid in integers(params, "product_ids")}

    def price(self, params: Params) -> dict[str, Any]:
        return self._price_view(self._perp(integer(params, "product_id")))

    def perp_prices(self, params: Params) -> dict[str, Any]:
        return {str(pid): self._price_view(self._perp(pid)) for pid in integers(params, "product_ids")}

    def oracle_price(self, params: Params) -> dict[str, Any]:
        product_ids = integers(params, "product_ids")
        return {
            "prices": [
                {
                    "product_id": product_id,
                    "oracle_price_x18": str(self._state(product_id).oracle_price_x18),
                    "update_time": str(self._now_s()),
                }
                for product_id in product_ids
            ]
        }

    def quote_price(self, _: Params) -> dict[str, str]:
        return {"price_x18": str(self._state(QUOTE_PRODUCT_ID).oracle_price_x18)}

    def products(self, params: Params) -> dict[str, Any]:
        """The product as it is now: older states are not kept."""
        product_id = self._product(params)
        core = self._core
        product, idx = core.products[product_id], str(core.writer.submission_idx)
        view = product_view(core.config, product, core.accounts)
        entry = {"product_id": product_id, "submission_idx": idx, "product": {product.kind: view}}
        tx = {
            "tx": {"match_orders": {"product_id": product_id}},
            "submission_idx": idx,
            "timestamp": str(core.last_step_ns // NS_PER_S),
        }
        return {"products": [entry], "txs": [tx]} if limit(params) else {"products": [], "txs": []}

    def market_snapshots(self, params: Params) -> dict[str, Any]:
        """`count` snapshots, `granularity` seconds apart, newest first; none from before the start."""
        interval = params.get("interval")
        if not isinstance(interval, Mapping):
            raise ExchangeError(3003)
        count, granularity = integer(interval, "count"), integer(interval, "granularity")
        if not 1 <= count <= MAX_SNAPSHOTS or granularity < 1:
            raise ExchangeError(3003)
        listed = None if params.get("product_ids") is None else integers(params, "product_ids")
        now_s = self._now_s()
        latest_s = optional_integer(interval, "max_time")
        times = [min(now_s if latest_s is None else latest_s, now_s) - i * granularity for i in range(count)]
        views = [self._snapshot(now_s) if t == now_s else self._snapshots.at(t) for t in times]
        found = [view for view in views if view is not None]
        return {"snapshots": [_restrict(view, listed) for view in found]}

    def take_snapshot(self) -> None:
        """Remember the market as it is now, for `market_snapshots`."""
        self._snapshots.add(self._now_s(), self._snapshot(self._now_s()))

    # ---- inside

    def _snapshot(self, time_s: int) -> dict[str, Any]:
        core = self._core
        users = {a.address for a in core.accounts.real()}
        books = {pid: core.writer.statistics.of(pid) for pid in core.books}
        lent = {pid: core.accounts.spot_totals_x18(pid) for pid in core.accounts.deposited_x18}
        return {
            "timestamp": time_s,
            "cumulative_users": len(users),
            "daily_active_users": len(users),
            "tvl": str(core.accounts.deposited_x18[QUOTE_PRODUCT_ID]),
            "cumulative_trades": {str(pid): s.trades for pid, s in books.items()},
            "cumulative_volumes": _by_product(books, "volume_x18"),
            "cumulative_trade_sizes": _by_product(books, "size_x18"),
            "cumulative_sequencer_fees": {str(pid): "0" for pid in books},
            "cumulative_maker_fees": _by_product(books, "maker_fees_x18"),
            "cumulative_liquidation_amounts": _by_product(books, "liquidated_x18"),
            "open_interests": {str(pid): str(self._state(pid).open_interest_x18) for pid in books},
            "total_deposits": {str(pid): str(total[0]) for pid, total in lent.items()},
            "total_borrows": {str(pid): str(total[1]) for pid, total in lent.items()},
            "funding_rates": {
                str(pid): str(self._funding.daily_rate_x18(pid))
                for pid in books
                if core.products[pid].is_perp
            },
            "deposit_rates": {str(pid): "0" for pid in lent},
            "borrow_rates": {str(pid): "0" for pid in lent},
            "cumulative_inflows": {str(p): str(v) for p, v in core.accounts.inflows_x18.items()},
            "cumulative_outflows": {str(p): str(v) for p, v in core.accounts.outflows_x18.items()},
        }

    def _rate_view(self, product_id: int) -> dict[str, Any]:
        return {
            "product_id": product_id,
            "funding_rate_x18": str(self._funding.daily_rate_x18(product_id)),
            "update_time": str(self._funding.update_time_s),
        }

    def _price_view(self, product_id: int) -> dict[str, Any]:
        return {
            "product_id": product_id,
            "index_price_x18": str(self._state(product_id).oracle_price_x18),
            "mark_price_x18": str(self._funding.mark_x18(product_id)),
            "update_time": str(self._now_s()),
        }

    def _now_s(self) -> int:
        return self._core.clock.now_ns() // NS_PER_S

    def _state(self, product_id: int) -> Any:
        if product_id not in self._core.products:
            raise ExchangeError(2015)
        return self._core.accounts.states[product_id]

    def _product(self, params: Params) -> int:
        product_id = integer(params, "product_id")
        if product_id not in self._core.products:
            raise ExchangeError(2015)
        return product_id

    def _perp(self, product_id: int) -> int:
        product = self._core.products.get(product_id)
        if product is None or not product.is_perp:
            raise ExchangeError(2015)
        return product_id


def _candle_view(candle: Candle) -> dict[str, Any]:
    return {
        "product_id": candle.product_id,
        "granularity": candle.granularity_s,
        "submission_idx": str(candle.submission_idx),
        "timestamp": str(candle.start_s),
        "open_x18": str(candle.open_x18),
        "high_x18": str(candle.high_x18),
        "low_x18": str(candle.low_x18),
        "close_x18": str(candle.close_x18),
        "volume": str(candle.volume_x18),
    }


def _by_product(statistics: Mapping[int, ProductStatistics], name: str) -> dict[str, str]:
    return {str(product_id): str(getattr(s, name)) for product_id, s in statistics.items()}


def _restrict(view: dict[str, Any], product_ids: list[int] | None) -> dict[str, Any]:
    if product_ids is None:
        return view
    wanted = {str(product_id) for product_id in product_ids} | {str(QUOTE_PRODUCT_ID)}
    return {
        key: {pid: v for pid, v in value.items() if pid in wanted} if isinstance(value, dict) else value
        for key, value in view.items()
    }
