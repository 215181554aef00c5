"""What stands beside the trading for the operator: control socket, metrics, alerts, heartbeat.

None of it can touch the strategy but through the stop request, and none of it can end the run: a part that
fails is started again, with pauses, and says so in one line.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Callable, Coroutine, Iterable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

from nadofast.metrics import MetricFamily

from .alerts import Alerts, receivers_from
from .beat import until_beat_s
from .config import Settings, SettingsError
from .control import Command, ControlError, ControlServer
from .credentials import secret_from_environment
from .exporter import Exporter
from .heartbeat import Heartbeat
from .logs import EventLog
from .looplag import LoopLag
from .sentinel import news
from .shutdown import StopRequest
from .status import Status
from .watch import Watch

CONTROL_NAME: Final = "control.sock"
LOOK_S: Final = 0.5
FIRST_PAUSE_S: Final = 0.5
MAX_PAUSE_S: Final = 30.0


def make_alerts(settings: Settings, source: str) -> Alerts:
    """The alerts of this run; to nobody if no receiver is configured."""
    receivers = receivers_from(
        secret_from_environment("NADO_ALERT_WEBHOOK"),
        secret_from_environment("TELEGRAM_BOT_TOKEN"),
        os.environ.get("TELEGRAM_CHAT_ID", ""),
        source,
        telegram_url=settings.alerts.telegram_url,
    )
    return Alerts(receivers, repeat_s=settings.alerts.repeat_s, per_minute=settings.alerts.per_minute)


def commands(stop: StopRequest) -> dict[str, Command]:
    """drain, flatten and stop (the next stage, as a signal does), for the control socket."""

    def asks(request: Callable[[str], None], what: str) -> Command:
        async def run() -> str:
            request("the control socket")
            return f"{what}; stage {stop.stage.name.lower()}"

        return run

    return {
        "drain": asks(stop.drain, "no new cycle, the open one ends as planned"),
        "flatten": asks(stop.flatten, "no new cycle, what is open crosses at once"),
        "stop": asks(stop.stop, "the next stage, as another signal would"),
    }


async def attach(
    stack: AsyncExitStack,
    *,
    settings: Settings,
    state_dir: Path,
    status: Callable[[], Status],
    recent: Callable[[], Status],
    families: Callable[[], Iterable[MetricFamily]],
    commands: dict[str, Command],
    alerts: Alerts,
    log: EventLog,
    watch: Watch,
    lag: LoopLag,
) -> None:
    """Start everything; `stack` takes it down. status: the bot now; recent: the last picture of it, for those
    who ask often. families: figures of the library for the metrics page. Raises SettingsError if a port or
    path cannot be used."""
    server = ControlServer(state_dir / CONTROL_NAME, recent, commands)
    try:
        await server.start()
    except ControlError as error:
        raise SettingsError(str(error)) from None
    stack.push_async_callback(server.stop)
    if settings.metrics.port is not None:
        exporter = Exporter(status, settings.metrics.host, settings.metrics.port, families)
        try:
            await exporter.start()
        except OSError as error:
            where = f"{settings.metrics.host}:{settings.metrics.port}"
            raise SettingsError(f"metrics.port: {where}: {error.strerror or error}") from None
        stack.push_async_callback(exporter.stop)
        log.event(f"metrics   http://{settings.metrics.host}:{exporter.port}/metrics")
    await alerts.start()
    stack.push_async_callback(alerts.stop)
    heartbeat, sentinel = Heartbeat(), Sentinel(status, alerts, log, watch)
    stack.callback(watch.close)
    stack.callback(sentinel.look)  # how it ended
    helpers = (("heartbeat", heartbeat.run), ("sentinel", sentinel.run), ("loop lag", lag.run))
    for name, work in helpers:
        task = asyncio.create_task(keep_alive(name, work, log), name=name)
        stack.push_async_callback(_end, task)
    stack.callback(heartbeat.tell, "STOPPING=1")


class Sentinel:
    """Looks now and then, at moments that readers of the control socket know; what is news becomes an event
    line and an alert, both with its code."""

    def __init__(self, status: Callable[[], Status], alerts: Alerts, log: EventLog, watch: Watch) -> None:
        self._status = status
        self._alerts = alerts
        self._log = log
        self._watch = watch
        self._before: Status | None = None

    def look(self) -> None:
        """Compare with the last look."""
        now = self._status()
        self._watch.look(now)
        for item in news(self._before, now):
            line = f"{item.level:<8}  [{item.topic}] {item.text}"
            self._log.event(line, code=item.code, level=item.level, over=item.is_over)
            self._alerts.raise_alert(item.level, item.topic, item.text)
        self._before = now

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            self.look()
            await asyncio.sleep(until_beat_s(LOOK_S))


async def keep_alive(name: str, work: Callable[[], Coroutine[Any, Any, None]], log: EventLog) -> None:
    """Run a helper until it is done; after an error again, with a growing and jittered pause."""
    pause_s = FIRST_PAUSE_S
    while True:
        try:
            await work()
        except Exception as error:
            log.event(f"warning: {name} failed and is started again: {type(error).__name__}: {error}")
            await asyncio.sleep(random.uniform(0.5, 1.0) * pause_s)
            pause_s = min(MAX_PAUSE_S, 2 * pause_s)
        else:
            return


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
