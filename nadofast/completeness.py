"""Whether the archive shows all our fills yet. It lags the engine, so what it does not show proves nothing by
itself.

Two proofs count, and no lapse of time does:

- *the archive has passed the moment*: its newest match of anybody, in whole seconds, is of a later one;
- *the balance is explained*: position and quote balance of the product, as the engine has them now, equal
  those after our newest match in the archive plus the fills told since. A fill nobody told us of would have
  moved them: its fee alone changes the quote balance.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from .errors import NadoError
from .models import PerpBalance
from .orders import OrderTracker
from .products import mul_x18
from .shared import SharedQuestion

if TYPE_CHECKING:
    from .rest import Rest

_log = logging.getLogger(__name__)


class Completeness:
    """Asks the engine and the archive of one account."""

    def __init__(self, rest: Rest, tracker: OrderTracker, subaccount: str) -> None:
        self._rest = rest
        self._tracker = tracker
        self._subaccount = subaccount
        self._explained: SharedQuestion[int, bool] = SharedQuestion(self._ask_explained)
        self._newest: SharedQuestion[str, int] = SharedQuestion(self._ask_newest)

    async def stop(self) -> None:
        await asyncio.gather(self._explained.stop(), self._newest.stop())

    async def shows_all(self, product_ids: Collection[int], until_ms: int) -> bool:
        """The archive, asked from here on, shows every fill of ours on these products up to until_ms.

        until_ms: a moment of the exchange's clock that is certainly over.
        """
        try:
            explained = await asyncio.gather(*(self._explained.get(product_id) for product_id in product_ids))
            return all(explained) or (await self._newest.get("") or 0) * 1000 > until_ms
        except NadoError as error:
            _log.info("how far the archive is: %s", error)
            return False

    async def _ask_newest(self, _: Collection[str]) -> Mapping[str, int]:
        return {"": await self._rest.archive_newest_s()}

    async def _ask_explained(self, product_ids: Collection[int]) -> Mapping[int, bool]:
        # The engine first: the archive's word is then the newer one.
        balances = (await self._rest.subaccount_info(self._subaccount)).perp
        answers = await asyncio.gather(*(self._is_explained(p, balances.get(p)) for p in product_ids))
        return dict(zip(product_ids, answers, strict=True))

    async def _is_explained(self, product_id: int, balance: PerpBalance | None) -> bool:
        if balance is None:
            return False
        newest = await self._rest.archive_matches(self._subaccount, [product_id], limit=1)
        amount_x18 = v_quote_x18 = shown_idx = 0
        if newest:
            after, shown_idx = newest[0].balance_after, newest[0].submission_idx
            if after is None or newest[0].isolated:
                return False
            amount_x18, v_quote_x18 = after.amount_x18, after.v_quote_x18
        told = self._tracker.fills_after(product_id, shown_idx)
        if told is None:
            return False
        for fill in told:
            quote_x18 = mul_x18(fill.filled_qty_x18, fill.price_x18)
            amount_x18 += fill.filled_qty_x18 if fill.is_bid else -fill.filled_qty_x18
            v_quote_x18 += (-quote_x18 if fill.is_bid else quote_x18) - fill.fee_x18
        return (amount_x18, v_quote_x18) == (balance.amount_x18, balance.v_quote_x18)
