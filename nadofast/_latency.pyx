"""Latency histogram with constant memory (15 KiB) and O(1) record: log-linear buckets, 3 % resolution.

A percentile is the upper edge of its bucket: it never flatters.
"""

from libc.stdint cimport int64_t, uint64_t
from libc.string cimport memset


cdef int64_t _upper_edge(int bucket) noexcept nogil:
    cdef int shift
    if bucket < 2 * SUB_COUNT:
        return bucket
    shift = bucket // SUB_COUNT - 1
    return (<int64_t>(SUB_COUNT + bucket % SUB_COUNT + 1) << shift) - 1


cdef class Histogram:
    def record_ns(self, int64_t value_ns):
        histo_record(&self.data, value_ns)

    def percentile(self, double percent):
        if not 0 <= percent <= 100:
            raise ValueError("a percentile lies between 0 and 100")
        cdef uint64_t seen = 0
        cdef uint64_t rank = max(<uint64_t>(percent / 100 * <double>self.data.count + 0.9999999), <uint64_t>1)
        cdef int i
        if self.data.count == 0:
            return 0
        for i in range(BUCKETS):
            seen += self.data.buckets[i]
            if seen >= rank:
                return min(_upper_edge(i), self.data.max)
        return self.data.max

    def merge(self, Histogram other not None):
        cdef int i
        for i in range(BUCKETS):
            self.data.buckets[i] += other.data.buckets[i]
        self.data.count += other.data.count
        self.data.total += other.data.total
        self.data.max = max(self.data.max, other.data.max)

    def clear(self):
        memset(&self.data, 0, sizeof(self.data))

    def summary(self):
        return {
            "count": self.data.count,
            "p50_ns": self.percentile(50),
            "p95_ns": self.percentile(95),
            "p99_ns": self.percentile(99),
            "p999_ns": self.percentile(99.9),
            "max_ns": self.data.max,
        }

    @property
    def count(self):
        return self.data.count

    @property
    def max(self):
        return self.data.max

    @property
    def mean_ns(self):
        return self.data.total / <double>self.data.count if self.data.count else 0.0
