"""Misbehaviour that is switched on: rules, who they are for, how often they still apply, how often they did.

Whoever can misbehave asks `take()` at the moment it matters; `fault_catalog` knows the faults and reads
requests; `control` and the script of the configuration switch them on. A rule that leaves probability to
chance draws from one seeded generator, so the same seed and the same traffic give the same bad day.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from random import Random
from time import monotonic
from typing import Any, Final

CUT_SCOPES: Final = ("all", "subscribe", "gateway")
ACTIVE: Final = "active"

# Faults that touch messages on their way out: a connection looks for them only while one of them is on.
OUTGOING: Final = frozenset(
    {
        "mute",
        "drop",
        "duplicate",
        "reorder",
        "delay",
        "batch",
        "corrupt_json",
        "extra_fields",
        "swap_types",
        "truncated_frame",
        "oversized_frame",
        "bad_deflate",
        "deflate_bomb",
    }
)


@dataclass(slots=True, eq=False)
class Rule:
    """One fault that is on. None: everything, or without end.

    scope: `subscribe`, `gateway`, `http` or `all`. kind: type of an event, name of a request or reply.
    connection: number of a socket, see /sim/health. skip: matching occasions that pass unharmed first.
    count: occasions left. until_s: monotonic time of its end. value: parameters of the fault.
    is_state: it lasts, and a newer rule of the same fault takes its place while both are on.
    """

    name: str
    value: dict[str, Any] = field(default_factory=dict)
    scope: str = "all"
    kind: str | None = None
    product_id: int | None = None
    connection: int | None = None
    skip: int = 0
    count: int | None = None
    probability: float = 1.0
    until_s: float | None = None
    is_state: bool = False
    hits: int = 0

    @property
    def is_over(self) -> bool:
        return self.count == 0 or (self.until_s is not None and monotonic() >= self.until_s)

    def concerns(
        self, scope: str | None, kind: str | None, product_id: int | None, connection: int | None
    ) -> bool:
        return (
            (self.scope == "all" or scope is None or scope == self.scope)
            and (self.kind is None or kind == self.kind)
            and (self.product_id is None or product_id == self.product_id)
            and (self.connection is None or connection == self.connection)
        )

    def view(self) -> dict[str, Any]:
        """As `GET /sim/faults` shows it: what was asked for, and what is left of it."""
        shown = {name: value for name, value in self.value.items() if not name.startswith("_")}
        for name, nothing in _NOTHING.items():
            if (value := getattr(self, name)) != nothing:
                shown[name] = value
        if self.until_s is not None:
            shown["for_s"] = round(max(0.0, self.until_s - monotonic()), 3)
        return {"fault": self.name, **shown, "hits": self.hits}


_NOTHING: Final[dict[str, Any]] = {
    "scope": "all",
    "kind": None,
    "product_id": None,
    "connection": None,
    "skip": 0,
    "count": None,
    "probability": 1.0,
}


class Faults:
    """Every rule that is on, and how often each fault has happened since the start."""

    def __init__(self, seed: int = 0) -> None:
        self.counts: Counter[str] = Counter()
        self.on_outgoing = False
        self._rules: dict[str, list[Rule]] = {}
        self._rng = Random(seed)

    def add(self, rule: Rule) -> None:
        self._rules[rule.name] = [*self.all_standing(rule.name), rule]
        self._refresh()

    def clear(self, name: str | None = None) -> None:
        """Switch off every rule of a fault, or all."""
        if name is None:
            self._rules.clear()
        else:
            self._rules.pop(name, None)
        self._refresh()

    def take(
        self,
        name: str,
        *,
        scope: str | None = None,
        kind: str | None = None,
        product_id: int | None = None,
        connection: int | None = None,
    ) -> Rule | None:
        """The rule by which this very occasion goes wrong, already counted; None if it goes well.

        Occasions are used up in the order they came; of several states the newest holds.
        """
        rules = self._rules.get(name)
        if not rules:
            return None
        for rule in reversed(rules) if rules[-1].is_state else rules:
            if rule.is_over or not rule.concerns(scope, kind, product_id, connection):
                continue
            if rule.skip:
                rule.skip -= 1
                continue
            if rule.probability < 1.0 and self._rng.random() >= rule.probability:
                continue
            if rule.count is not None:
                rule.count -= 1
            rule.hits += 1
            self.counts[name] += 1
            return rule
        self._forget(name)
        return None

    def standing(self, name: str) -> Rule | None:
        """The newest rule of a fault that is a state; looking does not use it up."""
        for rule in reversed(self._rules.get(name, ())):
            if not rule.is_over:
                return rule
        return None

    def all_standing(self, name: str) -> list[Rule]:
        """Every rule of a fault that is still on, oldest first."""
        return [rule for rule in self._rules.get(name, ()) if not rule.is_over]

    @property
    def names(self) -> Iterable[str]:
        """Faults that have rules, some of them over perhaps."""
        return self._rules.keys()

    def note(self, name: str) -> None:
        """A fault that acts at once has acted."""
        self.counts[name] += 1

    @property
    def status(self) -> str:
        """What the `status` query claims."""
        for name in ("restart", "maintenance", "status"):
            rule = self.standing(name)
            if rule is not None:
                return str(rule.value["status"])
        return ACTIVE

    @property
    def market_paused(self) -> bool:
        return self.standing("pause_market") is not None or self.standing("restart") is not None

    def between(self, low: float, high: float) -> float:
        """A seeded draw, for jitter."""
        return self._rng.uniform(low, high)

    def snapshot(self) -> dict[str, Any]:
        """Rules still on, in the order they came, and counts of everything that happened."""
        rules = [rule.view() for rules in self._rules.values() for rule in rules if not rule.is_over]
        return {"status": self.status, "rules": rules, "counts": dict(sorted(self.counts.items()))}

    def _forget(self, name: str) -> None:
        rules = self._rules.get(name, [])
        if any(rule.is_over for rule in rules):
            self._rules[name] = [rule for rule in rules if not rule.is_over]
            self._refresh()

    def _refresh(self) -> None:
        self.on_outgoing = any(self._rules.get(name) for name in OUTGOING)
