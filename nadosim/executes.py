"""Every execute by its name: checks at once, a delay to wait out, then the deed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .cancels import Cancels
from .order_entry import OrderEntry
from .wallet import Wallet, not_offered


@dataclass(frozen=True, slots=True)
class Submission:
    """An accepted execute: wait delay_ns, then commit() for the reply's data. It must be committed."""

    delay_ns: int
    commit: Callable[[], Any]


Submit = Callable[[object], Submission]


def execute_table(entry: OrderEntry, cancels: Cancels, wallet: Wallet) -> dict[str, Submit]:
    """What to do with the body of each execute. Bodies that are refused raise ExchangeError."""
    return {
        "place_order": _held(entry.validate_place, entry.commit_place),
        "place_orders": _held(entry.validate_batch, entry.commit_batch),
        "cancel_orders": _at_once(cancels.cancel_orders),
        "cancel_product_orders": _at_once(cancels.cancel_product_orders),
        "cancel_and_place": _held(entry.validate_replace, entry.commit_replace),
        "link_signer": _at_once(wallet.link_signer),
        "withdraw_collateral": _at_once(wallet.withdraw),
        "withdraw_collateral_v2": _at_once(lambda request: wallet.withdraw(request, is_v2=True)),
        "transfer_quote": _at_once(wallet.transfer_quote),
        "liquidate_subaccount": _at_once(wallet.liquidate),
        "mint_nlp": _at_once(not_offered),
        "burn_nlp": _at_once(not_offered),
    }


def _held(validate: Callable[[object], Any], commit: Callable[[Any], Any]) -> Submit:
    def submit(request: object) -> Submission:
        pending = validate(request)
        return Submission(pending.delay_ns, lambda: commit(pending))

    return submit


def _at_once(execute: Callable[[object], Any]) -> Submit:
    return lambda request: Submission(0, lambda: execute(request))
