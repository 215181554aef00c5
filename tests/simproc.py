"""The embedded exchange for tests: as a process of its own, or inside the test's loop.

    with SimProcess(seed=7, rate=400) as sim:        # synchronous, own process
        sim.ready["gateway"]

    async with start_sim(seed=7) as server:          # same loop, faster to start
        server.ready["subscribe"]

Options are those of the command line with underscores; `fund` takes a list. Rate limits are off unless
asked for: tests go faster than a trader may.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

from nadosim.app import SimServer, serve
from nadosim.settings import load

ROOT = Path(__file__).resolve().parent.parent
READY_DEADLINE_S = 45.0
STOP_DEADLINE_S = 5.0


class SimProcess:
    """`python -m nadosim` as a child; `ready` is its ready line. RuntimeError if none comes in time."""

    def __init__(self, *, ready_deadline_s: float = READY_DEADLINE_S, **options: Any) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "nadosim", *arguments({"rate_limits": False, **options})],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=ROOT,
            env=_scrubbed_environment(),
            start_new_session=True,
        )
        self._stderr: bytes | None = None
        try:
            self.ready: dict[str, Any] = self._read_ready(time.monotonic() + ready_deadline_s)
        except BaseException:
            self.kill()
            raise

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def account(self) -> dict[str, str]:
        """The first funded account: address, private_key, subaccount."""
        first: dict[str, str] = self.ready["accounts"][0]
        return first

    @property
    def stderr(self) -> str:
        """What it said on stderr; complete once it has ended."""
        return (self._stderr or b"").decode(errors="replace")

    def stop(self) -> int:
        """Close stdin and wait for the end; the exit code. Kills it if it does not end in time."""
        if self._stderr is None:
            try:
                _, self._stderr = self.process.communicate(timeout=STOP_DEADLINE_S)
            except subprocess.TimeoutExpired:
                self.kill()
        return self.process.returncode

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL, and reap."""
        if self._stderr is None:
            self.process.kill()
            _, self._stderr = self.process.communicate()

    def __enter__(self) -> SimProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _read_ready(self, deadline_s: float) -> dict[str, Any]:
        assert self.process.stdout is not None
        descriptor = self.process.stdout.fileno()
        line = b""
        while not line.endswith(b"\n"):
            left_s = deadline_s - time.monotonic()
            if left_s <= 0 or not select.select([descriptor], [], [], left_s)[0]:
                raise RuntimeError("the exchange did not become ready in time")
            chunk = os.read(descriptor, 65_536)
            if not chunk:
                _, self._stderr = self.process.communicate(timeout=STOP_DEADLINE_S)
                raise RuntimeError(f"the exchange ended before it was ready: {self.stderr}")
            line += chunk
        ready: dict[str, Any] = json.loads(line)
        return ready


@asynccontextmanager
async def start_sim(**options: Any) -> AsyncIterator[SimServer]:
    """An exchange in this loop, closed at the end of the block, which fails if an inner task has died."""
    server = await serve(load(None, {"rate_limits": False, **options}))
    try:
        yield server
        if server.failed.done():
            server.failed.result()
    finally:
        await server.close()


def arguments(options: dict[str, Any]) -> list[str]:
    """Command line of these options."""
    found: list[str] = []
    for name, value in options.items():
        if isinstance(value, bool):
            if value is not (name == "rate_limits"):  # the one that is on by itself
                found.append(f"--{'' if value else 'no-'}{name.replace('_', '-')}")
            continue
        values: Iterable[Any] = value if isinstance(value, list | tuple) else [value]
        for item in values:
            found += [f"--{name.replace('_', '-')}", str(item)]
    return found


def _scrubbed_environment() -> dict[str, str]:
    """No secrets of the caller reach the exchange."""
    return {name: value for name, value in os.environ.items() if not name.startswith("NADO_")}
