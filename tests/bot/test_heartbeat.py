"""The watchdog of a service manager: told in time, silent without one, never a reason to stop."""

from __future__ import annotations

import asyncio
import os
import socket
from pathlib import Path

from bot.heartbeat import Heartbeat


def manager(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    listener.bind(str(path))
    listener.setblocking(False)
    return listener


async def test_ready_once_then_beats_three_times_as_often_as_asked(tmp_path: Path) -> None:
    with manager(tmp_path / "notify") as listener:
        environ = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "60000"}
        heartbeat = Heartbeat(environ)
        assert heartbeat.period_s == 0.02
        task = asyncio.create_task(heartbeat.run())
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(5):
            got = [await loop.sock_recv(listener, 100) for _ in range(4)]
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert got == [b"READY=1", b"WATCHDOG=1", b"WATCHDOG=1", b"WATCHDOG=1"]


async def test_without_a_manager_nothing_is_sent() -> None:
    heartbeat = Heartbeat({})
    await asyncio.wait_for(heartbeat.run(), 1)
    assert (heartbeat.beats, heartbeat.failures) == (0, 0)


async def test_a_watchdog_meant_for_another_process_is_not_ours(tmp_path: Path) -> None:
    environ = {"NOTIFY_SOCKET": "x", "WATCHDOG_USEC": "60000", "WATCHDOG_PID": str(os.getpid() + 1)}
    assert Heartbeat(environ).period_s is None


async def test_a_manager_that_is_gone_or_full_is_counted_only(tmp_path: Path) -> None:
    gone = Heartbeat({"NOTIFY_SOCKET": str(tmp_path / "none")})
    gone.tell("READY=1")
    assert (gone.beats, gone.failures) == (0, 1)
    with manager(tmp_path / "full"):
        full = Heartbeat({"NOTIFY_SOCKET": str(tmp_path / "full")})
        for _ in range(10_000):
            full.tell("WATCHDOG=1")
        assert full.failures > 0


async def test_an_abstract_address_works(tmp_path: Path) -> None:
    name = f"nadofast-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind("\0" + name)
        Heartbeat({"NOTIFY_SOCKET": f"@{name}"}).tell("READY=1")
        assert listener.recv(100) == b"READY=1"
