"""What the exchange says against what we booked. The exchange wins; every difference is explained or named.

Order of trust: fills still on their way are waited for, fills the stream never brought are read from the
archive, and what then remains is taken over as it is. Positions are cross and isolated together, because
either of them is exposure. Once positions agree, cash has to agree to the last unit, too: it is the sum of
the quote balance, of what belongs to the positions, and of isolated margins, which nothing but fills, fees
and funding changes.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from typing import Final

from nadofast.backfill import to_fill
from nadofast.errors import ExchangeError, NadoError
from nadofast.events import FillEvent, PositionChangeEvent
from nadofast.fallback import REST_REASON
from nadofast.gateway import OrderGateway, OutcomeKind
from nadofast.models import IsolatedPosition, OpenOrder, SubaccountInfo
from nadofast.orders import OrderTracker, OutcomeFacts, TrackedOrder
from nadofast.rest import Rest
from nadofast.wire import Code

from .ledger import Cumulative, Ledger
from .risk import net_delta_bps
from .units import BPS, NS_PER_MS, bps_of
from .waits import hedged

# Fill events usually arrive before the answer over REST; 0.3 s covers a depth batch and a busy loop.
FILLS_POLLS: Final = 30
LATE_POLLS: Final = 10  # for those that came between two answers
POLL_S: Final = 0.01
ARCHIVE_LIMIT: Final = 100
RESOLVE_TIMEOUT_S: Final = 1.0
# A question without an answer for so long is put once more, beside the first one: while positions are asked
# for a pair may stand on one leg.
HEDGE_S: Final = 0.15
ARCHIVE_WAIT_S: Final = 0.3


MATCHED: Final = "match_orders"
SETTLED: Final = "settle_pnl"
FOREIGN_TRADE: Final = "a trade that is not ours"
UNTOLD: Final = "our fill, its price not told"
# Beyond this share of the order's size a difference of positions is a recovery, not a rounding.
MAX_DRIFT_BPS: Final = 100


@dataclass(frozen=True, slots=True)
class Holdings:
    """What the exchange says about the account, cross and isolated together; isolated None: not asked."""

    info: SubaccountInfo
    isolated: tuple[IsolatedPosition, ...] | None = None

    def isolated_x18(self, product_id: int) -> int:
        return sum(row.amount_x18 for row in self.isolated or () if row.product_id == product_id)

    def position_x18(self, product_id: int) -> int:
        return self.info.position_x18(product_id) + self.isolated_x18(product_id)

    def cash_x18(self, product_ids: Iterable[int]) -> int:
        """Quote balance, quote of these products' positions, and their isolated margins."""
        ids = tuple(product_ids)
        cross_x18 = sum(self.info.perp[p].v_quote_x18 for p in ids if p in self.info.perp)
        own = [row for row in self.isolated or () if row.product_id in ids]
        return self.info.quote_x18 + cross_x18 + sum(row.v_quote_x18 + row.margin_x18 for row in own)


@dataclass(frozen=True, slots=True)
class Reconciled:
    """The exchange's positions in the order asked for. cash_x18: see `Holdings.cash_x18`.

    drifts_x18: what had to be taken over (exchange minus ledger), zero when all was explained.
    from_archive: fills the stream had not brought. resting: own orders on the books, if asked for.
    cash_gap_x18: the exchange's cash minus the ledger's, None before `start`; not zero means unexplained.
    explained_by: why positions were taken over, as far as the exchange said.
    """

    positions_x18: tuple[int, ...]
    cash_x18: int
    equity_x18: int
    drifts_x18: tuple[int, ...]
    from_archive: int
    resting: int
    took_ms: float
    cash_gap_x18: int | None = None
    explained_by: str = ""


@dataclass(frozen=True, slots=True)
class PositionReport:
    """The answer of `reconcile_positions`, by product id where a mapping.

    position_diff_x18: exchange minus what was booked before. drift_bps: the largest of them, of the order's
    size. needs_recovery: that is more than one per cent. net_delta_bps: of the exchange's positions.
    """

    position_diff_x18: Mapping[int, int]
    drift_bps: Decimal
    net_delta_bps: int
    is_synced: bool
    needs_recovery: bool
    cash_gap_x18: int | None
    latency_ms: float
    explained_by: str = ""


class Reconciler:
    """Compares and repairs. Owned by one loop; every call is bounded by the REST deadline."""

    def __init__(
        self,
        rest: Rest,
        gateway: OrderGateway,
        ledger: Ledger,
        tracker: OrderTracker,
        *,
        subaccount: str,
        product_ids: tuple[int, ...],
    ) -> None:
        self._rest = rest
        self._gateway = gateway
        self._ledger = ledger
        self._tracker = tracker
        self._subaccount = subaccount
        self._product_ids = product_ids
        self._base_x18: int | None = None
        self._dust_x18 = self._dust_allowed = 0
        self._has_isolated = False
        self._foreign_reasons: dict[int, str] = {}
        self.drift_count = 0
        self.unexplained_x18 = 0
        """Cash that came or went without a fill, a payment or a takeover: a deposit, a transfer, a defect."""

    @property
    def rest(self) -> Rest:
        return self._rest

    def booked_x18(self, product_id: int) -> int:
        """Signed position of the ledger."""
        return self._ledger.position_x18(product_id)

    def isolated_x18(self, product_id: int) -> int:
        """The part of the booked position with a margin of its own: orders of the account do not close it."""
        return self._ledger.isolated_x18(product_id)

    async def position_x18(self, product_id: int) -> int:
        """The exchange's signed position, cross and isolated. Raises what REST raises."""
        return (await self.read(with_isolated=True)).position_x18(product_id)

    async def resting(self, product_id: int) -> list[OpenOrder]:
        """Orders of the account on this book. Raises what REST raises."""
        return await hedged(partial(self._rest.subaccount_orders, self._subaccount, product_id), HEDGE_S)

    async def read(self, *, with_isolated: bool = False) -> Holdings:
        """Isolated positions are asked for when they are wanted or were there before: it is a dear query."""
        info = await hedged(partial(self._rest.subaccount_info, self._subaccount), HEDGE_S)
        if not (with_isolated or self._has_isolated):
            return Holdings(info)
        isolated = tuple(await self._rest.isolated_positions(self._subaccount))
        self._has_isolated = bool(isolated)
        return Holdings(info, isolated)

    async def start(self, marks_x18: Mapping[int, int]) -> Holdings:
        """Where the ledger starts: positions, funding and cash of now. Raises what REST raises."""
        await self._read_funding()
        told = [fill for p in self._product_ids for fill in self._tracker.fills_after(p, -1) or ()]
        seen = await self.read(with_isolated=True)
        for fill in told:  # of orders that a former process sent: they are in these positions
            self._ledger.skip(fill)
        for product_id in self._product_ids:
            # Without a price of the market the oracle's: at none, all of a position would be profit or loss.
            mark_x18 = marks_x18.get(product_id) or seen.info.oracle_x18.get(product_id, 0)
            self._ledger.adopt(
                product_id, seen.position_x18(product_id), mark_x18,
                isolated_x18=seen.isolated_x18(product_id),
            )  # fmt: skip
        self._base_x18 = seen.cash_x18(self._product_ids) - self._ledger.cash_x18
        self._allow_dust()
        return seen

    def _allow_dust(self) -> None:
        """The exchange truncates funding at every change of a position. Where a position that stands now was
        last changed nobody tells, so each may be one unit of x18 off until it changes."""
        accounts = [self._ledger.account(product_id) for product_id in self._product_ids]
        margins = [margin for account in accounts for margin in (account.cross, account.isolated)]
        self._dust_allowed += sum(margin.position_x18 != 0 for margin in margins)

    def cash_gap_x18(self, cash_x18: int) -> int | None:
        """The exchange's cash minus what the ledger makes of it since `start`; None before that."""
        return None if self._base_x18 is None else cash_x18 - self._base_x18 - self._ledger.cash_x18

    def on_position_change(self, event: PositionChangeEvent) -> None:
        """Remember why a position changed when no match of ours did it."""
        self._has_isolated |= event.isolated
        if event.reason in (MATCHED, REST_REASON):  # REST knows no reasons
            return
        self._ledger.settle(event.product_id, is_isolated=event.isolated)
        if event.reason != SETTLED and event.product_id in self._product_ids:  # a deposit moves no position
            self._foreign_reasons[event.product_id] = event.reason

    def on_foreign_fill(self, fill: FillEvent) -> None:
        """Somebody else has traded on the account: what is taken over next has its reason."""
        self._foreign_reasons[fill.product_id] = FOREIGN_TRADE

    async def verify(self, marks_x18: Mapping[int, int], *, with_orders: bool = False) -> Reconciled:
        """Positions by REST against the ledger. `marks_x18` values what has to be taken over.

        with_orders: count what rests on the books, too.

        Raises TransportError or ExchangeError when the exchange does not answer.
        """
        started_ns = time.monotonic_ns()
        resting = await self.count_resting() if with_orders else 0
        seen = await self.read()
        from_archive = 0
        if not self._agrees(seen):
            await self._wait_for_fills(seen, FILLS_POLLS)
        if not self._agrees(seen):
            from_archive = await self._fills_from_archive()
        if not self._agrees(seen):
            await self._read_funding()
            seen = await self.read(with_isolated=True)  # something may have filled since the first answer
            await self._wait_for_fills(seen, LATE_POLLS)
        drifts = tuple(self._take_over(product_id, seen, marks_x18) for product_id in self._product_ids)
        explained_by = self._explain(seen) if any(drifts) else ""
        gap_x18 = self._gap_x18(seen)
        if gap_x18 and self._base_x18 is not None:  # told once, and not searched for again every time
            self._base_x18 += gap_x18
            self.unexplained_x18 += gap_x18
        self.drift_count += any(drifts)
        return Reconciled(
            positions_x18=tuple(seen.position_x18(product_id) for product_id in self._product_ids),
            cash_x18=seen.cash_x18(self._product_ids),
            equity_x18=seen.info.equity_x18,
            drifts_x18=drifts,
            from_archive=from_archive,
            resting=resting,
            took_ms=(time.monotonic_ns() - started_ns) / NS_PER_MS,
            cash_gap_x18=gap_x18,
            explained_by=explained_by,
        )

    async def reconcile_positions(
        self, marks_x18: Mapping[int, int], order_sizes_x18: Mapping[int, int]
    ) -> PositionReport:
        """Compare with the exchange, take its word, and say by how much we were off.

        order_sizes_x18: what a drift is measured against, by product. Raises what REST raises.
        """
        booked_x18 = {product_id: self._ledger.position_x18(product_id) for product_id in self._product_ids}
        seen = await self.verify(marks_x18)
        positions = dict(zip(self._product_ids, seen.positions_x18, strict=True))
        drifts = dict(zip(self._product_ids, seen.drifts_x18, strict=True))
        sizes = {p: order_sizes_x18.get(p) or abs(positions[p]) or 1 for p in positions}
        return PositionReport(
            position_diff_x18={p: positions[p] - booked_x18[p] for p in positions},
            drift_bps=max((bps_of(abs(drifts[p]), sizes[p]) for p in drifts), default=Decimal(0)),
            net_delta_bps=net_delta_bps(positions, marks_x18),
            is_synced=not any(seen.drifts_x18),
            needs_recovery=any(abs(drifts[p]) * BPS > sizes[p] * MAX_DRIFT_BPS for p in drifts),
            cash_gap_x18=seen.cash_gap_x18,
            latency_ms=seen.took_ms,
            explained_by=seen.explained_by,
        )

    def _take_over(self, product_id: int, seen: Holdings, marks_x18: Mapping[int, int]) -> int:
        is_known = seen.isolated is not None
        isolated_x18 = seen.isolated_x18(product_id) if is_known else self._ledger.isolated_x18(product_id)
        drift_x18 = self._ledger.adopt(
            product_id, seen.position_x18(product_id), marks_x18.get(product_id, 0), isolated_x18=isolated_x18
        )
        if drift_x18:
            self._leave_out_untold(product_id, drift_x18)
        return drift_x18

    def _leave_out_untold(self, product_id: int, drift_x18: int) -> None:
        """Fills that are known, and whose price nobody has told, are booked by a takeover of as much: they
        are not booked again when they are told."""
        untold = self._tracker.untold(product_id)
        missing = [
            (order.known_filled_x18 - order.filled_x18) * (1 if order.is_buy else -1) for order in untold
        ]
        if sum(missing) == drift_x18 and all(order.is_terminal for order in untold):
            self._ledger.leave_out(order.digest for order in untold)
            self._foreign_reasons[product_id] = UNTOLD

    def _explain(self, seen: Holdings) -> str:
        """Give the quote that came with a takeover its name; the cash is the exchange's from now on."""
        reasons = sorted(set(self._foreign_reasons.values())) or ["unknown"]
        self._foreign_reasons.clear()
        explained_by = ", ".join(reasons)
        gap_x18 = self.cash_gap_x18(seen.cash_x18(self._product_ids))
        if gap_x18:
            self._ledger.correct_cash(gap_x18, explained_by)
        self._allow_dust()
        return explained_by

    def _gap_x18(self, seen: Holdings) -> int | None:
        """What cash is off by. Dust of funding is booked as that."""
        gap_x18 = self.cash_gap_x18(seen.cash_x18(self._product_ids))
        if gap_x18 and abs(self._dust_x18 + gap_x18) <= self._dust_allowed:
            self._dust_x18 += gap_x18
            self._ledger.correct_cash(gap_x18, "funding truncated at a takeover")
            return 0
        return gap_x18

    async def _read_funding(self) -> None:
        products = await self._rest.all_products()
        for product_id in self._product_ids:
            if (state := products.get(product_id)) is not None:
                values = Cumulative(state.cumulative_funding_long_x18, state.cumulative_funding_short_x18)
                self._ledger.settle_funding(product_id, values)

    def _agrees(self, seen: Holdings) -> bool:
        return (
            all(seen.position_x18(p) == self._ledger.position_x18(p) for p in self._product_ids)
            and not self._gap_x18(seen)
        )  # fmt: skip

    async def count_resting(self) -> int:
        """Orders of ours on the books of the pair. Raises what REST raises."""
        books = await asyncio.gather(*(self.resting(product_id) for product_id in self._product_ids))
        return sum(len(orders) for orders in books)

    async def ask(
        self, order: TrackedOrder, *, is_decided: bool = False, beside: TrackedOrder | None = None
    ) -> None:  # fmt: skip
        """Find out how an order stands when the stream does not say, and tell the tracker.

        is_decided: the engine would refuse it by now, had it come only now. Then it need not be looked for
        in the archive, which is seconds behind: what it has done is on the book and in the position.
        beside: the one it was sent to replace, or that was sent to replace it; of such two `is_decided` is
        about the later one.

        Not resting and nowhere in the streams: the change of the position says what it filled, because a
        product has one order of ours at a time, but for what is known of `beside` and not booked yet. Its
        price and fee follow from the archive in `verify`. Raises what REST raises.
        """
        if beside is not None and not order.is_terminal and not beside.is_terminal:
            old, new = (beside, order) if order.replaces == beside.digest else (order, beside)
            if not new.was_accepted:
                await self._ask_both(old, new, is_decided=is_decided)
                return
        if not order.was_accepted and not is_decided:
            outcome = await self._gateway.resolve(order.digest, order.product_id, timeout_s=RESOLVE_TIMEOUT_S)
            if outcome.kind is not OutcomeKind.CONFIRMED:
                return
        was_over = order.is_terminal
        if await self._rests(order):
            return
        filled_x18 = order.filled_x18
        told_x18 = 0 if beside is None else beside.known_filled_x18 - beside.filled_x18
        moved_x18 = await self._moved_x18(order) - told_x18
        if (order.is_terminal and not was_over) or self._is_being_replaced(order, beside):
            return  # told meanwhile, or moved: another order may be what the position has moved by
        total_x18 = min(abs(order.amount_x18), max(order.known_filled_x18, filled_x18 + moved_x18))
        self._tracker.on_cancelled(order.digest, abs(order.amount_x18) - total_x18)

    async def _ask_both(self, old: TrackedOrder, new: TrackedOrder, *, is_decided: bool) -> None:
        """One of the two lives at most, and whichever rests is it. Where neither does and the new one cannot
        come any more, one of them has filled what the position has moved by: the new one if the archive knows
        it, else the old one."""
        if await self._rests(new):
            return
        if await self._rests(old):
            if is_decided and not new.was_accepted:
                self._tracker.on_outcome(new.digest, OutcomeFacts(is_rejected=True))
            return
        if not is_decided:
            return
        with contextlib.suppress(NadoError, TimeoutError):  # the archive is away: the position says enough
            async with asyncio.timeout(ARCHIVE_WAIT_S):
                for row in await self._rest.archive_orders([new.digest]):
                    self._tracker.on_archived(row.digest, row.base_filled_x18)
        if new.was_accepted:
            await self.ask(new, is_decided=True, beside=old)
            return
        was_x18, size_x18 = old.filled_x18, abs(old.amount_x18)
        moved_x18 = await self._moved_x18(old)
        if old.is_terminal or new.is_terminal or new.was_accepted:
            return  # told meanwhile: it may be what the position has moved by
        total_x18 = min(size_x18, max(old.known_filled_x18, was_x18 + moved_x18))
        self._tracker.on_cancelled(old.digest, size_x18 - total_x18)
        self._tracker.on_outcome(new.digest, OutcomeFacts(is_rejected=True))

    def _is_being_replaced(self, order: TrackedOrder, beside: TrackedOrder | None) -> bool:
        return any(one.replaces == order.digest and one is not beside for one in self._tracker.live())

    async def _rests(self, order: TrackedOrder) -> bool:
        """Whether it is on the book; the tracker takes what is left of it."""
        try:
            resting = await hedged(partial(self._rest.order, order.product_id, order.digest), HEDGE_S)
        except ExchangeError as error:
            if error.error_code != Code.ORDER_NOT_FOUND:
                raise
            return False
        self._tracker.on_resting(order.digest, resting.unfilled_x18)
        return True

    async def _moved_x18(self, order: TrackedOrder) -> int:
        """By how much the position is further the order's way than what is booked."""
        before_x18 = self._ledger.position_x18(order.product_id)
        seen = await self.read()
        return (seen.position_x18(order.product_id) - before_x18) * (1 if order.is_buy else -1)

    async def _wait_for_fills(self, seen: Holdings, polls: int) -> None:
        for _ in range(polls):
            if self._agrees(seen):
                return
            await asyncio.sleep(POLL_S)

    async def _fills_from_archive(self) -> int:
        """Book the fills of our own orders that no stream brought. Returns how many were new."""
        try:
            matches = await self._rest.archive_matches(
                self._subaccount, self._product_ids, limit=ARCHIVE_LIMIT
            )
        except NadoError:
            return 0  # the archive lags or is away: the position is taken over below, its price is not known
        booked = 0
        for match in reversed(matches):
            if self._tracker.get(match.digest) is None or match.base_filled_x18 == 0:
                continue
            fill = to_fill(match)
            booked += self._ledger.apply(fill)
            self._tracker.on_fill(fill)
        return booked
