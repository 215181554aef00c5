"""Frames of one read taken where they lie, without an object and calls of the transport for each (RFC 6455).

A reader stands between the socket and picows. Short text and continuation frames go to the listener at once. Every
other frame goes to picows byte for byte, which answers, refuses and limits it as if it stood alone; while picows
waits for the rest of one, what comes goes there.
"""

from cpython.buffer cimport PyBUF_READ, PyBUF_WRITE
from cpython.memoryview cimport PyMemoryView_FromMemory
from libc.stdint cimport uint8_t
from libc.stdlib cimport free, malloc
from libc.string cimport memmove

import asyncio


cdef enum:
    ROOM = 262144             # bytes of one read


cdef class FrameTaker(WSListener):
    """A listener that takes frames from a reader, and from picows those that the reader passes on."""

    def __cinit__(self, *args, **kwargs):
        self.owed = UNKNOWN

    cdef bint begin_read(self) noexcept:
        """Something has come. False: it is dropped."""
        return False

    cdef int take_frames(self, const uint8_t** at, const uint8_t* end) except -1:
        """Take the short frames that begin at `at`, which moves along; which reason there was to end."""
        return NO_MORE

    cdef bint goes_on(self) noexcept:
        """Whether frames are still wanted after one that went to picows."""
        return False

    cdef int broke(self, object error) except -1:
        """What was raised while a frame was taken."""
        raise error

    cdef int end_read(self) except -1:
        return 0


cdef Py_ssize_t _whole(const uint8_t* at, Py_ssize_t have) noexcept nogil:
    """Bytes of the frame that begins here, head and all; UNKNOWN if the head has not come or cannot be right."""
    cdef Py_ssize_t size, i
    cdef Py_ssize_t head = 2
    if have < 2:
        return UNKNOWN
    size = at[1] & 0x7F
    if size > 125:
        head = 4 if size == 126 else 10
        if have < head or (head == 10 and at[2] >= 0x40):
            return UNKNOWN
        size = 0
        for i in range(2, head):
            size = size << 8 | at[i]
    return head + size + (4 if at[1] & 0x80 else 0)


cdef Py_ssize_t missing(const uint8_t* at, Py_ssize_t have) noexcept nogil:
    """Bytes until the frame is whole that picows has begun; UNKNOWN for one that it refused, too."""
    cdef Py_ssize_t whole
    if have == 0:
        return 0
    whole = _whole(at, have)
    return whole - have if whole > have else UNKNOWN


cdef class _Base:
    pass


cdef class FrameReader(_Base, asyncio.BufferedProtocol):
    """Put before picows when a connection is made; transport: that of the socket."""

    cdef FrameTaker taker
    cdef object behind        # picows
    cdef object behind_buffer
    cdef object behind_updated
    cdef uint8_t* buffer
    cdef Py_ssize_t have

    def __init__(self, FrameTaker taker not None, transport):
        self.buffer = <uint8_t*>malloc(ROOM)
        if self.buffer == NULL:
            raise MemoryError
        self.taker = taker
        taker.owed = UNKNOWN
        self.behind = transport.get_protocol()
        self.behind_buffer = self.behind.get_buffer
        self.behind_updated = self.behind.buffer_updated
        transport.set_protocol(self)

    def __dealloc__(self):
        free(self.buffer)

    # --- called by the socket's transport ---

    def get_buffer(self, size_hint):
        if self.taker.owed >= 0:
            return PyMemoryView_FromMemory(<char*>self.buffer + self.have, ROOM - self.have, PyBUF_WRITE)
        return self.behind_buffer(size_hint)

    def buffer_updated(self, Py_ssize_t count):
        if self.taker.owed >= 0:
            self.have += count
            self._read()
        else:
            self.behind_updated(count)

    def connection_lost(self, error):
        self.behind.connection_lost(error)

    def eof_received(self):
        return self.behind.eof_received()

    def pause_writing(self):
        self.behind.pause_writing()

    def resume_writing(self):
        self.behind.resume_writing()

    def is_buffered_protocol(self):
        return True

    # --- frames ---

    cdef int _read(self) except -1:
        cdef Py_ssize_t used = self.have
        if self.taker.begin_read():
            try:
                used = self._frames()
            except BaseException as error:
                self.taker.broke(error)
            self.taker.end_read()
        self.have -= used
        if self.have:
            memmove(self.buffer, self.buffer + used, <size_t>self.have)
        return 0

    cdef Py_ssize_t _frames(self) except -1:
        """Take or pass on what is there; how many bytes are done with. Less than a short frame stays."""
        cdef const uint8_t* at = self.buffer
        cdef const uint8_t* end = at + self.have
        cdef int reason
        while True:
            reason = OTHER_FRAME if self.taker.owed > 0 else self.taker.take_frames(&at, end)
            if reason == INCOMPLETE:
                return at - self.buffer
            if reason == OTHER_FRAME:
                at += self._pass_on(at, end - at)
                if self.taker.owed != 0:
                    return at - self.buffer
            if reason == NO_MORE or not self.taker.goes_on():
                return self.have

    cdef Py_ssize_t _pass_on(self, const uint8_t* at, Py_ssize_t have) except -1:
        """Give picows the frame that begins here, or the rest of one it has begun, as far as it has come. Returns how
        much went."""
        cdef Py_ssize_t whole = self.taker.owed if self.taker.owed > 0 else _whole(at, have)
        cdef Py_ssize_t size = have if whole == UNKNOWN else min(whole, have)
        self._give(at, size)
        if self.taker.owed == UNKNOWN and whole > have:
            self.taker.owed = whole - have
        elif self.taker.owed == UNKNOWN:
            self._give(at + size, have - size)       # refused: it gets all that comes
            return have
        return size

    cdef int _give(self, const uint8_t* at, Py_ssize_t size) except -1:
        cdef Py_ssize_t part
        while size > 0:
            self.taker.owed = UNKNOWN        # whatever the part before ended with
            room = self.behind_buffer(size)
            part = min(size, <Py_ssize_t>len(room))
            room[:part] = PyMemoryView_FromMemory(<char*>at, part, PyBUF_READ)
            self.behind_updated(part)
            at += part
            size -= part
        return 0
