"""What is worth an alert, said once when it begins and once when it is over; and the code of each reason."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from statuskit import LEGS, sample

from bot.alerts import Level
from bot.conditions import HALT_CODES, LEVELS, Code, conditions, halt_code
from bot.sentinel import news
from bot.status import LimitView, Status

BOT = Path(__file__).resolve().parents[2] / "bot"
FRESH = (LEGS[0], replace(LEGS[1], age_ms=10.0))
STREAM = {"market": "websocket", "account": "websocket"}


def calm(**changes: Any) -> Status:
    plain = {"legs": FRESH, "counters": {"positions_taken_over": 0.0}, "modes": STREAM}
    status = sample(**(plain | changes))
    return replace(status, trouble=conditions(status))


def told(before: Status | None, now: Status) -> list[tuple[Level, str]]:
    return [(item.level, item.topic) for item in news(before, now)]


def test_a_calm_bot_is_no_news() -> None:
    assert calm().trouble == ()
    assert told(None, calm()) == []
    assert told(calm(), calm(cycle=4, phase="FLAT")) == []


BEGINS: list[tuple[dict[str, Any], Level, str]] = [
    ({"halt": "daily loss 5.1 USD reached the limit"}, Level.CRITICAL, "daily-loss"),
    ({"halt": "journal: No space left on device"}, Level.CRITICAL, "disk"),
    ({"halt": "trades CSV a.csv: No space left on device"}, Level.CRITICAL, "disk"),
    ({"halt": "record of the inputs: File too large"}, Level.CRITICAL, "disk"),
    ({"lost": {"day's result": "No space left on device"}}, Level.CRITICAL, "disk day's result"),
    ({"halt": "internal error: KeyError: 4"}, Level.CRITICAL, "defect"),
    ({"halt": "emergency unwind: by hand"}, Level.CRITICAL, "emergency"),
    ({"halt": "state/halt.json cannot be read (ValueError): resume"}, Level.CRITICAL, "halt-unreadable"),
    ({"halt": "words of another version"}, Level.CRITICAL, "halted"),
    ({"phase": "RECOVERING"}, Level.WARNING, "recovering"),
    ({"net_delta_pct": -1.2}, Level.WARNING, "net-delta"),
    ({"blind_s": 1.5}, Level.CRITICAL, "blind"),
    ({"modes": STREAM | {"market": "rest"}}, Level.WARNING, "market-rest"),
    ({"modes": STREAM | {"account": "rest"}}, Level.WARNING, "account-rest"),
    (
        {"modes": STREAM | {"market": "rest", "account": "rest"}, "is_rest_only": True},
        Level.WARNING,
        "rest-only",
    ),
    ({"limits": (LimitView("daily loss", 8.0, 10.0, "USD"),)}, Level.WARNING, "near-daily-loss"),
    ({"legs": (FRESH[0], replace(FRESH[1], age_ms=6_000.0))}, Level.CRITICAL, "no-data SOL-PERP"),
    ({"legs": (FRESH[0], replace(FRESH[1], age_ms=None))}, Level.CRITICAL, "no-data SOL-PERP"),
]


@pytest.mark.parametrize(("change", "level", "topic"), BEGINS)
def test_what_begins_is_told_once_and_what_ends_once(
    change: dict[str, Any], level: Level, topic: str
) -> None:
    wrong = calm(**change)
    assert told(calm(), wrong) == [(level, topic)]
    assert told(None, wrong) == [(level, topic)]
    assert told(wrong, wrong) == []
    over = news(wrong, calm())
    assert [(item.level, item.topic, item.is_over) for item in over] == [(Level.INFO, topic, True)]


@pytest.mark.parametrize(
    ("change", "level", "topic"),
    [
        ({"stop": "SIGINT"}, Level.INFO, "stop"),
        ({"counters": {"positions_taken_over": 1.0}}, Level.WARNING, "position-taken-over"),
    ],
)
def test_what_happens_once_is_told_once(change: dict[str, Any], level: Level, topic: str) -> None:
    assert told(calm(), calm(**change)) == [(level, topic)]
    assert told(calm(**change), calm(**change)) == []


def test_just_below_is_no_trouble() -> None:
    assert calm(blind_s=1.4, net_delta_pct=0.99).trouble == ()
    assert calm(phase="FLAT", net_delta_pct=50.0).trouble == ()
    limits = (LimitView("daily loss", 7.9, 10.0, "USD"), LimitView("leg", 9, 9, "USD"))
    assert calm(limits=limits).trouble == ()
    assert calm(legs=(FRESH[0], replace(FRESH[1], age_ms=5_000.0))).trouble == ()


def test_every_code_has_a_level_and_a_case_here() -> None:
    assert set(LEVELS) == set(Code)
    told_here = {topic.partition(" ")[0] for _, _, topic in BEGINS} | {"stop", "position-taken-over", "dead"}
    assert told_here == {code.value for code in Code}


def test_every_halt_in_the_code_has_a_code_of_its_own() -> None:
    found = []
    for path in sorted(BOT.glob("*.py")):
        found += re.findall(r"\.halt\(f?\"([^\"]+)\"", path.read_text())
    assert len(found) >= 7, found
    for words in found:
        assert halt_code(words) in set(HALT_CODES.values()), words
