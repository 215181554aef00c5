"""Listeners over real sockets: compression, fragments, and every way a peer can be rude."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from picows import WSCloseCode, WSMsgType, WSTransport, ws_connect
from samples import compact, stream_events
from wsserver import DEFLATE, Deflater, connected, eventually

from nadofast._feed import FeedCore, FeedListener, TextListener, monotonic_ns, parse_deflate_answer

TEXT, BINARY, MORE, PONG = WSMsgType.TEXT, WSMsgType.BINARY, WSMsgType.CONTINUATION, WSMsgType.PONG


def bbo(product_id: int, time: int = 1000, price: int = 100) -> bytes:
    event = next(event for _, event in stream_events() if event["type"] == "best_bid_offer")
    return compact(event | {"product_id": product_id, "timestamp": str(time), "bid_price": str(price)})


def texts(count: int, seed: int = 1) -> list[bytes]:
    rng = random.Random(seed)
    return [b"message %d " % i + rng.randbytes(rng.randrange(0, 4000)).hex().encode() for i in range(count)]


class Inbox:
    """A text listener that keeps what it gets."""

    def __init__(self, **options: Any) -> None:
        self.messages: list[bytes] = []
        self.log: list[str] = []
        self.listener = TextListener(
            self.messages.append,
            on_connected=lambda listener: self.log.append("connected"),
            on_disconnected=lambda listener: self.log.append("disconnected"),
            **options,
        )


# --- messages ---------------------------------------------------------------------------------------------


async def test_plain_messages() -> None:
    inbox, sent = Inbox(), texts(50)

    def script(transport: WSTransport) -> None:
        for message in sent:
            transport.send(TEXT, message)

    async with connected(inbox.listener, script, extension=None):
        await eventually(lambda: len(inbox.messages) == len(sent))
        assert inbox.listener.is_connected
        assert not inbox.listener.deflate_negotiated
    assert inbox.messages == sent
    assert inbox.log == ["connected", "disconnected"]
    assert inbox.listener.failure is None
    assert inbox.listener.frames == inbox.listener.messages == len(sent)
    assert inbox.listener.wire_bytes == sum(map(len, sent))


@pytest.mark.parametrize("takeover", [True, False])
async def test_deflated_messages(takeover: bool) -> None:
    inbox, sent, deflate = Inbox(), texts(100), Deflater(takeover=takeover)

    def script(transport: WSTransport) -> None:
        for index, message in enumerate(sent):
            if index % 10 == 3:
                transport.send(TEXT, message)  # a sender may leave a message as it is
            else:
                transport.send(TEXT, deflate(message), rsv1=True)

    answer = DEFLATE if takeover else f"{DEFLATE}; server_no_context_takeover"
    async with connected(inbox.listener, script, answer):
        await eventually(lambda: len(inbox.messages) == len(sent))
        assert inbox.listener.deflate_negotiated
    assert inbox.messages == sent
    assert inbox.listener.wire_bytes < sum(map(len, sent))


@pytest.mark.parametrize("deflated", [True, False])
async def test_fragmented_messages_with_control_frames_between(deflated: bool) -> None:
    inbox, sent, deflate = Inbox(), texts(30), Deflater()
    rng = random.Random(5)

    def script(transport: WSTransport) -> None:
        for message in sent:
            data = deflate(message) if deflated else message
            cuts = sorted(rng.randrange(len(data) + 1) for _ in range(rng.randrange(0, 4)))
            parts = [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]
            for index, part in enumerate(parts):
                is_last = index == len(parts) - 1
                transport.send(MORE if index else TEXT, part, fin=is_last, rsv1=deflated and index == 0)
                transport.send_pong(b"between")

    async with connected(inbox.listener, script):
        await eventually(lambda: len(inbox.messages) == len(sent))
    assert inbox.messages == sent
    assert inbox.listener.failure is None


async def test_large_message_in_many_frames() -> None:
    inbox, message = Inbox(), random.Random(1).randbytes(1_500_000).hex().encode()

    def script(transport: WSTransport) -> None:
        for start in range(0, len(message), 100_000):
            is_last = start + 100_000 >= len(message)
            transport.send(MORE if start else TEXT, message[start : start + 100_000], fin=is_last)

    async with connected(inbox.listener, script):
        await eventually(lambda: inbox.messages)
    assert inbox.messages == [message]


async def test_feed_listener_feeds_the_core() -> None:
    core, deflate = FeedCore((4, 8)), Deflater()
    listener = FeedListener(core, link=1)

    def script(transport: WSTransport) -> None:
        transport.send(TEXT, deflate(bbo(4)), rsv1=True)
        transport.send(TEXT, deflate(b'{"type":"best_bid_offer"\xff'), rsv1=True)
        transport.send(TEXT, deflate(bbo(8, price=77)), rsv1=True)

    before = monotonic_ns()
    async with connected(listener, script):
        await eventually(lambda: core.bbo(8).is_set)
    assert core.bbo(8).bid_price_x18 == 77
    stats = core.stats()
    assert stats["parse_errors"] == 1, "a bad message is counted; the link lives"
    assert stats["latency"]["best_bid_offer"]["count"] == 2
    assert listener.failure is None
    assert (listener.core, listener.link) == (core, 1)
    assert before < listener.last_frame_ns <= monotonic_ns()


async def test_messages_of_one_read_share_their_arrival() -> None:
    core = FeedCore((4, 8))
    listener = FeedListener(core)
    seen: list[int] = []
    core.set_callback("best_bid_offer", None, lambda live: seen.append(live.received_ns))

    def script(transport: WSTransport) -> None:
        frames = [
            bytes([0x81, 126]) + len(data).to_bytes(2, "big") + data
            for data in (bbo(4), bbo(8), bbo(4, 2000))
        ]
        transport.underlying_transport.write(b"".join(frames))

    async with connected(listener, script, extension=None) as peer:
        await eventually(lambda: len(seen) == 3)
        assert len(set(seen)) == 1
        assert peer.transport is not None
        peer.transport.send(TEXT, bbo(8, 3000))
        await eventually(lambda: len(seen) == 4)
    assert seen[3] > seen[0]


async def test_ping_is_answered_and_ends_a_read() -> None:
    core = FeedCore((4, 8))
    listener = FeedListener(core)

    def script(transport: WSTransport) -> None:
        data = bbo(4)
        frame = bytes([0x81, 126]) + len(data).to_bytes(2, "big") + data
        transport.underlying_transport.write(frame + b"\x89\x02hi")

    async with connected(listener, script, extension=None) as peer:
        await eventually(lambda: peer.received)
        assert peer.received == [(PONG, b"hi")]
        before = monotonic_ns()
        assert peer.transport is not None
        peer.transport.send(TEXT, bbo(8))
        await eventually(lambda: core.bbo(8).is_set)
    assert core.bbo(8).received_ns > before, "not the arrival of the read before"


async def test_pong_is_noted_and_is_no_data() -> None:
    inbox = Inbox()
    async with connected(inbox.listener, lambda transport: None):
        assert inbox.listener.transport is not None
        assert inbox.listener.last_pong_ns == 0
        inbox.listener.transport.send_ping(b"x")
        await eventually(lambda: inbox.listener.last_pong_ns > 0)
    assert inbox.listener.last_frame_ns == 0


async def test_against_the_aiohttp_server() -> None:
    """Another implementation of the sending side, with its own idea of compression."""
    sent = texts(40)

    async def handler(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(compress=True)
        await socket.prepare(request)
        for message in sent:
            await socket.send_str(message.decode())
        await socket.receive()
        return socket

    app = web.Application()
    app.router.add_get("/", handler)
    runner = web.AppRunner(app, shutdown_timeout=1.0)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    inbox = Inbox()
    offer = {"Sec-WebSocket-Extensions": DEFLATE}
    transport, _ = await ws_connect(
        lambda: inbox.listener, f"ws://127.0.0.1:{port}/", extra_headers=offer, use_aiofastnet=False
    )
    await eventually(lambda: len(inbox.messages) == len(sent))
    transport.send_close(WSCloseCode.OK)
    await eventually(lambda: not inbox.listener.is_connected)
    await runner.cleanup()
    assert aiohttp.__version__
    assert inbox.listener.deflate_negotiated
    assert inbox.messages == sent


@pytest.mark.parametrize("use_aiofastnet", [False, True])
async def test_a_peer_that_never_ends_its_side_of_tls_does_not_hold_the_link(use_aiofastnet: bool) -> None:
    """It says goodbye, is answered and reads no more: TLS would wait for its last word."""

    def script(transport: WSTransport) -> None:
        transport.send_close(WSCloseCode.OK)
        transport.underlying_transport.pause_reading()

    inbox = Inbox()
    async with connected(inbox.listener, script, is_tls=True, use_aiofastnet=use_aiofastnet):
        await eventually(lambda: "disconnected" in inbox.log, "told that it is gone")
    assert inbox.listener.close_code == WSCloseCode.OK
    assert inbox.listener.failure is None


async def test_every_message_of_a_burst_is_in_the_latencies_once() -> None:
    """Messages share readings of the clock, more than one for a long burst."""
    core = FeedCore((4,))
    listener = FeedListener(core)

    def script(transport: WSTransport) -> None:
        for time in range(50):
            transport.send(TEXT, bbo(4, 1000 + time))

    async with connected(listener, script, extension=None):
        await eventually(lambda: listener.messages == 50)
        await eventually(lambda: core.stats()["latency"]["best_bid_offer"]["count"] == 50)
    latency = core.stats()["latency"]["best_bid_offer"]
    assert 0 < latency["p50_ns"] <= latency["max_ns"] < 5e9


# --- failures latch ---------------------------------------------------------------------------------------


def _send_all(*frames: tuple[Any, ...]) -> Callable[[WSTransport], None]:
    """Frames as (type, payload, fin, rsv1, rsv2, rsv3), then a good message that must not get through."""

    def script(transport: WSTransport) -> None:
        for frame in frames:
            transport.send(*frame)
        transport.send(TEXT, b"after the failure")

    return script


FAILURES: dict[str, tuple[str, str | None, Callable[[WSTransport], None]]] = {
    "rsv1 although nothing was agreed": ("RSV1", None, _send_all((TEXT, b"x", True, True))),
    "rsv1 on a continuation": ("RSV1", DEFLATE, _send_all((TEXT, b"x", False), (MORE, b"y", True, True))),
    "rsv1 on a control frame": ("RSV1", DEFLATE, _send_all((PONG, b"", True, True))),
    "rsv2": ("RSV2", DEFLATE, _send_all((TEXT, b"x", True, False, True))),
    "rsv3": ("RSV3", DEFLATE, _send_all((TEXT, b"x", True, False, False, True))),
    "rsv2 on a control frame": ("RSV2", DEFLATE, _send_all((PONG, b"", True, False, True))),
    "binary": ("binary", DEFLATE, _send_all((BINARY, b"x"))),
    "continuation of nothing": ("fragments", DEFLATE, _send_all((MORE, b"x"))),
    "a message inside another": ("fragments", DEFLATE, _send_all((TEXT, b"x", False), (TEXT, b"y"))),
    "broken deflate": ("broken", DEFLATE, _send_all((TEXT, b"\xff\xff\xff\xff", True, True))),
    "truncated deflate": (
        "inside a block",
        DEFLATE,
        _send_all((TEXT, Deflater()(b"abc" * 50)[:-9], True, True)),
    ),
    "deflate bomb": ("limit", DEFLATE, _send_all((TEXT, Deflater()(bytes(200_000)), True, True))),
    "bomb in fragments": (
        "limit",
        DEFLATE,
        _send_all(
            (TEXT, Deflater()(bytes(200_000))[:20], False, True), (MORE, Deflater()(bytes(10**6))[20:])
        ),
    ),
    "large message": ("limit", DEFLATE, _send_all((TEXT, bytes(100_001)))),
    "large message in fragments": (
        "limit",
        DEFLATE,
        _send_all((TEXT, bytes(60_000), False), (MORE, bytes(60_000))),
    ),
}


@pytest.mark.parametrize("name", FAILURES)
async def test_failure_latches_and_drops_the_rest(name: str) -> None:
    reason, extension, script = FAILURES[name]
    inbox = Inbox(max_message=100_000)
    async with connected(inbox.listener, script, extension) as peer:
        await eventually(lambda: peer.is_gone, "the socket is aborted")
        await eventually(lambda: not inbox.listener.is_connected)
    assert inbox.listener.failure is not None
    assert reason in inbox.listener.failure
    assert inbox.messages == []
    assert inbox.log == ["connected", "disconnected"]


async def test_first_failure_is_the_one_that_stays() -> None:
    inbox = Inbox()
    script = _send_all((TEXT, b"\xff", True, True), (TEXT, b"x", True, False, True))
    async with connected(inbox.listener, script):
        await eventually(lambda: inbox.listener.failure)
    assert inbox.listener.failure == "deflate: broken data"


async def test_exception_of_the_receiver_latches() -> None:
    calls: list[bytes] = []

    def on_text(message: bytes) -> None:
        calls.append(message)
        raise LookupError("mine")

    listener = TextListener(on_text)
    async with connected(listener, _send_all((TEXT, b"one"), (TEXT, b"two"))) as peer:
        await eventually(lambda: peer.is_gone)
    assert calls == [b"one"]
    assert listener.failure == "LookupError: mine"


async def test_failing_feed_error_handler_latches() -> None:
    def reraise(error: Exception) -> None:
        raise error

    core = FeedCore((4,), on_callback_error=reraise)
    core.set_callback("best_bid_offer", None, lambda live: 1 / 0)
    listener = FeedListener(core)
    async with connected(listener, _send_all((TEXT, bbo(4)), (TEXT, bbo(4, 2000)))) as peer:
        await eventually(lambda: peer.is_gone)
    assert listener.failure == "ZeroDivisionError: division by zero"
    assert core.bbo(4).timestamp_ns == 1000


async def test_exceptions_of_the_link_s_owner_never_reach_the_transport() -> None:
    def fail(listener: object) -> None:
        raise OSError("owner")

    listener = TextListener(lambda message: None, on_connected=fail)
    async with connected(listener, lambda transport: None) as peer:
        await eventually(lambda: peer.is_gone)
    assert listener.failure == "connecting: owner"
    listener = TextListener(lambda message: None, on_disconnected=fail)
    async with connected(listener, lambda transport: None):
        pass
    assert listener.failure == "disconnecting: owner"


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("permessage-deflate; server_max_window_bits=16", "between 8 and 15"),
        ("permessage-deflate; server_max_window_bits", "between 8 and 15"),
        ("permessage-deflate; server_max_window_bits=13", "exceeds"),
        ("permessage-deflate; server_no_context_takeover=1", "no value"),
        ("permessage-deflate; magic", "unknown parameter"),
        ("permessage-deflate; client_no_context_takeover; client_no_context_takeover", "twice"),
        ("permessage-bzip2", "not offered"),
        ("permessage-deflate, permessage-deflate", "more than one"),
    ],
)
async def test_bad_answers_to_the_offer(answer: str, reason: str) -> None:
    inbox = Inbox(server_max_window_bits=12)
    async with connected(inbox.listener, lambda transport: None, answer) as peer:
        await eventually(lambda: peer.is_gone)
    assert inbox.listener.failure is not None
    assert reason in inbox.listener.failure


async def test_answer_without_an_offer() -> None:
    inbox = Inbox(deflate=False)
    async with connected(inbox.listener, lambda transport: None) as peer:
        await eventually(lambda: peer.is_gone)
    assert inbox.listener.failure == "connecting: permessage-deflate was not offered"


@pytest.mark.parametrize(
    ("answer", "meaning"),
    [
        (None, None),
        ("", None),
        ("permessage-deflate", (15, False)),
        ("Permessage-Deflate ; Server_Max_Window_Bits=10", (10, False)),
        ('permessage-deflate; server_max_window_bits="9"; client_max_window_bits=15', (9, False)),
        ("permessage-deflate;server_no_context_takeover;client_no_context_takeover", (15, True)),
    ],
)
def test_good_answers(answer: str | None, meaning: tuple[int, bool] | None) -> None:
    assert parse_deflate_answer(answer) == meaning


# --- closing ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("payload", "code", "reason"),
    [(b"\x03\xe9restarting", 1001, "restarting"), (b"\x03\xe8", 1000, ""), (b"", 0, "")],
)
async def test_close_is_answered(payload: bytes, code: int, reason: str) -> None:
    inbox = Inbox()

    def script(transport: WSTransport) -> None:
        transport.send(WSMsgType.CLOSE, payload)
        transport.send(TEXT, b"after the close")

    async with connected(inbox.listener, script) as peer:
        await eventually(lambda: peer.is_gone)
    assert (inbox.listener.close_code, inbox.listener.close_reason) == (code, reason)
    kind, answer = peer.received[0]
    assert kind == WSMsgType.CLOSE
    assert int.from_bytes(answer[:2], "big") == (code or 1000)
    assert inbox.messages == []
    assert inbox.listener.failure is None
    assert inbox.log == ["connected", "disconnected"]


@pytest.mark.parametrize(
    "frame",
    [
        b"\x81\x81\x00\x00\x00\x00x",  # masked by a server
        b"\x83\x01x",  # reserved opcode
        b"\x09\x00",  # fragmented control frame
        b"\x81\x7f\x00\x00\x00\x00\x00\x20\x00\x00",  # 2 MiB announced
        b"\x81\x7e\x00\x05hello",  # length in the long form
    ],
)
async def test_frames_the_transport_refuses_end_the_link(frame: bytes) -> None:
    inbox = Inbox()
    async with connected(inbox.listener, lambda t: t.underlying_transport.write(frame)) as peer:
        await eventually(lambda: peer.is_gone, deadline_s=10)
    assert inbox.messages == []
    assert inbox.log == ["connected", "disconnected"]


@pytest.mark.parametrize("refused", [b"\x88\x01x", b"\x88\x06\x03\xe8ok\xff\xff", b"\x88\x02\x03\xed"])
async def test_nothing_is_taken_after_a_frame_the_transport_refused(refused: bytes) -> None:
    """The transport answers with a close frame and goes on reading for a moment."""
    inbox = Inbox()

    def script(transport: WSTransport) -> None:
        transport.send(TEXT, b"one")
        transport.send(TEXT, b"two")
        transport.underlying_transport.write(refused)

    async with connected(inbox.listener, script) as peer:
        await eventually(lambda: any(kind == WSMsgType.CLOSE for kind, _ in peer.received))
        assert peer.transport is not None
        peer.transport.underlying_transport.write(b"\x81\x05three")
        await eventually(lambda: peer.is_gone)
    assert inbox.messages in ([], [b"one"], [b"one", b"two"])


@pytest.mark.parametrize("cut", [1, 2, 3, 50])
async def test_socket_that_ends_inside_a_frame(cut: int) -> None:
    inbox = Inbox()

    def script(transport: WSTransport) -> None:
        frame = b"\x81\x7e\x01\x00" + bytes(256)
        transport.underlying_transport.write(frame[:cut])
        transport.underlying_transport.close()

    async with connected(inbox.listener, script):
        await eventually(lambda: not inbox.listener.is_connected)
    assert inbox.messages == []


# --- construction -----------------------------------------------------------------------------------------


def test_wrong_arguments() -> None:
    core = FeedCore(())
    for options in ({"server_max_window_bits": 7}, {"max_message": 0}):
        with pytest.raises(ValueError):
            FeedListener(core, **options)
    with pytest.raises(TypeError):
        FeedListener(None)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        TextListener(None)  # type: ignore[arg-type]


def test_another_picows_is_refused() -> None:
    """An extension built against another version would read garbage."""
    code = "import picows.version as v; v.__version__ = '2.4.0'; import nadofast._feed"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert "built with picows 2.3.1 and cannot run with 2.4.0" in done.stderr
