"""C face of the scanner: one message → a Message, without Python objects.

    cdef Message message
    message_init(&message)
    kind = scan(&message, data, size)        # KIND_*, or -1: message.error says why
    ...
    message_free(&message)

Spans and `base` point into the caller's bytes and die with them. What a Message is: _message.pxd.
"""

from ._message cimport (
    KIND_ALL_BBO, KIND_BBO, KIND_CANDLESTICK, KIND_DEPTH, KIND_FILL, KIND_FUNDING_PAYMENT, KIND_FUNDING_RATE,
    KIND_LIQUIDATION, KIND_ORDER_UPDATE, KIND_POSITION_CHANGE, KIND_REPLY, KIND_TRADE, KIND_UNKNOWN, Level, Levels,
    Message, message_free, message_init,
)


cdef int scan(Message* m, const char* data, Py_ssize_t size) noexcept nogil
