"""Flat by the shortest way: cancel everything, read the positions, cross what is there, read again.

It shares nothing with the state machine but the gate, and opens an order socket of its own, so it still works
when the machine and its gateway do not. Market orders only. Exits are never blocked by entry limits.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from nadofast.errors import NadoError
from nadofast.gateway import OrderGateway

from .client import NadoClient
from .execution import entry_price_x18
from .market import Market
from .reconcile import Reconciled, Reconciler
from .risk import OrderIntent, Purpose, RiskGate
from .units import bps_of
from .waits import first_answer

_TAGS: Final = itertools.count(1 << 30)  # far from the machine's own
SETTLE_S: Final = 0.15
ASK_PAUSE_S: Final = 0.5
SEND_TIMEOUT_S: Final = 1.5
OPEN_TIMEOUT_S: Final = 1.0
MAX_CAP_BPS: Final = 500
STALE_MS: Final = 1_000


@dataclass(frozen=True, slots=True)
class Unwound:
    """How an emergency unwind ended. flat: the exchange's answer when it said so for the second time, None if
    the time ran out first. slippage_bps: of all fills against the mids at the start, None without a fill."""

    reason: str
    flat: Reconciled | None
    took_s: float
    slippage_bps: Decimal | None
    orders: int

    def __str__(self) -> str:
        slippage = "" if self.slippage_bps is None else f", slippage {self.slippage_bps} bps"
        what = "flat" if self.flat is not None else "NOT flat"
        took = f"{what} after {self.took_s:.2f} s, {self.orders} orders"
        return f"emergency unwind ({self.reason}): {took}{slippage}"


class Emergency:
    """Built at the start, used at the worst moment.

    spare: makes the gateway to use, over sockets of its own; while they are not up, orders go over HTTP.
    on_intent(intent, mid_x18): before each order leaves, for the records. may_arrive(): an order that left
    before could still make a position; while that is so, flat is no answer. must_leave(): give up now.
    """

    def __init__(
        self,
        clients: tuple[NadoClient, NadoClient],
        spare: Callable[[], OrderGateway],
        gate: RiskGate,
        reconciler: Reconciler,
        market: Market,
        *,
        cap_bps: int,
        on_intent: Callable[[OrderIntent, int], None],
        may_arrive: Callable[[], bool],
        must_leave: Callable[[], bool],
    ) -> None:
        self._clients = clients
        self._spare = spare
        self._gate = gate
        self._reconciler = reconciler
        self._market = market
        self._cap_bps = cap_bps
        self._on_intent = on_intent
        self._may_arrive = may_arrive
        self._must_leave = must_leave
        self._sent: list[tuple[str, int]] = []

    async def unwind(self, reason: str, deadline_s: float, legs: tuple[int, ...] = (0, 1)) -> Unwound:
        """Cross what the exchange says is held on these legs until it says twice that nothing is."""
        started_s, self._sent = time.monotonic(), []
        flat = None
        async with self._own_gateway() as gateway:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(deadline_s):
                    flat = await self._until_flat(gateway, legs)
            slippage_bps = self._slippage_bps(gateway)
        return Unwound(reason, flat, time.monotonic() - started_s, slippage_bps, len(self._sent))

    @contextlib.asynccontextmanager
    async def _own_gateway(self) -> AsyncIterator[OrderGateway]:
        gateway = self._spare()
        try:
            with contextlib.suppress(TimeoutError, NadoError):
                async with asyncio.timeout(OPEN_TIMEOUT_S):
                    await gateway.start()
            yield gateway
        finally:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(OPEN_TIMEOUT_S):
                    await gateway.stop()

    async def _until_flat(self, gateway: OrderGateway, legs: tuple[int, ...]) -> Reconciled | None:
        product_ids = [client.product.product_id for client in self._clients]  # verify counts both books
        cap_bps, flat_answers = self._cap_bps, 0
        await self._cancel(gateway, product_ids)
        while not self._must_leave():
            is_certain = not self._may_arrive()  # before the reading: it shows what arrived until then
            seen = await first_answer(
                lambda: self._reconciler.verify(self._market.marks_x18, with_orders=True), ASK_PAUSE_S
            )
            if seen.resting:  # it could fill after the position is closed
                flat_answers = 0
                await self._cancel(gateway, product_ids)
                await asyncio.sleep(SETTLE_S)
                continue
            self._gate.release_all()  # nothing of ours is on the books, by the exchange's word
            own_x18 = [
                x18 - self._reconciler.isolated_x18(product_id)
                for x18, product_id in zip(seen.positions_x18, product_ids, strict=True)
            ]
            is_closable = any(self._size_x18(leg, own_x18[leg]) for leg in legs)
            flat_answers = 0 if is_closable or not is_certain else flat_answers + 1
            if flat_answers >= 2:
                # Less than a step, or what is isolated, may be left: no order of ours can close it.
                return None if any(seen.positions_x18[leg] for leg in legs) else seen
            await asyncio.gather(
                *(self._cross(gateway, leg, own_x18[leg], cap_bps) for leg in legs if own_x18[leg])
            )
            cap_bps = min(2 * cap_bps, MAX_CAP_BPS)
            await asyncio.sleep(SETTLE_S)
        return None

    async def _cancel(self, gateway: OrderGateway, product_ids: list[int]) -> None:
        """What it did not reach is seen when the orders are counted, and cancelled again."""
        with contextlib.suppress(NadoError):
            await gateway.cancel_product(product_ids)

    async def _cross(self, gateway: OrderGateway, leg: int, position_x18: int, cap_bps: int) -> None:
        client, amount_x18 = self._clients[leg], -self._size_x18(leg, position_x18)
        mid_x18 = await self._mid_x18(client) if amount_x18 else 0
        if not mid_x18:
            return
        price_x18 = entry_price_x18(client.product, amount_x18, mid_x18, cap_bps)
        tag, product_id = next(_TAGS), client.product.product_id
        intent = OrderIntent(tag, leg, product_id, Purpose.TAKE, amount_x18, price_x18, 0, True)
        self._on_intent(intent, mid_x18)
        decision = client.approve(intent)
        try:
            if decision.order is not None:
                async with asyncio.timeout(SEND_TIMEOUT_S):
                    outcome = await gateway.place(client.request(decision.order))
                if outcome.digest:
                    self._sent.append((outcome.digest, mid_x18))
        except (NadoError, TimeoutError):
            return  # asked again on the next round, from the positions as they are then
        finally:
            self._gate.release(tag)

    def _size_x18(self, leg: int, position_x18: int) -> int:
        """As much of a position as orders can close, on the step grid."""
        return self._clients[leg].product.round_size(position_x18)

    async def _mid_x18(self, client: NadoClient) -> int:
        """The stream's if it is fresh, else HTTP's; the last one known rather than none."""
        quote = client.quote()
        if quote.is_two_sided and quote.age_ms < STALE_MS:
            return quote.mid_x18
        with contextlib.suppress(NadoError):
            price = await self._reconciler.rest.market_price(client.product.product_id)
            if price.bid_x18 and price.ask_x18:
                return (price.bid_x18 + price.ask_x18) // 2
        return self._market.marks_x18.get(client.product.product_id, 0)

    def _slippage_bps(self, gateway: OrderGateway) -> Decimal | None:
        lost_x18 = whole_x18 = 0
        for digest, mid_x18 in self._sent:
            order = gateway.tracker.get(digest)
            if order is None or order.avg_price_x18 is None:
                continue
            worse_x18 = (order.avg_price_x18 - mid_x18) * (1 if order.is_buy else -1)
            lost_x18 += worse_x18 * order.filled_x18
            whole_x18 += mid_x18 * order.filled_x18
        return bps_of(lost_x18, whole_x18) if whole_x18 else None
