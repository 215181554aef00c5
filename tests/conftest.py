"""Shared by every suite: uvloop as the loop, and proof that no process outlives the run."""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import uvloop
from hypothesis import settings

# An example that takes long on a busy machine says nothing about the code; what is timed is timed in bench/.
if settings().deadline is not None:  # whoever has set it already, as the mutation campaign does, knows better
    settings.register_profile("untimed", deadline=None)
    settings.load_profile("untimed")

PR_SET_CHILD_SUBREAPER = 36
# No test speaks to a server of the world: no process has to read the certificates that such have.
os.environ["SSL_CERT_FILE"] = os.devnull


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"uvloop": uvloop.new_event_loop}


def pytest_sessionstart(session: pytest.Session) -> None:
    # Orphans of anything a test starts become our children, so that none can hide.
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


def _children() -> dict[int, str]:
    """Living children of this process: pid → command line. Zombies are not processes any more, and Python's
    own tracker of what its workers share lives as long as this process."""
    found = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
            if int(fields[1]) == os.getpid() and fields[0] != "Z":
                cmdline = (stat.parent / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                if "multiprocessing.resource_tracker" not in cmdline:
                    found[int(stat.parent.name)] = cmdline
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    if hasattr(session.config, "workerinput"):
        return  # what a worker leaves behind becomes the controller's child when the worker ends
    deadline = time.monotonic() + 5
    while (left := _children()) and time.monotonic() < deadline:
        time.sleep(0.05)
    if left:
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        print(f"\nprocesses left behind by the tests: {left}")
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
