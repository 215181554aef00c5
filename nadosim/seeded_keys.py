"""Funded test accounts, derived from the seed: anybody who knows the seed knows the keys."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Final

from eth_account import Account

DEFAULT_NAME_HEX: Final = b"default".ljust(12, b"\0").hex()
_CURVE_ORDER: Final = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141


@dataclass(frozen=True, slots=True)
class FundedAccount:
    """private_key is None for an address that came from outside. It stays out of the repr."""

    address: str
    subaccount: str
    private_key: str | None = field(default=None, repr=False)

    def ready_entry(self) -> dict[str, str]:
        entry = {"address": self.address, "subaccount": self.subaccount}
        if self.private_key is not None:
            entry["private_key"] = self.private_key
        return entry


def derive_account(seed: int, index: int) -> FundedAccount:
    """Account number `index` of a seed."""
    key = hashlib.sha256(f"nadosim account {seed} {index}".encode()).digest()
    while not 0 < int.from_bytes(key, "big") < _CURVE_ORDER:  # once in 2^128
        key = hashlib.sha256(key).digest()
    address = str(Account.from_key(key).address).lower()
    return FundedAccount(address, default_subaccount(address), "0x" + key.hex())


def default_subaccount(address: str) -> str:
    """Subaccount `default` of a wallet: address, then the name padded on the right."""
    return address.lower() + DEFAULT_NAME_HEX
