"""A WebSocket server that says exactly what a test wants, well-formed or not."""

from __future__ import annotations

import asyncio
import ssl
import zlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from picows import (
    WSFrame,
    WSListener,
    WSMsgType,
    WSTransport,
    WSUpgradeResponse,
    WSUpgradeResponseWithListener,
    ws_connect,
    ws_create_server,
)

from nadosim.certificate import server_context

DEFLATE = "permessage-deflate"
Script = Callable[[WSTransport], None]


class Peer(WSListener):
    """The server's side of one connection."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.transport: WSTransport | None = None
        self.received: list[tuple[WSMsgType, bytes]] = []
        self.is_gone = False

    def on_ws_connected(self, transport: WSTransport) -> None:
        self.transport = transport
        self.script(transport)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        self.received.append((frame.msg_type, frame.get_payload_as_bytes()))

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        self.is_gone = True


class Deflater:
    def __init__(self, *, takeover: bool = True) -> None:
        self.takeover = takeover
        self.stream = zlib.compressobj(wbits=-15)

    def __call__(self, message: bytes) -> bytes:
        if not self.takeover:
            self.stream = zlib.compressobj(wbits=-15)
        return (self.stream.compress(message) + self.stream.flush(zlib.Z_SYNC_FLUSH))[:-4]


async def eventually(condition: Callable[[], object], what: str = "", deadline_s: float = 5.0) -> None:
    """Wait for a condition; fails loudly at the deadline."""
    end = asyncio.get_running_loop().time() + deadline_s
    while not condition():
        if asyncio.get_running_loop().time() > end:
            raise AssertionError(f"not within {deadline_s} s: {what or condition}")
        await asyncio.sleep(0.002)


@asynccontextmanager
async def connected(
    listener: Any, script: Script, extension: str | None = DEFLATE, *, is_tls: bool = False, **options: Any
) -> AsyncIterator[Peer]:
    """`listener` connected to a server that runs `script`; both ends are gone afterwards."""
    peers: list[Peer] = []

    def accept(request: object) -> WSUpgradeResponseWithListener:
        headers = {} if extension is None else {"Sec-WebSocket-Extensions": extension}
        peers.append(Peer(script))
        response = WSUpgradeResponse.create_101_response(extra_headers=headers)
        return WSUpgradeResponseWithListener(response, peers[-1])

    context = server_context(None, None, "127.0.0.1")[0] if is_tls else None
    server = await ws_create_server(accept, "127.0.0.1", 0, ssl=context, use_aiofastnet=False)
    port = server.sockets[0].getsockname()[1]
    settings = {
        "use_aiofastnet": False,
        "max_redirects": 0,
        "max_frame_size": 1 << 20,
        "enable_auto_pong": False,
    } | options
    offer = {"Sec-WebSocket-Extensions": DEFLATE}
    if is_tls:
        settings["ssl_context"] = trusting = ssl.create_default_context()
        trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
    url = f"{'wss' if is_tls else 'ws'}://127.0.0.1:{port}/"
    transport, _ = await ws_connect(lambda: listener, url, extra_headers=offer, **settings)
    try:
        yield peers[0]
    finally:
        transport.disconnect(graceful=False)
        if peers[0].transport is not None:
            peers[0].transport.disconnect(graceful=False)
        await eventually(lambda: peers[0].is_gone and not listener.is_connected, "both ends closed")
        server.close()
        await server.wait_closed()
