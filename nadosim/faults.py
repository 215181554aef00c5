"""Misbehaviour that is switched on: state only. Who misbehaves asks here; `control` sets it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, Final

CUT_SCOPES: Final = ("all", "subscribe", "gateway")
STATUSES: Final = ("started", "active", "stopping", "syncing", "live_syncing", "failed")


@dataclass(slots=True)
class Faults:
    """What is wrong right now. Every field's default means: nothing."""

    status: str = "active"
    chain_id: int | None = None
    """What the `contracts` query claims instead of the truth."""
    lose_replies: int = 0
    """So many executes are carried out and never answered."""
    drop_depth: dict[int, int] = field(default_factory=dict)
    """Per product: so many depth batches vanish on their way to everybody."""
    market_paused: bool = False
    muted_until_s: float = 0.0

    @property
    def is_muted(self) -> bool:
        """Subscription sockets say nothing, though they stay open and answer pings."""
        return self.muted_until_s > 0.0 and monotonic() < self.muted_until_s

    def take_lost_reply(self) -> bool:
        if self.lose_replies <= 0:
            return False
        self.lose_replies -= 1
        return True

    def take_dropped_depth(self, product_id: int) -> bool:
        left = self.drop_depth.get(product_id, 0)
        if left <= 0:
            return False
        self.drop_depth[product_id] = left - 1
        return True

    def snapshot(self) -> dict[str, Any]:
        return {
            "status": self.status,
            "chain_id": self.chain_id,
            "lose_reply": self.lose_replies,
            "drop_depth": {str(product_id): n for product_id, n in self.drop_depth.items() if n},
            "pause_market": self.market_paused,
            "mute": max(0.0, round(self.muted_until_s - monotonic(), 3)) if self.is_muted else 0,
        }


class BadFault(ValueError):
    """A fault request that cannot be understood. The text says which part."""


def apply(faults: Faults, request: Mapping[str, Any], cut: Callable[[str], int]) -> None:
    """Switch faults on or off as `request` says. All of it is checked before any of it happens.

    cut: closes sockets of a scope ("all", "subscribe", "gateway").
    Raises BadFault.
    """
    if not request:
        raise BadFault(f"empty request; known faults: {', '.join(_SETTERS)}")
    actions = []
    for name, value in request.items():
        setter = _SETTERS.get(name)
        if setter is None:
            raise BadFault(f"unknown fault {name!r}; known: {', '.join(_SETTERS)}")
        actions.append(setter(faults, value, cut))
    for action in actions:
        action()


Action = Callable[[], None]


def _integer(name: str, value: Any, minimum: int = 0) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < minimum:
        raise BadFault(f"{name}: expected an integer of at least {minimum}, got {value!r}")
    return value


def _set_cut(faults: Faults, value: Any, cut: Callable[[str], int]) -> Action:
    if value not in CUT_SCOPES:
        raise BadFault(f"cut: expected one of {', '.join(CUT_SCOPES)}, got {value!r}")
    scope: str = value

    def action() -> None:
        cut(scope)

    return action


def _set_drop_depth(faults: Faults, value: Any, cut: Callable[[str], int]) -> Action:
    if not isinstance(value, Mapping) or set(value) - {"product_id", "count"} or "product_id" not in value:
        raise BadFault('drop_depth: expected {"product_id": n, "count": n}')
    product_id = _integer("drop_depth.product_id", value["product_id"])
    count = _integer("drop_depth.count", value.get("count", 1))

    def action() -> None:
        faults.drop_depth[product_id] = count

    return action


def _set_mute(faults: Faults, value: Any, cut: Callable[[str], int]) -> Action:
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= 3600:
        raise BadFault(f"mute: expected seconds from 0 to 3600, got {value!r}")
    seconds = float(value)

    def action() -> None:
        faults.muted_until_s = monotonic() + seconds if seconds else 0.0

    return action


def _set_lose_reply(faults: Faults, value: Any, cut: Callable[[str], int]) -> Action:
    count = _integer("lose_reply", value)

    def action() -> None:
        faults.lose_replies = count

    return action


def _set_status(faults: Faults, value: Any, cut: Callable[[str], int]) -> Action:
    if value not in STATUSES:
        raise BadFault(f"status: expected one of {', '.join(STATUSES)}, got {value!r}")
    status: str = value

    def action() -> None:
        faults.status = status

    return action


def _set_pause_market(faults: Faults, value: Any, cut: Callable[[str], int]) -> Action:
    if not isinstance(value, bool):
        raise BadFault(f"pause_market: expected true or false, got {value!r}")
    paused: bool = value

    def action() -> None:
        faults.market_paused = paused

    return action


def _set_chain_id(faults: Faults, value: Any, cut: Callable[[str], int]) -> Action:
    chain_id = None if value is None else _integer("chain_id", value, minimum=1)

    def action() -> None:
        faults.chain_id = chain_id

    return action


_SETTERS: Final[dict[str, Callable[[Faults, Any, Callable[[str], int]], Action]]] = {
    "cut": _set_cut,
    "drop_depth": _set_drop_depth,
    "mute": _set_mute,
    "lose_reply": _set_lose_reply,
    "status": _set_status,
    "pause_market": _set_pause_market,
    "chain_id": _set_chain_id,
}
