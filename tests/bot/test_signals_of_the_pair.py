"""Momentum and spread state of the pair: what the stream tells, and nothing where it tells too little."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from machinekit import ETH, SOL

from bot.signals import PairSignals
from nadofast.events import BBOEvent
from nadofast.products import to_x18


class Stream:
    """Who listens to what."""

    def __init__(self) -> None:
        self.handlers: dict[str, list[Callable[[Any], object]]] = {}

    def on(self, kind: str, handler: Callable[[Any], object]) -> Callable[[], None]:
        self.handlers.setdefault(kind, []).append(handler)
        return lambda: self.handlers[kind].remove(handler)

    def tell(self, product_id: int, bid: str, spread: str = "0.1") -> None:
        bid_x18 = to_x18(bid)
        event = BBOEvent(product_id, 1, bid_x18, to_x18(1), bid_x18 + to_x18(spread), to_x18(1))
        for handler in self.handlers["best_bid_offer"]:
            handler(event)


def test_signals_of_both_legs_and_silence_before_there_are_any() -> None:
    stream: Any = Stream()
    signals = PairSignals(stream, (ETH, SOL))
    assert (signals.momentum(), signals.spread_state()) == (("", ""), "")
    for step in range(10):
        stream.tell(4, str(3000 + step))
        stream.tell(8, str(140 - step))
    assert (signals.momentum(), signals.spread_state()) == (("bullish", "bearish"), "stable")
    stream.tell(8, "131", spread="0.01")
    assert signals.spread_state() == "narrowing"
    stream.tell(4, "3009", spread="5")
    assert signals.spread_state() == "widening"  # one leg is enough
    signals.stop()
    assert not any(stream.handlers.values())
