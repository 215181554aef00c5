"""Gate: what it costs to sign and encode one order, against the curve alone and against the official SDK.

The environment chooses the SDK's curve: ECC_BACKEND_CLASS=eth_keys.backends.NativeECCBackend is pure Python.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from typing import Any

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
ROUNDS, OURS, THEIRS = 15, 200, 2


def per_call_us(work: Callable[[], object], calls: int) -> float:
    start = time.perf_counter_ns()
    for _ in range(calls):
        work()
    return (time.perf_counter_ns() - start) / calls / 1e3


def test_sign_and_encode(benchmark: Any, say: Callable[[str], None]) -> None:
    signer = Signer(KEY, chain_id=57073, endpoint_address="0x" + "0d" * 20)
    curve, digest = PrivateKey(bytes.fromhex(KEY[2:])), os.urandom(32)
    account = Account.from_key(KEY)
    sender = signer.subaccount()

    def ours() -> tuple[str, bytes]:
        signed = signer.sign_order(
            product_id=4, price_x18=FIELDS["priceX18"], amount_x18=FIELDS["amount"],
            expiration_s=FIELDS["expiration"], nonce=FIELDS["nonce"], appendix=FIELDS["appendix"],
        )  # fmt: skip
        return signed.signature, wire.place_order(signed, 7)

    def theirs() -> str:
        message = {"sender": bytes.fromhex(sender[2:]), **FIELDS}
        typed = build_eip712_typed_data(NadoTxType.PLACE_ORDER, message, f"0x{4:040x}", 57073)
        return str(sign_eip712_typed_data(typed, account))

    assert theirs().removeprefix("0x") == ours()[0].removeprefix("0x")

    def run() -> tuple[list[float], list[float], list[float]]:
        samples: tuple[list[float], list[float], list[float]] = ([], [], [])
        for _ in range(ROUNDS):  # interleaved: whatever slows the machine slows all three
            samples[0].append(per_call_us(ours, OURS))
            samples[1].append(per_call_us(lambda: curve.sign_recoverable(digest, hasher=None), OURS))
            samples[2].append(per_call_us(theirs, THEIRS))
        return samples

    rows = benchmark.pedantic(run, rounds=1, iterations=1)
    own, bare, sdk = (statistics.median(row) for row in rows)
    benchmark.extra_info.update(own_us=own, curve_us=bare, sdk_us=sdk)
    backend = os.environ.get("ECC_BACKEND_CLASS", "its default curve").rpartition(".")[2]
    say(
        f"sign + encode one order  {own:.1f} µs = {own / bare:.2f} x the curve alone ({bare:.1f} µs);"
        f" SDK on {backend} {sdk:,.0f} µs = {sdk / own:.0f} x"
    )
    assert own < 3 * bare
    assert sdk > 10 * own
