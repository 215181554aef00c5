"""Simulated fills are conservative: never more than the recorded market would certainly have given."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from machinekit import plan

from bot.model import Plan
from bot.paperfill import HOLD_NS, NOT_REPLACED, WOULD_CROSS, PaperExchange, PaperOrder
from bot.risk import OrderIntent, Purpose
from bot.variants import Outcome, Variant, VariantError, changed, figures, variants
from nadofast import OrderBook
from nadofast.events import FillEvent, TradeEvent
from nadofast.products import mul_x18, to_x18
from nadosim.fees import trade_fee_x18

PLAN: Plan = plan(cycles=2)
PRODUCT = PLAN.products[0]


class House:
    """One product: bids at 99, 98, asks at 101, 102, two units each."""

    def __init__(self) -> None:
        self.book = OrderBook(PRODUCT.product_id)
        self.show([(99, 2), (98, 2)], [(101, 2), (102, 2)])
        self.fills: list[FillEvent] = []
        self.paper = PaperExchange(lambda product_id: self.book, lambda order, fill: self.fills.append(fill))

    def show(self, bids: list[tuple[int, int]], asks: list[tuple[int, int]]) -> None:
        sides = [[(to_x18(p), to_x18(q)) for p, q in side] for side in (bids, asks)]
        self.book.load_snapshot(*sides, timestamp_ns=1)

    def take(self, amount: int, price: int) -> PaperOrder:
        order = self.order(amount, price, 0)
        self.paper.take(order, 5)
        return order

    def rest(self, amount: int, price: int) -> PaperOrder:
        order = self.order(amount, price, 8_000)
        self.paper.rest(order, 5)
        return order

    @staticmethod
    def order(amount: int, price: int, ttl_ms: int) -> PaperOrder:
        purpose = Purpose.REST if ttl_ms else Purpose.ENTRY
        intent = OrderIntent(1, 0, PRODUCT.product_id, purpose, to_x18(amount), to_x18(price), ttl_ms)
        return PaperOrder(intent, PRODUCT)

    def trade(self, price: int, qty: int, *, buyer: bool) -> None:
        one = TradeEvent(PRODUCT.product_id, 6, to_x18(price), to_x18(qty), to_x18(qty), buyer)
        self.paper.on_trade(one, 6)

    @property
    def got(self) -> list[tuple[int, int, bool]]:
        return [(f.price_x18 // 10**18, f.filled_qty_x18 // 10**18, f.is_taker) for f in self.fills]


@pytest.fixture
def house() -> House:
    return House()


def test_a_taker_gets_what_is_shown_inside_its_cap_and_no_more(house: House) -> None:
    order = house.take(3, 101)
    assert house.got == [(101, 2, True)]
    assert (order.filled_x18, order.is_final) == (to_x18(2), True)
    assert house.take(-5, 98).filled_x18 == to_x18(4)
    assert house.got[1:] == [(99, 2, True), (98, 2, True)]


def test_what_was_taken_is_gone_until_the_level_changes(house: House) -> None:
    house.take(2, 102)
    assert house.take(3, 102).filled_x18 == to_x18(2)
    assert house.take(1, 102).filled_x18 == 0
    house.show([(99, 2)], [(101, 3)])
    assert house.take(1, 102).filled_x18 == to_x18(1)


def test_nothing_fills_on_a_book_that_is_not_valid(house: House) -> None:
    house.book.clear()
    order = house.take(1, 200)
    assert (order.filled_x18, order.is_final) == (0, True)
    assert house.rest(1, 90).code == WOULD_CROSS


@pytest.mark.parametrize(
    ("amount", "price", "traded", "buyer", "filled"),
    [
        (1, 100, 99, False, 1),  # a seller went below our bid: he met us on his way
        (1, 100, 100, False, 0),  # at our price we are last in the queue
        (1, 100, 101, False, 0),
        (1, 100, 99, True, 0),  # a buyer took asks: nothing to do with our bid
        (-1, 100, 101, True, 1),
        (-1, 100, 100, True, 0),
        (-1, 100, 101, False, 0),
        (-3, 100, 101, True, 2),  # no more than that trade's size
    ],
)
def test_a_maker_fills_only_when_the_market_trades_through(
    house: House, amount: int, price: int, traded: int, buyer: bool, filled: int
) -> None:
    order = house.rest(amount, price)
    assert order.rests
    house.trade(traded, 2, buyer=buyer)
    assert order.filled_x18 == to_x18(filled)
    assert order.is_final == (filled == abs(amount))
    assert all(not taker and at == price for at, _, taker in house.got)


def test_a_replacement_takes_the_place_of_what_is_whole(house: House) -> None:
    old, new = house.rest(-1, 101), house.order(-1, 100, 8_000)
    house.paper.replace(old, new, 5)
    assert (old.is_final, old.code, new.rests) == (True, None, True)
    assert house.paper.resting() == [new]


@pytest.mark.parametrize("traded", [1, 2])
def test_what_has_filled_is_not_replaced(house: House, traded: int) -> None:
    old, new = house.rest(-2, 101), house.order(-2, 100, 8_000)
    house.trade(102, traded, buyer=True)
    house.paper.replace(old, new, 5)
    assert (new.code, new.is_final, new.rests) == (NOT_REPLACED, True, False)
    assert (old.is_final, old.filled_x18) == (traded == 2, to_x18(traded))


def test_a_replacement_that_would_take_is_refused_and_the_old_one_is_off(house: House) -> None:
    old, new = house.rest(-1, 101), house.order(-1, 99, 8_000)
    house.paper.replace(old, new, 5)
    assert (old.is_final, new.code, new.is_final) == (True, WOULD_CROSS, True)
    assert not house.paper.resting()


def test_a_level_that_would_cross_ours_fills_it(house: House) -> None:
    order = house.rest(3, 100)
    house.paper.on_book(PRODUCT.product_id, 6)
    assert order.filled_x18 == 0
    house.show([(99, 2)], [(100, 2)])
    house.paper.on_book(PRODUCT.product_id, 7)
    assert (order.filled_x18, order.is_final) == (to_x18(2), False)
    house.paper.cancel(order)
    house.paper.on_book(PRODUCT.product_id, 8)
    assert (order.filled_x18, order.view().is_final, order.view().rests) == (to_x18(2), True, False)


def test_a_level_that_crosses_is_met_once_until_it_changes(house: House) -> None:
    """Other levels change all the time; each of those messages would fill us again."""
    order = house.rest(5, 100)
    house.show([(99, 2)], [(100, 2)])
    for _ in range(3):
        house.paper.on_book(PRODUCT.product_id, 7)
    assert order.filled_x18 == to_x18(2)
    assert house.take(2, 100).filled_x18 == 0  # nor is it there for a taker
    house.show([(99, 2)], [(100, 1)])
    house.paper.on_book(PRODUCT.product_id, 8)
    assert order.filled_x18 == to_x18(3)


def test_a_post_only_order_that_would_take_is_refused(house: House) -> None:
    order = house.rest(1, 101)
    assert (order.code, order.is_final, house.paper.resting()) == (WOULD_CROSS, True, [])


def test_fees_are_the_products_own_with_the_takers_floor(house: House) -> None:
    house.take(1, 101)
    floor_x18 = max(PRODUCT.min_size_x18, to_x18(101))
    kept_x18 = 10**18 - PRODUCT.taker_fee_rate_x18
    assert house.fills[0].fee_x18 == floor_x18 * 10**18 // kept_x18 - floor_x18
    house.rest(-2, 100)
    house.trade(101, 2, buyer=True)
    assert house.fills[1].fee_x18 == mul_x18(to_x18(200), PRODUCT.maker_fee_rate_x18)


@given(
    st.lists(st.tuples(st.integers(1, 10**21), st.integers(10**18, 10**23)), min_size=1, max_size=4),
    st.booleans(), st.booleans(), st.integers(-(10**14), 10**15),
)  # fmt: skip
def test_fees_are_the_exchanges_to_the_last_unit(
    matches: list[tuple[int, int]], is_buy: bool, is_taker: bool, rate_x18: int
) -> None:
    """A buy pays out of what it spends, so that its fee is a share of the whole and not of the price."""
    product = replace(PRODUCT, maker_fee_rate_x18=rate_x18, taker_fee_rate_x18=abs(rate_x18))
    side, whole_x18 = 1 if is_buy else -1, sum(amount for amount, _ in matches)
    intent = OrderIntent(1, 0, product.product_id, Purpose.ENTRY, side * whole_x18, 1, 0)
    fills: list[FillEvent] = []
    paper, order = PaperExchange(OrderBook, lambda _, fill: fills.append(fill)), PaperOrder(intent, product)
    before_x18 = 0
    for amount_x18, price_x18 in matches:
        paper._match(order, amount_x18, price_x18, 5, is_taker=is_taker)
        expected_x18 = trade_fee_x18(
            -side * mul_x18(amount_x18, price_x18),
            product.taker_fee_rate_x18 if is_taker else product.maker_fee_rate_x18,
            is_taker=is_taker, already_quote_x18=-side * mul_x18(before_x18, price_x18),
            is_first_match=before_x18 == 0, min_size_x18=product.min_size_x18,
        )  # fmt: skip
        assert fills[-1].fee_x18 == expected_x18
        before_x18 += amount_x18


# ---------------------------------------------------------------------- variants


def test_every_combination_is_a_variant() -> None:
    found = variants(["size_usd=100,150", "latency_ms=1,5,20"])
    assert len(found) == 6
    assert found[0].name == "size_usd=100 latency_ms=1"
    assert found[-1].changes == (("size_usd", "150"), ("latency_ms", "20"))


def test_a_change_is_in_the_plan() -> None:
    changes = {
        "size_usd": "77.5", "entry_cap_bps": "9", "exit_cap_bps": "8", "leg_deadline_s": "1.5",
        "maker_timeout_s": "0", "hold_s": "2", "reprice_ms": "100", "latency_ms": "2.5",
        "plan.entry_attempts": "7",
    }  # fmt: skip
    made, latency_ns = changed(PLAN, Variant(tuple(changes.items())))
    assert (made.sizing.budget_x18, made.sizing.cap_bps, made.entry_cap_bps) == (to_x18("77.5"), 9, 9)
    assert (made.exit_cap_bps, made.leg_deadline_ns, made.maker_timeout_ms) == (8, 1_500_000_000, 0)
    assert (made.hold_ns, made.reprice_ns, made.entry_attempts) == (2_000_000_000, 100_000_000, 7)
    assert latency_ns == 2_500_000
    assert HOLD_NS == 30_000_000


@pytest.mark.parametrize(
    "text",
    [
        "size=1",
        "entry_mode=slow",
        "size_usd=",
        "size_usd",
        "size_usd=x",
        "latency_ms=-1",
        "plan.products=1",
        "latency_ms=1e999999",
        "size_usd=1e30",
    ],
)
def test_what_cannot_be_changed_is_refused(text: str) -> None:
    with pytest.raises(VariantError):
        changed(PLAN, variants([text])[0])


def test_an_outcome_without_trades_claims_nothing() -> None:
    shown = figures(Outcome("x"))
    assert (shown["bps"], shown["maker exits"], shown["cycle s"]) == ("-", "-", "-")
