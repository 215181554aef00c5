"""A running exchange to be refused by, and the register of cases.

A case is a coroutine that returns the code it was refused with; its switches are fields of ExchangeConfig.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from simcore import (
    ETH,
    HOUSE,
    IOC,
    Trader,
    x18,
)
from wireclient import Client

from nadosim.app import SimServer
from nadosim.x18 import ONE

UNKNOWN = "0x" + "11" * 32
Cause = Callable[["Env"], Awaitable[int]]


class Env:
    """One running exchange with frozen books around 3000, a client, and wallets."""

    def __init__(self, server: SimServer, client: Client) -> None:
        self.server = server
        self.exchange = server.exchange
        self.client = client
        self.trader = self.wallet(1)

    def wallet(self, number: int, deposit: int = 50_000) -> Trader:
        return Trader(self.server, number, deposit)  # type: ignore[arg-type]

    async def execute(self, name: str, body: Any) -> int:
        """Code of the reply, 0 if it is a success."""
        _, reply = await self.client.post("/execute", {name: body})
        assert reply["request_type"] == f"execute_{name}"
        return int(reply.get("error_code", 0))

    async def place(self, *args: Any, **fields: Any) -> int:
        return await self.execute("place_order", self.trader.order(*args, **fields))

    async def rest(self, *args: Any, **fields: Any) -> str:
        """Digest of an order that now rests."""
        _, reply = await self.client.post("/execute", {"place_order": self.trader.order(*args, **fields)})
        digest: str = reply["data"]["digest"]
        return digest

    async def query(self, **fields: Any) -> int:
        _, reply = await self.client.post("/query", fields)
        return int(reply.get("error_code", 0))

    async def archive(self, **request: Any) -> int:
        _, reply = await self.client.post("", request, base="archive")
        assert "status" not in reply
        return int(reply.get("error_code", 0))

    def replace(self, digest: str, place: dict[str, Any], **extra: Any) -> dict[str, Any]:
        tx, signature = self.trader.cancel_tx(digest)
        return {"cancel_tx": tx, "cancel_signature": signature, "place_order": place, **extra}

    async def sicken(self) -> Trader:
        """A wallet whose maintenance health is negative."""
        sick = self.wallet(5, deposit=200)
        ask = self.exchange.bbo(ETH)[2]
        self.exchange.house_place(HOUSE, ETH, ask, -2 * ONE, 0)
        assert await self.execute("place_order", sick.order("buy", str(ask / ONE), "2", IOC)) == 0
        self.exchange.accounts.states[ETH].oracle_price_x18 = x18("2930")
        return sick

    async def liquidate(self, whom: str, product_id: int, amount_x18: int, who: Trader | None = None) -> int:
        request = (who or self.trader).liquidate(whom, product_id, amount_x18)
        return await self.execute("liquidate_subaccount", request)


@dataclass(frozen=True)
class Case:
    code: int
    cause: Cause
    options: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.code}-{self.cause.__name__.strip('_')}"


CASES: list[Case] = []


def case(code: int, **options: Any) -> Callable[[Cause], Cause]:
    def note(cause: Cause) -> Cause:
        CASES.append(Case(code, cause, options))
        return cause

    return note


def order(code: int, name: str, *args: Any, switches: dict[str, Any] | None = None, **fields: Any) -> None:
    """A case that one order on fresh books is enough for."""

    async def cause(env: Env) -> int:
        return await env.place(*args, **fields)

    cause.__name__ = name
    case(code, **({"switches": switches} if switches else {}))(cause)


def switches(**values: Any) -> dict[str, Any]:
    return {"switches": values}
