"""permessage-deflate receive side, both decoders, against Python's zlib."""

from __future__ import annotations

import random
import zlib
from collections.abc import Iterator
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nadofast._inflate import ZLIB_VERSION, Inflater

TAIL = b"\x00\x00\xff\xff"


@pytest.fixture(scope="module", autouse=True, params=["zlib", "own"])
def decoder(request: pytest.FixtureRequest) -> Iterator[str]:
    """Every test here holds for either decoder, chosen as a user would."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NADOFAST_INFLATE", request.param)
        yield request.param


class Deflater:
    """Send side of the extension."""

    def __init__(self, window_bits: int = 15, *, takeover: bool = True, level: int = 6) -> None:
        self.arguments = (level, zlib.DEFLATED, -window_bits)
        self.takeover = takeover
        self.stream = zlib.compressobj(*self.arguments)

    def __call__(self, message: bytes) -> bytes:
        if not self.takeover:
            self.stream = zlib.compressobj(*self.arguments)
        data = self.stream.compress(message) + self.stream.flush(zlib.Z_SYNC_FLUSH)
        assert data.endswith(TAIL)
        return data[:-4]


def cut(data: bytes, points: list[int]) -> list[bytes]:
    edges = [0, *sorted(min(point, len(data)) for point in points), len(data)]
    return [data[start:end] for start, end in pairwise(edges)]


def texts(seed: int, count: int) -> list[bytes]:
    """Messages as alike as those of a stream are."""
    rng = random.Random(seed)
    return [
        b'{"type":"best_bid_offer","timestamp":"%d","bid_price":"%d000000000000000000"}'
        % (1_790_000_000_000_000_000 + rng.randrange(10**9), rng.randrange(3000, 3100))
        * rng.randrange(1, 9)
        for _ in range(count)
    ]


def test_zlib_was_found() -> None:
    assert zlib.ZLIB_RUNTIME_VERSION == ZLIB_VERSION


@pytest.mark.parametrize("takeover", [True, False])
@pytest.mark.parametrize("bits", [9, 12, 15])
@given(
    messages=st.lists(st.binary(max_size=3000), max_size=8), points=st.lists(st.integers(0, 200), max_size=4)
)
def test_round_trip(takeover: bool, bits: int, messages: list[bytes], points: list[int]) -> None:
    deflate, inflater = Deflater(bits, takeover=takeover), Inflater(bits, not takeover)
    for message in messages:
        assert inflater.inflate(*cut(deflate(message), points)) == message


@pytest.mark.parametrize("level", [0, 1, 6, 9])
def test_stream_with_context_takeover(level: int) -> None:
    deflate, inflater = Deflater(level=level), Inflater()
    sizes = []
    for message in texts(1, 500):
        data = deflate(message)
        sizes.append(len(data))
        assert inflater.inflate(data) == message
    assert level == 0 or sizes[-1] < sizes[0], "the window is kept between messages"


def test_takeover_ends_when_the_server_says_so() -> None:
    deflate, inflater = Deflater(), Inflater(15, True)
    message = random.Random(1).randbytes(500)
    assert inflater.inflate(deflate(message)) == message
    with pytest.raises(ValueError, match="broken"):
        inflater.inflate(deflate(message))


def test_blocks_with_bfinal_keep_the_window() -> None:
    """RFC 7692, 7.2.3.4: a sender may end its stream; the window goes on."""
    inflater = Inflater()
    message = random.Random(2).randbytes(300)
    assert inflater.inflate(Deflater()(message)) == message
    final = zlib.compressobj(6, zlib.DEFLATED, -15, zdict=message)
    data = final.compress(message) + final.flush(zlib.Z_FINISH) + b"\x00"
    assert len(data) < 50, "it does refer to the window"
    assert inflater.inflate(data) == message
    onward = zlib.compressobj(6, zlib.DEFLATED, -15, zdict=message + message)
    data = (onward.compress(message) + onward.flush(zlib.Z_SYNC_FLUSH))[:-4]
    assert len(data) < 50
    assert inflater.inflate(data) == message


def test_output_beyond_the_first_buffer_and_the_cap() -> None:
    big = bytes(300_000) + random.Random(3).randbytes(100_000)
    assert Inflater().inflate(Deflater()(big)) == big
    exact = Inflater(max_output=len(big))
    assert exact.inflate(Deflater()(big)) == big
    with pytest.raises(ValueError, match="limit"):
        Inflater(max_output=len(big) - 1).inflate(Deflater()(big))


@pytest.mark.parametrize("size", [1, 30, 700, 1500])
def test_cap_of_short_messages_is_exact(size: int) -> None:
    """Also where the tail that senders leave out is appended to a copy of the message."""
    message = random.Random(size).randbytes(size)
    for level in (0, 6):
        inflater = Inflater(max_output=size)
        deflate = Deflater(level=level)
        assert [inflater.inflate(deflate(message)) for _ in range(3)] == [message] * 3
        with pytest.raises(ValueError, match="limit"):
            inflater.inflate(deflate(message + b"x"))


def test_bomb_is_refused_before_it_is_unpacked() -> None:
    bomb = Deflater(level=9)(bytes(100_000_000))
    assert len(bomb) < 200_000
    inflater = Inflater(max_output=1_000_000)
    with pytest.raises(ValueError, match="limit"):
        inflater.inflate(bomb)
    with pytest.raises(ValueError, match="broken"):
        inflater.inflate(Deflater()(b"the window is lost"))


@pytest.mark.parametrize("seed", range(3))
def test_truncation_is_seen(seed: int) -> None:
    message = texts(seed, 1)[0] * 3
    data = Deflater()(message)
    for size in range(len(data) - 1):
        inflater = Inflater()
        try:
            found = inflater.inflate(data[:size])
        except ValueError:
            continue
        assert message.startswith(found), "a shorter stream may be a stream, never other text"


@given(st.binary(max_size=300))
def test_garbage_is_an_error_or_some_text(data: bytes) -> None:
    inflater = Inflater(max_output=100_000)
    expected: bytes | None
    try:
        expected = zlib.decompressobj(-15).decompress(data + TAIL)
    except zlib.error:
        expected = None
    try:
        found = inflater.inflate(data)
    except ValueError:
        return
    assert expected is not None or found == b""


def test_empty_message() -> None:
    inflater = Inflater()
    assert inflater.inflate(b"\x00") == b""
    assert inflater.inflate(Deflater()(b"")) == b""
    assert inflater.inflate(Deflater()(b"abc")) == b"abc"


@pytest.mark.parametrize("arguments", [(7,), (16,), (15, False, 0)])
def test_wrong_arguments(arguments: tuple[int, ...]) -> None:
    with pytest.raises(ValueError):
        Inflater(*arguments)  # type: ignore[arg-type]


def test_eight_bits_means_nine() -> None:
    assert Inflater(8).inflate(Deflater(9)(b"x" * 2000)) == b"x" * 2000


def test_final_empty_stored_block_ends_a_message() -> None:
    """A last block may itself be the empty one whose tail is left out."""
    assert Inflater().inflate(b"\x01") == b""


def test_decoder_is_chosen(decoder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert Inflater().decoder == decoder
    assert Inflater(own=True).decoder == "own"
    assert Inflater(own=False).decoder == "zlib"
    monkeypatch.delenv("NADOFAST_INFLATE")
    assert Inflater().decoder == "own", "zlib only if asked for"
    monkeypatch.setenv("NADOFAST_INFLATE", "fast")
    with pytest.raises(ValueError, match="expected zlib or own"):
        Inflater()


@pytest.mark.parametrize("strategy", range(5))
@pytest.mark.parametrize(("level", "memory"), [(1, 1), (4, 9), (6, 8), (9, 1)])
def test_senders_of_every_kind(level: int, memory: int, strategy: int) -> None:
    """Levels, block sizes and strategies give every kind of block; long runs slide the window."""
    rng = random.Random(level + strategy)
    messages = [
        *texts(level, 60),
        rng.randbytes(40_000),
        bytes(150_000),
        bytes(rng.choices(b"abcd", k=40_000)),
    ]
    for bits in (9, 15):
        stream = zlib.compressobj(level, zlib.DEFLATED, -bits, memory, strategy)
        inflater = Inflater(bits)
        for message in messages:
            data = stream.compress(message) + stream.flush(zlib.Z_SYNC_FLUSH)
            assert inflater.inflate(data[:-4]) == message
