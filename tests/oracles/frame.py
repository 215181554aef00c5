"""A client's WebSocket frames in plain Python (RFC 6455, section 5.2), read back one by one."""

from __future__ import annotations

from collections.abc import Iterator


def text_messages(stream: bytes) -> Iterator[bytes]:
    """Payloads of final, masked text frames. Raises ValueError on anything else, a torn frame included."""
    while stream:
        if stream[0] != 0x81 or not stream[1] & 0x80:
            raise ValueError("not a final, masked text frame")
        size, at = stream[1] & 0x7F, 2
        if size == 126:
            size, at = int.from_bytes(stream[2:4], "big"), 4
            if size < 126:
                raise ValueError("a length in more bytes than it needs")
        elif size == 127:
            size, at = int.from_bytes(stream[2:10], "big"), 10
            if size < 1 << 16:
                raise ValueError("a length in more bytes than it needs")
        mask, body = stream[at : at + 4], stream[at + 4 : at + 4 + size]
        if len(body) != size or len(mask) != 4:
            raise ValueError("a torn frame")
        yield bytes(byte ^ mask[index % 4] for index, byte in enumerate(body))
        stream = stream[at + 4 + size :]
