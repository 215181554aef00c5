"""The files for operators fit the program: metrics exist, commands exist, exit codes are what they say."""

from __future__ import annotations

import configparser
import json
import re
from pathlib import Path

from prometheus_client import CollectorRegistry, generate_latest
from statuskit import sample

from bot.exporter import StatusCollector
from bot.model import ExitCode

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"


def test_every_metric_of_the_dashboard_file_is_exported() -> None:
    names = {"failovers", "book_gaps", "link_losses", "rate_errors", "lost_replies", "positions_taken_over"}
    registry = CollectorRegistry()
    registry.register(StatusCollector(lambda: sample(counters=dict.fromkeys(names, 0.0))))
    exported = set(re.findall(r"^(nadofast_\w+)", generate_latest(registry).decode(), re.MULTILINE))
    dashboard = json.loads((DEPLOY / "grafana.json").read_text())
    used = {
        name
        for panel in dashboard["panels"]
        for target in panel["targets"]
        for name in re.findall(r"nadofast_\w+", target["expr"])
    }
    assert len(used) > 12
    assert used <= exported, used - exported


def test_the_service_does_not_restart_what_a_restart_cannot_cure() -> None:
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read(DEPLOY / "nadofast-bot.service")
    service = unit["Service"]
    assert service["RestartPreventExitStatus"].split() == [
        str(int(ExitCode.USAGE)),
        str(int(ExitCode.HALTED_FLAT)),
    ]
    assert service["Type"] == "notify"
    assert int(service["WatchdogSec"]) > 0
    assert service["KillSignal"] == "SIGTERM"
    assert " -m bot run " in service["ExecStart"]
    assert unit["Unit"]["OnFailure"] == "nadofast-alert.service"
    assert (DEPLOY / "nadofast-alert.service").exists()
