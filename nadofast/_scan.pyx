"""One message of the exchange → a Message: two scanners with equal results, without a Python object.

The canonical one knows best_bid_offer, book_depth and fill exactly as the exchange writes them and does nothing
but compare literals, read digits and find ends of strings; on the first byte that is different it gives up.
The tolerant one reads any JSON object: any key order, white space, escapes, unknown fields of any shape, integers as
strings or numbers. All errors come from the tolerant one.
"""

from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memcmp, memset, strlen

from ._x18 cimport int128, pair, scan_int128, time_ns


cdef enum:
    MAX_DEPTH = 32            # nesting of unknown values
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


# --- memory -----------------------------------------------------------------------------------------------

cdef void message_init(Message* m) noexcept nogil:
    memset(m, 0, sizeof(Message))


cdef void message_free(Message* m) noexcept nogil:
    free(m.bids.items)
    free(m.asks.items)
    memset(m, 0, sizeof(Message))


cdef inline bint _make_room(Levels* levels, Py_ssize_t count) noexcept nogil:
    """False without memory, and for more levels than a message may have."""
    return count <= levels.capacity or _grow(levels, count)


cdef bint _grow(Levels* levels, Py_ssize_t count) noexcept nogil:
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


cdef inline bint _append(Levels* levels, int128 price, int128 qty) noexcept nogil:
    if not _make_room(levels, levels.count + 1):
        return False
    levels.items[levels.count].price = price
    levels.items[levels.count].qty = qty
    levels.count += 1
    return True


# --- canonical scanner ------------------------------------------------------------------------------------

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
    const char* _plain "nado_plain"(const char* p, const char* end) noexcept nogil

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
    if not _make_room(&m.bids, most) or not _make_room(&m.asks, most):
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
    p = _plain(p, end)
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


# --- tolerant scanner: JSON values ------------------------------------------------------------------------

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
        c.p = _plain(c.p, c.end)
        if c.p == c.end:
            break
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


# --- tolerant scanner: the message ------------------------------------------------------------------------

cdef Py_ssize_t unescape(const Span* span, char* out) noexcept nogil:
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
        size = unescape(key, buffer)
    if not 0 <= size <= SHORT_TEXT:
        return F_COUNT
    field = FIELDS_OF_SIZE[size]
    while field < F_COUNT and memcmp(FIELD_NAMES[field], text, <size_t>size) != 0:
        field = NEXT_FIELD[field]
    return field


cdef bint text_is(const Span* span, const char* text) noexcept nogil:
    cdef char[SHORT_TEXT] buffer
    cdef const char* at = span.at
    cdef Py_ssize_t size = span.size
    if span.type != V_STRING:
        return False
    if span.escaped:
        at = buffer
        size = unescape(span, buffer)
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


cdef bint read_int128(Message* m, const Span* span, int128* out) noexcept nogil:
    """Integer of a string or a number."""
    cdef char[SHORT_TEXT] buffer
    cdef const char* at = span.at
    cdef Py_ssize_t size = span.size
    if span.type == V_STRING and span.escaped:
        at = buffer
        size = unescape(span, buffer)
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
    if not _need(m, field) or not read_int128(m, &m.fields[field], out):
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
        if not read_int128(m, &price_span, &price) or not read_int128(m, &qty_span, &qty):
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
            if text_is(&m.fields[F_TYPE], KIND_NAMES[kind]):
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


cdef const char* field_name(int field) noexcept nogil:
    """As on the wire."""
    return FIELD_NAMES[field]


cdef const char* known_kind(int kind) noexcept nogil:
    """`type` of a KIND_* below KIND_UNKNOWN."""
    return KIND_NAMES[kind]
