"""C face of a scanned message: one struct for all kinds. Spans and `base` point into the caller's bytes."""

from libc.stdint cimport int64_t, uint8_t, uint64_t

from ._x18 cimport int128


cdef extern from *:
    """
    #define NADO_MAX_PRODUCT_ID 0xFFFFFFFFLL      /* 32 bits on the wire */
    #define NADO_MAX_INT64 INT64_MAX              /* times */
    #define NADO_MAX_UINT64 UINT64_MAX            /* order ids, submission_idx */
    """
    const int64_t MAX_PRODUCT_ID "NADO_MAX_PRODUCT_ID"
    const int64_t MAX_INT64 "NADO_MAX_INT64"
    const uint64_t MAX_UINT64 "NADO_MAX_UINT64"


cdef enum:
    SHORT_TEXT = 64           # longest key or number that is compared after unescaping

cdef enum:  # Message.kind
    KIND_BBO = 0
    KIND_DEPTH
    KIND_TRADE
    KIND_FILL
    KIND_ORDER_UPDATE
    KIND_POSITION_CHANGE
    KIND_CANDLESTICK
    KIND_FUNDING_RATE
    KIND_FUNDING_PAYMENT
    KIND_LIQUIDATION
    KIND_ALL_BBO
    KIND_REPLY
    KIND_UNKNOWN
    KIND_COUNT


# Fields of Message.fields: every top-level field this version reads; FIELD_NAMES in _message.pyx has the same order.
cdef enum:
    F_TYPE = 0
    F_TIMESTAMP
    F_PRODUCT_ID
    F_LAST_MAX
    F_MIN
    F_MAX
    F_BIDS
    F_ASKS
    F_BID_PRICE
    F_BID_QTY
    F_ASK_PRICE
    F_ASK_QTY
    F_PRICE
    F_TAKER_QTY
    F_MAKER_QTY
    F_IS_TAKER_BUYER
    F_SUBACCOUNT
    F_ORDER_DIGEST
    F_APPENDIX
    F_FILLED_QTY
    F_REMAINING_QTY
    F_ORIGINAL_QTY
    F_IS_TAKER
    F_IS_BID
    F_FEE
    F_SUBMISSION_IDX
    F_ID
    F_DIGEST
    F_AMOUNT
    F_REASON
    F_FILLED_PRICE
    F_ISOLATED
    F_V_QUOTE_AMOUNT
    F_GRANULARITY
    F_OPEN
    F_HIGH
    F_LOW
    F_CLOSE
    F_VOLUME
    F_FUNDING_RATE
    F_UPDATE_TIME
    F_PAYMENT_AMOUNT
    F_OPEN_INTEREST
    F_CUMULATIVE_LONG
    F_CUMULATIVE_SHORT
    F_DT
    F_PRODUCT_IDS
    F_LIQUIDATOR
    F_LIQUIDATEE
    F_TIME
    F_BBOS
    F_RESULT
    F_ERROR
    F_ERROR_CODE
    F_STATUS
    F_COUNT


cdef enum:  # Span.type
    V_MISSING = 0
    V_STRING
    V_NUMBER
    V_TRUE
    V_FALSE
    V_NULL
    V_ARRAY
    V_OBJECT


cdef struct Span:  # a JSON value inside the message; strings without their quotes
    const char* at
    Py_ssize_t size
    uint8_t type
    bint escaped


cdef struct Level:
    int128 price
    int128 qty


cdef struct Levels:
    Level* items
    Py_ssize_t count
    Py_ssize_t capacity


cdef struct Message:
    int kind
    bint canonical           # read by the fast scanner
    int64_t product_id
    int64_t timestamp_ns
    int64_t last_max_ns
    int64_t min_ns
    int64_t max_ns
    int128 bid_price
    int128 bid_qty
    int128 ask_price
    int128 ask_qty
    Levels bids              # as on the wire, nothing sorted or checked against each other
    Levels asks
    Span[55] fields          # indexed by F_*; filled by the tolerant scanner, and for a fill by the fast one too
    int unknown_fields
    Span unknown_field       # the last one
    const char* base
    Py_ssize_t size
    const char* error        # NULL if none
    Py_ssize_t error_at


cdef void message_init(Message* m) noexcept nogil
cdef void message_free(Message* m) noexcept nogil

cdef const char* field_name(int field) noexcept nogil
cdef const char* known_kind(int kind) noexcept nogil
cdef int field_named(const char* text, Py_ssize_t size) noexcept nogil
cdef bint levels_grow(Levels* levels, Py_ssize_t count) noexcept nogil


cdef inline bint make_room(Levels* levels, Py_ssize_t count) noexcept nogil:
    """False without memory, and for more levels than a message may have."""
    return count <= levels.capacity or levels_grow(levels, count)


cdef extern from *:
    """
    #define NADO_EACH 0x0101010101010101ULL
    /* Step over bytes that mean nothing special inside a string: neither quote, backslash nor control. */
    NADO_INLINE const char *nado_plain(const char *p, const char *end) {
        while (end - p >= 8) {
            uint64_t word, quote, backslash, found;
            memcpy(&word, p, 8);
            quote = word ^ NADO_EACH * '"';
            backslash = word ^ NADO_EACH * '\\\\';
            found = ((quote - NADO_EACH) & ~quote) | ((backslash - NADO_EACH) & ~backslash)
                | ((word - NADO_EACH * 0x20) & ~word);
            found &= NADO_EACH * 0x80;                   /* right up to the first one */
            if (found) return p + (__builtin_ctzll(found) >> 3);
            p += 8;
        }
        return p;
    }
    """
    const char* plain "nado_plain"(const char* p, const char* end) noexcept nogil
