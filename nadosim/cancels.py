"""Executes that take orders off the book: cancel_orders, cancel_product_orders."""

from __future__ import annotations

from typing import Any

from .core import Core
from .engine import Order
from .errors import ExchangeError
from .order_views import order_view
from .requests import CancelRequest, parse_cancel, parse_cancel_products


class Cancels:
    """Cancels are never held."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def cancel_orders(self, request: object) -> dict[str, Any]:
        """2020 if an order does not rest, 2124 if it has traded since; for the others see mixed_cancel."""
        core = self._core
        record = core.history.executed(core.clock.now_ns(), "cancel_orders")
        with core.outcome(record, is_last=True):
            core.require_active()
            cancel = parse_cancel(request)
            record.sender, record.digests = cancel.sender, cancel.digests
            self.check(cancel)
            with core.step():
                return {"cancelled_orders": self._cancel_list(cancel)}

    def cancel_product_orders(self, request: object) -> dict[str, Any]:
        """Every resting order of the sender in these products, in all products if none is named."""
        core = self._core
        record = core.history.executed(core.clock.now_ns(), "cancel_product_orders")
        with core.outcome(record, is_last=True):
            core.require_active()
            cancel = parse_cancel_products(request)
            record.sender = cancel.sender
            digest = core.checks.verifier.cancel_products_digest(cancel)
            core.checks.envelope(digest, cancel.signature, cancel.sender, cancel.nonce)
            core.checks.product_ids(cancel.product_ids)
            with core.step():
                product_ids = dict.fromkeys(cancel.product_ids or core.books)
                found = [o for pid in product_ids for o in core.books[pid].of_account(cancel.sender)]
                return {"cancelled_orders": self._take_off(found)}

    def check(self, cancel: CancelRequest) -> str:
        """Checks of a cancel that need no book; returns the signer."""
        checks = self._core.checks
        if len(cancel.product_ids) != len(cancel.digests):
            raise ExchangeError(2039)
        digest = checks.verifier.cancel_digest(cancel)
        signer = checks.envelope(digest, cancel.signature, cancel.sender, cancel.nonce)
        checks.product_ids(cancel.product_ids)
        if cancel.required_unfilled_x18 is not None and len(cancel.digests) != 1:
            raise ExchangeError(2123)
        return signer

    def find(self, cancel: CancelRequest) -> list[Order]:
        """All orders the cancel names. Raises ExchangeError if one of them cannot be cancelled."""
        found, error = self._split(cancel)
        if error is not None:
            raise error
        return found

    def _cancel_list(self, cancel: CancelRequest) -> list[dict[str, Any]]:
        config = self._core.config
        if not cancel.digests and config.empty_cancel == "reject":
            raise ExchangeError(2020)
        found, error = self._split(cancel)
        if error is None or config.mixed_cancel == "cancel_good":
            if error is not None and not found:
                raise error
            return self._take_off(found)
        if config.mixed_cancel == "cancel_then_fail":
            self._take_off(found)
        raise error

    def _split(self, cancel: CancelRequest) -> tuple[list[Order], ExchangeError | None]:
        """The orders that can be cancelled, and what is wrong with the first that cannot."""
        found: dict[str, Order] = {}
        first_error: ExchangeError | None = None
        for product_id, digest in zip(cancel.product_ids, cancel.digests, strict=True):
            order = self._core.books[product_id].orders.get(digest)
            code = _refusal(order, cancel) if digest not in found else 2020
            if code == 0 and order is not None:
                found[digest] = order
            elif first_error is None:
                first_error = ExchangeError(code)
        return list(found.values()), first_error

    def _take_off(self, orders: list[Order]) -> list[dict[str, Any]]:
        self._core.cancel(orders)
        return [order_view(self._core.config, order) for order in orders]


def _refusal(order: Order | None, cancel: CancelRequest) -> int:
    if order is None:
        return 2020
    if order.account.id != cancel.sender:
        return 2014
    if cancel.required_unfilled_x18 not in (None, order.unfilled_x18):
        return 2124
    return 0
