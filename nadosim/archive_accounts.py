"""History of accounts as the archive shows it: payments, balance events, subaccounts."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import Any, Final

from .accounts import ZERO_ADDRESS, Subaccount
from .archive_fills import balance_view
from .archive_params import Filter, integers, limit, optional_integer, optional_list, parse_filter
from .core import Core
from .errors import ExchangeError
from .events import reported_id
from .fields import MALFORMED
from .health import Margin
from .product_views import product_view
from .records import BalanceRecord, FundingRecord
from .wallet import LINK_SIGNER_CHANGES, LINK_SIGNER_WINDOW_NS
from .x18 import NS_PER_S

MAX_PAYMENTS: Final = 100
MAX_SNAPSHOTS: Final = 100
Params = Mapping[str, Any]


class AccountArchive:
    """Real accounts only."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def interest_and_funding(self, params: Params) -> dict[str, Any]:
        """Funding payments, newest first; no interest is charged here. 3002 without a subaccount.

        next_idx: where to go on below the page, empty if there is nothing on it.
        """
        subaccount = params.get("subaccount")
        if not isinstance(subaccount, str):
            raise ExchangeError(3002)
        wanted = parse_filter({**params, "subaccounts": [subaccount]})
        payments = (r for r in self._core.history.fundings_newest_first() if _takes(wanted, r))
        page = list(islice(payments, limit(params, MAX_PAYMENTS)))
        return {
            "interest_payments": [],
            "funding_payments": [self._payment_view(record) for record in page],
            "next_idx": str(page[-1].submission_idx - 1) if page else "",
        }

    def events(self, params: Params) -> dict[str, Any]:
        """Balance events, newest first. limit: {"raw": n} counts events, {"txs": n} transactions."""
        wanted = parse_filter({k: v for k, v in params.items() if k != "limit"})
        named = optional_list(params, "event_types")
        kinds = None if named is None else frozenset(map(str, named))
        records = (
            record
            for record in self._core.history.balances_newest_first()
            if _takes(wanted, record) and (kinds is None or record.kind in kinds)
        )
        page = list(_limited(records, params.get("limit")))
        txs = {record.submission_idx: _tx_view(record) for record in page}
        return {"events": [self._event_view(record) for record in page], "txs": list(txs.values())}

    def subaccounts(self, params: Params) -> dict[str, Any]:
        """Of one wallet, or of everybody."""
        address = params.get("address")
        start = optional_integer(params, "start") or 0
        found = [
            (number, account)
            for number, account in enumerate(self._core.accounts.real())
            if number >= start and (address is None or account.address == str(address).lower())
        ]
        return {"subaccounts": [_subaccount_view(n, account) for n, account in found[: limit(params)]]}

    def account_snapshots(self, params: Params) -> dict[str, Any]:
        """By subaccount and time (s): the newest balance event of each product until then.

        3002 without subaccounts; at most MAX_SNAPSHOTS of them times timestamps.
        """
        subaccounts, times_s = optional_list(params, "subaccounts"), integers(params, "timestamps")
        if not subaccounts:
            raise ExchangeError(3002)
        if len(subaccounts) * len(times_s) > MAX_SNAPSHOTS:
            raise ExchangeError(MALFORMED, f"more than {MAX_SNAPSHOTS} snapshots")
        is_isolated = params.get("isolated")
        pasts: dict[str, list[BalanceRecord]] = {str(subaccount).lower(): [] for subaccount in subaccounts}
        for record in self._core.history.balances_newest_first():
            account = record.account
            if is_isolated is None or account.is_isolated is is_isolated:
                for subaccount in {account.id, account.owner.id} & pasts.keys():
                    pasts[subaccount].append(record)
        views = {subaccount: self._snapshots(past, times_s) for subaccount, past in pasts.items()}
        return {"snapshots": {str(asked): views[str(asked).lower()] for asked in subaccounts}}

    def _snapshots(self, past: list[BalanceRecord], times_s: list[int]) -> dict[str, list[dict[str, Any]]]:
        """past: of one subaccount, newest first; used up."""
        newest: dict[tuple[str, int], BalanceRecord] = {}
        views = {}
        for time_s in sorted(times_s):
            while past and past[-1].timestamp_ns // NS_PER_S <= time_s:
                record = past.pop()
                key = (record.account.id, record.product_id)
                newest.pop(key, None)  # so that the last one is the newest
                newest[key] = record
            views[time_s] = [self._event_view(record) for record in reversed(newest.values())]
        return {str(time_s): views[time_s] for time_s in times_s}

    def linked_signer_rate_limit(self, params: Params) -> dict[str, Any]:
        """Changes of the linked signer that are left this week. wait_time: s until there is one more."""
        subaccount = params.get("subaccount")
        if not isinstance(subaccount, str):
            raise ExchangeError(3002)
        account = self._core.accounts.find(subaccount.lower())
        now_ns = self._core.clock.now_ns()
        week = [
            at_ns
            for at_ns in self._core.link_changes.get(subaccount.lower(), ())
            if now_ns - at_ns < LINK_SIGNER_WINDOW_NS
        ]
        left = LINK_SIGNER_CHANGES - len(week)
        wait_ns = week[0] + LINK_SIGNER_WINDOW_NS - now_ns if left <= 0 else 0
        return {
            "remaining_tx": str(max(0, left)),
            "total_tx_limit": str(LINK_SIGNER_CHANGES),
            "wait_time": -(-wait_ns // NS_PER_S),
            "signer": account.linked_signer if account is not None else ZERO_ADDRESS,
        }

    def liquidation_feed(self, _: Params) -> list[dict[str, Any]]:
        """Accounts that may be liquidated right now."""
        core = self._core
        sick = [a for a in core.accounts.real() if core.health.health_x18(a, Margin.MAINTENANCE) < 0]
        now_s = core.clock.now_ns() // NS_PER_S
        return [{"subaccount": account.id, "update_time": now_s} for account in sick]

    def backlog(self, _: Params) -> dict[str, Any]:
        """How far the archive is behind the engine: not at all, unless a fault lets it lag."""
        idx, waiting = self._core.writer.submission_idx, self._core.history.untold()
        return {
            "total_txs": str(idx - waiting),
            "total_submissions": str(idx),
            "backlog_size": str(waiting),
            "updated_at": str(self._core.last_step_ns // NS_PER_S),
        }

    # ---- inside

    def _payment_view(self, record: FundingRecord) -> dict[str, Any]:
        is_daily = self._core.config.payment_rate == "daily"
        is_paid = self._core.config.payment_sign == "paid"
        return {
            "product_id": record.product_id,
            "idx": str(record.submission_idx),
            "timestamp": str(record.timestamp_ns // NS_PER_S),
            "amount": str(-record.amount_x18 if is_paid else record.amount_x18),
            "balance_amount": str(record.position_x18),
            "rate_x18": str(record.daily_rate_x18 if is_daily else record.rate_x18),
            "oracle_price_x18": str(record.oracle_price_x18),
            "isolated": record.account.is_isolated,
            "isolated_product_id": record.account.product_id,
        }

    def _event_view(self, record: BalanceRecord) -> dict[str, Any]:
        core = self._core
        product = core.products[record.product_id]
        return {
            "subaccount": reported_id(core.config, record.account),
            "product_id": record.product_id,
            "submission_idx": str(record.submission_idx),
            "event_type": record.kind,
            "isolated": record.account.is_isolated,
            "isolated_product_id": record.account.product_id,
            "product": {product.kind: product_view(core.config, product, core.accounts)},
            "pre_balance": balance_view(record.product_id, record.before),
            "post_balance": balance_view(record.product_id, record.after),
            "net_interest_unrealized": "0",
            "net_interest_cumulative": "0",
            "net_funding_unrealized": str(record.net_funding_x18),
            "net_funding_cumulative": str(record.net_funding_x18),
            "net_entry_unrealized": str(record.net_entry_unrealized_x18),
            "net_entry_cumulative": str(record.net_entry_cumulative_x18),
            "quote_volume_cumulative": str(record.volume_x18),
        }


def _takes(wanted: Filter, record: BalanceRecord | FundingRecord) -> bool:
    account = record.account
    return wanted.takes(
        (account.id, account.owner.id),
        record.product_id,
        record.timestamp_ns,
        record.submission_idx,
        is_isolated=account.is_isolated,
    )


def _limited(records: Any, value: Any) -> Any:
    """At most so many events, or the events of at most so many transactions."""
    if not isinstance(value, Mapping) or "txs" not in value:
        count = limit({"limit": value.get("raw") if isinstance(value, Mapping) else value})
        return islice(records, count)
    return _of_transactions(records, limit({"limit": value["txs"]}))


def _of_transactions(records: Any, count: int) -> Any:
    seen: set[int] = set()
    for record in records:
        seen.add(record.submission_idx)
        if len(seen) > count:
            return
        yield record


def _tx_view(record: BalanceRecord) -> dict[str, Any]:
    return {
        "tx": {record.kind: {"product_id": record.product_id}},
        "submission_idx": str(record.submission_idx),
        "timestamp": str(record.timestamp_ns // NS_PER_S),
    }


def _subaccount_view(number: int, account: Subaccount) -> dict[str, Any]:
    name = bytes.fromhex(account.id[42:])
    return {
        "id": str(number),
        "subaccount": account.id,
        "address": account.address,
        "subaccount_name": "" if account.is_isolated else name.rstrip(b"\0").decode(errors="replace"),
        "created_at": str(account.created_ns // NS_PER_S),
        "isolated": account.is_isolated,
    }
