from collections.abc import Callable
from typing import Final

from picows import WSFrame, WSListener, WSTransport

from ._bbo import Bbo as Bbo
from ._core import APPLIED as APPLIED
from ._core import BUFFERED as BUFFERED
from ._core import DELIVERED as DELIVERED
from ._core import DUPLICATE as DUPLICATE
from ._core import FOREIGN as FOREIGN
from ._core import GAP as GAP
from ._core import PARSE_ERROR as PARSE_ERROR
from ._core import UNKNOWN as UNKNOWN
from ._core import FeedCore as FeedCore
from ._core import monotonic_ns as monotonic_ns

PICOWS_VERSION: Final[str]

def parse_deflate_answer(header: str | None, max_window_bits: int = 15) -> tuple[int, bool] | None:
    """(server_max_window_bits, server_no_context_takeover) of a Sec-WebSocket-Extensions answer, or None.

    None: no extension was agreed. ValueError for anything but one permessage-deflate with parameters
    RFC 7692 knows, each at most once and in range.
    """

class MessageListener(WSListener):
    """Frames of one socket to whole messages: inflate, assemble, answer pings, latch on the first failure.

    Connect with `enable_auto_pong=False`: pings are answered here.
    """

    tap: Callable[[int, bytes], object] | None
    """Called with (monotonic arrival in ns, message) before anybody else reads it. It must not raise."""
    def on_ws_connected(self, transport: WSTransport) -> None: ...
    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None: ...
    def on_ws_disconnected(self, transport: WSTransport) -> None: ...
    @property
    def transport(self) -> WSTransport | None: ...
    @property
    def failure(self) -> str | None:
        """Why this link latched; every later frame is dropped."""
    @property
    def is_connected(self) -> bool: ...
    @property
    def deflate_negotiated(self) -> bool: ...
    @property
    def last_frame_ns(self) -> int:
        """Monotonic arrival of the last data frame, 0 before."""
    @property
    def last_pong_ns(self) -> int: ...
    @property
    def close_code(self) -> int:
        """Close code the server sent, 0 if none."""
    @property
    def close_reason(self) -> str: ...
    @property
    def frames(self) -> int: ...
    @property
    def messages(self) -> int: ...
    @property
    def wire_bytes(self) -> int:
        """Payload bytes as they came, before inflating."""

class FeedListener(MessageListener):
    """One link of a feed: every message goes to the core.

    on_connected(listener) runs after the handshake, on_disconnected(listener) when the socket is gone.
    deflate: whether permessage-deflate was offered. What was agreed is read from the response headers.
    """

    def __init__(
        self,
        core: FeedCore,
        *,
        link: int = 0,
        deflate: bool = True,
        server_max_window_bits: int = 15,
        server_no_context_takeover: bool = False,
        on_connected: Callable[[FeedListener], object] | None = None,
        on_disconnected: Callable[[FeedListener], object] | None = None,
        max_message: int = 4194304,
    ) -> None: ...
    @property
    def core(self) -> FeedCore: ...
    @property
    def link(self) -> int: ...

class TextListener(MessageListener):
    """Request and reply sockets: on_text(message) gets every whole message as bytes."""

    def __init__(
        self,
        on_text: Callable[[bytes], object],
        *,
        on_connected: Callable[[TextListener], object] | None = None,
        on_disconnected: Callable[[TextListener], object] | None = None,
        deflate: bool = True,
        server_max_window_bits: int = 15,
        server_no_context_takeover: bool = False,
        max_message: int = 4194304,
    ) -> None: ...
