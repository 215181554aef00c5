"""Tells a service manager that the loop still turns: `READY=1` once, then `WATCHDOG=1` in time.

The protocol is one datagram to the Unix socket in NOTIFY_SOCKET; without that variable nothing is sent.
A loop that hangs sends nothing, and the service manager ends and restarts the process.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Mapping
from typing import Final

PARTS: Final = 3  # beats in one time-out of the watchdog, so that one late beat ends nothing


class Heartbeat:
    """`run()` is a task for the whole session. `period_s` is None when nobody watches."""

    def __init__(self, environ: Mapping[str, str] | None = None) -> None:
        environ = os.environ if environ is None else environ
        address = environ.get("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address
        micros = environ.get("WATCHDOG_USEC", "")
        own = environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        self.period_s = int(micros) / 1e6 / PARTS if micros.isdecimal() and int(micros) and own else None
        self.beats = 0
        self.failures = 0

    def tell(self, state: str) -> None:
        """One datagram; a manager that does not listen is no reason to stop trading."""
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as link:
                link.setblocking(False)
                link.sendto(state.encode(), self._address)
        except OSError:
            self.failures += 1
        else:
            self.beats += 1

    async def run(self) -> None:
        """Until cancelled."""
        self.tell("READY=1")
        if self.period_s is None:
            return
        while True:
            self.tell("WATCHDOG=1")
            await asyncio.sleep(self.period_s)
