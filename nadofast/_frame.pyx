"""WebSocket text frames of a client, several in one buffer (RFC 6455, section 5.2)."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t, uint64_t
from libc.string cimport memcpy


cdef enum:
    FINAL_TEXT = 0x81
    MASKED = 0x80
    MASK = 4
    MAX_HEAD = 14


cdef Py_ssize_t _put_head(uint8_t* at, uint64_t size) noexcept nogil:
    """Everything before the mask. Returns how much that is."""
    cdef int width = 0 if size < 126 else 2 if size < 65536 else 8
    cdef int index
    at[0] = FINAL_TEXT
    at[1] = <uint8_t>(MASKED | (size if width == 0 else 126 if width == 2 else 127))
    for index in range(width):
        at[2 + index] = <uint8_t>(size >> 8 * (width - 1 - index))
    return 2 + width


cdef void _put_masked(uint8_t* at, const uint8_t* payload, Py_ssize_t size, const uint8_t* mask) noexcept nogil:
    cdef uint64_t wide, word
    cdef Py_ssize_t index = 0
    memcpy(&wide, mask, MASK)
    memcpy(<uint8_t*>&wide + MASK, mask, MASK)
    while index + 8 <= size:
        memcpy(&word, payload + index, 8)
        word ^= wide
        memcpy(at + index, &word, 8)
        index += 8
    while index < size:
        at[index] = payload[index] ^ mask[index & 3]
        index += 1


def text_frames(messages, bytes masks not None):
    """One final, masked text frame per message, one after the other. masks: 4 bytes for each message."""
    cdef Py_ssize_t room = 0
    cdef Py_ssize_t size
    cdef bytes message
    if PyBytes_GET_SIZE(masks) != MASK * len(messages):
        raise ValueError("4 bytes of mask per message are needed")
    for message in messages:
        if message is None:
            raise TypeError("a message is bytes")
        room += MAX_HEAD + PyBytes_GET_SIZE(message)
    cdef bytes frames = PyBytes_FromStringAndSize(NULL, room)
    cdef uint8_t* start = <uint8_t*>PyBytes_AS_STRING(frames)
    cdef uint8_t* at = start
    cdef const uint8_t* mask = <const uint8_t*>PyBytes_AS_STRING(masks)
    for message in messages:
        size = PyBytes_GET_SIZE(message)
        at += _put_head(at, <uint64_t>size)
        memcpy(at, mask, MASK)
        at += MASK
        _put_masked(at, <const uint8_t*>PyBytes_AS_STRING(message), size, mask)
        at += size
        mask += MASK
    return frames[:at - start]
