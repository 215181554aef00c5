"""Flat by the shortest way: cancel everything, read the positions, cross what is there, read again.

It shares nothing with the state machine but the gate, so it still works when the machine does not. Orders
leave through the clients, so the gate sees them too; exits are never blocked by entry limits.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable
from typing import Final

from nadofast.errors import NadoError
from nadofast.gateway import OrderGateway

from .client import NadoClient
from .execution import entry_price_x18
from .market import Market
from .reconcile import Reconciled, Reconciler
from .risk import OrderIntent, Purpose, RiskGate

FIRST_TAG: Final = 1 << 30
SETTLE_S: Final = 0.15
MAX_CAP_BPS: Final = 500


async def flatten(
    clients: tuple[NadoClient, NadoClient],
    gateway: OrderGateway,
    gate: RiskGate,
    reconciler: Reconciler,
    market: Market,
    *,
    cap_bps: int,
    deadline_s: float,
    on_intent: Callable[[OrderIntent, int], None],
) -> Reconciled | None:
    """What the exchange said when it said flat for the second time; None when the time is up.

    on_intent(intent, mid_x18) runs before each order leaves, for the records.
    """
    deadline = time.monotonic() + deadline_s
    tags = itertools.count(FIRST_TAG)
    await gateway.cancel_product([client.product.product_id for client in clients])
    flat_answers = 0
    while time.monotonic() < deadline:
        try:
            seen = await reconciler.verify(market.marks_x18)
        except NadoError:
            await asyncio.sleep(SETTLE_S)
            continue
        flat_answers = 0 if any(seen.positions_x18) else flat_answers + 1
        if flat_answers >= 2:
            return seen
        for leg, (client, position_x18) in enumerate(zip(clients, seen.positions_x18, strict=True)):
            if position_x18:
                await _cross(client, gate, leg, next(tags), position_x18, cap_bps, on_intent)
        cap_bps = min(2 * cap_bps, MAX_CAP_BPS)
        await asyncio.sleep(SETTLE_S)
    return None


async def _cross(
    client: NadoClient,
    gate: RiskGate,
    leg: int,
    tag: int,
    position_x18: int,
    cap_bps: int,
    on_intent: Callable[[OrderIntent, int], None],
) -> None:
    quote = client.quote()
    if not quote.is_two_sided:
        return
    price_x18 = entry_price_x18(client.product, -position_x18, quote.mid_x18, cap_bps)
    intent = OrderIntent(tag, leg, client.product.product_id, Purpose.TAKE, -position_x18, price_x18)
    on_intent(intent, quote.mid_x18)
    decision = client.approve(intent)
    try:
        if decision.order is not None:
            await client.send(decision.order)
    except NadoError:
        return  # asked again on the next round, from the positions as they are then
    finally:
        gate.release(tag)
