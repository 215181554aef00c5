"""What a scanned message is made of: names of its fields and kinds, and the memory of its levels (see _message.pxd)."""

from libc.stdlib cimport free, realloc
from libc.string cimport memcmp, memset, strlen


cdef enum:
    MAX_LEVELS = 65536        # level changes per side of one message

ctypedef const char* Name

cdef Name[KIND_UNKNOWN] KIND_NAMES = [
    "best_bid_offer", "book_depth", "trade", "fill", "order_update", "position_change",
    "latest_candlestick", "funding_rate", "funding_payment", "liquidation", "all_bbo", "reply",
]
cdef Name[F_COUNT] FIELD_NAMES = [
    "type", "timestamp", "product_id", "last_max_timestamp", "min_timestamp", "max_timestamp",
    "bids", "asks", "bid_price", "bid_qty", "ask_price", "ask_qty",
    "price", "taker_qty", "maker_qty", "is_taker_buyer",
    "subaccount", "order_digest", "appendix", "filled_qty", "remaining_qty", "original_qty",
    "is_taker", "is_bid", "fee", "submission_idx", "id",
    "digest", "amount", "reason", "filled_price", "isolated", "v_quote_amount",
    "granularity", "open_x18", "high_x18", "low_x18", "close_x18", "volume",
    "funding_rate_x18", "update_time", "payment_amount", "open_interest",
    "cumulative_funding_long_x18", "cumulative_funding_short_x18", "dt",
    "product_ids", "liquidator", "liquidatee", "time", "bbos",
    "result", "error", "error_code", "status",
]
# Fields by the length of their name: the first of a length, and the next one after each; F_COUNT ends a list.
cdef int[SHORT_TEXT + 1] FIELDS_OF_SIZE
cdef int[F_COUNT] NEXT_FIELD
cdef int _index
for _index in range(SHORT_TEXT + 1):
    FIELDS_OF_SIZE[_index] = F_COUNT
for _index in range(F_COUNT):
    NEXT_FIELD[_index] = FIELDS_OF_SIZE[strlen(FIELD_NAMES[_index])]
    FIELDS_OF_SIZE[strlen(FIELD_NAMES[_index])] = _index

cdef int field_named(const char* text, Py_ssize_t size) noexcept nogil:
    """F_* of a name as on the wire, F_COUNT if it is unknown."""
    cdef int field
    if not 0 <= size <= SHORT_TEXT:
        return F_COUNT
    field = FIELDS_OF_SIZE[size]
    while field < F_COUNT and memcmp(FIELD_NAMES[field], text, <size_t>size) != 0:
        field = NEXT_FIELD[field]
    return field


cdef const char* field_name(int field) noexcept nogil:
    """As on the wire."""
    return FIELD_NAMES[field]


cdef const char* known_kind(int kind) noexcept nogil:
    """`type` of a KIND_* below KIND_UNKNOWN."""
    return KIND_NAMES[kind]


cdef void message_init(Message* m) noexcept nogil:
    memset(m, 0, sizeof(Message))


cdef void message_free(Message* m) noexcept nogil:
    free(m.bids.items)
    free(m.asks.items)
    memset(m, 0, sizeof(Message))


cdef bint levels_grow(Levels* levels, Py_ssize_t count) noexcept nogil:
    cdef Py_ssize_t capacity = min(max(count, levels.capacity * 2, <Py_ssize_t>64), <Py_ssize_t>MAX_LEVELS)
    cdef Level* items
    if count > MAX_LEVELS:
        return False
    items = <Level*>realloc(levels.items, <size_t>capacity * sizeof(Level))
    if items == NULL:
        return False
    levels.items = items
    levels.capacity = capacity
    return True

