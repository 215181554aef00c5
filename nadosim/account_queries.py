"""Gateway queries about subaccounts: balances, healths, and what they allow."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, Final

from .accounts import ZERO_ADDRESS, Subaccount
from .core import Core
from .engine import Order
from .errors import ExchangeError
from .fields import MALFORMED, lenient_int
from .health import NO_CHANGES, Change, Margin
from .product_views import product_view
from .products import QUOTE_PRODUCT_ID, Product
from .query_params import Request, flag, hex_bytes, integer
from .requests import OrderType
from .x18 import INT128_MAX, INT128_MIN, ONE, div_x18, mul_x18

MAX_STEPS: Final = 1 << 80


class AccountQueries:
    """answers: handler of each query by its type."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self.answers: dict[str, Callable[[Request], Any]] = {
            "subaccount_info": self._subaccount_info,
            "isolated_positions": self._isolated_positions,
            "linked_signer": self._linked_signer,
            "max_order_size": self._max_order_size,
            "max_withdrawable": self._max_withdrawable,
        }

    # ---- balances

    def _subaccount_info(self, request: Request) -> dict[str, Any]:
        subaccount = hex_bytes(request, "subaccount", 32)
        account = self._core.accounts.find(subaccount) or Subaccount(subaccount)
        changes = self._apply_deltas(request.get("txns"), subaccount)
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
        if flag(request, "pre_state"):
            info["pre_state"] = self._balances(account, NO_CHANGES)
        return info

    def _balances(self, account: Subaccount, changes: Mapping[int, Change]) -> dict[str, Any]:
        """Healths and balances; `changes` are applied on top."""
        rules = self._core.health
        by_margin = [rules.contributions_x18(account, margin, changes) for margin in Margin]
        slots = range(max(self._core.products) + 1)
        return {
            "healths": [_health_view(contributions) for contributions in by_margin],
            "health_contributions": [[str(c.get(pid, 0)) for c in by_margin] for pid in slots],
            "spot_balances": [
                _spot_balance(account, product_id, _base(changes, product_id))
                for product_id, product in self._core.products.items()
                if not product.is_perp
            ],
            "perp_balances": [
                self._perp_balance(account, product_id, changes)
                for product_id, product in self._core.products.items()
                if product.is_perp
            ],
        }

    def _perp_balance(
        self, account: Subaccount, product_id: int, changes: Mapping[int, Change] = NO_CHANGES
    ) -> dict[str, Any]:
        balance = self._core.accounts.effective(account, product_id)
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
        parent = self._core.accounts.find(hex_bytes(request, "subaccount", 32))
        accounts = parent.isolated.values() if parent is not None else ()
        return {"isolated_positions": [self._isolated_position(account) for account in accounts]}

    def _isolated_position(self, account: Subaccount) -> dict[str, Any]:
        product_id = account.product_id
        assert product_id is not None
        by_margin = [self._core.health.contributions_x18(account, margin) for margin in Margin]
        return {
            "subaccount": account.id,
            "quote_balance": _spot_balance(account, QUOTE_PRODUCT_ID),
            "base_balance": self._perp_balance(account, product_id),
            "quote_product": self._product(QUOTE_PRODUCT_ID),
            "base_product": self._product(product_id),
            "healths": [_health_view(contributions) for contributions in by_margin],
            "quote_healths": [str(c[QUOTE_PRODUCT_ID]) for c in by_margin],
            "base_healths": [str(c.get(product_id, 0)) for c in by_margin],
        }

    def _linked_signer(self, request: Request) -> dict[str, str]:
        account = self._core.accounts.find(hex_bytes(request, "subaccount", 32))
        return {"linked_signer": account.owner.linked_signer if account is not None else ZERO_ADDRESS}

    # ---- what may be done

    def _max_withdrawable(self, request: Request) -> dict[str, str]:
        """What may leave without initial health turning negative, the fee set aside.

        With spot leverage a loan may be taken for it, else no more than the balance. 2018 for a perpetual.
        """
        account = self._core.accounts.find(hex_bytes(request, "sender", 32))
        product = self._core.products.get(integer(request, "product_id"))
        if product is None or product.is_perp:
            raise ExchangeError(2018)
        if account is None:
            return {"max_withdrawable": "0"}
        balance = account.spot_x18(product.product_id)
        borrows = flag(request, "spot_leverage", default=True) and product.product_id != QUOTE_PRODUCT_ID
        largest = self._largest_withdrawal(account, product, None if borrows else balance)
        return {"max_withdrawable": str(max(0, largest - product.withdraw_fee_x18))}

    def _largest_withdrawal(self, account: Subaccount, product: Product, balance_x18: int | None) -> int:
        """In whole units of the token; balance_x18 bounds it when no loan is to be taken."""
        unit = 10 ** (18 - product.token_decimals)

        def fits(units: int) -> bool:
            changes = {product.product_id: Change(-units * unit, 0)}
            is_held = balance_x18 is None or units * unit <= balance_x18
            return is_held and self._core.health.health_x18(account, Margin.INITIAL, changes) >= 0

        return _bisect(fits) * int(unit)

    def _max_order_size(self, request: Request) -> dict[str, str]:
        sender, product = hex_bytes(request, "sender", 32), self._market(request)
        price_x18 = integer(request, "price_x18")
        direction = request.get("direction")
        if direction not in ("long", "short") or price_x18 <= 0:
            raise ExchangeError(MALFORMED, "direction, price_x18")
        is_isolated = flag(request, "isolated")
        if is_isolated and not product.is_perp:
            raise ExchangeError(2083)
        account = self._core.accounts.find(sender)
        if account is None:
            return {"max_order_size": "0"}
        unit = 1 if direction == "long" else -1
        probe = Order(
            digest="",
            product_id=product.product_id,
            account=account,
            price_x18=price_x18,
            amount_x18=unit,
            remaining_x18=1,
            order_type=OrderType.DEFAULT,
            reduce_only=False,
            expiration_s=0,
            nonce=0,
            appendix=1,
            placed_ns=0,
            is_isolated=is_isolated,
            may_borrow=flag(request, "spot_leverage", default=True)
            and flag(request, "borrow_margin", default=True),
        )
        if flag(request, "reduce_only"):
            closing = max(0, -unit * self._core.isolated.position_x18(probe))
            return {"max_order_size": str(closing - closing % product.size_increment_x18)}
        return {"max_order_size": str(self._largest_order(probe, product))}

    def _largest_order(self, probe: Order, product: Product) -> int:
        """Largest size, in whole increments, that the account could bear."""
        step, unit = product.size_increment_x18, probe.amount_x18

        def fits(steps: int) -> bool:
            base = unit * steps * step
            quote = -mul_x18(base, probe.price_x18)
            if probe.is_isolated:
                probe.margin_x18 = _margin_x18(product, base, probe.price_x18)
            return self._core.isolated.refusal(probe, Change(base, quote)) == 0

        return _bisect(fits) * step

    # ---- inside

    def _apply_deltas(self, txns: object, subaccount: str) -> Mapping[int, Change]:
        """Simulated changes of `subaccount_info`: a JSON text of [{"apply_delta": {...}}]."""
        if txns is None:
            return NO_CHANGES
        changes: dict[int, Change] = {}
        try:
            for tx in json.loads(str(txns)):
                delta = tx["apply_delta"]
                product_id = int(delta["product_id"])
                if str(delta["subaccount"]).lower() != subaccount:
                    continue
                if product_id not in self._core.products:
                    raise ExchangeError(2015)
                before = changes.get(product_id, Change(0, 0))
                changes[product_id] = Change(
                    before.base_x18 + lenient_int(delta["amount_delta"], INT128_MIN, INT128_MAX, "txns"),
                    before.quote_x18 + lenient_int(delta["v_quote_delta"], INT128_MIN, INT128_MAX, "txns"),
                )
        except (KeyError, TypeError, ValueError, OverflowError, RecursionError):
            raise ExchangeError(MALFORMED, "txns") from None
        return changes

    def _product(self, product_id: int) -> dict[str, Any]:
        return product_view(self._core.config, self._core.products[product_id], self._core.accounts)

    def _products_of(self, kind: str) -> list[dict[str, Any]]:
        return [self._product(pid) for pid, product in self._core.products.items() if product.kind == kind]

    def _market(self, request: Request) -> Product:
        product_id = integer(request, "product_id")
        if product_id not in self._core.books:
            raise ExchangeError(2015)
        return self._core.products[product_id]


def _bisect(fits: Callable[[int], bool]) -> int:
    """Largest n with fits(n), if fits is true up to a point and false beyond."""
    low, high = 0, 1
    while fits(high) and high < MAX_STEPS:
        low, high = high, high * 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def _margin_x18(product: Product, base_x18: int, price_x18: int) -> int:
    """Margin an isolated order of this size needs at the highest leverage, a little on top."""
    notional = mul_x18(abs(base_x18), price_x18)
    return div_x18(mul_x18(notional, ONE - product.long_weight_initial_x18), ONE - ONE // 100)


def _spot_balance(account: Subaccount, product_id: int, change_x18: int = 0) -> dict[str, Any]:
    amount = account.spot_x18(product_id) + change_x18
    return {"product_id": product_id, "balance": {"amount": str(amount)}}


def _health_view(contributions: Mapping[int, int]) -> dict[str, str]:
    assets = sum(c for c in contributions.values() if c > 0)
    liabilities = -sum(c for c in contributions.values() if c < 0)
    return {"assets": str(assets), "liabilities": str(liabilities), "health": str(assets - liabilities)}


def _base(changes: Mapping[int, Change], product_id: int) -> int:
    change = changes.get(product_id)
    return change.base_x18 if change is not None else 0
