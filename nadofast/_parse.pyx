"""One message of the exchange → one typed event (streams section of the API).

Two scanners with equal results. The canonical one knows best_bid_offer and book_depth exactly as the
exchange writes them and does nothing but compare literals and read digits; on the first byte that is
different it gives up. The tolerant one reads any JSON object: any key order, white space, escapes,
unknown fields of any shape, integers as strings or numbers. All errors come from the tolerant one.
Market data lands in a Message without a Python object; other kinds are built from the same Message.
"""

from cpython.buffer cimport PyBUF_SIMPLE, Py_buffer, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE, PyBytes_FromStringAndSize
from cpython.unicode cimport PyUnicode_DecodeUTF8
from libc.stdint cimport int64_t, uint64_t
from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memcmp, memcpy, memset, strlen

from ._x18 cimport (
    INT128_MAX,
    UINT128_MAX,
    int128,
    int128_to_py,
    scan_int128,
    scan_uint128,
    uint128,
    uint128_to_py,
)

import json

import orjson

from .errors import ParseError
from .events import (
    AllBBOEvent,
    BBOEvent,
    BookDepthEvent,
    CandlestickEvent,
    ControlReply,
    FillEvent,
    FundingPaymentEvent,
    FundingRateEvent,
    LiquidationEvent,
    OrderUpdateEvent,
    PositionChangeEvent,
    TradeEvent,
    UnknownEvent,
)


cdef extern from "Python.h":
    const char* PyUnicode_AsUTF8AndSize(object text, Py_ssize_t* size) except NULL


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
    MAX_DEPTH = 32            # nesting of unknown values
    MAX_LEVELS = 65536        # level changes per side of one message
    EXCERPT = 40              # bytes of a bad message an error may show
    SHORT_TEXT = 64           # longest key or number that is compared after unescaping

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
cdef size_t[F_COUNT] FIELD_SIZES
cdef int _index
for _index in range(F_COUNT):
    FIELD_SIZES[_index] = strlen(FIELD_NAMES[_index])


# --- memory ------------------------------------------------------------------------------------------

cdef void message_init(Message* m) noexcept nogil:
    memset(m, 0, sizeof(Message))


cdef void message_free(Message* m) noexcept nogil:
    free(m.bids.items)
    free(m.asks.items)
    memset(m, 0, sizeof(Message))


cdef bint _grow(Levels* levels) noexcept nogil:
    cdef Py_ssize_t capacity = levels.capacity * 2 if levels.capacity else 64
    cdef Level* items
    if levels.count >= MAX_LEVELS:
        return False
    items = <Level*>realloc(levels.items, <size_t>capacity * sizeof(Level))
    if items == NULL:
        return False
    levels.items = items
    levels.capacity = capacity
    return True


cdef inline bint _append(Levels* levels, int128 price, int128 qty) noexcept nogil:
    if levels.count == levels.capacity and not _grow(levels):
        return False
    levels.items[levels.count].price = price
    levels.items[levels.count].qty = qty
    levels.count += 1
    return True


# --- canonical scanner ----------------------------------------------------------------------------------

cdef extern from *:
    """
    NADO_INLINE uint64_t nado_load(const char *p, size_t size) {
        uint64_t word = 0;
        memcpy(&word, p, size);
        return word;
    }
    /* Compare with a constant text of 1 to 16 bytes: two loads that may overlap, no call, no loop. */
    NADO_INLINE int nado_same(const char *a, const char *b, size_t size) {
        size_t half = size >= 8 ? 8 : size >= 4 ? 4 : size >= 2 ? 2 : 1;
        return nado_load(a, half) == nado_load(b, half)
            && nado_load(a + size - half, half) == nado_load(b + size - half, half);
    }
    /* Step over a constant text of at most 16 bytes if it stands at *p. */
    NADO_INLINE int nado_expect(const char **p, const char *end, const char *text) {
        size_t size = strlen(text);
        if ((size_t)(end - *p) < size || !nado_same(*p, text, size)) return 0;
        *p += size;
        return 1;
    }
    /* Unsigned digits that fit a signed integer: a minus is left to the tolerant scanner, which refuses it. */
    NADO_INLINE int nado_amount(const char **p, const char *end, nado_int128 *out) {
        nado_uint128 value = 0;
        const char *after = nado_scan_uint128(*p, end, &value);
        if (after == NULL || after == *p || (nado_int128)value < 0) return 0;
        *out = (nado_int128)value;
        *p = after;
        return 1;
    }
    NADO_INLINE int nado_time(const char **p, const char *end, int64_t *out) {
        nado_int128 value = 0;
        if (!nado_amount(p, end, &value) || value > INT64_MAX) return 0;
        *out = (int64_t)value;
        return 1;
    }
    """
    bint _expect "nado_expect"(const char** p, const char* end, const char* text) noexcept nogil
    bint _amount "nado_amount"(const char** p, const char* end, int128* out) noexcept nogil
    bint _time "nado_time"(const char** p, const char* end, int64_t* out) noexcept nogil


cdef bint _canonical_bbo(Message* m, const char* p, const char* end) noexcept nogil:
    """p stands after {"type":"best_bid_offer"."""
    return (
        _expect(&p, end, b',"timestamp":"')
        and _time(&p, end, &m.timestamp_ns)
        and _expect(&p, end, b'","product_id":')
        and _time(&p, end, &m.product_id)
        and m.product_id <= MAX_PRODUCT_ID
        and _expect(&p, end, b',"bid_price":"')
        and _amount(&p, end, &m.bid_price)
        and _expect(&p, end, b'","bid_qty":"')
        and _amount(&p, end, &m.bid_qty)
        and _expect(&p, end, b'","ask_price":"')
        and _amount(&p, end, &m.ask_price)
        and _expect(&p, end, b'","ask_qty":"')
        and _amount(&p, end, &m.ask_qty)
        and _expect(&p, end, b'"}')
        and p == end
    )


cdef bint _canonical_levels(Levels* levels, const char** at, const char* end) noexcept nogil:
    """[["price","qty"],…] at the cursor, which is left after the closing bracket."""
    cdef const char* p = at[0]
    cdef int128 price = 0
    cdef int128 qty = 0
    levels.count = 0
    if _expect(&p, end, b'[]'):
        at[0] = p
        return True
    if not _expect(&p, end, b'[["'):
        return False
    while True:
        if not (_amount(&p, end, &price) and _expect(&p, end, b'","') and _amount(&p, end, &qty)
                and _append(levels, price, qty)):
            return False
        if _expect(&p, end, b'"],["'):
            continue
        at[0] = p
        return _expect(at, end, b'"]]')


cdef bint _canonical_depth(Message* m, const char* p, const char* end) noexcept nogil:
    """p stands after {"type":"book_depth"."""
    return (
        _expect(&p, end, b',"last_max_')
        and _expect(&p, end, b'timestamp":"')
        and _time(&p, end, &m.last_max_ns)
        and _expect(&p, end, b'","min_timest')
        and _expect(&p, end, b'amp":"')
        and _time(&p, end, &m.min_ns)
        and _expect(&p, end, b'","max_timest')
        and _expect(&p, end, b'amp":"')
        and _time(&p, end, &m.max_ns)
        and _expect(&p, end, b'","product_id":')
        and _time(&p, end, &m.product_id)
        and m.product_id <= MAX_PRODUCT_ID
        and _expect(&p, end, b',"bids":')
        and _canonical_levels(&m.bids, &p, end)
        and _expect(&p, end, b',"asks":')
        and _canonical_levels(&m.asks, &p, end)
        and _expect(&p, end, b'}')
        and p == end
    )


cdef int _canonical(Message* m, const char* p, const char* end) noexcept nogil:
    if not _expect(&p, end, b'{"type":"b'):
        return -1
    if _expect(&p, end, b'est_bid_offer"'):
        return KIND_BBO if _canonical_bbo(m, p, end) else -1
    if _expect(&p, end, b'ook_depth"'):
        return KIND_DEPTH if _canonical_depth(m, p, end) else -1
    return -1


# --- tolerant scanner: JSON values ---------------------------------------------------------------------

cdef struct Cursor:
    const char* p
    const char* end
    const char* error


cdef inline bint _fail(Cursor* c, const char* error) noexcept nogil:
    c.error = error
    return False


cdef inline void _space(Cursor* c) noexcept nogil:
    while c.p < c.end and (c.p[0] == c' ' or c.p[0] == c'\n' or c.p[0] == c'\r' or c.p[0] == c'\t'):
        c.p += 1


cdef inline bint _is_hex(char ch) noexcept nogil:
    return c'0' <= ch <= c'9' or c'a' <= ch <= c'f' or c'A' <= ch <= c'F'


cdef bint _string(Cursor* c, Span* out) noexcept nogil:
    cdef char ch
    cdef int i
    c.p += 1
    out.at = c.p
    out.type = V_STRING
    out.escaped = False
    while c.p < c.end:
        ch = c.p[0]
        if ch == c'"':
            out.size = c.p - out.at
            c.p += 1
            return True
        if <unsigned char>ch < 0x20:
            return _fail(c, b"control character in a string")
        c.p += 1
        if ch != c'\\':
            continue
        out.escaped = True
        if c.p == c.end:
            break
        ch = c.p[0]
        if ch == c'u':
            for i in range(4):
                c.p += 1
                if c.p == c.end:
                    return _fail(c, b"unterminated string")
                if not _is_hex(c.p[0]):
                    return _fail(c, b"bad escape in a string")
        elif not (ch == c'"' or ch == c'\\' or ch == c'/' or ch == c'b' or ch == c'f' or ch == c'n'
                  or ch == c'r' or ch == c't'):
            return _fail(c, b"bad escape in a string")
        c.p += 1
    return _fail(c, b"unterminated string")


cdef inline bint _digits(Cursor* c) noexcept nogil:
    cdef const char* start = c.p
    while c.p < c.end and c'0' <= c.p[0] <= c'9':
        c.p += 1
    return c.p > start


cdef bint _number(Cursor* c, Span* out) noexcept nogil:
    """JSON number grammar; whether an integer is wanted is decided by who reads the span."""
    out.at = c.p
    out.type = V_NUMBER
    out.escaped = False
    if c.p[0] == c'-':
        c.p += 1
    if c.p < c.end and c.p[0] == c'0':
        c.p += 1
        if c.p < c.end and c'0' <= c.p[0] <= c'9':
            return _fail(c, b"number with a leading zero")
    elif not _digits(c):
        return _fail(c, b"bad number")
    if c.p < c.end and c.p[0] == c'.':
        c.p += 1
        if not _digits(c):
            return _fail(c, b"bad number")
    if c.p < c.end and (c.p[0] == c'e' or c.p[0] == c'E'):
        c.p += 1
        if c.p < c.end and (c.p[0] == c'+' or c.p[0] == c'-'):
            c.p += 1
        if not _digits(c):
            return _fail(c, b"bad number")
    out.size = c.p - out.at
    return True


cdef bint _word(Cursor* c, Span* out, const char* word, uint64_t type) noexcept nogil:
    out.at = c.p
    out.size = <Py_ssize_t>strlen(word)
    out.type = <unsigned char>type
    out.escaped = False
    if c.end - c.p < out.size or memcmp(c.p, word, <size_t>out.size) != 0:
        return _fail(c, b"not a JSON value")
    c.p += out.size
    return True


cdef bint _value(Cursor* c, Span* out, int depth) noexcept nogil:
    """Any JSON value at the cursor, which must not stand on white space. Containers are walked, not kept."""
    if c.p == c.end:
        return _fail(c, b"message ends early")
    cdef char ch = c.p[0]
    if ch == c'"':
        return _string(c, out)
    if ch == c'{' or ch == c'[':
        return _container(c, out, depth)
    if ch == c't':
        return _word(c, out, b"true", V_TRUE)
    if ch == c'f':
        return _word(c, out, b"false", V_FALSE)
    if ch == c'n':
        return _word(c, out, b"null", V_NULL)
    if ch == c'-' or c'0' <= ch <= c'9':
        return _number(c, out)
    return _fail(c, b"not a JSON value")


cdef bint _key(Cursor* c, Span* out) noexcept nogil:
    """A key and its colon; leaves the cursor on the value."""
    if c.p == c.end:
        return _fail(c, b"message ends early")
    if c.p[0] != c'"':
        return _fail(c, b"a key is needed")
    if not _string(c, out):
        return False
    _space(c)
    if c.p == c.end:
        return _fail(c, b"message ends early")
    if c.p[0] != c':':
        return _fail(c, b"a colon is needed")
    c.p += 1
    _space(c)
    return True


cdef bint _next(Cursor* c, char closing, bint* more) noexcept nogil:
    """After an element: a comma (more) or the closing bracket."""
    _space(c)
    if c.p == c.end:
        return _fail(c, b"message ends early")
    more[0] = c.p[0] == c','
    if not more[0] and c.p[0] != closing:
        return _fail(c, b"a comma or a closing bracket is needed")
    c.p += 1
    if more[0]:
        _space(c)
    return True


cdef bint _container(Cursor* c, Span* out, int depth) noexcept nogil:
    cdef bint is_object = c.p[0] == c'{'
    cdef char closing = c'}' if is_object else c']'
    cdef bint more = True
    cdef Span ignored
    if depth >= MAX_DEPTH:
        return _fail(c, b"nested too deeply")
    out.at = c.p
    out.type = V_OBJECT if is_object else V_ARRAY
    out.escaped = False
    c.p += 1
    _space(c)
    if c.p < c.end and c.p[0] == closing:
        c.p += 1
        more = False
    while more:
        if is_object and not _key(c, &ignored):
            return False
        if not _value(c, &ignored, depth + 1) or not _next(c, closing, &more):
            return False
    out.size = c.p - out.at
    return True


# --- tolerant scanner: the message ---------------------------------------------------------------------

cdef Py_ssize_t _unescape(const Span* span, char* out) noexcept nogil:
    """ASCII text of a short escaped string into out[SHORT_TEXT]; -1 if it is longer or not ASCII."""
    cdef const char* p = span.at
    cdef const char* end = span.at + span.size
    cdef Py_ssize_t n = 0
    cdef int code, i
    cdef char ch
    while p < end:
        if n == SHORT_TEXT:
            return -1
        ch = p[0]
        p += 1
        if ch == c'\\':
            ch = p[0]
            p += 1
            if ch == c'u':
                code = 0
                for i in range(4):
                    ch = p[i]
                    code = code * 16 + (ch - c'0' if ch <= c'9' else (ch | 32) - c'a' + 10)
                if code > 127:
                    return -1
                p += 4
                ch = <char>code
            elif ch == c'n':
                ch = c'\n'
            elif ch == c't':
                ch = c'\t'
            elif ch == c'r':
                ch = c'\r'
            elif ch == c'b':
                ch = 8
            elif ch == c'f':
                ch = 12
        out[n] = ch
        n += 1
    return n


cdef int _field_of(const Span* key) noexcept nogil:
    """Field of a key, F_COUNT if it is unknown."""
    cdef char[SHORT_TEXT] buffer
    cdef const char* text = key.at
    cdef Py_ssize_t size = key.size
    cdef int field
    if key.escaped:
        text = buffer
        size = _unescape(key, buffer)
    for field in range(F_COUNT):
        if <Py_ssize_t>FIELD_SIZES[field] == size and memcmp(FIELD_NAMES[field], text, <size_t>size) == 0:
            return field
    return F_COUNT


cdef bint _text_is(const Span* span, const char* text) noexcept nogil:
    cdef char[SHORT_TEXT] buffer
    cdef const char* at = span.at
    cdef Py_ssize_t size = span.size
    if span.type != V_STRING:
        return False
    if span.escaped:
        at = buffer
        size = _unescape(span, buffer)
    return size == <Py_ssize_t>strlen(text) and memcmp(at, text, <size_t>size) == 0


cdef bint _refuse(Message* m, const char* error, const char* at) noexcept nogil:
    m.error = error
    m.error_at = at - m.base
    return False


cdef bint _walk(Message* m) noexcept nogil:
    """Spans of all known top-level fields; the last of a repeated key wins, as with any JSON reader."""
    cdef Cursor c
    cdef Span key
    cdef Span value
    cdef int field
    cdef bint more = True
    c.p = m.base
    c.end = m.base + m.size
    c.error = NULL
    memset(m.fields, 0, sizeof(m.fields))
    _space(&c)
    if c.p == c.end or c.p[0] != c'{':
        return _refuse(m, b"not a JSON object", c.p)
    c.p += 1
    _space(&c)
    if c.p < c.end and c.p[0] == c'}':
        c.p += 1
        more = False
    while more:
        if not _key(&c, &key) or not _value(&c, &value, 1) or not _next(&c, c'}', &more):
            return _refuse(m, c.error, c.p)
        field = _field_of(&key)
        if field < F_COUNT:
            m.fields[field] = value
        else:
            m.unknown_fields += 1
            m.unknown_field = key
    _space(&c)
    if c.p != c.end:
        return _refuse(m, b"text after the message", c.p)
    return True


cdef bint _read_int128(Message* m, const Span* span, int128* out) noexcept nogil:
    """Integer of a string or a number."""
    cdef char[SHORT_TEXT] buffer
    cdef const char* at = span.at
    cdef Py_ssize_t size = span.size
    if span.type == V_STRING and span.escaped:
        at = buffer
        size = _unescape(span, buffer)
    elif span.type != V_STRING and span.type != V_NUMBER:
        return _refuse(m, b"an integer is needed", span.at)
    if size <= 0 or scan_int128(at, at + size, out) != at + size:
        return _refuse(m, b"not an integer of at most 128 bits", span.at)
    return True


cdef bint _need(Message* m, int field) noexcept nogil:
    if m.fields[field].type == V_MISSING or m.fields[field].type == V_NULL:
        m.error = FIELD_NAMES[field]
        m.error_at = -1 - field  # build_error turns it into "… is missing"
        return False
    return True


cdef bint _need_amount(Message* m, int field, int128* out) noexcept nogil:
    """A price or quantity of market data: required, not negative."""
    if not _need(m, field) or not _read_int128(m, &m.fields[field], out):
        return False
    if out[0] < 0:
        return _refuse(m, b"a negative price or quantity", m.fields[field].at)
    return True


cdef bint _need_int64(Message* m, int field, int64_t* out, int64_t limit) noexcept nogil:
    cdef int128 wide = 0
    if not _need_amount(m, field, &wide):
        return False
    if wide > <int128>limit:
        return _refuse(m, b"integer out of range", m.fields[field].at)
    out[0] = <int64_t>wide
    return True


cdef bint _tolerant_levels(Message* m, int field, Levels* levels) noexcept nogil:
    """[[price, qty], …] of a field that _walk found to be well-formed JSON."""
    cdef Cursor c
    cdef Span price_span
    cdef Span qty_span
    cdef int128 price = 0
    cdef int128 qty = 0
    cdef bint more
    levels.count = 0
    if not _need(m, field):
        return False
    if m.fields[field].type != V_ARRAY:
        return _refuse(m, b"an array of levels is needed", m.fields[field].at)
    c.p = m.fields[field].at + 1
    c.end = m.fields[field].at + m.fields[field].size
    c.error = NULL
    _space(&c)
    more = c.p[0] != c']'
    while more:
        if c.p[0] != c'[':
            return _refuse(m, b"a level is [price, quantity]", c.p)
        c.p += 1
        _space(&c)
        if not _value(&c, &price_span, MAX_DEPTH) or not _next(&c, c']', &more) or not more:
            return _refuse(m, b"a level is [price, quantity]", c.p)
        if not _value(&c, &qty_span, MAX_DEPTH) or not _next(&c, c']', &more) or more:
            return _refuse(m, b"a level is [price, quantity]", c.p)
        if not _read_int128(m, &price_span, &price) or not _read_int128(m, &qty_span, &qty):
            return False
        if price < 0 or qty < 0:
            return _refuse(m, b"a negative price or quantity", price_span.at)
        if not _append(levels, price, qty):
            return _refuse(m, b"too many levels", price_span.at)
        _next(&c, c']', &more)
    return True


cdef int _kind_of(Message* m) noexcept nogil:
    """By `type` first: events may carry `id` as replies do."""
    cdef int kind
    if m.fields[F_TYPE].type == V_STRING:
        for kind in range(KIND_REPLY):
            if _text_is(&m.fields[F_TYPE], KIND_NAMES[kind]):
                return kind
        return KIND_UNKNOWN
    if (m.fields[F_RESULT].type != V_MISSING or m.fields[F_ERROR].type != V_MISSING
            or m.fields[F_ERROR_CODE].type != V_MISSING or m.fields[F_STATUS].type == V_STRING):
        return KIND_REPLY
    _refuse(m, b"neither an event (type) nor a reply (result, error, status)", m.base)
    return -1


cdef int _tolerant(Message* m) noexcept nogil:
    cdef int kind
    cdef bint ok = True
    if not _walk(m):
        return -1
    kind = _kind_of(m)
    if kind == KIND_BBO:
        ok = (_need_int64(m, F_TIMESTAMP, &m.timestamp_ns, MAX_INT64)
              and _need_int64(m, F_PRODUCT_ID, &m.product_id, MAX_PRODUCT_ID)
              and _need_amount(m, F_BID_PRICE, &m.bid_price) and _need_amount(m, F_BID_QTY, &m.bid_qty)
              and _need_amount(m, F_ASK_PRICE, &m.ask_price) and _need_amount(m, F_ASK_QTY, &m.ask_qty))
    elif kind == KIND_DEPTH:
        ok = (_need_int64(m, F_LAST_MAX, &m.last_max_ns, MAX_INT64)
              and _need_int64(m, F_MIN, &m.min_ns, MAX_INT64)
              and _need_int64(m, F_MAX, &m.max_ns, MAX_INT64)
              and _need_int64(m, F_PRODUCT_ID, &m.product_id, MAX_PRODUCT_ID)
              and _tolerant_levels(m, F_BIDS, &m.bids) and _tolerant_levels(m, F_ASKS, &m.asks))
    return kind if ok else -1


cdef int scan(Message* m, const char* data, Py_ssize_t size) noexcept nogil:
    """Read one message. Returns its KIND_*, or -1 with m.error set. Overwrites what m held."""
    m.base = data
    m.size = size
    m.error = NULL
    m.unknown_fields = 0
    m.kind = _canonical(m, data, data + size)
    m.canonical = m.kind >= 0
    if not m.canonical:
        m.kind = _tolerant(m)
    return m.kind


# --- errors and names ------------------------------------------------------------------------------------

cdef str kind_name(int kind):
    return KIND_NAMES[kind].decode() if 0 <= kind < KIND_UNKNOWN else "unknown"


cdef object _error_at(Message* m, str text, Py_ssize_t offset):
    """ParseError with a printable ASCII excerpt of at most EXCERPT bytes around the offset."""
    cdef Py_ssize_t start = max(0, min(offset, m.size) - EXCERPT // 2)
    cdef Py_ssize_t stop = min(m.size, start + EXCERPT)
    cdef bytes near = PyBytes_FromStringAndSize(m.base + start, stop - start)
    excerpt = "".join([chr(byte) if 32 <= byte < 127 else "." for byte in near])
    return ParseError(text, offset, excerpt)


cdef object build_error(Message* m):
    """The ParseError of a scan that returned -1."""
    cdef bytes text = m.error
    if m.error_at < 0:
        return _error_at(m, f"{text.decode()} is missing", m.size)
    return _error_at(m, text.decode(), m.error_at)


cdef object unknown_kind(Message* m):
    """`type` of a message of a kind this version does not know."""
    return _text(m, F_TYPE)


cdef object unknown_field(Message* m):
    """Name of the last unknown field, as far as it is printable."""
    return PyBytes_FromStringAndSize(m.unknown_field.at, min(m.unknown_field.size, SHORT_TEXT)).decode(
        "ascii", "replace"
    )


# --- building events -------------------------------------------------------------------------------------

cdef object _missing(Message* m, int field):
    return _error_at(m, f"{FIELD_NAMES[field].decode()} is missing", m.size)


cdef bint _absent(Message* m, int field):
    return m.fields[field].type == V_MISSING or m.fields[field].type == V_NULL


cdef object _span_text(Message* m, Span* span):
    try:
        if span.escaped:
            return orjson.loads(b'"' + PyBytes_FromStringAndSize(span.at, span.size) + b'"')
        return PyUnicode_DecodeUTF8(span.at, span.size, NULL)
    except ValueError:  # UnicodeDecodeError, or an escape that is half a surrogate pair
        raise _error_at(m, "a string that is not UTF-8", span.at - m.base) from None


cdef object _text(Message* m, int field):
    if _absent(m, field):
        raise _missing(m, field)
    if m.fields[field].type != V_STRING:
        raise _error_at(m, f"{FIELD_NAMES[field].decode()}: a string is needed", m.fields[field].at - m.base)
    return _span_text(m, &m.fields[field])


cdef object _hex(Message* m, int field):
    """Identities compare without case: lower case is their one form here."""
    return _text(m, field).lower()


cdef object _int(Message* m, int field):
    """Signed 128-bit integer, required."""
    cdef int128 value = 0
    if _absent(m, field):
        raise _missing(m, field)
    if not _read_int128(m, &m.fields[field], &value):
        raise build_error(m)
    return int128_to_py(value)


cdef object _unsigned(Message* m, int field, uint128 limit):
    """Unsigned integer up to `limit`, required: appendix needs all 128 bits."""
    cdef char[SHORT_TEXT] buffer
    cdef uint128 value = 0
    if _absent(m, field):
        raise _missing(m, field)
    cdef Span* span = &m.fields[field]
    cdef const char* at = span.at
    cdef Py_ssize_t size = span.size
    if span.escaped:
        at = buffer
        size = _unescape(span, buffer)
    if ((span.type != V_STRING and span.type != V_NUMBER) or size <= 0
            or scan_uint128(at, at + size, &value) != at + size or value > limit):
        raise _error_at(m, f"{FIELD_NAMES[field].decode()}: not an unsigned integer in range",
                        span.at - m.base)
    return uint128_to_py(value)


cdef object _product(Message* m):
    return _unsigned(m, F_PRODUCT_ID, MAX_PRODUCT_ID)


cdef object _time_ns(Message* m):
    return _unsigned(m, F_TIMESTAMP, MAX_INT64)


cdef object _optional(Message* m, int field):
    return None if _absent(m, field) else _int(m, field)


cdef object _optional_id(Message* m):
    return None if _absent(m, F_ID) else _unsigned(m, F_ID, MAX_UINT64)


cdef object _bool(Message* m, int field):
    """A JSON boolean, or its name as a string (queries use that form)."""
    if _absent(m, field):
        raise _missing(m, field)
    cdef Span* span = &m.fields[field]
    if span.type == V_TRUE or _text_is(span, b"true"):
        return True
    if span.type == V_FALSE or _text_is(span, b"false"):
        return False
    raise _error_at(m, f"{FIELD_NAMES[field].decode()}: true or false is needed", span.at - m.base)


cdef object _seconds(object value):
    """Unit by magnitude: ns beyond 1e17, ms beyond 1e11, else s (sources disagree on these fields)."""
    if value > 10**17:
        return value // 10**9
    return value // 1000 if value > 10**11 else value


cdef object _nanoseconds(object value):
    if value > 10**17:
        return value
    return value * 10**6 if value > 10**11 else value * 10**9


cdef tuple _level_tuple(Levels* levels):
    cdef Py_ssize_t i
    return tuple([
        (int128_to_py(levels.items[i].price), int128_to_py(levels.items[i].qty)) for i in range(levels.count)
    ])


cdef object _decoded(Message* m, Span* span, object loads):
    """A value the scanner only walked, as Python objects. json.loads keeps integers beyond 64 bits exact."""
    try:
        return loads(PyBytes_FromStringAndSize(span.at, span.size))
    except ValueError as error:
        raise _error_at(m, f"cannot be decoded: {error}", span.at - m.base) from None


cdef object _bbo_event(Message* m):
    return BBOEvent(
        product_id=m.product_id,
        timestamp_ns=m.timestamp_ns,
        bid_price_x18=int128_to_py(m.bid_price),
        bid_qty_x18=int128_to_py(m.bid_qty),
        ask_price_x18=int128_to_py(m.ask_price),
        ask_qty_x18=int128_to_py(m.ask_qty),
    )


cdef object _depth_event(Message* m):
    return BookDepthEvent(
        product_id=m.product_id,
        last_max_timestamp_ns=m.last_max_ns,
        min_timestamp_ns=m.min_ns,
        max_timestamp_ns=m.max_ns,
        bids=_level_tuple(&m.bids),
        asks=_level_tuple(&m.asks),
    )


cdef object _trade_event(Message* m):
    return TradeEvent(
        product_id=_product(m),
        timestamp_ns=_time_ns(m),
        price_x18=_int(m, F_PRICE),
        taker_qty_x18=_int(m, F_TAKER_QTY),
        maker_qty_x18=_int(m, F_MAKER_QTY),
        is_taker_buyer=_bool(m, F_IS_TAKER_BUYER),
    )


cdef object _fill_event(Message* m):
    return FillEvent(
        product_id=_product(m),
        timestamp_ns=_time_ns(m),
        subaccount=_hex(m, F_SUBACCOUNT),
        order_digest=_hex(m, F_ORDER_DIGEST),
        appendix=_unsigned(m, F_APPENDIX, UINT128_MAX),
        filled_qty_x18=_int(m, F_FILLED_QTY),
        remaining_qty_x18=_int(m, F_REMAINING_QTY),
        original_qty_x18=_int(m, F_ORIGINAL_QTY),
        price_x18=_int(m, F_PRICE),
        is_taker=_bool(m, F_IS_TAKER),
        is_bid=_bool(m, F_IS_BID),
        fee_x18=_int(m, F_FEE),
        submission_idx=_unsigned(m, F_SUBMISSION_IDX, MAX_UINT64),
        id=_optional_id(m),
    )


cdef object _order_update_event(Message* m):
    return OrderUpdateEvent(
        product_id=_product(m),
        timestamp_ns=_time_ns(m),
        digest=_hex(m, F_DIGEST),
        amount_x18=abs(_int(m, F_AMOUNT)),
        reason=_text(m, F_REASON),
        id=_optional_id(m),
        filled_qty_x18=_optional(m, F_FILLED_QTY),
        filled_price_x18=_optional(m, F_FILLED_PRICE),
    )


cdef object _position_change_event(Message* m):
    return PositionChangeEvent(
        product_id=_product(m),
        timestamp_ns=_time_ns(m),
        subaccount=_hex(m, F_SUBACCOUNT),
        isolated=_bool(m, F_ISOLATED),
        amount_x18=_int(m, F_AMOUNT),
        v_quote_amount_x18=_int(m, F_V_QUOTE_AMOUNT),
        reason=_text(m, F_REASON),
    )


cdef object _candlestick_event(Message* m):
    return CandlestickEvent(
        product_id=_product(m),
        timestamp_s=_seconds(_time_ns(m)),
        granularity_s=_unsigned(m, F_GRANULARITY, MAX_PRODUCT_ID),
        open_x18=_int(m, F_OPEN),
        high_x18=_int(m, F_HIGH),
        low_x18=_int(m, F_LOW),
        close_x18=_int(m, F_CLOSE),
        volume_x18=_int(m, F_VOLUME),
    )


cdef object _funding_rate_event(Message* m):
    return FundingRateEvent(
        product_id=_product(m),
        timestamp_ns=_time_ns(m),
        funding_rate_x18=_int(m, F_FUNDING_RATE),
        update_time_s=_seconds(_unsigned(m, F_UPDATE_TIME, MAX_INT64)),
    )


cdef object _funding_payment_event(Message* m):
    return FundingPaymentEvent(
        product_id=_product(m),
        timestamp_ns=_nanoseconds(_time_ns(m)),
        payment_amount_x18=_int(m, F_PAYMENT_AMOUNT),
        open_interest_x18=_int(m, F_OPEN_INTEREST),
        cumulative_funding_long_x18=_int(m, F_CUMULATIVE_LONG),
        cumulative_funding_short_x18=_int(m, F_CUMULATIVE_SHORT),
    )


cdef object _checked_int(Message* m, Span* span, object value):
    """Exact integer of a decoded string or number."""
    cdef bytes text
    if isinstance(value, str):
        text = value.encode()
    elif isinstance(value, int) and not isinstance(value, bool):
        text = str(value).encode()
    else:
        text = b""
    cdef int128 number = 0
    cdef const char* at = PyBytes_AS_STRING(text)
    cdef const char* end = at + PyBytes_GET_SIZE(text)
    if at == end or scan_int128(at, end, &number) != end:
        raise _error_at(m, "not an integer of at most 128 bits", span.at - m.base)
    return int128_to_py(number)


cdef object _liquidation_event(Message* m):
    cdef Span* span = &m.fields[F_PRODUCT_IDS]
    if _absent(m, F_PRODUCT_IDS):
        raise _missing(m, F_PRODUCT_IDS)
    product_ids = _decoded(m, span, json.loads)
    if not isinstance(product_ids, list):
        raise _error_at(m, "product_ids: an array is needed", span.at - m.base)
    return LiquidationEvent(
        product_ids=tuple([_checked_int(m, span, product_id) for product_id in product_ids]),
        timestamp_ns=_time_ns(m),
        liquidator=_hex(m, F_LIQUIDATOR),
        liquidatee=_hex(m, F_LIQUIDATEE),
        amount_x18=_int(m, F_AMOUNT),
        price_x18=_int(m, F_PRICE),
    )


cdef object _all_bbo_event(Message* m):
    cdef Span* span = &m.fields[F_BBOS]
    if _absent(m, F_BBOS):
        raise _missing(m, F_BBOS)
    decoded = _decoded(m, span, json.loads)
    if not isinstance(decoded, dict):
        raise _error_at(m, "bbos: an object is needed", span.at - m.base)
    bbos = {}
    for product_id, touch in decoded.items():
        if not isinstance(touch, dict):
            raise _error_at(m, "bbos: an object per product is needed", span.at - m.base)
        bbos[_checked_int(m, span, product_id)] = (
            _checked_int(m, span, touch.get("bid")), _checked_int(m, span, touch.get("ask"))
        )
    return AllBBOEvent(time_ms=_unsigned(m, F_TIME, MAX_INT64), bbos=bbos)


cdef object _reply(Message* m):
    """Subscription reply, or a gateway envelope with the whole object as result (envelopes of the API)."""
    cdef Span whole
    whole.at = m.base
    whole.size = m.size
    decoded = _decoded(m, &whole, orjson.loads)
    error = decoded.get("error")
    code = decoded.get("error_code")
    is_envelope = "status" in decoded
    if is_envelope and decoded["status"] != "success" and error is None and code is None:
        error = str(decoded["status"])
    return ControlReply(
        id=None if _absent(m, F_ID) else _unsigned(m, F_ID, MAX_UINT64),
        result=decoded if is_envelope else decoded.get("result"),
        error=None if error is None else str(error),
        error_code=None if code is None else _checked_int(m, &m.fields[F_ERROR_CODE], code),
    )


cdef object build_event(Message* m):
    """Typed event of a scanned message. Raises ParseError for a field that is missing or wrong."""
    if m.kind == KIND_BBO:
        return _bbo_event(m)
    if m.kind == KIND_DEPTH:
        return _depth_event(m)
    if m.kind == KIND_TRADE:
        return _trade_event(m)
    if m.kind == KIND_FILL:
        return _fill_event(m)
    if m.kind == KIND_ORDER_UPDATE:
        return _order_update_event(m)
    if m.kind == KIND_POSITION_CHANGE:
        return _position_change_event(m)
    if m.kind == KIND_CANDLESTICK:
        return _candlestick_event(m)
    if m.kind == KIND_FUNDING_RATE:
        return _funding_rate_event(m)
    if m.kind == KIND_FUNDING_PAYMENT:
        return _funding_payment_event(m)
    if m.kind == KIND_LIQUIDATION:
        return _liquidation_event(m)
    if m.kind == KIND_ALL_BBO:
        return _all_bbo_event(m)
    if m.kind == KIND_REPLY:
        return _reply(m)
    return UnknownEvent(kind=_text(m, F_TYPE), raw=PyBytes_FromStringAndSize(m.base, m.size))


# --- Python face -----------------------------------------------------------------------------------------

cdef int acquire_view(object data, View* view) except -1:
    """Bytes of what was passed, without a copy. A bytearray cannot be resized until release_view()."""
    cdef Py_buffer* buffer
    view.buffer = NULL
    if isinstance(data, bytes):
        view.data = PyBytes_AS_STRING(data)
        view.size = PyBytes_GET_SIZE(data)
        return 0
    if isinstance(data, str):
        try:
            view.data = PyUnicode_AsUTF8AndSize(data, &view.size)
        except UnicodeEncodeError as error:
            raise ParseError("a text that is not Unicode", error.start) from None
        return 0
    buffer = <Py_buffer*>calloc(1, sizeof(Py_buffer))
    if buffer == NULL:
        raise MemoryError
    try:
        PyObject_GetBuffer(data, buffer, PyBUF_SIMPLE)
    except BaseException as error:
        free(buffer)
        if isinstance(error, (BufferError, TypeError)):
            raise TypeError(f"contiguous bytes or str are needed, not {type(data).__name__}") from None
        raise
    view.buffer = buffer
    view.data = <const char*>buffer.buf
    view.size = buffer.len
    return 0


cdef void release_view(View* view) noexcept:
    if view.buffer != NULL:
        PyBuffer_Release(<Py_buffer*>view.buffer)
        free(view.buffer)
        view.buffer = NULL


# One scratch for all calls from Python: nothing that runs while it is in use calls back.
cdef Message _scratch
message_init(&_scratch)


def parse(data):
    cdef View view
    acquire_view(data, &view)
    try:
        if scan(&_scratch, view.data, view.size) < 0:
            raise build_error(&_scratch)
        return build_event(&_scratch)
    finally:
        release_view(&view)


def parse_x18(data):
    cdef View view
    cdef int128 value = 0
    acquire_view(data, &view)
    try:
        if view.size == 0 or scan_int128(view.data, view.data + view.size, &value) != view.data + view.size:
            _scratch.base = view.data
            _scratch.size = view.size
            raise _error_at(&_scratch, "not an integer of at most 128 bits", 0)
        return int128_to_py(value)
    finally:
        release_view(&view)


def scanner(data):
    cdef View view
    acquire_view(data, &view)
    try:
        if scan(&_scratch, view.data, view.size) < 0:
            raise build_error(&_scratch)
        return "canonical" if _scratch.canonical else "tolerant"
    finally:
        release_view(&view)
