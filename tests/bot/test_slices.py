"""Size against the visible book: exits go in slices inside one cap, entries are as large as books show."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from machinekit import ETH, MS, inputs, plan

from bot.execution import Depth, LegState, OrderView, Working, slice_x18
from bot.machine import decide
from bot.model import Action, Begin, CycleEnd, PairInputs, PairState, Phase, Send
from bot.risk import OrderIntent, Purpose
from bot.sizing import SizingRules
from bot.steps import needs_depth
from nadofast.products import mul_x18, to_x18

NOW = 1_000_000 * MS


def sent(actions: list[Action]) -> list[OrderIntent]:
    return [intent for a in actions if isinstance(a, Send) for intent in a.intents]


def books(eth: str, sol: str = "1000", order: OrderView | None = None, bid: str = "3000.0") -> PairInputs:
    """So much at each touch, and as much again far outside of every cap."""
    legs = []
    for leg, (seen, much) in enumerate(zip(inputs().legs, (eth, sol), strict=True)):
        first = to_x18(bid) if leg == 0 else seen.bid_x18
        bids = ((first, to_x18(much)), (first * 9 // 10, to_x18(much)))
        asks = ((seen.ask_x18, to_x18(much)), (seen.ask_x18 * 11 // 10, to_x18(much)))
        legs.append(replace(seen, bid_x18=first, depth=Depth(bids, asks), order=order if leg == 0 else None))
    return inputs(legs=(legs[0], legs[1]), halt="out")


def holding(eth: str) -> PairState:
    """Long so much ETH, on its way out at market."""
    legs = (LegState(held_x18=to_x18(eth), target_x18=to_x18(eth)), LegState())
    return PairState(phase=Phase.UNWINDING, since_ns=NOW, legs=legs, cycle=1, urgent="out")


def test_an_exit_larger_than_the_book_goes_in_slices_inside_one_cap() -> None:
    state, amounts, prices, now_ns, order = holding("10"), [], [], NOW, None
    for bid in ("3000.0", "2999.0", "2998.0", "2997.0"):
        now_ns += 40 * MS
        state, actions = decide(state, books("3", order=order, bid=bid), plan(), now_ns)
        (intent,) = sent(actions)
        assert intent.purpose is Purpose.TAKE
        amounts.append(-intent.amount_x18)
        prices.append(intent.price_x18)
        order = OrderView(intent.tag, abs(intent.amount_x18), True)
    assert amounts == [to_x18(a) for a in ("3", "3", "3", "1")]
    assert len(set(prices)) == 1  # of the mid at the first slice, not of the mids that its slices left


def test_a_slice_that_did_not_fill_is_followed_by_a_wider_cap_from_where_the_market_is() -> None:
    state, actions = decide(holding("10"), books("3"), plan(), NOW + 40 * MS)
    (first,) = sent(actions)
    part = OrderView(first.tag, to_x18("1"), True)
    state, actions = decide(state, books("3", order=part, bid="2990.0"), plan(), NOW + 80 * MS)
    (second,) = sent(actions)
    mid_x18 = (to_x18("2990.0") + to_x18("3000.1")) // 2
    assert second.price_x18 == ETH.round_price(mul_x18(mid_x18, to_x18("0.994")), "up")


@pytest.mark.parametrize(
    ("amount", "shown", "slice_"),
    [
        ("-10", "3.0004", "-3"),  # on the step grid
        ("10", "3", "3"),
        ("-10", "0", "-10"),  # nothing is shown: the book may be newer than what we know
        ("-10", "0.01", "-10"),  # a slice below the minimum pays its fee
        ("-3.01", "3", "-3.01"),  # and so does what it would leave
        ("-2", "3", "-2"),
    ],
)
def test_a_slice_is_what_is_shown_unless_it_would_be_too_small(amount: str, shown: str, slice_: str) -> None:
    level = ((to_x18(3000), to_x18(shown)),)
    assert slice_x18(ETH, to_x18(amount), to_x18(3000), Depth(level, level)) == to_x18(slice_)
    assert slice_x18(ETH, to_x18(amount), to_x18(3000), None) == to_x18(amount)


def test_an_entry_is_as_large_as_both_books_show() -> None:
    rules = SizingRules(to_x18(50_000), cap_bps=20, headroom_bps=300)
    flat = PairState(since_ns=NOW)
    state, actions = decide(flat, replace(books("2", "10"), halt=None), plan(sizing=rules), NOW)
    begin = actions[0]
    assert isinstance(begin, Begin)
    assert begin.size.sizes_x18[1] <= to_x18(10)
    assert begin.size.notionals_x18[1] >= to_x18(1_350)  # of 1,400 that are shown of SOL
    assert state.phase is Phase.BUILDING
    state, actions = decide(flat, replace(books("2", "0.5"), halt=None), plan(sizing=rules), NOW)
    (end,) = actions
    assert isinstance(end, CycleEnd)
    assert end.failure.startswith("the books do not show enough: ")
    assert (state.skips, state.failures) == (1, 0)


def test_levels_of_before_the_entry_cut_no_exit() -> None:
    """While a pair is held nobody reads the levels: the first exit does not know them."""
    state = replace(holding("10"), phase=Phase.HEDGED, urgent="")
    state, actions = decide(state, books("3"), plan(), NOW + 40 * MS)
    assert state.phase is Phase.UNWINDING
    assert [intent.amount_x18 for intent in sent(actions)] == [-to_x18("10")]


def test_levels_are_read_for_every_entry_and_for_exits_that_may_be_cut() -> None:
    legs, seen = (LegState(target_x18=to_x18(1)), LegState(target_x18=-to_x18(1))), inputs().legs[0]
    missed = PairState(phase=Phase.BUILDING, legs=legs, is_verifying=True)
    _, actions = decide(PairState(since_ns=NOW), inputs(), plan(), NOW)
    busy = replace(missed, legs=(replace(legs[0], working=Working(sent(actions)[0], NOW)), legs[1]))
    filled = replace(missed, legs=(replace(legs[0], held_x18=to_x18(1)), legs[1]))
    needed = [PairState(), missed, holding("1")]
    for state in [*needed, busy, filled, replace(filled, phase=Phase.HEDGED), holding("0.05")]:
        assert needs_depth(state, 0, seen, plan()) is any(state is one for one in needed), state


@pytest.mark.parametrize("answer", [{"denied": "rate: too many"}, {"code": 1004}, {"code": 1000}])
def test_an_exit_that_was_denied_here_pays_no_wider_cap(answer: dict[str, Any]) -> None:
    """Nor one that was turned away at the exchange's door."""
    state, actions = decide(holding("0.05"), books("3"), plan(), NOW + 40 * MS)
    (first,) = sent(actions)
    now_ns = NOW + 40 * MS
    for _ in range(3):
        now_ns += 1_100 * MS
        denied = OrderView(sent(actions)[0].tag, 0, True, **answer)
        state, actions = decide(state, books("3", order=denied), plan(), now_ns)
        if not sent(actions):
            now_ns += 1_300 * MS
            state, actions = decide(state, books("3"), plan(), now_ns)
        assert [intent.price_x18 for intent in sent(actions)] == [first.price_x18]
