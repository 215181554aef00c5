"""The exchange on a port: HTTP and WebSocket surface in front of gateway, streams and control.

Paths under the port are those of the real hosts. Refusals before a request is understood are HTTP
errors: 403 with code 2080 where compression is not offered (`Accept-Encoding` of a request,
permessage-deflate of a subscription handshake), 422 with code 2038 for what is no request, 429 for
too many sockets. Whatever the exchange itself refuses is HTTP 200 with `"status":"failure"`.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final

import orjson
from aiohttp import WSMsgType, web

from .connections import PING_DEADLINE_S, Connection
from .errors import TEXTS, ExchangeError
from .exchange import Exchange
from .gateway import Gateway, LostReply, Malformed, decode, malformed
from .streams import StreamHub

log = logging.getLogger(__name__)

COMPRESSION_REQUIRED: Final = 2080
RATE_LIMIT: Final = 1000
CODINGS: Final = frozenset({"gzip", "br", "deflate"})
COMPRESS_FROM_BYTES: Final = 1024
MAX_REQUEST_BYTES: Final = 256 * 1024
MAX_SOCKETS_PER_ADDRESS: Final = 100
MAX_CONCURRENT: Final = 256  # requests in flight on one /ws/v2 socket
NOT_CARRIED: Final = orjson.dumps({"error": "Text frames only.", "error_code": 2038})

OnText = Callable[[str], Awaitable[None]]


class Surface:
    """Every route of the wire protocol."""

    def __init__(
        self,
        gateway: Gateway,
        hub: StreamHub,
        exchange: Exchange,
    ) -> None:
        self._gateway = gateway
        self._hub = hub
        self._exchange = exchange
        self._symbols = orjson.dumps(exchange.symbols_list())
        self._sockets: dict[Connection, str] = {}  # → scope: "gateway" or "subscribe"
        self._per_address: Counter[str] = Counter()
        self._running: set[asyncio.Task[None]] = set()
        self.sockets_cut: Counter[str] = Counter()

    def application(self, extra: list[web.AbstractRouteDef]) -> web.Application:
        app = web.Application(middlewares=[_one_bad_request], client_max_size=MAX_REQUEST_BYTES)
        app.add_routes(
            [
                web.get("/v1/query", self.query),
                web.post("/v1/query", self.query),
                web.post("/v1/execute", self.execute),
                web.get("/v1/symbols", self.symbols),
                web.get("/v1/time", self.time),
                web.post("/archive/v1", self.archive),
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
        fields = dict(request.query) if request.method == "GET" else decode(await request.read())
        if not isinstance(fields.get("type"), str):
            raise Malformed("A query names its type.")
        return _reply(request, orjson.dumps(self._gateway.query(fields)))

    async def execute(self, request: web.Request) -> web.Response:
        try:
            reply = await self._gateway.execute(decode(await request.read()))
        except LostReply:
            if request.transport is not None:
                request.transport.abort()
            return web.Response()
        return _reply(request, orjson.dumps(reply))

    async def symbols(self, request: web.Request) -> web.Response:
        return _reply(request, self._symbols)

    async def time(self, request: web.Request) -> web.Response:
        return _reply(request, orjson.dumps(self._exchange.clock.now_ms()))

    async def archive(self, request: web.Request) -> web.Response:
        """Archive errors have no `status`."""
        try:
            reply = self._exchange.archive(decode(await request.read()))
        except ExchangeError as error:
            reply = {"error": error.text, "error_code": error.code}
        return _reply(request, orjson.dumps(reply))

    # WebSocket --------------------------------------------------------------------------------

    async def serial_socket(self, request: web.Request) -> web.StreamResponse:
        """`/v1/ws`: one request after another, the hold of a taker order included."""
        async with self._socket(request, "gateway") as connection:

            async def on_text(text: str) -> None:
                reply = await self._gateway.answer_socket(text)
                if reply is not None:
                    connection.send(reply)

            await _receive(connection, on_text)
        return connection.ws

    async def concurrent_socket(self, request: web.Request) -> web.StreamResponse:
        """`/ws/v2`: requests run side by side, and to their end even if the socket dies."""
        async with self._socket(request, "gateway") as connection:
            slots = asyncio.Semaphore(MAX_CONCURRENT)

            async def answer(text: str) -> None:
                try:
                    reply = await self._gateway.answer_socket(text)
                finally:
                    slots.release()
                if reply is not None:
                    connection.send(reply)

            async def on_text(text: str) -> None:
                await slots.acquire()
                task = asyncio.create_task(answer(text))
                self._running.add(task)
                task.add_done_callback(self._running.discard)

            await _receive(connection, on_text)
        return connection.ws

    async def subscription_socket(self, request: web.Request) -> web.StreamResponse:
        """`/v1/subscribe`: control messages in, events out; permessage-deflate is a must."""
        if "permessage-deflate" not in request.headers.get("Sec-WebSocket-Extensions", ""):
            raise _refused(403, COMPRESSION_REQUIRED)
        async with self._socket(request, "subscribe") as connection:
            subscriber = self._hub.connect(connection)

            async def on_text(text: str) -> None:
                if not self._hub.handle(subscriber, text):
                    connection.close(1008, TEXTS[RATE_LIMIT])

            try:
                await _receive(connection, on_text)
            finally:
                self._hub.disconnect(subscriber)
        return connection.ws

    @asynccontextmanager
    async def _socket(self, request: web.Request, scope: str) -> AsyncIterator[Connection]:
        """An open WebSocket with its writer running, until the block ends."""
        address = request.remote or ""
        if self._per_address[address] >= MAX_SOCKETS_PER_ADDRESS:
            raise _refused(429, RATE_LIMIT)
        # Pings are answered by hand: they are the keep-alive the exchange insists on.
        ws = web.WebSocketResponse(autoping=False, timeout=1.0, max_msg_size=MAX_REQUEST_BYTES)
        await ws.prepare(request)
        connection = Connection(ws, request)
        self._sockets[connection] = scope
        self._per_address[address] += 1
        writer = asyncio.create_task(connection.write())
        try:
            yield connection
        finally:
            del self._sockets[connection]
            self._per_address[address] -= 1
            if connection.cut_reason is not None:
                self.sockets_cut[connection.cut_reason] += 1
            writer.cancel()
            await asyncio.wait([writer])

    def cut(self, scope: str) -> int:
        """Drop every socket of "gateway", "subscribe" or "all", without a close frame."""
        victims = [connection for connection, of in self._sockets.items() if scope in ("all", of)]
        for connection in victims:
            connection.cut("cut by a fault")
        return len(victims)

    def cut_overdue(self, deadline_s: float = PING_DEADLINE_S) -> None:
        """Drop sockets whose client sent no ping frame for too long."""
        for connection in self._sockets:
            if connection.since_ping_s > deadline_s:
                connection.cut("no ping")

    @property
    def sockets_open(self) -> Counter[str]:
        return Counter(self._sockets.values())

    async def close(self) -> None:
        """Drop every socket and wait for what is still being carried out (30 ms holds)."""
        for connection in list(self._sockets):
            connection.cut("exchange stops")
        if self._running:
            await asyncio.wait(self._running, timeout=1.0)


async def _receive(connection: Connection, on_text: OnText) -> None:
    """Feed text messages to on_text until the socket ends."""
    ws = connection.ws
    while True:
        message = await ws.receive()
        if message.type is WSMsgType.TEXT:
            await on_text(message.data)
        elif message.type is WSMsgType.PING:
            connection.pinged()
            await ws.pong(message.data)
        elif message.type is WSMsgType.BINARY:
            connection.send(NOT_CARRIED)
        elif message.type is not WSMsgType.PONG:
            return


@web.middleware
async def _one_bad_request(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """What is wrong with one request stays with that request."""
    try:
        if "upgrade" not in request.headers and not request.path.startswith("/sim/"):
            _require_compression(request)
        return await handler(request)
    except Malformed as error:
        return web.Response(status=422, body=malformed(error), content_type="application/json")
    except (web.HTTPException, ConnectionError, asyncio.CancelledError):
        raise
    except Exception:
        log.exception("%s %s failed", request.method, request.path)
        return web.Response(status=500, text="internal error")


def _accepted(request: web.Request) -> set[str]:
    """Content codings the client takes, without weights."""
    accepted = request.headers.get("Accept-Encoding", "")
    return {coding.partition(";")[0].strip().lower() for coding in accepted.split(",")}


def _require_compression(request: web.Request) -> None:
    if not _accepted(request) & CODINGS:
        raise _refused(403, COMPRESSION_REQUIRED)


def _refused(status: int, code: int) -> web.HTTPException:
    body = orjson.dumps({"status": "failure", "error": TEXTS[code], "error_code": code}).decode()
    kinds = {403: web.HTTPForbidden, 429: web.HTTPTooManyRequests}
    return kinds[status](text=body, content_type="application/json")


def _reply(request: web.Request, body: bytes) -> web.Response:
    response = web.Response(body=body, content_type="application/json")
    accepted = _accepted(request)
    if len(body) >= COMPRESS_FROM_BYTES:
        if "gzip" in accepted:
            response.enable_compression(web.ContentCoding.gzip)
        elif "deflate" in accepted:
            response.enable_compression(web.ContentCoding.deflate)
    return response
