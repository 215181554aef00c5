"""The tracker's answer depends on the facts and not on the order or the number of times they arrive."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nadofast import OrderState, OrderTracker, OrderType, Signer, TrackedOrder, pack_appendix, to_x18
from nadofast.events import FillEvent, OrderUpdateEvent
from nadofast.orders import RECENT_NS, OutcomeFacts
from nadofast.signing import SignedOrder

SIGNER = Signer("0x" + "01" * 32, chain_id=77001, endpoint_address="0x" + "0d" * 20)
SIZE = to_x18("1")
PRICE = to_x18("3000.1")


IOC = pack_appendix(OrderType.IOC)


def signed(amount_x18: int = SIZE, nonce: int = 1, appendix: int = 1) -> SignedOrder:
    return SIGNER.sign_order(
        product_id=4, price_x18=PRICE, amount_x18=amount_x18, expiration_s=1, nonce=nonce, appendix=appendix
    )


ORDER = signed()
DIES_NS = 1_000_000_000


def fill(
    index: int, quantity: int, price: int = PRICE, *, is_bid: bool = True, digest: str = ORDER.digest
) -> FillEvent:
    return FillEvent(
        product_id=4,
        timestamp_ns=index,
        subaccount=ORDER.sender,
        order_digest=digest,
        appendix=1,
        filled_qty_x18=quantity,
        remaining_qty_x18=0,
        original_qty_x18=SIZE,
        price_x18=price,
        is_taker=True,
        is_bid=is_bid,
        fee_x18=index,
        submission_idx=index,
    )


def update(reason: str, amount: int, timestamp: int = 1) -> OrderUpdateEvent:
    return OrderUpdateEvent(
        product_id=4, timestamp_ns=timestamp, digest=ORDER.digest, amount_x18=amount, reason=reason
    )


def apply(tracker: OrderTracker, fact: Any) -> None:
    if isinstance(fact, FillEvent):
        tracker.on_fill(fact)
    elif isinstance(fact, OrderUpdateEvent):
        tracker.on_order_update(fact)
    elif isinstance(fact, OutcomeFacts):
        tracker.on_outcome(ORDER.digest, fact)
    elif isinstance(fact, tuple):
        {"cancelled": tracker.on_cancelled, "resting": tracker.on_resting, "archived": tracker.on_archived}[
            fact[0]
        ](ORDER.digest, fact[1])


def summary(order: TrackedOrder) -> tuple[Any, ...]:
    return (
        order.state,
        order.filled_x18,
        order.known_filled_x18,
        order.remaining_x18,
        order.quote_x18,
        order.fee_x18,
        order.avg_price_x18,
        order.error_code,
        order.is_terminal,
        order.is_settled,
        order.is_gone,
        sorted(event.submission_idx for event in order.fills),
    )


FACTS = [
    fill(1, SIZE // 4),
    fill(2, SIZE // 4, to_x18("2999.9")),
    fill(3, SIZE // 2, to_x18("3000")),
    update("placed", SIZE),
    update("filled", SIZE // 2),
    update("filled", 0),
    update("cancelled", 0),
    update("cancelled", 0, DIES_NS),
    OutcomeFacts(accepted=True),
    OutcomeFacts(is_rejected=True, rejected_code=2056),
    OutcomeFacts(is_unknown=True),
    ("cancelled", SIZE // 4),
    ("cancelled", None),
    ("resting", SIZE // 2),
    ("archived", SIZE // 2),
]


@given(st.lists(st.sampled_from(FACTS), min_size=1, max_size=12), st.randoms(use_true_random=False))
def test_order_and_repetition_do_not_matter(facts: list[Any], random: Any) -> None:
    first, second = OrderTracker(), OrderTracker()
    one, other = first.register(ORDER), second.register(ORDER)
    for fact in facts:
        apply(first, fact)
    again = [*facts, *random.choices(facts, k=random.randint(0, 6))]
    random.shuffle(again)
    for fact in again:
        apply(second, fact)
    assert summary(one) == summary(other)
    assert 0 <= one.filled_x18 <= one.known_filled_x18 <= SIZE
    assert one.remaining_x18 == SIZE - one.known_filled_x18


@given(st.lists(st.sampled_from(FACTS), min_size=1, max_size=12))
def test_a_terminal_order_stays_terminal(facts: list[Any]) -> None:
    tracker = OrderTracker()
    order = tracker.register(ORDER)
    was_terminal = False
    for fact in facts:
        apply(tracker, fact)
        # Proof of life can turn "rejected" into "cancelled" or "filled", never into a live order.
        assert order.is_terminal or not was_terminal
        was_terminal = order.is_terminal


@pytest.mark.parametrize(
    ("facts", "state"),
    [
        ([], OrderState.SIGNED),
        ([OutcomeFacts(is_unknown=True)], OrderState.UNKNOWN),
        ([OutcomeFacts(is_denied=True)], OrderState.DENIED),
        ([OutcomeFacts(accepted=True)], OrderState.OPEN),
        ([OutcomeFacts(is_unknown=True), update("placed", SIZE)], OrderState.OPEN),
        ([OutcomeFacts(is_rejected=True, rejected_code=2008)], OrderState.REJECTED),
        ([OutcomeFacts(is_rejected=True, rejected_code=2056), fill(1, 5)], OrderState.CANCELLED),
        ([OutcomeFacts(accepted=True), fill(1, 5)], OrderState.PARTIAL),
        ([update("placed", SIZE), update("filled", SIZE - 1)], OrderState.PARTIAL),
        ([update("placed", SIZE), update("cancelled", 0, DIES_NS)], OrderState.EXPIRED),
        ([fill(1, 5), update("cancelled", 0, DIES_NS)], OrderState.EXPIRED),
        ([update("cancelled", 0, DIES_NS - 1)], OrderState.CANCELLED),
        ([update("cancelled", 0, DIES_NS), ("cancelled", SIZE)], OrderState.CANCELLED),
        ([fill(1, SIZE), update("cancelled", 0, DIES_NS)], OrderState.FILLED),
        ([update("filled", 0)], OrderState.FILLED),
        ([fill(1, SIZE)], OrderState.FILLED),
        ([update("cancelled", 0)], OrderState.CANCELLED),
        ([("cancelled", SIZE)], OrderState.CANCELLED),
        ([("cancelled", 0)], OrderState.FILLED),
        ([("archived", SIZE)], OrderState.FILLED),
    ],
)
def test_states(facts: list[Any], state: OrderState) -> None:
    tracker = OrderTracker()
    order = tracker.register(ORDER)
    for fact in facts:
        apply(tracker, fact)
    assert order.state is state


def test_sums_are_exact_and_signed() -> None:
    tracker = OrderTracker()
    order = tracker.register(ORDER)
    for event in FACTS[:3]:
        tracker.on_fill(event)
    assert order.quote_x18 == -(to_x18("750.025") + to_x18("749.975") + to_x18(1500))
    assert order.avg_price_x18 == to_x18(3000)
    assert order.fee_x18 == 6
    sell = tracker.register(signed(-SIZE, nonce=2))
    tracker.on_fill(fill(9, SIZE, is_bid=False, digest=sell.digest))
    assert sell.quote_x18 == PRICE
    assert not sell.is_buy
    assert sell.state is OrderState.FILLED


def test_a_cancel_reply_ahead_of_its_fills_is_terminal_but_not_settled() -> None:
    tracker = OrderTracker()
    order = tracker.register(ORDER)
    tracker.on_cancelled(ORDER.digest, SIZE // 4)
    assert order.is_terminal
    assert not order.is_settled
    assert order.remaining_x18 == SIZE // 4
    tracker.on_fill(fill(1, SIZE // 2))
    assert not order.is_settled
    tracker.on_fill(fill(2, SIZE // 4))
    assert order.is_settled


@pytest.mark.parametrize("is_before", [False, True])
def test_an_end_around_a_gap_does_not_say_what_was_left(is_before: bool) -> None:
    """A fill may be among the events that were lost: only a source that says what was left settles it."""
    now_ns = 10**12
    tracker = OrderTracker(clock_ns=lambda: now_ns)
    order = tracker.register(ORDER)
    tracker.on_order_update(update("placed", SIZE))
    if not is_before:
        tracker.on_gap()
    tracker.on_order_update(update("cancelled", 0))
    if is_before:
        assert order.is_settled  # on the stream's word alone
        tracker.on_gap()  # a moment later: it may have been a gap already
    assert order.is_terminal
    assert not order.is_settled
    tracker.on_cancelled(ORDER.digest, SIZE // 2)
    assert not order.is_settled  # half of it was filled in the gap
    tracker.on_fill(fill(1, SIZE // 2))
    assert order.is_settled


def test_a_gap_leaves_alone_what_was_over_long_before() -> None:
    now_ns = 10**12
    tracker = OrderTracker(clock_ns=lambda: now_ns)
    order = tracker.register(ORDER)
    tracker.on_order_update(update("placed", SIZE))
    tracker.on_order_update(update("cancelled", 0))
    now_ns += RECENT_NS + 1
    tracker.on_gap()
    assert order.is_settled


def test_an_end_of_an_order_that_left_twice_is_not_the_last_word() -> None:
    """The second copy may be taken for what the first one left."""
    tracker = OrderTracker()
    order = tracker.register(ORDER)
    tracker.on_order_update(update("placed", SIZE))
    tracker.on_resent(ORDER.digest)
    tracker.on_order_update(update("cancelled", 0))
    tracker.on_cancelled(ORDER.digest, SIZE)
    assert order.is_terminal
    assert not order.is_settled
    tracker.on_last_word(ORDER.digest, SIZE)
    assert order.is_settled


def test_registering_twice_keeps_the_record() -> None:
    tracker = OrderTracker()
    order = tracker.register(ORDER)
    tracker.on_fill(fill(1, 5))
    assert tracker.register(ORDER) is order
    assert tracker.get(ORDER.digest.upper().replace("0X", "0x")) is order
    assert len(tracker) == 1


def test_events_of_other_orders_are_counted_not_kept() -> None:
    tracker = OrderTracker()
    assert tracker.on_fill(fill(1, 5)) is None
    assert tracker.on_order_update(update("placed", 1)) is None
    assert tracker.foreign_events == 2
    assert len(tracker) == 0


def test_finished_records_are_bounded_and_live_ones_never_forgotten() -> None:
    tracker = OrderTracker(max_finished=3)
    live = tracker.register(ORDER)
    for nonce in range(2, 12):
        tracker.register(signed(nonce=nonce))
        tracker.on_cancelled(signed(nonce=nonce).digest, SIZE)
    assert len(tracker) == 4
    assert tracker.live() == [live]


def test_an_order_is_not_forgotten_before_two_sources_agree() -> None:
    tracker = OrderTracker(max_finished=0)
    resting, taker = tracker.register(signed(nonce=2)), tracker.register(signed(nonce=3, appendix=IOC))
    for order in (resting, taker):
        tracker.on_order_update(replace(update("cancelled", 0), digest=order.digest))
    assert tracker.get(taker.digest) is None  # over by its nature, and the stream has seen it
    assert tracker.get(resting.digest) is resting
    assert tracker.ends_in_doubt() == [resting]
    tracker.on_absent(resting.digest)
    assert tracker.get(resting.digest) is None


def test_a_query_must_miss_an_order_twice() -> None:
    tracker = OrderTracker()
    order = tracker.register(ORDER)
    tracker.on_resting(ORDER.digest, SIZE)
    tracker.on_cancelled(ORDER.digest, None)
    gone = []
    for _ in range(2):
        tracker.on_absent(ORDER.digest)
        gone.append(order.is_gone)
    assert gone == [False, True]


def test_an_order_whose_fills_are_missing_is_not_forgotten() -> None:
    tracker = OrderTracker(max_finished=0)
    tracker.register(ORDER)
    tracker.on_cancelled(ORDER.digest, SIZE // 2)
    assert tracker.get(ORDER.digest) is not None
    tracker.on_fill(fill(1, SIZE // 2))
    assert tracker.get(ORDER.digest) is None


def test_fills_beyond_an_index_or_nothing_if_they_are_not_all_remembered() -> None:
    tracker = OrderTracker()
    tracker.register(ORDER)
    for index in range(1, 1_001):
        tracker.on_fill(fill(index, 1))
    fills = tracker.fills_after(4, 998)
    assert fills is not None
    assert [event.submission_idx for event in fills] == [999, 1_000]
    assert tracker.fills_after(8, 998) == []
    assert tracker.fills_after(4, 0) is None


def test_listeners_hear_every_change_until_they_leave() -> None:
    tracker = OrderTracker()
    heard: list[OrderState] = []
    leave = tracker.on_change(lambda order: heard.append(order.state))
    tracker.register(ORDER)
    tracker.on_sent(ORDER.digest, 5)
    tracker.on_fill(fill(1, SIZE))
    tracker.on_fill(fill(1, SIZE))
    leave()
    tracker.on_cancelled(ORDER.digest, 0)
    assert heard == [OrderState.SENT, OrderState.FILLED]


def test_the_record_holds_no_signature() -> None:
    order = OrderTracker().register(ORDER)
    assert ORDER.signature[2:] not in repr(order)


Step = tuple[str, int, Any]
STEPS = st.one_of(
    st.tuples(st.just("fact"), st.integers(0, 3), st.sampled_from(FACTS)),
    st.tuples(st.sampled_from(("gap", "resent", "absent", "last word")), st.integers(0, 3), st.none()),
    st.tuples(st.just("later"), st.integers(0, 12), st.none()),
)


def about(fact: Any, order: SignedOrder) -> Any:
    """The fact, told of another order."""
    if isinstance(fact, FillEvent):
        return replace(fact, order_digest=order.digest)
    return replace(fact, digest=order.digest) if isinstance(fact, OrderUpdateEvent) else fact


def step(tracker: OrderTracker, orders: list[SignedOrder], now: list[int], what: Step) -> None:
    kind, number, fact = what
    order = orders[number % len(orders)]
    match kind:
        case "fact":
            if isinstance(fact, OutcomeFacts):
                tracker.on_outcome(order.digest, fact)
            elif isinstance(fact, tuple):
                {"cancelled": tracker.on_cancelled, "resting": tracker.on_resting,
                 "archived": tracker.on_archived}[fact[0]](order.digest, fact[1])  # fmt: skip
            else:
                apply(tracker, about(fact, order))
        case "gap":
            tracker.on_gap()
        case "resent":
            tracker.on_resent(order.digest)
        case "absent":
            tracker.on_absent(order.digest)
        case "last word":
            tracker.on_last_word(order.digest, 0)
        case _:
            now[0] += number * 1_000_000_000


@given(st.lists(STEPS, max_size=40), st.integers(1, 10_000))
def test_what_is_asked_for_is_what_a_look_at_every_record_finds(steps: list[Step], most: int) -> None:
    """The few that live, or are in doubt, are kept apart from the thousands that are over; and a gap marks
    those that are not settled or changed a moment ago."""
    now = [RECENT_NS]
    tracker = OrderTracker(max_finished=most, clock_ns=lambda: now[0])
    orders = [signed(nonce=nonce, appendix=IOC if nonce % 2 else 1) for nonce in range(4)]
    for order in orders:
        tracker.register(order)
    for what in steps:
        every = list(tracker._orders.values())
        marked = [o for o in every if o._had_gap or not o.is_settled or o._changed_ns >= now[0] - RECENT_NS]
        step(tracker, orders, now, what)
        every = list(tracker._orders.values())
        assert {o.digest for o in tracker.live()} == {o.digest for o in every if not o.is_terminal}
        doubts = {o.digest for o in every if o.is_terminal and not o.is_gone}
        assert {o.digest for o in tracker.ends_in_doubt()} == doubts
        if what[0] == "gap":
            assert [o for o in every if o._had_gap] == marked
    assert len(tracker._unsettled) <= len(tracker) <= 4


def test_thousands_that_are_over_cost_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bot that has run for days is not slower than one that has just begun."""
    now = [0]
    tracker = OrderTracker(clock_ns=lambda: now[0])
    for nonce in range(2_000):
        order = signed(nonce=nonce)
        tracker.register(order)
        tracker.on_fill(fill(nonce, SIZE, digest=order.digest))
    now[0] = 2 * RECENT_NS
    tracker.register(signed(nonce=2_000))
    looks = 0
    state = TrackedOrder.state

    def counted(order: TrackedOrder) -> OrderState:
        nonlocal looks
        looks += 1
        return state.fget(order)  # type: ignore[attr-defined,no-any-return]

    monkeypatch.setattr(TrackedOrder, "state", property(counted))
    assert len(tracker.live()) == 1
    assert tracker.ends_in_doubt() == []
    tracker.on_gap()
    assert looks < 20
