"""The files for operators fit the program: metrics exist, commands exist, exit codes are what they say."""

from __future__ import annotations

import configparser
import json
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

from prometheus_client import CollectorRegistry, generate_latest
from statuskit import sample

from bot.exporter import StatusCollector
from bot.model import ExitCode

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"


def test_every_metric_of_the_dashboard_file_is_exported() -> None:
    counted = (ROOT / "bot" / "observe.py").read_text().partition("counters: dict")[2].partition("}")[0]
    names = set(re.findall(r'"([a-z_]+)":', counted))
    assert len(names) > 15
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


def unit(name: str, tmp_path: Path) -> Path:
    """As it is once installed, with this checkout for ~/nadofast."""
    text = (DEPLOY / name).read_text().replace("%h/nadofast", str(ROOT))
    path = tmp_path / name
    path.write_text(text.replace(str(ROOT / ".venv" / "bin" / "python"), sys.executable))
    return path


def test_service_units_are_understood(tmp_path: Path) -> None:
    """By systemd itself where it is; everywhere each line is a section, a comment or `Key=value`, and the
    commands are ones that the bot has."""
    units = [unit(name, tmp_path) for name in ("nadofast-bot.service", "nadofast-alert.service")]
    for path in units:
        for line in path.read_text().splitlines():
            assert re.fullmatch(r"|#.*|\[(Unit|Service|Install)\]|[A-Z][A-Za-z]+=.+", line), line
        command = re.search(r"^ExecStart=(.+)$", path.read_text(), re.MULTILINE)
        assert command is not None
        verb = shlex.split(command[1])[3]
        assert verb in ("run", "alive")
    if (verify := shutil.which("systemd-analyze")) is not None:
        done = subprocess.run(
            [verify, "verify", *map(str, units)], capture_output=True, text=True, timeout=60, check=False
        )
        assert (done.returncode, done.stderr) == (0, "")


def test_the_container_file_names_what_exists() -> None:
    """No engine is needed for this: instructions, stages, files, extras and who runs it."""
    text = re.sub(r"\\\n\s*", " ", (DEPLOY / "Containerfile").read_text())
    steps = [line.split(None, 1) for line in text.splitlines() if line and not line.startswith("#")]
    known = {"FROM", "RUN", "WORKDIR", "COPY", "USER", "STOPSIGNAL", "ENTRYPOINT"}
    assert {verb for verb, _ in steps} <= known
    stages = [rest.split(" AS ")[1] for verb, rest in steps if verb == "FROM" and " AS " in rest]
    assert [rest for verb, rest in steps if verb == "COPY" and "--from=" in rest] == [
        f"--from={stages[0]} /venv /venv"
    ]
    extras = set(re.findall(r"'\.\[([a-z,]+)\]'", text)[0].split(","))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert extras <= set(project["optional-dependencies"])
    assert (ROOT / "constraints.txt").exists()
    verbs = [verb for verb, _ in steps]
    assert verbs.index("USER") < verbs.index("ENTRYPOINT"), "never as root"
    entry = json.loads(dict(steps)["ENTRYPOINT"])
    assert entry == ["/venv/bin/python", "-m", "bot", "run"]
    assert dict(steps)["STOPSIGNAL"] == "SIGTERM"
    ignored = (ROOT / ".dockerignore").read_text().split()
    assert {".git", ".venv*", "state", "runs", "*.key", "bot.toml"} <= set(ignored), (
        "no key gets into an image"
    )
