"""What is worth an alert: the difference between two looks at the bot. Pure; the caller sends."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from .alerts import Level
from .status import Status

BAD_DELTA_PCT: Final = 1.0
NEAR_LIMIT: Final = 0.8
STALE_MS: Final = 5_000.0


@dataclass(frozen=True, slots=True)
class News:
    level: Level
    topic: str
    text: str


def news(before: Status | None, now: Status) -> list[News]:
    """What somebody should hear about. `before` is None at the first look."""
    found = []
    if now.halt and (before is None or not before.halt):
        found.append(News(Level.CRITICAL, "halt", now.halt))
    if before is not None:
        found += _phase(before, now)
        found += _modes(before, now)
        found += _limits(before, now)
        found += _links(before, now)
    return found


def _phase(before: Status, now: Status) -> list[News]:
    found = []
    if now.phase == "RECOVERING" and before.phase != now.phase:
        found.append(News(Level.WARNING, "recovering", "something does not add up; asking the exchange"))
    if now.phase == "HEDGED" and abs(now.net_delta_pct) > BAD_DELTA_PCT >= abs(before.net_delta_pct):
        found.append(News(Level.WARNING, "net delta", f"{now.net_delta_pct:+.2f} % of gross while hedged"))
    if now.counters.get("positions_taken_over", 0) > before.counters.get("positions_taken_over", 0):
        found.append(News(Level.WARNING, "position", "the exchange's position differed and was taken over"))
    if now.stop and not before.stop:
        found.append(News(Level.INFO, "stop", f"asked to stop: {now.stop}"))
    return found


def _modes(before: Status, now: Status) -> list[News]:
    found = []
    for function, mode in now.modes.items():
        if before.modes.get(function) not in (None, mode):
            level = Level.WARNING if mode == "rest" else Level.INFO
            found.append(News(level, f"{function} mode", f"{function} data now by {mode}"))
    return found


def _limits(before: Status, now: Status) -> list[News]:
    """The daily loss comes near: leg and gross are full by design."""
    old = {limit.name: limit.used for limit in before.limits}
    found = []
    for limit in now.limits:
        near = NEAR_LIMIT * limit.limit
        if limit.name == "daily loss" and limit.used >= near > old.get(limit.name, 0.0):
            text = f"{limit.used:.4g} of {limit.limit:.4g} {limit.unit} used"
            found.append(News(Level.WARNING, f"limit {limit.name}", text))
    return found


def _links(before: Status, now: Status) -> list[News]:
    found = []
    for leg, old in zip(now.legs, before.legs, strict=True):
        is_stale, was_stale = _is_stale(leg.age_ms), _is_stale(old.age_ms)
        if is_stale and not was_stale:
            age = "none" if leg.age_ms is None else f"{leg.age_ms / 1_000:.0f} s old"
            found.append(News(Level.CRITICAL, f"data {leg.symbol}", f"market data of {leg.symbol}: {age}"))
        if was_stale and not is_stale:
            found.append(
                News(Level.INFO, f"data {leg.symbol}", f"market data of {leg.symbol} is fresh again")
            )
    return found


def _is_stale(age_ms: float | None) -> bool:
    return age_ms is None or age_ms > STALE_MS
