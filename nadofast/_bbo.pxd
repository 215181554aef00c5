"""C face of the best bid and offer. Users may `cimport` it: the prices are int128, an empty side has a sentinel."""

from libc.stdint cimport int32_t, int64_t

from ._book cimport OrderBook
from ._ladder cimport Entry
from ._message cimport Message
from ._x18 cimport INT128_MAX, int128


cdef enum:
    MAX_LINKS = 16            # power of two

cdef enum:  # Bbo.origin
    ORIGIN_NONE = 0
    ORIGIN_STREAM
    ORIGIN_REST


cdef class Bbo:
    cdef readonly int64_t product_id
    cdef int128 bid_price
    cdef int128 bid_qty
    cdef int128 ask_price
    cdef int128 ask_qty
    cdef readonly int64_t timestamp_ns
    cdef readonly int64_t received_ns
    cdef int origin
    # Order of stream values: engine time, then the how-manieth value a link sent for that time.
    cdef int64_t stream_ns
    cdef int32_t turn
    cdef int64_t[16] link_ns
    cdef int32_t[16] link_turn

    cdef bint bid_exists(self) noexcept nogil
    cdef bint ask_exists(self) noexcept nogil
    cdef bint _holds(self, const Message* m) noexcept nogil
    cdef bint take(self, const Message* m, int link, int64_t received_ns) noexcept nogil


cdef inline bint agrees(Bbo bbo, OrderBook book) noexcept nogil:
    """Whether the top of a valid book is this BBO, which is set."""
    cdef const Entry* bid = &book.bid_side.best
    cdef const Entry* ask = &book.ask_side.best
    if bid.qty == 0:
        if bbo.bid_price != 0:
            return False
    elif bid.qty != bbo.bid_qty or bid.key != bbo.bid_price or bbo.bid_price == 0:
        return False
    if ask.qty == 0:
        return bbo.ask_price == INT128_MAX
    return ask.qty == bbo.ask_qty and -ask.key == bbo.ask_price and bbo.ask_price != INT128_MAX
