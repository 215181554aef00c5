"""Keccak-256 against another implementation; order digests against the signing vectors."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracles.keccak import keccak256 as oracle
from samples import DATA

from nadofast._hash import eip712_digest, keccak256, order_digest

VECTORS = json.loads((DATA / "vectors.json").read_text())
ORDERS = [*VECTORS["orders"], VECTORS["linked_signer_order"]]
FIELDS = ("priceX18", "amount", "expiration", "nonce", "appendix")


def raw(text: str) -> bytes:
    return bytes.fromhex(text.removeprefix("0x"))


def test_known_values() -> None:
    assert keccak256(b"").hex() == "c5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470"
    assert keccak256(b"abc").hex() == "4e03657aea45a94fc7d47ba826c8d667c0d1e6e33a64a036ec44f58fa12d6c45"


@pytest.mark.parametrize("size", [*range(5), *range(130, 142), *range(268, 276), 1000, 10_000])
def test_every_padding(size: int) -> None:
    data = bytes(i * 7 & 255 for i in range(size))
    assert keccak256(data) == oracle(data)


@given(st.binary(max_size=700))
def test_equals_the_oracle(data: bytes) -> None:
    assert keccak256(data) == oracle(data)


@pytest.mark.parametrize("vector", ORDERS, ids=[vector["note"] for vector in ORDERS])
def test_order_digests(vector: dict[str, Any]) -> None:
    message = vector["message"]
    domain, sender = raw(vector["domain_separator"]), raw(message["sender"])
    digest = order_digest(domain, sender, *(int(message[key]) for key in FIELDS))
    assert digest == raw(vector["digest"])
    assert eip712_digest(domain, raw(vector["struct_hash"])) == digest


@given(
    st.binary(min_size=32, max_size=32),
    st.binary(min_size=32, max_size=32),
    st.integers(-(1 << 127), (1 << 127) - 1),
    st.integers(-(1 << 127), (1 << 127) - 1),
    st.integers(0, (1 << 64) - 1),
    st.integers(0, (1 << 64) - 1),
    st.integers(0, (1 << 128) - 1),
)
def test_order_digest_equals_the_oracle(
    domain: bytes, sender: bytes, price: int, amount: int, expiration: int, nonce: int, appendix: int
) -> None:
    kind = oracle(VECTORS["type_strings"]["Order"].encode())
    signed = [number.to_bytes(32, "big", signed=True) for number in (price, amount)]
    unsigned = [number.to_bytes(32, "big") for number in (expiration, nonce, appendix)]
    struct = oracle(b"".join([kind, sender, *signed, *unsigned]))
    expected = oracle(b"\x19\x01" + domain + struct)
    assert order_digest(domain, sender, price, amount, expiration, nonce, appendix) == expected


GOOD: tuple[Any, ...] = (bytes(32), bytes(32), 1, 1, 1, 1, 1)


@pytest.mark.parametrize(
    ("index", "value", "error"),
    [
        (0, bytes(31), ValueError),
        (1, bytes(33), ValueError),
        (0, None, ValueError),
        (2, 1 << 127, OverflowError),
        (3, -(1 << 127) - 1, OverflowError),
        (4, -1, OverflowError),
        (4, 1 << 64, OverflowError),
        (5, 1 << 64, OverflowError),
        (6, 1 << 128, OverflowError),
        (6, -1, OverflowError),
        (2, 1.0, TypeError),
        (4, "1", TypeError),
    ],
)
def test_what_does_not_fit_is_refused(index: int, value: Any, error: type[Exception]) -> None:
    arguments = list(GOOD)
    arguments[index] = value
    with pytest.raises(error):
        order_digest(*arguments)


def test_only_bytes_are_hashed() -> None:
    for wrong in (None, "abc", bytearray(b"abc")):
        with pytest.raises(TypeError):
            keccak256(wrong)  # type: ignore[arg-type]
