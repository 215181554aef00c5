"""Messages of the exchange as typed events (streams section of the API), from what the scanner found.

`parse` is the Python face. Errors are ParseError with the byte where reading stopped and a short excerpt.
"""

from cpython.buffer cimport PyBUF_SIMPLE, Py_buffer, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.unicode cimport PyUnicode_AsUTF8AndSize, PyUnicode_DecodeUTF8
from cpython.ref cimport Py_INCREF
from libc.stdlib cimport calloc, free
from libc.string cimport memcmp

from ._message cimport (
    F_AMOUNT, F_APPENDIX, F_BBOS, F_CLOSE, F_CUMULATIVE_LONG, F_CUMULATIVE_SHORT, F_DIGEST, F_ERROR_CODE,
    F_FEE, F_FILLED_PRICE, F_FILLED_QTY, F_FUNDING_RATE, F_GRANULARITY, F_HIGH, F_ID, F_ISOLATED, F_IS_BID,
    F_IS_TAKER, F_IS_TAKER_BUYER, F_LIQUIDATEE, F_LIQUIDATOR, F_LOW, F_MAKER_QTY, F_OPEN, F_OPEN_INTEREST,
    F_ORDER_DIGEST, F_ORIGINAL_QTY, F_PAYMENT_AMOUNT, F_PRICE, F_PRODUCT_ID, F_PRODUCT_IDS, F_REASON,
    F_REMAINING_QTY, F_SUBACCOUNT, F_SUBMISSION_IDX, F_TAKER_QTY, F_TIME, F_TIMESTAMP, F_TYPE,
    F_UPDATE_TIME, F_VOLUME, F_V_QUOTE_AMOUNT, KIND_ALL_BBO, KIND_BBO, KIND_CANDLESTICK, KIND_DEPTH,
    KIND_FILL, KIND_FUNDING_PAYMENT, KIND_FUNDING_RATE, KIND_LIQUIDATION, KIND_ORDER_UPDATE,
    KIND_POSITION_CHANGE, KIND_REPLY, KIND_TRADE, KIND_UNKNOWN, V_FALSE, V_MISSING, V_NULL, V_NUMBER,
    V_STRING, V_TRUE, MAX_INT64, MAX_PRODUCT_ID, MAX_UINT64, SHORT_TEXT, Levels, Message, Span, field_name,
    known_kind, message_init,
)
from ._scan cimport scan
from ._tolerant cimport read_int128, text_is, unescape
from ._x18 cimport UINT128_MAX, int128, int128_to_py, scan_int128, scan_uint128, uint128, uint128_to_py

import dataclasses
import json
from types import MemberDescriptorType

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
    """
    #include <structmember.h>
    /* Place of a slot in its object, from its descriptor. */
    static inline Py_ssize_t nado_slot_offset(PyObject *descriptor) {
        return ((PyMemberDescrObject *)descriptor)->d_member->offset;
    }
    """
    ctypedef struct PyObject:
        pass

    Py_ssize_t slot_offset "nado_slot_offset"(object descriptor) noexcept
    object PyType_GenericAlloc(type cls, Py_ssize_t items)
    void PyObject_GC_UnTrack(void* instance) noexcept
    object PyUnicode_New(Py_ssize_t size, Py_UCS4 most)
    unsigned char* PyUnicode_1BYTE_DATA(object text) noexcept


cdef enum:
    EXCERPT = 40              # bytes of a bad message an error may show
    SUBACCOUNT_SIZE = 66      # 0x and 64 digits

# One scratch for all calls from Python: nothing that runs while it is in use calls back.
cdef Message _scratch
message_init(&_scratch)
cdef str _last_subaccount = " " * SUBACCOUNT_SIZE


# --- errors and names -------------------------------------------------------------------------------------

cdef str kind_name(int kind):
    return known_kind(kind).decode() if 0 <= kind < KIND_UNKNOWN else "unknown"


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


# --- building events --------------------------------------------------------------------------------------

cdef object _missing(Message* m, int field):
    return _error_at(m, f"{field_name(field).decode()} is missing", m.size)


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
        raise _error_at(m, f"{field_name(field).decode()}: a string is needed", m.fields[field].at - m.base)
    return _span_text(m, &m.fields[field])


cdef object _hex(Message* m, int field):
    """Identities compare without case: lower case is their one form here."""
    cdef const Span* span = &m.fields[field]
    cdef unsigned char ch
    cdef unsigned char seen = 0
    cdef unsigned char* lower
    cdef const unsigned char* at = <const unsigned char*>span.at
    cdef Py_ssize_t size = span.size
    cdef Py_ssize_t i
    if span.type != V_STRING or span.escaped or size == 0:
        return _text(m, field).lower()
    text = PyUnicode_New(size, 127)
    lower = PyUnicode_1BYTE_DATA(text)
    for i in range(size):     # locals, so that many bytes are taken at once
        ch = at[i]
        seen |= ch
        lower[i] = ch | (<unsigned char>(<unsigned char>(ch - c'A') < 26) << 5)
    return text if seen < 128 else _text(m, field).lower()


cdef object _subaccount(Message* m):
    """The same text as last time is the same object: what a socket carries in private is of one account."""
    global _last_subaccount
    cdef const Span* span = &m.fields[F_SUBACCOUNT]
    if (span.type == V_STRING and not span.escaped and span.size == SUBACCOUNT_SIZE
            and memcmp(PyUnicode_1BYTE_DATA(_last_subaccount), span.at, SUBACCOUNT_SIZE) == 0):
        return _last_subaccount
    text = _hex(m, F_SUBACCOUNT)
    if len(text) == SUBACCOUNT_SIZE and text.isascii():
        _last_subaccount = text
    return text


cdef object _int(Message* m, int field):
    """Signed 128-bit integer, required."""
    cdef int128 value = 0
    if _absent(m, field):
        raise _missing(m, field)
    if not read_int128(m, &m.fields[field], &value):
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
    cdef const char* end = m.base + m.size     # of what may be read; a digit never follows a span
    cdef Py_ssize_t size = span.size
    if span.escaped:
        at = buffer
        size = unescape(span, buffer)
        end = at + size
    if ((span.type != V_STRING and span.type != V_NUMBER) or size <= 0
            or scan_uint128(at, end, &value) != at + size or value > limit):
        raise _error_at(m, f"{field_name(field).decode()}: not an unsigned integer in range",
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
    if span.type == V_TRUE or text_is(span, b"true"):
        return True
    if span.type == V_FALSE or text_is(span, b"false"):
        return False
    raise _error_at(m, f"{field_name(field).decode()}: true or false is needed", span.at - m.base)


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


cdef enum:
    MOST_FIELDS = 16

cdef class Maker:
    """Makes frozen slotted dataclasses without their __init__, which goes through object.__setattr__ per field."""

    cdef type cls
    cdef Py_ssize_t count
    cdef Py_ssize_t[MOST_FIELDS] offsets     # of the slots, in order of the fields

    def __cinit__(self, type cls):
        cdef Py_ssize_t i
        self.cls = cls
        fields = dataclasses.fields(cls)
        self.count = len(fields)
        if self.count > MOST_FIELDS:
            raise TypeError(f"{cls.__name__} has more fields than are foreseen")
        for i in range(self.count):
            descriptor = cls.__dict__[fields[i].name]
            if not isinstance(descriptor, MemberDescriptorType):
                raise TypeError(f"{cls.__name__}.{fields[i].name} is no slot")
            self.offsets[i] = slot_offset(descriptor)

    cdef object make(self, tuple values):
        """values: one per field, in their order."""
        cdef object event = PyType_GenericAlloc(self.cls, 0)
        cdef Py_ssize_t i
        for i in range(self.count):
            Py_INCREF(values[i])
            (<PyObject**>(<char*><PyObject*>event + self.offsets[i]))[0] = <PyObject*>values[i]
        PyObject_GC_UnTrack(<void*>event)   # numbers and texts make no cycle: nothing for the collector to visit
        return event


cdef Maker BBO = Maker(BBOEvent)
cdef Maker DEPTH = Maker(BookDepthEvent)
cdef Maker TRADE = Maker(TradeEvent)
cdef Maker FILL = Maker(FillEvent)
cdef Maker ORDER_UPDATE = Maker(OrderUpdateEvent)
cdef Maker POSITION_CHANGE = Maker(PositionChangeEvent)


cdef object _bbo_event(Message* m):
    return BBO.make((
        m.product_id,               # product_id
        m.timestamp_ns,             # timestamp_ns
        int128_to_py(m.bid_price),  # bid_price_x18
        int128_to_py(m.bid_qty),    # bid_qty_x18
        int128_to_py(m.ask_price),  # ask_price_x18
        int128_to_py(m.ask_qty),    # ask_qty_x18
    ))


cdef object _depth_event(Message* m):
    return DEPTH.make((
        m.product_id,           # product_id
        m.last_max_ns,          # last_max_timestamp_ns
        m.min_ns,               # min_timestamp_ns
        m.max_ns,               # max_timestamp_ns
        _level_tuple(&m.bids),  # bids
        _level_tuple(&m.asks),  # asks
    ))


cdef object _trade_event(Message* m):
    return TRADE.make((
        _product(m),                 # product_id
        _time_ns(m),                 # timestamp_ns
        _int(m, F_PRICE),            # price_x18
        _int(m, F_TAKER_QTY),        # taker_qty_x18
        _int(m, F_MAKER_QTY),        # maker_qty_x18
        _bool(m, F_IS_TAKER_BUYER),  # is_taker_buyer
    ))


cdef object _fill_event(Message* m):
    return FILL.make((
        _product(m),                                 # product_id
        _time_ns(m),                                 # timestamp_ns
        _subaccount(m),                              # subaccount
        _hex(m, F_ORDER_DIGEST),                     # order_digest
        _unsigned(m, F_APPENDIX, UINT128_MAX),       # appendix
        _int(m, F_FILLED_QTY),                       # filled_qty_x18
        _int(m, F_REMAINING_QTY),                    # remaining_qty_x18
        _int(m, F_ORIGINAL_QTY),                     # original_qty_x18
        _int(m, F_PRICE),                            # price_x18
        _bool(m, F_IS_TAKER),                        # is_taker
        _bool(m, F_IS_BID),                          # is_bid
        _int(m, F_FEE),                              # fee_x18
        _unsigned(m, F_SUBMISSION_IDX, MAX_UINT64),  # submission_idx
        _optional_id(m),                             # id
    ))


cdef object _order_update_event(Message* m):
    return ORDER_UPDATE.make((
        _product(m),                   # product_id
        _time_ns(m),                   # timestamp_ns
        _hex(m, F_DIGEST),             # digest
        abs(_int(m, F_AMOUNT)),        # amount_x18
        _text(m, F_REASON),            # reason
        _optional_id(m),               # id
        _optional(m, F_FILLED_QTY),    # filled_qty_x18
        _optional(m, F_FILLED_PRICE),  # filled_price_x18
    ))


cdef object _position_change_event(Message* m):
    return POSITION_CHANGE.make((
        _product(m),                # product_id
        _time_ns(m),                # timestamp_ns
        _subaccount(m),             # subaccount
        _bool(m, F_ISOLATED),       # isolated
        _int(m, F_AMOUNT),          # amount_x18
        _int(m, F_V_QUOTE_AMOUNT),  # v_quote_amount_x18
        _text(m, F_REASON),         # reason
    ))


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
        text = value.encode("ascii", "replace")   # half a surrogate pair has no UTF-8
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


# --- Python face ------------------------------------------------------------------------------------------

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
