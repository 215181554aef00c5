"""One message of the exchange → a Message: two scanners with equal results, without a Python object.

The canonical one, here, knows best_bid_offer, book_depth and fill exactly as the exchange writes them and does nothing
but compare literals, read digits and find ends of strings; on the first byte that is different it gives up. Then the
tolerant one (`_tolerant`) reads the message from its beginning; all errors come from there.
"""

from libc.stdint cimport int64_t, uint8_t, uint64_t

from ._message cimport (
    F_APPENDIX, F_FEE, F_FILLED_QTY, F_ID, F_IS_BID, F_IS_TAKER, F_ORDER_DIGEST, F_ORIGINAL_QTY, F_PRICE,
    F_PRODUCT_ID, F_REMAINING_QTY, F_SUBACCOUNT, F_SUBMISSION_IDX, F_TIMESTAMP, V_FALSE, V_MISSING, V_NUMBER,
    V_STRING, V_TRUE, make_room, plain,
)
from ._tolerant cimport tolerant
from ._x18 cimport pair, time_ns


cdef extern from *:
    """
    NADO_INLINE uint64_t nado_load(const char *p, size_t size) {
        uint64_t word = 0;
        uint32_t half = 0;
        uint16_t two = 0;
        if (size > 4) return memcpy(&word, p, 8), word;
        if (size > 2) return memcpy(&half, p, 4), half;
        return size == 2 ? (memcpy(&two, p, 2), two) : (uint8_t)*p;
    }
    /* 0 if the constant text stands at p. Whole words are compared, which may overlap: a text of 3 needs 4 readable
       bytes, one of 5 to 7 needs 8. */
    NADO_INLINE uint64_t nado_differs(const char *p, const char *text) {
        const size_t size = strlen(text);
        uint64_t differs = 0;
        size_t i;
        if (size < 8)
            return (nado_load(p, size) & (((uint64_t)1 << 8 * size) - 1)) ^ (
                (uint64_t)text[0] | (uint64_t)(size > 1 ? text[1] : 0) << 8 | (uint64_t)(size > 2 ? text[2] : 0) << 16
                | (uint64_t)(size > 3 ? text[3] : 0) << 24 | (uint64_t)(size > 4 ? text[4] : 0) << 32
                | (uint64_t)(size > 5 ? text[5] : 0) << 40 | (uint64_t)(size > 6 ? text[6] : 0) << 48);
        for (i = 0; i < size; i += 8) {
            const size_t at = i + 8 <= size ? i : size - 8;
            differs |= nado_load(p + at, 8) ^ nado_load(text + at, 8);
        }
        return differs;
    }
    /* Step over a constant text if it stands at p and something follows; NULL if not, or if p is NULL. Not found where
       its last word would be cut. */
    NADO_INLINE const char *nado_expect(const char *p, const char *end, const char *text) {
        const size_t size = strlen(text), room = size > 4 && size < 8 ? 8 : size + 1;
        if (__builtin_expect(p == NULL || p > end - room || nado_differs(p, text) != 0, 0)) return NULL;
        return p + size;
    }
    /* A JSON number of at most 32 bits. */
    NADO_INLINE const char *nado_product(const char *p, const char *end, int64_t *out) {
        int64_t value = 0;
        int i;
        if (end - p < 12) return NULL;
        for (i = 0; i < 11 && p[i] >= '0' && p[i] <= '9'; i++) value = value * 10 + (p[i] - '0');
        *out = value;
        return i == 0 || value > NADO_MAX_PRODUCT_ID || (i > 1 && p[0] == '0') ? NULL : p + i;
    }
    """
    const char* _expect "nado_expect"(const char* p, const char* end, const char* text) noexcept nogil
    uint64_t _differs "nado_differs"(const char* p, const char* text) noexcept nogil
    const char* _product "nado_product"(const char* p, const char* end, int64_t* out) noexcept nogil

cdef enum:
    SHORTEST = 96             # no canonical message is shorter
    LEVEL_SIZE = 9            # nor a level: ["1","2"]
    BBO_HEAD = 38             # bytes before the first number
    DEPTH_HEAD = 43
    FILL_HEAD = 28
    QTY_COMMA = 3             # "," between the two numbers of a level
    QTY_KEY = 13              # "bid_qty":" between those of a best bid, with the quote and comma before it


cdef bint _canonical_bbo(Message* m, const char* p, const char* end) noexcept nogil:
    cdef const char* between
    if _differs(p, b'{"type":"best_bid_offer","timestamp":"'):
        return False
    p = _expect(time_ns(p + BBO_HEAD, end, &m.timestamp_ns), end, b'","product_id":')
    if p == NULL:
        return False
    p = _expect(_product(p, end, &m.product_id), end, b',"bid_price":"')
    if p == NULL:
        return False
    p = _expect(pair(p, end, QTY_KEY, False, &between, &m.bid_price, &m.bid_qty), end, b'","ask_price":"')
    if p == NULL or _differs(between, b'","bid_qty":"'):
        return False
    p = pair(p, end, QTY_KEY, True, &between, &m.ask_price, &m.ask_qty)
    return p != NULL and not _differs(between, b'","ask_qty":"') and end - p == 2 and not _differs(p, b'"}')


cdef inline const char* _canonical_levels(Levels* levels, const char* p, const char* end) noexcept nogil:
    """[["price","qty"],…] at p; what stands after it. There is room for as many levels as the text can hold."""
    cdef Level* level = levels.items
    cdef const char* after = _expect(p, end, b'[["')
    cdef const char* between
    levels.count = 0
    if after == NULL:
        return _expect(p, end, b'[]')
    while True:
        p = pair(after, end, QTY_COMMA, False, &between, &level.price, &level.qty)
        if p == NULL or _differs(between, b'","'):
            return NULL
        level += 1
        after = _expect(p, end, b'"],["')
        if after == NULL:
            levels.count = level - levels.items
            return _expect(p, end, b'"]]')


cdef bint _canonical_depth(Message* m, const char* p, const char* end) noexcept nogil:
    cdef Py_ssize_t most = m.size // LEVEL_SIZE + 1
    if not make_room(&m.bids, most) or not make_room(&m.asks, most):
        return False
    if _differs(p, b'{"type":"book_depth","last_max_timestamp":"'):
        return False
    p = _expect(time_ns(p + DEPTH_HEAD, end, &m.last_max_ns), end, b'","min_timestamp":"')
    if p == NULL:
        return False
    p = _expect(time_ns(p, end, &m.min_ns), end, b'","max_timestamp":"')
    if p == NULL:
        return False
    p = _expect(time_ns(p, end, &m.max_ns), end, b'","product_id":')
    if p == NULL:
        return False
    p = _expect(_product(p, end, &m.product_id), end, b',"bids":')
    if p == NULL:
        return False
    p = _expect(_canonical_levels(&m.bids, p, end), end, b',"asks":')
    if p == NULL:
        return False
    p = _canonical_levels(&m.asks, p, end)
    return p != NULL and end - p == 1 and p[0] == c'}'


cdef inline const char* _text_to(Message* m, int field, const char* p, const char* end,
                                 const char* after) noexcept nogil:
    """A string without escapes at p, then its quote and `after`; the span is kept as the tolerant scanner would."""
    cdef const char* start = p
    if p == NULL:
        return NULL
    p = plain(p, end)
    m.fields[field].at = start
    m.fields[field].size = p - start
    m.fields[field].type = V_STRING
    m.fields[field].escaped = False
    return _expect(p, end, after)


cdef inline const char* _flag_to(Message* m, int field, const char* p, const char* end,
                                 const char* after) noexcept nogil:
    cdef bint is_true
    if p == NULL or end - p < 6:
        return NULL
    is_true = p[0] == c't'
    m.fields[field].at = p
    m.fields[field].size = 4 if is_true else 5
    m.fields[field].type = V_TRUE if is_true else V_FALSE
    m.fields[field].escaped = False
    return _expect(_expect(p, end, b"true") if is_true else _expect(p, end, b"false"), end, after)


cdef inline const char* _digits_of(Message* m, int field, uint8_t type, const char* p,
                                   const char* end) noexcept nogil:
    """At least one digit; what stands after them, `end` + 1 if there is none."""
    cdef const char* start = p
    while p < end and c'0' <= p[0] <= c'9':
        p += 1
    m.fields[field].at = start
    m.fields[field].size = p - start
    m.fields[field].type = type
    m.fields[field].escaped = False
    return p if p > start else end + 1


cdef bint _canonical_fill(Message* m, const char* p, const char* end) noexcept nogil:
    """Only spans: a fill becomes an event, whose builder reads them. `id` is sent with an order that has one."""
    cdef const char* product
    if _differs(p, b'{"type":"fill","timestamp":"'):
        return False
    p = _text_to(m, F_TIMESTAMP, p + FILL_HEAD, end, b'","product_id":')
    if p == NULL:
        return False
    product = p
    p = _product(p, end, &m.product_id)
    if p == NULL:
        return False
    m.fields[F_PRODUCT_ID].at = product
    m.fields[F_PRODUCT_ID].size = p - product
    m.fields[F_PRODUCT_ID].type = V_NUMBER
    m.fields[F_PRODUCT_ID].escaped = False
    m.fields[F_ID].type = V_MISSING
    p = _text_to(m, F_SUBACCOUNT, _expect(p, end, b',"subaccount":"'), end, b'","order_digest":"')
    p = _text_to(m, F_ORDER_DIGEST, p, end, b'","appendix":"')
    p = _text_to(m, F_APPENDIX, p, end, b'","filled_qty":"')
    p = _text_to(m, F_FILLED_QTY, p, end, b'","remaining_qty":"')
    p = _text_to(m, F_REMAINING_QTY, p, end, b'","original_qty":"')
    p = _text_to(m, F_ORIGINAL_QTY, p, end, b'","price":"')
    p = _text_to(m, F_PRICE, p, end, b'","is_taker":')
    p = _flag_to(m, F_IS_TAKER, p, end, b',"is_bid":')
    p = _flag_to(m, F_IS_BID, p, end, b',"fee":"')
    p = _text_to(m, F_FEE, p, end, b'","submission_idx":"')
    if p == NULL:
        return False
    p = _digits_of(m, F_SUBMISSION_IDX, V_STRING, p, end)
    if end - p == 2:
        return p[0] == c'"' and p[1] == c'}'
    if end - p < 8 or _differs(p, b'","id":'):
        return False
    p = _digits_of(m, F_ID, V_NUMBER, p + 7, end)
    return end - p == 1 and p[0] == c'}' and (m.fields[F_ID].size == 1 or m.fields[F_ID].at[0] != c'0')


cdef int _canonical(Message* m, const char* p, const char* end) noexcept nogil:
    if end - p < SHORTEST:
        return -1
    if p[10] == c'e':
        return KIND_BBO if _canonical_bbo(m, p, end) else -1
    if p[10] == c'o':
        return KIND_DEPTH if _canonical_depth(m, p, end) else -1
    if p[10] == c'i':
        return KIND_FILL if _canonical_fill(m, p, end) else -1
    return -1


cdef int scan(Message* m, const char* data, Py_ssize_t size) noexcept nogil:
    """Read one message. Returns its KIND_*, or -1 with m.error set. Overwrites what m held."""
    m.base = data
    m.size = size
    m.error = NULL
    m.unknown_fields = 0
    m.kind = _canonical(m, data, data + size)
    m.canonical = m.kind >= 0
    if not m.canonical:
        m.kind = tolerant(m)
    return m.kind
