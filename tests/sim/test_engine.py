"""The book and its order types: price, then time; checked against a naive twin on random flows."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simcore import ETH, HOUSE, OTHER_HOUSE, Sim, x18

from nadosim.accounts import Subaccount
from nadosim.engine import NO_ASK_X18, NO_BID_X18, Book, Order
from nadosim.errors import ExchangeError
from nadosim.requests import OrderType
from nadosim.x18 import ONE

ALICE, BOB, CAROL = (Subaccount(name) for name in ("alice", "bob", "carol"))


@dataclass
class Recorder:
    """Listener that writes down what the book tells it; `unfit` accounts may not trade."""

    unfit: set[str] = field(default_factory=set)
    matches: list[tuple[str, str, int]] = field(default_factory=list)
    removals: list[tuple[str, str]] = field(default_factory=list)

    def limit_x18(self, maker: Order, quantity_x18: int, planned: tuple[int, int]) -> int:
        return 0 if maker.account.id in self.unfit else quantity_x18

    def matched(self, taker: Order, maker: Order, quantity_x18: int) -> None:
        self.matches.append((taker.digest, maker.digest, quantity_x18))

    def removed(self, order: Order, why: str) -> None:
        self.removals.append((order.digest, why))


def _order(digest: str, account: Subaccount, price: int, amount: int) -> Order:
    return Order(
        digest=digest,
        product_id=ETH,
        account=account,
        price_x18=price,
        amount_x18=amount,
        remaining_x18=abs(amount),
        order_type=OrderType.DEFAULT,
        reduce_only=False,
        expiration_s=1 << 32,
        nonce=0,
        appendix=1,
        placed_ns=0,
    )


def test_better_price_first_then_the_older_order() -> None:
    book, heard = Book(ETH), Recorder()
    for digest, price in (("late", 101), ("best", 100), ("later", 101)):
        book.rest(_order(digest, ALICE, price, -2))
    book.take(_order("taker", BOB, 101, 5), 5, heard)
    assert heard.matches == [("taker", "best", 2), ("taker", "late", 2), ("taker", "later", 1)]
    assert book.depth("asks", 9) == [(101, 1)]


def test_a_cancelled_order_leaves_its_place_and_its_quantity() -> None:
    book, heard = Book(ETH), Recorder()
    orders = [_order(str(i), ALICE, 100, 3) for i in range(3)]
    for order in orders:
        book.rest(order)
    book.remove(orders[0])
    assert book.level_x18("bids", 100) == 6
    book.take(_order("taker", BOB, 100, -4), 4, heard)
    assert heard.matches == [("taker", "1", 3), ("taker", "2", 1)]
    assert [order.digest for order in book.of_account("alice")] == ["2"]


def test_an_empty_side_has_the_wire_sentinels() -> None:
    book = Book(ETH)
    assert book.bbo() == (NO_BID_X18, 0, NO_ASK_X18, 0)
    book.rest(_order("a", ALICE, 100, 3))
    assert book.bbo() == (100, 3, NO_ASK_X18, 0)


def test_touched_levels_are_told_once() -> None:
    book, heard = Book(ETH), Recorder()
    book.rest(_order("a", ALICE, 100, -3))
    assert book.take_touched() == {("asks", 100)}
    book.take(_order("b", BOB, 100, 1), 1, heard)
    assert book.take_touched() == {("asks", 100)}
    assert book.take_touched() == set()


def test_own_orders_are_cancelled_and_the_taker_goes_on() -> None:
    book, heard = Book(ETH), Recorder()
    book.rest(_order("mine", ALICE, 100, -3))
    book.rest(_order("theirs", BOB, 100, -3))
    book.take(_order("taker", ALICE, 100, 3), 3, heard)
    assert heard.removals == [("mine", "self_trade")]
    assert heard.matches == [("taker", "theirs", 3)]
    assert not book.orders


def test_a_maker_whose_account_fails_is_cancelled() -> None:
    book, heard = Book(ETH), Recorder(unfit={"bob"})
    book.rest(_order("weak", BOB, 100, -3))
    book.rest(_order("fit", CAROL, 100, -3))
    assert not book.can_fill(_order("t", ALICE, 100, 4), 4, heard)
    assert book.can_fill(_order("t", ALICE, 100, 3), 3, heard)
    book.take(_order("taker", ALICE, 100, 3), 3, heard)
    assert heard.removals == [("weak", "unfit")]
    assert heard.matches == [("taker", "fit", 3)]


def test_what_can_be_filled_counts_no_own_order_and_no_price_beyond_the_limit() -> None:
    book, heard = Book(ETH), Recorder()
    book.rest(_order("own", ALICE, 100, -5))
    book.rest(_order("near", BOB, 101, -2))
    book.rest(_order("far", BOB, 103, -9))
    assert book.can_fill(_order("t", ALICE, 102, 2), 2, heard)
    assert not book.can_fill(_order("t", ALICE, 102, 3), 3, heard)
    assert book.can_fill(_order("t", ALICE, 103, 11), 11, heard)
    assert heard.matches == []


# ---- order types, through the exchange


@pytest.mark.parametrize(
    ("kind", "price", "size", "code", "left"),
    [
        (OrderType.IOC, "3000", "1", 0, "2"),
        (OrderType.IOC, "3000", "9", 0, "0"),
        (OrderType.IOC, "2999.9", "1", 2056, "3"),
        (OrderType.FOK, "3000", "3", 0, "0"),
        (OrderType.FOK, "3000", "3.001", 2031, "3"),
        (OrderType.FOK, "2999.9", "1", 2031, "3"),
        (OrderType.POST_ONLY, "3000", "1", 2008, "3"),
        (OrderType.POST_ONLY, "2999.9", "1", 0, "3"),
        (OrderType.DEFAULT, "3000", "4", 0, "0"),
    ],
)
def test_order_types(kind: OrderType, price: str, size: str, code: int, left: str) -> None:
    sim = Sim()
    sim.house("sell", "3000", "3")
    answered = 0
    try:
        sim.exchange.house_place(OTHER_HOUSE, ETH, x18(price), x18(size), kind)
    except ExchangeError as error:
        answered = error.code
    assert answered == code
    assert sim.exchange.level(ETH, "asks", x18("3000")) == x18(left)
    rests = sim.exchange.bbo(ETH)[:2]
    if kind.is_taker or code:
        assert rests == (NO_BID_X18, 0)


# ---- a naive twin


@dataclass
class Naive:
    """The same rules over a plain list: every order is looked at every time."""

    resting: list[dict[str, Any]] = field(default_factory=list)
    matches: list[tuple[int, int, int]] = field(default_factory=list)

    def place(self, who: int, number: int, price: int, amount: int, kind: OrderType) -> int:
        """Refusal code, or 0."""
        sign, left = (1, amount) if amount > 0 else (-1, -amount)
        rivals = sorted(
            (o for o in self.resting if o["sign"] == -sign and (price - o["price"]) * sign >= 0),
            key=lambda o: (o["price"] * sign, o["number"]),
        )
        if kind is OrderType.POST_ONLY and rivals:
            return 2008
        if kind is OrderType.FOK and sum(o["left"] for o in rivals if o["who"] != who) < left:
            return 2031
        start = left
        for rival in rivals:
            if left == 0:
                break
            if rival["who"] == who:
                self.resting.remove(rival)
                continue
            quantity = min(left, rival["left"])
            left -= quantity
            rival["left"] -= quantity
            self.matches.append((rival["number"], rival["price"], quantity))
            if rival["left"] == 0:
                self.resting.remove(rival)
        if left and not kind.is_taker:
            self.resting.append({"who": who, "number": number, "price": price, "sign": sign, "left": left})
        return 2056 if kind is OrderType.IOC and left == start else 0

    def levels(self, sign: int) -> dict[int, int]:
        totals: dict[int, int] = {}
        for order in self.resting:
            if order["sign"] == sign:
                totals[order["price"]] = totals.get(order["price"], 0) + order["left"]
        return totals


placements = st.tuples(
    st.integers(0, 2), st.integers(1, 8), st.integers(-5, 5).filter(bool), st.sampled_from(list(OrderType))
)
cancels = st.integers(0, 60)
HOUSES = [f"0x{n:02x}" + "00" * 31 for n in range(1, 4)]


@settings(max_examples=150, deadline=None)
@given(st.lists(st.one_of(placements, placements, cancels), min_size=20, max_size=60))
def test_random_flow_equals_the_naive_twin(flow: list[Any]) -> None:
    sim, naive = Sim(), Naive()
    placed: list[tuple[int, str]] = []
    tick, step = ONE // 10, ONE // 1000
    for number, action in enumerate(flow):
        if isinstance(action, int):
            if action < len(placed):
                who, digest = placed[action]
                gone = [o for o in naive.resting if o["number"] == action]
                assert sim.exchange.house_cancel(HOUSES[who], ETH, digest) == bool(gone)
                naive.resting = [o for o in naive.resting if o["number"] != action]
            continue
        who, price, amount, kind = action
        expected = naive.place(who, len(placed), price, amount, kind)
        digest, code = "", 0
        try:
            digest = sim.exchange.house_place(HOUSES[who], ETH, price * tick, amount * step, kind)
        except ExchangeError as error:
            code = error.code
        assert code == expected, (number, action)
        placed.append((who, digest))
    trades = [(int(t["price"]) // tick, int(t["maker_qty"]) // step) for s in sim.steps for t in s.trades]
    assert trades == [(price, quantity) for _, price, quantity in naive.matches]
    bids, asks = sim.exchange.depth(ETH, 100)
    assert {p // tick: q // step for p, q in bids} == naive.levels(1)
    assert {p // tick: q // step for p, q in asks} == naive.levels(-1)
    assert bids == sorted(bids, reverse=True)
    assert asks == sorted(asks)
    if bids and asks:
        assert bids[0][0] < asks[0][0], "crossed"


def test_a_house_cancel_by_another_participant_does_nothing() -> None:
    sim = Sim()
    digest = sim.house("buy", "3000", "1")
    assert not sim.exchange.house_cancel(OTHER_HOUSE, ETH, digest)
    assert sim.exchange.house_cancel(HOUSE, ETH, digest)
    assert not sim.exchange.house_cancel(HOUSE, ETH, digest)
