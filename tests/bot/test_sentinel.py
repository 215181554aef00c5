"""What is worth an alert, said once when it begins and once when it is over."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from statuskit import LEGS, sample

from bot.alerts import Level
from bot.sentinel import news
from bot.status import LimitView, Status

FRESH = (LEGS[0], replace(LEGS[1], age_ms=10.0))


def calm(**changes: Any) -> Status:
    return sample(legs=FRESH, counters={"positions_taken_over": 0.0}, **changes)


def told(before: Status | None, now: Status) -> list[tuple[Level, str]]:
    return [(item.level, item.topic) for item in news(before, now)]


def test_a_calm_bot_is_no_news() -> None:
    assert told(None, calm()) == []
    assert told(calm(), calm(cycle=4, phase="FLAT")) == []


@pytest.mark.parametrize(
    ("before", "now", "expected"),
    [
        (calm(), calm(halt="daily loss"), (Level.CRITICAL, "halt")),
        (None, calm(halt="daily loss"), (Level.CRITICAL, "halt")),
        (calm(), calm(phase="RECOVERING"), (Level.WARNING, "recovering")),
        (calm(), calm(net_delta_pct=-1.2), (Level.WARNING, "net delta")),
        (calm(), calm(stop="SIGINT"), (Level.INFO, "stop")),
        (calm(), calm(modes={"market": "rest", "account": "rest"}), (Level.WARNING, "market mode")),
        (
            calm(modes={"market": "rest", "account": "rest"}),
            calm(),
            (Level.INFO, "market mode"),
        ),
        (
            calm(),
            replace(calm(), counters={"positions_taken_over": 1.0}),
            (Level.WARNING, "position"),
        ),
        (
            calm(),
            calm(limits=(LimitView("daily loss", 8.5, 10.0, "USD"),)),
            (Level.WARNING, "limit daily loss"),
        ),
        (
            calm(),
            replace(calm(), legs=(FRESH[0], replace(FRESH[1], age_ms=6_000.0))),
            (Level.CRITICAL, "data SOL-PERP"),
        ),
        (
            replace(calm(), legs=(FRESH[0], replace(FRESH[1], age_ms=None))),
            calm(),
            (Level.INFO, "data SOL-PERP"),
        ),
    ],
)
def test_each_change_is_told_once(before: Status | None, now: Status, expected: tuple[Level, str]) -> None:
    assert told(before, now) == [expected]
    assert told(now, now) == []
