"""C face of the histogram: embed a `Histogram*`-free struct, record in a few instructions."""

from libc.stdint cimport int64_t, uint64_t


cdef extern from *:
    """
    static inline int nado_top_bit(uint64_t v) { return 63 - __builtin_clzll(v); }
    """
    int top_bit "nado_top_bit"(uint64_t value) noexcept nogil


# Values below 64 have their own bucket; each power of two above is cut into 32.
cdef enum:
    SUB_BITS = 5
    SUB_COUNT = 32
    BUCKETS = 1920            # (63 - SUB_BITS + 2) * SUB_COUNT covers all of int64


cdef struct Histo:
    uint64_t count
    double total
    int64_t max
    uint64_t[1920] buckets


cdef inline int bucket_of(int64_t value) noexcept nogil:
    cdef int shift
    if value < 2 * SUB_COUNT:
        return <int>value if value > 0 else 0
    shift = top_bit(<uint64_t>value) - SUB_BITS
    return <int>((shift + 1) * SUB_COUNT + <int>((value >> shift) & (SUB_COUNT - 1)))


cdef inline void histo_record(Histo* h, int64_t value) noexcept nogil:
    h.buckets[bucket_of(value)] += 1
    h.count += 1
    if value > 0:
        h.total += <double>value
        if value > h.max:
            h.max = value


cdef inline void histo_record_many(Histo* h, int64_t value, uint64_t count) noexcept nogil:
    """The same value for `count` of them."""
    h.buckets[bucket_of(value)] += count
    h.count += count
    if value > 0:
        h.total += <double>value * <double>count
        if value > h.max:
            h.max = value


cdef class Histogram:
    cdef Histo data
