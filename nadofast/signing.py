"""EIP-712 signatures of every execute a trading client sends, and of the stream authentication.

Type strings and domain as in the signing section of the API. Orders are signed for the address made of
the product id; everything else for the endpoint contract.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NoReturn

import orjson
from coincurve import PrivateKey
from coincurve._libsecp256k1 import ffi, lib

from . import wire
from ._hash import keccak256
from ._sign import OrderKey, SignedOrder
from .appendix import Appendix, OrderType, Trigger, pack_appendix, unpack_appendix
from .errors import ConfigError
from .secret import Secret, parse_private_key

if TYPE_CHECKING:
    from .control import ControlChannel

__all__ = [
    "Appendix",
    "NadoWebSocketAuth",
    "OrderType",
    "SignedCancel",
    "SignedCancelProducts",
    "SignedLinkSigner",
    "SignedOrder",
    "SignedStreamAuth",
    "Signer",
    "Trigger",
    "make_nonce",
    "nonce_recv_time_ms",
    "pack_appendix",
    "subaccount_hex",
    "unpack_appendix",
]

NONCE_LOW_BITS: Final = 20
NONCE_LOW_MASK: Final = (1 << NONCE_LOW_BITS) - 1
SUBACCOUNT_NAME_BYTES: Final = 12
_MAX_U64: Final = (1 << 64) - 1
_SUBACCOUNT_HEX_LENGTH: Final = 2 + 64

_DOMAIN_TYPE: Final = keccak256(
    b"EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"
)
_DOMAIN_NAME: Final = keccak256(b"Nado")
_DOMAIN_VERSION: Final = keccak256(b"0.0.1")
_CANCELLATION: Final = keccak256(
    b"Cancellation(bytes32 sender,uint32[] productIds,bytes32[] digests,uint64 nonce)"
)
_CANCELLATION_PRODUCTS: Final = keccak256(
    b"CancellationProducts(bytes32 sender,uint32[] productIds,uint64 nonce)"
)
_STREAM_AUTHENTICATION: Final = keccak256(b"StreamAuthentication(bytes32 sender,uint64 expiration)")
_LINK_SIGNER: Final = keccak256(b"LinkSigner(bytes32 sender,bytes32 signer,uint64 nonce)")


def make_nonce(recv_time_ms: int, low20: int) -> int:
    """Order and cancel nonce: the engine discards the request after `recv_time_ms` (exchange clock).

    low20 only separates otherwise equal messages; take it from a counter, it is reduced modulo 2^20.
    """
    nonce = recv_time_ms << NONCE_LOW_BITS | low20 & NONCE_LOW_MASK
    if not 0 < nonce <= _MAX_U64:
        raise ValueError(f"recv_time_ms={recv_time_ms} does not fit a nonce")
    return nonce


def nonce_recv_time_ms(nonce: int) -> int:
    """The discard time inside a nonce, ms of the exchange clock."""
    return nonce >> NONCE_LOW_BITS


def subaccount_hex(address: str, name: str = "default") -> str:
    """32-byte subaccount id, lower-case 0x-hex: address, then the name padded right with zeros.

    name: at most 12 bytes of UTF-8, or a whole subaccount id of the same address, which is returned.
    Raises ConfigError on anything else.
    """
    owner = _hex_bytes(address, 20, "address").hex()
    if name[:2].lower() == "0x" and len(name) == _SUBACCOUNT_HEX_LENGTH:
        given = _hex_bytes(name, 32, "subaccount").hex()
        if given[:40] != owner:
            raise ConfigError(f"subaccount 0x{given} does not belong to 0x{owner}")
        return "0x" + given
    encoded = name.encode()
    if len(encoded) > SUBACCOUNT_NAME_BYTES:
        raise ConfigError(
            f"subaccount name {name!r} has {len(encoded)} bytes, at most {SUBACCOUNT_NAME_BYTES} fit"
        )
    return "0x" + owner + encoded.ljust(SUBACCOUNT_NAME_BYTES, b"\0").hex()


class _Bearer:
    """Whoever has the signature can use it: it is not stored, so what holds one cannot be pickled."""

    __slots__ = ()

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"a {type(self).__name__} cannot be pickled")


@dataclass(frozen=True, slots=True)
class SignedCancel(_Bearer):
    """A cancel of single orders: product_ids[i] names the product of digests[i]."""

    sender: str
    product_ids: tuple[int, ...]
    digests: tuple[str, ...]
    nonce: int
    digest: str
    signature: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class SignedCancelProducts(_Bearer):
    """A cancel of everything on the products; none named means all products."""

    sender: str
    product_ids: tuple[int, ...]
    nonce: int
    digest: str
    signature: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class SignedStreamAuth(_Bearer):
    """A stream authentication. expiration_ms bounds the request, not the session."""

    sender: str
    expiration_ms: int
    digest: str
    signature: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class SignedLinkSigner(_Bearer):
    """Names `signer` (address and 12 zero bytes; all zeros revoke) as linked signer of the subaccount."""

    sender: str
    signer: str
    nonce: int
    digest: str
    signature: str = field(repr=False)


class Signer:
    """Signs for one wallet on one chain.

    private_key: 0x + 64 hex, or a Secret. owner_address: the wallet a linked signer signs for; the signer's
    own address by default. Raises InvalidKey, or ConfigError on a malformed address.
    """

    def __init__(
        self,
        private_key: str | Secret,
        *,
        chain_id: int,
        endpoint_address: str,
        owner_address: str | None = None,
    ) -> None:
        curve = PrivateKey(bytes.fromhex(parse_private_key(private_key).reveal()[2:]))
        del private_key
        self._key = _order_key(curve)
        public_key: bytes = curve.public_key.format(compressed=False)
        self.address: str = "0x" + keccak256(public_key[1:])[12:].hex()
        self.owner_address: str = (
            self.address
            if owner_address is None
            else "0x" + _hex_bytes(owner_address, 20, "owner_address").hex()
        )
        self.chain_id = chain_id
        self.endpoint_address: str = "0x" + _hex_bytes(endpoint_address, 20, "endpoint_address").hex()
        self._endpoint_domain = domain_separator(chain_id, self.endpoint_address)
        self._order_domains: dict[int, bytes] = {}
        self._subaccounts: dict[str, tuple[str, bytes]] = {}

    def __repr__(self) -> str:
        return f"Signer(owner={self.owner_address}, chain_id={self.chain_id})"

    def __reduce__(self) -> Any:
        raise TypeError("a Signer cannot be pickled")

    def subaccount(self, name: str = "default") -> str:
        """The owner's 32-byte subaccount id; `name` may already be one."""
        return self._sender(name)[0]

    def _sender(self, name: str) -> tuple[str, bytes]:
        """The subaccount id as hex and as bytes."""
        known = self._subaccounts.get(name)
        if known is None:
            text = subaccount_hex(self.owner_address, name)
            known = self._subaccounts[name] = (text, bytes.fromhex(text[2:]))
        return known

    def sign_order(
        self,
        *,
        product_id: int,
        price_x18: int,
        amount_x18: int,
        expiration_s: int,
        nonce: int,
        appendix: int,
        subaccount: str = "default",
        client_id: int | None = None,
    ) -> SignedOrder:
        """Sign an order; amount_x18 < 0 sells. The digest is the order id, known before anything is sent."""
        sender_hex, sender = self._sender(subaccount)
        domain = self._order_domains.get(product_id)
        if domain is None:
            domain = domain_separator(self.chain_id, f"0x{product_id:040x}")
            self._order_domains[product_id] = domain
        return self._key.sign_order(
            domain, sender, sender_hex, product_id, price_x18, amount_x18, expiration_s, nonce, appendix,
            client_id,
        )  # fmt: skip

    def sign_cancel(
        self, product_ids: Sequence[int], digests: Sequence[str], nonce: int, subaccount: str = "default"
    ) -> SignedCancel:
        """Sign a cancel of single orders. Raises ValueError if the two lists differ in length."""
        if len(product_ids) != len(digests):
            raise ValueError("product_ids and digests differ in length")
        sender, sender_bytes = self._sender(subaccount)
        digest, signature = self._sign_struct(
            _CANCELLATION,
            sender_bytes,
            _array_hash(_uint(product_id) for product_id in product_ids),
            _array_hash(_hex_bytes(order, 32, "digest") for order in digests),
            _uint(nonce),
        )
        return SignedCancel(sender, tuple(product_ids), tuple(digests), nonce, digest, signature)

    def sign_cancel_products(
        self, product_ids: Sequence[int], nonce: int, subaccount: str = "default"
    ) -> SignedCancelProducts:
        """Sign a cancel of every order on the products; an empty list means all products."""
        sender, sender_bytes = self._sender(subaccount)
        digest, signature = self._sign_struct(
            _CANCELLATION_PRODUCTS,
            sender_bytes,
            _array_hash(_uint(product_id) for product_id in product_ids),
            _uint(nonce),
        )
        return SignedCancelProducts(sender, tuple(product_ids), nonce, digest, signature)

    def sign_stream_auth(self, expiration_ms: int, subaccount: str = "default") -> SignedStreamAuth:
        """Sign an authentication of a subscription socket; expiration at most 100 s ahead."""
        sender, sender_bytes = self._sender(subaccount)
        digest, signature = self._sign_struct(_STREAM_AUTHENTICATION, sender_bytes, _uint(expiration_ms))
        return SignedStreamAuth(sender, expiration_ms, digest, signature)

    def sign_link_signer(self, signer: str, nonce: int, subaccount: str = "default") -> SignedLinkSigner:
        """Sign a change of linked signer. signer: 32 bytes hex. nonce: `tx_nonce` of the `nonces` query."""
        sender, sender_bytes = self._sender(subaccount)
        digest, signature = self._sign_struct(
            _LINK_SIGNER, sender_bytes, _hex_bytes(signer, 32, "signer"), _uint(nonce)
        )
        return SignedLinkSigner(sender, signer.lower(), nonce, digest, signature)

    def _sign_struct(self, type_hash: bytes, *members: bytes) -> tuple[str, str]:
        struct_hash = keccak256(type_hash + b"".join(members))
        digest = keccak256(b"\x19\x01" + self._endpoint_domain + struct_hash)
        return "0x" + digest.hex(), self._key.sign(digest)


def _order_key(curve: PrivateKey) -> OrderKey:
    """The key for the compiled signer, which calls the same library without the binding between. A signature
    of either must be the other's: raises ConfigError if this build of coincurve is not what it was taken for.
    """

    def address(pointer: Any) -> int:
        return int(ffi.cast("uintptr_t", pointer))

    key = OrderKey(
        curve.secret,
        address(curve.context.ctx),
        address(ffi.addressof(lib, "secp256k1_ecdsa_sign_recoverable")),
        address(ffi.addressof(lib, "secp256k1_ecdsa_recoverable_signature_serialize_compact")),
        curve.context,
    )
    probe = _DOMAIN_TYPE
    expected: bytes = curve.sign_recoverable(probe, hasher=None)
    if key.sign(probe) != f"0x{expected[:64].hex()}{27 + expected[64]:02x}":
        raise ConfigError("the curve of this coincurve signs differently when it is called directly")
    return key


class NadoWebSocketAuth:
    """The authenticating part of a subscription socket: one request per connection, valid as long as that
    lives, so there is no token to refresh. Only the signer holds the key.

    valid_ms: the request is void so long after it was made; at most 100 s. is_authenticated: what the last
    `authenticate_connection` came to, False while it is under way.
    """

    def __init__(self, signer: Signer, *, subaccount: str = "default", valid_ms: int = 60_000) -> None:
        if not 0 < valid_ms <= wire.MAX_AHEAD_MS:
            raise ConfigError(f"valid_ms={valid_ms} is outside 1..{wire.MAX_AHEAD_MS}")
        self._signer = signer
        self._valid_ms = valid_ms
        self.subaccount = signer.subaccount(subaccount)
        self.wallet = signer.owner_address
        self.is_authenticated = False

    def create_stream_auth_message(self, exchange_now_ms: int, request_id: int) -> dict[str, Any]:
        """The `authenticate` request (subscription control section of the API), as the exchange reads it."""
        transaction = {"sender": self.subaccount, "expiration": str(exchange_now_ms + self._valid_ms)}
        return wire.authenticate(transaction, self.sign_eip712(transaction), request_id)

    def sign_eip712(self, data: Mapping[str, Any]) -> str:
        """The signature of {"sender", "expiration"}. Raises ConfigError if sender is another wallet's."""
        signed = self._signer.sign_stream_auth(wire.integer(data["expiration"]), str(data["sender"]))
        return signed.signature

    def message(self, request_id: int, exchange_now_ms: int) -> bytes:
        """The request as it goes out."""
        return orjson.dumps(self.create_stream_auth_message(exchange_now_ms, request_id))

    async def authenticate_connection(
        self, control: ControlChannel, exchange_now_ms: Callable[[], int]
    ) -> None:
        """Sign one connection in and wait for the acknowledgement. Raises ExchangeError when the exchange
        refuses, RequestTimeout or ConnectionLost without an answer."""
        self.is_authenticated = False
        await control.request(lambda number: self.message(number, exchange_now_ms()), wire.AUTHENTICATE)
        self.is_authenticated = True


def domain_separator(chain_id: int, verifying_contract: str) -> bytes:
    """EIP-712 domain separator of the exchange for one contract."""
    contract = _hex_bytes(verifying_contract, 20, "verifying contract")
    return keccak256(
        _DOMAIN_TYPE + _DOMAIN_NAME + _DOMAIN_VERSION + _uint(chain_id) + contract.rjust(32, b"\0")
    )


def _uint(value: int) -> bytes:
    return value.to_bytes(32, "big")


def _array_hash(elements: Any) -> bytes:
    return keccak256(b"".join(elements))


def _hex_bytes(text: str, length: int, what: str) -> bytes:
    try:
        value = bytes.fromhex(text[2:]) if text[:2].lower() == "0x" else b""
    except ValueError:
        value = b""
    if len(value) != length:
        raise ConfigError(f"{what} {text!r} is not 0x and {2 * length} hex digits")
    return value
