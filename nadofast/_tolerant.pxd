"""C face of the tolerant scanner, and of reading the values that it found."""

from ._message cimport Message, Span
from ._x18 cimport int128


cdef int tolerant(Message* m) noexcept nogil

# For whoever builds something from the fields of a scanned message.
cdef bint read_int128(Message* m, const Span* span, int128* out) noexcept nogil
cdef bint text_is(const Span* span, const char* text) noexcept nogil
cdef Py_ssize_t unescape(const Span* span, char* out) noexcept nogil
