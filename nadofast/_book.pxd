"""C face of the book. Users may `cimport` it:

    from nadofast._book cimport OrderBook, Level
    cdef Level level
    if book.read_bid(0, &level): ...     # best bid; False if there is none or the book is invalid
"""

from libc.stdint cimport int64_t

from ._ladder cimport Ladder
from ._message cimport Level, Levels, Message
from ._x18 cimport int128


cdef enum:  # result of OrderBook.take()
    BOOK_SAME = 0             # applied, best bid and offer as before
    BOOK_CHANGED = 1          # applied, best bid or offer changed
    BOOK_IGNORED = 2          # nothing new: at or before what is known
    BOOK_GAP = -1             # does not join: now invalid
    BOOK_CROSSED = -2         # crossed after the message: now invalid
    BOOK_NOT_VALID = -3       # was invalid, untouched
    BOOK_NO_MEMORY = -4       # untouched

cdef enum:  # why a book is invalid
    REASON_NONE = 0
    REASON_NO_SNAPSHOT
    REASON_CLEARED
    REASON_GAP
    REASON_ENGINE_START
    REASON_CROSSED
    REASON_BBO_DIFFERS


cdef class OrderBook:
    cdef readonly int64_t product_id
    cdef readonly int64_t timestamp_ns
    cdef int64_t snapshot_ns
    cdef bint joined          # a delta followed the snapshot
    cdef int reason
    cdef Ladder bid_side
    cdef Ladder ask_side

    cdef bint valid(self) noexcept nogil
    cdef bint read_bid(self, Py_ssize_t index, Level* out) noexcept nogil
    cdef bint read_ask(self, Py_ssize_t index, Level* out) noexcept nogil
    cdef Py_ssize_t known_bids(self) noexcept nogil
    cdef Py_ssize_t known_asks(self) noexcept nogil
    cdef bint is_near_horizon(self) noexcept nogil

    cdef int take(self, const Message* m, bint strict) noexcept nogil
    cdef void invalidate(self, int reason) noexcept nogil
    cdef int replace(self, object bids, object asks, int64_t timestamp_ns, Py_ssize_t depth) except -1
    cdef int _need_valid(self) except -1
    cdef int _average(self, const Ladder* side, int sign, object qty_x18, int128* out) except -1
    cdef int _sign(self, object side) except 0
    cdef const Ladder* _ladder(self, int sign) noexcept nogil
    cdef str reason_text(self)
