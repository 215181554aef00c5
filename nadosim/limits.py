"""Rate limits (limits section of the API): what each request weighs, and who has how much left.

Executes count against the wallet, queries and archive requests against the IP address, each over a minute and
over ten seconds, HTTP and WebSocket alike. A refused request costs nothing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, Final

MINUTE_S: Final = 60.0
BURST_S: Final = 10.0
MAX_KEYS: Final = 10_000  # wallets or addresses remembered at once

_QUERY_WEIGHTS: Final[Mapping[str, int]] = {
    "status": 1,
    "contracts": 1,
    "order": 1,
    "market_liquidity": 1,
    "market_price": 1,
    "nonces": 2,
    "symbols": 2,
    "health_groups": 2,
    "insurance": 2,
    "fee_rates": 2,
    "subaccount_orders": 2,
    "all_products": 5,
    "edge_all_products": 5,
    "max_order_size": 5,
    "max_withdrawable": 5,
    "linked_signer": 5,
    "isolated_positions": 10,
    "max_nlp_mintable": 20,
    "max_nlp_burnable": 20,
    "nlp_pool_info": 20,
    "nlp_locked_balances": 20,
}
_EXECUTE_WEIGHTS: Final[Mapping[str, int]] = {
    "link_signer": 30,
    "liquidate_subaccount": 20,
    "mint_nlp": 10,
    "burn_nlp": 10,
    "transfer_quote": 10,
}


def query_weight(request: Mapping[str, Any]) -> int:
    kind = str(request.get("type"))
    if kind == "subaccount_info":
        return 15 if str(request.get("pre_state")).lower() == "true" else 10 if request.get("txns") else 2
    if kind == "orders":
        return 2 * _length(request.get("product_ids"))
    if kind == "market_prices":
        return _length(request.get("product_ids"))
    return _QUERY_WEIGHTS.get(kind, 1)


def execute_weight(name: str, body: Any) -> int:
    if not isinstance(body, Mapping):
        return 1
    match name:
        case "place_order":
            return 20 if body.get("spot_leverage") is False else 1
        case "place_orders":
            orders = body.get("orders")
            listed = orders if isinstance(orders, list) else []
            return max(1, sum(execute_weight("place_order", one) for one in listed))
        case "cancel_orders":
            return _cancel_weight(body.get("tx"), "digests", 1, 1)
        case "cancel_product_orders":
            return _cancel_weight(body.get("tx"), "productIds", 5, 50)
        case "cancel_and_place":
            cancel = _cancel_weight(body.get("cancel_tx"), "digests", 1, 1)
            return cancel + execute_weight("place_order", body.get("place_order"))
        case "withdraw_collateral" | "withdraw_collateral_v2":
            return 20 if body.get("spot_leverage") is False else 10
    return _EXECUTE_WEIGHTS.get(name, 1)


def _cancel_weight(tx: Any, key: str, each: int, none: int) -> int:
    items = tx.get(key) if isinstance(tx, Mapping) else None
    return len(items) * each if isinstance(items, list) and items else none


def archive_weight(request: Mapping[str, Any]) -> int:
    name = next(iter(request), "")
    params = request.get(name)
    fields = params if isinstance(params, Mapping) else {}
    limit, subaccounts = _count(fields.get("limit"), 100), max(1, _length(fields.get("subaccounts")))
    match name:
        case "orders":
            return 2 + limit * subaccounts // 20
        case "matches" | "events":
            return 2 + limit * subaccounts // 10
        case "candlesticks":
            return 1 + limit // 20
        case "products":
            return 10
        case "interest_and_funding":
            return 5
        case "market_snapshots":
            interval = fields.get("interval")
            wanted = _count(interval.get("count"), 1) if isinstance(interval, Mapping) else 1
            return max(wanted * _length(fields.get("product_ids")) // 100, 2)
        case "backlog":
            return 1
    return 2


def _length(items: Any) -> int:
    if isinstance(items, str):
        return max(1, items.count(",") + 1)
    return max(1, len(items)) if isinstance(items, list) else 1


def _count(value: Any, default: int) -> int:
    """A limit: a number or its text, or an object that names what is counted."""
    if isinstance(value, Mapping):
        return _count(value.get("txs", value.get("raw")), default)
    if isinstance(value, str) and value.isdecimal() and len(value) <= 9:
        value = int(value)
    is_number = isinstance(value, int) and not isinstance(value, bool)
    return max(0, min(500, value)) if is_number else default


def sender_of(name: str, body: Any) -> str | None:
    """Wallet an execute claims to come from; None if it names none."""
    if not isinstance(body, Mapping):
        return None
    if name == "place_orders":
        orders = body.get("orders")
        return sender_of("place_order", orders[0]) if isinstance(orders, list) and orders else None
    order = body.get(
        "cancel_tx" if name == "cancel_and_place" else "order" if name == "place_order" else "tx"
    )
    sender = order.get("sender") if isinstance(order, Mapping) else None
    return sender[:42].lower() if isinstance(sender, str) and len(sender) == 66 else None


@dataclass(slots=True)
class _Usage:
    """Requests of the last minute of one key."""

    spent: deque[tuple[float, int]] = field(default_factory=deque)
    minute: int = 0


class Budget:
    """Weight per minute and per ten seconds for each key, over sliding windows."""

    def __init__(
        self, per_minute: int, per_burst: int, clock_s: Callable[[], float] = monotonic, *, is_on: bool = True
    ) -> None:
        self.refused = 0
        self._per_minute = per_minute
        self._per_burst = per_burst
        self._clock_s = clock_s
        self._is_on = is_on
        self._usage: dict[str, _Usage] = {}

    def spend(self, key: str, weight: int) -> bool:
        """Whether the request may pass; if so its weight is booked."""
        if not self._is_on:
            return True
        now_s = self._clock_s()
        usage = self._current(key, now_s)
        burst = sum(cost for at_s, cost in usage.spent if at_s > now_s - BURST_S)
        if usage.minute + weight > self._per_minute or burst + weight > self._per_burst:
            self.refused += 1
            return False
        usage.spent.append((now_s, weight))
        usage.minute += weight
        return True

    def give_back(self, key: str, weight: int) -> None:
        """The newest booking of this weight was not the key's doing after all."""
        usage = self._usage.get(key)
        if usage is not None and usage.spent and usage.spent[-1][1] == weight:
            usage.spent.pop()
            usage.minute -= weight

    def _current(self, key: str, now_s: float) -> _Usage:
        usage = self._usage.get(key)
        if usage is None:
            if len(self._usage) >= MAX_KEYS:
                self._forget_idle(now_s)
            usage = self._usage[key] = _Usage()
        while usage.spent and usage.spent[0][0] <= now_s - MINUTE_S:
            usage.minute -= usage.spent.popleft()[1]
        return usage

    def _forget_idle(self, now_s: float) -> None:
        """Keys without a request in the last minute; failing that the oldest, so that memory is bounded."""
        idle = [k for k, u in self._usage.items() if not u.spent or u.spent[-1][0] <= now_s - MINUTE_S]
        for key in idle or list(self._usage)[: MAX_KEYS // 10]:
            del self._usage[key]


class Limits:
    """The three budgets of the exchange."""

    def __init__(self, *, is_on: bool = True, clock_s: Callable[[], float] = monotonic) -> None:
        self.executes = Budget(600, 100, clock_s, is_on=is_on)
        self.queries = Budget(2400, 400, clock_s, is_on=is_on)
        self.archive = Budget(2400, 400, clock_s, is_on=is_on)

    @property
    def refused(self) -> dict[str, int]:
        return {
            "executes": self.executes.refused,
            "queries": self.queries.refused,
            "archive": self.archive.refused,
        }
