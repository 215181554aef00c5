"""C face of the parser: events, errors and names for a scanned Message, and views of users' bytes."""

from ._message cimport Message


cdef object build_event(Message* m)
cdef object build_error(Message* m)
cdef str kind_name(int kind)
cdef object unknown_kind(Message* m)
cdef object unknown_field(Message* m)


# Borrowed view of what users pass as a message. release_view() in every case.
cdef struct View:
    const char* data
    Py_ssize_t size
    void* buffer

cdef int acquire_view(object data, View* view) except -1
cdef void release_view(View* view) noexcept
