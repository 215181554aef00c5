"""The exchange on a port: HTTP and WebSocket surface in front of gateway, streams, market data and control.

Paths under the port are those of the real hosts. Refusals before a request is understood are HTTP
errors: 403 with code 2080 where compression is not offered (`Accept-Encoding` of a request,
permessage-deflate of a subscription handshake), 422 with code 2038 for what is no request, 429 for
too many sockets. Whatever the exchange itself refuses is HTTP 200 with `"status":"failure"`.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

import orjson
from aiohttp import web

from .connections import Connection
from .display import Display
from .edge import EdgeCache
from .errors import TEXTS, ExchangeError
from .exchange import Exchange
from .faults import Faults
from .gateway import Caller, Gateway, LostReply, TooMany, kind_of
from .http_rules import RATE_LIMIT, compressed, guard, refused
from .limits import archive_weight
from .messages import Malformed, decode
from .sockets import MAX_MESSAGE_BYTES, MAX_SOCKETS_PER_ADDRESS, Sockets, TooManySockets
from .streams import StreamHub

__all__ = ["MAX_SOCKETS_PER_ADDRESS", "Surface"]

COMPRESSION_REQUIRED: Final = 2080
MAX_CONCURRENT: Final = 256  # requests in flight on one /ws/v2 socket


class Surface:
    """Every route of the wire protocol."""

    def __init__(
        self,
        gateway: Gateway,
        hub: StreamHub,
        exchange: Exchange,
        faults: Faults,
        *,
        edge: EdgeCache,
        display: Display,
    ) -> None:
        self._gateway = gateway
        self._hub = hub
        self._exchange = exchange
        self._faults = faults
        self._edge = edge
        self._display = display
        self._symbols = orjson.dumps(exchange.symbols_list())
        self._running: set[asyncio.Task[None]] = set()
        self.sockets = Sockets(faults)

    def application(self, extra: list[web.AbstractRouteDef]) -> web.Application:
        app = web.Application(middlewares=[guard(self._faults)], client_max_size=MAX_MESSAGE_BYTES)
        app.add_routes(
            [
                web.get("/v1/query", self.query),
                web.post("/v1/query", self.query),
                web.post("/v1/execute", self.execute),
                web.get("/v1/edge/query", self.edge),
                web.post("/v1/edge/query", self.edge),
                web.get("/v1/symbols", self.symbols),
                web.get("/v1/time", self.time),
                web.get("/v1/ip", self.ip),
                web.post("/archive/v1", self.archive),
                web.get("/v2/{name}", self.gateway_v2),
                web.get("/archive/v2/{name}", self.archive_v2),
                web.get("/v1/ws", self.serial_socket),
                web.get("/ws/v2", self.concurrent_socket),
                web.get("/v1/subscribe", self.subscription_socket),
                *extra,
            ]
        )
        return app

    # HTTP -------------------------------------------------------------------------------------

    async def query(self, request: web.Request) -> web.Response:
        """GET with the fields as URL parameters, or POST with a JSON body."""
        fields, caller = await _fields(request), _caller(request)
        await self._gateway.hold_up(caller, fields["type"])
        return compressed(request, orjson.dumps(self._gateway.query(fields, caller)))

    async def execute(self, request: web.Request) -> web.Response:
        message, caller = decode(await request.read()), _caller(request)
        await self._gateway.hold_up(caller, kind_of(message))
        try:
            reply = await self._gateway.execute(message, caller)
        except LostReply:
            if request.transport is not None:
                request.transport.abort()
            return web.Response()
        return compressed(request, orjson.dumps(reply))

    async def edge(self, request: web.Request) -> web.Response:
        """The display cache: never more than half a second old."""
        fields = await _fields(request)
        self._charge("queries", request, 1)
        return compressed(request, orjson.dumps(self._edge.answer(fields)))

    async def symbols(self, request: web.Request) -> web.Response:
        self._charge("queries", request, 2)
        return compressed(request, self._symbols)

    async def time(self, request: web.Request) -> web.Response:
        return compressed(request, orjson.dumps(self._exchange.clock.now_ms()))

    async def ip(self, request: web.Request) -> web.Response:
        """Whether this address may trade."""
        is_blocked = self._faults.standing("query_only") is not None
        state = {"reason": "ip_query_only", "blocked": True} if is_blocked else {"blocked": False}
        return compressed(request, orjson.dumps(state))

    async def archive(self, request: web.Request) -> web.Response:
        """Archive errors have no `status`."""
        asked = decode(await request.read())
        self._charge("archive", request, archive_weight(asked))
        rule = self._faults.take("archive_lag")
        try:
            reply = self._exchange.archive(asked, 0.0 if rule is None else rule.value["seconds"])
        except ExchangeError as error:
            reply = {"error": error.text, "error_code": error.code}
        return compressed(request, orjson.dumps(reply))

    async def gateway_v2(self, request: web.Request) -> web.Response:
        self._charge("queries", request, 2 if request.match_info["name"] == "assets" else 1)
        return self._displayed(request, self._display.gateway)

    async def archive_v2(self, request: web.Request) -> web.Response:
        self._charge("archive", request, 1)
        return self._displayed(request, self._display.archive)

    def _displayed(self, request: web.Request, answer: Any) -> web.Response:
        try:
            found = answer(request.match_info["name"], dict(request.query))
        except ExchangeError as error:
            found = {"error": error.text, "error_code": error.code}
        if found is None:
            raise web.HTTPNotFound
        return compressed(request, orjson.dumps(found))

    def _charge(self, budget: str, request: web.Request, weight: int) -> None:
        """Display data counts as queries, the archive on its own; over the limit is always 429 here."""
        limits = self._gateway.limits
        chosen = limits.archive if budget == "archive" else limits.queries
        if not chosen.spend(request.remote or "", weight):
            raise TooMany

    # WebSocket --------------------------------------------------------------------------------

    async def serial_socket(self, request: web.Request) -> web.StreamResponse:
        """`/v1/ws`: one request after another, the hold of a taker order included."""
        self._require_deflate(request)
        try:
            async with self.sockets.accept(request, "gateway") as connection:
                caller = Caller(connection.address, connection.number)

                async def on_text(text: str) -> None:
                    reply = await self._gateway.answer_socket(text, caller)
                    if reply is not None:
                        connection.send(reply)

                await self.sockets.receive(connection, on_text)
            return connection.ws
        except TooManySockets:
            raise refused(429, RATE_LIMIT) from None

    async def concurrent_socket(self, request: web.Request) -> web.StreamResponse:
        """`/ws/v2`: requests run side by side, and to their end even if the socket dies."""
        if self._faults.take("v2_refused") is not None:
            raise web.HTTPNotFound
        self._require_deflate(request)
        try:
            async with self.sockets.accept(request, "gateway") as connection:
                crowd = _Crowd(self._gateway, self._faults, connection, self._running)
                await self.sockets.receive(connection, crowd.on_text)
            return connection.ws
        except TooManySockets:
            raise refused(429, RATE_LIMIT) from None

    async def subscription_socket(self, request: web.Request) -> web.StreamResponse:
        """`/v1/subscribe`: control messages in, events out; permessage-deflate is a must."""
        if not _offers_deflate(request):
            raise refused(403, COMPRESSION_REQUIRED)
        try:
            async with self.sockets.accept(request, "subscribe") as connection:
                await self._subscribed(connection)
            return connection.ws
        except TooManySockets:
            raise refused(429, RATE_LIMIT) from None

    def _require_deflate(self, request: web.Request) -> None:
        """Of a request socket, if so switched."""
        if self._exchange.config.gateway_needs_deflate and not _offers_deflate(request):
            raise refused(403, COMPRESSION_REQUIRED)

    async def _subscribed(self, connection: Connection) -> None:
        subscriber = self._hub.connect(connection, connection.number)

        async def on_text(text: str) -> None:
            if not self._hub.handle(subscriber, text):
                connection.close(1008, TEXTS[RATE_LIMIT])

        try:
            await self.sockets.receive(connection, on_text)
        finally:
            self._hub.disconnect(subscriber)

    async def close(self) -> None:
        """Drop every socket and wait for what is still being carried out (30 ms holds)."""
        self.sockets.cut_all("exchange stops")
        if self._running:
            await asyncio.wait(self._running, timeout=1.0)


class _Crowd:
    """Requests of one `/ws/v2` socket, side by side."""

    def __init__(
        self, gateway: Gateway, faults: Faults, connection: Connection, running: set[asyncio.Task[None]]
    ) -> None:
        self._gateway = gateway
        self._faults = faults
        self._connection = connection
        self._caller = Caller(connection.address, connection.number)
        self._running = running
        self._slots = asyncio.Semaphore(MAX_CONCURRENT)
        self._held: list[asyncio.Event] = []

    async def on_text(self, text: str) -> None:
        await self._slots.acquire()
        task = asyncio.create_task(self._answer(text))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _answer(self, text: str) -> None:
        try:
            reply = await self._gateway.answer_socket(text, self._caller)
        finally:
            self._slots.release()
        if reply is None:
            return
        if self._faults.standing("out_of_order") is not None:
            await self._maybe_wait(reply)
        self._connection.send(reply)
        held, self._held = self._held, []
        for event in held:
            event.set()

    async def _maybe_wait(self, reply: bytes) -> None:
        """Until another reply has left, if the fault wants it so."""
        _, _, kind = orjson.loads(reply).get("request_type", "").partition("_")
        rule = self._faults.take("out_of_order", kind=kind, connection=self._connection.number)
        if rule is None:
            return
        event = asyncio.Event()
        self._held.append(event)
        try:
            async with asyncio.timeout(rule.value["ms"] / 1e3):
                await event.wait()
        except TimeoutError:
            return


async def _fields(request: web.Request) -> dict[str, Any]:
    fields = dict(request.query) if request.method == "GET" else decode(await request.read())
    if not isinstance(fields.get("type"), str):
        raise Malformed("A query names its type.")
    return fields


def _offers_deflate(request: web.Request) -> bool:
    return "permessage-deflate" in request.headers.get("Sec-WebSocket-Extensions", "")


def _caller(request: web.Request) -> Caller:
    return Caller(request.remote or "")
