"""EIP-712 verification through the official SDK's own types, and public-key recovery by eth-keys.

Nothing here is shared with the client that signs: a common mistake could not hide. Native secp256k1
(coincurve) is picked up by eth-keys by itself: about 0.6 ms a signature instead of several.
"""

from __future__ import annotations

import warnings
from typing import Any, Final

from eth_keys import keys
from eth_keys.exceptions import BadSignature, ValidationError

with warnings.catch_warnings():
    # Dependencies of the SDK read their version through pkg_resources; goes when they do not any more.
    warnings.filterwarnings("ignore", message="pkg_resources is deprecated")
    from nado_protocol.contracts.eip712.sign import build_eip712_typed_data, get_eip712_typed_data_digest
    from nado_protocol.contracts.types import NadoTxType

from .accounts import ZERO_ADDRESS
from .errors import ExchangeError
from .requests import CancelProductsRequest, CancelRequest, OrderFields
from .wallet_requests import LinkSignerRequest, LiquidateRequest, TransferRequest, WithdrawRequest

SIGNATURE_BYTES: Final = 65


class Verifier:
    """Computes digests and recovers signers for one chain and endpoint contract."""

    def __init__(self, chain_id: int, endpoint_address: str) -> None:
        self._chain_id = chain_id
        self._endpoint_address = endpoint_address

    def order_digest(self, product_id: int, order: OrderFields) -> str:
        """Order id. The verifying contract of an order is its product id as an address."""
        message = {
            "sender": _bytes(order.sender),
            "priceX18": order.price_x18,
            "amount": order.amount_x18,
            "expiration": order.expiration_s,
            "nonce": order.nonce,
            "appendix": order.appendix,
        }
        return self._digest(NadoTxType.PLACE_ORDER, message, f"0x{product_id:040x}")

    def cancel_digest(self, request: CancelRequest) -> str:
        message = {
            "sender": _bytes(request.sender),
            "productIds": list(request.product_ids),
            "digests": [_bytes(digest) for digest in request.digests],
            "nonce": request.nonce,
        }
        return self._digest(NadoTxType.CANCEL_ORDERS, message, self._endpoint_address)

    def cancel_products_digest(self, request: CancelProductsRequest) -> str:
        message = {
            "sender": _bytes(request.sender),
            "productIds": list(request.product_ids),
            "nonce": request.nonce,
        }
        return self._digest(NadoTxType.CANCEL_PRODUCT_ORDERS, message, self._endpoint_address)

    def stream_auth_digest(self, sender: str, expiration_ms: int) -> str:
        message = {"sender": _bytes(sender), "expiration": expiration_ms}
        return self._digest(NadoTxType.AUTHENTICATE_STREAM, message, self._endpoint_address)

    def link_signer_digest(self, request: LinkSignerRequest) -> str:
        message = {
            "sender": _bytes(request.sender),
            "signer": _bytes(request.signer),
            "nonce": request.nonce,
        }
        return self._digest(NadoTxType.LINK_SIGNER, message, self._endpoint_address)

    def withdraw_digest(self, request: WithdrawRequest) -> str:
        message: dict[str, Any] = {
            "sender": _bytes(request.sender),
            "productId": request.product_id,
            "amount": request.amount,
            "nonce": request.nonce,
        }
        kind = NadoTxType.WITHDRAW_COLLATERAL
        if request.send_to is not None:
            kind = NadoTxType.WITHDRAW_COLLATERAL_V2
            message |= {"sendTo": request.send_to, "appendix": request.appendix}
        return self._digest(kind, message, self._endpoint_address)

    def transfer_digest(self, request: TransferRequest) -> str:
        message = {
            "sender": _bytes(request.sender),
            "recipient": _bytes(request.recipient),
            "amount": request.amount_x18,
            "nonce": request.nonce,
        }
        return self._digest(NadoTxType.TRANSFER_QUOTE, message, self._endpoint_address)

    def liquidate_digest(self, request: LiquidateRequest) -> str:
        message = {
            "sender": _bytes(request.sender),
            "liquidatee": _bytes(request.liquidatee),
            "productId": request.product_id,
            "isEncodedSpread": request.is_encoded_spread,
            "amount": request.amount_x18,
            "nonce": request.nonce,
        }
        return self._digest(NadoTxType.LIQUIDATE_SUBACCOUNT, message, self._endpoint_address)

    def _digest(self, tx: NadoTxType, message: dict[str, Any], contract: str) -> str:
        typed = build_eip712_typed_data(tx, message, contract, self._chain_id)
        return str(get_eip712_typed_data_digest(typed))


def recover_signer(digest: str, signature: str) -> str:
    """Address, in lower case, that made the signature.

    Raises ExchangeError 2027 (length), 2034 (recovery value), 2035 (not hex, or not a point on the curve).
    """
    text = signature[2:] if signature[:2] in ("0x", "0X") else signature
    try:
        raw = bytes.fromhex(text)
    except ValueError:
        raise ExchangeError(2035) from None
    if len(text) != 2 * len(raw):
        raise ExchangeError(2035)  # `fromhex` takes blanks
    if len(raw) != SIGNATURE_BYTES:
        raise ExchangeError(2027)
    if raw[64] not in (27, 28):
        raise ExchangeError(2034)
    try:
        parsed = keys.Signature(raw[:64] + bytes([raw[64] - 27]))
        return str(parsed.recover_public_key_from_msg_hash(_bytes(digest)).to_address())
    except (BadSignature, ValidationError, ValueError):
        raise ExchangeError(2035) from None


def check_signer(digest: str, signature: str, owner: str, linked_signer: str = ZERO_ADDRESS) -> str:
    """The signer's address, if it is the owner's wallet or its linked signer; else ExchangeError 2028."""
    signer = recover_signer(digest, signature)
    if signer != owner and (signer != linked_signer or linked_signer == ZERO_ADDRESS):
        raise ExchangeError(2028)
    return signer


def _bytes(text: str) -> bytes:
    return bytes.fromhex(text[2:])
