"""Keccak-256 and the EIP-712 hash of an Order: what signing an order costs besides the curve.

Keccak-f[1600] with rate 136 and the original padding byte 0x01 (FIPS 202 would use 0x06). Fields of an
EIP-712 struct are 32-byte big-endian words; negative int128 is sign-extended (signing section of the API).
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t, uint64_t
from libc.string cimport memcpy, memset

from ._x18 cimport PyLong_AsLongLongAndOverflow, int128, int128_from_py, uint128


cdef enum:
    RATE = 136

cdef uint64_t[24] ROUND_CONSTANTS = [
    0x0000000000000001ULL, 0x0000000000008082ULL, 0x800000000000808AULL, 0x8000000080008000ULL,
    0x000000000000808BULL, 0x0000000080000001ULL, 0x8000000080008081ULL, 0x8000000000008009ULL,
    0x000000000000008AULL, 0x0000000000000088ULL, 0x0000000080008009ULL, 0x000000008000000AULL,
    0x000000008000808BULL, 0x800000000000008BULL, 0x8000000000008089ULL, 0x8000000000008003ULL,
    0x8000000000008002ULL, 0x8000000000000080ULL, 0x000000000000800AULL, 0x800000008000000AULL,
    0x8000000080008081ULL, 0x8000000000008080ULL, 0x0000000080000001ULL, 0x8000000080008008ULL,
]


cdef inline uint64_t _rotl(uint64_t lane, int bits) noexcept nogil:
    return (lane << bits) | (lane >> (64 - bits))


cdef inline void _theta(uint64_t* a) noexcept nogil:
    cdef uint64_t[5] column
    cdef uint64_t[5] mix
    cdef int x
    for x in range(5):
        column[x] = a[x] ^ a[x + 5] ^ a[x + 10] ^ a[x + 15] ^ a[x + 20]
    mix[0] = column[4] ^ _rotl(column[1], 1)
    mix[1] = column[0] ^ _rotl(column[2], 1)
    mix[2] = column[1] ^ _rotl(column[3], 1)
    mix[3] = column[2] ^ _rotl(column[4], 1)
    mix[4] = column[3] ^ _rotl(column[0], 1)
    for x in range(5):
        a[x] ^= mix[x]
        a[x + 5] ^= mix[x]
        a[x + 10] ^= mix[x]
        a[x + 15] ^= mix[x]
        a[x + 20] ^= mix[x]


cdef inline void _rho_pi(const uint64_t* a, uint64_t* b) noexcept nogil:
    b[0] = a[0]
    b[1] = _rotl(a[6], 44)
    b[2] = _rotl(a[12], 43)
    b[3] = _rotl(a[18], 21)
    b[4] = _rotl(a[24], 14)
    b[5] = _rotl(a[3], 28)
    b[6] = _rotl(a[9], 20)
    b[7] = _rotl(a[10], 3)
    b[8] = _rotl(a[16], 45)
    b[9] = _rotl(a[22], 61)
    b[10] = _rotl(a[1], 1)
    b[11] = _rotl(a[7], 6)
    b[12] = _rotl(a[13], 25)
    b[13] = _rotl(a[19], 8)
    b[14] = _rotl(a[20], 18)
    b[15] = _rotl(a[4], 27)
    b[16] = _rotl(a[5], 36)
    b[17] = _rotl(a[11], 10)
    b[18] = _rotl(a[17], 15)
    b[19] = _rotl(a[23], 56)
    b[20] = _rotl(a[2], 62)
    b[21] = _rotl(a[8], 55)
    b[22] = _rotl(a[14], 39)
    b[23] = _rotl(a[15], 41)
    b[24] = _rotl(a[21], 2)


cdef inline void _chi(uint64_t* a, const uint64_t* b) noexcept nogil:
    cdef int y
    for y in range(0, 25, 5):
        a[y] = b[y] ^ (~b[y + 1] & b[y + 2])
        a[y + 1] = b[y + 1] ^ (~b[y + 2] & b[y + 3])
        a[y + 2] = b[y + 2] ^ (~b[y + 3] & b[y + 4])
        a[y + 3] = b[y + 3] ^ (~b[y + 4] & b[y])
        a[y + 4] = b[y + 4] ^ (~b[y] & b[y + 1])


cdef void _permute(uint64_t* state) noexcept nogil:
    cdef uint64_t[25] moved
    cdef int turn
    for turn in range(24):
        _theta(state)
        _rho_pi(state, moved)
        _chi(state, moved)
        state[0] ^= ROUND_CONSTANTS[turn]


cdef void _absorb(uint64_t* state, const uint8_t* block) noexcept nogil:
    cdef uint64_t lane
    cdef int i
    for i in range(RATE // 8):
        memcpy(&lane, block + 8 * i, 8)
        state[i] ^= lane
    _permute(state)


cdef void keccak(const uint8_t* data, Py_ssize_t size, uint8_t* out) noexcept nogil:
    """32 bytes into out, which may overlap data."""
    cdef uint64_t[25] state
    cdef uint8_t[RATE] last
    memset(state, 0, sizeof(state))
    while size >= RATE:
        _absorb(state, data)
        data += RATE
        size -= RATE
    memset(last, 0, RATE)
    memcpy(last, data, <size_t>size)
    last[size] = 0x01
    last[RATE - 1] |= 0x80
    _absorb(state, last)
    memcpy(out, state, WORD)


cdef void _put_uint(uint8_t* word, uint128 value, uint8_t fill) noexcept nogil:
    """Big-endian into a 32-byte word whose upper half is `fill`."""
    cdef int i
    memset(word, fill, 16)
    for i in range(16):
        word[31 - i] = <uint8_t>(value >> (8 * i))


cdef void _put_int(uint8_t* word, int128 value) noexcept nogil:
    _put_uint(word, <uint128>value, 0xFF if value < 0 else 0)


cdef uint128 _unsigned(object number, int bits) except? 0:
    cdef int128 half = 0
    cdef uint128 value
    cdef int overflow = 0
    cdef long long narrow
    if not isinstance(number, int):
        raise TypeError(f"an int is needed, not {type(number).__name__}")
    narrow = PyLong_AsLongLongAndOverflow(number, &overflow)
    if overflow == 0 and narrow >= 0:
        return <uint128>narrow
    if number < 0 or number >> bits:
        raise OverflowError(f"the number does not fit an unsigned {bits}-bit integer")
    int128_from_py(number >> 64, &half)
    value = <uint128>half << 64
    int128_from_py(number & 0xFFFFFFFFFFFFFFFF, &half)
    return value | <uint128>half


cdef const uint8_t* word(bytes value, str name) except NULL:
    if value is None or PyBytes_GET_SIZE(value) != WORD:
        raise ValueError(f"{name}: 32 bytes are needed")
    return <const uint8_t*>PyBytes_AS_STRING(value)


cdef void _digest(const uint8_t* domain, const uint8_t* struct_hash, uint8_t* out) noexcept nogil:
    cdef uint8_t[2 + 2 * WORD] packed
    packed[0] = 0x19
    packed[1] = 0x01
    memcpy(packed + 2, domain, WORD)
    memcpy(packed + 2 + WORD, struct_hash, WORD)
    keccak(packed, 2 + 2 * WORD, out)


def keccak256(bytes data not None):
    cdef uint8_t[WORD] out
    keccak(<const uint8_t*>PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data), out)
    return PyBytes_FromStringAndSize(<char*>out, WORD)


ORDER_TYPE_HASH = keccak256(
    b"Order(bytes32 sender,int128 priceX18,int128 amount,uint64 expiration,uint64 nonce,uint128 appendix)"
)
cdef uint8_t[WORD] _order_type_hash
memcpy(_order_type_hash, PyBytes_AS_STRING(ORDER_TYPE_HASH), WORD)


def eip712_digest(bytes domain_separator, bytes struct_hash):
    cdef uint8_t[WORD] out
    _digest(word(domain_separator, "domain_separator"), word(struct_hash, "struct_hash"), out)
    return PyBytes_FromStringAndSize(<char*>out, WORD)


cdef int order_hash(
    const uint8_t* domain, const uint8_t* sender, object price_x18, object amount_x18, object expiration,
    object nonce, object appendix, OrderNumbers* numbers, uint8_t* out,
) except -1:
    """The digest of an order into out (32 bytes), and its numbers as C integers."""
    cdef uint8_t[7 * WORD] words
    int128_from_py(price_x18, &numbers.price)
    int128_from_py(amount_x18, &numbers.amount)
    numbers.expiration = <uint64_t>_unsigned(expiration, 64)
    numbers.nonce = <uint64_t>_unsigned(nonce, 64)
    numbers.appendix = _unsigned(appendix, 128)
    memcpy(words, _order_type_hash, WORD)
    memcpy(words + WORD, sender, WORD)
    _put_int(words + 2 * WORD, numbers.price)
    _put_int(words + 3 * WORD, numbers.amount)
    _put_uint(words + 4 * WORD, numbers.expiration, 0)
    _put_uint(words + 5 * WORD, numbers.nonce, 0)
    _put_uint(words + 6 * WORD, numbers.appendix, 0)
    keccak(words, 7 * WORD, out)
    _digest(domain, out, out)
    return 0


def order_digest(
    bytes domain_separator, bytes sender, price_x18, amount_x18, expiration, nonce, appendix
):
    cdef uint8_t[WORD] out
    cdef OrderNumbers numbers
    order_hash(
        word(domain_separator, "domain_separator"), word(sender, "sender"),
        price_x18, amount_x18, expiration, nonce, appendix, &numbers, out,
    )
    return PyBytes_FromStringAndSize(<char*>out, WORD)
