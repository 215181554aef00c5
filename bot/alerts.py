"""Alerts to people: webhook and Telegram. Never in the way of trading, never a flood, never a secret.

An alert goes into a bounded queue of each receiver and is sent by a task of its own: a receiver that hangs
keeps no other waiting. The same alert (level and topic) is sent at most once in `repeat_s`, and those below
critical are capped per minute together. What is held back for either is not lost: the newest word on its
topic is sent as soon as it may be, and the others are counted in it. A receiver that fails is tried again
with jittered pauses and then given up: the event lines hold everything anyway.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Final, Protocol

import aiohttp

from nadofast.secret import Secret
from nadofast.waiting import wait_event

QUEUE_ALERTS: Final = 100
ATTEMPTS: Final = 4
FIRST_PAUSE_S: Final = 0.5
REQUEST_TIMEOUT_S: Final = 5.0
TOPICS_KEPT: Final = 256
MINUTE_S: Final = 60.0
LEAST_PAUSE_S: Final = 0.01
"""A timer of the loop may fire early: what is left of a wait then is less than the loop can wait."""
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


_Key = tuple[Level, str]


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


class _Lane:
    """What one receiver still has to get, and how it gets it."""

    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver
        self._queue: deque[Alert] = deque()
        self._wake = asyncio.Event()
        self.idle = asyncio.Event()
        self.idle.set()
        self.sent = 0
        self.failed = 0

    def put(self, alert: Alert) -> None:
        if len(self._queue) == QUEUE_ALERTS:  # the oldest gives way: the newest is the one to act on
            self._queue.popleft()
            self.failed += 1
        self._queue.append(alert)
        self.idle.clear()
        self._wake.set()

    def give_up(self) -> None:
        """Nobody will send what is left."""
        self.failed += len(self._queue)
        self._queue.clear()

    async def run(self, session: aiohttp.ClientSession) -> None:
        while True:
            while self._queue:
                await self._deliver(session, self._queue.popleft())
            self._wake.clear()
            self.idle.set()
            await self._wake.wait()

    async def _deliver(self, session: aiohttp.ClientSession, alert: Alert) -> None:
        pause_s = FIRST_PAUSE_S
        for attempt in range(ATTEMPTS):
            try:
                await self._receiver.send(session, alert)
            except Exception as error:  # whatever it is, the next alert has to be tried
                # The address is part of most of these texts and holds a secret: the kind must do.
                if attempt == ATTEMPTS - 1:
                    self.failed += 1
                    _log.warning("alert not delivered by %s: %s", self._receiver.name, _kind(error))
                    return
                await asyncio.sleep(random.uniform(0, pause_s))
                pause_s *= 2
            else:
                self.sent += 1
                return


class Alerts:
    """The throttle, and a lane a receiver. Without receivers everything is a count."""

    def __init__(
        self,
        receivers: Sequence[Receiver],
        *,
        repeat_s: float = 60.0,
        per_minute: int = 20,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._lanes = tuple(_Lane(receiver) for receiver in receivers)
        self._repeat_s = repeat_s
        self._per_minute = per_minute
        self._clock = clock
        self._last: OrderedDict[_Key, float] = OrderedDict()
        self._held: dict[_Key, int] = {}
        # Topic → its newest word that was held back. An older one would say what is not so any more.
        self._waiting: dict[str, Alert] = {}
        self._minute: deque[float] = deque()
        self._held_one = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.raised = 0
        self.held_back = 0

    @property
    def sent(self) -> int:
        """Deliveries."""
        return sum(lane.sent for lane in self._lanes)

    @property
    def failed(self) -> int:
        """Deliveries that were given up."""
        return sum(lane.failed for lane in self._lanes)

    def raise_alert(self, level: Level, topic: str, text: str) -> None:
        """Say something to the receivers. Never blocks and never fails."""
        self.raised += 1
        now = self._clock()
        alert = Alert(level, topic, text, time.time())
        self._waiting.pop(topic, None)
        if self._lanes and self._wait_s(alert, now) <= 0:
            self._send(alert, now)
            return
        self.held_back += 1
        self._held[level, topic] = self._held.get((level, topic), 0) + 1
        if self._lanes and len(self._waiting) < TOPICS_KEPT:
            self._waiting[topic] = alert
            self._held_one.set()

    def _wait_s(self, alert: Alert, now: float) -> float:
        """Until it may be sent; 0 or less: now. What is critical waits for no other topic."""
        wait_s = self._last.get((alert.level, alert.topic), now - self._repeat_s) + self._repeat_s - now
        if alert.level is Level.CRITICAL:
            return wait_s
        while self._minute and now - self._minute[0] >= MINUTE_S:
            self._minute.popleft()
        if len(self._minute) < self._per_minute:
            return wait_s
        return max(wait_s, self._minute[0] + MINUTE_S - now)

    def _send(self, alert: Alert, now: float, *, was_held: bool = False) -> None:
        key = (alert.level, alert.topic)
        if alert.level is not Level.CRITICAL:
            self._minute.append(now)
        self._last[key] = now
        self._last.move_to_end(key)
        while len(self._last) > TOPICS_KEPT:
            forgotten, _ = self._last.popitem(last=False)
            self._held.pop(forgotten, None)
        others = max(0, self._held.pop(key, 0) - was_held)
        for lane in self._lanes:
            lane.put(replace(alert, held_back=others))

    async def start(self) -> None:
        """Begin to send what is raised."""
        if self._lanes and self._task is None:
            self._task = asyncio.create_task(self._run(), name="alerts")

    async def stop(self, timeout_s: float = 2.0) -> None:
        """Send what is queued, and what is critical though it be a repetition, for at most that long, and
        end."""
        if self._task is None:
            return
        for topic, alert in tuple(self._waiting.items()):
            if alert.level is Level.CRITICAL:
                self._send(self._waiting.pop(topic), self._clock(), was_held=True)
        try:
            async with asyncio.timeout(timeout_s):
                for lane in self._lanes:
                    await lane.idle.wait()
        except TimeoutError:
            for lane in self._lanes:
                lane.give_up()
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self._task = None

    async def _run(self) -> None:
        timeout = aiohttp.ClientTimeout(total=REQUEST_TIMEOUT_S)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            lanes = [asyncio.create_task(lane.run(session), name="alert lane") for lane in self._lanes]
            try:
                await self._release()
            finally:
                for lane in lanes:
                    lane.cancel()
                await asyncio.gather(*lanes, return_exceptions=True)

    async def _release(self) -> None:
        """What was held back, as soon as it may be sent."""
        while True:
            self._held_one.clear()
            now = self._clock()
            for topic, alert in tuple(self._waiting.items()):
                if self._wait_s(alert, now) <= 0:
                    self._send(self._waiting.pop(topic), now, was_held=True)
            pause_s = min((self._wait_s(alert, now) for alert in self._waiting.values()), default=MINUTE_S)
            await wait_event(self._held_one, max(pause_s, LEAST_PAUSE_S))


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
