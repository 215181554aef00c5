"""Ending a bot that answers nobody, once it is proved that it is one of ours.

The proof is threefold, and holds over the kill: the lock of the state directory is held, the process that
the lock names began when the lock says so (a process id may have been given anew), and that process has the
lock file open. The signal goes to a descriptor of that very process, taken before the proof.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from . import statedir

END_TIMEOUT_S: Final = 5.0
POLL_S: Final = 0.01


class TakeoverError(Exception):
    """Nothing was ended; the text says why in one line."""


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds a lock, as the lock says. age_s: how long that process has run, None when it is gone."""

    pid: int
    start_ticks: int
    age_s: float | None

    def __str__(self) -> str:
        age = "which is gone" if self.age_s is None else f"running for {self.age_s:.0f} s"
        return f"pid {self.pid}, {age}"


def holder(directory: Path) -> Holder | None:
    """Who holds the lock of a state directory; None when nobody does. Raises TakeoverError."""
    if not statedir.is_in_use(directory):
        return None
    try:
        pid, ticks = (int(word) for word in statedir.lock_path(directory).read_text().split())
    except (OSError, ValueError):
        raise TakeoverError(f"{directory}: the lock does not say who holds it") from None
    now_ticks = statedir.start_ticks(pid)
    if now_ticks is None:
        return Holder(pid, ticks, None)
    uptime_s = float(Path("/proc/uptime").read_text().split()[0])
    return Holder(pid, ticks, max(0.0, uptime_s - now_ticks / os.sysconf("SC_CLK_TCK")))


def end(directory: Path, before_kill: Callable[[], None] = lambda: None) -> Holder | None:
    """Kill the bot that holds this directory and wait until it is gone; who it was, None if there was none.

    before_kill: called once it is proved. One that ends by itself meanwhile has ended. Raises TakeoverError
    when it cannot be proved to be one, or does not end.
    """
    found = holder(directory)
    if found is None:
        return None
    try:
        process = os.pidfd_open(found.pid)
    except OSError:
        return _gone(found, directory, f"the lock names {found}")
    try:
        if why := _not_ours(found, directory):
            return _gone(found, directory, f"pid {found.pid} {why}")
        before_kill()
        signal.pidfd_send_signal(process, signal.SIGKILL)
        _wait(process, found, directory)
    except (ProcessLookupError, FileNotFoundError):
        return _gone(found, directory, f"pid {found.pid} is gone and another holds the lock")
    except PermissionError:
        raise TakeoverError(f"{directory}: pid {found.pid} is another user's: not ended") from None
    finally:
        os.close(process)
    return found


def _gone(found: Holder, directory: Path, why: str) -> Holder:
    """Whoever has let go of the lock has ended. Raises TakeoverError with `why` if it is still held."""
    if statedir.is_in_use(directory):
        raise TakeoverError(f"{directory}: {why}: not ended")
    return found


def _not_ours(found: Holder, directory: Path) -> str:
    if statedir.start_ticks(found.pid) != found.start_ticks:
        return "began at another time than the lock says"
    lock = statedir.lock_path(directory).stat()
    for link in Path(f"/proc/{found.pid}/fd").iterdir():
        with contextlib.suppress(OSError):  # closed meanwhile
            opened = link.stat()
            if (opened.st_dev, opened.st_ino) == (lock.st_dev, lock.st_ino):
                return ""
    return "does not have the lock open"


def _wait(process: int, found: Holder, directory: Path) -> None:
    deadline_s = time.monotonic() + END_TIMEOUT_S
    if not select.select([process], [], [], END_TIMEOUT_S)[0]:
        raise TakeoverError(f"pid {found.pid} did not end in {END_TIMEOUT_S:g} s")
    while statedir.is_in_use(directory):
        if time.monotonic() >= deadline_s:
            raise TakeoverError(f"{directory}: the lock is still held by somebody else")
        time.sleep(POLL_S)
