"""Every signing vector, byte for byte: digests, signatures, appendix, nonces, subaccounts, wire messages."""

from __future__ import annotations

import json
from typing import Any

import pytest

from nadofast import OrderType, Signer, make_nonce, pack_appendix, subaccount_hex, unpack_appendix, wire
from nadofast.appendix import Trigger
from nadofast.signing import NadoWebSocketAuth, domain_separator, nonce_recv_time_ms


def signer_for(vector: dict[str, Any], vectors: dict[str, Any], owner: str | None = None) -> Signer:
    endpoints = {chain["chain_id"]: chain["endpoint_address"] for chain in vectors["chains"]}
    return Signer(
        vector["private_key"],
        chain_id=vector["chain_id"],
        endpoint_address=endpoints[vector["chain_id"]],
        owner_address=owner,
    )


def sign_order(signer: Signer, vector: dict[str, Any]) -> Any:
    message = vector["message"]
    return signer.sign_order(
        product_id=vector["product_id"],
        price_x18=int(message["priceX18"]),
        amount_x18=int(message["amount"]),
        expiration_s=int(message["expiration"]),
        nonce=int(message["nonce"]),
        appendix=int(message["appendix"]),
        subaccount=message["sender"],
    )


def test_orders(vectors: dict[str, Any]) -> None:
    assert len(vectors["orders"]) >= 40
    for vector in vectors["orders"]:
        signed = sign_order(signer_for(vector, vectors), vector)
        assert (signed.digest, signed.signature) == (vector["digest"], vector["signature"]), vector["note"]
        assert signed.sender == vector["message"]["sender"]


def test_order_inputs(vectors: dict[str, Any]) -> None:
    """From what a trader would say to the same bytes: appendix, nonce and price conversion included."""
    from nadofast import to_x18

    for vector in vectors["orders"]:
        inputs, message = vector["inputs"], vector["message"]
        if inputs.get("isolated_margin_x6") is None:
            inputs = {**inputs, "isolated_margin_x6": 0}
        appendix = pack_appendix(
            OrderType[inputs["order_type"]],
            reduce_only=inputs["reduce_only"],
            isolated=inputs["isolated"],
            isolated_margin_x6=inputs["isolated_margin_x6"],
            builder_id=inputs.get("builder_id") or 0,
            builder_fee_raw=inputs.get("builder_fee_rate_raw") or 0,
        )
        sign = 1 if inputs["side"] == "buy" else -1
        assert str(appendix) == message["appendix"]
        assert str(to_x18(inputs["price"])) == message["priceX18"]
        assert str(sign * to_x18(inputs["size"])) == message["amount"]
        assert str(make_nonce(inputs["recv_time_ms"], inputs["nonce_random"])) == message["nonce"]


def test_linked_signer_order(vectors: dict[str, Any]) -> None:
    vector = vectors["linked_signer_order"]
    signer = signer_for(vector, vectors, owner=vector["message"]["sender"][:42])
    signed = sign_order(signer, vector)
    assert (signed.digest, signed.signature) == (vector["digest"], vector["signature"])
    assert signer.address == vector["signer_address"].lower()


SIGNERS = {
    "Cancellation": lambda signer, m: signer.sign_cancel(
        m["productIds"], m["digests"], int(m["nonce"]), m["sender"]
    ),
    "CancellationProducts": lambda signer, m: signer.sign_cancel_products(
        m["productIds"], int(m["nonce"]), m["sender"]
    ),
    "StreamAuthentication": lambda signer, m: signer.sign_stream_auth(int(m["expiration"]), m["sender"]),
    "LinkSigner": lambda signer, m: signer.sign_link_signer(m["signer"], int(m["nonce"]), m["sender"]),
}
# What a trading client never signs: transfers, withdrawals, the trigger service's list.
NOT_SIGNED = {"ListTriggerOrders", "TransferQuote", "WithdrawCollateral"}


def test_other_executes(vectors: dict[str, Any]) -> None:
    checked = 0
    for vector in vectors["executes"]:
        kind = vector["primary_type"]
        if kind in NOT_SIGNED:
            continue
        signed = SIGNERS[kind](signer_for(vector, vectors), vector["message"])
        assert (signed.digest, signed.signature) == (vector["digest"], vector["signature"]), vector["note"]
        checked += 1
    assert checked == sum(vector["primary_type"] not in NOT_SIGNED for vector in vectors["executes"]) >= 28


def test_domain_separators(vectors: dict[str, Any]) -> None:
    for vector in [*vectors["orders"], *vectors["executes"]]:
        separator = domain_separator(vector["chain_id"], vector["verifying_contract"])
        assert "0x" + separator.hex() == vector["domain_separator"]


def test_addresses_and_subaccounts(vectors: dict[str, Any]) -> None:
    for key in vectors["keys"]:
        signer = Signer(key["private_key"], chain_id=1, endpoint_address="0x" + "00" * 20)
        assert signer.address == key["address"].lower()
    for row in vectors["subaccounts"]:
        assert subaccount_hex(row["address"], row["name"]) == row["subaccount"]
        assert (
            subaccount_hex(row["address"], row["subaccount"].upper().replace("0X", "0x")) == row["subaccount"]
        )


def test_nonces(vectors: dict[str, Any]) -> None:
    for row in vectors["nonces"]:
        nonce = make_nonce(row["recv_time_ms"], row["random"])
        assert str(nonce) == row["nonce"]
        assert nonce_recv_time_ms(nonce) == row["recv_time_ms"]


def test_nonce_low_bits_wrap() -> None:
    assert make_nonce(1_790_000_000_000, (1 << 20) + 5) == make_nonce(1_790_000_000_000, 5)
    with pytest.raises(ValueError, match="recv_time_ms"):
        make_nonce(1 << 44, 0)


def test_appendix(vectors: dict[str, Any]) -> None:
    for row in vectors["appendix"]:
        inputs = row["inputs"]
        packed = pack_appendix(
            OrderType(inputs["order_type_code"]),
            reduce_only=inputs["reduce_only"],
            isolated=inputs["isolated"],
            isolated_margin_x6=inputs["isolated_margin_x6"] or 0,
            trigger=Trigger(inputs["trigger_type"]),
            twap_times=inputs["twap_times"] or 0,
            twap_slippage_x6=round((inputs["twap_slippage"] or 0) * 1_000_000),
            builder_id=inputs["builder_id"] or 0,
            builder_fee_raw=inputs["builder_fee_rate_raw"] or 0,
            version=inputs["version"],
        )
        assert (str(packed), hex(packed)) == (row["appendix"], row["appendix_hex"]), row["note"]
        back = unpack_appendix(packed)
        assert back.order_type == inputs["order_type_code"]
        assert back.isolated_margin_x6 == (inputs["isolated_margin_x6"] or 0)
        assert (back.builder_id, back.builder_fee_raw) == (
            inputs["builder_id"] or 0,
            inputs["builder_fee_rate_raw"] or 0,
        )


@pytest.mark.parametrize(
    "fields",
    [
        {"builder_fee_raw": 1024, "builder_id": 1},
        {"builder_id": 1 << 16},
        {"builder_fee_raw": 5},
        {"isolated_margin_x6": 1},
        {"isolated": True, "isolated_margin_x6": 1 << 64},
        {"twap_times": 3},
        {"trigger": Trigger.TWAP, "isolated": True},
        {"trigger": Trigger.TWAP},
        {"version": 256},
    ],
)
def test_appendix_refuses(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        pack_appendix(OrderType.DEFAULT, **fields)


def test_wire_messages(vectors: dict[str, Any]) -> None:
    examples = vectors["wire_examples"]
    key = vectors["keys"][0]["private_key"]
    signer = Signer(key, chain_id=57073, endpoint_address=vectors["chains"][0]["endpoint_address"])
    placed = examples["place_order"]["place_order"]
    order = sign_order(signer, {"product_id": placed["product_id"], "message": placed["order"]})
    expected = {key: value for key, value in placed.items() if key != "digest"}
    assert json.loads(wire.place_order(order, 100)) == {"place_order": expected}
    assert order.digest == placed["digest"]

    cancelled = examples["cancel_orders"]["cancel_orders"]
    transaction = cancelled["tx"]
    cancel = signer.sign_cancel(transaction["productIds"], transaction["digests"], int(transaction["nonce"]))
    assert json.loads(wire.cancel_orders(cancel, 7)) == {"cancel_orders": {**cancelled, "id": 7}}

    products = examples["cancel_product_orders"]["cancel_product_orders"]
    everything = signer.sign_cancel_products(products["tx"]["productIds"], int(products["tx"]["nonce"]))
    assert json.loads(wire.cancel_product_orders(everything, 8)) == {
        "cancel_product_orders": {**products, "id": 8}
    }

    auth = NadoWebSocketAuth(signer, valid_ms=90_000)
    assert json.loads(auth.message(0, 1_790_000_000_000)) == examples["authenticate"]


def test_cancel_needs_one_product_per_digest(vectors: dict[str, Any]) -> None:
    signer = Signer(vectors["keys"][0]["private_key"], chain_id=1, endpoint_address="0x" + "00" * 20)
    with pytest.raises(ValueError, match="length"):
        signer.sign_cancel([4, 8], ["0x" + "00" * 32], 1)


def test_numbers_that_do_not_fit_are_refused(vectors: dict[str, Any]) -> None:
    signer = Signer(vectors["keys"][0]["private_key"], chain_id=1, endpoint_address="0x" + "00" * 20)
    fields = {"product_id": 4, "amount_x18": 1, "expiration_s": 1, "nonce": 1, "appendix": 1}
    with pytest.raises(OverflowError):
        signer.sign_order(price_x18=1 << 127, **fields)
