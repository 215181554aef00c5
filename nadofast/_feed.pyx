"""picows listeners: frames in borrowed memory → whole messages (transport section of the API, RFC 6455, 7692).

Nothing here raises into the transport. After an exception in a listener the rest of a read burst would
still arrive, on a broken deflate stream; so the first failure latches: the reason is kept, every later
frame is dropped, the socket is aborted and its owner opens a new one.

t0 of a message is the arrival of the first frame of its read burst, so that queueing inside it counts.
Frames come from a reader that stands before picows (`_reader`), or from picows. A burst of picows ends with the frame
marked as its last, so the listener must see every frame: connect with `enable_auto_pong=False`; pings are answered here.
"""

from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memcpy

from picows.picows cimport WSCloseCode, WSFrame, WSListener, WSMsgType, WSTransport

from ._core cimport FeedCore as Core, now_ns
from ._inflate cimport INFLATE_OK, INFLATE_TOO_LARGE, INFLATE_TRUNCATED, Inflater
from ._reader cimport NO_MORE, FrameTaker, missing, short_frame

from asyncio import get_running_loop

import picows.version

from ._bbo import Bbo
from ._core import (
    APPLIED,
    BUFFERED,
    DELIVERED,
    DUPLICATE,
    FOREIGN,
    GAP,
    PARSE_ERROR,
    UNKNOWN,
    FeedCore,
    monotonic_ns,
)
from ._reader import FrameReader

# The listener is compiled against the memory layout of exactly this version.
PICOWS_VERSION = "2.3.1"
if picows.version.__version__ != PICOWS_VERSION:
    raise ImportError(
        f"nadofast was built with picows {PICOWS_VERSION} and cannot run with {picows.version.__version__}:"
        f" install picows=={PICOWS_VERSION}"
    )

cdef double CLOSE_WAIT_S = 1.0

cdef enum:
    FIRST_PARTS = 65536
    MAX_REASON = 123          # bytes of a close frame's reason


def parse_deflate_answer(header, max_window_bits=15):
    """(server_max_window_bits, server_no_context_takeover) of a Sec-WebSocket-Extensions answer, or None.

    None: no extension was agreed. ValueError for anything but one permessage-deflate with parameters
    RFC 7692 knows, each at most once and in range.
    """
    if header is None or not header.strip():
        return None
    if "," in header:
        raise ValueError("more than one extension")
    name, *parameters = [part.strip() for part in header.split(";")]
    if name.lower() != "permessage-deflate":
        raise ValueError(f"extension {name[:40]!r} was not offered")
    seen = {}
    for parameter in parameters:
        key, _, value = parameter.partition("=")
        key = key.strip().lower()
        value = value.strip().strip('"')
        if key in seen:
            raise ValueError(f"{key[:40]} is given twice")
        if key in ("server_no_context_takeover", "client_no_context_takeover"):
            if "=" in parameter:
                raise ValueError(f"{key} has no value")
        elif key in ("server_max_window_bits", "client_max_window_bits"):
            if value not in ("8", "9", "10", "11", "12", "13", "14", "15"):
                raise ValueError(f"{key} lies between 8 and 15")
        else:
            raise ValueError(f"unknown parameter {key[:40]!r}")
        seen[key] = value
    bits = int(seen.get("server_max_window_bits", 15))
    if bits > max_window_bits:
        raise ValueError(f"server_max_window_bits {bits} exceeds the offered {max_window_bits}")
    return bits, "server_no_context_takeover" in seen


cdef class MessageListener(FrameTaker):
    def __dealloc__(self):
        free(self.parts)

    cdef int _setup(
        self, bint deflate, int server_max_window_bits, bint server_no_context_takeover,
        object on_connected, object on_disconnected, Py_ssize_t max_message,
    ) except -1:
        if not 8 <= server_max_window_bits <= 15:
            raise ValueError("server_max_window_bits lies between 8 and 15")
        if max_message < 1:
            raise ValueError("max_message must be positive")
        self.deflate_offered = deflate
        self.offered_window_bits = server_max_window_bits
        self.offered_no_takeover = server_no_context_takeover
        self.on_connected = on_connected
        self.on_disconnected = on_disconnected
        self.max_message = max_message
        self.close_reason = ""
        return 0

    # --- called by picows; none of these raises ---

    cpdef on_ws_connected(self, WSTransport transport):
        self.transport = transport
        try:
            self._agree(transport)
            FrameReader(self, transport.underlying_transport)
            self.is_connected = True
            if self.on_connected is not None:
                self.on_connected(self)
        except Exception as error:
            self._fail(f"connecting: {error}")

    cpdef on_ws_frame(self, WSTransport transport, WSFrame frame):
        if self.failure is not None or self.closing:
            return
        if self.burst_ns == 0:
            self.burst_ns = now_ns()
        try:
            self._frame(transport, frame)
        except BaseException as error:
            self.broke(error)
        if frame.last_in_buffer:
            self.owed = missing(<const uint8_t*>frame.payload_ptr + frame.payload_size, frame.tail_size)
            if not self.in_read:
                self.on_burst_end()
                self.burst_ns = 0

    cpdef on_ws_disconnected(self, WSTransport transport):
        self.is_connected = False
        if self.abort_timer is not None:
            self.abort_timer.cancel()
        try:
            if self.on_disconnected is not None:
                self.on_disconnected(self)
        except Exception as error:
            self._fail(f"disconnecting: {error}")

    # --- called by the reader ---

    cdef bint begin_read(self) noexcept:
        if not self.goes_on():
            return False
        self.burst_ns = now_ns()
        self.in_read = True
        return True

    cdef int take_frames(self, const uint8_t** at, const uint8_t* end) except -1:
        cdef Py_ssize_t head, size
        cdef const uint8_t* frame = at[0]
        cdef int reason = short_frame(frame, end - frame, &head, &size)
        while reason < 0:
            self.frames += 1
            self._data(<const char*>frame + head, size, frame[0] & 1, frame[0] >> 7, frame[0] >> 6 & 1)
            if self.failure is not None:
                return NO_MORE
            frame += head + size
            reason = short_frame(frame, end - frame, &head, &size)
        at[0] = frame
        return reason

    cdef bint goes_on(self) noexcept:
        return self.failure is None and not self.closing

    cdef int broke(self, object error) except -1:
        if isinstance(error, Exception):
            return self._fail(f"{type(error).__name__}: {error}")
        self._fail("interrupted")
        raise error

    cdef int end_read(self) except -1:
        self.in_read = False
        self.on_burst_end()
        self.burst_ns = 0
        return 0

    # --- frames ---

    cdef int on_message(self, const char* data, Py_ssize_t size) except -1:
        """One whole message in borrowed memory; what it raises latches the link."""
        return 0

    cdef void on_burst_end(self) noexcept nogil:
        """What one read of the socket brought has been handed over; burst_ns still is its time."""

    cdef int _agree(self, WSTransport transport) except -1:
        """What the server answered to the extension offer decides how frames are read."""
        header = None
        if transport.response is not None:
            header = ", ".join(transport.response.headers.getall("Sec-WebSocket-Extensions", [])) or None
        answer = parse_deflate_answer(header, self.offered_window_bits)
        if answer is None:
            return 0
        if not self.deflate_offered:
            raise ValueError("permessage-deflate was not offered")
        window_bits, no_takeover = answer
        self.inflater = Inflater(window_bits, no_takeover, self.max_message)
        self.deflate_negotiated = True
        return 0

    cdef int _frame(self, WSTransport transport, WSFrame frame) except -1:
        self.frames += 1
        if frame.rsv2 or frame.rsv3:
            return self._fail("protocol: RSV2 or RSV3 set")
        if frame.msg_type == WSMsgType.TEXT or frame.msg_type == WSMsgType.CONTINUATION:
            return self._data(
                frame.payload_ptr, frame.payload_size, frame.msg_type == WSMsgType.TEXT, frame.fin, frame.rsv1
            )
        return self._control(transport, frame)

    cdef int _control(self, WSTransport transport, WSFrame frame) except -1:
        if frame.rsv1:
            return self._fail("protocol: RSV1 on a control frame")
        if frame.msg_type == WSMsgType.PONG:
            self.last_pong_ns = now_ns()
        elif frame.msg_type == WSMsgType.PING:
            transport.send_pong(frame.get_payload_as_bytes())
        elif frame.msg_type == WSMsgType.CLOSE:
            self.closing = True
            self.close_code = frame.get_close_code()
            self.close_reason = frame.get_close_reason() or ""
            # An empty close frame has no code; 1000 is what its answer says.
            transport.send_close(frame.get_close_code() or WSCloseCode.OK)
            # A graceful end of TLS waits for the peer's last word, some transports half a minute.
            disconnect = (<object>transport).disconnect
            self.abort_timer = get_running_loop().call_later(CLOSE_WAIT_S, disconnect, False)
            transport.disconnect()
        else:
            return self._fail("protocol: a binary frame")
        return 0

    cdef int _data(self, const char* payload, Py_ssize_t size, bint is_first, bint fin, bint rsv1) except -1:
        cdef WSTransport transport = self.transport
        if transport is None:
            return self._fail("protocol: a frame before the connection was announced")
        if transport.is_close_frame_sent and transport.close_handshake.sent.code != WSCloseCode.OK:
            # picows refuses a frame by a close frame of its own, then reads on until the socket is closed.
            return self._fail("protocol: the transport refused a frame")
        if is_first == self.in_message:
            return self._fail("protocol: fragments out of order")
        if rsv1 and not (is_first and self.deflate_negotiated):
            return self._fail("protocol: RSV1 where no message starts deflated")
        self.last_frame_ns = self.burst_ns
        self.wire_bytes += <uint64_t>size
        if is_first:
            self.message_deflated = rsv1
            self.parts_size = 0
            if self.message_deflated:
                self.inflater.begin()
        self.in_message = not fin
        if self.message_deflated:
            return self._inflate(payload, size, fin)
        if is_first and fin:
            if size > self.max_message:
                return self._fail("a message beyond the limit")
            self.messages += 1
            return self.on_message(payload, size)
        return self._part(payload, size, fin)

    cdef int _inflate(self, const char* payload, Py_ssize_t size, bint fin) except -1:
        cdef int status = self.inflater.feed(payload, size, fin)
        if status == INFLATE_OK:
            if fin:
                self.messages += 1
                return self.on_message(<const char*>self.inflater.out, self.inflater.out_size)
            return 0
        if status == INFLATE_TOO_LARGE:
            return self._fail("deflate: a message inflates beyond the limit")
        if status == INFLATE_TRUNCATED:
            return self._fail("deflate: a message ends inside a block")
        return self._fail("deflate: broken data")

    cdef int _part(self, const char* payload, Py_ssize_t size, bint fin) except -1:
        """Append a fragment of a message that is not deflated."""
        cdef Py_ssize_t whole = self.parts_size + size
        cdef Py_ssize_t capacity
        cdef char* grown
        if whole > self.max_message:
            return self._fail("a message beyond the limit")
        if whole > self.parts_capacity:
            capacity = max(whole, self.parts_capacity * 2, <Py_ssize_t>FIRST_PARTS)
            grown = <char*>realloc(self.parts, <size_t>capacity)
            if grown == NULL:
                raise MemoryError
            self.parts = grown
            self.parts_capacity = capacity
        if size > 0:     # the first fragment may be empty, and then there is no buffer yet
            memcpy(self.parts + self.parts_size, payload, <size_t>size)
        self.parts_size = whole
        if not fin:
            return 0
        self.messages += 1
        return self.on_message(self.parts, self.parts_size)

    cdef int _fail(self, str reason) except -1:
        """Latch: the first reason stays, the socket is aborted (a graceful end can hang on a jammed peer)."""
        if self.failure is None:
            self.failure = reason
            self.on_burst_end()
        if self.transport is not None:
            self.transport.disconnect(False)
        return 0


cdef class FeedListener(MessageListener):
    def __init__(
        self, Core core not None, *, int link=0, bint deflate=True, int server_max_window_bits=15,
        bint server_no_context_takeover=False, on_connected=None, on_disconnected=None,
        Py_ssize_t max_message=4194304,
    ):
        self.core = core
        self.link = link
        self._setup(deflate, server_max_window_bits, server_no_context_takeover, on_connected,
                    on_disconnected, max_message)

    cdef int on_message(self, const char* data, Py_ssize_t size) except -1:
        if self.tap is not None:
            self.tap(self.burst_ns, PyBytes_FromStringAndSize(data, size))
        self.core.handle(data, size, self.burst_ns, self.link, True)
        return 0

    cdef void on_burst_end(self) noexcept nogil:
        if self.core.untimed_bbos or self.core.untimed_depths:
            self.core.settle(self.burst_ns)


cdef class TextListener(MessageListener):
    def __init__(
        self, on_text, *, on_connected=None, on_disconnected=None, bint deflate=True,
        int server_max_window_bits=15, bint server_no_context_takeover=False,
        Py_ssize_t max_message=4194304,
    ):
        if not callable(on_text):
            raise TypeError("on_text must be callable")
        self.on_text = on_text
        self._setup(deflate, server_max_window_bits, server_no_context_takeover, on_connected,
                    on_disconnected, max_message)

    cdef int on_message(self, const char* data, Py_ssize_t size) except -1:
        text = PyBytes_FromStringAndSize(data, size)
        if self.tap is not None:
            self.tap(self.burst_ns, text)
        self.on_text(text)
        return 0
