"""The one gate every order passes. An order that did not pass cannot be expressed.

`RiskGate.check` turns an `OrderIntent` into a `Decision`; only a passing decision holds an
`ApprovedOrder`, only this module makes those, and `NadoClient` sends nothing else. `RiskGate.admit` stands
at the door itself: the gateway asks it about every signed order before the first byte leaves, so an altered,
repeated or unapproved order goes nowhere. Entry limits never block an exit; an exit is proved by arithmetic,
not by its label. A halt is a latch on disk: neither midnight nor a restart takes it back.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from nadofast.orders import TrackedOrder
from nadofast.products import mul_x18

from .latch import KillSwitch
from .maintenance import MaintenanceWindows
from .units import BPS, NS_PER_S, sign

# Our orders are recognised by their client id in every event; far from small numbers others may use.
CLIENT_ID_BASE: Final = 1 << 40
RATES_REMEMBERED: Final = 10_000


class Purpose(StrEnum):
    """Why an order exists. ENTRY, MAKE and HEDGE add exposure, the others may only remove it. MAKE and REST
    are post-only and wait on the book.

    HEDGE: what is left of an entry that began, the missing leg or the next slice. It mends what standing on
    one leg costs, so it is free of what only paces or forbids beginnings: order and build rate, net delta
    held. It is not free of anything that bounds a loss or says that the market is not seen: latch, loss of
    the day, quote age, clock, maintenance, sizes. Refused there, the leg that filled is unwound, which
    nothing blocks.
    """

    ENTRY = "entry"
    MAKE = "entry-rest"
    HEDGE = "hedge"
    REST = "exit-rest"
    TAKE = "exit-take"

    @property
    def is_exit(self) -> bool:
        return self in (Purpose.REST, Purpose.TAKE)

    @property
    def rests(self) -> bool:
        return self in (Purpose.REST, Purpose.MAKE)

    @property
    def begins(self) -> bool:
        """The first order of a leg: nothing is held yet that it would complete."""
        return self in (Purpose.ENTRY, Purpose.MAKE)


ENTRIES: Final = (Purpose.ENTRY, Purpose.MAKE, Purpose.HEDGE)
EXITS: Final = (Purpose.REST, Purpose.TAKE)


@dataclass(frozen=True, slots=True)
class OrderIntent:
    """What the strategy wants. amount_x18 < 0 sells. price_x18 is the worst price it may get.

    ttl_ms: how long it may rest (0: it crosses). discard: the engine shall refuse it if it comes late.
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
    """Limits of entries; 0 or an empty mapping where it says so means: none.

    max_leg_x18, max_gross_x18: quote at worst price. daily_loss_x18: quote lost since UTC midnight, open
    positions at the last mid, fees and funding included. max_coins_x18: base units by product id.
    max_entry_delta_bps: net delta of the held positions above which nothing is built on top of them;
    warn_delta_bps: above which it is worth a line. max_orders_per_min: orders of all kinds (0: none);
    max_builds_per_min: entries of one product (0: none). max_clock_offset_ms: local clock against the
    exchange's (0: none). windows: when the exchange is closed (None: never). max_residual_x18: so much held
    is what no order could close, and not an unbalanced pair.
    """

    max_leg_x18: int
    max_gross_x18: int
    daily_loss_x18: int
    max_quote_age_ms: int
    max_coins_x18: Mapping[int, int] = field(default_factory=dict)
    max_entry_delta_bps: int = 1_000
    warn_delta_bps: int = 100
    max_orders_per_min: int = 0
    max_builds_per_min: int = 0
    max_clock_offset_ms: float = 0.0
    windows: MaintenanceWindows | None = None
    max_residual_x18: int = 0


@dataclass(frozen=True, slots=True)
class RiskView:
    """The world as the gate sees it, by product id where a mapping.

    now_ns: monotonic. utc_s: the exchange's time, None while it is unknown. clock_offset_ms: exchange
    minus local clock, None while it is unknown.
    """

    positions_x18: Mapping[int, int]
    marks_x18: Mapping[int, int]
    quote_age_ms: Mapping[int, int]
    day_pnl_x18: int
    now_ns: int = 0
    utc_s: float | None = None
    clock_offset_ms: float | None = None


class _Proof:
    """Made by `RiskGate.check` for one intent; no other intent can go by it."""

    __slots__ = ("intent",)

    def __init__(self, intent: OrderIntent, key: object) -> None:
        if key is not _KEY:
            raise PermissionError("orders are approved by RiskGate.check only")
        self.intent = intent


_KEY: Final = object()


@dataclass(frozen=True, slots=True)
class ApprovedOrder:
    """An intent that passed. Building one by hand, or from another one, raises PermissionError."""

    intent: OrderIntent
    proof: _Proof | None = field(repr=False, compare=False, default=None)

    def __post_init__(self) -> None:
        if not isinstance(self.proof, _Proof) or self.proof.intent is not self.intent:
            raise PermissionError("orders are approved by RiskGate.check only")


@dataclass(frozen=True, slots=True)
class Decision:
    """Falsy when refused; `reasons` says why, each as `rule: detail`."""

    order: ApprovedOrder | None
    reasons: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return self.order is not None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the gate would say; approves nothing. Falsy with reasons; warnings refuse nothing."""

    reasons: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return not self.reasons


def net_delta_bps(positions_x18: Mapping[int, int], marks_x18: Mapping[int, int]) -> int:
    """|signed notional| over gross notional in basis points, rounded up; 0 when nothing is held.

    Coins of different assets are never added. A held product without a mark counts as fully unhedged.
    """
    held = {product_id: amount for product_id, amount in positions_x18.items() if amount}
    if any(product_id not in marks_x18 for product_id in held):
        return BPS
    notionals = [mul_x18(amount, marks_x18[product_id]) for product_id, amount in held.items()]
    gross_x18 = sum(abs(notional) for notional in notionals)
    return -(-abs(sum(notionals)) * BPS // gross_x18) if gross_x18 else 0


@dataclass(slots=True)
class _InFlight:
    """An approved order. open_x18: what it may still add to the booked position, absolute. digest: once it
    has left. replaces: tag of the one it takes the place of; the engine has at most one of the two alive."""

    intent: OrderIntent
    open_x18: int
    digest: str = ""
    replaces: int | None = None

    @property
    def has_left(self) -> bool:
        return bool(self.digest)


class RiskGate:
    """Limits, the latch, and what approved orders may still add until they end.

    kill_switch: where the latch is kept; without one it lasts as long as the process.
    """

    def __init__(
        self, limits: RiskLimits, view: Callable[[], RiskView], kill_switch: KillSwitch | None = None
    ) -> None:
        self.limits = limits
        self._view = view
        self._switch = kill_switch or KillSwitch()
        self._in_flight: dict[int, _InFlight] = {}  # by tag
        self._orders_ns: deque[int] = deque(maxlen=RATES_REMEMBERED)
        self._builds_ns: dict[int, deque[int]] = {}
        self.approved = 0
        self.refused = 0

    @property
    def halt_reason(self) -> str | None:
        """Why no new exposure may be made, None if it may."""
        return None if self._switch.halt is None else self._switch.halt.reason

    def halt(self, reason: str) -> None:
        """Latch: no new exposure from now on. The first reason stays; nothing here resets it."""
        self._switch.engage(reason)

    def pause_reason(self) -> str:
        """Why no entry may be made for the time being, although nothing is wrong; "" when it may."""
        view = self._view()
        reasons = [*self._window_reasons(view), *self._rate_reasons(view, tuple(view.positions_x18))]
        return "; ".join(reasons)

    def delta_warning(self) -> str:
        """The net delta of the held positions when it is worth a line; "" otherwise."""
        view = self._view()
        return self._delta_warning(net_delta_bps(view.positions_x18, view.marks_x18))

    def _delta_warning(self, delta_bps: int) -> str:
        limit = self.limits.warn_delta_bps
        return f"net_delta: {delta_bps} bps, warning above {limit} bps" if delta_bps > limit else ""

    def watch(self) -> str | None:
        """Check the standing limits between orders; latches on a breach and returns the halt reason."""
        loss_x18 = -self._view().day_pnl_x18
        if loss_x18 >= self.limits.daily_loss_x18:
            self.halt(f"daily loss {loss_x18 / 10**18:.4f} USD reached the limit")
        self.keep_halt()
        return self.halt_reason

    def keep_halt(self, *, at_once: bool = False) -> None:
        """A halt that could not be written down is written as soon as that works."""
        self._switch.keep(at_once=at_once)

    def check(self, intent: OrderIntent, replaces: int | None = None) -> Decision:
        """Approve or refuse one order. An approved one counts until `release(tag)`.

        replaces: tag of the resting exit it takes the place of, all of what is unfilled of that one, in one
        step of the engine: of the two only the larger counts, and it leaves in no other way.
        """
        view = self._view()
        reasons = self._malformed(intent) or self._not_in_its_place(intent, replaces)
        if not reasons:
            reasons = (
                self._exit_reasons(intent, view, replaces)
                if intent.purpose.is_exit
                else self._entry_reasons(intent, view)
            )
        if reasons:
            self.refused += 1
            return Decision(None, tuple(reasons))
        self.approved += 1
        self._in_flight[intent.tag] = _InFlight(intent, abs(intent.amount_x18), replaces=replaces)
        self._orders_ns.append(view.now_ns)
        if intent.purpose.begins:
            self._builds_ns.setdefault(intent.product_id, deque(maxlen=RATES_REMEMBERED)).append(view.now_ns)
        return Decision(ApprovedOrder(intent, _Proof(intent, _KEY)))

    def pre_trade_check(self, product_id: int, amount_x18: int, price_x18: int) -> Verdict:
        """Whether an entry of this size would pass now, without asking for one."""
        view = self._view()
        intent = OrderIntent(-1, 0, product_id, Purpose.ENTRY, amount_x18, price_x18)
        reasons = self._malformed(intent) or self._entry_reasons(intent, view)
        warning = self._delta_warning(net_delta_bps(view.positions_x18, view.marks_x18))
        return Verdict(tuple(reasons), (warning,) if warning else ())

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
        if order.replaces != self._replaced_digest(flight):
            raise PermissionError(f"order {intent.tag} was not approved in the place of {order.replaces!r}")
        if self.halt_reason is not None and not intent.purpose.is_exit:
            raise PermissionError(f"halted: {self.halt_reason}")
        flight.digest = order.digest

    def _replaced_digest(self, flight: _InFlight) -> str:
        """Digest of what this order takes the place of, "" if of none; raises PermissionError where that has
        ended: in its place there is nothing, beside others there was no approval."""
        if flight.replaces is None:
            return ""
        old = self._in_flight.get(flight.replaces)
        if old is None or not old.has_left:
            raise PermissionError(f"order {flight.intent.tag}: what it was to replace has ended")
        return old.digest

    def is_exit(self, order: TrackedOrder) -> bool:
        """Whether this is an approved order that only takes exposure away."""
        flight = self._in_flight.get((order.client_id or 0) - CLIENT_ID_BASE)
        return flight is not None and flight.intent.purpose.is_exit

    def digest_of(self, tag: int) -> str:
        """Of an approved order that was let out; "" of any other."""
        flight = self._in_flight.get(tag)
        return "" if flight is None else flight.digest

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

    def _not_in_its_place(self, intent: OrderIntent, replaces: int | None) -> list[str]:
        """Why this order may not take the place of that one: what it would be counted against is not so."""
        if replaces is None:
            return []
        old = self._in_flight.get(replaces)
        if old is None or not old.has_left:
            return [f"replacement: order {replaces} is not in flight"]
        if old.replaces in self._in_flight:
            return [f"replacement: order {replaces} may not be in its own place yet"]
        was, wanted = old.intent, (Purpose.REST, Purpose.REST, intent.product_id, sign(intent.amount_x18))
        if (was.purpose, intent.purpose, was.product_id, sign(was.amount_x18)) != wanted:
            return [f"replacement: order {intent.tag} is not the same exit as {replaces}"]
        if abs(intent.amount_x18) != old.open_x18:
            return [f"replacement: {abs(intent.amount_x18)} in the place of {old.open_x18} unfilled"]
        return []

    def _open(self, product_id: int, without: int | None = None) -> list[tuple[OrderIntent, int]]:
        """What each approved order of a product may still add, absolute. Of an order and the one in its place
        the larger part, because only one of them can: the engine takes the second off the first, whole."""
        flights = {
            tag: flight
            for tag, flight in self._in_flight.items()
            if flight.intent.product_id == product_id and tag != without
        }
        replaced = {flight.replaces for flight in flights.values()}
        return [
            (flight.intent, self._with_replaced(flight, flights))
            for tag, flight in flights.items()
            if tag not in replaced
        ]

    def _with_replaced(self, flight: _InFlight, flights: Mapping[int, _InFlight]) -> int:
        old = None if flight.replaces is None else flights.get(flight.replaces)
        return flight.open_x18 if old is None else max(flight.open_x18, self._with_replaced(old, flights))

    def _entry_reasons(self, intent: OrderIntent, view: RiskView) -> list[str]:
        limits, reasons = self.limits, []
        if self.halt_reason is not None:
            reasons.append(f"halted: {self.halt_reason}")
        if -view.day_pnl_x18 >= limits.daily_loss_x18:
            reasons.append(f"daily_loss: {-view.day_pnl_x18} x18 of {limits.daily_loss_x18} x18")
        age_ms = view.quote_age_ms.get(intent.product_id, limits.max_quote_age_ms + 1)
        if age_ms > limits.max_quote_age_ms:
            reasons.append(f"quote_age: {age_ms} ms, limit {limits.max_quote_age_ms} ms")
        reasons += self._clock_reasons(view) + self._window_reasons(view)
        reasons += self._size_reasons(intent, view)
        if intent.purpose.begins:
            reasons += self._rate_reasons(view, (intent.product_id,))
            delta_bps = net_delta_bps(view.positions_x18, view.marks_x18)
            if delta_bps > limits.max_entry_delta_bps and not self._is_residual(view):
                reasons.append(f"net_delta: {delta_bps} bps held, limit {limits.max_entry_delta_bps} bps")
        return reasons

    def _is_residual(self, view: RiskView) -> bool:
        """All that is held is worth no more than what may be carried; False without a mark for it."""
        held = {product_id: amount for product_id, amount in view.positions_x18.items() if amount}
        if any(product_id not in view.marks_x18 for product_id in held):
            return False
        worth_x18 = sum(mul_x18(abs(amount), view.marks_x18[p]) for p, amount in held.items())
        return worth_x18 <= self.limits.max_residual_x18

    def _size_reasons(self, intent: OrderIntent, view: RiskView) -> list[str]:
        limits, reasons = self.limits, []
        coins_x18 = self._worst_coins_x18(intent, view)
        most_x18 = limits.max_coins_x18.get(intent.product_id, 0)
        if most_x18 and coins_x18 > most_x18:
            reasons.append(f"max_position: {coins_x18} x18 coins at worst, limit {most_x18} x18")
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

    def _clock_reasons(self, view: RiskView) -> list[str]:
        limit_ms = self.limits.max_clock_offset_ms
        if not limit_ms:
            return []
        if view.clock_offset_ms is None:
            return ["clock: the offset to the exchange is not known"]
        if abs(view.clock_offset_ms) > limit_ms:
            return [f"clock: {view.clock_offset_ms:.0f} ms off the exchange's, limit {limit_ms:.0f} ms"]
        return []

    def _window_reasons(self, view: RiskView) -> list[str]:
        windows = self.limits.windows
        if windows is None:
            return []
        if view.utc_s is None:
            return ["maintenance: the exchange's time is not known"]
        reason = windows.reason(view.utc_s)
        return [f"maintenance: {reason}"] if reason else []

    def _rate_reasons(self, view: RiskView, product_ids: tuple[int, ...]) -> list[str]:
        """An entry of these products would be one too many in the last minute."""
        limits, reasons = self.limits, []
        orders = _in_last_minute(self._orders_ns, view.now_ns)
        if limits.max_orders_per_min and orders >= limits.max_orders_per_min:
            reasons.append(f"order_rate: {orders} orders in a minute, limit {limits.max_orders_per_min}")
        builds = max(
            (_in_last_minute(self._builds_ns.get(p, deque()), view.now_ns) for p in product_ids), default=0
        )
        if limits.max_builds_per_min and builds >= limits.max_builds_per_min:
            reasons.append(f"build_rate: {builds} entries in a minute, limit {limits.max_builds_per_min}")
        return reasons

    def _exit_reasons(
        self, intent: OrderIntent, view: RiskView, replaces: int | None = None
    ) -> list[str]:  # fmt: skip
        """An exit opposes the position and, with the other exits in flight, does not exceed it."""
        position_x18 = view.positions_x18.get(intent.product_id, 0)
        if sign(intent.amount_x18) != -sign(position_x18):
            return [f"not_an_exit: amount {intent.amount_x18} against position {position_x18}"]
        others_x18 = sum(
            open_x18
            for other, open_x18 in self._open(intent.product_id, without=replaces)
            if sign(other.amount_x18) == sign(intent.amount_x18)
        )
        if abs(intent.amount_x18) + others_x18 > abs(position_x18):
            return [
                f"exit_too_large: {abs(intent.amount_x18)} + {others_x18} in flight, position {position_x18}"
            ]
        return []

    def _worst_coins_x18(self, intent: OrderIntent, view: RiskView) -> int:
        """Largest position in base units the product can reach with this order and those in flight."""
        position_x18 = view.positions_x18.get(intent.product_id, 0)
        adding = [intent.amount_x18]
        adding += [sign(other.amount_x18) * open_x18 for other, open_x18 in self._open(intent.product_id)]
        long_x18 = position_x18 + sum(amount for amount in adding if amount > 0)
        short_x18 = position_x18 + sum(amount for amount in adding if amount < 0)
        return max(abs(long_x18), abs(short_x18))

    def _worst_x18(self, product_id: int, view: RiskView, extra: OrderIntent | None) -> int:
        """Largest notional the product can reach: position at mark, plus adding orders at the worse of
        their price and the mark (a sell may fill above its limit)."""
        mark_x18 = view.marks_x18.get(product_id, 0)
        position_x18 = view.positions_x18.get(product_id, 0)
        adding = self._open(product_id)
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


def _in_last_minute(times_ns: deque[int], now_ns: int) -> int:
    """How many of them are younger than a minute; older ones are forgotten."""
    while times_ns and now_ns - times_ns[0] >= 60 * NS_PER_S:
        times_ns.popleft()
    return len(times_ns)
