"""The usual mix of messages without end, on few templates: times and submission ids are written in anew.

A cycle ends with a batch that gives every level its first total again, so cycles follow each other without a
gap. Run as a program it is a server: one client, deflated frames as fast as they are taken, COUNT messages.

    endless.py COUNT
"""

from __future__ import annotations

import random
import socket
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path[:0] = [str(ROOT / "bench")]

from sender import accept_handshake, frame  # noqa: E402
from streams import START_NS, Stream, compact, live_messages  # noqa: E402

CYCLE = 5_000
DIGITS = 19
TAIL = b"\x00\x00\xff\xff"


class Endless:
    """messages() goes on for ever; `snapshot` is where it begins and where every cycle ends."""

    def __init__(self, seed: int = 1) -> None:
        stream = Stream(seed=seed)
        self.snapshot = stream.snapshot()
        self.first = {"bids": dict(stream.bids), "asks": dict(stream.asks)}
        messages = live_messages(CYCLE, stream)
        levels: dict[str, list[list[str]]] = {"bids": [], "asks": []}
        for side, now in (("bids", stream.bids), ("asks", stream.asks)):
            for price in sorted(self.first[side].keys() | now.keys()):
                levels[side].append([str(price), str(self.first[side].get(price, 0))])
        last = stream.depth()
        messages.append(compact(last | levels))
        self.templates = [(kind_of(message), message) for message in messages]

    def messages(self, rng: random.Random) -> Iterator[bytes]:
        now = book_ns = START_NS
        submission = 10**9
        while True:
            for kind, template in self.templates:
                now += rng.randrange(1, 2_000_000)
                if kind == "bbo":
                    yield with_numbers(template, (b'timestamp":"', now))
                elif kind == "depth":
                    times = (b'last_max_timestamp":"', book_ns), (b'min_timestamp":"', now)
                    yield with_numbers(template, *times, (b'"max_timestamp":"', now))
                    book_ns = now
                else:
                    submission += 1
                    head = with_numbers(template, (b'timestamp":"', now))
                    yield head[: head.index(b'submission_idx":"') + 17] + b'%d"}' % submission


def kind_of(message: bytes) -> str:
    return {b"e": "bbo", b"o": "depth", b"i": "fill"}[message[10:11]]


def with_numbers(template: bytes, *places: tuple[bytes, int]) -> bytes:
    """A time of 19 digits behind each of these texts."""
    for text, number in places:
        at = template.index(text) + len(text)
        template = template[:at] + str(number).encode() + template[at + DIGITS :]
    return template


def serve(count: int) -> None:
    endless = Endless()
    deflate = zlib.compressobj(1, wbits=-15)
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(60)
        print(server.getsockname()[1], flush=True)
        client, _ = server.accept()
        with client:
            client.settimeout(60)
            accept_handshake(client)
            client.recv(4096)
            pending = []
            for number, message in enumerate(endless.messages(random.Random(1)), 1):
                data = deflate.compress(message) + deflate.flush(zlib.Z_SYNC_FLUSH)
                pending.append(frame(data.removesuffix(TAIL)))
                if len(pending) == 64 or number == count:
                    client.sendall(b"".join(pending))
                    pending.clear()
                if number == count:
                    break
            client.sendall(b"\x88\x02\x03\xe8")
            while client.recv(4096):
                pass


if __name__ == "__main__":
    serve(int(sys.argv[1]))
