"""Depth messages that wait for a snapshot (rules S1, S3, S4, S6 of book synchronisation).

What is kept is always one unbroken chain: a message that does not join what came before makes that
useless, because no snapshot older than the break can be completed any more. Memory is bounded; when it
is full the oldest messages go, and a newer snapshot will be needed.
"""

from libc.stdint cimport int64_t
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memcpy, memmove


cdef enum:
    MAX_DELTAS = 2048         # 100 s of batches
    MAX_BYTES = 4194304


cdef class PendingDeltas:
    def __cinit__(self):
        self.deltas = <Delta*>malloc(MAX_DELTAS * sizeof(Delta))
        if self.deltas == NULL:
            raise MemoryError

    def __dealloc__(self):
        free(self.deltas)
        free(self.bytes_)

    cdef void clear(self) noexcept nogil:
        self.count = 0
        self.size = 0

    cdef int keep(self, const Message* m) noexcept nogil:
        """Copy one scanned message to the end of the chain."""
        cdef int status = KEPT
        cdef Delta* delta
        cdef int64_t newest = self.deltas[self.count - 1].max_ns if self.count else 0
        if self.count and m.max_ns <= newest:
            return ALREADY_KEPT
        if self.count and (m.last_max_ns > newest or m.last_max_ns == 0):
            self.clear()
            status = KEPT_AFTER_BREAK
        if not self._make_room(m.size):
            self.clear()
            return NOT_KEPT
        memcpy(self.bytes_ + self.size, m.base, <size_t>m.size)
        delta = &self.deltas[self.count]
        delta.last_max_ns = m.last_max_ns
        delta.max_ns = m.max_ns
        delta.offset = self.size
        delta.size = m.size
        self.size += m.size
        self.count += 1
        return status

    cdef bint _make_room(self, Py_ssize_t size) noexcept nogil:
        """Room for one more message: drop the older half when a bound is reached."""
        cdef Py_ssize_t half, capacity, i
        cdef char* grown
        if size > MAX_BYTES:
            return False
        while self.count == MAX_DELTAS or self.size + size > MAX_BYTES:
            self.overflows += 1
            half = (self.count + 1) // 2
            if half == self.count:
                self.clear()
                break
            capacity = self.deltas[half].offset
            memmove(self.bytes_, self.bytes_ + capacity, <size_t>(self.size - capacity))
            memmove(self.deltas, self.deltas + half, <size_t>(self.count - half) * sizeof(Delta))
            self.count -= half
            self.size -= capacity
            for i in range(self.count):
                self.deltas[i].offset -= capacity
        if self.size + size > self.capacity:
            capacity = max(self.capacity * 2, self.size + size, <Py_ssize_t>65536)
            grown = <char*>realloc(self.bytes_, <size_t>capacity)
            if grown == NULL:
                return False
            self.bytes_ = grown
            self.capacity = capacity
        return True

    cdef Py_ssize_t first_after(self, int64_t timestamp_ns) noexcept nogil:
        """S3: index of the first message that a snapshot of that time does not contain already."""
        cdef Py_ssize_t i = 0
        while i < self.count and self.deltas[i].max_ns <= timestamp_ns:
            i += 1
        return i

    cdef bint joins(self, int64_t timestamp_ns) noexcept nogil:
        """S4: whether a snapshot of that time and the kept messages make a complete book."""
        cdef Py_ssize_t i = self.first_after(timestamp_ns)
        if i == self.count:
            return True
        if self.deltas[i].last_max_ns == 0 and timestamp_ns > 0:
            return False      # the engine started in between: the snapshot may be from before
        return self.deltas[i].last_max_ns <= timestamp_ns

    cdef const char* data(self, Py_ssize_t index) noexcept nogil:
        return self.bytes_ + self.deltas[index].offset
