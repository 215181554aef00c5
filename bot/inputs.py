"""The one door into the strategy: every quote, order change, reply, alarm and timer enters here, in order.

Each entry is numbered, stamped with the time it was received, and given to `record` before anything is
decided on it. What the strategy sees is the fold of these entries and nothing else, so whoever folds the same
entries again sees the same and decides the same. Nobody else in the strategy reads a clock or draws a number.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from .execution import Depth, LegInputs, OrderView
from .model import Action, Foreign, PairInputs, PairState, Verified
from .units import NS_PER_MS

BLIND_STEP_NS: Final = 100 * NS_PER_MS
QUIET_NS: Final = 500 * NS_PER_MS
"""Silence below QUIET_NS is no news; above, it is told in steps of BLIND_STEP_NS."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One input. seq: 1, 2, 3 … without a gap; at_ns: monotonic time of receipt. `value` is plain JSON: x18
    amounts are decimal strings. A `turn` is the timer: at its time a decision is made."""

    seq: int
    at_ns: int
    kind: str
    value: Mapping[str, Any]

    def fields(self) -> dict[str, Any]:
        return {"seq": self.seq, "at_ns": self.at_ns, "kind": self.kind, "value": dict(self.value)}

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> Entry:
        """The entry that `fields` was made from. Raises KeyError or TypeError on anything else."""
        return cls(int(fields["seq"]), int(fields["at_ns"]), str(fields["kind"]), fields["value"])


class World:
    """What the entries so far say: the fold. Pure; used live and by whoever reads a record again."""

    def __init__(self) -> None:
        self._quotes = [(0, 0), (0, 0)]
        self._depths: list[Depth | None] = [None, None]
        self._orders: list[OrderView | None] = [None, None]
        self._status: Mapping[str, Any] = {"not_ready": "nothing heard yet", "pacing": False, "halt": None}
        self._gone: str | None = None
        self._stop_ns: int | None = None
        self._drain = False
        self._blind_ns = 0
        self._stale_ns = 0
        self._verified: Verified | None = None
        self._equity_x18: int | None = None
        self._foreign: Foreign | None = None

    def apply(self, entry: Entry) -> None:
        """Take one entry in. Raises KeyError on a kind or a field that is not known."""
        _APPLY[entry.kind](self, entry.value)

    def inputs(self, at_ns: int) -> PairInputs:
        """The world at a turn."""
        legs = tuple(
            LegInputs(*quote, order, depth)
            for quote, order, depth in zip(self._quotes, self._orders, self._depths, strict=True)
        )
        return PairInputs(
            legs=(legs[0], legs[1]),
            not_ready=self._status["not_ready"],
            pacing=self._status["pacing"],
            halt=self._status["halt"],
            stop_age_ns=None if self._stop_ns is None else max(0, at_ns - self._stop_ns),
            drain=self._drain,
            blind_ns=self._blind_ns,
            stale_ns=self._stale_ns,
            gone=self._gone,
            verified=self._verified,
            equity_x18=self._equity_x18,
            foreign=self._foreign,
        )

    def _on_quote(self, value: Mapping[str, Any]) -> None:
        self._quotes[value["leg"]] = (int(value["bid"]), int(value["ask"]))

    def _on_depth(self, value: Mapping[str, Any]) -> None:
        sides = (tuple((int(p), int(q)) for p, q in value[side]) for side in ("bids", "asks"))
        self._depths[value["leg"]] = Depth(*sides)

    def _on_order(self, value: Mapping[str, Any]) -> None:
        self._orders[value["leg"]] = OrderView(
            value["tag"], int(value["filled"]), value["final"], value["code"], value["denied"], value["rests"]
        )

    def _on_status(self, value: Mapping[str, Any]) -> None:
        self._status = value

    def _on_gone(self, value: Mapping[str, Any]) -> None:
        self._gone = value["why"]

    def _on_stop(self, value: Mapping[str, Any]) -> None:
        self._stop_ns = value["asked_ns"]

    def _on_drain(self, value: Mapping[str, Any]) -> None:
        self._drain = value["on"]

    def _on_blind(self, value: Mapping[str, Any]) -> None:
        self._blind_ns = value["ns"]

    def _on_stale(self, value: Mapping[str, Any]) -> None:
        self._stale_ns = value["ns"]

    def _on_verified(self, value: Mapping[str, Any]) -> None:
        first, second = (int(position) for position in value["positions"])
        self._verified = Verified(value["seq"], (first, second), value["resting"], value["pending"])

    def _on_account(self, value: Mapping[str, Any]) -> None:
        self._equity_x18 = int(value["equity"])

    def _on_foreign(self, value: Mapping[str, Any]) -> None:
        self._foreign = Foreign(value["number"], value["why"], value["certain"])

    def _on_turn(self, value: Mapping[str, Any]) -> None:
        """Time passed; that is all."""


_APPLY: Final[Mapping[str, Callable[[World, Mapping[str, Any]], None]]] = {
    "quote": World._on_quote,
    "depth": World._on_depth,
    "order": World._on_order,
    "status": World._on_status,
    "gone": World._on_gone,
    "stop": World._on_stop,
    "drain": World._on_drain,
    "blind": World._on_blind,
    "stale": World._on_stale,
    "verified": World._on_verified,
    "account": World._on_account,
    "foreign": World._on_foreign,
    "turn": World._on_turn,
}


class InputLog:
    """Numbers, stamps and records what enters, and keeps the fold. What is unchanged does not enter again.

    record(entry) runs before the entry counts; it must not block. If it fails, `failure` says why and nothing
    is recorded any more: that blocks entries, never exits. clock_ns: the strategy's only clock. on_decision
    (state before, after, actions) hears what came of a turn.
    """

    def __init__(
        self,
        record: Callable[[Entry], None] | None = None,
        *,
        clock_ns: Callable[[], int] = time.monotonic_ns,
        on_decision: Callable[[PairState, PairState, Sequence[Action]], None] | None = None,
    ) -> None:
        self._record = record
        self._on_decision = on_decision
        self._clock_ns = clock_ns
        self._world = World()
        self._last: dict[tuple[str, int], Mapping[str, Any]] = {}
        self.seq = 0
        self.failure: str | None = None
        self.now_ns = clock_ns()
        """Time of the newest entry: what everybody in the strategy means by now."""

    def quote(self, leg: int, bid_x18: int, ask_x18: int) -> None:
        """Touch prices of one leg; 0 = none."""
        self._enter("quote", quote_value(leg, bid_x18, ask_x18), leg)

    def depth(self, leg: int, depth: Depth) -> None:
        self._enter("depth", depth_value(leg, depth), leg)

    def order(self, leg: int, view: OrderView) -> None:
        """How the order at work on a leg stands."""
        self._enter("order", order_value(leg, view), leg)

    def status(self, *, not_ready: str, pacing: bool, halt: str | None) -> None:
        """Whether an entry may be made, and the latched limit."""
        self._enter("status", {"not_ready": not_ready, "pacing": pacing, "halt": halt})

    def gone(self, why: str) -> None:
        """The exchange has ended for good, or somebody wants us to leave at once."""
        self._enter("gone", {"why": why})

    def stop(self, asked_ns: int) -> None:
        """A person asked for flat."""
        self._enter("stop", {"asked_ns": asked_ns})

    def drain(self, *, is_on: bool) -> None:
        """No new cycle; the running one goes its way."""
        self._enter("drain", {"on": is_on})

    def blind(self, blind_ns: int) -> None:
        """How long nothing was heard from the exchange."""
        self._enter("blind", {"ns": _in_steps(blind_ns)})

    def stale(self, stale_ns: int) -> None:
        """How old the older of the two prices is."""
        self._enter("stale", {"ns": _in_steps(stale_ns)})

    def verified(self, answer: Verified) -> None:
        """The exchange's own positions."""
        positions = [str(position) for position in answer.positions_x18]
        value = {
            "seq": answer.seq, "positions": positions, "resting": answer.resting, "pending": answer.pending
        }  # fmt: skip
        self._enter("verified", value)

    def account(self, equity_x18: int) -> None:
        """Equity, as the exchange last said."""
        self._enter("account", {"equity": str(equity_x18)})

    def foreign(self, what: Foreign) -> None:
        """A position changed, and no order of ours did it."""
        self._enter("foreign", {"number": what.number, "why": what.why, "certain": what.is_certain})

    def turn(self) -> PairInputs:
        """The timer: what a decision is made on, at `now_ns`. Always an entry of its own."""
        self._put("turn", {})
        return self._world.inputs(self.now_ns)

    def decided(self, before: PairState, after: PairState, actions: Sequence[Action]) -> None:
        """What was decided on the newest turn."""
        if self._on_decision is not None:
            self._on_decision(before, after, actions)

    def _enter(self, kind: str, value: Mapping[str, Any], part: int = 0) -> None:
        if self._last.get((kind, part)) == value:
            return
        self._last[kind, part] = value
        self._put(kind, value)

    def _put(self, kind: str, value: Mapping[str, Any]) -> None:
        self.now_ns = max(self.now_ns, self._clock_ns())
        entry = Entry(self.seq + 1, self.now_ns, kind, value)
        if self._record is not None and self.failure is None:
            try:
                self._record(entry)
            except OSError as error:
                self.failure = error.strerror or type(error).__name__
        self.seq = entry.seq
        self._world.apply(entry)


def quote_value(leg: int, bid_x18: int, ask_x18: int) -> dict[str, Any]:
    """Touch prices as an entry holds them."""
    return {"leg": leg, "bid": str(bid_x18), "ask": str(ask_x18)}


def depth_value(leg: int, depth: Depth) -> dict[str, Any]:
    """Visible levels as an entry holds them."""
    sides = {"bids": depth.bids, "asks": depth.asks}
    return {"leg": leg} | {name: [[str(p), str(q)] for p, q in side] for name, side in sides.items()}


def order_value(leg: int, view: OrderView) -> dict[str, Any]:
    """An order as an entry holds it."""
    return {
        "leg": leg, "tag": view.tag, "filled": str(view.filled_x18), "final": view.is_final,
        "code": view.code, "denied": view.denied, "rests": view.rests,
    }  # fmt: skip


def _in_steps(age_ns: int) -> int:
    return age_ns // BLIND_STEP_NS * BLIND_STEP_NS if age_ns >= QUIET_NS else 0
