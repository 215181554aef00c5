"""Decimal digits ↔ signed 128-bit integers (x18), as inline C. Include by `cimport`; there is no module.

Bounds are checked before every read. Digits are taken eight at a time inside one 64-bit word. The wire
grammar is `-?[0-9]{1,39}`; what does not fit int128 is refused, never wrapped. Cython must never convert
an int128 to Python by itself (it would cut it to 64 bits): use `int128_to_py` and `int128_from_py`.
"""

from cpython.long cimport PyLong_FromLongLong
from libc.stdint cimport int64_t, uint64_t


cdef extern from *:
    """
    #include <stdint.h>
    #include <string.h>
    #if !defined(__SIZEOF_INT128__) || __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
    #error "nadofast needs a 64-bit little-endian compiler target with __int128"
    #endif
    typedef __int128 nado_int128;
    typedef unsigned __int128 nado_uint128;
    #define NADO_INT128_MAX ((nado_int128)(~(nado_uint128)0 >> 1))
    #define NADO_INT128_MIN (-NADO_INT128_MAX - 1)
    #define NADO_UINT128_MAX (~(nado_uint128)0)

    static const uint64_t nado_pow10[8] = {1, 10, 100, 1000, 10000, 100000, 1000000, 10000000};
    static inline uint64_t nado_load8(const char *p) { uint64_t w; memcpy(&w, p, 8); return w; }
    static inline int nado_ctz64(uint64_t w) { return __builtin_ctzll(w); }
    static inline PyObject *nado_int128_to_py(nado_int128 v) {
        return _PyLong_FromByteArray((const unsigned char *)&v, sizeof v, 1, 1);
    }
    static inline PyObject *nado_uint128_to_py(nado_uint128 v) {
        return _PyLong_FromByteArray((const unsigned char *)&v, sizeof v, 1, 0);
    }
    """
    # The declared C types only tell Cython "integer, at least 64 bits"; the C compiler sees the real ones.
    ctypedef long long int128 "nado_int128"
    ctypedef unsigned long long uint128 "nado_uint128"
    const int128 INT128_MAX "NADO_INT128_MAX"
    const int128 INT128_MIN "NADO_INT128_MIN"
    const uint128 UINT128_MAX "NADO_UINT128_MAX"
    uint64_t load8 "nado_load8"(const char* p) noexcept nogil
    const uint64_t* POWERS_OF_TEN "nado_pow10"
    int ctz64 "nado_ctz64"(uint64_t word) noexcept nogil
    object _wide_to_py "nado_int128_to_py"(int128 value)
    object uint128_to_py "nado_uint128_to_py"(uint128 value)


cdef extern from "Python.h":
    long long PyLong_AsLongLongAndOverflow(object number, int* overflow) except? -1
    unsigned long long PyLong_AsUnsignedLongLongMask(object number) except? -1


cdef inline uint64_t _ascii_zeros() noexcept nogil:
    return 0x3030303030303030ULL


cdef inline uint64_t _not_digits(uint64_t word) noexcept nogil:
    """Bit 7 of every byte that is not 0–9, `word` being 8 characters XOR '0'. Exact up to the first one."""
    return ((word + 0x7676767676767676ULL) | word) & 0x8080808080808080ULL


cdef inline uint64_t _eight_digits(uint64_t word) noexcept nogil:
    """Value of eight digits, first character in the lowest byte."""
    word = word * 10 + (word >> 8)
    return (
        (word & 0x000000FF000000FFULL) * 0x000F424000000064ULL
        + ((word >> 16) & 0x000000FF000000FFULL) * 0x0000271000000001ULL
    ) >> 32


cdef inline const char* _scan_slowly(const char* p, const char* end, uint128* out) noexcept nogil:
    """Digit by digit with overflow checks, for 39 digits and for the last bytes of a buffer."""
    cdef uint128 value = 0
    cdef int digit
    cdef int count = 0
    while p < end and c'0' <= p[0] <= c'9':
        digit = p[0] - c'0'
        if count == 39 or value > UINT128_MAX / 10:
            return NULL
        if value == UINT128_MAX / 10 and digit > 5:  # 2**128 - 1 ends in 5
            return NULL
        value = value * 10 + <uint128>digit
        count += 1
        p += 1
    out[0] = value
    return p


cdef inline const char* scan_magnitude(const char* p, const char* end, uint128* out) noexcept nogil:
    """Read digits from p. Returns the first byte after them (p itself if there are none), NULL on overflow."""
    cdef const char* start = p
    cdef uint128 value = 0
    cdef uint64_t word, stop
    cdef int count
    while end - p >= 8:
        word = load8(p) ^ _ascii_zeros()
        stop = _not_digits(word)
        if stop:
            count = ctz64(stop) >> 3
            if count:
                value = value * POWERS_OF_TEN[count] + _eight_digits(word << (64 - 8 * count))
                p += count
            if p - start > 38:
                return _scan_slowly(start, end, out)
            out[0] = value
            return p
        value = value * 100000000 + _eight_digits(word)
        p += 8
        if p - start > 38:
            return _scan_slowly(start, end, out)
    while p < end and c'0' <= p[0] <= c'9':
        if p - start >= 38:
            return _scan_slowly(start, end, out)
        value = value * 10 + <uint128>(p[0] - c'0')
        p += 1
    out[0] = value
    return p


cdef inline const char* scan_int128(const char* p, const char* end, int128* out) noexcept nogil:
    """Read `-?digits` from p. Returns the first byte after them, NULL if none or beyond int128."""
    cdef uint128 magnitude = 0
    cdef bint negative = p < end and p[0] == c'-'
    cdef const char* digits = p + negative
    cdef const char* after = scan_magnitude(digits, end, &magnitude)
    if after == NULL or after == digits or magnitude > <uint128>INT128_MAX + <uint128>negative:
        return NULL
    out[0] = <int128>(-magnitude) if negative else <int128>magnitude
    return after


cdef inline const char* scan_int64(const char* p, const char* end, int64_t* out) noexcept nogil:
    """Read unsigned digits that fit int64. NULL if none or too large."""
    cdef uint128 magnitude = 0
    cdef const char* after = scan_magnitude(p, end, &magnitude)
    if after == NULL or after == p or magnitude > <uint128>0x7FFFFFFFFFFFFFFFULL:
        return NULL
    out[0] = <int64_t>magnitude
    return after


cdef inline object int128_to_py(int128 value):
    cdef int64_t low = <int64_t>value
    if <int128>low == value:
        return PyLong_FromLongLong(low)
    return _wide_to_py(value)


cdef inline int int128_from_py(object number, int128* out) except -1:
    """Exact. OverflowError beyond int128, TypeError if it is not an int."""
    cdef int overflow = 0
    cdef long long narrow
    if not isinstance(number, int):
        raise TypeError(f"an int is needed, not {type(number).__name__}")
    narrow = PyLong_AsLongLongAndOverflow(number, &overflow)
    if overflow == 0:
        out[0] = narrow
        return 0
    narrow = PyLong_AsLongLongAndOverflow(number >> 64, &overflow)
    if overflow != 0:
        raise OverflowError("the number does not fit a signed 128-bit integer")
    out[0] = (<int128>narrow << 64) | <int128><uint128>PyLong_AsUnsignedLongLongMask(number)
    return 0
