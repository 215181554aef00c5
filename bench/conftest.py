"""The gate's own rules: a benchmark that did not run is a failure, and figures are printed.

pytest-benchmark reports neither p95 nor a test that it skips for lack of its fixture; both matter here.
So every test must use the fixture, no skip is accepted, an empty session fails, and the gates assert on
raw samples of their own.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
_gated: set[str] = set()
_lines: list[str] = []
_ran: list[str] = []
_skipped: list[str] = []


@pytest.fixture
def say() -> Any:
    """Print a line in the summary, whatever pytest captures."""
    return _lines.append


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents and "benchmark" not in getattr(item, "fixturenames", ()):
            raise pytest.UsageError(f"{item.nodeid} does not use the benchmark fixture: it would be skipped")
        if HERE in item.path.parents:
            _gated.add(item.nodeid)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.nodeid not in _gated:
        return
    if report.skipped:
        _skipped.append(report.nodeid)
    elif report.when == "call":
        _ran.append(report.nodeid)


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    if session.config.option.collectonly:
        return
    if _skipped or not _ran:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if terminalreporter.config.option.collectonly:
        return
    terminalreporter.section("figures")
    for line in _lines:
        terminalreporter.line(line)
    for tool in ("valgrind", "gcc"):
        if not shutil.which(tool):
            terminalreporter.line(f"NOT POSSIBLE HERE: instruction counts and C floor, {tool} is missing")
    for nodeid in _skipped:
        terminalreporter.line(f"GATE FAILED: {nodeid} was skipped", red=True)
    if not _ran:
        terminalreporter.line("GATE FAILED: no benchmark ran", red=True)
