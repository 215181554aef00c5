"""One socket, one C sender, one receiver under test; frames are made beforehand, so sending costs little.

Handshakes are done here; then the socket goes to the C sender. Receivers are C (receiver.c, the floor) or
`contender.py` under one of two interpreters. Each prints what it ended with, and that is compared with the
stream's own book before a figure counts. Over TLS every frame is a record of its own, encrypted beforehand.
"""

from __future__ import annotations

import base64
import hashlib
import json
import mmap
import os
import select
import socket
import ssl
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import floor
from streams import Stream, live_messages

HERE = Path(__file__).resolve().parent
BENCH = HERE.parent
BUILD = BENCH.parent / "build" / "bench"
PEERS = BENCH.parent / ".venv-peers" / "bin" / "python"
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
TAIL = b"\x00\x00\xff\xff"
CLOSE = b"\x88\x02\x03\xe8"
SENDER_CORE = 0
RECEIVER_CORE = (os.cpu_count() or 1) - 1
DEADLINE_S = 120


def frame(payload: bytes, first: int = 0xC1) -> bytes:
    """A final frame of at most 64 KiB; by default a deflated text frame."""
    size = len(payload)
    if size < 126:
        return bytes((first, size)) + payload
    return bytes((first, 126)) + size.to_bytes(2, "big") + payload


def library(module: Any, name: str) -> str:
    """Path of a C library that an extension module of this Python has loaded."""
    assert module
    for line in Path("/proc/self/maps").read_text().splitlines():
        if f"/{name}" in line:
            return line.split(maxsplit=5)[-1]
    raise RuntimeError(f"{name} is not loaded by this Python: the C receiver has nothing to link with")


@dataclass
class Prepared:
    """A stream on disk, and what a receiver must end with."""

    count: int
    frames: list[bytes]
    snapshot: Path
    state: floor.State


def prepare(count: int, seed: int = 1, *, is_deflated: bool = True, **shares: float) -> Prepared:
    """The usual mix, deflated with context takeover by Python's zlib at its usual level.

    shares: of kinds, as of live_messages.
    """
    BUILD.mkdir(parents=True, exist_ok=True)
    stream = Stream(seed=seed)
    snapshot = stream.snapshot()
    messages = live_messages(count, stream, **shares)
    deflate = zlib.compressobj(wbits=-15)
    frames = [
        frame((deflate.compress(message) + deflate.flush(zlib.Z_SYNC_FLUSH)).removesuffix(TAIL))
        if is_deflated
        else frame(message, 0x81)
        for message in messages
    ]
    path = floor.write(BUILD / f"wire-{count}-{seed}.txt", snapshot, [])
    (path.with_suffix(".json")).write_text(json.dumps(snapshot))
    state = (dict(stream.bids), dict(stream.asks), *floor.expected(messages))
    return Prepared(count, frames, path, state)


def write_frames(path: Path, frames: list[bytes]) -> Path:
    sizes = b"".join(len(data).to_bytes(4, sys.byteorder) for data in frames)
    path.write_bytes(len(frames).to_bytes(8, sys.byteorder) + sizes + b"".join(frames))
    return path


def build() -> None:
    """Compile the C programs."""
    BUILD.mkdir(parents=True, exist_ok=True)
    plain = ["gcc", "-O3", "-Wall"]
    subprocess.run([*plain, "-o", BUILD / "sender", HERE / "sender.c"], check=True, timeout=60)
    subprocess.run(
        [*plain, "-fno-builtin", "-fPIC", "-shared", "-o", BUILD / "counter.so", HERE / "counter.c"],
        check=True,
        timeout=60,
    )
    receiver = [*plain, "-o", BUILD / "receiver", HERE / "receiver.c", library(zlib, "libz.so")]
    receiver += [library(ssl, "libssl.so"), library(ssl, "libcrypto.so")]
    subprocess.run(receiver, check=True, timeout=60)


# --- the server's side --------------------------------------------------------------------------------------


class Plain:
    """The server's end of a connection: blocking, in the clear."""

    scheme = "ws"

    def __init__(self, client: socket.socket) -> None:
        self.client = client

    def read(self) -> bytes:
        data = self.client.recv(4096)
        if not data:
            raise ConnectionError("the receiver left during the handshake")
        return data

    def write(self, data: bytes) -> None:
        self.client.sendall(data)

    def records(self, frames: list[bytes]) -> list[bytes]:
        """What goes over the socket for each frame."""
        return frames


class Encrypted(Plain):
    """The same over TLS; records are made in memory, so that they can be made beforehand."""

    scheme = "wss"

    def __init__(self, client: socket.socket, context: ssl.SSLContext) -> None:
        super().__init__(client)
        self.inward, self.outward = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.inward, self.outward, server_side=True)
        self._until_done(self.tls.do_handshake)

    def _until_done(self, step: Callable[[], Any]) -> Any:
        while True:
            try:
                return step()
            except ssl.SSLWantReadError:
                self._flush()
                self.inward.write(super().read())
            finally:
                self._flush()

    def _flush(self) -> None:
        if self.outward.pending:
            self.client.sendall(self.outward.read())

    def read(self) -> bytes:
        data: bytes = self._until_done(lambda: self.tls.read(4096))
        return data

    def write(self, data: bytes) -> None:
        self.tls.write(data)
        self._flush()

    def records(self, frames: list[bytes]) -> list[bytes]:
        made = []
        for data in frames:
            self.tls.write(data)
            made.append(self.outward.read())
        return made


def answer(peer: Plain) -> None:
    """The opening handshake of RFC 6455, with permessage-deflate agreed."""
    request = b""
    while b"\r\n\r\n" not in request:
        request += peer.read()
    headers = dict(line.split(b": ", 1) for line in request.split(b"\r\n")[1:] if b": " in line)
    key = {name.lower(): value for name, value in headers.items()}[b"sec-websocket-key"]
    proof = base64.b64encode(hashlib.sha1(key + GUID, usedforsecurity=False).digest())
    peer.write(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Extensions: permessage-deflate\r\nSec-WebSocket-Accept: " + proof + b"\r\n\r\n"
    )


def may_take_priority(priority: int) -> bool:
    """Whether this process may run at that real-time priority."""
    done = subprocess.run(["chrt", "-f", str(priority), "true"], capture_output=True, timeout=10, check=False)
    return done.returncode == 0


@contextmanager
def shared_times(name: str, count: int) -> Iterator[tuple[Path, mmap.mmap]]:
    """A file of `count` int64, shared with the programs; its name is this process's own."""
    path = BUILD / f"{name}-{os.getpid()}"
    path.write_bytes(bytes(8 * count))
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 8 * count) as memory:
        yield path, memory
    path.unlink()


# --- receivers ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Contender:
    """Who receives: a C program (`way` array or ladder, `mode` epoll or poll, `inflate` zlib or own), or
    contender.py's `name`."""

    name: str
    label: str
    python: Path | None = None
    mode: str = "epoll"
    way: str = "ladder"
    inflate: str = "zlib"
    environment: tuple[tuple[str, str], ...] = ()

    @property
    def tells_fills(self) -> bool:
        """The book of the others does not read fills."""
        return self.python is None or self.name.startswith("nadofast")

    def command(self, port: int, prepared: Prepared, seen: Path | None, is_tls: bool) -> list[str]:
        times = "-" if seen is None else str(seen)
        if self.python is None:
            return [
                *(str(BUILD / "receiver"), str(port), str(prepared.count), str(prepared.snapshot)),
                *(times, str(RECEIVER_CORE), self.mode, self.way, "tls" if is_tls else "plain", self.inflate),
            ]
        scheme = "wss" if is_tls else "ws"
        return [
            *(str(self.python), str(BENCH / "contender.py"), self.name, f"{scheme}://127.0.0.1:{port}"),
            *(str(prepared.count), str(prepared.snapshot.with_suffix(".json")), times, str(RECEIVER_CORE)),
        ]


@dataclass
class Outcome:
    """cpu_ns: user and system time of the receiver a message. delays: ns from send to callback, if asked."""

    cpu_ns: float
    delays: list[int]
    versions: str


def run(
    contender: Contender,
    prepared: Prepared,
    *,
    rate: float = 0,
    context: ssl.SSLContext | None = None,
    priority: int = 0,
) -> Outcome:
    """One connection from handshake to the last message; asserts that the book is right.

    rate: messages a second, 0 as fast as they are taken. priority: real-time priority of both ends, so that
    what else the machine does is not measured; 0 leaves the scheduler alone.
    """
    realtime = ["chrt", "-f", str(priority)] if priority else []
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        shared_times("sent", prepared.count + 1) as (sent_path, sent),
        shared_times("seen", prepared.count) as (seen_path, seen),
    ):
        command = contender.command(
            server.getsockname()[1], prepared, seen_path if rate else None, context is not None
        )
        environment = os.environ | dict(contender.environment)
        with subprocess.Popen(
            [*realtime, *command], stdout=subprocess.PIPE, text=True, env=environment
        ) as receiver:
            try:
                client = accept(server, receiver, contender.label)
                with client:
                    client.settimeout(DEADLINE_S)
                    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    peer = Plain(client) if context is None else Encrypted(client, context)
                    answer(peer)
                    records = peer.records([*prepared.frames, CLOSE])
                    peer.read()  # the receiver is ready
                    _send(
                        realtime,
                        client,
                        write_frames(BUILD / f"frames-{os.getpid()}", records),
                        sent_path,
                        rate,
                    )
                    output, _ = receiver.communicate(timeout=DEADLINE_S)
            finally:
                receiver.kill()
        assert receiver.returncode == 0, f"{contender.label} failed"
        outcome = check(output, prepared, contender)
        if rate:
            pairs = zip(memoryview(sent).cast("q")[:-1], memoryview(seen).cast("q"), strict=True)
            outcome.delays = [after - before for before, after in pairs]
            assert min(outcome.delays) > 0, "a message without a time"
        return outcome


def accept(server: socket.socket, receiver: subprocess.Popen[str], label: str) -> socket.socket:
    """The receiver's connection. RuntimeError at once if it ends instead of connecting."""
    ended = os.pidfd_open(receiver.pid)
    try:
        ready, _, _ = select.select([server, ended], [], [], DEADLINE_S)
    finally:
        os.close(ended)
    if server not in ready:
        how = f"ended with {receiver.wait(DEADLINE_S)}" if ready else f"was silent for {DEADLINE_S} s"
        raise RuntimeError(f"{label}: {how} before it connected")
    return server.accept()[0]


def _send(realtime: list[str], client: socket.socket, frames: Path, sent: Path, rate: float) -> None:
    client.setblocking(True)
    command = [
        str(BUILD / "sender"),
        str(client.fileno()),
        str(frames),
        str(sent),
        str(SENDER_CORE),
        str(rate),
    ]
    subprocess.run([*realtime, *command], check=True, timeout=DEADLINE_S, pass_fds=[client.fileno()])
    frames.unlink()


def check(output: str, prepared: Prepared, contender: Contender) -> Outcome:
    """Reads "messages cpu_ns versions", then what floor.read_state reads. C and we tell our fills."""
    first, *rest = output.splitlines()
    messages, cpu_ns, *versions = first.split(maxsplit=2)
    *found, fills = floor.read_state(rest)
    *wanted, wanted_fills = prepared.state
    assert int(messages) == prepared.count
    assert found == wanted
    assert fills == (wanted_fills if contender.tells_fills else ())
    return Outcome(int(cpu_ns) / prepared.count, [], versions[0] if versions else "")


OURS = Path(sys.executable)
FLOOR = Contender("floor", "C, epoll, zlib")
FLOOR_ARRAY = Contender("floor", "C, epoll, zlib (sorted array)", way="array")
FLOOR_OWN = Contender("floor", "C, epoll, our inflate", inflate="own")
BUSY_FLOOR = Contender("floor", "C, busy-polling, our inflate", mode="poll", inflate="own")
SILENT = Contender("nadofast-silent", "nadofast, no callback", OURS)
CALLBACK = Contender("nadofast", "nadofast, Python callback per message", OURS)
AWAKE = Contender("nadofast-awake", "nadofast, kept awake, Python callback", OURS)
_ZLIB = (("NADOFAST_INFLATE", "zlib"),)
ZLIB_SILENT = Contender("nadofast-silent", "nadofast with zlib, no callback", OURS, environment=_ZLIB)
ZLIB_CALLBACK = Contender("nadofast", "nadofast with zlib, Python callback", OURS, environment=_ZLIB)
_COUNTER = (("LD_PRELOAD", str(BUILD / "counter.so")), ("PYTHONMALLOC", "malloc"))
COUNTED = Contender("nadofast-counted", "nadofast, counted", OURS, environment=_COUNTER)
ZLIB_COUNTED = Contender(
    "nadofast-counted", "nadofast with zlib, counted", OURS, environment=_COUNTER + _ZLIB
)
PICOWS = Contender("picows", "picows.websockets + orjson book", PEERS)
WEBSOCKETS = Contender("websockets", "websockets + orjson book", PEERS)
AIOHTTP = Contender("aiohttp", "aiohttp + orjson book", PEERS)
SDK = Contender("sdk", "official SDK's socket + json book", OURS)
