"""Alerts to people: webhook and Telegram. Never in the way of trading, never a flood, never a secret.

An alert goes into a bounded queue and is sent by a task of its own. The same alert (level and topic) is sent
at most once in `repeat_s`; what was held back is counted and said with the next one. All alerts together are
capped per minute. A receiver that fails is tried again with jittered pauses and then given up: the event
lines hold everything anyway.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, Protocol

import aiohttp

from nadofast.secret import Secret

QUEUE_ALERTS: Final = 100
ATTEMPTS: Final = 4
FIRST_PAUSE_S: Final = 0.5
REQUEST_TIMEOUT_S: Final = 5.0
TOPICS_KEPT: Final = 256
TELEGRAM: Final = "https://api.telegram.org"
_log = logging.getLogger(__name__)


class Level(StrEnum):
    """What is asked of the reader: nothing, a look, or a hand."""

    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"


@dataclass(frozen=True, slots=True)
class Alert:
    """topic: what is the same about two alerts of which one is enough: a code (`conditions.Code`) and, where
    there are several, what it is about."""

    level: Level
    topic: str
    text: str
    at_s: float
    held_back: int = 0

    @property
    def words(self) -> str:
        more = f" (and {self.held_back} more like it before)" if self.held_back else ""
        return f"{self.level.value.upper()} {self.topic}: {self.text}{more}"


class Receiver(Protocol):
    """Somebody an alert is sent to. `name` may be shown; the address may not."""

    name: str

    async def send(self, session: aiohttp.ClientSession, alert: Alert) -> None: ...


class Webhook:
    """POST of one JSON object: level, code, topic, text, at (Unix seconds), source."""

    def __init__(self, url: Secret, source: str) -> None:
        self.name = "webhook"
        self._url = url
        self._source = source

    async def send(self, session: aiohttp.ClientSession, alert: Alert) -> None:
        body = {
            "source": self._source, "level": alert.level.value, "code": alert.topic.partition(" ")[0],
            "topic": alert.topic, "text": alert.words, "at": alert.at_s,
        }  # fmt: skip
        async with session.post(_reveal(self._url), json=body) as response:
            _accepted(response)


class Telegram:
    """`sendMessage` of the Telegram bot API."""

    def __init__(self, token: Secret, chat_id: str, source: str, base: str = TELEGRAM) -> None:
        self.name = "telegram"
        self._token = token
        self._chat_id = chat_id
        self._source = source
        self._base = base

    async def send(self, session: aiohttp.ClientSession, alert: Alert) -> None:
        body = {"chat_id": self._chat_id, "text": f"{self._source}: {alert.words}"}
        url = f"{self._base}/bot{_reveal(self._token)}/sendMessage"
        async with session.post(url, json=body) as response:
            _accepted(response)


class Alerts:
    """The queue, the throttle and the task that sends. Without receivers everything is a count."""

    def __init__(
        self,
        receivers: Sequence[Receiver],
        *,
        repeat_s: float = 60.0,
        per_minute: int = 20,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._receivers = tuple(receivers)
        self._repeat_s = repeat_s
        self._per_minute = per_minute
        self._clock = clock
        self._queue: deque[Alert] = deque(maxlen=QUEUE_ALERTS)
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._last: OrderedDict[tuple[Level, str], float] = OrderedDict()
        self._held: dict[tuple[Level, str], int] = {}
        self._minute: deque[float] = deque()
        self._task: asyncio.Task[None] | None = None
        self.raised = 0
        self.sent = 0
        self.held_back = 0
        self.failed = 0

    def raise_alert(self, level: Level, topic: str, text: str) -> None:
        """Say something to the receivers. Never blocks and never fails."""
        self.raised += 1
        now, key = self._clock(), (level, topic)
        while self._minute and now - self._minute[0] >= 60:
            self._minute.popleft()
        is_repeat = key in self._last and now - self._last[key] < self._repeat_s
        if is_repeat or len(self._minute) >= self._per_minute or not self._receivers:
            self._held[key] = self._held.get(key, 0) + 1
            self.held_back += 1
            return
        self._minute.append(now)
        self._last[key] = now
        self._last.move_to_end(key)
        while len(self._last) > TOPICS_KEPT:
            forgotten, _ = self._last.popitem(last=False)
            self._held.pop(forgotten, None)
        if len(self._queue) == QUEUE_ALERTS:  # the oldest gives way: the newest is the one to act on
            self.failed += 1
        self._queue.append(Alert(level, topic, text, time.time(), self._held.pop(key, 0)))
        self._idle.clear()
        self._wake.set()

    async def start(self) -> None:
        """Begin to send what is raised."""
        if self._receivers and self._task is None:
            self._task = asyncio.create_task(self._run(), name="alerts")

    async def stop(self, timeout_s: float = 2.0) -> None:
        """Send what is queued, for at most that long, and end."""
        if self._task is None:
            return
        try:
            async with asyncio.timeout(timeout_s):
                await self._idle.wait()
        except TimeoutError:
            self.failed += len(self._queue)
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self._task = None

    async def _run(self) -> None:
        timeout = aiohttp.ClientTimeout(total=REQUEST_TIMEOUT_S)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            while True:
                while self._queue:
                    alert = self._queue.popleft()
                    await asyncio.gather(*(self._deliver(session, r, alert) for r in self._receivers))
                self._wake.clear()
                self._idle.set()
                await self._wake.wait()

    async def _deliver(self, session: aiohttp.ClientSession, receiver: Receiver, alert: Alert) -> None:
        pause_s = FIRST_PAUSE_S
        for attempt in range(ATTEMPTS):
            try:
                await receiver.send(session, alert)
            except (aiohttp.ClientError, TimeoutError, ValueError, OSError) as error:
                # The address is part of most of these texts and holds a secret: the kind must do.
                if attempt == ATTEMPTS - 1:
                    self.failed += 1
                    _log.warning("alert not delivered by %s: %s", receiver.name, _kind(error))
                    return
                await asyncio.sleep(random.uniform(0, pause_s))
                pause_s *= 2
            else:
                self.sent += 1
                return


def receivers_from(
    webhook: Secret | None,
    telegram_token: Secret | None,
    telegram_chat: str,
    source: str,
    *,
    telegram_url: str = TELEGRAM,
) -> list[Receiver]:
    """Those that are configured."""
    found: list[Receiver] = []
    if webhook is not None:
        found.append(Webhook(webhook, source))
    if telegram_token is not None:
        found.append(Telegram(telegram_token, telegram_chat, source, telegram_url))
    return found


def _reveal(secret: Secret) -> str:
    return secret.reveal()


def _accepted(response: aiohttp.ClientResponse) -> None:
    if response.status >= 300:
        raise aiohttp.ClientError(f"status {response.status}")


def _kind(error: Any) -> str:
    return str(error) if str(error).startswith("status ") else type(error).__name__
