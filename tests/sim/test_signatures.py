"""Digests and signers of the published vectors, and what is refused."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import pytest
from simcore import DATA

import nadosim
from nadosim.errors import ExchangeError
from nadosim.requests import CancelProductsRequest, CancelRequest, OrderFields
from nadosim.signatures import Verifier, check_signer, recover_signer
from nadosim.wallet_requests import LinkSignerRequest

VECTORS: dict[str, Any] = json.loads((DATA / "vectors.json").read_text())
ORDERS = [*VECTORS["orders"], VECTORS["linked_signer_order"]]
HANDLED = {"Cancellation", "CancellationProducts", "StreamAuthentication", "LinkSigner"}
EXECUTES = [v for v in VECTORS["executes"] if v["primary_type"] in HANDLED]


def _order(message: dict[str, str]) -> OrderFields:
    return OrderFields(
        sender=message["sender"],
        price_x18=int(message["priceX18"]),
        amount_x18=int(message["amount"]),
        expiration_s=int(message["expiration"]),
        nonce=int(message["nonce"]),
        appendix=int(message["appendix"]),
    )


def _digest(verifier: Verifier, kind: str, message: dict[str, Any]) -> str:
    sender = message["sender"]
    if kind == "StreamAuthentication":
        return verifier.stream_auth_digest(sender, int(message["expiration"]))
    nonce = int(message["nonce"])
    if kind == "LinkSigner":
        return verifier.link_signer_digest(LinkSignerRequest(sender, message["signer"], nonce, ""))
    product_ids = tuple(int(product_id) for product_id in message["productIds"])
    if kind == "CancellationProducts":
        return verifier.cancel_products_digest(CancelProductsRequest(sender, product_ids, nonce, ""))
    digests = tuple(message["digests"])
    return verifier.cancel_digest(CancelRequest(sender, product_ids, digests, nonce, "", None))


@pytest.mark.parametrize("vector", ORDERS, ids=lambda v: f"{v['chain_id']}-{v['note']}")
def test_order_vectors(vector: dict[str, Any]) -> None:
    verifier = Verifier(vector["chain_id"], "0x" + "00" * 20)
    digest = verifier.order_digest(vector["product_id"], _order(vector["message"]))
    assert digest == vector["digest"]
    assert recover_signer(digest, vector["signature"]) == vector["signer_address"].lower()


@pytest.mark.parametrize("vector", EXECUTES, ids=lambda v: f"{v['chain_id']}-{v['note']}")
def test_execute_vectors(vector: dict[str, Any]) -> None:
    verifier = Verifier(vector["chain_id"], vector["verifying_contract"])
    digest = _digest(verifier, vector["primary_type"], vector["message"])
    assert digest == vector["digest"]
    assert recover_signer(digest, vector["signature"]) == vector["signer_address"].lower()


def test_every_kind_of_execute_is_among_the_vectors() -> None:
    assert {vector["primary_type"] for vector in EXECUTES} == HANDLED


def test_a_linked_signer_signs_for_the_owner_and_nobody_else_does() -> None:
    vector = VECTORS["linked_signer_order"]
    owner, linked = vector["message"]["sender"][:42], vector["signer_address"].lower()
    assert check_signer(vector["digest"], vector["signature"], owner, linked) == linked
    with pytest.raises(ExchangeError, match="2028"):
        check_signer(vector["digest"], vector["signature"], owner)


@pytest.mark.parametrize(
    ("signature", "code"),
    [
        ("0x", 2027),
        ("0x" + "11" * 64, 2027),
        ("0x" + "11" * 66, 2027),
        ("0x" + "11" * 64 + "00", 2034),
        ("0x" + "11" * 64 + "1d", 2034),
        ("0x" + "zz" * 65, 2035),
        ("0x" + "ff" * 64 + "1b", 2035),
        ("0x" + "00" * 64 + "1b", 2035),
    ],
)
def test_broken_signatures(signature: str, code: int) -> None:
    with pytest.raises(ExchangeError) as refusal:
        recover_signer(VECTORS["orders"][0]["digest"], signature)
    assert refusal.value.code == code


def test_a_signature_has_no_blanks() -> None:
    vector = VECTORS["orders"][0]
    digest, signature = vector["digest"], vector["signature"]
    recover_signer(digest, signature)
    for blank in (" ", "\n"):
        with pytest.raises(ExchangeError, match="2035"):
            recover_signer(digest, signature[:40] + blank + signature[40:])


def test_a_changed_field_changes_the_signer() -> None:
    vector = VECTORS["orders"][0]
    order = _order({**vector["message"], "amount": str(int(vector["message"]["amount"]) + 1)})
    digest = Verifier(vector["chain_id"], "0x" + "00" * 20).order_digest(vector["product_id"], order)
    with pytest.raises(ExchangeError, match="2028"):
        check_signer(digest, vector["signature"], vector["message"]["sender"][:42])


def test_the_exchange_shares_no_code_with_the_client() -> None:
    for source in Path(nadosim.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(source.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not any(name.split(".")[0] in ("nadofast", "bot") for name in names), source.name
