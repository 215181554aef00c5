"""An exchange by hand: every way into it answers what a test says, and everything asked is recorded."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from clientkit import FAST_LINK, sample

from nadofast import (
    GatewayConfig,
    Network,
    OrderGateway,
    OrderRequest,
    OrderType,
    Rest,
    Signer,
    TimeSample,
    TimeSync,
    parse_symbols,
    to_x18,
)
from nadofast.resolver import ResolverConfig

Reply = dict[str, Any] | str | web.Response | None
"""A JSON object, raw text, a whole response, or silence."""

PRODUCTS = parse_symbols(sample("query_symbols")["response"]["data"])
SIGNER = Signer("0x" + "01" * 32, chain_id=1, endpoint_address="0x" + "00" * 20)
ORDER = OrderRequest(4, to_x18(3000), to_x18("0.1"), OrderType.POST_ONLY)
NOW_MS = 1_790_000_000_000
_BORN_NS = time.monotonic_ns()
NOT_FOUND = {"status": "failure", "error": "order not found", "error_code": 2020}


def clock_ms() -> int:
    """This exchange's clock."""
    return NOW_MS + (time.monotonic_ns() - _BORN_NS) // 1_000_000


def failure(code: int, text: str = "no") -> dict[str, Any]:
    return {"status": "failure", "error": text, "error_code": code}


def silence(_: Any) -> Reply:
    return None


@dataclass
class Script:
    """socket, execute, query, archive: the answer of each way to one decoded request."""

    socket: Callable[[Any], Reply] = silence
    execute: Callable[[Any], Reply] = silence
    query: Callable[[Any], Reply] = lambda message: _nothing_there(message)
    archive: Callable[[Any], Reply] = lambda _: {"orders": [], "matches": [], "txs": []}
    clocks: list[str] = field(default_factory=list)
    over_socket: list[Any] = field(default_factory=list)
    executed: list[Any] = field(default_factory=list)
    sockets: list[web.WebSocketResponse] = field(default_factory=list)

    async def serve_socket(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        self.sockets.append(socket)
        async for message in socket:
            decoded = json.loads(message.data)
            self.over_socket.append(decoded)
            reply = self.socket(decoded)
            if reply is not None:
                assert not isinstance(reply, web.Response)
                await socket.send_str(_text(reply))
        return socket

    async def serve_http(self, request: web.Request) -> web.Response:
        if request.path == "/time":
            return web.Response(text=self.clocks.pop(0) if self.clocks else str(clock_ms()))
        message = json.loads(await request.text())
        if request.path == "/execute":
            self.executed.append(message)
        ways = {"/execute": self.execute, "/query": self.query, "/archive": self.archive}
        reply = ways[request.path](message)
        if reply is None:
            await asyncio.sleep(60)
        if isinstance(reply, web.Response):
            return reply
        return web.Response(text=_text(reply), content_type="application/json")


def _nothing_there(message: Any) -> Reply:
    """No order rests and the account has never traded."""
    if message["type"] != "subaccount_info":
        return NOT_FOUND
    balance = {"amount": "0", "v_quote_balance": "0", "last_cumulative_funding_x18": "0"}
    data = sample("query_subaccount_info")["response"]["data"]
    perps = [{**row, "balance": balance} for row in data["perp_balances"]]
    return {"status": "success", "data": {**data, "perp_balances": perps}}


def _text(reply: dict[str, Any] | str | None) -> str:
    return reply if isinstance(reply, str) else json.dumps(reply)


@asynccontextmanager
async def scripted(script: Script) -> AsyncIterator[Network]:
    app = web.Application()
    app.router.add_post("/{path:execute|query|archive}", script.serve_http)
    app.router.add_get("/time", script.serve_http)
    app.router.add_get("/ws", script.serve_socket)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host = f"127.0.0.1:{runner.addresses[0][1]}"
    http, ws = f"http://{host}", f"ws://{host}/ws"
    try:
        yield Network("scripted", http, ws, ws, ws, f"{http}/archive", 1, "0x" + "00" * 20)
    finally:
        await runner.cleanup()


def known_clock() -> TimeSync:
    timesync = TimeSync()
    clock = timesync._clock_ns()
    timesync.update(TimeSample(clock, clock, clock_ms()))
    return timesync


@asynccontextmanager
async def gateway(script: Script, **options: Any) -> AsyncIterator[OrderGateway]:
    """A gateway with both ways, impatient: the socket has 0.2 s, HTTP 1 s, a look 0.3 s."""
    config = GatewayConfig(
        link=FAST_LINK,
        reply_timeout_s=0.2,
        resolver=ResolverConfig(poll_s=0.02, poll_cap_s=0.1),
        **options.pop("config", {}),
    )
    async with scripted(script) as network, Rest(network, timeout_s=1.0) as rest:
        client = OrderGateway(
            network,
            SIGNER,
            products=PRODUCTS,
            timesync=options.pop("timesync", None) or known_clock(),
            rest=rest,
            config=config,
            **options,
        )
        async with client:
            yield client
