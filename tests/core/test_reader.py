"""The reader before picows: however the bytes of a link are cut into reads, each message is there at once."""

from __future__ import annotations

import asyncio
import gc
import random
from contextlib import nullcontext
from functools import partial
from itertools import pairwise
from typing import Any

import pytest
from picows import WSMsgType, WSTransport
from samples import compact, stream_events
from wsserver import DEFLATE, Deflater, connected, eventually

from nadofast._feed import FeedCore, FeedListener, TextListener

TEXT, MORE, PING, PONG, RSV1 = 1, 0, 9, 10, 0x40


def frame(kind: int, payload: bytes, *, fin: bool = True, rsv1: bool = False) -> bytes:
    size = len(payload)
    first = kind | (0x80 if fin else 0) | (RSV1 if rsv1 else 0)
    if size < 126:
        return bytes((first, size)) + payload
    if size < 1 << 16:
        return bytes((first, 126)) + size.to_bytes(2, "big") + payload
    return bytes((first, 127)) + size.to_bytes(8, "big") + payload


def reader_of(listener: Any) -> Any:
    """What the socket's transport calls."""
    return listener.transport.underlying_transport.get_protocol()


def read(reader: Any, data: bytes) -> None:
    """As if the socket had brought these bytes at once."""
    while data:
        room = reader.get_buffer(-1)
        size = min(len(room), len(data))
        room[:size] = data[:size]
        del room
        reader.buffer_updated(size)
        data = data[size:]


def nothing(transport: WSTransport) -> None:
    """The server says nothing."""


def conversation(sizes: tuple[int, ...], rng: random.Random) -> tuple[bytes, list[tuple[int, bytes]]]:
    """Frames of every kind, and each message with the number of bytes after which it is whole."""
    deflate, sent, whole = Deflater(), b"", []
    for size in sizes:
        message = rng.randbytes(size // 2).hex().encode()
        is_deflated = rng.random() < 0.5
        data = deflate(message) if is_deflated else message
        cuts = sorted(rng.randrange(len(data) + 1) for _ in range(rng.choice((0, 0, 1, 2))))
        parts = [data[a:b] for a, b in pairwise([0, *cuts, len(data)])]
        for index, part in enumerate(parts):
            if rng.random() < 0.3:
                sent += frame(rng.choice((PING, PONG)), rng.randbytes(rng.randrange(5)))
            is_last = index == len(parts) - 1
            kind = MORE if index else TEXT
            sent += frame(kind, part, fin=is_last, rsv1=is_deflated and index == 0)
        whole.append((len(sent), message))
    return sent, whole


async def check_cut(sent: bytes, whole: list[tuple[int, bytes]], cuts: list[int]) -> None:
    found: list[bytes] = []
    listener = TextListener(found.append)
    async with connected(listener, nothing):
        reader = reader_of(listener)
        for start, end in pairwise([0, *cuts, len(sent)]):
            read(reader, sent[start:end])
            assert found == [message for at, message in whole if at <= end], (cuts, end)
        assert listener.failure is None


async def test_one_cut_at_every_byte() -> None:
    sent, whole = conversation((0, 40, 200, 30, 2), random.Random(3))
    for cut in range(1, len(sent)):
        await check_cut(sent, whole, [cut])


@pytest.mark.parametrize("seed", range(20))
async def test_many_cuts_through_frames_of_all_sizes(seed: int) -> None:
    rng = random.Random(seed)
    sizes = tuple(rng.choice((0, 20, 250, 4094, 4098, 9_000, 70_000, 140_000)) for _ in range(30))
    sent, whole = conversation(sizes, rng)
    await check_cut(sent, whole, sorted(rng.randrange(len(sent)) for _ in range(rng.choice((1, 30, 300)))))


async def test_frames_of_a_read_share_its_arrival_whoever_reads_them() -> None:
    event = next(event for _, event in stream_events() if event["type"] == "best_bid_offer")
    core = FeedCore((4, 8))
    seen: list[int] = []
    core.set_callback("best_bid_offer", None, lambda live: seen.append(live.received_ns))
    listener = FeedListener(core)

    def bbo(product_id: int, time: int) -> bytes:
        return frame(TEXT, compact(event | {"product_id": product_id, "timestamp": str(time)}))

    async with connected(listener, nothing, extension=None) as peer:
        reader = reader_of(listener)
        read(reader, bbo(4, 1) + frame(PING, b"hi") + bbo(8, 1) + frame(PONG, b"") + bbo(4, 2))
        assert len(seen) == 3
        assert len(set(seen)) == 1
        read(reader, bbo(8, 2))
        assert seen[3] > seen[0]
        await eventually(lambda: peer.received == [(WSMsgType.PONG, b"hi")])
    latency = core.stats()["latency"]["best_bid_offer"]
    assert latency["count"] == 4


async def test_reading_is_direct_again_after_what_goes_to_the_transport() -> None:
    found: list[bytes] = []
    listener = TextListener(found.append)
    async with connected(listener, nothing):
        reader = reader_of(listener)
        rooms = []
        for data in (frame(TEXT, b"first"), frame(PING, b""), frame(TEXT, bytes(9_000)), frame(TEXT, b"a")):
            read(reader, data[:3])
            read(reader, data[3:] + frame(TEXT, b"next"))
            rooms.append(len(reader.get_buffer(-1)))
        assert len(found) == 7
        assert len(set(rooms)) == 1


async def test_what_comes_with_the_rest_of_a_long_frame_came_with_it() -> None:
    """Handling of the long one is a wait inside the read: it counts for what lies behind."""
    stamps: list[int] = []
    listener = TextListener(lambda message: None)
    listener.tap = lambda received_ns, message: stamps.append(received_ns)
    async with connected(listener, nothing, extension=None):
        reader = reader_of(listener)
        read(reader, frame(TEXT, b"one"))
        long = frame(TEXT, bytes(9_000))
        read(reader, long[:5_000])
        read(reader, long[5_000:] + frame(TEXT, b"next") + frame(PING, b"") + frame(TEXT, b"last"))
        assert len(stamps) == 4
        assert stamps[0] < stamps[1] == stamps[2] == stamps[3]


async def test_what_the_transport_keeps_to_itself_does_not_shift_the_frames_behind() -> None:
    """It answers its own pong without a word to the listener, gets all that comes until one of its frames
    tells how much it holds, and its room may end where a frame does."""
    found: list[bytes] = []
    listener = TextListener(found.append)
    async with connected(listener, nothing, extension=None):
        reader = reader_of(listener)
        read(reader, frame(TEXT, b"one"))
        asked = asyncio.ensure_future(listener.transport.measure_roundtrip_time(1))
        await asyncio.sleep(0)
        behind = next(one for one in gc.get_referents(reader) if type(one).__name__ == "WSProtocol")
        room, messages = len(behind.get_buffer(-1)), []
        while (left := room - sum(len(one) + 4 for one in messages)) > 4:
            messages.append(bytes(1_000 if left > 2_008 else left - 4))
        messages += [b"12345" + frame(TEXT, b"forged") * 40, b"end"]
        sent = b"".join(frame(TEXT, message) for message in messages)
        read(reader, frame(PONG, b"") + sent[: room + 9])
        read(reader, sent[room + 9 :])
        assert found == [b"one", *messages]
        assert listener.failure is None
        asked.cancel()


async def test_the_transports_limit_of_a_frame_holds() -> None:
    found: list[bytes] = []
    listener = TextListener(found.append)
    async with connected(listener, nothing, max_frame_size=5_000) as peer:
        read(reader_of(listener), frame(TEXT, bytes(5_000)) + frame(TEXT, bytes(5_001)) + frame(TEXT, b"x"))
        await eventually(lambda: peer.is_gone, deadline_s=10)
    assert found in ([], [bytes(5_000)])


@pytest.mark.parametrize(
    "refused", [b"\x81\x81\x00\x00\x00\x00x", b"\x83\x01x", b"\x09\x00", b"\x81\x7e\x00\x05hello"]
)
async def test_nothing_behind_a_frame_that_is_refused(refused: bytes) -> None:
    found: list[bytes] = []
    listener = TextListener(found.append)
    async with connected(listener, nothing) as peer:
        reader = reader_of(listener)
        read(reader, frame(TEXT, b"one"))
        read(reader, frame(TEXT, b"two") + refused + frame(TEXT, b"three"))
        read(reader, frame(TEXT, b"four"))
        await eventually(lambda: peer.is_gone, deadline_s=10)
    assert found == [b"one", b"two"]


@pytest.mark.parametrize("is_direct", [False, True])
@pytest.mark.parametrize("error", [KeyboardInterrupt, LookupError])
async def test_what_is_raised_through_a_read_ends_the_link(
    error: type[BaseException], is_direct: bool
) -> None:
    """The first frame of a connection goes to the transport, the next one does not."""
    found: list[bytes] = []

    def take(message: bytes) -> None:
        found.append(message)
        if message == b"bad":
            raise error("mine")

    listener = TextListener(take)
    async with connected(listener, nothing, extension=None) as peer:
        reader = reader_of(listener)
        if is_direct:
            read(reader, frame(TEXT, b"good"))
        with pytest.raises(error) if error is KeyboardInterrupt else nullcontext():
            read(reader, frame(TEXT, b"bad") + frame(TEXT, b"behind"))
        assert listener.failure == ("interrupted" if error is KeyboardInterrupt else "LookupError: mine")
        read(reader, frame(TEXT, b"two"))
        await eventually(lambda: peer.is_gone)
    assert found == [b"good"] * is_direct + [b"bad"]


async def test_a_broken_rule_ends_direct_reading_at_once() -> None:
    found: list[bytes] = []
    listener = TextListener(found.append)
    async with connected(listener, nothing, extension=None) as peer:
        read(reader_of(listener), frame(TEXT, b"good"))
        read(reader_of(listener), frame(MORE, b"of nothing") + frame(TEXT, b"behind"))
        assert listener.failure == "protocol: fragments out of order"
        read(reader_of(listener), frame(TEXT, b"two"))
        await eventually(lambda: peer.is_gone)
    assert found == [b"good"]


async def test_over_tls_and_another_transport() -> None:
    for options in ({}, {"use_aiofastnet": True}):
        found: list[bytes] = []
        listener = TextListener(found.append)
        sent = [b"%d" % i * (i % 2_000) for i in range(200)]

        def script(transport: WSTransport, sent: list[bytes] = sent) -> None:
            for index, message in enumerate(sent):
                transport.send(WSMsgType.TEXT, message)
                if index % 50 == 0:
                    transport.send_ping(b"")

        async with connected(listener, script, DEFLATE, is_tls=True, **options):
            await eventually(partial(lambda found, sent: len(found) == len(sent), found, sent))
        assert found == sent
        assert listener.failure is None
