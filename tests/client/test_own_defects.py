"""A defect in a task of the client's own is said when it happens, never found by accident later."""

from __future__ import annotations

import asyncio
import logging

import pytest
from clientkit import DEADLINE_S, Venue, until

from nadofast import GatewayConfig


async def broken(*_: object) -> bool:
    raise ZeroDivisionError("a defect")


async def test_a_check_of_a_silent_product_that_fails_ends_the_feed_with_a_word(
    venue: Venue, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with venue.feed() as feed:
        await feed.wait_synced(DEADLINE_S)
        monkeypatch.setattr(feed._upstream.sync, "verify", broken)
        monkeypatch.setattr(feed._upstream.sync, "check", lambda now_ns: [4])
        await until(lambda: feed.failure, "the defect is known")
        assert "a defect" in str(feed.failure)
        assert not feed.is_live


async def test_a_task_of_the_gateway_that_fails_is_said_at_once(
    venue: Venue, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with venue.gateway(config=GatewayConfig(confirm_s=0.01)) as gateway:
        monkeypatch.setattr(gateway._resolver, "confirm_ends", broken)
        with caplog.at_level(logging.CRITICAL, "nadofast"):
            await until(lambda: caplog.records, "it is in the log")
        assert gateway.failure == "gateway ends: ZeroDivisionError: a defect"
    assert "gateway ends has failed" in caplog.text
    await asyncio.sleep(0)
