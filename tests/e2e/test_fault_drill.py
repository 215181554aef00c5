"""Fault drill: the link is pulled, the limit is used up, the exchange stands still, the disk is full.

In each case status, dashboard, metrics, event lines and alerts name the same code, and `flatten` ends it.
"""

from __future__ import annotations

import io
import json
import os
import resource
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pytest
from botproc import BotProcess, fault, positions, resting, state
from operatorkit import Alerts, metrics, webhook
from rich.console import Console
from simproc import SimProcess

from bot import control, dashboard
from bot.status import Status, from_json

DEADLINE_S = 60.0


@dataclass
class Drill:
    """A bot that holds a pair at an exchange of its own process."""

    bot: BotProcess
    sim: SimProcess
    socket: Path
    alerts: Alerts

    @property
    def exchange(self) -> str:
        return str(self.sim.ready["control"])

    def status(self) -> Status:
        return from_json(orjson.dumps(control.ask(self.socket, {"do": "status"})["status"]))


def until(found: Callable[[], Any], what: str) -> Any:
    deadline_s = time.monotonic() + DEADLINE_S
    while not (value := found()):
        assert time.monotonic() < deadline_s, f"not within {DEADLINE_S} s: {what}"
        time.sleep(0.02)
    return value


@pytest.fixture(scope="module")
def exchange() -> Iterator[SimProcess]:
    """One for all cases: each ends flat."""
    with SimProcess(seed=5) as sim:
        yield sim


@contextmanager
def drill(
    sim: SimProcess, tmp_path: Path, faults: dict[str, object], settings: dict[str, object]
) -> Iterator[Drill]:
    (tmp_path / "exchange.json").write_text(json.dumps(sim.ready))
    fault(sim.ready["control"], clear="all")
    if faults:
        fault(sim.ready["control"], **faults)
    with webhook() as (url, alerts), BotProcess(
        tmp_path, "--exchange", str(tmp_path / "exchange.json"), "--cycles", "9",
        secrets={"NADO_ALERT_WEBHOOK": url},
        **{"output__state_dir": tmp_path / "state", "metrics__port": 0, "run__hold_s": 60, **settings},
    ) as bot:  # fmt: skip
        bot.wait_for("entry  SOL-PERP")
        bot.wait_for("entry  ETH-PERP")
        (socket,) = (tmp_path / "state").glob("*/control.sock")
        yield Drill(bot, sim, socket, alerts)


def told_everywhere(seen: Drill, code: str) -> None:
    """One code, in five places."""
    until(lambda: code in _codes(seen.status()), code)
    status = seen.status()
    picture = io.StringIO()
    Console(file=picture, width=160).print(dashboard.screen(status))
    assert f"[{code}]" in picture.getvalue()
    assert f"[{code}]" in dashboard.line(status)
    until(lambda: f'nadofast_trouble{{code="{code}"}} 1.0' in metrics(seen.bot), f"{code} in the metrics")
    seen.bot.wait_for(f"[{code}")
    until(lambda: any(alert["code"] == code for alert in seen.alerts), f"{code} as an alert")


def _codes(status: Status) -> set[str]:
    return {trouble.code for trouble in status.trouble}


def flatten(seen: Drill) -> int:
    """As the command does; the exit code of the bot."""
    assert "stage flatten" in control.ask(seen.socket, {"do": "flatten"})["said"]
    return seen.bot.finish()


def pull_the_link(seen: Drill) -> None:
    fault(seen.exchange, socket_refused={"scope": "subscribe"}, cut="subscribe")


def stop_the_exchange(seen: Drill) -> None:
    os.kill(seen.sim.pid, signal.SIGSTOP)


def fill_the_disk(seen: Drill) -> None:
    """No file of the process may grow any more; pipes and sockets are left alone."""
    resource.prlimit(seen.bot.process.pid, resource.RLIMIT_FSIZE, (0, 0))


def nothing(seen: Drill) -> None:
    """The limit was used up by the entry itself; exits are refused until somebody clears that."""


@pytest.mark.parametrize(
    ("codes", "break_it", "mend_it", "faults", "settings", "ends"),
    [
        (("market-rest", "account-rest"), pull_the_link, None, {}, {}, {0}),
        (
            ("daily-loss",), nothing, lambda seen: fault(seen.exchange, clear="all"),
            {"refuse": {"code": 5000, "skip": 2, "count": 500}}, {"risk__daily_loss_usd": "0.05"}, {3},
        ),
        (("blind",), stop_the_exchange, lambda seen: os.kill(seen.sim.pid, signal.SIGCONT), {}, {}, {0}),
        (("disk",), fill_the_disk, None, {}, {}, {1, 3}),
    ],
    ids=["link pulled", "limit used up", "exchange stands still", "disk full"],
)  # fmt: skip
def test_everything_tells_the_same_story_and_flatten_ends_it(
    exchange: SimProcess,
    tmp_path: Path,
    codes: tuple[str, ...],
    break_it: Callable[[Drill], None],
    mend_it: Callable[[Drill], None] | None,
    faults: dict[str, object],
    settings: dict[str, object],
    ends: set[int],
) -> None:
    with drill(exchange, tmp_path, faults, settings) as seen:
        break_it(seen)
        for code in codes:
            told_everywhere(seen, code)
        if mend_it is None:  # flatten works while it is broken
            code = flatten(seen)
        else:  # nobody can trade then: it is taken down and carried out once that is possible
            assert "stage flatten" in control.ask(seen.socket, {"do": "flatten"})["said"]
            mend_it(seen)
            code = seen.bot.finish()
        truth = state(seen.exchange)
        assert positions(truth) == {}, seen.bot.output
        assert resting(truth) == []
        assert code in ends, seen.bot.output + seen.bot.stderr
        assert "s3cr3t" not in seen.bot.output + seen.bot.stderr
