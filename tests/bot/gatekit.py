"""What the tests of the risk gate share: a world to look at, limits, and orders for it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from bot.risk import CLIENT_ID_BASE, OrderIntent, Purpose, RiskGate, RiskLimits, RiskView
from nadofast.orders import TrackedOrder
from nadofast.products import to_x18

LIMITS = RiskLimits(to_x18(150), to_x18(300), to_x18(10), 5_000)


@dataclass
class World:
    positions: dict[int, int] = field(default_factory=lambda: {4: 0, 8: 0})
    marks: dict[int, int] = field(default_factory=lambda: {4: to_x18(3000), 8: to_x18(140)})
    ages: dict[int, int] = field(default_factory=lambda: {4: 5, 8: 5})
    pnl: int = 0
    now_ns: int = 0
    utc_s: float | None = None
    offset_ms: float | None = None

    def view(self) -> RiskView:
        return RiskView(
            self.positions, self.marks, self.ages, self.pnl, self.now_ns, self.utc_s, self.offset_ms
        )


def intent(
    amount: str, purpose: Purpose = Purpose.ENTRY, tag: int = 1, product_id: int = 4, price: str = "3000"
) -> OrderIntent:
    return OrderIntent(tag, 0 if product_id == 4 else 1, product_id, purpose, to_x18(amount), to_x18(price))


def leaving(intent: OrderIntent, **changes: object) -> TrackedOrder:
    """The order as the gateway is about to send it."""
    order = TrackedOrder(
        digest="0xaa", product_id=intent.product_id, sender="0x11", price_x18=intent.price_x18,
        amount_x18=intent.amount_x18, expiration_s=1, nonce=1, appendix=1,
        client_id=CLIENT_ID_BASE + intent.tag,
    )  # fmt: skip
    return replace(order, **changes)  # type: ignore[arg-type]


def limited(world: World, **limits: object) -> RiskGate:
    return RiskGate(
        replace(LIMITS, max_leg_x18=to_x18(50_000), max_gross_x18=to_x18(90_000), **limits), world.view
    )  # type: ignore[arg-type]
