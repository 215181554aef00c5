"""The exchange's clock, read over HTTP for as long as nobody else reads it.

Without a clock nothing may be sent, exits included: it must never grow old.
"""

from __future__ import annotations

import asyncio
import logging
import random
from typing import TYPE_CHECKING, Final

from .connection import Backoff
from .errors import NadoError
from .timesync import TimeSync
from .waiting import wait_event

if TYPE_CHECKING:
    from .gateway import GatewayConfig
    from .rest import Rest

_WATCH_S: Final = 1.0  # often enough to see a machine that slept
_log = logging.getLogger(__name__)


class ClockKeeper:
    """Reads the clock when its last sample grows old, and at once on a doubt. doubts: set by whoever saw an
    order refused for its time; cleared here."""

    def __init__(self, rest: Rest, timesync: TimeSync, doubts: asyncio.Event, config: GatewayConfig) -> None:
        self._rest = rest
        self._timesync = timesync
        self._doubts = doubts
        self._config = config

    async def read(self, samples: int) -> None:
        """Read it now. A failure is logged: the clock stays as unknown as it was."""
        try:
            await self._rest.sync_time(self._timesync, samples)
        except NadoError as error:
            _log.warning("the exchange's clock could not be read: %s", error)

    async def run(self) -> None:
        """Until it is cancelled."""
        jitter = random.Random(random.getrandbits(64))
        retry = Backoff(self._config.time_retry_s, self._config.time_retry_cap_s, jitter)
        while True:
            if not self._timesync.is_known:
                await asyncio.sleep(retry.next_s())
                await self.read(1)
                continue
            retry.reset()
            is_doubted = await wait_event(self._doubts, min(_WATCH_S, self._config.time_refresh_s))
            if is_doubted or self._timesync.sample_age_s > self._config.time_refresh_s:
                await self.read(1)
            if is_doubted:
                await asyncio.sleep(self._config.time_retry_s)  # a burst of refusals is one doubt
                self._doubts.clear()
