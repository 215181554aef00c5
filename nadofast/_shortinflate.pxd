"""C face of our own raw-deflate decoder: feed() the fragments of a message, then read out/out_size."""

from cython cimport final
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t


cdef enum:
    # Entries that complete codes of 15 bits need at most, for 286 and 30 symbols.
    LITERAL_BITS = 10
    LITERAL_TABLE = 1334
    DISTANCE_BITS = 8
    DISTANCE_TABLE = 402
    LENGTH_BITS = 7
    LENGTH_TABLE = 128


cdef struct Bits:
    uint64_t hold             # the next bits, lowest first; beyond `count` they are true or zero
    unsigned int count
    const uint8_t* next       # first byte not counted in
    const uint8_t* end        # of the data; zeros follow


cdef struct Code:
    unsigned int count[16]    # symbols per length
    unsigned int used
    uint8_t length[320]       # of each used symbol, in order of symbols
    unsigned short symbol[320]


cdef class ShortInflater:
    cdef Py_ssize_t max_output
    cdef Py_ssize_t window
    cdef bint no_takeover
    # The compressed message, gathered from its fragments, then the tail and padding.
    cdef uint8_t* data
    cdef Py_ssize_t data_size
    cdef Py_ssize_t data_capacity
    # History and messages one after another; [floor, pos) may be referred to.
    cdef uint8_t* buffer
    cdef Py_ssize_t capacity
    cdef Py_ssize_t floor
    cdef Py_ssize_t start
    cdef Py_ssize_t pos
    cdef Bits bits
    cdef Code literals
    cdef Code distances
    cdef unsigned int literal_bits
    cdef unsigned int distance_bits
    cdef uint32_t[1334] literal_table
    cdef uint32_t[402] distance_table
    cdef uint8_t* out         # one message, valid until the next one is decoded
    cdef Py_ssize_t out_size

    cdef void begin(self) noexcept nogil
    cdef int feed(self, const uint8_t* data, Py_ssize_t size, bint final) noexcept nogil
    @final
    cdef int _message(self) noexcept nogil
    @final
    cdef int _block(self, unsigned int kind) noexcept nogil
    @final
    cdef int _stored(self) noexcept nogil
    @final
    cdef int _codes(self) noexcept nogil
    @final
    cdef int _lengths(self, const uint32_t* table, unsigned int table_bits, unsigned int literals,
                      unsigned int total) noexcept nogil
    @final
    cdef int _symbols(self, const uint32_t* literals, unsigned int literal_bits,
                      const uint32_t* distances, unsigned int distance_bits) noexcept nogil
    @final
    cdef void _slide(self) noexcept nogil
    @final
    cdef int _room(self, Py_ssize_t size) noexcept nogil
