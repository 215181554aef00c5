"""A secret leaves its type by `reveal()` and in no other way."""

from __future__ import annotations

import copy
import json
import logging
import pickle
import traceback

import orjson
import pytest

from nadofast import Secret, Signer, errors, parse_private_key
from nadofast.secret import SECP256K1_ORDER

KEY = "4c0883a69102937d6231471b5dbb6204fe5129617082792ae468d01a3f362318"


def test_every_way_to_print_it_shows_a_mask(caplog: pytest.LogCaptureFixture) -> None:
    secret = parse_private_key("0x" + KEY)
    with caplog.at_level(logging.DEBUG):
        logging.getLogger("test").info("%s %r %s", secret, secret, [secret])
    shown = [repr(secret), str(secret), f"{secret}", f"{secret:>40}", f"{[secret]}", caplog.text]
    assert all(KEY not in text and "***" in text for text in shown)


def test_it_cannot_be_stored() -> None:
    secret = Secret(KEY)
    with pytest.raises(TypeError):
        pickle.dumps(secret)
    with pytest.raises(TypeError):
        json.dumps(secret)
    with pytest.raises(TypeError):
        orjson.dumps(secret)
    assert copy.deepcopy(secret) is secret
    assert copy.copy(secret) is secret


def test_it_cannot_be_changed() -> None:
    secret = Secret("a")
    with pytest.raises(AttributeError):
        secret._value = "b"
    with pytest.raises(AttributeError):
        del secret._value
    assert secret == Secret("a")
    assert secret != Secret("b")
    assert secret != "a"
    with pytest.raises(TypeError):
        hash(secret)


def test_accepted_forms() -> None:
    for text in (KEY, "0x" + KEY, "0X" + KEY.upper(), f"  0x{KEY}\n"):
        assert parse_private_key(text).reveal() == "0x" + KEY
    assert parse_private_key(Secret(KEY)).reveal() == "0x" + KEY


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty"),
        ("0x", "empty"),
        ("0x" + "ab" * 20, "address"),
        ("0x" + "00" * 32, "zero"),
        (f"0x{SECP256K1_ORDER:064x}", "order of the curve"),
        ("0x" + "ab" * 31, "62 hex digits"),
        ("0x" + "ab" * 33, "66 hex digits"),
        ("0x" + "zz" * 32, "not hex"),
        ("0x" + "ab" * 31 + "a\u0661", "not hex"),
        ("correct horse battery staple", "not hex"),
    ],
)
def test_refused_with_a_reason_and_without_the_input(text: str, reason: str) -> None:
    with pytest.raises(errors.InvalidKey, match=reason) as caught:
        parse_private_key(text)
    shown = "".join(traceback.format_exception(caught.value)) + repr(caught.value)
    digits = text.removeprefix("0x")
    assert not digits or digits not in shown
    for frame, _ in traceback.walk_tb(caught.value.__traceback__):
        if "nadofast" in frame.f_code.co_filename:
            assert not any(
                isinstance(value, str) and digits and digits in value for value in frame.f_locals.values()
            )


def test_a_signer_shows_no_key_and_no_signature() -> None:
    signer = Signer("0x" + KEY, chain_id=77001, endpoint_address="0x" + "0d" * 20)
    signed = signer.sign_order(
        product_id=4, price_x18=10**18, amount_x18=10**18, expiration_s=1, nonce=1, appendix=1
    )
    cancel = signer.sign_cancel([4], [signed.digest], 1)
    auth = signer.sign_stream_auth(1)
    for value in (signer, signed, cancel, auth):
        assert KEY not in repr(value)
    for value in (signed, cancel, auth):
        assert value.signature[2:] not in repr(value)
    with pytest.raises(TypeError):
        pickle.dumps(signer)


def test_signer_refuses_malformed_addresses() -> None:
    with pytest.raises(errors.ConfigError, match="endpoint_address"):
        Signer("0x" + KEY, chain_id=1, endpoint_address="0x12")
    with pytest.raises(errors.ConfigError, match="owner_address"):
        Signer("0x" + KEY, chain_id=1, endpoint_address="0x" + "0d" * 20, owner_address="nobody")
    signer = Signer("0x" + KEY, chain_id=1, endpoint_address="0x" + "0d" * 20)
    with pytest.raises(errors.ConfigError, match="12"):
        signer.subaccount("a-name-that-is-too-long")
    with pytest.raises(errors.ConfigError, match="does not belong"):
        signer.subaccount("0x" + "11" * 32)
