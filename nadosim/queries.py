"""Gateway queries: plain data in the field types of the API (numbers for ids, strings for wide integers)."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from .accounts import ZERO_ADDRESS, Subaccount
from .engine import Order
from .errors import ExchangeError
from .health import NO_CHANGES, Change, Margin
from .product_views import fee_rates_view, product_view, symbol_view
from .products import QUOTE_PRODUCT_ID, Product
from .x18 import NS_PER_S, mul_x18

if TYPE_CHECKING:
    from .exchange import Exchange

MAX_DEPTH: Final = 100
MALFORMED: Final = 2038
Request = Mapping[str, Any]


class Queries:
    """Answers queries from the state of one exchange; changes nothing."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._answers: dict[str, Callable[[Request], Any]] = {
            "status": self._status,
            "contracts": self._contracts,
            "nonces": self._nonces,
            "symbols": self._symbols,
            "all_products": self._all_products,
            "market_price": self._market_price,
            "market_prices": self._market_prices,
            "market_liquidity": self._market_liquidity,
            "subaccount_info": self._subaccount_info,
            "isolated_positions": self._isolated_positions,
            "subaccount_orders": self._subaccount_orders,
            "orders": self._orders,
            "order": self._order,
            "max_order_size": self._max_order_size,
            "max_withdrawable": self._max_withdrawable,
            "fee_rates": self._fee_rates,
            "health_groups": self._health_groups,
            "linked_signer": self._linked_signer,
        }

    def answer(self, request: Request) -> Any:
        """`data` of the reply. Raises ExchangeError: 2038 for an unknown query or a bad parameter."""
        handler = self._answers.get(str(request.get("type")))
        if handler is None:
            raise ExchangeError(MALFORMED, "unknown query")
        return handler(request)

    # ---- the exchange

    def _status(self, _: Request) -> str:
        return self._exchange.status

    def _contracts(self, _: Request) -> dict[str, str]:
        return {
            "chain_id": str(self._exchange.reported_chain_id),
            "endpoint_addr": self._exchange.config.endpoint_address,
        }

    def _nonces(self, request: Request) -> dict[str, str]:
        """order_nonce is a suggestion: as far ahead as the exchange takes it."""
        address = _hex(request, "address", 20)
        recv_time_ms = self._exchange.clock.now_ms() + self._exchange.config.recv_window_ms
        return {
            "tx_nonce": str(self._exchange.accounts.tx_nonces.get(address, 0)),
            "order_nonce": str(recv_time_ms << 20),
        }

    # ---- products

    def symbols_list(self) -> list[dict[str, Any]]:
        return [
            {"product_id": p.product_id, "symbol": p.symbol, "delisted": False}
            for p in self._exchange.products.values()
        ]

    def _symbols(self, request: Request) -> dict[str, Any]:
        wanted = _product_ids(request) if request.get("product_ids") is not None else None
        kind = request.get("product_type")
        return {
            "symbols": {
                p.symbol: symbol_view(p, self._exchange.accounts.states[p.product_id])
                for p in self._exchange.products.values()
                if p.product_id != QUOTE_PRODUCT_ID
                and (wanted is None or p.product_id in wanted)
                and kind in (None, p.kind)
            }
        }

    def _all_products(self, _: Request) -> dict[str, Any]:
        return {"spot_products": self._products_of("spot"), "perp_products": self._products_of("perp")}

    def _products_of(self, kind: str) -> list[dict[str, Any]]:
        states = self._exchange.accounts.states
        return [
            product_view(p, states[p.product_id]) for p in self._exchange.products.values() if p.kind == kind
        ]

    def _fee_rates(self, request: Request) -> dict[str, Any]:
        _hex(request, "sender", 32)
        return fee_rates_view(self._exchange.products)

    def _health_groups(self, _: Request) -> dict[str, Any]:
        """Pairs of a spot product and its perpetual: no such spot product is listed."""
        return {"health_groups": []}

    # ---- markets

    def _market_price(self, request: Request) -> dict[str, Any]:
        product_id = self._market(request).product_id
        bid, _, ask, _ = self._exchange.bbo(product_id)
        return {"product_id": product_id, "bid_x18": str(bid), "ask_x18": str(ask)}

    def _market_prices(self, request: Request) -> dict[str, Any]:
        return {"market_prices": [self._market_price({"product_id": pid}) for pid in _product_ids(request)]}

    def _market_liquidity(self, request: Request) -> dict[str, Any]:
        """The stamp is that of the last engine step: the snapshot holds all depth changes up to it."""
        product_id = self._market(request).product_id
        depth = _integer(request, "depth")
        if not 1 <= depth <= MAX_DEPTH:
            raise ExchangeError(MALFORMED, "depth")
        bids, asks = self._exchange.depth(product_id, depth)
        return {
            "bids": [[str(price), str(quantity)] for price, quantity in bids],
            "asks": [[str(price), str(quantity)] for price, quantity in asks],
            "product_id": product_id,
            "timestamp": str(self._exchange.last_step_ns),
        }

    # ---- orders

    def _subaccount_orders(self, request: Request) -> dict[str, Any]:
        sender = _hex(request, "sender", 32)
        product_id = self._market(request).product_id
        return {"sender": sender, "product_id": product_id, "orders": self._open_orders(sender, product_id)}

    def _orders(self, request: Request) -> dict[str, Any]:
        sender = _hex(request, "sender", 32)
        return {
            "sender": sender,
            "product_orders": [
                {"product_id": product_id, "orders": self._open_orders(sender, product_id)}
                for product_id in _product_ids(request)
            ],
        }

    def _open_orders(self, sender: str, product_id: int) -> list[dict[str, Any]]:
        book = self._exchange.books.get(product_id)
        if book is None:
            raise ExchangeError(2015)
        return [order_view(order) for order in book.of_account(sender)]

    def _order(self, request: Request) -> dict[str, Any]:
        product_id = self._market(request).product_id
        order = self._exchange.books[product_id].orders.get(_hex(request, "digest", 32))
        if order is None:
            raise ExchangeError(2020)
        return order_view(order)

    # ---- accounts

    def _subaccount_info(self, request: Request) -> dict[str, Any]:
        subaccount = _hex(request, "subaccount", 32)
        account = self._exchange.accounts.find(subaccount) or Subaccount(subaccount)
        changes = _apply_deltas(request.get("txns"), subaccount)
        balances = self._balances(account, changes)
        info: dict[str, Any] = {
            "subaccount": subaccount,
            "exists": account.exists,
            **balances,
            "spot_count": len(balances["spot_balances"]),
            "perp_count": len(balances["perp_balances"]),
            "spot_products": self._products_of("spot"),
            "perp_products": self._products_of("perp"),
        }
        if _flag(request, "pre_state"):
            info["pre_state"] = self._balances(account, NO_CHANGES)
        return info

    def _balances(self, account: Subaccount, changes: Mapping[int, Change]) -> dict[str, Any]:
        """Healths and balances; `changes` are applied on top."""
        rules = self._exchange.health
        by_margin = [rules.contributions_x18(account, margin, changes) for margin in Margin]
        slots = range(max(self._exchange.products) + 1)
        return {
            "healths": [_health_view(contributions) for contributions in by_margin],
            "health_contributions": [[str(c.get(pid, 0)) for c in by_margin] for pid in slots],
            "spot_balances": [
                {
                    "product_id": QUOTE_PRODUCT_ID,
                    "balance": {"amount": str(account.quote_x18 + _base(changes, QUOTE_PRODUCT_ID))},
                }
            ],
            "perp_balances": [
                self._perp_balance(account, p.product_id, changes)
                for p in self._exchange.products.values()
                if p.is_perp
            ],
        }

    def _perp_balance(
        self, account: Subaccount, product_id: int, changes: Mapping[int, Change]
    ) -> dict[str, Any]:
        balance = self._exchange.accounts.effective(account, product_id)
        change = changes.get(product_id, Change(0, 0))
        return {
            "product_id": product_id,
            "balance": {
                "amount": str(balance.amount_x18 + change.base_x18),
                "v_quote_balance": str(balance.v_quote_x18 + change.quote_x18),
                "last_cumulative_funding_x18": str(balance.last_cumulative_funding_x18),
            },
        }

    def _isolated_positions(self, request: Request) -> dict[str, Any]:
        """Isolated margin is not offered, so there is never one."""
        _hex(request, "subaccount", 32)
        return {"isolated_positions": []}

    def _linked_signer(self, request: Request) -> dict[str, str]:
        account = self._exchange.accounts.find(_hex(request, "subaccount", 32))
        return {"linked_signer": account.linked_signer if account is not None else ZERO_ADDRESS}

    def _max_withdrawable(self, request: Request) -> dict[str, str]:
        """What may leave without initial health turning negative; never more than the USDT0 balance."""
        account = self._exchange.accounts.find(_hex(request, "sender", 32))
        if account is None or _integer(request, "product_id") != QUOTE_PRODUCT_ID:
            return {"max_withdrawable": "0"}
        health = self._exchange.health.health_x18(account, Margin.INITIAL)
        return {"max_withdrawable": str(max(0, min(account.quote_x18, health)))}

    def _max_order_size(self, request: Request) -> dict[str, str]:
        sender, product = _hex(request, "sender", 32), self._market(request)
        price_x18 = _integer(request, "price_x18")
        direction = request.get("direction")
        if direction not in ("long", "short") or price_x18 <= 0:
            raise ExchangeError(MALFORMED, "direction, price_x18")
        account = self._exchange.accounts.find(sender)
        if account is None:
            return {"max_order_size": "0"}
        unit = 1 if direction == "long" else -1
        if _flag(request, "reduce_only"):
            position = self._exchange.accounts.position_x18(account, product.product_id)
            return {"max_order_size": str(max(0, -unit * position))}
        return {"max_order_size": str(self._largest(account, product, unit, price_x18))}

    def _largest(self, account: Subaccount, product: Product, unit: int, price_x18: int) -> int:
        """Largest size, in whole increments, that leaves initial health ≥ 0; found by bisection."""

        def fits(steps: int) -> bool:
            base = unit * steps * product.size_increment_x18
            change = Change(base, -mul_x18(base, price_x18))
            return self._exchange.health.allows(account, product.product_id, change)

        low, high = 0, 1
        while fits(high) and high < 1 << 80:
            low, high = high, high * 2
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if fits(middle) else (low, middle)
        return low * product.size_increment_x18

    def _market(self, request: Request) -> Product:
        product_id = _integer(request, "product_id")
        if product_id not in self._exchange.books:
            raise ExchangeError(2015)
        return self._exchange.products[product_id]


def order_view(order: Order) -> dict[str, Any]:
    """Order object of queries and cancel replies. `id` only if the client gave one."""
    view: dict[str, Any] = {
        "product_id": order.product_id,
        "sender": order.account.id,
        "price_x18": str(order.price_x18),
        "amount": str(order.amount_x18),
        "expiration": str(order.expiration_s),
        "order_type": order.order_type.wire_name,
        "nonce": str(order.nonce),
        "unfilled_amount": str(order.unfilled_x18),
        "digest": order.digest,
        "appendix": str(order.appendix),
        "placed_at": order.placed_ns // NS_PER_S,
    }
    if order.client_id is not None:
        view["id"] = order.client_id
    return view


def _health_view(contributions: Mapping[int, int]) -> dict[str, str]:
    assets = sum(c for c in contributions.values() if c > 0)
    liabilities = -sum(c for c in contributions.values() if c < 0)
    return {"assets": str(assets), "liabilities": str(liabilities), "health": str(assets - liabilities)}


def _base(changes: Mapping[int, Change], product_id: int) -> int:
    change = changes.get(product_id)
    return change.base_x18 if change is not None else 0


def _apply_deltas(txns: object, subaccount: str) -> Mapping[int, Change]:
    """Simulated changes of `subaccount_info`: a JSON text of [{"apply_delta": {...}}]."""
    if txns is None:
        return NO_CHANGES
    changes: dict[int, Change] = {}
    try:
        for tx in json.loads(str(txns)):
            delta = tx["apply_delta"]
            if str(delta["subaccount"]).lower() != subaccount:
                continue
            before = changes.get(int(delta["product_id"]), Change(0, 0))
            changes[int(delta["product_id"])] = Change(
                before.base_x18 + int(delta["amount_delta"]), before.quote_x18 + int(delta["v_quote_delta"])
            )
    except (KeyError, TypeError, ValueError, OverflowError, RecursionError):
        raise ExchangeError(MALFORMED, "txns") from None
    return changes


def _integer(request: Request, name: str) -> int:
    value = request.get(name)
    if isinstance(value, str) and len(value) <= 40:
        try:
            return int(value)
        except ValueError:
            raise ExchangeError(MALFORMED, name) from None
    if not isinstance(value, int) or isinstance(value, bool):
        raise ExchangeError(MALFORMED, name)
    return value


def _product_ids(request: Request) -> list[int]:
    """A list, or the text of one as a URL parameter: `[4,8]` or `4,8`."""
    value = request.get("product_ids")
    if isinstance(value, str):
        value = [part for part in value.strip("[]").replace(" ", "").split(",") if part]
    if not isinstance(value, list):
        raise ExchangeError(MALFORMED, "product_ids")
    return [_integer({"product_ids": item}, "product_ids") for item in value]


def _hex(request: Request, name: str, size: int) -> str:
    value = request.get(name)
    if not isinstance(value, str) or len(value) != 2 + 2 * size or not value.startswith("0x"):
        raise ExchangeError(MALFORMED, name)
    return value.lower()


def _flag(request: Request, name: str) -> bool:
    """Booleans of queries travel as the strings `true` and `false`."""
    return str(request.get(name, "false")).lower() == "true"
