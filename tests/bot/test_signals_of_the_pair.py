"""Momentum and spread state of the pair: what the stream tells, and nothing where it tells too little."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from machinekit import ETH, SOL

from bot.signals import PairSignals
from nadofast.products import to_x18


class Stream:
    """The newest touch of both products."""

    def __init__(self) -> None:
        self.touches: dict[int, Any] = {4: SimpleNamespace(is_set=False), 8: SimpleNamespace(is_set=False)}
        for bbo in self.touches.values():
            bbo.bid_price_x18 = bbo.ask_price_x18 = 0
        self.handlers: list[Callable[[Any], object]] = []

    def on(self, kind: str, handler: Callable[[Any], object]) -> Callable[[], None]:
        assert kind == "boundary"
        self.handlers.append(handler)
        return lambda: self.handlers.remove(handler)

    def bbo(self, product_id: int) -> Any:
        return self.touches[product_id]

    def tell(self, product_id: int, bid: str, spread: str = "0.1") -> None:
        bid_x18 = to_x18(bid)
        self.touches[product_id] = SimpleNamespace(
            is_set=True, product_id=product_id, timestamp_ns=1, bid_price_x18=bid_x18, bid_qty_x18=1,
            ask_price_x18=bid_x18 + to_x18(spread), ask_qty_x18=1,
        )  # fmt: skip


def test_signals_of_both_legs_and_silence_before_there_are_any() -> None:
    stream: Any = Stream()
    signals = PairSignals(stream, (ETH, SOL))
    signals.look()
    assert (signals.momentum(), signals.spread_state()) == (("", ""), "")
    for step in range(10):
        stream.tell(4, str(3000 + step))
        stream.tell(8, str(140 - step))
        signals.look()
        signals.look()  # nothing new: not another step of the market
    assert (signals.momentum(), signals.spread_state()) == (("bullish", "bearish"), "stable")
    stream.tell(8, "131", spread="0.01")
    signals.look()
    assert signals.spread_state() == "narrowing"
    stream.tell(4, "3009", spread="5")
    signals.look()
    assert signals.spread_state() == "widening"  # one leg is enough
    signals.stop()
    assert not stream.handlers
