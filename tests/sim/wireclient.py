"""A client of bare hands for the surface tests: aiohttp, JSON, and a deadline on everything."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

DEADLINE_S = 5.0


class Socket:
    """One WebSocket. `ask` pairs a request with its reply by id; events that pass by are kept."""

    def __init__(self, ws: aiohttp.ClientWebSocketResponse) -> None:
        self.ws = ws
        self.events: list[dict[str, Any]] = []
        self._last_id = 0

    async def send(self, message: Any) -> None:
        await self.ws.send_str(message if isinstance(message, str) else json.dumps(message))

    async def receive(self, deadline_s: float = DEADLINE_S) -> dict[str, Any]:
        """Next message. Raises ConnectionError when the socket ends, TimeoutError when nothing comes."""
        async with asyncio.timeout(deadline_s):
            message = await self.ws.receive()
        if message.type is not aiohttp.WSMsgType.TEXT:
            raise ConnectionError(f"{message.type.name} {message.data}")
        found: dict[str, Any] = json.loads(message.data)
        return found

    async def ask(self, method: str, **fields: Any) -> dict[str, Any]:
        """Control request of the subscription endpoint, and its reply."""
        self._last_id += 1
        await self.send({"method": method, "id": self._last_id, **fields})
        while True:
            message = await self.receive()
            if "type" not in message and message.get("id") == self._last_id:
                return message
            self.events.append(message)

    async def until(self, kind: str, count: int = 1) -> list[dict[str, Any]]:
        """The first `count` events of a kind, those already seen included; they are taken out."""
        while True:
            found = [event for event in self.events if event["type"] == kind][:count]
            if len(found) == count:
                self.events = [event for event in self.events if not any(event is taken for taken in found)]
                return found
            self.events.append(await self.receive())

    async def ended(self, deadline_s: float = DEADLINE_S) -> int | None:
        """Wait for the end of the socket; its close code."""
        async with asyncio.timeout(deadline_s):
            while (message := await self.ws.receive()).type not in (
                aiohttp.WSMsgType.CLOSE,
                aiohttp.WSMsgType.CLOSED,
                aiohttp.WSMsgType.CLOSING,
                aiohttp.WSMsgType.ERROR,
            ):
                assert message.type is aiohttp.WSMsgType.TEXT
        return self.ws.close_code


class Client:
    """HTTP and sockets of one exchange."""

    def __init__(self, session: aiohttp.ClientSession, ready: dict[str, Any]) -> None:
        self.session = session
        self.ready = ready

    @asynccontextmanager
    async def socket(self, name: str, *, deflate: bool = True, **options: Any) -> AsyncIterator[Socket]:
        """name: `subscribe`, `gateway_ws` or `gateway_ws_v2`."""
        url = self.ready[name]
        async with self.session.ws_connect(url, compress=15 if deflate else 0, **options) as ws:
            yield Socket(ws)

    async def post(self, path: str, body: Any, base: str = "gateway") -> tuple[int, Any]:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        async with self.session.post(self.ready[base] + path, data=data) as response:
            return response.status, json.loads(await response.read() or b"null")

    async def get(self, path: str, base: str = "gateway", **params: str) -> tuple[int, Any]:
        async with self.session.get(self.ready[base] + path, params=params) as response:
            return response.status, json.loads(await response.read() or b"null")

    async def fault(self, **faults: Any) -> dict[str, Any]:
        status, body = await self.post("/faults", faults, base="control")
        assert status == 200, body
        found: dict[str, Any] = body
        return found


async def eventually(condition: Any, deadline_s: float = DEADLINE_S) -> None:
    """Wait until `condition()` holds."""
    async with asyncio.timeout(deadline_s):
        while not condition():  # noqa: ASYNC110 - the condition belongs to somebody else and has no event
            await asyncio.sleep(0.005)
