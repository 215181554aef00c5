"""Gateway queries: plain data in the field types of the API (numbers for ids, strings for wide integers)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from .account_queries import AccountQueries
from .core import Core
from .errors import ExchangeError
from .fields import MALFORMED
from .order_views import order_view
from .product_views import fee_rates_view, product_view, symbol_view
from .products import QUOTE_PRODUCT_ID, Product
from .query_params import Request, hex_bytes, integer, product_ids

MAX_DEPTH: Final = 100
NOT_OFFERED: Final = frozenset(
    {"max_nlp_mintable", "max_nlp_burnable", "nlp_pool_info", "nlp_locked_balances", "list_trigger_orders"}
)


class Queries:
    """Answers queries from the state of one exchange; changes nothing.

    reported_chain_id: what the `contracts` query claims.
    """

    def __init__(self, core: Core) -> None:
        self._core = core
        self.reported_chain_id = core.config.chain_id
        self._answers: dict[str, Callable[[Request], Any]] = {
            "status": self._status,
            "contracts": self._contracts,
            "nonces": self._nonces,
            "symbols": self._symbols,
            "all_products": self._all_products,
            "edge_all_products": self._edge_all_products,
            "market_price": self._market_price,
            "market_prices": self._market_prices,
            "market_liquidity": self._market_liquidity,
            "subaccount_orders": self._subaccount_orders,
            "orders": self._orders,
            "order": self._order,
            "fee_rates": self._fee_rates,
            "health_groups": self._health_groups,
            "insurance": self._insurance,
            **AccountQueries(core).answers,
        }

    def answer(self, request: Request) -> Any:
        """`data` of the reply.

        Raises ExchangeError: 2038 for an unknown query or a bad parameter, 4001 for one not offered.
        """
        kind = str(request.get("type"))
        handler = self._answers.get(kind)
        if handler is None:
            raise ExchangeError(4001 if kind in NOT_OFFERED else MALFORMED, "unknown query")
        return handler(request)

    # ---- the exchange

    def _status(self, _: Request) -> str:
        return self._core.status

    def _contracts(self, _: Request) -> dict[str, str]:
        return {
            "chain_id": str(self.reported_chain_id),
            "endpoint_addr": self._core.config.endpoint_address,
        }

    def _nonces(self, request: Request) -> dict[str, str]:
        """order_nonce is a suggestion: as far ahead as the exchange takes it."""
        address = hex_bytes(request, "address", 20)
        recv_time_ms = self._core.clock.now_ms() + self._core.config.recv_window_ms
        return {
            "tx_nonce": str(self._core.accounts.tx_nonces.get(address, 0)),
            "order_nonce": str(recv_time_ms << 20),
        }

    def _insurance(self, _: Request) -> dict[str, str]:
        return {"insurance": str(self._core.accounts.own.insurance_x18)}

    # ---- products

    def symbols_list(self) -> list[dict[str, Any]]:
        return [
            {"product_id": p.product_id, "symbol": p.symbol, "delisted": False}
            for p in self._core.products.values()
        ]

    def _symbols(self, request: Request) -> dict[str, Any]:
        wanted = product_ids(request) if request.get("product_ids") is not None else None
        kind = request.get("product_type")
        return {
            "symbols": {
                p.symbol: symbol_view(p, self._core.accounts.states[p.product_id])
                for p in self._core.products.values()
                if p.product_id != QUOTE_PRODUCT_ID
                and (wanted is None or p.product_id in wanted)
                and kind in (None, p.kind)
            }
        }

    def _all_products(self, _: Request) -> dict[str, Any]:
        by_kind: dict[str, list[dict[str, Any]]] = {"spot": [], "perp": []}
        for product in self._core.products.values():
            view = product_view(self._core.config, product, self._core.accounts)
            by_kind[product.kind].append(view)
        return {"spot_products": by_kind["spot"], "perp_products": by_kind["perp"]}

    def _edge_all_products(self, request: Request) -> dict[str, Any]:
        """By chain; there is one."""
        return {"edge_all_products": {str(self.reported_chain_id): self._all_products(request)}}

    def _fee_rates(self, request: Request) -> dict[str, Any]:
        hex_bytes(request, "sender", 32)
        return fee_rates_view(self._core.products)

    def _health_groups(self, _: Request) -> dict[str, Any]:
        """Pairs of a spot product and the perpetual on it."""
        return {"health_groups": [list(group) for group in self._core.health.groups]}

    # ---- markets

    def _market_price(self, request: Request) -> dict[str, Any]:
        product_id = self._market(request).product_id
        bid, _, ask, _ = self._core.books[product_id].bbo()
        return {"product_id": product_id, "bid_x18": str(bid), "ask_x18": str(ask)}

    def _market_prices(self, request: Request) -> dict[str, Any]:
        return {"market_prices": [self._market_price({"product_id": pid}) for pid in product_ids(request)]}

    def _market_liquidity(self, request: Request) -> dict[str, Any]:
        """The stamp is that of the last engine step: the snapshot holds all depth changes up to it."""
        product_id = self._market(request).product_id
        depth = integer(request, "depth")
        if not 1 <= depth <= MAX_DEPTH:
            raise ExchangeError(MALFORMED, "depth")
        book = self._core.books[product_id]
        return {
            "bids": [[str(price), str(quantity)] for price, quantity in book.depth("bids", depth)],
            "asks": [[str(price), str(quantity)] for price, quantity in book.depth("asks", depth)],
            "product_id": product_id,
            "timestamp": str(self._core.last_step_ns),
        }

    # ---- orders

    def _subaccount_orders(self, request: Request) -> dict[str, Any]:
        sender = hex_bytes(request, "sender", 32)
        product_id = self._market(request).product_id
        return {"sender": sender, "product_id": product_id, "orders": self._open_orders(sender, product_id)}

    def _orders(self, request: Request) -> dict[str, Any]:
        sender = hex_bytes(request, "sender", 32)
        return {
            "sender": sender,
            "product_orders": [
                {"product_id": product_id, "orders": self._open_orders(sender, product_id)}
                for product_id in product_ids(request)
            ],
        }

    def _open_orders(self, sender: str, product_id: int) -> list[dict[str, Any]]:
        book = self._core.books.get(product_id)
        if book is None:
            raise ExchangeError(2015)
        return [order_view(self._core.config, order) for order in book.of_account(sender)]

    def _order(self, request: Request) -> dict[str, Any]:
        product_id = self._market(request).product_id
        order = self._core.books[product_id].orders.get(hex_bytes(request, "digest", 32))
        if order is None:
            raise ExchangeError(2020)
        return order_view(self._core.config, order)

    def _market(self, request: Request) -> Product:
        product_id = integer(request, "product_id")
        if product_id not in self._core.books:
            raise ExchangeError(2015)
        return self._core.products[product_id]
