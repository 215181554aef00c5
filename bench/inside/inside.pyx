# cython: language_level=3, boundscheck=False, wraparound=False
"""The hot path without Python around it: what a listener, or a user's own Cython, pays per message."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport int64_t

from nadofast._book cimport BOOK_CHANGED, BOOK_SAME, Level, OrderBook
from nadofast._core cimport HANDED_OVER, Bbo, FeedCore, now_ns
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


def parse_and_apply(list messages, OrderBook book, Bbo bbo, bint touch=True):
    """Scan, apply and read the top. ns per message of each block; ValueError if a message was not taken."""
    cdef Message m
    cdef Level level
    cdef int status
    cdef bint taken
    cdef int64_t begin
    cdef Py_ssize_t block, stop, i
    cdef list took = []
    message_init(&m)
    try:
        for block in range(0, len(messages), BLOCK):
            stop = min(block + BLOCK, len(messages))
            if touch:
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
            took.append((now_ns() - begin) / <double>(stop - block))
        return took
    finally:
        message_free(&m)


def listen(list messages, FeedCore core):
    """As the listener of a socket does, one read burst a block. ns per message of each block."""
    cdef int64_t begin
    cdef Py_ssize_t block, stop, i
    cdef list took = []
    for block in range(0, len(messages), BLOCK):
        stop = min(block + BLOCK, len(messages))
        _touch(messages, block, stop)
        begin = now_ns()
        for i in range(block, stop):
            message = messages[i]
            if core.handle(PyBytes_AS_STRING(message), PyBytes_GET_SIZE(message), begin, 0, True) > HANDED_OVER:
                raise ValueError(f"not taken: {message[:80]}")
        took.append((now_ns() - begin) / <double>(stop - block))
    return took


def record(Histogram histogram, list values):
    """Record every value; ns per value."""
    cdef int64_t[4096] durations
    cdef Py_ssize_t count = min(len(values), 4096)
    cdef Py_ssize_t i
    cdef int64_t begin
    for i in range(count):
        durations[i] = values[i]
    begin = now_ns()
    for i in range(count):
        histo_record(&histogram.data, durations[i])
    return (now_ns() - begin) / <double>count
