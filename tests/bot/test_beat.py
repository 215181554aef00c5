"""Readers of the same period wake together, never twice for one beat."""

from __future__ import annotations

import pytest

from bot import beat


@pytest.mark.parametrize(
    ("now_s", "every_s", "after_s", "left_s"),
    [
        (100.0, 0.5, 0.0, 0.5),
        (100.1, 0.5, 0.0, 0.4),
        (100.3, 0.5, 0.0, 0.2),
        (100.4999, 0.5, 0.0, 0.5001),  # woke early for this beat
        (100.1, 0.5, 0.005, 0.405),
        (100.002, 0.5, 0.005, 0.503),
        (99.5, 60.0, 0.0, 20.5),
    ],
)
def test_until_the_next_beat(
    monkeypatch: pytest.MonkeyPatch, now_s: float, every_s: float, after_s: float, left_s: float
) -> None:
    monkeypatch.setattr(beat.time, "monotonic", lambda: now_s)
    assert beat.until_beat_s(every_s, after_s=after_s) == pytest.approx(left_s)


def test_two_readers_of_one_period_meet(monkeypatch: pytest.MonkeyPatch) -> None:
    woken_s = set()
    for began_s in (7.13, 7.21, 7.34):
        monkeypatch.setattr(beat.time, "monotonic", lambda now_s=began_s: now_s)
        woken_s.add(round(began_s + beat.until_beat_s(0.5), 9))
    assert woken_s == {7.5}
