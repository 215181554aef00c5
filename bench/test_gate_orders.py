"""Gate: what it costs to sign and encode one order, against coincurve's own signing and the official SDK.

The SDK is measured on its pure-Python curve, which is what it runs on unless a native one is installed, and
with the native one. Ratios of medians from one interleaved run: whatever slows the machine slows all.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import pytest
from coincurve import PrivateKey
from eth_account import Account
from nado_protocol.contracts.eip712.sign import build_eip712_typed_data, sign_eip712_typed_data
from nado_protocol.contracts.types import NadoTxType

from nadofast import Signer, wire

KEY = "0x" + "01" * 32
FIELDS = {
    "priceX18": 3_000 * 10**18, "amount": -(10**17), "expiration": 4_000_000_000, "nonce": 1 << 60,
    "appendix": 513,
}  # fmt: skip
BACKEND = "ECC_BACKEND_CLASS"
PURE, NATIVE = "eth_keys.backends.NativeECCBackend", "eth_keys.backends.CoinCurveECCBackend"
ROUNDS, OURS, THEIRS = 25, 200, 2
MAX_OF_CURVE, MIN_OF_SDK = 1.15, 80


def per_call_us(work: Callable[[], object], calls: int) -> float:
    start = time.perf_counter_ns()
    for _ in range(calls):
        work()
    return (time.perf_counter_ns() - start) / calls / 1e3


def test_sign_and_encode(benchmark: Any, say: Callable[[str], None], monkeypatch: pytest.MonkeyPatch) -> None:
    signer = Signer(KEY, chain_id=57073, endpoint_address="0x" + "0d" * 20)
    curve, account = PrivateKey(bytes.fromhex(KEY[2:])), Account.from_key(KEY)
    sender = signer.subaccount()

    def sign() -> Any:
        return signer.sign_order(
            product_id=4, price_x18=FIELDS["priceX18"], amount_x18=FIELDS["amount"],
            expiration_s=FIELDS["expiration"], nonce=FIELDS["nonce"], appendix=FIELDS["appendix"],
        )  # fmt: skip

    def theirs() -> str:
        message = {"sender": bytes.fromhex(sender[2:]), **FIELDS}
        typed = build_eip712_typed_data(NadoTxType.PLACE_ORDER, message, f"0x{4:040x}", 57073)
        return str(sign_eip712_typed_data(typed, account))

    digest = bytes.fromhex(sign().digest[2:])
    for backend in (PURE, NATIVE):
        monkeypatch.setenv(BACKEND, backend)
        assert "0x" + theirs().removeprefix("0x") == sign().signature

    def run() -> list[list[float]]:
        samples: list[list[float]] = [[], [], [], []]
        for _ in range(ROUNDS):
            samples[0].append(per_call_us(lambda: wire.place_order(sign(), 7), OURS))
            samples[1].append(per_call_us(lambda: curve.sign_recoverable(digest, hasher=None), OURS))
            for index, backend in ((2, PURE), (3, NATIVE)):
                monkeypatch.setenv(BACKEND, backend)
                samples[index].append(per_call_us(theirs, THEIRS))
        return samples

    rows = benchmark.pedantic(run, rounds=1, iterations=1)
    own, bare, pure, native = (statistics.median(row) for row in rows)
    benchmark.extra_info.update(own_us=own, curve_us=bare, sdk_us=pure, sdk_native_us=native)
    say(
        f"sign + encode one order  {own:.1f} µs = {own / bare:.2f} x coincurve alone ({bare:.1f} µs);"
        f" SDK on its pure-Python curve {pure:,.0f} µs = {pure / own:.0f} x, on coincurve {native:,.0f} µs"
        f" = {native / own:.0f} x"
    )
    assert own <= MAX_OF_CURVE * bare
    assert pure >= MIN_OF_SDK * own
