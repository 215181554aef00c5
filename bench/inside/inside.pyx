# cython: language_level=3, boundscheck=False, wraparound=False
"""The hot path without Python around it: what a listener, or a user's own Cython, pays per message."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport int64_t

from nadofast._book cimport BOOK_CHANGED, BOOK_SAME, Level, OrderBook
from nadofast._core cimport TAKEN, Bbo, FeedCore, now_ns
from nadofast._latency cimport Histogram, histo_record
from nadofast._scan cimport KIND_BBO, KIND_DEPTH, Message, message_free, message_init, scan


cdef enum:
    BLOCK = 64                # messages that are brought into the cache before the clock runs, as a socket does

cdef long _touched


cdef void _touch(list messages, Py_ssize_t start, Py_ssize_t stop):
    global _touched
    cdef Py_ssize_t i, at
    cdef bytes message
    for i in range(start, stop):
        message = messages[i]
        for at in range(0, len(message), 64):
            _touched += PyBytes_AS_STRING(message)[at]


def parse_and_apply(list messages, OrderBook book, Bbo bbo):
    """Scan, apply and read the top. ns per message; ValueError if a message was not taken."""
    cdef Message m
    cdef Level level
    cdef int status
    cdef bint taken
    cdef int64_t begin
    cdef int64_t total = 0
    cdef Py_ssize_t block, stop, i
    message_init(&m)
    try:
        for block in range(0, len(messages), BLOCK):
            stop = min(block + BLOCK, len(messages))
            _touch(messages, block, stop)
            begin = now_ns()
            for i in range(block, stop):
                message = messages[i]
                scan(&m, PyBytes_AS_STRING(message), PyBytes_GET_SIZE(message))
                if m.kind == KIND_BBO:
                    taken = bbo.take(&m, 0, begin)
                elif m.kind == KIND_DEPTH:
                    status = book.take(&m, True)
                    taken = (status == BOOK_SAME or status == BOOK_CHANGED) and book.read_bid(0, &level)
                else:
                    taken = m.kind >= 0
                if not taken:
                    raise ValueError(f"not taken: {message[:80]}")
            total += now_ns() - begin
        return total / <double>len(messages)
    finally:
        message_free(&m)


def listen(list messages, FeedCore core):
    """As the listener of a socket does, clocks and counters included. ns per message."""
    cdef int64_t begin
    cdef int64_t total = 0
    cdef Py_ssize_t block, stop, i
    for block in range(0, len(messages), BLOCK):
        stop = min(block + BLOCK, len(messages))
        _touch(messages, block, stop)
        begin = now_ns()
        for i in range(block, stop):
            message = messages[i]
            if core.handle(PyBytes_AS_STRING(message), PyBytes_GET_SIZE(message), now_ns(), 0, True) > 1:
                raise ValueError(f"not taken: {message[:80]}")
        total += now_ns() - begin
    return total / <double>len(messages)


def record(Histogram histogram, list values):
    """ns per value recorded."""
    cdef int64_t[4096] durations
    cdef int count = min(len(values), 4096)
    cdef int i, turn
    for i in range(count):
        durations[i] = values[i]
    cdef int64_t start = now_ns()
    for turn in range(50):
        for i in range(count):
            histo_record(&histogram.data, durations[i])
    return (now_ns() - start) / (50.0 * count)
