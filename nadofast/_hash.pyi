ORDER_TYPE_HASH: bytes

def keccak256(data: bytes) -> bytes:
    """Keccak-256 (the original padding, as Ethereum uses it) of any bytes."""

def order_digest(
    domain_separator: bytes,
    sender: bytes,
    price_x18: int,
    amount_x18: int,
    expiration: int,
    nonce: int,
    appendix: int,
) -> bytes:
    """EIP-712 digest of an Order (signing section of the API): 32 bytes, the order's id.

    domain_separator and sender are 32 bytes. ValueError on another length; OverflowError when a number
    does not fit its type (int128 ×2, uint64 ×2, uint128).
    """

def eip712_digest(domain_separator: bytes, struct_hash: bytes) -> bytes:
    """keccak256(0x1901 ‖ domain_separator ‖ struct_hash)."""
