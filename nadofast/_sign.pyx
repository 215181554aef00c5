"""From the fields of an order to its signature and the bytes of its message: what runs per order.

The curve is coincurve's own libsecp256k1, called at the address its binding gives: the deterministic nonce of
RFC 6979 and the low s are that library's, so a signature is the same byte for byte whoever asks for it. The
private key lies in C memory only and is wiped with its holder.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t, uint64_t
from libc.string cimport memcpy, memset

from ._hash cimport WORD, OrderNumbers, order_hash, word
from ._x18 cimport int128, uint128


cdef extern from "Python.h":
    object PyUnicode_New(Py_ssize_t size, Py_UCS4 maxchar)
    unsigned char* PyUnicode_1BYTE_DATA(object text)
    Py_ssize_t PyUnicode_GET_LENGTH(object text)


cdef extern from *:
    """
    /* Not to be optimised away: the memory is never read again. */
    static void nado_wipe(volatile unsigned char *p, size_t size) {
        while (size--) *p++ = 0;
    }
    """
    void wipe "nado_wipe"(uint8_t* memory, size_t size)


cdef enum:
    COMPACT = 64
    SIGNATURE = 65
    RECOVERABLE = 65
    HEX_DIGEST = 2 + 2 * WORD
    HEX_SIGNATURE = 2 + 2 * SIGNATURE
    LONGEST_NUMBER = 40
    NUMBERS = 7
    PARTS = 10
    TEMPLATE = 512
    MESSAGE = TEMPLATE + HEX_DIGEST + HEX_SIGNATURE + NUMBERS * LONGEST_NUMBER


# libsecp256k1's recoverable signature is opaque, 65 bytes; both functions return 1 on success.
ctypedef int (*SignRecoverable)(
    const void* context, uint8_t* signature, const uint8_t* digest, const uint8_t* secret,
    const void* nonce_function, const void* nonce_data,
) noexcept nogil
ctypedef int (*SerializeCompact)(
    const void* context, uint8_t* out, int* recovery_id, const uint8_t* signature
) noexcept nogil

cdef const char* HEX = b"0123456789abcdef"
cdef char[200] PAIRS
cdef int _i
for _i in range(100):
    PAIRS[2 * _i] = <char>(48 + _i // 10)
    PAIRS[2 * _i + 1] = <char>(48 + _i % 10)


cdef str _hex(const uint8_t* data, Py_ssize_t size):
    """0x and two digits a byte, lower case."""
    cdef str text = PyUnicode_New(2 + 2 * size, 127)
    cdef uint8_t* at = PyUnicode_1BYTE_DATA(text)
    cdef Py_ssize_t i
    at[0] = c"0"
    at[1] = c"x"
    for i in range(size):
        at[2 + 2 * i] = HEX[data[i] >> 4]
        at[3 + 2 * i] = HEX[data[i] & 15]
    return text


cdef char* _put_u64(char* at, uint64_t value, int width) noexcept nogil:
    """Decimal digits, at least `width` of them. Returns the end."""
    cdef char[20] digits
    cdef int first = 20
    while value >= 10:
        first -= 2
        memcpy(digits + first, PAIRS + 2 * (value % 100), 2)
        value //= 100
    if value:
        first -= 1
        digits[first] = <char>(48 + value)
    while 20 - first < width:
        first -= 1
        digits[first] = c"0"
    memcpy(at, digits + first, 20 - first)
    return at + 20 - first


cdef char* _put_u128(char* at, uint128 value) noexcept nogil:
    cdef uint64_t E19 = 10000000000000000000ULL
    cdef uint128 high
    if value <= <uint128>0xFFFFFFFFFFFFFFFFULL:
        return _put_u64(at, <uint64_t>value, 1)
    high = value // E19
    at = _put_u128(at, high)
    return _put_u64(at, <uint64_t>(value - high * E19), 19)


cdef char* _put_i128(char* at, int128 value) noexcept nogil:
    if value < 0:
        at[0] = c"-"
        return _put_u128(at + 1, -<uint128>value)
    return _put_u128(at, <uint128>value)


cdef char* _put_text(char* at, str text) noexcept:
    cdef Py_ssize_t size = PyUnicode_GET_LENGTH(text)
    memcpy(at, PyUnicode_1BYTE_DATA(text), size)
    return at + size


cdef str _plain(str text, Py_ssize_t longest, str name):
    """The text, if it may stand in JSON as it is and has its place in the message."""
    if text is None or not text.isascii() or not text.isalnum() or PyUnicode_GET_LENGTH(text) > longest:
        raise ValueError(f"{name}: 1 to {longest} letters and digits are needed")
    return text


cdef class SignedOrder:
    """An order ready to send. Immutable; the signature makes it a bearer instrument, so that it is not in the
    repr and the order cannot be pickled.

    amount_x18 < 0 sells. digest is the order id everywhere. client_id is echoed by the exchange in events;
    it is neither signed nor unique.
    """

    cdef readonly str digest
    cdef readonly str signature
    cdef readonly str sender
    cdef readonly object product_id
    cdef readonly object price_x18
    cdef readonly object amount_x18
    cdef readonly object expiration_s
    cdef readonly object nonce
    cdef readonly object appendix
    cdef readonly object client_id
    cdef OrderNumbers numbers
    cdef uint64_t product

    def __init__(
        self, *, str digest, str signature, product_id, str sender, price_x18, amount_x18, expiration_s, nonce,
        appendix, client_id=None,
    ):
        cdef uint8_t[WORD] unused
        memset(unused, 0, WORD)
        self.product = product_id
        order_hash(
            unused, unused, price_x18, amount_x18, expiration_s, nonce, appendix, &self.numbers, unused
        )
        self.digest = _plain(digest, HEX_DIGEST, "digest")
        self.signature = _plain(signature, HEX_SIGNATURE, "signature")
        self.sender = _plain(sender, HEX_DIGEST, "sender")
        self.product_id = product_id
        self.price_x18 = price_x18
        self.amount_x18 = amount_x18
        self.expiration_s = expiration_s
        self.nonce = nonce
        self.appendix = appendix
        self.client_id = client_id

    def with_client_id(self, client_id):
        """The same order under another tag: neither digest nor signature know of it."""
        return SignedOrder(
            digest=self.digest, signature=self.signature, product_id=self.product_id, sender=self.sender,
            price_x18=self.price_x18, amount_x18=self.amount_x18, expiration_s=self.expiration_s,
            nonce=self.nonce, appendix=self.appendix, client_id=client_id,
        )

    def __eq__(self, other):
        if not isinstance(other, SignedOrder):
            return NotImplemented
        return (self.digest, self.signature, self.client_id) == (
            other.digest, other.signature, other.client_id
        )

    def __hash__(self):
        return hash(self.digest)

    def __repr__(self):
        return (
            f"SignedOrder(digest={self.digest!r}, product_id={self.product_id}, sender={self.sender!r}, "
            f"price_x18={self.price_x18}, amount_x18={self.amount_x18}, expiration_s={self.expiration_s}, "
            f"nonce={self.nonce}, appendix={self.appendix}, client_id={self.client_id})"
        )

    def __reduce__(self):
        raise TypeError("a SignedOrder cannot be pickled")


cdef class OrderKey:
    """A private key, ready to sign. Raises ValueError on a secret that is not 32 bytes.

    context, sign_recoverable, serialize_compact: addresses of libsecp256k1's context and functions. owner:
    whatever keeps them valid.
    """

    cdef uint8_t[WORD] secret
    cdef const void* context
    cdef SignRecoverable sign_recoverable
    cdef SerializeCompact serialize_compact
    cdef object owner

    def __cinit__(
        self, bytes secret, size_t context, size_t sign_recoverable, size_t serialize_compact, object owner
    ):
        memcpy(self.secret, word(secret, "secret"), WORD)
        if not context or not sign_recoverable or not serialize_compact:
            raise ValueError("an address is zero")
        self.context = <const void*>context
        self.sign_recoverable = <SignRecoverable><void*>sign_recoverable
        self.serialize_compact = <SerializeCompact><void*>serialize_compact
        self.owner = owner

    def __dealloc__(self):
        wipe(self.secret, WORD)

    def __repr__(self):
        return "OrderKey(***)"

    def __reduce__(self):
        raise TypeError("an OrderKey cannot be pickled")

    cdef int put_signature(self, const uint8_t* digest, uint8_t* out) except -1:
        """r, s and v (27 or 28) of a digest into out, 65 bytes."""
        cdef uint8_t[RECOVERABLE] opaque
        cdef int recovery_id = 0
        if (
            self.sign_recoverable(self.context, opaque, digest, self.secret, NULL, NULL) != 1
            or self.serialize_compact(self.context, out, &recovery_id, opaque) != 1
        ):
            raise ValueError("the curve refused to sign")
        out[COMPACT] = <uint8_t>(27 + recovery_id)
        return 0

    def sign(self, bytes digest):
        """The signature of a digest (32 bytes): r, s, v as 0x and 130 hex digits."""
        cdef uint8_t[SIGNATURE] signature
        self.put_signature(word(digest, "digest"), signature)
        return _hex(signature, SIGNATURE)

    def sign_order(
        self, bytes domain_separator, bytes sender, str sender_hex, product_id, price_x18, amount_x18,
        expiration_s, nonce, appendix, client_id,
    ):
        """Hash and sign an order. domain_separator and sender are 32 bytes; sender_hex says the same.

        OverflowError when a number does not fit its type (int128 ×2, uint64 ×2, uint128).
        """
        cdef uint8_t[WORD] digest
        cdef uint8_t[SIGNATURE] signature
        cdef SignedOrder order = SignedOrder.__new__(SignedOrder)
        order.product = product_id
        order_hash(
            word(domain_separator, "domain_separator"), word(sender, "sender"), price_x18, amount_x18,
            expiration_s, nonce, appendix, &order.numbers, digest,
        )
        self.put_signature(digest, signature)
        order.digest = _hex(digest, WORD)
        order.signature = _hex(signature, SIGNATURE)
        order.sender = sender_hex
        order.product_id = product_id
        order.price_x18 = price_x18
        order.amount_x18 = amount_x18
        order.expiration_s = expiration_s
        order.nonce = nonce
        order.appendix = appendix
        order.client_id = client_id
        return order


cdef class OrderTemplate:
    """The fixed parts of a message that carries one order, and what comes between them:

    product id, sender, price, amount, expiration, nonce, appendix, signature, request id.
    """

    cdef char[TEMPLATE] text
    cdef int[PARTS] ends

    def __cinit__(self, *parts):
        cdef int size = 0
        if len(parts) != PARTS or sum(map(len, parts)) > TEMPLATE:
            raise ValueError(f"{PARTS} parts of {TEMPLATE} bytes in all are needed")
        for index, part in enumerate(parts):
            memcpy(self.text + size, PyBytes_AS_STRING(<bytes?>part), PyBytes_GET_SIZE(part))
            size += <int>PyBytes_GET_SIZE(part)
            self.ends[index] = size

    cdef char* put_part(self, char* at, int index) noexcept nogil:
        cdef int start = self.ends[index - 1] if index else 0
        memcpy(at, self.text + start, self.ends[index] - start)
        return at + self.ends[index] - start

    def encode(self, SignedOrder order not None, uint64_t request_id):
        """The message in UTF-8."""
        cdef char[MESSAGE] message
        cdef char* at = self.put_part(message, 0)
        at = self.put_part(_put_u64(at, order.product, 1), 1)
        at = self.put_part(_put_text(at, order.sender), 2)
        at = self.put_part(_put_i128(at, order.numbers.price), 3)
        at = self.put_part(_put_i128(at, order.numbers.amount), 4)
        at = self.put_part(_put_u64(at, order.numbers.expiration, 1), 5)
        at = self.put_part(_put_u64(at, order.numbers.nonce, 1), 6)
        at = self.put_part(_put_u128(at, order.numbers.appendix), 7)
        at = self.put_part(_put_text(at, order.signature), 8)
        at = self.put_part(_put_u64(at, request_id, 1), 9)
        return PyBytes_FromStringAndSize(message, at - message)
