"""Random inputs: our digests, signatures and appendices are the official SDK's, byte for byte."""

from __future__ import annotations

from typing import Any

from eth_account import Account
from hypothesis import given, settings
from hypothesis import strategies as st
from nado_protocol.contracts.eip712.sign import build_eip712_typed_data, sign_eip712_typed_data
from nado_protocol.contracts.types import NadoTxType
from nado_protocol.utils.expiration import OrderType as SdkOrderType
from nado_protocol.utils.order import OrderAppendixTriggerType, build_appendix, gen_order_verifying_contract

from nadofast import OrderType, Signer, pack_appendix, unpack_appendix
from nadofast.appendix import Appendix, Trigger
from nadofast.secret import SECP256K1_ORDER

ENDPOINT = "0x" + "0d" * 20
keys = st.integers(1, SECP256K1_ORDER - 1).map(lambda number: f"0x{number:064x}")
chains = st.sampled_from([57073, 763373, 31337])
names = st.text("abcdefghijklmnopqrstuvwxyz0123456789_", min_size=0, max_size=12)
owners = st.none() | st.binary(min_size=20, max_size=20).map(lambda raw: "0x" + raw.hex())
u64 = st.integers(0, (1 << 64) - 1)
u128 = st.integers(0, (1 << 128) - 1)
int128 = st.integers(-(1 << 127), (1 << 127) - 1)
product_ids = st.integers(0, (1 << 32) - 1)
digests = st.binary(min_size=32, max_size=32)
examples = settings(max_examples=150, deadline=None)


def sdk_signature(kind: NadoTxType, message: dict[str, Any], contract: str, chain_id: int, key: str) -> str:
    typed = build_eip712_typed_data(kind, message, contract, chain_id)
    return "0x" + str(sign_eip712_typed_data(typed, Account.from_key(key))).removeprefix("0x")


def signer_of(key: str, chain_id: int, owner: str | None) -> Signer:
    signer = Signer(key, chain_id=chain_id, endpoint_address=ENDPOINT, owner_address=owner)
    assert signer.address == Account.from_key(key).address.lower()
    return signer


@given(keys, chains, owners, names, product_ids, int128, int128, u64, u64, u128)
@examples
def test_orders(
    key: str, chain_id: int, owner: str | None, name: str, product_id: int, price: int, amount: int,
    expiration: int, nonce: int, appendix: int,
) -> None:  # fmt: skip
    signer = signer_of(key, chain_id, owner)
    signed = signer.sign_order(
        product_id=product_id, price_x18=price, amount_x18=amount, expiration_s=expiration, nonce=nonce,
        appendix=appendix, subaccount=name,
    )  # fmt: skip
    message = {
        "sender": bytes.fromhex(signed.sender[2:]), "priceX18": price, "amount": amount,
        "expiration": expiration, "nonce": nonce, "appendix": appendix,
    }  # fmt: skip
    contract = gen_order_verifying_contract(product_id)
    assert signed.sender[:42] == (owner or signer.address)
    assert signed.signature == sdk_signature(NadoTxType.PLACE_ORDER, message, contract, chain_id, key)


@given(keys, chains, owners, st.lists(st.tuples(product_ids, digests), max_size=5), u64)
@examples
def test_cancels(
    key: str, chain_id: int, owner: str | None, orders: list[tuple[int, bytes]], nonce: int
) -> None:
    signer = signer_of(key, chain_id, owner)
    products, ids = [product_id for product_id, _ in orders], [digest for _, digest in orders]
    sender = bytes.fromhex(signer.subaccount()[2:])
    single = {"sender": sender, "productIds": products, "digests": ids, "nonce": nonce}
    whole = {"sender": sender, "productIds": products, "nonce": nonce}
    signed = signer.sign_cancel(products, ["0x" + digest.hex() for digest in ids], nonce)
    assert signed.signature == sdk_signature(NadoTxType.CANCEL_ORDERS, single, ENDPOINT, chain_id, key)
    everything = signer.sign_cancel_products(products, nonce)
    assert everything.signature == sdk_signature(
        NadoTxType.CANCEL_PRODUCT_ORDERS, whole, ENDPOINT, chain_id, key
    )


@given(keys, chains, owners, names, digests, u64)
@examples
def test_stream_authentication_and_linked_signer(
    key: str, chain_id: int, owner: str | None, name: str, other: bytes, number: int
) -> None:
    signer = signer_of(key, chain_id, owner)
    sender = bytes.fromhex(signer.subaccount(name)[2:])
    authentication = {"sender": sender, "expiration": number}
    link = {"sender": sender, "signer": other, "nonce": number}
    assert signer.sign_stream_auth(number, name).signature == sdk_signature(
        NadoTxType.AUTHENTICATE_STREAM, authentication, ENDPOINT, chain_id, key
    )
    assert signer.sign_link_signer("0x" + other.hex(), number, name).signature == sdk_signature(
        NadoTxType.LINK_SIGNER, link, ENDPOINT, chain_id, key
    )


@st.composite
def appendices(draw: st.DrawFn) -> Appendix:
    """Every documented field, in the mixes the exchange allows."""
    trigger = draw(st.sampled_from(Trigger))
    is_twap = trigger in (Trigger.TWAP, Trigger.TWAP_CUSTOM_AMOUNTS)
    isolated = not is_twap and draw(st.booleans())
    builder_id = draw(st.sampled_from([0, 1, 65535]) | st.integers(0, 65535))
    return Appendix(
        order_type=OrderType.IOC if is_twap else draw(st.sampled_from(OrderType)),
        reduce_only=draw(st.booleans()),
        isolated=isolated,
        isolated_margin_x6=draw(u64) if isolated else 0,
        trigger=trigger,
        twap_times=draw(st.integers(0, (1 << 32) - 1)) if is_twap else 0,
        twap_slippage_x6=draw(st.integers(0, 1_000_000)) if is_twap else 0,
        builder_id=builder_id,
        builder_fee_raw=draw(st.integers(0, 1023)) if builder_id else 0,
        version=draw(st.integers(0, 255)),
    )


@given(appendices())
def test_appendices(fields: Appendix) -> None:
    is_twap = fields.trigger in (Trigger.TWAP, Trigger.TWAP_CUSTOM_AMOUNTS)
    packed = pack_appendix(**{name: getattr(fields, name) for name in Appendix.__dataclass_fields__})
    assert packed == build_appendix(
        SdkOrderType(int(fields.order_type)),
        isolated=fields.isolated,
        reduce_only=fields.reduce_only,
        trigger_type=OrderAppendixTriggerType(int(fields.trigger)) if fields.trigger else None,
        isolated_margin=fields.isolated_margin_x6 if fields.isolated else None,
        twap_times=fields.twap_times if is_twap else None,
        # Half a unit more: the SDK truncates a binary fraction.
        twap_slippage_frac=(fields.twap_slippage_x6 + 0.5) / 1_000_000 if is_twap else None,
        builder_id=fields.builder_id or None,
        builder_fee_rate=fields.builder_fee_raw if fields.builder_id else None,
        _version=fields.version,
    )
    assert unpack_appendix(packed) == fields


@given(st.sampled_from(OrderType), st.booleans())
def test_no_builder_and_no_fee_unless_somebody_asks(order_type: OrderType, reduce_only: bool) -> None:
    packed = pack_appendix(order_type, reduce_only=reduce_only)
    assert (packed >> 38) & ((1 << 26) - 1) == 0
    assert packed >> 64 == 0
    assert packed == 1 | order_type << 9 | reduce_only << 11
