"""Faults of the exchange itself: what it claims to be, and what happens when it is told to fall over."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from .exchange import Exchange
from .fault_catalog import Act
from .faults import Faults, Rule
from .params import BadFault
from .streams import StreamHub
from .switches import Switchboard


class Lies:
    """Lets the exchange claim what the standing faults say, and the truth again once they are over."""

    def __init__(self, faults: Faults, exchange: Exchange) -> None:
        self._faults = faults
        self._exchange = exchange
        self._switches = Switchboard(faults, exchange.config)

    def impose(self) -> None:
        faults, exchange = self._faults, self._exchange
        exchange.status = faults.status
        self._switches.impose()
        chain, clock = faults.standing("chain_id"), faults.standing("clock_offset")
        exchange.reported_chain_id = chain.value["id"] if chain is not None else exchange.config.chain_id
        exchange.clock.offset_ns = int(clock.value["ms"] * 1_000_000) if clock is not None else 0


class Accidents:
    """Faults that act at once. cut, half_open: what to do to the sockets a rule concerns."""

    def __init__(
        self,
        exchange: Exchange,
        hub: StreamHub,
        *,
        cut: Callable[[Rule], None],
        half_open: Callable[[Rule], None],
    ) -> None:
        self._exchange = exchange
        self._hub = hub
        self._cut = cut
        self._half_open = half_open

    def actions(self) -> Mapping[str, Act]:
        return {
            "cut": self._cut,
            "half_open": self._half_open,
            "liquidate": self._liquidate,
            "funding": lambda _: self._exchange.settle_funding(),
            "maintenance": self._stop_trading,
            "restart": self._restart,
            "stale_snapshot": self._remember_books,
        }

    def check(self, rule: Rule) -> None:
        """Raises BadFault for an account that is not there: taking it over would be nothing, silently."""
        if rule.name != "liquidate":
            return
        account = self._exchange.accounts.find(rule.value["subaccount"].lower())
        if account is None or account.is_house:
            raise BadFault(f"liquidate.subaccount: no account {rule.value['subaccount']!r}")

    def _stop_trading(self, rule: Rule) -> None:
        self._cut(Rule("cut", {"how": "close"}))

    def _liquidate(self, rule: Rule) -> None:
        self._exchange.seize(rule.value["subaccount"], rule.product_id)

    def _restart(self, rule: Rule) -> None:
        """Balances survive; resting orders if the rule says so; subscribers and the depth chain do not."""
        if rule.value["orders"] == "wiped":
            self._exchange.wipe_orders()
        self._hub.restart()
        self._cut(Rule("cut", {"how": "rst"}))

    def _remember_books(self, rule: Rule) -> None:
        ask: dict[str, Any] = {"type": "market_liquidity", "depth": 100}
        rule.value["_books"] = {
            product_id: self._exchange.query({**ask, "product_id": product_id})
            for product_id in self._exchange.books
        }
