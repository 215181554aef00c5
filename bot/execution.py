"""Tactics of one leg, pure: at which price to enter, rest and cross, and what the next order is.

A leg has at most one order at the exchange. It learns of orders through `OrderView`s and answers with
`OrderIntent`s and cancels; the pair's state machine decides when it may act. Prices are kept inside caps
measured from the mid at the decision, because the exchange has no market order.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Final

from nadofast.outcome import REREAD_CODES
from nadofast.products import Product, mul_x18
from nadofast.wire import Code

from .risk import OrderIntent, Purpose
from .units import BPS, NS_PER_MS, scale_bps, sign

# Refusals that say "another price": the market moved between decision and engine (error table of the API).
REPRICE_CODES: Final = frozenset({2000, 2007, 2008, 2056})
# Below the minimum, or off the step grid: no order of this size is taken, at whatever price.
TOO_SMALL_CODES: Final = frozenset({2001, 2094})
# Below it the exchange has not looked at the order: too many requests, maintenance, a blocked address.
FIRST_ENGINE_CODE: Final = 2000
# How long a resting exit may outlive its timeout when nobody is left to cancel it.
REST_GRACE_MS: Final = 5_000
RETRY_PAUSE_NS: Final = 100 * NS_PER_MS
RETRY_PAUSE_MAX_NS: Final = 1_000 * NS_PER_MS
# What crosses closes or completes a leg that may stand alone.
CROSS_PAUSE_MAX_NS: Final = 250 * NS_PER_MS
NOT_HELD: Final = "not_an_exit"
"""How the gate refuses an exit that closes more than is booked: fills that are known have not been told."""


@dataclass(frozen=True, slots=True)
class OrderView:
    """What is known about one of our orders. filled_x18 is absolute and only grows.

    is_final: the exchange can add nothing to it; then filled_x18 is the last word, even if the fill
    events are still on their way. code: the exchange's refusal; denied: ours (gate or transport).
    rests: the exchange has confirmed it, and it has not ended.
    """

    tag: int
    filled_x18: int
    is_final: bool
    code: int | None = None
    denied: str | None = None
    rests: bool = False


@dataclass(frozen=True, slots=True)
class Depth:
    """Visible levels as (price_x18, quantity_x18), best first; as many as the reader cares to show."""

    bids: tuple[tuple[int, int], ...] = ()
    asks: tuple[tuple[int, int], ...] = ()

    def visible_x18(self, amount_x18: int, price_x18: int) -> int:
        """Quantity a crossing order of this sign can take at `price_x18` or better."""
        if amount_x18 > 0:
            return sum(quantity for price, quantity in self.asks if price <= price_x18)
        return sum(quantity for price, quantity in self.bids if price >= price_x18)

    def quote_x18(self, amount_x18: int) -> int | None:
        """Quote that taking |amount| now costs or earns; None if that much is not shown."""
        left_x18, total_x18 = abs(amount_x18), 0
        for price_x18, quantity_x18 in self.asks if amount_x18 > 0 else self.bids:
            taken_x18 = min(left_x18, quantity_x18)
            total_x18 += mul_x18(taken_x18, price_x18)
            left_x18 -= taken_x18
            if not left_x18:
                return total_x18
        return None


@dataclass(frozen=True, slots=True)
class LegInputs:
    """One leg's part of an input: touch prices (0 = none), the order at work, if any, and the levels."""

    bid_x18: int
    ask_x18: int
    order: OrderView | None
    depth: Depth | None = None

    @property
    def has_quote(self) -> bool:
        return 0 < self.bid_x18 < self.ask_x18

    @property
    def mid_x18(self) -> int:
        return (self.bid_x18 + self.ask_x18) // 2


@dataclass(frozen=True, slots=True)
class Working:
    """An order this leg has sent and that has not ended yet.

    successor: what was sent to take its place in one step; it is the one at work once this one has ended.
    is_successor: this was sent so. is_hurried: cancelled while it was not known what became of its successor.
    None of the three is in the repr, whose hash recordings of older runs hold.
    """

    intent: OrderIntent
    sent_ns: int
    cancel_ns: int | None = None
    successor: OrderIntent | None = field(default=None, repr=False)
    is_successor: bool = field(default=False, repr=False)
    is_hurried: bool = field(default=False, repr=False)

    @property
    def follower(self) -> Working | None:
        """What is at work after this one."""
        if self.successor is None or self.cancel_ns is None:
            return None
        return Working(self.successor, self.cancel_ns, is_successor=True)


@dataclass(frozen=True, slots=True)
class LegState:
    """target_x18: signed size the cycle wants. held_x18: signed size the ended orders left behind.

    attempts: crossing orders of this phase. failures: orders in a row that ended without a fill.
    rest_refused: this exit cannot rest (below the minimum, or refused for good): cross instead. was_filled:
    an order of this phase has filled something. anchor_mid_x18: what the cap of an exit in slices is measured
    from, 0 before the first and after one that did not fill. carried_x18: what was left of the cycle before;
    too_small: the exchange refused to close the rest at market for its size. turned_away: the last order that
    ended without a fill never got to the market; not in the repr, as with `Working.successor`.
    """

    target_x18: int = 0
    held_x18: int = 0
    working: Working | None = None
    attempts: int = 0
    failures: int = 0
    not_before_ns: int = 0
    rest_refused: bool = False
    reprices: int = 0
    was_filled: bool = False
    last_refusal: str = ""
    anchor_mid_x18: int = 0
    carried_x18: int = 0
    too_small: bool = False
    turned_away: bool = field(default=False, repr=False)

    @property
    def missing_x18(self) -> int:
        return self.target_x18 - self.held_x18

    @property
    def is_untouched(self) -> bool:
        """Nothing of this cycle has filled."""
        return self.held_x18 == self.carried_x18

    @property
    def is_idle(self) -> bool:
        return self.working is None


def slice_x18(product: Product, amount_x18: int, price_x18: int, depth: Depth | None) -> int:
    """As much of the amount as the book shows at this price or better, on the step grid; signed like it.

    All of it where nothing is shown (the book may be newer than what we know), and where a slice or what it
    leaves would be below the exchange's minimum, whose fee is charged for either.
    """
    shown_x18 = 0 if depth is None else depth.visible_x18(amount_x18, price_x18)
    least_x18 = product.min_size_x18 * 10**18 // price_x18
    part_x18 = shown_x18 // product.size_increment_x18 * product.size_increment_x18
    if part_x18 < least_x18 or abs(amount_x18) - part_x18 < least_x18:
        return amount_x18
    return part_x18 * sign(amount_x18)


def entry_price_x18(product: Product, amount_x18: int, mid_x18: int, cap_bps: int) -> int:
    """Worst acceptable price of a crossing order, on the tick grid, never beyond the cap."""
    if amount_x18 > 0:
        return product.round_price(scale_bps(mid_x18, BPS + cap_bps), "down")
    return product.round_price(scale_bps(mid_x18, BPS - cap_bps), "up")


def rest_price_x18(product: Product, amount_x18: int, bid_x18: int, ask_x18: int) -> int:
    """Price of a post-only exit: one tick inside when the spread is two ticks or more, else at the touch."""
    tick = product.price_increment_x18
    inside = tick if ask_x18 - bid_x18 >= 2 * tick else 0
    if amount_x18 > 0:
        return product.round_price(bid_x18 + inside, "down")
    return product.round_price(ask_x18 - inside, "up")


def absorb(leg: LegState, inputs: LegInputs, now_ns: int) -> LegState:
    """Take over the end of the working order: its fills become held size, a refusal becomes a pause.

    Behind one that was to be replaced comes its successor, whether it has got in or not: what it may fill is
    waited for in any case.
    """
    working, view = leg.working, inputs.order
    if working is None or view is None or view.tag != working.intent.tag or not view.is_final:
        return leg
    intent = working.intent
    filled_x18 = min(view.filled_x18, abs(intent.amount_x18))
    held_x18 = leg.held_x18 + sign(intent.amount_x18) * filled_x18
    leg = replace(leg, working=working.follower, held_x18=held_x18)
    if working.is_successor and not filled_x18 and _was_not_tried(view):
        return replace(leg, last_refusal="")  # the order in its way has ended, and says what is left
    # An exit that the exchange itself takes off the book has failed: it must not be put back without a pause.
    was_cancelled_by_us = working.cancel_ns is not None and view.code is None and view.denied is None
    if intent.purpose is Purpose.TAKE and filled_x18 == abs(intent.amount_x18):
        leg = replace(leg, attempts=max(0, leg.attempts - 1))  # a slice that filled is no try that failed
    elif intent.purpose is Purpose.TAKE and never_got_in(view):
        leg = replace(leg, attempts=max(0, leg.attempts - 1), anchor_mid_x18=0)  # it never got to the market
    elif intent.purpose is Purpose.TAKE:
        leg = replace(leg, anchor_mid_x18=0)  # the market has left: the next cap is measured from where it is
    if filled_x18 or was_cancelled_by_us:
        was_filled = leg.was_filled or filled_x18 > 0
        return replace(leg, failures=0, last_refusal="", was_filled=was_filled, turned_away=False)
    leg = replace(
        leg, failures=leg.failures + 1, last_refusal=refusal(view), turned_away=never_got_in(view)
    )  # fmt: skip
    if intent.purpose is Purpose.TAKE and view.code in TOO_SMALL_CODES:
        leg = replace(leg, too_small=True)
    if intent.purpose.rests and _cannot_rest(view):
        leg = replace(leg, rest_refused=True)
    if view.code in Code.TOO_FAST:
        return replace(leg, not_before_ns=now_ns + too_fast_pause_ns(now_ns))
    longest_ns = RETRY_PAUSE_MAX_NS if intent.purpose.rests else CROSS_PAUSE_MAX_NS
    return replace(leg, not_before_ns=now_ns + min(pause_ns(leg.failures, view), longest_ns))


def _was_not_tried(view: OrderView) -> bool:
    """A replacement that says nothing about its own price or size: denied by us, or the old order was not as
    believed."""
    return view.denied is not None or view.code in REREAD_CODES


def _cannot_rest(view: OrderView) -> bool:
    """A refusal another price cannot cure: this exit has to cross."""
    if view.denied is not None:
        return view.denied.startswith("min_size")
    return view.code is not None and view.code not in REPRICE_CODES


def never_got_in(view: OrderView) -> bool:
    """Denied by us, or turned away at the exchange's door: no word about the price."""
    return view.denied is not None or (view.code is not None and view.code < FIRST_ENGINE_CODE)


def refusal(view: OrderView) -> str:
    """Why an order ended without a fill, in words."""
    if view.code is not None:
        return f"error {view.code}"
    return view.denied or "no fill"


def pause_ns(failures: int, view: OrderView) -> int:
    """A re-price goes at once, twice in a row; anything else waits longer with every failure."""
    free = 2 if view.code in REPRICE_CODES else 0
    return 0 if failures <= free else min(RETRY_PAUSE_NS << min(failures - free - 1, 8), RETRY_PAUSE_MAX_NS)


def too_fast_pause_ns(now_ns: int) -> int:
    """A second at least, as its rate limits ask, and up to a quarter more by digits of the clock: legs and
    bots part, and a replay decides the same."""
    return RETRY_PAUSE_MAX_NS + RETRY_PAUSE_MAX_NS * (now_ns // 1_000 % 256) // 1_024


def cross(
    leg: LegState, index: int, product: Product, inputs: LegInputs, *, tag: int, purpose: Purpose,
    amount_x18: int, cap_bps: int, now_ns: int,
) -> tuple[LegState, OrderIntent]:  # fmt: skip
    """An IOC for `amount_x18` inside the cap, or for a slice of it where the book shows less (exits only).

    It dies at the engine if it comes late, so that soon after a silence nothing is in doubt but what the
    positions say. The cap of slices is measured from the mid at the first one: they do not walk through the
    book.
    """
    anchor_x18 = leg.anchor_mid_x18 or inputs.mid_x18
    price_x18 = entry_price_x18(product, amount_x18, anchor_x18, cap_bps)
    if purpose is Purpose.TAKE:
        leg = replace(leg, anchor_mid_x18=anchor_x18)
        amount_x18 = product.round_size(slice_x18(product, amount_x18, price_x18, inputs.depth)) or amount_x18
    intent = OrderIntent(tag, index, product.product_id, purpose, amount_x18, price_x18, 0, True)
    return replace(leg, working=Working(intent, now_ns), attempts=leg.attempts + 1), intent


def rest(
    leg: LegState, index: int, product: Product, inputs: LegInputs, *, tag: int, purpose: Purpose,
    amount_x18: int, timeout_ms: int, now_ns: int,
) -> tuple[LegState, OrderIntent]:  # fmt: skip
    """A post-only order at or inside the touch, dying by itself within `timeout_ms` + 5 s."""
    price_x18 = rest_price_x18(product, amount_x18, inputs.bid_x18, inputs.ask_x18)
    amount_x18 = product.round_size(amount_x18) or amount_x18
    ttl_ms = timeout_ms + REST_GRACE_MS
    intent = OrderIntent(tag, index, product.product_id, purpose, amount_x18, price_x18, ttl_ms, True)
    return replace(leg, working=Working(intent, now_ns)), intent


def move(
    leg: LegState, product: Product, inputs: LegInputs, *, tag: int, timeout_ms: int, now_ns: int
) -> tuple[LegState, OrderIntent] | None:  # fmt: skip
    """The order at work, at the touch of now, in one step of the exchange: all of it, of which nothing has
    filled. None if it is not certain that all of it rests: then it has to be cancelled, and its end heard."""
    working, view = leg.working, inputs.order
    if working is None or view is None or view.tag != working.intent.tag:
        return None
    if not view.rests or view.filled_x18:
        return None
    price_x18 = rest_price_x18(product, working.intent.amount_x18, inputs.bid_x18, inputs.ask_x18)
    intent = replace(working.intent, tag=tag, price_x18=price_x18, ttl_ms=timeout_ms + REST_GRACE_MS)
    return replace(leg, working=replace(working, cancel_ns=now_ns, successor=intent)), intent


def has_moved_away(working: Working, inputs: LegInputs) -> bool:
    """The market left our resting price behind: someone else is the touch on our side."""
    if not inputs.has_quote:
        return False
    price_x18 = working.intent.price_x18
    return inputs.bid_x18 > price_x18 if working.intent.amount_x18 > 0 else inputs.ask_x18 < price_x18
