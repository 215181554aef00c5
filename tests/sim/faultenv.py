"""What the cases of faults share: their table, the orders they send, a trade that everybody sees."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from simcore import ETH, IOC, POST_ONLY, Trader
from wireclient import Client

from nadosim.app import SimServer
from nadosim.steps import Step

Way = Callable[[Client, SimServer, Trader], Awaitable[None]]
WAYS: dict[str, list[Way]] = {}


def way(name: str) -> Callable[[Way], Way]:
    """Registers a test of one fault; the table must cover the catalogue."""

    def register(function: Way) -> Way:
        WAYS.setdefault(name, []).append(function)
        return function

    return register


def ioc(trader: Trader, **fields: Any) -> dict[str, Any]:
    return {"place_order": trader.order("buy", "3010", "0.1", IOC, **fields)}


def resting(trader: Trader, price: str = "2900", **fields: Any) -> dict[str, Any]:
    return {"place_order": trader.order("buy", price, "0.1", POST_ONLY, **fields)}


def publish(server: SimServer, number: int, product_id: int = ETH) -> None:
    """One trade everybody sees; its timestamp is its number."""
    event = {"type": "trade", "timestamp": str(number), "product_id": product_id, "price": str(10**21)}
    event.update(taker_qty=str(10**18), maker_qty=str(10**18), is_taker_buyer=True)
    server.hub.on_step(Step(number, trades=[event]))
