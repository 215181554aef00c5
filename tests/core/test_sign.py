"""The compiled signer against coincurve itself, and its message against a JSON encoder."""

from __future__ import annotations

import copy
import gc
import json
import pickle
import sys
from typing import Any

import pytest
from coincurve import PrivateKey
from hypothesis import given
from hypothesis import strategies as st
from oracles.keccak import keccak256

from nadofast import Signer, wire
from nadofast._sign import OrderKey, OrderTemplate, SignedOrder

KEY = "0x" + "1c" * 32
SIGNER = Signer(KEY, chain_id=57073, endpoint_address="0x" + "0d" * 20)
U64, INT128, U128 = (1 << 64) - 1, (1 << 127) - 1, (1 << 128) - 1
EDGES = [0, 1, 9, 10, 99, 100, 10**18, 10**19 - 1, 10**19, 10**19 + 1, U64, U64 + 1, 10**38, INT128]
signed_numbers = st.one_of(
    st.sampled_from([*EDGES, *(-edge for edge in EDGES)]), st.integers(-INT128 - 1, INT128)
)
unsigned_numbers = st.one_of(st.sampled_from([e for e in EDGES if e <= U64]), st.integers(0, U64))
FIELDS: dict[str, Any] = {
    "product_id": 4, "price_x18": 3_000 * 10**18, "amount_x18": -(10**17), "expiration_s": 4_000_000_000,
    "nonce": 1 << 60, "appendix": 513,
}  # fmt: skip


def text_of(order: SignedOrder, request_id: int) -> dict[str, Any]:
    """What the message of an order says, from the executes section of the API."""
    numbers = {
        "priceX18": order.price_x18, "amount": order.amount_x18, "expiration": order.expiration_s,
        "nonce": order.nonce, "appendix": order.appendix,
    }  # fmt: skip
    return {
        "product_id": order.product_id,
        "order": {"sender": order.sender} | {name: str(value) for name, value in numbers.items()},
        "signature": order.signature,
        "id": request_id,
    }


@given(st.binary(min_size=32, max_size=32), st.integers(1, 1 << 250))
def test_a_signature_is_the_librarys_own(digest: bytes, secret: int) -> None:
    curve = PrivateKey(secret.to_bytes(32, "big"))
    signer = Signer(f"0x{secret:064x}", chain_id=1, endpoint_address="0x" + "00" * 20)
    expected = curve.sign_recoverable(digest, hasher=None)
    assert signer._key.sign(digest) == f"0x{expected[:64].hex()}{27 + expected[64]:02x}"


@given(
    st.integers(0, (1 << 32) - 1), signed_numbers, signed_numbers, unsigned_numbers, unsigned_numbers,
    st.integers(0, U128), unsigned_numbers,
)  # fmt: skip
def test_the_message_is_what_a_json_encoder_writes(
    product_id: int, price: int, amount: int, expiration: int, nonce: int, appendix: int, request_id: int
) -> None:
    order = SIGNER.sign_order(
        product_id=product_id, price_x18=price, amount_x18=amount, expiration_s=expiration, nonce=nonce,
        appendix=appendix,
    )  # fmt: skip
    expected = json.dumps({"place_order": text_of(order, request_id)}, separators=(",", ":"))
    assert wire.place_order(order, request_id) == expected.encode()


def test_an_order_inside_a_replacement_says_the_same() -> None:
    order = SIGNER.sign_order(**FIELDS)
    cancel = SIGNER.sign_cancel([4], [order.digest], 7)
    message = json.loads(wire.cancel_and_place(cancel, order, 9, None))
    assert message["cancel_and_place"]["place_order"] == text_of(order, 9)


def test_an_order_cannot_be_changed_and_hides_its_signature() -> None:
    order = SIGNER.sign_order(**FIELDS, client_id=7)
    for name in ("price_x18", "signature", "digest", "client_id"):
        with pytest.raises(AttributeError):
            setattr(order, name, 1)
    assert order.signature[2:] not in repr(order)
    assert order.digest in repr(order)
    with pytest.raises(TypeError):
        copy.copy(order)


def test_no_signature_is_shown_or_stored() -> None:
    for signed in (
        SIGNER.sign_order(**FIELDS),
        SIGNER.sign_cancel([4], ["0x" + "ab" * 32], 7),
        SIGNER.sign_cancel_products([4, 8], 7),
        SIGNER.sign_stream_auth(1_790_000_000_000),
        SIGNER.sign_link_signer("0x" + "cd" * 32, 1),
    ):
        assert len(signed.signature) == 132
        assert signed.signature[2:] not in repr(signed)
        with pytest.raises(TypeError, match="cannot be pickled"):
            pickle.dumps(signed)


def test_equality_is_that_of_digest_signature_and_tag() -> None:
    first, again = SIGNER.sign_order(**FIELDS), SIGNER.sign_order(**FIELDS)
    assert first == again
    assert hash(first) == hash(again)
    tagged = first.with_client_id(5)
    assert tagged != first
    assert (tagged.client_id, tagged.digest, tagged.signature) == (5, first.digest, first.signature)
    assert wire.place_order(tagged, 1) == wire.place_order(first, 1)
    assert first != SIGNER.sign_order(**{**FIELDS, "nonce": 2})
    assert first != "an order"


GOOD: dict[str, Any] = {
    **FIELDS,
    "digest": "0x" + "ab" * 32,
    "signature": "0x" + "cd" * 65,
    "sender": "0x" + "ef" * 32,
}


@pytest.mark.parametrize(
    ("field", "value", "error"),
    [
        ("digest", 'a"b', ValueError),
        ("signature", "0x" + "c" * 132, ValueError),
        ("sender", "", ValueError),
        ("sender", "é", ValueError),
        ("price_x18", 1 << 127, OverflowError),
        ("nonce", 1 << 64, OverflowError),
        ("expiration_s", -1, OverflowError),
        ("appendix", 1 << 128, OverflowError),
        ("product_id", -1, OverflowError),
        ("amount_x18", 1.5, TypeError),
        ("product_id", None, TypeError),
    ],
)
def test_what_would_break_the_message_is_refused(field: str, value: Any, error: type[Exception]) -> None:
    assert (
        json.loads(wire.place_order(SignedOrder(**GOOD), 1))["place_order"]["signature"] == GOOD["signature"]
    )
    with pytest.raises(error):
        SignedOrder(**{**GOOD, field: value})


def test_a_request_id_is_a_u64() -> None:
    order = SIGNER.sign_order(**FIELDS)
    for wrong in (-1, 1 << 64):
        with pytest.raises(OverflowError):
            wire.place_order(order, wrong)


def test_a_template_has_ten_parts_that_fit() -> None:
    for parts in ((b"x",) * 9, (b"x",) * 11, (b"x" * 60,) * 10):
        with pytest.raises(ValueError, match="10 parts"):
            OrderTemplate(*parts)
    with pytest.raises(TypeError):
        OrderTemplate(*[*([b"x"] * 9), "text"])  # type: ignore[list-item]


def test_a_key_shows_nothing_and_takes_no_nonsense() -> None:
    key = SIGNER._key
    assert repr(key) == "OrderKey(***)"
    assert "1c1c" not in repr(vars(SIGNER))
    with pytest.raises(TypeError):
        pickle.dumps(key)
    with pytest.raises(ValueError, match="secret"):
        OrderKey(b"short", 1, 1, 1, None)
    with pytest.raises(ValueError, match="zero"):
        OrderKey(bytes(32), 1, 0, 1, None)
    with pytest.raises(ValueError, match="digest"):
        key.sign(b"short")


def test_signing_leaves_no_memory_behind() -> None:
    def work() -> None:
        order = SIGNER.sign_order(**FIELDS)
        wire.place_order(order.with_client_id(3), 5)
        SIGNER._key.sign(keccak256(order.digest.encode()))

    for _ in range(50):
        work()
    gc.collect()
    before = sys.getallocatedblocks()
    for _ in range(500):
        work()
    gc.collect()
    assert sys.getallocatedblocks() - before < 50
