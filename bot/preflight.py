"""What is proved about the exchange and the account before anything trades. Every refusal is one line."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from nadofast.errors import NadoError
from nadofast.products import Product
from nadofast.rest import Rest
from nadofast.secret import Secret
from nadofast.signing import Signer

from .config import Settings, SettingsError
from .exchange_process import Ready
from .expected import mismatches

ACTIVE_TIMEOUT_S: Final = 10.0
POLL_S: Final = 0.05
NO_ADDRESS: Final = "0x" + "00" * 20
MAX_TRIES: Final = 3
RETRY_PAUSE_S: Final = 0.25
RETRY_DEADLINE_S: Final = 5.0
T = TypeVar("T")


class StartError(Exception):
    """The bot cannot trade on what it found. One line; nothing was ordered."""


async def answer(ask: Callable[[], Awaitable[T]]) -> T:
    """A start has many questions, and one that is lost shall not end it: what may be answered later is put
    at most MAX_TRIES times, and not again after RETRY_DEADLINE_S. Raises the last error."""
    loop = asyncio.get_running_loop()
    deadline_s = loop.time() + RETRY_DEADLINE_S
    for tries in range(1, MAX_TRIES + 1):
        try:
            return await ask()
        except NadoError as error:
            pause_s = RETRY_PAUSE_S * tries * random.uniform(0.5, 1.0)
            if not error.retryable or tries == MAX_TRIES or loop.time() + pause_s >= deadline_s:
                raise
            await asyncio.sleep(pause_s)
    raise AssertionError("unreachable")


def address_of(key: Secret) -> str:
    """The wallet of a key; chain and contract do not matter for that."""
    return Signer(key, chain_id=1, endpoint_address=NO_ADDRESS).address


def choose_signer(ready: Ready, key: Secret | None, owner_address: str | None = None) -> Signer:
    """Our own key if there is one, else the first account the exchange opened with a key.

    owner_address: the wallet that a linked signer signs for; None = the key's own.
    """
    secret = key or next((a.private_key for a in ready.accounts if a.private_key is not None), None)
    if secret is None:
        raise StartError("the embedded exchange opened no account with a key")
    where = ready.network
    signer = Signer(
        secret, chain_id=where.chain_id, endpoint_address=where.endpoint_address, owner_address=owner_address
    )
    funded = {account.subaccount for account in ready.accounts}
    if funded and owner_address is None and signer.subaccount() not in funded:
        raise StartError(f"the embedded exchange did not fund {signer.address}")
    return signer


async def prove_signer(rest: Rest, signer: Signer, subaccount: str) -> None:
    """A key that signs for another wallet must be the one the exchange has linked to it."""
    if signer.owner_address == signer.address:
        return
    linked = await answer(lambda: rest.linked_signer(subaccount))
    if linked.lower() != signer.address.lower():
        raise StartError(f"{signer.address} is not the linked signer of {signer.owner_address}")


async def prove_identity(rest: Rest) -> None:
    """The exchange must answer for the chain and contract we sign for, and be open for trading."""
    ours, theirs = rest.network, await answer(rest.contracts)
    if theirs.chain_id != ours.chain_id:
        raise StartError(
            f"chain id mismatch: announced as {ours.chain_id}, but the exchange verifies {theirs.chain_id}"
        )
    if theirs.endpoint_address != ours.endpoint_address:
        raise StartError("endpoint contract mismatch: the exchange names another one than it announced")
    deadline = asyncio.get_running_loop().time() + ACTIVE_TIMEOUT_S
    while (status := await answer(rest.status)) != "active":
        if asyncio.get_running_loop().time() >= deadline:
            raise StartError(f"the exchange is not active but {status!r}")
        await asyncio.sleep(POLL_S)


async def pair_products(
    rest: Rest, settings: Settings, say: Callable[[str], None] | None = None
) -> tuple[Product, Product]:
    """The two configured perpetuals, open for trading, with the rules that the operator expects.

    say: takes what is not so, instead of a refusal: a way out may be open where nothing may be begun.
    """
    pair = await listed_pair(rest, settings)
    shut = not_open(pair)
    wrong = mismatches(pair, settings.expect)
    if say is not None:
        for text in (*shut, *wrong):
            say(text)
        return pair
    if shut:
        raise StartError(shut[0])
    if wrong:
        raise SettingsError("; ".join(wrong))
    return pair


def not_open(pair: tuple[Product, Product]) -> list[str]:
    """One line for each that nothing may be begun on."""
    return [
        f"{product.symbol} is not open for trading: {product.trading_status}"
        for product in pair
        if product.trading_status != "live"
    ]


async def listed_pair(rest: Rest, settings: Settings) -> tuple[Product, Product]:
    """The two configured perpetuals with the exchange's own rules."""
    listed = (await answer(rest.symbols)).values()
    by_symbol = {product.symbol: product for product in listed if product.is_perp}
    found = []
    for key, symbol in (("pair.first", settings.pair.first), ("pair.second", settings.pair.second)):
        product = by_symbol.get(symbol)
        if product is None:
            known = ", ".join(sorted(by_symbol))
            raise SettingsError(f"{key}: the exchange has no perpetual {symbol!r}; it has {known}")
        found.append(product)
    return found[0], found[1]
