"""Alerts: delivered, throttled, retried, and never in the way or in the clear."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from bot import alerts as alerts_module
from bot.alerts import Alerts, Level, Webhook, receivers_from
from nadofast.secret import Secret
from nadofast.waiting import wait_event


class Receiver:
    """A server that takes alerts; answers with `statuses` in turn, then 200."""

    def __init__(self) -> None:
        self.got: list[tuple[str, dict[str, Any]]] = []
        self.statuses: list[int] = []
        self.came = asyncio.Event()
        self.hang = False
        self.url = ""

    async def handle(self, request: web.Request) -> web.Response:
        if self.hang:
            await asyncio.sleep(3600)
        status = self.statuses.pop(0) if self.statuses else 200
        if status == 200:
            self.got.append((request.path, await request.json()))
            self.came.set()
        return web.Response(status=status)

    async def wait(self, count: int) -> None:
        async with asyncio.timeout(10):
            while len(self.got) < count:
                self.came.clear()
                await self.came.wait()


@asynccontextmanager
async def listening() -> AsyncIterator[Receiver]:
    server = Receiver()
    app = web.Application()
    app.router.add_post("/{tail:.*}", server.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    server.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield server
    await runner.cleanup()


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with listening() as server:
        yield server


def hook(receiver: Receiver) -> list[Any]:
    return receivers_from(Secret(f"{receiver.url}/hook/s3cr3t"), None, "", "bot sim")


async def test_an_alert_arrives_with_level_topic_and_source(receiver: Receiver) -> None:
    alerts = Alerts(hook(receiver))
    await alerts.start()
    alerts.raise_alert(Level.CRITICAL, "halt", "daily loss 5.1 USD reached the limit")
    await receiver.wait(1)
    await alerts.stop()
    path, body = receiver.got[0]
    assert path == "/hook/s3cr3t"
    assert (body["level"], body["topic"], body["source"]) == ("critical", "halt", "bot sim")
    assert "daily loss 5.1 USD" in body["text"]
    assert (alerts.sent, alerts.failed, alerts.held_back) == (1, 0, 0)


async def test_telegram_gets_its_own_shape(receiver: Receiver) -> None:
    alerts = Alerts(receivers_from(None, Secret("123:abc"), "42", "bot", telegram_url=receiver.url))
    await alerts.start()
    alerts.raise_alert(Level.WARNING, "link", "the stream is down")
    await receiver.wait(1)
    await alerts.stop()
    assert receiver.got == [
        ("/bot123:abc/sendMessage", {"chat_id": "42", "text": "bot: WARNING link: the stream is down"})
    ]


async def test_the_same_alert_is_held_back_and_counted_in_the_next(receiver: Receiver) -> None:
    now = [1000.0]
    alerts = Alerts(hook(receiver), repeat_s=60, clock=lambda: now[0])
    await alerts.start()
    for _ in range(5):
        alerts.raise_alert(Level.WARNING, "link", "down")
    alerts.raise_alert(Level.CRITICAL, "link", "down for long")  # another level is another alert
    await receiver.wait(2)
    now[0] += 61
    alerts.raise_alert(Level.WARNING, "link", "down again")
    await receiver.wait(3)
    await alerts.stop()
    assert alerts.held_back == 4
    assert receiver.got[2][1]["text"] == "WARNING link: down again (and 4 more like it before)"


async def test_all_kinds_together_are_capped_per_minute(receiver: Receiver) -> None:
    now = [0.0]
    alerts = Alerts(hook(receiver), per_minute=3, clock=lambda: now[0])
    await alerts.start()
    for i in range(10):
        alerts.raise_alert(Level.INFO, f"topic {i}", "x")
    await receiver.wait(3)
    await alerts.stop()
    assert (len(receiver.got), alerts.held_back) == (3, 7)


async def test_a_receiver_that_fails_at_first_gets_it_in_the_end(receiver: Receiver) -> None:
    receiver.statuses = [500, 429]
    alerts = Alerts(hook(receiver))
    await alerts.start()
    alerts.raise_alert(Level.CRITICAL, "halt", "x")
    await receiver.wait(1)
    await alerts.stop()
    assert (alerts.sent, alerts.failed) == (1, 0)


async def test_given_up_after_some_tries_without_the_address_in_the_log(
    receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    receiver.statuses = [500] * 4
    alerts = Alerts(hook(receiver))
    await alerts.start()
    with caplog.at_level(logging.WARNING):
        alerts.raise_alert(Level.CRITICAL, "halt", "x")
        await alerts.stop(timeout_s=20)
    assert (alerts.sent, alerts.failed) == (0, 1)
    assert "not delivered by webhook: status 500" in caplog.text
    assert "s3cr3t" not in caplog.text


async def test_a_receiver_that_hangs_delays_nobody_and_the_end_is_bounded(receiver: Receiver) -> None:
    receiver.hang = True
    alerts = Alerts(hook(receiver))
    await alerts.start()
    loop = asyncio.get_running_loop()
    began, began_cpu = loop.time(), time.process_time()
    for i in range(1000):
        alerts.raise_alert(Level.INFO, str(i), "x")
    assert time.process_time() - began_cpu < 0.5
    await alerts.stop(timeout_s=0.1)
    assert loop.time() - began < 5
    assert alerts.raised == 1000
    assert alerts.sent == 0


async def test_a_receiver_that_hangs_keeps_no_other_waiting(receiver: Receiver) -> None:
    async with listening() as hanging:
        hanging.hang = True
        both = [*hook(hanging), *receivers_from(None, Secret("1:a"), "42", "bot", telegram_url=receiver.url)]
        alerts = Alerts(both)
        await alerts.start()
        for topic in ("link", "delta", "halt"):
            alerts.raise_alert(Level.CRITICAL, topic, "x")
        await receiver.wait(3)
        await alerts.stop(timeout_s=0)
    assert [body["text"].split()[2] for _, body in receiver.got] == ["link:", "delta:", "halt:"]
    assert (alerts.sent, alerts.failed) == (3, 2)  # one was under way


async def test_what_begins_again_too_soon_is_told_once_it_may_be(receiver: Receiver) -> None:
    """Or its receiver would go on believing that it is over."""
    alerts = Alerts(hook(receiver), repeat_s=1.5)
    await alerts.start()
    alerts.raise_alert(Level.CRITICAL, "blind", "nothing is heard")
    alerts.raise_alert(Level.INFO, "blind", "over: nothing is heard")
    alerts.raise_alert(Level.CRITICAL, "blind", "nothing is heard again")
    await receiver.wait(3)
    await alerts.stop()
    assert receiver.got[2][1]["text"] == "CRITICAL blind: nothing is heard again"
    assert alerts.held_back == 1


async def test_of_what_is_held_back_only_the_newest_word_is_told(receiver: Receiver) -> None:
    alerts = Alerts(hook(receiver), repeat_s=1.5)
    await alerts.start()
    for _ in range(3):
        alerts.raise_alert(Level.WARNING, "link", "down")
        alerts.raise_alert(Level.INFO, "link", "over: down")
    await receiver.wait(3)
    await alerts.stop()
    assert [body["text"] for _, body in receiver.got] == [
        "WARNING link: down", "INFO link: over: down", "INFO link: over: down (and 1 more like it before)"
    ]  # fmt: skip


async def test_a_flood_holds_back_nothing_critical(receiver: Receiver) -> None:
    alerts = Alerts(hook(receiver), per_minute=3)
    await alerts.start()
    for i in range(10):
        alerts.raise_alert(Level.WARNING, f"topic {i}", "x")
    alerts.raise_alert(Level.CRITICAL, "halt", "daily loss")
    await receiver.wait(4)
    await alerts.stop()
    assert receiver.got[3][1]["topic"] == "halt"


async def test_what_a_flood_holds_back_comes_in_the_next_minute(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alerts_module, "MINUTE_S", 0.3)
    alerts = Alerts(hook(receiver), per_minute=2)
    await alerts.start()
    for i in range(4):
        alerts.raise_alert(Level.WARNING, f"topic {i}", "x")
    await receiver.wait(4)
    await alerts.stop()
    assert {body["topic"] for _, body in receiver.got} == {f"topic {i}" for i in range(4)}


async def test_what_is_held_back_is_waited_for_and_not_spun_for(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A timer of the loop may fire early by less than the loop can wait: asked again for that, it spins."""
    now, pauses = [1000.0], []

    async def early(event: asyncio.Event, timeout_s: float) -> bool:
        if timeout_s == alerts_module.MINUTE_S:  # nothing is held back
            return await wait_event(event, timeout_s)
        now[0] += timeout_s if pauses else timeout_s - 1e-6
        pauses.append(timeout_s)
        return False

    monkeypatch.setattr(alerts_module, "wait_event", early)
    alerts = Alerts(hook(receiver), repeat_s=30, clock=lambda: now[0])
    await alerts.start()
    for _ in range(2):
        alerts.raise_alert(Level.WARNING, "link", "down")
    await receiver.wait(2)
    await alerts.stop()
    assert min(pauses) >= 0.001


async def test_the_end_tells_what_is_critical_even_if_it_is_a_repetition(receiver: Receiver) -> None:
    alerts = Alerts(hook(receiver))
    await alerts.start()
    alerts.raise_alert(Level.CRITICAL, "halt", "daily loss")
    alerts.raise_alert(Level.CRITICAL, "halt", "daily loss, and not flat")
    await alerts.stop(timeout_s=10)
    assert receiver.got[1][1]["text"] == "CRITICAL halt: daily loss, and not flat"


async def test_without_receivers_everything_is_a_count() -> None:
    alerts = Alerts([])
    await alerts.start()
    alerts.raise_alert(Level.CRITICAL, "halt", "x")
    await alerts.stop()
    assert (alerts.raised, alerts.held_back) == (1, 1)
    assert "s3cr3t" not in repr(Webhook(Secret("http://s3cr3t"), "bot").__dict__)
