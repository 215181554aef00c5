"""C face of the inflater: begin() a message, feed() its fragments, read out/out_size."""

from libc.stdint cimport uint8_t

from ._shortinflate cimport ShortInflater
from ._status cimport INFLATE_BROKEN, INFLATE_NO_MEMORY, INFLATE_OK, INFLATE_TOO_LARGE, INFLATE_TRUNCATED


cdef enum:
    SHORT = 1020              # bytes of a message that are copied to append the tail


cdef struct z_stream:  # as in zlib's public ABI, which has not changed since 1.2
    const uint8_t* next_in
    unsigned int avail_in
    unsigned long total_in
    uint8_t* next_out
    unsigned int avail_out
    unsigned long total_out
    const char* msg
    void* state
    void* zalloc
    void* zfree
    void* opaque
    int data_type
    unsigned long adler
    unsigned long reserved


cdef class Inflater:
    cdef z_stream stream
    cdef ShortInflater own    # None: zlib
    cdef bint ready           # inflateInit2 done: inflateEnd is due
    cdef bint no_takeover
    cdef bint broken
    cdef Py_ssize_t max_output
    cdef Py_ssize_t capacity
    cdef uint8_t* buffer      # zlib's output
    cdef uint8_t[1024] joined # SHORT and the tail
    cdef const uint8_t* out   # one message, valid until the next begin()
    cdef Py_ssize_t out_size

    cdef void begin(self) noexcept nogil
    cdef int feed(self, const char* data, Py_ssize_t size, bint final) noexcept nogil
    cdef int _feed_zlib(self, const uint8_t* data, Py_ssize_t size, bint final) noexcept nogil
    cdef int _run(self, const uint8_t* data, Py_ssize_t size) noexcept nogil
    cdef bint _grow(self) noexcept nogil
    cdef int _next_stream(self) noexcept nogil
