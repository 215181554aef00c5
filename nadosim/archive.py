"""The archive: history of fills, balances and markets, one query per request."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from .archive_accounts import AccountArchive
from .archive_fills import FillArchive
from .archive_market import MarketArchive
from .errors import ExchangeError
from .fields import MALFORMED
from .records import History

Params = Mapping[str, Any]


class Archive:
    """Answers `{"<query>": {...}}`."""

    def __init__(
        self, history: History, fills: FillArchive, market: MarketArchive, accounts: AccountArchive
    ) -> None:
        self._history = history
        self._answers: dict[str, Callable[[Params], Any]] = {
            "orders": fills.orders,
            "matches": fills.matches,
            "candlesticks": market.candlesticks,
            "funding_rate": market.funding_rate,
            "funding_rates": market.funding_rates,
            "price": market.price,
            "perp_prices": market.perp_prices,
            "oracle_price": market.oracle_price,
            "products": market.products,
            "market_snapshots": market.market_snapshots,
            "interest_and_funding": accounts.interest_and_funding,
            "events": accounts.events,
            "subaccounts": accounts.subaccounts,
            "liquidation_feed": accounts.liquidation_feed,
            "account_snapshots": accounts.account_snapshots,
            "linked_signer_rate_limit": accounts.linked_signer_rate_limit,
            "backlog": accounts.backlog,
            "quote_price": market.quote_price,
        }

    def answer(self, request: Mapping[str, Any], known_ns: int | None) -> Any:
        """As an archive answers that knows what accounts did up to known_ns; None: all of it.

        Raises ExchangeError: 2038 for what is no archive query, 4001 for one that is not offered.
        """
        if len(request) != 1:
            raise ExchangeError(MALFORMED, "expected one archive query")
        ((name, params),) = request.items()
        if not isinstance(params, Mapping):
            raise ExchangeError(MALFORMED, str(name))
        handler = self._answers.get(name)
        if handler is None:
            raise ExchangeError(4001 if name in NOT_OFFERED else MALFORMED, str(name))
        with self._history.as_of(known_ns):
            return handler(params)


NOT_OFFERED = frozenset(
    {
        "direct_deposit_address",
        "edge_candlesticks",
        "fast_withdrawal_signature",
        "ink_airdrop",
        "leaderboard",
        "leaderboard_contests",
        "leaderboard_rank",
        "leaderboard_registrations",
        "list_social_accounts",
        "maker_statistics",
        "nado_points",
        "nlp_snapshots",
        "private_alpha_choice",
        "referral_code",
        "rewards",
        "summary",
    }
)
