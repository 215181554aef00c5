"""The one gate every order passes. An order that did not pass cannot be expressed.

`RiskGate.check` turns an `OrderIntent` into a `Decision`; only a passing decision holds an
`ApprovedOrder`, only this module makes those, and `NadoClient` sends nothing else. `RiskGate.admit` stands
at the door itself: the gateway asks it about every signed order before the first byte leaves, so an altered,
repeated or unapproved order goes nowhere. Entry limits never block an exit; an exit is proved by arithmetic,
not by its label.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from nadofast.orders import TrackedOrder
from nadofast.products import mul_x18

from .units import sign

# Our orders are recognised by their client id in every event; far from small numbers others may use.
CLIENT_ID_BASE: Final = 1 << 40


class Purpose(StrEnum):
    """Why an order exists. ENTRY and HEDGE add exposure, the others may only remove it."""

    ENTRY = "entry"
    HEDGE = "hedge"
    REST = "exit-rest"
    TAKE = "exit-take"

    @property
    def is_exit(self) -> bool:
        return self in (Purpose.REST, Purpose.TAKE)


@dataclass(frozen=True, slots=True)
class OrderIntent:
    """What the strategy wants. amount_x18 < 0 sells. price_x18 is the worst price it may get.

    ttl_ms: how long it may rest (exit-rest only). discard: the engine shall refuse it if it comes late.
    """

    tag: int
    leg: int
    product_id: int
    purpose: Purpose
    amount_x18: int
    price_x18: int
    ttl_ms: int = 0
    discard: bool = False


@dataclass(frozen=True, slots=True)
class RiskLimits:
    max_leg_x18: int
    max_gross_x18: int
    daily_loss_x18: int
    max_quote_age_ms: int


@dataclass(frozen=True, slots=True)
class RiskView:
    """The world as the gate sees it, by product id where a mapping."""

    positions_x18: Mapping[int, int]
    marks_x18: Mapping[int, int]
    quote_age_ms: Mapping[int, int]
    day_pnl_x18: int


_APPROVAL: Final = object()


@dataclass(frozen=True, slots=True)
class ApprovedOrder:
    """An intent that passed. Building one by hand raises PermissionError."""

    intent: OrderIntent
    proof: object = field(repr=False, compare=False, default=None)

    def __post_init__(self) -> None:
        if self.proof is not _APPROVAL:
            raise PermissionError("orders are approved by RiskGate.check only")


@dataclass(frozen=True, slots=True)
class Decision:
    """Falsy when refused; `reasons` says why, each as `rule: detail`."""

    order: ApprovedOrder | None
    reasons: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return self.order is not None


@dataclass(slots=True)
class _InFlight:
    """An approved order. open_x18: what it may still add to the booked position, absolute."""

    intent: OrderIntent
    open_x18: int
    has_left: bool = False


class RiskGate:
    """Limits, the latch, and what approved orders may still add until they end."""

    def __init__(self, limits: RiskLimits, view: Callable[[], RiskView]) -> None:
        self.limits = limits
        self._view = view
        self._in_flight: dict[int, _InFlight] = {}  # by tag
        self.halt_reason: str | None = None
        self.approved = 0
        self.refused = 0

    def halt(self, reason: str) -> None:
        """Latch: no new exposure from now on. The first reason stays; nothing here resets it."""
        if self.halt_reason is None:
            self.halt_reason = reason

    def watch(self) -> str | None:
        """Check the standing limits between orders; latches on a breach and returns the halt reason."""
        loss_x18 = -self._view().day_pnl_x18
        if loss_x18 >= self.limits.daily_loss_x18:
            self.halt(f"daily loss {loss_x18 / 10**18:.4f} USD reached the limit")
        return self.halt_reason

    def check(self, intent: OrderIntent) -> Decision:
        """Approve or refuse one order. An approved one counts until `release(tag)`."""
        view = self._view()
        reasons = self._malformed(intent)
        if not reasons:
            reasons = (
                self._exit_reasons(intent, view)
                if intent.purpose.is_exit
                else self._entry_reasons(intent, view)
            )
        if reasons:
            self.refused += 1
            return Decision(None, tuple(reasons))
        self.approved += 1
        self._in_flight[intent.tag] = _InFlight(intent, abs(intent.amount_x18))
        return Decision(ApprovedOrder(intent, _APPROVAL))

    def admit(self, order: TrackedOrder) -> None:
        """The last word before bytes leave: this is an approved order, unchanged, for the first time.

        Raises PermissionError otherwise, and for an approved entry when the latch fell in between.
        """
        flight = self._in_flight.get((order.client_id or 0) - CLIENT_ID_BASE)
        if flight is None:
            raise PermissionError("an order that the gate has not approved")
        intent = flight.intent
        approved = (intent.product_id, intent.amount_x18, intent.price_x18)
        if (order.product_id, order.amount_x18, order.price_x18) != approved:
            raise PermissionError(f"order {intent.tag} is not the one that was approved")
        if flight.has_left:
            raise PermissionError(f"order {intent.tag} has left before")
        if self.halt_reason is not None and not intent.purpose.is_exit:
            raise PermissionError(f"halted: {self.halt_reason}")
        flight.has_left = True

    def expect(self, tag: int, open_x18: int) -> None:
        """What this order may still add to the booked position: unfilled, or filled and not booked yet."""
        if tag in self._in_flight:
            self._in_flight[tag].open_x18 = max(0, open_x18)

    def release(self, tag: int) -> None:
        """The order has ended: nothing more can come from it."""
        self._in_flight.pop(tag, None)

    def release_all(self) -> None:
        """The exchange has nothing of ours on its books: whatever was in flight has ended."""
        self._in_flight.clear()

    def _malformed(self, intent: OrderIntent) -> list[str]:
        if intent.amount_x18 == 0 or intent.price_x18 <= 0:
            return [f"malformed: amount {intent.amount_x18}, price {intent.price_x18}"]
        if intent.tag in self._in_flight:
            return [f"duplicate: tag {intent.tag} is in flight"]
        return []

    def _entry_reasons(self, intent: OrderIntent, view: RiskView) -> list[str]:
        limits, reasons = self.limits, []
        if self.halt_reason is not None:
            reasons.append(f"halted: {self.halt_reason}")
        if -view.day_pnl_x18 >= limits.daily_loss_x18:
            reasons.append(f"daily_loss: {-view.day_pnl_x18} x18 of {limits.daily_loss_x18} x18")
        age_ms = view.quote_age_ms.get(intent.product_id, limits.max_quote_age_ms + 1)
        if age_ms > limits.max_quote_age_ms:
            reasons.append(f"quote_age: {age_ms} ms, limit {limits.max_quote_age_ms} ms")
        leg_x18 = self._worst_x18(intent.product_id, view, intent)
        if leg_x18 > limits.max_leg_x18:
            reasons.append(f"max_leg: {leg_x18} x18 at worst, limit {limits.max_leg_x18} x18")
        gross_x18 = sum(
            self._worst_x18(product_id, view, intent if product_id == intent.product_id else None)
            for product_id in view.positions_x18
        )
        if gross_x18 > limits.max_gross_x18:
            reasons.append(f"max_gross: {gross_x18} x18 at worst, limit {limits.max_gross_x18} x18")
        return reasons

    def _exit_reasons(self, intent: OrderIntent, view: RiskView) -> list[str]:
        """An exit opposes the position and, with the other exits in flight, does not exceed it."""
        position_x18 = view.positions_x18.get(intent.product_id, 0)
        if sign(intent.amount_x18) != -sign(position_x18):
            return [f"not_an_exit: amount {intent.amount_x18} against position {position_x18}"]
        others_x18 = sum(
            other.open_x18
            for other in self._in_flight.values()
            if other.intent.product_id == intent.product_id
            and sign(other.intent.amount_x18) == sign(intent.amount_x18)
        )
        if abs(intent.amount_x18) + others_x18 > abs(position_x18):
            return [
                f"exit_too_large: {abs(intent.amount_x18)} + {others_x18} in flight, position {position_x18}"
            ]
        return []

    def _worst_x18(self, product_id: int, view: RiskView, extra: OrderIntent | None) -> int:
        """Largest notional the product can reach: position at mark, plus adding orders at the worse of
        their price and the mark (a sell may fill above its limit)."""
        mark_x18 = view.marks_x18.get(product_id, 0)
        position_x18 = view.positions_x18.get(product_id, 0)
        adding = [
            (other.intent, other.open_x18)
            for other in self._in_flight.values()
            if other.intent.product_id == product_id
        ]
        if extra is not None:
            adding.append((extra, abs(extra.amount_x18)))
        long_x18 = short_x18 = 0
        for intent, open_x18 in adding:
            notional_x18 = mul_x18(open_x18, max(intent.price_x18, mark_x18))
            if intent.amount_x18 > 0:
                long_x18 += notional_x18
            else:
                short_x18 += notional_x18
        held_x18 = mul_x18(position_x18, mark_x18)
        return max(abs(held_x18 + long_x18), abs(held_x18 - short_x18))
