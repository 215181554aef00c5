from libc.stdint cimport uint8_t, uint64_t

from ._x18 cimport int128, uint128


cdef enum:
    WORD = 32


cdef struct OrderNumbers:
    int128 price
    int128 amount
    uint64_t expiration
    uint64_t nonce
    uint128 appendix


cdef const uint8_t* word(bytes value, str name) except NULL
cdef int order_hash(
    const uint8_t* domain, const uint8_t* sender, object price_x18, object amount_x18, object expiration,
    object nonce, object appendix, OrderNumbers* numbers, uint8_t* out,
) except -1
