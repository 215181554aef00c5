"""Any JSON object → a Message: the scanner for what the exchange does not write today, and for every error.

Keys in any order, white space, escapes, unknown fields of any shape, integers as strings or numbers. First all of
the text is walked, then what the kind needs is read from the spans that were found.
"""

from libc.stdint cimport int64_t, uint64_t
from libc.string cimport memcmp, memset, strlen

from ._message cimport (
    F_ASKS, F_ASK_PRICE, F_ASK_QTY, F_BIDS, F_BID_PRICE, F_BID_QTY, F_COUNT, F_ERROR, F_ERROR_CODE, F_LAST_MAX,
    F_MAX, F_MIN, F_PRODUCT_ID, F_RESULT, F_STATUS, F_TIMESTAMP, F_TYPE, KIND_BBO, KIND_DEPTH, KIND_REPLY,
    KIND_UNKNOWN, MAX_INT64, MAX_PRODUCT_ID, SHORT_TEXT, V_ARRAY, V_FALSE, V_MISSING, V_NULL, V_NUMBER, V_OBJECT,
    V_STRING, V_TRUE, Levels, Message, Span, field_name, field_named, known_kind, make_room, plain,
)
from ._x18 cimport int128, scan_int128


cdef enum:
    MAX_DEPTH = 32            # nesting of unknown values


# --- JSON values ------------------------------------------------------------------------------------------

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
        c.p = plain(c.p, c.end)
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


# --- the message ------------------------------------------------------------------------------------------

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
    if key.escaped:
        return field_named(buffer, unescape(key, buffer))
    return field_named(key.at, key.size)


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
    cdef const char* end = m.base + m.size     # of what may be read; a digit never follows a span
    cdef Py_ssize_t size = span.size
    if span.type == V_STRING and span.escaped:
        at = buffer
        size = unescape(span, buffer)
        end = at + size
    elif span.type != V_STRING and span.type != V_NUMBER:
        return _refuse(m, b"an integer is needed", span.at)
    if size <= 0 or scan_int128(at, end, out) != at + size:
        return _refuse(m, b"not an integer of at most 128 bits", span.at)
    return True


cdef bint _need(Message* m, int field) noexcept nogil:
    if m.fields[field].type == V_MISSING or m.fields[field].type == V_NULL:
        m.error = field_name(field)
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


cdef inline bint _append(Levels* levels, int128 price, int128 qty) noexcept nogil:
    if not make_room(levels, levels.count + 1):
        return False
    levels.items[levels.count].price = price
    levels.items[levels.count].qty = qty
    levels.count += 1
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
            if text_is(&m.fields[F_TYPE], known_kind(kind)):
                return kind
        return KIND_UNKNOWN
    if (m.fields[F_RESULT].type != V_MISSING or m.fields[F_ERROR].type != V_MISSING
            or m.fields[F_ERROR_CODE].type != V_MISSING or m.fields[F_STATUS].type == V_STRING):
        return KIND_REPLY
    _refuse(m, b"neither an event (type) nor a reply (result, error, status)", m.base)
    return -1


cdef int tolerant(Message* m) noexcept nogil:
    """KIND_* of the message at m.base, or -1 with m.error set."""
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
