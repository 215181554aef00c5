"""Positions, fees and PnL from fills: exact x18 integers, every fill once.

The ledger predicts what the exchange will say; `reconcile.py` compares, and the exchange wins. Quote is
signed from our side: a buy spends (negative), a sell earns (positive). When a product is flat, its quote
minus its fees is its realised net PnL, exactly (accounting section of the API).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from nadofast.events import FillEvent
from nadofast.products import mul_x18

# Fills are recognised by (digest, submission index). The exchange repeats a fill within seconds of the
# first copy (reconnect, archive read), so this many are remembered, not all of a long run.
REMEMBERED_FILLS: Final = 65_536


@dataclass(frozen=True, slots=True)
class Account:
    """One product: signed position, signed quote of all fills, fees paid (negative = rebates)."""

    position_x18: int = 0
    quote_x18: int = 0
    fees_x18: int = 0
    volume_x18: int = 0
    fills: int = 0

    def after(self, fill: FillEvent) -> Account:
        side = 1 if fill.is_bid else -1
        notional_x18 = mul_x18(fill.filled_qty_x18, fill.price_x18)
        return Account(
            self.position_x18 + side * fill.filled_qty_x18,
            self.quote_x18 - side * notional_x18,
            self.fees_x18 + fill.fee_x18,
            self.volume_x18 + notional_x18,
            self.fills + 1,
        )


@dataclass(frozen=True, slots=True)
class Pnl:
    """Gross is price alone, net is after fees. Open positions are valued at the given marks."""

    gross_x18: int
    fees_x18: int
    volume_x18: int

    @property
    def net_x18(self) -> int:
        return self.gross_x18 - self.fees_x18

    def __sub__(self, other: Pnl) -> Pnl:
        return Pnl(
            self.gross_x18 - other.gross_x18,
            self.fees_x18 - other.fees_x18,
            self.volume_x18 - other.volume_x18,
        )


class Ledger:
    """Accounts by product id. Owned by one loop; no I/O, no clock."""

    def __init__(self, product_ids: tuple[int, ...]) -> None:
        self._accounts = {product_id: Account() for product_id in product_ids}
        self._seen: OrderedDict[tuple[str, int], None] = OrderedDict()
        self.duplicates = 0
        self.adjustments = 0

    def apply(self, fill: FillEvent) -> bool:
        """Book one fill. False if it was booked before. KeyError for a product that is not ours."""
        if fill.key in self._seen:
            self.duplicates += 1
            return False
        self._accounts[fill.product_id] = self._accounts[fill.product_id].after(fill)
        self._seen[fill.key] = None  # marked only now: a fill that failed above may come again
        if len(self._seen) > REMEMBERED_FILLS:
            self._seen.popitem(last=False)
        return True

    def adopt(self, product_id: int, position_x18: int, mark_x18: int) -> int:
        """Take over the exchange's position; returns the drift (exchange minus ours).

        The difference is booked at the mark, so that it does not look like profit or loss.
        """
        account = self._accounts[product_id]
        drift_x18 = position_x18 - account.position_x18
        if drift_x18:
            self.adjustments += 1
            self._accounts[product_id] = Account(
                position_x18,
                account.quote_x18 - mul_x18(drift_x18, mark_x18),
                account.fees_x18,
                account.volume_x18,
                account.fills,
            )
        return drift_x18

    def account(self, product_id: int) -> Account:
        return self._accounts[product_id]

    def position_x18(self, product_id: int) -> int:
        return self._accounts[product_id].position_x18

    @property
    def is_flat(self) -> bool:
        return all(account.position_x18 == 0 for account in self._accounts.values())

    def pnl(self, marks_x18: Mapping[int, int]) -> Pnl:
        """PnL since the start. A mark is needed for every product with a position (KeyError otherwise)."""
        gross_x18 = fees_x18 = volume_x18 = 0
        for product_id, account in self._accounts.items():
            gross_x18 += account.quote_x18
            if account.position_x18:
                gross_x18 += mul_x18(account.position_x18, marks_x18[product_id])
            fees_x18 += account.fees_x18
            volume_x18 += account.volume_x18
        return Pnl(gross_x18, fees_x18, volume_x18)
