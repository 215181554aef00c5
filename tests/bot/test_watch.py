"""The last twenty-four hours: what is counted, and what falls out."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from statuskit import LEGS, sample

from bot.conditions import conditions
from bot.status import Status, from_json
from bot.watch import BUCKET_S, Watch, line
from bot.watchfile import COLUMNS, row

FRESH = (LEGS[0], replace(LEGS[1], age_ms=10.0, book="valid"))
COUNTERS = {"fills": 0.0, "link_losses": 0.0}


def seen(**changes: Any) -> Status:
    plain: dict[str, Any] = {"legs": FRESH, "counters": COUNTERS, "cycles_done": 0}
    status = sample(**(plain | changes))
    return replace(status, trouble=conditions(status))


def test_shares_counts_and_worst_ages() -> None:
    now = [0.0]
    watch = Watch(lambda: now[0])
    watch.look(seen())
    watch.look(seen(counters={"fills": 3.0, "link_losses": 1.0}, cycles_done=1))
    for worse in (replace(FRESH[1], age_ms=7_000.0), replace(FRESH[1], book="gap")):
        watch.look(seen(legs=(FRESH[0], worse), counters={"fills": 4.0}, cycles_done=1))
    watch.look(seen(halt="daily loss", counters={"fills": 4.0}, cycles_done=2))
    watch.look(seen(halt="daily loss", counters={"fills": 4.0}, cycles_done=2))
    view = watch.view()
    assert (view.uptime, view.fills, view.cycles, view.halts) == (4 / 6, 4, 2, 1)
    assert view.worst_age_ms == {"ETH-PERP": 12.5, "SOL-PERP": 7_000.0}
    assert "66.67 %" in line(view)
    assert "SOL-PERP 7000 ms" in line(view)


def test_what_is_older_than_a_day_falls_out() -> None:
    now = [0.0]
    watch = Watch(lambda: now[0])
    watch.look(seen(halt="daily loss", blind_s=9.0, counters={"fills": 2.0}))
    now[0] = 23 * 3600.0
    watch.look(seen(counters={"fills": 5.0}))
    view = watch.view()
    assert (view.fills, view.halts, view.uptime) == (5, 1, 0.5)
    assert 23.0 <= view.hours <= 23.2
    now[0] = 24 * 3600.0 + BUCKET_S
    view = watch.view()
    assert (view.fills, view.halts, view.uptime) == (3, 0, 1.0)
    now[0] = 60 * 3600.0
    assert (watch.view().fills, watch.view().hours) == (0, 0.0)
    assert len(watch._buckets) <= 288


def test_five_minutes_are_handed_on_once_they_are_over() -> None:
    now, rows = [0.0], []
    watch = Watch(lambda: now[0], on_complete=lambda bucket: rows.append(row(bucket)))
    watch.close()
    assert rows == []
    watch.look(seen())
    now[0] = BUCKET_S - 60
    watch.look(seen(counters={"fills": 3.0}, cycles_done=2))
    assert rows == []
    now[0] = BUCKET_S + 1
    more: dict[str, Any] = {"halt": "daily loss", "cycles_done": 2, "counters": {"fills": 3.0}}
    watch.look(seen(legs=(FRESH[0], replace(FRESH[1], book="gap")), **more))
    now[0] += 2
    watch.look(seen(**more))
    watch.close()
    first, last = ([one[name] for name in COLUMNS[1:]] for one in rows)
    assert first == ["240.0", "2", "2", "2", "3", "0", "0", "12.5", "ETH-PERP"]
    assert last == ["2.0", "2", "1", "0", "0", "1", "0", "12.5", "ETH-PERP"]


def test_it_travels_with_the_status() -> None:
    watch = Watch()
    watch.look(seen())
    status = replace(seen(), watch=watch.view())
    assert from_json(status.to_json()) == status
