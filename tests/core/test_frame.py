"""The compiled frames against plain Python that reads them back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracles.frame import text_messages

from nadofast._frame import text_frames

EDGES = [0, 1, 3, 4, 7, 8, 9, 125, 126, 127, 65_535, 65_536, 65_537]


@given(st.lists(st.binary(max_size=300), max_size=5), st.binary(min_size=20, max_size=20))
def test_what_was_framed_is_read_back(messages: list[bytes], masks: bytes) -> None:
    frames = text_frames(messages, masks[: 4 * len(messages)])
    assert list(text_messages(frames)) == messages


@pytest.mark.parametrize("size", EDGES)
def test_every_width_of_a_length(size: int) -> None:
    messages = [bytes(range(256)) * (size // 256 + 1)]
    messages = [messages[0][:size], b"after"]
    frames = text_frames(tuple(messages), bytes.fromhex("a1b2c3d4ffffffff"))
    assert list(text_messages(frames)) == messages
    head = 2 if size < 126 else 4 if size < 65_536 else 10
    assert frames[head : head + 4] == bytes.fromhex("a1b2c3d4")


def test_what_is_no_message_is_refused() -> None:
    assert text_frames([], b"") == b""
    for masks in (b"", b"123", b"12345"):
        with pytest.raises(ValueError, match="4 bytes of mask"):
            text_frames([b"x"], masks)
    for wrong in ([b"x", "y"], [None], [bytearray(b"x")]):
        with pytest.raises(TypeError):
            text_frames(wrong, bytes(4 * len(wrong)))  # type: ignore[arg-type]
