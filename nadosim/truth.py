"""The exchange's own record as plain data, for oracles that check a client against it. Never a signature."""

from __future__ import annotations

from typing import Any

from .accounts import Accounts
from .records import History


def orders_state(history: History) -> list[dict[str, Any]]:
    """Orders of real accounts, oldest first. `end` is null while the order lives, else how it ended:

    filled, cancelled, expired, self_trade, health, reduce_only, remainder, no_cross, not_fillable,
    liquidation.
    """
    return [
        {
            "digest": record.order.digest,
            "product_id": record.order.product_id,
            "subaccount": record.order.account.id,
            "price_x18": str(record.order.price_x18),
            "amount": str(record.order.amount_x18),
            "unfilled_amount": str(record.order.unfilled_x18),
            "order_type": record.order.order_type.wire_name,
            "reduce_only": record.order.reduce_only,
            "isolated": record.order.is_isolated,
            "expiration": str(record.order.expiration_s),
            "placed_ns": str(record.order.placed_ns),
            "id": record.order.client_id,
            "end": record.order.end,
            "fills": len(record.fills),
        }
        for record in history.orders()
    ]


def fills_state(history: History) -> list[dict[str, Any]]:
    """Fills of real accounts, oldest first; one entry per order and match. base and quote_net are signed.

    subaccount: whose order it was. bearer: the subaccount it was booked on, an isolated one perhaps.
    """
    return [
        {
            "digest": fill.match.order.digest,
            "product_id": fill.match.order.product_id,
            "subaccount": fill.match.order.account.id,
            "bearer": fill.match.bearer.id,
            "submission_idx": str(fill.match.submission_idx),
            "timestamp": str(fill.match.timestamp_ns),
            "price_x18": str(fill.match.price_x18),
            "base": str(fill.match.base_x18),
            "quote_net": str(fill.match.quote_net_x18),
            "fee": str(fill.match.fee_x18),
            "builder_fee": str(fill.match.builder_fee_x18),
            "is_taker": fill.match.is_taker,
        }
        for fill in history.fills()
    ]


def balances_state(accounts: Accounts) -> dict[str, Any]:
    """Balances of real accounts, funding included, the exchange's own, and the sums that must be zero."""
    totals = accounts.totals()
    return {
        "subaccounts": {
            account.id: {
                "quote": str(account.quote_x18),
                "parent": account.parent.id if account.parent is not None else None,
                "spots": {str(product_id): str(amount) for product_id, amount in account.spots.items()},
                "perps": {
                    str(product_id): _perp(accounts, account.id, product_id)
                    for product_id in sorted(account.perps)
                },
            }
            for account in accounts
            if not account.is_house
        },
        "collected_fees": str(sum(s.collected_fees_x18 for s in accounts.states.values())),
        "exchange": {
            "funding_pool": str(accounts.own.funding_pool_x18),
            "insurance": str(accounts.own.insurance_x18),
            "sequencer_fees": str(accounts.own.sequencer_fees_x18),
            "builder_fees": {str(b): str(fee) for b, fee in accounts.own.builder_fees_x18.items()},
            "bad_debt": str(accounts.own.bad_debt_x18),
        },
        "funding_dust": str(totals.funding_dust_x18),
        "base_sums": {str(product_id): str(base) for product_id, base in sorted(totals.base_x18.items())},
        "quote_sum": str(totals.quote_x18),
    }


def _perp(accounts: Accounts, subaccount: str, product_id: int) -> dict[str, str]:
    account = accounts.find(subaccount)
    assert account is not None
    balance = accounts.effective(account, product_id)
    return {
        "amount": str(balance.amount_x18),
        "v_quote_balance": str(balance.v_quote_x18),
        "last_cumulative_funding_x18": str(balance.last_cumulative_funding_x18),
    }


def executes_state(history: History) -> list[dict[str, Any]]:
    """Executes as received, oldest first. error_code is null when accepted, or while it is on its way."""
    return [
        {
            "received_ns": str(execute.received_ns),
            "execute": execute.kind,
            "sender": execute.sender,
            "digests": list(execute.digests),
            "done": execute.is_done,
            "error_code": execute.error_code,
        }
        for execute in history.executes()
    ]
