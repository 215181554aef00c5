from typing import NoReturn

class SignedOrder:
    """An order ready to send. Immutable; the signature makes it a bearer instrument, so that it is not in the
    repr and the order cannot be pickled.

    amount_x18 < 0 sells. digest is the order id everywhere. client_id is echoed by the exchange in events;
    it is neither signed nor unique. The constructor takes a signature made elsewhere and checks its form:
    ValueError on text that is not plain, OverflowError on a number that does not fit.
    """

    def __init__(
        self,
        *,
        digest: str,
        signature: str,
        product_id: int,
        sender: str,
        price_x18: int,
        amount_x18: int,
        expiration_s: int,
        nonce: int,
        appendix: int,
        client_id: int | None = None,
    ) -> None: ...
    @property
    def digest(self) -> str: ...
    @property
    def signature(self) -> str: ...
    @property
    def product_id(self) -> int: ...
    @property
    def sender(self) -> str: ...
    @property
    def price_x18(self) -> int: ...
    @property
    def amount_x18(self) -> int: ...
    @property
    def expiration_s(self) -> int: ...
    @property
    def nonce(self) -> int: ...
    @property
    def appendix(self) -> int: ...
    @property
    def client_id(self) -> int | None: ...
    def with_client_id(self, client_id: int | None) -> SignedOrder:
        """The same order under another tag: neither digest nor signature know of it."""

    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self) -> int: ...
    def __reduce__(self) -> NoReturn: ...

class OrderKey:
    """A private key, ready to sign; it lies in C memory only. Raises ValueError on a secret of another size.

    context, sign_recoverable, serialize_compact: addresses of libsecp256k1's context and functions. owner:
    whatever keeps them valid.
    """

    def __init__(
        self, secret: bytes, context: int, sign_recoverable: int, serialize_compact: int, owner: object
    ) -> None: ...
    def sign(self, digest: bytes) -> str:
        """The signature of a digest (32 bytes): r, s, v (27 or 28) as 0x and 130 hex digits."""

    def sign_order(
        self,
        domain_separator: bytes,
        sender: bytes,
        sender_hex: str,
        product_id: int,
        price_x18: int,
        amount_x18: int,
        expiration_s: int,
        nonce: int,
        appendix: int,
        client_id: int | None,
    ) -> SignedOrder:
        """Hash and sign an order. OverflowError when a number does not fit its type."""

    def __reduce__(self) -> NoReturn: ...

class OrderTemplate:
    """The ten fixed parts of a message that carries one order. Between them come: product id, sender, price,
    amount, expiration, nonce, appendix, signature, request id."""

    def __init__(self, *parts: bytes) -> None: ...
    def encode(self, order: SignedOrder, request_id: int) -> bytes:
        """The message in UTF-8. OverflowError if request_id is no uint64."""
