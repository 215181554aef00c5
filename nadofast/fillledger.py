"""What positions must be by the fills that were told. Sans-I/O.

Two things move the quote of a position without a fill, and both leave traces: funding moves it by the change
of the cumulative value times the position, settlement moves it into the USDT0 balance (accounting section of
the API).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from .appendix import unpack_appendix
from .events import FillEvent
from .models import PerpBalance, SubaccountInfo
from .products import mul_x18

QUOTE_DUST_X18: Final = 10**12  # 0.000001 USDT0: products of x18 are truncated once per fill
MAX_HELD: Final = 256


@dataclass(slots=True)
class _Sum:
    """Base and quote of one cross position, signed x18."""

    base_x18: int = 0
    quote_x18: int = 0


@dataclass(slots=True)
class _Word:
    """What the exchange said of a position, less the fills counted until then.

    cumulative_x18: funding per unit of base, ever. held_x18: positions there were since, for so many is known
    what funding they paid.
    """

    base_x18: int
    quote_x18: int
    cumulative_x18: int
    held_x18: set[int]


class FillLedger:
    """What positions must be if no fill is missing: the exchange's word once, and every fill since."""

    def __init__(self) -> None:
        self._sums: dict[int, _Sum] = {}
        self._words: dict[int, _Word] = {}
        self._usdt0_x18 = 0

    def add(self, fill: FillEvent) -> None:
        """Count one fill, seen for the first time. Isolated ones have positions of their own."""
        if unpack_appendix(fill.appendix).isolated:
            return
        sign = 1 if fill.is_bid else -1
        total = self._sums.setdefault(fill.product_id, _Sum())
        total.base_x18 += sign * fill.filled_qty_x18
        total.quote_x18 -= sign * mul_x18(fill.filled_qty_x18, fill.price_x18) + fill.fee_x18
        word = self._words.get(fill.product_id)
        if word is not None and len(word.held_x18) < MAX_HELD:
            word.held_x18.add(word.base_x18 + total.base_x18)

    def rebase(self, info: SubaccountInfo, product_ids: Sequence[int]) -> None:
        """Take the exchange's word: it holds whatever moved what no fill did."""
        self._usdt0_x18 = info.quote_x18
        for product_id in product_ids:
            if (balance := info.perp.get(product_id)) is not None:
                total = self._sums.setdefault(product_id, _Sum())
                self._words[product_id] = _Word(
                    balance.amount_x18 - total.base_x18,
                    balance.v_quote_x18 - total.quote_x18,
                    balance.last_cumulative_funding_x18,
                    {balance.amount_x18},
                )

    def explains(self, product_id: int, amount_x18: int, v_quote_x18: int) -> bool:
        """Whether the fills since the last word make this position. True if there was no word yet."""
        word = self._words.get(product_id)
        if word is None:
            return True
        total = self._sums.get(product_id, _Sum())
        return (
            word.base_x18 + total.base_x18 == amount_x18
            and abs(self._rest_x18(word, total, v_quote_x18)) <= QUOTE_DUST_X18
        )

    def explains_all(self, info: SubaccountInfo, product_ids: Sequence[int]) -> bool:
        """Whether fills, funding and settlement since the last word make these positions."""
        settled_x18 = 0
        for product_id in product_ids:
            balance, word = info.perp.get(product_id), self._words.get(product_id)
            if balance is None or word is None:
                continue
            total = self._sums.get(product_id, _Sum())
            if word.base_x18 + total.base_x18 != balance.amount_x18:
                return False
            settled_x18 -= self._unpaid_x18(word, total, balance)
        # What left the positions must have reached the USDT0 balance, and nothing else may have.
        moved_x18 = info.quote_x18 - self._usdt0_x18
        return abs(settled_x18) <= QUOTE_DUST_X18 or abs(settled_x18 - moved_x18) <= QUOTE_DUST_X18

    def _rest_x18(self, word: _Word, total: _Sum, v_quote_x18: int) -> int:
        """Quote of a position that fills do not explain."""
        return v_quote_x18 - word.quote_x18 - total.quote_x18

    def _unpaid_x18(self, word: _Word, total: _Sum, balance: PerpBalance) -> int:
        """Quote that neither fills nor funding explain; 0 if any position there was would have paid it."""
        rest = self._rest_x18(word, total, balance.v_quote_x18)
        change = balance.last_cumulative_funding_x18 - word.cumulative_x18
        if abs(rest) <= QUOTE_DUST_X18:
            return 0
        if any(abs(rest + mul_x18(change, held)) <= QUOTE_DUST_X18 for held in word.held_x18):
            return 0
        return rest + mul_x18(change, balance.amount_x18)
