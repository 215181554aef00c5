"""Fuzz target of the listeners: what a server sends over a real socket, read as RFC 6455 says in Python."""

from __future__ import annotations

import asyncio
import contextlib
import random
import zlib
from base64 import b64encode
from collections.abc import Callable, Iterator
from hashlib import sha1

from picows import ws_connect

from nadofast._feed import TextListener
from nadofast._inflate import Inflater

MAX_MESSAGE = 20_000
MAX_FRAME = 1 << 15
TEXT, CLOSE, PING, PONG = 1, 8, 9, 10
RSV1 = 0x40
Mutate = Callable[[random.Random, bytes], bytes]


def frame(opcode: int, payload: bytes, *, fin: bool = True, rsv1: bool = False) -> bytes:
    first = opcode | (0x80 if fin else 0) | (RSV1 if rsv1 else 0)
    if len(payload) < 126:
        return bytes((first, len(payload))) + payload
    return bytes((first, 126)) + len(payload).to_bytes(2, "big") + payload


def stream(rng: random.Random, mutate: Mutate) -> bytes:
    """Messages, whole or in fragments, deflated or not, control frames between them; then often mutated."""
    deflate, parts = zlib.compressobj(wbits=-15), []
    for _ in range(rng.randrange(1, 12)):
        text = rng.randbytes(rng.choice((0, 3, 60, 200, 3_000, 9_000))).hex().encode()
        is_deflated = rng.random() < 0.6
        if is_deflated:
            text = (deflate.compress(text) + deflate.flush(zlib.Z_SYNC_FLUSH))[:-4]
        cuts = sorted(rng.randrange(len(text) + 1) for _ in range(rng.choice((0, 0, 1, 3))))
        pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
        for index, piece in enumerate(pieces):
            is_last = index == len(pieces) - 1
            is_first = index == 0
            parts.append(frame(TEXT if is_first else 0, piece, fin=is_last, rsv1=is_deflated and is_first))
            if rng.random() < 0.2:
                parts.append(frame(rng.choice((PING, PONG, PONG, CLOSE)), rng.randbytes(rng.randrange(9))))
    sent = b"".join(parts)
    return mutate(rng, sent) if rng.random() < 0.7 else sent


def read_frame(data: bytes, at: int) -> tuple[int, bytes, int] | None:
    """First byte, payload and end of the frame at `at`; None if it is cut off or against the rules."""
    if len(data) - at < 2 or data[at + 1] & 0x80:
        return None
    size, start = data[at + 1], at + 2
    if size >= 126:
        width, least = (2, 126) if size == 126 else (8, 1 << 16)
        size, start = int.from_bytes(data[start : start + width], "big"), start + width
        if start > len(data) or size < least:
            return None
    opcode, is_final = data[at] & 0x0F, data[at] & 0x80
    if opcode not in (0, TEXT, CLOSE, PING, PONG) or size > MAX_FRAME or start + size > len(data):
        return None
    if opcode >= CLOSE and (not is_final or size > 125):
        return None
    return data[at], data[start : start + size], start + size


def expected(data: bytes) -> tuple[list[bytes], bool]:
    """Messages before the first violation or the close frame, and whether the transport may have ended it.

    The transport looks one frame ahead: one it refuses may take the one before it along.
    """
    inflater, found, at = Inflater(15, False, MAX_MESSAGE), [], 0
    parts: list[bytes] | None = None
    is_deflated = False
    while (one := read_frame(data, at)) is not None:
        first, payload, at = one
        opcode, is_final, rsv1 = first & 0x0F, first & 0x80, first & RSV1
        if first & 0x30 or (rsv1 and opcode != TEXT) or opcode == CLOSE:
            return found, opcode == CLOSE
        if opcode in (PING, PONG):
            continue
        if (opcode == TEXT) == (parts is not None):
            return found, False
        if parts is None:
            parts, is_deflated = [], bool(rsv1)
        parts.append(payload)
        if not is_deflated and sum(map(len, parts)) > MAX_MESSAGE:
            return found, False
        if is_final:
            try:
                found.append(inflater.inflate(*parts) if is_deflated else b"".join(parts))
            except ValueError:
                return found, False
            parts = None
    return found, at < len(data)


class Served:
    """A server that answers every connection with the bytes of the case, cut into reads as chance will have
    it, and what a listener makes of them."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._data = b""
        self._port = 0
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self._port = self._server.sockets[0].getsockname()[1]

    async def case(self, data: bytes) -> list[bytes]:
        """The messages that come through."""
        found: list[bytes] = []
        gone = asyncio.Event()
        listener = TextListener(found.append, on_disconnected=lambda _: gone.set(), max_message=MAX_MESSAGE)
        self._data = data
        transport, _ = await ws_connect(
            lambda: listener,
            f"ws://127.0.0.1:{self._port}/",
            extra_headers={"Sec-WebSocket-Extensions": "permessage-deflate"},
            enable_auto_pong=False,
            use_aiofastnet=False,
            max_frame_size=MAX_FRAME,
        )
        await asyncio.wait_for(gone.wait(), 30)
        with contextlib.suppress(Exception):  # how it ended, which is not what is looked at here
            await transport.wait_disconnected()
        return found

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await reader.readuntil(b"\r\n\r\n")
        headers = dict(line.split(b": ", 1) for line in request.split(b"\r\n")[1:] if line)
        key = {name.lower(): value for name, value in headers.items()}[b"sec-websocket-key"]
        proof = sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11", usedforsecurity=False).digest()
        writer.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Extensions: permessage-deflate\r\nSec-WebSocket-Accept: "
            + b64encode(proof)
            + b"\r\n\r\n"
        )
        data, at = self._data, 0
        try:
            while at < len(data):
                size = self._rng.choice((1, 7, 200, 70_000)) if self._rng.random() < 0.3 else len(data)
                writer.write(data[at : at + size])
                at += size
                await writer.drain()
            writer.write_eof()
            while await reader.read(1000):  # answers to pings, a close frame
                pass
        except OSError:
            pass  # a violation aborts the socket
        writer.close()


def fuzz_frames(rng: random.Random, mutate: Mutate) -> Iterator[None]:
    """The messages before the first violation and no other, however the bytes are cut into reads."""
    served = Served(rng)
    with asyncio.Runner() as runner:
        runner.run(served.start())
        try:
            while True:
                data = stream(rng, mutate)
                found = runner.run(served.case(data))
                whole, is_refused = expected(data)
                if found != whole and not (is_refused and found == whole[:-1]):
                    raise AssertionError(f"found {len(found)}, expected {len(whole)}: {data.hex()}")
                yield
        finally:
            runner.run(served.stop())
