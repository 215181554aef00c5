"""Positions, fees, funding and PnL from events: exact x18 integers, every fill once.

The ledger predicts what the exchange will say; `reconcile.py` compares, and the exchange wins. Quote is
signed from our side: a buy spends (negative), a sell earns (positive). Funding follows the exchange's own
step: what the cumulative value has moved since the position last changed, times that position, truncated.
`cash_x18` therefore changes by exactly what the exchange's balances change, whatever is open.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from nadofast.events import FillEvent, FundingPaymentEvent
from nadofast.products import mul_x18

Moved = Callable[[int, int, int, str, int], None]
"""(product id, position before, position after, source: fill or exchange, price), x18."""
# Fills are recognised by (digest, submission index). The exchange repeats a fill within seconds of the
# first copy (reconnect, archive read), so this many are remembered, not all of a long run.
REMEMBERED_FILLS: Final = 65_536


@dataclass(frozen=True, slots=True)
class Margin:
    """A position in one margin, cross or isolated, and the cumulative funding it was last settled at."""

    position_x18: int = 0
    settled_at_x18: int = 0


@dataclass(frozen=True, slots=True)
class Cumulative:
    """Quote per unit of base that longs have paid since the product began; negative for what they got."""

    long_x18: int
    short_x18: int

    def of(self, position_x18: int) -> int:
        """The value that a position of this sign is settled at; a flat one counts as short, as there."""
        return self.long_x18 if position_x18 > 0 else self.short_x18


@dataclass(frozen=True, slots=True)
class Account:
    """One product: signed quote of all fills, fees paid (negative = rebates), funding paid (negative =
    received), and what was taken over from the exchange without a fill that explains it."""

    cross: Margin = Margin()
    isolated: Margin = Margin()
    cumulative: Cumulative | None = None
    quote_x18: int = 0
    fees_x18: int = 0
    booked_funding_x18: int = 0
    volume_x18: int = 0
    fills: int = 0

    @property
    def position_x18(self) -> int:
        """Cross and isolated together."""
        return self.cross.position_x18 + self.isolated.position_x18

    @property
    def funding_x18(self) -> int:
        """Paid until now: what was settled with a change of position, and what is pending."""
        return self.booked_funding_x18 + self._pending(self.cross) + self._pending(self.isolated)

    def after(self, fill: FillEvent) -> Account:
        side = 1 if fill.is_bid else -1
        notional_x18 = mul_x18(fill.filled_qty_x18, fill.price_x18)
        moved = self._moved(side * fill.filled_qty_x18, is_isolated=is_isolated(fill.appendix))
        return replace(
            moved,
            quote_x18=self.quote_x18 - side * notional_x18,
            fees_x18=self.fees_x18 + fill.fee_x18,
            volume_x18=self.volume_x18 + notional_x18,
            fills=self.fills + 1,
        )

    def at(self, cumulative: Cumulative) -> Account:
        """The exchange's cumulative values now. The first ones heard are where open positions start."""
        if self.cumulative is None:
            cross = replace(self.cross, settled_at_x18=cumulative.of(self.cross.position_x18))
            isolated = replace(self.isolated, settled_at_x18=cumulative.of(self.isolated.position_x18))
            return replace(self, cross=cross, isolated=isolated, cumulative=cumulative)
        return replace(self, cumulative=cumulative)

    def settled(self, *, is_isolated: bool) -> Account:
        """The exchange has booked pending funding without a change of position."""
        return self._moved(0, is_isolated=is_isolated)

    def with_position(self, cross_x18: int, isolated_x18: int) -> Account:
        """Positions without a fill: pending funding is settled as for any change."""
        moved = self._moved(cross_x18 - self.cross.position_x18, is_isolated=False)
        return moved._moved(isolated_x18 - self.isolated.position_x18, is_isolated=True)

    def _moved(self, base_x18: int, *, is_isolated: bool) -> Account:
        margin = self.isolated if is_isolated else self.cross
        position_x18 = margin.position_x18 + base_x18
        settled_at_x18 = 0 if self.cumulative is None else self.cumulative.of(position_x18)
        fresh = Margin(position_x18, settled_at_x18)
        booked_x18 = self.booked_funding_x18 + self._pending(margin)
        if is_isolated:
            return replace(self, isolated=fresh, booked_funding_x18=booked_x18)
        return replace(self, cross=fresh, booked_funding_x18=booked_x18)

    def _pending(self, margin: Margin) -> int:
        if self.cumulative is None:
            return 0
        moved_x18 = self.cumulative.of(margin.position_x18) - margin.settled_at_x18
        return mul_x18(moved_x18, margin.position_x18)


def is_isolated(appendix: int) -> bool:
    """Whether an order with this appendix trades in its own margin (bit 8)."""
    return bool(appendix >> 8 & 1)


@dataclass(frozen=True, slots=True)
class Pnl:
    """Gross is price alone, net is after fees and funding. Open positions are valued at the given marks."""

    gross_x18: int
    fees_x18: int
    volume_x18: int
    funding_x18: int = 0

    @property
    def net_x18(self) -> int:
        return self.gross_x18 - self.fees_x18 - self.funding_x18

    def __sub__(self, other: Pnl) -> Pnl:
        return Pnl(
            self.gross_x18 - other.gross_x18,
            self.fees_x18 - other.fees_x18,
            self.volume_x18 - other.volume_x18,
            self.funding_x18 - other.funding_x18,
        )


@dataclass(slots=True)
class Takeovers:
    """What the exchange's word changed: how often, and the quote that came with it."""

    count: int = 0
    quote_x18: int = 0
    reasons: dict[str, int] = field(default_factory=dict)


class Ledger:
    """Accounts by product id. Owned by one loop; no I/O, no clock."""

    def __init__(self, product_ids: tuple[int, ...]) -> None:
        self._accounts = {product_id: Account() for product_id in product_ids}
        self._seen: OrderedDict[tuple[str, int], None] = OrderedDict()
        self._left_out: set[str] = set()
        self.duplicates = 0
        self.fills = 0
        self.taken_over = Takeovers()
        self.on_move: Moved | None = None

    @property
    def adjustments(self) -> int:
        """How often a position was taken over from the exchange."""
        return self.taken_over.count

    def apply(self, fill: FillEvent) -> bool:
        """Book one fill. False if it was booked before or is left out. KeyError: not one of our products."""
        if fill.key in self._seen or fill.order_digest.lower() in self._left_out:
            self.duplicates += 1
            return False
        before = self._accounts[fill.product_id]
        self._accounts[fill.product_id] = after = before.after(fill)
        self.fills += 1
        self.skip(fill)  # only now: a fill that failed above may come again
        self._tell(fill.product_id, before, after, "fill", fill.price_x18)
        return True

    def skip(self, fill: FillEvent) -> None:
        """Never book this one: it is booked, or was in the positions the ledger started from."""
        self._seen[fill.key] = None
        if len(self._seen) > REMEMBERED_FILLS:
            self._seen.popitem(last=False)

    def leave_out(self, digests: Iterable[str]) -> None:
        """Book no fill of these orders: what they did is in the positions that the ledger starts from."""
        self._left_out.update(digest.lower() for digest in digests)

    def on_funding(self, event: FundingPaymentEvent) -> None:
        """A payment of one product; ignored for products that are not ours."""
        cumulative = Cumulative(event.cumulative_funding_long_x18, event.cumulative_funding_short_x18)
        self.settle_funding(event.product_id, cumulative)

    def settle_funding(self, product_id: int, cumulative: Cumulative) -> None:
        """The exchange's cumulative funding of a product now, from a payment or from a query."""
        if product_id in self._accounts:
            self._accounts[product_id] = self._accounts[product_id].at(cumulative)

    def settle(self, product_id: int, *, is_isolated: bool) -> None:
        """The exchange touched the balance without a match: what was pending is booked, truncated there."""
        if product_id in self._accounts:
            self._accounts[product_id] = self._accounts[product_id].settled(is_isolated=is_isolated)

    def adopt(self, product_id: int, position_x18: int, mark_x18: int, *, isolated_x18: int = 0) -> int:
        """Take over the exchange's position (isolated_x18: the isolated part of it); returns the drift.

        The drift (exchange minus ours) is booked at the mark, so that it does not look like profit or loss;
        `correct_cash` puts the exchange's own figure in its place where that is known.
        """
        account = self._accounts[product_id]
        drift_x18 = position_x18 - account.position_x18
        if drift_x18 or isolated_x18 != account.isolated.position_x18:
            moved = account.with_position(position_x18 - isolated_x18, isolated_x18)
            quote_x18 = -mul_x18(drift_x18, mark_x18)
            self._accounts[product_id] = after = replace(moved, quote_x18=moved.quote_x18 + quote_x18)
            self.taken_over.count += 1
            self._tell(product_id, account, after, "exchange", mark_x18)
        return drift_x18

    def correct_cash(self, gap_x18: int, reason: str) -> None:
        """Book what the exchange's cash differs by after a takeover, under a name."""
        self.taken_over.quote_x18 += gap_x18
        self.taken_over.reasons[reason] = self.taken_over.reasons.get(reason, 0) + gap_x18

    def _tell(self, product_id: int, before: Account, after: Account, source: str, price_x18: int) -> None:
        if self.on_move is not None:
            self.on_move(product_id, before.position_x18, after.position_x18, source, price_x18)

    def account(self, product_id: int) -> Account:
        return self._accounts[product_id]

    def position_x18(self, product_id: int) -> int:
        return self._accounts[product_id].position_x18

    def isolated_x18(self, product_id: int) -> int:
        """The part of the position that has its own margin."""
        return self._accounts[product_id].isolated.position_x18

    @property
    def is_flat(self) -> bool:
        return all(account.position_x18 == 0 for account in self._accounts.values())

    @property
    def cash_x18(self) -> int:
        """What our fills, fees, funding and takeovers did to the exchange's balances, positions aside."""
        accounts = self._accounts.values()
        booked_x18 = sum(a.quote_x18 - a.fees_x18 - a.funding_x18 for a in accounts)
        return booked_x18 + self.taken_over.quote_x18

    def pnl(self, marks_x18: Mapping[int, int]) -> Pnl:
        """PnL since the start. A mark is needed for every product with a position (KeyError otherwise)."""
        gross_x18 = self.taken_over.quote_x18
        fees_x18 = volume_x18 = funding_x18 = 0
        for product_id, account in self._accounts.items():
            gross_x18 += account.quote_x18
            if account.position_x18:
                gross_x18 += mul_x18(account.position_x18, marks_x18[product_id])
            fees_x18 += account.fees_x18
            volume_x18 += account.volume_x18
            funding_x18 += account.funding_x18
        return Pnl(gross_x18, fees_x18, volume_x18, funding_x18)
