"""`DNPairBot` by its historical names: one step of a cycle at a time, driven through the same state machine.

Every method decides through the machine and sends through the gate; none of them knows another way to trade.
They are for one caller at a time, and not while `run_alternating_strategy` runs.
"""

from __future__ import annotations

import asyncio
import signal
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from types import FrameType
from typing import TYPE_CHECKING, Any, Final

from nadofast.orders import OrderState
from nadofast.products import from_x18

from .model import Direction, EntryMode, Phase
from .order_results import OrderResult, info_of, status_of
from .shutdown import SIGNALS
from .sizing import LegQuote, NoSize, PairSize, size_pair
from .steps import unwind

if TYPE_CHECKING:
    from .desk import OrderDesk
    from .emergency import Unwound
    from .model import PairState, Plan
    from .pair import PairParts

FOREVER_NS: Final = 1 << 62
CONNECT_TIMEOUT_S: Final = 10.0
STUCK_AFTER: Final = 2
"""Unwinds in a row without a smaller position, then the position is closed by force."""


class PairByName(ABC):
    """The methods; `DNPairBot` brings the parts and the loop."""

    _p: PairParts
    _plan: Plan
    _state: PairState
    _desk: OrderDesk
    _stuck = 0
    _unwind_left_x18: int | None = None

    @abstractmethod
    def _step(self) -> None:
        """One decision, carried out."""

    @abstractmethod
    async def _wait(self) -> None:
        """Until something is new, or a step is due."""

    @abstractmethod
    async def _unwind_by_force(self, reason: str, legs: tuple[int, ...] = (0, 1)) -> Unwound | None:
        """Cross out of these legs; None if that could not be proved."""

    # ------------------------------------------------------------------ life

    async def initialize_clients(self) -> None:
        """Wait until books and account stream are live. Raises RequestTimeout that says what is missing."""
        await asyncio.gather(*(client.connect(CONNECT_TIMEOUT_S) for client in self._p.clients))

    async def cleanup(self) -> None:
        """Forget handlers and take down what rests. Positions stay: see `handle_emergency_unwind`."""
        await self._desk.leave(cancel=True)
        await asyncio.gather(*(client.disconnect() for client in self._p.clients))

    def setup_signal_handlers(self) -> None:
        """SIGINT, SIGTERM and SIGHUP ask to stop."""
        for number in SIGNALS:
            asyncio.get_running_loop().add_signal_handler(number, self.shutdown, number, None)

    def shutdown(self, signum: int, frame: FrameType | None) -> None:
        """Ask to stop, as the signal does."""
        self._p.stop.stop(signal.Signals(signum).name)

    # ------------------------------------------------------------------ sizes

    def calculate_balanced_quantities(self) -> PairSize | NoSize:
        """Both sizes together, at the mids of now: the least notional gap within the budget."""
        mids = [client.quote().mid_x18 for client in self._p.clients]
        legs = [LegQuote(p, mid) for p, mid in zip(self._plan.products, mids, strict=True)]
        return size_pair((legs[0], legs[1]), self._plan.sizing)

    def calculate_order_size(self, ticker: str) -> Decimal:
        """Base units of one leg; 0 when no size fits."""
        size = self.calculate_balanced_quantities()
        return Decimal(0) if isinstance(size, NoSize) else from_x18(size.sizes_x18[self._leg(ticker)])

    def calculate_order_size_with_slippage(self, ticker: str, side: str) -> tuple[Decimal, Decimal | None]:
        """(base units, expected slippage in bps against the touch; None if not so much is shown)."""
        leg, amount = self._leg(ticker), self.calculate_order_size(ticker)
        product_id = self._plan.products[leg].product_id
        book = self._p.feed.book(product_id)
        size_x18 = int(amount.scaleb(18))
        if not size_x18 or not book.is_valid:
            return amount, None
        is_shown = sum(q for _, q in (book.asks(100) if side == "buy" else book.bids(100))) >= size_x18
        wanted: Any = side
        return amount, Decimal(str(book.slippage_bps(wanted, size_x18))) if is_shown else None

    # ------------------------------------------------------------------ cycles

    async def place_simultaneous_orders(
        self, eth_direction: str = "buy", sol_direction: str = "sell"
    ) -> tuple[OrderResult, OrderResult]:
        """Send both legs of an entry in one loop turn and wait for both ends. What is left to do about a leg
        that stayed behind is the next step's business: `execute_build_cycle` or the emergency unwind."""
        tags = await self._enter(_direction(eth_direction, sol_direction), at_once=True)
        found = [self._result(tag) for tag in tags] or [
            OrderResult(False, error_message="the machine did not enter: " + self._why_not())
        ] * 2
        return found[0], found[1]

    async def execute_build_cycle(self, eth_direction: str = "buy", sol_direction: str = "sell") -> bool:
        """FLAT → HEDGED; a pair under way is completed. True: both legs full by the exchange's word."""
        if self._state.phase is Phase.FLAT:
            await self._enter(_direction(eth_direction, sol_direction))
        await self._drive(lambda state: state.phase in (Phase.HEDGED, Phase.FLAT))
        return self._state.phase is Phase.HEDGED

    async def execute_unwind_cycle(self, eth_side: str = "sell", sol_side: str = "buy") -> bool:
        """HEDGED → FLAT by post-only, then market. True: flat by the exchange's word, as planned. The sides
        have to oppose the position (ValueError): nothing is guessed."""
        if self._state.phase is not Phase.HEDGED:
            return False
        held = [leg.held_x18 for leg in self._state.legs]
        for side, held_x18 in zip((eth_side, sol_side), held, strict=True):
            if side != ("sell" if held_x18 > 0 else "buy"):
                raise ValueError(f"{side!r} does not close a position of {from_x18(held_x18)}")
        self._state, _ = unwind(self._state, "", self._p.inputs.now_ns)
        done = self._state.done
        await self._drive(lambda state: state.phase is Phase.FLAT)
        await self._track_unwind_progress()
        return self._state.phase is Phase.FLAT and self._state.done == done + 1

    async def execute_dn_pair_cycle(self, eth_direction: str = "buy", sol_direction: str = "sell") -> bool:
        """Build, hold, unwind. True if all of it went as planned."""
        if not await self.execute_build_cycle(eth_direction, sol_direction):
            return False
        inputs, until_ns = self._p.inputs, self._p.inputs.now_ns + self._plan.hold_ns
        await self._drive(lambda state: state.phase is not Phase.HEDGED or inputs.now_ns >= until_ns)
        if self._state.phase is not Phase.HEDGED:  # it had to leave before
            await self._drive(lambda state: state.phase is Phase.FLAT)
            return False
        return await self.execute_unwind_cycle(_opposite(eth_direction), _opposite(sol_direction))

    async def execute_buy_first_cycle(self) -> bool:
        """Long the first product, short the second, and out again."""
        return await self.execute_dn_pair_cycle("buy", "sell")

    async def execute_sell_first_cycle(self) -> bool:
        """The mirror."""
        return await self.execute_dn_pair_cycle("sell", "buy")

    # ------------------------------------------------------------------ emergencies

    async def handle_emergency_unwind(
        self,
        eth_result: OrderResult | None = None,
        sol_result: OrderResult | None = None,
        *,
        reason: str = "asked for",
    ) -> Unwound | None:
        """Close everything at market, by the exchange's positions and not by the results, which may be wrong;
        they only name the reason. No new exposure is taken afterwards until somebody resumes."""
        failed = [
            r.error_message or r.status for r in (eth_result, sol_result) if r is not None and not r.success
        ]
        reason = "; ".join([reason, *(str(text) for text in failed)])
        self._p.gate.halt(f"emergency unwind: {reason}")
        return await self._unwind_by_force(reason)

    async def emergency_unwind_eth(self) -> Unwound | None:
        """Close the first leg at market."""
        return await self._unwind_by_force("first leg, asked for", (0,))

    async def emergency_unwind_sol(self) -> Unwound | None:
        """Close the second leg at market."""
        return await self._unwind_by_force("second leg, asked for", (1,))

    async def _force_close_position(self, ticker: str) -> bool:
        """Close one product at market. True: closed by the exchange's word."""
        unwound = await self._unwind_by_force(f"{ticker}, forced", (self._leg(ticker),))
        return unwound is not None and unwound.flat is not None

    async def _track_unwind_progress(self) -> None:
        """A position that two unwinds in a row did not make smaller is closed by force."""
        left_x18 = sum(abs(self._p.ledger.position_x18(p.product_id)) for p in self._plan.products)
        is_smaller = self._unwind_left_x18 is None or left_x18 < self._unwind_left_x18
        self._stuck = 0 if not left_x18 or is_smaller else self._stuck + 1
        self._unwind_left_x18 = left_x18 or None
        if self._stuck >= STUCK_AFTER:
            await self._unwind_by_force("unwinding makes no progress")

    # ------------------------------------------------------------------ inside

    async def _enter(self, direction: Direction, *, at_once: bool = False) -> list[int]:
        """One entry attempt, until both of its orders have ended; their tags. Empty: no entry was made.
        at_once: both leave together, whatever the mode of entry."""
        self._state = replace(self._state, wanted=direction)
        plan, self._plan = self._plan, _by_hand(self._plan)
        if at_once:
            self._plan = replace(self._plan, entry_mode=EntryMode.IOC)
        try:
            cycle = self._state.cycle
            while self._state.cycle == cycle and self._state.end is None:
                self._step()
                if self._state.cycle != cycle:
                    break
                await self._wait()
            tags = [leg.working.intent.tag for leg in self._state.legs if leg.working is not None]
            while any((view := self._desk.view(tag)) is not None and not view.is_final for tag in tags):
                if self._state.phase is not Phase.BUILDING:
                    break
                await self._wait()
                if not all((v := self._desk.view(tag)) is None or v.is_final for tag in tags):
                    self._step()
            return tags
        finally:
            self._plan = plan

    async def _drive(self, is_there: Callable[[PairState], bool]) -> None:
        """Let the machine work until `is_there`, or until it ends."""
        plan, self._plan = self._plan, _by_hand(self._plan)
        try:
            while self._state.end is None and not is_there(self._state):
                self._step()
                if self._state.end is None and not is_there(self._state):
                    await self._wait()
        finally:
            self._plan = plan

    def _why_not(self) -> str:
        end = self._state.end
        return end.reason if end is not None else f"phase {self._state.phase}"

    def _result(self, tag: int) -> OrderResult:
        order = self._desk.order(tag)
        if order is None or order.tracked is None:
            return OrderResult(False, error_message="not sent" if order is None else order.denied)
        info, tracked = info_of(order.tracked), order.tracked
        is_filled = tracked.state is OrderState.FILLED
        return OrderResult(
            is_filled, info.order_id, info.side, info.size, info.avg_fill_price or info.price,
            status_of(tracked), None if is_filled else (info.cancel_reason or "not filled"), info.filled_size,
        )  # fmt: skip

    def _leg(self, ticker: str) -> int:
        """0 or 1 for a symbol or its first part. Raises ValueError."""
        for leg, product in enumerate(self._plan.products):
            if ticker.upper() in (product.symbol.upper(), product.symbol.upper().partition("-")[0]):
                return leg
        raise ValueError(f"{ticker!r} is not a leg of this pair")


def _direction(eth: str, sol: str) -> Direction:
    """Raises ValueError when the legs do not oppose each other."""
    if (eth, sol) == ("buy", "sell"):
        return Direction.BUY_FIRST
    if (eth, sol) == ("sell", "buy"):
        return Direction.SELL_FIRST
    raise ValueError(f"{eth!r} and {sol!r}: the legs of a pair are one buy and one sell")


def _by_hand(plan: Plan) -> Plan:
    """The same, but nothing begins or ends by itself."""
    return replace(plan, hold_ns=FOREVER_NS, cycles=1 << 62, is_by_hand=True)


def _opposite(side: str) -> str:
    return "sell" if side == "buy" else "buy"
