"""What is worth telling: the difference between two looks at the bot. Pure; the caller tells."""

from __future__ import annotations

from dataclasses import dataclass

from .alerts import Level
from .conditions import LEVELS, Code
from .status import Status, TroubleView


@dataclass(frozen=True, slots=True)
class News:
    """subject: what it is about when there are several, such as a product; "" otherwise. is_over: a condition
    that was told before has ended."""

    level: Level
    code: Code
    subject: str
    text: str
    is_over: bool = False

    @property
    def topic(self) -> str:
        return f"{self.code} {self.subject}".strip()


def news(before: Status | None, now: Status) -> list[News]:
    """What somebody should hear about. `before` is None at the first look."""
    old = {} if before is None else {_key(trouble): trouble for trouble in before.trouble}
    new = {_key(trouble): trouble for trouble in now.trouble}
    found = [
        News(Level(trouble.level), Code(trouble.code), trouble.subject, trouble.text)
        for key, trouble in new.items()
        if key not in old
    ]
    found += [
        News(Level.INFO, Code(trouble.code), trouble.subject, f"over: {trouble.text}", is_over=True)
        for key, trouble in old.items()
        if key not in new
    ]
    if before is not None:
        found += _events(before, now)
    return found


def _key(trouble: TroubleView) -> tuple[str, str]:
    return trouble.code, trouble.subject


def _events(before: Status, now: Status) -> list[News]:
    found = []
    if now.counters.get("positions_taken_over", 0) > before.counters.get("positions_taken_over", 0):
        found.append(_event(Code.POSITION_TAKEN_OVER, "the exchange's position differed and was taken over"))
    if now.stop and now.stop != before.stop:
        found.append(_event(Code.STOP, f"asked to stop by {now.stop}"))
    return found


def _event(code: Code, text: str) -> News:
    return News(LEVELS[code], code, "", text)
