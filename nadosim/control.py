"""The exchange's own door for tests and oracles: the truth, its health, and its misbehaviour.

`GET /sim/state`: every order, fill, balance and execute of real accounts. `GET /sim/health`: counters.
`POST /sim/faults`: see `fault_catalog`; `GET` shows what is on and how often it struck.
None of this exists on the real exchange, and nothing a trading
client does depends on it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import orjson
from aiohttp import web

from . import fault_catalog
from .exchange import Exchange
from .fault_catalog import Act
from .fault_state import Lies
from .faults import Faults
from .messages import Malformed, decode
from .params import BadFault


class Control:
    """actions, check_first: see `fault_catalog.apply`. health: counters of the whole process."""

    def __init__(
        self,
        exchange: Exchange,
        faults: Faults,
        lies: Lies,
        *,
        actions: Mapping[str, Act],
        check_first: Act,
        health: Callable[[], dict[str, Any]],
    ) -> None:
        self._exchange = exchange
        self._faults = faults
        self._actions = actions
        self._check_first = check_first
        self._lies = lies
        self._health = health

    def routes(self) -> list[web.AbstractRouteDef]:
        return [
            web.get("/sim/state", self.state),
            web.get("/sim/health", self.health),
            web.get("/sim/faults", self.show_faults),
            web.post("/sim/faults", self.set_faults),
        ]

    async def state(self, request: web.Request) -> web.Response:
        exchange = self._exchange
        return _json(
            {
                "orders": exchange.orders_state(),
                "fills": exchange.fills_state(),
                "balances": exchange.balances_state(),
                "executes": exchange.executes_state(),
            }
        )

    async def health(self, request: web.Request) -> web.Response:
        return _json(self._health())

    async def show_faults(self, request: web.Request) -> web.Response:
        return _json(self._faults.snapshot())

    async def set_faults(self, request: web.Request) -> web.Response:
        """Switch faults on or off; 400 with a reason if the request cannot be understood."""
        try:
            self.strike(decode(await request.read()))
        except (Malformed, BadFault) as error:
            return _json({"error": str(error)}, status=400)
        return _json(self._faults.snapshot())

    def strike(self, request: Mapping[str, Any]) -> None:
        """Carry out one fault request. Raises BadFault."""
        fault_catalog.apply(self._faults, request, self._actions, self._check_first)
        self._lies.impose()


def _json(value: Any, status: int = 200) -> web.Response:
    body = orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS)
    return web.Response(body=body, status=status, content_type="application/json")
