"""A market data server in its own process: one blocking socket, permessage-deflate, a fixed rate.

    python sender.py --rate 2000 --count 20000 --seed 1

Prints its port, serves one client, sends `count` messages of the usual mix on an absolute schedule and
exits. Every message carries CLOCK_MONOTONIC of its sending as engine time, which the receiver on the same
machine can compare with its own clock. The first message waits for the client's first text frame.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import random
import socket
import time
import zlib

from streams import Stream, compact

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
TAIL = b"\x00\x00\xff\xff"


def accept_handshake(client: socket.socket) -> None:
    request = b""
    while b"\r\n\r\n" not in request:
        chunk = client.recv(4096)
        if not chunk:
            raise ConnectionError("client left during the handshake")
        request += chunk
    headers = dict(line.split(b": ", 1) for line in request.split(b"\r\n")[1:] if b": " in line)
    key = {name.lower(): value for name, value in headers.items()}[b"sec-websocket-key"]
    answer = base64.b64encode(hashlib.sha1(key + GUID, usedforsecurity=False).digest())
    client.sendall(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Extensions: permessage-deflate\r\nSec-WebSocket-Accept: " + answer + b"\r\n\r\n"
    )


def frame(payload: bytes) -> bytes:
    """A final, deflated text frame."""
    size = len(payload)
    if size < 126:
        return bytes((0xC1, size)) + payload
    if size < 65536:
        return b"\xc1\x7e" + size.to_bytes(2, "big") + payload
    return b"\xc1\x7f" + size.to_bytes(8, "big") + payload


def next_message(stream: Stream, rng: random.Random, index: int) -> bytes:
    now = time.monotonic_ns()
    draw = rng.random()
    if draw < 0.60:
        return compact(stream.bbo(now))
    if draw < 0.95:
        return compact(stream.depth(now))
    return compact(stream.fill(now, index))


def send_all(client: socket.socket, rate: int, count: int, seed: int) -> None:
    stream, rng = Stream(seed=seed, time_ns=1), random.Random(seed)
    deflate = zlib.compressobj(wbits=-15)
    start = time.monotonic()
    for index in range(count):
        wait = start + index / rate - time.monotonic()
        if wait > 0:
            time.sleep(wait)
        data = deflate.compress(next_message(stream, rng, index)) + deflate.flush(zlib.Z_SYNC_FLUSH)
        client.sendall(frame(data.removesuffix(TAIL)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rate", type=int, default=2000)
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(20)
        print(server.getsockname()[1], flush=True)
        client, _ = server.accept()
        with client:
            client.settimeout(20)
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            accept_handshake(client)
            client.recv(4096)  # the client is ready
            send_all(client, options.rate, options.count, options.seed)
            client.sendall(b"\x88\x02\x03\xe8")
            while client.recv(4096):
                pass


if __name__ == "__main__":
    main()
