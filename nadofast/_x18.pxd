"""Decimal digits ↔ signed 128-bit integers (x18), as inline C. Include by `cimport`; there is no module.

Bounds are checked before every read. Digits are taken eight at a time inside one 64-bit word; where a number
ends is found 64 bytes at a time, with the vector instructions every x86-64 has (SSE2, so nothing to detect
when running) or with 64-bit words elsewhere and with NADO_PORTABLE. The wire grammar is `-?[0-9]{1,39}`; what
does not fit int128 is refused, never wrapped. Cython must never convert
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
    #if defined(__SSE2__) && !defined(NADO_PORTABLE)
    #include <emmintrin.h>
    #define NADO_SSE2 1
    #endif
    #define NADO_INLINE static inline __attribute__((always_inline))
    typedef __int128 nado_int128;
    typedef unsigned __int128 nado_uint128;
    #define NADO_INT128_MAX ((nado_int128)(~(nado_uint128)0 >> 1))
    #define NADO_INT128_MIN (-NADO_INT128_MAX - 1)
    #define NADO_UINT128_MAX (~(nado_uint128)0)

    static const uint64_t nado_pow10[8] = {1, 10, 100, 1000, 10000, 100000, 1000000, 10000000};

    /* Eight characters XOR '0', the first one in the lowest byte: digits become 0..9. */
    NADO_INLINE uint64_t nado_word(const char *p) {
        uint64_t word;
        memcpy(&word, p, 8);
        return word ^ 0x3030303030303030ULL;
    }

    /* Bit 7 of every byte that is not 0..9; exact up to the first such byte. */
    NADO_INLINE uint64_t nado_stops(uint64_t word) {
        return ((word + 0x7676767676767676ULL) | word) & 0x8080808080808080ULL;
    }

    /* Value of eight digits. */
    NADO_INLINE uint64_t nado_full(uint64_t word) {
        word = word * 10 + (word >> 8);
        return ((word & 0x000000FF000000FFULL) * 0x000F424000000064ULL
                + ((word >> 16) & 0x000000FF000000FFULL) * 0x0000271000000001ULL) >> 32;
    }

    /* The same where most words are zeros: ticks are coarse against 18 decimals. */
    NADO_INLINE uint64_t nado_eight(uint64_t word) { return word == 0 ? 0 : nado_full(word); }

    /* The first count (0..7) digits of a word. */
    NADO_INLINE uint64_t nado_some(uint64_t word, int count) {
        return nado_eight((word << 8) << (56 - 8 * count));
    }

    /* Digit by digit with overflow checks: 24 digits and more. */
    static __attribute__((noinline)) const char *nado_scan_long(const char *p, const char *end, nado_uint128 *out) {
        nado_uint128 value = 0;
        int count = 0;
        for (; p < end && *p >= '0' && *p <= '9'; p++, count++) {
            unsigned digit = (unsigned)(*p - '0');
            if (count == 39 || value > (NADO_UINT128_MAX - digit) / 10) return NULL;
            value = value * 10 + digit;
        }
        *out = value;
        return p;
    }

    /* At least 24 bytes may be read. Sixteen digits fit 64 bits, and prices have 16 to 23: one wide product. */
    NADO_INLINE const char *nado_scan_short(const char *p, nado_uint128 *out) {
        uint64_t word = nado_word(p), stops = nado_stops(word), head;
        int count;
        if (stops) {
            count = __builtin_ctzll(stops) >> 3;
            *out = nado_some(word, count);
            return p + count;
        }
        head = nado_eight(word);
        word = nado_word(p + 8);
        stops = nado_stops(word);
        if (stops) {
            count = __builtin_ctzll(stops) >> 3;
            *out = head * nado_pow10[count] + nado_some(word, count);
            return p + 8 + count;
        }
        head = head * 100000000 + nado_eight(word);
        word = nado_word(p + 16);
        stops = nado_stops(word);
        if (!stops) return NULL;
        count = __builtin_ctzll(stops) >> 3;
        *out = (nado_uint128)head * nado_pow10[count] + nado_some(word, count);
        return p + 16 + count;
    }

    /* Near the end of the buffer: the same on a padded copy. */
    static __attribute__((noinline)) const char *nado_scan_last(const char *p, const char *end, nado_uint128 *out) {
        char copy[32] = {0};
        memcpy(copy, p, (size_t)(end - p));
        return p + (nado_scan_short(copy, out) - copy);
    }

    /* Digits at p. Returns the first byte after them (p itself if there are none), NULL beyond 128 bits. */
    NADO_INLINE const char *nado_scan_uint128(const char *p, const char *end, nado_uint128 *out) {
        const char *after;
        if (__builtin_expect(end - p < 24, 0)) return nado_scan_last(p, end, out);
        after = nado_scan_short(p, out);
        return __builtin_expect(after != NULL, 1) ? after : nado_scan_long(p, end, out);
    }

    /* Bit i: byte i of the 64 at p is not a digit. Exact up to the first such byte that is not ASCII. */
    NADO_INLINE uint64_t nado_not_digits(const char *p) {
        uint64_t bits = 0;
        int i;
    #ifdef NADO_SSE2
        const __m128i zero = _mm_set1_epi8('0'), above = _mm_set1_epi8(0x76);   /* 0..9 stay below 0x80 */
        for (i = 0; i < 64; i += 16) {
            __m128i part = _mm_xor_si128(_mm_loadu_si128((const __m128i *)(p + i)), zero);
            bits |= (uint64_t)(uint32_t)_mm_movemask_epi8(_mm_adds_epu8(part, above)) << i;
        }
    #else
        for (i = 0; i < 64; i += 8)
            bits |= ((nado_stops(nado_word(p + i)) >> 7) * 0x0102040810204080ULL >> 56) << i;
    #endif
        return bits;
    }

    /* The word at p, of which `keep` says what are digits. */
    NADO_INLINE uint64_t nado_kept(const char *p, const uint8_t *keep) {
        uint64_t word, mask;
        memcpy(&word, p, 8);
        memcpy(&mask, keep, 8);
        return word & mask;
    }

    /* Value of the count (1..24) digits before p, in right-aligned words: one path for all lengths. 24 bytes before
       p are read. coarse: the last 16 digits are expected to be zeros. */
    NADO_INLINE void nado_value(const char *p, size_t count, nado_int128 *out, int coarse) {
        static const uint8_t masks[48] = {[24] = 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15,
                                          15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15};
        const uint8_t *keep = masks;
        uint64_t middle, low;
        nado_uint128 head;
        __asm__("" : "+r"(keep));                        /* one address, three offsets */
        middle = nado_kept(p - 16, keep + count + 8);
        low = nado_kept(p - 8, keep + count + 16);
        head = (nado_uint128)nado_full(nado_kept(p - 24, keep + count)) * 10000000000000000ULL;
        uint64_t sum = (uint64_t)head, tail, carry = 0;
        if (!coarse || __builtin_expect((low | middle) != 0, 0)) {
            tail = nado_full(middle) * 100000000;
            if (coarse || __builtin_expect(low != 0, 0)) tail += nado_full(low);
            sum += tail;
            carry = sum < tail;
        }
        *out = (nado_int128)((nado_uint128)((uint64_t)(head >> 64) + carry) << 64 | sum);  /* 64-bit registers */
    }

    /* A price and, `gap` bytes behind its end, a quantity: digits inside a text, not negative. Returns the first
       byte after the quantity and sets *between to that after the price; `gap` bytes and one more stand there. NULL if one has no digits, if the text
       ends first, or beyond int128. Needs 24 bytes of text before p, 64 in all and p < end. Both ends come from
       one mask, because finding the end of a number is what the next one waits for. late: the text is expected to
       end within these 64 bytes. */
    static const char *nado_rare_pair(const char *p, const char *end, size_t gap, const char **between,
                                      nado_int128 *price, nado_int128 *qty);
    NADO_INLINE const char *nado_pair(const char *p, const char *end, size_t gap, int late, const char **between,
                                      nado_int128 *price, nado_int128 *qty) {
        const uint64_t guard = (uint64_t)1 << 63;
        uint64_t stops;
        size_t first, second;
        if (__builtin_expect(p <= end - 64, !late)) stops = nado_not_digits(p);
        else stops = nado_not_digits(end - 64) >> ((p - (end - 64)) & 63);
        first = (size_t)__builtin_ctzll(stops | guard);
        second = (size_t)__builtin_ctzll(stops >> first >> gap | guard);
        if (__builtin_expect(first - 1 > 23 || second - 1 > 23, 0))
            return nado_rare_pair(p, end, gap, between, price, qty);
        *between = p + first;
        nado_value(p + first, first, price, 1);
        nado_value(p + first + gap + second, second, qty, 0);
        return p + first + gap + second;
    }

    static const char *nado_rare_number(const char *p, const char *end, nado_int128 *out);
    static __attribute__((noinline)) const char *nado_rare_pair(
            const char *p, const char *end, size_t gap, const char **between, nado_int128 *price, nado_int128 *qty) {
        const char *after = nado_rare_number(p, end, price);
        *between = after;
        return after == NULL || (size_t)(end - after) < gap ? NULL : nado_rare_number(after + gap, end, qty);
    }
    static __attribute__((noinline)) const char *nado_rare_number(const char *p, const char *end, nado_int128 *out) {
        nado_uint128 value = 0;
        const char *after = nado_scan_uint128(p, end, &value);
        if (after == NULL || after == p || (nado_int128)value < 0) return NULL;
        *out = (nado_int128)value;
        return after;
    }

    /* Whether the 19 bytes at p are digits. */
    NADO_INLINE int nado_nineteen(const char *p) {
    #ifdef NADO_SSE2
        const __m128i zero = _mm_set1_epi8('0'), above = _mm_set1_epi8(0x76);
        __m128i a = _mm_xor_si128(_mm_loadu_si128((const __m128i *)p), zero);
        __m128i b = _mm_xor_si128(_mm_loadu_si128((const __m128i *)(p + 3)), zero);
        return _mm_movemask_epi8(_mm_or_si128(_mm_adds_epu8(a, above), _mm_adds_epu8(b, above))) == 0;
    #else
        return (nado_stops(nado_word(p)) | nado_stops(nado_word(p + 8)) | nado_stops(nado_word(p + 11))) == 0;
    #endif
    }

    /* A time in ns: 19 digits from 2001 to 2286, or what else int64 holds. */
    NADO_INLINE const char *nado_time(const char *p, const char *end, int64_t *out) {
        nado_int128 value;
        const char *after;
        uint64_t whole;
        if (__builtin_expect(end - p >= 19 && nado_nineteen(p), 1)) {
            whole = nado_full(nado_word(p)) * 100000000 + nado_full(nado_word(p + 8));
            whole = whole * 1000 + (uint64_t)(p[16] * 100 + p[17] * 10 + p[18] - '0' * 111);
            *out = (int64_t)whole;
            return whole <= INT64_MAX ? p + 19 : NULL;
        }
        after = nado_rare_number(p, end, &value);
        if (after == NULL || value > INT64_MAX) return NULL;
        *out = (int64_t)value;
        return after;
    }

    /* An int beyond 64 bits. CPython offers a conversion byte by byte; where the layout is known, digits are written. */
    static inline PyObject *nado_wide_to_py(nado_uint128 v, int negative) {
    #if PY_VERSION_HEX < 0x030C0000
        digit digits[(128 + PyLong_SHIFT - 1) / PyLong_SHIFT];
        Py_ssize_t size = 0;
        PyLongObject *number;
        for (; v != 0; v >>= PyLong_SHIFT) digits[size++] = (digit)(v & PyLong_MASK);
        number = _PyLong_New(size);
        if (number == NULL) return NULL;
        memcpy(number->ob_digit, digits, (size_t)size * sizeof(digit));
        if (negative) Py_SET_SIZE(number, -size);
        return (PyObject *)number;
    #else
        PyObject *number = _PyLong_FromByteArray((const unsigned char *)&v, sizeof v, 1, 0), *negated;
        if (number == NULL || !negative) return number;
        negated = PyNumber_Negative(number);
        Py_DECREF(number);
        return negated;
    #endif
    }
    """
    # The declared C types only tell Cython "integer, at least 64 bits"; the C compiler sees the real ones.
    ctypedef long long int128 "nado_int128"
    ctypedef unsigned long long uint128 "nado_uint128"
    const int128 INT128_MAX "NADO_INT128_MAX"
    const int128 INT128_MIN "NADO_INT128_MIN"
    const uint128 UINT128_MAX "NADO_UINT128_MAX"
    const char* scan_uint128 "nado_scan_uint128"(const char* p, const char* end, uint128* out) noexcept nogil
    const char* pair "nado_pair"(
        const char* p, const char* end, size_t gap, bint late, const char** between, int128* price, int128* qty
    ) noexcept nogil
    const char* time_ns "nado_time"(const char* p, const char* end, int64_t* out) noexcept nogil
    object _wide_to_py "nado_wide_to_py"(uint128 magnitude, bint negative)


cdef extern from "Python.h":
    long long PyLong_AsLongLongAndOverflow(object number, int* overflow) except? -1
    unsigned long long PyLong_AsUnsignedLongLongMask(object number) except? -1


cdef inline const char* scan_int128(const char* p, const char* end, int128* out) noexcept nogil:
    """Read `-?digits` from p. Returns the first byte after them, NULL if none or beyond int128."""
    cdef uint128 magnitude = 0
    cdef bint negative = p < end and p[0] == c'-'
    cdef const char* digits = p + negative
    cdef const char* after = scan_uint128(digits, end, &magnitude)
    if after == NULL or after == digits or magnitude > <uint128>INT128_MAX + <uint128>negative:
        return NULL
    out[0] = <int128>(-magnitude) if negative else <int128>magnitude
    return after


cdef inline object int128_to_py(int128 value):
    cdef int64_t low = <int64_t>value
    if <int128>low == value:
        return PyLong_FromLongLong(low)
    return _wide_to_py(-<uint128>value, True) if value < 0 else _wide_to_py(<uint128>value, False)


cdef inline object uint128_to_py(uint128 value):
    if value >> 63 == 0:
        return PyLong_FromLongLong(<int64_t>value)
    return _wide_to_py(value, False)


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
