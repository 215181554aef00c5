"""Executes that concern the wallet rather than the book: signer, withdrawal, transfer, liquidation.

Their nonce is the strictly sequential one of the `nonces` query.
"""

from __future__ import annotations

from dataclasses import dataclass

from .errors import ExchangeError
from .fields import MALFORMED, flag, hex_bytes, lenient_int, mapping, nonce, sender, text, uint32
from .x18 import INT128_MAX, INT128_MIN, UINT128_MAX


@dataclass(frozen=True, slots=True)
class LinkSignerRequest:
    """signer: 32 bytes, an address padded on the right; zero revokes."""

    sender: str
    signer: str
    nonce: int
    signature: str


@dataclass(frozen=True, slots=True)
class WithdrawRequest:
    """amount: in the token's own decimals. send_to, appendix: None in the first form of the execute."""

    sender: str
    product_id: int
    amount: int
    nonce: int
    signature: str
    spot_leverage: bool
    send_to: str | None
    appendix: int | None


@dataclass(frozen=True, slots=True)
class TransferRequest:
    sender: str
    recipient: str
    amount_x18: int
    nonce: int
    signature: str


@dataclass(frozen=True, slots=True)
class LiquidateRequest:
    """amount_x18 has the sign of the position to be taken over."""

    sender: str
    liquidatee: str
    product_id: int
    is_encoded_spread: bool
    amount_x18: int
    nonce: int
    signature: str


def parse_link_signer(request: object) -> LinkSignerRequest:
    fields = mapping(request, "link_signer")
    tx = mapping(fields.get("tx"), "tx")
    return LinkSignerRequest(
        sender=sender(tx),
        signer=hex_bytes(tx.get("signer"), 32, "signer"),
        nonce=nonce(tx),
        signature=text(fields.get("signature"), "signature"),
    )


def parse_withdraw(request: object, *, is_v2: bool) -> WithdrawRequest:
    fields = mapping(request, "withdraw_collateral")
    tx = mapping(fields.get("tx"), "tx")
    return WithdrawRequest(
        sender=sender(tx),
        product_id=uint32(tx.get("productId"), "productId"),
        amount=lenient_int(tx.get("amount"), 0, UINT128_MAX, "amount"),
        nonce=nonce(tx),
        signature=text(fields.get("signature"), "signature"),
        spot_leverage=flag(fields, "spot_leverage", True),
        send_to=hex_bytes(tx.get("sendTo"), 20, "sendTo") if is_v2 else None,
        appendix=lenient_int(tx.get("appendix"), 0, UINT128_MAX, "appendix") if is_v2 else None,
    )


def parse_transfer(request: object) -> TransferRequest:
    fields = mapping(request, "transfer_quote")
    tx = mapping(fields.get("tx"), "tx")
    return TransferRequest(
        sender=sender(tx),
        recipient=hex_bytes(tx.get("recipient"), 32, "recipient"),
        amount_x18=lenient_int(tx.get("amount"), 0, INT128_MAX, "amount"),
        nonce=nonce(tx),
        signature=text(fields.get("signature"), "signature"),
    )


def parse_liquidate(request: object) -> LiquidateRequest:
    fields = mapping(request, "liquidate_subaccount")
    tx = mapping(fields.get("tx"), "tx")
    is_spread = tx.get("isEncodedSpread")
    if not isinstance(is_spread, bool):
        raise ExchangeError(2040 if is_spread is not None else MALFORMED, "isEncodedSpread")
    return LiquidateRequest(
        sender=sender(tx),
        liquidatee=hex_bytes(tx.get("liquidatee"), 32, "liquidatee"),
        product_id=uint32(tx.get("productId"), "productId"),
        is_encoded_spread=is_spread,
        amount_x18=lenient_int(tx.get("amount"), INT128_MIN, INT128_MAX, "amount"),
        nonce=nonce(tx),
        signature=text(fields.get("signature"), "signature"),
    )
