"""Depth messages that wait for a snapshot."""

from libc.stdint cimport int64_t, uint64_t

from ._message cimport Message


cdef enum:  # result of keep()
    KEPT = 0
    KEPT_AFTER_BREAK = 1      # what was kept before does not join: it was dropped
    ALREADY_KEPT = 2
    NOT_KEPT = -1             # no memory

cdef struct Delta:
    int64_t last_max_ns
    int64_t max_ns
    Py_ssize_t offset
    Py_ssize_t size


cdef class PendingDeltas:
    cdef Delta* deltas
    cdef Py_ssize_t count
    cdef char* bytes_
    cdef Py_ssize_t size
    cdef Py_ssize_t capacity
    cdef uint64_t overflows

    cdef void clear(self) noexcept nogil
    cdef int keep(self, const Message* m) noexcept nogil
    cdef Py_ssize_t first_after(self, int64_t timestamp_ns) noexcept nogil
    cdef bint joins(self, int64_t timestamp_ns) noexcept nogil
    cdef const char* data(self, Py_ssize_t index) noexcept nogil
    cdef bint _make_room(self, Py_ssize_t size) noexcept nogil
