"""Hands of the core's tests: an exchange on a manual clock, and traders who sign with the official SDK."""

from __future__ import annotations

import json
from itertools import count
from pathlib import Path
from typing import Any

from eth_account import Account
from nado_protocol.contracts.eip712.sign import build_eip712_typed_data, sign_eip712_typed_data
from nado_protocol.contracts.types import NadoTxType

from nadosim.accounts import Subaccount
from nadosim.clock import ManualClock
from nadosim.config import ExchangeConfig
from nadosim.errors import ExchangeError
from nadosim.exchange import Exchange
from nadosim.steps import Step
from nadosim.x18 import ONE

DATA = Path(__file__).parent.parent / "data"
KBTC, WETH, ETH, SOL = 1, 3, 4, 8
HOUSE = "0x" + "aa" * 20 + b"house".ljust(12, b"\0").hex()
OTHER_HOUSE = "0x" + "bb" * 20 + b"house".ljust(12, b"\0").hex()
LIMIT, IOC, FOK, POST_ONLY = 1, 513, 1025, 1537
REDUCE_ONLY, ISOLATED = 2048, 256


def sample(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((DATA / "samples" / f"{name}.json").read_text())
    return loaded


def shape(value: Any) -> Any:
    """Keys and JSON types; a list is the shape of its first entry."""
    if isinstance(value, dict):
        return {key: shape(item) for key, item in value.items()}
    if isinstance(value, list):
        return [shape(value[0])] if value else []
    return type(value).__name__


def code_of(call: Any, *args: Any) -> int:
    """Code a call is refused with; 0 if it is not."""
    try:
        call(*args)
    except ExchangeError as error:
        return error.code
    return 0


def isolated_margin(quote: int) -> int:
    """Appendix bits of an isolated order's margin."""
    return quote * 10**6 << 64


def x18(text: str | int) -> int:
    """Exact x18 of a decimal number written as text."""
    whole, _, fraction = str(text).partition(".")
    return int(whole + fraction.ljust(18, "0"))


class Sim:
    """An exchange whose steps are kept and whose time stands still until told."""

    def __init__(self, **config: Any) -> None:
        self.clock = ManualClock()
        self.steps: list[Step] = []
        self.exchange = Exchange(ExchangeConfig(**config), self.clock, self.steps.append)

    def house(self, side: str, price: str, size: str, product_id: int = ETH, kind: int = 0) -> str:
        """Place for a simulated participant; returns the digest."""
        amount = x18(size) if side == "buy" else -x18(size)
        return self.exchange.house_place(HOUSE, product_id, x18(price), amount, kind)

    def place(self, request: dict[str, Any]) -> dict[str, Any]:
        pending = self.exchange.validate_place(request)
        self.clock.advance_ns(pending.delay_ns)
        return self.exchange.commit_place(pending)

    def execute(self, name: str, request: Any) -> Any:
        """Any execute by its name; reply data."""
        submission = self.exchange.submit(name, request)
        self.clock.advance_ns(submission.delay_ns)
        return submission.commit()

    def refusal(self, request: dict[str, Any]) -> int:
        """Code a place_order is refused with; 0 if it is accepted."""
        try:
            self.place(request)
        except ExchangeError as error:
            return error.code
        return 0

    def private(self, kind: str) -> list[dict[str, Any]]:
        return [e for step in self.steps for _, e in step.private if e["type"] == kind]

    def public(self, kind: str) -> list[dict[str, Any]]:
        return [e for step in self.steps for e in step.public if e["type"] == kind]

    def account(self, trader: Trader) -> Subaccount:
        found = self.exchange.accounts.find(trader.sender)
        assert found is not None
        return found

    def isolated(self, trader: Trader) -> list[dict[str, Any]]:
        """What `isolated_positions` tells."""
        request = {"type": "isolated_positions", "subaccount": trader.sender}
        positions: list[dict[str, Any]] = self.exchange.query(request)["isolated_positions"]
        return positions

    def updates(self) -> list[tuple[str, str]]:
        """(reason, amount) of every order_update so far."""
        return [(e["reason"], e["amount"]) for e in self.private("order_update")]


class Trader:
    """A wallet with its `default` subaccount."""

    def __init__(self, sim: Sim, number: int = 1, deposit: int = 5000) -> None:
        self._sim = sim
        self._account = Account.from_key(bytes([number]) * 32)
        self._nonces = count()
        self.address: str = self._account.address.lower()
        self.sender = self.address + b"default".ljust(12, b"\0").hex()
        if deposit:
            sim.exchange.fund(self.sender, deposit * ONE)

    def nonce(self, ahead_ms: int = 5_000) -> int:
        return (self._sim.clock.now_ms() + ahead_ms) << 20 | next(self._nonces)

    def sign(self, tx: NadoTxType, message: dict[str, Any], contract: str) -> str:
        typed = build_eip712_typed_data(tx, message, contract, self._sim.exchange.config.chain_id)
        return str(sign_eip712_typed_data(typed, self._account))

    def order(
        self,
        side: str = "buy",
        price: str = "3000",
        size: str = "0.1",
        appendix: int = LIMIT,
        *,
        product_id: int = ETH,
        nonce: int | None = None,
        expiration_s: int = 4_000_000_000,
        client_id: int | None = None,
        sender: str | None = None,
        **extra: Any,
    ) -> dict[str, Any]:
        """A signed place_order value."""
        fields = {
            "priceX18": x18(price),
            "amount": x18(size) if side == "buy" else -x18(size),
            "expiration": expiration_s,
            "nonce": self.nonce() if nonce is None else nonce,
            "appendix": appendix,
        }
        sender = sender or self.sender
        message = {"sender": bytes.fromhex(sender[2:]), **fields}
        request = {
            "product_id": product_id,
            "order": {"sender": sender, **{name: str(value) for name, value in fields.items()}},
            "signature": self.sign(NadoTxType.PLACE_ORDER, message, f"0x{product_id:040x}"),
            **extra,
        }
        return request if client_id is None else {**request, "id": client_id}

    def cancel(self, *digests: str, product_id: int = ETH, **extra: Any) -> dict[str, Any]:
        """A signed cancel_orders value."""
        tx, signature = self.cancel_tx(*digests, product_id=product_id)
        return {"tx": tx, "signature": signature, **extra}

    def cancel_tx(self, *digests: str, product_id: int = ETH) -> tuple[dict[str, Any], str]:
        nonce = self.nonce()
        product_ids = [product_id] * len(digests)
        message = {
            "sender": bytes.fromhex(self.sender[2:]),
            "productIds": product_ids,
            "digests": [bytes.fromhex(digest[2:]) for digest in digests],
            "nonce": nonce,
        }
        signature = self.sign(NadoTxType.CANCEL_ORDERS, message, self._endpoint)
        tx = {"sender": self.sender, "productIds": product_ids, "digests": list(digests), "nonce": str(nonce)}
        return tx, signature

    def replace(self, digest: str, place: dict[str, Any], **extra: Any) -> dict[str, Any]:
        """A signed cancel_and_place value. place: a place_order value."""
        tx, signature = self.cancel_tx(digest)
        return {"cancel_tx": tx, "cancel_signature": signature, "place_order": place, **extra}

    def cancel_products(self, *product_ids: int) -> dict[str, Any]:
        nonce = self.nonce()
        message = {
            "sender": bytes.fromhex(self.sender[2:]),
            "productIds": list(product_ids),
            "nonce": nonce,
        }
        signature = self.sign(NadoTxType.CANCEL_PRODUCT_ORDERS, message, self._endpoint)
        tx = {"sender": self.sender, "productIds": list(product_ids), "nonce": str(nonce)}
        return {"tx": tx, "signature": signature}

    def link(self, address: str, nonce: int | None = None) -> dict[str, Any]:
        return self._tx(NadoTxType.LINK_SIGNER, {"signer": address + "0" * 24}, nonce)

    def withdraw(self, product_id: int, amount: int, **extra: Any) -> dict[str, Any]:
        """amount in the token's decimals."""
        fields = {"productId": product_id, "amount": amount}
        return {**self._tx(NadoTxType.WITHDRAW_COLLATERAL, fields), **extra}

    def withdraw_v2(self, product_id: int, amount: int) -> dict[str, Any]:
        fields = {"productId": product_id, "amount": amount, "sendTo": "0x" + "0" * 40, "appendix": 0}
        return self._tx(NadoTxType.WITHDRAW_COLLATERAL_V2, fields)

    def transfer(self, recipient: str, amount_x18: int, sender: str | None = None) -> dict[str, Any]:
        fields = {"recipient": recipient, "amount": amount_x18}
        return self._tx(NadoTxType.TRANSFER_QUOTE, fields, sender=sender)

    def liquidate(
        self, liquidatee: str, product_id: int, amount_x18: int, *, spread: bool = False
    ) -> dict[str, Any]:
        fields = {
            "liquidatee": liquidatee,
            "productId": product_id,
            "isEncodedSpread": spread,
            "amount": amount_x18,
        }
        return self._tx(NadoTxType.LIQUIDATE_SUBACCOUNT, fields)

    def wallet_tx(self, name: str, fields: dict[str, Any], sender: str) -> dict[str, Any]:
        """Any execute of the wallet, for any subaccount."""
        return self._tx(NadoTxType(name), fields, sender=sender)

    def _tx(
        self, kind: NadoTxType, fields: dict[str, Any], nonce: int | None = None, sender: str | None = None
    ) -> dict[str, Any]:
        """A signed execute of the wallet; its nonce is the next sequential one."""
        nonce = self._sim.exchange.accounts.tx_nonces.get(self.address, 0) if nonce is None else nonce
        tx = {"sender": sender or self.sender, **fields, "nonce": nonce}
        subaccounts = ("sender", "signer", "recipient", "liquidatee")
        message = {k: bytes.fromhex(v[2:]) if k in subaccounts else v for k, v in tx.items()}
        wire = {k: str(v) if k in ("nonce", "amount") else v for k, v in tx.items()}
        return {"tx": wire, "signature": self.sign(kind, message, self._endpoint)}

    def stream_auth(self, expiration_ms: int, sender: str | None = None) -> str:
        message = {"sender": bytes.fromhex((sender or self.sender)[2:]), "expiration": expiration_ms}
        return self.sign(NadoTxType.AUTHENTICATE_STREAM, message, self._endpoint)

    @property
    def _endpoint(self) -> str:
        return self._sim.exchange.config.endpoint_address
