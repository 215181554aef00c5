"""Several links of one stream in the core: any interleaving gives the exchange's book, or an invalid one."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from nadofast import _feed
from nadofast._core import FeedCore

X18 = 10**18
PRODUCT = 4
MS = 1_000_000
SNAPSHOT = ([(100 * X18, X18)], [(102 * X18, X18)], 1)


def delta(last_max: int, max_: int, changes: dict[int, int]) -> bytes:
    """One book_depth message; bids below 101, asks above."""
    bids = [[str(price * X18), str(qty * X18)] for price, qty in changes.items() if price < 101]
    asks = [[str(price * X18), str(qty * X18)] for price, qty in changes.items() if price > 101]
    message = {
        "type": "book_depth",
        "min_timestamp": str(last_max + 1),
        "max_timestamp": str(max_),
        "last_max_timestamp": str(last_max),
        "product_id": PRODUCT,
        "bids": bids,
        "asks": asks,
    }
    return json.dumps(message, separators=(",", ":")).encode()


@dataclass
class Venue:
    """What changed at each engine time 2, 3, …; a link batches that its own way."""

    changes: list[tuple[int, int]]

    def batch(self, last_max: int, size: int) -> tuple[int, bytes]:
        end = min(last_max + size, len(self.changes) + 1)
        merged = dict(self.changes[last_max - 1 : end - 1])
        return end, delta(last_max, end, merged)

    def book(self, at: int) -> tuple[dict[int, int], dict[int, int]]:
        levels = {100: 1, 102: 1}
        for price, qty in self.changes[: at - 1]:
            levels[price] = qty
        alive = {price: qty for price, qty in levels.items() if qty}
        return {p: q for p, q in alive.items() if p < 101}, {p: q for p, q in alive.items() if p > 101}


@dataclass
class Rig:
    venue: Venue
    gaps: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.core = FeedCore([PRODUCT], on_gap=lambda product_id, reason: self.gaps.append(reason))
        self.core.begin(PRODUCT)
        assert self.core.load_snapshot(PRODUCT, *SNAPSHOT)
        self.place = {0: 1, 1: 1}
        self.now_ns = 1

    def send(self, link: int, size: int, *, lose: bool = False) -> int | None:
        if self.place[link] > len(self.venue.changes):
            return None
        self.place[link], message = self.venue.batch(self.place[link], size)
        self.now_ns += 1
        return None if lose else self.core.receive(message, self.now_ns, link)

    def is_true(self) -> bool:
        book = self.core.book(PRODUCT)
        if not book.is_valid:
            return False
        bids, asks = self.venue.book(book.timestamp_ns)
        assert dict(book.bids(50)) == {p * X18: q * X18 for p, q in bids.items()}
        assert dict(book.asks(50)) == {p * X18: q * X18 for p, q in asks.items()}
        return True


prices = st.sampled_from([*range(95, 101), *range(102, 108)])
changes = st.lists(st.tuples(prices, st.integers(0, 5)), min_size=1, max_size=30)
steps = st.lists(st.tuples(st.integers(0, 1), st.integers(1, 4)), max_size=60)


@settings(max_examples=300)
@given(changes, steps)
def test_any_interleaving_and_batching_gives_the_book(
    made: list[tuple[int, int]], turns: list[tuple[int, int]]
) -> None:
    rig = Rig(Venue(made))
    for link, size in [*turns, *[(0, 1)] * len(made), *[(1, 1)] * len(made)]:
        rig.send(link, size)
        assert rig.is_true()
    assert rig.core.book(PRODUCT).timestamp_ns == len(made) + 1
    assert rig.gaps == []


@settings(max_examples=300)
@given(changes, st.lists(st.tuples(st.integers(0, 1), st.integers(1, 4), st.integers(0, 9)), max_size=60))
def test_a_lost_message_of_either_link_never_shows_as_a_wrong_book(
    made: list[tuple[int, int]], turns: list[tuple[int, int, int]]
) -> None:
    rig = Rig(Venue(made))
    for link, size, luck in turns:
        status = rig.send(link, size, lose=luck == 0)
        assert rig.is_true() or status in (_feed.GAP, _feed.BUFFERED, _feed.DUPLICATE, None)
    assert rig.is_true() == (not rig.gaps)


@settings(max_examples=200)
@given(changes, steps, st.integers(0, 20), st.integers(0, 20))
def test_a_cut_link_that_comes_back_ahead_costs_nothing(
    made: list[tuple[int, int]], turns: list[tuple[int, int]], cut_at: int, missed: int
) -> None:
    """Link 1 is gone for a while and joins anew at a later time than link 0 has reached."""
    rig = Rig(Venue(made))
    rig.send(0, 1)
    for turn, (link, size) in enumerate(turns):
        if turn == cut_at:
            rig.core.leave(1)
            rig.place[1] = min(max(rig.place.values()) + missed, len(made) + 1)
        rig.send(link, size)
        assert rig.is_true()
    while rig.send(0, 1) is not None:
        assert rig.is_true()
    assert rig.core.book(PRODUCT).timestamp_ns == len(made) + 1
    assert rig.gaps == []


def test_a_link_may_not_run_ahead_for_ever() -> None:
    """The link that carried the book fell silent; the other one never joined: after a while that is a gap."""
    rig = Rig(Venue([(99, n + 1) for n in range(20)]))
    assert rig.send(0, 1) == _feed.APPLIED
    rig.place[1] = 5
    assert rig.send(1, 1) == _feed.DUPLICATE
    assert rig.core.book(PRODUCT).is_valid
    assert rig.core.stats()["products"][PRODUCT]["ahead"] == 1
    rig.now_ns += 101 * MS
    assert rig.send(1, 1) == _feed.GAP
    assert not rig.core.book(PRODUCT).is_valid
    assert len(rig.gaps) == 1


def test_a_joined_link_that_lost_a_message_shows_it_at_once() -> None:
    rig = Rig(Venue([(99, n + 1) for n in range(20)]))
    assert [rig.send(0, 1), rig.send(1, 1)] == [_feed.APPLIED, _feed.DUPLICATE]
    rig.send(1, 1, lose=True)
    assert rig.send(1, 1) == _feed.GAP


def test_a_link_alone_is_strict() -> None:
    rig = Rig(Venue([(99, n + 1) for n in range(20)]))
    rig.place[0] = 3
    assert rig.send(0, 1) == _feed.GAP, "nobody else could bring what is missing"


def trade(time_ns: int, number: int) -> bytes:
    """number: tells it apart for the oracle; the wire has no such thing."""
    message = {
        "type": "trade",
        "timestamp": str(time_ns),
        "product_id": PRODUCT,
        "price": str(X18),
        "taker_qty": str(number),
        "maker_qty": str(number),
        "is_taker_buyer": True,
    }
    return json.dumps(message).encode()


@settings(max_examples=300)
@given(
    st.lists(st.integers(1, 3), min_size=1, max_size=12),
    st.lists(st.tuples(st.integers(0, 1), st.integers(1, 4)), max_size=40),
    st.integers(0, 40),
    st.integers(0, 1),
)
def test_every_trade_is_told_once_whichever_link_is_cut(
    sweeps: list[int], turns: list[tuple[int, int]], cut_at: int, victim: int
) -> None:
    """Several trades of one engine time; two links run ahead of one another, one of them is cut for good."""
    times = [time for time, size in enumerate(sweeps, start=1) for _ in range(size)]
    told: list[int] = []
    core = FeedCore([PRODUCT], on_event=lambda event: told.append(event.taker_qty_x18))
    place = {0: 0, 1: 0}
    for turn, (link, count) in enumerate([*turns, *[(1 - victim, 1)] * len(times)]):
        if turn == cut_at:
            core.leave(victim)
        if link == victim and turn >= cut_at:
            continue
        for number in range(place[link], min(place[link] + count, len(times))):
            core.receive(trade(times[number], number), turn + 1, link)
        place[link] = min(place[link] + count, len(times))
    assert told == list(range(len(times)))
