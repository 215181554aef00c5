"""C face of the listeners: subclass MessageListener to take whole messages from borrowed memory."""

from cython cimport final
from libc.stdint cimport int64_t, uint64_t

from picows.picows cimport WSFrame, WSTransport

from ._core cimport FeedCore as Core
from ._inflate cimport Inflater
from ._reader cimport FrameTaker


cdef class MessageListener(FrameTaker):
    cdef readonly WSTransport transport
    cdef readonly str failure
    cdef readonly bint is_connected
    cdef readonly bint deflate_negotiated
    cdef readonly int64_t last_frame_ns
    cdef readonly int64_t last_pong_ns
    cdef readonly int close_code
    cdef readonly str close_reason
    cdef readonly uint64_t frames
    cdef readonly uint64_t messages
    cdef readonly uint64_t wire_bytes
    cdef public object tap    # called with (arrival ns, message) before anybody reads it; None: nobody
    cdef object on_connected
    cdef object on_disconnected
    cdef bint deflate_offered
    cdef int offered_window_bits
    cdef bint offered_no_takeover
    cdef Py_ssize_t max_message
    cdef Inflater inflater
    cdef bint closing
    cdef object abort_timer   # after a close frame was answered
    cdef int64_t burst_ns     # arrival of the first frame of this read; 0 between reads
    # Assembly of a message in several frames.
    cdef bint in_message
    cdef bint message_deflated
    cdef char* parts
    cdef Py_ssize_t parts_size
    cdef Py_ssize_t parts_capacity

    cdef int _setup(
        self, bint deflate, int server_max_window_bits, bint server_no_context_takeover,
        object on_connected, object on_disconnected, Py_ssize_t max_message,
    ) except -1
    cdef int on_message(self, const char* data, Py_ssize_t size) except -1
    cdef void on_burst_end(self) noexcept nogil
    @final
    cdef int _agree(self, WSTransport transport) except -1
    @final
    cdef int _frame(self, WSTransport transport, WSFrame frame) except -1
    @final
    cdef int _control(self, WSTransport transport, WSFrame frame) except -1
    @final
    cdef int _data(self, const char* payload, Py_ssize_t size, bint is_first, bint fin, bint rsv1) except -1
    @final
    cdef int _inflate(self, const char* payload, Py_ssize_t size, bint fin) except -1
    @final
    cdef int _part(self, const char* payload, Py_ssize_t size, bint fin) except -1
    @final
    cdef int _fail(self, str reason) except -1


cdef class FeedListener(MessageListener):
    cdef readonly Core core
    cdef readonly int link


cdef class TextListener(MessageListener):
    cdef object on_text
