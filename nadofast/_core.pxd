"""C face of the feed core: what a listener of another transport needs."""

from cython cimport final
from libc.stdint cimport int64_t, uint32_t, uint64_t

from ._bbo cimport Bbo
from ._book cimport OrderBook
from ._facts cimport Facts
from ._latency cimport Histo
from ._message cimport Message
from ._pending cimport PendingDeltas


cdef extern from *:
    """
    #include <time.h>
    #include <stdint.h>
    static inline int64_t nado_monotonic_ns(void) {
        struct timespec t;
        clock_gettime(CLOCK_MONOTONIC, &t);
        return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
    }
    """
    int64_t now_ns "nado_monotonic_ns"() noexcept nogil


cdef enum:  # result of FeedCore.handle() and receive()
    TAKEN = 0
    HANDED_OVER
    SEEN_BEFORE
    WAITING
    BROKE
    NOT_OURS
    NOT_KNOWN
    NOT_READ

ctypedef void* Borrowed

cdef class ProductFeed:
    cdef int64_t product_id
    cdef OrderBook book
    cdef Bbo bbo
    cdef PendingDeltas pending
    cdef bint live            # the book follows the stream
    cdef bint refreshing      # live, and deltas are kept for a newer snapshot
    cdef bint horizon_told
    cdef uint32_t joined      # links, one bit each, that are known to continue what the book or `pending` holds
    cdef int64_t ahead_since_ns
    cdef bint bbo_is_new      # since the last break for disagreement
    cdef int64_t differs_since_ns          # by our clock; 0 while BBO and book agree
    cdef int64_t differs_since_stream_ns   # by the exchange's
    cdef object on_bbo
    cdef object on_depth
    cdef uint64_t bbos, depths, duplicates, gaps, buffered, breaks_in_buffer, ahead
    cdef int64_t last_bbo_ns
    cdef int64_t last_depth_ns


cdef class FeedCore:
    cdef Message message
    cdef Borrowed[256] small  # ProductFeed by small product id, borrowed from `products`
    cdef dict products
    cdef readonly tuple product_ids
    cdef public uint32_t public_links
    cdef object on_event, on_reply, on_gap, on_horizon, on_callback_error, on_parse_error, on_slow_callback
    cdef object on_any_bbo, on_any_depth
    cdef Facts facts          # told already
    cdef set unknown_kinds, unknown_fields
    cdef object last_parse_error
    cdef uint64_t messages, bytes_, parse_errors, unknown_kind_count, unknown_field_count
    cdef uint64_t foreign, event_duplicates, callback_errors, slow_callbacks, tolerant
    cdef uint64_t[16] kind_counts
    cdef int64_t[16] kind_last_ns
    cdef Histo bbo_latency
    cdef Histo depth_latency
    cdef Histo callback_latency
    cdef uint32_t untimed_bbos, untimed_depths    # of the present read burst, not in the histograms yet

    cdef int64_t settle(self, int64_t received_ns) noexcept nogil
    cdef int handle(self, const char* data, Py_ssize_t size, int64_t received_ns, int link,
                    bint timed) except -1
    @final
    cdef ProductFeed find(self, int64_t product_id)
    @final
    cdef int _bbo(self, int64_t received_ns, int link, bint timed) except -1
    @final
    cdef int _depth(self, int64_t received_ns, int link, bint timed) except -1
    @final
    cdef int _depth_live(self, ProductFeed feed, int64_t received_ns, uint32_t bit, bint timed) except -1
    @final
    cdef bint _runs_ahead(self, ProductFeed feed, int64_t received_ns) noexcept nogil
    cdef int _broken(self, ProductFeed feed) except -1
    @final
    cdef int _check_bbo(self, ProductFeed feed, int64_t received_ns) except -1
    @final
    cdef int _check_horizon(self, ProductFeed feed) except -1
    cdef int _event(self, int link) except -1
    cdef int _account_event(self, object event, int kind) except -1
    cdef int _unknown(self) except -1
    @final
    cdef int _count_fields(self) except -1
    cdef int _not_read(self, object error) except -1
    @final
    cdef bint _call(self, object callback, object argument, int64_t start) except -1
    cdef int _call_two(self, object callback, object first, object second) except -1
    cdef int _callback_failed(self, object error) except -1
