"""C face of the reader: what a listener does that takes frames from it."""

from libc.stdint cimport uint8_t

from picows.picows cimport WSListener


cdef enum:
    UNKNOWN = -1
    LONGEST = 4096            # payload of a short frame: longer ones meet the transport's limit
    NOT_TEXT = 0x3E           # bits of the first byte: RSV2, RSV3, opcodes other than 0 and 1

cdef enum:  # why take_frames ended
    INCOMPLETE = 0            # the next frame, or its head, has not come as a whole
    OTHER_FRAME               # it is none of those that are taken here
    NO_MORE                   # the rest is dropped


cdef class FrameTaker(WSListener):
    cdef Py_ssize_t owed      # bytes until picows has handed over all it holds, UNKNOWN if nobody can say
    cdef bint in_read         # a reader is at work: frames of picows are a part of its read

    cdef bint begin_read(self) noexcept
    cdef int take_frames(self, const uint8_t** at, const uint8_t* end) except -1
    cdef bint goes_on(self) noexcept
    cdef int broke(self, object error) except -1
    cdef int end_read(self) except -1


cdef inline int short_frame(const uint8_t* at, Py_ssize_t have, Py_ssize_t* head, Py_ssize_t* size) noexcept nogil:
    """Whether a whole short frame of text begins here: its sizes, or the reason why not. -1: it does."""
    head[0] = 2
    if have < 2:
        return INCOMPLETE
    size[0] = at[1]
    if at[0] & NOT_TEXT or size[0] > 126:
        return OTHER_FRAME
    if size[0] == 126:
        if have < 4:
            return INCOMPLETE
        head[0] = 4
        size[0] = at[2] << 8 | at[3]
        if size[0] < 126 or size[0] > LONGEST:
            return OTHER_FRAME
    return INCOMPLETE if have < head[0] + size[0] else -1


cdef Py_ssize_t missing(const uint8_t* at, Py_ssize_t have) noexcept nogil
